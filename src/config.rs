//! Every setting: its variable, its flag, its default and what it means.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use clap::{Args, ValueEnum};
use http::{HeaderValue, Uri};

use crate::database::private::default_data_dir;
use crate::guarded_client::TrustedHost;
use crate::tenant::FEWEST_CONNECTIONS;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the service runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// Somebody who builds on it.
    Development,
    /// Real customers.
    Production,
}

/// What `serve` can be told.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The PostgreSQL to use, 14 or newer; without it a private one is started in the data folder
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// The servers of NATS by which servers of one database tell each other what has changed, such as `nats://user:password@host:4222`, several with commas between them; without it they do by PostgreSQL
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_parser = nats_servers, value_name = "URL")]
    pub nats_url: Option<NatsServers>,

    /// `development`: faults are answered with their cause, on loopback no credential is needed, and a call with the header `x-clock-offset: -86400` happens a day ago, so that a demonstration has a past; without it `development` on loopback without a proxy, else `production`
    #[arg(long, env = "COMM_ENV", value_enum, value_name = "ENVIRONMENT")]
    pub env: Option<Environment>,

    /// The address to listen on; beyond loopback, gRPC, REST and metrics need authentication and TLS first
    #[arg(
        long,
        env = "COMM_HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    pub host: IpAddr,

    /// The port of the HTTP sidecar; 0 for any free one
    #[arg(
        long,
        env = "SERVICE_PORT",
        default_value_t = 8010,
        value_name = "PORT"
    )]
    pub service_port: u16,

    /// The port of gRPC; 0 for any free one
    #[arg(long, env = "GRPC_PORT", default_value_t = 50051, value_name = "PORT")]
    pub grpc_port: u16,

    /// Write every SQL statement to the log, without the values in it
    #[arg(long, env = "SQL_ECHO", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), value_name = "BOOL")]
    pub sql_echo: bool,

    /// Where the private PostgreSQL, the master key, the development key and, unless `COMM_ATTACHMENTS_URL` says otherwise, files are kept
    #[arg(long, env = "COMM_DATA_DIR", default_value_os_t = default_data_dir(), value_name = "FOLDER")]
    pub data_dir: PathBuf,

    /// The folder of PostgreSQL's programs; without it they are looked for
    #[arg(long, env = "COMM_PG_BIN", value_name = "FOLDER")]
    pub pg_bin: Option<PathBuf>,

    /// The file of the master key, 64 hexadecimal digits; without it one is made in the data folder
    #[arg(long, env = "COMM_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,

    /// Where files are kept: `file:///folder`, or `s3://bucket/prefix` of an S3-compatible service, with region, credentials and address by `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` and the other usual variables; without it the folder `attachments` in the data folder
    #[arg(long, env = "COMM_ATTACHMENTS_URL", value_name = "URL")]
    pub attachments_url: Option<String>,

    /// The most that one file may have, in bytes
    #[arg(long, env = "COMM_ATTACHMENT_BYTES", default_value_t = 100 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..=4 * 1024 * 1024 * 1024), value_name = "BYTES")]
    pub attachment_bytes: u64,

    /// The most database connections of all kinds together
    #[arg(long, env = "COMM_DB_CONNECTIONS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(i64::try_from(FEWEST_CONNECTIONS).unwrap_or(i64::MAX)..), value_name = "NUMBER")]
    pub db_connections: u16,

    /// How long a database connection may be idle before it is closed, in seconds
    #[arg(
        long,
        env = "COMM_DB_IDLE_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub db_idle_seconds: u64,

    /// Migrate tenants of an older version at the start; left out: only those of the private PostgreSQL, and others wait for `communication-service migrate`
    #[arg(long, env = "COMM_MIGRATE_AT_START", num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), value_name = "BOOL")]
    pub migrate_at_start: Option<bool>,

    /// Start although `synchronous_commit` is off: acknowledged messages can be lost in a crash
    #[arg(long, env = "COMM_ALLOW_ASYNC_COMMIT", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), value_name = "BOOL")]
    pub allow_async_commit: bool,

    /// The JSON Web Key Set whose keys sign the callers' tokens; read again when it changes
    #[arg(long, env = "COMM_JWKS_FILE", value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,

    /// The address of that set instead, https or on loopback
    #[arg(
        long,
        env = "COMM_JWKS_URL",
        conflicts_with = "jwks_file",
        value_name = "URL"
    )]
    pub jwks_url: Option<String>,

    /// The issuer that tokens must name
    #[arg(
        long,
        env = "COMM_JWT_ISSUER",
        default_value = "communication-service",
        value_name = "NAME"
    )]
    pub jwt_issuer: String,

    /// The audience that tokens must name
    #[arg(
        long,
        env = "COMM_JWT_AUDIENCE",
        default_value = "communication-service",
        value_name = "NAME"
    )]
    pub jwt_audience: String,

    /// The certificate of the gRPC port and what leads from it to a root, in PEM; read again when it changes
    #[arg(
        long,
        env = "COMM_TLS_CERT_FILE",
        requires = "tls_key_file",
        value_name = "FILE"
    )]
    pub tls_cert_file: Option<PathBuf>,

    /// The private key of that certificate, in PEM
    #[arg(
        long,
        env = "COMM_TLS_KEY_FILE",
        requires = "tls_cert_file",
        value_name = "FILE"
    )]
    pub tls_key_file: Option<PathBuf>,

    /// The certificates that sign those of the callers, in PEM; with it, a caller of gRPC needs one beside its token
    #[arg(
        long,
        env = "COMM_TLS_CLIENT_CA_FILE",
        requires = "tls_cert_file",
        value_name = "FILE"
    )]
    pub tls_client_ca_file: Option<PathBuf>,

    /// Speak TLS on the HTTP sidecar too, with the same certificate
    #[arg(long, env = "COMM_TLS_HTTP", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), value_name = "BOOL")]
    pub tls_http: bool,

    /// State that a proxy in front of both ports ends TLS, and that nobody gets past it
    #[arg(long, env = "COMM_TLS_TERMINATED", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), value_name = "BOOL")]
    pub tls_terminated: bool,

    /// Expose every port as it is: without TLS whoever listens reads along, without keys whoever reaches gRPC or REST may do everything
    #[arg(long, env = "COMM_INSECURE", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), value_name = "BOOL")]
    pub insecure: bool,

    /// How long webhooks are kept as they came, in days
    #[arg(long, env = "COMM_DELIVERY_DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650), value_name = "DAYS")]
    pub delivery_days: u32,

    /// How long webhooks are kept that have items in quarantine, in days
    #[arg(long, env = "COMM_QUARANTINE_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650), value_name = "DAYS")]
    pub quarantine_days: u32,

    /// Where providers reach the HTTP sidecar, such as `https://hooks.example.com`, as it is entered with them; webhooks of Twilio are signed for their address, and refused without this
    #[arg(long, env = "COMM_PUBLIC_URL", value_parser = public_url, value_name = "URL")]
    pub public_url: Option<String>,

    /// Where Meta's Graph API is, with its version; files of WhatsApp are looked up there
    #[arg(long, env = "COMM_META_URL", default_value = "https://graph.facebook.com/v23.0", value_parser = public_url, value_name = "URL")]
    pub meta_url: String,

    /// Where Twilio's REST API is; files and recordings are fetched from there
    #[arg(long, env = "COMM_TWILIO_URL", default_value = "https://api.twilio.com", value_parser = public_url, value_name = "URL")]
    pub twilio_url: String,

    /// Where Gmail's API is
    #[arg(long, env = "COMM_GMAIL_URL", default_value = "https://gmail.googleapis.com", value_parser = public_url, value_name = "URL")]
    pub gmail_url: String,

    /// Where Google gives access tokens for refresh tokens
    #[arg(long, env = "COMM_GOOGLE_TOKEN_URL", default_value = "https://oauth2.googleapis.com/token", value_parser = public_url, value_name = "URL")]
    pub google_token_url: String,

    /// Where Google shows the keys by which it signs what it pushes
    #[arg(long, env = "COMM_GOOGLE_KEYS_URL", default_value = "https://www.googleapis.com/oauth2/v3/certs", value_parser = public_url, value_name = "URL")]
    pub google_keys_url: String,

    /// Where Amazon is asked for the certificates and confirmations of SNS and for mail in S3, such as `http://localstack:4566`; without it at its own hosts
    #[arg(long, env = "COMM_AWS_URL", value_parser = public_url, value_name = "URL")]
    pub aws_url: Option<String>,

    /// The operator's own hosts that files may be fetched from by plain http or in a private network, such as the gateway of a personal number: `waha:3000`, with the port, separated by commas
    #[arg(
        long,
        env = "COMM_TRUSTED_HOSTS",
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    pub trusted_hosts: Vec<TrustedHost>,

    /// The loopback port of `/metrics` and `/api/v1` where the sidecar must not show them; 0 for any free one
    #[arg(
        long,
        env = "COMM_METRICS_PORT",
        default_value_t = 8011,
        value_name = "PORT"
    )]
    pub metrics_port: u16,

    /// Offer reflection and `/api/v1/openapi.json`, to callers with a credential
    #[arg(long, env = "COMM_REFLECTION", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::FalseyValueParser::new(), value_name = "BOOL")]
    pub reflection: bool,

    /// The port of `TenantAdminService`, which is then offered nowhere else, by REST neither; without it, on the port of gRPC
    #[arg(long, env = "COMM_ADMIN_PORT", value_name = "PORT")]
    pub admin_port: Option<u16>,

    /// The address that this port listens on; beyond loopback, as for gRPC
    #[arg(
        long,
        env = "COMM_ADMIN_HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    pub admin_host: IpAddr,

    /// The origins, as `https://app.example.com`, whose pages may call by gRPC-Web and REST, separated by commas
    #[arg(long, env = "COMM_CORS_ORIGINS", value_delimiter = ',', value_parser = origin, value_name = "ORIGINS")]
    pub cors_origins: Vec<HeaderValue>,

    /// How many proxies stand in front of the HTTP port, each of which adds to `X-Forwarded-For` whom it talks to; 0: the peer itself is who calls. Limits for an address need it to be right
    #[arg(
        long,
        env = "COMM_TRUSTED_PROXIES",
        default_value_t = 0,
        value_name = "NUMBER"
    )]
    pub trusted_proxies: u8,

    /// What visitors of the chat widget may do
    #[command(flatten)]
    pub widget: WidgetConfig,

    /// The most connections that each port has at once; at the limit, one that rests has to go
    #[arg(long, env = "COMM_CONNECTIONS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
    pub connections: u32,

    /// The most calls under way at once, by gRPC and REST; more are refused with `RESOURCE_EXHAUSTED`
    #[arg(long, env = "COMM_CALLS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
    pub calls: u32,

    /// The longest that a call may take, in seconds, and an upload wait for its next bytes; a caller's own deadline may be shorter
    #[arg(
        long,
        env = "COMM_CALL_SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        value_name = "SECONDS"
    )]
    pub call_seconds: u64,

    /// How long calls in flight may go on after a signal to stop, in seconds
    #[arg(
        long,
        env = "COMM_GRACE_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub grace_seconds: u64,

    /// What goes to the log: a level, or directives such as `info,sql=off`
    #[arg(long, env = "COMM_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// How the log is written
    #[arg(long, env = "COMM_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// The collector that traces are sent to, by OTLP over gRPC; without it none are; the other standard variables of OpenTelemetry hold too
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// The name of the service in traces
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        default_value = "communication-service",
        value_name = "NAME"
    )]
    pub otel_service_name: String,
}

