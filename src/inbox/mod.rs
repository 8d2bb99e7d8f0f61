//! The inbox: conversations and messages with customers.

mod activity;
mod agent;
mod amendment;
mod attachment;
mod attachment_owner;
mod attempt;
mod bulk;
mod call;
mod change;
mod channel_account;
mod contact;
mod contact_erasure;
mod contact_export;
mod contact_identity;
mod contact_merge;
mod contact_words;
pub mod content_type;
mod conversation;
mod conversation_search;
mod deletion;
mod due;
mod inbound;
mod known;
mod listing;
pub mod media;
mod merge;
mod message;
mod message_batch;
mod message_import;
mod message_list;
mod message_status;
mod opening;
mod policy;
mod reaction;
mod read_mark;
mod receipt;
mod receive;
mod referral;
mod reply;
mod resource;
mod revision;
mod routing;
mod schedule;
mod search;
mod service;
mod statistics;
mod thread;
mod thread_state;
pub mod upload;
pub mod visitor;
mod watermark;
mod wire;

pub use amendment::{Amendment, AmendmentKind};
pub use attachment::{
    Attachment, Attachments, FetchFailure, NewAttachment, Reading, State as AttachmentState,
    open as open_attachment, read as read_attachment, store as store_attachment,
};
pub use attachment_owner::give as give_attachments;
pub use due::work;
pub use inbound::{
    Effect, FileSource, Inbound, InboundFile, InboundMessage, NewIdentity, Origin, Person, Thread,
    record,
};
pub use known::{is_source, known};
pub use message::{Direction, Location, MessageType};
pub use message_status::MessageStatus;
pub use receipt::Receipt;
pub use referral::Referral;
pub use resource::{Resource, is_loaded, load};
pub use service::Inbox;
pub use statistics::keeper::run as keep_statistics;
pub use thread_state::ThreadState;
pub use watermark::Watermark;
pub use wire::{
    Described, UploadFrame, attachment_id, attachment_ids, content, frames, new_attachment, reading,
};
