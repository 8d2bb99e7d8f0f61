//! Messages: how they enter a conversation, how far they have come.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Bool, Double, Integer, Jsonb, Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attachment::{Attachments, MOST_OF_A_MESSAGE};
use super::attachment_owner;
use super::change::{log_changes, moved};
use super::conversation::{Status, is_replaced};
use super::message_status::MessageStatus;
use super::opening;
use super::reaction::Reactions;
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::etag::etag;
use crate::event::log::append_events;
use crate::ids::{AttachmentId, ConversationId, MessageId};
use crate::quick_reply::{self, Filling};
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{inbox_conversations, inbox_messages};
use crate::search;
use crate::search::index::index_messages;
use crate::stored_enum::stored_enum;
use crate::tenant::{TenantConn, TenantScope};

stored_enum! {
    /// Which way a message goes.
    Direction {
        /// From the customer.
        Inbound = "inbound",
        /// To the customer.
        Outbound = "outbound",
        /// Among the agents.
        Internal = "internal",
    }
}

stored_enum! {
    /// What a message is.
    MessageType {
        /// Text.
        Text = "text",
        /// A picture.
        Image = "image",
        /// A file.
        Document = "document",
        /// Sound.
        Audio = "audio",
        /// A film.
        Video = "video",
        /// A place.
        Location = "location",
    }
}

impl MessageType {
    /// How the content types of the files begin that it can have; empty where any will do.
    pub fn content_types(self) -> &'static str {
        match self {
            Self::Text | Self::Document | Self::Location => "",
            Self::Image => "image/",
            Self::Audio => "audio/",
            Self::Video => "video/",
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = inbox_messages, check_for_backend(Pg))]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The conversation that it belongs to.
    pub conversation_id: ConversationId,
    /// Its place in the conversation.
    pub sequence: i64,
    /// Which way it goes.
    pub direction: Direction,
    /// What it is.
    #[diesel(column_name = type_)]
    #[serde(rename = "type")]
    pub message_type: MessageType,
    /// The text.
    pub text: String,
    /// Degrees north, of a place.
    pub latitude: Option<f64>,
    /// Degrees east, of a place.
    pub longitude: Option<f64>,
    /// What the place is called.
    pub location_name: Option<String>,
    /// The place's address.
    pub location_address: Option<String>,
    /// How far it has come, of an outbound one.
    pub status: Option<MessageStatus>,
    /// The provider's code for a failure.
    pub failure_code: Option<String>,
    /// The provider's words for a failure.
    pub failure_message: Option<String>,
    /// The message that it answers.
    pub reply_to_message_id: Option<MessageId>,
    /// What the provider calls the message that it answers.
    #[serde(default)]
    pub reply_to_provider_id: Option<String>,
    /// The kind of who wrote it.
    pub actor_kind: String,
    /// Who wrote it.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// Free data.
    pub metadata: Value,
    /// Goes up with every change.
    pub version: i64,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When the provider took it.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it reached the customer.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When the customer saw it.
    pub read_at: Option<DateTime<Utc>>,
    /// When it failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// When the provider says that it was written.
    pub provider_at: Option<DateTime<Utc>>,
    /// Its files.
    #[serde(default)]
    pub attachments: Option<Attachments>,
    /// How often its text was changed.
    #[serde(default)]
    pub edits: i32,
    /// When that was last.
    #[serde(default)]
    pub edited_at: Option<DateTime<Utc>>,
    /// When it was deleted.
    #[serde(default)]
    pub deleted_at: Option<DateTime<Utc>>,
    /// Whether it is history from elsewhere.
    #[serde(default)]
    pub imported: bool,
    /// What people think of it.
    #[serde(default)]
    pub reactions: Reactions,
}

impl Message {
    /// The etag that stands for what a caller may edit of it.
    pub fn etag(&self) -> String {
        etag(i64::from(self.edits) + 1)
    }
}

/// The columns of a row as SQL types, in the order of `message_columns`.
pub(super) type MessageRow = <<Message as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of a `Message`, in the order of its fields, of the table `m`.
macro_rules! message_columns {
    () => {
        "m.id, m.conversation_id, m.sequence, m.direction, m.type, m.text, m.latitude, m.longitude,
            m.location_name, m.location_address, m.status, m.failure_code, m.failure_message,
            m.reply_to_message_id, m.reply_to_provider_id, m.actor_kind, m.actor_id, m.caller,
            m.metadata, m.version, m.created_at, m.updated_at, m.sent_at, m.delivered_at,
            m.read_at, m.failed_at, m.provider_at, m.attachments, m.edits, m.edited_at,
            m.deleted_at, m.imported, m.reactions"
    };
}

