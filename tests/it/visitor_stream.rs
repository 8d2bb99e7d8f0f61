//! What a visitor of the web chat hears as it happens: what they may fetch, each time it changes, and
//! nothing else.

use std::time::Duration;

use communication_service::pb::{
    ArchiveConversationRequest, Conversation, CreateMessageRequest, DeleteMessageRequest,
    DisableChannelAccountRequest, EditMessageRequest, Message, MessageDirection, MessageStatus,
    SuspendTenantRequest,
};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;

use crate::harness::{
    Browser, ORIGIN, Tables, TestServer, Widget, exchange, parsed, patient_server, refused,
};

/// How long an event may take in a test.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing must come.
const SILENCE: Duration = Duration::from_millis(700);
const PATH: &str = "/widget/v1/stream";

/// What a page does that listens.
pub struct Listener {
    body: Incoming,
    text: String,
    /// The id that it comes back with.
    last_id: String,
}

/// An event that a page hears: its name, and what is in it.
type Heard = (String, Json);

impl Listener {
    /// Opens a stream as a browser's `EventSource` does, and waits until it has begun.
    pub async fn open(server: &TestServer, browser: &Browser) -> Self {
        let mut listener = Self::open_at(server, browser, "", None).await;
        listener.begun().await;
        listener
    }

    /// Comes back with the id of the last event.
    async fn again(self, server: &TestServer, browser: &Browser) -> Self {
        Self::open_at(server, browser, "", Some(&self.last_id)).await
    }

    async fn open_at(
        server: &TestServer,
        browser: &Browser,
        query: &str,
        last_id: Option<&str>,
    ) -> Self {
        let stream = TcpStream::connect(server.http).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let session = browser.token.as_ref().unwrap();
        let mut request = hyper::Request::get(format!("{PATH}?session={session}{query}"))
            .header("host", "localhost")
            .header("origin", browser.origin.as_ref().unwrap());
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("access-control-allow-origin"), ORIGIN);
        Self {
            body: answer.into_body(),
            text: String::new(),
            last_id: String::new(),
        }
    }

    /// Waits for the id that a stream begins with.
    async fn begun(&mut self) {
        assert!(self.block().await.unwrap().contains("retry: 1000"));
        assert!(!self.last_id.is_empty());
    }

    /// The lines to the next empty one; none at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                let id = block.lines().find_map(|line| line.strip_prefix("id: "));
                self.last_id = id.unwrap_or(&self.last_id).to_owned();
                return Some(block);
            }
            let piece = self.body.frame().await?.ok()?.into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next event that the page hears; none at the end.
    async fn next(&mut self) -> Option<Heard> {
        let next = async {
            loop {
                let block = self.block().await?;
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| line.strip_prefix(name).map(ToOwned::to_owned))
                };
                if let Some(data) = field("data: ") {
                    assert!(field("id: ").is_some(), "{block}");
                    let name = field("event: ").unwrap();
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("in time")
    }

    /// The next event, which has to be of a message; its name and its text.
    async fn said(&mut self) -> (String, String) {
        let (name, message) = self.next().await.expect("an event");
        (name, message["body"].as_str().unwrap_or("none").to_owned())
    }

    /// Hears of a message as the next.
    pub async fn hears(&mut self, name: &str, body: &str) {
        assert_eq!(self.said().await, (name.to_owned(), body.to_owned()));
    }

    async fn hears_nothing(&mut self) {
        let next = tokio::time::timeout(SILENCE, self.next()).await;
        assert!(next.is_err(), "{next:?}");
    }

    async fn ends(mut self) {
        while let Some((name, data)) = self.next().await {
            assert_eq!(name, "reset", "{data}");
        }
    }
}

impl Widget {
    /// Changes what a message says.
    async fn edit(&self, message: &Message, text: &str) {
        let edit = EditMessageRequest {
            tenant: self.tenant.slug(),
            message_id: message.id.clone(),
            text: text.to_owned(),
            ..Default::default()
        };
        let mut inbox = self.tenant.inbox.clone();
        inbox.edit_message(edit).await.unwrap();
    }

