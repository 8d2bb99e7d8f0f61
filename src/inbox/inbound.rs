//! What providers tell, in neutral form, and how it enters the inbox: once, however often it is
//! told.

use std::marker::PhantomData;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::FutureExt as _;
use serde_json::Value;
use uuid::Uuid;

use super::amendment::{self, Amendment};
use super::change::{log_changes, moved};
use super::media::{self, Announced};
use super::message::{Direction, Location, MessageType, may_go_on};
use super::opening::{self, Beginning};
use super::receipt::{self, Receipt};
use super::referral::{self, Referral};
use super::thread_state::{self, ThreadState};
use super::watermark::{self, Watermark};
use super::{contact_identity, conversation, reply, upload};
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::{Conflict, Error};
use crate::event::log::append_events;
use crate::ids::{AttachmentId, ChannelAccountId, ConversationId, DeliveryId, MessageId};
use crate::schema::tenant::{contact_identities, provider_events};
use crate::search;
use crate::search::index::index_messages;
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

/// How often an item is begun anew when others were in its way.
const TRIES: usize = 5;

stored_enum! {
    /// What kind of thing a provider told.
    EventKind {
        /// A message.
        Message = "message",
        /// How far a message has come.
        Receipt = "receipt",
        /// That a person goes by another identifier.
        NewIdentity = "new_identity",
        /// By which link a person came.
        Referral = "referral",
        /// That a thread was closed or opened again.
        ThreadState = "thread_state",
    }
}

/// One thing that a provider told.
#[derive(Debug, PartialEq)]
pub enum Inbound {
    /// A message.
    Message(Box<InboundMessage>),
    /// How far a message of ours has come.
    Receipt(Receipt),
    /// How far all messages of ours to a person have come.
    Watermark(Watermark),
    /// That a message was edited or withdrawn.
    Amendment(Amendment),
    /// That a person goes by another identifier.
    NewIdentity(NewIdentity),
    /// By which link a person came, who says nothing.
    Referral(Referral),
    /// That a thread was closed or opened again.
    ThreadState(ThreadState),
}

/// A message that came in, or that went out without us.
#[derive(Debug, PartialEq)]
pub struct InboundMessage {
    /// The provider's id.
    pub provider_id: String,
    /// Which way it goes: outbound if the business wrote it elsewhere.
    pub direction: Direction,
    /// What it is.
    pub message_type: MessageType,
    /// The text.
    pub text: String,
    /// The place.
    pub location: Option<Location>,
    /// The customer.
    pub person: Person,
    /// The provider's id of the message that it answers.
    pub reply_to: Option<String>,
    /// When the provider says that it was written.
    pub at: Option<DateTime<Utc>>,
    /// What has no field of its own.
    pub metadata: Value,
    /// Its files, which are still with the provider.
    pub files: Vec<InboundFile>,
    /// Where it belongs, on a channel with threads.
    pub thread: Thread,
    /// Whether a machine wrote it: then it opens nothing again, and nobody waits for an answer.
    pub automatic: bool,
}

/// Which of a person's conversations a message belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// What separates it from others; empty on a channel without threads.
    pub key: String,
    /// What it is about, if it is new.
    pub subject: String,
    /// What the provider calls messages that it goes on from, the best first: if one of them is
    /// known, its conversation is the one.
    pub after: Vec<String>,
    /// What the provider calls the first message, where it tells of that one twice: by this, and by
    /// an id of its own. The two are known by their text.
    pub opening: Option<String>,
}

/// A file of a message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundFile {
    /// What the sender calls it, or empty.
    pub name: String,
    /// What the sender says that it is, or empty.
    pub content_type: String,
    /// By what the HTML of its mail shows it.
    pub content_id: Option<String>,
    /// Where it is.
    pub source: FileSource,
}

impl InboundFile {
    /// A file of a name and a type that the sender tells.
    pub fn new(name: String, content_type: String, source: FileSource) -> Self {
        Self {
            name,
            content_type,
            content_id: None,
            source,
        }
    }
}

