//! Deletion of messages: what remains is a tombstone, and what it said as a revision, unless that
//! is redacted too.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Integer, Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::change::{log_changes, moved};
use super::message::{Message, MessageRow, message_columns};
use super::revision::REVISABLE;
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::event::log::append_events;
use crate::ids::{ConversationId, MessageId};
use crate::schema::tenant::{inbox_conversations, inbox_messages};
use crate::tenant::TenantConn;

/// A message to delete.
#[derive(Debug)]
pub struct Deletion {
    /// Which.
    pub message_id: MessageId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// Whether nothing that it said is kept.
    pub redacts: bool,
}

statement! {
    // The conversation is locked by a statement before, so that this one sees what its other
    // messages are by now. No row = no such message.
    /// Deletes a message, and what it said for good if that is wanted.
    Delete<'a> -> (Nullable<Text>, MessageRow) {
        message_id: MessageId => sql_types::Uuid,
        edit_version: Option<i64> => Nullable<BigInt>,
        redacts: bool => Bool,
        revisable: &'static [Channel] => Array<Text>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , target AS (
            SELECT m.* FROM inbox_messages m, input WHERE m.id = input.message_id
            FOR NO KEY UPDATE OF m
        ), head AS (
            SELECT c.* FROM inbox_conversations c JOIN target ON target.conversation_id = c.id
        ), wanted AS (
            SELECT t.id, t.deleted_at IS NULL AS deletes, CASE
                WHEN input.edit_version <> t.edits + 1 THEN 'etag'
                WHEN t.deleted_at IS NULL AND NOT input.redacts
                    AND t.status NOT IN ('queued', 'failed')
                    AND NOT h.channel = ANY (input.revisable) THEN 'sent'
            END AS refusal
            FROM target t, head h, input
        ), gone AS (
            -- What it was stays, for the counts; what it said goes.
            UPDATE inbox_messages m
            SET text = '', latitude = 0 * m.latitude, longitude = 0 * m.longitude,
                location_name = NULL, location_address = NULL, failure_message = NULL,
                metadata = '{}', attachments = NULL, reactions = '[]',
                deleted_at = greatest(directory.now(), m.updated_at),
                updated_at = greatest(directory.now(), m.updated_at), version = m.version + 1
            FROM wanted w WHERE m.id = w.id AND w.refusal IS NULL AND w.deletes
            RETURNING m.*
        ), redacted AS (
            UPDATE message_revisions r
            SET text = '', latitude = NULL, longitude = NULL, location_name = NULL,
                location_address = NULL, metadata = NULL, redacted_at = directory.now()
            FROM wanted w, input
            WHERE r.message_id = w.id AND w.refusal IS NULL AND input.redacts
                AND r.redacted_at IS NULL
            RETURNING r.message_id
        ), revised AS (
            INSERT INTO message_revisions (message_id, number, kind, text, latitude, longitude,
                location_name, location_address, metadata, redacted_at, actor_kind, actor_id,
                caller, correlation_id, created_at)
            SELECT t.id, t.edits + 1, 'deletion',
                CASE WHEN input.redacts THEN '' ELSE t.text END,
                CASE WHEN NOT input.redacts THEN t.latitude END,
                CASE WHEN NOT input.redacts THEN t.longitude END,
                CASE WHEN NOT input.redacts THEN t.location_name END,
                CASE WHEN NOT input.redacts THEN t.location_address END,
                CASE WHEN NOT input.redacts THEN t.metadata END,
                CASE WHEN input.redacts THEN directory.now() END,
                input.actor_kind, input.actor_id, input.caller, input.correlation_id, g.updated_at
            FROM target t JOIN gone g ON g.id = t.id, input
        ), forgotten AS (
            -- The first answers to the requests that made it or sent it again tell what it said.
            UPDATE requests r SET response = 'null', request_hash = '', message_ids = NULL
            FROM wanted w, input, target t CROSS JOIN LATERAL (
                SELECT a.caller, a.method, a.request_id FROM requests a
                WHERE a.created_at BETWEEN t.created_at - interval '1 minute' AND t.created_at + interval '1 minute'
                    AND strpos(a.response::text, t.id::text) > 0
                UNION
                SELECT a.caller, a.method, a.request_id FROM requests a
                WHERE a.message_ids @> ARRAY[t.id]
            ) a
            WHERE w.id = t.id AND w.refusal IS NULL AND input.redacts
                AND (r.caller, r.method, r.request_id) = (a.caller, a.method, a.request_id)
        ), unneeded AS (
            UPDATE attachments a SET state = 'deleted', file_name = ''
            FROM gone WHERE a.message_id = gone.id
        ), unfetched AS (
            UPDATE media_fetches f SET source = '{}' FROM attachments a, gone
            WHERE a.message_id = gone.id AND f.attachment_id = a.id
        ), unfindable AS (
            DELETE FROM inbox_message_words i USING gone WHERE i.message_id = gone.id
        ), left_over AS (
            SELECT g.conversation_id, coalesce(o.sequence, 0) AS last_inbound_sequence,
                coalesce(o.created_at >= h.waiting_since, false) AS waits
            FROM gone g JOIN head h ON h.id = g.conversation_id
            LEFT JOIN LATERAL (
                SELECT o.sequence, o.created_at FROM inbox_messages o
                WHERE o.conversation_id = g.conversation_id AND o.direction = 'inbound'
                    AND o.deleted_at IS NULL AND NOT o.imported AND o.id <> g.id
                ORDER BY o.sequence DESC LIMIT 1
            ) o ON true
            WHERE g.direction = 'inbound'
        ), bumped AS (
            UPDATE inbox_conversations c
            SET last_inbound_sequence = l.last_inbound_sequence,
                waiting_since = CASE WHEN l.waits THEN c.waiting_since END,
                version = c.version + 1, updated_at = greatest(directory.now(), c.updated_at)
            FROM left_over l
            WHERE c.id = l.conversation_id
                AND (c.last_inbound_sequence, c.waiting_since IS NOT NULL)
                    IS DISTINCT FROM (l.last_inbound_sequence, l.waits)
            RETURNING c.*
        )", moved!("'message'", "'deletion'", "(SELECT sequence FROM gone)", "NULL::timestamptz", ""), "
        , changes AS (
            SELECT 'message.deleted' AS kind, 'message' AS resource_kind, g.id AS resource_id,
                g.conversation_id AS parent_id, g.sequence, g.version, '{}'::text[] AS changed
            FROM gone g
            UNION ALL
            SELECT 'conversation.updated', 'conversation', moved.id, NULL, NULL, moved.version,
                moved.changed
            FROM moved
        )", append_events!(), log_changes!(), "
        SELECT w.refusal, ", message_columns!(), "
        FROM wanted w, LATERAL (
            SELECT * FROM gone UNION ALL SELECT * FROM target WHERE NOT EXISTS (SELECT FROM gone)
        ) m")
}

