//! The stream of events: everything in order, nothing lost, nothing twice for who keeps its token.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use communication_service::config::NatsServers;
use communication_service::pb::event::Resource;
use communication_service::pb::subscribe_request::Start;
use communication_service::pb::subscribe_response::Frame;
use communication_service::pb::{
    Actor, BatchCreateMessagesRequest, CreateQuickReplyRequest, DeleteMessageRequest,
    DeleteScheduledMessageRequest, Event, GetHeadRequest, NewMessage, QuickReplyScope,
    SubscribeRequest, SubscribeResponse, SuspendTenantRequest, UpdateAgentRequest, actor, event,
};
use serde_json::json;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Streaming};
use uuid::Uuid;

use crate::harness::{
    Folder, Keys, Nats, Refusal, Tables, TestServer, TestTenant, bearer, connect, decoded, durable,
    eventually, now, refusal, user, within,
};
use crate::janitor::{cleaned, later};

/// How long a frame may take in a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long thirty changes take, one after the other, of which each is heard of at once: who has to look
/// for them takes 15 seconds.
const AT_ONCE: Duration = Duration::from_secs(8);

/// A stream, and how far its reader is.
pub struct Reader {
    stream: Streaming<SubscribeResponse>,
    /// The last token that came.
    pub token: String,
}

/// A request for what happens in a tenant.
pub fn from(tenant: &TestTenant, start: Option<Start>) -> SubscribeRequest {
    SubscribeRequest {
        tenant: tenant.slug(),
        start,
        ..Default::default()
    }
}

/// The place of a token.
pub fn token(token: &str) -> Option<Start> {
    Some(Start::Token(token.to_owned()))
}

impl Reader {
    /// Subscribes, and reads the greeting.
    pub async fn open(server: &TestServer, request: SubscribeRequest) -> Self {
        let stream = server.events().subscribe(request).await.unwrap();
        let mut reader = Self {
            stream: stream.into_inner(),
            token: String::new(),
        };
        match reader.frame().await {
            Frame::Hello(hello) => reader.token = hello.head_token,
            other => panic!("{other:?} is no greeting"),
        }
        reader
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Frame {
        let next = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        let next = next.expect("a frame in time").unwrap();
        next.expect("the stream goes on").frame.unwrap()
    }

    /// The events of the next batch.
    async fn batch(&mut self) -> Vec<Event> {
        loop {
            match self.frame().await {
                Frame::Batch(batch) => {
                    assert!(!batch.events.is_empty() && batch.events.len() <= 256);
                    self.token = batch.token;
                    return decoded(&batch.events);
                }
                Frame::Checkpoint(checkpoint) => self.token = checkpoint.token,
                other => panic!("{other:?} is no batch"),
            }
        }
    }

    /// The events of the next batches, to the end of the one with the event that is waited for.
    pub async fn until(&mut self, is_it: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        while !events.iter().any(&is_it) {
            events.extend(self.batch().await);
        }
        events
    }

    /// So many events.
    async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.batch().await);
        }
        assert_eq!(events.len(), count);
        events
    }
}

