//! Fetches a JSON Web Key Set from an address, within limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any set of keys.
const MAX_BYTES: usize = 256 * 1024;

/// Why there are no keys from an address.
#[derive(Debug, thiserror::Error)]
pub enum KeyServerError {
    /// The address is none that keys may come from.
    #[error("`{0}` of COMM_JWKS_URL must be https://, or http:// on loopback, without a user")]
    Address(String),
    /// The server cannot be reached.
    #[error("the key server cannot be reached")]
    Io(#[from] io::Error),
    /// The host beside plain text is not this one.
    #[error("the key server is not on loopback, use https")]
    NotLoopback,
    /// It is no HTTP.
    #[error("the key server does not speak HTTP")]
    Http(#[from] hyper::Error),
    /// It answers something else; redirects are not followed.
    #[error("the key server answers {0}")]
    Status(StatusCode),
    /// It answers too much.
    #[error("the key server answers more than {MAX_BYTES} bytes")]
    TooLarge,
    /// It breaks off.
    #[error("the answer of the key server breaks off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It takes too long.
    #[error("the key server does not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Where keys come from.
pub struct KeyServer {
    authority: Authority,
    path: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl KeyServer {
    /// Prepares for an address.
    ///
    /// # Errors
    /// It is neither https nor on loopback.
    pub fn new(address: &str) -> Result<Self, KeyServerError> {
        let wrong = || KeyServerError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?.clone();
        if authority.as_str().contains('@') {
            // The address may be shown, and this would be a password.
            return Err(KeyServerError::Address("…@…".to_owned()));
        }
        let host = bare(authority.host());
        let (port, tls) = if uri.scheme() == Some(&Scheme::HTTPS) {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let config = ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
            (443, Some((TlsConnector::from(Arc::new(config)), name)))
        } else if uri.scheme() == Some(&Scheme::HTTP) && is_loopback(host) {
            (80, None)
        } else {
            return Err(wrong());
        };
        Ok(Self {
            port: authority.port_u16().unwrap_or(port),
            path: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            authority,
            tls,
        })
    }

    /// Fetches what is there now.
    ///
    /// # Errors
    /// The server does not answer, or not as it should.
    pub async fn fetch(&self) -> Result<Bytes, KeyServerError> {
        let fetching = async {
            let host = bare(self.authority.host());
            let stream = TcpStream::connect((host, self.port)).await?;
            match &self.tls {
                Some((tls, name)) => self.ask(tls.connect(name.clone(), stream).await?).await,
                // A name is only a name.
                None if !stream.peer_addr()?.ip().is_loopback() => Err(KeyServerError::NotLoopback),
                None => self.ask(stream).await,
            }
        };
        let fetched = tokio::time::timeout(TIMEOUT, fetching).await;
        fetched.unwrap_or(Err(KeyServerError::Timeout))
    }

    async fn ask<I>(&self, stream: I) -> Result<Bytes, KeyServerError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with this function.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let mut request = Request::new(Empty::<Bytes>::new());
        let path = self.path.parse();
        *request.uri_mut() = path.map_err(|_| KeyServerError::Address(self.path.clone()))?;
        let host = self.authority.as_str().parse();
        let host = host.map_err(|_| KeyServerError::Address(self.authority.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(KeyServerError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES);
        let body = body.collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                KeyServerError::TooLarge
            } else {
                KeyServerError::Body(error)
            }
        })?;
        Ok(body.to_bytes())
    }
}

/// A host without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    let address: Result<std::net::IpAddr, _> = host.parse();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for good in [
            "https://auth.example.com/.well-known/jwks.json",
            "https://auth.example.com:8443/keys?x=1",
            "http://127.0.0.1:9000/keys",
            "http://[::1]:9000/keys",
            "http://localhost/keys",
        ] {
            assert!(KeyServer::new(good).is_ok(), "{good}");
        }
        for bad in [
            "http://auth.example.com/keys",
            "http://10.0.0.1/keys",
            "http://localhost.example.com/keys",
            "http://0.0.0.0/keys",
            "https://user:secret@auth.example.com/keys",
            "file:///etc/keys",
            "ftp://127.0.0.1/keys",
            "auth.example.com/keys",
            "/keys",
            "",
        ] {
            let error = KeyServer::new(bad).err().expect(bad);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
