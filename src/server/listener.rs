//! Takes connections in and serves them, within the limits, until it is told to stop.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ConnectInfo;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tower::Service;
use tower::util::{Oneshot, ServiceExt as _};

use super::connection::{Connection, Connections, Request as UnderWay};
use super::limits::{Builder, Protocols, SWEEP};
use super::tls::Tls;
use crate::call::is_health;
use crate::socket::Gathering;

/// How every HTTP/2 connection begins.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// One port.
pub struct Listener {
    /// What it is called in the log.
    pub name: &'static str,
    /// The socket.
    pub socket: TcpListener,
    /// What is spoken.
    pub protocols: Protocols,
    /// The TLS, if the port ends it.
    pub tls: Option<Arc<Tls>>,
    /// How many connections it has at once.
    pub connections: usize,
}

impl Listener {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        // Known since it was bound; the unspecified address only stands in where the system forgot.
        self.socket
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Serves until `stopped`, then lets what is under way end. When this future is dropped, what
    /// is left ends at once.
    pub async fn serve<S, B>(self, service: S, mut stopped: watch::Receiver<bool>)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let connections = Connections::new(self.connections);
        let _ended = EndOnDrop(connections.clone());
        let tasks = TaskTracker::new();
        let follow = self.tls.clone().map(Tls::follow);
        let mut follow = pin!(async move {
            match follow {
                Some(follow) => follow.await,
                None => std::future::pending().await,
            }
        });
        let mut sweep = tokio::time::interval(SWEEP);
        let builder = Arc::new(self.protocols.builder());
        loop {
            let (stream, peer) = tokio::select! {
                () = told(&mut stopped) => break,
                () = &mut follow => continue,
                _ = sweep.tick() => {
                    connections.sweep();
                    continue;
                }
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        refused(self.name, &error, &connections).await;
                        continue;
                    }
                },
            };
            let Some(connection) = connections.open() else {
                metrics::counter!("connections_refused_total", "port" => self.name).increment(1);
                continue;
            };
            let service = Counted {
                service: service.clone(),
                connection: connection.clone(),
                peer,
            };
            let builder = builder.clone();
            let tls = self.tls.clone();
            tasks.spawn(async move {
                let working = async {
                    // What is ready leaves together; waiting for more only makes it late.
                    stream.set_nodelay(true)?;
                    match tls {
                        None => talk(&builder, stream, service, &connection).await,
                        Some(tls) => {
                            let stream = tls.acceptor().accept(stream).await?;
                            talk(&builder, stream, service, &connection).await
                        }
                    }
                };
                let talked = tokio::select! {
                    biased;
                    () = connection.end.cancelled() => Ok(()),
                    talked = async {
                        let talked = working.await;
                        connection.lasted().await;
                        talked
                    } => talked,
                };
                connection.close();
                if let Err(error) = talked {
                    // A peer's doing, and the peers may be many.
                    tracing::debug!(error = %error, "connection ended");
                }
            });
        }
        // Nobody waits in the queue of a socket that is not read any more.
        drop(self.socket);
        connections.leave();
        tasks.close();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = tasks.wait() => break,
                _ = sweep.tick() => connections.sweep(),
            }
        }
    }
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // The sender gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

struct EndOnDrop(Arc<Connections>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Some errors belong to the one connection that was lost; the others mean that the system has no
/// more files or memory, and pass.
async fn refused(port: &str, error: &io::Error, connections: &Connections) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if let ConnectionAborted | ConnectionRefused | ConnectionReset = error.kind() {
        return;
    }
    tracing::warn!(port, %error, "no connection can be taken in, closing one that rests");
    connections.make_room();
    tokio::time::sleep(Duration::from_millis(50)).await;
}

type Failure = Box<dyn StdError + Send + Sync>;

async fn talk<I, S, B>(
    builder: &Builder,
    stream: I,
    service: Counted<S>,
    connection: &Arc<Connection>,
) -> Result<(), Failure>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    let stream = Heard {
        stream,
        connection: connection.clone(),
        start: 0,
        http2: true,
        waits: false,
    };
    match builder {
        Builder::Both(builder) => {
            let stream = TokioIo::new(Gathering::new(stream));
            let talking = builder.serve_connection(stream, service);
            talk_on(talking, connection, |it| it.graceful_shutdown()).await
        }
        Builder::Http1(builder) => {
            // HTTP/1 leaves in one piece by itself, and what comes after it need not flush its last.
            let stream = TokioIo::new(stream);
            let talking = builder.serve_connection(stream, service).with_upgrades();
            talk_on(talking, connection, |it| it.graceful_shutdown()).await
        }
    }
}

/// Talks to the end, which comes sooner when the connection is asked to leave.
async fn talk_on<C, E>(
    talking: C,
    connection: &Connection,
    leave: fn(Pin<&mut C>),
) -> Result<(), Failure>
where
    C: Future<Output = Result<(), E>>,
    E: Into<Failure>,
{
    let mut talking = pin!(talking);
    tokio::select! {
        talked = &mut talking => return talked.map_err(Into::into),
        () = connection.leave.cancelled() => leave(talking.as_mut()),
    }
    talking.await.map_err(Into::into)
}

/// A stream whose connection knows when bytes come, and go.
struct Heard<I> {
    stream: I,
    connection: Arc<Connection>,
    /// How many bytes of the start were looked at.
    start: usize,
    /// Whether they are those of HTTP/2.
    http2: bool,
    /// Whether bytes wait for the peer to take some.
    waits: bool,
}

impl<I> Heard<I> {
    fn hear(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut begun = false;
        if self.http2 && self.start < HTTP2.len() {
            let wanted = &HTTP2[self.start..];
            let looked = bytes.len().min(wanted.len());
            self.http2 = bytes[..looked] == wanted[..looked];
            self.start += looked;
            begun = self.http2 && self.start == HTTP2.len();
        }
        self.connection.read(begun);
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        let waits = written.is_pending();
        if waits || self.waits {
            self.connection.wrote(waits);
        }
        self.waits = waits;
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Heard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.hear(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heard<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A service whose connection knows what is under way, and that knows whose it is.
#[derive(Clone)]
struct Counted<S> {
    service: S,
    connection: Arc<Connection>,
    peer: SocketAddr,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<CountedBody<B>>;
    type Error = Infallible;
    type Future = Answer<Oneshot<S, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(self.connection.clone());
        Answer {
            // Whoever only asks how we are makes room for others when there is none.
            under_way: (!is_health(&request)).then(|| self.connection.begin()),
            answer: self.service.clone().oneshot(request),
        }
    }
}

pin_project! {
    /// An answer that is not there yet.
    struct Answer<F> {
        #[pin]
        answer: F,
        under_way: Option<UnderWay>,
    }
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<CountedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.answer.poll(context));
        let under_way = this.under_way.take();
        Poll::Ready(Ok(response.map(|body| CountedBody { body, under_way })))
    }
}

pin_project! {
    /// A body that is under way until it has been sent.
    struct CountedBody<B> {
        #[pin]
        body: B,
        under_way: Option<UnderWay>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
