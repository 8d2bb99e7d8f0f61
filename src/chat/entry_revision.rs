//! Edits and deletions of entries, and what entries said before.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::{Map, Value};

use super::attachment;
use super::capability::Capability;
use super::entry::{self, Entry, Mentions};
use super::{reaction, search};
use crate::access::Facts;
use crate::error::{Error, Precondition};
use crate::etag::check_etag;
use crate::event::log::{Change, append};
use crate::ids::ChatEntryId;
use crate::page::PageSize;
use crate::request_id;
use crate::schema::tenant::{channels, chat_entries, chat_entry_revisions, mentions};
use crate::tenant::TenantConn;

/// What an entry said before.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = chat_entry_revisions, check_for_backend(Pg))]
pub struct Revision {
    /// The entry.
    pub chat_entry_id: ChatEntryId,
    /// The first has 1.
    pub number: i32,
    /// What it said.
    pub text: String,
    /// The kind of who edited it.
    pub actor_kind: String,
    /// Who edited it.
    pub actor_id: String,
    /// The service that called for them.
    pub caller: String,
    /// When it was edited.
    pub created_at: DateTime<Utc>,
}

/// Which entry to change, and under which terms.
#[derive(Debug)]
pub struct Edit {
    /// The entry.
    pub id: ChatEntryId,
    /// The etag that it must have.
    pub etag: Option<String>,
}

impl Edit {
    fn check_etag(&self, entry: &Entry) -> Result<(), Error> {
        check_etag(self.etag.as_deref(), entry.etag())
    }
}

/// What to change in an entry.
#[derive(Debug, Default)]
pub struct EntryPatch {
    /// The text.
    pub text: Option<String>,
    /// Whom it mentions.
    pub mentions: Option<Mentions>,
    /// Free data.
    pub metadata: Option<Value>,
}

impl Entry {
    /// Whether who acts has written it.
    pub fn is_of(&self, facts: &Facts) -> bool {
        (self.author_kind.as_str(), self.author_id.as_str())
            == (facts.actor.kind(), facts.actor.id())
    }

    pub(super) fn change<'a>(&self, kind: &'a str, changed: Vec<&'a str>) -> Change<'a> {
        Change {
            kind,
            resource_kind: "chat_entry",
            resource_id: self.id.0,
            parent_id: Some(self.channel_id.0),
            sequence: Some(self.sequence),
            version: self.version,
            changed,
        }
    }

    /// Whom it mentions.
    pub fn mentions(&self) -> Mentions {
        Mentions {
            user_ids: self.mentioned_user_ids.iter().flatten().cloned().collect(),
            everyone: self.mentions_everyone,
            here: self.mentions_here,
        }
    }
}

/// Changes an entry that who acts has written, and keeps what it said.
///
/// # Errors
/// There is none for them, it is somebody else's, its etag is another one, or its channel does not
/// let them post or mention everyone.
pub async fn edit(conn: &mut TenantConn, edit: Edit, patch: EntryPatch) -> Result<Entry, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let (seen, current) = entry::lock(conn, edit.id).await?;
        if current.deleted_at.is_some() {
            return Err(Error::not_found("chat_entry", edit.id));
        }
        if !current.is_of(&facts) && facts.unrestricted.is_none() {
            let other = Precondition::ChatEntryNotOwn(edit.id.to_string());
            return Err(Error::FailedPrecondition(other));
        }
        edit.check_etag(&current)?;
        seen.check(&facts, Capability::Post)?;
        let before = current.mentions();
        let text = patch.text.unwrap_or_else(|| current.text.clone());
        if text.is_empty() && current.attachments.is_none() {
            return Err(Error::invalid(
                "text",
                "is required of an entry without files",
            ));
        }
        let named = patch.mentions.unwrap_or_else(|| before.clone());
        let metadata = patch.metadata.unwrap_or_else(|| current.metadata.clone());
        let broadcasts = |mentions: &Mentions| mentions.everyone || mentions.here;
        if broadcasts(&named) && !broadcasts(&before) {
            seen.check(&facts, Capability::Broadcast)?;
        }
        let fields = [
            ("text", text != current.text),
            ("mentions", named != before),
            ("metadata", metadata != current.metadata),
        ];
        let changed = fields.into_iter().filter(|(_, changes)| *changes);
        let changed: Vec<_> = changed.map(|(name, _)| name).collect();
        if changed.is_empty() {
            return Ok(current);
        }
        diesel::insert_into(chat_entry_revisions::table)
            .values((
                chat_entry_revisions::chat_entry_id.eq(edit.id),
                chat_entry_revisions::number.eq(current.edits + 1),
                chat_entry_revisions::text.eq(&current.text),
                chat_entry_revisions::actor_kind.eq(facts.actor.kind()),
                chat_entry_revisions::actor_id.eq(facts.actor.id()),
                chat_entry_revisions::caller.eq(&facts.caller.service),
                chat_entry_revisions::created_at.eq(sql::<Timestamptz>("directory.now()")),
            ))
            .execute(conn)
            .await?;
        let users: Vec<_> = named.user_ids.iter().cloned().map(Some).collect();
        let edited: Entry = diesel::update(chat_entries::table.find(edit.id))
            .set((
                chat_entries::text.eq(&text),
                chat_entries::metadata.eq(&metadata),
                chat_entries::mentioned_user_ids.eq(users),
                chat_entries::mentions_everyone.eq(named.everyone),
                chat_entries::mentions_here.eq(named.here),
                chat_entries::edits.eq(chat_entries::edits + 1),
                chat_entries::edited_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")),
                chat_entries::updated_at.eq(sql("directory.now()")),
                chat_entries::version.eq(chat_entries::version + 1),
            ))
            .returning(Entry::as_returning())
            .get_result(conn)
            .await?;
        if edited.text != current.text {
            search::index(conn, &edited).await?;
        }
        if named != before {
            mention(conn, &edited, named).await?;
        }
        append(conn, edited.change("chat_entry.updated", changed)).await?;
        Ok(edited)
    })
    .await
}

