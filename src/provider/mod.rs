//! The providers: how each signs, and what its webhooks mean in our neutral terms.

pub mod lenient;
pub mod meta;
pub mod whatsapp;
