//! The migrations of the directory and of the tenants, and how they are run.

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::error::Error;

/// The tables that all tenants share.
pub const DIRECTORY: EmbeddedMigrations = embed_migrations!("migrations/directory");
/// The tables that every tenant has.
pub const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");

/// Runs what a schema lacks, on a connection whose search path is that schema. A transaction that
/// is open stays open, so that a schema is migrated as a whole or not at all.
///
/// # Errors
/// A migration failed; the connection is gone with it.
pub async fn run(
    conn: AsyncPgConnection,
    migrations: EmbeddedMigrations,
) -> Result<AsyncPgConnection, Error> {
    // The wrapper blocks its thread on each statement.
    let ran = tokio::task::spawn_blocking(move || {
        let mut wrapper: AsyncConnectionWrapper<AsyncPgConnection> = conn.into();
        wrapper.run_pending_migrations(migrations)?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(wrapper.into_inner())
    });
    ran.await.map_err(Error::internal)?.map_err(Error::internal)
}

/// The newest version that `migrations` lead to.
///
/// # Errors
/// The migrations of this binary are not in order.
pub fn newest(migrations: &EmbeddedMigrations) -> Result<String, Error> {
    let all = MigrationSource::<Pg>::migrations(migrations).map_err(Error::internal)?;
    let versions = all
        .iter()
        .map(|migration| migration.name().version().to_string());
    Ok(versions.max().unwrap_or_default())
}
