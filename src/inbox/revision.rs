//! Edits of messages, and what messages said before.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::message::{self, Location, Message, MessageRow, message_columns};
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::event::log::append_events;
use crate::ids::MessageId;
use crate::page::PageSize;
use crate::schema::tenant::message_revisions;
use crate::search;
use crate::search::index::index_messages;
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

/// The channels where what was sent can be changed and called back: those whose client is ours.
pub const REVISABLE: &[Channel] = &[Channel::Web];

stored_enum! {
    /// What took the place of a revision.
    RevisionKind {
        /// Another text.
        Edit = "edit",
        /// Nothing.
        Deletion = "deletion",
    }
}

/// What a message said before.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = message_revisions, check_for_backend(Pg))]
pub struct Revision {
    /// The message.
    pub message_id: MessageId,
    /// The first has 1.
    pub number: i32,
    /// What took its place.
    pub kind: RevisionKind,
    /// The text.
    pub text: String,
    /// Degrees north, of a place.
    pub latitude: Option<f64>,
    /// Degrees east, of a place.
    pub longitude: Option<f64>,
    /// What the place is called.
    pub location_name: Option<String>,
    /// The place's address.
    pub location_address: Option<String>,
    /// When what it said was taken away for good.
    pub redacted_at: Option<DateTime<Utc>>,
    /// The kind of who changed it.
    pub actor_kind: String,
    /// Who changed it.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// When it was changed.
    pub created_at: DateTime<Utc>,
}

impl Revision {
    /// The place that it told of.
    pub fn location(&self) -> Option<Location> {
        Some(Location {
            latitude: self.latitude?,
            longitude: self.longitude?,
            name: self.location_name.clone().unwrap_or_default(),
            address: self.location_address.clone().unwrap_or_default(),
        })
    }
}

/// An edit of a message.
#[derive(Debug)]
pub struct Edit {
    /// Which.
    pub message_id: MessageId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// What it says from now on.
    pub text: String,
    /// The number or time of the edit, if it is the provider who tells of it: what was sent is
    /// edited already, and nobody can refuse it.
    pub by_provider: Option<i64>,
}

