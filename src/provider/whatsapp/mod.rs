//! The WhatsApp Business Platform: Meta's Cloud API.

mod inbound;

pub use inbound::items;
