//! Entries on the wire.

use chrono::{DateTime, Utc};

use super::schedule::later;
use super::{Page, user_id};
use crate::access::{Actor, Facts};
use crate::chat::entry::{Entry, EntryType, Mentions};
use crate::chat::entry_list::{EntryFilter, Order};
use crate::chat::entry_revision::{Edit, EntryPatch, Revision};
use crate::chat::post::NewEntry;
use crate::error::Error;
use crate::field::{Fields, Mask, Most, to_struct};
use crate::ids::{ChannelId, ChatEntryId};
use crate::inbox::attachment_ids;
use crate::page::PageSize;
use crate::pb;
use crate::request_id::RequestId;
use crate::time::to_timestamp;

pub(super) const TEXT: Most = Most::Bytes(64 * 1024);
/// The most users that an entry can mention by name.
const MOST_MENTIONED: usize = 50;

impl From<EntryType> for pb::ChatEntryType {
    fn from(entry_type: EntryType) -> Self {
        match entry_type {
            EntryType::Message => Self::Message,
            EntryType::System => Self::System,
        }
    }
}

/// Reads whom an entry mentions, each user once.
pub(super) fn mentions(fields: &mut Fields, mentions: Option<pb::ChatMentions>) -> Mentions {
    let mentions = mentions.unwrap_or_default();
    if mentions.user_ids.len() > MOST_MENTIONED {
        let problem = format!("must be at most {MOST_MENTIONED} users");
        fields.refuse("mentions.user_ids", problem);
    }
    let user_ids = mentions.user_ids.into_iter().take(MOST_MENTIONED);
    let user_ids = user_ids.enumerate().map(|(place, id)| {
        let field = format!("mentions.user_ids[{place}]");
        user_id(fields, &field, id)
    });
    let mut user_ids: Vec<_> = user_ids.collect();
    user_ids.sort();
    user_ids.dedup();
    Mentions {
        user_ids,
        everyone: mentions.everyone,
        here: mentions.here,
    }
}

/// Whom an entry mentions, if anybody.
pub(super) fn mentions_answer(mentions: Mentions) -> Option<pb::ChatMentions> {
    (mentions != Mentions::default()).then_some(pb::ChatMentions {
        user_ids: mentions.user_ids,
        everyone: mentions.everyone,
        here: mentions.here,
    })
}

/// What `PostEntry` asks for.
pub struct Posting {
    /// The entry.
    pub entry: NewEntry,
    /// When to post it, if not at once.
    pub send_at: Option<DateTime<Utc>>,
}

/// Reads `PostEntry`.
///
/// # Errors
/// A field cannot be what it is.
pub fn posting(mut request: pb::PostEntryRequest, facts: &Facts) -> Result<Posting, Error> {
    let request_id = RequestId::take(&mut request)?;
    let mut fields = Fields::default();
    let entry_type = match fields.choice("type", request.r#type) {
        Some(pb::ChatEntryType::System) => EntryType::System,
        Some(pb::ChatEntryType::Message | pb::ChatEntryType::Unspecified) | None => {
            EntryType::Message
        }
    };
    if entry_type == EntryType::System && facts.actor.user_id().is_some() {
        fields.refuse("type", "must be MESSAGE where a user acts");
    }
    let attachments = attachment_ids(&mut fields, &request.attachment_ids);
    let text = if request.attachment_ids.is_empty() {
        fields.required_text("text", request.text, TEXT)
    } else {
        fields.text("text", request.text, TEXT)
    };
    let send_at = later(
        &mut fields,
        request.send_time.as_ref(),
        request.unrestricted,
    );
    let entry = NewEntry {
        id: ChatEntryId::new(),
        request_id,
        channel_id: fields.required_id("channel_id", &request.channel_id, ChannelId),
        thread_root_id: fields.id("thread_root_id", &request.thread_root_id, ChatEntryId),
        entry_type,
        text,
        mentions: mentions(&mut fields, request.mentions),
        metadata: fields.metadata("metadata", request.metadata),
        attachments,
    };
    fields.finish()?;
    Ok(Posting { entry, send_at })
}

/// Reads the id of an entry.
pub fn entry_id(id: &str) -> Result<ChatEntryId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("entry_id", id, ChatEntryId);
    fields.finish()?;
    Ok(id)
}

