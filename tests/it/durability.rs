//! What was acknowledged stays, and is there once: beside a killed service, a connection that
//! ends at the worst moment, a database that goes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use communication_service::database::private::PrivateServer;
use communication_service::pb::inbox_service_client::InboxServiceClient;
use communication_service::pb::{
    ChatChannelKind, CreateChannelRequest, CreateConversationRequest, CreateMessageRequest,
    Message, PostEntryRequest,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{
    Folder, Relay, Service, TestServer, TestTenant, Whatsapp, connect, durable, eventually, sample,
    user,
};

/// Sends a message until somebody acknowledges it, to whichever service runs.
async fn insist(
    services: &mut watch::Receiver<Channel>,
    request: &CreateMessageRequest,
    refused: &AtomicUsize,
) -> Message {
    loop {
        let channel = services.borrow_and_update().clone();
        let answer = InboxServiceClient::new(channel)
            .create_message(request.clone())
            .await;
        match answer {
            Ok(answer) => return answer.into_inner().message.unwrap(),
            Err(_) => {
                refused.fetch_add(1, Ordering::Relaxed);
                let next = tokio::time::timeout(Duration::from_secs(20), services.changed());
                next.await.expect("another service").unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_at_full_speed_loses_and_doubles_nothing() {
    kill_and_count(3).await;
}

/// Kills the service so often while messages are sent, and counts them in the end.
pub async fn kill_and_count(kills: usize) {
    let folder = Folder::new();
    let database = durable(&folder).await;
    let service = Service::start(&folder, database.url()).await;
    let tenant = service.tenant("acme").await;

    let (announce, services) = watch::channel(service.channel.clone());
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..6 {
        // Two writers to each conversation.
        let mut request = tenant.new_conversation();
        request.contact_identifier = format!("+1555000{}", writer / 2);
        let conversation = tenant.create(request).await;
        let (tenant, mut services) = (tenant.clone(), services.clone());
        let (acknowledged, refused) = (acknowledged.clone(), refused.clone());
        let done = done.clone();
        writers.spawn(async move {
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let text = format!("{writer}-{}", answers.len());
                let mut request = tenant.new_message(&conversation, &text);
                request.request_id = format!("request-{text}");
                answers.push(insist(&mut services, &request, &refused).await);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            (conversation, answers)
        });
    }
    let mut service = service;
    for _ in 0..kills {
        let enough = acknowledged.load(Ordering::Relaxed) + 60;
        eventually("messages are acknowledged", async || {
            acknowledged.load(Ordering::Relaxed) >= enough
        })
        .await;
        service.kill().await;
        service = Service::start(&folder, database.url()).await;
        announce.send(service.channel.clone()).unwrap();
    }
    let enough = acknowledged.load(Ordering::Relaxed) + 60;
    eventually("messages are acknowledged again", async || {
        acknowledged.load(Ordering::Relaxed) >= enough
    })
    .await;
    done.store(true, Ordering::Relaxed);
    let written = writers.join_all().await;
    assert!(
        refused.load(Ordering::Relaxed) >= kills,
        "a kill met calls in flight"
    );

    let tenant = TestTenant::over(&service.channel, tenant.tenant);
    let mut expected: BTreeMap<String, (_, Vec<Message>)> = BTreeMap::new();
    for (conversation, answers) in written {
        let entry = expected.entry(conversation.id.clone());
        entry
            .or_insert((conversation, Vec::new()))
            .1
            .extend(answers);
    }
    let mut total = 0;
    for (conversation, mut answers) in expected.into_values() {
        answers.sort_by_key(|message| message.sequence);
        let sequences: Vec<_> = answers.iter().map(|message| message.sequence).collect();
        let dense: Vec<_> = (1..).take(answers.len()).collect();
        assert_eq!(sequences, dense);
        assert_eq!(tenant.messages(&conversation).await, answers);
        total += answers.len();
    }
    let admin = connect(database.url()).await;
    let once = format!(
        "SELECT count(*), count(DISTINCT resource_id),
            count(*) FILTER (WHERE EXISTS (SELECT FROM {0}.inbox_messages m WHERE m.id = resource_id))
         FROM {0}.events WHERE kind = 'message.created'",
        tenant.tenant.schema_name
    );
    let row = admin.query_one(&once, &[]).await.unwrap();
    let total = i64::try_from(total).unwrap();
    let counts: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(counts, (total, total, total));
    service.kill().await;
    database.stop().await.unwrap();
}

/// A server, the relay between it and its database, and their folder.
async fn behind_a_relay() -> (Folder, PrivateServer, Relay, TestServer) {
    let folder = Folder::new();
    let database = durable(&folder).await;
    let relay = Relay::start(database.url()).await;
    let server = TestServer::start_with(|config| {
        config.database_url = Some(relay.url(database.url()));
        config.data_dir = folder.0.clone();
    })
    .await;
    (folder, database, relay, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_reply_was_lost_is_there_once_after_the_retry() {
    lose_replies(100).await;
}

/// Loses the reply to so many messages, sends each again, and counts them in the end.
pub async fn lose_replies(cases: usize) {
    let (_folder, database, relay, server) = behind_a_relay().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let mut answers = Vec::new();
    for case in 1..=cases {
        let mut request = tenant.new_message(&conversation, &format!("message no. {case}."));
        request.request_id = format!("request-{case}");
        relay.lose_reply(&[&request.text]);
        let lost = tenant.inbox.clone().create_message(request.clone()).await;
        assert_eq!(relay.lost(), case);
        assert_eq!(lost.unwrap_err().code(), Code::Unavailable);
        answers.push(tenant.send(request).await);
    }
    assert_eq!(tenant.messages(&conversation).await, answers);
    let sequences: Vec<_> = answers.iter().map(|message| message.sequence).collect();
    let cases = i64::try_from(cases).unwrap();
    assert_eq!(sequences, (1..=cases).collect::<Vec<_>>());
    let admin = connect(database.url()).await;
    let events = format!(
        "SELECT count(*), count(DISTINCT resource_id) FROM {}.events WHERE kind = 'message.created'",
        tenant.tenant.schema_name
    );
    let row = admin.query_one(&events, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (cases, cases));
    server.stop().await;
    database.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_have_been_committed_is_not_acknowledged() {
    let (_folder, database, relay, server) = behind_a_relay().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let new = CreateChannelRequest {
        tenant: tenant.slug(),
        actor: user("ann"),
        kind: ChatChannelKind::Public.into(),
        name: "all".to_owned(),
        ..Default::default()
    };
    let mut chat = tenant.chat.clone();
    let channel = chat.create_channel(new).await.unwrap().into_inner();
    for case in 1..=10 {
        let mut message = tenant.new_message(&conversation, &format!("message no. {case}."));
        message.request_id = format!("request-{case}");
        relay.lose_end_of_reply(&message.text);
        let lost = tenant.inbox.clone().create_message(message.clone()).await;
        assert_eq!(lost.unwrap_err().code(), Code::Unavailable);
        let message = tenant.send(message).await;
        assert_eq!(message.sequence, case);
        let entry = PostEntryRequest {
            tenant: tenant.slug(),
            actor: user("ann"),
            channel_id: channel.channel.as_ref().unwrap().id.clone(),
            text: format!("entry no. {case}."),
            request_id: format!("request-{case}"),
            ..Default::default()
        };
        relay.lose_end_of_reply(&entry.text);
        let lost = chat.post_entry(entry.clone()).await;
        assert_eq!(lost.unwrap_err().code(), Code::Unavailable);
        let entry = chat.post_entry(entry).await.unwrap().into_inner().entry;
        assert_eq!(entry.unwrap().sequence, case);
    }
    assert_eq!(relay.lost(), 20);
    server.stop().await;
    database.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_whose_commit_was_not_heard_of_is_there_once_after_the_retry() {
    let (_folder, database, relay, server) = behind_a_relay().await;
    let tenant = server.tenant().await;
    for case in 1..=20 {
        let request = CreateConversationRequest {
            request_id: format!("request-{case}"),
            first_message: format!("message no. {case}."),
            ..tenant.new_conversation()
        };
        relay.lose_reply(&[&request.first_message, "COMMIT"]);
        let mut inbox = tenant.inbox.clone();
        let lost = inbox.create_conversation(request.clone()).await;
        assert_eq!(relay.lost(), case);
        assert_eq!(lost.unwrap_err().code(), Code::Unavailable);
        let answer = inbox.create_conversation(request).await.unwrap();
        let answer = answer.into_inner();
        assert!(answer.created);
        let conversation = answer.conversation.unwrap();
        assert_eq!(usize::try_from(conversation.number).unwrap(), case);
        let messages = tenant.messages(&conversation).await;
        assert_eq!(messages, [answer.message.unwrap()]);
    }
    server.stop().await;
    database.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_told_of_and_used_again_when_it_is_back() {
    let (folder, database, relay, server) = behind_a_relay().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let account = Whatsapp::new(tenant.clone());
    account.connect(&server).await;
    let webhook = sample("02_text.json", &account.number);
    eventually("ready", async || server.http_get("/ready").await.0 == 200).await;

    relay.lose_database();
    database.stop().await.unwrap();
    let request = tenant.new_message(&conversation, "Never");
    let refused = tenant.inbox.clone().create_message(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    eventually("not ready", async || {
        server.http_get("/ready").await.0 == 503
    })
    .await;
    assert_eq!(server.http_get("/health").await.0, 200);
    // The provider sends it again, as long as nobody says that it was taken.
    let posting = account.post(&server, &webhook);
    let status = tokio::time::timeout(Duration::from_secs(5), posting).await;
    assert_eq!(status.expect("an answer within five seconds"), 503);

    let database = durable(&folder).await;
    relay.find_database(database.url());
    let back = eventually("ready again", async || {
        server.http_get("/ready").await.0 == 200
    });
    let back = tokio::time::timeout(Duration::from_secs(2), back).await;
    back.expect("ready within two seconds");
    let message = tenant.reply(&conversation, "Afterwards").await;
    assert_eq!(message.sequence, 1);
    assert_eq!(account.post(&server, &webhook).await, 200);
    eventually("the customer's message is there", async || {
        account.conversations().await.len() == 2
    })
    .await;
    server.stop().await;
    database.stop().await.unwrap();
}
