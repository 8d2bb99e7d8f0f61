//! What events tell of, as it is now.

use std::collections::HashMap;
use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, Array};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::agent::{self, Agent};
use super::contact::{self, Contact, Profile};
use super::conversation::{Conversation, ConversationRow, conversation_columns, conversation_of};
use super::message::Message;
use super::schedule::Scheduled;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{AgentId, ContactId, ConversationId, MessageId};
use crate::schema::tenant::{contacts, inbox_conversations, inbox_messages, scheduled_messages};
use crate::tenant::TenantConn;

/// What happened to something, happened to this.
#[derive(Debug, Clone)]
pub enum Resource {
    /// A conversation.
    Conversation(Box<Conversation>),
    /// A message, or what is left of it.
    Message(Box<Message>),
    /// A person.
    Contact(Box<Profile>),
    /// A message that is to be sent.
    Scheduled(Box<Scheduled>),
    /// An agent.
    Agent(Agent),
}

impl Resource {
    /// What it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conversation(_) => "conversation",
            Self::Message(_) => "message",
            Self::Contact(_) => "contact",
            Self::Scheduled(_) => "scheduled_message",
            Self::Agent(_) => "agent",
        }
    }

    /// Tells whether little is left of it.
    pub fn is_deleted(&self) -> bool {
        match self {
            Self::Message(message) => message.deleted_at.is_some(),
            Self::Conversation(_) | Self::Contact(_) | Self::Scheduled(_) | Self::Agent(_) => false,
        }
    }
}

/// Tells whether resources of a kind are loaded here.
pub fn is_loaded(kind: &str) -> bool {
    matches!(
        kind,
        "conversation" | "message" | "contact" | "scheduled_message" | "agent"
    )
}

statement! {
    /// Finds conversations.
    Conversations<'a> -> ConversationRow {
        ids: &'a [ConversationId] => Array<sql_types::Uuid>,
    }
    concat!(" SELECT ", conversation_columns!(), "
        FROM input, LATERAL (", conversation_of!("inbox_conversations"), "
            WHERE c.id = ANY (input.ids) AND c.deleted_at IS NULL
        ) p")
}

/// Loads resources of some kinds, as far as they are there.
pub async fn load(
    conn: &mut TenantConn,
    asked: &[(&str, Uuid)],
) -> Result<HashMap<Uuid, Resource>, Error> {
    let mut loaded = HashMap::new();
    let of = |kind: &str| -> Vec<Uuid> {
        let of_kind = asked.iter().filter(|(asked, _)| *asked == kind);
        of_kind.map(|(_, id)| *id).collect()
    };
    let ids: Vec<_> = of("conversation").into_iter().map(ConversationId).collect();
    if !ids.is_empty() {
        let conversations = Conversations {
            ids: &ids,
            life: PhantomData,
        };
        let found: Vec<Conversation> = conversations.load(conn).await?;
        let found = found.into_iter().map(Box::new);
        loaded.extend(found.map(|one| (one.id.0, Resource::Conversation(one))));
    }
    let ids: Vec<_> = of("message").into_iter().map(MessageId).collect();
    if !ids.is_empty() {
        let found: Vec<Message> = inbox_messages::table
            .inner_join(inbox_conversations::table)
            .filter(inbox_messages::id.eq_any(&ids))
            .filter(inbox_conversations::deleted_at.is_null())
            .select(Message::as_select())
            .load(conn)
            .await?;
        let found = found.into_iter().map(Box::new);
        loaded.extend(found.map(|one| (one.id.0, Resource::Message(one))));
    }
    let ids: Vec<_> = of("contact").into_iter().map(ContactId).collect();
    if !ids.is_empty() {
        let found: Vec<Contact> = contacts::table
            .filter(contacts::id.eq_any(&ids))
            .filter(contacts::deleted_at.is_null())
            .select(Contact::as_select())
            .load(conn)
            .await?;
        let found = contact::with_identities(conn, found).await?;
        let found = found.into_iter().map(Box::new);
        loaded.extend(found.map(|one| (one.contact.id.0, Resource::Contact(one))));
    }
    // One that was sent since has left its id to the message.
    let ids = of("scheduled_message").into_iter().map(MessageId);
    let ids: Vec<_> = ids.filter(|id| !loaded.contains_key(&id.0)).collect();
    if !ids.is_empty() {
        let found: Vec<Scheduled> = scheduled_messages::table
            .filter(scheduled_messages::id.eq_any(&ids))
            .select(Scheduled::as_select())
            .load(conn)
            .await?;
        let found = found.into_iter().map(Box::new);
        loaded.extend(found.map(|one| (one.id.0, Resource::Scheduled(one))));
    }
    let ids: Vec<_> = of("agent").into_iter().map(AgentId).collect();
    if !ids.is_empty() {
        let found = agent::load(conn, &ids).await?.into_iter();
        loaded.extend(found.map(|(id, agent)| (id.0, Resource::Agent(agent))));
    }
    Ok(loaded)
}