/// Where a file is that a provider told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// At an address, which ends some time.
    Url(String),
    /// With the provider, under an id.
    Media(String),
    /// In the delivery itself.
    Inline(Bytes),
    /// With us: the sender has uploaded it.
    Upload(AttachmentId),
}

/// A customer, as a provider knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their identifiers, at least one, the best for people first.
    pub identifiers: Vec<String>,
    /// What they call themselves, or empty.
    pub name: String,
}

/// That a person goes by another identifier.
#[derive(Debug, PartialEq, Eq)]
pub struct NewIdentity {
    /// The provider's id of the news.
    pub provider_id: String,
    /// The identifiers so far, at least one.
    pub known: Vec<String>,
    /// The new ones.
    pub new: Vec<String>,
}

/// Where something came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The channel account.
    pub account: ChannelAccountId,
    /// Its channel.
    pub channel: Channel,
    /// The delivery.
    pub delivery: DeliveryId,
}

impl Origin {
    /// A visitor of the web chat, who calls us: the nil id stands for the delivery that there is not.
    pub fn visitor(account: ChannelAccountId) -> Self {
        Self {
            account,
            channel: Channel::Web,
            delivery: DeliveryId(Uuid::nil()),
        }
    }
}

/// What came of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It was applied.
    Applied,
    /// It was known: nothing changed.
    Known,
    /// It waits for the message that it is about.
    Parked,
}

impl Effect {
    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Known => "known",
            Self::Parked => "parked",
        }
    }
}

/// Lets one thing that a provider told have its effect, if it has not had it before.
///
/// # Errors
/// The database is in the way, for now or for this thing alone.
pub async fn record(
    conn: &mut TenantConn,
    origin: Origin,
    inbound: &Inbound,
) -> Result<Effect, Error> {
    let mut tries = 1;
    loop {
        // Boxed, because the types of futures inside of futures take the compiler minutes.
        let recorded = match inbound {
            Inbound::Message(message) => record_settled(conn, origin, message).boxed(),
            Inbound::Receipt(receipt) => receipt::record(conn, origin, receipt).boxed(),
            Inbound::Watermark(watermark) => watermark::record(conn, origin, watermark).boxed(),
            Inbound::Amendment(amendment) => amendment::record(conn, origin, amendment).boxed(),
            Inbound::Referral(referral) => referral::record(conn, origin, referral).boxed(),
            Inbound::ThreadState(state) => thread_state::record(conn, origin, state).boxed(),
            Inbound::NewIdentity(news) => record_identity(conn, origin, news).boxed(),
        };
        let recorded = recorded.await;
        match recorded {
            // What was in the way is done now, and is seen by the next try.
            Err(Error::Aborted(_)) if tries < TRIES => tries += 1,
            recorded => return recorded,
        }
    }
}

statement! {
    /// Finds where a message belongs: whether it is known, who wrote it, in which conversation.
    Find<'a> -> (Bool, Nullable<Text>, sql_types::BigInt, Nullable<sql_types::Uuid>) {
        account: ChannelAccountId => sql_types::Uuid,
        provider_id: &'a str => Text,
        identifiers: &'a [String] => Array<Text>,
        thread_key: &'a str => Text,
    }
    "
        SELECT EXISTS (
                SELECT FROM provider_events e
                WHERE e.channel_account_id = input.account AND e.provider_id = input.provider_id
                    AND e.kind = 'message'
            ), p.name, coalesce(p.identities, 0), c.id
        FROM input
        LEFT JOIN LATERAL (
            SELECT i.contact_id, ct.name, count(*) OVER () AS identities
            FROM contact_identities i JOIN contacts ct ON ct.id = i.contact_id
            WHERE i.channel_account_id = input.account AND i.value = ANY (input.identifiers)
            ORDER BY array_position(input.identifiers, i.value) LIMIT 1
        ) p ON true
        LEFT JOIN LATERAL (
            SELECT c.id
            FROM contact_identities i JOIN inbox_conversations c ON c.contact_identity_id = i.id
            WHERE i.contact_id = p.contact_id AND i.channel_account_id = input.account
                AND c.thread_key = input.thread_key AND c.deleted_at IS NULL
            ORDER BY c.archived_at IS NOT NULL, c.number DESC LIMIT 1
        ) c ON true"
}

