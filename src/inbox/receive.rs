//! A message that a provider told of, added to its conversation in one statement.

use std::borrow::Cow;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::change::{log_changes, moved};
use super::conversation;
use super::inbound::{InboundMessage, Origin};
use super::media::Announced;
use super::message::{Direction, MessageType, may_go_on};
use crate::database::statement::statement;
use crate::error::{Conflict, Error};
use crate::event::log::append_events;
use crate::ids::{ChannelAccountId, ConversationId, DeliveryId, MessageId};
use crate::search;
use crate::search::index::index_messages;
use crate::tenant::TenantConn;

statement! {
    // One round trip, in the order of `CreateMessage`: the conversation's row lock, the claim, the
    // rest. No row = no such conversation; the first is false where it is archived and does not go
    // on, which stops nothing that leaves it so, the second where the message is known. Without a
    // conversation, it is the one of the person and the thread, if all that the message tells of the
    // person is known.
    /// Adds a message that a provider told of; tells whether anything awaits it, and whether what it
    /// answers is there.
    Receive<'a> -> (Bool, Bool, Nullable<Bool>, Nullable<Bool>) {
        id: MessageId => sql_types::Uuid,
        conversation_id: Option<ConversationId> => Nullable<sql_types::Uuid>,
        identifiers: &'a [String] => Array<Text>,
        name: &'a str => Text,
        thread_key: &'a str => Text,
        account: ChannelAccountId => sql_types::Uuid,
        delivery_id: DeliveryId => sql_types::Uuid,
        provider_id: &'a str => Text,
        direction: Direction => Text,
        type_: MessageType => Text,
        text: &'a str => Text,
        words: &'a str => Text,
        latitude: Option<f64> => Nullable<Double>,
        longitude: Option<f64> => Nullable<Double>,
        location_name: Option<&'a str> => Nullable<Text>,
        location_address: Option<&'a str> => Nullable<Text>,
        reply_to: Option<&'a str> => Nullable<Text>,
        metadata: &'a Value => Jsonb,
        attachments: Option<&'a Value> => Nullable<Jsonb>,
        quiet: bool => Bool,
        leaves_closed: bool => Bool,
        provider_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , found AS (
            SELECT c.id
            FROM input
            CROSS JOIN LATERAL (
                SELECT i.contact_id, ct.name, count(*) OVER () AS identities
                FROM contact_identities i JOIN contacts ct ON ct.id = i.contact_id
                WHERE i.channel_account_id = input.account AND i.value = ANY (input.identifiers)
                -- A number may be somebody else's by now; what the provider made up stays.
                ORDER BY i.value LIKE '+%', array_position(input.identifiers, i.value) LIMIT 1
            ) p
            CROSS JOIN LATERAL (
                SELECT c.id
                FROM contact_identities i
                JOIN inbox_conversations c ON c.contact_identity_id = i.id
                WHERE i.contact_id = p.contact_id AND i.channel_account_id = input.account
                    AND c.thread_key = input.thread_key AND c.deleted_at IS NULL
                ORDER BY c.archived_at IS NOT NULL, c.number DESC LIMIT 1
            ) c
            WHERE p.identities = cardinality(input.identifiers)
                AND (input.name = '' OR p.name <> '')
                -- What is known already waits for nobody who holds its conversation.
                AND NOT EXISTS (
                    SELECT FROM provider_events e
                    WHERE e.channel_account_id = input.account
                        AND e.provider_id = input.provider_id AND e.kind = 'message'
                )
        ), head AS (
            SELECT c.*, q.is_quiet,
                ", may_go_on!(), " OR q.is_quiet AND c.merged_into_id IS NULL AS may_go_on
            FROM input
            CROSS JOIN inbox_conversations c
            CROSS JOIN LATERAL (
                SELECT input.quiet OR input.leaves_closed AND c.archived_at IS NOT NULL AS is_quiet
            ) q
            WHERE c.id = coalesce(input.conversation_id, (SELECT found.id FROM found))
                AND c.deleted_at IS NULL
            FOR NO KEY UPDATE OF c
        ), claimed AS (
            INSERT INTO provider_events (channel_account_id, provider_id, kind, occurrence,
                message_id, delivery_id, created_at)
            SELECT input.account, input.provider_id, 'message', '', input.id, input.delivery_id,
                greatest(directory.now(), head.updated_at)
            FROM head, input WHERE head.may_go_on
            ON CONFLICT DO NOTHING
            RETURNING message_id, created_at
        ), bumped AS (
            UPDATE inbox_conversations c
            SET last_sequence = c.last_sequence + 1, last_message_at = claimed.created_at,
                updated_at = claimed.created_at, version = c.version + 1,
                status = CASE
                    WHEN head.is_quiet THEN c.status
                    WHEN input.direction = 'inbound' AND c.status IN ('replied', 'archived') THEN 'open'
                    WHEN input.direction = 'outbound' AND c.status IN ('new', 'open', 'archived') THEN 'replied'
                    ELSE c.status END,
                archived_at = CASE WHEN head.is_quiet THEN c.archived_at END,
                snoozed_until = CASE WHEN head.is_quiet OR input.direction <> 'inbound' THEN c.snoozed_until END,
                last_inbound_sequence = CASE input.direction WHEN 'inbound' THEN c.last_sequence + 1
                    ELSE c.last_inbound_sequence END,
                waiting_since = CASE WHEN head.is_quiet THEN c.waiting_since WHEN input.direction = 'inbound'
                    THEN coalesce(c.waiting_since, claimed.created_at) END,
                first_replied_at = CASE
                    WHEN head.is_quiet THEN c.first_replied_at
                    WHEN c.archived_at IS NOT NULL THEN NULL
                    WHEN input.direction = 'outbound' AND c.waiting_since IS NOT NULL
                        THEN coalesce(c.first_replied_at, claimed.created_at)
                    ELSE c.first_replied_at END,
                episode = c.episode + (c.archived_at IS NOT NULL AND NOT head.is_quiet)::integer,
                episode_started_at = CASE WHEN c.archived_at IS NOT NULL AND NOT head.is_quiet THEN claimed.created_at
                    ELSE c.episode_started_at END
            FROM claimed, head, input WHERE c.id = head.id
            RETURNING c.*
        ), inserted AS (
            INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text,
                latitude, longitude, location_name, location_address, status, reply_to_message_id,
                reply_to_provider_id, actor_kind, actor_id, caller, correlation_id, metadata,
                attachments, version, created_at, updated_at, sent_at, provider_at)
            SELECT input.id, bumped.id, bumped.last_sequence, input.direction, input.type_,
                input.text, input.latitude, input.longitude, input.location_name,
                input.location_address, CASE input.direction WHEN 'outbound' THEN 'sent' END,
                (
                    SELECT m.id FROM provider_events e
                    JOIN inbox_messages m ON m.id = e.message_id
                    JOIN inbox_conversations v ON v.id = m.conversation_id
                    JOIN contact_identities i ON i.id = v.contact_identity_id
                    JOIN contact_identities own ON own.id = bumped.contact_identity_id
                    WHERE e.channel_account_id = input.account AND e.provider_id = input.reply_to
                        AND e.kind = 'message' AND i.contact_id = own.contact_id
                ),
                input.reply_to, input.actor_kind, input.actor_id, input.caller, input.correlation_id,
                input.metadata, (
                    SELECT jsonb_agg(file || jsonb_build_object('message_id', input.id,
                        'created_at', bumped.updated_at) ORDER BY place)
                    FROM jsonb_array_elements(input.attachments) WITH ORDINALITY AS a (file, place)
                ), 1, bumped.updated_at, bumped.updated_at,
                CASE input.direction WHEN 'outbound' THEN coalesce(input.provider_at, bumped.updated_at) END,
                input.provider_at
            FROM bumped, input
            RETURNING id, conversation_id, direction, type, actor_kind, actor_id, created_at,
                reply_to_message_id
        ), indexable AS (
            SELECT inserted.*, input.words FROM inserted, input
        )", index_messages!("nextval('inbox_message_words_number_seq')", "NOTHING"), moved!("'message'", "CASE WHEN h.archived_at IS NOT NULL AND b.archived_at IS NULL THEN 'reopen' ELSE 'message' END",
            "b.last_sequence", "CASE WHEN b.waiting_since IS NULL THEN h.waiting_since END", ""), "
        , changes AS (
            SELECT 'message.created' AS kind, 'message' AS resource_kind, input.id AS resource_id,
                bumped.id AS parent_id, bumped.last_sequence AS sequence, 1::bigint AS version,
                '{}'::text[] AS changed
            FROM bumped, input
            UNION ALL
            SELECT 'conversation.updated', 'conversation', moved.id, NULL, NULL, moved.version,
                moved.changed
            FROM moved
        )", append_events!(), log_changes!(), "
        SELECT head.may_go_on, EXISTS (SELECT FROM claimed), CASE WHEN EXISTS (SELECT FROM claimed)
                THEN (SELECT w.amended OR w.answered FROM directory.awaiting(input.account, input.provider_id) w)
            END, (SELECT reply_to_message_id IS NOT NULL FROM inserted)
        FROM head, input")
}

