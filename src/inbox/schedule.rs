//! Messages that are to be sent at a time: kept apart until then, and messages like any other from
//! then on, under the same id.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attachment_owner;
use super::message::{self, Direction, Location, MessageType, NewMessage};
use crate::error::{Error, Precondition};
use crate::etag::{check_etag, etag};
use crate::event::log::{self, Change};
use crate::ids::{AttachmentId, ConversationId, MessageId};
use crate::page::PageSize;
use crate::request_id;
use crate::schedule::{self, Author, Failure};
use crate::schema::tenant::{inbox_conversations, inbox_messages, scheduled_messages};
use crate::tenant::TenantConn;

/// A message that is to be sent at a time.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = scheduled_messages, check_for_backend(Pg))]
pub struct Scheduled {
    /// Its id, then and now.
    pub id: MessageId,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Which way it will go.
    pub direction: Direction,
    /// What it is.
    #[diesel(column_name = type_)]
    pub message_type: MessageType,
    /// The text.
    pub text: String,
    /// Degrees north, of a place.
    pub latitude: Option<f64>,
    /// Degrees east, of a place.
    pub longitude: Option<f64>,
    /// What the place is called.
    pub location_name: Option<String>,
    /// The place's address.
    pub location_address: Option<String>,
    /// The message that it answers.
    pub reply_to_message_id: Option<MessageId>,
    /// Free data.
    pub metadata: Value,
    /// Its files.
    pub attachment_ids: Vec<Option<AttachmentId>>,
    /// When it is to be sent.
    pub send_at: DateTime<Utc>,
    /// Why it could not be sent: the reason of the error.
    pub failure_reason: Option<String>,
    /// The same in words.
    pub failure_message: Option<String>,
    /// The kind of who wrote it.
    pub actor_kind: String,
    /// Who wrote it.
    pub actor_id: String,
    /// The calling service.
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

impl Scheduled {
    /// The etag that stands for it.
    pub fn etag(&self) -> String {
        etag(self.version)
    }

    /// The place that it tells of.
    pub fn location(&self) -> Option<Location> {
        Some(Location {
            latitude: self.latitude?,
            longitude: self.longitude?,
            name: self.location_name.clone().unwrap_or_default(),
            address: self.location_address.clone().unwrap_or_default(),
        })
    }
}

/// A change of a message that is to be sent: what is `None` stays.
#[derive(Debug)]
pub struct ScheduledPatch {
    /// Which.
    pub id: MessageId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// When it is to be sent.
    pub send_at: Option<DateTime<Utc>>,
}

/// Keeps a message until it is to be sent.
///
/// # Errors
/// As `message::create`.
pub async fn create(
    conn: &mut TenantConn,
    new: NewMessage,
    send_at: DateTime<Utc>,
) -> Result<Scheduled, Error> {
    conn.transaction(async |conn| {
        let request = new.request_id.as_ref();
        if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
            return Ok(answer);
        }
        check(conn, &new).await?;
        let facts = conn.facts().clone();
        let location = new.location.as_ref();
        let files: Vec<_> = new.attachments.iter().copied().map(Some).collect();
        let now = || sql::<Timestamptz>("directory.now()");
        let scheduled: Scheduled = diesel::insert_into(scheduled_messages::table)
            .values((
                (
                    scheduled_messages::id.eq(MessageId::new()),
                    scheduled_messages::conversation_id.eq(new.conversation_id),
                    scheduled_messages::direction.eq(new.direction),
                    scheduled_messages::type_.eq(new.message_type),
                    scheduled_messages::text.eq(&new.text),
                    scheduled_messages::latitude.eq(location.map(|place| place.latitude)),
                    scheduled_messages::longitude.eq(location.map(|place| place.longitude)),
                    scheduled_messages::location_name.eq(location.map(|place| &place.name)),
                    scheduled_messages::location_address.eq(location.map(|place| &place.address)),
                    scheduled_messages::reply_to_message_id.eq(new.reply_to),
                    scheduled_messages::metadata.eq(&new.metadata),
                    scheduled_messages::attachment_ids.eq(files),
                    scheduled_messages::send_at.eq(send_at),
                ),
                (
                    scheduled_messages::actor_kind.eq(facts.actor.kind()),
                    scheduled_messages::actor_id.eq(facts.actor.id()),
                    scheduled_messages::caller.eq(&facts.caller.service),
                    scheduled_messages::correlation_id.eq(&*facts.correlation_id),
                    scheduled_messages::created_at.eq(now()),
                    scheduled_messages::updated_at.eq(now()),
                ),
            ))
            .returning(Scheduled::as_returning())
            .get_result(conn)
            .await?;
        if let Some(request) = request {
            request_id::keep_words(conn, request, &scheduled, Some(vec![scheduled.id.0])).await?;
        }
        log(conn, "scheduled_message.created", &scheduled, Vec::new()).await?;
        Ok(scheduled)
    })
    .await
}

