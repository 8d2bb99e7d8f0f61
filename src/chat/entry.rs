//! Entries, and how one is found.

use chrono::{DateTime, Utc};
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::channel::{self, Seen};
use super::reaction::Reactions;
use crate::error::Error;
use crate::etag::etag;
use crate::ids::{ChannelId, ChatEntryId};
use crate::inbox::Attachments;
use crate::schema::tenant::chat_entries;
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// What an entry is.
    EntryType {
        /// What somebody said.
        Message = "message",
        /// What a service or a bot tells of.
        System = "system",
    }
}

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = chat_entries, check_for_backend(Pg))]
pub struct Entry {
    /// Its id.
    pub id: ChatEntryId,
    /// The channel.
    pub channel_id: ChannelId,
    /// Its place there.
    pub sequence: i64,
    /// The entry whose thread it is in.
    pub thread_root_id: Option<ChatEntryId>,
    /// What it is.
    #[diesel(column_name = type_)]
    #[serde(rename = "type")]
    pub entry_type: EntryType,
    /// The text.
    pub text: String,
    /// Free data.
    pub metadata: Value,
    /// Its files.
    pub attachments: Option<Attachments>,
    /// The users that it mentions.
    pub mentioned_user_ids: Vec<Option<String>>,
    /// Whether it mentions every member.
    pub mentions_everyone: bool,
    /// Whether it mentions those whose streams are open.
    pub mentions_here: bool,
    /// How many replies there are in its thread.
    pub reply_count: i32,
    /// The sequence of the newest.
    pub last_reply_sequence: i64,
    /// When that was posted.
    pub last_reply_at: Option<DateTime<Utc>>,
    /// The kind of who wrote it.
    pub author_kind: String,
    /// Who wrote it.
    pub author_id: String,
    /// The service that called for them.
    pub caller: String,
    /// How often it was edited.
    pub edits: i32,
    /// Goes up with every change.
    pub version: i64,
    /// When it was posted.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was last edited.
    pub edited_at: Option<DateTime<Utc>>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// What users reacted to it with.
    pub reactions: Reactions,
    /// When it was pinned.
    pub pinned_at: Option<DateTime<Utc>>,
    /// The kind of who pinned it.
    pub pinned_by_kind: Option<String>,
    /// Who pinned it.
    pub pinned_by_id: Option<String>,
}

impl Entry {
    /// The etag that stands for what a caller may edit of it.
    pub fn etag(&self) -> String {
        etag(i64::from(self.edits) + 1)
    }
}

/// The columns of a row as SQL types, in the order of `entry_columns`.
pub(super) type EntryRow = <<Entry as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of an `Entry`, in the order of its fields, of the table `e`.
macro_rules! entry_columns {
    () => {
        "e.id, e.channel_id, e.sequence, e.thread_root_id, e.type, e.text, e.metadata, e.attachments,
            e.mentioned_user_ids, e.mentions_everyone, e.mentions_here, e.reply_count,
            e.last_reply_sequence, e.last_reply_at, e.author_kind, e.author_id, e.caller, e.edits,
            e.version, e.created_at, e.updated_at, e.edited_at, e.deleted_at, e.reactions, e.pinned_at,
            e.pinned_by_kind, e.pinned_by_id"
    };
}

pub(super) use entry_columns;

/// Whom an entry mentions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Users.
    pub user_ids: Vec<String>,
    /// Every member.
    pub everyone: bool,
    /// Every member whose stream is open.
    pub here: bool,
}

/// Finds an entry, or what is left of it, and its channel, as who acts sees them.
///
/// # Errors
/// There is none for them.
pub async fn get(conn: &mut TenantConn, id: ChatEntryId) -> Result<(Seen, Entry), Error> {
    let found = chat_entries::table.find(id).select(Entry::as_select());
    let found: Option<Entry> = found.first(conn).await.optional()?;
    let entry = found.ok_or_else(|| Error::not_found("chat_entry", id))?;
    let seen = hide(channel::get(conn, entry.channel_id).await, id)?;
    Ok((seen, entry))
}

/// Finds an entry, or what is left of it, as who acts sees it, and keeps it and its channel as they
/// are until the open transaction ends.
///
/// # Errors
/// There is none for them.
pub async fn lock(conn: &mut TenantConn, id: ChatEntryId) -> Result<(Seen, Entry), Error> {
    let channel = chat_entries::table
        .find(id)
        .select(chat_entries::channel_id);
    let channel: Option<ChannelId> = channel.first(conn).await.optional()?;
    let missing = || Error::not_found("chat_entry", id);
    let seen = hide(channel::lock(conn, channel.ok_or_else(missing)?).await, id)?;
    // Whoever changes entries holds their channel.
    let entry = chat_entries::table.find(id).select(Entry::as_select());
    let entry: Option<Entry> = entry.first(conn).await.optional()?;
    Ok((seen, entry.ok_or_else(missing)?))
}

/// An entry of a channel that does not exist for who acts does not either.
fn hide(seen: Result<Seen, Error>, id: ChatEntryId) -> Result<Seen, Error> {
    seen.map_err(|error| match error {
        Error::NotFound { .. } => Error::not_found("chat_entry", id),
        other => other,
    })
}
