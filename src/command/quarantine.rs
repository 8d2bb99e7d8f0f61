//! `quarantine`: items of webhooks that could not be applied, on a running server.

use std::borrow::Cow;
use std::error::Error;

use clap::{Args, Subcommand};
use serde_json::Value;
use tonic::transport::Channel as Connection;

use super::client::{Client, ClientArgs, ClientError};
use super::output::{Output, OutputArgs, print, time, to_value};
use crate::pb;
use crate::pb::tenant_admin_service_client::TenantAdminServiceClient;

/// How many items are asked for at once.
const PAGE: i32 = 500;

/// What `quarantine` takes.
#[derive(Debug, Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List what could not be applied, the oldest first, with the reasons
    List {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        of: OfArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// List what has been replayed too
        #[arg(long)]
        show_replayed: bool,
    },
    /// Try once more to apply one item, or all; what was applied before is not applied again
    Replay {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        of: OfArgs,
        /// The items, as `list` shows them
        #[arg(
            value_name = "DELIVERY/ITEM",
            required_unless_present = "all",
            conflicts_with_all = ["all", "channel"]
        )]
        items: Vec<Place>,
        /// Replay all items
        #[arg(long)]
        all: bool,
    },
}

/// Which items.
#[derive(Debug, Clone, Args)]
struct OfArgs {
    /// Only of this tenant, by slug; left out: of all, and of nobody known
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "SLUG"
    )]
    tenant: String,
    /// Only of this channel, such as `whatsapp`
    #[arg(long, value_parser = channel, value_name = "CHANNEL")]
    channel: Option<pb::Channel>,
}

fn channel(word: &str) -> Result<pb::Channel, String> {
    let name = format!("CHANNEL_{}", word.to_uppercase());
    pb::Channel::from_str_name(&name).ok_or_else(|| "is no channel".to_owned())
}

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    delivery_id: String,
    item: i32,
}

impl std::str::FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (delivery, item) = text.split_once('/').ok_or("has no `/`")?;
        Ok(Self {
            delivery_id: delivery.to_owned(),
            item: item.parse().map_err(|_| "does not end in a number")?,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.delivery_id, self.item)
    }
}

impl From<&pb::QuarantinedItem> for Place {
    fn from(item: &pb::QuarantinedItem) -> Self {
        Self {
            delivery_id: item.delivery_id.clone(),
            item: item.item,
        }
    }
}

/// A connection to the server of the items.
struct Quarantine {
    client: Client,
    calls: TenantAdminServiceClient<Connection>,
    of: OfArgs,
}

impl Quarantine {
    async fn connect(client: &ClientArgs, of: OfArgs) -> Result<Self, ClientError> {
        let client = client.connect().await?;
        let calls = TenantAdminServiceClient::new(client.channel.clone());
        Ok(Self { client, calls, of })
    }

    /// A page of items, and the token of the next one.
    async fn page(
        &mut self,
        show_replayed: bool,
        page_token: String,
    ) -> Result<(Vec<pb::QuarantinedItem>, String), ClientError> {
        let request = pb::ListQuarantinedItemsRequest {
            tenant: self.of.tenant.clone(),
            channel: self.of.channel.map_or(0, i32::from),
            page_size: PAGE,
            page_token,
            show_replayed,
        };
        let request = self.client.request(request);
        let page = self.calls.list_quarantined_items(request).await?;
        let page = page.into_inner();
        Ok((page.items, page.next_page_token))
    }

    /// Replays an item, and tells what came of it; says whether it worked.
    async fn replay(&mut self, place: Place) -> bool {
        let name = place.to_string();
        let request = pb::ReplayQuarantinedItemRequest {
            tenant: self.of.tenant.clone(),
            delivery_id: place.delivery_id,
            item: place.item,
        };
        let request = self.client.request(request);
        let answer = self.calls.replay_quarantined_item(request).await;
        match answer.map_err(ClientError::from) {
            Ok(answer) => {
                let item = answer.into_inner().item.unwrap_or_default();
                if item.replay_time.is_some() {
                    println!("{name}: replayed");
                    return true;
                }
                println!("{name}: stays, {}: {}", reason(&item), detail(&item));
            }
            Err(error) => println!("{name}: {error}"),
        }
        false
    }
}

