//! Receipts for all that a person was sent until some time, which some providers give in place of
//! one for each message.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::inbound::{Effect, Origin};
use super::message_status::{self, MessageStatus, StatusReport};
use crate::channel::Channel;
use crate::error::Error;
use crate::ids::MessageId;
use crate::tenant::TenantConn;

/// How many of the newest messages of a conversation a receipt is for: who reads, reads the end.
const NEWEST: i64 = 1000;

/// How far all messages of ours to a person have come.
#[derive(Debug, PartialEq, Eq)]
pub struct Watermark {
    /// By what the provider knows the person, at least one.
    pub identifiers: Vec<String>,
    /// The key of the thread, where it is for one alone.
    pub thread: Option<String>,
    /// How far: delivered or read.
    pub status: MessageStatus,
    /// Those that were sent until then.
    pub until: DateTime<Utc>,
}

impl Watermark {
    /// By what it is kept: the thread that it is for, or the person.
    fn kept_by(&self) -> &[String] {
        match &self.thread {
            Some(thread) => std::slice::from_ref(thread),
            None => &self.identifiers,
        }
    }
}

/// Records how far all messages to a person have come.
pub(super) async fn record(
    conn: &mut TenantConn,
    origin: Origin,
    watermark: &Watermark,
) -> Result<Effect, Error> {
    conn.transaction(async |conn| {
        let moved = diesel::sql_query(
            "INSERT INTO receipt_watermarks AS w (channel_account_id, identifier, status, until,
                created_at)
            SELECT $1, identifier, $3, $4, directory.now()
            FROM (SELECT DISTINCT unnest($2) AS identifier ORDER BY 1) given
            ON CONFLICT (channel_account_id, identifier, status) DO UPDATE
                SET until = excluded.until, created_at = excluded.created_at
                WHERE w.until < excluded.until",
        )
        .bind::<sql_types::Uuid, _>(origin.account)
        .bind::<Array<Text>, _>(watermark.kept_by())
        .bind::<Text, _>(watermark.status)
        .bind::<Timestamptz, _>(watermark.until)
        .execute(conn)
        .await?;
        if moved == 0 {
            return Ok(Effect::Known);
        }
        apply(conn, origin, watermark).await?;
        Ok(Effect::Applied)
    })
    .await
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = sql_types::Uuid)]
    id: MessageId,
}

async fn apply(conn: &mut TenantConn, origin: Origin, watermark: &Watermark) -> Result<(), Error> {
    let sent: Vec<Found> = diesel::sql_query(
        "SELECT m.id
        FROM contact_identities named
        JOIN contact_identities i ON i.contact_id = named.contact_id
            AND i.channel_account_id = named.channel_account_id
        JOIN inbox_conversations c ON c.contact_identity_id = i.id AND c.deleted_at IS NULL
            AND ($6::text IS NULL OR c.thread_key = $6)
        CROSS JOIN LATERAL (
            SELECT n.* FROM inbox_messages n WHERE n.conversation_id = c.id
            ORDER BY n.sequence DESC LIMIT $5
        ) m
        WHERE named.channel_account_id = $1 AND named.value = ANY ($2) AND m.direction = 'outbound'
            AND m.status = ANY ($3) AND coalesce(m.provider_at, m.sent_at) <= $4
        ORDER BY m.conversation_id, m.sequence",
    )
    .bind::<sql_types::Uuid, _>(origin.account)
    .bind::<Array<Text>, _>(&watermark.identifiers)
    .bind::<Array<Text>, _>(on_their_way(watermark.status))
    .bind::<Timestamptz, _>(watermark.until)
    .bind::<BigInt, _>(NEWEST)
    .bind::<Nullable<Text>, _>(&watermark.thread)
    .load(conn)
    .await?;
    for message in sent {
        report(conn, message.id, watermark.status, watermark.until).await?;
    }
    Ok(())
}

/// The states from which a message that was sent comes to another.
fn on_their_way(status: MessageStatus) -> &'static [MessageStatus] {
    match status {
        MessageStatus::Read => &[MessageStatus::Sent, MessageStatus::Delivered],
        _ => &[MessageStatus::Sent],
    }
}

async fn report(
    conn: &mut TenantConn,
    message_id: MessageId,
    status: MessageStatus,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let report = StatusReport {
        message_id,
        status,
        at: Some(at),
        failure_code: None,
        failure_message: None,
    };
    message_status::report(conn, report).await.map(drop)
}

#[derive(QueryableByName)]
struct Passed {
    #[diesel(sql_type = sql_types::Uuid)]
    id: MessageId,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    delivered: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    read: Option<DateTime<Utc>>,
}

/// Applies to a message that was just recorded what came for it before.
pub(super) async fn catch_up(
    conn: &mut TenantConn,
    origin: Origin,
    provider_id: &str,
) -> Result<(), Error> {
    let passed: Option<Passed> = diesel::sql_query(
        "SELECT m.id, max(w.until) FILTER (WHERE w.status = 'delivered') AS delivered,
            max(w.until) FILTER (WHERE w.status = 'read') AS read
        FROM provider_events e
        JOIN inbox_messages m ON m.id = e.message_id
        JOIN inbox_conversations c ON c.id = m.conversation_id
        JOIN contact_identities own ON own.id = c.contact_identity_id
        JOIN contact_identities i ON i.contact_id = own.contact_id
            AND i.channel_account_id = e.channel_account_id
        JOIN receipt_watermarks w ON w.channel_account_id = e.channel_account_id
            AND w.identifier IN (i.value, c.thread_key) AND w.until >= coalesce(m.provider_at, m.sent_at)
        WHERE e.channel_account_id = $1 AND e.provider_id = $2 AND e.kind = 'message'
            AND m.direction = 'outbound'
        GROUP BY m.id",
    )
    .bind::<sql_types::Uuid, _>(origin.account)
    .bind::<Text, _>(provider_id)
    .get_result(conn)
    .await
    .optional()?;
    let Some(passed) = passed else {
        return Ok(());
    };
    if let Some(at) = passed.delivered {
        report(conn, passed.id, MessageStatus::Delivered, at).await?;
    }
    if let Some(at) = passed.read {
        report(conn, passed.id, MessageStatus::Read, at).await?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Sent {
    #[diesel(sql_type = Array<Text>)]
    identifiers: Vec<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<DateTime<Utc>>,
}

/// Where a provider names the last message alone that a person has seen, those before it were seen
/// too.
pub(super) async fn follow(
    conn: &mut TenantConn,
    origin: Origin,
    message_id: MessageId,
    status: MessageStatus,
) -> Result<(), Error> {
    if origin.channel != Channel::Instagram || status != MessageStatus::Read {
        return Ok(());
    }
    let sent: Option<Sent> = diesel::sql_query(
        "SELECT array_agg(i.value ORDER BY i.value) AS identifiers,
            max(coalesce(m.provider_at, m.sent_at)) AS at
        FROM inbox_messages m
        JOIN inbox_conversations c ON c.id = m.conversation_id
        JOIN contact_identities own ON own.id = c.contact_identity_id
        JOIN contact_identities i ON i.contact_id = own.contact_id AND i.channel_account_id = $2
        WHERE m.id = $1 GROUP BY m.id",
    )
    .bind::<sql_types::Uuid, _>(message_id)
    .bind::<sql_types::Uuid, _>(origin.account)
    .get_result(conn)
    .await
    .optional()?;
    if let Some(Sent {
        identifiers,
        at: Some(until),
    }) = sent
    {
        let watermark = Watermark {
            identifiers,
            thread: None,
            status,
            until,
        };
        record(conn, origin, &watermark).await?;
    }
    Ok(())
}