pub(super) use message_columns;

/// A place.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// What it is called.
    pub name: String,
    /// Its address.
    pub address: String,
}

/// A message to add.
#[derive(Debug)]
pub struct NewMessage {
    /// Its id.
    pub id: MessageId,
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Which way it goes.
    pub direction: Direction,
    /// What it is.
    pub message_type: MessageType,
    /// The text.
    pub text: String,
    /// The place.
    pub location: Option<Location>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// Free data.
    pub metadata: Value,
    /// What to fill in for the text.
    pub quick_reply: Option<Filling>,
    /// Its files.
    pub attachments: Vec<AttachmentId>,
}

/// Whether the conversation `c` goes on with a customer's message: it is not archived, or its
/// account's policy opens it again.
macro_rules! may_go_on {
    () => {
        "(c.archived_at IS NULL OR c.merged_into_id IS NULL AND (
                SELECT CASE a.reopen_policy
                    WHEN 'always' THEN true
                    WHEN 'within' THEN c.archived_at + make_interval(days => a.reopen_days) > directory.now()
                    ELSE false END
                FROM contact_identities i JOIN channel_accounts a ON a.id = i.channel_account_id
                WHERE i.id = c.contact_identity_id
            ))"
    };
}

pub(super) use may_go_on;

/// The text of `Create`, whose parts about files are left out where there are none: they cost a
/// tenth of the whole.
macro_rules! create {
    ($files:expr, $files_fit:expr, $attachments:expr, $attached:expr) => {
        concat!("
        , head AS (
            SELECT c.*, ", may_go_on!(), " AS may_go_on
            FROM inbox_conversations c, input
            WHERE c.id = input.conversation_id AND c.deleted_at IS NULL
            FOR NO KEY UPDATE OF c
        ", $files, "), checked AS (
            SELECT head.id, head.status, head.last_sequence, head.updated_at, head.may_go_on,
                ", $files_fit, " AS files_fit,
                input.reply_to IS NULL OR EXISTS (
                    -- In any conversation of the same person on the same account.
                    SELECT FROM inbox_messages m
                    JOIN inbox_conversations v ON v.id = m.conversation_id
                    JOIN contact_identities i ON i.id = v.contact_identity_id
                    JOIN contact_identities own ON own.id = head.contact_identity_id
                    WHERE m.id = input.reply_to AND m.deleted_at IS NULL
                        AND i.contact_id = own.contact_id
                        AND i.channel_account_id = own.channel_account_id
                ) AS reply_found
            FROM head, input
        ), new AS (
            SELECT input.id, checked.id AS conversation_id, checked.last_sequence + 1 AS sequence,
                input.direction, input.type_ AS type, input.text, input.latitude, input.longitude,
                input.location_name, input.location_address,
                CASE input.direction WHEN 'outbound' THEN 'queued' END AS status,
                NULL::text AS failure_code, NULL::text AS failure_message,
                input.reply_to AS reply_to_message_id, NULL::text AS reply_to_provider_id, input.actor_kind, input.actor_id,
                input.caller, input.metadata, 1::bigint AS version, 
                -- Who waited for the row began earlier than what came before.
                greatest(directory.now(), checked.updated_at) AS created_at,
                greatest(directory.now(), checked.updated_at) AS updated_at, NULL::timestamptz AS sent_at,
                NULL::timestamptz AS delivered_at, NULL::timestamptz AS read_at,
                NULL::timestamptz AS failed_at, NULL::timestamptz AS provider_at,
                ", $attachments, " AS attachments,
                0 AS edits, NULL::timestamptz AS edited_at, NULL::timestamptz AS deleted_at,
                false AS imported, '[]'::jsonb AS reactions
            FROM checked, input
            WHERE checked.reply_found AND checked.files_fit
                AND CASE input.direction
                    WHEN 'outbound' THEN checked.status <> 'archived'
                    WHEN 'inbound' THEN checked.may_go_on
                    ELSE true END
        ), claimed AS (
            INSERT INTO requests (caller, method, request_id, request_hash, response, created_at)
            SELECT input.caller, input.method, input.request_id, input.request_hash, to_jsonb(new),
                new.created_at
            FROM new, input WHERE input.request_id IS NOT NULL
            ON CONFLICT DO NOTHING
            RETURNING request_id
        ), m AS (
            SELECT new.* FROM new, input
            WHERE input.request_id IS NULL OR EXISTS (SELECT FROM claimed)
        ), bumped AS (
            UPDATE inbox_conversations c
            SET last_sequence = m.sequence, last_message_at = m.created_at,
                updated_at = m.created_at, version = c.version + 1,
                status = CASE
                    WHEN m.direction = 'inbound' AND c.status IN ('replied', 'archived') THEN 'open'
                    WHEN m.direction = 'outbound' AND c.status IN ('new', 'open') THEN 'replied'
                    ELSE c.status END,
                archived_at = CASE WHEN m.direction <> 'inbound' THEN c.archived_at END,
                snoozed_until = CASE WHEN m.direction <> 'inbound' THEN c.snoozed_until END,
                last_inbound_sequence = CASE m.direction WHEN 'inbound' THEN m.sequence
                    ELSE c.last_inbound_sequence END,
                waiting_since = CASE
                    WHEN m.direction = 'inbound' THEN coalesce(c.waiting_since, m.created_at)
                    WHEN m.direction = 'outbound' AND m.actor_kind = 'user' THEN NULL
                    ELSE c.waiting_since END,
                first_replied_at = CASE
                    WHEN m.direction = 'inbound' AND c.archived_at IS NOT NULL THEN NULL
                    WHEN m.direction = 'outbound' AND m.actor_kind = 'user' AND c.waiting_since IS NOT NULL
                        THEN coalesce(c.first_replied_at, m.created_at)
                    ELSE c.first_replied_at END,
                episode = c.episode + (m.direction = 'inbound' AND c.archived_at IS NOT NULL)::integer,
                episode_started_at = CASE WHEN m.direction = 'inbound' AND c.archived_at IS NOT NULL
                    THEN m.created_at ELSE c.episode_started_at END
            FROM m WHERE c.id = m.conversation_id
            RETURNING c.*
        ), inserted AS (
            INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text,
                latitude, longitude, location_name, location_address, status, reply_to_message_id,
                actor_kind, actor_id, caller, correlation_id, metadata, attachments, version,
                created_at, updated_at)
            SELECT m.id, m.conversation_id, m.sequence, m.direction, m.type, m.text, m.latitude,
                m.longitude, m.location_name, m.location_address, m.status, m.reply_to_message_id,
                m.actor_kind, m.actor_id, m.caller, input.correlation_id, m.metadata, m.attachments,
                m.version, m.created_at, m.updated_at
            FROM m, bumped, input
            RETURNING id, conversation_id, direction, type, actor_kind, actor_id, created_at
        ), indexable AS (
            SELECT inserted.*, input.words FROM inserted, input
        )", $attached, index_messages!("nextval('inbox_message_words_number_seq')", "NOTHING"), moved!("'message'", "CASE WHEN b.archived_at IS NULL AND h.archived_at IS NOT NULL THEN 'reopen' ELSE 'message' END",
            "b.last_sequence", "CASE WHEN b.waiting_since IS NULL THEN h.waiting_since END", ""), "
        , changes AS (
            SELECT 'message.created' AS kind, 'message' AS resource_kind, m.id AS resource_id,
                m.conversation_id AS parent_id, m.sequence, m.version, '{}'::text[] AS changed
            FROM bumped, m
            UNION ALL
            SELECT 'conversation.updated', 'conversation', moved.id, NULL, NULL, moved.version,
                moved.changed
            FROM moved
        )", append_events!(), log_changes!(), "
        SELECT checked.status, checked.reply_found, checked.may_go_on, checked.files_fit, ", message_columns!(), "
        FROM checked LEFT JOIN m ON true")
    };
}

