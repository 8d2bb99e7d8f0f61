//! How far outbound messages have come.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::attempt::end_attempt;
use super::message::{Direction, Message, MessageRow, message_columns};
use crate::database::statement::statement;
use crate::error::{Error, Precondition};
use crate::event::log::append_events;
use crate::ids::MessageId;
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// How far an outbound message has come.
    MessageStatus {
        /// Not yet with the provider.
        Queued = "queued",
        /// With the provider.
        Sent = "sent",
        /// On the customer's device.
        Delivered = "delivered",
        /// Seen.
        Read = "read",
        /// Not sent, or not delivered.
        Failed = "failed",
    }
}

impl MessageStatus {
    /// The states that this one takes the place of; in all others it is late and changes nothing.
    pub fn overrides(self) -> &'static [Self] {
        match self {
            Self::Queued => &[],
            Self::Sent => &[Self::Queued],
            Self::Delivered => &[Self::Queued, Self::Sent, Self::Failed],
            Self::Read => &[Self::Queued, Self::Sent, Self::Delivered, Self::Failed],
            Self::Failed => &[Self::Queued, Self::Sent],
        }
    }
}

/// How far a message has come, as somebody reports it.
#[derive(Debug)]
pub struct StatusReport {
    /// The message.
    pub message_id: MessageId,
    /// How far.
    pub status: MessageStatus,
    /// When; now if nobody said.
    pub at: Option<DateTime<Utc>>,
    /// The provider's code for a failure.
    pub failure_code: Option<String>,
    /// The provider's words for a failure.
    pub failure_message: Option<String>,
}

statement! {
    /// Records how far a message has come, unless it is further already.
    Report<'a> -> MessageRow {
        message_id: MessageId => sql_types::Uuid,
        status: MessageStatus => Text,
        overrides: &'static [MessageStatus] => Array<Text>,
        at: Option<DateTime<Utc>> => Nullable<sql_types::Timestamptz>,
        failure_code: Option<&'a str> => Nullable<Text>,
        failure_message: Option<&'a str> => Nullable<Text>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT m.* FROM inbox_messages m, input
            WHERE m.id = input.message_id AND EXISTS (
                SELECT FROM inbox_conversations c
                WHERE c.id = m.conversation_id AND c.deleted_at IS NULL
            )
            FOR NO KEY UPDATE OF m
        ), new AS (
            SELECT head.id, coalesce(input.at, directory.now()) AS at
            FROM head, input
            WHERE head.direction = 'outbound' AND head.status = ANY (input.overrides)
        ), bumped AS (
            UPDATE inbox_messages m
            SET status = input.status, version = m.version + 1, updated_at = directory.now(),
                failure_code = input.failure_code, failure_message = input.failure_message,
                sent_at = CASE input.status WHEN 'sent' THEN new.at ELSE m.sent_at END,
                delivered_at = CASE input.status WHEN 'delivered' THEN new.at ELSE m.delivered_at END,
                read_at = CASE input.status WHEN 'read' THEN new.at ELSE m.read_at END,
                failed_at = CASE input.status WHEN 'failed' THEN new.at ELSE m.failed_at END
            FROM new, input WHERE m.id = new.id
            RETURNING m.*
        ), changes AS (
            SELECT 'message.updated' AS kind, 'message' AS resource_kind, bumped.id AS resource_id,
                bumped.conversation_id AS parent_id, bumped.sequence, bumped.version,
                '{status}'::text[] AS changed
            FROM bumped
        )", append_events!(), end_attempt!(), "
        SELECT ", message_columns!(), " FROM bumped m
        UNION ALL
        SELECT ", message_columns!(), " FROM head m WHERE NOT EXISTS (SELECT FROM bumped)")
}

/// Records how far an outbound message has come; a late or repeated state changes nothing.
///
/// # Errors
/// There is no such message, or it is not outbound.
pub async fn report(conn: &mut TenantConn, report: StatusReport) -> Result<Message, Error> {
    let facts = conn.facts().clone();
    let statement = Report {
        message_id: report.message_id,
        status: report.status,
        overrides: report.status.overrides(),
        at: report.at,
        failure_code: report.failure_code.as_deref(),
        failure_message: report.failure_message.as_deref(),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let message: Option<Message> = statement.get_result(conn).await.optional()?;
    let message = message.ok_or_else(|| Error::not_found("message", report.message_id))?;
    if message.direction != Direction::Outbound {
        let id = message.id.to_string();
        return Err(Error::FailedPrecondition(Precondition::MessageNotOutbound(
            id,
        )));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_overrides_only_what_comes_before_it() {
        use MessageStatus::{Delivered, Failed, Queued, Read, Sent};
        let all = [Queued, Sent, Delivered, Read, Failed];
        let overridden = |status: MessageStatus| {
            all.into_iter()
                .filter(|old| status.overrides().contains(old))
                .collect::<Vec<_>>()
        };
        assert_eq!(overridden(Queued), []);
        assert_eq!(overridden(Sent), [Queued]);
        assert_eq!(overridden(Delivered), [Queued, Sent, Failed]);
        assert_eq!(overridden(Read), [Queued, Sent, Delivered, Failed]);
        assert_eq!(overridden(Failed), [Queued, Sent]);
    }
}
