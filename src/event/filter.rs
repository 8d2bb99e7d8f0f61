//! Which events a reader wants.

use std::collections::HashSet;

use uuid::Uuid;

use super::entry::Entry;
use super::feed::Told;
use crate::ids::{ChannelAccountId, ContactId, ConversationId};
use crate::pb;
use crate::pb::ephemeral::Kind;
use crate::pb::event::Resource;

/// What asks for who is there, among the types of events.
const PRESENCE: &str = "user.presence";

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
            Self::Named(named) => named.hears_type(PRESENCE),
            Self::Customer(_) => false,
        }
    }

    /// Tells whether something that is only said is wanted.
    pub fn hears(&self, said: &pb::Ephemeral) -> bool {
        match (self, &said.kind) {
            (Self::Named(named), Some(Kind::Presence(_))) => named.hears_type(PRESENCE),
            (Self::Named(_), None) | (Self::Customer(_), _) => false,
        }
    }
}

impl Named {
    fn wants(&self, entry: &Entry) -> bool {
        let is_of = |id: Uuid| self.conversations.contains(&ConversationId(id));
        (self.types.is_empty() || self.types.contains(&entry.kind))
            && (self.conversations.is_empty()
                || is_of(entry.resource_id)
                || entry.parent_id.is_some_and(is_of))
    }

    /// Whether a type of what is only said is wanted. None of it is of a conversation.
    fn hears_type(&self, kind: &str) -> bool {
        self.conversations.is_empty() && (self.types.is_empty() || self.types.contains(kind))
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
