//! What one peer, and all of them together, may cost a port.
//!
//! The libraries below leave several of these off, or at values for other servers. Those that an
//! operator may need to change are settings: `COMM_CONNECTIONS`, `COMM_CALLS`, `COMM_CALL_SECONDS`.

use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

/// How many calls of one connection may be under way at once.
const STREAMS: u32 = 256;
/// The most that the headers of one request may have, in bytes.
const HEADER_BYTES: u32 = 16 * 1024;
/// The most headers of one HTTP/1 request.
const HEADERS: usize = 64;
/// How many streams a peer may have reset before we took them up; more end the connection.
const PENDING_RESETS: usize = 20;
/// How many streams we may reset for a peer's mistakes; more end the connection.
const ERROR_RESETS: usize = 256;
/// How much of one request may be on its way before we read it, in bytes.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The same of one connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much of an answer is kept for a peer that does not read it, in bytes.
const SEND_BUFFER: usize = 128 * 1024;
/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may think.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long a peer may take for its TLS handshake and the head of its first request, and, by
/// HTTP/1, for the head of any request.
pub const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may be without a request. Longer than the 60 s for which most proxies
/// keep a connection, so that it is they who close it.
pub const IDLE: Duration = Duration::from_secs(300);
/// How long a peer that was asked to leave may take, when nothing of it is under way.
pub const LEAVE: Duration = Duration::from_secs(5);
/// How long a peer may show no sign that it is there, where it is asked for one, or take nothing of
/// a stream that waits for it to.
pub const SILENCE: Duration = Duration::from_secs(60);
/// How often connections are looked through for those whose time is over.
pub const SWEEP: Duration = Duration::from_secs(1);
/// How long one request to the sidecar may take, its body included; webhooks have limits of their
/// own within it.
pub const HTTP_REQUEST: Duration = Duration::from_secs(30);

/// How many of so many connections may be streams by WebSocket, which stay busy for long: the others
/// are for calls, webhooks and health.
pub fn sockets(connections: u32) -> usize {
    part(connections, 4)
}

/// How many of them may be streams of visitors.
pub fn visitor_streams(connections: u32) -> usize {
    part(connections, 2)
}

fn part(connections: u32, of: u32) -> usize {
    usize::try_from(connections / of)
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Which protocols a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1 for gRPC-Web, and HTTP/2.
    Grpc,
    /// HTTP/1.
    Http,
}

impl Protocols {
    /// What TLS may agree on, best first.
    pub fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Grpc => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http => vec![b"http/1.1".to_vec()],
        }
    }

    /// Serves connections within the limits.
    pub fn builder(self) -> Builder {
        match self {
            Self::Grpc => Builder::Both(both()),
            Self::Http => Builder::Http1(only_http1()),
        }
    }
}

/// Serves connections.
pub enum Builder {
    /// Of HTTP/1 and HTTP/2.
    Both(auto::Builder<TokioExecutor>),
    /// Of HTTP/1, which may become something else: the builder of both would take HTTP/2 then, too.
    Http1(http1::Builder),
}

fn only_http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The sweep does this without closing connections that only rest.
        .header_read_timeout(None)
        .max_headers(HEADERS)
        .max_buf_size(HEADER_BYTES as usize);
    builder
}

fn both() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(HEADERS)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    builder
}
