//! What events of the chat tell of, as it is now.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::channel::{Channel, Kind};
use super::entry::Entry;
use super::member::Member;
use super::schedule::ScheduledEntry;
use super::thread::Follow;
use crate::error::Error;
use crate::ids::{ChannelId, ChannelMemberId, ChatEntryId, ThreadFollowId};
use crate::schema::tenant::{
    channel_members, channels, chat_entries, scheduled_entries, thread_follows,
};
use crate::tenant::TenantConn;

/// What happened to something of the chat, happened to this.
#[derive(Debug, Clone)]
pub enum Resource {
    /// A channel.
    Channel(Box<Channel>),
    /// A member, or what is left of one.
    Member(Box<Member>),
    /// An entry, or what is left of it.
    Entry(Box<Entry>),
    /// How a user stands to a thread.
    Follow(Box<Follow>),
    /// An entry that is to be posted.
    Scheduled(Box<ScheduledEntry>),
}

impl Resource {
    /// Tells whether little is left of it.
    pub fn is_deleted(&self) -> bool {
        match self {
            Self::Member(member) => member.left_at.is_some(),
            Self::Entry(entry) => entry.deleted_at.is_some(),
            Self::Channel(_) | Self::Follow(_) | Self::Scheduled(_) => false,
        }
    }

    /// The user whose own business it is, where it is somebody's.
    pub fn user_id(&self) -> Option<&str> {
        match self {
            Self::Member(member) => Some(&member.user_id),
            Self::Follow(follow) => Some(&follow.user_id),
            Self::Channel(_) | Self::Entry(_) | Self::Scheduled(_) => None,
        }
    }
}

/// What was loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    resources: HashMap<Uuid, Resource>,
    /// Whether the channels are public, erased ones too.
    pub channels: HashMap<ChannelId, bool>,
}

impl Loaded {
    /// What has an id. An entry that was to be posted left it to the entry that it became.
    pub fn resource(&self, kind: &str, id: Uuid) -> Option<&Resource> {
        let found = self.resources.get(&id)?;
        let is_scheduled = matches!(found, Resource::Scheduled(_));
        (is_scheduled == (kind == "scheduled_entry")).then_some(found)
    }
}

/// Tells whether resources of a kind are loaded here.
pub fn is_loaded(kind: &str) -> bool {
    matches!(
        kind,
        "channel"
            | "channel_member"
            | "channel_settings"
            | "chat_entry"
            | "scheduled_entry"
            | "thread_follow"
    )
}

/// Loads resources of some kinds, as far as they are there, and of the channels that they are in
/// whether they are public.
pub async fn load(
    conn: &mut TenantConn,
    asked: &[(&str, Uuid)],
    channel_ids: &[ChannelId],
) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    if asked.is_empty() {
        return Ok(loaded);
    }
    let of = |kinds: &[&str]| -> Vec<Uuid> {
        let of_kind = asked.iter().filter(|(asked, _)| kinds.contains(asked));
        of_kind.map(|(_, id)| *id).collect()
    };
    let kinds: Vec<(ChannelId, Kind)> = channels::table
        .filter(channels::id.eq_any(channel_ids))
        .select((channels::id, channels::kind))
        .load(conn)
        .await?;
    let kinds = kinds.into_iter();
    loaded.channels = kinds.map(|(id, kind)| (id, kind == Kind::Public)).collect();
    let ids: Vec<_> = of(&["channel"]).into_iter().map(ChannelId).collect();
    if !ids.is_empty() {
        let found: Vec<Channel> = channels::table
            .filter(channels::id.eq_any(ids))
            .filter(channels::deleted_at.is_null())
            .select(Channel::as_select())
            .load(conn)
            .await?;
        let found = found.into_iter().map(Box::new);
        let found = found.map(|one| (one.id.0, Resource::Channel(one)));
        loaded.resources.extend(found);
    }
    let ids = of(&["channel_member", "channel_settings"]).into_iter();
    let ids: Vec<_> = ids.map(ChannelMemberId).collect();
    if !ids.is_empty() {
        let found: Vec<Member> = channel_members::table
            .filter(channel_members::id.eq_any(ids))
            .select(Member::as_select())
            .load(conn)
            .await?;
        let found = found.into_iter().map(Box::new);
        let found = found.map(|one| (one.id.0, Resource::Member(one)));
        loaded.resources.extend(found);
    }
    let ids: Vec<_> = of(&["chat_entry"]).into_iter().map(ChatEntryId).collect();
    if !ids.is_empty() {
        let found: Vec<Entry> = chat_entries::table
            .filter(chat_entries::id.eq_any(ids))
            .select(Entry::as_select())
            .load(conn)
            .await?;
        let found = found.into_iter().map(Box::new);
        let found = found.map(|one| (one.id.0, Resource::Entry(one)));
        loaded.resources.extend(found);
    }
    let ids = of(&["thread_follow"]).into_iter();
    let ids: Vec<_> = ids.map(ThreadFollowId).collect();
    if !ids.is_empty() {
        let found: Vec<Follow> = thread_follows::table
            .filter(thread_follows::id.eq_any(ids))
            .select(Follow::as_select())
            .load(conn)
            .await?;
        let found = found.into_iter().map(Box::new);
        let found = found.map(|one| (one.id.0, Resource::Follow(one)));
        loaded.resources.extend(found);
    }
    let ids = of(&["scheduled_entry"]).into_iter();
    let ids: Vec<_> = ids.map(ChatEntryId).collect();
    if !ids.is_empty() {
        let found: Vec<ScheduledEntry> = scheduled_entries::table
            .filter(scheduled_entries::id.eq_any(ids))
            .select(ScheduledEntry::as_select())
            .load(conn)
            .await?;
        let found = found.into_iter().map(Box::new);
        let found = found.map(|one| (one.id.0, Resource::Scheduled(one)));
        loaded.resources.extend(found);
    }
    Ok(loaded)
}

/// Lists the memberships of some users, past ones too.
pub async fn memberships(conn: &mut TenantConn, user_ids: &[&str]) -> Result<Vec<Member>, Error> {
    let memberships = channel_members::table
        .filter(channel_members::user_id.eq_any(user_ids))
        .select(Member::as_select());
    Ok(memberships.load(conn).await?)
}
