//! Presence: heard by who is there, on all servers, and never stored.

use std::time::{Duration, Instant};

use communication_service::config::NatsServers;
use communication_service::pb::ephemeral::Kind;
use communication_service::pb::subscribe_response::Frame;
use communication_service::pb::{
    Actor, Ephemeral, GetHeadRequest, Presence, PresenceState, SetPresenceRequest, actor,
};
use tonic::{Code, Request};

use crate::events::{Reader, from, logged, token};
use crate::harness::{
    Folder, Nats, TestServer, TestTenant, Widget, connect, database_url, exchange, parsed,
    patient_server, refusal, user, within,
};
use crate::live::Socket;
use crate::visitor_stream::Listener;

/// How long it may take in a test until servers hear each other.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take until something is heard by who can hear it.
const SOON: Duration = Duration::from_secs(1);

fn presence(tenant: &TestTenant, text: &str) -> SetPresenceRequest {
    SetPresenceRequest {
        tenant: tenant.slug(),
        actor: user("dana"),
        state: PresenceState::Away.into(),
        text: text.to_owned(),
    }
}

/// Says on a server that Dana is away.
async fn say(server: &TestServer, tenant: &TestTenant, text: &str) {
    let said = presence(tenant, text);
    server.chat().set_presence(said).await.unwrap();
}

impl Reader {
    /// The next frame, which has to be none of events.
    async fn said(&mut self) -> Ephemeral {
        match self.frame().await {
            Frame::Ephemeral(said) => said,
            other => panic!("{other:?} was not said"),
        }
    }

    /// What Dana says about being away, as the next frame has to tell.
    async fn text(&mut self) -> String {
        let Some(Kind::Presence(heard)) = self.said().await.kind else {
            panic!("no presence");
        };
        assert_eq!(heard.state(), PresenceState::Away);
        heard.text
    }

    async fn hears(&mut self, text: &str) {
        assert_eq!(self.text().await, text);
    }

    /// The next number that is said.
    async fn number(&mut self) -> u32 {
        loop {
            if let Ok(number) = self.text().await.parse() {
                return number;
            }
        }
    }

    /// Says something on a server until it is heard.
    async fn hears_from(&mut self, server: &TestServer, tenant: &TestTenant, text: &str) {
        within(PATIENCE, "it is heard", async || {
            say(server, tenant, text).await;
            matches!(tokio::time::timeout(SOON, self.text()).await, Ok(heard) if heard == text)
        })
        .await;
    }

