//! History: messages that were written elsewhere, put behind what the conversations have, and that
//! nothing follows from.
//!
//! A batch takes a few statements: its conversations are locked, what is known is looked up, what is
//! to come of each message is decided here, and one statement stores what is new.

use std::collections::{BTreeSet, HashMap};
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{self, Array, BigInt, Double, Integer, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::message::Message;
use super::message_batch::{Item, Outcome, reply_refused};
use super::message_status::MessageStatus;
use crate::access::Actor;
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Refusal};
use crate::event::log::append_events;
use crate::ids::{ChannelAccountId, ConversationId, MessageId};
use crate::request_id::{self, RequestId};
use crate::schema::tenant::inbox_messages;
use crate::search;
use crate::search::index::index_messages;
use crate::tenant::TenantConn;

/// How often an import is begun anew when others were in its way.
const TRIES: usize = 5;

/// A conversation whose row is locked, as it is to be.
pub(super) struct Head {
    account: ChannelAccountId,
    previous: Option<ConversationId>,
    last_sequence: i64,
    last_message_at: DateTime<Utc>,
    /// Now, but not before anything that it has.
    at: DateTime<Utc>,
    changed: bool,
}

type HeadRow = (
    ConversationId,
    ChannelAccountId,
    Option<ConversationId>,
    i64,
    DateTime<Utc>,
    DateTime<Utc>,
);

statement! {
    /// Locks conversations in the order of their ids.
    Lock<'a> -> (sql_types::Uuid, sql_types::Uuid, Nullable<sql_types::Uuid>, BigInt, Timestamptz, Timestamptz) {
        ids: &'a [ConversationId] => Array<sql_types::Uuid>,
    }
    "
        SELECT c.id, i.channel_account_id, c.previous_conversation_id, c.last_sequence,
            c.last_message_at, greatest(directory.now(), c.updated_at)
        FROM input, inbox_conversations c
        JOIN contact_identities i ON i.id = c.contact_identity_id
        WHERE c.id = ANY (input.ids) AND c.deleted_at IS NULL
        ORDER BY c.id
        FOR NO KEY UPDATE OF c"
}

/// Locks the conversations of some items, as far as there are any.
pub(super) async fn lock<'a>(
    conn: &mut TenantConn,
    items: impl Iterator<Item = &'a Item>,
) -> Result<HashMap<ConversationId, Head>, Error> {
    let ids: BTreeSet<_> = items.map(|item| item.message.conversation_id).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let statement = Lock {
        ids: &ids,
        life: PhantomData,
    };
    let rows: Vec<HeadRow> = statement.load(conn).await?;
    let heads = rows.into_iter().map(
        |(id, account, previous, last_sequence, last_message_at, at)| {
            let head = Head {
                account,
                previous,
                last_sequence,
                last_message_at,
                at,
                changed: false,
            };
            (id, head)
        },
    );
    Ok(heads.collect())
}

/// Puts history behind what the conversations have.
pub(super) async fn import(
    conn: &mut TenantConn,
    request: Option<&RequestId>,
    all_or_nothing: bool,
    items: &[Result<Item, Error>],
) -> Result<Vec<Outcome>, Error> {
    let mut tries = 1;
    loop {
        let imported = conn
            .transaction(async |conn| import_once(conn, request, all_or_nothing, items).await)
            .await;
        match imported {
            // What was in the way is done now, and is seen by the next try.
            Err(Error::Aborted(Conflict::Transaction)) if tries < TRIES => tries += 1,
            imported => return imported,
        }
    }
}

async fn import_once(
    conn: &mut TenantConn,
    request: Option<&RequestId>,
    all_or_nothing: bool,
    items: &[Result<Item, Error>],
) -> Result<Vec<Outcome>, Error> {
    if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
        return Ok(answer);
    }
    let facts = conn.facts().clone();
    let readable = || items.iter().filter_map(|item| item.as_ref().ok());
    let mut plan = Plan {
        heads: lock(conn, readable()).await?,
        ..Plan::default()
    };
    plan.find_known(conn, readable()).await?;
    plan.find_answered(conn, readable()).await?;
    for (place, item) in items.iter().enumerate() {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                plan.fates.push(Fate::Refused(error.refusal()));
                continue;
            }
        };
        let author = match &item.past.author {
            Some(author) => facts.caller.actor(Some(author.clone()))?,
            None => facts.actor.clone(),
        };
        let fate = match plan.place(place, item, author) {
            Err(error) if !all_or_nothing => Fate::Refused(error.refusal()),
            fate => fate?,
        };
        plan.fates.push(fate);
    }
    plan.store(conn).await?;
    let outcomes = plan.outcomes(conn).await?;
    if let Some(request) = request {
        let of = Outcome::messages(&outcomes);
        request_id::keep_words(conn, request, &outcomes, Some(of)).await?;
    }
    Ok(outcomes)
}

