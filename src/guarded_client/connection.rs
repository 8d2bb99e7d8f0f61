//! One connection to one of the addresses that were checked, for one request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::fetch_error::{FetchError, Outage};

/// How many addresses of a host are tried.
const MAX_ADDRESSES: usize = 8;
/// How long one address has a start over the next.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long all headers of an answer may be together, in bytes.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How many headers an answer may have.
const MAX_HEADERS: usize = 100;
/// How much of an answer waits in memory, in bytes.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

/// An open connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: Driver,
}

/// What moves the bytes of a connection; it ends with this value.
type Driver = JoinSet<hyper::Result<()>>;

/// The head of an answer, and the connection that the rest of it comes by.
pub struct Answer {
    /// What has come.
    pub response: Response<Incoming>,
    _connection: Connection,
}

/// Connects to the first of some addresses that answers, and proves its name where there is one.
///
/// # Errors
/// None of them answers, or it is somebody else.
pub async fn open(
    addresses: &[SocketAddr],
    tls: Option<(&TlsConnector, ServerName<'static>)>,
) -> Result<Connection, FetchError> {
    let stream = dial(addresses).await.map_err(Outage::Connect)?;
    let Some((tls, name)) = tls else {
        return begin(stream).await;
    };
    let secured = tls.connect(name, stream).await;
    begin(secured.map_err(Outage::Connect)?).await
}

/// Tries one address after the other, without waiting long for any.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut delay = Duration::ZERO;
    for address in addresses.iter().copied().take(MAX_ADDRESSES) {
        attempts.spawn(async move {
            tokio::time::sleep(delay).await;
            TcpStream::connect(address).await
        });
        delay += HEAD_START;
    }
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt.map_err(io::Error::other).flatten() {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn begin<I>(stream: I) -> Result<Connection, FetchError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFERED_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Outage::Broken)?;
    let mut driver = Driver::new();
    driver.spawn(connection);
    Ok(Connection {
        sender,
        _driver: driver,
    })
}

impl Connection {
    /// Asks, and waits for the head of the answer.
    ///
    /// # Errors
    /// The answer is not HTTP, or its head is too long.
    pub async fn ask(mut self, request: Request<Full<Bytes>>) -> Result<Answer, Outage> {
        let response = self.sender.send_request(request).await?;
        Ok(Answer {
            response,
            _connection: self,
        })
    }
}
