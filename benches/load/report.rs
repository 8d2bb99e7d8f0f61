//! Medians, and the tables that they are printed in.

use std::time::Duration;

use crate::{callers, postgres};

/// One round: the service, and pgbench beside it where the call has a statement.
pub struct Round {
    /// The service.
    pub ours: callers::Outcome,
    /// pgbench.
    pub theirs: Option<postgres::Outcome>,
}

/// What a call has to reach.
#[derive(Debug, Clone, Copy)]
pub struct Bars {
    /// Its speed, as a share of pgbench's.
    pub ratio: Option<f64>,
    /// The CPU of the service for each call, in microseconds.
    pub cpu: f64,
}

/// The head of the table of calls.
pub const HEAD: &str = "\
| call | service/s | pgbench/s | ratio | bar | CPU of the service | bar | CPU of PostgreSQL: under the service / pgbench | p50 | p99 |
|---|--:|--:|--:|---|--:|---|--:|--:|--:|";

/// The middle of some numbers.
pub fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Says whether a bar was reached.
pub fn verdict(reached: bool) -> &'static str {
    if reached { "OK" } else { "MISSED" }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer calls than 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

fn each(cpu: Duration, calls: f64) -> f64 {
    cpu.as_secs_f64() * 1e6 / calls
}

/// A call's line in the table.
pub fn line(call: &str, bars: Bars, rounds: &[Round]) -> String {
    let ours = |of: &dyn Fn(&callers::Outcome, f64) -> f64| {
        let figures = rounds.iter().map(|round| &round.ours);
        median(figures.map(|ours| of(ours, float(ours.latency.len()))))
    };
    let rate = ours(&|ours, calls| calls / ours.took.as_secs_f64());
    let service = ours(&|ours, calls| each(ours.cpu.service, calls));
    let database = ours(&|ours, calls| each(ours.cpu.postgres, calls));
    let [p50, p99] = [0.5, 0.99]
        .map(|quantile| ours(&|ours, _| float(ours.latency.value_at_quantile(quantile)) / 1000.0));
    let theirs = |of: &dyn Fn(&postgres::Outcome) -> f64| {
        median(
            rounds
                .iter()
                .filter_map(|round| round.theirs.as_ref().map(of)),
        )
    };
    let (beside, database) = match bars.ratio {
        None => ("– | – | –".to_owned(), "–".to_owned()),
        Some(bar) => {
            let speed = theirs(&|theirs| theirs.rate);
            let (ratio, verdict) = (rate / speed, verdict(rate / speed >= bar));
            let cpu = theirs(&|theirs| each(theirs.cpu.postgres, theirs.calls));
            (
                format!("{speed:.0} | {ratio:.2} | ≥ {bar} {verdict}"),
                format!("{database:.0} µs / {cpu:.0} µs"),
            )
        }
    };
    let (bar, verdict) = (bars.cpu, verdict(service <= bars.cpu));
    format!(
        "| {call} | {rate:.0} | {beside} | {service:.0} µs | ≤ {bar} {verdict} | {database} | {p50:.1} ms | {p99:.1} ms |"
    )
}
