//! The log, the metrics, and where traces go.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use metrics::{Counter, Histogram, Label};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tonic::Code;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::config::{Config, LogFormat};
use crate::pb;
use crate::trace::Traces;

/// Libraries that would write messages and tokens to the log at a finer level, whatever `COMM_LOG`
/// says.
const SECRETIVE: [&str; 4] = ["tokio_postgres", "h2", "hyper", "rustls"];

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter has another form.
    #[error("COMM_LOG has another form than a level or directives")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Traces cannot be sent.
    #[error("traces cannot be sent to OTEL_EXPORTER_OTLP_ENDPOINT")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Sends the log to standard error, and traces to a collector if one is named.
///
/// # Errors
/// The filter has another form, or the collector's address.
pub fn start_log(config: &Config) -> Result<Option<Traces>, TelemetryError> {
    let mut filter = EnvFilter::builder().parse(&config.log)?;
    for target in SECRETIVE {
        filter = filter.add_directive(format!("{target}=warn").parse()?);
    }
    let log = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let log = match config.log_format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    // A process has one log: where there is one already, that one stays.
    let Some(endpoint) = &config.otlp_endpoint else {
        let _ = registry().with(log).with(filter).try_init();
        return Ok(None);
    };
    let traces = Traces::to(endpoint, &config.otel_service_name)?;
    // What the log is told to leave out may be in the traces, but never what others log.
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::INFO);
    let spans = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer())
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(ours);
    let _ = registry()
        .with(log.with_filter(filter))
        .with(spans)
        .try_init();
    Ok(Some(traces))
}

/// Starts to count; returns what writes the counts down.
pub fn start_metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // Likewise one for each process.
    let _ = metrics::set_global_recorder(recorder);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    handle
}

/// What is counted of each call. Every series is made at the start, so that counting is no more
/// than an addition, and callers cannot make up new ones.
pub struct CallMetrics {
    calls: HashMap<&'static str, OneCall>,
    other: OneCall,
}

struct OneCall {
    by_code: Vec<Counter>,
    seconds: Histogram,
}

impl CallMetrics {
    /// Makes the series.
    pub fn new() -> Self {
        metrics::describe_counter!("grpc_calls_total", "gRPC calls by method and status code");
        metrics::describe_histogram!(
            "grpc_call_seconds",
            "Time from request to answer, in seconds"
        );
        let calls = pb::CALLS
            .iter()
            .map(|(path, _)| (*path, OneCall::new(path)));
        Self {
            calls: calls.collect(),
            other: OneCall::new("other"),
        }
    }

    /// Counts a call.
    pub fn count(&self, path: &str, code: Code, took: Duration) {
        let call = self.calls.get(path).unwrap_or(&self.other);
        if let Some(counter) = usize::try_from(code as i32)
            .ok()
            .and_then(|code| call.by_code.get(code))
        {
            counter.increment(1);
        }
        call.seconds.record(took.as_secs_f64());
    }
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl OneCall {
    fn new(path: &'static str) -> Self {
        let by_code = (0..=16).map(|code| {
            let code = format!("{:?}", Code::from_i32(code));
            let labels = vec![
                Label::from_static_parts("method", path),
                Label::new("code", code),
            ];
            metrics::counter!("grpc_calls_total", labels)
        });
        Self {
            by_code: by_code.collect(),
            seconds: metrics::histogram!("grpc_call_seconds", "method" => path),
        }
    }
}
