//! Folds the log into the rollups, in its commit-safe order.
//!
//! The row of `statistics_folds` that says how far the rollups have come is locked while a batch is
//! folded, so that any number of servers may try at once. A reader adds what the log has beyond
//! that, so that nothing is ever missing from an answer.

use std::time::Instant;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::Value;

use super::hours::Hours;
use super::rollup::Tally;
use super::snapshot::{self, read_calendar, read_hours};
use crate::error::Error;
use crate::event::log;
use crate::schema::tenant::statistics_folds;
use crate::tenant::TenantConn;

/// How many events are folded in one transaction, at most.
const BATCH: i64 = 5_000;
/// As much of the log as a reader reads beside the rollups; beyond that, it folds first.
const LONGEST_TAIL: i64 = 1_000;
/// How long a reader folds, in milliseconds.
const READERS_TIME: u128 = 2_000;

/// Folds what is final of the log, if it is at least so many events.
///
/// # Errors
/// The database cannot be asked.
pub async fn catch_up(conn: &mut TenantConn, least: i64) -> Result<(), Error> {
    if distance(conn).await? < least.max(1) {
        return Ok(());
    }
    let Some(end) = log::settled(conn).await? else {
        return Ok(());
    };
    while fold_batch(conn, end).await? {}
    Ok(())
}

