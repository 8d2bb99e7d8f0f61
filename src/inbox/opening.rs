//! How a conversation begins, or goes on after it was archived.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, Array, Integer, Jsonb, Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::log_changes;
use super::conversation::{self, Conversation, Priority};
use super::message::{self, Direction, Message, MessageType, NewMessage};
use super::{channel_account, contact_identity, contact_words, routing};
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::{Conflict, Error};
use crate::event::log::append_events;
use crate::ids::{ChannelAccountId, ContactIdentityId, ConversationId, MessageId};
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{contact_identities, inbox_conversations};
use crate::tenant::TenantConn;

/// A conversation to find or make.
#[derive(Debug)]
pub struct NewConversation {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// Where it takes place, unless the account says it.
    pub channel: Option<Channel>,
    /// The channel account.
    pub channel_account_id: Option<ChannelAccountId>,
    /// How the channel account knows the person.
    pub contact_identifier: String,
    /// The person's name.
    pub contact_name: String,
    /// The customer's first words.
    pub first_message: String,
    /// What it is about.
    pub subject: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Free data.
    pub metadata: Value,
    /// Separates conversations where the channel has threads.
    pub thread_key: String,
}

/// What came of a `NewConversation`; also what a repeated request gets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Created {
    /// The conversation.
    pub conversation: Conversation,
    /// Whether it was made.
    pub created: bool,
    /// The first message.
    pub message: Option<Message>,
}

/// Finds the person's conversation that is not archived, or makes one, and adds the first message.
///
/// # Errors
/// The channel account is missing, or several could be meant.
pub async fn create(conn: &mut TenantConn, new: NewConversation) -> Result<Created, Error> {
    if let Some(request) = &new.request_id
        && let Some(answer) = request_id::answer(conn, request).await?
    {
        return Ok(answer);
    }
    conn.transaction(async |conn| {
        if let Some(request) = &new.request_id
            && !request_id::claim(conn, request).await?
        {
            let answer = request_id::answer(conn, request).await?;
            return answer.ok_or(Error::Aborted(Conflict::Transaction));
        }
        let answer = find_or_create(conn, &new).await?;
        if let Some(request) = &new.request_id {
            request_id::keep(conn, request, &answer).await?;
        }
        Ok(answer)
    })
    .await
}

async fn find_or_create(conn: &mut TenantConn, new: &NewConversation) -> Result<Created, Error> {
    let (account, channel) =
        channel_account::resolve(conn, new.channel, new.channel_account_id).await?;
    if !new.thread_key.is_empty() && !channel.has_threads() {
        return Err(Error::invalid(
            "thread_key",
            "must be empty on a channel without threads",
        ));
    }
    let identifier = std::slice::from_ref(&new.contact_identifier);
    let identity =
        contact_identity::meet(conn, (account, channel), identifier, &new.contact_name).await?;
    let beginning = Beginning {
        thread_key: &new.thread_key,
        priority: new.priority,
        subject: &new.subject,
        ..Beginning::new(identity, channel, &new.metadata)
    };
    let (id, created) = match find_open(conn, identity, &new.thread_key).await? {
        Some(id) => (id, false),
        None => match begin(conn, beginning).await? {
            Some(id) => (id, true),
            None => {
                // Made between the two statements by somebody who did not hold the identity.
                let open = find_open(conn, identity, &new.thread_key).await?;
                (open.ok_or(Error::Aborted(Conflict::Transaction))?, false)
            }
        },
    };
    let message = if new.first_message.is_empty() {
        None
    } else {
        let first = NewMessage {
            id: MessageId::new(),
            request_id: None,
            conversation_id: id,
            direction: Direction::Inbound,
            message_type: MessageType::Text,
            text: new.first_message.clone(),
            location: None,
            reply_to: None,
            metadata: Value::Object(serde_json::Map::new()),
            quick_reply: None,
            attachments: Vec::new(),
        };
        Some(message::create_at_once(conn, &first).await?)
    };
    let (conversation, _) = conversation::find(conn, id)
        .await?
        .ok_or_else(|| Error::internal("a new conversation is gone"))?;
    Ok(Created {
        conversation,
        created,
        message,
    })
}

async fn find_open(
    conn: &mut TenantConn,
    identity: ContactIdentityId,
    thread_key: &str,
) -> Result<Option<ConversationId>, Error> {
    let open = inbox_conversations::table
        .filter(inbox_conversations::contact_identity_id.eq(identity))
        .filter(inbox_conversations::thread_key.eq(thread_key))
        .filter(inbox_conversations::archived_at.is_null())
        .filter(inbox_conversations::deleted_at.is_null())
        .select(inbox_conversations::id);
    Ok(open.first(conn).await.optional()?)
}

