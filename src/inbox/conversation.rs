//! Conversations: how they begin, are found, listed and edited.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{self, Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::message::{self, Direction, Message, MessageType, NewMessage};
use super::{channel_account, contact};
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::event::log::{Change, append};
use crate::ids::{ChannelAccountId, ContactId, ContactIdentityId, ConversationId};
use crate::page::PageSize;
use crate::request_id::{self, RequestId};
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
}

/// The columns of a row as SQL types, in the order of `conversation_columns`.
type ConversationRow = <<Conversation as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of a `Conversation`, in the order of its fields, of the table `p`.
macro_rules! conversation_columns {
    () => {
        "p.id, p.number, p.channel, p.channel_account_id, p.contact_id, p.value, p.name,
            p.thread_key, p.status, p.priority, p.subject, p.metadata, p.last_sequence,
            p.last_message_at, p.version, p.edit_version, p.created_at, p.updated_at, p.archived_at"
    };
}

#[diesel::dsl::auto_type]
fn with_contacts() -> _ {
    inbox_conversations::table
        .inner_join(contact_identities::table.inner_join(contacts::table))
        .filter(inbox_conversations::deleted_at.is_null())
}

statement! {
    // The query builder would write the same text anew for each call.
    /// Finds a conversation.
    Find<'a> -> ConversationRow {
        conversation_id: ConversationId => sql_types::Uuid,
    }
    concat!(" SELECT ", conversation_columns!(), "
        FROM input, LATERAL (
            SELECT c.*, i.channel_account_id, i.contact_id, i.value, k.name
            FROM inbox_conversations c
            JOIN contact_identities i ON i.id = c.contact_identity_id
            JOIN contacts k ON k.id = i.contact_id
            WHERE c.id = input.conversation_id AND c.deleted_at IS NULL
        ) p")
}

/// Finds a conversation.
pub async fn find(
    conn: &mut TenantConn,
    id: ConversationId,
) -> Result<Option<Conversation>, Error> {
    let statement = Find {
        conversation_id: id,
        life: PhantomData,
    };
    Ok(statement.get_result(conn).await.optional()?)
}

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
    let identity = contact::meet(conn, account, identifier, &new.contact_name).await?;
    let (id, created) = match find_open(conn, identity, &new.thread_key).await? {
        Some(id) => (id, false),
        None => match begin(conn, new, channel, identity).await? {
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
            request_id: None,
            conversation_id: id,
            direction: Direction::Inbound,
            message_type: MessageType::Text,
            text: new.first_message.clone(),
            location: None,
            reply_to: None,
            metadata: Value::Object(serde_json::Map::new()),
        };
        Some(message::create(conn, first).await?)
    };
    let conversation = find(conn, id)
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

/// Finds the conversation of a person on a channel account without threads: the one that goes on,
/// by whichever identifier, or else the last that was archived.
pub async fn find_latest(
    conn: &mut TenantConn,
    identity: ContactIdentityId,
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
        .filter(inbox_conversations::thread_key.eq(""))
        .filter(inbox_conversations::deleted_at.is_null())
        .order((
            inbox_conversations::archived_at.is_not_null(),
            inbox_conversations::number.desc(),
        ))
        .select(inbox_conversations::id);
    Ok(of_person.first(conn).await.optional()?)
}

