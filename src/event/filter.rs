//! Which events a reader wants.

use std::collections::HashSet;

use uuid::Uuid;

use super::entry::Entry;
use super::told::Told;
use crate::ids::{ChannelAccountId, ChannelId, ContactId, ConversationId};
use crate::pb;
use crate::pb::ephemeral::Kind;
use crate::pb::event::Resource;

/// What asks for who is there, among the types of events.
const PRESENCE: &str = "user.presence";
/// What asks for who is writing.
const TYPING: &str = "channel.typing";

/// Which events are wanted.
#[derive(Debug, Clone)]
pub enum Filter {
    /// Those that are named.
    Named(Named),
    /// Those of a customer.
    Customer(Customer),
}

/// Events that are named; of what is empty, all.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// The types.
    pub types: HashSet<String>,
    /// The conversations.
    pub conversations: HashSet<ConversationId>,
    /// The channels.
    pub channels: HashSet<ChannelId>,
}

/// A customer of a channel account: wanted is what happens to the messages of their conversations,
/// that one of those is gone, and what happens to them, which may make them somebody else.
#[derive(Debug, Clone)]
pub struct Customer {
    /// The account.
    pub account: ChannelAccountId,
    /// By what they are known there.
    pub identifier: String,
    /// Their contact, once there is one.
    pub contact: Option<ContactId>,
    /// Their conversations. Those that begin later are found on the way.
    pub conversations: HashSet<ConversationId>,
}

impl Filter {
    /// Tells whether an event is wanted. They have to come in their order.
    pub fn wants(&mut self, told: &Told) -> bool {
        match self {
            Self::Named(named) => named.wants(&told.entry),
            Self::Customer(customer) => customer.wants(told),
        }
    }

    /// Tells whether anything is wanted of what is only said.
    pub fn listens(&self) -> bool {
        match self {
            Self::Named(named) => named.has_type(PRESENCE) || named.has_type(TYPING),
            Self::Customer(_) => false,
        }
    }

    /// Tells whether what happens in a channel is wanted.
    pub fn has_channel(&self, id: ChannelId) -> bool {
        match self {
            Self::Named(named) => named.is_everywhere() || named.channels.contains(&id),
            Self::Customer(_) => false,
        }
    }

    /// Tells whether something that is only said is wanted.
    pub fn hears(&self, said: &pb::Ephemeral) -> bool {
        match (self, &said.kind) {
            (Self::Named(named), Some(Kind::Presence(_))) => {
                named.has_type(PRESENCE) && named.is_everywhere()
            }
            (Self::Named(named), Some(Kind::Typing(typing))) => {
                let id = Uuid::try_parse(&typing.channel_id).map(ChannelId);
                named.has_type(TYPING) && id.is_ok_and(|id| self.has_channel(id))
            }
            (Self::Named(_), None) | (Self::Customer(_), _) => false,
        }
    }
}

impl Named {
    fn wants(&self, entry: &Entry) -> bool {
        let is_of = |id: Uuid| self.conversations.contains(&ConversationId(id));
        let is_in = |id: ChannelId| self.channels.contains(&id);
        self.has_type(&entry.kind)
            && (self.is_everywhere()
                || is_of(entry.resource_id)
                || entry.parent_id.is_some_and(is_of)
                || entry.channel_id().is_some_and(is_in))
    }

    /// Whether a type is wanted.
    fn has_type(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.contains(kind)
    }

    /// Whether it is wanted wherever it happens.
    fn is_everywhere(&self) -> bool {
        self.conversations.is_empty() && self.channels.is_empty()
    }
}

impl Customer {
    fn wants(&mut self, told: &Told) -> bool {
        let (entry, event) = (&told.entry, &told.event);
        match entry.resource_kind.as_str() {
            "message" => {
                let of = entry.parent_id.map(ConversationId);
                of.is_some_and(|id| self.conversations.contains(&id))
            }
            "conversation" => {
                let id = ConversationId(entry.resource_id);
                if matches!(&event.resource, Some(Resource::Conversation(it)) if self.talks_in(it))
                {
                    self.conversations.insert(id);
                }
                event.deleted && self.conversations.contains(&id)
            }
            "contact" => {
                self.contact == Some(ContactId(entry.resource_id))
                    || matches!(&event.resource, Some(Resource::Contact(it)) if self.is(it))
            }
            _ => false,
        }
    }

    fn talks_in(&self, conversation: &pb::Conversation) -> bool {
        let is_their_contact = |id: ContactId| conversation.contact_id == id.to_string();
        conversation.channel_account_id == self.account.to_string()
            && (conversation.contact_identifier == self.identifier
                || self.contact.is_some_and(is_their_contact))
    }

    fn is(&self, contact: &pb::Contact) -> bool {
        let account = self.account.to_string();
        let mut identities = contact.identities.iter();
        identities.any(|one| one.channel_account_id == account && one.value == self.identifier)
    }
}
