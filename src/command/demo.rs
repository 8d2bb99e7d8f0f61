//! `demo`: believable data on a running server, through the same calls as everybody's.

mod month;
mod stories;
mod talk;
mod team;
mod webhook;

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tonic::Request;
use tonic::transport::Channel;

use super::client::{Client, ClientArgs, ClientError};
use crate::call::CLOCK_OFFSET;
use crate::database::private::default_data_dir;
use crate::pb;
use crate::pb::chat_service_client::ChatServiceClient;
use crate::pb::inbox_service_client::InboxServiceClient;
use crate::pb::tenant_admin_service_client::TenantAdminServiceClient;

/// What `demo` takes.
#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(subcommand)]
    command: DemoCommand,
}

#[derive(Debug, Subcommand)]
enum DemoCommand {
    /// Make a tenant with believable conversations, a team that talks, and a month of work for its
    /// statistics
    Fill {
        #[command(flatten)]
        client: ClientArgs,
        /// The tenant to make or to add to
        #[arg(long, default_value = "demo", value_name = "SLUG")]
        tenant: String,
        /// How many days of work are told; the server must run in development for that
        #[arg(long, default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(0..=366))]
        days: u16,
    },
    /// Post a signed WhatsApp message to the server, as Meta would
    Webhook(Webhook),
}

/// What `demo webhook` takes.
#[derive(Debug, Args)]
struct Webhook {
    #[command(flatten)]
    client: ClientArgs,
    /// The tenant whose account it is for; one is connected if it has none
    #[arg(long, default_value = "acme", value_name = "SLUG")]
    tenant: String,
    /// The address of the server's HTTP port
    #[arg(
        long,
        env = "COMM_HTTP",
        default_value = "127.0.0.1:8010",
        value_name = "HOST:PORT"
    )]
    http: String,
    /// What the customer says
    #[arg(
        long,
        default_value = "Hello! Is the table by the window still free tonight?"
    )]
    text: String,
    /// The customer's phone number
    #[arg(long, default_value = "+15550109911", value_name = "NUMBER")]
    from: String,
    /// The customer's name
    #[arg(long, default_value = "Dana Whitfield", value_name = "NAME")]
    name: String,
    /// Where the secret of the demonstration's app is kept
    #[arg(long, env = "COMM_DATA_DIR", default_value_os_t = default_data_dir(), value_name = "FOLDER")]
    data_dir: PathBuf,
}

/// Runs a subcommand of `demo`.
pub async fn run(args: DemoArgs) -> Result<(), Box<dyn Error>> {
    match args.command {
        DemoCommand::Fill {
            client,
            tenant,
            days,
        } => fill(client.connect().await?, tenant, days).await,
        DemoCommand::Webhook(what) => {
            let client = what.client.connect().await?;
            webhook::post_message(&client, what).await
        }
    }
}

async fn fill(client: Client, tenant: String, days: u16) -> Result<(), Box<dyn Error>> {
    let request = pb::InitializeTenantRequest {
        tenant: tenant.clone(),
        schema_name: String::new(),
    };
    let mut admin = TenantAdminServiceClient::new(client.channel.clone());
    let made = admin.initialize_tenant(client.request(request)).await;
    made.map_err(ClientError::from)?;
    let teller = Teller { client, tenant };
    stories::make_quick_replies(&teller).await?;
    // The past first, so that the newest is at the top.
    month::tell(&teller, days).await?;
    stories::tell(&teller).await?;
    team::tell(&teller).await?;
    let counts = pb::GetConversationStatsRequest {
        tenant: teller.tenant.clone(),
        ..Default::default()
    };
    let mut inbox = teller.inbox();
    let counts = inbox
        .get_conversation_stats(teller.client.request(counts))
        .await;
    let counts = counts.map_err(ClientError::from)?.into_inner();
    let total = counts.counts.unwrap_or_default().total;
    let tenant = &teller.tenant;
    println!("tenant {tenant} has {total} conversations to look at; its statistics, for example:");
    println!(
        r#"communication-service call InboxService/GetResponseTimes '{{"tenant": "{tenant}", "group_by": "RESPONSE_TIMES_GROUPING_AGENT", "time_zone": "{}"}}'"#,
        month::ZONE
    );
    println!("and its team talks; what `lea` has to catch up with:");
    println!(
        r#"communication-service call ChatService/GetUnreadCounts '{{"tenant": "{tenant}", "actor": {{"user_id": "lea"}}}}'"#
    );
    Ok(())
}

/// Who tells the demonstration to the server.
struct Teller {
    client: Client,
    tenant: String,
}

impl Teller {
    fn inbox(&self) -> InboxServiceClient<Channel> {
        InboxServiceClient::new(self.client.channel.clone())
    }

    fn chat(&self) -> ChatServiceClient<Channel> {
        ChatServiceClient::new(self.client.channel.clone())
    }

    /// A request that happens so many seconds ago.
    fn ago<T>(&self, seconds: i64, message: T) -> Request<T> {
        let mut request = self.client.request(message);
        request
            .metadata_mut()
            .insert(CLOCK_OFFSET, (-seconds).into());
        request
    }
}

/// A user of the demonstration, as who acts.
fn user(id: &str) -> Option<pb::Actor> {
    Some(pb::Actor {
        kind: Some(pb::actor::Kind::UserId(id.to_owned())),
    })
}
