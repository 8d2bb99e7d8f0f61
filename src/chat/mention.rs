//! Mentions: what was said to a user, wherever that was.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::sql_types::{self, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::entry::{Entry, EntryRow, entry_columns};
use super::entry_list::Position;
use super::member::acting_user;
use super::read_state::is_unread;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::ChannelId;
use crate::page::PageSize;
use crate::tenant::TenantConn;

/// Which mentions to list.
#[derive(Debug)]
pub struct MentionFilter {
    /// In this channel alone.
    pub channel_id: Option<ChannelId>,
    /// Unread ones alone.
    pub unread: bool,
}

statement! {
    // For each channel of the user two walks down an index, one for them and one for everyone, which
    // end with the page: each entry is looked at alone, for PostgreSQL would sort what it joins. Who is
    // mentioned both ways is found by both.
    /// Lists the entries that mention a user, the newest first.
    List<'a> -> EntryRow {
        user_id: &'a str => Text,
        channel_id: Option<ChannelId> => Nullable<sql_types::Uuid>,
        unread: bool => Bool,
        before_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_id: Uuid => sql_types::Uuid,
        rows: i64 => BigInt,
    }
    concat!("
        , page AS (
            SELECT DISTINCT n.created_at, n.chat_entry_id
            FROM input JOIN channel_members m ON m.user_id = input.user_id AND m.left_at IS NULL
            JOIN channels c ON c.id = m.channel_id AND c.deleted_at IS NULL
            CROSS JOIN LATERAL (SELECT input.user_id UNION ALL SELECT '') AS of (user_id)
            CROSS JOIN LATERAL (
                SELECT n.created_at, n.chat_entry_id FROM mentions n
                WHERE n.user_id = of.user_id AND n.channel_id = m.channel_id
                    AND (n.created_at, n.chat_entry_id)
                        < (coalesce(input.before_at, 'infinity'), input.before_id)
                    AND (
                        SELECT e.sequence > m.joined_sequence AND e.deleted_at IS NULL
                            AND NOT (e.author_kind = 'user' AND e.author_id = input.user_id)
                            AND (NOT input.unread OR ", is_unread!(), " AND CASE
                                WHEN e.thread_root_id IS NULL THEN e.sequence > m.read_sequence
                                ELSE EXISTS (
                                    SELECT FROM thread_follows f
                                    WHERE f.chat_entry_id = e.thread_root_id
                                        AND f.user_id = input.user_id AND f.following
                                        AND e.sequence > f.read_sequence
                                ) END)
                        FROM chat_entries e WHERE e.id = n.chat_entry_id
                    )
                ORDER BY n.created_at DESC, n.chat_entry_id DESC LIMIT input.rows
            ) n
            WHERE (input.channel_id IS NULL OR m.channel_id = input.channel_id)
                AND (NOT input.unread OR c.archived_at IS NULL)
            ORDER BY n.created_at DESC, n.chat_entry_id DESC LIMIT (SELECT rows FROM input)
        )
        SELECT ", entry_columns!(), "
        FROM page JOIN chat_entries e ON e.id = page.chat_entry_id
        ORDER BY page.created_at DESC, e.id DESC")
}

/// Lists the entries of others that mention the user who acts or everyone, since they came, the newest
/// first, beyond a position.
///
/// # Errors
/// No user acts.
pub async fn list(
    conn: &mut TenantConn,
    filter: &MentionFilter,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<Entry>, Error> {
    let facts = conn.facts().clone();
    let statement = List {
        user_id: acting_user(&facts)?,
        channel_id: filter.channel_id,
        unread: filter.unread,
        before_at: beyond.map(|position| position.at),
        before_id: beyond.map_or(Uuid::nil(), |position| position.id.0),
        rows: size.rows(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}
