//! Conversations: what they are, and how one is found.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{self, Integer, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{ChannelAccountId, ContactId, ConversationId};
use crate::schema::tenant::{contact_identities, contacts, inbox_conversations};
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// Where a conversation stands.
    Status {
        /// Nobody has looked at it yet.
        New = "new",
        /// It is being handled.
        Open = "open",
        /// We had the last word.
        Replied = "replied",
        /// It is a lead.
        Qualified = "qualified",
        /// It is closed.
        Archived = "archived",
    }
}

stored_enum! {
    /// How urgent a conversation is.
    Priority {
        /// Can wait.
        Low = "low",
        /// The usual.
        Normal = "normal",
        /// Before the usual.
        High = "high",
        /// Before everything.
        Urgent = "urgent",
    }
}

/// A conversation, with whom it is.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = inbox_conversations, check_for_backend(Pg))]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its number for people.
    pub number: i64,
    /// Where it takes place.
    pub channel: Channel,
    /// The channel account.
    #[diesel(select_expression = contact_identities::channel_account_id)]
    pub channel_account_id: ChannelAccountId,
    /// The person.
    #[diesel(select_expression = contact_identities::contact_id)]
    pub contact_id: ContactId,
    /// How the channel account knows the person.
    #[diesel(select_expression = contact_identities::value)]
    pub contact_identifier: String,
    /// The person's name.
    #[diesel(select_expression = contacts::name)]
    pub contact_name: String,
    /// Separates conversations where the channel has threads.
    pub thread_key: String,
    /// Where it stands.
    pub status: Status,
    /// How urgent it is.
    pub priority: Priority,
    /// What it is about.
    pub subject: String,
    /// Free data.
    pub metadata: Value,
    /// The sequence of its newest message.
    pub last_sequence: i64,
    /// When that was stored; when the conversation was made, while there is none.
    pub last_message_at: DateTime<Utc>,
    /// Goes up with every change.
    pub version: i64,
    /// Goes up with every edit of a caller.
    pub edit_version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was archived.
    pub archived_at: Option<DateTime<Utc>>,
    /// The user who handles it.
    #[serde(default)]
    pub assignee_id: Option<String>,
    /// The team that handles it.
    #[serde(default)]
    pub team_id: Option<String>,
    /// When it was last given to somebody.
    #[serde(default)]
    pub assigned_at: Option<DateTime<Utc>>,
    /// When it was first qualified as a lead.
    #[serde(default)]
    pub qualified_at: Option<DateTime<Utc>>,
    /// The kind of who qualified it.
    #[serde(default)]
    pub qualified_by_kind: Option<String>,
    /// Who qualified it.
    #[serde(default)]
    pub qualified_by_id: Option<String>,
    /// How promising the lead is.
    #[serde(default)]
    pub lead_score: Option<i32>,
    /// What was learned of the lead.
    #[serde(default)]
    pub lead_notes: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<Option<String>>,
    /// Until when it is put aside.
    #[serde(default)]
    pub snoozed_until: Option<DateTime<Utc>>,
    /// Since when the customer waits for a person.
    #[serde(default)]
    pub waiting_since: Option<DateTime<Utc>>,
    /// The sequence of the customer's newest message.
    #[serde(default)]
    pub last_inbound_sequence: i64,
    /// How far anybody of the team has read.
    #[serde(default)]
    pub read_sequence: i64,
    /// How often it has begun.
    #[serde(default = "first")]
    pub episode: i32,
    /// The archived one that it goes on from.
    #[serde(default)]
    pub previous_conversation_id: Option<ConversationId>,
    /// The one that goes on in its place.
    #[serde(default)]
    pub merged_into_id: Option<ConversationId>,
}

/// The episode of answers that were kept before there were any.
fn first() -> i32 {
    1
}

impl Conversation {
    /// Tells whether nobody of the team has read the customer's newest message.
    pub fn is_unread(&self) -> bool {
        self.last_inbound_sequence > self.read_sequence
    }
}

