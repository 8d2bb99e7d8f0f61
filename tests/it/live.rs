//! The stream of events by WebSocket: the same frames, the same refusals, and an end that says why.

use std::time::Duration;

use communication_service::pb::SuspendTenantRequest;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use crate::events::logged;
use crate::harness::{Answer, Keys, TestServer, TestTenant, bearer, exchange, now, parsed};

/// How long a frame may take in a test.
const PATIENCE: Duration = Duration::from_secs(30);
const PROTOCOL: &str = "communication.v1.events";

/// A client, and how far it is.
pub struct Socket {
    socket: WebSocketStream<TcpStream>,
    /// The protocol that the server has chosen.
    protocol: Option<String>,
    /// The last token that came.
    token: String,
}

fn path(tenant: &str, query: &str) -> String {
    format!("/api/v1/tenants/{tenant}/events?{query}")
}

impl Socket {
    /// Connects; the error is the status of the refusal.
    async fn connect(
        server: &TestServer,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let mut request = format!("ws://{}{path}", server.http)
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(server.http).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, answer)) => {
                let protocol = answer.headers().get("sec-websocket-protocol");
                assert!(answer.headers().contains_key("x-request-id"));
                Ok(Self {
                    protocol: protocol.map(|it| it.to_str().unwrap().to_owned()),
                    socket,
                    token: String::new(),
                })
            }
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects without a credential, and reads the greeting.
    pub async fn open(server: &TestServer, tenant: &TestTenant, query: &str) -> Self {
        let mut socket = Self::connect(server, &path(&tenant.slug(), query), &[])
            .await
            .unwrap();
        socket.greeted().await;
        socket
    }

    async fn greeted(&mut self) {
        let frame = self.frame().await.unwrap();
        let token = frame["hello"]["head_token"].as_str();
        token
            .unwrap_or_else(|| panic!("{frame}"))
            .clone_into(&mut self.token);
    }

    async fn message(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        next.expect("a message in time").transpose().ok().flatten()
    }

    /// The next frame; else the code and the reason with which it was closed.
    pub async fn frame(&mut self) -> Result<Json, (u16, String)> {
        loop {
            match self.message().await {
                Some(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Message::Close(Some(frame))) => {
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Some(Message::Ping(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// With what it is closed.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(closed) = self.frame().await {
                return closed;
            }
        }
    }

    /// The events of the next batch.
    async fn batch(&mut self) -> Vec<Json> {
        loop {
            let frame = self.frame().await.unwrap();
            let kind = ["batch", "checkpoint"]
                .into_iter()
                .find(|kind| frame[kind].is_object());
            let kind = kind.unwrap_or_else(|| panic!("{frame}"));
            let token = frame[kind]["token"].as_str().unwrap();
            token.clone_into(&mut self.token);
            if let Some(events) = frame[kind]["events"].as_array() {
                return events.clone();
            }
        }
    }

    /// The events up to the one that is waited for.
    async fn until(&mut self, is_it: impl Fn(&Json) -> bool) -> Vec<Json> {
        let mut events = Vec::new();
        while !events.iter().any(&is_it) {
            events.extend(self.batch().await);
        }
        events
    }
}

/// Asks for an upgrade as a client does; returns what is answered instead.
async fn refused(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Answer {
    let upgrade = [
        ("connection", "close, upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let headers = [&upgrade, headers].concat();
    exchange(server.http, "GET", path, &headers, b"")
        .await
        .unwrap()
}

fn ids(events: &[Json]) -> Vec<String> {
    let ids = events.iter().map(|event| event["id"].as_str().unwrap());
    ids.map(ToOwned::to_owned).collect()
}

fn is_of(id: &str) -> impl Fn(&Json) -> bool {
    move |event| event["resource_id"] == id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_heard_as_rest_tells_of_it() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut socket = Socket::open(&server, &tenant, "").await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Hello").await;
    let events = socket.until(is_of(&message.id)).await;
    let said = events
        .iter()
        .find(|event| is_of(&message.id)(event))
        .unwrap();
    assert_eq!(said["type"], "message.created");
    assert_eq!(said["conversation_id"], conversation.id);
    assert_eq!(said["sequence"], "1");
    let path = format!("/api/v1/tenants/{}/messages/{}", tenant.slug(), message.id);
    let (_, by_rest) = parsed(&exchange(server.http, "GET", &path, &[], b"").await.unwrap());
    assert_eq!(said["message"], by_rest["message"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_its_token_hears_everything_once() {
    let servers = [TestServer::start().await, TestServer::start().await];
    let tenant = servers[0].tenant().await;
    // What the log begins with is no event.
    let begun = logged(&tenant).await.len();
    let conversation = tenant.conversation().await;
    let mut heard = Vec::new();
    let mut socket = Socket::open(&servers[0], &tenant, "earliest=true").await;
    heard.extend(socket.until(|_| true).await);
    for visit in 0..4 {
        for number in 0..5 {
            tenant
                .reply(&conversation, &format!("{visit}/{number}"))
                .await;
        }
        let query = format!("token={}", socket.token);
        // The one from before goes without a word.
        socket = Socket::open(&servers[visit % 2], &tenant, &query).await;
        heard.extend(socket.batch().await);
    }
    while heard.len() < logged(&tenant).await.len() - begun {
        heard.extend(socket.batch().await);
    }
    assert_eq!(ids(&heard), logged(&tenant).await[begun..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_asked_for_is_heard() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (one, other) = (tenant.conversation().await, tenant.conversation().await);
    let query = format!(
        "types=message.created&types=message.deleted&conversation_ids={}&conversationIds={}",
        other.id, other.id
    );
    let mut socket = Socket::open(&server, &tenant, &query).await;
    tenant.reply(&one, "not wanted").await;
    let wanted = tenant.reply(&other, "wanted").await;
    assert!(is_of(&wanted.id)(&socket.batch().await[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_as_header_or_as_protocol_and_refusals_are_those_of_rest() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let slug = format!("t{}", Uuid::now_v7().simple());
    let mut initialize = tonic::Request::new(communication_service::pb::InitializeTenantRequest {
        tenant: slug.clone(),
        schema_name: String::new(),
    });
    *initialize.metadata_mut() = bearer(&keys.token(json!({"scope": "tenant.admin"})));
    let mut admin = server.tenant_admin();
    admin.initialize_tenant(initialize).await.unwrap();
    let token = keys.token(json!({"scope": "events.read", "tenants": [slug.clone()]}));
    let header = format!("Bearer {token}");
    let protocols = format!("{PROTOCOL}, bearer.{token}");
    let events = path(&slug, "");

    let by_header = [("authorization", header.as_str())];
    let mut socket = Socket::connect(&server, &events, &by_header).await.unwrap();
    assert_eq!(socket.protocol, None);
    socket.greeted().await;
    // A page of any origin may have a token.
    let by_protocol = [
        ("sec-websocket-protocol", protocols.as_str()),
        ("origin", "https://app.example.com"),
    ];
    let mut socket = Socket::connect(&server, &events, &by_protocol)
        .await
        .unwrap();
    assert_eq!(socket.protocol.as_deref(), Some(PROTOCOL));
    socket.greeted().await;

    let narrow = format!("Bearer {}", keys.token(json!({"scope": "inbox.read"})));
    let elsewhere = json!({"scope": "events.read", "tenants": ["other"]});
    let elsewhere = format!("Bearer {}", keys.token(elsewhere));
    let everywhere = format!("Bearer {}", keys.token(json!({"scope": "events.read"})));
    let old = json!({"scope": "events.read", "exp": now() - 60});
    let old = format!("Bearer {}", keys.token(old));
    let known = [
        (slug.as_str(), "", 401),
        (slug.as_str(), "Bearer nobody", 401),
        (slug.as_str(), old.as_str(), 401),
        (slug.as_str(), narrow.as_str(), 403),
        (slug.as_str(), elsewhere.as_str(), 403),
        ("nobody", everywhere.as_str(), 404),
        ("No-Body", everywhere.as_str(), 400),
    ];
    for (tenant, credential, status) in known {
        let headers: &[(&str, &str)] = match credential {
            "" => &[],
            credential => &[("authorization", credential)],
        };
        let refused = refused(&server, &path(tenant, ""), headers).await;
        let head = format!("/api/v1/tenants/{tenant}/events/head");
        let by_rest = exchange(server.http, "GET", &head, headers, b"")
            .await
            .unwrap();
        assert_eq!(refused.status, status, "{tenant} {refused:?}");
        assert_eq!(
            (refused.status, &refused.body),
            (by_rest.status, &by_rest.body)
        );
        for name in ["content-type", "cache-control", "x-content-type-options"] {
            assert_eq!(refused.headers[name], by_rest.headers[name]);
        }
        assert!(!refused.headers["x-request-id"].is_empty());
    }
    // Two credentials are none, and one in the address neither.
    let both = [("authorization", header.as_str()), by_protocol[0]];
    assert_eq!(refused(&server, &events, &both).await.status, 401);
    let in_query = path(&slug, &format!("access_token={token}"));
    assert_eq!(refused(&server, &in_query, &[]).await.status, 401);

    for (query, field) in [
        ("token=garbage", "token"),
        ("earliest=false", "earliest"),
        ("earliest=perhaps", "earliest"),
        ("types=message.created&types=Message", "types[1]"),
        ("conversation_ids=x", "conversation_ids[0]"),
        ("since=yesterday", "since"),
        ("token=a&earliest=true", "token"),
        ("tenant=other", "tenant"),
    ] {
        let answer = refused(&server, &path(&slug, query), &by_header).await;
        let (status, body) = parsed(&answer);
        let details = body["error"]["details"].as_array().unwrap().iter();
        let fields = details.flat_map(|detail| detail["field_violations"].as_array());
        let fields: Vec<_> = fields.flatten().map(|it| &it["field"]).collect();
        assert_eq!(
            (status, fields),
            (400, vec![&json!(field)]),
            "{query} {body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_upgrade_is_told_what_would_be_one() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let events = path(&tenant.slug(), "");
    let plain = exchange(server.http, "GET", &events, &[], b"")
        .await
        .unwrap();
    let (status, body) = parsed(&plain);
    assert_eq!(
        (status, &body["error"]["status"]),
        (400, &json!("INVALID_ARGUMENT"))
    );
    assert!(plain.body.contains("WebSocket"), "{body}");
    let posted = exchange(server.http, "POST", &events, &[], b"")
        .await
        .unwrap();
    assert_eq!(posted.status, 405);
    assert!(posted.headers["allow"].contains("GET"));
    // A page that has made itself a neighbour needs a token as by REST.
    let page = [("origin", "http://evil.example.com")];
    assert_eq!(refused(&server, &events, &page).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_closed_with_its_credential_and_with_its_tenant() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let slug = format!("t{}", Uuid::now_v7().simple());
    let request = |scope: &str| {
        let token = keys.token(json!({"scope": scope}));
        let mut request = tonic::Request::new(());
        *request.metadata_mut() = bearer(&token);
        request
    };
    let initialize =
        request("tenant.admin").map(|()| communication_service::pb::InitializeTenantRequest {
            tenant: slug.clone(),
            schema_name: String::new(),
        });
    server
        .tenant_admin()
        .initialize_tenant(initialize)
        .await
        .unwrap();
    let connect = async |claims: Json| {
        let header = format!("Bearer {}", keys.token(claims));
        let headers = [("authorization", header.as_str())];
        let mut socket = Socket::connect(&server, &path(&slug, ""), &headers)
            .await
            .unwrap();
        socket.greeted().await;
        socket
    };
    // Clocks may be 30 seconds apart.
    let mut short = connect(json!({"scope": "events.read", "exp": now() - 24})).await;
    assert_eq!(
        short.closed().await,
        (4401, "CREDENTIAL_INVALID".to_owned())
    );

    let mut long = connect(json!({"scope": "events.read"})).await;
    let suspend = request("tenant.admin").map(|()| SuspendTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    });
    server.tenant_admin().suspend_tenant(suspend).await.unwrap();
    assert_eq!(long.closed().await, (4400, "TENANT_SUSPENDED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_goodbye_and_does_not_wait_for_who_says_nothing() {
    let other = TestServer::start().await;
    let server = TestServer::start_with(|config| config.grace_seconds = 3).await;
    let tenant = other.tenant().await;
    let conversation = tenant.conversation().await;
    let mut socket = Socket::open(&server, &tenant, "").await;
    // It never reads, and so answers nothing.
    let mut silent = Socket::open(&server, &tenant, "").await;
    let large = "a word ".repeat(9_000);
    for _ in 0..100 {
        tenant.reply(&conversation, &large).await;
    }
    let first = tenant.reply(&conversation, "first").await;
    socket.until(is_of(&first.id)).await;
    let stopping = tokio::spawn(server.stop());
    let goodbye = loop {
        let frame = socket.frame().await.unwrap();
        if frame["goodbye"].is_object() {
            break frame["goodbye"].clone();
        }
    };
    assert_eq!(goodbye["retry_delay"], "1s");
    let (code, _) = socket.closed().await;
    assert_eq!(code, u16::from(CloseCode::Away));
    drop(socket);
    let stopped = tokio::time::timeout(Duration::from_secs(8), stopping).await;
    stopped.expect("it stops in time").unwrap();
    // What the silent one had not taken is cut off there, and comes again from its token.
    while silent.message().await.is_some() {}

    let second = tenant.reply(&conversation, "second").await;
    let query = format!("token={}", goodbye["token"].as_str().unwrap());
    let mut socket = Socket::open(&other, &tenant, &query).await;
    let events = socket.until(is_of(&second.id)).await;
    assert!(!events.iter().any(is_of(&first.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cooperates_lets_the_server_stop_at_once() {
    let server = TestServer::start_with(|config| config.grace_seconds = 60).await;
    let tenant = server.tenant().await;
    let mut socket = Socket::open(&server, &tenant, "").await;
    let stopping = tokio::spawn(server.stop());
    let (code, _) = socket.closed().await;
    assert_eq!(code, u16::from(CloseCode::Away));
    // The answer to the close goes out with the next reading.
    assert!(socket.message().await.is_none());
    let stopped = tokio::time::timeout(Duration::from_secs(4), stopping).await;
    stopped.expect("it stops in time").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_means_nothing_and_is_not_kept() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut socket = Socket::open(&server, &tenant, "").await;
    let largest = "x".repeat(4096);
    socket.socket.send(Message::text(largest)).await.unwrap();
    let ping = Bytes::from_static(b"are you there?");
    socket
        .socket
        .send(Message::Ping(ping.clone()))
        .await
        .unwrap();
    assert_eq!(socket.message().await, Some(Message::Pong(ping)));
    let larger = "x".repeat(4097);
    socket.socket.send(Message::text(larger)).await.unwrap();
    let (code, _) = socket.closed().await;
    assert_eq!(code, u16::from(CloseCode::Policy));

    let mut socket = Socket::open(&server, &tenant, "").await;
    socket.socket.close(None).await.unwrap();
    let answered = socket.message().await;
    assert!(matches!(answered, Some(Message::Close(_))), "{answered:?}");
    assert!(socket.message().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_is_not_skipped() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let begun = logged(&tenant).await.len();
    let mut slow = Socket::open(&server, &tenant, "").await;
    let mut fast = Socket::open(&server, &tenant, "").await;
    // More than the buffers of the sockets and of the server hold.
    let large = "a word ".repeat(9_000);
    for _ in 0..200 {
        tenant.reply(&conversation, &large).await;
    }
    let last = tenant.reply(&conversation, "the last").await;
    fast.until(is_of(&last.id)).await;
    let mut heard = Vec::new();
    let all = logged(&tenant).await.len() - begun;
    while heard.len() < all {
        heard.extend(slow.batch().await);
    }
    assert_eq!(ids(&heard), logged(&tenant).await[begun..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarter_of_the_connections_may_be_sockets() {
    let server = TestServer::start_with(|config| config.connections = 8).await;
    let tenant = server.tenant().await;
    let _one = Socket::open(&server, &tenant, "").await;
    let other = Socket::open(&server, &tenant, "").await;
    let answer = refused(&server, &path(&tenant.slug(), ""), &[]).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    // Others are not held up, and a place that is left is free.
    assert_eq!(server.http_get("/health").await.0, 200);
    drop(other);
    let events = path(&tenant.slug(), "");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(status) = Socket::connect(&server, &events, &[]).await.map(drop) {
        assert_eq!(status, 429);
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
