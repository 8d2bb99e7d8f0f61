//! Webhooks as they came: kept, leased to whoever applies them, dropped in the end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{
    self, Array, BigInt, Bool, Bytea, Double, Integer, Jsonb, Nullable, Text, Timestamptz,
};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::verified::{Verified, kept};
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{AppId, ChannelAccountId, DeliveryId};
use crate::master_key::{Sealer, place};
use crate::schema::directory::{deliveries, quarantine};
use crate::tenant::{DirectoryConn, Provider};

/// How long whoever applies a delivery may be silent before somebody else takes it up.
pub const LEASE: Duration = Duration::from_secs(30);

/// A delivery, and the right to apply it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// What it is for.
    pub channel: Channel,
    /// Who sent it.
    pub provider: Provider,
    /// The account that its address named, if it named one.
    pub account: Option<ChannelAccountId>,
    /// What stands before the keys in its body.
    pub route_prefix: String,
    /// What its body is.
    pub content_type: String,
    /// What it says.
    pub body: Verified<Bytes>,
    /// What ties it to everything that comes of it.
    pub correlation_id: String,
    /// How often it was taken up.
    pub attempts: i32,
    /// Of whoever applies it.
    pub lease: Uuid,
    /// Since when.
    pub taken_at: Instant,
}

impl Delivery {
    /// When it was kept: its id tells, also where it is read again later.
    pub fn received_at(&self) -> DateTime<Utc> {
        let (seconds, nanoseconds) = self.id.0.get_timestamp().map_or((0, 0), |at| at.to_unix());
        let seconds = i64::try_from(seconds).unwrap_or(0);
        DateTime::from_timestamp(seconds, nanoseconds).unwrap_or_default()
    }
}

/// What a body is, by its headers.
pub(super) fn content_type(headers: &Value) -> String {
    let content_type = headers.get("content-type").and_then(Value::as_str);
    content_type.unwrap_or_default().to_owned()
}

statement! {
    /// Takes up deliveries that are due, the longest due first.
    TakeUp<'a> -> (sql_types::Uuid, sql_types::Uuid, Text, Nullable<sql_types::Uuid>, Text, Text, Jsonb, Bytea, Text, Integer) {
        lease: Uuid => sql_types::Uuid,
        lease_seconds: f64 => Double,
        most: i64 => BigInt,
    }
    "
        UPDATE directory.deliveries d
        SET due_at = directory.now() + make_interval(secs => input.lease_seconds),
            lease = input.lease, attempts = d.attempts + 1
        FROM input
        WHERE d.id IN (
            SELECT due.id FROM directory.deliveries due
            WHERE due.due_at <= directory.now()
            ORDER BY due.due_at LIMIT (SELECT most FROM input)
            FOR UPDATE SKIP LOCKED
        )
        RETURNING d.id, d.app_id, d.provider, d.account_id, d.route_prefix, d.channel, d.headers,
            d.body, d.correlation_id, d.attempts"
}

type Row = (
    DeliveryId,
    AppId,
    Provider,
    Option<ChannelAccountId>,
    String,
    Channel,
    Value,
    Vec<u8>,
    String,
    i32,
);

/// Takes up deliveries that are due: new ones without a lease, those to be tried again, those
/// whose keeper has been silent. One that cannot be opened is ended, and told of by its id.
pub async fn take_up(
    conn: &mut DirectoryConn,
    sealer: &Sealer,
    most: i64,
) -> Result<Vec<Result<Delivery, (DeliveryId, Error)>>, Error> {
    let lease = Uuid::now_v7();
    let take_up = TakeUp {
        lease,
        lease_seconds: LEASE.as_secs_f64(),
        most,
        life: std::marker::PhantomData,
    };
    let rows: Vec<Row> = take_up.load(conn).await?;
    let mut taken = Vec::new();
    for row in rows {
        let id = row.0;
        match opened(sealer, row, lease) {
            Ok(delivery) => taken.push(Ok(delivery)),
            Err(error) => {
                let done = Done {
                    id,
                    lease,
                    is_repetition: false,
                };
                end(conn, &[done]).await?;
                taken.push(Err((id, error)));
            }
        }
    }
    Ok(taken)
}

