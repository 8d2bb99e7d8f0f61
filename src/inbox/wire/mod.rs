//! The inbox on the wire.

mod conversation;
mod message;
mod routing;
mod search;

pub use conversation::{ActivitiesPage, ConversationsPage, ReadMark, conversation_id};
pub use message::{MessagesPage, message_id};
pub use routing::{AgentsPage, AutoAssign, PolicyEdit, policy_account};
pub use search::{SearchPage, message_match};

use crate::field::Most;

const TEXT: Most = Most::Bytes(64 * 1024);
const NAME: Most = Most::Characters(256);
const IDENTIFIER: Most = Most::Characters(512);
