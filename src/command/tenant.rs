//! `tenant`: the tenants of a running server.

use std::error::Error;

use clap::{Args, Subcommand};
use serde_json::Value;
use tonic::transport::Channel;

use super::client::{Client, ClientArgs, ClientError};
use super::output::{self, Output, OutputArgs, print};
use crate::pb;
use crate::pb::tenant_admin_service_client::TenantAdminServiceClient;

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

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
        one: OneArgs,
        /// The schema; left out: a name made from the tenant's id
        #[arg(long, default_value = "", hide_default_value = true)]
        schema_name: String,
    },
    /// Show a tenant
    Get(OneArgs),
    /// List all tenants
    List {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// List deleted ones too
        #[arg(long)]
        show_deleted: bool,
    },
    /// Close a tenant; its data stays
    Suspend(OneArgs),
    /// Open a suspended tenant again
    Resume(OneArgs),
    /// Delete a tenant, so that it can be brought back for a while
    Delete {
        #[command(flatten)]
        one: OneArgs,
        /// For how many days it can be brought back; left out: 30
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=365))]
        grace_days: Option<u16>,
        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Bring a deleted tenant back
    Undelete(OneArgs),
    /// Remove a deleted tenant and all its data for good
    Purge {
        #[command(flatten)]
        one: OneArgs,
        /// Remove it although it could still be brought back
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        consent: ConsentArgs,
    },
}

/// One tenant of a server.
#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The slug, `[a-z0-9][a-z0-9_-]{0,39}`
    slug: String,
}

#[derive(Debug, Args)]
struct ConsentArgs {
    /// Do it; without this, only tell what would be done
    #[arg(long)]
    yes: bool,
}

impl ConsentArgs {
    /// Names the tenant that something is about to happen to; goes on only where that is wanted.
    fn check(&self, what: &str, tenant: &pb::Tenant) -> Result<(), String> {
        let (slug, schema) = (&tenant.slug, &tenant.schema_name);
        let target = format!("tenant `{slug}` with schema `{schema}`");
        if self.yes {
            eprintln!("{target}: {what}");
            Ok(())
        } else {
            Err(format!("{target} would be {what}; say --yes to do it"))
        }
    }
}

/// A connection to the server of the tenants.
struct Tenants {
    client: Client,
    calls: TenantAdminServiceClient<Channel>,
}

impl Tenants {
    async fn connect(client: &ClientArgs) -> Result<Self, ClientError> {
        let client = client.connect().await?;
        let calls = TenantAdminServiceClient::new(client.channel.clone());
        Ok(Self { client, calls })
    }

    async fn get(&mut self, slug: &str) -> Result<pb::Tenant, ClientError> {
        let request = pb::GetTenantRequest {
            tenant: slug.to_owned(),
        };
        let answer = self.calls.get_tenant(self.client.request(request)).await?;
        Ok(answer.into_inner().tenant.unwrap_or_default())
    }

    async fn list(&mut self, show_deleted: bool) -> Result<Vec<pb::Tenant>, ClientError> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListTenantsRequest {
                page_size: 500,
                page_token,
                show_deleted,
            };
            let request = self.client.request(request);
            let page = self.calls.list_tenants(request).await?.into_inner();
            all.extend(page.tenants);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }
}

