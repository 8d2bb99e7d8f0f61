//! The erasure of a person: everything that says something of them goes, in steps that can be cut
//! off and begun again; what stays is empty rows that other rows and counts need, and a receipt.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::dsl::{count_star, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::{Map, Value};

use super::change::{log_changes, moved};
use super::contact::{self, log, now};
use super::contact_merge;
use crate::chat;
use crate::database::statement::statement;
use crate::error::Error;
use crate::event::log::append_events;
use crate::ids::{
    AttachmentId, ChannelAccountId, ChannelId, ContactErasureId, ContactId, ContactIdentityId,
    ConversationId, DeliveryId,
};
use crate::schema::tenant::{
    attachments, contact_erasures, contact_identities, contact_words, contacts,
    inbox_conversations, inbox_messages, message_amendments, provider_events, receipt_watermarks,
};
use crate::tenant::{TenantConn, TenantScope};
use crate::webhook::{Erased, Traces, Webhooks};

/// How many messages are emptied in one step.
const MESSAGES: i64 = 500;
/// How many answers are looked at in one step.
const ANSWERS: i64 = 1000;
/// How many deliveries are looked at in one step.
const DELIVERIES: i64 = 100;

/// The receipt for an erasure.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = contact_erasures, check_for_backend(Pg))]
pub struct ContactErasure {
    /// Its id.
    pub id: ContactErasureId,
    /// Who it was.
    pub contact_id: ContactId,
    /// The kind of who erased.
    pub actor_kind: String,
    /// Who erased.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
    /// How many contacts went.
    pub contacts: i64,
    /// How many identities.
    pub identities: i64,
    /// How many conversations.
    pub conversations: i64,
    /// How many messages.
    pub messages: i64,
    /// How many answers to request ids.
    pub answers: i64,
    /// How many deliveries lost what they said of the person.
    pub deliveries: i64,
    /// How many items in quarantine.
    pub quarantined_items: i64,
}

/// Erases a person, or goes on with it where it was cut off.
///
/// # Errors
/// There is no such contact, or it was merged into another.
pub async fn erase(
    scope: &TenantScope,
    webhooks: &Webhooks,
    id: ContactId,
) -> Result<ContactErasure, Error> {
    let erasure = begin(&mut scope.conn().await?, id).await?;
    if erasure.finished_at.is_some() {
        return Ok(erasure);
    }
    let remains = Remains::find(&mut scope.conn().await?, erasure.id, id).await?;
    let person = Traces::new(remains.identifiers.clone());
    for (conversation, last) in &remains.conversations {
        let mut after = 0;
        while after < *last {
            let mut conn = scope.conn().await?;
            let told = empty_messages(&mut conn, *conversation, after).await?;
            // One connection at a time.
            drop(conn);
            let erased = webhooks.erase(&told, &person, true).await?;
            count(scope, erasure.id, &erased).await?;
            after += MESSAGES;
        }
    }
    let mut after = Some(Place::default());
    while let Some(place) = after {
        let mut conn = scope.conn().await?;
        after = empty_answers(&mut conn, erasure.id, &remains, place).await?;
    }
    let mut after = DeliveryId(uuid::Uuid::nil());
    loop {
        let mut conn = scope.conn().await?;
        let told = remains.new_identities(&mut conn, after).await?;
        drop(conn);
        let Some(last) = told.last() else {
            break;
        };
        after = *last;
        let erased = webhooks.erase(&told, &person, false).await?;
        count(scope, erasure.id, &erased).await?;
    }
    let told = remains.amendments(&mut scope.conn().await?).await?;
    let erased = webhooks.erase(&told, &person, true).await?;
    count(scope, erasure.id, &erased).await?;
    remains.forget_amendments(&mut scope.conn().await?).await?;
    let erased = webhooks
        .erase_quarantined(scope.tenant_id(), &person)
        .await?;
    count(scope, erasure.id, &erased).await?;
    finish(&mut scope.conn().await?, erasure.id, &remains).await
}

