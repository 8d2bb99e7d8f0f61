//! The inbox: conversations and messages with customers.

mod channel_account;
mod contact;
mod conversation;
mod message;
mod service;
mod wire;

pub use service::Inbox;
