//! The migrations of the directory and of the tenants, and how they are run.

use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::error::{Conflict, Error};

/// The tables that all tenants share.
pub const DIRECTORY: EmbeddedMigrations = embed_migrations!("migrations/directory");
/// The tables that every tenant has.
pub const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A migration whose SQL is wrong, or does not fit what is there.
#[derive(Debug, thiserror::Error)]
#[error("migration `{name}` failed")]
pub struct FailedMigration {
    /// The migration.
    pub name: String,
    source: Source,
}

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
        let pending = wrapper.pending_migrations(migrations);
        for migration in pending.map_err(|source| failed(source, |source| source))? {
            let ran = wrapper.run_migration(&migration);
            ran.map_err(|source| {
                let name = migration.name().to_string();
                failed(source, |source| FailedMigration { name, source }.into())
            })?;
        }
        Ok(wrapper.into_inner())
    });
    ran.await.map_err(Error::internal)?
}

/// Tells a failure that is somebody's who was in the way, and names the others.
fn failed(source: Source, name: impl FnOnce(Source) -> Source) -> Error {
    // The library keeps its error's type to itself; its text ends in PostgreSQL's English words.
    let text = source.to_string();
    let in_the_way = [
        "canceling statement due to lock timeout",
        "deadlock detected",
    ];
    if in_the_way.iter().any(|words| text.ends_with(words)) {
        Error::Aborted(Conflict::Transaction)
    } else {
        Error::Internal(name(source))
    }
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
