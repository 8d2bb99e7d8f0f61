//! Fetches media of customers' messages: the one door to addresses that a stranger chose. Providers'
//! own interfaces are called by it, too.
//!
//! A host is resolved once, all its addresses are checked, and the connection goes to one of these;
//! there is no second look-up, no proxy, no cookie and no connection that is used again. Redirects
//! are followed by hand, each checked like the first address.

mod address;
mod body;
mod connection;
mod credentials;
mod fetch_error;
mod host;
mod target;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::Full;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::Host;

use body::Reading;
use connection::Answer;
use target::{Policy, Target};

pub use credentials::Credentials;
pub use fetch_error::{FetchError, Outage, TargetError};
pub use host::{HostError, HostRule, TrustedHost};

/// How this client names itself; some servers of media refuse who has no name.
const USER_AGENT: &str = concat!("communication-service/", env!("CARGO_PKG_VERSION"));
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// More than any content type.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// Finds the addresses of a host.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// How far the client goes.
pub struct Options {
    /// The operator's own hosts, by plain http or in a private network.
    pub trusted_hosts: Vec<TrustedHost>,
    /// How many redirects are followed.
    pub max_redirects: usize,
    /// How long it may take to find a host and to connect to it.
    pub connect_timeout: Duration,
    /// How long nothing may come.
    pub patience: Duration,
    /// How long a fetch may take as a whole, with what the caller does meanwhile.
    pub timeout: Duration,
    /// Finds hosts; the machine's own way, where nothing else is said.
    pub resolve: Resolve,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trusted_hosts: Vec::new(),
            max_redirects: 3,
            connect_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            timeout: Duration::from_mins(2),
            resolve: Arc::new(|host| Box::pin(look_up(host))),
        }
    }
}

async fn look_up(host: String) -> io::Result<Vec<IpAddr>> {
    let sockets = tokio::net::lookup_host((host, 0)).await?;
    Ok(sockets.map(|socket| socket.ip()).collect())
}

/// Fetches media from addresses that a stranger chose.
pub struct GuardedClient {
    options: Options,
    tls: TlsConnector,
}

/// What is asked of an interface.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// What is sent, and what it is, if anything is.
    pub content: Option<(&'static str, Bytes)>,
}

/// What an interface answered, whatever it was.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// What it says.
    pub body: Vec<u8>,
}

/// Media that has begun to come.
pub struct Fetched {
    /// What the server says that it is, which need not be true.
    pub content_type: Option<String>,
    /// How many bytes will come, where the server says so.
    pub length: Option<u64>,
    /// The host that it comes from, after all redirects.
    pub host: String,
    /// Its bytes. Ends with an error if they are too many, too slow or break off.
    pub body: BoxStream<'static, Result<Bytes, FetchError>>,
}

