//! Which conversation a message belongs to that a provider told of, and with whom that is.

use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use serde_json::Value;

use super::contact_identity;
use super::contact_merge::{self, NewMerge};
use super::inbound::{InboundMessage, Origin};
use super::message::Direction;
use super::opening::{self, Beginning};
use crate::error::{Conflict, Error};
use crate::ids::{ChannelAccountId, ContactId, ContactIdentityId, ConversationId};
use crate::schema::tenant::contact_identities;
use crate::tenant::TenantConn;

/// The conversation that a message belongs to.
pub(super) struct Place {
    /// Which one.
    pub id: ConversationId,
    /// Whether it has begun for this message.
    pub is_new: bool,
    /// Whether somebody writes who has had no part in it.
    pub is_strangers: bool,
}

impl Place {
    fn known(id: ConversationId) -> Self {
        Self {
            id,
            is_new: false,
            is_strangers: false,
        }
    }
}

/// Returns the conversation that a message belongs to: that of its thread, or of what it goes on
/// from; or the one of its person and thread that goes on, or else the last archived one, or else a
/// new one.
pub(super) async fn conversation_of(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<Place, Error> {
    let (person, thread) = (&message.person, &message.thread);
    // Where the provider has threads, it knows best.
    let mut found = opening::find_thread(conn, origin.account, &thread.key).await?;
    if found.is_none() {
        found = conversation_after(conn, origin, &thread.after).await?;
    }
    // What the business writes does not always tell to whom.
    if let (Some(id), Direction::Outbound | Direction::Internal) = (found, message.direction) {
        return Ok(Place::known(id));
    }
    let identity = meet(conn, origin, message, found.is_some()).await?;
    if let Some(id) = found {
        // Where people answer each other, anybody may come to know what to answer.
        let is_strangers =
            !thread.after.is_empty() && !has_part(conn, id, identity, &person.identifiers).await?;
        return Ok(Place {
            is_strangers,
            ..Place::known(id)
        });
    }
    if let Some(id) = opening::find_latest(conn, identity, &thread.key).await? {
        return Ok(Place::known(id));
    }
    let metadata = Value::Object(serde_json::Map::new());
    let beginning = Beginning {
        thread_key: &thread.key,
        subject: &thread.subject,
        ..Beginning::new(identity, origin.channel, &metadata)
    };
    let begun = opening::begin(conn, beginning).await?;
    let id = begun.ok_or(Error::Aborted(Conflict::Transaction))?;
    Ok(Place {
        is_new: true,
        ..Place::known(id)
    })
}

/// Finds or makes the person of a message. If its thread has begun with nobody, that was them.
async fn meet(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
    has_begun: bool,
) -> Result<ContactIdentityId, Error> {
    let (account, person) = ((origin.account, origin.channel), &message.person);
    let stand_in = message.thread.stand_in.as_ref().filter(|_| has_begun);
    let nobody = match stand_in {
        Some(stand_in) => only_known_by(conn, origin.account, stand_in).await?,
        None => None,
    };
    let (Some(nobody), Some(stand_in)) = (nobody, stand_in) else {
        return contact_identity::meet(conn, account, &person.identifiers, &person.name).await;
    };
    let identifiers = [
        person.identifiers.as_slice(),
        std::slice::from_ref(stand_in),
    ]
    .concat();
    let identity = contact_identity::meet(conn, account, &identifiers, &person.name).await?;
    let somebody: ContactId = contact_identities::table
        .find(identity)
        .select(contact_identities::contact_id)
        .first(conn)
        .await?;
    if somebody != nobody {
        // They were known from elsewhere.
        let merge = NewMerge {
            request_id: None,
            source_id: nobody,
            target_id: somebody,
            etag: None,
        };
        contact_merge::merge(conn, merge).boxed().await?;
    }
    Ok(identity)
}

/// The contact that is known by an identifier and by nothing else.
async fn only_known_by(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    identifier: &str,
) -> Result<Option<ContactId>, Error> {
    let others = diesel::alias!(contact_identities as others);
    let known = contact_identities::table
        .filter(contact_identities::channel_account_id.eq(account))
        .filter(contact_identities::value.eq(identifier))
        .filter(not(exists(
            others
                .filter(
                    others
                        .field(contact_identities::contact_id)
                        .eq(contact_identities::contact_id),
                )
                .filter(
                    others
                        .field(contact_identities::id)
                        .ne(contact_identities::id),
                ),
        )))
        .select(contact_identities::contact_id);
    Ok(known.first(conn).await.optional()?)
}

/// Tells whether a person has a part in a conversation: it is theirs, or they wrote in it, or what
/// is in it was for them too.
async fn has_part(
    conn: &mut TenantConn,
    conversation: ConversationId,
    identity: ContactIdentityId,
    addresses: &[String],
) -> Result<bool, Error> {
    let has_part = sql::<Bool>(
        "EXISTS (
            SELECT FROM inbox_conversations c
            JOIN contact_identities own ON own.id = c.contact_identity_id
            JOIN contact_identities i ON i.contact_id = own.contact_id
            WHERE c.id = ",
    )
    .bind::<sql_types::Uuid, _>(conversation)
    .sql(" AND i.id = ")
    .bind::<sql_types::Uuid, _>(identity)
    .sql(
        ") OR EXISTS (
            SELECT FROM inbox_messages m
            CROSS JOIN LATERAL jsonb_array_elements('[]' || coalesce(m.metadata -> 'from', '[]')
                || coalesce(m.metadata -> 'to', '[]') || coalesce(m.metadata -> 'cc', '[]')) p
            WHERE m.conversation_id = ",
    )
    .bind::<sql_types::Uuid, _>(conversation)
    .sql(" AND p ->> 'address' = ANY (")
    .bind::<Array<Text>, _>(addresses)
    .sql("))");
    Ok(diesel::select(has_part).get_result(conn).await?)
}

/// Tells whether a message is the first one of its thread, which is known by its other id already;
/// then it is known by both. The two say the same; of one that says nothing any more, the time of
/// the thread's beginning has to do.
pub(super) async fn is_told_twice(
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
        WHERE known.names = 1 AND known.is_opening = ($3 <> $2)
            AND (m.text = $5 OR m.deleted_at IS NOT NULL
                AND abs(extract(epoch FROM m.provider_at - $7)) < 10)
        ORDER BY coalesce(m.provider_at, m.created_at), m.conversation_id, m.sequence LIMIT 1
        ON CONFLICT DO NOTHING",
    )
    .bind::<sql_types::Uuid, _>(origin.account)
    .bind::<Text, _>(opening)
    .bind::<Text, _>(&message.provider_id)
    .bind::<Text, _>(&message.thread.key)
    .bind::<Text, _>(&message.text)
    .bind::<sql_types::Uuid, _>(origin.delivery)
    .bind::<Nullable<Timestamptz>, _>(message.at)
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
