//! `migrate`: the tenants of a running server, brought to its version.

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};

use clap::Args;

use super::client::{ClientArgs, ClientError};
use crate::pb;
use crate::pb::tenant_admin_service_client::TenantAdminServiceClient;

/// How wide the bar is, in characters.
const WIDTH: usize = 40;

/// What `migrate` takes.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Migrate this tenant alone, by slug
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "SLUG"
    )]
    tenant: String,
    /// Tell which tenants are older than the server, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Migrates, and shows how far it is: a bar on a terminal, a line for each tenant elsewhere.
pub async fn run(args: MigrateArgs) -> Result<(), Box<dyn Error>> {
    let client = args.client.connect().await?;
    let request = pb::MigrateTenantsRequest {
        tenant: args.tenant,
        validate_only: args.dry_run,
    };
    let mut progress = TenantAdminServiceClient::new(client.channel.clone())
        .migrate_tenants(client.request(request))
        .await
        .map_err(ClientError::from)?
        .into_inner();
    let shows_bar = !args.dry_run && std::io::stderr().is_terminal();
    let mut failures = Vec::new();
    let mut last = pb::MigrateTenantsResponse::default();
    while let Some(told) = progress.message().await.map_err(ClientError::from)? {
        if shows_bar {
            eprint!("\r{}", bar(&told));
            std::io::stderr().flush()?;
        } else if let Some(line) = line(&told, args.dry_run) {
            println!("{line}");
        }
        failures.extend(
            told.migration
                .clone()
                .filter(|migration| !migration.error.is_empty()),
        );
        last = told;
    }
    if shows_bar {
        eprintln!();
    }
    if !last.finished {
        return Err("the server stopped on the way; run this again to go on from there".into());
    }
    let version = &last.schema_version;
    if args.dry_run {
        println!("{} tenants are older than {version}", last.total);
    } else {
        println!(
            "{} of {} tenants migrated to {version}",
            last.done, last.total
        );
    }
    for failure in &failures {
        eprintln!("{}: {}", failure.tenant, failure.error);
    }
    match failures.len() {
        0 => Ok(()),
        failed => Err(format!("{failed} tenants could not be migrated").into()),
    }
}

/// How far it is, in one line that the next one covers.
fn bar(told: &pb::MigrateTenantsResponse) -> String {
    let tried = usize::try_from(told.total - told.remaining).unwrap_or(0);
    let total = usize::try_from(told.total).unwrap_or(0).max(1);
    let filled = (tried * WIDTH / total).min(WIDTH);
    let (full, empty) = ("#".repeat(filled), ".".repeat(WIDTH - filled));
    let failed = match told.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    format!("[{full}{empty}] {tried} of {}{failed}", told.total)
}

/// What became of the tenant that a message tells of.
fn line(told: &pb::MigrateTenantsResponse, dry: bool) -> Option<String> {
    let migration = told.migration.as_ref()?;
    let (slug, from) = (&migration.tenant, &migration.from_version);
    let version = &told.schema_version;
    Some(match migration.error.as_str() {
        "" if dry => format!("{slug}: would go from {from} to {version}"),
        "" => format!("{slug}: from {from} to {version}"),
        error => format!("{slug}: FAILED, stays at {from}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end_and_tells_of_failures() {
        let told = |total, remaining, failed| pb::MigrateTenantsResponse {
            total,
            remaining,
            failed,
            ..Default::default()
        };
        let begun = bar(&told(8, 8, 0));
        assert_eq!(begun, format!("[{}] 0 of 8", ".".repeat(40)));
        let (half, full) = ("#".repeat(20), "#".repeat(40));
        let half_way = bar(&told(8, 4, 1));
        assert_eq!(
            half_way,
            format!("[{half}{}] 4 of 8, 1 failed", ".".repeat(20))
        );
        assert_eq!(bar(&told(8, 0, 0)), format!("[{full}] 8 of 8"));
        assert_eq!(bar(&told(0, 0, 0)), format!("[{}] 0 of 0", ".".repeat(40)));
    }
}
