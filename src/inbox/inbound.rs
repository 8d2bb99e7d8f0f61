//! What providers tell, in neutral form, and how it enters the inbox: once, however often it is
//! told.

use std::ops::ControlFlow;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use diesel::dsl::{exists, sql};
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};
use futures_util::FutureExt as _;
use serde_json::Value;
use uuid::Uuid;

use super::amendment::{self, Amendment};
use super::media::{self, Announced};
use super::message::{Direction, Location, MessageType};
use super::opening;
use super::receipt::{self, Receipt};
use super::receive::{Added, Goal, Received, receive};
use super::referral::{self, Referral};
use super::thread;
use super::thread_state::{self, ThreadState};
use super::watermark::{self, Watermark};
use super::{contact_identity, upload};
use crate::channel::Channel;
use crate::error::{Conflict, Error};
use crate::ids::{AttachmentId, ChannelAccountId, DeliveryId};
use crate::schema::tenant::{contact_identities, provider_events};
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

impl Inbound {
    /// What the provider calls it, or what it is about; nothing of what is told of a person.
    pub fn provider_id(&self) -> Option<&str> {
        match self {
            Self::Message(message) => Some(&message.provider_id),
            Self::Receipt(receipt) => Some(&receipt.provider_id),
            Self::Amendment(amendment) => Some(&amendment.provider_id),
            Self::NewIdentity(news) => Some(&news.provider_id),
            Self::Referral(referral) => Some(&referral.provider_id),
            Self::ThreadState(state) => Some(&state.provider_id),
            Self::Watermark(_) => None,
        }
    }
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
    /// By what the person is known until they write, where what the business writes names nobody.
    pub stand_in: Option<String>,
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

/// Records a message, and lets what has waited for it have its effect.
async fn record_settled(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<Effect, Error> {
    let recorded = record_message(conn, origin, message).await?;
    let (effect, is_awaited, seeks_parent) = match recorded {
        Some(added) => (Effect::Applied, added.is_awaited, !added.has_parent),
        // Whoever recorded it may have ended before the next lines.
        None => (Effect::Known, true, true),
    };
    if is_awaited {
        amendment::settle(conn, origin.account, &message.provider_id).await?;
    }
    if let Some(parent) = &message.reply_to
        && seeks_parent
    {
        // It may have been recorded at the same time.
        amendment::settle(conn, origin.account, parent).await?;
    }
    Ok(effect)
}

/// Records a message; `None` if it is known.
async fn record_message(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<Option<Added>, Error> {
    // On a new connection, to plan what adds a message takes ten times as long as to do it: there it
    // is planned once, in a transaction that says so, and not each time.
    let plans_anew = conn.plans_anew();
    if !plans_anew
        && let ControlFlow::Break(recorded) = record_straight(conn, origin, message).await?
    {
        return Ok(recorded);
    }
    let known = provider_events::table
        .find((origin.account, &message.provider_id, EventKind::Message, ""))
        .select(provider_events::channel_account_id);
    if diesel::select(exists(known)).get_result(conn).await? {
        return Ok(None);
    }
    conn.transaction(async |conn| {
        if plans_anew {
            conn.batch_execute("SET LOCAL plan_cache_mode = force_generic_plan")
                .await?;
            if let ControlFlow::Break(recorded) = record_straight(conn, origin, message).await? {
                return Ok(recorded);
            }
        }
        if message.direction == Direction::Outbound {
            receipt::lock(conn, origin, &message.provider_id).await?;
        }
        let mut was_closed_after = false;
        if let Some(opening) = &message.thread.opening {
            receipt::lock(conn, origin, &message.thread.key).await?;
            if thread::is_told_twice(conn, origin, opening, message).await? {
                return Ok(None);
            }
            was_closed_after = thread_state::was_closed_after(conn, origin, message).await?;
        }
        let place = thread::conversation_of(conn, origin, message).await?;
        let announced = Announced::of(message);
        let leaves_closed = was_closed_after
            || message.thread.opening.is_some() && message.direction != Direction::Inbound;
        let mut goal = Goal {
            conversation: Some(place.id),
            leaves_closed,
            is_strangers: place.is_strangers,
        };
        let mut received = receive(conn, origin, goal, message, &announced).await?;
        if matches!(received, Received::NoPlace) {
            goal.conversation = Some(opening::successor(conn, place.id).await?);
            received = receive(conn, origin, goal, message, &announced).await?;
        }
        let Received::Added(added) = received else {
            // Nobody and nothing may be left of the attempt; the next one sees it.
            return Err(Error::Aborted(Conflict::Transaction));
        };
        if place.is_new && was_closed_after {
            thread_state::set_archived(conn, place.id, true).await?;
        }
        media::announce(conn, origin.into(), &announced).await?;
        upload::attach(conn, origin, message).await?;
        receipt::unpark(conn, origin, &message.provider_id).await?;
        if message.direction == Direction::Outbound {
            watermark::catch_up(conn, origin, &message.provider_id).await?;
        }
        Ok(Some(added))
    })
    .await
}

/// Records a message in the conversation of its person and thread, if it may go there and all of
/// them are known; else there is more to do.
async fn record_straight(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<ControlFlow<Option<Added>>, Error> {
    if !goes_straight(message) {
        return Ok(ControlFlow::Continue(()));
    }
    let announced = Announced::of(message);
    let received = receive(conn, origin, Goal::default(), message, &announced).await?;
    Ok(match received {
        Received::Added(added) => ControlFlow::Break(Some(added)),
        Received::Known => ControlFlow::Break(None),
        Received::NoPlace => ControlFlow::Continue(()),
    })
}

/// Whether a message may go to the conversation of its person and thread without anything else
/// being looked at.
fn goes_straight(message: &InboundMessage) -> bool {
    let thread = &message.thread;
    message.direction == Direction::Inbound
        && thread.after.is_empty()
        && thread.opening.is_none()
        && message.files.is_empty()
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
