//! Threads: who follows them, and what is unread in them.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{self, Entry, EntryRow, entry_columns};
use super::member::acting_user;
use super::read_state::{MOST_COUNTED, Mark, is_unread, mark};
use crate::database::statement::statement;
use crate::error::{Error, Precondition};
use crate::event::log::{Change, append, append_events};
use crate::ids::{ChannelId, ChatEntryId, ThreadFollowId};
use crate::page::PageSize;
use crate::schema::tenant::thread_follows;
use crate::tenant::TenantConn;

/// How a user stands to a thread.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = thread_follows, check_for_backend(Pg))]
pub struct Follow {
    /// Its id.
    pub id: ThreadFollowId,
    /// The entry whose thread it is.
    pub chat_entry_id: ChatEntryId,
    /// The user.
    pub user_id: String,
    /// The channel.
    pub channel_id: ChannelId,
    /// Whether they follow it.
    pub following: bool,
    /// Up to which sequence they have read.
    pub read_sequence: i64,
    /// Goes up when they mark replies unread.
    pub read_version: i64,
    /// Goes up with every change.
    pub version: i64,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Follow {
    fn change(&self) -> Change<'static> {
        Change {
            kind: "thread_follow.updated",
            resource_kind: "thread_follow",
            resource_id: self.id.0,
            parent_id: Some(self.channel_id.0),
            sequence: None,
            version: self.version,
            changed: vec!["following"],
        }
    }
}

/// The columns of a row as SQL types, in the order of `follow_columns`.
type FollowRow = <<Follow as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of a `Follow`, in the order of its fields, of the table `m`.
macro_rules! follow_columns {
    () => {
        "m.id, m.chat_entry_id, m.user_id, m.channel_id, m.following, m.read_sequence, m.read_version,
            m.version, m.updated_at"
    };
}

/// Finds the root of a thread in a channel that the user who acts is a member of.
async fn root(conn: &mut TenantConn, id: ChatEntryId) -> Result<Entry, Error> {
    let (seen, root) = entry::get(conn, id).await?;
    seen.member()?;
    if root.thread_root_id.is_some() {
        let problem = "is a reply itself: name the entry that its thread is under";
        return Err(Error::invalid("entry_id", problem));
    }
    Ok(root)
}

/// Makes the user who acts follow a thread from now on.
///
/// # Errors
/// No user acts, there is no such entry for them, they are no member of its channel, or it is a
/// reply itself.
pub async fn follow(conn: &mut TenantConn, id: ChatEntryId) -> Result<Follow, Error> {
    let facts = conn.facts().clone();
    let user = acting_user(&facts)?;
    conn.transaction(async |conn| {
        let root = root(conn, id).await?;
        let read_sequence = root.last_reply_sequence.max(root.sequence);
        let now = || sql::<Timestamptz>("directory.now()");
        let followed = diesel::insert_into(thread_follows::table)
            .values((
                thread_follows::id.eq(ThreadFollowId::new()),
                thread_follows::chat_entry_id.eq(id),
                thread_follows::user_id.eq(user),
                thread_follows::channel_id.eq(root.channel_id),
                thread_follows::following.eq(true),
                thread_follows::read_sequence.eq(read_sequence),
                thread_follows::updated_at.eq(now()),
            ))
            .on_conflict((thread_follows::chat_entry_id, thread_follows::user_id))
            .do_update()
            .set((
                thread_follows::following.eq(true),
                thread_follows::read_sequence.eq(read_sequence),
                thread_follows::read_version.eq(thread_follows::read_version + 1),
                thread_follows::version.eq(thread_follows::version + 1),
                thread_follows::updated_at.eq(now()),
            ));
        let followed = diesel::query_dsl::methods::FilterDsl::filter(
            followed,
            thread_follows::following.eq(false),
        );
        let followed: Option<Follow> = followed
            .returning(Follow::as_returning())
            .get_result(conn)
            .await
            .optional()?;
        match followed {
            Some(follow) => {
                append(conn, follow.change()).await?;
                Ok(follow)
            }
            None => find(conn, id, user).await?.ok_or_else(|| not_followed(id)),
        }
    })
    .await
}

