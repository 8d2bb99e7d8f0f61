//! Attempts to send a message: how each ended, and how another one is begun.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Integer, Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::message::{self, Message, MessageRow, message_columns};
use crate::database::statement::statement;
use crate::error::{Error, Precondition};
use crate::event::log::append_events;
use crate::ids::MessageId;
use crate::page::PageSize;
use crate::request_id::{self, RequestId};
use crate::schema::tenant::message_attempts;
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// How an attempt ended.
    AttemptOutcome {
        /// The provider took the message.
        Sent = "sent",
        /// It refused the message, or could not deliver it.
        Failed = "failed",
    }
}

/// An attempt to send a message.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = message_attempts, check_for_backend(Pg))]
pub struct Attempt {
    /// The message.
    pub message_id: MessageId,
    /// The first has 1.
    pub number: i32,
    /// How it ended, if it has.
    pub outcome: Option<AttemptOutcome>,
    /// The provider's code for a failure.
    pub failure_code: Option<String>,
    /// The provider's words for a failure.
    pub failure_message: Option<String>,
    /// The kind of who wanted it.
    pub actor_kind: String,
    /// Who wanted it.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// Since when the message was to be sent.
    pub started_at: DateTime<Utc>,
    /// When the outcome was known.
    pub ended_at: Option<DateTime<Utc>>,
}

/// CTE `attempted`: keeps the outcome of a message's newest attempt, from the row before in `head`,
/// the row after in `bumped`, and `new.at`. States that say nothing new of it write nothing.
macro_rules! end_attempt {
    () => {
        "
        , attempted AS (
            INSERT INTO message_attempts (message_id, number, outcome, failure_code,
                failure_message, actor_kind, actor_id, caller, correlation_id, started_at, ended_at)
            SELECT h.id, h.tries, CASE b.status WHEN 'failed' THEN 'failed' ELSE 'sent' END,
                b.failure_code, b.failure_message, h.actor_kind, h.actor_id, h.caller,
                h.correlation_id, h.created_at, new.at
            FROM head h JOIN bumped b ON b.id = h.id JOIN new ON new.id = h.id
            WHERE h.status IN ('queued', 'failed') OR b.status = 'failed'
            ON CONFLICT (message_id, number) DO UPDATE
            SET outcome = excluded.outcome, ended_at = excluded.ended_at,
                failure_code = excluded.failure_code, failure_message = excluded.failure_message
        )"
    };
}

pub(super) use end_attempt;

statement! {
    // No row = no such message.
    /// Lets a message that failed be sent again.
    Retry<'a> -> (Nullable<Text>, MessageRow) {
        message_id: MessageId => sql_types::Uuid,
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
            SELECT h.id, CASE
                WHEN h.direction <> 'outbound' THEN 'not outbound'
                WHEN h.status = 'queued' THEN 'queued'
                WHEN h.status <> 'failed' THEN 'sent'
                WHEN (SELECT c.archived_at FROM inbox_conversations c WHERE c.id = h.conversation_id) IS NOT NULL
                    THEN 'archived'
            END AS refusal
            FROM head h
        ), bumped AS (
            UPDATE inbox_messages m
            SET status = 'queued', tries = m.tries + 1, failure_code = NULL, failure_message = NULL,
                failed_at = NULL, sent_at = NULL, version = m.version + 1,
                updated_at = greatest(directory.now(), m.updated_at)
            FROM wanted w WHERE m.id = w.id AND w.refusal IS NULL
            RETURNING m.*
        ), begun AS (
            INSERT INTO message_attempts (message_id, number, actor_kind, actor_id, caller,
                correlation_id, started_at)
            SELECT b.id, b.tries, input.actor_kind, input.actor_id, input.caller,
                input.correlation_id, b.updated_at
            FROM bumped b, input
        ), changes AS (
            SELECT 'message.updated' AS kind, 'message' AS resource_kind, b.id AS resource_id,
                b.conversation_id AS parent_id, b.sequence, b.version,
                '{status}'::text[] AS changed
            FROM bumped b
        )", append_events!(), "
        SELECT w.refusal, ", message_columns!(), "
        FROM wanted w, LATERAL (
            SELECT * FROM bumped UNION ALL SELECT * FROM head WHERE NOT EXISTS (SELECT FROM bumped)
        ) m")
}

/// Lets a message that failed be sent again. One that is about to be sent is left as it is.
///
/// # Errors
/// There is no such message, it is not outbound, it did not fail, or its conversation is archived.
pub async fn retry(
    conn: &mut TenantConn,
    id: MessageId,
    request: Option<RequestId>,
) -> Result<Message, Error> {
    conn.transaction(async |conn| {
        if let Some(answer) = request_id::claim_or_answer(conn, request.as_ref()).await? {
            return Ok(answer);
        }
        let message = retry_in(conn, id).await?;
        if let Some(request) = &request {
            request_id::keep_words(conn, request, &message, Some(vec![message.id.0])).await?;
        }
        Ok(message)
    })
    .await
}

async fn retry_in(conn: &mut TenantConn, id: MessageId) -> Result<Message, Error> {
    let facts = conn.facts().clone();
    let statement = Retry {
        message_id: id,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let retried: Option<(Option<String>, Message)> = statement.get_result(conn).await.optional()?;
    let (refusal, message) = retried.ok_or_else(|| Error::not_found("message", id))?;
    Err(Error::FailedPrecondition(match refusal.as_deref() {
        None | Some("queued") => return Ok(message),
        Some("not outbound") => Precondition::MessageNotOutbound(id.to_string()),
        Some("sent") => Precondition::MessageNotFailed(id.to_string()),
        Some("archived") => Precondition::ConversationArchived(message.conversation_id.to_string()),
        Some(other) => return Err(Error::internal(format!("`{other}` is no refusal"))),
    }))
}

/// Lists the attempts to send a message, the newest first: those that have an outcome, and every
/// repeated one.
///
/// # Errors
/// There is no such message.
pub async fn list(
    conn: &mut TenantConn,
    id: MessageId,
    before: Option<i32>,
    size: PageSize,
) -> Result<Vec<Attempt>, Error> {
    message::check_known(conn, id).await?;
    let attempts = message_attempts::table
        .filter(message_attempts::message_id.eq(id))
        .filter(message_attempts::number.lt(before.unwrap_or(i32::MAX)))
        .order(message_attempts::number.desc())
        .limit(size.rows())
        .select(Attempt::as_select());
    Ok(attempts.load(conn).await?)
}
