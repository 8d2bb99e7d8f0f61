//! The only source of "now" in this process.
//!
//! It serves the expiry of tokens and what is heard alone; what is stored, leased or scheduled goes by the database's
//! `directory.now()`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};

/// Returns the time since 1970 by this machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that may read the clock"
)]
pub fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Returns the same as a date.
pub fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + since_epoch()
}
