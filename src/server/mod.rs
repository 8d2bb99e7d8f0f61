//! Builds the gRPC services and the HTTP sidecar, serves both, drains on a signal.

mod capacity;
mod connection;
mod error;
mod exposure;
mod limits;
mod listener;
mod readiness;
mod services;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::connection::{Connection, Lasting};
pub use self::error::ServerError;
pub use self::exposure::{Exposure, Metrics, Rest};
pub use self::limits::HTTP_REQUEST;
pub use self::readiness::Readiness;
pub use self::tls::TlsError;

use self::capacity::Capacity;
use self::exposure::{Protection, Setting, loopback_like};
use self::limits::Protocols;
use self::listener::Listener;
use self::tls::{Tls, TlsFiles};
use crate::access::{
    Authenticator, Caller, DevelopmentKey, KeyServer, KeySource, Keyring, KeyringError,
};
use crate::call::CallLayer;
use crate::config::{Config, Environment};
use crate::database::dial::Dialer;
use crate::database::private::{PrivateOptions, PrivateServer};
use crate::event::Events;
use crate::file_store::FileStore;
use crate::guarded_client::{self, GuardedClient};
use crate::inbox;
use crate::master_key::MasterKey;
use crate::provider::media::Interfaces;
use crate::rest::Gateway;
use crate::sidecar::{self, Sidecar};
use crate::telemetry::start_metrics;
use crate::tenant::{
    AccountSealers, AppSealers, DirectoryOptions, Isolation, TenantDirectory, prepare,
};
use crate::trace::CallTraces;
use crate::webhook::{self, Webhooks, WebhooksOptions};
use crate::widget::{self, Widgets, WidgetsOptions};

/// A server that listens but does not serve yet.
pub struct Server {
    config: Config,
    exposure: Exposure,
    ports: Ports,
    database: String,
    isolation: Isolation,
    private: Option<PrivateServer>,
    tenants: TenantDirectory,
    webhooks: Webhooks,
    widgets: Widgets,
    authenticator: Arc<Authenticator>,
}

