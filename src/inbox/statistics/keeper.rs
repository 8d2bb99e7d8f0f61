//! Keeps the rollups close to the log, so that readers have little to add: folds a tenant after so
//! many writes on this server, and whenever it is visited.

use std::time::Duration;

use super::{fold, rebuild};
use crate::error::{Chain, Error};
use crate::tenant::{Due, TenantDirectory, TenantScope};

/// How often tenants are looked for whose log has grown.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After how many writes a tenant is folded.
const WRITES: u32 = 256;
/// How long one tenant's rebuilding keeps the others waiting.
const REBUILDING: Duration = Duration::from_secs(5);

/// Works until the service ends.
pub async fn run(tenants: TenantDirectory) {
    loop {
        for (tenant, due) in tenants.take_due(WRITES) {
            match keep(&tenant, due).await {
                Ok(true) => {}
                Ok(false) => tenants.visit_soon(tenant.slug()),
                Err(error) => {
                    let slug = tenant.slug();
                    tracing::warn!(tenant.slug = slug, error = %Chain(&error), "statistics cannot be kept");
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks after one tenant; tells whether nothing is left to do.
async fn keep(tenant: &TenantScope, due: Due) -> Result<bool, Error> {
    let mut conn = tenant.conn().await?;
    match due {
        // Not every writer has written.
        Due::Writes => {
            fold::catch_up(&mut conn, WRITES.into()).await?;
            Ok(true)
        }
        Due::Visit => {
            fold::catch_up(&mut conn, 1).await?;
            rebuild::go_on(&mut conn, REBUILDING).await
        }
    }
}
