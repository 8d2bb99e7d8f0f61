//! The order of a conversation and of a channel that many write to at once: dense, and the same for
//! whoever pages through it meanwhile or hears of it, while servers and the database are killed.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use communication_service::pb::chat_service_client::ChatServiceClient;
use communication_service::pb::inbox_service_client::InboxServiceClient;
use communication_service::pb::{
    ChatChannelKind, CreateChannelRequest, CreateMessageRequest, ListEntriesRequest,
    ListMessagesRequest, PostEntryRequest,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::event_flood::{Pair, read, reconnect};
use crate::harness::{user, within};

const CREATED: [&str; 2] = ["message.created", "chat_entry.created"];

/// How much is written.
pub struct Load {
    /// By so many writers.
    pub writers: usize,
    /// So many messages in a conversation, and as many entries in a channel.
    pub messages: usize,
    /// And a server is killed so often meanwhile, and the database each second time.
    pub kills: usize,
}

/// Where all write.
#[derive(Clone)]
enum Place {
    Conversation(String),
    Channel(String),
}

/// A number and an id.
type Numbered = (i64, String);

impl Place {
    /// Writes once, to one server; with a file that there is not, where `file` has an id.
    async fn write(&self, server: Channel, text: &str, file: Option<Uuid>) -> Result<(), Status> {
        let attachment_ids = file.iter().map(Uuid::to_string).collect();
        match self {
            Self::Conversation(id) => {
                let request = CreateMessageRequest {
                    tenant: "acme".to_owned(),
                    conversation_id: id.clone(),
                    text: text.to_owned(),
                    request_id: text.to_owned(),
                    attachment_ids,
                    ..Default::default()
                };
                let mut inbox = InboxServiceClient::new(server);
                inbox.create_message(request).await.map(drop)
            }
            Self::Channel(id) => {
                let request = PostEntryRequest {
                    tenant: "acme".to_owned(),
                    actor: user("owner"),
                    channel_id: id.clone(),
                    text: text.to_owned(),
                    request_id: text.to_owned(),
                    attachment_ids,
                    ..Default::default()
                };
                let mut chat = ChatServiceClient::new(server);
                chat.post_entry(request).await.map(drop)
            }
        }
    }

    /// A page, and where the next begins.
    async fn page(&self, server: Channel, token: &str) -> Result<(Vec<Numbered>, String), Status> {
        match self {
            Self::Conversation(id) => {
                let request = ListMessagesRequest {
                    tenant: "acme".to_owned(),
                    conversation_id: id.clone(),
                    page_token: token.to_owned(),
                    ..Default::default()
                };
                let mut inbox = InboxServiceClient::new(server);
                let page = inbox.list_messages(request).await?.into_inner();
                let messages = page.messages.into_iter();
                let numbered = messages.map(|message| (message.sequence, message.id));
                Ok((numbered.collect(), page.next_page_token))
            }
            Self::Channel(id) => {
                let request = ListEntriesRequest {
                    tenant: "acme".to_owned(),
                    actor: user("owner"),
                    channel_id: id.clone(),
                    page_token: token.to_owned(),
                    ..Default::default()
                };
                let mut chat = ChatServiceClient::new(server);
                let page = chat.list_entries(request).await?.into_inner();
                let entries = page.entries.into_iter();
                let numbered = entries.map(|entry| (entry.sequence, entry.id));
                Ok((numbered.collect(), page.next_page_token))
            }
        }
    }

    /// Writes until it is acknowledged.
    async fn insist(&self, servers: &watch::Receiver<[Channel; 2]>, turn: usize, text: &str) {
        for attempt in turn.. {
            let server = servers.borrow()[attempt % 2].clone();
            match self.write(server, text, None).await {
                Ok(()) => return,
                // The connection ended, or the server says that it is worth another try.
                Err(status) => assert!(
                    status.source().is_some()
                        || matches!(status.code(), Code::Unavailable | Code::ResourceExhausted),
                    "{status}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Pages through it over and over as it grows, from where the page before ended, until all is
    /// there: nothing may come to be before what was seen.
    async fn follow(self, servers: watch::Receiver<[Channel; 2]>, all: usize) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        let (mut token, mut before) = (String::new(), 0);
        for visit in 0.. {
            let server = servers.borrow()[visit % 2].clone();
            let Ok((page, next)) = self.page(server, &token).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            for (place, (sequence, id)) in page.iter().enumerate() {
                let index = before + place;
                assert_eq!(usize::try_from(*sequence).unwrap(), index + 1);
                match seen.get(index) {
                    Some(known) => assert_eq!(known, id),
                    None => seen.push(id.clone()),
                }
            }
            if !next.is_empty() {
                before += page.len();
                token = next;
            } else if seen.len() == all {
                break;
            }
        }
        seen
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_the_order_is_dense_and_the_same_for_all() {
    write_at_once(Load {
        writers: 16,
        messages: 400,
        kills: 2,
    })
    .await;
}

/// Writes so much at once, and compares the orders that everybody has seen.
pub async fn write_at_once(load: Load) {
    let mut pair = Pair::start().await;
    let conversation = pair.tenant.conversation().await;
    let new = CreateChannelRequest {
        tenant: pair.tenant.slug(),
        actor: user("owner"),
        kind: ChatChannelKind::Public.into(),
        name: "all".to_owned(),
        ..Default::default()
    };
    let channel = pair.tenant.chat.clone().create_channel(new).await;
    let channel = channel.unwrap().into_inner().channel.unwrap();
    let places = [
        Place::Conversation(conversation.id),
        Place::Channel(channel.id),
    ];

    let (tell, expected) = watch::channel(None);
    let head = pair.head().await;
    let types: Vec<_> = CREATED.map(str::to_owned).into();
    let mut readers = JoinSet::new();
    for reader in 0..4 {
        let (types, head) = (types.clone(), head.clone());
        readers.spawn(read(pair.channels(), types, head, reader, expected.clone()));
    }
    let mut followers = Vec::new();
    for place in &places {
        let following = place.clone().follow(pair.channels(), load.messages);
        followers.push(tokio::spawn(following));
    }
    let (begun, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut writers = JoinSet::new();
    for _ in 0..load.writers {
        let (begun, written) = (begun.clone(), written.clone());
        let (places, servers) = (places.clone(), pair.channels());
        writers.spawn(async move {
            loop {
                let turn = begun.fetch_add(1, Ordering::Relaxed);
                if turn >= load.messages {
                    return;
                }
                for place in &places {
                    if turn % 10 == 7 {
                        let server = servers.borrow()[turn % 2].clone();
                        let none = Some(Uuid::now_v7());
                        let text = format!("never {turn}");
                        assert!(place.write(server, &text, none).await.is_err());
                    }
                    place.insist(&servers, turn, &format!("{turn}")).await;
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for kill in 1..=load.kills {
        let part = load.messages * kill / (load.kills + 1);
        within(Duration::from_secs(600), "much is written", async || {
            written.load(Ordering::Relaxed) >= part
        })
        .await;
        pair.kill(kill).await;
    }
    while writers.join_next().await.transpose().unwrap().is_some() {}

    let admin = reconnect(pair.database.url()).await;
    let schema = &pair.tenant.tenant.schema_name;
    for (place, follower) in places.iter().zip(followers) {
        let (table, parent, id) = match place {
            Place::Conversation(id) => ("inbox_messages", "conversation_id", id),
            Place::Channel(id) => ("chat_entries", "channel_id", id),
        };
        let ordered = async |sql: String| -> Vec<Numbered> {
            let rows = admin.query(&sql, &[]).await.unwrap();
            rows.iter().map(|row| (row.get(1), row.get(0))).collect()
        };
        let stored = ordered(format!(
            "SELECT id::text, sequence FROM {schema}.{table}
            WHERE {parent} = '{id}' ORDER BY sequence"
        ));
        let told = ordered(format!(
            "SELECT resource_id::text, sequence FROM {schema}.events
            WHERE parent_id = '{id}' AND kind = ANY ('{{{CREATED}}}') ORDER BY id",
            CREATED = CREATED.join(",")
        ));
        let (stored, told) = (stored.await, told.await);
        assert_eq!(told, stored);
        let (sequences, ids): (Vec<i64>, Vec<String>) = stored.into_iter().unzip();
        assert_eq!(sequences, (1..).take(load.messages).collect::<Vec<_>>());
        let seen = tokio::time::timeout(Duration::from_secs(60), follower).await;
        assert_eq!(seen.expect("all is seen").unwrap(), ids);
    }
    let log = pair.logged(&CREATED).await;
    assert_eq!(log.count, 2 * load.messages);
    tell.send_replace(Some(log.count));
    let log = log.end();
    let reading = async {
        while let Some(heard) = readers.join_next().await {
            assert_eq!(heard.unwrap(), log);
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
    read.expect("everything is heard");
    println!(
        "{} messages and as many entries by {} writers, {} kills: each order dense, and seen by all",
        load.messages, load.writers, load.kills
    );
    pair.stop().await;
}
