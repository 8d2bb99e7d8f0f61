//! Pages that call by gRPC-Web and by REST.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{TestServer, exchange};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_named_origin_may_call_by_rest_and_no_other() {
    let server = TestServer::start_with(|config| {
        config.cors_origins = vec!["https://app.example.com".parse().unwrap()];
    })
    .await;
    let ask = async |method: &str, origin: &str, path: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            (
                "access-control-request-headers",
                "authorization,content-type",
            ),
        ];
        let answer = exchange(server.http, method, path, &headers, b"").await;
        let answer = answer.unwrap();
        let allowed = answer.headers.get("access-control-allow-origin").cloned();
        (answer, allowed)
    };
    let (ours, theirs) = ("https://app.example.com", "https://evil.example.com");
    let (preflight, allowed) = ask("OPTIONS", ours, "/api/v1/tenants/acme/conversations/1").await;
    assert_eq!((preflight.status, allowed.as_deref()), (200, Some(ours)));
    let methods = &preflight.headers["access-control-allow-methods"];
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(methods.contains(method), "{methods}");
    }
    let headers = &preflight.headers["access-control-allow-headers"];
    assert!(headers.contains("authorization") && headers.contains("content-type"));
    assert_eq!(ask("OPTIONS", theirs, "/api/v1/tenants").await.1, None);

    let (answer, allowed) = ask("GET", ours, "/api/v1/tenants").await;
    assert_eq!((answer.status, allowed.as_deref()), (200, Some(ours)));
    let exposed = &answer.headers["access-control-expose-headers"];
    assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"));
    // An error has to be read too.
    let (answer, allowed) = ask("GET", ours, "/api/v1/nowhere").await;
    assert_eq!((answer.status, allowed.as_deref()), (404, Some(ours)));
    let (answer, allowed) = ask("GET", theirs, "/api/v1/tenants").await;
    assert_eq!((answer.status, allowed), (401, None));
    // The webhooks are none of a page's business.
    assert_eq!(ask("OPTIONS", ours, "/webhooks/whatsapp").await.1, None);
}