/// Records a message, and lets what has waited for it have its effect.
async fn record_settled(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<Effect, Error> {
    let effect = record_message(conn, origin, message).await?;
    amendment::settle(conn, origin.account, &message.provider_id).await?;
    if let Some(parent) = &message.reply_to {
        // It may have been recorded at the same time.
        reply::resolve(conn, origin.account, parent).await?;
    }
    Ok(effect)
}

async fn record_message(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<Effect, Error> {
    let person = &message.person;
    let find = Find {
        account: origin.account,
        provider_id: &message.provider_id,
        identifiers: &person.identifiers,
        thread_key: &message.thread.key,
        life: PhantomData,
    };
    let found: (bool, Option<String>, i64, Option<ConversationId>) = find.get_result(conn).await?;
    let (known, name, identities, conversation) = found;
    if known {
        return Ok(Effect::Known);
    }
    let is_new = identities < i64::try_from(person.identifiers.len()).unwrap_or(i64::MAX);
    let is_named = person.name.is_empty() || name.is_some_and(|name| !name.is_empty());
    if let Some(conversation) = conversation
        && message.thread.after.is_empty()
        && message.thread.opening.is_none()
        && message.files.is_empty()
        && !is_new
        && is_named
        && message.direction == Direction::Inbound
        && let Some(effect) =
            receive(conn, origin, conversation, message, &Announced::of(message)).await?
    {
        return Ok(effect);
    }
    conn.transaction(async |conn| {
        if message.direction == Direction::Outbound {
            receipt::lock(conn, origin, &message.provider_id).await?;
        }
        if let Some(opening) = &message.thread.opening {
            receipt::lock(conn, origin, opening).await?;
            if is_told_twice(conn, origin, opening, message).await? {
                return Ok(Effect::Known);
            }
        }
        let conversation = conversation_of(conn, origin, message).await?;
        let announced = Announced::of(message);
        let received = match receive(conn, origin, conversation, message, &announced).await? {
            None => {
                let successor = opening::successor(conn, conversation).await?;
                receive(conn, origin, successor, message, &announced).await?
            }
            received => received,
        };
        match received {
            // Nobody and nothing may be left of the attempt; the next one sees it.
            None | Some(Effect::Known) => Err(Error::Aborted(Conflict::Transaction)),
            Some(effect) => {
                media::announce(conn, origin.into(), &announced).await?;
                upload::attach(conn, origin, message).await?;
                receipt::unpark(conn, origin, &message.provider_id).await?;
                if message.direction == Direction::Outbound {
                    watermark::catch_up(conn, origin, &message.provider_id).await?;
                }
                Ok(effect)
            }
        }
    })
    .await
}

/// Returns the conversation that a message belongs to: that of what it goes on from; or the one of
/// its person and thread that goes on, or else the last archived one, or else a new one.
async fn conversation_of(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<ConversationId, Error> {
    let (person, thread) = (&message.person, &message.thread);
    let mut found = conversation_after(conn, origin, &thread.after).await?;
    if found.is_none() {
        found = opening::find_thread(conn, origin.account, &thread.key).await?;
    }
    // What the business writes does not always tell to whom.
    if let (Some(id), Direction::Outbound | Direction::Internal) = (found, message.direction) {
        return Ok(id);
    }
    let account = (origin.account, origin.channel);
    let identity = contact_identity::meet(conn, account, &person.identifiers, &person.name).await?;
    if let Some(id) = found {
        return Ok(id);
    }
    if let Some(id) = opening::find_latest(conn, identity, &thread.key).await? {
        return Ok(id);
    }
    let metadata = Value::Object(serde_json::Map::new());
    let beginning = Beginning {
        thread_key: &thread.key,
        subject: &thread.subject,
        ..Beginning::new(identity, origin.channel, &metadata)
    };
    let begun = opening::begin(conn, beginning).await?;
    begun.ok_or(Error::Aborted(Conflict::Transaction))
}

/// Tells whether a message is the first one of its thread, which is known by its other id already;
/// then it is known by both.
async fn is_told_twice(
    conn: &mut TenantConn,
    origin: Origin,
    opening: &str,
    message: &InboundMessage,
) -> Result<bool, Error> {
    let claimed = diesel::sql_query(
        "INSERT INTO provider_events (channel_account_id, provider_id, kind, occurrence, message_id,
            delivery_id, created_at)
        SELECT $1, $3, 'message', '', m.id, $6, directory.now()
        FROM inbox_messages m
        JOIN inbox_conversations c ON c.id = m.conversation_id AND c.thread_key = $4
        JOIN contact_identities i ON i.id = c.contact_identity_id AND i.channel_account_id = $1
        JOIN LATERAL (
            SELECT count(*) AS names, bool_or(e.provider_id = $2) AS is_opening
            FROM provider_events e WHERE e.message_id = m.id AND e.kind = 'message'
        ) known ON true
        WHERE m.sequence = 1 AND m.text = $5 AND known.names = 1
            AND known.is_opening = ($3 <> $2)
        ORDER BY c.number LIMIT 1
        ON CONFLICT DO NOTHING",
    )
    .bind::<sql_types::Uuid, _>(origin.account)
    .bind::<Text, _>(opening)
    .bind::<Text, _>(&message.provider_id)
    .bind::<Text, _>(&message.thread.key)
    .bind::<Text, _>(&message.text)
    .bind::<sql_types::Uuid, _>(origin.delivery)
    .execute(conn)
    .await?;
    Ok(claimed > 0)
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = sql_types::Uuid)]
    conversation_id: ConversationId,
}