impl Server {
    /// Binds the ports, opens the database, starting a private one if none is named, and prepares
    /// it.
    ///
    /// # Errors
    /// A port is taken, the database is not to be had, or a key is missing.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let exposure = exposure(&config);
        // The ports first: who starts the service twice should hear of that and nothing else.
        let ports = Ports::bind(&config, &exposure).await?;
        let authenticator = Arc::new(authenticator(&config, &exposure).await?);
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
        let files = FileStore::open(
            config.attachments_url.as_deref(),
            &config.data_dir,
            config.attachment_bytes,
        )?;
        let tenants = TenantDirectory::new(DirectoryOptions {
            installation,
            service,
            role_sealer,
            page_sealer: key.sealer("page tokens")?,
            account_sealers: AccountSealers {
                apps: AppSealers {
                    deployment: key.sealer("provider apps")?,
                    tenants: key.tenant_sealers("provider apps of a tenant"),
                },
                accounts: key.tenant_sealers("channel accounts"),
            },
            files,
            nats_servers: config.nats_url.clone().unwrap_or_default().0,
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
            public_url: config.public_url.clone(),
            client: Arc::new(GuardedClient::new(guarded_client::Options {
                trusted_hosts: config.trusted_hosts.clone(),
                ..guarded_client::Options::default()
            })),
            interfaces: Interfaces {
                meta: config.meta_url.clone(),
                twilio: config.twilio_url.clone(),
                gmail: config.gmail_url.clone(),
                google_token: config.google_token_url.clone(),
                google_keys: config.google_keys_url.clone(),
                aws: config.aws_url.clone(),
            },
        });
        let widgets = Widgets::new(WidgetsOptions {
            tenants: tenants.clone(),
            key: &key,
            config: &config.widget,
            attachment_bytes: config.attachment_bytes,
            proxies: config.trusted_proxies,
            streams: limits::visitor_streams(config.connections),
        })?;
        Ok(Self {
            config,
            exposure,
            ports,
            database,
            isolation,
            private,
            tenants,
            webhooks,
            widgets,
            authenticator,
        })
    }

    /// Where gRPC listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.ports.grpc.address()
    }

    /// Where tenants are administered, if on a port of its own.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.ports.admin.as_ref().map(Listener::address)
    }

    /// Where the sidecar listens.
    pub fn http_address(&self) -> SocketAddr {
        self.ports.http.address()
    }

    /// Where metrics are shown, if not on the sidecar.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.ports.metrics.as_ref().map(Listener::address)
    }

    /// How the addresses of gRPC and of the sidecar begin: `http` or `https`.
    pub fn schemes(&self) -> (&'static str, &'static str) {
        let scheme = |port: &Listener| if port.tls.is_some() { "https" } else { "http" };
        (scheme(&self.ports.grpc), scheme(&self.ports.http))
    }

    /// Tells whether reflection is offered.
    pub fn reflects(&self) -> bool {
        self.config.reflection
    }

    /// Which database is used, without a password.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// What keeps tenants apart.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Who can reach what.
    pub fn exposure(&self) -> Exposure {
        self.exposure
    }

    /// Serves until `stop` says so, then lets the calls in flight end, for the grace period at
    /// most.
    ///
    /// # Errors
    /// The private PostgreSQL does not stop.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        // Before anything counts: a counter that is made earlier counts nothing.
        let metrics = start_metrics();
        metrics::gauge!("service_insecure").set(f64::from(self.exposure.warning.is_some()));
        let (reporter, health) = tonic_health::server::health_reporter();
        let readiness = Readiness::new(reporter).await;
        let following = tokio::spawn(readiness.clone().follow(self.tenants.clone()));

        let calls = CallLayer::new(
            self.authenticator.clone(),
            self.config.call_timeout(),
            self.config.environment() == Environment::Development,
            self.config.cors_origins.clone(),
            self.config.otlp_endpoint.is_some().then(CallTraces::new),
        );
        let capacity = Capacity::new(self.config.calls);
        // Whoever fills the one cannot keep an administrator from the other.
        let admin_capacity = Capacity::new(self.config.calls);
        let about = |services: &[&str]| {
            let described = self.config.reflection.then_some(services);
            services::about(health.clone(), described)
        };
        let (stopping, stopped) = watch::channel(false);
        let events = Events::new(self.tenants.clone(), stopped.clone());
        let public = |routes| services::public(routes, &self.tenants, &self.webhooks, &events);
        let (offered, public, admin) = match self.ports.admin {
            None => {
                let both = [services::PUBLIC, services::ADMIN].concat();
                let routes = public(about(&both)?);
                let routes = services::admin(routes, &self.tenants, &self.webhooks);
                (both, routes, None)
            }
            Some(port) => {
                let public = public(about(services::PUBLIC)?);
                let admin = about(services::ADMIN)?;
                let admin = services::admin(admin, &self.tenants, &self.webhooks);
                (services::PUBLIC.to_vec(), public, Some((port, admin)))
            }
        };
        let cors = services::cors(&self.config.cors_origins);
        let rest = services::rest(
            Gateway {
                services: offered,
                routes: public.clone(),
                readers: self.config.reflection.then(|| self.authenticator.clone()),
                any_host: self.config.insecure,
                sockets: limits::sockets(self.config.connections),
            },
            &calls,
            &capacity,
            &self.config.cors_origins,
        )?;
        let (rest_here, rest_on_loopback) = match self.exposure.rest {
            Rest::Sidecar => (rest, Router::new()),
            Rest::Loopback => (Router::new(), rest),
        };
        let sidecar = Sidecar {
            readiness: readiness.clone(),
            metrics,
            tenants: self.tenants.clone(),
            authenticator: self.authenticator.clone(),
        };

        let working = tokio::spawn({
            let webhooks = self.webhooks.clone();
            async move { webhooks.work().await }
        });
        let reading = tokio::spawn({
            let webhooks = self.webhooks.clone();
            async move { webhooks.read_mailboxes().await }
        });
        let waking = tokio::spawn({
            let webhooks = self.webhooks.clone();
            inbox::work(self.tenants.clone(), move |scope| {
                webhooks.fetch_files(scope);
            })
        });
        let counting = tokio::spawn(inbox::keep_statistics(self.tenants.clone()));
        let serving = async {
            let grpc = services::layered(public, &calls, &capacity, cors);
            let grpc = self.ports.grpc.serve(grpc, stopped.clone());
            let admin = async {
                if let Some((port, routes)) = admin {
                    // Nobody administers from a page.
                    let admin = services::layered(routes, &calls, &admin_capacity, None);
                    port.serve(admin, stopped.clone()).await;
                }
            };
            let http = sidecar::routes(
                sidecar.clone(),
                self.exposure.metrics,
                webhook::routes(self.webhooks.clone())
                    .merge(widget::routes(self.widgets.clone(), events)),
            );
            // Its calls have the limits of calls.
            let http = http.merge(rest_here);
            let http = self.ports.http.serve(http, stopped.clone());
            let metrics = async {
                if let Some(port) = self.ports.metrics {
                    let metrics = sidecar::metrics_alone(sidecar).merge(rest_on_loopback);
                    port.serve(metrics, stopped.clone()).await;
                }
            };
            tokio::join!(grpc, admin, http, metrics);
            // What is left of the deliveries is taken up at the next start, or by another node.
            working.abort();
            reading.abort();
            waking.abort();
            counting.abort();
            self.webhooks.drain().await;
        };
        let grace = self.config.grace();
        let limit = async {
            stop.await;
            following.abort();
            // Gone for good, or it might say once more that all is well.
            let _ = following.await;
            readiness.set(false).await;
            let _ = stopping.send(true);
            tokio::time::sleep(grace).await;
            tracing::warn!("calls were still in flight at the end of the grace period");
        };
        let authenticator = &self.authenticator;
        tokio::select! {
            () = serving => {}
            () = limit => {}
            () = async { authenticator.follow().await; std::future::pending().await } => {}
        }
        if let Some(private) = self.private {
            private.stop().await?;
        }
        Ok(())
    }
}

