//! How commands reach a running server.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

/// Which server, and who calls.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// The address of the server's gRPC port
    #[arg(
        long,
        env = "COMM_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub server: String,

    /// The credential, if the server wants one; `communication-service token` mints one
    #[arg(long, env = "COMM_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,

    /// The certificate that signs the server's, in PEM; without it those of this machine count
    #[arg(long, env = "COMM_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// The name in the server's certificate, where the address has another
    #[arg(long, env = "COMM_SERVER_NAME", value_name = "NAME")]
    pub server_name: Option<String>,

    /// A certificate for the server to see, in PEM
    #[arg(
        long,
        env = "COMM_CLIENT_CERT_FILE",
        requires = "client_key_file",
        value_name = "FILE"
    )]
    pub client_cert_file: Option<PathBuf>,

    /// The private key of that certificate, in PEM
    #[arg(
        long,
        env = "COMM_CLIENT_KEY_FILE",
        requires = "client_cert_file",
        value_name = "FILE"
    )]
    pub client_key_file: Option<PathBuf>,
}

/// Why a call from the command line failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no server answers at {server}; start one with `communication-service serve`")]
    Connect {
        /// The address.
        server: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The token cannot be a header.
    #[error("the token has characters that no token has")]
    Token,
    /// The server refused.
    #[error("{}: {}", code(status), status.message())]
    Status {
        /// What it said.
        status: Box<Status>,
    },
}

fn code(status: &Status) -> String {
    format!("{:?}", status.code())
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Status {
            status: Box::new(status),
        }
    }
}

/// A connection to a server, and the credential for it.
pub struct Client {
    /// The connection.
    pub channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl ClientArgs {
    /// Connects.
    ///
    /// # Errors
    /// Nobody answers, or the token is no token.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let connect = |source| ClientError::Connect {
            server: self.server.clone(),
            source,
        };
        let mut endpoint = Endpoint::from_shared(self.server.clone()).map_err(connect)?;
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(self.tls()?).map_err(connect)?;
        }
        let channel = endpoint.connect().await.map_err(connect)?;
        let bearer = self
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}").parse());
        let authorization = bearer.transpose().map_err(|_| ClientError::Token)?;
        Ok(Client {
            channel,
            authorization,
        })
    }
}

impl ClientArgs {
    fn tls(&self) -> Result<ClientTlsConfig, ClientError> {
        let mut tls = match &self.ca_file {
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(certificate), Some(key)) = (&self.client_cert_file, &self.client_key_file) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::File {
        path: path.to_owned(),
        source,
    })
}

impl Client {
    /// A request with the credential.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        request
    }

    /// Calls a method that only its description is known of; it answers with one message or with
    /// several.
    ///
    /// # Errors
    /// The server refused.
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
    ) -> Result<Streaming<DynamicMessage>, ClientError> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path =
            PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
        let codec = crate::codec::DynamicCodec::new(method.output());
        Ok(grpc
            .server_streaming(self.request(message), path, codec)
            .await?
            .into_inner())
    }
}

/// What this binary knows of the API.
///
/// # Errors
/// The descriptors of this binary are not in order.
pub fn descriptors() -> Result<DescriptorPool, prost_reflect::DescriptorError> {
    DescriptorPool::decode(crate::pb::BARE_DESCRIPTORS)
}
