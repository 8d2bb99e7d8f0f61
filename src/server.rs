//! Builds the gRPC services and the HTTP sidecar, serves both, drains on a signal.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;

use crate::access::{
    Authenticator, AuthenticatorError, Caller, DevelopmentKey, DevelopmentKeyError,
};
use crate::call::CallLayer;
use crate::config::Config;
use crate::database::dial::Dialer;
use crate::database::private::{PrivateError, PrivateOptions, PrivateServer};
use crate::error::{Error, MAX_REQUEST_BYTES};
use crate::inbox::Inbox;
use crate::master_key::{MasterKey, MasterKeyError};
use crate::pb;
use crate::pb::inbox_service_server::InboxServiceServer;
use crate::pb::tenant_admin_service_server::TenantAdminServiceServer;
use crate::sidecar::{Sidecar, routes};
use crate::socket::incoming;
use crate::telemetry::start_metrics;
use crate::tenant::{
    AccountSealers, DirectoryOptions, InstallationError, Isolation, TenantAdmin, TenantDirectory,
    prepare,
};
use crate::webhook::{Webhooks, WebhooksOptions};

/// How often the database is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);
/// How many calls of one connection may be under way at once.
const STREAMS: u32 = 256;
/// The most that the headers of one call may have, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;
/// How often a silent peer is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

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
    /// Tokens cannot be checked.
    #[error(transparent)]
    Authenticator(#[from] AuthenticatorError),
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
    /// Something else that should not be.
    #[error("the server cannot be built")]
    Build(#[source] Error),
    /// The transport ended by itself.
    #[error("the server stopped by itself")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A server that listens but does not serve yet.
pub struct Server {
    config: Config,
    grpc: TcpListener,
    http: TcpListener,
    database: String,
    isolation: Isolation,
    private: Option<PrivateServer>,
    tenants: TenantDirectory,
    webhooks: Webhooks,
    authenticator: Authenticator,
    ready: Arc<AtomicBool>,
}

impl Server {
    /// Binds both ports, opens the database, starting a private one if none is named, and prepares
    /// it.
    ///
    /// # Errors
    /// A port is taken, the database is not to be had, or a key is missing.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        // The ports first: who starts the service twice should hear of that and nothing else.
        let grpc = listen(config.grpc_host(), config.grpc_port, "GRPC_PORT").await?;
        let http = listen(config.host, config.service_port, "SERVICE_PORT").await?;
        let (url, private) = match &config.database_url {
            Some(url) => (url.clone(), None),
            None => {
                let options = PrivateOptions {
                    data_dir: config.data_dir.clone(),
                    bin_dir: config.pg_bin.clone(),
                    fsync: true,
                    max_connections: u32::from(config.db_connections) + 40,
                    keep_running: false,
                };
                let server = PrivateServer::start(options).await?;
                (server.url().to_owned(), Some(server))
            }
        };
        let service = Dialer::new(&url).map_err(ServerError::DatabaseUrl)?;
        let key = match &config.master_key_file {
            Some(path) => MasterKey::read(path)?,
            None => {
                make_folder(&config.data_dir)?;
                MasterKey::read_or_make(&config.data_dir.join("master.key"))?
            }
        };
        let role_sealer = key.sealer("role passwords")?;
        let installation = prepare(&service, &role_sealer, config.allow_async_commit).await?;
        let isolation = installation.isolation;
        let database = match &private {
            Some(private) => private.description(),
            None => format!(
                "PostgreSQL {} at {}",
                installation.server_version,
                service.server()
            ),
        };
        let tenants = TenantDirectory::new(DirectoryOptions {
            installation,
            service,
            role_sealer,
            page_sealer: key.sealer("page tokens")?,
            account_sealers: AccountSealers {
                apps: key.sealer("provider apps")?,
                accounts: key.tenant_sealers("channel accounts"),
            },
            connections: usize::from(config.db_connections),
            idle: config.idle(),
            echo: config.sql_echo,
            migrate: config.migrate_at_start.unwrap_or(private.is_some()),
        })
        .map_err(ServerError::Build)?;
        let webhooks = Webhooks::new(WebhooksOptions {
            tenants: tenants.clone(),
            sealer: key.sealer("deliveries")?,
            days: config.delivery_days,
            quarantine_days: config.quarantine_days,
        });
        let authenticator = authenticator(&config)?;
        Ok(Self {
            config,
            grpc,
            http,
            database,
            isolation,
            private,
            tenants,
            webhooks,
            authenticator,
            ready: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Where gRPC listens.
    pub fn grpc_address(&self) -> SocketAddr {
        address(&self.grpc)
    }

    /// Where the sidecar listens.
    pub fn http_address(&self) -> SocketAddr {
        address(&self.http)
    }

    /// Which database is used, without a password.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// What keeps tenants apart.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Tells whether callers without a credential may do everything.
    pub fn is_open(&self) -> bool {
        self.authenticator.authenticate(None).is_ok()
    }

    /// Serves until `stop` says so, then lets the calls in flight end, for the grace period at
    /// most.
    ///
    /// # Errors
    /// The transport ended by itself, or the private PostgreSQL does not stop.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        // Before anything counts: a counter that is made earlier counts nothing.
        let metrics = start_metrics();
        let (stopping, stopped) = watch::channel(false);
        let (reporter, health) = tonic_health::server::health_reporter();
        // It begins by saying yes for the whole server; nobody has asked the database yet.
        reporter
            .set_service_status("", ServingStatus::NotServing)
            .await;
        let watching = tokio::spawn(watch_database(
            self.tenants.clone(),
            reporter.clone(),
            self.ready.clone(),
            stopped.clone(),
        ));

        let inbox = InboxServiceServer::new(Inbox::new(self.tenants.clone()))
            .max_decoding_message_size(MAX_REQUEST_BYTES);
        let admin = TenantAdmin::new(self.tenants.clone(), self.webhooks.clone());
        let admin =
            TenantAdminServiceServer::new(admin).max_decoding_message_size(MAX_REQUEST_BYTES);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let grpc = tonic::transport::Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .layer(GrpcWebLayer::new())
            .layer(CallLayer::new(
                self.authenticator,
                self.config.call_timeout(),
            ))
            .add_service(inbox)
            .add_service(admin)
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .serve_with_incoming_shutdown(incoming(self.grpc), told(stopped.clone()));

        let sidecar = Sidecar {
            ready: self.ready.clone(),
            metrics,
            tenants: self.tenants.clone(),
        };
        let routes =
            routes(sidecar, self.config.host).merge(crate::webhook::routes(self.webhooks.clone()));
        let working = tokio::spawn({
            let webhooks = self.webhooks.clone();
            async move { webhooks.work().await }
        });
        let http = axum::serve(self.http, routes).with_graceful_shutdown(told(stopped.clone()));

        let serving = async {
            let grpc = async { grpc.await.map_err(|error| ServerError::Serve(error.into())) };
            let http = async { http.await.map_err(|error| ServerError::Serve(error.into())) };
            let served = tokio::try_join!(grpc, http).map(drop);
            // What is left of the deliveries is taken up at the next start, or by another node.
            working.abort();
            self.webhooks.drain().await;
            served
        };
        let ready = self.ready.clone();
        let grace = self.config.grace();
        let limit = async {
            stop.await;
            ready.store(false, Ordering::Relaxed);
            for service in SERVICES {
                reporter
                    .set_service_status(service, ServingStatus::NotServing)
                    .await;
            }
            let _ = stopping.send(true);
            tokio::time::sleep(grace).await;
            tracing::warn!("calls were still in flight at the end of the grace period");
        };
        let served = tokio::select! {
            served = serving => served,
            () = limit => Ok(()),
        };
        watching.abort();
        if let Some(private) = self.private {
            private.stop().await?;
        }
        served
    }
}

/// The names that health is told for; the empty one is the whole server.
const SERVICES: [&str; 3] = [
    "",
    "communication.v1.InboxService",
    "communication.v1.TenantAdminService",
];

async fn watch_database(
    tenants: TenantDirectory,
    reporter: HealthReporter,
    ready: Arc<AtomicBool>,
    stopped: watch::Receiver<bool>,
) {
    loop {
        let pinged = tokio::time::timeout(PING_EVERY, tenants.ping()).await;
        let answers = matches!(pinged, Ok(Ok(())));
        if *stopped.borrow() {
            return;
        }
        if ready.swap(answers, Ordering::Relaxed) != answers {
            let status = if answers {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            for service in SERVICES {
                reporter.set_service_status(service, status).await;
            }
            if answers {
                tracing::info!("ready");
            } else {
                tracing::warn!("the database does not answer, not ready");
            }
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // The sender gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Builds what checks tokens.
///
/// # Errors
/// The key set cannot be read.
pub fn authenticator(config: &Config) -> Result<Authenticator, ServerError> {
    let open = config.jwks_file.is_none();
    let anonymous = open.then(Caller::local);
    let mut authenticator = Authenticator::new(&config.jwt_issuer, &config.jwt_audience, anonymous);
    match &config.jwks_file {
        Some(path) => authenticator.trust_file(path)?,
        // Beyond this machine, a key that lies in a folder is nobody's credential.
        None if config.insecure => {}
        None => {
            make_folder(&config.data_dir)?;
            let key = DevelopmentKey::read_or_make(&development_key_file(&config.data_dir))?;
            let (kid, verifier) = key.verifier();
            authenticator.trust(kid, verifier);
        }
    }
    Ok(authenticator)
}

/// Where the development key of a data folder is.
pub fn development_key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("development.key")
}

fn make_folder(path: &Path) -> Result<(), ServerError> {
    let made = std::fs::create_dir_all(path);
    made.map_err(|source| ServerError::DataDir {
        path: path.to_owned(),
        source,
    })
}

async fn listen(
    host: IpAddr,
    port: u16,
    variable: &'static str,
) -> Result<TcpListener, ServerError> {
    let address = SocketAddr::new(host, port);
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ServerError::Listen {
        address,
        variable,
        source,
    })
}

fn address(listener: &TcpListener) -> SocketAddr {
    // Known since it was bound; the unspecified address only stands in where the system forgot.
    listener
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
}
