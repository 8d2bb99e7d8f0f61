//! What becomes of a tenant after it was made: suspended, resumed, deleted, brought back, purged.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Text, Timestamptz};
use diesel_async::{
    AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _, TransactionManager as _,
};

use super::provision::{LOCK_TIMEOUT, Provisioner, Transactions, begin, next_epoch};
use super::schema_name::{SchemaName, Slug};
use super::tenant::{State, Tenant};
use crate::error::{Conflict, Error, Existing, Precondition};
use crate::etag::check_etag;
use crate::schema::directory::{installation, tenants};

/// How long a purge waits for who still uses something of the tenant.
const PURGE_LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an ended session may take to be gone, in milliseconds.
const END_TIMEOUT: i32 = 500;

/// How long a deleted tenant can be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace(Duration);

impl Grace {
    /// Takes a time of 1 hour to 365 days.
    pub fn new(time: Duration) -> Option<Self> {
        let (shortest, longest) = (Duration::from_hours(1), Duration::from_hours(365 * 24));
        (shortest..=longest).contains(&time).then_some(Self(time))
    }
}

impl Default for Grace {
    fn default() -> Self {
        Self(Duration::from_hours(30 * 24))
    }
}

/// What can be done to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Close it.
    Suspend,
    /// Open it again.
    Resume,
    /// Hide it, and purge it after a time.
    Delete(Grace),
    /// Bring it back.
    Undelete,
}

/// On which terms a tenant is changed.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Which etag it must have.
    pub etag: Option<String>,
    /// Whether to change nothing after all.
    pub validate_only: bool,
}

impl Terms {
    fn check(&self, tenant: &Tenant) -> Result<(), Error> {
        check_etag(self.etag.as_deref(), tenant.etag())
    }
}

/// Where a tenant stands, and since when.
#[derive(Debug, Clone, PartialEq, Eq, AsChangeset)]
#[diesel(table_name = tenants, treat_none_as_null = true)]
struct Standing {
    state: State,
    suspended_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
    purge_at: Option<DateTime<Utc>>,
}

impl Standing {
    fn of(tenant: &Tenant) -> Self {
        Self {
            state: tenant.state,
            suspended_at: tenant.suspended_at,
            deleted_at: tenant.deleted_at,
            purge_at: tenant.purge_at,
        }
    }
}

/// Returns where a tenant stands after a change; `None` where it stands there already.
fn after(tenant: &Tenant, change: Change, now: DateTime<Utc>) -> Result<Option<Standing>, Error> {
    let refuse =
        |why: fn(String) -> Precondition| Err(Error::FailedPrecondition(why(tenant.slug.clone())));
    let standing = Standing::of(tenant);
    let next = match (change, tenant.state) {
        (Change::Suspend | Change::Resume, State::Provisioning) => {
            return refuse(Precondition::TenantNotReady);
        }
        (Change::Suspend | Change::Resume, State::Deleted) => {
            return refuse(Precondition::TenantDeleted);
        }
        (Change::Suspend, State::Suspended) | (Change::Resume, State::Active) => return Ok(None),
        (Change::Suspend, State::Active) => Standing {
            state: State::Suspended,
            suspended_at: Some(now),
            ..standing
        },
        (Change::Resume, State::Suspended) => Standing {
            state: State::Active,
            suspended_at: None,
            ..standing
        },
        (Change::Delete(_), State::Deleted) => {
            return Err(Error::not_found("tenant", &tenant.slug));
        }
        (Change::Delete(grace), State::Provisioning | State::Active | State::Suspended) => {
            let grace = TimeDelta::from_std(grace.0).map_err(Error::internal)?;
            Standing {
                state: State::Deleted,
                deleted_at: Some(now),
                purge_at: Some(now + grace),
                ..standing
            }
        }
        (Change::Undelete, State::Deleted) => Standing {
            state: match tenant.suspended_at {
                _ if !tenant.is_built() => State::Provisioning,
                Some(_) => State::Suspended,
                None => State::Active,
            },
            deleted_at: None,
            purge_at: None,
            ..standing
        },
        (Change::Undelete, State::Provisioning | State::Active | State::Suspended) => {
            let live = Existing::LiveTenant(tenant.slug.clone());
            return Err(Error::AlreadyExists(live));
        }
    };
    Ok(Some(next))
}

