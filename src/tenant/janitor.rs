//! Removes what was kept long enough: purges deleted tenants whose time has come, forgets request
//! ids, removes files that nobody needs.
//!
//! Every server has one, and they share the work: a tenant is taken on by whoever marks it first,
//! and who finds it marked goes on to the next. The database's clock decides what is due.

use std::time::Duration;

use super::directory::TenantDirectory;
use super::installation::random;
use super::life::Terms;
use super::schema_name::Slug;
use crate::error::{Chain, Error};

/// The longest wait before the first round, in milliseconds: servers that start together spread
/// out.
const FIRST: u64 = 2_000;
/// How often there is a round, on average, in milliseconds.
const EVERY: u64 = 60_000;
/// How many tenants are taken on together; the connection goes back after them.
const BATCH: i64 = 20;

/// Works until the directory is gone.
pub async fn run(tenants: impl Fn() -> Option<TenantDirectory>) {
    let mut longest = FIRST;
    loop {
        let wait = random().unwrap_or_default() % longest;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        longest = 2 * EVERY;
        let Some(tenants) = tenants() else {
            return;
        };
        if let Err(error) = purge_due(&tenants).await {
            tracing::warn!(error = %Chain(&error), "the janitor could not purge tenants");
        }
        if let Err(error) = tenants.remove_leftovers().await {
            tracing::warn!(error = %Chain(&error), "the janitor could not remove files");
        }
        if let Err(error) = clean(&tenants).await {
            tracing::warn!(error = %Chain(&error), "the janitor could not clean up");
        }
    }
}

async fn purge_due(tenants: &TenantDirectory) -> Result<(), Error> {
    for slug in tenants.due().await? {
        let slug = Slug::parse("tenant", &slug)?;
        match tenants.purge(&slug, &Terms::default(), false).await {
            Ok(_) => tracing::info!(tenant.slug = %slug, "tenant purged, its time has come"),
            // Another server was faster, or it was brought back.
            Err(Error::NotFound { .. } | Error::FailedPrecondition(_)) => {}
            Err(error) => {
                let error = Chain(&error);
                tracing::warn!(tenant.slug = %slug, %error, "a tenant could not be purged");
            }
        }
    }
    Ok(())
}

async fn clean(tenants: &TenantDirectory) -> Result<(), Error> {
    while tenants.clean(BATCH).await? {}
    Ok(())
}
