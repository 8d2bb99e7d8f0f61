//! Pins: the entries that a channel keeps in view.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Nullable, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::capability::Capability;
use super::channel;
use super::entry::{self, Entry, EntryRow, entry_columns};
use super::entry_list::Position;
use crate::access::Facts;
use crate::database::statement::statement;
use crate::error::{Error, Precondition};
use crate::event::log::append;
use crate::ids::{ChannelId, ChatEntryId};
use crate::page::PageSize;
use crate::schema::tenant::chat_entries;
use crate::tenant::TenantConn;

/// How many entries of a channel can be pinned.
const MOST: i64 = 100;

/// Pins an entry; one that is pinned stays so.
///
/// # Errors
/// There is none for who acts, they may not, or its channel has too many pins.
pub async fn pin(conn: &mut TenantConn, id: ChatEntryId) -> Result<Entry, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let current = lock(conn, id, &facts).await?;
        if current.pinned_at.is_some() {
            return Ok(current);
        }
        let pins: i64 = chat_entries::table
            .filter(chat_entries::channel_id.eq(current.channel_id))
            .filter(chat_entries::pinned_at.is_not_null())
            .count()
            .get_result(conn)
            .await?;
        if pins >= MOST {
            let limit = Precondition::ChatPinLimit {
                channel: current.channel_id.to_string(),
                limit: MOST,
            };
            return Err(Error::FailedPrecondition(limit));
        }
        set(conn, id, Some(&facts)).await
    })
    .await
}

/// Takes the pin off an entry; one that is not pinned stays so.
///
/// # Errors
/// There is none for who acts, or they may not.
pub async fn unpin(conn: &mut TenantConn, id: ChatEntryId) -> Result<Entry, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let current = lock(conn, id, &facts).await?;
        if current.pinned_at.is_none() {
            return Ok(current);
        }
        set(conn, id, None).await
    })
    .await
}

/// Finds an entry that who acts may pin, and keeps it as it is.
async fn lock(conn: &mut TenantConn, id: ChatEntryId, facts: &Facts) -> Result<Entry, Error> {
    let (seen, current) = entry::lock(conn, id).await?;
    if current.deleted_at.is_some() {
        return Err(Error::not_found("chat_entry", id));
    }
    seen.check(facts, Capability::Pin)?;
    Ok(current)
}

/// Pins an entry in the name of who acts, or takes its pin off.
async fn set(
    conn: &mut TenantConn,
    id: ChatEntryId,
    pinner: Option<&Facts>,
) -> Result<Entry, Error> {
    let at = if pinner.is_some() {
        "directory.now()"
    } else {
        "NULL"
    };
    let set: Entry = diesel::update(chat_entries::table.find(id))
        .set((
            chat_entries::pinned_at.eq(sql::<Nullable<Timestamptz>>(at)),
            chat_entries::pinned_by_kind.eq(pinner.map(|facts| facts.actor.kind())),
            chat_entries::pinned_by_id.eq(pinner.map(|facts| facts.actor.id())),
            chat_entries::updated_at.eq(sql("directory.now()")),
            chat_entries::version.eq(chat_entries::version + 1),
        ))
        .returning(Entry::as_returning())
        .get_result(conn)
        .await?;
    append(conn, set.change("chat_entry.updated", vec!["pin_time"])).await?;
    Ok(set)
}

statement! {
    /// Lists the pinned entries of a channel, the newest pin first.
    List<'a> -> EntryRow {
        channel_id: ChannelId => sql_types::Uuid,
        before: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_id: Uuid => sql_types::Uuid,
        rows: i64 => BigInt,
    }
    concat!("
        SELECT ", entry_columns!(), "
        FROM input JOIN chat_entries e ON e.channel_id = input.channel_id AND e.pinned_at IS NOT NULL
        WHERE input.before IS NULL OR (e.pinned_at, e.id) < (input.before, input.before_id)
        ORDER BY e.pinned_at DESC, e.id DESC LIMIT (SELECT rows FROM input)")
}

/// Lists the pinned entries of a channel, the newest pin first, beyond a position.
///
/// # Errors
/// There is no such channel for who acts.
pub async fn list(
    conn: &mut TenantConn,
    id: ChannelId,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<Entry>, Error> {
    channel::get(conn, id).await?;
    let statement = List {
        channel_id: id,
        before: beyond.map(|position| position.at),
        before_id: beyond.map_or(Uuid::nil(), |position| position.id.0),
        rows: size.rows(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}

impl Entry {
    /// Where the page after this pinned entry begins.
    pub fn pin_position(&self) -> Position {
        Position {
            at: self.pinned_at.unwrap_or(self.created_at),
            id: self.id,
        }
    }
}