/// Makes the conversation of a person, unless there is one that is not archived.
pub async fn begin(
    conn: &mut TenantConn,
    new: &NewConversation,
    channel: Channel,
    identity: ContactIdentityId,
) -> Result<Option<ConversationId>, Error> {
    let now = || sql::<Timestamptz>("directory.now()");
    let inserted = diesel::insert_into(inbox_conversations::table)
        .values((
            inbox_conversations::id.eq(ConversationId::new()),
            inbox_conversations::number
                .eq(sql::<BigInt>("nextval('inbox_conversations_number_seq')")),
            inbox_conversations::contact_identity_id.eq(identity),
            inbox_conversations::channel.eq(channel),
            inbox_conversations::thread_key.eq(&new.thread_key),
            inbox_conversations::status.eq(Status::New),
            inbox_conversations::priority.eq(new.priority),
            inbox_conversations::subject.eq(&new.subject),
            inbox_conversations::metadata.eq(&new.metadata),
            inbox_conversations::last_message_at.eq(now()),
            inbox_conversations::created_at.eq(now()),
            inbox_conversations::updated_at.eq(now()),
        ))
        .on_conflict_do_nothing()
        .returning(inbox_conversations::id)
        .get_result(conn)
        .await;
    let inserted: Option<ConversationId> = inserted.optional()?;
    if let Some(id) = inserted {
        let change = Change {
            kind: "conversation.created",
            resource_kind: "conversation",
            resource_id: id.0,
            version: 1,
            changed: Vec::new(),
        };
        append(conn, change).await?;
    }
    Ok(inserted)
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

/// The order of a list of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one with the newest message first.
    LastMessage,
    /// The newest first.
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// Which conversations to list.
#[derive(Debug)]
pub struct ConversationFilter {
    /// With one of these statuses.
    pub statuses: Vec<Status>,
    /// On one of these channels.
    pub channels: Option<Vec<Channel>>,
    /// Of this channel account.
    pub channel_account_id: Option<ChannelAccountId>,
    /// Of this person.
    pub contact_id: Option<ContactId>,
    /// Changed at this time or later.
    pub updated_since: Option<DateTime<Utc>>,
}

/// Where a page of conversations begins: beyond this one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Position {
    /// Its last message, or its creation.
    pub last_message_at: DateTime<Utc>,
    /// Its number.
    pub number: i64,
    /// Its id.
    pub id: ConversationId,
}

impl Conversation {
    /// Where the page after this conversation begins.
    pub fn position(&self) -> Position {
        Position {
            last_message_at: self.last_message_at,
            number: self.number,
            id: self.id,
        }
    }
}

statement! {
    // One walk down the index for each status, merged: a filter over several statuses would read
    // and sort them all.
    /// Lists conversations by their last message, the newest first.
    ByLastMessage<'a> -> ConversationRow {
        statuses: &'a [Status] => Array<Text>,
        channels: Option<&'a [Channel]> => Nullable<Array<Text>>,
        channel_account_id: Option<ChannelAccountId> => Nullable<sql_types::Uuid>,
        contact_id: Option<ContactId> => Nullable<sql_types::Uuid>,
        updated_since: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_id: Uuid => sql_types::Uuid,
        rows: i64 => BigInt,
    }
    concat!("
    SELECT ", conversation_columns!(), "
    FROM input CROSS JOIN LATERAL unnest(input.statuses) AS wanted (status) CROSS JOIN LATERAL (
        SELECT c.*, i.channel_account_id, i.contact_id, i.value, k.name
        FROM inbox_conversations c
        JOIN contact_identities i ON i.id = c.contact_identity_id
        JOIN contacts k ON k.id = i.contact_id
        WHERE c.status = wanted.status AND c.deleted_at IS NULL
            AND (c.last_message_at, c.id) < (coalesce(input.before_at, 'infinity'), input.before_id)
            AND (input.channels IS NULL OR c.channel = ANY (input.channels))
            AND (input.channel_account_id IS NULL OR i.channel_account_id = input.channel_account_id)
            AND (input.contact_id IS NULL OR i.contact_id = input.contact_id)
            AND (input.updated_since IS NULL OR c.updated_at >= input.updated_since)
        ORDER BY c.last_message_at DESC, c.id DESC
        LIMIT input.rows
    ) p
    ORDER BY p.last_message_at DESC, p.id DESC
    LIMIT (SELECT rows FROM input)")
}

