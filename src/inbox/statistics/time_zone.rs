//! The time zones whose days and months the rollups have: those in which statistics are read.

use chrono_tz::Tz;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::calendar::Calendar;
use super::snapshot;
use crate::error::Error;
use crate::tenant::TenantConn;

/// How many zones beside UTC have days of their own.
const MOST: i64 = 8;

/// Remembers that a zone is asked for, once a day; tells whether it did. One is forgotten after 30
/// days in which nobody asks for it, and one too many is not remembered.
///
/// # Errors
/// The database cannot be asked.
pub async fn ask(conn: &mut TenantConn, zone: Tz) -> Result<bool, Error> {
    if zone == Tz::UTC {
        return Ok(false);
    }
    let asked = diesel::sql_query(
        "INSERT INTO statistics_time_zones (time_zone, asked_at)
         SELECT $1, directory.now()
         WHERE NOT EXISTS (
             SELECT FROM statistics_time_zones
             WHERE time_zone = $1 AND asked_at > directory.now() - interval '1 day'
         ) AND (
             SELECT count(*) FROM statistics_time_zones
             WHERE time_zone <> $1 AND asked_at > directory.now() - interval '30 days'
         ) < $2
         ON CONFLICT (time_zone) DO UPDATE SET asked_at = excluded.asked_at",
    );
    let asked = asked.bind::<Text, _>(zone.name()).bind::<BigInt, _>(MOST);
    Ok(asked.execute(conn).await? > 0)
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    time_zone: String,
}

/// The zones that the rollups are to have.
pub async fn wanted(conn: &mut TenantConn) -> Result<Calendar, Error> {
    let names: Vec<Name> = diesel::sql_query(
        "SELECT time_zone FROM statistics_time_zones
         WHERE asked_at > directory.now() - interval '30 days' ORDER BY time_zone",
    )
    .load(conn)
    .await?;
    let names = names.iter().map(|name| name.time_zone.as_str());
    Calendar::of([Tz::UTC.name()].into_iter().chain(names))
}

/// Tells whether the rollups lack a zone.
pub async fn is_missing(conn: &mut TenantConn) -> Result<bool, Error> {
    let counted = snapshot::current(conn).await?.calendar;
    let wanted = wanted(conn).await?;
    let mut zones = wanted.zones().iter();
    Ok(!zones.all(|zone| counted.zones().contains(zone)))
}