    async fn note(&self, conversation: &Conversation, text: &str) -> Message {
        let note = CreateMessageRequest {
            direction: MessageDirection::Internal.into(),
            ..self.tenant.new_message(conversation, text)
        };
        self.tenant.send(note).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_hears_from_their_first_word_on_what_is_said_with_them_and_nothing_else() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let mut dana = widget.stranger();
    let opened = dana.open(json!({})).await;
    assert_eq!(opened["stream_url"], PATH);
    let other = widget.browser().await;
    // Nothing was said yet.
    let mut listener = Listener::open(&server, &dana).await;
    let mut others = Listener::open(&server, &other).await;
    let posted = dana.say("Hello").await;
    let (name, heard) = listener.next().await.unwrap();
    assert_eq!((name.as_str(), &heard), ("message.created", &posted));
    let conversation = widget.conversations().await.remove(0);
    other.say("Is anybody there?").await;
    let note = widget.note(&conversation, "A difficult one").await;
    widget.edit(&note, "A very difficult one").await;
    let reply = widget.tenant.reply(&conversation, "Hi!").await;
    // That is for agents.
    widget.tenant.report(&reply, MessageStatus::Sent).await;
    let gif = b"GIF89a\x01\0\x01\0\0\0\0;";
    let upload = dana.upload("a.gif", "image/gif", gif).await;
    let file = json!({
        "client_message_id": uuid::Uuid::new_v4().to_string(),
        "type": "image",
        "upload_id": upload,
    });
    assert_eq!(dana.post("messages", &file).await.0, 200);

    let fetched = dana.get("messages").await.1;
    let fetched = fetched["messages"].as_array().unwrap();
    assert_eq!(fetched.len(), 3);
    for message in &fetched[1..] {
        let (name, heard) = listener.next().await.unwrap();
        assert_eq!((name.as_str(), &heard), ("message.created", message));
    }
    listener.hears_nothing().await;
    others.hears("message.created", "Is anybody there?").await;
    others.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_the_last_id_hears_everything_once() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let dana = widget.browser().await;
    let mut listener = Listener::open(&server, &dana).await;
    dana.say("0").await;
    let conversation = widget.conversations().await.remove(0);
    let mut heard = vec![listener.said().await.1];
    for number in 1..20 {
        widget
            .tenant
            .reply(&conversation, &number.to_string())
            .await;
        if number % 4 == 0 {
            // After one event of several that are there.
            listener = listener.again(&server, &dana).await;
            heard.push(listener.said().await.1);
        }
    }
    let at = listener.last_id.clone();
    while heard.len() < 20 {
        heard.push(listener.said().await.1);
    }
    let all: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(heard, all);
    // The same by a parameter, which the header goes before.
    let query = format!("&last_event_id={at}");
    let mut by_query = Listener::open_at(&server, &dana, &query, None).await;
    assert_eq!(by_query.said().await.1, "5");
    let mut by_both = Listener::open_at(&server, &dana, &query, Some(&listener.last_id)).await;
    by_both.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_and_taken_back_is_heard_as_it_is_fetched() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let dana = widget.browser().await;
    dana.say("Hello").await;
    let conversation = widget.conversations().await.remove(0);
    let mut listener = Listener::open(&server, &dana).await;
    let before = listener.last_id.clone();
    let reply = widget.tenant.reply(&conversation, "Good mroning").await;
    listener.hears("message.created", "Good mroning").await;
    let shown = async || dana.get("messages").await.1["messages"][1].clone();
    widget.edit(&reply, "Good morning").await;
    let (name, heard) = listener.next().await.unwrap();
    assert_eq!((name.as_str(), heard), ("message.updated", shown().await));
    let delete = DeleteMessageRequest {
        tenant: widget.tenant.slug(),
        message_id: reply.id.clone(),
        ..Default::default()
    };
    let mut inbox = widget.tenant.inbox.clone();
    inbox.delete_message(delete).await.unwrap();
    let (name, heard) = listener.next().await.unwrap();
    assert_eq!((name.as_str(), &heard), ("message.deleted", &shown().await));
    assert_eq!(heard["body"], "");
    assert!(heard["deleted_at"].is_string());
    // Who comes later does not hear what it said.
    let mut later = Listener::open_at(&server, &dana, "", Some(&before)).await;
    for _ in 0..3 {
        later.hears("message.deleted", "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_conversation_is_heard_too_and_that_others_were_theirs_as_a_reset() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let (mut dana, mut elsewhere) = (widget.browser().await, widget.browser().await);
    dana.identify("crm-42", json!({"name": "Dana"})).await;
    elsewhere.identify("crm-42", json!({})).await;
    let mut listener = Listener::open(&server, &dana).await;
    dana.say("one").await;
    listener.hears("message.created", "one").await;
    let first = widget.conversations().await.remove(0);
    let archive = ArchiveConversationRequest {
        tenant: widget.tenant.slug(),
        conversation_id: first.id.clone(),
        ..Default::default()
    };
    let mut inbox = widget.tenant.inbox.clone();
    inbox.archive_conversation(archive).await.unwrap();
    elsewhere.say("two").await;
    listener.hears("message.created", "two").await;
    listener.hears_nothing().await;

    // What was said on a third browser turns out to be theirs, and has to be fetched.
    let mut third = widget.browser().await;
    third.say("three").await;
    listener.hears_nothing().await;
    third.identify("crm-42", json!({})).await;
    assert_eq!(listener.next().await, Some(("reset".to_owned(), json!({}))));
    third.say("four").await;
    listener.hears("message.created", "four").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_no_more_once_its_visitor_is_somebody_else() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let mut dana = widget.browser().await;
    dana.say("Hello").await;
    let before = Listener::open(&server, &dana).await;
    let still_open = dana.clone();
    dana.identify("crm-42", json!({"name": "Dana"})).await;
    before.ends().await;
    // And does not come back: the session is over for the other page.
    let (status, code, _) = refused(still_open.get("stream").await);
    assert_eq!((status, code.as_str()), (401, "session_over"));
    let mut listener = Listener::open(&server, &dana).await;
    let conversation = widget.conversations().await.remove(0);
    widget.tenant.reply(&conversation, "Hi Dana").await;
    listener.hears("message.created", "Hi Dana").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_leads_nowhere_is_answered_with_a_reset() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let dana = widget.browser().await;
    dana.say("Hello").await;
    let conversation = widget.conversations().await.remove(0);
    let mut listener = Listener::open(&server, &dana).await;
    let theirs = Widget::new(&server).await;
    let theirs = Listener::open(&server, &theirs.browser().await).await;
    for id in ["garbage", &theirs.last_id] {
        let mut reset = Listener::open_at(&server, &dana, "", Some(id)).await;
        assert_eq!(reset.next().await, Some(("reset".to_owned(), json!({}))));
        widget.tenant.reply(&conversation, "from here").await;
        reset.hears("message.created", "from here").await;
        listener.hears("message.created", "from here").await;
    }
    // As if the database had been restored from before, and gone on.
    let tables = Tables::of(&widget.tenant).await;
    let restore = format!(
        "UPDATE {schema}.events SET event_id = gen_random_uuid()
        WHERE id = (SELECT max(id) FROM {schema}.events)",
        schema = tables.schema
    );
    tables.admin.batch_execute(&restore).await.unwrap();
    assert_eq!(listener.next().await.unwrap().0, "reset");
    widget.tenant.reply(&conversation, "behind it").await;
    listener.hears("message.created", "behind it").await;
    let mut again = listener.again(&server, &dana).await;
    again.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_fetch_may_not_listen() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let dana = widget.browser().await;
    let session = dana.token.clone().unwrap();
    let ask = async |query: &str, headers: &[(&str, &str)]| {
        let path = format!("{PATH}{query}");
        let answer = exchange(server.http, "GET", &path, headers, b"").await;
        refused(parsed(&answer.unwrap()))
    };
    let page = ("origin", ORIGIN);
    let none = (401, "session_required".to_owned(), String::new());
    assert_eq!(ask("", &[page]).await, none);
    assert_eq!(ask("?session=garbage", &[page]).await, none);
    // The header counts where there are both.
    let garbage = ("authorization", "Bearer garbage");
    let both = format!("?session={session}");
    assert_eq!(ask(&both, &[page, garbage]).await, none);
    for headers in [&[][..], &[("origin", "https://evil.example")]] {
        assert_eq!(ask(&both, headers).await.1, "origin_not_allowed");
    }
    // In the address it counts for this path alone.
    let path = format!("/widget/v1/messages?session={session}");
    let answer = exchange(server.http, "GET", &path, &[page], b"")
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
    let preflight = dana.call("OPTIONS", "stream", "", b"").await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.headers["access-control-allow-headers"].contains("last-event-id"));

    // Each page that is open has a place, and leaves it.
    let mut listeners = Vec::new();
    for _ in 0..5 {
        listeners.push(Listener::open(&server, &dana).await);
    }
    assert_eq!(ask(&both, &[page]).await.1, "too_often");
    let other = widget.browser().await;
    Listener::open(&server, &other).await;
    listeners.pop();
    crate::harness::eventually("a place is free", async || {
        let path = format!("{PATH}{both}");
        let headers = [page];
        let asking = exchange(server.http, "GET", &path, &headers, b"");
        // Whoever is let in hears no end.
        tokio::time::timeout(Duration::from_millis(200), asking)
            .await
            .is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_session_its_widget_its_tenant_and_its_server() {
    let server = TestServer::start_with(|config| {
        config.widget.session_seconds = 4;
        config.widget.sessions = 100;
    })
    .await;
    let widget = Widget::new(&server).await;
    let mut dana = widget.browser().await;
    let short = Listener::open(&server, &dana).await;
    tokio::time::timeout(Duration::from_secs(7), short.ends())
        .await
        .expect("with its session");
    dana.open(json!({})).await;

    let patient = patient_server().await;
    let (widget, closed) = (Widget::new(&patient).await, Widget::new(&patient).await);
    let (dana, customer) = (widget.browser().await, closed.browser().await);
    let listener = Listener::open(&patient, &dana).await;
    dana.say("Hello").await;
    let account = widget.conversations().await.remove(0).channel_account_id;
    let disable = DisableChannelAccountRequest {
        tenant: widget.tenant.slug(),
        channel_account_id: account,
    };
    let mut admin = patient.tenant_admin();
    let mut listener = listener;
    listener.hears("message.created", "Hello").await;
    admin.disable_channel_account(disable).await.unwrap();
    listener.ends().await;

    let listener = Listener::open(&patient, &customer).await;
    let suspend = SuspendTenantRequest {
        tenant: closed.tenant.slug(),
        ..Default::default()
    };
    admin.suspend_tenant(suspend).await.unwrap();
    listener.ends().await;

    let last = Widget::new(&patient).await;
    let browser = last.browser().await;
    let listener = Listener::open(&patient, &browser).await;
    let stopping = tokio::spawn(patient.stop());
    listener.ends().await;
    tokio::time::timeout(Duration::from_secs(5), stopping)
        .await
        .expect("it does not wait for the grace period")
        .unwrap();
}
