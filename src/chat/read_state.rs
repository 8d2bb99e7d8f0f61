//! How far users have read, and what is unread for them: derived from sequences and marks, and so
//! without counters that could drift.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::channel;
use super::member::{Member, MemberRow, NotificationLevel, acting_user, member_columns};
use crate::database::statement::statement;
use crate::error::Error;
use crate::event::log::append_events;
use crate::ids::ChannelId;
use crate::tenant::TenantConn;

/// How far something is to be marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Read up to a sequence, or to the end, by who knows a version of the mark, or any.
    Read {
        /// Up to where.
        up_to: Option<i64>,
        /// Which version they know.
        version: Option<i64>,
    },
    /// Unread from a sequence on.
    Unread {
        /// From where on.
        from: i64,
    },
}

impl Mark {
    /// What the statements take: up to which sequence it is read, whether that is to be unread, and
    /// which version of the mark is known.
    pub(super) fn parts(self) -> (i64, bool, Option<i64>) {
        match self {
            Self::Read { up_to, version } => (up_to.unwrap_or(i64::MAX), false, version),
            Self::Unread { from } => (from - 1, true, None),
        }
    }
}

/// The CTEs that set the mark of the locked row `head`, which has the `last_sequence` of what it is a
/// mark in, in a table: it goes up unless it is known by an older version, or back with a new version.
macro_rules! mark {
    ($table:literal) => {
        concat!(
            "
        , m AS (
            UPDATE ",
            $table,
            " was
            SET read_sequence = CASE WHEN input.unread THEN least(h.read_sequence, input.up_to)
                    ELSE least(input.up_to, h.last_sequence) END,
                read_version = h.read_version + input.unread::integer,
                version = was.version + 1, updated_at = directory.now()
            FROM head h, input
            WHERE was.id = h.id AND (input.unread
                OR least(input.up_to, h.last_sequence) > h.read_sequence
                    AND (input.known_version IS NULL OR input.known_version >= h.read_version))
            RETURNING was.*
        )"
        )
    };
}

pub(super) use mark;

statement! {
    // No row = no member.
    /// Marks a channel read or unread.
    SetMark<'a> -> MemberRow {
        channel_id: ChannelId => sql_types::Uuid,
        user_id: &'a str => Text,
        up_to: i64 => BigInt,
        unread: bool => Bool,
        known_version: Option<i64> => Nullable<BigInt>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT own.*, c.last_sequence
            FROM input JOIN channels c ON c.id = input.channel_id AND c.deleted_at IS NULL
            JOIN channel_members own ON own.channel_id = c.id AND own.user_id = input.user_id
                AND own.left_at IS NULL
            FOR NO KEY UPDATE OF own
        )", mark!("channel_members"), ", changes AS (
            SELECT 'channel_read.updated' AS kind, 'channel_settings' AS resource_kind,
                m.id AS resource_id, m.channel_id AS parent_id, m.read_sequence AS sequence, m.version,
                '{read_sequence}'::text[] AS changed
            FROM m
        )", append_events!(), "
        SELECT ", member_columns!(), " FROM m
        UNION ALL
        SELECT ", member_columns!(), " FROM head m WHERE NOT EXISTS (SELECT FROM m)")
}

