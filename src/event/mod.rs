//! What happened: the tenant's event log, and the streams of it.

mod audience;
mod entry;
mod ephemeral;
mod feed;
mod filter;
pub mod log;
mod service;
mod subscription;
mod told;
mod wire;

pub use entry::Place;
pub use ephemeral::say;
pub use filter::Customer;
pub use service::Events;
pub use subscription::{Frame, Start};
pub use told::Told;
pub use wire::{Batch, Tokens};
