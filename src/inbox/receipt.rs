//! Receipts: how far providers say that messages of ours have come.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::inbound::{Effect, EventKind, Origin, claim};
use super::message_status::{self, MessageStatus, StatusReport};
use super::watermark;
use crate::error::{Error, Precondition};
use crate::ids::MessageId;
use crate::schema::tenant::{parked_receipts, provider_events};
use crate::tenant::TenantConn;

/// How far a message of ours has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's id of the message.
    pub provider_id: String,
    /// How far.
    pub status: MessageStatus,
    /// When.
    pub at: Option<DateTime<Utc>>,
    /// The provider's code for a failure.
    pub failure_code: Option<String>,
    /// The provider's words for a failure.
    pub failure_message: Option<String>,
}

/// Records how far a message of ours has come; the receipt of one that is not known yet waits.
pub(super) async fn record(
    conn: &mut TenantConn,
    origin: Origin,
    receipt: &Receipt,
) -> Result<Effect, Error> {
    conn.transaction(async |conn| {
        lock(conn, origin, &receipt.provider_id).await?;
        let occurrence = receipt.status.as_str();
        let id = &receipt.provider_id;
        if !claim(conn, origin, id, EventKind::Receipt, occurrence).await? {
            return Ok(Effect::Known);
        }
        let message: Option<Option<MessageId>> = provider_events::table
            .filter(provider_events::channel_account_id.eq(origin.account))
            .filter(provider_events::provider_id.eq(id))
            .filter(provider_events::kind.eq(EventKind::Message))
            .select(provider_events::message_id)
            .first(conn)
            .await
            .optional()?;
        if let Some(message_id) = message.flatten() {
            report(conn, report_of(message_id, receipt)).await?;
            watermark::follow(conn, origin, message_id, receipt.status).await?;
            return Ok(Effect::Applied);
        }
        diesel::insert_into(parked_receipts::table)
            .values((
                parked_receipts::channel_account_id.eq(origin.account),
                parked_receipts::provider_id.eq(id),
                parked_receipts::status.eq(receipt.status),
                parked_receipts::at.eq(receipt.at),
                parked_receipts::failure_code.eq(&receipt.failure_code),
                parked_receipts::failure_message.eq(&receipt.failure_message),
                parked_receipts::created_at.eq(sql::<Timestamptz>("directory.now()")),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        Ok(Effect::Parked)
    })
    .await
}

fn report_of(message_id: MessageId, receipt: &Receipt) -> StatusReport {
    StatusReport {
        message_id,
        status: receipt.status,
        at: receipt.at,
        failure_code: receipt.failure_code.clone(),
        failure_message: receipt.failure_message.clone(),
    }
}

/// Applies the receipts that came before the message that they are about.
pub(super) async fn unpark(
    conn: &mut TenantConn,
    origin: Origin,
    provider_id: &str,
) -> Result<(), Error> {
    type Row = (
        MessageStatus,
        Option<DateTime<Utc>>,
        Option<String>,
        Option<String>,
    );
    let parked: Vec<Row> = diesel::delete(parked_receipts::table)
        .filter(parked_receipts::channel_account_id.eq(origin.account))
        .filter(parked_receipts::provider_id.eq(provider_id))
        .returning((
            parked_receipts::status,
            parked_receipts::at,
            parked_receipts::failure_code,
            parked_receipts::failure_message,
        ))
        .get_results(conn)
        .await?;
    if parked.is_empty() {
        return Ok(());
    }
    let message_id: Option<MessageId> = provider_events::table
        .filter(provider_events::channel_account_id.eq(origin.account))
        .filter(provider_events::provider_id.eq(provider_id))
        .filter(provider_events::kind.eq(EventKind::Message))
        .select(provider_events::message_id)
        .first(conn)
        .await?;
    let Some(message_id) = message_id else {
        return Ok(());
    };
    for (status, at, failure_code, failure_message) in parked {
        let report = StatusReport {
            message_id,
            status,
            at,
            failure_code,
            failure_message,
        };
        self::report(conn, report).await?;
        watermark::follow(conn, origin, message_id, status).await?;
    }
    Ok(())
}

/// Reports how far a message has come. Of what a customer wrote, or of a person who was erased,
/// there is nothing to report.
async fn report(conn: &mut TenantConn, report: StatusReport) -> Result<(), Error> {
    match message_status::report(conn, report).await {
        Ok(_)
        | Err(Error::NotFound { .. })
        | Err(Error::FailedPrecondition(Precondition::MessageNotOutbound(_))) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes those who learn of a message's id and those who bring its receipts take turns: a receipt
/// that finds no message would otherwise be parked behind the back of who has just looked.
pub(super) async fn lock(
    conn: &mut TenantConn,
    origin: Origin,
    provider_id: &str,
) -> Result<(), Error> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind::<Text, _>(format!("{} {provider_id}", origin.account))
        .execute(conn)
        .await?;
    Ok(())
}