/// Checks that a tenant may be removed for good.
fn check_purge(tenant: &Tenant, force: bool, now: DateTime<Utc>) -> Result<(), Error> {
    let refused = match tenant.purge_at {
        None => Precondition::TenantNotDeleted(tenant.slug.clone()),
        Some(purge_at) if purge_at > now && !force => Precondition::PurgeTimeNotReached {
            slug: tenant.slug.clone(),
            purge_time: purge_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        },
        Some(_) => return Ok(()),
    };
    Err(Error::FailedPrecondition(refused))
}

impl Provisioner {
    /// Changes where a tenant stands, and ends its sessions where it may have none; returns it as
    /// it stands then.
    ///
    /// # Errors
    /// There is no such tenant, its etag is another one, or where it stands does not allow it.
    pub async fn change(
        &self,
        slug: &Slug,
        change: Change,
        terms: &Terms,
    ) -> Result<Tenant, Error> {
        let mut conn = self.conn().await?;
        begin(&mut conn, LOCK_TIMEOUT).await?;
        let (tenant, now) = lock(&mut conn, slug).await?;
        terms.check(&tenant)?;
        let next = after(&tenant, change, now)?;
        let role = tenant.role_name.clone().filter(|_| tenant.is_built());
        let tenant = match next {
            None => tenant,
            Some(next) => {
                if let Some(role) = &role {
                    let login = match next.state {
                        State::Active => "LOGIN",
                        State::Provisioning | State::Suspended | State::Deleted => "NOLOGIN",
                    };
                    let alter = format!("ALTER ROLE \"{role}\" {login}");
                    conn.batch_execute(&alter).await?;
                }
                let epoch = next_epoch(&mut conn).await?;
                diesel::update(tenants::table)
                    .filter(tenants::id.eq(tenant.id))
                    .set((
                        next,
                        tenants::edit_version.eq(tenants::edit_version + 1),
                        tenants::epoch.eq(epoch),
                        tenants::updated_at.eq(now),
                    ))
                    .returning(Tenant::as_returning())
                    .get_result(&mut conn)
                    .await?
            }
        };
        if terms.validate_only {
            return Ok(tenant);
        }
        Transactions::commit_transaction(&mut conn).await?;
        // Only now can nobody log in any more. A repeated call ends what an interrupted one left.
        if let (State::Suspended | State::Deleted, Some(role)) = (tenant.state, &role) {
            end_sessions(&mut conn, role).await?;
        }
        Ok(tenant)
    }

    /// Removes a deleted tenant with all that it has, or nothing of it; returns it as it was.
    ///
    /// # Errors
    /// There is no such tenant, its etag is another one, it is not deleted, not for long enough
    /// and `force` is not given, or in use.
    pub async fn purge(&self, slug: &Slug, terms: &Terms, force: bool) -> Result<Tenant, Error> {
        let mut conn = self.conn().await?;
        begin(&mut conn, PURGE_LOCK_TIMEOUT).await?;
        let (tenant, now) = lock(&mut conn, slug).await?;
        terms.check(&tenant)?;
        check_purge(&tenant, force, now)?;
        if terms.validate_only {
            return Ok(tenant);
        }
        let removed = remove(&mut conn, &tenant).await;
        removed.map_err(|error| match error {
            // Somebody has a lock on one of its tables.
            Error::DeadlineExceeded => Error::Aborted(Conflict::Transaction),
            error => error,
        })?;
        Transactions::commit_transaction(&mut conn).await?;
        Ok(tenant)
    }
}

/// Finds a tenant and keeps others from changing it until the transaction ends; also tells the
/// time.
async fn lock(conn: &mut AsyncPgConnection, slug: &Slug) -> Result<(Tenant, DateTime<Utc>), Error> {
    let now = diesel::dsl::sql::<Timestamptz>("directory.now()");
    tenants::table
        .filter(tenants::slug.eq(slug.as_str()))
        .select((Tenant::as_select(), now))
        // Not FOR UPDATE: rows that refer to the tenant, such as those of the quarantine, go on.
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?
        .ok_or_else(|| Error::not_found("tenant", slug))
}

