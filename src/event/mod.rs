//! What happened: the tenant's event log, and the streams of it.

mod entry;
mod feed;
pub mod log;
mod service;
mod subscription;
mod wire;

pub use service::Events;
