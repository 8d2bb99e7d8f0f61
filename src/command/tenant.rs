//! `tenant`: tenants of a running server.

use std::error::Error;

use clap::{Args, Subcommand};

use super::client::{ClientArgs, ClientError};
use crate::pb;
use crate::pb::tenant_admin_service_client::TenantAdminServiceClient;

/// What `tenant` takes.
#[derive(Debug, Args)]
pub struct TenantArgs {
    #[command(subcommand)]
    command: TenantCommand,
}

#[derive(Debug, Subcommand)]
enum TenantCommand {
    /// Make a tenant, or finish one that was left half way
    Create {
        #[command(flatten)]
        client: ClientArgs,
        /// The slug, `[a-z0-9][a-z0-9_-]{0,39}`
        slug: String,
        /// The schema; left out: a name made from the tenant's id
        #[arg(long, default_value = "", hide_default_value = true)]
        schema_name: String,
    },
    /// List all tenants
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Runs a subcommand of `tenant`.
pub async fn run(args: TenantArgs) -> Result<(), Box<dyn Error>> {
    match args.command {
        TenantCommand::Create {
            client,
            slug,
            schema_name,
        } => {
            let client = client.connect().await?;
            let request = pb::InitializeTenantRequest {
                tenant: slug,
                schema_name,
            };
            let answer = TenantAdminServiceClient::new(client.channel.clone())
                .initialize_tenant(client.request(request))
                .await
                .map_err(ClientError::from)?
                .into_inner();
            let tenant = answer.tenant.unwrap_or_default();
            let what = if answer.created { "made" } else { "was there" };
            println!(
                "tenant {} {what}, schema {}",
                tenant.slug, tenant.schema_name
            );
        }
        TenantCommand::List { client } => {
            let client = client.connect().await?;
            let mut admin = TenantAdminServiceClient::new(client.channel.clone());
            let mut page_token = String::new();
            println!("{:<40} {:<14} {:<16} SCHEMA", "TENANT", "STATE", "VERSION");
            loop {
                let request = pb::ListTenantsRequest {
                    page_size: 500,
                    page_token,
                    show_deleted: false,
                };
                let page = admin
                    .list_tenants(client.request(request))
                    .await
                    .map_err(ClientError::from)?
                    .into_inner();
                for tenant in page.tenants {
                    let state = tenant
                        .state()
                        .as_str_name()
                        .trim_start_matches("TENANT_STATE_");
                    println!(
                        "{:<40} {:<14} {:<16} {}",
                        tenant.slug, state, tenant.schema_version, tenant.schema_name
                    );
                }
                if page.next_page_token.is_empty() {
                    break;
                }
                page_token = page.next_page_token;
            }
        }
    }
    Ok(())
}
