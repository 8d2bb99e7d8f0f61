//! Migrates the tenants whose schemas are older than this server, and tells how far it is.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};

use super::directory::TenantDirectory;
use super::installation::random;
use super::provision::CONNECTIONS;
use super::schema_name::Slug;
use super::tenant::Outdated;
use crate::database::migration::FailedMigration;
use crate::error::{Chain, Error};

/// How often a migration comes back that gave way to who used the tables.
const ATTEMPTS: u32 = 20;
/// The longest pause before it does, in milliseconds; on average half of it.
const LONGEST_PAUSE: u64 = 2_000;

/// How far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// How many tenants were outdated at the start.
    pub total: usize,
    /// How many of them were told of.
    pub told: usize,
    /// How many have the newest version.
    pub done: usize,
    /// How many failed.
    pub failed: usize,
    /// The newest version.
    pub newest: String,
    /// What happened last.
    pub last: Option<Migrated>,
}

/// What became of one tenant.
#[derive(Debug, Clone)]
pub struct Migrated {
    /// The tenant's slug.
    pub slug: String,
    /// The version that it had.
    pub from_version: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Migrates the tenants, or the one of a slug; with `dry`, only tells which it would. The stream
/// does the work while it is read: who stops reading stops the migration, after a whole tenant.
///
/// # Errors
/// There is no such tenant, or it is still being made.
pub async fn run(
    tenants: &TenantDirectory,
    only: Option<&Slug>,
    dry: bool,
) -> Result<impl Stream<Item = Progress> + Send + use<>, Error> {
    let outdated = tenants.outdated(only).await?;
    let begin = Progress {
        total: outdated.len(),
        told: 0,
        done: 0,
        failed: 0,
        newest: tenants.newest().to_owned(),
        last: None,
    };
    let tenants = tenants.clone();
    // Each in a task of its own: a caller that stops reading must not stop one half way, with its
    // locks.
    let migrated = stream::iter(outdated)
        .map(move |tenant| {
            let slug = tenant.slug.clone();
            let from_version = tenant.schema_version.clone();
            let migrating = tokio::spawn(migrate(tenants.clone(), tenant, dry));
            async move {
                migrating.await.unwrap_or_else(|_| Migrated {
                    slug,
                    from_version,
                    error: Some(
                        "the migration panicked, the server's log has the cause".to_owned(),
                    ),
                })
            }
        })
        .buffer_unordered(CONNECTIONS);
    let mut progress = begin.clone();
    let told = migrated.map(move |migrated| {
        progress.told += 1;
        match &migrated.error {
            _ if dry => {}
            None => progress.done += 1,
            Some(_) => progress.failed += 1,
        }
        progress.last = Some(migrated);
        progress.clone()
    });
    Ok(stream::iter([begin]).chain(told))
}

/// Migrates all tenants, and writes to the log what came of it.
pub async fn at_start(tenants: TenantDirectory) {
    let mut progress = match run(&tenants, None, false).await {
        Ok(progress) => std::pin::pin!(progress),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the tenants could not be migrated");
            return;
        }
    };
    while let Some(told) = progress.next().await {
        if told.told == told.total && told.total > 0 {
            tracing::info!(done = told.done, failed = told.failed, "tenants migrated");
        }
    }
}

async fn migrate(tenants: TenantDirectory, outdated: Outdated, dry: bool) -> Migrated {
    let outcome = if dry {
        Ok(())
    } else {
        insist(&tenants, &outdated).await
    };
    let error = outcome.err().map(|error| {
        tracing::error!(
            tenant.slug = outdated.slug,
            error = %Chain(&error),
            "a tenant could not be migrated"
        );
        describe(&error)
    });
    Migrated {
        slug: outdated.slug,
        from_version: outdated.schema_version,
        error,
    }
}

/// Tries again where somebody was in the way, after a pause in which those who wait are served.
async fn insist(tenants: &TenantDirectory, outdated: &Outdated) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match tenants.migrate(outdated).await {
            Err(Error::DeadlineExceeded | Error::Aborted(_)) if attempt < ATTEMPTS => {
                attempt += 1;
                let pause = random()? % LONGEST_PAUSE;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Says why a tenant failed, without words of the database.
fn describe(error: &Error) -> String {
    match error {
        Error::DeadlineExceeded | Error::Aborted(_) => {
            "its tables were in use all the time, try again when they are less so".to_owned()
        }
        Error::Internal(source) => match source.downcast_ref::<FailedMigration>() {
            Some(failed) => format!("{failed}, the server's log has the cause"),
            None => error.to_string(),
        },
        error => error.to_string(),
    }
}
