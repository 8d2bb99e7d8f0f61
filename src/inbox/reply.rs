//! Replies that came before the message that they answer.

use std::marker::PhantomData;

use diesel::sql_types::{self, BigInt, Integer, Text};
use diesel_async::RunQueryDsl;

use crate::database::statement::statement;
use crate::error::Error;
use crate::event::log::append_events;
use crate::ids::ChannelAccountId;
use crate::tenant::TenantConn;

statement! {
    /// Lets the replies to a message point at it.
    Resolve<'a> -> BigInt {
        account: ChannelAccountId => sql_types::Uuid,
        provider_id: &'a str => Text,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , parent AS (
            SELECT m.id, i.contact_id
            FROM input
            JOIN provider_events e ON e.channel_account_id = input.account
                AND e.provider_id = input.provider_id AND e.kind = 'message'
            JOIN inbox_messages m ON m.id = e.message_id
            JOIN inbox_conversations c ON c.id = m.conversation_id
            JOIN contact_identities i ON i.id = c.contact_identity_id
        ), head AS (
            SELECT m.id, parent.id AS parent_id
            FROM input CROSS JOIN parent
            JOIN inbox_messages m ON m.reply_to_provider_id = input.provider_id
                AND m.reply_to_message_id IS NULL AND m.deleted_at IS NULL AND m.id <> parent.id
            JOIN inbox_conversations c ON c.id = m.conversation_id
            JOIN contact_identities i ON i.id = c.contact_identity_id
                AND i.channel_account_id = input.account AND i.contact_id = parent.contact_id
            ORDER BY m.id
            FOR NO KEY UPDATE OF m
        ), bumped AS (
            UPDATE inbox_messages m
            SET reply_to_message_id = head.parent_id, version = m.version + 1,
                updated_at = greatest(directory.now(), m.updated_at)
            FROM head WHERE m.id = head.id
            RETURNING m.*
        ), changes AS (
            SELECT 'message.updated' AS kind, 'message' AS resource_kind, b.id AS resource_id,
                b.conversation_id AS parent_id, b.sequence, b.version,
                '{reply_to_message_id}'::text[] AS changed
            FROM bumped b
        )", append_events!(), "
        SELECT count(*) FROM bumped")
}

/// Lets the replies to a message that a provider told of point at it, once both are there.
pub async fn resolve(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    provider_id: &str,
) -> Result<(), Error> {
    let facts = conn.facts().clone();
    let statement = Resolve {
        account,
        provider_id,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let _: i64 = statement.get_result(conn).await?;
    Ok(())
}
