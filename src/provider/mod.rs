//! The providers: how each signs, and what its webhooks mean in our neutral terms.

pub mod email;
pub mod form;
pub mod gmail;
pub mod inquiry;
pub mod lenient;
pub mod media;
pub mod messenger;
pub mod metadata;
pub mod personal_whatsapp;
pub mod phone;
pub mod place;
pub mod signature;
pub mod twilio;
pub mod whatsapp;
mod words;
pub mod wrapped;
pub mod zendesk;

/// The most items that a webhook may have; the most that any provider documents is 1,000.
const MAX_ITEMS: usize = 10_000;
/// The longest name of a person, and of what is said about a failure, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// The longest emoji of a reaction, in bytes: families of people with skin tones have some 40.
const MAX_EMOJI_BYTES: usize = 64;
