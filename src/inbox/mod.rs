//! The inbox: conversations and messages with customers.

mod activity;
mod agent;
mod attachment;
mod change;
mod channel_account;
mod contact;
mod contact_erasure;
mod contact_export;
mod contact_identity;
mod contact_merge;
mod contact_words;
mod content_type;
mod conversation;
mod due;
mod inbound;
mod listing;
mod merge;
mod message;
mod message_batch;
mod message_import;
mod opening;
mod policy;
mod read_mark;
mod routing;
mod search;
mod service;
mod statistics;
mod wire;

pub use due::work;
pub use inbound::{Effect, Inbound, InboundMessage, NewIdentity, Origin, Person, Receipt, record};
pub use message::{Direction, Location, MessageStatus, MessageType};
pub use service::Inbox;
pub use statistics::keeper::run as keep_statistics;
