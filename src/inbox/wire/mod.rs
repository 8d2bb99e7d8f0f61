//! The inbox on the wire.

mod attachment;
mod bulk;
mod contact;
mod conversation;
mod message;
mod message_batch;
mod routing;
mod schedule;
mod search;
mod statistics;

pub use attachment::{
    Described, UploadFrame, attachment_id, content, frames, new_attachment, reading,
};
pub use bulk::FilterCall;
pub use contact::{ContactEdit, ContactsPage, MergesPage, contact_id, contact_merge_id};
pub use conversation::{
    ConversationsPage, PageOfConversation, ReadMark, conversation_id, conversation_merge_id,
};
pub use message::{MessagesPage, PageOfMessage, Retry, Sending, attachment_ids, message_id};
pub use routing::{AgentsPage, AutoAssign, PolicyEdit, policy_account};
pub use schedule::{Abandonment, ScheduledPage, scheduled_id};
pub use search::{SearchPage, message_match};
pub use statistics::{response_times, team_id, volume};

use crate::field::Most;

const TEXT: Most = Most::Bytes(64 * 1024);
const NAME: Most = Most::Characters(256);
const IDENTIFIER: Most = Most::Characters(512);