/// Hides a person and everything of theirs, empties what is small, and keeps the identifiers for
/// the search in what is large.
async fn begin(conn: &mut TenantConn, id: ContactId) -> Result<ContactErasure, Error> {
    if let Some(begun) = find(conn, id).await? {
        return Ok(begun);
    }
    let begun = conn.transaction(async |conn| hide(conn, id).await).await;
    match begun {
        // Somebody else began a moment earlier.
        Err(Error::NotFound { kind, id: missing }) => match find(conn, id).await? {
            Some(begun) => Ok(begun),
            None => Err(Error::NotFound { kind, id: missing }),
        },
        begun => begun,
    }
}

async fn find(conn: &mut TenantConn, id: ContactId) -> Result<Option<ContactErasure>, Error> {
    let begun = contact_erasures::table
        .filter(contact_erasures::contact_id.eq(id))
        .select(ContactErasure::as_select());
    Ok(begun.first(conn).await.optional()?)
}

statement! {
    /// Hides and empties conversations.
    EmptyConversations<'a> -> BigInt {
        identities: &'a [ContactIdentityId] => Array<sql_types::Uuid>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT c.* FROM inbox_conversations c, input
            WHERE c.contact_identity_id = ANY (input.identities) AND c.deleted_at IS NULL
            ORDER BY c.id
            FOR NO KEY UPDATE OF c
        ), bumped AS (
            UPDATE inbox_conversations c
            SET subject = '', metadata = '{}', thread_key = '', labels = '{}', lead_score = NULL,
                lead_notes = NULL, snoozed_until = NULL, waiting_since = NULL,
                assignee_id = NULL, team_id = NULL, assigned_at = NULL,
                deleted_at = directory.now(), updated_at = directory.now(), version = c.version + 1
            FROM head WHERE c.id = head.id
            RETURNING c.*
        ), unworded AS (
            DELETE FROM conversation_words w USING bumped WHERE w.conversation_id = bumped.id
        ), unmarked AS (
            DELETE FROM receipt_watermarks w USING head, contact_identities i
            WHERE i.id = head.contact_identity_id AND head.thread_key <> ''
                AND w.channel_account_id = i.channel_account_id AND w.identifier = head.thread_key
        ), unsent AS (
            DELETE FROM scheduled_messages s USING bumped WHERE s.conversation_id = bumped.id
            RETURNING s.attachment_ids
        ), unneeded AS (
            UPDATE attachments a SET state = 'deleted', file_name = ''
            FROM unsent WHERE a.id = ANY (unsent.attachment_ids) AND a.message_id IS NULL
        )", moved!("'erased'", "''", "NULL::bigint", "NULL::timestamptz", "'erased',"), "
        , changes AS (
            SELECT 'conversation.deleted' AS kind, 'conversation' AS resource_kind,
                bumped.id AS resource_id, NULL::uuid AS parent_id, NULL::bigint AS sequence,
                bumped.version, '{}'::text[] AS changed
            FROM bumped
        )", append_events!(), log_changes!(), "
        SELECT count(*) FROM bumped")
}