/// What is to come of an item.
enum Fate {
    /// It becomes this message.
    New(MessageId),
    /// It is this message.
    Known(MessageId),
    /// Nothing.
    Refused(Refusal),
}

/// A message to store.
struct Row<'a> {
    id: MessageId,
    item: &'a Item,
    sequence: i64,
    reply_to: Option<MessageId>,
    author: Actor,
    account: ChannelAccountId,
    at: DateTime<Utc>,
    words: String,
}

impl Row<'_> {
    /// When it was taken by the provider, or refused, by its state.
    fn ended_at(&self, failed: bool) -> Option<DateTime<Utc>> {
        let has_failed = self.item.past.status? == MessageStatus::Failed;
        (has_failed == failed).then(|| self.item.past.at.unwrap_or(self.at))
    }
}

/// What is to come of a batch of history.
#[derive(Default)]
struct Plan<'a> {
    heads: HashMap<ConversationId, Head>,
    /// The messages that are there, by what they are called where they come from.
    known: HashMap<(ChannelAccountId, String), MessageId>,
    /// Where the messages are that can be answered.
    answerable: HashMap<MessageId, ConversationId>,
    fates: Vec<Fate>,
    rows: Vec<Row<'a>>,
}

statement! {
    /// Finds the messages that were imported before.
    Known<'a> -> (sql_types::Uuid, Text, sql_types::Uuid, sql_types::Uuid) {
        accounts: &'a [ChannelAccountId] => Array<sql_types::Uuid>,
        import_ids: &'a [&'a str] => Array<Text>,
    }
    "
        SELECT i.channel_account_id, i.import_id, m.id, m.conversation_id
        FROM input CROSS JOIN unnest(input.accounts, input.import_ids) AS asked (account, import_id)
        JOIN message_imports i ON i.channel_account_id = asked.account AND i.import_id = asked.import_id
        JOIN inbox_messages m ON m.id = i.message_id"
}

impl<'a> Plan<'a> {
    /// Finds the messages that were imported before.
    async fn find_known(
        &mut self,
        conn: &mut TenantConn,
        items: impl Iterator<Item = &'a Item>,
    ) -> Result<(), Error> {
        let asked = items.filter_map(|item| {
            let head = self.heads.get(&item.message.conversation_id)?;
            Some((head.account, item.past.import_id.as_deref()?))
        });
        let (accounts, import_ids): (Vec<_>, Vec<_>) = asked.unzip();
        if import_ids.is_empty() {
            return Ok(());
        }
        let statement = Known {
            accounts: &accounts,
            import_ids: &import_ids,
            life: PhantomData,
        };
        let rows: Vec<(ChannelAccountId, String, MessageId, ConversationId)> =
            statement.load(conn).await?;
        for (account, import_id, id, conversation) in rows {
            self.known.insert((account, import_id), id);
            self.answerable.insert(id, conversation);
        }
        Ok(())
    }

    /// Finds the messages that are named as answered.
    async fn find_answered(
        &mut self,
        conn: &mut TenantConn,
        items: impl Iterator<Item = &'a Item>,
    ) -> Result<(), Error> {
        let named: Vec<_> = items.filter_map(|item| item.message.reply_to).collect();
        if named.is_empty() {
            return Ok(());
        }
        let found: Vec<(MessageId, ConversationId)> = inbox_messages::table
            .filter(inbox_messages::id.eq_any(named))
            .filter(inbox_messages::deleted_at.is_null())
            .select((inbox_messages::id, inbox_messages::conversation_id))
            .load(conn)
            .await?;
        self.answerable.extend(found);
        Ok(())
    }