/// Finds the conversation of the first of some messages that is known on the account.
async fn conversation_after(
    conn: &mut TenantConn,
    origin: Origin,
    after: &[String],
) -> Result<Option<ConversationId>, Error> {
    if after.is_empty() {
        return Ok(None);
    }
    let found: Option<Found> = diesel::sql_query(
        "SELECT m.conversation_id
        FROM unnest($2) WITH ORDINALITY AS named (provider_id, place)
        JOIN provider_events e ON e.channel_account_id = $1 AND e.provider_id = named.provider_id
            AND e.kind = 'message' AND e.occurrence = ''
        JOIN inbox_messages m ON m.id = e.message_id
        JOIN inbox_conversations c ON c.id = m.conversation_id AND c.deleted_at IS NULL
        ORDER BY named.place LIMIT 1",
    )
    .bind::<sql_types::Uuid, _>(origin.account)
    .bind::<Array<Text>, _>(after)
    .get_result(conn)
    .await
    .optional()?;
    Ok(found.map(|found| found.conversation_id))
}

statement! {
    // One round trip, in the order of `CreateMessage`: the conversation's row lock, the claim, the
    // rest. No row = no such conversation; the first is false where it is archived and does not go
    // on, the second where the message is known.
    /// Adds a message that a provider told of.
    Receive<'a> -> (Bool, Bool) {
        id: MessageId => sql_types::Uuid,
        conversation_id: ConversationId => sql_types::Uuid,
        account: ChannelAccountId => sql_types::Uuid,
        delivery_id: DeliveryId => sql_types::Uuid,
        provider_id: &'a str => Text,
        direction: Direction => Text,
        type_: MessageType => Text,
        text: &'a str => Text,
        words: &'a str => Text,
        latitude: Option<f64> => Nullable<Double>,
        longitude: Option<f64> => Nullable<Double>,
        location_name: Option<&'a str> => Nullable<Text>,
        location_address: Option<&'a str> => Nullable<Text>,
        reply_to: Option<&'a str> => Nullable<Text>,
        metadata: &'a Value => Jsonb,
        attachments: Option<&'a Value> => Nullable<Jsonb>,
        quiet: bool => Bool,
        provider_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT c.*, ", may_go_on!(), " AS may_go_on
            FROM inbox_conversations c, input
            WHERE c.id = input.conversation_id AND c.deleted_at IS NULL
            FOR NO KEY UPDATE OF c
        ), claimed AS (
            INSERT INTO provider_events (channel_account_id, provider_id, kind, occurrence,
                message_id, delivery_id, created_at)
            SELECT input.account, input.provider_id, 'message', '', input.id, input.delivery_id,
                greatest(directory.now(), head.updated_at)
            FROM head, input WHERE head.may_go_on
            ON CONFLICT DO NOTHING
            RETURNING message_id, created_at
        ), bumped AS (
            UPDATE inbox_conversations c
            SET last_sequence = c.last_sequence + 1, last_message_at = claimed.created_at,
                updated_at = claimed.created_at, version = c.version + 1,
                status = CASE
                    WHEN input.quiet THEN c.status
                    WHEN input.direction = 'inbound' AND c.status IN ('replied', 'archived') THEN 'open'
                    WHEN input.direction = 'outbound' AND c.status IN ('new', 'open', 'archived') THEN 'replied'
                    ELSE c.status END,
                archived_at = CASE WHEN input.quiet THEN c.archived_at END,
                snoozed_until = CASE WHEN input.quiet OR input.direction <> 'inbound' THEN c.snoozed_until END,
                last_inbound_sequence = CASE input.direction WHEN 'inbound' THEN c.last_sequence + 1
                    ELSE c.last_inbound_sequence END,
                waiting_since = CASE WHEN input.quiet THEN c.waiting_since WHEN input.direction = 'inbound'
                    THEN coalesce(c.waiting_since, claimed.created_at) END,
                first_replied_at = CASE
                    WHEN input.quiet THEN c.first_replied_at
                    WHEN c.archived_at IS NOT NULL THEN NULL
                    WHEN input.direction = 'outbound' AND c.waiting_since IS NOT NULL
                        THEN coalesce(c.first_replied_at, claimed.created_at)
                    ELSE c.first_replied_at END,
                episode = c.episode + (c.archived_at IS NOT NULL AND NOT input.quiet)::integer,
                episode_started_at = CASE WHEN c.archived_at IS NOT NULL AND NOT input.quiet THEN claimed.created_at
                    ELSE c.episode_started_at END
            FROM claimed, input WHERE c.id = input.conversation_id
            RETURNING c.*
        ), inserted AS (
            INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text,
                latitude, longitude, location_name, location_address, status, reply_to_message_id,
                reply_to_provider_id, actor_kind, actor_id, caller, correlation_id, metadata,
                attachments, version, created_at, updated_at, sent_at, provider_at)
            SELECT input.id, bumped.id, bumped.last_sequence, input.direction, input.type_,
                input.text, input.latitude, input.longitude, input.location_name,
                input.location_address, CASE input.direction WHEN 'outbound' THEN 'sent' END,
                (
                    SELECT m.id FROM provider_events e
                    JOIN inbox_messages m ON m.id = e.message_id
                    JOIN inbox_conversations v ON v.id = m.conversation_id
                    JOIN contact_identities i ON i.id = v.contact_identity_id
                    JOIN contact_identities own ON own.id = bumped.contact_identity_id
                    WHERE e.channel_account_id = input.account AND e.provider_id = input.reply_to
                        AND e.kind = 'message' AND i.contact_id = own.contact_id
                ),
                input.reply_to, input.actor_kind, input.actor_id, input.caller, input.correlation_id,
                input.metadata, (
                    SELECT jsonb_agg(file || jsonb_build_object('message_id', input.id,
                        'created_at', bumped.updated_at) ORDER BY place)
                    FROM jsonb_array_elements(input.attachments) WITH ORDINALITY AS a (file, place)
                ), 1, bumped.updated_at, bumped.updated_at,
                CASE input.direction WHEN 'outbound' THEN coalesce(input.provider_at, bumped.updated_at) END,
                input.provider_at
            FROM bumped, input
            RETURNING id, conversation_id, direction, type, actor_kind, actor_id, created_at
        ), indexable AS (
            SELECT inserted.*, input.words FROM inserted, input
        )", index_messages!("nextval('inbox_message_words_number_seq')", "NOTHING"), moved!("'message'", "CASE WHEN h.archived_at IS NOT NULL AND b.archived_at IS NULL THEN 'reopen' ELSE 'message' END",
            "b.last_sequence", "CASE WHEN b.waiting_since IS NULL THEN h.waiting_since END", ""), "
        , changes AS (
            SELECT 'message.created' AS kind, 'message' AS resource_kind, input.id AS resource_id,
                bumped.id AS parent_id, bumped.last_sequence AS sequence, 1::bigint AS version,
                '{}'::text[] AS changed
            FROM bumped, input
            UNION ALL
            SELECT 'conversation.updated', 'conversation', moved.id, NULL, NULL, moved.version,
                moved.changed
            FROM moved
        )", append_events!(), log_changes!(), "
        SELECT head.may_go_on, EXISTS (SELECT FROM claimed) FROM head")
}