async fn remove(conn: &mut AsyncPgConnection, tenant: &Tenant) -> Result<(), Error> {
    // One that was never built has at most the name of a schema: somebody else's, perhaps.
    if tenant.is_built() {
        let schema = SchemaName::parse("schema_name", &tenant.schema_name)?;
        if let Some(role) = &tenant.role_name {
            end_sessions(conn, role).await?;
        }
        conn.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))
            .await?;
        if let Some(role) = &tenant.role_name {
            // What an operator may have granted it would keep the role from being dropped.
            conn.batch_execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""))
                .await?;
        }
    }
    Provisioner::note_purge(conn, tenant).await?;
    diesel::delete(tenants::table)
        .filter(tenants::id.eq(tenant.id))
        .execute(conn)
        .await?;
    let epoch = next_epoch(conn).await?;
    diesel::update(installation::table)
        .set(installation::purged_epoch.eq(epoch))
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends the sessions of a role that can no longer log in, and waits until they are gone.
async fn end_sessions(conn: &mut AsyncPgConnection, role: &str) -> Result<(), Error> {
    let end = format!(
        "SELECT pg_terminate_backend(pid, {END_TIMEOUT}) FROM pg_stat_activity WHERE usename = $1"
    );
    diesel::sql_query(end)
        .bind::<Text, _>(role)
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;
    use crate::tenant::Isolation;

    fn tenant(state: State, suspended: bool, built: bool) -> Tenant {
        let at = |day: i64| DateTime::from_timestamp(day * 86_400, 0).unwrap();
        let deleted = state == State::Deleted;
        Tenant {
            id: TenantId::new(),
            number: 1,
            slug: "acme".to_owned(),
            schema_name: "t_1".to_owned(),
            role_name: None,
            role_password: None,
            isolation: Isolation::SearchPath,
            state,
            schema_version: if built { "1" } else { "" }.to_owned(),
            epoch: 1,
            created_at: at(1),
            updated_at: at(1),
            edit_version: 1,
            suspended_at: suspended.then(|| at(2)),
            deleted_at: deleted.then(|| at(3)),
            purge_at: deleted.then(|| at(4)),
        }
    }

    #[test]
    fn a_tenant_goes_where_its_life_allows() {
        use State::{Active, Deleted, Provisioning, Suspended};
        let (made, half_way) = (true, false);
        let delete = Change::Delete(Grace::default());
        let now = DateTime::from_timestamp(10 * 86_400, 0).unwrap();
        // From, suspended, built, change: to; `None` where it stands there already.
        let ways = [
            (Active, false, made, Change::Suspend, Some(Suspended)),
            (Active, false, made, Change::Resume, None),
            (Active, false, made, delete, Some(Deleted)),
            (Suspended, true, made, Change::Suspend, None),
            (Suspended, true, made, Change::Resume, Some(Active)),
            (Suspended, true, made, delete, Some(Deleted)),
            (Provisioning, false, half_way, delete, Some(Deleted)),
            (Deleted, false, made, Change::Undelete, Some(Active)),
            (Deleted, true, made, Change::Undelete, Some(Suspended)),
            (
                Deleted,
                false,
                half_way,
                Change::Undelete,
                Some(Provisioning),
            ),
        ];
        for (from, suspended, built, change, to) in ways {
            let next = after(&tenant(from, suspended, built), change, now).unwrap();
            let what = format!("{change:?} of {from:?}");
            assert_eq!(next.as_ref().map(|next| next.state), to, "{what}");
            if let Some(next) = next {
                let deleted = next.state == Deleted;
                assert_eq!(next.deleted_at.is_some(), deleted, "{what}");
                assert_eq!(next.purge_at.is_some(), deleted, "{what}");
            }
        }
        let refused = [
            (Provisioning, Change::Suspend),
            (Provisioning, Change::Resume),
            (Provisioning, Change::Undelete),
            (Active, Change::Undelete),
            (Suspended, Change::Undelete),
            (Deleted, Change::Suspend),
            (Deleted, Change::Resume),
            (Deleted, delete),
        ];
        for (from, change) in refused {
            let next = after(&tenant(from, false, true), change, now);
            assert!(next.is_err(), "{change:?} of {from:?}");
        }
    }
}
