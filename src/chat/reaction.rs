//! Reactions to entries: one of a kind for each user.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::{self, Integer, Jsonb, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::capability::Capability;
use super::emoji::Emoji;
use super::entry::{self, Entry, EntryRow, entry_columns};
use super::member::acting_user;
use crate::database::statement::statement;
use crate::error::{Error, Precondition};
use crate::event::log::append;
use crate::ids::ChatEntryId;
use crate::page::PageSize;
use crate::schema::tenant::chat_reactions;
use crate::tenant::TenantConn;

/// How many kinds of reactions an entry can have.
const MOST_KINDS: usize = 50;

/// One kind of reaction to an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// How many users reacted with it.
    pub count: i32,
    /// The first of them.
    pub user_ids: Vec<String>,
}

/// The reactions to an entry, as its row has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromSqlRow)]
#[serde(transparent)]
pub struct Reactions(pub Vec<Reaction>);

impl FromSql<Jsonb, Pg> for Reactions {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let value = <Value as FromSql<Jsonb, Pg>>::from_sql(value)?;
        Ok(serde_json::from_value(value)?)
    }
}

/// What one user reacted with.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = chat_reactions, check_for_backend(Pg))]
pub struct UserReaction {
    /// The user.
    pub user_id: String,
    /// The emoji.
    pub emoji: String,
    /// Its place among those of the entry.
    pub number: i32,
    /// When.
    pub created_at: DateTime<Utc>,
}

statement! {
    // The channel is locked by an earlier statement of the transaction. No row = it was there.
    /// Records a reaction.
    React<'a> -> Integer {
        chat_entry_id: ChatEntryId => sql_types::Uuid,
        emoji: &'a str => Text,
        user_id: &'a str => Text,
    }
    "
        INSERT INTO chat_reactions (chat_entry_id, emoji, user_id, number, created_at)
        SELECT input.chat_entry_id, input.emoji, input.user_id, coalesce(last.number, 0) + 1,
            greatest(directory.now(), last.created_at)
        FROM input LEFT JOIN LATERAL (
            SELECT r.number, r.created_at FROM chat_reactions r
            WHERE r.chat_entry_id = input.chat_entry_id ORDER BY r.number DESC LIMIT 1
        ) last ON true
        ON CONFLICT (chat_entry_id, emoji, user_id) DO NOTHING
        RETURNING number"
}

statement! {
    // A kind that is there stays where it is, whoever takes theirs back.
    /// Writes the reactions to an entry onto its row.
    Show<'a> -> EntryRow {
        chat_entry_id: ChatEntryId => sql_types::Uuid,
    }
    concat!("
        , kinds AS (
            SELECT r.emoji, count(*) AS count, min(r.number) AS first,
                (array_agg(r.user_id ORDER BY r.number))[:10] AS user_ids
            FROM chat_reactions r, input WHERE r.chat_entry_id = input.chat_entry_id
            GROUP BY r.emoji
        ), e AS (
            UPDATE chat_entries was
            SET version = was.version + 1, updated_at = directory.now(), reactions = (
                SELECT coalesce(jsonb_agg(
                    jsonb_build_object('emoji', k.emoji, 'count', k.count, 'user_ids', k.user_ids)
                    ORDER BY shown.place, k.first
                ), '[]')
                FROM kinds k
                LEFT JOIN jsonb_array_elements(was.reactions) WITH ORDINALITY AS shown (kind, place)
                    ON shown.kind ->> 'emoji' = k.emoji
            )
            FROM input WHERE was.id = input.chat_entry_id
            RETURNING was.*
        )
        SELECT ", entry_columns!(), " FROM e")
}

/// Makes the user who acts react to an entry.
///
/// # Errors
/// No user acts, there is no such entry for them, they may not, or it has too many kinds.
pub async fn add(conn: &mut TenantConn, id: ChatEntryId, emoji: &Emoji) -> Result<Entry, Error> {
    let facts = conn.facts().clone();
    let user_id = acting_user(&facts)?;
    conn.transaction(async |conn| {
        let current = lock(conn, id).await?;
        let kinds = &current.reactions.0;
        if kinds.len() >= MOST_KINDS && kinds.iter().all(|kind| kind.emoji != emoji.as_str()) {
            let limit = Precondition::ChatReactionLimit {
                entry: id.to_string(),
                limit: MOST_KINDS,
            };
            return Err(Error::FailedPrecondition(limit));
        }
        let statement = React {
            chat_entry_id: id,
            emoji: emoji.as_str(),
            user_id,
            life: PhantomData,
        };
        let added: Option<i32> = statement.get_result(conn).await.optional()?;
        match added {
            Some(_) => show(conn, id).await,
            None => Ok(current),
        }
    })
    .await
}

/// Takes back what the user who acts reacted to an entry with.
///
/// # Errors
/// No user acts, there is no such entry for them, or they may not.
pub async fn remove(conn: &mut TenantConn, id: ChatEntryId, emoji: &Emoji) -> Result<Entry, Error> {
    let facts = conn.facts().clone();
    let user_id = acting_user(&facts)?;
    conn.transaction(async |conn| {
        let current = lock(conn, id).await?;
        let own = chat_reactions::table.find((id, emoji.as_str(), user_id));
        match diesel::delete(own).execute(conn).await? {
            0 => Ok(current),
            _ => show(conn, id).await,
        }
    })
    .await
}

/// Finds an entry that who acts may react to, and keeps it as it is.
async fn lock(conn: &mut TenantConn, id: ChatEntryId) -> Result<Entry, Error> {
    let facts = conn.facts().clone();
    let (seen, current) = entry::lock(conn, id).await?;
    if current.deleted_at.is_some() {
        return Err(Error::not_found("chat_entry", id));
    }
    seen.check(&facts, Capability::Post)?;
    Ok(current)
}

async fn show(conn: &mut TenantConn, id: ChatEntryId) -> Result<Entry, Error> {
    let statement = Show {
        chat_entry_id: id,
        life: PhantomData,
    };
    let shown: Entry = statement.get_result(conn).await?;
    append(conn, shown.change("chat_entry.updated", vec!["reactions"])).await?;
    Ok(shown)
}

/// Drops the reactions to an entry that is deleted, in the open transaction.
pub async fn drop_all(conn: &mut TenantConn, id: ChatEntryId) -> Result<(), Error> {
    diesel::delete(chat_reactions::table.filter(chat_reactions::chat_entry_id.eq(id)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Lists who reacted to an entry, with one emoji or any, in the order in which they did.
///
/// # Errors
/// There is none for who acts.
pub async fn list(
    conn: &mut TenantConn,
    id: ChatEntryId,
    emoji: Option<&Emoji>,
    after: Option<i32>,
    size: PageSize,
) -> Result<Vec<UserReaction>, Error> {
    let (_, entry) = entry::get(conn, id).await?;
    if entry.deleted_at.is_some() {
        return Err(Error::not_found("chat_entry", id));
    }
    let mut reactions = chat_reactions::table
        .filter(chat_reactions::chat_entry_id.eq(id))
        .filter(chat_reactions::number.gt(after.unwrap_or(0)))
        .order(chat_reactions::number)
        .limit(size.rows())
        .select(UserReaction::as_select())
        .into_boxed();
    if let Some(emoji) = emoji {
        reactions = reactions.filter(chat_reactions::emoji.eq(emoji.as_str()));
    }
    Ok(reactions.load(conn).await?)
}
