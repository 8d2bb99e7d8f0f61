//! The HTTP sidecar: health, readiness, metrics, webhooks, and REST beside them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::access::{Authenticator, sole_credential};
use crate::error::{Error, MAX_REQUEST_BYTES};
use crate::server::{HTTP_REQUEST, Metrics, Readiness};
use crate::tenant::TenantDirectory;

/// What the sidecar tells of.
#[derive(Clone)]
pub struct Sidecar {
    /// Whether the service is ready for calls.
    pub readiness: Readiness,
    /// What was counted.
    pub metrics: PrometheusHandle,
    /// Whose connections are counted.
    pub tenants: TenantDirectory,
    /// Who knows whose token it is.
    pub authenticator: Arc<Authenticator>,
}

/// The routes, those of webhooks and of the widget among them.
pub fn routes(sidecar: Sidecar, metrics: Metrics, others: Router) -> Router {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready));
    let routes = match metrics {
        Metrics::Open => routes.route("/metrics", get(open_metrics)),
        Metrics::WithToken => routes.route("/metrics", get(guarded_metrics)),
        Metrics::Loopback => routes,
    };
    limited(routes.with_state(sidecar).merge(others))
}

/// The metrics, where the sidecar must not show them.
pub fn metrics_alone(sidecar: Sidecar) -> Router {
    let routes = Router::new().route("/metrics", get(open_metrics));
    limited(routes.with_state(sidecar))
}

/// No request is larger or takes longer than this.
fn limited(routes: Router) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(from_fn(async |request: Request, next: Next| {
            let answer = tokio::time::timeout(HTTP_REQUEST, next.run(request)).await;
            answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
        }))
}

/// The process lives; the database does not enter.
async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(sidecar): State<Sidecar>) -> (StatusCode, &'static str) {
    if sidecar.readiness.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Counts say something of every tenant, so that the token has to be for all of them.
async fn guarded_metrics(headers: HeaderMap, sidecar: State<Sidecar>) -> Response {
    let caller = sole_credential(&headers)
        .and_then(|credential| sidecar.authenticator.authenticate(credential));
    match caller.and_then(|caller| caller.check_all_tenants()) {
        Ok(()) => open_metrics(sidecar).await.into_response(),
        Err(Error::Unauthenticated) => StatusCode::UNAUTHORIZED.into_response(),
        Err(_) => StatusCode::FORBIDDEN.into_response(),
    }
}

async fn open_metrics(State(sidecar): State<Sidecar>) -> String {
    let budget = sidecar.tenants.budget();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    {
        metrics::gauge!("database_connections_open").set(budget.open() as f64);
        metrics::gauge!("database_connections_budget").set(budget.total() as f64);
        metrics::gauge!("database_connections_waiting").set(budget.waiting() as f64);
    }
    sidecar.metrics.render()
}
