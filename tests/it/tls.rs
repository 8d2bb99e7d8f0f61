//! Who reaches what: TLS, client certificates, and what stays on loopback without them.

use std::process::{Output, Stdio};
use std::sync::Arc;

use communication_service::config::{Config, Environment};
use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use communication_service::pb::{ListTenantsRequest, ListTenantsResponse};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::harness::{Certificates, Keys, TestServer, eventually, http_get};

/// A call by REST.
const TENANTS: &str = "/api/v1/tenants";

fn with_tls(config: &mut Config, certificates: &Certificates) {
    config.tls_cert_file = Some(certificates.certificate("server"));
    config.tls_key_file = Some(certificates.key("server"));
}

async fn start(
    change: impl FnOnce(&mut Config),
    scheme: &str,
    tls: Option<ClientTlsConfig>,
) -> TestServer {
    TestServer::start_through(change, |grpc| {
        let address = format!("{scheme}://127.0.0.1:{}", grpc.port());
        let endpoint = Endpoint::from_shared(address).unwrap();
        match tls {
            None => endpoint,
            Some(tls) => endpoint.tls_config(tls).unwrap(),
        }
    })
    .await
}

async fn list(server: &TestServer) -> Result<Response<ListTenantsResponse>, Status> {
    let request = ListTenantsRequest::default();
    server.tenant_admin().list_tenants(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_with_a_certificate_speaks_tls_and_nothing_else() {
    let certificates = Certificates::new();
    let tls = Some(certificates.client(None));
    let server = start(|config| with_tls(config, &certificates), "https", tls).await;
    list(&server).await.unwrap();
    assert_eq!(server.http_get("/health").await.0, 200);

    let plain = Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap();
    let mut plain = TenantAdminServiceClient::new(plain.connect_lazy());
    assert!(
        plain
            .list_tenants(ListTenantsRequest::default())
            .await
            .is_err()
    );
    let stranger = Certificates::new();
    let distrusting = Endpoint::from_shared(format!("https://{}", server.grpc)).unwrap();
    let distrusting = distrusting.tls_config(stranger.client(None)).unwrap();
    assert!(distrusting.connect().await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_needs_a_certificate_beside_its_token_where_one_is_asked_for() {
    let certificates = Certificates::new();
    let keys = Keys::new();
    let change = |config: &mut Config| {
        with_tls(config, &certificates);
        config.tls_client_ca_file = Some(certificates.ca());
        config.jwks_file = Some(keys.jwks_file.clone());
    };
    let tls = Some(certificates.client(Some("client")));
    let server = start(change, "https", tls).await;
    let refused = list(&server).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    let mut request = Request::new(ListTenantsRequest::default());
    *request.metadata_mut() = keys.metadata(json!({"scope": "tenant.admin"}));
    server.tenant_admin().list_tenants(request).await.unwrap();

    for certificate in [None, Some("stranger")] {
        let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc)).unwrap();
        let endpoint = endpoint
            .tls_config(certificates.client(certificate))
            .unwrap();
        let mut without = TenantAdminServiceClient::new(endpoint.connect_lazy());
        let mut request = Request::new(ListTenantsRequest::default());
        *request.metadata_mut() = keys.metadata(json!({"scope": "tenant.admin"}));
        let refused = without.list_tenants(request).await.unwrap_err();
        let transport = std::error::Error::source(&refused);
        assert!(transport.is_some(), "{certificate:?}: {refused:?}");
    }
}

/// The certificate that a port shows.
async fn shown(certificates: &Certificates, server: &TestServer) -> CertificateDer<'static> {
    let ca = std::fs::read(certificates.ca()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(server.grpc).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
        .unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    shown[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let certificates = Certificates::new();
    let tls = Some(certificates.client(None));
    let server = start(|config| with_tls(config, &certificates), "https", tls).await;
    list(&server).await.unwrap();
    let first = shown(&certificates, &server).await;

    certificates.renew();
    eventually("the new certificate", async || {
        shown(&certificates, &server).await != first
    })
    .await;
    list(&server).await.unwrap();
}

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_communication-service"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_reach_a_server_that_speaks_tls() {
    let certificates = Certificates::new();
    let change = |config: &mut Config| {
        with_tls(config, &certificates);
        config.tls_client_ca_file = Some(certificates.ca());
        config.tls_http = true;
    };
    let tls = Some(certificates.client(Some("client")));
    let server = start(change, "https", tls).await;
    let tenant = server.tenant().await;
    eventually("ready", async || list(&server).await.is_ok()).await;
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let address = format!("https://{}", server.grpc);
    let (ca, certificate, key) = (
        text(certificates.ca()),
        text(certificates.certificate("client")),
        text(certificates.key("client")),
    );
    let mut environment = vec![
        ("COMM_SERVER", address.as_str()),
        ("COMM_CA_FILE", ca.as_str()),
        ("COMM_SERVER_NAME", "localhost"),
        ("COMM_CLIENT_CERT_FILE", certificate.as_str()),
        ("COMM_CLIENT_KEY_FILE", key.as_str()),
    ];
    let request = json!({"tenant": tenant.slug()}).to_string();
    let listed = run(
        &["call", "InboxService/ListConversations", &request],
        &environment,
    )
    .await;
    assert!(listed.status.success(), "{listed:?}");
    environment.retain(|(name, _)| !name.starts_with("COMM_CLIENT"));
    let refused = run(&["tenant", "list"], &environment).await;
    assert!(!refused.status.success(), "{refused:?}");

    let port = server.http.port().to_string();
    let own = text(certificates.certificate("server"));
    let healthy = [
        ("SERVICE_PORT", port.as_str()),
        ("COMM_TLS_HTTP", "1"),
        ("COMM_TLS_CERT_FILE", own.as_str()),
    ];
    eventually("healthy", async || {
        run(&["healthcheck"], &healthy).await.status.success()
    })
    .await;
    let mut other = healthy;
    other[2].1 = certificate.as_str();
    assert!(!run(&["healthcheck"], &other).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_and_tls_only_health_leaves_this_machine() {
    let server = start(|config| config.host = [0, 0, 0, 0].into(), "http", None).await;
    assert!(server.grpc.ip().is_loopback());
    assert!(server.http.ip().is_unspecified());
    let refused = list(&server).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(server.http_get("/health").await.0, 200);
    assert_eq!(server.http_get("/metrics").await.0, 404);
    let metrics = server.metrics.unwrap();
    assert!(metrics.ip().is_loopback());
    let (status, text) = http_get(metrics, "/metrics", &[]).await;
    assert_eq!(status, 200);
    assert!(text.contains("service_insecure 0"), "{text}");
    assert_eq!(http_get(metrics, "/health", &[]).await.0, 404);
    // REST goes where the metrics go, and asks what gRPC asks.
    assert_eq!(server.http_get(TENANTS).await, (404, String::new()));
    assert_eq!(http_get(metrics, TENANTS, &[]).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_tls_of_grpc_alone_leave_rest_on_loopback() {
    let certificates = Certificates::new();
    let keys = Keys::new();
    let change = |config: &mut Config| {
        with_tls(config, &certificates);
        config.host = [0, 0, 0, 0].into();
        config.jwks_file = Some(keys.jwks_file.clone());
    };
    let tls = Some(certificates.client(None));
    let server = start(change, "https", tls).await;
    assert!(server.grpc.ip().is_unspecified());
    assert_eq!(server.http_get(TENANTS).await.0, 404);
    let loopback = server.metrics.unwrap();
    assert!(loopback.ip().is_loopback());
    assert_eq!(http_get(loopback, TENANTS, &[]).await.0, 401);
    let bearer = format!("Bearer {}", keys.token(json!({"scope": "tenant.admin"})));
    let bearer = [("authorization", bearer.as_str())];
    assert_eq!(http_get(loopback, TENANTS, &bearer).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_a_proxy_open_the_ports_and_metrics_want_a_token() {
    let keys = Keys::new();
    let change = |config: &mut Config| {
        config.host = [0, 0, 0, 0].into();
        config.jwks_file = Some(keys.jwks_file.clone());
        config.tls_terminated = true;
    };
    let server = start(change, "http", None).await;
    assert!(server.grpc.ip().is_unspecified());
    assert_eq!(server.metrics, None);
    let refused = list(&server).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(server.http_get("/metrics").await.0, 401);
    let get = async |claims| {
        let bearer = format!("Bearer {}", keys.token(claims));
        let headers = [("authorization", bearer.as_str())];
        http_get(server.http, "/metrics", &headers).await.0
    };
    assert_eq!(get(json!({"tenants": ["acme"]})).await, 403);
    assert_eq!(get(json!({})).await, 200);

    assert_eq!(server.http_get(TENANTS).await.0, 401);
    let bearer = format!("Bearer {}", keys.token(json!({"scope": "tenant.admin"})));
    // A proxy is called by a name.
    let headers = [
        ("authorization", bearer.as_str()),
        ("host", "api.example.com"),
    ];
    assert_eq!(http_get(server.http, TENANTS, &headers).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn insecurity_has_to_be_asked_for_and_is_told() {
    let change = |config: &mut Config| {
        config.host = [0, 0, 0, 0].into();
        config.insecure = true;
    };
    let server = start(change, "http", None).await;
    assert!(server.grpc.ip().is_unspecified());
    list(&server).await.unwrap();
    let (_, metrics) = server.http_get("/metrics").await;
    assert!(metrics.contains("service_insecure 1"), "{metrics}");
    assert_eq!(server.http_get(TENANTS).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_production_loopback_needs_a_token_too() {
    let change = |config: &mut Config| config.env = Some(Environment::Production);
    let server = start(change, "http", None).await;
    let refused = list(&server).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(server.http_get(TENANTS).await.0, 401);
}
