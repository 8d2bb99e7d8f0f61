//! Lists of the entries of a channel or a thread, by their sequence.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Bool, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};

use super::audit;
use super::entry::{Entry, EntryRow, entry_columns};
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{ChannelId, ChatEntryId};
use crate::page::PageSize;
use crate::schema::tenant::chat_entries;
use crate::tenant::TenantConn;

/// The order of a list of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    OldestFirst,
    /// The newest first.
    NewestFirst,
}

/// Where a page of entries begins that stand by a time: beyond this one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Position {
    /// Its time.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: ChatEntryId,
}

/// Which entries to list.
#[derive(Debug, Clone, Copy)]
pub struct EntryFilter {
    /// Of which channel.
    pub channel_id: ChannelId,
    /// The replies under this entry alone.
    pub thread_root_id: Option<ChatEntryId>,
    /// Without replies.
    pub roots_only: bool,
    /// What is left of deleted ones too.
    pub deleted: bool,
}

macro_rules! list_statement {
    ($(#[$doc:meta])* $name:ident, $beyond:literal, $order:literal) => {
        statement! {
            // Of a range of pairs PostgreSQL expects many rows, and walks down the index.
            $(#[$doc])*
            $name<'a> -> (sql_types::Uuid, Nullable<EntryRow>) {
                channel_id: ChannelId => sql_types::Uuid,
                user_id: Option<&'a str> => Nullable<Text>,
                unrestricted: bool => Bool,
                thread_root_id: Option<ChatEntryId> => Nullable<sql_types::Uuid>,
                roots_only: bool => Bool,
                shows_deleted: bool => Bool,
                beyond: i64 => BigInt,
                rows: i64 => BigInt,
            }
            concat!(" SELECT c.id, ", entry_columns!(), "
                FROM input JOIN channels c ON c.id = input.channel_id AND c.deleted_at IS NULL
                LEFT JOIN channel_members m ON m.channel_id = c.id AND m.user_id = input.user_id
                    AND m.left_at IS NULL
                LEFT JOIN LATERAL (
                    (SELECT * FROM chat_entries
                    WHERE input.thread_root_id IS NULL AND ", $beyond, "
                        AND (NOT input.roots_only OR thread_root_id IS NULL)
                        AND (input.shows_deleted OR deleted_at IS NULL)
                    ORDER BY channel_id ", $order, ", sequence ", $order, " LIMIT input.rows)
                    UNION ALL
                    (SELECT * FROM chat_entries
                    WHERE thread_root_id = input.thread_root_id AND ", $beyond, "
                        AND (input.shows_deleted OR deleted_at IS NULL)
                    ORDER BY thread_root_id, sequence ", $order, " LIMIT input.rows)
                ) e ON true
                WHERE c.kind = 'public' OR m.id IS NOT NULL OR input.unrestricted
                ORDER BY e.sequence ", $order)
        }
    };
}

list_statement! {
    /// Lists entries upwards from a sequence.
    OldestFirst,
    "(channel_id, sequence) > (c.id, input.beyond) AND (channel_id, sequence) <= (c.id, 9223372036854775807)",
    "ASC"
}

list_statement! {
    /// Lists entries downwards from a sequence.
    NewestFirst,
    "(channel_id, sequence) < (c.id, input.beyond) AND (channel_id, sequence) > (c.id, 0)",
    "DESC"
}

/// Lists the entries of a channel that who acts sees, beyond a sequence, in either order.
///
/// # Errors
/// There is no such channel for them, or no such entry in it whose thread to list.
pub async fn list(
    conn: &mut TenantConn,
    filter: EntryFilter,
    order: Order,
    beyond: Option<i64>,
    size: PageSize,
) -> Result<Vec<Entry>, Error> {
    let facts = conn.facts().clone();
    let EntryFilter {
        channel_id,
        thread_root_id,
        roots_only,
        deleted: shows_deleted,
    } = filter;
    let (user_id, unrestricted) = (facts.actor.user_id(), facts.unrestricted.is_some());
    let (rows, life) = (size.rows(), PhantomData);
    let found: Vec<(ChannelId, Option<Entry>)> = match order {
        Order::OldestFirst => {
            OldestFirst {
                channel_id,
                user_id,
                unrestricted,
                thread_root_id,
                roots_only,
                shows_deleted,
                beyond: beyond.unwrap_or(0),
                rows,
                life,
            }
            .load(conn)
            .await?
        }
        Order::NewestFirst => {
            NewestFirst {
                channel_id,
                user_id,
                unrestricted,
                thread_root_id,
                roots_only,
                shows_deleted,
                beyond: beyond.unwrap_or(i64::MAX),
                rows,
                life,
            }
            .load(conn)
            .await?
        }
    };
    if found.is_empty() {
        return Err(Error::not_found("channel", channel_id));
    }
    audit::note(conn, channel_id).await?;
    let entries: Vec<_> = found.into_iter().filter_map(|(_, entry)| entry).collect();
    if let Some(root) = thread_root_id
        && entries.is_empty()
        && find_sequence(conn, channel_id, root).await?.is_none()
    {
        return Err(Error::not_found("chat_entry", root));
    }
    Ok(entries)
}

/// Finds where an entry stands in its channel, or stood before it was deleted.
pub async fn find_sequence(
    conn: &mut TenantConn,
    channel_id: ChannelId,
    id: ChatEntryId,
) -> Result<Option<i64>, Error> {
    let sequence = chat_entries::table
        .filter(chat_entries::id.eq(id))
        .filter(chat_entries::channel_id.eq(channel_id))
        .select(chat_entries::sequence);
    Ok(sequence.first(conn).await.optional()?)
}
