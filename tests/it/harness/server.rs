//! A server of a test's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::Parser as _;
use communication_service::config::Config;
use communication_service::error::Chain;
use communication_service::pb::chat_service_client::ChatServiceClient;
use communication_service::pb::event_service_client::EventServiceClient;
use communication_service::pb::inbox_service_client::InboxServiceClient;
use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use communication_service::pb::{InitializeTenantRequest, Tenant};
use communication_service::server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::PUBLIC_URL;
use super::postgres::{database_url, folder};
use super::{Keys, TestTenant};

/// A running server.
pub struct TestServer {
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where tenants are administered, if on a port of its own.
    pub admin: Option<SocketAddr>,
    /// Where metrics are, if not on the sidecar.
    pub metrics: Option<SocketAddr>,
    /// Where the sidecar listens.
    pub http: SocketAddr,
    /// A connection without a credential.
    pub channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

#[derive(clap::Parser)]
struct Parsed {
    #[command(flatten)]
    config: Config,
}

impl TestServer {
    /// Starts a server with the defaults, on the shared database.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a server that lets nobody in without a token of these keys.
    pub async fn start_trusting(keys: &Keys) -> Self {
        let file = keys.jwks_file.clone();
        Self::start_with(|config| config.jwks_file = Some(file)).await
    }

    /// Starts a server with settings of the test's own.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_through(change, |grpc| {
            Endpoint::from_shared(format!("http://{grpc}")).unwrap()
        })
        .await
    }

    /// Starts a server with settings of the test's own, which is reached in the test's own way.
    pub async fn start_through(
        change: impl FnOnce(&mut Config),
        endpoint: impl FnOnce(SocketAddr) -> Endpoint,
    ) -> Self {
        let mut config = Parsed::parse_from(["test"]).config;
        config.database_url = Some(database_url().await.to_owned());
        config.data_dir = folder();
        config.service_port = 0;
        config.grpc_port = 0;
        config.metrics_port = 0;
        config.db_connections = 20;
        config.public_url = Some(PUBLIC_URL.to_owned());
        // Nobody is there: a test that wants somebody says so.
        config.meta_url = "http://127.0.0.1:9".to_owned();
        config.twilio_url = "http://127.0.0.1:9".to_owned();
        config.gmail_url = "http://127.0.0.1:9".to_owned();
        config.google_token_url = "http://127.0.0.1:9".to_owned();
        config.google_keys_url = "http://127.0.0.1:9".to_owned();
        config.aws_url = Some("http://127.0.0.1:9".to_owned());
        change(&mut config);
        let server = match Server::start(config).await {
            Ok(server) => server,
            Err(error) => panic!("the server does not start: {}", Chain(&error)),
        };
        let (grpc, http) = (server.grpc_address(), server.http_address());
        let (admin, metrics) = (server.admin_address(), server.metrics_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.run(stopped).await.unwrap();
        });
        let channel = endpoint(grpc).connect_lazy();
        Self {
            grpc,
            admin,
            http,
            metrics,
            channel,
            stop: Some(stop),
            running,
        }
    }

    /// Stops the server as a signal would, and waits for its end.
    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.running).await.unwrap();
    }

    /// Asks the sidecar; returns the status and the body.
    pub async fn http_get(&self, path: &str) -> (u16, String) {
        let answer = http(self.http, "GET", path, &[], b"").await;
        answer.expect("an answer")
    }

    /// Posts to the sidecar; returns the status and the body.
    pub async fn http_post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, String) {
        let answer = http(self.http, "POST", path, headers, body).await;
        answer.expect("an answer")
    }

    /// A client of `InboxService`.
    pub fn inbox(&self) -> InboxServiceClient<Channel> {
        InboxServiceClient::new(self.channel.clone())
    }

    /// A client of `ChatService`.
    pub fn chat(&self) -> ChatServiceClient<Channel> {
        ChatServiceClient::new(self.channel.clone())
    }

    /// A client of `EventService`.
    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    /// A client of `TenantAdminService`.
    pub fn tenant_admin(&self) -> TenantAdminServiceClient<Channel> {
        TenantAdminServiceClient::new(self.channel.clone())
    }

    /// Makes a tenant that no other test knows.
    pub async fn tenant(&self) -> TestTenant {
        let slug = format!("t{}", Uuid::now_v7().simple());
        TestTenant::new(self, self.initialize(&slug).await)
    }

    /// Makes a tenant of a name.
    pub async fn initialize(&self, slug: &str) -> Tenant {
        let request = InitializeTenantRequest {
            tenant: slug.to_owned(),
            schema_name: String::new(),
        };
        let answer = self
            .tenant_admin()
            .initialize_tenant(request)
            .await
            .unwrap();
        answer.into_inner().tenant.unwrap()
    }
}

/// An answer by HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, by their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// Speaks HTTP; returns the answer, or nothing where nobody answers.
pub async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers.iter().any(|(name, _)| *name == "connection") {
        request.push_str("connection: close\r\n");
    }
    if !headers.iter().any(|(name, _)| *name == "host") {
        request.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    // A body that is refused beforehand may not be read to its end.
    let _ = socket.write_all(body).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Answer {
        status,
        headers: headers.collect(),
        body: body.to_owned(),
    })
}

/// Speaks HTTP; returns the status and the body, or nothing where nobody answers.
pub async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<(u16, String)> {
    let answer = exchange(address, method, path, headers, body).await?;
    Some((answer.status, answer.body))
}

/// Asks an HTTP port; returns the status and the body.
pub async fn http_get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    http(address, "GET", path, headers, b"").await.unwrap()
}
