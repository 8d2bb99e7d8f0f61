//! The log and the metrics.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use metrics::{Counter, Histogram, Label};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tonic::Code;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::pb;

/// Sends the log to standard error.
///
/// # Errors
/// The filter has another form.
pub fn start_log(
    filter: &str,
    format: LogFormat,
) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A process has one log: where there is one already, that one stays.
    let _ = match format {
        LogFormat::Text => log.try_init().is_ok(),
        LogFormat::Json => log.json().flatten_event(true).try_init().is_ok(),
    };
    Ok(())
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
