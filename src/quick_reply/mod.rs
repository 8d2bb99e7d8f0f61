//! Quick replies: replies written beforehand, filled in when they are used, and counted.

mod content;
mod language;
mod listing;
#[expect(clippy::module_inception, reason = "the noun of this folder")]
mod quick_reply;
mod record;
mod service;
mod template;
mod usage;
mod variable;
mod wire;

pub use quick_reply::{QuickReply, find, load, lock};
pub use service::QuickReplies;
pub use usage::{Filling, count_sent, fill};
pub use wire::filling;