/// What visitors of the chat widget may do.
#[derive(Debug, Clone, Args)]
pub struct WidgetConfig {
    /// How long a session of the chat widget lasts before it has to be refreshed, in seconds
    #[arg(long = "widget-session-seconds", env = "COMM_WIDGET_SESSION_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(60..=86_400), value_name = "SECONDS")]
    pub session_seconds: u64,

    /// The most that one file of a visitor may have, in bytes, if `COMM_ATTACHMENT_BYTES` is not less
    #[arg(long = "widget-upload-bytes", env = "COMM_WIDGET_UPLOAD_BYTES", default_value_t = 10 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..=1024 * 1024 * 1024), value_name = "BYTES")]
    pub upload_bytes: u64,

    /// How many sessions an address may open in a minute
    #[arg(long = "widget-sessions", env = "COMM_WIDGET_SESSIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub sessions: u32,

    /// How often an address may identify somebody in a minute
    #[arg(long = "widget-identifications", env = "COMM_WIDGET_IDENTIFICATIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub identifications: u32,

    /// How many messages a visitor may post in a minute
    #[arg(long = "widget-messages", env = "COMM_WIDGET_MESSAGES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub messages: u32,

    /// How many messages may come from an address in a minute
    #[arg(long = "widget-address-messages", env = "COMM_WIDGET_ADDRESS_MESSAGES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub address_messages: u32,

