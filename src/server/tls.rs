//! TLS of the ports: certificates from files, read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::limits::Protocols;
use crate::error::Chain;

const CERTIFICATE: &str = "COMM_TLS_CERT_FILE";
const KEY: &str = "COMM_TLS_KEY_FILE";
const CLIENT_CA: &str = "COMM_TLS_CLIENT_CA_FILE";
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{path}` of {variable} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        variable: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{path}` of {variable} holds no {what} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        variable: &'static str,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key cannot be used together.
    #[error("the certificate and the key of TLS cannot be used")]
    Pair(#[source] rustls::Error),
    /// The certificates that sign the clients' cannot be used.
    #[error("the certificates of COMM_TLS_CLIENT_CA_FILE cannot be used")]
    ClientCa(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and what leads from it to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates that sign the clients', if clients need one.
    pub client_ca: Option<PathBuf>,
}

/// The TLS of one port.
pub struct Tls {
    files: TlsFiles,
    protocols: Protocols,
    current: RwLock<Current>,
}

struct Current {
    contents: Contents,
    config: Arc<ServerConfig>,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read or used.
    pub fn read(files: TlsFiles, protocols: Protocols) -> Result<Arc<Self>, TlsError> {
        let contents = files.read()?;
        let config = files.config(&contents, protocols)?;
        Ok(Arc::new(Self {
            files,
            protocols,
            current: RwLock::new(Current { contents, config }),
        }))
    }

    /// What the next connection is greeted with.
    pub fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(current.config.clone())
    }

    /// Takes over what the files become, for ever. Files that cannot be used change nothing.
    pub async fn follow(self: Arc<Self>) {
        let mut refused = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let contents = match self.files.read() {
                Ok(contents) if refused.as_ref() == Some(&contents) => continue,
                Ok(contents) if self.has(&contents) => continue,
                Ok(contents) => contents,
                // Between two renames, perhaps: what was there is kept.
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "certificates cannot be read");
                    continue;
                }
            };
            match self.files.config(&contents, self.protocols) {
                Ok(config) => {
                    let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                    *current = Current { contents, config };
                    tracing::info!(path = %self.files.certificate.display(), "certificate changed");
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the new certificate is not used");
                    refused = Some(contents);
                }
            }
        }
    }

    fn has(&self, contents: &Contents) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.contents == *contents
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, TlsError> {
        let client_ca = self.client_ca.as_ref();
        Ok(Contents {
            certificate: read(&self.certificate, CERTIFICATE)?,
            key: read(&self.key, KEY)?,
            client_ca: client_ca.map(|path| read(path, CLIENT_CA)).transpose()?,
        })
    }

    fn config(
        &self,
        contents: &Contents,
        protocols: Protocols,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&contents.certificate, &self.certificate, CERTIFICATE)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| TlsError::Pem {
            path: self.key.clone(),
            variable: KEY,
            what: "private key",
        })?;
        let builder = ServerConfig::builder();
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(client_ca)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(client_ca, path, CLIENT_CA)? {
                    roots
                        .add(root)
                        .map_err(|error| TlsError::ClientCa(error.into()))?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                    .build()
                    .map_err(|error| TlsError::ClientCa(error.into()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(TlsError::Pair)?;
        config.alpn_protocols = protocols.alpn();
        Ok(Arc::new(config))
    }
}

fn read(path: &Path, variable: &'static str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        variable,
        source,
    })
}

fn certificates(
    pem: &[u8],
    path: &Path,
    variable: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| TlsError::Pem {
            path: path.to_owned(),
            variable,
            what: "certificate",
        })
}
