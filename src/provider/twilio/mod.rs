//! Twilio: WhatsApp messages and calls.

mod call;
mod fields;
pub mod log;
mod message;
mod twiml;

pub use call::items as calls;
pub use message::items as messages;
pub use twiml::{FALLBACK, answer};
