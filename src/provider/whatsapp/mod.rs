//! The WhatsApp Business Platform: Meta's Cloud API.

mod account;
mod inbound;

pub use inbound::items;