/// Ends that; `None` if they never followed it.
///
/// # Errors
/// No user acts, there is no such entry for them, they are no member of its channel, or it is a
/// reply itself.
pub async fn unfollow(conn: &mut TenantConn, id: ChatEntryId) -> Result<Option<Follow>, Error> {
    let facts = conn.facts().clone();
    let user = acting_user(&facts)?;
    conn.transaction(async |conn| {
        root(conn, id).await?;
        let unfollowed: Option<Follow> = diesel::update(thread_follows::table)
            .filter(thread_follows::chat_entry_id.eq(id))
            .filter(thread_follows::user_id.eq(user))
            .filter(thread_follows::following.eq(true))
            .set((
                thread_follows::following.eq(false),
                thread_follows::version.eq(thread_follows::version + 1),
                thread_follows::updated_at.eq(sql("directory.now()")),
            ))
            .returning(Follow::as_returning())
            .get_result(conn)
            .await
            .optional()?;
        match unfollowed {
            Some(follow) => {
                append(conn, follow.change()).await?;
                Ok(Some(follow))
            }
            None => find(conn, id, user).await,
        }
    })
    .await
}

async fn find(conn: &mut TenantConn, id: ChatEntryId, user: &str) -> Result<Option<Follow>, Error> {
    let found = thread_follows::table
        .filter(thread_follows::chat_entry_id.eq(id))
        .filter(thread_follows::user_id.eq(user))
        .select(Follow::as_select());
    Ok(found.first(conn).await.optional()?)
}

fn not_followed(id: ChatEntryId) -> Error {
    Error::FailedPrecondition(Precondition::ChatThreadNotFollowed(id.to_string()))
}

statement! {
    // No row = no member, or none who follows it.
    /// Marks a thread read or unread.
    SetMark<'a> -> FollowRow {
        chat_entry_id: ChatEntryId => sql_types::Uuid,
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
            SELECT f.*, greatest(r.last_reply_sequence, r.sequence) AS last_sequence
            FROM input JOIN chat_entries r ON r.id = input.chat_entry_id
            JOIN channels c ON c.id = r.channel_id AND c.deleted_at IS NULL
            JOIN channel_members own ON own.channel_id = c.id AND own.user_id = input.user_id
                AND own.left_at IS NULL
            JOIN thread_follows f ON f.chat_entry_id = r.id AND f.user_id = input.user_id AND f.following
            FOR NO KEY UPDATE OF f
        )", mark!("thread_follows"), ", changes AS (
            SELECT 'thread_read.updated' AS kind, 'thread_follow' AS resource_kind,
                m.id AS resource_id, m.channel_id AS parent_id, m.read_sequence AS sequence, m.version,
                '{read_sequence}'::text[] AS changed
            FROM m
        )", append_events!(), "
        SELECT ", follow_columns!(), " FROM m
        UNION ALL
        SELECT ", follow_columns!(), " FROM head m WHERE NOT EXISTS (SELECT FROM m)")
}

/// Marks a thread read or unread for the user who acts and follows it.
///
/// # Errors
/// No user acts, there is no such entry for them, it is a reply itself, or they do not follow it.
pub async fn set_mark(conn: &mut TenantConn, id: ChatEntryId, mark: Mark) -> Result<Follow, Error> {
    let facts = conn.facts().clone();
    let (up_to, unread, known_version) = mark.parts();
    let statement = SetMark {
        chat_entry_id: id,
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
    let marked: Option<Follow> = statement.get_result(conn).await.optional()?;
    if let Some(follow) = marked {
        return Ok(follow);
    }
    root(conn, id).await?;
    Err(not_followed(id))
}

/// A thread that a user follows.
#[derive(Debug, Queryable)]
pub struct Followed {
    /// The entry that it is under.
    pub root: Entry,
    /// How they stand to it.
    pub follow: Follow,
    /// How many replies are unread, one more than the most that is counted if they are more.
    pub unread: i64,
    /// How many of them mention the user or everyone, likewise.
    pub mentions: i64,
}

/// Where a page of threads begins: beyond this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Position {
    at: DateTime<Utc>,
    id: ChatEntryId,
}