statement! {
    // One round trip. The conversation's row lock orders its messages; the request id is claimed
    // under it with the answer in hand, so that a repeated request finds the answer; nothing is
    // written unless the claim holds. Its files are locked after the conversation, and all of them
    // have to be there and free. No head = no such conversation; a head without a message =
    // refused, or a repeated request.
    /// Adds a message.
    Create<'a, FILES> -> (Text, Bool, Bool, Bool, Nullable<MessageRow>) {
        id: MessageId => sql_types::Uuid,
        conversation_id: ConversationId => sql_types::Uuid,
        direction: Direction => Text,
        type_: MessageType => Text,
        text: &'a str => Text,
        words: &'a str => Text,
        latitude: Option<f64> => Nullable<Double>,
        longitude: Option<f64> => Nullable<Double>,
        location_name: Option<&'a str> => Nullable<Text>,
        location_address: Option<&'a str> => Nullable<Text>,
        reply_to: Option<MessageId> => Nullable<sql_types::Uuid>,
        metadata: &'a Value => Jsonb,
        attachment_ids: &'a [AttachmentId] => Array<sql_types::Uuid>,
        content_types: &'static str => Text,
        request_id: Option<&'a str> => Nullable<Text>,
        request_hash: Option<&'a [u8]> => Nullable<sql_types::Bytea>,
        method: &'a str => Text,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    create!("), files AS (
            SELECT a.id, asked.place,
                a.message_id IS NULL AND a.quick_reply_id IS NULL AND starts_with(a.content_type, input.content_types) AS fits,
                jsonb_build_object('id', a.id, 'message_id', input.id, 'file_name', a.file_name,
                    'content_type', a.content_type, 'size_bytes', a.size_bytes,
                    'sha256', a.sha256, 'created_at', a.created_at) AS attachment
            FROM head CROSS JOIN input
            CROSS JOIN unnest(input.attachment_ids) WITH ORDINALITY AS asked (id, place)
            JOIN attachments a ON a.id = asked.id AND a.state = 'ready' AND NOT a.of_chat
            FOR NO KEY UPDATE OF a
        ", "(SELECT count(*) FROM files WHERE fits) = cardinality(input.attachment_ids)",
        "(SELECT jsonb_agg(files.attachment ORDER BY files.place) FROM files)",
        ", attached AS (
            UPDATE attachments a SET message_id = m.id FROM m, files WHERE a.id = files.id
        )"),
    create!("", "true", "NULL::jsonb", "")
}