    /// Decides what is to come of an item, after those before it.
    fn place(&mut self, place: usize, item: &'a Item, author: Actor) -> Result<Fate, Error> {
        let conversation = item.message.conversation_id;
        let head = self
            .heads
            .get_mut(&conversation)
            .ok_or_else(|| Error::not_found("conversation", conversation))?;
        let import_id = item.past.import_id.as_ref();
        let name = import_id.map(|import_id| (head.account, import_id.clone()));
        if let Some(id) = name.as_ref().and_then(|name| self.known.get(name)) {
            return Ok(Fate::Known(*id));
        }
        let reply_to = match item.reply_to_index {
            None => item.message.reply_to,
            Some(index) => match self.fates.get(index) {
                Some(Fate::New(id) | Fate::Known(id)) => Some(*id),
                Some(Fate::Refused(_)) | None => return Err(reply_refused(place)),
            },
        };
        if let Some(id) = reply_to {
            let found = self.answerable.get(&id);
            if !found.is_some_and(|of| *of == conversation || head.previous == Some(*of)) {
                return Err(Error::not_found("message", id));
            }
        }
        let id = MessageId::new();
        let written_at = item.past.at.map_or(head.at, |at| at.min(head.at));
        head.last_message_at = match head.last_sequence {
            0 => written_at,
            _ => head.last_message_at.max(written_at),
        };
        head.last_sequence += 1;
        head.changed = true;
        self.rows.push(Row {
            id,
            item,
            sequence: head.last_sequence,
            reply_to,
            author,
            account: head.account,
            at: head.at,
            words: search::vector(&item.message.text),
        });
        self.answerable.insert(id, conversation);
        if let Some(name) = name {
            self.known.insert(name, id);
        }
        Ok(Fate::New(id))
    }

    /// Stores what is new: in one statement, whose conversations are locked already, so that it
    /// holds the lock of the log for as short as can be.
    async fn store(&self, conn: &mut TenantConn) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let facts = conn.facts().clone();
        let changed: Vec<_> = self.heads.iter().filter(|(_, head)| head.changed).collect();
        let rows = &self.rows;
        let location = |row: &Row<'a>| row.item.message.location.as_ref();
        let stored = diesel::sql_query(STORE)
            .bind::<Text, _>(facts.actor.kind())
            .bind::<Text, _>(facts.actor.id())
            .bind::<Text, _>(&facts.caller.service)
            .bind::<Text, _>(&*facts.correlation_id)
            .bind::<Integer, _>(conn.tenant_number())
            .bind::<Array<sql_types::Uuid>, _>(column(&changed, |(id, _)| **id))
            .bind::<Array<BigInt>, _>(column(&changed, |(_, head)| head.last_sequence))
            .bind::<Array<Timestamptz>, _>(column(&changed, |(_, head)| head.last_message_at))
            .bind::<Array<Timestamptz>, _>(column(&changed, |(_, head)| head.at))
            .bind::<Array<sql_types::Uuid>, _>(column(rows, |row| row.id))
            .bind::<Array<sql_types::Uuid>, _>(column(rows, |row| row.item.message.conversation_id))
            .bind::<Array<BigInt>, _>(column(rows, |row| row.sequence))
            .bind::<Array<Text>, _>(column(rows, |row| row.item.message.direction))
            .bind::<Array<Text>, _>(column(rows, |row| row.item.message.message_type))
            .bind::<Array<Text>, _>(column(rows, |row| row.item.message.text.as_str()))
            .bind::<Array<Text>, _>(column(rows, |row| row.words.as_str()))
            .bind::<Array<Nullable<Double>>, _>(column(rows, |row| Some(location(row)?.latitude)))
            .bind::<Array<Nullable<Double>>, _>(column(rows, |row| Some(location(row)?.longitude)))
            .bind::<Array<Nullable<Text>>, _>(column(rows, |row| {
                Some(location(row)?.name.as_str())
            }))
            .bind::<Array<Nullable<Text>>, _>(column(rows, |row| {
                Some(location(row)?.address.as_str())
            }))
            .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.item.past.status))
            .bind::<Array<Nullable<sql_types::Uuid>>, _>(column(rows, |row| row.reply_to))
            .bind::<Array<Text>, _>(column(rows, |row| row.author.kind()))
            .bind::<Array<Text>, _>(column(rows, |row| row.author.id()))
            .bind::<Array<Jsonb>, _>(column(rows, |row| &row.item.message.metadata))
            .bind::<Array<Timestamptz>, _>(column(rows, |row| row.at))
            .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |row| row.item.past.at))
            .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |row| row.ended_at(false)))
            .bind::<Array<Nullable<Timestamptz>>, _>(column(rows, |row| row.ended_at(true)))
            .bind::<Array<sql_types::Uuid>, _>(column(rows, |row| row.account))
            .bind::<Array<Nullable<Text>>, _>(column(rows, |row| {
                row.item.past.import_id.as_deref()
            }))
            .execute(conn)
            .await;
        match stored {
            Ok(_) => Ok(()),
            // Imported meanwhile by somebody else, into another conversation of the account.
            Err(error) if is_known(&error) => Err(Error::Aborted(Conflict::Transaction)),
            Err(error) => Err(error.into()),
        }
    }

    /// What came of each item.
    async fn outcomes(self, conn: &mut TenantConn) -> Result<Vec<Outcome>, Error> {
        let ids = self.fates.iter().filter_map(|fate| match fate {
            Fate::New(id) | Fate::Known(id) => Some(*id),
            Fate::Refused(_) => None,
        });
        let ids: BTreeSet<_> = ids.collect();
        let messages: Vec<Message> = inbox_messages::table
            .filter(inbox_messages::id.eq_any(ids))
            .select(Message::as_select())
            .load(conn)
            .await?;
        let messages: HashMap<_, _> = messages.into_iter().map(|it| (it.id, it)).collect();
        let outcome = |fate| {
            let (id, created) = match fate {
                Fate::New(id) => (id, true),
                Fate::Known(id) => (id, false),
                Fate::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
            };
            let message = messages.get(&id).cloned().map(Box::new);
            let message = message.ok_or_else(|| Error::internal("an imported message is gone"))?;
            Ok(Outcome::Message { message, created })
        };
        self.fates.into_iter().map(outcome).collect()
    }
}

