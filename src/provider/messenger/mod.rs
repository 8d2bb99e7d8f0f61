//! Messenger and Instagram, whose webhooks Meta writes alike.

mod inbound;

pub use inbound::{Product, items};
