//! The inbox on the wire.

mod conversation;
mod message;

pub use conversation::{ActivitiesPage, ConversationsPage, ReadMark, conversation_id};
pub use message::{MessagesPage, message_id};

use crate::field::Most;

const TEXT: Most = Most::Bytes(64 * 1024);
const NAME: Most = Most::Characters(256);
const IDENTIFIER: Most = Most::Characters(512);