async fn hide(conn: &mut TenantConn, id: ContactId) -> Result<ContactErasure, Error> {
    // The identities are locked before the contacts, as by whoever meets a person.
    let identities = |family: &[ContactId]| {
        contact_identities::table
            .filter(contact_identities::contact_id.eq_any(family.to_vec()))
            .order(contact_identities::value)
            .select((contact_identities::id, contact_identities::value))
            .for_no_key_update()
    };
    let _: Vec<(ContactIdentityId, String)> = identities(&[id]).load(conn).await?;
    contact::lock(conn, id).await?.check_unmerged()?;
    let family = contact_merge::family(conn, id).await?;
    let known: Vec<(ContactIdentityId, String)> = identities(&family).load(conn).await?;
    let (known, values): (Vec<_>, Vec<_>) = known.into_iter().unzip();

    let facts = conn.facts().clone();
    let erasure = diesel::insert_into(contact_erasures::table)
        .values((
            contact_erasures::id.eq(ContactErasureId::new()),
            contact_erasures::contact_id.eq(id),
            contact_erasures::identifiers.eq(values.into_iter().map(Some).collect::<Vec<_>>()),
            contact_erasures::actor_kind.eq(facts.actor.kind()),
            contact_erasures::actor_id.eq(facts.actor.id()),
            contact_erasures::caller.eq(&facts.caller.service),
            contact_erasures::created_at.eq(now()),
        ))
        .returning(ContactErasure::as_returning())
        .get_result(conn)
        .await?;
    diesel::delete(contact_words::table)
        .filter(contact_words::contact_id.eq_any(&family))
        .execute(conn)
        .await?;
    // Who writes by the same identifier again is somebody new.
    diesel::update(contact_identities::table)
        .filter(contact_identities::id.eq_any(&known))
        .set((
            contact_identities::value.eq(sql::<Text>("'erased ' || id")),
            contact_identities::kind.eq("other"),
        ))
        .execute(conn)
        .await?;
    let erased: Vec<(ContactId, i64)> = diesel::update(contacts::table)
        .filter(contacts::id.eq_any(&family))
        .set((
            contacts::name.eq(""),
            contacts::name_folded.eq(""),
            contacts::company.eq(""),
            contacts::language.eq(""),
            contacts::notes.eq(""),
            contacts::metadata.eq(Value::Object(Map::new())),
            contacts::version.eq(contacts::version + 1),
            contacts::updated_at.eq(now()),
            contacts::deleted_at.eq(now().nullable()),
        ))
        .returning((contacts::id, contacts::version))
        .get_results(conn)
        .await?;
    let conversations = EmptyConversations {
        identities: &known,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let _: i64 = conversations.get_result(conn).await?;
    let conversations = conversations_of(conn, &known).await?;
    let ids: Vec<_> = conversations.iter().map(|(id, _)| *id).collect();
    chat::erase_about(conn, &ids).await?;
    for (id, version) in erased {
        log(conn, "contact.erased", id, version, Vec::new()).await?;
    }
    Ok(erasure)
}

/// The conversations of some identities, and how many messages each has.
async fn conversations_of(
    conn: &mut TenantConn,
    identities: &[ContactIdentityId],
) -> Result<Vec<(ConversationId, i64)>, Error> {
    let conversations = inbox_conversations::table
        .filter(inbox_conversations::contact_identity_id.eq_any(identities))
        .order(inbox_conversations::id)
        .select((inbox_conversations::id, inbox_conversations::last_sequence));
    Ok(conversations.load(conn).await?)
}

/// What is still to be emptied of a person who is hidden.
struct Remains {
    family: Vec<ContactId>,
    identities: Vec<ContactIdentityId>,
    accounts: Vec<ChannelAccountId>,
    conversations: Vec<(ConversationId, i64)>,
    channels: Vec<ChannelId>,
    attachments: Vec<AttachmentId>,
    identifiers: Vec<String>,
}

impl Remains {
    async fn find(
        conn: &mut TenantConn,
        erasure: ContactErasureId,
        id: ContactId,
    ) -> Result<Self, Error> {
        let family = contact_merge::family(conn, id).await?;
        let identities: Vec<(ContactIdentityId, ChannelAccountId)> = contact_identities::table
            .filter(contact_identities::contact_id.eq_any(&family))
            .select((
                contact_identities::id,
                contact_identities::channel_account_id,
            ))
            .load(conn)
            .await?;
        let (identities, accounts): (Vec<_>, Vec<_>) = identities.into_iter().unzip();
        let conversations = conversations_of(conn, &identities).await?;
        let ids: Vec<_> = conversations.iter().map(|(id, _)| *id).collect();
        let channels = chat::about(conn, &ids).await?;
        let attachments = attachments::table
            .inner_join(inbox_messages::table.inner_join(inbox_conversations::table))
            .filter(inbox_conversations::contact_identity_id.eq_any(&identities))
            .select(attachments::id)
            .load(conn)
            .await?;
        let identifiers: Vec<Option<String>> = contact_erasures::table
            .find(erasure)
            .select(contact_erasures::identifiers)
            .first(conn)
            .await?;
        Ok(Self {
            family,
            identities,
            accounts,
            conversations,
            channels,
            attachments,
            identifiers: identifiers.into_iter().flatten().collect(),
        })
    }

    /// Lists some deliveries that told of a new identifier of anybody, after one of them.
    async fn new_identities(
        &self,
        conn: &mut TenantConn,
        after: DeliveryId,
    ) -> Result<Vec<DeliveryId>, Error> {
        let told = provider_events::table
            .filter(provider_events::kind.eq("new_identity"))
            .filter(provider_events::channel_account_id.eq_any(&self.accounts))
            .filter(provider_events::delivery_id.gt(after))
            .order(provider_events::delivery_id)
            .select(provider_events::delivery_id)
            .distinct()
            .limit(DELIVERIES);
        Ok(told.load(conn).await?)
    }

    /// Lists the deliveries that told of edits of messages which never came.
    async fn amendments(&self, conn: &mut TenantConn) -> Result<Vec<DeliveryId>, Error> {
        let told = message_amendments::table
            .filter(message_amendments::channel_account_id.eq_any(&self.accounts))
            .filter(message_amendments::identifiers.overlaps_with(&self.identifiers))
            .filter(message_amendments::applied_at.is_null())
            .select(message_amendments::delivery_id)
            .distinct();
        Ok(told.load(conn).await?)
    }

    async fn forget_amendments(&self, conn: &mut TenantConn) -> Result<(), Error> {
        diesel::delete(message_amendments::table)
            .filter(message_amendments::channel_account_id.eq_any(&self.accounts))
            .filter(message_amendments::identifiers.overlaps_with(&self.identifiers))
            .filter(message_amendments::applied_at.is_null())
            .execute(conn)
            .await?;
        diesel::delete(receipt_watermarks::table)
            .filter(receipt_watermarks::channel_account_id.eq_any(&self.accounts))
            .filter(receipt_watermarks::identifier.eq_any(&self.identifiers))
            .execute(conn)
            .await?;
        Ok(())
    }
}

statement! {
    // Those that are empty already too: the deliveries behind them may not be.
    /// Empties messages, and tells which deliveries told of them and of what became of them.
    EmptyMessages<'a> -> sql_types::Uuid {
        conversation_id: ConversationId => sql_types::Uuid,
        after: i64 => BigInt,
        up_to: i64 => BigInt,
    }
    "
        , emptied AS (
            UPDATE inbox_messages m
            -- What it was stays, for the counts; what it said goes.
            SET text = '', latitude = 0 * m.latitude, longitude = 0 * m.longitude,
                location_name = NULL, location_address = NULL, reply_to_provider_id = NULL,
                failure_message = NULL, metadata = '{}', attachments = NULL,
                reactions = '[]',
                deleted_at = coalesce(m.deleted_at, directory.now()),
                updated_at = directory.now(), version = m.version + 1
            FROM input
            WHERE m.conversation_id = input.conversation_id
                AND m.sequence > input.after AND m.sequence <= input.up_to
            RETURNING m.id
        ), unneeded AS (
            UPDATE attachments a SET state = 'deleted', file_name = ''
            FROM emptied WHERE a.message_id = emptied.id
        ), unfetched AS (
            UPDATE media_fetches f SET source = '{}' FROM attachments a, emptied
            WHERE a.message_id = emptied.id AND f.attachment_id = a.id
        ), unfindable AS (
            DELETE FROM inbox_message_words w USING emptied WHERE w.message_id = emptied.id
        ), redacted AS (
            UPDATE message_revisions r
            SET text = '', latitude = NULL, longitude = NULL, location_name = NULL,
                location_address = NULL, metadata = NULL,
                redacted_at = coalesce(r.redacted_at, directory.now())
            FROM emptied WHERE r.message_id = emptied.id
        ), unexplained AS (
            UPDATE message_attempts a SET failure_message = NULL
            FROM emptied WHERE a.message_id = emptied.id
        ), named AS (
            SELECT e.channel_account_id, e.provider_id
            FROM emptied JOIN provider_events e ON e.message_id = emptied.id
        ), unnamed AS (
            DELETE FROM message_imports i USING emptied WHERE i.message_id = emptied.id
        )
        SELECT told.delivery_id
        FROM named JOIN provider_events told ON told.channel_account_id = named.channel_account_id
            AND told.provider_id = named.provider_id
        UNION
        SELECT told.delivery_id
        FROM named JOIN message_amendments told ON told.channel_account_id = named.channel_account_id
            AND told.provider_id = named.provider_id"
}

