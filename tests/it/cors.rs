//! Pages that call by gRPC-Web and by REST.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use communication_service::pb::subscribe_response::Frame;
use communication_service::pb::{SubscribeRequest, SubscribeResponse};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::metadata::MetadataMap;

use crate::harness::{Filled, Method, TestServer, decoded, exchange};
use crate::rest::lasting;

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

/// An answer as a page reads it.
struct Page {
    body: Incoming,
    is_text: bool,
    text: Vec<u8>,
    bytes: Vec<u8>,
}

impl Page {
    /// Calls by gRPC-Web, in its form of bytes or of text.
    async fn open(server: &TestServer, path: &str, message: &[u8], kind: &str) -> Self {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let mut body = [&[0], length.as_slice(), message].concat();
        let is_text = kind.contains("text");
        if is_text {
            body = STANDARD.encode(body).into_bytes();
        }
        let request = hyper::Request::post(path)
            .header("host", "localhost")
            .header("origin", "https://app.example.com")
            .header("content-type", kind)
            .header("accept", kind)
            .header("x-grpc-web", "1")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let socket = TcpStream::connect(server.grpc).await.unwrap();
        let connecting = hyper::client::conn::http1::handshake(TokioIo::new(socket));
        let (mut sender, connection) = connecting.await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let headers = answer.headers();
        assert_eq!(headers["content-type"], kind);
        let allowed = &headers["access-control-allow-origin"];
        assert_eq!(allowed, "https://app.example.com");
        Self {
            body: answer.into_body(),
            is_text,
            text: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// The next message, or what ends the answer.
    async fn next(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some((head, rest)) = self.bytes.split_at_checked(5) {
                let length = u32::from_be_bytes(head[1..].try_into().unwrap());
                if let Some(message) = rest.get(..usize::try_from(length).unwrap()) {
                    let (is_end, message) = (head[0] == 0x80, message.to_vec());
                    self.bytes = rest[message.len()..].to_vec();
                    return if is_end {
                        Err(String::from_utf8(message).unwrap())
                    } else {
                        Ok(message)
                    };
                }
            }
            let next = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await;
            let piece = next.expect("a frame in time").unwrap().unwrap();
            let piece = piece.into_data().unwrap();
            if self.is_text {
                // Each piece is padded by itself.
                self.text.extend_from_slice(&piece);
                let whole = self.text.len() / 4 * 4;
                for four in self.text.drain(..whole).collect::<Vec<_>>().chunks(4) {
                    self.bytes.extend(STANDARD.decode(four).unwrap());
                }
            } else {
                self.bytes.extend_from_slice(&piece);
            }
        }
    }
}

/// A server that a page may call, and the forms of gRPC-Web.
async fn of_pages() -> (TestServer, [&'static str; 2]) {
    let server = TestServer::start_with(|config| {
        config.cors_origins = vec!["https://app.example.com".parse().unwrap()];
    });
    let kinds = [
        "application/grpc-web+proto",
        "application/grpc-web-text+proto",
    ];
    (server.await, kinds)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_a_page_what_it_answers_by_grpc() {
    let (server, kinds) = of_pages().await;
    let metadata = MetadataMap::new();
    let filled = Filled::new(&server, &metadata).await;
    let mut compared = 0;
    for method in Method::all() {
        let descriptor = method.descriptor();
        if descriptor.is_client_streaming() || descriptor.is_server_streaming() {
            continue;
        }
        let request = filled.example(&method);
        let by_grpc = method.call(&server.channel, &request, &metadata).await;
        for kind in kinds {
            let message = request.encode_to_vec();
            let mut page = Page::open(&server, &method.path(), &message, kind).await;
            let answer = page.next().await.unwrap();
            let answer = DynamicMessage::decode(descriptor.output(), answer.as_slice()).unwrap();
            let expected = lasting(by_grpc.as_ref().unwrap());
            assert_eq!(lasting(&answer), expected, "{}", method.path());
            let end = page.next().await.unwrap_err();
            assert!(end.contains("grpc-status:0"), "{end}");
            compared += 1;
        }
    }
    assert!(compared >= 200, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_the_stream_of_events_by_grpc_web() {
    let (server, kinds) = of_pages().await;
    let tenant = server.tenant().await;
    let preflight = "origin: https://app.example.com\r\naccess-control-request-method: POST\r\naccess-control-request-headers: x-grpc-web,content-type,authorization\r\n";
    let allowed = ask(&server, "OPTIONS", preflight, b"").await;
    assert!(allowed.contains("access-control-allow-origin: https://app.example.com"));
    for kind in kinds {
        let request = SubscribeRequest {
            tenant: tenant.slug(),
            ..Default::default()
        };
        let path = "/communication.v1.EventService/Subscribe";
        let mut page = Page::open(&server, path, &request.encode_to_vec(), kind).await;
        let mut frame = async || {
            let message = page.next().await.expect("the stream goes on");
            let response = SubscribeResponse::decode(message.as_slice()).unwrap();
            response.frame.unwrap()
        };
        let hello = frame().await;
        assert!(matches!(hello, Frame::Hello(_)), "{hello:?}");
        let conversation = tenant.conversation().await;
        let mut heard = Vec::new();
        while !heard.contains(&conversation.id) {
            let Frame::Batch(batch) = frame().await else {
                panic!("no batch");
            };
            heard.extend(
                decoded(&batch.events)
                    .into_iter()
                    .map(|event| event.resource_id),
            );
        }
    }
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
