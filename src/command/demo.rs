//! `demo`: believable data on a running server, through the same calls as everybody's.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::client::{Client, ClientArgs, ClientError};
use crate::clock;
use crate::database::private::default_data_dir;
use crate::master_key::make_secret_file;
use crate::pb::connect_channel_account_request::Settings;
use crate::pb::inbox_service_client::InboxServiceClient;
use crate::pb::quick_reply_service_client::QuickReplyServiceClient;
use crate::pb::tenant_admin_service_client::TenantAdminServiceClient;
use crate::pb::{self, channel_account};
use crate::provider::meta;

/// What the demonstration's account and app are called by their provider.
const NUMBER: &str = "100000000000001";
const APP: &str = "100000000000000";
/// How long a posted message may take to be seen.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `demo` takes.
#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(subcommand)]
    command: DemoCommand,
}

#[derive(Debug, Subcommand)]
enum DemoCommand {
    /// Make a tenant with believable conversations
    Fill {
        #[command(flatten)]
        client: ClientArgs,
        /// The tenant to make or to add to
        #[arg(long, default_value = "demo", value_name = "SLUG")]
        tenant: String,
    },
    /// Post a signed WhatsApp message to the server, as Meta would
    Webhook {
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
    },
}

/// Runs a subcommand of `demo`.
pub async fn run(args: DemoArgs) -> Result<(), Box<dyn Error>> {
    match args.command {
        DemoCommand::Fill { client, tenant } => fill(&client.connect().await?, tenant).await,
        DemoCommand::Webhook {
            client,
            tenant,
            http,
            text,
            from,
            name,
            data_dir,
        } => {
            let client = client.connect().await?;
            let secret = app_secret(&data_dir)?;
            let (number, path) = connect(&client, &tenant, &secret).await?;
            let digits = from.trim_start_matches('+');
            let identifier = format!("+{digits}");
            let before = messages_of(&client, &tenant, &identifier).await?;
            let body = webhook(&number, digits, &name, &text).to_string();
            let status = post(&http, &path, &secret, body.as_bytes()).await?;
            if status != 200 {
                return Err(format!("the server answered {status}; its log says why").into());
            }
            println!("posted a message of {name} ({identifier}) to tenant {tenant}");
            // It is applied behind the answer; whoever lists next shall see it.
            let deadline = Instant::now() + PATIENCE;
            while messages_of(&client, &tenant, &identifier).await? <= before {
                if Instant::now() > deadline {
                    return Err("it has not been applied yet; the server's log says why".into());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        }
    }
}

/// Counts the messages of a customer's conversations.
async fn messages_of(client: &Client, tenant: &str, identifier: &str) -> Result<i64, ClientError> {
    let request = pb::ListConversationsRequest {
        tenant: tenant.to_owned(),
        channels: vec![pb::Channel::Whatsapp.into()],
        page_size: 500,
        ..Default::default()
    };
    let mut inbox = InboxServiceClient::new(client.channel.clone());
    let page = inbox.list_conversations(client.request(request)).await?;
    let theirs = page.into_inner().conversations.into_iter();
    let theirs = theirs.filter(|conversation| conversation.contact_identifier == identifier);
    Ok(theirs.map(|conversation| conversation.last_sequence).sum())
}

/// The secret of the demonstration's app: nobody else's on any server, and the same next time.
fn app_secret(data_dir: &std::path::Path) -> Result<String, Box<dyn Error>> {
    let path = data_dir.join("demo-app.secret");
    if !path.exists() {
        std::fs::create_dir_all(data_dir)?;
        let secret = [Uuid::new_v4(), Uuid::new_v4()].map(|half| half.simple().to_string());
        make_secret_file(&path, secret.concat().as_bytes())?;
    }
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

/// Connects the tenant's demonstration account; returns its number and the path of its webhook.
async fn connect(
    client: &Client,
    tenant: &str,
    secret: &str,
) -> Result<(String, String), Box<dyn Error>> {
    let mut admin = TenantAdminServiceClient::new(client.channel.clone());
    let list = pb::ListChannelAccountsRequest {
        tenant: tenant.to_owned(),
        page_size: 500,
        ..Default::default()
    };
    let accounts = admin.list_channel_accounts(client.request(list)).await;
    let accounts = accounts.map_err(ClientError::from)?.into_inner();
    let known = accounts.channel_accounts.into_iter().find_map(|account| {
        let Some(channel_account::Settings::Whatsapp(settings)) = account.settings else {
            return None;
        };
        (settings.app_id == APP).then_some(settings.phone_number_id)
    });
    // Each tenant has a number of its own; the first tenant has one that is easy to read.
    let numbers = match known {
        Some(number) => vec![number],
        None => {
            let other = Uuid::new_v4().as_u128() % 100_000_000_000_000;
            vec![NUMBER.to_owned(), format!("2{other:014}")]
        }
    };
    let mut refusal = None;
    for number in numbers {
        let request = pb::ConnectChannelAccountRequest {
            tenant: tenant.to_owned(),
            name: "Demonstration".to_owned(),
            settings: Some(Settings::Whatsapp(pb::WhatsappSettings {
                phone_number_id: number.clone(),
                app_id: APP.to_owned(),
                own_app: true,
                display_phone_number: "+1 555 000 1001".to_owned(),
                ..Default::default()
            })),
            whatsapp_secrets: Some(pb::WhatsappSecrets {
                app_secret: secret.to_owned(),
                ..Default::default()
            }),
        };
        match admin.connect_channel_account(client.request(request)).await {
            Ok(answer) => {
                let account = answer.into_inner().channel_account.unwrap_or_default();
                return Ok((number, account.webhook_path));
            }
            Err(status) => refusal = Some(status),
        }
        if refusal.as_ref().map(tonic::Status::code) != Some(tonic::Code::AlreadyExists) {
            break;
        }
    }
    let refusal = refusal.unwrap_or_else(|| tonic::Status::internal("no number to connect"));
    Err(ClientError::from(refusal).into())
}

/// A webhook with one text message, as Meta sends it.
fn webhook(number: &str, from: &str, name: &str, text: &str) -> Value {
    let id = format!("wamid.demo.{}", Uuid::now_v7().simple());
    json!({
        "object": "whatsapp_business_account",
        "entry": [{
            "id": "100000000000002",
            "changes": [{
                "field": "messages",
                "value": {
                    "messaging_product": "whatsapp",
                    "metadata": {
                        "display_phone_number": "15550001001",
                        "phone_number_id": number,
                    },
                    "contacts": [{"profile": {"name": name}, "wa_id": from}],
                    "messages": [{
                        "from": from,
                        "id": id,
                        "timestamp": clock::since_epoch().as_secs().to_string(),
                        "type": "text",
                        "text": {"body": text},
                    }],
                },
            }],
        }],
    })
}

async fn post(http: &str, path: &str, secret: &str, body: &[u8]) -> Result<u16, Box<dyn Error>> {
    let host = http.trim_start_matches("http://").trim_end_matches('/');
    let mut socket = TcpStream::connect(host)
        .await
        .map_err(|error| format!("no server listens at {host}: {error}"))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nx-hub-signature-256: {}\r\n\r\n",
        body.len(),
        meta::sign(secret, body)
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    let mut answer = Vec::new();
    socket.take(4096).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.ok_or_else(|| format!("{host} does not speak HTTP").into())
}

/// A customer of the demonstration, what they write about, and how it goes on.
struct Story {
    channel: pb::Channel,
    identifier: &'static str,
    name: &'static str,
    subject: &'static str,
    priority: pb::Priority,
    /// Who says what: `<` the customer, `>` an agent, `#` a note.
    lines: &'static [&'static str],
}

const STORIES: [Story; 6] = [
    Story {
        channel: pb::Channel::Whatsapp,
        identifier: "+15550109911",
        name: "Dana Whitfield",
        subject: "",
        priority: pb::Priority::Normal,
        lines: &[
            "<Hello! Is the table by the window still free tonight?",
            ">Hi Dana, it is. For how many people?",
            "<Four, at half past seven.",
            "#She was here in May and liked the corner, too.",
            ">Booked: four people, 19:30, by the window. See you tonight!",
            "<Perfect, thank you 🙏",
        ],
    },
    Story {
        channel: pb::Channel::Email,
        identifier: "jonas.berg@example.com",
        name: "Jonas Berg",
        subject: "Invoice 2026-118 has the wrong address",
        priority: pb::Priority::High,
        lines: &[
            "<Good morning,\n\nthe invoice still shows our old address. Could you send a corrected one?\n\nJonas Berg",
            "#Accounting has the new address since Monday.",
            ">Dear Jonas,\n\nI am sorry about that. The corrected invoice is on its way.\n\nKind regards\nMira",
        ],
    },
    Story {
        channel: pb::Channel::Instagram,
        identifier: "17841400000000001",
        name: "mila.paints",
        subject: "",
        priority: pb::Priority::Low,
        lines: &["<do you ship to Portugal?", "<and how long does it take?"],
    },
    Story {
        channel: pb::Channel::Web,
        identifier: "visitor-7f3a",
        name: "Visitor",
        subject: "Checkout",
        priority: pb::Priority::Urgent,
        lines: &[
            "<The checkout says 'card declined', but my bank says it went through",
            ">Thanks for telling us. Which order is it about?",
            "<4711",
            "#Payment provider has an incident since 10:40.",
        ],
    },
    Story {
        channel: pb::Channel::Messenger,
        identifier: "5550000000000017",
        name: "Luís Prado",
        subject: "",
        priority: pb::Priority::Normal,
        lines: &[
            "<Olá! Ainda têm a mesa do café?",
            ">Olá Luís, sim, ainda temos duas.",
        ],
    },
    Story {
        channel: pb::Channel::TwilioWhatsapp,
        identifier: "+4915550100",
        name: "佐藤 美咲",
        subject: "",
        priority: pb::Priority::Normal,
        lines: &["<予約を明日に変更できますか？"],
    },
];

async fn fill(client: &Client, tenant: String) -> Result<(), Box<dyn Error>> {
    let request = pb::InitializeTenantRequest {
        tenant: tenant.clone(),
        schema_name: String::new(),
    };
    let mut admin = TenantAdminServiceClient::new(client.channel.clone());
    let made = admin.initialize_tenant(client.request(request)).await;
    made.map_err(ClientError::from)?;
    let mut inbox = InboxServiceClient::new(client.channel.clone());
    for story in &STORIES {
        let request = pb::CreateConversationRequest {
            tenant: tenant.clone(),
            channel: story.channel.into(),
            contact_identifier: story.identifier.to_owned(),
            contact_name: story.name.to_owned(),
            subject: story.subject.to_owned(),
            priority: story.priority.into(),
            ..Default::default()
        };
        let answer = inbox.create_conversation(client.request(request)).await;
        let conversation = answer.map_err(ClientError::from)?.into_inner().conversation;
        let conversation = conversation.unwrap_or_default();
        // Told before: the stories are not told twice.
        if conversation.last_sequence > 0 {
            continue;
        }
        for line in story.lines {
            tell(client, &mut inbox, &tenant, &conversation.id, line).await?;
        }
        handle(client, &mut inbox, &tenant, story, &conversation.id).await?;
    }
    greet(client, &tenant).await?;
    println!(
        "tenant {tenant} has {} conversations to look at",
        STORIES.len()
    );
    Ok(())
}

fn mira() -> Option<pb::Actor> {
    Some(pb::Actor {
        kind: Some(pb::actor::Kind::UserId("mira".to_owned())),
    })
}

/// Does with a conversation what an agent does after writing: labels, gives and qualifies it,
/// and has read it.
async fn handle(
    client: &Client,
    inbox: &mut InboxServiceClient<tonic::transport::Channel>,
    tenant: &str,
    story: &Story,
    conversation: &str,
) -> Result<(), ClientError> {
    let (tenant, conversation_id) = (tenant.to_owned(), conversation.to_owned());
    let (labels, assignee_id, team_id) = match story.channel {
        pb::Channel::Whatsapp => (["reservation", "regular"].as_slice(), "mira", "service"),
        pb::Channel::Email => (["invoice"].as_slice(), "jon", "accounting"),
        pb::Channel::Web => (["checkout", "incident"].as_slice(), "", "service"),
        pb::Channel::Messenger => (["sale"].as_slice(), "mira", ""),
        // Nobody has looked at the others yet.
        _ => return Ok(()),
    };
    let update = pb::UpdateConversationRequest {
        tenant: tenant.clone(),
        actor: mira(),
        conversation_id: conversation_id.clone(),
        labels: labels.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    inbox.update_conversation(client.request(update)).await?;
    let assign = pb::AssignConversationRequest {
        tenant: tenant.clone(),
        actor: mira(),
        conversation_id: conversation_id.clone(),
        assignee_id: assignee_id.to_owned(),
        team_id: team_id.to_owned(),
        ..Default::default()
    };
    inbox.assign_conversation(client.request(assign)).await?;
    let read = pb::MarkConversationReadRequest {
        tenant: tenant.clone(),
        actor: mira(),
        conversation_id: conversation_id.clone(),
        sequence: 0,
    };
    inbox.mark_conversation_read(client.request(read)).await?;
    if story.channel == pb::Channel::Messenger {
        let qualify = pb::QualifyConversationRequest {
            tenant,
            actor: mira(),
            conversation_id,
            score: Some(70),
            notes: "Wants the coffee table, asks for the price next".to_owned(),
            ..Default::default()
        };
        inbox.qualify_conversation(client.request(qualify)).await?;
    }
    Ok(())
}

/// Makes the quick replies of the demonstration, once.
async fn greet(client: &Client, tenant: &str) -> Result<(), ClientError> {
    let replies = [
        (
            "hi",
            "Greeting",
            "Hi {{contact.first_name|there}}, how can I help?",
        ),
        (
            "hours",
            "Opening hours",
            "We are open from 9 to 18 o'clock, on Saturdays until 14 o'clock.",
        ),
    ];
    let mut quick_replies = QuickReplyServiceClient::new(client.channel.clone());
    for (shortcut, title, text) in replies {
        let request = pb::CreateQuickReplyRequest {
            tenant: tenant.to_owned(),
            request_id: format!("demo-{shortcut}"),
            shortcut: shortcut.to_owned(),
            title: title.to_owned(),
            text: text.to_owned(),
            ..Default::default()
        };
        let made = quick_replies.create_quick_reply(client.request(request));
        match made.await {
            Err(status) if status.code() == tonic::Code::AlreadyExists => {}
            made => drop(made?),
        }
    }
    Ok(())
}

async fn tell(
    client: &Client,
    inbox: &mut InboxServiceClient<tonic::transport::Channel>,
    tenant: &str,
    conversation: &str,
    line: &str,
) -> Result<(), ClientError> {
    let (who, text) = line.split_at(1);
    let (direction, actor) = match who {
        "<" => (pb::MessageDirection::Inbound, None),
        ">" => (pb::MessageDirection::Outbound, Some("mira")),
        _ => (pb::MessageDirection::Internal, Some("mira")),
    };
    let request = pb::CreateMessageRequest {
        tenant: tenant.to_owned(),
        actor: actor.map(|user| pb::Actor {
            kind: Some(pb::actor::Kind::UserId(user.to_owned())),
        }),
        conversation_id: conversation.to_owned(),
        direction: direction.into(),
        text: text.to_owned(),
        ..Default::default()
    };
    let message = inbox.create_message(client.request(request)).await?;
    let message = message.into_inner().message.unwrap_or_default();
    if direction == pb::MessageDirection::Outbound {
        let request = pb::UpdateMessageStatusRequest {
            tenant: tenant.to_owned(),
            message_id: message.id,
            status: pb::MessageStatus::Delivered.into(),
            ..Default::default()
        };
        inbox.update_message_status(client.request(request)).await?;
    }
    Ok(())
}
