//! Entries that are to be posted at a time: kept apart until then, and entries like any other from
//! then on, under the same id.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attachment;
use super::capability::Capability;
use super::channel;
use super::entry::{EntryType, Mentions};
use super::post::{NewEntry, post};
use crate::error::Error;
use crate::etag::{check_etag, etag};
use crate::event::log::{self, Change};
use crate::ids::{AttachmentId, ChannelId, ChatEntryId};
use crate::page::PageSize;
use crate::request_id;
use crate::schedule::{self, Author, Failure};
use crate::schema::tenant::{chat_entries, scheduled_entries};
use crate::tenant::TenantConn;

/// An entry that is to be posted at a time.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = scheduled_entries, check_for_backend(Pg))]
pub struct ScheduledEntry {
    /// Its id, then and now.
    pub id: ChatEntryId,
    /// The channel.
    pub channel_id: ChannelId,
    /// The entry whose thread it is for.
    pub thread_root_id: Option<ChatEntryId>,
    /// What it is.
    #[diesel(column_name = type_)]
    pub entry_type: EntryType,
    /// The text.
    pub text: String,
    /// Free data.
    pub metadata: Value,
    /// Its files.
    pub attachment_ids: Vec<Option<AttachmentId>>,
    /// The users that it mentions.
    pub mentioned_user_ids: Vec<Option<String>>,
    /// Whether it mentions every member.
    pub mentions_everyone: bool,
    /// Whether it mentions those whose streams are open.
    pub mentions_here: bool,
    /// When it is to be posted.
    pub send_at: DateTime<Utc>,
    /// Why it could not be posted: the reason of the error.
    pub failure_reason: Option<String>,
    /// The same in words.
    pub failure_message: Option<String>,
    /// The kind of who wrote it.
    pub author_kind: String,
    /// Who wrote it.
    pub author_id: String,
    /// The service that called for them.
    pub caller: String,
    /// The correlation id of the call.
    pub correlation_id: String,
    /// Goes up with every change.
    pub version: i64,
    /// When it was scheduled.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl ScheduledEntry {
    /// The etag that stands for it.
    pub fn etag(&self) -> String {
        etag(self.version)
    }

    /// Whom it mentions.
    pub fn mentions(&self) -> Mentions {
        Mentions {
            user_ids: self.mentioned_user_ids.iter().flatten().cloned().collect(),
            everyone: self.mentions_everyone,
            here: self.mentions_here,
        }
    }

    /// The entry that it becomes.
    fn entry(&self) -> NewEntry {
        let files = self.attachment_ids.iter().copied().flatten();
        NewEntry {
            id: self.id,
            request_id: None,
            channel_id: self.channel_id,
            thread_root_id: self.thread_root_id,
            entry_type: self.entry_type,
            text: self.text.clone(),
            mentions: self.mentions(),
            metadata: self.metadata.clone(),
            attachments: files.collect(),
        }
    }
}

/// A change of an entry that is to be posted: what is `None` stays.
#[derive(Debug)]
pub struct ScheduledPatch {
    /// Which.
    pub id: ChatEntryId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// Whom it mentions.
    pub mentions: Option<Mentions>,
    /// Free data.
    pub metadata: Option<Value>,
    /// When it is to be posted.
    pub send_at: Option<DateTime<Utc>>,
}

