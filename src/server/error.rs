//! Why the server cannot start, or stopped.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::tls::TlsError;
use crate::access::{DevelopmentKeyError, KeyringError};
use crate::database::private::PrivateError;
use crate::error::Error;
use crate::file_store::FileStoreError;
use crate::master_key::MasterKeyError;
use crate::rest::BindingError;
use crate::tenant::InstallationError;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data folder cannot be made.
    #[error("the data folder `{path}` cannot be made, name another one in COMM_DATA_DIR")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The private PostgreSQL does not start.
    #[error("the private PostgreSQL cannot be started")]
    Private(#[from] PrivateError),
    /// `DATABASE_URL` is no connection string.
    #[error("DATABASE_URL is no PostgreSQL connection string")]
    DatabaseUrl(#[source] tokio_postgres::Error),
    /// The database is not fit.
    #[error("the database cannot be a home of tenants")]
    Installation(#[from] InstallationError),
    /// There is no master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// Files cannot be kept.
    #[error(transparent)]
    Files(#[from] FileStoreError),
    /// There are no keys to check tokens with.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The development key cannot be used.
    #[error(transparent)]
    DevelopmentKey(#[from] DevelopmentKeyError),
    /// An address is in use, or not ours.
    #[error("cannot listen on {address}, choose another port with {variable}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The variable that names the port.
        variable: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The descriptors of this binary are not in order.
    #[error("reflection cannot be offered")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The annotations of this binary are not in order.
    #[error("REST cannot be offered")]
    Rest(#[from] BindingError),
    /// A port cannot speak TLS.
    #[error("TLS cannot be spoken")]
    Tls(#[from] TlsError),
    /// Something else that should not be.
    #[error("the server cannot be built")]
    Build(#[source] Error),
}
