//! Who has said how much, in the channels that somebody sees.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::{audit, channel};
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::ChannelId;
use crate::page::PageSize;
use crate::tenant::TenantConn;

/// What is asked for.
#[derive(Debug)]
pub struct ActivityQuery {
    /// From when on.
    pub from: DateTime<Utc>,
    /// Until when.
    pub to: DateTime<Utc>,
    /// Who; all who have said anything if `None`.
    pub user_ids: Option<Vec<String>>,
    /// In this channel alone.
    pub channel_id: Option<ChannelId>,
}

/// What a user has said.
#[derive(Debug, Queryable)]
pub struct Activity {
    /// The user.
    pub user_id: String,
    /// How many entries they have posted.
    pub entries: i64,
    /// How many of them are replies in threads.
    pub replies: i64,
    /// In how many channels.
    pub channels: i64,
    /// When they have posted the last.
    pub last_at: DateTime<Utc>,
}

/// The condition that an entry `e` is what a user has said, as its index has it.
macro_rules! said {
    () => {
        "e.author_kind = 'user' AND e.type = 'message' AND e.deleted_at IS NULL"
    };
}

statement! {
    // A jump down the index from one author to the next, and of each a walk through their range.
    /// Counts what users have said.
    Count<'a> -> (Text, BigInt, BigInt, BigInt, Timestamptz) {
        user_id: Option<&'a str> => Nullable<Text>,
        sees_all: bool => Bool,
        from_at: DateTime<Utc> => Timestamptz,
        to_at: DateTime<Utc> => Timestamptz,
        user_ids: Option<&'a [String]> => Nullable<Array<Text>>,
        channel_id: Option<ChannelId> => Nullable<sql_types::Uuid>,
        after: &'a str => Text,
        rows: i64 => BigInt,
    }
    concat!("
        , seen AS MATERIALIZED (
            SELECT c.id FROM channels c CROSS JOIN input
            WHERE c.deleted_at IS NULL AND (input.channel_id IS NULL OR c.id = input.channel_id)
                AND (c.kind = 'public' OR input.sees_all OR EXISTS (
                    SELECT FROM channel_members m
                    WHERE m.channel_id = c.id AND m.user_id = input.user_id AND m.left_at IS NULL
                ))
        ), authors AS (
            (SELECT e.author_id FROM chat_entries e, input
            WHERE input.user_ids IS NULL AND ", said!(), " AND e.author_id > input.after
            ORDER BY e.author_id LIMIT 1)
            UNION ALL
            SELECT (
                SELECT e.author_id FROM chat_entries e
                WHERE ", said!(), " AND e.author_id > a.author_id
                ORDER BY e.author_id LIMIT 1
            )
            FROM authors a WHERE a.author_id IS NOT NULL
        ), asked AS (
            SELECT author_id FROM authors WHERE author_id IS NOT NULL
            UNION ALL
            SELECT asked.author_id FROM input, unnest(input.user_ids) AS asked (author_id)
            WHERE asked.author_id > input.after
        )
        SELECT a.author_id, s.entries, s.replies, s.channels, s.last_at
        FROM input CROSS JOIN asked a CROSS JOIN LATERAL (
            SELECT count(*) AS entries, count(e.thread_root_id) AS replies,
                count(DISTINCT e.channel_id) AS channels, max(e.created_at) AS last_at
            FROM chat_entries e JOIN seen ON seen.id = e.channel_id
            WHERE ", said!(), " AND e.author_id = a.author_id
                AND e.created_at >= input.from_at AND e.created_at < input.to_at
        ) s
        WHERE s.entries > 0
        ORDER BY a.author_id LIMIT (SELECT rows FROM input)")
}

/// Counts what users have said in a range in channels that who acts sees, by user, beyond one of them.
///
/// # Errors
/// There is no such channel for who acts.
pub async fn count(
    conn: &mut TenantConn,
    query: &ActivityQuery,
    after: Option<&str>,
    size: PageSize,
) -> Result<Vec<Activity>, Error> {
    let facts = conn.facts().clone();
    match query.channel_id {
        Some(id) => drop(channel::get(conn, id).await?),
        None => audit::note_list(conn).await?,
    }
    let statement = Count {
        user_id: facts.actor.user_id(),
        sees_all: facts.unrestricted.is_some(),
        from_at: query.from,
        to_at: query.to,
        user_ids: query.user_ids.as_deref(),
        channel_id: query.channel_id,
        after: after.unwrap_or_default(),
        rows: size.rows(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}