async fn empty_messages(
    conn: &mut TenantConn,
    conversation_id: ConversationId,
    after: i64,
) -> Result<Vec<DeliveryId>, Error> {
    let step = EmptyMessages {
        conversation_id,
        after,
        up_to: after + MESSAGES,
        life: PhantomData,
    };
    Ok(step.load(conn).await?)
}

statement! {
    /// Looks at the answers after one, empties those that tell of somebody, counts them for the
    /// receipt, and tells which answer was the last.
    EmptyAnswers<'a> -> (Text, Text, Text) {
        erasure: ContactErasureId => sql_types::Uuid,
        ids: &'a [String] => Array<Text>,
        after_caller: &'a str => Text,
        after_method: &'a str => Text,
        after_id: &'a str => Text,
        rows: i64 => BigInt,
    }
    "
        , page AS MATERIALIZED (
            SELECT r.caller, r.method, r.request_id, r.response::text AS response
            FROM requests r, input
            WHERE (r.caller, r.method, r.request_id)
                > (input.after_caller, input.after_method, input.after_id)
            ORDER BY r.caller, r.method, r.request_id
            LIMIT (SELECT rows FROM input)
        ), emptied AS (
            UPDATE requests r SET response = 'null', request_hash = ''
            FROM page
            WHERE r.caller = page.caller AND r.method = page.method
                AND r.request_id = page.request_id
                AND EXISTS (
                    SELECT FROM input, unnest(input.ids) AS id WHERE strpos(page.response, id) > 0
                )
            RETURNING 1
        ), counted AS (
            UPDATE contact_erasures e SET answers = e.answers + (SELECT count(*) FROM emptied)
            FROM input WHERE e.id = input.erasure AND EXISTS (SELECT FROM emptied)
        )
        SELECT caller, method, request_id FROM page
        ORDER BY caller DESC, method DESC, request_id DESC LIMIT 1"
}

