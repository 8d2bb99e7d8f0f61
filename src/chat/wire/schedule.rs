//! Entries that are to be posted, on the wire.

use chrono::{DateTime, Utc};

use super::Page;
use super::entry::{TEXT, mentions, mentions_answer};
use crate::access::Actor;
use crate::chat::schedule::{ScheduledEntry, ScheduledPatch};
use crate::error::Error;
use crate::field::{Fields, Mask, to_struct};
use crate::ids::{ChannelId, ChatEntryId};
use crate::pb;
use crate::schedule::send_time;
use crate::time::to_timestamp;

/// Reads the id of `GetScheduledEntry`.
pub fn scheduled_id(id: &str) -> Result<ChatEntryId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("scheduled_entry_id", id, ChatEntryId);
    fields.finish()?;
    Ok(id)
}

/// What `ListScheduledEntries` asks for.
pub struct ScheduledPage {
    /// Of which channel.
    pub channel_id: Option<ChannelId>,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListScheduledEntriesRequest> for ScheduledPage {
    type Error = Error;

    fn try_from(mut request: pb::ListScheduledEntriesRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let channel_id = fields.id("channel_id", &request.channel_id, ChannelId);
        fields.finish()?;
        Ok(Self { channel_id, page })
    }
}

impl TryFrom<pb::UpdateScheduledEntryRequest> for ScheduledPatch {
    type Error = Error;

    fn try_from(request: pb::UpdateScheduledEntryRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let known = ["text", "mentions", "metadata", "send_time"];
        let mask = Mask::read(&mut fields, request.update_mask, &known);
        let id = &request.scheduled_entry_id;
        let mut patch = Self {
            id: fields.required_id("scheduled_entry_id", id, ChatEntryId),
            etag: fields.etag(request.etag),
            text: None,
            mentions: None,
            metadata: None,
            send_at: None,
        };
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
        let asked = request.send_time.as_ref();
        if mask.touches("send_time", asked.is_some()) {
            if asked.is_none() {
                fields.refuse("send_time", "cannot be cleared");
            }
            patch.send_at = send_time(&mut fields, asked);
        }
        fields.finish()?;
        Ok(patch)
    }
}

/// What `DeleteScheduledEntry` gives up.
pub struct Abandonment {
    /// Which.
    pub id: ChatEntryId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// Whether it is no error that there is none.
    pub allow_missing: bool,
}

impl TryFrom<pb::DeleteScheduledEntryRequest> for Abandonment {
    type Error = Error;

    fn try_from(request: pb::DeleteScheduledEntryRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = &request.scheduled_entry_id;
        let abandonment = Self {
            id: fields.required_id("scheduled_entry_id", id, ChatEntryId),
            etag: fields.etag(request.etag),
            allow_missing: request.allow_missing,
        };
        fields.finish()?;
        Ok(abandonment)
    }
}

/// When an entry is to be posted, if not at once.
pub(super) fn later(
    fields: &mut Fields,
    time: Option<&prost_types::Timestamp>,
    unrestricted: bool,
) -> Option<DateTime<Utc>> {
    let send_at = send_time(fields, time);
    // What is past the rules needs a credential at the time.
    if send_at.is_some() && unrestricted {
        fields.refuse("send_time", "must be left out with `unrestricted`");
    }
    send_at
}

impl From<ScheduledEntry> for pb::ScheduledEntry {
    fn from(scheduled: ScheduledEntry) -> Self {
        let etag = scheduled.etag();
        let mentions = mentions_answer(scheduled.mentions());
        let author = Actor::of_kind(&scheduled.author_kind, scheduled.author_id);
        let files = scheduled.attachment_ids.into_iter().flatten();
        Self {
            id: scheduled.id.into(),
            channel_id: scheduled.channel_id.into(),
            thread_root_id: scheduled.thread_root_id.map(Into::into).unwrap_or_default(),
            r#type: pb::ChatEntryType::from(scheduled.entry_type).into(),
            text: scheduled.text,
            mentions,
            metadata: Some(to_struct(scheduled.metadata)),
            attachment_ids: files.map(Into::into).collect(),
            send_time: Some(to_timestamp(scheduled.send_at)),
            failure_reason: scheduled.failure_reason.unwrap_or_default(),
            failure_message: scheduled.failure_message.unwrap_or_default(),
            author: author.map(Into::into),
            caller: scheduled.caller,
            create_time: Some(to_timestamp(scheduled.created_at)),
            update_time: Some(to_timestamp(scheduled.updated_at)),
            version: scheduled.version,
            etag,
        }
    }
}
