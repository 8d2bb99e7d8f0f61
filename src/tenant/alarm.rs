//! When something in a tenant is due: so that nobody has to look into every tenant to find out.
//!
//! An alarm is set before what is due is stored. A crash in between leaves an alarm too many, which
//! finds nothing to do; there is never one too few.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Double, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::directory::TenantDirectory;
use super::scope::TenantScope;
use crate::error::Error;
use crate::ids::TenantId;

/// How long after an alarm what it is for may be stored: longer than any call takes. A second
/// alarm finds what came too late for the first.
const LATEST_SECONDS: f64 = 120.0;
/// How long an alarm is had by who took it, in seconds.
const LEASE_SECONDS: f64 = 60.0;
/// How long until an alarm is heard again of whose tenant nothing could be done, in seconds.
const LATER_SECONDS: f64 = 60.0;

/// Sets an alarm for the time that an expression gives.
macro_rules! set_alarm {
    ($at:literal) => {
        concat!(
            "WITH wanted AS (SELECT ",
            $at,
            " AS at)
            INSERT INTO directory.alarms (tenant_id, due_at)
            SELECT $1, to_timestamp(ceil(extract(epoch FROM due)))
            FROM wanted, unnest(ARRAY[at,
                CASE WHEN at < directory.now() + make_interval(secs => $2)
                    THEN directory.now() + make_interval(secs => $2) END]) AS due
            WHERE due IS NOT NULL
            ON CONFLICT DO NOTHING"
        )
    };
}

/// Something is due in a tenant.
#[derive(Debug, QueryableByName)]
pub struct Alarm {
    /// The tenant.
    #[diesel(sql_type = sql_types::Uuid)]
    pub tenant_id: TenantId,
    /// Its slug.
    #[diesel(sql_type = Text)]
    pub slug: String,
    /// Since when.
    #[diesel(sql_type = Timestamptz)]
    pub due_at: DateTime<Utc>,
}

impl TenantDirectory {
    /// Sets an alarm for something that the caller is about to store, to the next full second: many
    /// that are due together are one.
    pub async fn set_alarm(&self, scope: &TenantScope, at: DateTime<Utc>) -> Result<(), Error> {
        let set = diesel::sql_query(set_alarm!("$3")).bind::<sql_types::Uuid, _>(scope.tenant_id());
        let set = set.bind::<Double, _>(LATEST_SECONDS);
        let set = set.bind::<Timestamptz, _>(at);
        set.execute(&mut self.directory_conn().await?).await?;
        Ok(())
    }

    /// Sets an alarm like [`set_alarm`](Self::set_alarm), for so much later.
    pub async fn set_alarm_in(&self, scope: &TenantScope, wait: Duration) -> Result<(), Error> {
        let at = set_alarm!("directory.now() + make_interval(secs => $3)");
        let set = diesel::sql_query(at).bind::<sql_types::Uuid, _>(scope.tenant_id());
        let set = set.bind::<Double, _>(LATEST_SECONDS);
        let set = set.bind::<Double, _>(wait.as_secs_f64());
        set.execute(&mut self.directory_conn().await?).await?;
        Ok(())
    }

    /// Takes alarms whose time has come, the earliest first. Those of tenants that are not in use
    /// wait until they are again.
    pub async fn take_alarms(&self, most: i64) -> Result<Vec<Alarm>, Error> {
        let taken = diesel::sql_query(
            "WITH due AS MATERIALIZED (
                SELECT a.tenant_id, a.due_at, t.slug
                FROM directory.alarms a JOIN directory.tenants t ON t.id = a.tenant_id
                WHERE a.due_at <= directory.now() AND t.state = 'active'
                    AND (a.leased_until IS NULL OR a.leased_until < directory.now())
                ORDER BY a.due_at LIMIT $1
                FOR UPDATE OF a SKIP LOCKED
            )
            UPDATE directory.alarms a SET leased_until = directory.now() + make_interval(secs => $2)
            FROM due WHERE a.tenant_id = due.tenant_id AND a.due_at = due.due_at
            RETURNING a.tenant_id, due.slug, a.due_at",
        )
        .bind::<BigInt, _>(most)
        .bind::<Double, _>(LEASE_SECONDS)
        .load(&mut self.directory_conn().await?)
        .await?;
        Ok(taken)
    }

    /// Ends an alarm that was seen to, and those before it, which had the same found to be due.
    pub async fn end_alarm(&self, alarm: &Alarm) -> Result<(), Error> {
        diesel::sql_query("DELETE FROM directory.alarms WHERE tenant_id = $1 AND due_at <= $2")
            .bind::<sql_types::Uuid, _>(alarm.tenant_id)
            .bind::<Timestamptz, _>(alarm.due_at)
            .execute(&mut self.directory_conn().await?)
            .await?;
        Ok(())
    }

    /// Lets an alarm be heard again later.
    pub async fn put_off_alarm(&self, alarm: &Alarm) -> Result<(), Error> {
        diesel::sql_query(
            "UPDATE directory.alarms SET leased_until = directory.now() + make_interval(secs => $3)
            WHERE tenant_id = $1 AND due_at = $2",
        )
        .bind::<sql_types::Uuid, _>(alarm.tenant_id)
        .bind::<Timestamptz, _>(alarm.due_at)
        .bind::<Double, _>(LATER_SECONDS)
        .execute(&mut self.directory_conn().await?)
        .await?;
        Ok(())
    }
}
