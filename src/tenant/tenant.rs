//! Tenants as the directory knows them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
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
) -> Result<Vec<Tenant>, Error> {
    let page = tenants::table
        .filter(tenants::slug.gt(after.unwrap_or_default()))
        .order(tenants::slug)
        .limit(size.rows())
        .select(Tenant::as_select());
    Ok(page.load(conn).await?)
}

/// Returns the directory's epoch.
pub async fn epoch(conn: &mut PooledConn) -> Result<i64, Error> {
    Ok(installation::table
        .select(installation::epoch)
        .first(conn)
        .await?)
}

/// Lists the tenants that changed after an epoch.
pub async fn changed_since(conn: &mut PooledConn, epoch: i64) -> Result<Vec<Tenant>, Error> {
    let changed = tenants::table
        .filter(tenants::epoch.gt(epoch))
        .select(Tenant::as_select());
    Ok(changed.load(conn).await?)
}
