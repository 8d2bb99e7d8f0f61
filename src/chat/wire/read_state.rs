//! Marks, counts and threads on the wire.

use super::Page;
use crate::chat::read_state::{MOST_COUNTED, Mark, Unread};
use crate::chat::thread::{Follow, Followed, ThreadFilter};
use crate::error::Error;
use crate::field::Fields;
use crate::ids::{ChannelId, ChatEntryId};
use crate::pb;
use crate::time::to_timestamp;

/// The most channels that counts can be asked of by name.
const MOST_CHANNELS: usize = 500;

/// Reads up to where something is read, by who knows which version of the mark.
fn read_mark(fields: &mut Fields, sequence: i64, version: i64) -> Mark {
    for (field, given) in [("sequence", sequence), ("read_version", version)] {
        if given < 0 {
            fields.refuse(field, "must not be negative");
        }
    }
    Mark::Read {
        up_to: (sequence != 0).then_some(sequence),
        version: (version != 0).then_some(version),
    }
}

/// Reads from where on something is unread.
fn unread_mark(fields: &mut Fields, sequence: i64) -> Mark {
    if sequence < 1 {
        fields.refuse("sequence", "must be at least 1");
    }
    Mark::Unread {
        from: sequence.max(1),
    }
}

/// Where something is to be marked, and how far.
pub struct Marking<T> {
    /// Where.
    pub id: T,
    /// How far.
    pub mark: Mark,
}

impl TryFrom<pb::MarkChannelReadRequest> for Marking<ChannelId> {
    type Error = Error;

    fn try_from(request: pb::MarkChannelReadRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = fields.required_id("channel_id", &request.channel_id, ChannelId);
        let mark = read_mark(&mut fields, request.sequence, request.read_version);
        fields.finish()?;
        Ok(Self { id, mark })
    }
}

impl TryFrom<pb::MarkChannelUnreadRequest> for Marking<ChannelId> {
    type Error = Error;

    fn try_from(request: pb::MarkChannelUnreadRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = fields.required_id("channel_id", &request.channel_id, ChannelId);
        let mark = unread_mark(&mut fields, request.sequence);
        fields.finish()?;
        Ok(Self { id, mark })
    }
}

impl TryFrom<pb::MarkThreadReadRequest> for Marking<ChatEntryId> {
    type Error = Error;

    fn try_from(request: pb::MarkThreadReadRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = fields.required_id("entry_id", &request.entry_id, ChatEntryId);
        let mark = read_mark(&mut fields, request.sequence, request.read_version);
        fields.finish()?;
        Ok(Self { id, mark })
    }
}

impl TryFrom<pb::MarkThreadUnreadRequest> for Marking<ChatEntryId> {
    type Error = Error;

    fn try_from(request: pb::MarkThreadUnreadRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = fields.required_id("entry_id", &request.entry_id, ChatEntryId);
        let mark = unread_mark(&mut fields, request.sequence);
        fields.finish()?;
        Ok(Self { id, mark })
    }
}

/// Reads of which channels what is unread is asked; `None` for all.
pub fn counted(request: &pb::GetUnreadCountsRequest) -> Result<Option<Vec<ChannelId>>, Error> {
    let asked = &request.channel_ids;
    let mut fields = Fields::default();
    if asked.len() > MOST_CHANNELS {
        fields.refuse("channel_ids", format!("must be at most {MOST_CHANNELS}"));
    }
    let ids = asked.iter().take(MOST_CHANNELS).enumerate();
    let ids = ids.map(|(place, id)| {
        let field = format!("channel_ids[{place}]");
        fields.required_id(&field, id, ChannelId)
    });
    let ids: Vec<_> = ids.collect();
    fields.finish()?;
    Ok((!ids.is_empty()).then_some(ids))
}

/// What `ListThreads` asks for.
pub struct ThreadsPage {
    /// Which.
    pub filter: ThreadFilter,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListThreadsRequest> for ThreadsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListThreadsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let filter = ThreadFilter {
            channel_id: fields.id("channel_id", &request.channel_id, ChannelId),
            unread: request.unread,
        };
        fields.finish()?;
        Ok(Self { filter, page })
    }
}

/// A count, and whether there is more than that.
fn capped(count: i64) -> (i32, bool) {
    let shown = count.min(MOST_COUNTED);
    (
        i32::try_from(shown).unwrap_or(i32::MAX),
        count > MOST_COUNTED,
    )
}

impl From<Unread> for pb::UnreadCount {
    fn from(unread: Unread) -> Self {
        let (unread_count, unread_capped) = capped(unread.entries);
        let (mention_count, mention_capped) = capped(unread.mentions);
        let level = pb::NotificationLevel::from(unread.notification_level);
        Self {
            channel_id: unread.channel_id.into(),
            unread_count,
            unread_capped,
            mention_count,
            mention_capped,
            unread_thread_count: capped(unread.threads).0,
            read_sequence: unread.read_sequence,
            read_version: unread.read_version,
            last_sequence: unread.last_sequence,
            muted: unread.muted,
            notification_level: level.into(),
        }
    }
}

impl From<Follow> for pb::ChatThreadFollow {
    fn from(follow: Follow) -> Self {
        Self {
            id: follow.id.into(),
            entry_id: follow.chat_entry_id.into(),
            channel_id: follow.channel_id.into(),
            user_id: follow.user_id,
            following: follow.following,
            read_sequence: follow.read_sequence,
            read_version: follow.read_version,
            version: follow.version,
            update_time: Some(to_timestamp(follow.updated_at)),
        }
    }
}

impl From<Followed> for pb::FollowedThread {
    fn from(followed: Followed) -> Self {
        let (unread_count, unread_capped) = capped(followed.unread);
        let (mention_count, mention_capped) = capped(followed.mentions);
        Self {
            root: Some(followed.root.into()),
            follow: Some(followed.follow.into()),
            unread_count,
            unread_capped,
            mention_count,
            mention_capped,
        }
    }
}
