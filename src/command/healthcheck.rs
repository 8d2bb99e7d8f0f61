//! `healthcheck`: for containers.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What `healthcheck` takes.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The address that the server listens on; for one that stands for all, loopback is asked
    #[arg(
        long,
        env = "COMM_HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    host: IpAddr,

    /// The port of the HTTP sidecar
    #[arg(
        long,
        env = "SERVICE_PORT",
        default_value_t = 8010,
        value_name = "PORT"
    )]
    service_port: u16,

    /// Expect the sidecar to speak TLS
    #[arg(long, env = "COMM_TLS_HTTP", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), requires_if("true", "tls_cert_file"), value_name = "BOOL")]
    tls_http: bool,

    /// The certificate that it has to show, in PEM; whose name that is does not matter
    #[arg(long, env = "COMM_TLS_CERT_FILE", value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
}

/// Fails unless the server on this machine says that it is ready.
pub async fn run(args: &HealthcheckArgs) -> Result<(), Box<dyn Error>> {
    let certificate = match &args.tls_cert_file {
        Some(path) if args.tls_http => Some(first_certificate(path)?),
        _ => None,
    };
    let asking = async {
        let host = match args.host {
            IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        let socket = TcpStream::connect((host, args.service_port)).await?;
        match certificate {
            None => ask(socket).await,
            Some(certificate) => {
                let pinned = Arc::new(Pinned {
                    certificate,
                    provider: aws_lc_rs::default_provider(),
                });
                let config = ClientConfig::builder()
                    .dangerous()
                    .with_custom_certificate_verifier(pinned)
                    .with_no_client_auth();
                let name = ServerName::from(host);
                let connector = TlsConnector::from(Arc::new(config));
                ask(connector.connect(name, socket).await?).await
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(3), asking)
        .await
        .map_err(|_| "no answer within 3 s")??;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        println!("ready");
        Ok(())
    } else {
        Err("not ready".into())
    }
}

async fn ask(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Vec<u8>> {
    socket
        .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    socket.take(1024).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn first_certificate(path: &Path) -> Result<CertificateDer<'static>, Box<dyn Error>> {
    let pem = std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let first = CertificateDer::from_pem_slice(&pem);
    first.map_err(|_| format!("`{}` holds no certificate in PEM", path.display()).into())
}

/// Takes one certificate and no other, because the address of this machine is in no certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: CryptoProvider,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            let other = CertificateError::ApplicationVerificationFailure;
            Err(rustls::Error::InvalidCertificate(other))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
