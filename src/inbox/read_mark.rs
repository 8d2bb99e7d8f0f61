//! How far each user has read a conversation.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Integer, Text};
use diesel_async::RunQueryDsl;

use super::change::{log_changes, moved};
use super::conversation::{ConversationRow, Seen, conversation_columns, conversation_of};
use crate::database::statement::statement;
use crate::error::Error;
use crate::event::log::append_events;
use crate::ids::ConversationId;
use crate::tenant::TenantConn;

statement! {
    // No row = no such conversation. A mark that is not raised writes nothing.
    /// Raises the mark of a user.
    MarkRead<'a> -> (ConversationRow, Integer) {
        conversation_id: ConversationId => sql_types::Uuid,
        sequence: i64 => BigInt,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT c.* FROM inbox_conversations c, input
            WHERE c.id = input.conversation_id AND c.deleted_at IS NULL
            FOR NO KEY UPDATE OF c
        ), wanted AS (
            SELECT h.id, least(input.sequence, h.last_sequence) AS sequence,
                coalesce((
                    SELECT r.sequence FROM conversation_read_marks r
                    WHERE r.conversation_id = h.id AND r.user_id = input.actor_id
                ), 0) AS old_sequence
            FROM head h, input
        ), marked AS (
            INSERT INTO conversation_read_marks AS r (conversation_id, user_id, sequence, updated_at)
            SELECT w.id, input.actor_id, w.sequence, directory.now() FROM wanted w, input
            WHERE w.sequence > w.old_sequence
            ON CONFLICT (conversation_id, user_id) DO UPDATE
            SET sequence = excluded.sequence, updated_at = excluded.updated_at
            WHERE r.sequence < excluded.sequence
            RETURNING r.conversation_id, r.sequence
        ), bumped AS (
            UPDATE inbox_conversations c
            SET read_sequence = greatest(c.read_sequence, marked.sequence),
                status = CASE c.status WHEN 'new' THEN 'open' ELSE c.status END,
                version = c.version + 1, updated_at = directory.now()
            FROM head LEFT JOIN marked ON marked.conversation_id = head.id
            WHERE c.id = head.id AND (marked.sequence IS NOT NULL OR head.status = 'new')
            RETURNING c.*
        )", moved!("'read'", "''", "NULL::bigint", "NULL::timestamptz", ""), "
        , changes AS (
            SELECT 'conversation.read' AS kind, 'conversation' AS resource_kind, b.id AS resource_id,
                NULL::uuid AS parent_id, NULL::bigint AS sequence, b.version,
                coalesce(m.changed, '{}') AS changed
            FROM bumped b LEFT JOIN moved m ON m.id = b.id
        )", append_events!(), log_changes!(), "
        SELECT ", conversation_columns!(), ", (
                SELECT count(*) FROM (
                    SELECT FROM inbox_messages u
                    WHERE u.conversation_id = w.id AND u.direction = 'inbound' AND u.deleted_at IS NULL
                        AND NOT u.imported AND u.sequence > greatest(w.sequence, w.old_sequence)
                    LIMIT 1000
                ) u
            )::integer
        FROM wanted w, LATERAL (", conversation_of!("(
            SELECT * FROM bumped UNION ALL SELECT * FROM head WHERE NOT EXISTS (SELECT FROM bumped)
        )"), ") p")
}

/// Records that a user has read a conversation up to a message, unless they have read further.
///
/// # Errors
/// There is no such conversation.
pub async fn raise(
    conn: &mut TenantConn,
    id: ConversationId,
    user_id: &str,
    sequence: i64,
) -> Result<Seen, Error> {
    let facts = conn.facts().clone();
    let statement = MarkRead {
        conversation_id: id,
        sequence,
        actor_kind: facts.actor.kind(),
        actor_id: user_id,
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let marked: Option<(super::conversation::Conversation, i32)> =
        statement.get_result(conn).await.optional()?;
    let (conversation, unread) = marked.ok_or_else(|| Error::not_found("conversation", id))?;
    Ok((conversation, Some(unread)))
}
