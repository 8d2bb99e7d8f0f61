//! What providers tell us: kept before it is answered, verified before it is read, applied item by
//! item.

mod amazon;
mod applied;
mod check;
mod delivery;
mod ending;
mod erasure;
#[cfg(test)]
mod fuzz;
mod google;
mod item;
mod keeper;
mod known_routes;
mod lane;
mod lease;
mod mailbox;
mod media;
mod new_delivery;
mod quarantine;
mod service;
mod stored_mail;
mod twilio_log;
#[cfg(test)]
mod unseen;
mod verified;
mod webhooks;
mod worker;

pub use check::{Aspect, Check, Finding};
pub use erasure::{Erased, Traces};
pub use item::{Content, Item};
pub use quarantine::{QuarantineFilter, Quarantined, Reason};
pub use service::routes;
pub use verified::Verified;
pub use webhooks::{Webhooks, WebhooksOptions};