/// Keeps an entry until it is to be posted.
///
/// # Errors
/// As `post`.
pub async fn create(
    conn: &mut TenantConn,
    new: NewEntry,
    send_at: DateTime<Utc>,
) -> Result<ScheduledEntry, Error> {
    conn.transaction(async |conn| {
        let request = new.request_id.as_ref();
        if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
            return Ok(answer);
        }
        check(conn, &new).await?;
        let facts = conn.facts().clone();
        let files: Vec<_> = new.attachments.iter().copied().map(Some).collect();
        let users: Vec<_> = new.mentions.user_ids.iter().cloned().map(Some).collect();
        let now = || sql::<Timestamptz>("directory.now()");
        let scheduled: ScheduledEntry = diesel::insert_into(scheduled_entries::table)
            .values((
                (
                    scheduled_entries::id.eq(new.id),
                    scheduled_entries::channel_id.eq(new.channel_id),
                    scheduled_entries::thread_root_id.eq(new.thread_root_id),
                    scheduled_entries::type_.eq(new.entry_type),
                    scheduled_entries::text.eq(&new.text),
                    scheduled_entries::metadata.eq(&new.metadata),
                    scheduled_entries::attachment_ids.eq(files),
                    scheduled_entries::mentioned_user_ids.eq(users),
                    scheduled_entries::mentions_everyone.eq(new.mentions.everyone),
                    scheduled_entries::mentions_here.eq(new.mentions.here),
                    scheduled_entries::send_at.eq(send_at),
                ),
                (
                    scheduled_entries::author_kind.eq(facts.actor.kind()),
                    scheduled_entries::author_id.eq(facts.actor.id()),
                    scheduled_entries::caller.eq(&facts.caller.service),
                    scheduled_entries::correlation_id.eq(&*facts.correlation_id),
                    scheduled_entries::created_at.eq(now()),
                    scheduled_entries::updated_at.eq(now()),
                ),
            ))
            .returning(ScheduledEntry::as_returning())
            .get_result(conn)
            .await?;
        if let Some(request) = request {
            request_id::keep_words(conn, request, &scheduled, Some(vec![scheduled.id.0])).await?;
        }
        log(conn, "scheduled_entry.created", &scheduled, Vec::new()).await?;
        Ok(scheduled)
    })
    .await
}

/// Refuses what could not be posted now either, so that who schedules it hears of it.
async fn check(conn: &mut TenantConn, new: &NewEntry) -> Result<(), Error> {
    let facts = conn.facts().clone();
    // Held, so that the channel is not erased before there is something to erase in it.
    let seen = channel::lock(conn, new.channel_id).await?;
    seen.check(&facts, Capability::Post)?;
    if new.mentions.everyone || new.mentions.here {
        seen.check(&facts, Capability::Broadcast)?;
    }
    if let Some(root) = new.thread_root_id {
        let found = chat_entries::table
            .find(root)
            .filter(chat_entries::channel_id.eq(new.channel_id))
            .filter(chat_entries::thread_root_id.is_null())
            .filter(chat_entries::deleted_at.is_null())
            .select(chat_entries::id);
        let found: Option<ChatEntryId> = found.first(conn).await.optional()?;
        found.ok_or_else(|| Error::not_found("chat_entry", root))?;
    }
    attachment::refuse(conn, &new.attachments).await
}

async fn log(
    conn: &mut TenantConn,
    kind: &'static str,
    scheduled: &ScheduledEntry,
    changed: Vec<&str>,
) -> Result<(), Error> {
    let change = Change {
        kind,
        resource_kind: "scheduled_entry",
        resource_id: scheduled.id.0,
        parent_id: Some(scheduled.channel_id.0),
        sequence: None,
        version: scheduled.version,
        changed,
    };
    log::append(conn, change).await
}

/// Those that somebody has scheduled.
#[diesel::dsl::auto_type(no_type_alias)]
fn by<'a>(kind: &'a str, id: &'a str) -> _ {
    scheduled_entries::table
        .filter(scheduled_entries::author_kind.eq(kind))
        .filter(scheduled_entries::author_id.eq(id))
}

/// Finds an entry that who acts has scheduled.
///
/// # Errors
/// They have not, or it was posted or given up.
pub async fn get(conn: &mut TenantConn, id: ChatEntryId) -> Result<ScheduledEntry, Error> {
    let facts = conn.facts().clone();
    let scheduled = by(facts.actor.kind(), facts.actor.id())
        .filter(scheduled_entries::id.eq(id))
        .select(ScheduledEntry::as_select());
    let found = scheduled.first(conn).await.optional()?;
    found.ok_or_else(|| missing(id))
}

