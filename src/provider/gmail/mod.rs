//! Gmail: what its pushes and the answers of its interface say.

mod answer;
#[cfg(test)]
mod damaged;
mod failure;
pub mod history;
mod inbound;
mod label;
pub mod message;
pub mod push;
pub mod token;

pub use answer::MAX_ANSWER_BYTES;
pub use failure::{Failure, Reason};
pub use inbound::{MAIL, items};
