//! The event log on the wire.

use std::time::Duration;

use bytes::Bytes;

use super::entry::{Entry, Place};
use super::filter::{Filter, Named};
use super::subscription::{Frame, Start};
use super::told::{Resource, is_loaded};
use crate::access::Actor;
use crate::chat;
use crate::error::Error;
use crate::field::Fields;
use crate::ids::{ChannelId, ConversationId};
use crate::inbox;
use crate::master_key::Sealer;
use crate::page::List;
use crate::pb;
use crate::pb::event::Resource as Wired;
use crate::pb::subscribe_request::Start as WiredStart;
use crate::pb::subscribe_response::Frame as WiredFrame;
use crate::tenant::TenantScope;
use crate::time::to_timestamp;

/// The most types, and the most conversations and channels each, that can be asked for.
const MOST: (usize, usize) = (50, 100);
/// When to come back to a server that stops.
const RETRY: Duration = Duration::from_secs(1);

/// `communication.v1.Batch` with its events as they are encoded, once for all who hear them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Batch {
    /// The events, each an encoded `communication.v1.Event`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub events: Vec<Bytes>,
    /// The token behind the last of them.
    #[prost(string, tag = "2")]
    pub token: String,
}

/// What makes and reads the tokens of a tenant.
#[derive(Clone)]
pub struct Tokens {
    list: List,
    sealer: Sealer,
}

impl Tokens {
    /// Those of a tenant.
    pub fn of(scope: &TenantScope, sealer: &Sealer) -> Self {
        Self {
            list: List::new(&[b"events", scope.binding()]),
            sealer: sealer.clone(),
        }
    }

    /// The token of a place.
    pub fn token(&self, place: Place) -> Result<String, Error> {
        self.list.token(&self.sealer, &place)
    }

    /// The place of a token, if it is one of this tenant's.
    pub fn place(&self, token: &str) -> Option<Place> {
        self.list.position(&self.sealer, token).ok().flatten()
    }

    /// A frame with its tokens.
    pub fn frame(&self, frame: Frame) -> Result<pb::SubscribeResponse, Error> {
        let frame = match frame {
            Frame::Hello(head, earliest) => WiredFrame::Hello(pb::Hello {
                head_token: self.token(head)?,
                earliest_time: Some(to_timestamp(earliest)),
            }),
            Frame::Batch(told, place) => WiredFrame::Batch(Batch {
                events: told.iter().map(|one| one.encoded.clone()).collect(),
                token: self.token(place)?,
            }),
            Frame::Checkpoint(place) => WiredFrame::Checkpoint(pb::Checkpoint {
                token: self.token(place)?,
            }),
            Frame::Reset(place) => WiredFrame::Reset(pb::Reset {
                token: self.token(place)?,
            }),
            Frame::Goodbye(place) => WiredFrame::Goodbye(pb::Goodbye {
                token: self.token(place)?,
                retry_delay: prost_types::Duration::try_from(RETRY).ok(),
            }),
            Frame::Ephemeral(said) => WiredFrame::Ephemeral(said),
            Frame::AccessGained(channel, place) => WiredFrame::AccessGained(pb::AccessGained {
                channel_id: channel.into(),
                token: self.token(place)?,
            }),
            Frame::AccessLost(channel, place) => WiredFrame::AccessLost(pb::AccessLost {
                channel_id: channel.into(),
                token: self.token(place)?,
            }),
        };
        Ok(pb::SubscribeResponse { frame: Some(frame) })
    }