/// Finds an entry that who acts has scheduled, and keeps it as it is until the open transaction ends.
async fn lock(conn: &mut TenantConn, id: ChatEntryId) -> Result<ScheduledEntry, Error> {
    let facts = conn.facts().clone();
    let scheduled = by(facts.actor.kind(), facts.actor.id())
        .filter(scheduled_entries::id.eq(id))
        .select(ScheduledEntry::as_select())
        .for_update();
    let found = scheduled.first(conn).await.optional()?;
    found.ok_or_else(|| missing(id))
}

fn missing(id: ChatEntryId) -> Error {
    Error::not_found("scheduled_entry", id)
}

/// Lists the entries that who acts has scheduled, the next first.
pub async fn list(
    conn: &mut TenantConn,
    channel: Option<ChannelId>,
    after: Option<(DateTime<Utc>, ChatEntryId)>,
    size: PageSize,
) -> Result<Vec<ScheduledEntry>, Error> {
    let facts = conn.facts().clone();
    let mut scheduled = by(facts.actor.kind(), facts.actor.id())
        .order((scheduled_entries::send_at, scheduled_entries::id))
        .limit(size.rows())
        .select(ScheduledEntry::as_select())
        .into_boxed();
    if let Some(id) = channel {
        scheduled = scheduled.filter(scheduled_entries::channel_id.eq(id));
    }
    if let Some((send_at, id)) = after {
        // The first condition is the one that an index can begin with.
        scheduled = scheduled
            .filter(scheduled_entries::send_at.ge(send_at))
            .filter(
                scheduled_entries::send_at
                    .gt(send_at)
                    .or(scheduled_entries::id.gt(id)),
            );
    }
    Ok(scheduled.load(conn).await?)
}

/// Changes an entry that who acts has scheduled; one that could not be posted is tried again.
///
/// # Errors
/// They have none of this id any more, or its etag is another one.
pub async fn update(conn: &mut TenantConn, patch: ScheduledPatch) -> Result<ScheduledEntry, Error> {
    conn.transaction(async |conn| {
        let current = lock(conn, patch.id).await?;
        check_etag(patch.etag.as_deref(), current.etag())?;
        let before = current.mentions();
        let text = patch.text.unwrap_or_else(|| current.text.clone());
        if text.is_empty() && current.attachment_ids.is_empty() {
            return Err(Error::invalid(
                "text",
                "is required of an entry without files",
            ));
        }
        let named = patch.mentions.unwrap_or_else(|| before.clone());
        let metadata = patch.metadata.unwrap_or_else(|| current.metadata.clone());
        let send_at = patch.send_at.unwrap_or(current.send_at);
        let fields = [
            ("text", text != current.text),
            ("mentions", named != before),
            ("metadata", metadata != current.metadata),
            ("send_time", send_at != current.send_at),
            ("failure", current.failure_reason.is_some()),
        ];
        let changed = fields.into_iter().filter(|(_, changes)| *changes);
        let changed: Vec<_> = changed.map(|(name, _)| name).collect();
        if changed.is_empty() {
            return Ok(current);
        }
        let users: Vec<_> = named.user_ids.into_iter().map(Some).collect();
        let updated: ScheduledEntry = diesel::update(scheduled_entries::table.find(patch.id))
            .set((
                scheduled_entries::text.eq(text),
                scheduled_entries::metadata.eq(metadata),
                scheduled_entries::mentioned_user_ids.eq(users),
                scheduled_entries::mentions_everyone.eq(named.everyone),
                scheduled_entries::mentions_here.eq(named.here),
                scheduled_entries::send_at.eq(send_at),
                scheduled_entries::failure_reason.eq(None::<String>),
                scheduled_entries::failure_message.eq(None::<String>),
                scheduled_entries::version.eq(scheduled_entries::version + 1),
                scheduled_entries::updated_at.eq(sql::<Timestamptz>("directory.now()")),
            ))
            .returning(ScheduledEntry::as_returning())
            .get_result(conn)
            .await?;
        log(conn, "scheduled_entry.updated", &updated, changed).await?;
        Ok(updated)
    })
    .await
}