/// Adds a message to a conversation. A customer's message on an archived one that does not go on is
/// added to its successor.
///
/// # Errors
/// There is no such conversation, message to reply to or file, a file is of another message or
/// kind, or the message is outbound and the conversation archived; or its quick reply cannot be
/// filled in.
pub async fn create(conn: &mut TenantConn, mut new: NewMessage) -> Result<Message, Error> {
    match new.quick_reply.take() {
        None => add(conn, new).await,
        Some(filling) => add_filled(conn, new, &filling).await,
    }
}

/// Adds copies of the files that a message's quick reply has, as they are when the call begins.
///
/// # Errors
/// They are too many, or cannot be copied.
pub async fn with_files(scope: &TenantScope, mut new: NewMessage) -> Result<NewMessage, Error> {
    let Some(filling) = &new.quick_reply else {
        return Ok(new);
    };
    let mut conn = scope.conn().await?;
    // What was answered before needs none.
    if let Some(request) = &new.request_id
        && request_id::answer::<IgnoredAny>(&mut conn, request)
            .await?
            .is_some()
    {
        return Ok(new);
    }
    let found = quick_reply::find(&mut conn, filling.quick_reply_id).await?;
    drop(conn);
    let found = found.filter(|found| found.deleted_at.is_none());
    let files = found.map_or_else(Vec::new, |found| found.attachments.0);
    if files.is_empty() {
        return Ok(new);
    }
    if new.message_type == MessageType::Location {
        let problem = "has files, which a message of type `location` cannot have";
        return Err(Error::invalid("quick_reply_id", problem));
    }
    if files.len() + new.attachments.len() > MOST_OF_A_MESSAGE {
        let problem = format!(
            "must have at most {MOST_OF_A_MESSAGE} values with the {} of the quick reply",
            files.len()
        );
        return Err(Error::invalid("attachment_ids", problem));
    }
    new.attachments
        .extend(attachment_owner::copy(scope, &files).await?);
    Ok(new)
}

/// Fills a quick reply in, adds it as a message and counts the use: all or nothing.
async fn add_filled(
    conn: &mut TenantConn,
    mut new: NewMessage,
    filling: &Filling,
) -> Result<Message, Error> {
    conn.transaction(async |conn| {
        // Locked before the conversation is, and before the log. Who sends the same request at the
        // same time waits here, and finds the answer.
        let quick_reply = quick_reply::lock(conn, filling.quick_reply_id).await?;
        if let Some(request) = &new.request_id
            && let Some(answer) = request_id::answer(conn, request).await?
        {
            return Ok(answer);
        }
        let conversation = Some(new.conversation_id);
        let filled = quick_reply::fill(conn, quick_reply, filling, conversation).await?;
        new.text = filled.sendable()?.to_owned();
        let message = add(conn, new).await?;
        quick_reply::count_sent(conn, &filled, message.id).await?;
        Ok(message)
    })
    .await
}

