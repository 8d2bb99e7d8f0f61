//! `serve`: the service itself.

use std::error::Error;
use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, LogFormat};
use crate::server::Server;
use crate::telemetry::start_log;
use crate::tenant::Isolation;

/// Serves until it is told to stop.
pub async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let traces = start_log(&config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let format = config.log_format;
    let server = Server::start(config).await?;
    if let Some(warning) = server.exposure().warning {
        tracing::warn!(address = %server.grpc_address(), "{warning}");
    }
    if format == LogFormat::Text {
        eprint!("{}", banner(&server));
    }
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    let served = server.run(stop).await;
    if let Some(traces) = traces {
        traces.flush().await;
    }
    Ok(served?)
}

/// What a person wants to know, and can paste, when the service has started.
fn banner(server: &Server) -> String {
    let exposure = server.exposure();
    let access = match exposure.warning {
        Some(warning) => warning,
        None if exposure.anonymous => {
            "OPEN: whoever is on this machine may do everything (development only)"
        }
        None if exposure.development_key => {
            "a token is needed with every call; `communication-service token` mints one"
        }
        None => "a token is needed with every call",
    };
    let metrics = match server.metrics_address() {
        None => String::new(),
        Some(address) => format!("\n  loopback  http://{address}  (/api/v1, /metrics)"),
    };
    let here = match server.metrics_address() {
        None => "/api/v1, /health, /ready, /metrics, /webhooks",
        Some(_) => "/health, /ready, /webhooks",
    };
    let (grpc_scheme, http_scheme) = server.schemes();
    let isolation = match server.isolation() {
        Isolation::Role => "each tenant has a role and a schema of its own",
        Isolation::SearchPath => {
            "BY SEARCH PATH ONLY: the database account may not make roles (grant it CREATEROLE)"
        }
    };
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "communication-service".to_owned());
    let grpc = server.grpc_address();
    let http = server.http_address();
    let reach = |address: SocketAddr| {
        if address.port() == 50051 && grpc_scheme == "http" {
            String::new()
        } else {
            format!(" --server {grpc_scheme}://{address}")
        }
    };
    let at = reach(grpc);
    let admin_at = reach(server.admin_address().unwrap_or(grpc));
    let admin = match server.admin_address() {
        None => String::new(),
        Some(address) => format!("\n  admin     {address}  (TenantAdminService)"),
    };
    let http_at = if http.port() == 8010 {
        String::new()
    } else {
        format!(" --http {http}")
    };
    let about = if server.reflects() {
        "reflection and health"
    } else {
        "health"
    };
    let version = env!("CARGO_PKG_VERSION");
    let database = server.database();
    format!(
        "
  communication-service {version}
  gRPC      {grpc}  ({about} included){admin}
  HTTP      {http_scheme}://{http}  ({here}){metrics}
  database  {database}
  tenants   {isolation}
  access    {access}

  Try it from another terminal:
    {program} tenant create{admin_at} acme
    {program} demo webhook{admin_at}{http_at}
    {program} call{at} InboxService/ListConversations '{{\"tenant\": \"acme\"}}'

"
    )
}
