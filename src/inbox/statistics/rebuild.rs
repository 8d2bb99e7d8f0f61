//! Builds the rollups anew from the log, in small steps beside those that count, compares the two
//! and lets the new ones take their place.
//!
//! A new generation begins at a settled position: what lies before it is read from the log, in
//! steps of any order; what comes after it is folded as ever. Once it has caught up, both are
//! folded to the same position, under their locks, and compared. So nothing stands still, and a
//! server that goes away leaves a step to the next.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::fact::{Facet, LoggedMessage, is_counted, logged_message};
use super::fold::{self, Generation, fold_changes};
use super::rollup::Tally;
use super::snapshot::read_calendar;
use super::{business_hours, time_zone};
use crate::error::Error;
use crate::event::log;
use crate::schema::tenant::statistics_folds;
use crate::tenant::TenantConn;

/// How many changes a step reads.
const CHANGES: i64 = 50_000;
/// How many messages a step reads, or more where they are of one moment.
const MESSAGES: i64 = 50_000;
/// How many events either generation is folded further in one step.
const CLOSE: i64 = 2_000;

/// How far a rebuilding has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whether the new rollups have taken their place.
    pub done: bool,
    /// How many rows of the old ones were different.
    pub differences: i64,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
    /// Up to which change of the log it has come, while it reads the past.
    pub changes_position: Option<i64>,
}

impl From<Generation> for Progress {
    fn from(row: Generation) -> Self {
        Self {
            done: row.is_current,
            differences: row.differences.unwrap_or_default(),
            started_at: row.started_at,
            finished_at: row.finished_at,
            changes_position: row.changes_position,
        }
    }
}

/// Goes on with the rebuilding that is under way, or begins one, for a time; returns how far it has
/// come.
///
/// # Errors
/// The database cannot be asked.
pub async fn rebuild(conn: &mut TenantConn, time: Duration) -> Result<Progress, Error> {
    let begun = Instant::now();
    let generation = match under_way(conn).await? {
        Some(row) => row.generation,
        None => begin(conn).await?,
    };
    loop {
        if let Some(progress) = step(conn, generation).await? {
            while begun.elapsed() < time && sweep(conn).await? {}
            return Ok(progress);
        }
        if begun.elapsed() >= time {
            return progress(conn, generation).await;
        }
    }
}

/// Goes on for a time with a rebuilding that is under way, or begins one where the business hours
/// have changed or a time zone is missing; tells whether nothing of that is left to do.
///
/// # Errors
/// The database cannot be asked.
pub async fn go_on(conn: &mut TenantConn, time: Duration) -> Result<bool, Error> {
    if under_way(conn).await?.is_some()
        || business_hours::have_changed(conn).await?
        || time_zone::is_missing(conn).await?
    {
        rebuild(conn, time).await?;
        return Ok(false);
    }
    Ok(!sweep(conn).await?)
}

async fn under_way(conn: &mut TenantConn) -> Result<Option<Generation>, Error> {
    let row = statistics_folds::table
        .filter(statistics_folds::is_current.eq(false))
        .order(statistics_folds::generation.desc())
        .select(Generation::as_select());
    Ok(row.first(conn).await.optional()?)
}

/// How far a generation has come, or the one that counts if this one is gone.
async fn progress(conn: &mut TenantConn, generation: i32) -> Result<Progress, Error> {
    let row: Generation = statistics_folds::table
        .filter(statistics_folds::is_current.or(statistics_folds::generation.eq(generation)))
        .order(statistics_folds::generation.desc())
        .select(Generation::as_select())
        .first(conn)
        .await?;
    Ok(row.into())
}

/// Begins a new generation, unless somebody else does.
async fn begin(conn: &mut TenantConn) -> Result<i32, Error> {
    // Before that, writers who take long are waited for as long as it takes.
    let position = loop {
        if let Some(position) = log::settled(conn).await? {
            break position;
        }
    };
    conn.transaction(async |conn| {
        let current = fold::lock(conn).await?;
        if let Some(other) = under_way(conn).await? {
            return Ok(other.generation);
        }
        let hours = serde_json::to_value(business_hours::all(conn).await?);
        let calendar = time_zone::wanted(conn).await?;
        let zones: Vec<_> = calendar.zones().iter().map(|zone| zone.name()).collect();
        let generation = current.generation + 1;
        diesel::insert_into(statistics_folds::table)
            .values((
                statistics_folds::generation.eq(generation),
                statistics_folds::is_current.eq(false),
                statistics_folds::position.eq(position),
                statistics_folds::hours.eq(hours.map_err(Error::internal)?),
                statistics_folds::time_zones.eq(zones),
                statistics_folds::changes_position.eq(0),
                statistics_folds::messages_at.eq(DateTime::UNIX_EPOCH),
                statistics_folds::started_at.eq(sql::<Timestamptz>("directory.now()")),
            ))
            .execute(conn)
            .await?;
        Ok(generation)
    })
    .await
}

