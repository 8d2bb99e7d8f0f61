//! The tenant's own team: where it talks, and what is said there.

mod audit;
mod capability;
mod channel;
mod entry;
mod entry_list;
mod entry_revision;
mod erasure;
mod listing;
mod member;
mod read_state;
mod service;
mod thread;
mod wire;

pub use erasure::{about, erase_about};
pub use service::Chat;