/// Folds before a reader reads, where there is much to fold; not for long.
pub async fn shorten(conn: &mut TenantConn) -> Result<(), Error> {
    if distance(conn).await? < LONGEST_TAIL {
        return Ok(());
    }
    let begun = Instant::now();
    if let Some(end) = log::settled(conn).await? {
        while fold_batch(conn, end).await? && begun.elapsed().as_millis() < READERS_TIME {}
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Distance {
    #[diesel(sql_type = BigInt)]
    events: i64,
}

/// How many events the rollups are behind, at most.
async fn distance(conn: &mut TenantConn) -> Result<i64, Error> {
    let Distance { events } = diesel::sql_query(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END - position AS events
         FROM events_id_seq, statistics_folds WHERE is_current",
    )
    .get_result(conn)
    .await?;
    Ok(events)
}

/// A generation of the rollups.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = statistics_folds, check_for_backend(diesel::pg::Pg))]
pub struct Generation {
    /// Its number.
    pub generation: i32,
    /// Whether it is the one that counts.
    pub is_current: bool,
    /// What the log tells up to here is in, or will be when it is built.
    pub position: i64,
    /// The business hours that its durations are counted by.
    pub hours: Value,
    /// The zones whose days and months it has.
    pub time_zones: Vec<Option<String>>,
    /// While it is built: the changes up to this one are in.
    pub changes_position: Option<i64>,
    /// While it is built: the messages before this time are in.
    pub messages_at: Option<DateTime<Utc>>,
    /// How many rows of the one before it were different.
    pub differences: Option<i64>,
    /// When it was begun.
    pub started_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Locks the generation that counts.
pub async fn lock(conn: &mut TenantConn) -> Result<Generation, Error> {
    loop {
        let current = statistics_folds::table
            .filter(statistics_folds::is_current)
            .select(Generation::as_select())
            .for_update();
        // Where another has taken its place while this waited for its lock, none is found; the next
        // statement sees that one.
        if let Some(current) = current.first(conn).await.optional()? {
            return Ok(current);
        }
    }
}

/// Folds a batch into the rollups that count; tells whether there is more.
async fn fold_batch(conn: &mut TenantConn, end: i64) -> Result<bool, Error> {
    conn.transaction(async |conn| {
        let current = lock(conn).await?;
        let up_to = end.min(current.position + BATCH);
        fold(conn, &current, up_to).await?;
        Ok(up_to < end)
    })
    .await
}

/// Folds a part of the log, which is final, into the rollups of a generation, which are locked.
pub async fn fold(conn: &mut TenantConn, into: &Generation, up_to: i64) -> Result<(), Error> {
    let after = into.position;
    if up_to <= after {
        return Ok(());
    }
    let mut tally = Tally::new(&read_calendar(&into.time_zones)?);
    for message in snapshot::messages(conn, after, up_to).await? {
        tally.count(&message.occurrence());
    }
    fold_changes(conn, tally, into, after, up_to).await?;
    diesel::update(statistics_folds::table.find(into.generation))
        .set(statistics_folds::position.eq(up_to))
        .execute(conn)
        .await?;
    Ok(())
}

/// Folds the changes in a part of the log, and what was tallied beside them.
pub async fn fold_changes(
    conn: &mut TenantConn,
    mut tally: Tally,
    into: &Generation,
    after: i64,
    up_to: i64,
) -> Result<(), Error> {
    let hours: Vec<Hours> = read_hours(into.hours.clone())?;
    for change in snapshot::changes(conn, after, up_to).await? {
        for occurrence in change.occurrences() {
            tally.count(&occurrence);
        }
        if let Some(duration) = change.duration(&hours) {
            tally.last(&duration);
        }
    }
    tally.store(conn, into.generation).await?;
    fold_states(conn, into.generation, after, up_to).await
}

/// What the changes `c` do to the numbers of conversations in each state: one less in the state
/// before, one more in the state after, under the empty label and under each of its own. Those of
/// an erased person are in none.
macro_rules! state_changes {
    () => {
        "SELECT l.label, s.status, (
                SELECT i.channel_account_id
                FROM inbox_conversations v JOIN contact_identities i ON i.id = v.contact_identity_id
                WHERE v.id = c.conversation_id
            ) AS channel_account_id, s.assignee_id, s.team_id, s.priority, s.is_qualified,
            s.is_unread, s.is_waiting, s.is_snoozed, s.conversations
        FROM conversation_changes c CROSS JOIN LATERAL (
            SELECT c.status, coalesce(c.assignee_id, '') AS assignee_id,
                coalesce(c.team_id, '') AS team_id, c.priority, c.is_qualified, c.is_unread,
                c.is_waiting, c.snoozed_until IS NOT NULL AS is_snoozed, c.labels,
                1::bigint AS conversations
            WHERE c.kind <> 'erased'
            UNION ALL
            SELECT c.old_status, coalesce(c.old_assignee_id, ''), coalesce(c.old_team_id, ''),
                c.old_priority, c.was_qualified, c.was_unread, c.was_waiting,
                c.old_snoozed_until IS NOT NULL, c.old_labels, -1
            WHERE c.old_status IS NOT NULL
        ) s CROSS JOIN LATERAL (
            SELECT '' AS label UNION ALL SELECT unnest(s.labels)
        ) l"
    };
}

pub(super) use state_changes;

async fn fold_states(
    conn: &mut TenantConn,
    generation: i32,
    after: i64,
    up_to: i64,
) -> Result<(), Error> {
    diesel::sql_query(concat!(
        "INSERT INTO statistics_states AS r (generation, label, status, channel_account_id,
             assignee_id, team_id, priority, is_qualified, is_unread, is_waiting, is_snoozed,
             conversations)
         SELECT $1, label, status, channel_account_id, assignee_id, team_id, priority, is_qualified,
             is_unread, is_waiting, is_snoozed, sum(conversations)
         FROM (",
        state_changes!(),
        " WHERE c.id > $2 AND c.id <= $3) n
         GROUP BY label, status, channel_account_id, assignee_id, team_id, priority, is_qualified,
             is_unread, is_waiting, is_snoozed
         HAVING sum(conversations) <> 0
         ON CONFLICT ON CONSTRAINT statistics_states_pkey
         DO UPDATE SET conversations = r.conversations + excluded.conversations"
    ))
    .bind::<Integer, _>(generation)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(up_to)
    .execute(conn)
    .await?;
    // States that no conversation is in any more; nobody reads them, and few are left.
    diesel::sql_query("DELETE FROM statistics_states WHERE generation = $1 AND conversations = 0")
        .bind::<Integer, _>(generation)
        .execute(conn)
        .await?;
    Ok(())
}