impl Followed {
    /// Where the page after this thread begins.
    pub fn position(&self) -> Position {
        Position {
            at: self.root.last_reply_at.unwrap_or(self.root.created_at),
            id: self.root.id,
        }
    }
}

statement! {
    // All that the user follows is sorted: that is what they took part in, and no more.
    /// Lists the threads that a user follows, the one with the newest reply first.
    List<'a> -> (EntryRow, FollowRow, BigInt, BigInt) {
        user_id: &'a str => Text,
        channel_id: Option<ChannelId> => Nullable<sql_types::Uuid>,
        unread: bool => Bool,
        before: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_id: Uuid => sql_types::Uuid,
        most: i64 => BigInt,
        rows: i64 => BigInt,
    }
    concat!("
        , followed AS (
            SELECT r.id, coalesce(r.last_reply_at, r.created_at) AS at, f.id AS follow_id,
                greatest(f.read_sequence, own.joined_sequence) AS mark
            FROM input JOIN thread_follows f ON f.user_id = input.user_id AND f.following
            JOIN channel_members own ON own.channel_id = f.channel_id AND own.user_id = f.user_id
                AND own.left_at IS NULL
            JOIN channels c ON c.id = f.channel_id AND c.deleted_at IS NULL
            JOIN chat_entries r ON r.id = f.chat_entry_id
            WHERE (input.channel_id IS NULL OR f.channel_id = input.channel_id)
                AND (input.before IS NULL
                    OR (coalesce(r.last_reply_at, r.created_at), r.id) < (input.before, input.before_id))
        ), page AS (
            SELECT f.* FROM followed f, input
            WHERE NOT input.unread OR EXISTS (
                SELECT FROM chat_entries e
                WHERE e.thread_root_id = f.id AND e.sequence > f.mark AND ", is_unread!(), "
            )
            ORDER BY f.at DESC, f.id DESC LIMIT (SELECT rows FROM input)
        )
        SELECT ", entry_columns!(), ", ", follow_columns!(), ", u.replies, n.mentions
        FROM input CROSS JOIN page
        JOIN chat_entries e ON e.id = page.id
        JOIN thread_follows m ON m.id = page.follow_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS replies FROM (
                SELECT FROM chat_entries e
                WHERE e.thread_root_id = page.id AND e.sequence > page.mark AND ", is_unread!(), "
                LIMIT input.most + 1
            ) e
        ) u
        CROSS JOIN LATERAL (
            SELECT count(*) AS mentions FROM (
                SELECT FROM chat_entries e
                WHERE e.thread_root_id = page.id AND e.sequence > page.mark AND ", is_unread!(), "
                    AND (e.mentions_everyone OR input.user_id = ANY (e.mentioned_user_ids))
                LIMIT input.most + 1
            ) e
        ) n
        ORDER BY page.at DESC, page.id DESC")
}

/// Which threads to list.
#[derive(Debug)]
pub struct ThreadFilter {
    /// Of this channel alone.
    pub channel_id: Option<ChannelId>,
    /// Those alone with something unread.
    pub unread: bool,
}

/// Lists the threads that the user who acts follows, beyond a position.
///
/// # Errors
/// No user acts.
pub async fn list(
    conn: &mut TenantConn,
    filter: &ThreadFilter,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<Followed>, Error> {
    let facts = conn.facts().clone();
    let statement = List {
        user_id: acting_user(&facts)?,
        channel_id: filter.channel_id,
        unread: filter.unread,
        before: beyond.as_ref().map(|position| position.at),
        before_id: beyond.map_or(Uuid::nil(), |position| position.id.0),
        most: MOST_COUNTED,
        rows: size.rows(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}
