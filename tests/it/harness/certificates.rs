//! Certificates of a test's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use uuid::Uuid;

use super::postgres::folder;

/// A folder with an authority, what it signed for a server and for a client, and a client of
/// nobody known.
pub struct Certificates {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes them all.
    pub fn new() -> Self {
        let folder = folder().join(format!("certificates-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let certificates = Self {
            folder,
            authority: authority(),
        };
        std::fs::write(certificates.ca(), certificates.authority.pem()).unwrap();
        certificates.sign("server", &certificates.authority);
        certificates.sign("client", &certificates.authority);
        certificates.sign("stranger", &authority());
        certificates
    }

    /// The authority's own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The certificate of `server`, `client` or `stranger`.
    pub fn certificate(&self, of: &str) -> PathBuf {
        self.folder.join(format!("{of}.pem"))
    }

    /// The key that goes with it.
    pub fn key(&self, of: &str) -> PathBuf {
        self.folder.join(format!("{of}.key"))
    }

    /// Signs a new certificate for the server.
    pub fn renew(&self) {
        self.sign("server", &self.authority);
    }

    /// How a client reaches the server, perhaps with a certificate.
    pub fn client(&self, of: Option<&str>) -> ClientTlsConfig {
        let ca = Certificate::from_pem(read(&self.ca()));
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca)
            .domain_name("localhost");
        match of {
            None => tls,
            Some(of) => tls.identity(Identity::from_pem(
                read(&self.certificate(of)),
                read(&self.key(of)),
            )),
        }
    }

    /// What a server of the test's own greets with.
    pub fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::from_pem_slice(&read(&self.certificate("server")));
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key("server")));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![chain.unwrap()], key.unwrap())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    fn sign(&self, of: &str, authority: &CertifiedIssuer<'static, KeyPair>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, authority).unwrap();
        std::fs::write(self.key(of), key.serialize_pem()).unwrap();
        std::fs::write(self.certificate(of), signed.pem()).unwrap();
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