/// Where a message goes.
#[derive(Clone, Copy, Default)]
pub(super) struct Goal {
    /// The conversation, or else that of its person and thread.
    pub conversation: Option<ConversationId>,
    /// Whether the conversation stays archived if it is.
    pub leaves_closed: bool,
    /// Whether somebody writes who has had no part in the conversation.
    pub is_strangers: bool,
}

/// What came of a message.
pub(super) enum Received {
    /// It was added.
    Added(Added),
    /// It was known.
    Known,
    /// There is no conversation that it can be added to as it is.
    NoPlace,
}

/// A message that was added.
pub(super) struct Added {
    /// Whether what was told of it before awaits it, or answers to it.
    pub is_awaited: bool,
    /// Whether what it answers is there.
    pub has_parent: bool,
}

/// Adds a message to a conversation, or to the one of its person and thread.
pub(super) async fn receive(
    conn: &mut TenantConn,
    origin: Origin,
    goal: Goal,
    message: &InboundMessage,
    announced: &Announced,
) -> Result<Received, Error> {
    let facts = conn.facts().clone();
    let location = message.location.as_ref();
    let attachments = announced.described();
    let mut metadata = Cow::Borrowed(&message.metadata);
    if goal.is_strangers
        && let Value::Object(of_message) = metadata.to_mut()
    {
        of_message.insert("new_participant".to_owned(), true.into());
    }
    let statement = Receive {
        id: announced.message_id,
        conversation_id: goal.conversation,
        identifiers: &message.person.identifiers,
        name: &message.person.name,
        thread_key: &message.thread.key,
        account: origin.account,
        delivery_id: origin.delivery,
        provider_id: &message.provider_id,
        direction: message.direction,
        type_: message.message_type,
        text: &message.text,
        words: &search::vector(&message.text),
        latitude: location.map(|location| location.latitude),
        longitude: location.map(|location| location.longitude),
        location_name: location.map(|location| location.name.as_str()),
        location_address: location.map(|location| location.address.as_str()),
        reply_to: message.reply_to.as_deref(),
        metadata: &metadata,
        attachments: attachments.as_ref(),
        quiet: message.automatic || message.direction == Direction::Internal,
        leaves_closed: goal.leaves_closed,
        provider_at: message.at,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    type Row = (bool, bool, Option<bool>, Option<bool>);
    let claimed: QueryResult<Option<Row>> = statement.get_result(conn).await.optional();
    match claimed {
        Ok(Some((_, true, is_awaited, has_parent))) => Ok(Received::Added(Added {
            is_awaited: is_awaited.unwrap_or(true),
            has_parent: has_parent.unwrap_or(false),
        })),
        Ok(Some((true, false, ..))) => Ok(Received::Known),
        Ok(Some((false, false, ..))) => Ok(Received::NoPlace),
        Ok(None) if goal.conversation.is_none() => Ok(Received::NoPlace),
        Ok(None) => Err(Error::Aborted(Conflict::Transaction)),
        Err(error) if conversation::is_replaced(&error) => {
            Err(Error::Aborted(Conflict::Transaction))
        }
        Err(error) => Err(error.into()),
    }
}