impl GuardedClient {
    /// Prepares, with the certificates that this machine trusts.
    pub fn new(options: Options) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self {
            options,
            tls: connector(roots),
        }
    }

    /// Begins to fetch what is at an address.
    ///
    /// The host of it, and of every redirect, must be one of `allowed_hosts`, also if it is
    /// trusted. The credentials go to the first host only.
    ///
    /// # Errors
    /// The address may not be asked, or the server does not give the media.
    pub async fn fetch(
        &self,
        url: &str,
        allowed_hosts: &[HostRule],
        credentials: Option<&Credentials>,
        max_bytes: u64,
    ) -> Result<Fetched, FetchError> {
        let end = Instant::now() + self.options.timeout;
        let policy = Policy {
            allowed: allowed_hosts,
            trusted: &self.options.trusted_hosts,
        };
        let following = self.follow(url, policy, credentials);
        let followed = tokio::time::timeout_at(end, following).await;
        let (target, answer) = followed.map_err(|_| Outage::TooSlow)??;
        self.read(&target, answer, max_bytes, end)
    }

    /// Begins to fetch what an interface answers to something that is sent to it, by a POST. It is not
    /// followed where it redirects to.
    ///
    /// # Errors
    /// The address may not be asked, or the server does not give the media.
    pub async fn fetch_answer(
        &self,
        url: &str,
        allowed_hosts: &[HostRule],
        credentials: Option<&Credentials>,
        question: Question,
        max_bytes: u64,
    ) -> Result<Fetched, FetchError> {
        let end = Instant::now() + self.options.timeout;
        let asking = self.ask_once(url, allowed_hosts, credentials, question, end);
        let (target, answer) = asking.await?;
        self.read(&target, answer, max_bytes, end)
    }

    /// Calls an interface, and returns its answer, also if that is a refusal. It is not followed
    /// where it redirects to. With content it is a POST, and a GET without.
    ///
    /// # Errors
    /// The address may not be asked, does not answer, or answers with more than `max_bytes`.
    pub async fn call(
        &self,
        url: &str,
        allowed_hosts: &[HostRule],
        credentials: Option<&Credentials>,
        question: Question,
        max_bytes: u64,
    ) -> Result<Reply, FetchError> {
        let end = Instant::now() + self.options.timeout;
        let asking = self.ask_once(url, allowed_hosts, credentials, question, end);
        let (_, answer) = asking.await?;
        let status = answer.response.status();
        if is_compressed(answer.response.headers()) {
            return Err(FetchError::Compressed);
        }
        let reading = Reading::new(answer, max_bytes, self.options.patience, end);
        let pieces: Vec<_> = reading.into_stream().try_collect().await?;
        let body = pieces.concat();
        Ok(Reply { status, body })
    }

    /// Asks, and does not follow where the answer redirects to.
    async fn ask_once(
        &self,
        url: &str,
        allowed_hosts: &[HostRule],
        credentials: Option<&Credentials>,
        question: Question,
        end: Instant,
    ) -> Result<(Target, Answer), FetchError> {
        let policy = Policy {
            allowed: allowed_hosts,
            trusted: &self.options.trusted_hosts,
        };
        let target = Target::new(url, policy)?;
        let asking = self.ask(&target, credentials, question);
        let answered = tokio::time::timeout_at(end, asking).await;
        let answer = answered.map_err(|_| Outage::TooSlow)??;
        Ok((target, answer))
    }

    /// Asks, and asks where the answer redirects to.
    async fn follow(
        &self,
        url: &str,
        policy: Policy<'_>,
        mut credentials: Option<&Credentials>,
    ) -> Result<(Target, Answer), FetchError> {
        let mut target = Target::new(url, policy)?;
        let mut redirects = 0;
        loop {
            let answer = self.ask(&target, credentials, Question::default()).await?;
            let Some(location) = location(&answer)? else {
                return Ok((target, answer));
            };
            if redirects == self.options.max_redirects {
                let limit = self.options.max_redirects;
                return Err(TargetError::Redirects { limit }.into());
            }
            redirects += 1;
            let next = target.redirect(location, policy)?;
            if !next.is_same_server(&target) {
                credentials = None;
            }
            target = next;
        }
    }

    async fn ask(
        &self,
        target: &Target,
        credentials: Option<&Credentials>,
        question: Question,
    ) -> Result<Answer, FetchError> {
        let request = request(target, credentials, question)?;
        let connecting = async {
            let sockets = target.sockets(&self.resolve(target.host()).await?)?;
            let tls = target.server_name()?.map(|name| (&self.tls, name));
            connection::open(&sockets, tls).await
        };
        let connected = tokio::time::timeout(self.options.connect_timeout, connecting).await;
        let connection = connected.map_err(|_| Outage::ConnectTimeout)??;
        let answered = tokio::time::timeout(self.options.patience, connection.ask(request)).await;
        Ok(answered.map_err(|_| Outage::Stalled)??)
    }

    async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, Outage> {
        match host {
            Host::Ipv4(address) => Ok(vec![IpAddr::from(*address)]),
            Host::Ipv6(address) => Ok(vec![IpAddr::from(*address)]),
            Host::Domain(name) => {
                let resolving = (self.options.resolve)(name.clone());
                resolving.await.map_err(Outage::Resolve)
            }
        }
    }

    /// Judges the last answer.
    fn read(
        &self,
        target: &Target,
        answer: Answer,
        max_bytes: u64,
        end: Instant,
    ) -> Result<Fetched, FetchError> {
        let headers = answer.response.headers();
        check_status(answer.response.status(), headers)?;
        if is_compressed(headers) {
            return Err(FetchError::Compressed);
        }
        let length = answer.response.body().size_hint().exact();
        if length.is_some_and(|length| length > max_bytes) {
            return Err(FetchError::TooLarge { limit: max_bytes });
        }
        Ok(Fetched {
            content_type: content_type(headers),
            length,
            host: target.host().to_string(),
            body: Reading::new(answer, max_bytes, self.options.patience, end).into_stream(),
        })
    }
}

/// Makes what secures connections, with roots of trust.
fn connector(roots: RootCertStore) -> TlsConnector {
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Writes a request that tells nothing but what is needed.
fn request(
    target: &Target,
    credentials: Option<&Credentials>,
    question: Question,
) -> Result<Request<Full<Bytes>>, FetchError> {
    let host = target.authority().parse().map_err(|_| TargetError::Url)?;
    let (content_type, content) = question.content.unzip();
    let mut request = Request::new(Full::new(content.unwrap_or_default()));
    if content_type.is_some() {
        *request.method_mut() = Method::POST;
    }
    *request.uri_mut() = target.path().clone().into();
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    let fixed = [
        (header::ACCEPT, "*/*"),
        (header::ACCEPT_ENCODING, "identity"),
        (header::CONNECTION, "close"),
        (header::USER_AGENT, USER_AGENT),
    ];
    let content_type = content_type.map(|value| (header::CONTENT_TYPE, value));
    for (name, value) in fixed.into_iter().chain(content_type) {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    if let Some(credentials) = credentials {
        let (name, value) = credentials.header().ok_or(FetchError::Credentials)?;
        headers.insert(name, value);
    }
    Ok(request)
}

/// Returns where an answer redirects to; `None` if it is no redirect.
fn location(answer: &Answer) -> Result<Option<&[u8]>, FetchError> {
    let status = answer.response.status();
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    match answer.response.headers().get(header::LOCATION) {
        Some(location) => Ok(Some(location.as_bytes())),
        None => Err(FetchError::Rejected(status)),
    }
}

fn check_status(status: StatusCode, headers: &HeaderMap) -> Result<(), FetchError> {
    match status.as_u16() {
        200 => Ok(()),
        401 | 403 => Err(FetchError::Unauthorized(status)),
        404 | 410 => Err(FetchError::Gone),
        // Accepted: it is not made yet.
        202 | 408 | 425 | 429 | 500.. => Err(FetchError::Unavailable {
            outage: Outage::Status(status),
            retry_after: retry_after(headers),
        }),
        _ => Err(FetchError::Rejected(status)),
    }
}

/// Reads how long to wait, where it is told in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn is_compressed(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|encoding| {
        let encoding = encoding.as_bytes().trim_ascii();
        !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity")
    })
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.trim();
    let is_sound = !text.is_empty() && text.len() <= MAX_CONTENT_TYPE_BYTES;
    is_sound.then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
