//! Zendesk: tickets, and the Conversations API.

mod conversations;
mod tickets;

pub use conversations::items as conversations;
pub use tickets::items as tickets;