async fn add(conn: &mut TenantConn, mut new: NewMessage) -> Result<Message, Error> {
    if let Some(message) = create_in(conn, &new).await? {
        return Ok(message);
    }
    conn.transaction(async |conn| {
        new.conversation_id = opening::successor(conn, new.conversation_id).await?;
        let message = create_in(conn, &new).await?;
        message.ok_or(Error::Aborted(Conflict::Transaction))
    })
    .await
}

/// Adds a message to a conversation that was just found to be open, in the open transaction.
///
/// # Errors
/// As `create`, and where it was archived meanwhile.
pub async fn create_at_once(conn: &mut TenantConn, new: &NewMessage) -> Result<Message, Error> {
    let message = create_in(conn, new).await?;
    message.ok_or(Error::Aborted(Conflict::Transaction))
}

/// Adds a message to the conversation that it names; `None` if that one does not go on.
async fn create_in(conn: &mut TenantConn, new: &NewMessage) -> Result<Option<Message>, Error> {
    if new.attachments.is_empty() {
        create_with::<false>(conn, new).await
    } else {
        create_with::<true>(conn, new).await
    }
}

async fn create_with<const FILES: bool>(
    conn: &mut TenantConn,
    new: &NewMessage,
) -> Result<Option<Message>, Error> {
    type Row = (Status, bool, bool, bool, Option<Message>);
    let facts = conn.facts().clone();
    let location = new.location.as_ref();
    let request = new.request_id.as_ref();
    let statement = Create::<FILES> {
        id: new.id,
        conversation_id: new.conversation_id,
        direction: new.direction,
        type_: new.message_type,
        text: &new.text,
        words: &search::vector(&new.text),
        latitude: location.map(|location| location.latitude),
        longitude: location.map(|location| location.longitude),
        location_name: location.map(|location| location.name.as_str()),
        location_address: location.map(|location| location.address.as_str()),
        reply_to: new.reply_to,
        metadata: &new.metadata,
        attachment_ids: &new.attachments,
        content_types: new.message_type.content_types(),
        request_id: request.map(|request| request.id.as_str()),
        request_hash: request.map(|request| request.hash.as_slice()),
        method: request.map_or("", |request| request.method),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let created: QueryResult<Option<Row>> = statement.get_result(conn).await.optional();
    let id = new.conversation_id;
    let archived = || Error::FailedPrecondition(Precondition::ConversationArchived(id.to_string()));
    let (status, reply_found, may_go_on, files_fit, message) = match created {
        Ok(Some(created)) => created,
        Ok(None) => return Err(Error::not_found("conversation", id)),
        // Another conversation of the same person has taken the archived one's place.
        Err(error) if is_replaced(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if message.is_some() {
        return Ok(message);
    }
    // A repeated request comes first: its answer does not depend on what has happened since.
    if let Some(request) = request
        && let Some(answer) = request_id::answer(conn, request).await?
    {
        return Ok(Some(answer));
    }
    match (reply_found, new.reply_to) {
        (false, Some(reply_to)) => Err(Error::not_found("message", reply_to)),
        _ if new.direction == Direction::Inbound && !may_go_on => Ok(None),
        _ if new.direction == Direction::Outbound && status == Status::Archived => Err(archived()),
        _ if !files_fit => {
            attachment_owner::refuse(conn, &new.attachments, new.message_type).await?;
            Err(Error::Aborted(Conflict::Transaction))
        }
        _ => Err(Error::internal("a message was neither stored nor refused")),
    }
}

/// Finds a message; what is left of it where it was deleted.
pub async fn find(conn: &mut TenantConn, id: MessageId) -> Result<Option<Message>, Error> {
    let message = inbox_messages::table
        .inner_join(inbox_conversations::table)
        .filter(inbox_messages::id.eq(id))
        .filter(inbox_conversations::deleted_at.is_null())
        .select(Message::as_select());
    Ok(message.first(conn).await.optional()?)
}

/// Refuses the id of a message that there is not; what is left of a deleted one will do.
///
/// # Errors
/// There is no such message.
pub async fn check_known(conn: &mut TenantConn, id: MessageId) -> Result<(), Error> {
    let message = inbox_messages::table
        .inner_join(inbox_conversations::table)
        .filter(inbox_messages::id.eq(id))
        .filter(inbox_conversations::deleted_at.is_null())
        .select(inbox_messages::id);
    let found: Option<MessageId> = message.first(conn).await.optional()?;
    found
        .map(drop)
        .ok_or_else(|| Error::not_found("message", id))
}
