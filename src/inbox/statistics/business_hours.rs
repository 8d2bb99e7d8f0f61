//! The business hours of a tenant and of its teams.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

pub use super::hours::Interval;

use super::hours::Hours;
use super::snapshot;
use crate::error::Error;
use crate::etag::{check_etag, etag};
use crate::event::log::{self, Change};
use crate::schema::tenant::business_hours;
use crate::tenant::TenantConn;

/// Business hours, and what was made of them.
#[derive(Debug)]
pub struct BusinessHours {
    /// When work is done.
    pub hours: Hours,
    /// Goes up with every change.
    pub version: i64,
    /// When they last changed; `None` for hours that were never set.
    pub updated_at: Option<DateTime<Utc>>,
    /// Whether durations are still counted by those before.
    pub is_recomputing: bool,
}

/// What to change: what is `None` stays.
#[derive(Debug)]
pub struct BusinessHoursPatch {
    /// Of which team; empty for those that have none of their own.
    pub team_id: String,
    /// The etag that they must have.
    pub etag: Option<String>,
    /// Where the clock hangs.
    pub time_zone: Option<Tz>,
    /// When work is done.
    pub intervals: Option<Vec<Interval>>,
    /// When it is not.
    pub holidays: Option<Vec<NaiveDate>>,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = business_hours, check_for_backend(Pg))]
struct Row {
    id: Uuid,
    team_id: String,
    time_zone: String,
    intervals: Value,
    holidays: Vec<Option<NaiveDate>>,
    version: i64,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn hours(&self) -> Result<Hours, Error> {
        let time_zone = self.time_zone.parse();
        Ok(Hours {
            team_id: self.team_id.clone(),
            time_zone: time_zone.map_err(|_| Error::internal("a time zone is not known"))?,
            intervals: serde_json::from_value(self.intervals.clone()).map_err(Error::internal)?,
            holidays: self.holidays.iter().flatten().copied().collect(),
        })
    }
}

/// The hours of who never set any.
fn unset(team_id: &str) -> Hours {
    Hours {
        team_id: team_id.to_owned(),
        time_zone: Tz::UTC,
        intervals: Vec::new(),
        holidays: Vec::new(),
    }
}

/// Returns all business hours, in the order of their teams.
pub async fn all(conn: &mut TenantConn) -> Result<Vec<Hours>, Error> {
    let rows: Vec<Row> = business_hours::table
        .filter(business_hours::version.gt(0))
        .order(business_hours::team_id)
        .select(Row::as_select())
        .load(conn)
        .await?;
    rows.iter().map(Row::hours).collect()
}

/// Tells whether durations are counted by other hours than those that are set.
pub async fn have_changed(conn: &mut TenantConn) -> Result<bool, Error> {
    let counted = snapshot::current(conn).await?.hours;
    Ok(counted != all(conn).await?)
}

/// Returns the business hours of a team, or of those that have none of their own.
pub async fn get(conn: &mut TenantConn, team_id: &str) -> Result<BusinessHours, Error> {
    let row: Option<Row> = business_hours::table
        .filter(business_hours::team_id.eq(team_id))
        .filter(business_hours::version.gt(0))
        .select(Row::as_select())
        .first(conn)
        .await
        .optional()?;
    Ok(BusinessHours {
        hours: row
            .as_ref()
            .map_or_else(|| Ok(unset(team_id)), Row::hours)?,
        version: row.as_ref().map_or(0, |row| row.version),
        updated_at: row.map(|row| row.updated_at),
        is_recomputing: have_changed(conn).await?,
    })
}

/// Changes business hours, and returns them as they are then.
///
/// # Errors
/// Their etag is another one.
pub async fn update(
    conn: &mut TenantConn,
    patch: BusinessHoursPatch,
) -> Result<BusinessHours, Error> {
    let team_id = patch.team_id.clone();
    conn.transaction(async |conn| change(conn, patch).await)
        .await?;
    get(conn, &team_id).await
}

async fn change(conn: &mut TenantConn, patch: BusinessHoursPatch) -> Result<(), Error> {
    // A row of version 0 says nothing; it is there to be locked.
    diesel::insert_into(business_hours::table)
        .values((
            business_hours::id.eq(Uuid::now_v7()),
            business_hours::team_id.eq(&patch.team_id),
            business_hours::time_zone.eq(Tz::UTC.name()),
            business_hours::intervals.eq(Value::Array(Vec::new())),
            business_hours::holidays.eq(Vec::<NaiveDate>::new()),
            business_hours::version.eq(0),
            business_hours::created_at.eq(sql::<Timestamptz>("directory.now()")),
            business_hours::updated_at.eq(sql::<Timestamptz>("directory.now()")),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    let row: Row = business_hours::table
        .filter(business_hours::team_id.eq(&patch.team_id))
        .select(Row::as_select())
        .for_update()
        .first(conn)
        .await?;
    check_etag(patch.etag.as_deref(), etag(row.version))?;
    let old = row.hours()?;
    let new = Hours {
        team_id: patch.team_id,
        time_zone: patch.time_zone.unwrap_or(old.time_zone),
        intervals: patch.intervals.unwrap_or_else(|| old.intervals.clone()),
        holidays: patch.holidays.unwrap_or_else(|| old.holidays.clone()),
    };
    let mut changed = Vec::new();
    if new.time_zone != old.time_zone {
        changed.push("time_zone");
    }
    if new.intervals != old.intervals {
        changed.push("intervals");
    }
    if new.holidays != old.holidays {
        changed.push("holidays");
    }
    if changed.is_empty() {
        return Ok(());
    }
    let intervals = serde_json::to_value(&new.intervals).map_err(Error::internal)?;
    diesel::update(business_hours::table.find(row.id))
        .set((
            business_hours::time_zone.eq(new.time_zone.name()),
            business_hours::intervals.eq(intervals),
            business_hours::holidays.eq(new.holidays),
            business_hours::version.eq(row.version + 1),
            business_hours::updated_at.eq(sql::<Timestamptz>("directory.now()")),
        ))
        .execute(conn)
        .await?;
    let change = Change {
        kind: "business_hours.updated",
        resource_kind: "business_hours",
        resource_id: row.id,
        parent_id: None,
        sequence: None,
        version: row.version + 1,
        changed,
    };
    log::append(conn, change).await
}
