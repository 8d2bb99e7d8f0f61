//! The chat on the wire.

mod activity;
mod attachment;
mod channel;
mod entry;
mod member;
mod mention;
mod pin;
mod presence;
mod reaction;
mod read_state;
mod schedule;
mod search;

pub use activity::ActivityPage;
pub use channel::{ChannelsPage, OpenDirect, channel_answer, channel_id, update};
pub use entry::{EntriesPage, Posting, RevisionsPage, entry_id, entry_update, posting};
pub use member::{
    MembersPage, NewMembers, RoleEdit, UserOfChannel, as_others_see, member_answer, settings,
};
pub use mention::MentionsPage;
pub use pin::PinsPage;
pub use presence::{Writing, presence, typing};
pub use reaction::{ReactionsPage, reacted};
pub use read_state::{Marking, ThreadsPage, counted};
pub use schedule::{Abandonment, ScheduledPage, scheduled_id};
pub use search::{SearchPage, entry_match};

use prost::Message;

use crate::error::Error;
use crate::field::Fields;
use crate::page::PageSize;

/// Which page of which list.
pub struct Page {
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl Page {
    /// Reads a request without its page, which says which list it is.
    fn of<T: Message>(request: &T, size: i32, token: String) -> Result<Self, Error> {
        Ok(Self {
            size: PageSize::new(size)?,
            token,
            binding: request.encode_to_vec(),
        })
    }
}

/// Reads the id of a user.
fn user_id(fields: &mut Fields, field: &str, id: String) -> String {
    fields.name_of_somebody(field, id).unwrap_or_else(|| {
        fields.refuse(field, "is required");
        String::new()
    })
}