/// Does one step; returns the outcome after the last one, that of the generation that counts if
/// this one is gone.
async fn step(conn: &mut TenantConn, generation: i32) -> Result<Option<Progress>, Error> {
    let left = conn
        .transaction(async |conn| {
            let row = statistics_folds::table
                .find(generation)
                .select(Generation::as_select())
                .for_update();
            let row: Option<Generation> = row.first(conn).await.optional()?;
            match row {
                Some(row) if !row.is_current => read_past(conn, &row).await,
                _ => Ok(false),
            }
        })
        .await?;
    if left {
        return Ok(None);
    }
    let end = log::settled(conn).await?;
    conn.transaction(async |conn| follow(conn, generation, end).await)
        .await
}

/// Reads a part of what the log told before a generation began; tells whether there was one.
async fn read_past(conn: &mut TenantConn, row: &Generation) -> Result<bool, Error> {
    let this = statistics_folds::table.find(row.generation);
    if let Some(position) = row.changes_position {
        let up_to = row.position.min(position + CHANGES);
        let tally = Tally::new(&read_calendar(&row.time_zones)?);
        fold_changes(conn, tally, row, position, up_to).await?;
        let next = (up_to < row.position).then_some(up_to);
        diesel::update(this)
            .set(statistics_folds::changes_position.eq(next))
            .execute(conn)
            .await?;
        return Ok(true);
    }
    if let Some(at) = row.messages_at {
        let next = count_messages(conn, row, at).await?;
        diesel::update(this)
            .set(statistics_folds::messages_at.eq(next))
            .execute(conn)
            .await?;
        return Ok(true);
    }
    Ok(false)
}

/// Folds both generations further, and ends when they meet.
async fn follow(
    conn: &mut TenantConn,
    generation: i32,
    end: Option<i64>,
) -> Result<Option<Progress>, Error> {
    // In the order of everybody who locks both.
    let current = fold::lock(conn).await?;
    let new = statistics_folds::table
        .find(generation)
        .select(Generation::as_select())
        .for_update();
    let new: Option<Generation> = new.first(conn).await.optional()?;
    let Some(new) = new.filter(|new| !new.is_current) else {
        return Ok(Some(current.into()));
    };
    // Both positions are final, so the further one is, too.
    let end = current.position.max(new.position).max(end.unwrap_or(0));
    let mut meet = true;
    for row in [&current, &new] {
        let up_to = end.min(row.position + CLOSE);
        fold::fold(conn, row, up_to).await?;
        meet &= up_to == end;
    }
    if meet {
        return finish(conn, &current, &new).await.map(Some);
    }
    Ok(None)
}

#[derive(QueryableByName)]
struct Until {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    at: Option<DateTime<Utc>>,
}

/// Counts some of the messages that the log told of before the generation began; returns from when
/// on there are more.
async fn count_messages(
    conn: &mut TenantConn,
    row: &Generation,
    from: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let last = diesel::sql_query(
        "SELECT max(created_at) AS at FROM (
             SELECT created_at FROM inbox_messages WHERE created_at >= $1
             ORDER BY created_at LIMIT $2
         ) m",
    )
    .bind::<Timestamptz, _>(from)
    .bind::<BigInt, _>(MESSAGES);
    let Until { at } = last.get_result(conn).await?;
    let Some(last) = at else {
        return Ok(None);
    };
    // The database knows no moment between two microseconds.
    let to = last + TimeDelta::microseconds(1);
    let messages = diesel::sql_query(concat!(
        "SELECT ",
        logged_message!(),
        " FROM inbox_messages m
        WHERE m.created_at >= $1 AND m.created_at < $2 AND ",
        is_counted!(),
        " AND m.id NOT IN (
            SELECT e.resource_id FROM events e WHERE e.id > $3 AND e.kind = 'message.created'
        )"
    ))
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .bind::<BigInt, _>(row.position);
    let mut tally = Tally::new(&read_calendar(&row.time_zones)?);
    for message in messages.load::<LoggedMessage>(conn).await? {
        tally.count(&message.occurrence());
    }
    tally.store(conn, row.generation).await?;
    Ok(Some(to))
}