    /// How many files a visitor may upload in an hour
    #[arg(long = "widget-uploads", env = "COMM_WIDGET_UPLOADS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub uploads: u32,

    /// How many files may come from an address in an hour
    #[arg(long = "widget-address-uploads", env = "COMM_WIDGET_ADDRESS_UPLOADS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub address_uploads: u32,

    /// How often a visitor may read in a minute: messages, files, and that they were seen
    #[arg(long = "widget-reads", env = "COMM_WIDGET_READS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "NUMBER")]
    pub reads: u32,
}

impl Config {
    /// How long a database connection may be idle.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.db_idle_seconds)
    }

    /// The longest that a call may take.
    pub fn call_timeout(&self) -> Duration {
        Duration::from_secs(self.call_seconds)
    }

    /// How long calls in flight may go on after a signal to stop.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// What the service runs for.
    pub fn environment(&self) -> Environment {
        // A proxy brings the world to loopback.
        let usual = if self.host.is_loopback() && !self.tls_terminated {
            Environment::Development
        } else {
            Environment::Production
        };
        self.env.unwrap_or(usual)
    }
}

/// Reads an address that has paths put behind it.
fn public_url(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no address such as `https://hooks.example.com`");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
    if !is_http || uri.authority().is_none() || uri.query().is_some() {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Servers of NATS.
#[derive(Debug, Clone, Default)]
pub struct NatsServers(pub Vec<ServerAddr>);

/// Reads the addresses of servers of NATS.
fn nats_servers(text: &str) -> Result<NatsServers, String> {
    let servers = text.split(',').map(str::trim).map(str::parse);
    let servers: Result<_, _> = servers.collect();
    let servers = servers.map_err(|_| "is no address such as `nats://nats.example.com:4222`");
    Ok(NatsServers(servers?))
}

/// Reads an origin as browsers send it.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || format!("`{text}` is no origin such as `https://app.example.com`");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong());
    };
    // No path, no user, nothing in capitals: it is compared as it stands.
    if format!("{scheme}://{authority}") != text || text.contains('@') {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port_and_nothing_else() {
        for good in ["https://app.example.com", "http://localhost:3000"] {
            assert_eq!(origin(good).unwrap(), good);
        }
        for bad in [
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://user@app.example.com",
            "",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
