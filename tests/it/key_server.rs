//! Keys that come from an address: rotated, slow, poisoned, gone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Parser as _;
use communication_service::config::Config;
use communication_service::error::Chain;
use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use communication_service::pb::{ListTenantsRequest, ListTenantsResponse};
use communication_service::server::Server;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;
use tonic::{Code, Request, Status};

use crate::harness::{
    Certificates, Keys, Service, TestServer, bearer, database_url, ed_header, eventually, folder,
};

/// What the key server does.
#[derive(Clone)]
enum Mode {
    Answer(String),
    Refuse,
    Redirect,
    Hang,
}

struct KeyServer {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn start(mode: Mode) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (mode, asked) = (Arc::new(Mutex::new(mode)), Arc::new(AtomicUsize::new(0)));
        let state = (mode.clone(), asked.clone());
        let answer = move || {
            state.1.fetch_add(1, Ordering::Relaxed);
            answer(state.0.lock().unwrap().clone())
        };
        let routes = Router::new().route("/keys", get(answer));
        tokio::spawn(async move { axum::serve(socket, routes).await });
        Self {
            address,
            mode,
            asked,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn answer(mode: Mode) -> Response {
    match mode {
        Mode::Answer(text) => text.into_response(),
        Mode::Refuse => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mode::Redirect => (StatusCode::FOUND, [(header::LOCATION, "/keys?again")]).into_response(),
        Mode::Hang => std::future::pending().await,
    }
}

/// The set of some keys, whose key `ed` has another name.
fn set(keys: &Keys, kid: &str) -> Mode {
    let text = std::fs::read_to_string(&keys.jwks_file).unwrap();
    Mode::Answer(text.replace("\"ed\"", &format!("\"{kid}\"")))
}

fn token(keys: &Keys, kid: &str) -> String {
    let mut header = ed_header();
    header.kid = Some(kid.to_owned());
    let mut claims = Keys::claims();
    claims["scope"] = json!("tenant.admin");
    // Two tokens are never the same, or the second would be remembered.
    claims["sub"] = json!(uuid::Uuid::now_v7().to_string());
    keys.sign_as(&header, &claims)
}

async fn call(server: &TestServer, token: &str) -> Result<ListTenantsResponse, Status> {
    let mut request = Request::new(ListTenantsRequest::default());
    *request.metadata_mut() = bearer(token);
    let answer = server.tenant_admin().list_tenants(request).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_learnt_with_its_first_token_and_made_up_ones_ask_once_a_minute() {
    let (first, second, third) = (Keys::new(), Keys::new(), Keys::new());
    let stub = KeyServer::start(set(&first, "one")).await;
    let url = stub.url();
    let server = TestServer::start_with(|config| config.jwks_url = Some(url)).await;
    assert_eq!(stub.asked(), 1);
    let remembered = token(&first, "one");
    call(&server, &remembered).await.unwrap();

    stub.set(set(&second, "two"));
    let calls = (0..20).map(|_| token(&second, "two"));
    let server = &server;
    join_all(calls.map(async |token| call(server, &token).await.unwrap())).await;
    assert_eq!(stub.asked(), 2);
    // What a key that is gone has signed is believed no more, even if it was before.
    let refused = call(server, &remembered).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    stub.set(set(&third, "three"));
    for kid in ["three", "four", "five"] {
        let refused = call(server, &token(&third, kid)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(stub.asked(), 2);
    call(server, &token(&second, "two")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_server_that_fails_takes_no_known_key_away() {
    let keys = Keys::new();
    for mode in [
        Mode::Refuse,
        Mode::Redirect,
        Mode::Hang,
        Mode::Answer("{}".to_owned()),
        Mode::Answer(r#"{"keys": []}"#.to_owned()),
        Mode::Answer("<html>".to_owned()),
        Mode::Answer(format!(
            r#"{{"keys": [], "more": "{}"}}"#,
            "x".repeat(300_000)
        )),
        Mode::Answer(r#"{"keys": [{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}]}"#.to_owned()),
    ] {
        let stub = KeyServer::start(set(&keys, "one")).await;
        let url = stub.url();
        let server = TestServer::start_with(|config| config.jwks_url = Some(url)).await;
        stub.set(mode);
        let began = Instant::now();
        let refused = call(&server, &token(&keys, "unknown")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(stub.asked(), 2);
        assert!(began.elapsed() < Duration::from_secs(7));
        call(&server, &token(&keys, "one")).await.unwrap();
    }
}

#[derive(clap::Parser)]
struct Parsed {
    #[command(flatten)]
    config: Config,
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_keys_a_server_does_not_start_and_says_why() {
    let stub = KeyServer::start(Mode::Refuse).await;
    for (url, why) in [
        (stub.url(), "the key server answers 500"),
        ("http://10.0.0.1/keys".to_owned(), "must be https://"),
        ("http://127.0.0.1:1/keys".to_owned(), "cannot be reached"),
    ] {
        let mut config = Parsed::parse_from(["test"]).config;
        // Nobody would get as far as a database.
        config.database_url = Some("postgresql://127.0.0.1:1/none".to_owned());
        config.data_dir = std::env::temp_dir().join("nothing-is-written-here");
        (config.grpc_port, config.service_port) = (0, 0);
        config.jwks_url = Some(url);
        let error = Server::start(config).await.err().unwrap();
        let error = Chain(&error).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_by_https_from_a_server_that_this_machine_trusts() {
    let certificates = Certificates::new();
    let keys = Keys::new();
    let acceptor = certificates.acceptor();
    let text = std::fs::read_to_string(&keys.jwks_file).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/keys",
        socket.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /keys HTTP/1.1\r\n"));
            let length = text.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let trusted = certificates.ca();
    let settings = [
        ("COMM_JWKS_URL", url.as_str()),
        ("SSL_CERT_FILE", trusted.to_str().unwrap()),
    ];
    let service = Service::start_with(&folder(), database_url().await, &settings).await;
    let mut request = Request::new(ListTenantsRequest::default());
    *request.metadata_mut() = bearer(&token(&keys, "ed"));
    let mut admin = TenantAdminServiceClient::new(service.channel.clone());
    admin.list_tenants(request).await.unwrap();
    service.stop().await;

    let stranger = Certificates::new().ca();
    let refused = Command::new(env!("CARGO_BIN_EXE_communication-service"))
        .env("COMM_JWKS_URL", &url)
        .env("SSL_CERT_FILE", stranger)
        .envs([("GRPC_PORT", "0"), ("SERVICE_PORT", "0")])
        .output()
        .await
        .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(
        words.contains("the key server cannot be reached"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_keys_is_read_again() {
    let (first, second) = (Keys::new(), Keys::new());
    let server = TestServer::start_trusting(&first).await;
    call(&server, &token(&first, "ed")).await.unwrap();
    std::fs::copy(&second.jwks_file, &first.jwks_file).unwrap();
    eventually("the new key", async || {
        call(&server, &token(&second, "ed")).await.is_ok()
    })
    .await;
    let refused = call(&server, &token(&first, "ed")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