/// Records whom an edited entry mentions, in place of whom it did.
async fn mention(conn: &mut TenantConn, entry: &Entry, named: Mentions) -> Result<(), Error> {
    diesel::delete(mentions::table.filter(mentions::chat_entry_id.eq(entry.id)))
        .execute(conn)
        .await?;
    let author = (entry.author_kind == "user").then_some(&entry.author_id);
    let users = named.user_ids.into_iter();
    let users = users.chain(named.everyone.then(String::new));
    let rows = users.filter(|user| Some(user) != author).map(|user| {
        (
            mentions::chat_entry_id.eq(entry.id),
            mentions::user_id.eq(user),
            mentions::channel_id.eq(entry.channel_id),
            mentions::sequence.eq(entry.sequence),
            mentions::thread_root_id.eq(entry.thread_root_id),
            mentions::created_at.eq(entry.created_at),
        )
    });
    diesel::insert_into(mentions::table)
        .values(rows.collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes an entry, if its etag is still the one given; what is left of it stays so.
///
/// # Errors
/// There is none for who acts, its etag is another one, or it is somebody else's and they may not.
pub async fn delete(conn: &mut TenantConn, edit: Edit) -> Result<Entry, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let (seen, current) = entry::lock(conn, edit.id).await?;
        if current.deleted_at.is_some() {
            return Ok(current);
        }
        let needed = if current.is_of(&facts) {
            Capability::Post
        } else {
            Capability::DeleteEntries
        };
        seen.check(&facts, needed)?;
        edit.check_etag(&current)?;
        let deleted: Entry = diesel::update(chat_entries::table.find(edit.id))
            .set((
                chat_entries::text.eq(""),
                chat_entries::metadata.eq(Value::Object(Map::new())),
                chat_entries::attachments.eq(None::<Value>),
                chat_entries::mentioned_user_ids.eq(Vec::<Option<String>>::new()),
                chat_entries::mentions_everyone.eq(false),
                chat_entries::mentions_here.eq(false),
                chat_entries::reactions.eq(Value::Array(Vec::new())),
                chat_entries::pinned_at.eq(None::<DateTime<Utc>>),
                chat_entries::pinned_by_kind.eq(None::<String>),
                chat_entries::pinned_by_id.eq(None::<String>),
                chat_entries::deleted_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")),
                chat_entries::updated_at.eq(sql("directory.now()")),
                chat_entries::version.eq(chat_entries::version + 1),
            ))
            .returning(Entry::as_returning())
            .get_result(conn)
            .await?;
        forget(conn, &deleted).await?;
        let root = match deleted.thread_root_id {
            Some(root) => Some(count_less(conn, root).await?),
            None => None,
        };
        // Who is about to reply to it has to look again.
        diesel::update(channels::table.find(deleted.channel_id))
            .set(channels::removals.eq(channels::removals + 1))
            .execute(conn)
            .await?;
        if let Some(root) = root {
            append(conn, root.change("chat_entry.updated", vec!["thread"])).await?;
        }
        append(conn, deleted.change("chat_entry.deleted", Vec::new())).await?;
        Ok(deleted)
    })
    .await
}

/// Forgets what a deleted entry said, wherever that was kept.
async fn forget(conn: &mut TenantConn, entry: &Entry) -> Result<(), Error> {
    attachment::discard(conn, &[entry.id], &[]).await?;
    request_id::forget_words(conn, entry.id.0).await?;
    diesel::delete(mentions::table.filter(mentions::chat_entry_id.eq(entry.id)))
        .execute(conn)
        .await?;
    let revisions = chat_entry_revisions::table;
    diesel::delete(revisions.filter(chat_entry_revisions::chat_entry_id.eq(entry.id)))
        .execute(conn)
        .await?;
    reaction::drop_all(conn, entry.id).await?;
    search::forget(conn, entry.id).await?;
    // The first answer to the request that made it tells what it said.
    diesel::sql_query(
        "UPDATE requests SET response = 'null', request_hash = ''
         WHERE created_at BETWEEN $1 - interval '1 minute' AND $1 + interval '1 minute'
             AND strpos(response::text, $2) > 0",
    )
    .bind::<Timestamptz, _>(entry.created_at)
    .bind::<Text, _>(entry.id.to_string())
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts one reply less under an entry.
async fn count_less(conn: &mut TenantConn, root: ChatEntryId) -> Result<Entry, Error> {
    let root = diesel::update(chat_entries::table.find(root))
        .set((
            chat_entries::reply_count.eq(chat_entries::reply_count - 1),
            chat_entries::updated_at.eq(sql("directory.now()")),
            chat_entries::version.eq(chat_entries::version + 1),
        ))
        .returning(Entry::as_returning())
        .get_result(conn)
        .await?;
    Ok(root)
}

/// Lists what an entry said before, the newest first.
///
/// # Errors
/// There is none for who acts.
pub async fn list(
    conn: &mut TenantConn,
    id: ChatEntryId,
    before: Option<i32>,
    size: PageSize,
) -> Result<Vec<Revision>, Error> {
    entry::get(conn, id).await?;
    let revisions = chat_entry_revisions::table
        .filter(chat_entry_revisions::chat_entry_id.eq(id))
        .filter(chat_entry_revisions::number.lt(before.unwrap_or(i32::MAX)))
        .order(chat_entry_revisions::number.desc())
        .limit(size.rows())
        .select(Revision::as_select());
    Ok(revisions.load(conn).await?)
}
