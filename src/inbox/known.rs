//! What was told of is known already.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::error::Error;
use crate::ids::{ChannelAccountId, DeliveryId};
use crate::schema::tenant::{message_amendments, provider_events};
use crate::tenant::TenantConn;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    provider_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    call_status: Option<String>,
}

/// Returns which of some messages, calls and reactions of an account were told of, with where each
/// call stands. Reactions are looked for among those that were told of since a time.
pub async fn known(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    provider_ids: &[String],
    since: DateTime<Utc>,
) -> Result<HashMap<String, Option<String>>, Error> {
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT e.provider_id, m.metadata #>> '{call,status}' AS call_status
        FROM provider_events e LEFT JOIN inbox_messages m ON m.id = e.message_id
        WHERE e.channel_account_id = $1 AND e.kind = 'message' AND e.provider_id = ANY ($2)
        UNION ALL
        SELECT a.occurrence, NULL FROM message_amendments a
        WHERE a.channel_account_id = $1 AND a.kind = 'reaction' AND a.occurrence = ANY ($2)
            AND a.created_at >= $3",
    )
    .bind::<sql_types::Uuid, _>(account)
    .bind::<Array<Text>, _>(provider_ids)
    .bind::<Timestamptz, _>(since)
    .load(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.provider_id, row.call_status)).collect())
}

/// Tells whether any of what providers call something is known from one delivery.
pub async fn is_source(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    delivery: DeliveryId,
    provider_ids: &[&str],
) -> Result<bool, Error> {
    let events = provider_events::table
        .filter(provider_events::channel_account_id.eq(account))
        .filter(provider_events::provider_id.eq_any(provider_ids))
        .filter(provider_events::delivery_id.eq(delivery));
    let amendments = message_amendments::table
        .filter(message_amendments::channel_account_id.eq(account))
        .filter(message_amendments::provider_id.eq_any(provider_ids))
        .filter(message_amendments::delivery_id.eq(delivery));
    let found = exists(events.select(provider_events::delivery_id))
        .or(exists(amendments.select(message_amendments::delivery_id)));
    Ok(diesel::select(found).get_result(conn).await?)
}
