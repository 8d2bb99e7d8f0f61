//! The HTTP sidecar: health, readiness, metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::tenant::TenantDirectory;

/// What the sidecar tells of.
#[derive(Clone)]
pub struct Sidecar {
    /// Whether the service is ready for calls.
    pub ready: Arc<AtomicBool>,
    /// What was counted.
    pub metrics: PrometheusHandle,
    /// Whose connections are counted.
    pub tenants: TenantDirectory,
}

/// The routes. Metrics are for this machine alone.
pub fn routes(sidecar: Sidecar, host: IpAddr) -> Router {
    let mut routes = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready));
    if host.is_loopback() {
        routes = routes.route("/metrics", get(metrics));
    }
    routes.with_state(sidecar)
}

/// The process lives; the database does not enter.
async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(sidecar): State<Sidecar>) -> (StatusCode, &'static str) {
    if sidecar.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(sidecar): State<Sidecar>) -> String {
    let budget = sidecar.tenants.budget();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    {
        metrics::gauge!("database_connections_open").set(budget.open() as f64);
        metrics::gauge!("database_connections_budget").set(budget.total() as f64);
        metrics::gauge!("database_connections_waiting").set(budget.waiting() as f64);
    }
    sidecar.metrics.render()
}
