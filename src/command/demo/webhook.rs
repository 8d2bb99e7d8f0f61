//! `demo webhook`: a customer's message, as Meta posts it.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::{Client, ClientError, Webhook};
use crate::clock;
use crate::master_key::make_secret_file;
use crate::pb::connect_channel_account_request::Settings;
use crate::pb::inbox_service_client::InboxServiceClient;
use crate::pb::tenant_admin_service_client::TenantAdminServiceClient;
use crate::pb::{self, channel_account};
use crate::provider::signature::meta;

/// What the demonstration's account and app are called by their provider.
const NUMBER: &str = "100000000000001";
const APP: &str = "100000000000000";
/// How long a posted message may take to be seen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Posts a message, and waits until it can be seen.
pub async fn post_message(client: &Client, what: Webhook) -> Result<(), Box<dyn Error>> {
    let Webhook {
        tenant,
        http,
        text,
        from,
        name,
        data_dir,
        ..
    } = what;
    let secret = app_secret(&data_dir)?;
    let (number, path) = connect(client, &tenant, &secret).await?;
    let digits = from.trim_start_matches('+');
    let identifier = format!("+{digits}");
    let before = messages_of(client, &tenant, &identifier).await?;
    let body = webhook(&number, digits, &name, &text).to_string();
    let status = post(&http, &path, &secret, body.as_bytes()).await?;
    if status != 200 {
        return Err(format!("the server answered {status}; its log says why").into());
    }
    println!("posted a message of {name} ({identifier}) to tenant {tenant}");
    // It is applied behind the answer; whoever lists next shall see it.
    let deadline = Instant::now() + PATIENCE;
    while messages_of(client, &tenant, &identifier).await? <= before {
        if Instant::now() > deadline {
            return Err("it has not been applied yet; the server's log says why".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
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
fn app_secret(data_dir: &Path) -> Result<String, Box<dyn Error>> {
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
            ..Default::default()
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