    /// Hears everything up to what is said last.
    async fn catches_up(&mut self, last: &str) {
        while self.text().await != last {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_is_heard_at_once_by_everybody_who_listens_and_not_stored() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    say(&server, &tenant, "nobody hears this").await;
    let head = GetHeadRequest {
        tenant: tenant.slug(),
    };
    let head = server.events().get_head(head).await.unwrap().into_inner();
    let before = logged(&tenant).await;

    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(Reader::open(&server, from(&tenant, None)).await);
    }
    let mut socket = Socket::open(&server, &tenant, "").await;
    let mut chosen = Socket::open(&server, &tenant, "types=user.presence").await;
    say(&server, &tenant, "back at two").await;
    for reader in &mut readers {
        let said = reader.said().await;
        assert_eq!(said.actor, user("dana"));
        assert!(said.event_time.is_some());
        let text = "back at two".to_owned();
        let state = PresenceState::Away.into();
        assert_eq!(said.kind, Some(Kind::Presence(Presence { state, text })));
    }
    for socket in [&mut socket, &mut chosen] {
        let frame = socket.frame().await.unwrap();
        let said = &frame["ephemeral"];
        assert_eq!(said["actor"]["user_id"], "dana");
        assert_eq!(said["presence"]["state"], "away");
        assert_eq!(said["presence"]["text"], "back at two");
        assert!(said["event_time"].is_string(), "{frame}");
    }

    // By REST, too.
    let path = format!("/api/v1/tenants/{}/presence", tenant.slug());
    let body = br#"{"actor": {"user_id": "dana"}, "state": "away", "text": "gone"}"#;
    let json = [("content-type", "application/json")];
    let answer = exchange(server.http, "POST", &path, &json, body).await;
    assert_eq!(parsed(&answer.unwrap()), (200, serde_json::json!({})));
    readers[0].hears("gone").await;

    assert_eq!(before, logged(&tenant).await);
    // What comes next in the log is what happens next.
    let message = tenant.reply(&conversation, "Hello").await;
    let mut late = Reader::open(&server, from(&tenant, token(&head.token))).await;
    let events = late.until(|event| event.resource_id == message.id).await;
    assert!(
        events
            .iter()
            .all(|event| !event.r#type.contains("presence"))
    );
    let events = readers[0].until(|event| event.resource_id == message.id);
    assert!(!events.await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_is_heard_on_the_other_servers_and_once() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    heard_between(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_is_heard_by_nats_too() {
    let folder = Folder::new();
    let nats = Nats::start(&folder, None).await;
    let server = async || {
        TestServer::start_with(|config| {
            let servers = vec![format!("nats://127.0.0.1:{}", nats.port).parse().unwrap()];
            config.nats_url = Some(NatsServers(servers));
        })
        .await
    };
    let (here, there) = (server().await, server().await);
    heard_between(&here, &there).await;
    nats.stop().await;
}

async fn heard_between(here: &TestServer, there: &TestServer) {
    let tenant = here.tenant().await;
    let mut near = Reader::open(here, from(&tenant, None)).await;
    let mut far = Reader::open(there, from(&tenant, None)).await;
    // Until each has a line, it is said again.
    far.hears_from(here, &tenant, "are you there?").await;
    near.hears_from(there, &tenant, "I am").await;
    // Where it is said, all of it is heard once; elsewhere nothing twice, and what is said while a line
    // is cut not at all, which another test does at its time.
    let (mut said, mut heard) = (0, Vec::new());
    within(PATIENCE, "thirty are heard elsewhere", async || {
        say(here, &tenant, &said.to_string()).await;
        said += 1;
        heard.extend(tokio::time::timeout(SOON, far.number()).await.ok());
        heard.len() >= 30
    })
    .await;
    for number in 0..said {
        assert_eq!(near.number().await, number);
    }
    assert!(heard.is_sorted_by(|one, next| one < next), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_line_between_the_servers_it_is_heard_on_its_own_and_afterwards_on_both() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    let tenant = here.tenant().await;
    let mut near = Reader::open(&here, from(&tenant, None)).await;
    let mut far = Reader::open(&there, from(&tenant, None)).await;
    far.hears_from(&here, &tenant, "are you there?").await;
    near.catches_up("are you there?").await;
    let database = connect(database_url().await).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'communication-service hints'";
    database.execute(cut, &[]).await.unwrap();
    say(&here, &tenant, "without a line").await;
    near.catches_up("without a line").await;
    far.hears_from(&here, &tenant, "with a line").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_it_out_and_other_tenants_and_visitors_hear_nothing() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let tenant = &widget.tenant;
    let mut visitor = widget.stranger();
    visitor.open(serde_json::json!({})).await;
    let mut listener = Listener::open(&server, &visitor).await;
    let other = server.tenant().await;
    let conversation = tenant.conversation().await;

    let mut of_type = from(tenant, None);
    of_type.types = vec!["message.created".to_owned()];
    let mut of_conversation = from(tenant, None);
    of_conversation.conversation_ids = vec![conversation.id.clone()];
    of_conversation.types = vec!["message.created".to_owned(), "user.presence".to_owned()];
    let mut deaf = Vec::new();
    for request in [of_type, of_conversation] {
        deaf.push(Reader::open(&server, request).await);
    }
    let mut elsewhere = Reader::open(&server, from(&other, None)).await;
    let mut of_presence = from(tenant, None);
    of_presence.types = vec!["user.presence".to_owned()];
    let mut hearing = Reader::open(&server, of_presence).await;

    say(&server, tenant, "lunch").await;
    hearing.hears("lunch").await;
    visitor.say("Is anybody there?").await;
    listener.hears("message.created", "Is anybody there?").await;
    let message = tenant.reply(&conversation, "Hello").await;
    // The batch is the first that comes, and what is only of presence has no batch.
    for reader in &mut deaf {
        reader.until(|event| event.resource_id == message.id).await;
    }
    let begun = other.conversation().await;
    elsewhere.until(|event| event.resource_id == begun.id).await;
    say(&server, tenant, "back").await;
    hearing.hears("back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_always_heard_keeps_nobody_from_knowing_where_they_are() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut reader = Reader::open(&server, from(&tenant, None)).await;
    let begun = Instant::now();
    let checkpoint = loop {
        say(&server, &tenant, "still there").await;
        match reader.frame().await {
            Frame::Ephemeral(_) => {}
            Frame::Checkpoint(checkpoint) => break checkpoint,
            other => panic!("{other:?}"),
        }
    };
    assert!(begun.elapsed() >= Duration::from_secs(14));
    // The token is good.
    let mut again = Reader::open(&server, from(&tenant, token(&checkpoint.token))).await;
    let conversation = tenant.conversation().await;
    again
        .until(|event| event.resource_id == conversation.id)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_heard_beside_whoever_never_falls_silent() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let mut reader = Reader::open(&server, from(&tenant, None)).await;
    let mut speakers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut chat, said) = (server.chat(), presence(&tenant, "here"));
        speakers.spawn(async move {
            loop {
                chat.set_presence(said.clone()).await.unwrap();
            }
        });
    }
    let (mut said, mut happened) = (0, Vec::new());
    let mut sent = Vec::new();
    for number in 0..20 {
        let message = tenant.reply(&conversation, &number.to_string()).await;
        sent.push(message.id.clone());
        while !happened.contains(&message.id) {
            match reader.frame().await {
                Frame::Ephemeral(_) => said += 1,
                Frame::Batch(batch) => {
                    let events = crate::harness::decoded(&batch.events);
                    let made = events.iter().filter(|it| it.r#type == "message.created");
                    happened.extend(made.map(|event| event.resource_id.clone()));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(happened, sent);
    assert!(said > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_user_can_be_there() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut chat = server.chat();
    let of = |kind| Some(Actor { kind: Some(kind) });
    let bot = of(actor::Kind::BotId("greeter".to_owned()));
    let service = of(actor::Kind::Service("desk".to_owned()));
    for actor in [None, bot, service] {
        let request = SetPresenceRequest {
            actor,
            ..presence(&tenant, "")
        };
        let (code, reason, fields) = refusal(chat.set_presence(request).await);
        assert_eq!(
            (code, reason.as_str()),
            (Code::InvalidArgument, "INVALID_FIELD")
        );
        assert_eq!(fields, ["actor"]);
    }
    let wrong = SetPresenceRequest {
        state: 0,
        text: "x".repeat(129),
        ..presence(&tenant, "")
    };
    let (_, _, fields) = refusal(chat.set_presence(Request::new(wrong)).await);
    assert_eq!(fields, ["state", "text"]);
}