/// The columns of a row as SQL types, in the order of `conversation_columns`.
pub(super) type ConversationRow =
    <<Conversation as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of a `Conversation`, in the order of its fields, of the table `p`.
macro_rules! conversation_columns {
    () => {
        "p.id, p.number, p.channel, p.channel_account_id, p.contact_id, p.value, p.name,
            p.thread_key, p.status, p.priority, p.subject, p.metadata, p.last_sequence,
            p.last_message_at, p.version, p.edit_version, p.created_at, p.updated_at,
            p.archived_at, p.assignee_id, p.team_id, p.assigned_at, p.qualified_at,
            p.qualified_by_kind, p.qualified_by_id, p.lead_score, p.lead_notes,
            p.labels, p.snoozed_until, p.waiting_since, p.last_inbound_sequence,
            p.read_sequence, p.episode, p.previous_conversation_id, p.merged_into_id"
    };
}

/// A query of what `conversation_columns` needs, over rows of conversations. Conditions on `c`, `i`
/// and `k` may follow it.
macro_rules! conversation_of {
    ($rows:literal) => {
        concat!(
            "
            SELECT c.*, i.channel_account_id, i.contact_id, i.value, k.name
            FROM ",
            $rows,
            " c
            JOIN contact_identities i ON i.id = c.contact_identity_id
            JOIN contacts k ON k.id = i.contact_id"
        )
    };
}

/// How many of the customer's messages in `p` the user `input.reader` has not read, at most 1,000.
macro_rules! unread_count {
    () => {
        "(
            SELECT count(*) FROM (
                SELECT FROM inbox_messages u
                WHERE u.conversation_id = p.id AND u.direction = 'inbound' AND u.deleted_at IS NULL
                    AND NOT u.imported AND u.sequence <= p.last_inbound_sequence
                    AND u.sequence > coalesce((
                        SELECT r.sequence FROM conversation_read_marks r
                        WHERE r.conversation_id = p.id AND r.user_id = input.reader
                    ), 0)
                LIMIT 1000
            ) u
        )::integer"
    };
}

pub(super) use {conversation_columns, conversation_of, unread_count};

statement! {
    // The query builder would write the same text anew for each call.
    /// Finds a conversation.
    Find<'a> -> ConversationRow {
        conversation_id: ConversationId => sql_types::Uuid,
    }
    concat!(" SELECT ", conversation_columns!(), "
        FROM input, LATERAL (", conversation_of!("inbox_conversations"), "
            WHERE c.id = input.conversation_id AND c.deleted_at IS NULL
        ) p")
}

statement! {
    /// Finds a conversation, with how many of its messages a user has not read.
    FindSeen<'a> -> (ConversationRow, Integer) {
        conversation_id: ConversationId => sql_types::Uuid,
        reader: &'a str => Text,
    }
    concat!(" SELECT ", conversation_columns!(), ", ", unread_count!(), "
        FROM input, LATERAL (", conversation_of!("inbox_conversations"), "
            WHERE c.id = input.conversation_id AND c.deleted_at IS NULL
        ) p")
}

/// A conversation as somebody sees it: how many of its messages they have not read.
pub type Seen = (Conversation, Option<i32>);

/// Finds a conversation, as the acting user sees it.
pub async fn find(conn: &mut TenantConn, id: ConversationId) -> Result<Option<Seen>, Error> {
    let facts = conn.facts().clone();
    let life = PhantomData;
    let Some(reader) = facts.actor.user_id() else {
        let statement = Find {
            conversation_id: id,
            life,
        };
        let found: Option<Conversation> = statement.get_result(conn).await.optional()?;
        return Ok(found.map(|conversation| (conversation, None)));
    };
    let statement = FindSeen {
        conversation_id: id,
        reader,
        life,
    };
    let found: Option<(Conversation, i32)> = statement.get_result(conn).await.optional()?;
    Ok(found.map(|(conversation, unread)| (conversation, Some(unread))))
}

/// Tells whether an archived conversation cannot go on because another of the same person has taken
/// its place.
pub fn is_replaced(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, violation)
            if violation.constraint_name() == Some("inbox_conversations_thread_key")
    )
}