    /// Where a stream begins, and what is wanted of it.
    ///
    /// # Errors
    /// The token is not of this tenant's events, or a field cannot be what it is.
    pub fn asked(&self, request: pb::SubscribeRequest) -> Result<(Start, Filter), Error> {
        let mut fields = Fields::default();
        let start = match request.start {
            None => Start::Now,
            Some(WiredStart::Earliest(true)) => Start::Earliest,
            Some(WiredStart::Earliest(false)) => {
                fields.refuse("earliest", "must be true, or left out");
                Start::Now
            }
            Some(WiredStart::Token(token)) => match self.place(&token) {
                Some(place) => Start::After(place),
                None => {
                    fields.refuse("token", "is not a token of this tenant's events");
                    Start::Now
                }
            },
        };
        let most = |fields: &mut Fields, field: &str, given: usize, most: usize| {
            if given > most {
                fields.refuse(field, format!("must be {most} at most"));
            }
        };
        most(&mut fields, "types", request.types.len(), MOST.0);
        let conversations = request.conversation_ids;
        most(&mut fields, "conversation_ids", conversations.len(), MOST.1);
        let channels = request.channel_ids;
        most(&mut fields, "channel_ids", channels.len(), MOST.1);
        for (place, kind) in request.types.iter().enumerate().take(MOST.0) {
            if !is_type(kind) {
                let words = "must be a type of events, such as `message.created`";
                fields.refuse(format!("types[{place}]"), words);
            }
        }
        let mut named = Named {
            types: request.types.into_iter().collect(),
            ..Named::default()
        };
        for (place, id) in conversations.iter().enumerate().take(MOST.1) {
            let field = format!("conversation_ids[{place}]");
            let id = fields.required_id(&field, id, ConversationId);
            named.conversations.insert(id);
        }
        for (place, id) in channels.iter().enumerate().take(MOST.1) {
            let field = format!("channel_ids[{place}]");
            let id = fields.required_id(&field, id, ChannelId);
            named.channels.insert(id);
        }
        fields.finish()?;
        Ok((start, Filter::Named(named)))
    }
}

/// Tells whether a word has the form of a type of events.
fn is_type(word: &str) -> bool {
    let is_noun = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    word.len() <= 64
        && word
            .split_once('.')
            .is_some_and(|(noun, verb)| is_noun(noun) && is_noun(verb))
}

fn of_inbox(resource: inbox::Resource) -> Wired {
    match resource {
        inbox::Resource::Conversation(conversation) => Wired::Conversation((*conversation).into()),
        inbox::Resource::Message(message) => Wired::Message((*message).into()),
        inbox::Resource::Contact(profile) => Wired::Contact((*profile).into()),
        inbox::Resource::Scheduled(scheduled) => Wired::ScheduledMessage((*scheduled).into()),
        inbox::Resource::Agent(agent) => Wired::Agent(agent.into()),
    }
}

/// Of a member, also what is shown to themselves alone, where they hear it alone.
fn of_chat(resource: chat::Resource, is_own: bool) -> Wired {
    match resource {
        chat::Resource::Channel(channel) => Wired::Channel((*channel).into()),
        chat::Resource::Member(member) if is_own => Wired::ChannelMember((*member).into()),
        chat::Resource::Member(member) => Wired::ChannelMember(chat::as_others_see(*member)),
        chat::Resource::Entry(entry) => Wired::ChatEntry((*entry).into()),
        chat::Resource::Follow(follow) => Wired::ThreadFollow((*follow).into()),
        chat::Resource::Scheduled(scheduled) => Wired::ScheduledEntry((*scheduled).into()),
    }
}

/// An event, with what it tells of, as far as that is there.
pub fn event(entry: &Entry, resource: Option<Resource>) -> pb::Event {
    let kind = &entry.resource_kind;
    let deleted = match &resource {
        Some(Resource::Inbox(resource)) => resource.is_deleted(),
        Some(Resource::Chat(resource)) => resource.is_deleted(),
        Some(Resource::QuickReply(quick_reply)) => quick_reply.deleted_at.is_some(),
        None => is_loaded(kind),
    };
    let resource = resource.map(|resource| match resource {
        Resource::Inbox(resource) => of_inbox(resource),
        Resource::Chat(resource) => of_chat(resource, kind == "channel_settings"),
        Resource::QuickReply(quick_reply) => Wired::QuickReply((*quick_reply).into()),
    });
    let (channel, conversation) = if chat::is_loaded(kind) {
        (entry.parent_id, None)
    } else {
        (None, entry.parent_id)
    };
    pb::Event {
        id: entry.event_id.to_string(),
        r#type: entry.kind.clone(),
        event_time: Some(to_timestamp(entry.at)),
        actor: Actor::of_kind(&entry.actor_kind, entry.actor_id.clone()).map(Into::into),
        caller: entry.caller.clone(),
        correlation_id: entry.correlation_id.clone(),
        resource_id: entry.resource_id.to_string(),
        conversation_id: conversation.map(|id| id.to_string()).unwrap_or_default(),
        sequence: entry.sequence.unwrap_or(0),
        version: entry.version,
        changed_fields: entry.changed.iter().flatten().cloned().collect(),
        deleted,
        resource,
        channel_id: channel.map(|id| id.to_string()).unwrap_or_default(),
    }
}
