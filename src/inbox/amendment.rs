//! What providers tell of messages that were edited or withdrawn where they were written: applied
//! once, in the order of the edits, and also if it comes before the message.
//!
//! A message and what amends or answers it may be recorded at the same time. What amends it is
//! committed, and then looks for the message; the message looks for what awaits it before it is
//! committed. `directory.awaiting` makes the two take turns, so one of them finds the other.

use std::marker::PhantomData;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{self, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::FutureExt as _;

use super::call;
use super::contact_identity;
use super::deletion::{self, Deletion};
use super::inbound::{Effect, Origin};
use super::reaction::{self, Reaction};
use super::reply;
use super::revision::{self, Edit};
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{ChannelAccountId, DeliveryId, MessageId};
use crate::schema::tenant::message_amendments;
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// What was done to a message.
    AmendmentKind {
        /// It says something else.
        Edit = "edit",
        /// It was called back.
        Withdrawal = "withdrawal",
        /// The customer reacted to it.
        Reaction = "reaction",
        /// Something happened to it, which is a call.
        Call = "call",
    }
}

/// That a message was edited or withdrawn.
#[derive(Debug, PartialEq, Eq)]
pub struct Amendment {
    /// What the provider calls the message.
    pub provider_id: String,
    /// What was done to it.
    pub kind: AmendmentKind,
    /// Tells this edit apart from others of the message.
    pub occurrence: String,
    /// The order of the edits of a message: their numbers or times. Of reactions, milliseconds since
    /// 1970.
    pub place: i64,
    /// What it says from now on, or nothing; of a reaction, the emoji; of a
    /// call, what happened as a JSON object.
    pub text: String,
    /// By what the provider knows the customer.
    pub identifiers: Vec<String>,
}

impl Amendment {
    /// That a message was called back.
    pub fn withdrawal(provider_id: String, identifiers: Vec<String>) -> Self {
        Self {
            provider_id,
            kind: AmendmentKind::Withdrawal,
            occurrence: String::new(),
            place: 0,
            text: String::new(),
            identifiers,
        }
    }
}

statement! {
    /// Looks at what awaits a message: the message if it is there, amendments, replies.
    Awaiting<'a> -> (Nullable<sql_types::Uuid>, Bool, Bool) {
        account: ChannelAccountId => sql_types::Uuid,
        provider_id: &'a str => Text,
    }
    "
        SELECT w.message_id, w.amended, w.answered
        FROM input, directory.awaiting(input.account, input.provider_id) w"
}