/// Gives up an entry that who acts has scheduled.
///
/// # Errors
/// They have none of this id any more, or its etag is another one.
pub async fn delete(
    conn: &mut TenantConn,
    id: ChatEntryId,
    given: Option<String>,
) -> Result<(), Error> {
    conn.transaction(async |conn| {
        let current = lock(conn, id).await?;
        check_etag(given.as_deref(), current.etag())?;
        request_id::forget_words(conn, id.0).await?;
        forget(conn, &current).await
    })
    .await
}

async fn forget(conn: &mut TenantConn, scheduled: &ScheduledEntry) -> Result<(), Error> {
    diesel::delete(scheduled_entries::table.find(scheduled.id))
        .execute(conn)
        .await?;
    log(conn, "scheduled_entry.deleted", scheduled, Vec::new()).await
}

/// Lets go of what is scheduled for some channels that are being erased, in the open transaction;
/// returns the files that were kept for it.
pub async fn discard(
    conn: &mut TenantConn,
    channels: &[ChannelId],
) -> Result<Vec<AttachmentId>, Error> {
    let files: Vec<Vec<Option<AttachmentId>>> = diesel::delete(scheduled_entries::table)
        .filter(scheduled_entries::channel_id.eq_any(channels))
        .returning(scheduled_entries::attachment_ids)
        .get_results(conn)
        .await?;
    Ok(files.into_iter().flatten().flatten().collect())
}

impl schedule::Scheduled for ScheduledEntry {
    async fn due(conn: &mut TenantConn) -> Result<Vec<Self>, Error> {
        let due = scheduled_entries::table
            .filter(scheduled_entries::failure_reason.is_null())
            .filter(scheduled_entries::send_at.le(sql("directory.now()")))
            .order((scheduled_entries::send_at, scheduled_entries::id))
            .limit(schedule::STEP)
            .select(Self::as_select());
        Ok(due.load(conn).await?)
    }

    fn author(&self) -> Author {
        Author {
            kind: self.author_kind.clone(),
            id: self.author_id.clone(),
            caller: self.caller.clone(),
            correlation_id: self.correlation_id.clone(),
        }
    }

    async fn fulfil(&self, conn: &mut TenantConn) -> Result<(), Error> {
        conn.transaction(async |conn| {
            // Before the row itself, as by who erases the channel.
            channel::hold(conn, self.channel_id).await?;
            let scheduled = match lock(conn, self.id).await {
                Ok(scheduled) if scheduled.version == self.version => scheduled,
                Ok(_) | Err(Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            post(conn, scheduled.entry()).await?;
            forget(conn, &scheduled).await
        })
        .await
    }

    async fn fail(&self, conn: &mut TenantConn, failure: Failure) -> Result<(), Error> {
        conn.transaction(async |conn| {
            let failed: Option<Self> = diesel::update(scheduled_entries::table.find(self.id))
                .filter(scheduled_entries::version.eq(self.version))
                .set((
                    scheduled_entries::failure_reason.eq(failure.reason),
                    scheduled_entries::failure_message.eq(failure.message),
                    scheduled_entries::version.eq(scheduled_entries::version + 1),
                    scheduled_entries::updated_at.eq(sql::<Timestamptz>("directory.now()")),
                ))
                .returning(Self::as_returning())
                .get_result(conn)
                .await
                .optional()?;
            match failed {
                Some(failed) => {
                    log(conn, "scheduled_entry.updated", &failed, vec!["failure"]).await
                }
                None => Ok(()),
            }
        })
        .await
    }
}