/// Finds a delivery, without taking it up.
pub async fn find(
    conn: &mut DirectoryConn,
    sealer: &Sealer,
    id: DeliveryId,
) -> Result<Option<Delivery>, Error> {
    let row: Option<Row> = deliveries::table
        .find(id)
        .select(COLUMNS)
        .first(conn)
        .await
        .optional()?;
    row.map(|row| opened(sealer, row, Uuid::nil())).transpose()
}

const COLUMNS: (
    deliveries::id,
    deliveries::app_id,
    deliveries::provider,
    deliveries::account_id,
    deliveries::route_prefix,
    deliveries::channel,
    deliveries::headers,
    deliveries::body,
    deliveries::correlation_id,
    deliveries::attempts,
) = (
    deliveries::id,
    deliveries::app_id,
    deliveries::provider,
    deliveries::account_id,
    deliveries::route_prefix,
    deliveries::channel,
    deliveries::headers,
    deliveries::body,
    deliveries::correlation_id,
    deliveries::attempts,
);

statement! {
    /// Holds on to leases for longer.
    Renew<'a> -> sql_types::Uuid {
        ids: &'a [DeliveryId] => Array<sql_types::Uuid>,
        leases: &'a [Uuid] => Array<sql_types::Uuid>,
        lease_seconds: f64 => Double,
    }
    "
        , held AS (
            SELECT d.id
            FROM input
            CROSS JOIN unnest(input.ids, input.leases) AS asked (id, lease)
            JOIN directory.deliveries d ON d.id = asked.id AND d.lease = asked.lease
            -- In the order in which those that are done are locked.
            ORDER BY d.id
            FOR NO KEY UPDATE OF d
        ), renewed AS (
            UPDATE directory.deliveries d
            SET due_at = directory.now() + make_interval(secs => input.lease_seconds)
            FROM input CROSS JOIN held
            WHERE d.id = held.id
            RETURNING d.id
        )
        SELECT id FROM renewed"
}

/// Holds on to leases for longer; returns those that were still ours.
pub async fn renew(
    conn: &mut DirectoryConn,
    held: &[(DeliveryId, Uuid)],
) -> Result<Vec<DeliveryId>, Error> {
    let renew = Renew {
        ids: &held.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        leases: &held.iter().map(|(_, lease)| *lease).collect::<Vec<_>>(),
        lease_seconds: LEASE.as_secs_f64(),
        life: std::marker::PhantomData,
    };
    Ok(renew.load(conn).await?)
}

statement! {
    /// Ends the work on deliveries that are still under their leases.
    End<'a> -> BigInt {
        ids: &'a [DeliveryId] => Array<sql_types::Uuid>,
        leases: &'a [Uuid] => Array<sql_types::Uuid>,
        repetitions: &'a [bool] => Array<Bool>,
    }
    "
        , ended AS (
            SELECT d.id, e.is_repetition
            FROM input
            CROSS JOIN unnest(input.ids, input.leases, input.repetitions)
                AS e (id, lease, is_repetition)
            JOIN directory.deliveries d ON d.id = e.id AND d.lease = e.lease
            -- Those that are just being renewed, too: what is skipped is taken up again, half a
            -- minute later.
            ORDER BY d.id
            FOR UPDATE OF d
        ), dropped AS (
            DELETE FROM directory.deliveries d USING ended
            WHERE d.id = ended.id AND ended.is_repetition
        ), finished AS (
            UPDATE directory.deliveries d SET due_at = NULL, lease = NULL, last_error = NULL
            FROM ended WHERE d.id = ended.id AND NOT ended.is_repetition
        )
        SELECT count(*) FROM ended"
}

/// A delivery that is done.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Its id.
    pub id: DeliveryId,
    /// Under which it was applied.
    pub lease: Uuid,
    /// Whether it only repeats another. Then it is kept nowhere, so that whoever is erased from the
    /// other is not in this one.
    pub is_repetition: bool,
}

/// Ends the work on deliveries whose items have all had their effect, or are in quarantine.
pub async fn end(conn: &mut DirectoryConn, done: &[Done]) -> Result<(), Error> {
    let end = End {
        ids: &done.iter().map(|done| done.id).collect::<Vec<_>>(),
        leases: &done.iter().map(|done| done.lease).collect::<Vec<_>>(),
        repetitions: &done
            .iter()
            .map(|done| done.is_repetition)
            .collect::<Vec<_>>(),
        life: std::marker::PhantomData,
    };
    let _: i64 = end.get_result(conn).await?;
    Ok(())
}