/// Runs a subcommand of `tenant`.
pub async fn run(args: TenantArgs) -> Result<(), Box<dyn Error>> {
    match args.command {
        TenantCommand::Create { one, schema_name } => {
            let mut tenants = Tenants::connect(&one.client).await?;
            let request = tenants.client.request(pb::InitializeTenantRequest {
                tenant: one.slug,
                schema_name,
            });
            let answer = tenants.calls.initialize_tenant(request).await;
            let answer = answer.map_err(ClientError::from)?.into_inner();
            let what = if answer.created { "made" } else { "was there" };
            tell(one.output, what, answer.tenant)
        }
        TenantCommand::Get(one) => {
            let mut tenants = Tenants::connect(&one.client).await?;
            let tenant = tenants.get(&one.slug).await?;
            match one.output.output {
                Output::Table => show(&[tenant]),
                Output::Json => print(&to_value(&tenant)?),
            }
        }
        TenantCommand::List {
            client,
            output,
            show_deleted,
        } => {
            let tenants = Tenants::connect(&client).await?.list(show_deleted).await?;
            match output.output {
                Output::Table => show(&tenants),
                Output::Json => {
                    let values: Result<Vec<_>, _> = tenants.iter().map(to_value).collect();
                    print(&Value::Array(values?))
                }
            }
        }
        TenantCommand::Suspend(one) => {
            let mut tenants = Tenants::connect(&one.client).await?;
            let request = tenants.client.request(pb::SuspendTenantRequest {
                tenant: one.slug,
                ..Default::default()
            });
            let answer = tenants.calls.suspend_tenant(request).await;
            let tenant = answer.map_err(ClientError::from)?.into_inner().tenant;
            tell(one.output, "suspended", tenant)
        }
        TenantCommand::Resume(one) => {
            let mut tenants = Tenants::connect(&one.client).await?;
            let request = tenants.client.request(pb::ResumeTenantRequest {
                tenant: one.slug,
                ..Default::default()
            });
            let answer = tenants.calls.resume_tenant(request).await;
            let tenant = answer.map_err(ClientError::from)?.into_inner().tenant;
            tell(one.output, "resumed", tenant)
        }
        TenantCommand::Delete {
            one,
            grace_days,
            consent,
        } => {
            let mut tenants = Tenants::connect(&one.client).await?;
            let tenant = tenants.get(&one.slug).await?;
            consent.check("deleted", &tenant)?;
            let grace_period = grace_days.map(|days| prost_types::Duration {
                seconds: i64::from(days) * SECONDS_OF_A_DAY,
                nanos: 0,
            });
            let request = tenants.client.request(pb::DeleteTenantRequest {
                tenant: tenant.slug,
                etag: tenant.etag,
                grace_period,
                ..Default::default()
            });
            let answer = tenants.calls.delete_tenant(request).await;
            let tenant = answer.map_err(ClientError::from)?.into_inner().tenant;
            tell(one.output, "deleted", tenant)
        }
        TenantCommand::Undelete(one) => {
            let mut tenants = Tenants::connect(&one.client).await?;
            let request = tenants.client.request(pb::UndeleteTenantRequest {
                tenant: one.slug,
                ..Default::default()
            });
            let answer = tenants.calls.undelete_tenant(request).await;
            let tenant = answer.map_err(ClientError::from)?.into_inner().tenant;
            tell(one.output, "undeleted", tenant)
        }
        TenantCommand::Purge {
            one,
            force,
            consent,
        } => {
            let mut tenants = Tenants::connect(&one.client).await?;
            let tenant = tenants.get(&one.slug).await?;
            consent.check("purged, with all its data and for good", &tenant)?;
            let request = tenants.client.request(pb::PurgeTenantRequest {
                tenant: tenant.slug,
                etag: tenant.etag,
                force,
                ..Default::default()
            });
            let answer = tenants.calls.purge_tenant(request).await;
            let tenant = answer.map_err(ClientError::from)?.into_inner().tenant;
            tell(one.output, "purged", tenant)
        }
    }
}

/// Says what happened to a tenant, or shows it as it stands.
fn tell(output: OutputArgs, what: &str, tenant: Option<pb::Tenant>) -> Result<(), Box<dyn Error>> {
    let tenant = tenant.unwrap_or_default();
    match output.output {
        Output::Json => print(&to_value(&tenant)?),
        Output::Table => {
            let (slug, schema) = (&tenant.slug, &tenant.schema_name);
            let until = match &tenant.purge_time {
                Some(_) if what == "deleted" => {
                    format!(", can be brought back until {}", purge_time(&tenant))
                }
                _ => String::new(),
            };
            println!("tenant {slug} {what}, schema {schema}{until}");
            Ok(())
        }
    }
}

fn show(tenants: &[pb::Tenant]) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<40} {:<12} {:<14} {:<34} PURGE TIME",
        "TENANT", "STATE", "VERSION", "SCHEMA"
    );
    for tenant in tenants {
        let state = tenant.state().as_str_name();
        let state = state.trim_start_matches("TENANT_STATE_");
        let line = format!(
            "{:<40} {:<12} {:<14} {:<34} {}",
            tenant.slug,
            state,
            tenant.schema_version,
            tenant.schema_name,
            purge_time(tenant)
        );
        println!("{}", line.trim_end());
    }
    Ok(())
}

fn purge_time(tenant: &pb::Tenant) -> String {
    output::time(tenant.purge_time.as_ref())
}

/// A tenant as JSON.
fn to_value(tenant: &pb::Tenant) -> Result<Value, Box<dyn Error>> {
    output::to_value("Tenant", tenant)
}
