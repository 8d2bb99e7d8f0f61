//! Times on the wire.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use crate::error::Error;

/// The first and last second that a request may name: the years 1970 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = 0..=253_402_300_799;

/// Writes a time.
pub fn to_timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(999_999_999),
    }
}

/// Reads a time.
///
/// # Errors
/// It is before 1970 or after 9999, or no time at all.
pub fn from_timestamp(field: &str, time: &Timestamp) -> Result<DateTime<Utc>, Error> {
    let nanos = u32::try_from(time.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000);
    nanos
        .filter(|_| SECONDS.contains(&time.seconds))
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        .ok_or_else(|| Error::invalid(field, "must be a time between the years 1970 and 9999"))
}