/// Marks a channel read or unread for the user who acts.
///
/// # Errors
/// No user acts, there is no such channel for them, or they are no member of it.
pub async fn set_mark(conn: &mut TenantConn, id: ChannelId, mark: Mark) -> Result<Member, Error> {
    let facts = conn.facts().clone();
    let (up_to, unread, known_version) = mark.parts();
    let statement = SetMark {
        channel_id: id,
        user_id: acting_user(&facts)?,
        up_to,
        unread,
        known_version,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let marked: Option<Member> = statement.get_result(conn).await.optional()?;
    match marked {
        Some(member) => Ok(member),
        None => channel::get(conn, id).await?.member(),
    }
}

/// The most that is counted.
pub const MOST_COUNTED: i64 = 999;

/// What is unread in a channel.
#[derive(Debug, Queryable)]
pub struct Unread {
    /// The channel.
    pub channel_id: ChannelId,
    /// How many entries, one more than the most that is counted if they are more.
    pub entries: i64,
    /// How many of them mention the user or everyone, likewise.
    pub mentions: i64,
    /// How many threads that they follow, likewise.
    pub threads: i64,
    /// Up to which sequence they have read.
    pub read_sequence: i64,
    /// The version of that mark.
    pub read_version: i64,
    /// The sequence of the channel's newest entry.
    pub last_sequence: i64,
    /// Whether they have muted it.
    pub muted: bool,
    /// What they are told of.
    pub notification_level: NotificationLevel,
}

/// The condition that an entry `e` that is behind a mark is unread for the user.
macro_rules! is_unread {
    () => {
        "e.deleted_at IS NULL AND e.type = 'message'
            AND NOT (e.author_kind = 'user' AND e.author_id = input.user_id)"
    };
}

pub(super) use is_unread;

statement! {
    // Each count is a walk down an index from the mark on, which ends after a thousand; where the
    // mark is at the end there is none. Mentions are walked down twice, by name and with everyone, and
    // each entry is looked at alone, as each thread is: PostgreSQL would read whole tables to join them.
    /// Counts what is unread in the channels of a user.
    Count<'a> -> (sql_types::Uuid, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, Bool, Text) {
        user_id: &'a str => Text,
        channel_ids: Option<&'a [ChannelId]> => Nullable<Array<sql_types::Uuid>>,
        most: i64 => BigInt,
    }
    concat!("
        SELECT m.channel_id, coalesce(u.entries, 0), coalesce(n.mentions, 0), coalesce(t.threads, 0),
            m.read_sequence, m.read_version, m.last_sequence, m.muted, m.notification_level
        FROM input CROSS JOIN LATERAL (
            SELECT m.*, c.last_sequence, greatest(m.read_sequence, m.joined_sequence) AS mark
            FROM channel_members m JOIN channels c ON c.id = m.channel_id
            WHERE m.user_id = input.user_id AND m.left_at IS NULL AND c.deleted_at IS NULL
                AND c.archived_at IS NULL
                AND (input.channel_ids IS NULL OR m.channel_id = ANY (input.channel_ids))
        ) m
        LEFT JOIN LATERAL (
            SELECT count(*) AS entries FROM (
                SELECT FROM chat_entries e
                WHERE (e.channel_id, e.sequence) > (m.channel_id, m.mark)
                    AND (e.channel_id, e.sequence) <= (m.channel_id, 9223372036854775807)
                    AND e.thread_root_id IS NULL AND ", is_unread!(), "
                ORDER BY e.channel_id, e.sequence LIMIT input.most + 1
            ) e
        ) u ON m.last_sequence > m.mark
        LEFT JOIN LATERAL (
            SELECT count(*) AS mentions FROM (
                SELECT DISTINCT n.chat_entry_id
                FROM (SELECT input.user_id UNION ALL SELECT '') AS of (user_id)
                CROSS JOIN LATERAL (
                    SELECT n.chat_entry_id FROM mentions n
                    WHERE n.user_id = of.user_id AND n.channel_id = m.channel_id
                        AND n.sequence > m.mark AND n.thread_root_id IS NULL
                        AND (SELECT ", is_unread!(), " FROM chat_entries e WHERE e.id = n.chat_entry_id)
                    ORDER BY n.sequence LIMIT input.most + 1
                ) n
                LIMIT input.most + 1
            ) n
        ) n ON m.last_sequence > m.mark
        LEFT JOIN LATERAL (
            SELECT count(*) AS threads FROM (
                SELECT FROM thread_follows f
                WHERE f.user_id = input.user_id AND f.channel_id = m.channel_id AND f.following
                    AND (
                        SELECT true FROM chat_entries e
                        WHERE e.thread_root_id = f.chat_entry_id
                            AND e.sequence > greatest(f.read_sequence, m.joined_sequence)
                            AND ", is_unread!(), "
                        ORDER BY e.sequence LIMIT 1
                    )
                LIMIT input.most + 1
            ) f
        ) t ON true
        ORDER BY m.channel_id")
}

/// Counts what is unread for the user who acts in their channels, or some of them.
///
/// # Errors
/// No user acts.
pub async fn counts(
    conn: &mut TenantConn,
    channel_ids: Option<&[ChannelId]>,
) -> Result<Vec<Unread>, Error> {
    let facts = conn.facts().clone();
    let statement = Count {
        user_id: acting_user(&facts)?,
        channel_ids,
        most: MOST_COUNTED,
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}
