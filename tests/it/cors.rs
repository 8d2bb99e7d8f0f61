//! Pages that call by gRPC-Web.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::TestServer;

const PATH: &str = "/communication.v1.TenantAdminService/ListTenants";
/// An empty message, uncompressed.
const EMPTY: &[u8] = &[0; 5];

/// Sends a request of a browser; returns the head of the answer, in small letters.
async fn ask(server: &TestServer, method: &str, headers: &str, body: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.grpc).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    answer.split_once("\r\n\r\n").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_named_origin_may_call_and_no_other() {
    let server = TestServer::start_with(|config| {
        config.cors_origins = vec!["https://app.example.com".parse().unwrap()];
    })
    .await;
    let preflight = |origin: &str| {
        format!(
            "origin: {origin}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: x-grpc-web,content-type,authorization\r\n"
        )
    };
    let allowed = ask(
        &server,
        "OPTIONS",
        &preflight("https://app.example.com"),
        b"",
    )
    .await;
    assert!(allowed.starts_with("http/1.1 200"), "{allowed}");
    assert!(allowed.contains("access-control-allow-origin: https://app.example.com"));
    assert!(allowed.contains("authorization") && allowed.contains("x-grpc-web"));
    let refused = ask(
        &server,
        "OPTIONS",
        &preflight("https://evil.example.com"),
        b"",
    )
    .await;
    assert!(
        !refused.contains("access-control-allow-origin"),
        "{refused}"
    );

    let call = |origin: &str| {
        format!("origin: {origin}\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n")
    };
    let answered = ask(&server, "POST", &call("https://app.example.com"), EMPTY).await;
    assert!(answered.starts_with("http/1.1 200"), "{answered}");
    assert!(answered.contains("access-control-allow-origin: https://app.example.com"));
    assert!(answered.contains("access-control-expose-headers"));
    assert!(!answered.contains("grpc-status: 16"), "{answered}");
    let answered = ask(&server, "POST", &call("https://evil.example.com"), EMPTY).await;
    assert!(
        !answered.contains("access-control-allow-origin"),
        "{answered}"
    );
    // What a browser would keep from the page is not even done.
    assert!(answered.contains("grpc-status: 16"), "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_origins_no_page_may_call() {
    let server = TestServer::start().await;
    let headers = "origin: https://app.example.com\r\naccess-control-request-method: POST\r\n";
    let answered = ask(&server, "OPTIONS", headers, b"").await;
    assert!(!answered.contains("access-control-"), "{answered}");
    // A page whose name leads to this machine needs no leave of its browser.
    let neighbour = "origin: http://evil.example.com:50051\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n";
    let answered = ask(&server, "POST", neighbour, EMPTY).await;
    assert!(answered.contains("grpc-status: 16"), "{answered}");
}
