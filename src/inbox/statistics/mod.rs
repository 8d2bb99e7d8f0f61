//! Statistics: rollups that are folded from the log, and what is read from both.

pub mod business_hours;
pub mod calendar;
pub mod conversation_stats;
mod fact;
pub mod fold;
mod histogram;
mod hours;
pub mod keeper;
pub mod message_volume;
pub mod range;
pub mod rebuild;
pub mod response_times;
pub mod rollup;
mod snapshot;
pub mod sums;
pub mod time_zone;
pub mod user_activity;
