//! How each provider proves that a webhook is its own.

pub mod basic;
pub mod digest;
pub mod gateway;
pub mod google;
pub mod header;
pub mod mailgun;
pub mod meta;
pub mod sendgrid;
pub mod sns;
pub mod twilio;
pub mod widget;
pub mod zendesk;

#[cfg(test)]
mod vectors;