/// Deletes a message, once; what it said is kept as a revision, unless it is redacted, then or
/// later.
///
/// # Errors
/// There is no such message, its etag is another one, or it was sent where nothing can be called
/// back and what it said is to be kept.
pub async fn delete(conn: &mut TenantConn, deletion: Deletion) -> Result<Message, Error> {
    conn.transaction(async |conn| delete_in(conn, deletion).await)
        .await
}

/// Deletes a message in the open transaction.
///
/// # Errors
/// As `delete`.
pub async fn delete_in(conn: &mut TenantConn, deletion: Deletion) -> Result<Message, Error> {
    let id = deletion.message_id;
    let facts = conn.facts().clone();
    let conversation = inbox_conversations::table
        .filter(
            inbox_conversations::id.nullable().eq(inbox_messages::table
                .find(id)
                .select(inbox_messages::conversation_id)
                .single_value()),
        )
        .filter(inbox_conversations::deleted_at.is_null())
        .select(inbox_conversations::id)
        .for_no_key_update();
    let found: Option<ConversationId> = conversation.first(conn).await.optional()?;
    found.ok_or_else(|| Error::not_found("message", id))?;
    let statement = Delete {
        message_id: id,
        edit_version: deletion.etag.as_deref().map(super::change::edit_version),
        redacts: deletion.redacts,
        revisable: REVISABLE,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let deleted: Option<(Option<String>, Message)> = statement.get_result(conn).await.optional()?;
    let (refusal, message) = deleted.ok_or_else(|| Error::not_found("message", id))?;
    match refusal.as_deref() {
        None => Ok(message),
        Some("etag") => Err(Error::Aborted(Conflict::Etag {
            given: deletion.etag.unwrap_or_default(),
            current: message.etag(),
        })),
        Some("sent") => Err(Error::FailedPrecondition(Precondition::MessageSent(
            id.to_string(),
        ))),
        Some(other) => Err(Error::internal(format!("`{other}` is no refusal"))),
    }
}