type Place = (String, String, String);

/// Empties the answers that tell of the person, after a place; returns the next place.
async fn empty_answers(
    conn: &mut TenantConn,
    erasure: ContactErasureId,
    remains: &Remains,
    after: Place,
) -> Result<Option<Place>, Error> {
    let contacts = remains.family.iter().map(ToString::to_string);
    let conversations = remains.conversations.iter().map(|(id, _)| id.to_string());
    let channels = remains.channels.iter().map(ToString::to_string);
    let attachments = remains.attachments.iter().map(ToString::to_string);
    let ids = contacts.chain(conversations).chain(channels);
    let ids: Vec<String> = ids.chain(attachments).collect();
    let step = EmptyAnswers {
        erasure,
        ids: &ids,
        after_caller: &after.0,
        after_method: &after.1,
        after_id: &after.2,
        rows: ANSWERS,
        life: PhantomData,
    };
    Ok(step.get_result(conn).await.optional()?)
}

async fn count(
    scope: &TenantScope,
    erasure: ContactErasureId,
    erased: &Erased,
) -> Result<(), Error> {
    if *erased == Erased::default() {
        return Ok(());
    }
    diesel::update(contact_erasures::table.find(erasure))
        .set((
            contact_erasures::deliveries.eq(contact_erasures::deliveries + erased.deliveries),
            contact_erasures::quarantined_items
                .eq(contact_erasures::quarantined_items + erased.quarantined_items),
        ))
        .execute(&mut scope.conn().await?)
        .await?;
    Ok(())
}

/// Completes the receipt, and forgets what the person was searched by.
async fn finish(
    conn: &mut TenantConn,
    erasure: ContactErasureId,
    remains: &Remains,
) -> Result<ContactErasure, Error> {
    let conversations: Vec<_> = remains.conversations.iter().map(|(id, _)| *id).collect();
    let messages: i64 = inbox_messages::table
        .filter(inbox_messages::conversation_id.eq_any(&conversations))
        .select(count_star())
        .first(conn)
        .await?;
    let number = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    diesel::update(contact_erasures::table.find(erasure))
        .filter(contact_erasures::finished_at.is_null())
        .set((
            contact_erasures::identifiers.eq(Vec::<Option<String>>::new()),
            contact_erasures::finished_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")),
            contact_erasures::contacts.eq(number(remains.family.len())),
            contact_erasures::identities.eq(number(remains.identities.len())),
            contact_erasures::conversations.eq(number(conversations.len())),
            contact_erasures::messages.eq(messages),
        ))
        .execute(conn)
        .await?;
    let receipt = contact_erasures::table
        .find(erasure)
        .select(ContactErasure::as_select());
    Ok(receipt.first(conn).await?)
}
