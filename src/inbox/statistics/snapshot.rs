//! The rollups and the log beside them, at one moment.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Timestamptz};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection as _};

use super::calendar::Calendar;
use super::fact::{
    LoggedChange, LoggedMessage, is_counted, logged_change, logged_message, tells_something,
};
use super::hours::Hours;
use super::range::{Asked, Range, Span};
use crate::error::Error;
use crate::schema::tenant::statistics_folds;
use crate::tenant::TenantConn;

/// Which rollups count, and how far they have come.
#[derive(Debug, Clone)]
pub struct Fold {
    /// Which.
    pub generation: i32,
    /// What the log tells up to here is in.
    pub position: i64,
    /// The business hours that they were counted by.
    pub hours: Vec<Hours>,
    /// The zones whose days and months they have.
    pub calendar: Calendar,
}

/// Makes an open transaction, which has done nothing yet, read all it reads in one moment, and
/// returns which rollups count.
pub async fn begin(conn: &mut TenantConn) -> Result<Fold, Error> {
    // What is added up by groups takes more than PostgreSQL thinks it does, and less than this.
    conn.batch_execute(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL work_mem = '64MB'",
    )
    .await?;
    current(conn).await
}

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// Cuts a range; one that has no end of its own ends now, by the database's clock.
///
/// # Errors
/// It ends before it begins, or has too many buckets.
pub async fn cut(conn: &mut TenantConn, asked: &Asked) -> Result<Range, Error> {
    if let Some(to) = asked.to {
        return asked.cut(to);
    }
    let Now { now } = diesel::sql_query("SELECT directory.now() AS now")
        .get_result(conn)
        .await?;
    asked.cut(now)
}

/// Returns which rollups count.
pub async fn current(conn: &mut TenantConn) -> Result<Fold, Error> {
    let (generation, position, hours, zones) = statistics_folds::table
        .filter(statistics_folds::is_current)
        .select((
            statistics_folds::generation,
            statistics_folds::position,
            statistics_folds::hours,
            statistics_folds::time_zones,
        ))
        .first::<(i32, i64, serde_json::Value, Vec<Option<String>>)>(conn)
        .await?;
    Ok(Fold {
        generation,
        position,
        hours: read_hours(hours)?,
        calendar: read_calendar(&zones)?,
    })
}

/// Reads the business hours of some rollups.
pub fn read_hours(hours: serde_json::Value) -> Result<Vec<Hours>, Error> {
    serde_json::from_value(hours).map_err(Error::internal)
}

/// Reads the time zones of some rollups.
pub fn read_calendar(zones: &[Option<String>]) -> Result<Calendar, Error> {
    Calendar::of(zones.iter().flatten().map(String::as_str))
}

/// The changes in a part of the log that tell statistics something.
pub async fn changes(
    conn: &mut TenantConn,
    after: i64,
    up_to: i64,
) -> Result<Vec<LoggedChange>, Error> {
    let changes = diesel::sql_query(concat!(
        "SELECT ",
        logged_change!(),
        " FROM conversation_changes c WHERE c.id > $1 AND c.id <= $2 AND ",
        tells_something!()
    ))
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(up_to);
    Ok(changes.load(conn).await?)
}

/// The messages in a part of the log.
pub async fn messages(
    conn: &mut TenantConn,
    after: i64,
    up_to: i64,
) -> Result<Vec<LoggedMessage>, Error> {
    // The limit keeps the database at one look-up for each event, whatever it thinks of them.
    let messages = diesel::sql_query(concat!(
        "SELECT ",
        logged_message!(),
        " FROM events e CROSS JOIN LATERAL (
            SELECT * FROM inbox_messages m WHERE m.id = e.resource_id LIMIT 1
        ) m
        WHERE e.id > $1 AND e.id <= $2 AND e.kind = 'message.created' AND ",
        is_counted!()
    ))
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(up_to);
    Ok(messages.load(conn).await?)
}

/// The changes that no bucket of the rollups tells of: those after their position, and those in
/// some spans of time before it.
pub async fn changes_beside(
    conn: &mut TenantConn,
    fold: &Fold,
    ends: &[Span],
) -> Result<Vec<LoggedChange>, Error> {
    let mut all = changes(conn, fold.position, i64::MAX).await?;
    let Some((from, to)) = bounds(ends) else {
        return Ok(all);
    };
    let at_ends = diesel::sql_query(concat!(
        "SELECT ",
        logged_change!(),
        " FROM unnest($1, $2) AS s (from_at, to_at) CROSS JOIN LATERAL (
            SELECT * FROM conversation_changes c
            WHERE c.at >= s.from_at AND c.at < s.to_at AND c.id <= $3 AND ",
        tells_something!(),
        " OFFSET 0
        ) c"
    ))
    .bind::<Array<Timestamptz>, _>(from)
    .bind::<Array<Timestamptz>, _>(to)
    .bind::<BigInt, _>(fold.position);
    all.extend(at_ends.load::<LoggedChange>(conn).await?);
    Ok(all)
}

/// The messages that no bucket of the rollups tells of.
pub async fn messages_beside(
    conn: &mut TenantConn,
    fold: &Fold,
    ends: &[Span],
) -> Result<Vec<LoggedMessage>, Error> {
    let mut all = messages(conn, fold.position, i64::MAX).await?;
    let Some((from, to)) = bounds(ends) else {
        return Ok(all);
    };
    let at_ends = diesel::sql_query(concat!(
        "SELECT ",
        logged_message!(),
        " FROM unnest($1, $2) AS s (from_at, to_at) CROSS JOIN LATERAL (
            SELECT * FROM inbox_messages m
            WHERE m.created_at >= s.from_at AND m.created_at < s.to_at AND ",
        is_counted!(),
        " OFFSET 0
        ) m"
    ))
    .bind::<Array<Timestamptz>, _>(from)
    .bind::<Array<Timestamptz>, _>(to);
    let at_ends: Vec<LoggedMessage> = at_ends.load(conn).await?;
    // A message does not know its place in the log: what was read there is left out here.
    let known: HashSet<_> = all.iter().map(|message| message.id).collect();
    all.extend(
        at_ends
            .into_iter()
            .filter(|message| !known.contains(&message.id)),
    );
    Ok(all)
}

type Times = Vec<DateTime<Utc>>;

fn bounds(spans: &[Span]) -> Option<(Times, Times)> {
    let bounds = spans.iter().map(|span| (span.from, span.to));
    (!spans.is_empty()).then(|| bounds.unzip())
}