/// Lets an amendment have its effect, if it has not had it before and its message is there.
pub(super) async fn record(
    conn: &mut TenantConn,
    origin: Origin,
    amendment: &Amendment,
) -> Result<Effect, Error> {
    let claimed = diesel::insert_into(message_amendments::table)
        .values((
            message_amendments::channel_account_id.eq(origin.account),
            message_amendments::provider_id.eq(&amendment.provider_id),
            message_amendments::kind.eq(amendment.kind),
            message_amendments::occurrence.eq(&amendment.occurrence),
            message_amendments::place.eq(amendment.place),
            message_amendments::text.eq(&amendment.text),
            message_amendments::identifiers.eq(&amendment.identifiers),
            message_amendments::delivery_id.eq(origin.delivery),
            message_amendments::created_at.eq(sql::<Timestamptz>("directory.now()")),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    // One that was known may have been committed by a process that ended before the next line.
    let is_there = settle(conn, origin.account, &amendment.provider_id).await?;
    Ok(match (claimed, is_there) {
        (0, _) => Effect::Known,
        (_, true) => Effect::Applied,
        (_, false) => Effect::Parked,
    })
}

/// Applies what awaits a message, if the message is there; tells whether it is.
pub(super) async fn settle(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    provider_id: &str,
) -> Result<bool, Error> {
    let awaiting = Awaiting {
        account,
        provider_id,
        life: PhantomData,
    };
    let (message, amended, answered): (Option<MessageId>, bool, bool) =
        awaiting.get_result(conn).await?;
    let Some(message_id) = message else {
        return Ok(false);
    };
    if amended {
        conn.transaction(async |conn| apply(conn, account, provider_id, message_id).await)
            .await?;
    }
    if answered {
        reply::resolve(conn, account, provider_id).await?;
    }
    Ok(true)
}

/// An amendment that waits: its kind, occurrence, place, text, whose it is, and what told of it.
type Waiter = (
    AmendmentKind,
    String,
    i64,
    String,
    Vec<Option<String>>,
    DeliveryId,
);

async fn apply(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    provider_id: &str,
    message_id: MessageId,
) -> Result<(), Error> {
    let waiting = message_amendments::table
        .filter(message_amendments::channel_account_id.eq(account))
        .filter(message_amendments::provider_id.eq(provider_id))
        .filter(message_amendments::applied_at.is_null());
    let found: Vec<Waiter> = waiting
        // Of two in the same second, the one that came first.
        .order((
            message_amendments::place,
            message_amendments::created_at,
            message_amendments::occurrence,
        ))
        .select((
            message_amendments::kind,
            message_amendments::occurrence,
            message_amendments::place,
            message_amendments::text,
            message_amendments::identifiers,
            message_amendments::delivery_id,
        ))
        .for_update()
        .load(conn)
        .await?;
    for (kind, occurrence, place, text, identifiers, delivery) in found {
        let this = message_amendments::table
            .filter(message_amendments::channel_account_id.eq(account))
            .filter(message_amendments::provider_id.eq(provider_id))
            .filter(message_amendments::kind.eq(kind))
            .filter(message_amendments::occurrence.eq(occurrence));
        if is_of_another_chat(conn, account, message_id, &identifiers).await? {
            tracing::warn!(message.id = %message_id, "a stranger's change to a message is refused");
            // It must not stand for one of the message's own chat.
            diesel::delete(this).execute(conn).await?;
            continue;
        }
        diesel::update(this)
            .set((
                message_amendments::applied_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")),
                message_amendments::text.eq(""),
                message_amendments::identifiers.eq(Vec::<String>::new()),
            ))
            .execute(conn)
            .await?;
        let amended = match kind {
            AmendmentKind::Edit => {
                let edit = Edit {
                    message_id,
                    etag: None,
                    text,
                    by_provider: Some(place),
                };
                revision::edit(conn, edit).boxed().await.map(drop)
            }
            AmendmentKind::Withdrawal => {
                let deletion = Deletion {
                    message_id,
                    etag: None,
                    redacts: true,
                };
                deletion::delete_in(conn, deletion).boxed().await.map(drop)
            }
            AmendmentKind::Call => call::amend(conn, (account, delivery), message_id, &text).await,
            AmendmentKind::Reaction => {
                let by: Vec<String> = identifiers.into_iter().flatten().collect();
                let reaction = Reaction {
                    by: contact_identity::first_known(conn, account, by).await?,
                    emoji: text,
                    place,
                };
                reaction::react(conn, message_id, &reaction).await
            }
        };
        match amended {
            // What is deleted stays so.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells whether those who amend a message are known, and it is in no chat of theirs. On personal
/// numbers alone: there whoever sends a message chooses its id, which is unique for the chat only.
async fn is_of_another_chat(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    message_id: MessageId,
    identifiers: &[Option<String>],
) -> Result<bool, Error> {
    if identifiers.is_empty() {
        return Ok(false);
    }
    let is_of_another = diesel::dsl::sql::<Bool>(
        "EXISTS (
            SELECT FROM inbox_messages m
            JOIN inbox_conversations c ON c.id = m.conversation_id AND c.channel = ",
    )
    .bind::<Text, _>(Channel::PersonalWhatsapp)
    .sql(
        " JOIN contact_identities own ON own.id = c.contact_identity_id
            JOIN contact_identities i ON i.channel_account_id = ",
    )
    .bind::<sql_types::Uuid, _>(account)
    .sql(" AND i.value = ANY (")
    .bind::<sql_types::Array<Nullable<Text>>, _>(identifiers)
    .sql(") WHERE m.id = ")
    .bind::<sql_types::Uuid, _>(message_id)
    .sql(" HAVING NOT bool_or(i.contact_id = own.contact_id))");
    Ok(diesel::select(is_of_another).get_result(conn).await?)
}