/// The sockets, bound.
struct Ports {
    grpc: Listener,
    admin: Option<Listener>,
    http: Listener,
    metrics: Option<Listener>,
}

impl Ports {
    async fn bind(config: &Config, exposure: &Exposure) -> Result<Self, ServerError> {
        let connections = usize::try_from(config.connections).unwrap_or(usize::MAX);
        let files = tls_files(config);
        let tls = |files: Option<TlsFiles>, protocols| {
            files.map(|files| Tls::read(files, protocols)).transpose()
        };
        // Providers have no certificate of ours.
        let http_files = files
            .clone()
            .filter(|_| config.tls_http)
            .map(|files| TlsFiles {
                client_ca: None,
                ..files
            });
        let grpc = Listener {
            name: "grpc",
            socket: listen(exposure.grpc_host, config.grpc_port, "GRPC_PORT").await?,
            protocols: Protocols::Grpc,
            tls: tls(files.clone(), Protocols::Grpc)?,
            connections,
        };
        let admin = match config.admin_port {
            None => None,
            Some(port) => {
                let host = setting(config, config.admin_host).exposure().grpc_host;
                Some(Listener {
                    name: "admin",
                    socket: listen(host, port, "COMM_ADMIN_PORT").await?,
                    protocols: Protocols::Grpc,
                    tls: tls(files, Protocols::Grpc)?,
                    connections,
                })
            }
        };
        let http = Listener {
            name: "http",
            socket: listen(config.host, config.service_port, "SERVICE_PORT").await?,
            protocols: Protocols::Http,
            tls: tls(http_files, Protocols::Http)?,
            connections,
        };
        let metrics = match exposure.metrics {
            Metrics::Open | Metrics::WithToken => None,
            Metrics::Loopback => {
                let host = loopback_like(config.host);
                Some(Listener {
                    name: "metrics",
                    socket: listen(host, config.metrics_port, "COMM_METRICS_PORT").await?,
                    protocols: Protocols::Http,
                    tls: None,
                    connections,
                })
            }
        };
        Ok(Self {
            grpc,
            admin,
            http,
            metrics,
        })
    }
}

fn tls_files(config: &Config) -> Option<TlsFiles> {
    let (certificate, key) = config
        .tls_cert_file
        .clone()
        .zip(config.tls_key_file.clone())?;
    Some(TlsFiles {
        certificate,
        key,
        client_ca: config.tls_client_ca_file.clone(),
    })
}

/// Decides who can reach what.
pub fn exposure(config: &Config) -> Exposure {
    let mut exposure = setting(config, config.host).exposure();
    if config.admin_port.is_some() {
        let admin = setting(config, config.admin_host).exposure();
        exposure.warning = exposure.warning.or(admin.warning);
    }
    exposure
}

/// Reads the certificates.
///
/// # Errors
/// They cannot be used.
pub fn check_tls(config: &Config) -> Result<(), TlsError> {
    let files = tls_files(config);
    let tls = files.map(|files| Tls::read(files, Protocols::Grpc));
    tls.transpose().map(drop)
}

fn setting(config: &Config, host: IpAddr) -> Setting {
    let own = config.tls_cert_file.is_some();
    let protection = |own| match (own, config.tls_terminated) {
        (true, _) => Protection::Own,
        (false, true) => Protection::Proxy,
        (false, false) => Protection::None,
    };
    Setting {
        host,
        environment: config.environment(),
        authentication: config.jwks_file.is_some() || config.jwks_url.is_some(),
        proxied: config.tls_terminated,
        grpc: protection(own),
        http: protection(own && config.tls_http),
        insecure: config.insecure,
    }
}

/// Builds what checks tokens.
///
/// # Errors
/// The keys cannot be had.
pub async fn authenticator(
    config: &Config,
    exposure: &Exposure,
) -> Result<Authenticator, ServerError> {
    let anonymous = exposure.anonymous.then(Caller::local);
    let mut authenticator = Authenticator::new(&config.jwt_issuer, &config.jwt_audience, anonymous);
    let source = match (&config.jwks_file, &config.jwks_url) {
        (Some(path), _) => Some(KeySource::File(path.clone())),
        (None, Some(url)) => {
            let server = KeyServer::new(url).map_err(KeyringError::from)?;
            Some(KeySource::Server(server))
        }
        (None, None) => None,
    };
    if let Some(source) = source {
        authenticator.trust_keyring(Keyring::open(source).await?);
    }
    if exposure.development_key {
        make_folder(&config.data_dir)?;
        let key = DevelopmentKey::read_or_make(&development_key_file(&config.data_dir))?;
        let (kid, verifier) = key.verifier();
        authenticator.trust(kid, verifier);
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