/// Lists conversations beyond a position.
pub async fn list(
    conn: &mut TenantConn,
    filter: &ConversationFilter,
    order: Order,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<Conversation>, Error> {
    if order == Order::LastMessage {
        let statement = ByLastMessage {
            statuses: &filter.statuses,
            channels: filter.channels.as_deref(),
            channel_account_id: filter.channel_account_id,
            contact_id: filter.contact_id,
            updated_since: filter.updated_since,
            before_at: beyond.map(|position| position.last_message_at),
            before_id: beyond.map_or(Uuid::max(), |position| position.id.0),
            rows: size.rows(),
            life: PhantomData,
        };
        return Ok(statement.load(conn).await?);
    }
    let mut query = with_contacts()
        .filter(inbox_conversations::status.eq_any(&filter.statuses))
        .select(Conversation::as_select())
        .limit(size.rows())
        .into_boxed();
    if let Some(channels) = &filter.channels {
        query = query.filter(inbox_conversations::channel.eq_any(channels));
    }
    if let Some(account) = filter.channel_account_id {
        query = query.filter(contact_identities::channel_account_id.eq(account));
    }
    if let Some(contact) = filter.contact_id {
        query = query.filter(contact_identities::contact_id.eq(contact));
    }
    if let Some(since) = filter.updated_since {
        query = query.filter(inbox_conversations::updated_at.ge(since));
    }
    query = if order == Order::OldestFirst {
        let after = beyond.map_or(0, |position| position.number);
        query
            .filter(inbox_conversations::number.gt(after))
            .order(inbox_conversations::number.asc())
    } else {
        let before = beyond.map_or(i64::MAX, |position| position.number);
        query
            .filter(inbox_conversations::number.lt(before))
            .order(inbox_conversations::number.desc())
    };
    Ok(query.load(conn).await?)
}

/// What to change in a conversation.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = inbox_conversations)]
pub struct ConversationPatch {
    /// What it is about.
    pub subject: Option<String>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// Where it stands.
    pub status: Option<Status>,
    /// Free data.
    pub metadata: Option<Value>,
}

impl ConversationPatch {
    /// The names of the fields that change.
    fn changed(&self) -> Vec<&'static str> {
        let fields = [
            ("subject", self.subject.is_some()),
            ("priority", self.priority.is_some()),
            ("status", self.status.is_some()),
            ("metadata", self.metadata.is_some()),
        ];
        fields
            .into_iter()
            .filter(|(_, changes)| *changes)
            .map(|(name, _)| name)
            .collect()
    }
}

/// The etag that stands for an edit version.
pub fn etag(edit_version: i64) -> String {
    format!("\"{edit_version}\"")
}

/// Changes a conversation, if its etag is still the one given.
///
/// # Errors
/// There is no such conversation, its etag is another one, or it is archived and the status is to
/// change.
pub async fn update(
    conn: &mut TenantConn,
    id: ConversationId,
    given: Option<String>,
    patch: ConversationPatch,
) -> Result<Conversation, Error> {
    let not_found = || Error::not_found("conversation", id);
    conn.transaction(async |conn| {
        let (status, edit_version): (Status, i64) = inbox_conversations::table
            .filter(inbox_conversations::id.eq(id))
            .filter(inbox_conversations::deleted_at.is_null())
            .select((
                inbox_conversations::status,
                inbox_conversations::edit_version,
            ))
            .for_no_key_update()
            .first(conn)
            .await
            .optional()?
            .ok_or_else(not_found)?;
        let current = etag(edit_version);
        if let Some(given) = &given
            && *given != current
        {
            return Err(Error::Aborted(Conflict::Etag {
                given: given.clone(),
                current,
            }));
        }
        if patch.status.is_some() && status == Status::Archived {
            let archived = Precondition::ConversationArchived(id.to_string());
            return Err(Error::FailedPrecondition(archived));
        }
        let changed = patch.changed();
        if !changed.is_empty() {
            let version = diesel::update(inbox_conversations::table.find(id))
                .set((
                    &patch,
                    inbox_conversations::version.eq(inbox_conversations::version + 1),
                    inbox_conversations::edit_version.eq(inbox_conversations::edit_version + 1),
                    inbox_conversations::updated_at.eq(sql("directory.now()")),
                ))
                .returning(inbox_conversations::version)
                .get_result(conn)
                .await?;
            let kind = "conversation.updated";
            let change = Change {
                kind,
                resource_kind: "conversation",
                resource_id: id.0,
                version,
                changed,
            };
            append(conn, change).await?;
        }
        find(conn, id).await?.ok_or_else(not_found)
    })
    .await
}
