//! Opens connections to PostgreSQL, and knows when each has really ended.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::either::Either;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server has to stop a statement before it is asked again.
const CANCEL_EVERY: Duration = Duration::from_millis(250);

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address names no host that this service can reach.
    #[error("the database address names no host")]
    NoHost,
    /// The host did not answer in time.
    #[error("the database did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// The host cannot be reached.
    #[error("the database cannot be reached")]
    Io(#[from] io::Error),
    /// PostgreSQL refused.
    #[error("the database refused the connection")]
    Postgres(#[from] tokio_postgres::Error),
    /// The session could not be set up.
    #[error("the database session could not be set up")]
    Session(#[from] diesel::ConnectionError),
}

/// What drives a connection.
type Driven = Connection<Lingering, <MakeRustlsConnect as MakeTlsConnect<Lingering>>::Stream>;

/// Opens connections to one server.
#[derive(Clone)]
pub struct Dialer {
    config: Config,
    tls: MakeRustlsConnect,
}

/// An open connection.
pub struct Session {
    /// The connection.
    pub conn: AsyncPgConnection,
    cancel: CancelToken,
    /// How many seconds its `directory.now()` is ahead.
    pub clock_offset: i64,
    alive: Arc<AtomicBool>,
}

impl Session {
    /// Tells whether the connection still stands, as far as is known without asking.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

impl Dialer {
    /// Prepares for the server of a connection string.
    ///
    /// # Errors
    /// The string is no connection string.
    pub fn new(url: &str) -> Result<Self, tokio_postgres::Error> {
        let mut config: Config = url.parse()?;
        if config.get_application_name().is_none() {
            config.application_name("communication-service");
        }
        let mut roots = RootCertStore::empty();
        if config.get_ssl_mode() != SslMode::Disable {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls),
        })
    }

    /// The same server, logged in as somebody else.
    pub fn login(&self, user: &str, password: &str) -> Self {
        let mut dialer = self.clone();
        dialer.config.user(user).password(password);
        dialer
    }

    /// The same server, with settings that every session starts with.
    pub fn options(&self, options: &str) -> Self {
        let mut dialer = self.clone();
        dialer.config.options(options);
        dialer
    }

    /// The same server, by connections whose name says what they are for.
    pub fn aside(&self, purpose: &str) -> Self {
        let mut dialer = self.clone();
        let name = self.config.get_application_name().unwrap_or_default();
        dialer.config.application_name(format!("{name} {purpose}"));
        dialer
    }

    /// Names the server for people, without a password.
    pub fn server(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "?".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().unwrap_or("?");
        format!("{host}:{port}/{database}")
    }

    /// Opens a connection. `kept` is dropped when the server has ended its side: what it stands
    /// for is free again only then.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn dial<K: Send + 'static>(&self, kept: K) -> Result<Session, DialError> {
        let (client, connection) = self.connect().await?;
        let alive = Arc::new(AtomicBool::new(true));
        let flag = alive.clone();
        tokio::spawn(async move {
            let outcome = connection.await;
            flag.store(false, Ordering::Relaxed);
            if let Err(error) = outcome {
                tracing::debug!(%error, "database connection ended");
            }
            drop(kept);
        });
        let cancel = client.cancel_token();
        let conn = AsyncPgConnection::try_from(client).await?;
        Ok(Session {
            conn,
            cancel,
            clock_offset: 0,
            alive,
        })
    }

    /// Opens a connection that hears notifications; their words come until it ends.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn listen(&self) -> Result<(Client, impl Stream<Item = String> + use<>), DialError> {
        let (client, mut connection) = self.connect().await?;
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages =
                std::pin::pin!(poll_fn(move |context| connection.poll_message(context)));
            while let Some(message) = messages.next().await {
                match message {
                    Ok(AsyncMessage::Notification(told)) => {
                        if sender.send(told.payload().to_owned()).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "database connection ended");
                        return;
                    }
                }
            }
        });
        Ok((client, UnboundedReceiverStream::new(heard)))
    }

    /// Opens a connection that nobody drives yet.
    async fn connect(&self) -> Result<(Client, Driven), DialError> {
        let (socket, host) = self.socket().await?;
        let tls = self.tls::<Lingering>(&host);
        let connecting = self.config.connect_raw(Lingering(socket), tls);
        Ok(tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| DialError::Timeout)??)
    }

    /// Closes a connection and stops the statement that it runs: the server is asked until it has
    /// ended its side, because it does not hear what comes before the statement has begun, and does
    /// not look whether anybody is still there.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn stop(&self, session: Session) -> Result<(), DialError> {
        let Session {
            conn,
            cancel,
            alive,
            ..
        } = session;
        drop(conn);
        while alive.load(Ordering::Relaxed) {
            self.cancel(&cancel).await?;
            tokio::time::sleep(CANCEL_EVERY).await;
        }
        Ok(())
    }

    async fn cancel(&self, token: &CancelToken) -> Result<(), DialError> {
        let (socket, host) = self.socket().await?;
        let tls = self.tls::<Either<TcpStream, UnixStream>>(&host);
        Ok(token.cancel_query_raw(socket, tls).await?)
    }

    fn tls<S>(&self, host: &str) -> <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut tls = self.tls.clone();
        let Ok(connect) = MakeTlsConnect::<S>::make_tls_connect(&mut tls, host);
        connect
    }

    async fn socket(&self) -> Result<(Either<TcpStream, UnixStream>, String), DialError> {
        let mut last = DialError::NoHost;
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let ports = self.config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let connecting = async {
                match host {
                    Host::Tcp(name) => {
                        let socket = TcpStream::connect((name.as_str(), port)).await?;
                        socket.set_nodelay(true)?;
                        Ok((Either::Left(socket), name.clone()))
                    }
                    Host::Unix(folder) => {
                        let path = folder.join(format!(".s.PGSQL.{port}"));
                        Ok((
                            Either::Right(UnixStream::connect(path).await?),
                            String::new(),
                        ))
                    }
                }
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => last = DialError::Io(error),
                Err(_) => last = DialError::Timeout,
            }
        }
        Err(last)
    }
}

/// A socket whose shutdown is over when the other side has closed too: PostgreSQL closes when the
/// backend is gone, so a connection counts against its limit until then.
struct Lingering(Either<TcpStream, UnixStream>);

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_shutdown(context))?;
        let mut rest = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut rest);
            ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