#[derive(QueryableByName)]
struct Differences {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Counts the rows of a rollup that two generations do not have in common: both are walked by their
/// key, side by side. Takes the key, the other columns as `x`, and further conditions on either.
macro_rules! differences {
    ($table:literal, $key:literal, $rest:literal, $first:literal, $second:literal) => {
        concat!(
            "SELECT count(*) AS rows FROM (
                SELECT *, ROW(",
            $rest,
            ") AS rest FROM ",
            $table,
            " x WHERE x.generation = $1",
            $first,
            "
            ) a FULL JOIN (
                SELECT *, ROW(",
            $rest,
            ") AS rest FROM ",
            $table,
            " x WHERE x.generation = $2",
            $second,
            "
            ) b USING (",
            $key,
            ")
            WHERE a.rest IS DISTINCT FROM b.rest"
        )
    };
}

/// Compares two generations that were folded to the same position, in what both of them have.
async fn differences(
    conn: &mut TenantConn,
    current: &Generation,
    new: &Generation,
) -> Result<i64, Error> {
    let states = diesel::sql_query(differences!(
        "statistics_states",
        "label, status, channel_account_id, assignee_id, team_id, priority, is_qualified,
            is_unread, is_waiting, is_snoozed",
        "x.conversations",
        "",
        ""
    ));
    let states = states
        .bind::<Integer, _>(current.generation)
        .bind::<Integer, _>(new.generation);
    let mut rows = states.get_result::<Differences>(conn).await?.rows;
    // What other business hours have changed is no difference.
    let same_hours = current.hours == new.hours;
    let new_grains = read_calendar(&new.time_zones)?.grains();
    for (first, grain) in read_calendar(&current.time_zones)?.grains() {
        let Some((second, _)) = new_grains.iter().find(|(_, other)| *other == grain) else {
            continue;
        };
        for facet in Facet::ALL {
            let rollups = diesel::sql_query(differences!(
                "statistics_rollups",
                "facet, bucket, value",
                "x.counts, x.wall, CASE WHEN $6 THEN x.business END",
                " AND x.facet = $3 AND x.grain = $4",
                " AND x.facet = $3 AND x.grain = $5"
            ));
            let rollups = rollups
                .bind::<Integer, _>(current.generation)
                .bind::<Integer, _>(new.generation)
                .bind::<Text, _>(facet)
                .bind::<SmallInt, _>(first)
                .bind::<SmallInt, _>(*second)
                .bind::<Bool, _>(same_hours);
            rows += rollups.get_result::<Differences>(conn).await?.rows;
        }
    }
    Ok(rows)
}

/// Compares the two generations, and lets the new one count.
async fn finish(
    conn: &mut TenantConn,
    current: &Generation,
    new: &Generation,
) -> Result<Progress, Error> {
    let rows = differences(conn, current, new).await?;
    diesel::delete(statistics_folds::table.find(current.generation))
        .execute(conn)
        .await?;
    let row: Generation = diesel::update(statistics_folds::table.find(new.generation))
        .set((
            statistics_folds::is_current.eq(true),
            statistics_folds::differences.eq(rows),
            statistics_folds::finished_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")),
        ))
        .returning(Generation::as_returning())
        .get_result(conn)
        .await?;
    Ok(row.into())
}

/// Removes some of what generations before the one that counts have left; tells whether there was
/// any.
async fn sweep(conn: &mut TenantConn) -> Result<bool, Error> {
    let current: i32 = statistics_folds::table
        .filter(statistics_folds::is_current)
        .select(statistics_folds::generation)
        .first(conn)
        .await?;
    let mut removed = 0;
    for rollup in ["statistics_states", "statistics_rollups"] {
        removed += diesel::sql_query(format!(
            "DELETE FROM {rollup} WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM {rollup} WHERE generation < $1 LIMIT 20000
             ))"
        ))
        .bind::<Integer, _>(current)
        .execute(conn)
        .await?;
    }
    Ok(removed > 0)
}