/// Adds a message to a conversation; `None` if that one does not go on.
async fn receive(
    conn: &mut TenantConn,
    origin: Origin,
    conversation_id: ConversationId,
    message: &InboundMessage,
    announced: &Announced,
) -> Result<Option<Effect>, Error> {
    let facts = conn.facts().clone();
    let location = message.location.as_ref();
    let attachments = announced.described();
    let statement = Receive {
        id: announced.message_id,
        conversation_id,
        account: origin.account,
        delivery_id: origin.delivery,
        provider_id: &message.provider_id,
        direction: message.direction,
        type_: message.message_type,
        text: &message.text,
        words: &search::vector(&message.text),
        latitude: location.map(|location| location.latitude),
        longitude: location.map(|location| location.longitude),
        location_name: location.map(|location| location.name.as_str()),
        location_address: location.map(|location| location.address.as_str()),
        reply_to: message.reply_to.as_deref(),
        metadata: &message.metadata,
        attachments: attachments.as_ref(),
        quiet: message.automatic || message.direction == Direction::Internal,
        provider_at: message.at,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let claimed: QueryResult<Option<(bool, bool)>> = statement.get_result(conn).await.optional();
    match claimed {
        Ok(Some((_, true))) => Ok(Some(Effect::Applied)),
        Ok(Some((true, false))) => Ok(Some(Effect::Known)),
        Ok(Some((false, false))) => Ok(None),
        Ok(None) => Err(Error::Aborted(Conflict::Transaction)),
        Err(error) if conversation::is_replaced(&error) => {
            Err(Error::Aborted(Conflict::Transaction))
        }
        Err(error) => Err(error.into()),
    }
}

async fn record_identity(
    conn: &mut TenantConn,
    origin: Origin,
    news: &NewIdentity,
) -> Result<Effect, Error> {
    conn.transaction(async |conn| {
        let kind = EventKind::NewIdentity;
        if !claim(conn, origin, &news.provider_id, kind, "").await? {
            return Ok(Effect::Known);
        }
        let is_known: i64 = contact_identities::table
            .filter(contact_identities::channel_account_id.eq(origin.account))
            .filter(contact_identities::value.eq_any(&news.known))
            .count()
            .get_result(conn)
            .await?;
        // Of somebody who never wrote there is nothing to keep together.
        if is_known > 0 {
            let identifiers = [news.known.as_slice(), &news.new].concat();
            let account = (origin.account, origin.channel);
            contact_identity::meet(conn, account, &identifiers, "").await?;
        }
        Ok(Effect::Applied)
    })
    .await
}

/// Keeps that a provider told something; tells whether this is the first time.
pub(super) async fn claim(
    conn: &mut TenantConn,
    origin: Origin,
    provider_id: &str,
    kind: EventKind,
    occurrence: &str,
) -> Result<bool, Error> {
    let claimed = diesel::insert_into(provider_events::table)
        .values((
            provider_events::channel_account_id.eq(origin.account),
            provider_events::provider_id.eq(provider_id),
            provider_events::kind.eq(kind),
            provider_events::occurrence.eq(occurrence),
            provider_events::delivery_id.eq(origin.delivery),
            provider_events::created_at.eq(sql::<Timestamptz>("directory.now()")),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(claimed == 1)
}
