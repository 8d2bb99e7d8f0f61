//! E-mail as its providers deliver it, in neutral terms.

mod address;
mod automatic;
mod charset;
mod draft;
mod form_data;
mod header;
mod html;
mod inbound;
mod mail;
pub mod mailgun;
pub mod mime;
mod parameters;
mod plain;
pub mod postmark;
mod quote;
mod quote_words;
mod report;
pub mod sendgrid;
pub mod ses;
mod structure;
mod tag;
#[cfg(test)]
mod tests;
mod tidy;
pub mod transfer;

pub use inbound::{items, message};
pub use mail::{Address, Arrival, Envelope, Mail, Outcome, Report, StoredMail, Verdict};
