//! Finds entries by their words, over all history, the newest first.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::sql_types::{self, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::entry::{self, Entry, EntryRow, entry_columns};
use super::entry_list::Position;
use super::{audit, channel};
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{ChannelId, ChatEntryId};
use crate::page::PageSize;
use crate::search::{Query, quote, vector};
use crate::tenant::TenantConn;

/// By which words an entry `e` of a channel `c` is found, whose text has the words of `input`.
///
/// Beside the words go lexemes with a dot before them, which no word has, for what a search filters
/// by, and for who may see it: so the index alone answers it. The kind of a channel never changes.
macro_rules! entry_words {
    () => {
        "array_to_tsvector(array_remove(ARRAY[
            '.c' || e.channel_id, '.f' || (floor(extract(epoch FROM e.created_at) / 86400)::int >> 5),
            '.k' || c.kind, '.r' || e.thread_root_id, '.w' || e.author_kind || ' ' || e.author_id
        ], NULL)) || input.words::tsvector"
    };
}

pub(super) use entry_words;

statement! {
    /// Replaces the words of an entry.
    Index<'a> -> Bool {
        chat_entry_id: ChatEntryId => sql_types::Uuid,
        words: &'a str => Text,
    }
    concat!("
        INSERT INTO chat_entry_words (chat_entry_id, created_at, words)
        SELECT e.id, e.created_at, ", entry_words!(), "
        FROM input JOIN chat_entries e ON e.id = input.chat_entry_id
        JOIN channels c ON c.id = e.channel_id
        ON CONFLICT (chat_entry_id) DO UPDATE SET words = excluded.words
        RETURNING true")
}

/// Lets an entry that says something else now be found by that, in the open transaction.
pub async fn index(conn: &mut TenantConn, entry: &Entry) -> Result<(), Error> {
    let statement = Index {
        chat_entry_id: entry.id,
        words: &vector(&entry.text),
        life: PhantomData,
    };
    let _: bool = statement.get_result(conn).await?;
    Ok(())
}

/// Lets an entry that is deleted be found no more, in the open transaction.
pub async fn forget(conn: &mut TenantConn, id: ChatEntryId) -> Result<(), Error> {
    diesel::sql_query("DELETE FROM chat_entry_words WHERE chat_entry_id = $1")
        .bind::<sql_types::Uuid, _>(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Which entries to look through.
#[derive(Debug)]
pub struct SearchFilter {
    /// Of this channel.
    pub channel_id: Option<ChannelId>,
    /// Under this entry.
    pub thread_root_id: Option<ChatEntryId>,
    /// Written by this user.
    pub author_user_id: Option<String>,
    /// Posted at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Posted before this time.
    pub before: Option<DateTime<Utc>>,
}

statement! {
    // An index of words gives no order, and a common word stands in very many entries. So time is
    // walked downwards in strides of 32 days, each a lexeme beside the words, twice as many as the last
    // until a page is full: a common word is sorted for the newest strides alone, and a rare one costs
    // a few looks into the index. Time begins with the first channel.
    /// Finds entries, the newest first.
    Search<'a> -> EntryRow {
        query: String => Text,
        user_id: Option<&'a str> => Nullable<Text>,
        sees_all: bool => Bool,
        from_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_id: Uuid => sql_types::Uuid,
        rows: i64 => BigInt,
    }
    concat!("
        , asked AS MATERIALIZED (
            SELECT input.rows, input.before_id, coalesce(input.from_at, '-infinity') AS from_at,
                coalesce(input.before_at, 'infinity') AS before_at,
                floor(extract(epoch FROM greatest(input.from_at, span.oldest)) / 86400)::int >> 5 AS lowest,
                floor(extract(epoch FROM least(input.before_at, span.newest)) / 86400)::int >> 5 AS highest,
                CASE WHEN input.sees_all THEN input.query::tsquery ELSE input.query::tsquery && (
                    SELECT '''.kpublic''' || coalesce(string_agg('|''.c' || c.id || '''', ''), '')
                    FROM channel_members m JOIN channels c ON c.id = m.channel_id
                    WHERE m.user_id = input.user_id AND m.left_at IS NULL AND c.kind <> 'public'
                )::tsquery END AS query
            FROM input CROSS JOIN (
                SELECT min(c.created_at) AS oldest, max(c.last_entry_at) AS newest FROM channels c
            ) span
        ), walk AS (
            SELECT asked.highest AS top, 1 AS width, 0::bigint AS found, NULL::uuid[] AS ids FROM asked
            UNION ALL
            SELECT walk.top - walk.width, walk.width * 2,
                walk.found + coalesce(cardinality(seen.ids), 0), seen.ids
            FROM walk CROSS JOIN asked CROSS JOIN LATERAL (
                SELECT string_agg('''.f' || number || '''', '|')::tsquery AS days
                FROM generate_series(greatest(walk.top - walk.width + 1, asked.lowest), walk.top) number
            ) within CROSS JOIN LATERAL (
                SELECT array_agg(w.chat_entry_id) AS ids FROM (
                    SELECT w.chat_entry_id FROM chat_entry_words w
                    WHERE w.words @@ (asked.query && within.days) AND w.created_at >= asked.from_at
                        AND (w.created_at, w.chat_entry_id) < (asked.before_at, asked.before_id)
                    ORDER BY w.created_at DESC, w.chat_entry_id DESC LIMIT asked.rows
                ) w
            ) seen
            WHERE walk.found < asked.rows AND walk.top >= asked.lowest
        )
        SELECT ", entry_columns!(), "
        FROM walk CROSS JOIN LATERAL unnest(walk.ids) AS f (id)
        JOIN chat_entries e ON e.id = f.id AND e.deleted_at IS NULL
        ORDER BY e.created_at DESC, e.id DESC LIMIT (SELECT rows FROM input)")
}

/// Finds the entries that who acts sees, the newest first, beyond a position.
///
/// # Errors
/// There is no such channel for them, or no such entry whose thread to look through.
pub async fn search(
    conn: &mut TenantConn,
    query: &Query,
    filter: &SearchFilter,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<Entry>, Error> {
    let facts = conn.facts().clone();
    let mut parts = vec![query.exact()];
    if let Some(id) = filter.channel_id {
        channel::get(conn, id).await?;
        parts.push(quote(&format!(".c{id}")));
    }
    if let Some(root) = filter.thread_root_id {
        entry::get(conn, root).await?;
        parts.push(quote(&format!(".r{root}")));
    }
    // A channel that was looked at by name is seen.
    let is_named = filter.channel_id.is_some() || filter.thread_root_id.is_some();
    if !is_named {
        audit::note_list(conn).await?;
    }
    if let Some(author) = &filter.author_user_id {
        parts.push(quote(&format!(".wuser {author}")));
    }
    let statement = Search {
        query: parts.join(" & "),
        user_id: facts.actor.user_id(),
        sees_all: is_named || facts.unrestricted.is_some(),
        from_at: filter.from,
        before_at: beyond.map(|position| position.at).or(filter.before),
        before_id: beyond.map_or(Uuid::nil(), |position| position.id.0),
        rows: size.rows(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}

impl Entry {
    /// Where the page after this entry begins, of a list by time.
    pub fn time_position(&self) -> Position {
        Position {
            at: self.created_at,
            id: self.id,
        }
    }
}