statement! {
    // No row = no such message. What would change nothing writes no revision and no event.
    /// Edits a message.
    EditText<'a> -> (Nullable<Text>, MessageRow) {
        message_id: MessageId => sql_types::Uuid,
        edit_version: Option<i64> => Nullable<BigInt>,
        text: &'a str => Text,
        words: &'a str => Text,
        provider_edit: Option<i64> => Nullable<BigInt>,
        revisable: &'static [Channel] => Array<Text>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT m.* FROM inbox_messages m, input
            WHERE m.id = input.message_id AND m.deleted_at IS NULL
            FOR NO KEY UPDATE OF m
        ), wanted AS (
            SELECT h.id, h.text <> input.text AS differs, CASE
                WHEN input.provider_edit IS NOT NULL
                    THEN CASE WHEN input.provider_edit < h.provider_edit THEN 'late' END
                WHEN input.edit_version <> h.edits + 1 THEN 'etag'
                WHEN h.direction = 'inbound' THEN 'inbound'
                WHEN h.status NOT IN ('queued', 'failed') AND NOT EXISTS (
                    SELECT FROM inbox_conversations c
                    WHERE c.id = h.conversation_id AND c.channel = ANY (input.revisable)
                ) THEN 'sent'
                WHEN h.type = 'text' AND input.text = '' THEN 'empty'
            END AS refusal
            FROM head h, input
        ), revised AS (
            INSERT INTO message_revisions (message_id, number, kind, text, actor_kind, actor_id,
                caller, correlation_id, created_at)
            SELECT h.id, h.edits + 1, 'edit', h.text, input.actor_kind, input.actor_id,
                input.caller, input.correlation_id, greatest(directory.now(), h.updated_at)
            FROM head h JOIN wanted w ON w.id = h.id, input
            WHERE w.refusal IS NULL AND w.differs
        ), edited AS (
            UPDATE inbox_messages m
            SET text = input.text, edits = m.edits + w.differs::integer,
                edited_at = CASE WHEN w.differs THEN greatest(directory.now(), m.updated_at) ELSE m.edited_at END,
                updated_at = CASE WHEN w.differs THEN greatest(directory.now(), m.updated_at) ELSE m.updated_at END,
                provider_edit = coalesce(input.provider_edit, m.provider_edit),
                version = m.version + w.differs::integer
            FROM wanted w, input
            WHERE m.id = w.id AND w.refusal IS NULL AND (w.differs OR input.provider_edit IS NOT NULL)
            RETURNING m.*
        ), bumped AS (
            SELECT e.* FROM edited e JOIN wanted w ON w.id = e.id WHERE w.differs
        ), unindexed AS (
            DELETE FROM inbox_message_words i USING bumped WHERE i.message_id = bumped.id
            RETURNING i.number
        ), indexable AS (
            SELECT b.id, b.conversation_id, b.direction, b.type, b.actor_kind, b.actor_id,
                b.created_at, input.words
            FROM bumped b, input
        )", index_messages!(
            "coalesce((SELECT number FROM unindexed), nextval('inbox_message_words_number_seq'))",
            "UPDATE SET number = excluded.number, words = excluded.words"
        ), ", changes AS (
            SELECT 'message.updated' AS kind, 'message' AS resource_kind, b.id AS resource_id,
                b.conversation_id AS parent_id, b.sequence, b.version,
                '{text,edit_time}'::text[] AS changed
            FROM bumped b
        )", append_events!(), "
        SELECT w.refusal, ", message_columns!(), "
        FROM wanted w, LATERAL (
            SELECT * FROM edited UNION ALL SELECT * FROM head WHERE NOT EXISTS (SELECT FROM edited)
        ) m")
}

/// Changes the text of a message, and keeps what it said before.
///
/// # Errors
/// There is no such message, its etag is another one, it is a customer's, or it was sent where
/// nothing can be changed.
pub async fn edit(conn: &mut TenantConn, edit: Edit) -> Result<Message, Error> {
    let facts = conn.facts().clone();
    let statement = EditText {
        message_id: edit.message_id,
        edit_version: edit.etag.as_deref().map(super::change::edit_version),
        text: &edit.text,
        words: &search::vector(&edit.text),
        provider_edit: edit.by_provider,
        revisable: REVISABLE,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let edited: Option<(Option<String>, Message)> = statement.get_result(conn).await.optional()?;
    let id = edit.message_id;
    let (refusal, message) = edited.ok_or_else(|| Error::not_found("message", id))?;
    let refusal = match refusal.as_deref() {
        None | Some("late") => return Ok(message),
        Some("etag") => {
            return Err(Error::Aborted(Conflict::Etag {
                given: edit.etag.unwrap_or_default(),
                current: message.etag(),
            }));
        }
        Some("empty") => return Err(Error::invalid("text", "is required for type TEXT")),
        Some("inbound") => Precondition::MessageInbound(id.to_string()),
        Some("sent") => Precondition::MessageSent(id.to_string()),
        Some(other) => return Err(Error::internal(format!("`{other}` is no refusal"))),
    };
    Err(Error::FailedPrecondition(refusal))
}

/// Lists what a message said before, the newest first.
///
/// # Errors
/// There is no such message.
pub async fn list(
    conn: &mut TenantConn,
    id: MessageId,
    before: Option<i32>,
    size: PageSize,
) -> Result<Vec<Revision>, Error> {
    message::check_known(conn, id).await?;
    let revisions = message_revisions::table
        .filter(message_revisions::message_id.eq(id))
        .filter(message_revisions::number.lt(before.unwrap_or(i32::MAX)))
        .order(message_revisions::number.desc())
        .limit(size.rows())
        .select(Revision::as_select());
    Ok(revisions.load(conn).await?)
}