/// Finds the conversation of a person on a channel account, of a thread: the one that goes on, by
/// whichever identifier, or else the last that was archived.
pub async fn find_latest(
    conn: &mut TenantConn,
    identity: ContactIdentityId,
    thread_key: &str,
) -> Result<Option<ConversationId>, Error> {
    let same = diesel::alias!(contact_identities as same);
    let of_person = inbox_conversations::table
        .inner_join(contact_identities::table)
        .inner_join(
            same.on(same
                .field(contact_identities::contact_id)
                .eq(contact_identities::contact_id)
                .and(
                    same.field(contact_identities::channel_account_id)
                        .eq(contact_identities::channel_account_id),
                )),
        )
        .filter(same.field(contact_identities::id).eq(identity))
        .filter(inbox_conversations::thread_key.eq(thread_key))
        .filter(inbox_conversations::deleted_at.is_null())
        .order((
            inbox_conversations::archived_at.is_not_null(),
            inbox_conversations::number.desc(),
        ))
        .select(inbox_conversations::id);
    Ok(of_person.first(conn).await.optional()?)
}

/// Finds the conversation of a thread on a channel account, whoever it is with: the one that goes
/// on, or else the last that was archived.
pub async fn find_thread(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    thread_key: &str,
) -> Result<Option<ConversationId>, Error> {
    if thread_key.is_empty() {
        return Ok(None);
    }
    let of_thread = inbox_conversations::table
        .inner_join(contact_identities::table)
        .filter(contact_identities::channel_account_id.eq(account))
        .filter(inbox_conversations::thread_key.eq(thread_key))
        .filter(inbox_conversations::thread_key.ne(""))
        .filter(inbox_conversations::deleted_at.is_null())
        .order((
            inbox_conversations::archived_at.is_not_null(),
            inbox_conversations::number.desc(),
        ))
        .select(inbox_conversations::id);
    Ok(of_thread.first(conn).await.optional()?)
}

/// A conversation to make.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// With whom.
    pub identity: ContactIdentityId,
    /// Where it takes place.
    pub channel: Channel,
    /// Separates conversations where the channel has threads.
    pub thread_key: &'a str,
    /// How urgent it is.
    pub priority: Priority,
    /// What it is about.
    pub subject: &'a str,
    /// Free data.
    pub metadata: &'a Value,
    /// The archived one that it goes on from.
    pub previous: Option<ConversationId>,
}

impl<'a> Beginning<'a> {
    /// A conversation that nothing is known of yet.
    pub fn new(identity: ContactIdentityId, channel: Channel, metadata: &'a Value) -> Self {
        Self {
            identity,
            channel,
            thread_key: "",
            priority: Priority::Normal,
            subject: "",
            metadata,
            previous: None,
        }
    }
}

statement! {
    // No row = there is one that is not archived.
    /// Makes a conversation.
    Begin<'a> -> sql_types::Uuid {
        id: ConversationId => sql_types::Uuid,
        identity: ContactIdentityId => sql_types::Uuid,
        channel: Channel => Text,
        thread_key: &'a str => Text,
        priority: Priority => Text,
        subject: &'a str => Text,
        words: Vec<String> => Array<Text>,
        metadata: &'a Value => Jsonb,
        previous: Option<ConversationId> => Nullable<sql_types::Uuid>,
        assignee_id: Option<&'a str> => Nullable<Text>,
        team_id: Option<&'a str> => Nullable<Text>,
        rule: &'a str => Text,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , bumped AS (
            INSERT INTO inbox_conversations (id, number, contact_identity_id, channel, thread_key,
                status, priority, subject, metadata, last_message_at, created_at, updated_at,
                previous_conversation_id, assignee_id, team_id, assigned_at)
            SELECT input.id, nextval('inbox_conversations_number_seq'), input.identity,
                input.channel, input.thread_key,
                CASE WHEN coalesce(input.assignee_id, input.team_id) IS NULL THEN 'new' ELSE 'open' END,
                input.priority, input.subject, input.metadata, directory.now(), directory.now(),
                directory.now(), input.previous, input.assignee_id, input.team_id,
                CASE WHEN coalesce(input.assignee_id, input.team_id) IS NOT NULL THEN directory.now() END
            FROM input
            ON CONFLICT DO NOTHING
            RETURNING *
        ), worded AS (
            INSERT INTO conversation_words (word, conversation_id)
            SELECT u.word, b.id FROM bumped b, input, unnest(input.words) AS u (word)
        ), moved AS (
            SELECT b.id, b.version, b.updated_at, 'created' AS kind, input.rule,
                NULL::bigint AS sequence, '{}'::text[] AS changed, NULL::text AS old_status, b.status,
                NULL::text AS old_priority, b.priority, NULL::text AS old_assignee_id, b.assignee_id,
                NULL::text AS old_team_id, b.team_id, NULL::text[] AS old_labels, b.labels,
                NULL::timestamptz AS old_snoozed_until, b.snoozed_until, false AS was_qualified,
                false AS is_qualified, false AS was_unread, false AS is_unread, false AS was_waiting,
                false AS is_waiting, b.episode, b.created_at AS episode_started_at,
                NULL::timestamptz AS waited_since, false AS is_first_response
            FROM bumped b, input
        ), changes AS (
            SELECT 'conversation.created' AS kind, 'conversation' AS resource_kind, m.id AS resource_id,
                NULL::uuid AS parent_id, NULL::bigint AS sequence, m.version, m.changed
            FROM moved m
        )", append_events!(), log_changes!(), "
        SELECT id FROM bumped")
}