/// Puts a delivery back, to be taken up again after a while.
pub async fn put_back(
    conn: &mut DirectoryConn,
    delivery: &Delivery,
    wait: Duration,
    why: &str,
) -> Result<(), Error> {
    diesel::update(deliveries::table.find(delivery.id))
        .filter(deliveries::lease.eq(delivery.lease))
        .set((
            deliveries::due_at.eq(after(wait)),
            deliveries::lease.eq(None::<Uuid>),
            deliveries::last_error.eq(why),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops some deliveries that are done and older than `days`, and those in quarantine that are
/// older than `quarantine_days`; tells how many.
pub async fn drop_old(
    conn: &mut DirectoryConn,
    days: u32,
    quarantine_days: u32,
    most: i64,
) -> Result<usize, Error> {
    let waiting = quarantine::table
        .filter(quarantine::delivery_id.eq(deliveries::id))
        .filter(quarantine::replayed_at.is_null());
    let old: Vec<DeliveryId> = deliveries::table
        .filter(deliveries::due_at.is_null())
        .filter(deliveries::received_at.lt(before(days)))
        .filter(
            deliveries::received_at
                .lt(before(quarantine_days))
                .or(diesel::dsl::not(diesel::dsl::exists(waiting))),
        )
        .limit(most)
        .select(deliveries::id)
        .load(conn)
        .await?;
    let dropped = diesel::delete(deliveries::table)
        .filter(deliveries::id.eq_any(old))
        .execute(conn)
        .await?;
    Ok(dropped)
}

/// A delivery, and whether it is done.
pub struct Kept {
    /// The delivery.
    pub delivery: Delivery,
    /// Whether nobody is going to take it up again.
    pub done: bool,
}

/// Finds a delivery that nobody else changes until the open transaction ends.
pub async fn lock(
    conn: &mut DirectoryConn,
    sealer: &Sealer,
    id: DeliveryId,
) -> Result<Option<Kept>, Error> {
    let found: Option<(Row, bool)> = deliveries::table
        .find(id)
        .select((COLUMNS, deliveries::due_at.is_null()))
        .for_update()
        .first(conn)
        .await
        .optional()?;
    let Some((row, done)) = found else {
        return Ok(None);
    };
    let delivery = opened(sealer, row, Uuid::nil())?;
    Ok(Some(Kept { delivery, done }))
}

/// Puts another body in the place of the one that came.
pub async fn rewrite(
    conn: &mut DirectoryConn,
    sealer: &Sealer,
    id: DeliveryId,
    body: Vec<u8>,
) -> Result<(), Error> {
    let sealed = sealer.seal(place(id.0, "body"), body)?;
    diesel::update(deliveries::table.find(id))
        .set(deliveries::body.eq(sealed))
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a delivery and what is in quarantine of it.
pub async fn remove(conn: &mut DirectoryConn, id: DeliveryId) -> Result<(), Error> {
    diesel::delete(deliveries::table.find(id))
        .execute(conn)
        .await?;
    Ok(())
}

/// The database's time so much later.
fn after(wait: Duration) -> SqlLiteral<Nullable<Timestamptz>> {
    sql(&format!(
        "directory.now() + interval '{} milliseconds'",
        wait.as_millis()
    ))
}

/// The database's time so many days ago.
fn before(days: u32) -> SqlLiteral<Timestamptz> {
    sql(&format!("directory.now() - interval '{days} days'"))
}

fn opened(sealer: &Sealer, row: Row, lease: Uuid) -> Result<Delivery, Error> {
    let (
        id,
        app,
        provider,
        account,
        route_prefix,
        channel,
        headers,
        sealed,
        correlation_id,
        attempts,
    ) = row;
    let body = sealer
        .open(place(id.0, "body"), &sealed)
        .ok_or_else(|| Error::internal("a delivery cannot be opened"))?;
    Ok(Delivery {
        id,
        channel,
        provider,
        account,
        route_prefix,
        content_type: content_type(&headers),
        body: kept(app, body.into()),
        correlation_id,
        attempts,
        lease,
        taken_at: Instant::now(),
    })
}