fn column<'r, R, T>(rows: &'r [R], of: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// Tells whether a message of that name was imported meanwhile.
fn is_known(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, violation)
            if violation.constraint_name() == Some("message_imports_pkey")
    )
}

/// Stores history. Each of its parts reads from the items alone, in their order, so that nothing is
/// joined with a list that the planner cannot know the length of.
const STORE: &str = concat!(
    "WITH input AS (
        SELECT $1 AS actor_kind, $2 AS actor_id, $3 AS caller, $4 AS correlation_id,
            $5 AS tenant_number
    ), items AS MATERIALIZED (
        SELECT * FROM unnest($10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
            $24, $25, $26, $27, $28, $29, $30, $31) AS i (id, conversation_id, sequence, direction,
            type, text, words, latitude, longitude, location_name, location_address, status,
            reply_to_message_id, actor_kind, actor_id, metadata, created_at, provider_at, sent_at,
            failed_at, channel_account_id, import_id)
    ), bumped AS (
        UPDATE inbox_conversations c
        SET last_sequence = h.last_sequence, last_message_at = h.last_message_at,
            updated_at = h.at, version = c.version + 1
        FROM unnest($6, $7, $8, $9) AS h (id, last_sequence, last_message_at, at)
        WHERE c.id = h.id
    ), inserted AS (
        INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text, latitude,
            longitude, location_name, location_address, status, reply_to_message_id, actor_kind,
            actor_id, caller, correlation_id, metadata, created_at, updated_at, provider_at, sent_at,
            failed_at, imported)
        SELECT i.id, i.conversation_id, i.sequence, i.direction, i.type, i.text, i.latitude,
            i.longitude, i.location_name, i.location_address, i.status, i.reply_to_message_id,
            i.actor_kind, i.actor_id, input.caller, input.correlation_id, i.metadata, i.created_at,
            i.created_at, i.provider_at, i.sent_at, i.failed_at, true
        FROM items i, input
    ), named AS (
        INSERT INTO message_imports (channel_account_id, import_id, message_id)
        SELECT channel_account_id, import_id, id FROM items WHERE import_id IS NOT NULL
        ORDER BY channel_account_id, import_id
    ), indexable AS (
        SELECT id, conversation_id, direction, type, actor_kind, actor_id, created_at, words
        FROM items
    )",
    index_messages!("nextval('inbox_message_words_number_seq')", "NOTHING"),
    "
    , changes AS (
        SELECT 'message.created' AS kind, 'message' AS resource_kind, id AS resource_id,
            conversation_id AS parent_id, sequence, 1::bigint AS version, '{}'::text[] AS changed
        FROM items
    )",
    append_events!(),
    "
    SELECT count(*) FROM items"
);