/// Runs a subcommand of `quarantine`.
pub async fn run(args: QuarantineArgs) -> Result<(), Box<dyn Error>> {
    match args.command {
        QuarantineCommand::List {
            client,
            of,
            output,
            show_replayed,
        } => {
            let quarantine = Quarantine::connect(&client, of).await?;
            list(quarantine, show_replayed, output.output).await
        }
        QuarantineCommand::Replay {
            client,
            of,
            items,
            all,
        } => {
            let mut quarantine = Quarantine::connect(&client, of).await?;
            let (mut tried, mut replayed) = (0_usize, 0_usize);
            let (mut places, mut page_token) = (items, String::new());
            loop {
                if all {
                    let (found, next) = quarantine.page(false, page_token).await?;
                    places = found.iter().map(Place::from).collect();
                    page_token = next;
                }
                for place in std::mem::take(&mut places) {
                    tried += 1;
                    replayed += usize::from(quarantine.replay(place).await);
                }
                if page_token.is_empty() {
                    break;
                }
            }
            println!("{replayed} of {tried} items replayed");
            match tried - replayed {
                0 => Ok(()),
                left => Err(format!("{left} items could not be replayed").into()),
            }
        }
    }
}

/// Writes all items, page by page.
async fn list(
    mut quarantine: Quarantine,
    show_replayed: bool,
    output: Output,
) -> Result<(), Box<dyn Error>> {
    if output == Output::Table {
        println!(
            "{:<40} {:<20} {:<16} {:<15} {:<20} {:<20} DETAIL",
            "DELIVERY/ITEM", "TENANT", "CHANNEL", "REASON", "CREATED", "REPLAYED"
        );
    }
    let (mut values, mut page_token) = (Vec::new(), String::new());
    loop {
        let (items, next) = quarantine.page(show_replayed, page_token).await?;
        for item in &items {
            match output {
                Output::Table => println!("{}", line(item)),
                Output::Json => values.push(to_value("QuarantinedItem", item)?),
            }
        }
        if next.is_empty() {
            break;
        }
        page_token = next;
    }
    match output {
        Output::Table => Ok(()),
        Output::Json => print(&Value::Array(values)),
    }
}

fn line(item: &pb::QuarantinedItem) -> String {
    let place = Place::from(item).to_string();
    let channel = item.channel().as_str_name();
    let channel = channel.trim_start_matches("CHANNEL_").to_lowercase();
    let line = format!(
        "{:<40} {:<20} {:<16} {:<15} {:<20} {:<20} {}",
        place,
        item.tenant,
        channel,
        reason(item),
        time(item.create_time.as_ref()),
        time(item.replay_time.as_ref()),
        detail(item)
    );
    line.trim_end().to_owned()
}

/// What is known beside the reason: for whom it waits, or what is wrong with it.
fn detail(item: &pb::QuarantinedItem) -> Cow<'_, str> {
    if item.reason() != pb::QuarantineReason::UnknownAccount || item.route_key.is_empty() {
        return Cow::Borrowed(&item.detail);
    }
    let is = match item.detail.as_str() {
        "" => "it is not connected",
        detail => detail,
    };
    Cow::Owned(format!("account `{}`: {is}", item.route_key))
}

fn reason(item: &pb::QuarantinedItem) -> &'static str {
    let reason = item.reason().as_str_name();
    reason.trim_start_matches("QUARANTINE_REASON_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_says_for_which_account() {
        let mut item = pb::QuarantinedItem {
            route_key: "418203377100456".to_owned(),
            reason: pb::QuarantineReason::UnknownAccount.into(),
            ..Default::default()
        };
        let words = detail(&item).into_owned();
        assert_eq!(words, "account `418203377100456`: it is not connected");
        "the account is disabled".clone_into(&mut item.detail);
        let words = detail(&item).into_owned();
        assert_eq!(words, "account `418203377100456`: the account is disabled");
        item.reason = pb::QuarantineReason::Unreadable.into();
        assert_eq!(detail(&item), "the account is disabled");
    }

    #[test]
    fn a_place_is_a_delivery_and_a_number() {
        let text = "01890000-0000-7000-8000-000000000000/12";
        let expected = Place {
            delivery_id: "01890000-0000-7000-8000-000000000000".to_owned(),
            item: 12,
        };
        assert_eq!(expected.to_string(), text);
        assert_eq!(text.parse(), Ok(expected));
        for wrong in ["", "01890000", "01890000/", "01890000/x", "a/1/2"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