/// What `ListEntries` asks for.
pub struct EntriesPage {
    /// Which.
    pub filter: EntryFilter,
    /// In which order.
    pub order: Order,
    /// Around which entry.
    pub around: Option<ChatEntryId>,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListEntriesRequest> for EntriesPage {
    type Error = Error;

    fn try_from(mut request: pb::ListEntriesRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let order = match request.order_by.as_str() {
            "" | "sequence" => Order::OldestFirst,
            "sequence desc" => Order::NewestFirst,
            _ => {
                fields.refuse("order_by", "must be `sequence` or `sequence desc`");
                Order::OldestFirst
            }
        };
        let around = fields.id("around_entry_id", &request.around_entry_id, ChatEntryId);
        if around.is_some() && order == Order::NewestFirst {
            fields.refuse("around_entry_id", "goes only with the order `sequence`");
        }
        let filter = EntryFilter {
            channel_id: fields.required_id("channel_id", &request.channel_id, ChannelId),
            thread_root_id: fields.id("thread_root_id", &request.thread_root_id, ChatEntryId),
            roots_only: request.roots_only,
            deleted: request.show_deleted,
        };
        if filter.roots_only && filter.thread_root_id.is_some() {
            fields.refuse("roots_only", "must be left out with `thread_root_id`");
        }
        fields.finish()?;
        Ok(Self {
            filter,
            order,
            around,
            page,
        })
    }
}

fn edit(fields: &mut Fields, id: &str, etag: String) -> Edit {
    Edit {
        id: fields.required_id("entry_id", id, ChatEntryId),
        etag: fields.etag(etag),
    }
}

/// Reads `EditEntry`.
pub fn entry_update(request: pb::EditEntryRequest) -> Result<(Edit, EntryPatch), Error> {
    let mut fields = Fields::default();
    let edit = edit(&mut fields, &request.entry_id, request.etag);
    let known = ["text", "mentions", "metadata"];
    let mask = Mask::read(&mut fields, request.update_mask, &known);
    let mut patch = EntryPatch::default();
    if mask.touches("text", request.text.is_some()) {
        let text = request.text.unwrap_or_default();
        patch.text = Some(fields.text("text", text, TEXT));
    }
    if mask.touches("mentions", request.mentions.is_some()) {
        patch.mentions = Some(mentions(&mut fields, request.mentions));
    }
    if mask.touches("metadata", request.metadata.is_some()) {
        patch.metadata = Some(fields.metadata("metadata", request.metadata));
    }
    fields.finish()?;
    Ok((edit, patch))
}

impl TryFrom<pb::DeleteEntryRequest> for Edit {
    type Error = Error;

    fn try_from(request: pb::DeleteEntryRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let edit = edit(&mut fields, &request.entry_id, request.etag);
        fields.finish()?;
        Ok(edit)
    }
}

/// What `ListEntryRevisions` asks for.
pub struct RevisionsPage {
    /// Of which entry.
    pub entry_id: ChatEntryId,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
}

impl TryFrom<pb::ListEntryRevisionsRequest> for RevisionsPage {
    type Error = Error;

    fn try_from(request: pb::ListEntryRevisionsRequest) -> Result<Self, Error> {
        Ok(Self {
            size: PageSize::new(request.page_size)?,
            entry_id: entry_id(&request.entry_id)?,
            token: request.page_token,
        })
    }
}

impl From<Entry> for pb::ChatEntry {
    fn from(entry: Entry) -> Self {
        let etag = entry.etag();
        let mentions = mentions_answer(entry.mentions());
        let attachments = entry.attachments.into_iter();
        let attachments = attachments.flat_map(|attachments| attachments.0);
        let author = Actor::of_kind(&entry.author_kind, entry.author_id);
        let pinner = entry.pinned_by_kind.zip(entry.pinned_by_id);
        let pinner = pinner.and_then(|(kind, id)| Actor::of_kind(&kind, id));
        // There is a thread once somebody has replied, be the reply deleted by now.
        let thread = entry.last_reply_at.map(|at| pb::ChatThread {
            reply_count: entry.reply_count,
            last_reply_sequence: entry.last_reply_sequence,
            last_reply_time: Some(to_timestamp(at)),
        });
        Self {
            id: entry.id.into(),
            channel_id: entry.channel_id.into(),
            sequence: entry.sequence,
            thread_root_id: entry.thread_root_id.map(Into::into).unwrap_or_default(),
            r#type: pb::ChatEntryType::from(entry.entry_type).into(),
            text: entry.text,
            author: author.map(Into::into),
            caller: entry.caller,
            mentions,
            metadata: Some(to_struct(entry.metadata)),
            thread,
            edit_count: entry.edits,
            version: entry.version,
            etag,
            create_time: Some(to_timestamp(entry.created_at)),
            update_time: Some(to_timestamp(entry.updated_at)),
            edit_time: entry.edited_at.map(to_timestamp),
            delete_time: entry.deleted_at.map(to_timestamp),
            reactions: entry.reactions.0.into_iter().map(Into::into).collect(),
            pin_time: entry.pinned_at.map(to_timestamp),
            pinner: pinner.map(Into::into),
            attachments: attachments.map(Into::into).collect(),
        }
    }
}

impl From<Revision> for pb::ChatEntryRevision {
    fn from(revision: Revision) -> Self {
        let actor = Actor::of_kind(&revision.actor_kind, revision.actor_id);
        Self {
            entry_id: revision.chat_entry_id.into(),
            number: revision.number,
            text: revision.text,
            actor: actor.map(Into::into),
            caller: revision.caller,
            create_time: Some(to_timestamp(revision.created_at)),
        }
    }
}
