//! Traces: what a collector needs beside the log's own spans, and the way to it.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tonic::Code;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::pb;

/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(5);

/// The way to a collector.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends to the collector at an address, by OTLP over gRPC. The standard variables of
    /// OpenTelemetry set the rest.
    ///
    /// # Errors
    /// The address is no address.
    pub fn to(endpoint: &str, service_name: &str) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()?;
        let resource = Resource::builder()
            .with_service_name(service_name.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What makes the spans.
    pub fn tracer(&self) -> SdkTracer {
        self.0.tracer(env!("CARGO_PKG_NAME"))
    }

    /// Sends what is left. Nothing is sent after that.
    pub async fn flush(self) {
        // It waits for a thread of its own.
        let flushed = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH));
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "the last traces may be lost");
        }
    }
}

/// Makes the spans of calls what a collector expects: named as `inbox.create_message`, and part of
/// the caller's trace.
pub struct CallTraces {
    names: HashMap<&'static str, String>,
    propagator: TraceContextPropagator,
}

impl CallTraces {
    /// Knows all calls.
    pub fn new() -> Self {
        let named = pb::CALLS.iter().map(|(path, _)| (*path, span_name(path)));
        Self {
            names: named.collect(),
            propagator: TraceContextPropagator::new(),
        }
    }

    /// Prepares the span of a call, before it is entered.
    pub fn begin(&self, span: &Span, path: &str, headers: &HeaderMap) {
        // Names that callers make up would be a new series each.
        let name = self.names.get(path).map_or("other", String::as_str);
        span.record("otel.name", name);
        span.record("otel.kind", "server");
        let parent = self.propagator.extract(&Headers(headers));
        // Fails where nobody listens to the span.
        let _ = span.set_parent(parent);
    }

    /// Completes it.
    pub fn end(&self, span: &Span, code: Code) {
        span.record("rpc.grpc.status_code", code as i32);
        // What a caller did wrong is no error of the server.
        if let Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss = code
        {
            span.record("otel.status_code", "error");
        }
    }
}

impl Default for CallTraces {
    fn default() -> Self {
        Self::new()
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// `/communication.v1.InboxService/CreateMessage` as `inbox.create_message`.
fn span_name(path: &str) -> String {
    let mut parts = path.rsplit('/');
    let method = parts.next().unwrap_or_default();
    let service = parts.next().unwrap_or_default();
    let service = service.rsplit('.').next().unwrap_or_default();
    let feature = service
        .trim_end_matches("Service")
        .trim_end_matches("Admin");
    format!("{}.{}", snake(feature), snake(method))
}

fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_named_by_feature_and_method() {
        for (path, name) in [
            (
                "/communication.v1.InboxService/CreateMessage",
                "inbox.create_message",
            ),
            (
                "/communication.v1.TenantAdminService/ListTenants",
                "tenant.list_tenants",
            ),
            (
                "/communication.v1.QuickReplyService/UseQuickReply",
                "quick_reply.use_quick_reply",
            ),
        ] {
            assert_eq!(span_name(path), name);
        }
    }
}
