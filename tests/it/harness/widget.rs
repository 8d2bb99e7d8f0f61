//! Plays the visitor's side of the chat widget: browsers on pages, and what is behind the pages.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::{
    ConnectChannelAccountRequest, Conversation, ListConversationsRequest, Message, WebSecrets,
    WebSettings, channel_account,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Answer, Tables, TestServer, TestTenant, exchange};

/// The origin of the samples.
pub const ORIGIN: &str = "https://shop.example";
/// The identity secret of the samples.
pub const IDENTITY_SECRET: &str = "wgt_idk_9fJ4sLp0XbTe7uHdGq3w";

/// A sample of the web chat.
pub fn web_sample(file: &str) -> Json {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read(format!("{root}/tests/samples/web/{file}")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// What the server behind a page says of its user.
pub fn user_hash(secret: &str, user_id: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, user_id.as_bytes());
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A server whose limits are in nobody's way.
pub async fn patient_server() -> TestServer {
    TestServer::start_with(|config| {
        let widget = &mut config.widget;
        widget.sessions = 100_000;
        widget.identifications = 100_000;
        widget.messages = 100_000;
        widget.address_messages = 100_000;
        widget.uploads = 100_000;
        widget.address_uploads = 100_000;
        widget.reads = 100_000;
    })
    .await
}

/// A widget.
#[derive(Clone)]
pub struct Widget {
    /// Whose it is.
    pub tenant: TestTenant,
    /// What it calls itself by.
    pub token: String,
    http: SocketAddr,
}

impl Widget {
    /// A widget of a new tenant, for the page of the samples.
    pub async fn new(server: &TestServer) -> Self {
        Self::with(server, |_| {}).await
    }

    /// The same with settings of the test's own.
    pub async fn with(server: &TestServer, change: impl FnOnce(&mut WebSettings)) -> Self {
        let tenant = server.tenant().await;
        let mut settings = Self::settings();
        change(&mut settings);
        let request = Self::request(&tenant, settings);
        let connected = server.tenant_admin().connect_channel_account(request).await;
        let account = connected.unwrap().into_inner().channel_account.unwrap();
        let Some(channel_account::Settings::Web(shown)) = &account.settings else {
            panic!("no widget: {account:?}");
        };
        let token = shown.widget_token.clone();
        Self {
            tenant,
            token,
            http: server.http,
        }
    }

    /// Settings for the page of the samples.
    pub fn settings() -> WebSettings {
        WebSettings {
            allowed_origins: vec![ORIGIN.to_owned()],
            greeting: "Hi! How can we help?".to_owned(),
            ..Default::default()
        }
    }

    /// A request to connect a widget.
    pub fn request(tenant: &TestTenant, settings: WebSettings) -> ConnectChannelAccountRequest {
        ConnectChannelAccountRequest {
            tenant: tenant.slug(),
            name: "Shop".to_owned(),
            settings: Some(Settings::Web(settings)),
            web_secrets: Some(WebSecrets {
                identity_secret: IDENTITY_SECRET.to_owned(),
            }),
            ..Default::default()
        }
    }

    /// A browser on the page of the samples, which has no session.
    pub fn stranger(&self) -> Browser {
        Browser {
            http: self.http,
            origin: Some(ORIGIN.to_owned()),
            address: None,
            token: None,
            visitor_id: String::new(),
            widget_token: self.token.clone(),
        }
    }

    /// A browser that has a session.
    pub async fn browser(&self) -> Browser {
        let mut browser = self.stranger();
        browser.open(json!({})).await;
        browser
    }

    /// The tenant's conversations, the newest first.
    pub async fn conversations(&self) -> Vec<Conversation> {
        let request = ListConversationsRequest {
            tenant: self.tenant.slug(),
            ..Default::default()
        };
        let mut inbox = self.tenant.inbox.clone();
        let listed = inbox.list_conversations(request).await.unwrap();
        listed.into_inner().conversations
    }

    /// The messages of the tenant's only conversation.
    pub async fn messages(&self) -> Vec<Message> {
        let conversations = self.conversations().await;
        assert_eq!(conversations.len(), 1, "{conversations:?}");
        self.tenant.messages(&conversations[0]).await
    }

    /// How many rows there are that a visitor can cause.
    pub async fn rows(&self) -> i64 {
        let tables = Tables::of(&self.tenant).await;
        tables
            .count(
                "SELECT (SELECT count(*) FROM {schema}.inbox_messages)
                    + (SELECT count(*) FROM {schema}.inbox_conversations)
                    + (SELECT count(*) FROM {schema}.contacts)
                    + (SELECT count(*) FROM {schema}.contact_identities)
                    + (SELECT count(*) FROM {schema}.provider_events)
                    + (SELECT count(*) FROM {schema}.attachments)
                    + (SELECT count(*) FROM {schema}.events)",
            )
            .await
    }
}

/// A browser on a page that has the widget.
#[derive(Clone)]
pub struct Browser {
    http: SocketAddr,
    /// The origin of the page; none of an app.
    pub origin: Option<String>,
    /// Whom a proxy in front of the server talks to.
    pub address: Option<String>,
    /// The token of its session.
    pub token: Option<String>,
    /// The id that it keeps.
    pub visitor_id: String,
    /// What its widget calls itself by.
    pub widget_token: String,
}

impl Browser {
    /// Calls; returns the answer as it is.
    pub async fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let mut headers = Vec::new();
        let token = self.token.as_ref().map(|token| format!("Bearer {token}"));
        for (name, value) in [
            ("origin", self.origin.as_deref()),
            ("authorization", token.as_deref()),
            ("x-forwarded-for", self.address.as_deref()),
            ("content-type", Some(kind).filter(|kind| !kind.is_empty())),
        ] {
            headers.extend(value.map(|value| (name, value)));
        }
        let path = format!("/widget/v1/{path}");
        let answer = exchange(self.http, method, &path, &headers, body).await;
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// Posts JSON; returns the status and what was answered.
    pub async fn post(&self, path: &str, body: &Json) -> (u16, Json) {
        let body = body.to_string();
        parsed(
            &self
                .call("POST", path, "application/json", body.as_bytes())
                .await,
        )
    }

    /// Reads JSON; returns the status and what was answered.
    pub async fn get(&self, path: &str) -> (u16, Json) {
        parsed(&self.call("GET", path, "", b"").await)
    }

    /// Opens a session, with what the browser keeps of the one before.
    pub async fn open(&mut self, more: Json) -> Json {
        let mut request = json!({"widget_token": self.widget_token, "visitor_id": self.visitor_id});
        let more = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(more);
        let (status, opened) = self.post("sessions", &request).await;
        assert_eq!(status, 200, "{opened}");
        self.take(&opened);
        opened
    }

    /// Opens a session as the page does after it was closed: the id alone is left.
    pub async fn come_back(&self) -> Self {
        let mut back = self.clone();
        back.token = None;
        back.open(json!({})).await;
        back
    }

    /// Identifies the visitor, as the page proves it.
    pub async fn identify(&mut self, user_id: &str, more: Json) {
        let hash = user_hash(IDENTITY_SECRET, user_id);
        let mut request = json!({"user_id": user_id, "user_hash": hash});
        let more = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(more);
        let (status, identified) = self.post("identify", &request).await;
        assert_eq!(status, 200, "{identified}");
        self.take(&identified);
    }

    fn take(&mut self, session: &Json) {
        self.token = Some(session["session_token"].as_str().unwrap().to_owned());
        self.visitor_id = session["visitor_id"].as_str().unwrap().to_owned();
    }

    /// Says something.
    pub async fn say(&self, body: &str) -> Json {
        let (status, message) = self.post("messages", &text(body)).await;
        assert_eq!(status, 200, "{message}");
        message
    }

    /// What the visitor sees of the conversation that goes on: the texts.
    pub async fn sees(&self) -> Vec<String> {
        let (status, page) = self.get("messages").await;
        assert_eq!(status, 200, "{page}");
        let messages = page["messages"].as_array().unwrap().iter();
        messages
            .map(|message| message["body"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Uploads a file; returns its id.
    pub async fn upload(&self, name: &str, kind: &str, content: &[u8]) -> String {
        let path = format!("uploads?file_name={name}");
        let (status, uploaded) = parsed(&self.call("POST", &path, kind, content).await);
        assert_eq!(status, 200, "{uploaded}");
        uploaded["upload_id"].as_str().unwrap().to_owned()
    }
}

/// A text to post, with an id of its own.
pub fn text(body: &str) -> Json {
    json!({"client_message_id": Uuid::new_v4().to_string(), "type": "text", "body": body})
}

/// The status of an answer, and its JSON.
pub fn parsed(answer: &Answer) -> (u16, Json) {
    let body = match answer.body.as_str() {
        "" => Json::Null,
        body => serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer:?}")),
    };
    (answer.status, body)
}

/// What a refusal says: its status, its word, and the field that it names.
pub fn refused((status, body): (u16, Json)) -> (u16, String, String) {
    let error = &body["error"];
    let word = |name: &str| error[name].as_str().unwrap_or("nothing").to_owned();
    assert_ne!(word("message"), "nothing", "{status} {body}");
    (status, word("code"), word("field"))
}