/// The ids of the events as the log has them.
pub async fn logged(tenant: &TestTenant) -> Vec<String> {
    let tables = Tables::of(tenant).await;
    let sql = format!(
        "SELECT event_id::text FROM {}.events WHERE id > 0 ORDER BY id",
        tables.schema
    );
    let rows = tables.admin.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_heard_with_who_made_it_and_what_it_is_now() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let before = tenant.conversation().await;
    let mut reader = Reader::open(&server, from(&tenant, None)).await;
    let greeted = reader.token.clone();
    let conversation = tenant.conversation().await;
    let mut request = Request::new(tenant.new_message(&conversation, "Hello"));
    request.get_mut().actor = user("dana");
    let id = "the-call-of-the-test";
    request
        .metadata_mut()
        .insert("x-request-id", id.parse().unwrap());
    let mut inbox = tenant.inbox.clone();
    let message = inbox.create_message(request).await.unwrap().into_inner();
    let message = message.message.unwrap();
    let events = reader
        .until(|event| event.r#type == "message.created")
        .await;
    assert!(events.iter().all(|event| event.resource_id != before.id));
    let created = &events[0];
    let types: Vec<_> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert!(
        types.starts_with(&["contact.created"]) || types.starts_with(&["conversation.created"]),
        "{types:?}"
    );
    assert_eq!(
        created.actor,
        Some(Actor {
            kind: Some(actor::Kind::Service("local".to_owned()))
        })
    );
    let of = |kind: &str| events.iter().find(|event| event.r#type == kind).unwrap();
    let opened = of("conversation.created");
    assert_eq!(opened.resource_id, conversation.id);
    assert!(
        matches!(&opened.resource, Some(event::Resource::Conversation(of)) if of.id == conversation.id)
    );
    let said = of("message.created");
    assert_eq!(said.actor, user("dana"));
    assert_eq!(
        (said.caller.as_str(), said.correlation_id.as_str()),
        ("local", id)
    );
    assert_eq!(
        (&said.resource_id, &said.conversation_id),
        (&message.id, &conversation.id)
    );
    assert_eq!((said.sequence, said.deleted), (message.sequence, false));
    assert!(said.event_time.is_some() && said.version >= 1);
    assert_eq!(
        said.resource,
        Some(event::Resource::Message(message.clone()))
    );

    // What is gone by the time that it is sent arrives as what is left of it.
    let delete = DeleteMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        redact: true,
        ..Default::default()
    };
    inbox.delete_message(delete).await.unwrap();
    reader
        .until(|event| event.r#type == "message.deleted")
        .await;
    // From the log, and from what the server has in memory.
    for start in [Some(Start::Earliest(true)), token(&greeted)] {
        let mut again = Reader::open(&server, from(&tenant, start)).await;
        let history = again.until(|event| event.r#type == "message.deleted").await;
        assert!(logged(&tenant).await.ends_with(&ids(&history)));
        let said = history
            .iter()
            .find(|event| event.r#type == "message.created");
        let said = said.unwrap();
        assert!(said.deleted);
        let Some(event::Resource::Message(left)) = &said.resource else {
            panic!("{said:?}");
        };
        assert!(left.text.is_empty() && left.delete_time.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_with_its_token_hears_everything_once_and_in_order() {
    const WRITERS: usize = 8;
    const MESSAGES: usize = 40;
    // Two servers on one database: the reader comes back to the one and the other.
    let servers = [TestServer::start().await, TestServer::start().await];
    let tenant = servers[0].tenant().await;
    let mut conversations = Vec::new();
    for _ in 0..4 {
        conversations.push(tenant.conversation().await);
    }
    let head = GetHeadRequest {
        tenant: tenant.slug(),
    };
    let head = servers[1].events().get_head(head).await.unwrap();
    let mut at = head.into_inner().token;
    let begun = logged(&tenant).await.len();

    let mut writing = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let tenant = TestTenant::new(&servers[writer % 2], tenant.tenant.clone());
        let conversations = conversations.clone();
        writing.spawn(async move {
            for number in 0..MESSAGES {
                let conversation = &conversations[(writer + number) % 4];
                tenant
                    .reply(conversation, &format!("{writer}/{number}"))
                    .await;
            }
        });
    }
    let mut heard = Vec::new();
    let mut visits = 0;
    // Each message is an event of its own, and what it does to its conversation another.
    while !writing.is_empty() || heard.len() < logged(&tenant).await.len() - begun {
        let server = &servers[visits % 2];
        let mut reader = Reader::open(server, from(&tenant, token(&at))).await;
        for _ in 0..1 + visits % 3 {
            let next = tokio::time::timeout(Duration::from_secs(2), reader.batch()).await;
            let Ok(events) = next else { break };
            heard.extend(events);
            at.clone_from(&reader.token);
        }
        visits += 1;
        while writing.try_join_next().transpose().unwrap().is_some() {}
    }
    assert!(visits > 3, "{visits}");
    assert_eq!(ids(&heard), logged(&tenant).await[begun..]);
    let messages = heard
        .iter()
        .filter(|event| event.r#type == "message.created");
    assert_eq!(messages.count(), WRITERS * MESSAGES);
    for conversation in &conversations {
        let of = |event: &&Event| {
            event.conversation_id == conversation.id && event.r#type == "message.created"
        };
        let sequences: Vec<_> = heard
            .iter()
            .filter(of)
            .map(|event| event.sequence)
            .collect();
        assert!(
            sequences.is_sorted_by(|one, next| next - one == 1),
            "{sequences:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_hears_only_of_what_it_wants() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (one, other) = (tenant.conversation().await, tenant.conversation().await);
    for conversation in [&one, &other, &one] {
        tenant.receive(conversation, "Hello").await;
    }
    let mut of_type = from(&tenant, Some(Start::Earliest(true)));
    of_type.types = vec!["message.created".to_owned(), "message.updated".to_owned()];
    let mut reader = Reader::open(&server, of_type.clone()).await;
    let events = reader.events(3).await;
    assert!(events.iter().all(|event| event.r#type == "message.created"));

    let mut of_one = from(&tenant, Some(Start::Earliest(true)));
    of_one.conversation_ids = vec![one.id.clone()];
    let mut reader = Reader::open(&server, of_one).await;
    let mut heard = Vec::new();
    while heard
        .iter()
        .filter(|event: &&Event| event.r#type == "message.created")
        .count()
        < 2
    {
        heard.extend(reader.batch().await);
    }
    let of: BTreeSet<_> = heard
        .iter()
        .map(|event| match event.conversation_id.as_str() {
            "" => event.resource_id.clone(),
            id => id.to_owned(),
        })
        .collect();
    assert_eq!(of, BTreeSet::from([one.id.clone()]));

    // Both, and the token stays good.
    of_type.conversation_ids = vec![other.id.clone()];
    of_type.start = token(&reader.token);
    let mut reader = Reader::open(&server, of_type).await;
    tenant.receive(&one, "not wanted").await;
    let wanted = tenant.receive(&other, "wanted").await;
    let events = reader.events(1).await;
    assert_eq!(events[0].resource_id, wanted.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_nothing_for_long_is_told_where_it_is() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut request = from(&tenant, None);
    request.types = vec!["contact.merged".to_owned()];
    let mut reader = Reader::open(&server, request).await;
    let greeted = reader.token.clone();
    tenant.conversation().await;
    let Frame::Checkpoint(checkpoint) = reader.frame().await else {
        panic!("nothing is wanted");
    };
    // It is behind what was not wanted.
    assert_ne!(checkpoint.token, greeted);
    let mut reader = Reader::open(&server, from(&tenant, token(&checkpoint.token))).await;
    let next = tenant.conversation().await;
    let events = reader
        .until(|event| event.r#type == "conversation.created")
        .await;
    let opened = events
        .iter()
        .filter(|event| event.r#type == "conversation.created");
    let opened: Vec<_> = opened.map(|event| event.resource_id.clone()).collect();
    assert_eq!(opened, [next.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_behind_is_served_from_the_log_in_frames_that_fit() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let mut slow = Reader::open(&server, from(&tenant, None)).await;
    let begun = logged(&tenant).await.len();
    let batch = |count: usize, text: &str| BatchCreateMessagesRequest {
        tenant: tenant.slug(),
        messages: (0..count)
            .map(|_| NewMessage {
                conversation_id: conversation.id.clone(),
                text: text.to_owned(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    // More than is kept in memory, some of it large.
    let large = "a word ".repeat(8_000);
    let mut inbox = tenant.inbox.clone();
    for _ in 0..24 {
        inbox
            .batch_create_messages(batch(100, "Hello"))
            .await
            .unwrap();
    }
    inbox
        .batch_create_messages(batch(40, &large))
        .await
        .unwrap();
    let all = logged(&tenant).await;
    let mut heard = Vec::new();
    while heard.len() < all.len() - begun {
        let events = slow.batch().await;
        let bytes: usize = events.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes <= 1024 * 1024, "{bytes}");
        heard.extend(events);
    }
    assert_eq!(ids(&heard), all[begun..]);
    // Somebody else was not held up.
    let mut fast = Reader::open(&server, from(&tenant, None)).await;
    let last = tenant.reply(&conversation, "the last").await;
    let events = fast.batch().await;
    assert!(events.iter().any(|event| event.resource_id == last.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_refuses_what_it_cannot_begin_with() {
    let server = TestServer::start().await;
    let (tenant, other) = (server.tenant().await, server.tenant().await);
    let theirs = Reader::open(&server, from(&other, None)).await.token;
    let mut many = from(&tenant, None);
    many.types = vec!["message.created".to_owned(); 51];
    let mut odd = from(&tenant, None);
    odd.types = vec!["message.created".to_owned(), "Message".to_owned()];
    let mut nobody = from(&tenant, None);
    nobody.conversation_ids = vec!["x".to_owned()];
    for (request, field) in [
        (from(&tenant, token(&theirs)), "token"),
        (from(&tenant, token("")), "token"),
        (from(&tenant, token("garbage")), "token"),
        (from(&tenant, Some(Start::Earliest(false))), "earliest"),
        (many, "types"),
        (odd, "types[1]"),
        (nobody, "conversation_ids[0]"),
    ] {
        let refused = server.events().subscribe(request).await;
        let status = refused.map(drop).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let fields = Refusal::of(&status).fields;
        assert_eq!(fields.keys().collect::<Vec<_>>(), [field]);
    }
    let unknown = SubscribeRequest {
        tenant: format!("t{}", Uuid::now_v7().simple()),
        ..Default::default()
    };
    let refused = server
        .events()
        .subscribe(unknown)
        .await
        .map(|_| Request::new(()));
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_history_that_was_replaced_begins_anew() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    tenant.conversation().await;
    let head = GetHeadRequest {
        tenant: tenant.slug(),
    };
    let head = server.events().get_head(head).await.unwrap().into_inner();
    let mut open = Reader::open(&server, from(&tenant, None)).await;
    // As if the database had been restored from before it, and gone on.
    let tables = Tables::of(&tenant).await;
    let restore = format!(
        "UPDATE {schema}.events SET event_id = gen_random_uuid()
        WHERE id = (SELECT max(id) FROM {schema}.events)",
        schema = tables.schema
    );
    tables.admin.batch_execute(&restore).await.unwrap();
    let mut reader = Reader::open(&server, from(&tenant, token(&head.token))).await;
    let Frame::Reset(reset) = reader.frame().await else {
        panic!("the history is another one");
    };
    // Whoever listens hears of it, too.
    let frame = open.frame().await;
    assert!(matches!(frame, Frame::Reset(_)), "{frame:?}");
    let next = tenant.conversation().await;
    let events = reader
        .until(|event| event.r#type == "conversation.created")
        .await;
    assert!(events.iter().any(|event| event.resource_id == next.id));
    // From the token of the reset on it is the same.
    let mut again = Reader::open(&server, from(&tenant, token(&reset.token))).await;
    assert_eq!(ids(&again.events(events.len()).await), ids(&events));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_kept_for_seven_days_and_the_newest_for_longer() {
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let database = connect(postgres.url()).await;
    let server = later(postgres.url(), "0s").await;
    let tenant = TestTenant::new(&server, server.initialize("acme").await);
    let (schema, request) = (&tenant.tenant.schema_name, from(&tenant, None));
    let empty = Reader::open(&server, request.clone()).await.token;
    let mut reader = Reader::open(&server, request.clone()).await;
    let first = tenant.conversation().await;
    reader.until(|event| event.resource_id == first.id).await;
    let middle = reader.token.clone();
    // More than are removed at a time.
    let many = format!(
        "INSERT INTO \"{schema}\".events
        SELECT nextval('\"{schema}\".events_id_seq'), gen_random_uuid(), 'test.noted', 'test',
            gen_random_uuid(), NULL, NULL, 1, '{{}}', 'service', 'test', 'test', 'test', directory.now()
        FROM generate_series(1, 2500)"
    );
    database.execute(&many, &[]).await.unwrap();
    let second = tenant.conversation().await;
    let is_second = |event: &Event| event.resource_id == second.id;
    reader.until(is_second).await;
    let end = reader.token.clone();
    server.stop().await;

    // How many are kept, and whether all were counted.
    let kept = async || {
        let sql = format!(
            "SELECT (SELECT count(*) FROM \"{schema}\".events), position >= last_value
            FROM \"{schema}\".statistics_folds, \"{schema}\".events_id_seq WHERE is_current"
        );
        let row = database.query_one(&sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, bool>(1))
    };
    let (before, _) = kept().await;
    // An hour before it is time, then an hour after.
    let server = later(postgres.url(), "167hours").await;
    cleaned(&database, 167).await;
    eventually("all is counted", async || kept().await == (before, true)).await;
    let start = |start: Option<Start>| SubscribeRequest {
        start,
        ..request.clone()
    };
    for place in [Some(Start::Earliest(true)), token(&empty), token(&middle)] {
        let mut reader = Reader::open(&server, start(place.clone())).await;
        let events = reader.until(is_second).await;
        let is_whole = events.iter().any(|event| event.resource_id == first.id);
        assert_eq!(is_whole, place != token(&middle));
    }
    server.stop().await;
    let server = later(postgres.url(), "169hours").await;
    eventually("they go", async || kept().await.0 == 1).await;
    for old in [&empty, &middle] {
        let mut reader = Reader::open(&server, start(token(old))).await;
        let frame = reader.frame().await;
        assert!(matches!(frame, Frame::Reset(_)), "{frame:?}");
    }
    // Who has heard all that there was has missed nothing.
    let tenant = TestTenant::new(&server, tenant.tenant.clone());
    let third = tenant.conversation().await;
    for place in [Some(Start::Earliest(true)), token(&end)] {
        let mut reader = Reader::open(&server, start(place)).await;
        let events = reader.until(|event| event.resource_id == third.id).await;
        assert!(!events.iter().any(is_second));
    }
    let mut hello = (server.events().subscribe(request).await.unwrap()).into_inner();
    let hello = hello.message().await.unwrap().unwrap().frame;
    let Some(Frame::Hello(hello)) = hello else {
        panic!("{hello:?} is no greeting");
    };
    let oldest =
        format!("SELECT floor(extract(epoch FROM min(at)))::bigint FROM \"{schema}\".events");
    let oldest = database.query_one(&oldest, &[]).await.unwrap();
    assert_eq!(
        hello.earliest_time.unwrap().seconds,
        oldest.get::<_, i64>(0)
    );
    server.stop().await;
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_goodbye_and_another_goes_on_from_there() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let tenant = other.tenant().await;
    let conversation = tenant.conversation().await;
    let mut reader = Reader::open(&server, from(&tenant, None)).await;
    let first = tenant.reply(&conversation, "first").await;
    reader.until(|event| event.resource_id == first.id).await;
    let stopping = tokio::spawn(server.stop());
    let goodbye = loop {
        match reader.frame().await {
            Frame::Goodbye(goodbye) => break goodbye,
            Frame::Batch(_) | Frame::Checkpoint(_) => {}
            frame => panic!("{frame:?}"),
        }
    };
    assert!(goodbye.retry_delay.is_some());
    assert!(reader.stream.message().await.unwrap().is_none());
    tokio::time::timeout(PATIENCE, stopping)
        .await
        .unwrap()
        .unwrap();
    let second = tenant.reply(&conversation, "second").await;
    let mut reader = Reader::open(&other, from(&tenant, token(&goodbye.token))).await;
    let events = reader.until(|event| event.resource_id == second.id).await;
    assert!(events.iter().all(|event| event.resource_id != first.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_server_changes_is_heard_without_looking_for_it() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    let tenant = there.tenant().await;
    let mut reader = Reader::open(&here, from(&tenant, None)).await;
    let hear = async |reader: &mut Reader| {
        let conversation = tenant.conversation().await;
        reader
            .until(|event| event.resource_id == conversation.id)
            .await;
    };
    // Each has a line after a while; without one it would look every half a second.
    within(PATIENCE, "thirty changes are heard at once", async || {
        let begun = Instant::now();
        for _ in 0..30 {
            hear(&mut reader).await;
        }
        begun.elapsed() < AT_ONCE
    })
    .await;
    // Without the line one looks, and there is another line soon.
    let tables = Tables::of(&tenant).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'communication-service hints'";
    for _ in 0..3 {
        tables.admin.execute(cut, &[]).await.unwrap();
        hear(&mut reader).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_tell_each_other_by_nats_what_has_changed_and_do_without() {
    let folder = Folder::new();
    let nats = Nats::start(&folder, None).await;
    let port = nats.port.clone();
    let server = async || {
        TestServer::start_with(|config| {
            let servers = vec![format!("nats://127.0.0.1:{port}").parse().unwrap()];
            config.nats_url = Some(NatsServers(servers));
        })
        .await
    };
    let (here, there) = (server().await, server().await);
    let tenant = there.tenant().await;
    let mut reader = Reader::open(&here, from(&tenant, None)).await;
    let mut hear = async |changes: u32| {
        let begun = Instant::now();
        for _ in 0..changes {
            let conversation = tenant.conversation().await;
            reader
                .until(|event| event.resource_id == conversation.id)
                .await;
        }
        begun.elapsed() < AT_ONCE
    };
    within(PATIENCE, "they tell each other", async || hear(30).await).await;
    nats.stop().await;
    hear(2).await;
    let nats = Nats::start(&folder, Some(&port)).await;
    within(PATIENCE, "they tell each other again", async || {
        hear(30).await
    })
    .await;
    nats.stop().await;
    // One that starts meanwhile serves, too.
    let third = server().await;
    let mut late = Reader::open(&third, from(&tenant, None)).await;
    let conversation = tenant.conversation().await;
    late.until(|event| event.resource_id == conversation.id)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_tenant_is_closed() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut reader = Reader::open(&server, from(&tenant, None)).await;
    let suspend = SuspendTenantRequest {
        tenant: tenant.slug(),
        ..Default::default()
    };
    server.tenant_admin().suspend_tenant(suspend).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), reader.stream.message()).await;
    let status = ended.expect("it ends").unwrap_err();
    let (code, reason, _) = refusal::<()>(Err(status));
    assert_eq!(
        (code, reason.as_str()),
        (Code::FailedPrecondition, "TENANT_SUSPENDED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_credential() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let slug = format!("t{}", Uuid::now_v7().simple());
    let subscribe = async |claims: serde_json::Value| {
        let mut request = Request::new(SubscribeRequest {
            tenant: slug.clone(),
            ..Default::default()
        });
        let metadata: MetadataMap = bearer(&keys.token(claims));
        *request.metadata_mut() = metadata;
        server.events().subscribe(request).await
    };
    let mut initialize = Request::new(communication_service::pb::InitializeTenantRequest {
        tenant: slug.clone(),
        schema_name: String::new(),
    });
    *initialize.metadata_mut() = bearer(&keys.token(json!({"scope": "tenant.admin"})));
    server
        .tenant_admin()
        .initialize_tenant(initialize)
        .await
        .unwrap();
    let refused = subscribe(json!({"scope": "inbox.read"})).await;
    assert_eq!(
        refused.map(drop).unwrap_err().code(),
        Code::PermissionDenied
    );
    // Clocks may be 30 seconds apart.
    let claims = json!({"scope": "events.read", "exp": now() - 20});
    let mut stream = subscribe(claims).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let ended = tokio::time::timeout(PATIENCE, stream.message()).await;
    let status = ended.expect("it ends").unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    // It ends with its key, too, and not with another one.
    let mut stream = subscribe(json!({"scope": "events.read"})).await.unwrap();
    let stream = stream.get_mut();
    assert!(stream.message().await.unwrap().is_some());
    let file = &keys.jwks_file;
    let set = std::fs::read_to_string(file).unwrap();
    let mut set: serde_json::Value = serde_json::from_str(&set).unwrap();
    let with = set["keys"].as_array_mut().unwrap();
    let signs = with.iter().position(|key| key["kid"] == "ed").unwrap();
    let (signing, other) = (with[signs].clone(), with[1 - signs].clone());
    let keep = |keys: serde_json::Value| {
        std::fs::write(file, json!({ "keys": keys }).to_string()).unwrap();
    };
    // The file is read every five seconds.
    keep(json!([signing]));
    let goes_on = tokio::time::timeout(Duration::from_secs(8), stream.message()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
    keep(json!([other]));
    let ended = tokio::time::timeout(PATIENCE, stream.message()).await;
    let status = ended.expect("it ends").unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_beforehand_and_who_may_take_what_come_with_their_events() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let mut readers = Vec::new();
    for who in ["ann", "bob", ""] {
        let request = SubscribeRequest {
            actor: user(who).filter(|_| !who.is_empty()),
            ..from(&tenant, None)
        };
        readers.push((who, Reader::open(&server, request).await));
    }
    let mut quick_replies = Vec::new();
    for scope in [QuickReplyScope::User, QuickReplyScope::Tenant] {
        let request = CreateQuickReplyRequest {
            tenant: tenant.slug(),
            actor: user("ann"),
            shortcut: format!("hello-{}", i32::from(scope)),
            title: "Hello".to_owned(),
            text: "Hello!".to_owned(),
            scope: scope.into(),
            ..Default::default()
        };
        let mut service = tenant.quick_replies.clone();
        let made = service.create_quick_reply(request).await.unwrap();
        quick_replies.push(made.into_inner().quick_reply.unwrap());
    }
    let request = UpdateAgentRequest {
        tenant: tenant.slug(),
        user_id: "ann".to_owned(),
        capacity: Some(3),
        ..Default::default()
    };
    let agent = tenant.inbox.clone().update_agent(request).await.unwrap();
    let agent = agent.into_inner().agent.unwrap();
    let mut later = tenant.new_message(&conversation, "At eight");
    later.send_time = Some(prost_types::Timestamp {
        seconds: i64::try_from(now()).unwrap() + 3600,
        nanos: 0,
    });
    let answer = tenant.inbox.clone().create_message(later).await.unwrap();
    let scheduled = answer.into_inner().scheduled_message.unwrap();
    let expected = [
        Resource::QuickReply(quick_replies[0].clone()),
        Resource::QuickReply(quick_replies[1].clone()),
        Resource::Agent(agent),
        Resource::ScheduledMessage(scheduled.clone()),
    ];
    for (who, reader) in &mut readers {
        let heard = reader
            .until(|event| event.r#type == "scheduled_message.created")
            .await;
        let resources = heard.into_iter().filter(|event| {
            let noun = event.r#type.split('.').next().unwrap();
            ["quick_reply", "agent", "scheduled_message"].contains(&noun)
        });
        let resources: Vec<_> = resources.map(|event| event.resource.unwrap()).collect();
        // Of a user's own, another user hears nothing.
        assert_eq!(resources, expected[usize::from(*who == "bob")..], "{who}");
    }
    let request = DeleteScheduledMessageRequest {
        tenant: tenant.slug(),
        scheduled_message_id: scheduled.id.clone(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.delete_scheduled_message(request).await.unwrap();
    let gone = |event: &Event| event.r#type == "scheduled_message.deleted";
    // Who comes once that is heard is told of it as it is by then.
    readers[0].1.until(gone).await;
    let request = SubscribeRequest {
        start: Some(Start::Earliest(true)),
        ..from(&tenant, None)
    };
    let mut late = Reader::open(&server, request).await;
    let heard = late.until(gone).await;
    let of_it = heard
        .iter()
        .filter(|event| event.resource_id == scheduled.id);
    let of_it: Vec<_> = of_it
        .map(|event| (event.deleted, &event.resource))
        .collect();
    assert_eq!(of_it, [(true, &None); 2]);
    server.stop().await;
}