/// Refuses what could not be sent now either, so that who schedules it hears of it.
async fn check(conn: &mut TenantConn, new: &NewMessage) -> Result<(), Error> {
    let conversation = inbox_conversations::table
        .filter(inbox_conversations::id.eq(new.conversation_id))
        .filter(inbox_conversations::deleted_at.is_null())
        .select(inbox_conversations::archived_at);
    let archived_at: Option<Option<DateTime<Utc>>> = conversation.first(conn).await.optional()?;
    let id = new.conversation_id;
    let archived_at = archived_at.ok_or_else(|| Error::not_found("conversation", id))?;
    if archived_at.is_some() && new.direction == Direction::Outbound {
        let archived = Precondition::ConversationArchived(id.to_string());
        return Err(Error::FailedPrecondition(archived));
    }
    if let Some(reply_to) = new.reply_to {
        let message = inbox_messages::table
            .filter(inbox_messages::id.eq(reply_to))
            .filter(inbox_messages::deleted_at.is_null())
            .select(inbox_messages::id);
        let found: Option<MessageId> = message.first(conn).await.optional()?;
        found.ok_or_else(|| Error::not_found("message", reply_to))?;
    }
    attachment_owner::refuse(conn, &new.attachments, new.message_type).await
}

async fn log(
    conn: &mut TenantConn,
    kind: &'static str,
    scheduled: &Scheduled,
    changed: Vec<&str>,
) -> Result<(), Error> {
    let change = Change {
        kind,
        resource_kind: "scheduled_message",
        resource_id: scheduled.id.0,
        parent_id: None,
        sequence: None,
        version: scheduled.version,
        changed,
    };
    log::append(conn, change).await
}

/// Finds a message that is to be sent.
pub async fn find(conn: &mut TenantConn, id: MessageId) -> Result<Option<Scheduled>, Error> {
    let scheduled = scheduled_messages::table
        .find(id)
        .select(Scheduled::as_select());
    Ok(scheduled.first(conn).await.optional()?)
}

/// Lists the messages that are to be sent, the next first.
pub async fn list(
    conn: &mut TenantConn,
    conversation: Option<ConversationId>,
    after: Option<(DateTime<Utc>, MessageId)>,
    size: PageSize,
) -> Result<Vec<Scheduled>, Error> {
    let mut scheduled = scheduled_messages::table
        .order((scheduled_messages::send_at, scheduled_messages::id))
        .limit(size.rows())
        .select(Scheduled::as_select())
        .into_boxed();
    if let Some(id) = conversation {
        scheduled = scheduled.filter(scheduled_messages::conversation_id.eq(id));
    }
    if let Some((send_at, id)) = after {
        // The first condition is the one that an index can begin with.
        scheduled = scheduled
            .filter(scheduled_messages::send_at.ge(send_at))
            .filter(
                scheduled_messages::send_at
                    .gt(send_at)
                    .or(scheduled_messages::id.gt(id)),
            );
    }
    Ok(scheduled.load(conn).await?)
}

async fn lock(conn: &mut TenantConn, id: MessageId) -> Result<Scheduled, Error> {
    let scheduled = scheduled_messages::table
        .find(id)
        .select(Scheduled::as_select())
        .for_update();
    let found: Option<Scheduled> = scheduled.first(conn).await.optional()?;
    found.ok_or_else(|| Error::not_found("scheduled_message", id))
}