/// Makes the conversation of a person, unless there is one that is not archived, and gives it to
/// whom the routing of its account says. To be called in a transaction.
pub async fn begin(
    conn: &mut TenantConn,
    new: Beginning<'_>,
) -> Result<Option<ConversationId>, Error> {
    // Before the event, which holds up the readers of the log until the commit.
    let choice = routing::choose(conn, new.identity, None).await?;
    let assignment = choice.as_ref().map(|choice| &choice.assignment);
    let facts = conn.facts().clone();
    let statement = Begin {
        id: ConversationId::new(),
        identity: new.identity,
        channel: new.channel,
        thread_key: new.thread_key,
        priority: new.priority,
        subject: new.subject,
        words: contact_words::of(new.subject).into_iter().collect(),
        metadata: new.metadata,
        previous: new.previous,
        assignee_id: assignment.and_then(|assignment| assignment.assignee_id.as_deref()),
        team_id: assignment.and_then(|assignment| assignment.team_id.as_deref()),
        rule: match (&choice, new.previous) {
            (Some(choice), _) => choice.rule,
            (None, Some(_)) => "continued",
            (None, None) => "",
        },
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let begun = statement.get_result(conn).await.optional()?;
    if let (Some(choice), Some(_)) = (&choice, begun) {
        routing::took(conn, choice).await?;
    }
    Ok(begun)
}

/// Finds where what is meant for an archived conversation goes that does not go on: the one it was
/// merged into, or the one that has taken its place, or a new one that is linked to it. The one
/// merged into may be archived itself. To be called in a transaction.
pub async fn successor(
    conn: &mut TenantConn,
    archived: ConversationId,
) -> Result<ConversationId, Error> {
    let mut id = archived;
    let (identity, channel, thread_key) = loop {
        let (identity, channel, thread_key, merged_into): (
            ContactIdentityId,
            Channel,
            String,
            Option<ConversationId>,
        ) = inbox_conversations::table
            .find(id)
            .select((
                inbox_conversations::contact_identity_id,
                inbox_conversations::channel,
                inbox_conversations::thread_key,
                inbox_conversations::merged_into_id,
            ))
            .first(conn)
            .await
            .optional()?
            .ok_or_else(|| Error::not_found("conversation", id))?;
        let Some(merged_into) = merged_into else {
            break (identity, channel, thread_key);
        };
        id = merged_into;
    };
    if id != archived && is_going_on(conn, id).await? {
        return Ok(id);
    }
    // Who begins a conversation with the same person takes turns with us.
    contact_identities::table
        .find(identity)
        .select(contact_identities::id)
        .for_no_key_update()
        .first::<ContactIdentityId>(conn)
        .await?;
    if let Some(open) = find_open(conn, identity, &thread_key).await? {
        return Ok(open);
    }
    let metadata = Value::Object(serde_json::Map::new());
    let beginning = Beginning {
        thread_key: &thread_key,
        previous: Some(id),
        ..Beginning::new(identity, channel, &metadata)
    };
    let begun = begin(conn, beginning).await?;
    begun.ok_or(Error::Aborted(Conflict::Transaction))
}

async fn is_going_on(conn: &mut TenantConn, id: ConversationId) -> Result<bool, Error> {
    let going_on = inbox_conversations::table
        .find(id)
        .filter(inbox_conversations::archived_at.is_null())
        .filter(inbox_conversations::deleted_at.is_null())
        .select(inbox_conversations::id);
    let found: Option<ConversationId> = going_on.first(conn).await.optional()?;
    Ok(found.is_some())
}
