//! What hostile or clumsy peers cost: little, and others nothing.

use std::time::{Duration, Instant};

use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use communication_service::pb::{
    Conversation, GetConversationRequest, GetConversationResponse, ListTenantsRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};

use crate::harness::{Refusal, Tables, TestServer, TestTenant, eventually, http_get};

/// What an HTTP/2 client says first: the preface and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Longer than the 10 s that the head of a request may take.
const PATIENCE: Duration = Duration::from_secs(14);

/// Sends bytes to a port, and returns how long it is kept open, or nothing if for too long.
async fn kept_open(address: std::net::SocketAddr, bytes: &[u8]) -> Option<Duration> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let began = Instant::now();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer));
    closed.await.ok().map(|_| began.elapsed())
}

async fn works(server: &TestServer) {
    let request = ListTenantsRequest::default();
    server.tenant_admin().list_tenants(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_a_connection_are_announced() {
    let server = TestServer::start().await;
    let mut socket = TcpStream::connect(server.grpc).await.unwrap();
    socket.write_all(PREFACE).await.unwrap();
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "a SETTINGS frame comes first");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut payload).await.unwrap();
    let mut settings: Vec<_> = payload
        .chunks(6)
        .map(|entry| {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            let name = match id {
                3 => "concurrent streams",
                4 => "stream window",
                5 => "frame size",
                6 => "header list size",
                other => panic!("setting {other}"),
            };
            format!("{name}: {value}")
        })
        .collect();
    settings.sort();
    insta::assert_snapshot!(settings.join("\n"), @r"
        concurrent streams: 256
        frame size: 16384
        header list size: 16384
        stream window: 524288
        ");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_half_a_head_and_garbage_are_cut_on_both_ports() {
    let server = TestServer::start().await;
    let mut trials = tokio::task::JoinSet::new();
    let client_hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03garbage";
    for address in [server.grpc, server.http] {
        for (what, bytes) in [
            ("silence", &b""[..]),
            ("half a preface", &PREFACE[..10]),
            ("half a request line", b"GET /hea"),
            ("half a head", b"GET /health HTTP/1.1\r\nhost: x\r\nx-a: "),
            ("TLS", client_hello),
            ("garbage", b"\x01\x02\x03 garbage\r\n\r\n"),
        ] {
            trials.spawn(async move { (what, kept_open(address, bytes).await) });
        }
    }
    let http = server.http;
    trials.spawn(async move {
        let mut socket = TcpStream::connect(http).await.unwrap();
        let whole = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
        socket.write_all(whole).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        socket.write_all(&whole[..20]).await.unwrap();
        let (mut rest, began) = (Vec::new(), Instant::now());
        let closed = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        let kept = closed.ok().map(|_| began.elapsed());
        ("half a second head", kept)
    });
    while let Some(trial) = trials.join_next().await {
        let (what, kept) = trial.unwrap();
        assert!(kept.is_some(), "{what} is kept open");
        works(&server).await;
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// Sends frames until the server has had enough; returns whether it had.
async fn is_cut(server: &TestServer, frames: impl Iterator<Item = Vec<u8>>) -> bool {
    let mut socket = TcpStream::connect(server.grpc).await.unwrap();
    socket.write_all(PREFACE).await.unwrap();
    let (mut reader, mut writer) = socket.split();
    let flood = async {
        for frame in frames {
            if writer.write_all(&frame).await.is_err() {
                return true;
            }
        }
        false
    };
    let closed = async {
        let mut answer = [0; 4096];
        while reader.read(&mut answer).await.is_ok_and(|read| read > 0) {}
        true
    };
    let flooded = async { flood.await || closed.await };
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, flooded)
        .await
        .unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_their_connection_and_no_other() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const CONTINUATION: u8 = 9;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    // POST / by http, in the words of HPACK's own table.
    let request = [0x83, 0x86, 0x84];
    let server = TestServer::start().await;
    works(&server).await;

    let resets = (0..50_000_u32).flat_map(|number| {
        let stream = number * 2 + 1;
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request);
        [headers, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
    });
    assert!(is_cut(&server, resets).await, "streams that are reset");
    works(&server).await;

    // A header that is not indexed, `a: a…`, over and over, and never the end.
    let mut header = vec![0x00, 1, b'a', 100];
    header.extend([b'a'; 100]);
    let headers = header.repeat(100);
    let endless = std::iter::once(frame(HEADERS, 0, 1, &request));
    let endless = endless.chain((0..10_000).map(|_| frame(CONTINUATION, 0, 1, &headers)));
    assert!(is_cut(&server, endless).await, "headers without end");
    works(&server).await;

    let empty = std::iter::once(frame(HEADERS, 0, 1, &request));
    let empty = empty.chain((0..100_000).map(|_| frame(CONTINUATION, 0, 1, &[])));
    assert!(is_cut(&server, empty).await, "empty frames without end");
    works(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_leaves_room_for_who_works() {
    let server = TestServer::start_with(|config| config.connections = 8).await;
    works(&server).await;
    let mut flood = Vec::new();
    for round in 0..40 {
        let mut socket = TcpStream::connect(server.grpc).await.unwrap();
        let bytes = if round % 2 == 0 { PREFACE } else { b"POST /" };
        socket.write_all(bytes).await.unwrap();
        flood.push(socket);
        works(&server).await;
    }
    // At most eight are left, the good one among them.
    let mut left = 0;
    for socket in &mut flood {
        let mut byte = [0; 256];
        let reading = async { while socket.read(&mut byte).await.unwrap_or(0) > 0 {} };
        if tokio::time::timeout(Duration::from_millis(20), reading)
            .await
            .is_err()
        {
            left += 1;
        }
    }
    assert!(left <= 7, "{left} of the flood are left");
    works(&server).await;

    let late = Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap();
    let late = late.connect().await.unwrap();
    let mut late = TenantAdminServiceClient::new(late);
    late.list_tenants(ListTenantsRequest::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_are_refused_and_the_connection_lives() {
    let server = TestServer::start().await;
    let mut request = Request::new(ListTenantsRequest::default());
    request
        .metadata_mut()
        .insert("x-long", "x".repeat(20_000).parse().unwrap());
    server
        .tenant_admin()
        .list_tenants(request)
        .await
        .unwrap_err();
    works(&server).await;

    let long = "x".repeat(20_000);
    let (status, _) = http_get(server.http, "/health", &[("x-long", &long)]).await;
    assert_eq!(status, 431);
    let (status, _) = http_get(server.http, "/health", &[("x-many", "x"); 100]).await;
    assert_eq!(status, 431);
}

/// Calls, and holds the call up until the transaction that locks its table ends.
async fn call_under_way(
    tenant: &TestTenant,
    conversation: &Conversation,
) -> (
    Tables,
    JoinHandle<Result<Response<GetConversationResponse>, Status>>,
) {
    let tables = Tables::of(tenant).await;
    let lock = format!(
        "BEGIN; LOCK TABLE \"{}\".inbox_conversations IN ACCESS EXCLUSIVE MODE",
        tables.schema
    );
    tables.admin.batch_execute(&lock).await.unwrap();
    let request = GetConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    let waiting = tokio::spawn(async move { inbox.get_conversation(request).await });
    eventually("a call under way", async || {
        tables.sessions("wait_event_type = 'Lock'").await == 1
    })
    .await;
    (tables, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_capacity_are_refused_at_once() {
    let server = TestServer::start_with(|config| config.calls = 1).await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let (tables, waiting) = call_under_way(&tenant, &conversation).await;
    let request = ListTenantsRequest::default();
    let refused = server.tenant_admin().list_tenants(request).await;
    let refused = Refusal::of(&refused.unwrap_err());
    assert_eq!(refused.why(), (Code::ResourceExhausted, "TOO_MANY_CALLS"));
    // Who asks how the server is still hears it.
    tonic_health::pb::health_client::HealthClient::new(server.channel.clone())
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap();
    tables.admin.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    works(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_calls_and_not_for_connections() {
    let server = TestServer::start_with(|config| config.grace_seconds = 60).await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let mut idle = Vec::new();
    for (address, bytes) in [
        (server.grpc, PREFACE),
        (server.grpc, b"POST /"),
        (server.http, b"GET /hea"),
        (server.http, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        idle.push(socket);
    }
    let (tables, waiting) = call_under_way(&tenant, &conversation).await;
    let (grpc, began) = (server.grpc, Instant::now());
    let stopping = tokio::spawn(server.stop());
    eventually("a closed port", async || {
        TcpStream::connect(grpc).await.is_err()
    })
    .await;
    assert!(!stopping.is_finished());
    tables.admin.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    stopping.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
}
