//! Entries of the log with what they tell of, as it is now, and who may hear of it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use super::audience::Audience;
use super::entry::Entry;
use super::wire;
use crate::access::Actor;
use crate::error::Error;
use crate::ids::{ChannelId, QuickReplyId};
use crate::tenant::TenantConn;
use crate::{chat, inbox, pb, quick_reply};

/// An entry, and the event that it makes.
#[derive(Debug, Clone)]
pub struct Told {
    /// The entry.
    pub entry: Entry,
    /// The event.
    pub event: pb::Event,
    /// The event as it is sent.
    pub encoded: Bytes,
    /// Who may hear of it.
    pub audience: Audience,
}

impl Told {
    fn new(entry: Entry, event: pb::Event, audience: Audience) -> Self {
        let encoded = event.encode_to_vec().into();
        Self {
            entry,
            event,
            encoded,
            audience,
        }
    }

    /// How many bytes it has in memory, about: once to be read, once to be sent.
    pub fn bytes(&self) -> usize {
        2 * self.encoded.len()
    }
}

/// What happened happened to this.
#[derive(Debug, Clone)]
pub enum Resource {
    /// Something of the inbox.
    Inbox(inbox::Resource),
    /// Something of the chat.
    Chat(chat::Resource),
    /// A quick reply.
    QuickReply(Box<quick_reply::QuickReply>),
}

/// Where things of a kind are loaded from.
enum Source {
    Inbox,
    Chat,
    QuickReply,
}

impl Source {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "quick_reply" => Some(Self::QuickReply),
            _ if chat::is_loaded(kind) => Some(Self::Chat),
            _ if inbox::is_loaded(kind) => Some(Self::Inbox),
            _ => None,
        }
    }
}

/// Tells whether things of a kind come with their events.
pub fn is_loaded(kind: &str) -> bool {
    Source::of(kind).is_some()
}

/// Adds to entries what they tell of, as it is now.
pub async fn tell(conn: &mut TenantConn, entries: Vec<Entry>) -> Result<Vec<Told>, Error> {
    let asked: HashSet<_> = entries
        .iter()
        .map(|entry| (entry.resource_kind.as_str(), entry.resource_id))
        .collect();
    let (mut of_inbox, mut of_chat, mut quick_replies) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, id) in asked {
        match Source::of(kind) {
            Some(Source::Inbox) => of_inbox.push((kind, id)),
            Some(Source::Chat) => of_chat.push((kind, id)),
            Some(Source::QuickReply) => quick_replies.push(QuickReplyId(id)),
            None => {}
        }
    }
    let channels: HashSet<_> = entries.iter().filter_map(Entry::channel_id).collect();
    let channels: Vec<_> = channels.into_iter().collect();
    let inbox = inbox::load(conn, &of_inbox).await?;
    let chat = chat::load(conn, &of_chat, &channels).await?;
    let quick_replies = quick_reply::load(conn, &quick_replies).await?;
    let find = |kind: &str, id: Uuid| match Source::of(kind)? {
        Source::Inbox => {
            let found = inbox.get(&id).filter(|found| found.kind() == kind);
            found.cloned().map(Resource::Inbox)
        }
        Source::Chat => chat.resource(kind, id).cloned().map(Resource::Chat),
        Source::QuickReply => {
            let found = quick_replies.iter().find(|found| found.id.0 == id);
            found.cloned().map(Box::new).map(Resource::QuickReply)
        }
    };
    let told = entries.into_iter().map(|entry| {
        let resource = find(&entry.resource_kind, entry.resource_id);
        let audience = audience(&entry, resource.as_ref(), &chat.channels);
        let event = wire::event(&entry, resource);
        Told::new(entry, event, audience)
    });
    Ok(told.collect())
}

/// Who may hear of something.
fn audience(
    entry: &Entry,
    resource: Option<&Resource>,
    channels: &HashMap<ChannelId, bool>,
) -> Audience {
    let of_channel = |alone: Option<Actor>| match entry.channel_id() {
        Some(id) => channels
            .get(&id)
            .map_or(Audience::Nobody, |&is_public| Audience::Channel {
                id,
                is_public,
                alone,
            }),
        None => Audience::Everybody,
    };
    match (entry.resource_kind.as_str(), resource) {
        ("channel_settings" | "thread_follow", Some(Resource::Chat(resource))) => {
            match resource.user_id() {
                Some(user) => of_channel(Some(Actor::User(user.to_owned()))),
                None => Audience::Nobody,
            }
        }
        ("channel_settings" | "thread_follow", _) => Audience::Nobody,
        // Only who has them changes them.
        ("scheduled_entry" | "chat_attachment", _) => {
            let one = Actor::of_kind(&entry.actor_kind, entry.actor_id.clone());
            one.map_or(Audience::Nobody, Audience::Alone)
        }
        ("quick_reply", Some(Resource::QuickReply(found))) if found.user_id.is_empty() => {
            Audience::Everybody
        }
        ("quick_reply", Some(Resource::QuickReply(found))) => Audience::Own(found.user_id.clone()),
        ("quick_reply", _) => Audience::Nobody,
        _ => of_channel(None),
    }
}
