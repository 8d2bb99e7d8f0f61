//! Tenants as the directory knows them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types;
use diesel_async::RunQueryDsl;

use super::conn::PooledConn;
use crate::error::Error;
use crate::ids::TenantId;
use crate::page::PageSize;
use crate::schema::directory::{installation, tenants};
use crate::stored_enum::stored_enum;

stored_enum! {
    /// Where a tenant stands.
    State {
        /// Its schema is being made.
        Provisioning = "provisioning",
        /// In use.
        Active = "active",
        /// Closed, and kept.
        Suspended = "suspended",
        /// Gone for everybody but who administers tenants, and kept for a while.
        Deleted = "deleted",
    }
}

stored_enum! {
    /// What keeps a tenant's data apart.
    Isolation {
        /// A role of its own.
        Role = "role",
        /// The search path alone.
        SearchPath = "search_path",
    }
}

/// A tenant.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = tenants, check_for_backend(diesel::pg::Pg))]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its number in advisory locks.
    pub number: i32,
    /// What callers name it by.
    pub slug: String,
    /// Its schema.
    pub schema_name: String,
    /// Its role, where it has one.
    pub role_name: Option<String>,
    /// Its role's password, sealed.
    pub role_password: Option<Vec<u8>>,
    /// What keeps its data apart.
    pub isolation: Isolation,
    /// Where it stands.
    pub state: State,
    /// The newest migration that its schema has.
    pub schema_version: String,
    /// The directory's epoch at its last change.
    pub epoch: i64,
    /// When it was first named.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Goes up with every change of where it stands.
    pub edit_version: i64,
    /// Since when it is suspended, also while it is deleted.
    pub suspended_at: Option<DateTime<Utc>>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// From when on it may be purged.
    pub purge_at: Option<DateTime<Utc>>,
}

impl Tenant {
    /// Stands for the edit version, and for this tenant among all that ever have its slug.
    pub fn etag(&self) -> String {
        format!("\"{}-{}\"", self.number, self.edit_version)
    }

    /// Tells whether its schema and role were made: in one transaction with the version.
    pub fn is_built(&self) -> bool {
        !self.schema_version.is_empty()
    }
}

/// Finds a tenant by slug.
pub async fn find(conn: &mut PooledConn, slug: &str) -> Result<Option<Tenant>, Error> {
    let tenant = tenants::table
        .filter(tenants::slug.eq(slug))
        .select(Tenant::as_select());
    Ok(tenant.first(conn).await.optional()?)
}

/// Lists tenants by slug, after a slug.
pub async fn list(
    conn: &mut PooledConn,
    size: PageSize,
    after: Option<String>,
    show_deleted: bool,
) -> Result<Vec<Tenant>, Error> {
    let mut page = tenants::table
        .filter(tenants::slug.gt(after.unwrap_or_default()))
        .order(tenants::slug)
        .limit(size.rows())
        .select(Tenant::as_select())
        .into_boxed();
    if !show_deleted {
        page = page.filter(tenants::state.ne(State::Deleted));
    }
    Ok(page.load(conn).await?)
}

/// A tenant whose schema is older than it should be.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = tenants, check_for_backend(diesel::pg::Pg))]
pub struct Outdated {
    /// Its id.
    pub id: TenantId,
    /// What callers name it by.
    pub slug: String,
    /// The newest migration that its schema has.
    pub schema_version: String,
}

/// Lists the tenants, or the one of a slug, that were built and are older than a version.
pub async fn outdated(
    conn: &mut PooledConn,
    newest: &str,
    only: Option<&str>,
) -> Result<Vec<Outdated>, Error> {
    let mut outdated = tenants::table
        .filter(tenants::schema_version.ne(""))
        .filter(tenants::schema_version.lt(newest))
        .order(tenants::slug)
        .select(Outdated::as_select())
        .into_boxed();
    if let Some(slug) = only {
        outdated = outdated.filter(tenants::slug.eq(slug));
    }
    Ok(outdated.load(conn).await?)
}

/// Lists the deleted tenants whose purge time has come, by slug, the longest overdue first.
pub async fn due(conn: &mut PooledConn) -> Result<Vec<String>, Error> {
    let due = tenants::table
        .filter(tenants::purge_at.le(diesel::dsl::sql("directory.now()")))
        .order(tenants::purge_at)
        .limit(1_000)
        .select(tenants::slug);
    Ok(due.load(conn).await?)
}

/// A schema to be cleaned.
#[derive(Debug, QueryableByName)]
pub struct Unclean {
    /// The tenant's id.
    #[diesel(sql_type = sql_types::Uuid)]
    pub id: TenantId,
    /// Its name.
    #[diesel(sql_type = sql_types::Text)]
    pub schema_name: String,
    /// The tenant's slug.
    #[diesel(sql_type = sql_types::Text)]
    pub slug: String,
}

/// Takes tenants on that were not cleaned within the hour, so that nobody else does.
pub async fn take_unclean(conn: &mut PooledConn, most: i64) -> Result<Vec<Unclean>, Error> {
    let taken = diesel::sql_query(
        "UPDATE directory.tenants SET cleaned_at = directory.now() WHERE id IN (
             SELECT id FROM directory.tenants
             WHERE schema_version <> '' AND cleaned_at < directory.now() - interval '1 hour'
             ORDER BY cleaned_at LIMIT $1
             FOR NO KEY UPDATE SKIP LOCKED
         ) RETURNING id, schema_name, slug",
    )
    .bind::<sql_types::BigInt, _>(most);
    Ok(taken.load(conn).await?)
}

/// The directory's epochs.
#[derive(Debug, Clone, Copy, Queryable, Selectable)]
#[diesel(table_name = installation, check_for_backend(diesel::pg::Pg))]
pub struct Epochs {
    /// At the last change of any tenant.
    pub epoch: i64,
    /// When a tenant was last purged.
    pub purged_epoch: i64,
}

/// Returns the directory's epochs.
pub async fn epochs(conn: &mut PooledConn) -> Result<Epochs, Error> {
    let epochs = installation::table.select(Epochs::as_select());
    Ok(epochs.first(conn).await?)
}

/// Returns those of some tenants that are still there.
pub async fn remaining(conn: &mut PooledConn, ids: &[TenantId]) -> Result<Vec<TenantId>, Error> {
    let there = tenants::table
        .filter(tenants::id.eq_any(ids))
        .select(tenants::id);
    Ok(there.load(conn).await?)
}

/// Lists the tenants that changed after an epoch.
pub async fn changed_since(conn: &mut PooledConn, epoch: i64) -> Result<Vec<Tenant>, Error> {
    let changed = tenants::table
        .filter(tenants::epoch.gt(epoch))
        .select(Tenant::as_select());
    Ok(changed.load(conn).await?)
}
