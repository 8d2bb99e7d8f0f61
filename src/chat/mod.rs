//! The tenant's own team: where it talks, and what is said there.

mod audit;
mod capability;
mod channel;
mod erasure;
mod listing;
mod member;
mod service;
mod wire;

pub use erasure::{about, erase_about};
pub use service::Chat;