/// Changes a message that is to be sent; one that could not be sent is tried again.
///
/// # Errors
/// There is none of this id any more, or its etag is another one.
pub async fn update(conn: &mut TenantConn, patch: ScheduledPatch) -> Result<Scheduled, Error> {
    conn.transaction(async |conn| {
        let current = lock(conn, patch.id).await?;
        check_etag(patch.etag.as_deref(), current.etag())?;
        let text = patch.text.unwrap_or_else(|| current.text.clone());
        if text.is_empty() && current.message_type == MessageType::Text {
            return Err(Error::invalid("text", "is required for type TEXT"));
        }
        let send_at = patch.send_at.unwrap_or(current.send_at);
        let changed: Vec<_> = [
            (text != current.text).then_some("text"),
            (send_at != current.send_at).then_some("send_time"),
            current.failure_reason.is_some().then_some("failure"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if changed.is_empty() {
            return Ok(current);
        }
        let updated: Scheduled = diesel::update(scheduled_messages::table.find(patch.id))
            .set((
                scheduled_messages::text.eq(text),
                scheduled_messages::send_at.eq(send_at),
                scheduled_messages::failure_reason.eq(None::<String>),
                scheduled_messages::failure_message.eq(None::<String>),
                scheduled_messages::version.eq(scheduled_messages::version + 1),
                scheduled_messages::updated_at.eq(sql::<Timestamptz>("directory.now()")),
            ))
            .returning(Scheduled::as_returning())
            .get_result(conn)
            .await?;
        log(conn, "scheduled_message.updated", &updated, changed).await?;
        Ok(updated)
    })
    .await
}

/// Gives a message up that is to be sent.
///
/// # Errors
/// There is none of this id any more, or its etag is another one.
pub async fn delete(
    conn: &mut TenantConn,
    id: MessageId,
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

async fn forget(conn: &mut TenantConn, scheduled: &Scheduled) -> Result<(), Error> {
    diesel::delete(scheduled_messages::table.find(scheduled.id))
        .execute(conn)
        .await?;
    log(conn, "scheduled_message.deleted", scheduled, Vec::new()).await
}

impl schedule::Scheduled for Scheduled {
    async fn due(conn: &mut TenantConn) -> Result<Vec<Self>, Error> {
        let due = scheduled_messages::table
            .filter(scheduled_messages::failure_reason.is_null())
            .filter(scheduled_messages::send_at.le(sql("directory.now()")))
            .order((scheduled_messages::send_at, scheduled_messages::id))
            .limit(schedule::STEP)
            .select(Scheduled::as_select());
        Ok(due.load(conn).await?)
    }

    fn author(&self) -> Author {
        Author {
            kind: self.actor_kind.clone(),
            id: self.actor_id.clone(),
            caller: self.caller.clone(),
            correlation_id: self.correlation_id.clone(),
        }
    }

    async fn fulfil(&self, conn: &mut TenantConn) -> Result<(), Error> {
        send_as(conn, self.id, self.version).await
    }

    async fn fail(&self, conn: &mut TenantConn, failure: Failure) -> Result<(), Error> {
        conn.transaction(async |conn| {
            let failed: Option<Self> = diesel::update(scheduled_messages::table.find(self.id))
                .filter(scheduled_messages::version.eq(self.version))
                .set((
                    scheduled_messages::failure_reason.eq(failure.reason),
                    scheduled_messages::failure_message.eq(failure.message),
                    scheduled_messages::version.eq(scheduled_messages::version + 1),
                    scheduled_messages::updated_at.eq(sql::<Timestamptz>("directory.now()")),
                ))
                .returning(Self::as_returning())
                .get_result(conn)
                .await
                .optional()?;
            match failed {
                Some(failed) => {
                    log(conn, "scheduled_message.updated", &failed, vec!["failure"]).await
                }
                None => Ok(()),
            }
        })
        .await
    }
}

/// Sends a message in the name of who acts, unless somebody else has sent, changed or given it up.
async fn send_as(conn: &mut TenantConn, id: MessageId, version: i64) -> Result<(), Error> {
    conn.transaction(async |conn| {
        let scheduled = match lock(conn, id).await {
            Ok(scheduled) if scheduled.version == version => scheduled,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let files = scheduled.attachment_ids.iter().copied().flatten();
        let new = NewMessage {
            id,
            request_id: None,
            conversation_id: scheduled.conversation_id,
            direction: scheduled.direction,
            message_type: scheduled.message_type,
            text: scheduled.text.clone(),
            location: scheduled.location(),
            reply_to: scheduled.reply_to_message_id,
            metadata: scheduled.metadata.clone(),
            quick_reply: None,
            attachments: files.collect(),
        };
        message::create(conn, new).await?;
        forget(conn, &scheduled).await
    })
    .await
}
