//! The tenant's own team: where it talks, and what is said there.

mod activity;
mod attachment;
mod audit;
mod capability;
mod channel;
mod channel_edit;
mod direct;
mod emoji;
mod entry;
mod entry_list;
mod entry_revision;
mod erasure;
mod listing;
mod member;
mod mention;
mod pin;
mod post;
mod reaction;
mod read_state;
mod resource;
mod schedule;
mod search;
mod service;
mod thread;
mod turn;
mod wire;

pub use audit::note_list;
pub use erasure::{about, erase_about};
pub use resource::{Resource, is_loaded, load, memberships};
pub use schedule::ScheduledEntry;
pub use service::Chat;
pub use wire::as_others_see;
