//! Files of messages: how they come in, and how they are read.
//!
//! Files of customers are fetched by [`media`](super::media). A row says `uploading` before anything of its file is written, and `ready` after all of it is
//! there and checked. What stops in between is cleaned up at once, or by the janitor.

use std::ops::Range;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::Jsonb;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::Receiver;
use tracing::Instrument as _;

use super::content_type;
use crate::error::{Chain, Conflict, Error, Precondition};
use crate::event::log::{self, Change};
use crate::file_store::FileWriter;
use crate::hex;
use crate::ids::{AttachmentId, ChatEntryId, MessageId, QuickReplyId};
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{attachments, inbox_messages};
use crate::stored_enum::stored_enum;
use crate::tenant::{TenantConn, TenantScope};

/// The most files that one message can have.
pub const MOST_OF_A_MESSAGE: usize = 20;

stored_enum! {
    /// How far a file has come.
    State {
        /// It may be there or not.
        Uploading = "uploading",
        /// It is with a provider, and is to be fetched.
        Pending = "pending",
        /// It is there.
        Ready = "ready",
        /// It could not be fetched.
        Failed = "failed",
        /// It is about to go.
        Deleted = "deleted",
    }
}

impl State {
    const fn ready() -> Self {
        Self::Ready
    }
}

stored_enum! {
    /// Why a file of a customer's could not be fetched.
    FetchFailure {
        /// The provider has it no more.
        Gone = "gone",
        /// It has more bytes than a file may have.
        TooLarge = "too_large",
        /// It is where nothing is fetched from.
        Refused = "refused",
        /// The provider does not let the account have it.
        Unauthorized = "unauthorized",
        /// The provider did not give it for as long as it keeps such files.
        Expired = "expired",
    }
}

/// A file that is there, or with a provider.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = attachments, check_for_backend(Pg))]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// How far it has come.
    #[serde(default = "State::ready")]
    pub state: State,
    /// Why it could not be fetched.
    #[serde(default)]
    pub failure: Option<FetchFailure>,
    /// By what the HTML of its mail shows it.
    #[serde(default)]
    pub content_id: Option<String>,
    /// The message that it belongs to.
    pub message_id: Option<MessageId>,
    /// The quick reply that it belongs to.
    #[serde(default)]
    pub quick_reply_id: Option<QuickReplyId>,
    /// The entry of the team's chat that it belongs to.
    #[serde(default)]
    pub chat_entry_id: Option<ChatEntryId>,
    /// What it is called.
    pub file_name: String,
    /// What it is.
    pub content_type: String,
    /// How long it is, once it is there.
    pub size_bytes: Option<i64>,
    /// The SHA-256 of its content, once it is there.
    pub sha256: Option<String>,
    /// When it was stored, or a provider told of it.
    pub created_at: DateTime<Utc>,
}

/// The files of a message, as its row has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, AsExpression, FromSqlRow)]
#[diesel(sql_type = Jsonb)]
#[serde(transparent)]
pub struct Attachments(pub Vec<Attachment>);

impl FromSql<Jsonb, Pg> for Attachments {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let value = <Value as FromSql<Jsonb, Pg>>::from_sql(value)?;
        Ok(serde_json::from_value(value)?)
    }
}

/// A file to store.
#[derive(Debug)]
pub struct NewAttachment {
    /// The caller's id for the request, which does not stand for the content yet.
    pub request_id: Option<RequestId>,
    /// Whether it is for the team's chat, and not for messages.
    pub of_chat: bool,
    /// What it is called.
    pub file_name: String,
    /// What it is.
    pub content_type: Option<String>,
    /// How long it is.
    pub size_bytes: Option<u64>,
    /// The SHA-256 of its content.
    pub sha256: Option<String>,
    /// How the content begins.
    pub beginning: Vec<u8>,
}

/// Stores a file whose content goes on as `content`.
///
/// # Errors
/// The content is not as it was said to be, too long, or breaks off; then nothing of it is kept.
pub async fn store(
    scope: TenantScope,
    new: NewAttachment,
    content: impl Stream<Item = Result<Vec<u8>, Error>> + Send + Unpin + 'static,
) -> Result<Attachment, Error> {
    // It goes on to an end of its own, whoever leaves: content that breaks off is one.
    let upload = async move {
        let _room = scope.files().room()?;
        let mut upload = Upload::new(scope);
        let stored = upload.run(new, content).await;
        let kept = stored.as_ref().is_ok_and(|stored| stored.id == upload.id);
        if upload.begun && !kept {
            upload.clean_up().await;
        }
        stored
    };
    let upload = tokio::spawn(upload.in_current_span());
    upload.await.map_err(Error::internal)?
}

/// A file on its way in.
struct Upload {
    scope: TenantScope,
    id: AttachmentId,
    /// Whether there is a row, and perhaps a file.
    begun: bool,
    file: FileWriter,
}

impl Upload {
    fn new(scope: TenantScope) -> Self {
        let id = AttachmentId::new();
        let file = scope.files().writer(id);
        Self {
            scope,
            id,
            begun: false,
            file,
        }
    }

    async fn run(
        &mut self,
        mut new: NewAttachment,
        mut content: impl Stream<Item = Result<Vec<u8>, Error>> + Unpin,
    ) -> Result<Attachment, Error> {
        let most = self.scope.files().most();
        if new.size_bytes.is_some_and(|size| size > most) {
            let description = format!("must be at most {most}");
            return Err(Error::invalid("size_bytes", description));
        }
        let beginning = std::mem::take(&mut new.beginning);
        self.take(&new, &beginning).await?;
        while let Some(chunk) = content.next().await {
            self.take(&new, &chunk?).await?;
        }
        self.end(new).await
    }

    /// Takes the next bytes, and writes a part when there is one.
    async fn take(&mut self, new: &NewAttachment, chunk: &[u8]) -> Result<(), Error> {
        let most = self.scope.files().most();
        self.file.push(chunk);
        if self.file.size() > most {
            let description = format!("must have at most {most} bytes in all frames together");
            return Err(Error::invalid("data", description));
        }
        if let Some(size) = new.size_bytes.filter(|size| self.file.size() > *size) {
            let description = format!("is {size}, but the content is longer");
            return Err(Error::invalid("size_bytes", description));
        }
        while self.file.has_part() {
            self.begin(new).await?;
            self.file.write_part().await?;
        }
        Ok(())
    }

    /// Adds the row, before anything is written.
    async fn begin(&mut self, new: &NewAttachment) -> Result<(), Error> {
        if !self.begun {
            self.begun = true;
            announce(&self.scope, self.id, new, self.file.unwritten()).await?;
        }
        Ok(())
    }

    /// Checks the content as a whole, and ends the file and its row.
    async fn end(&mut self, new: NewAttachment) -> Result<Attachment, Error> {
        let hash = self.file.hash();
        let sha256 = hex::digits(&hash);
        let size = self.file.size();
        if new.size_bytes.is_some_and(|said| said != size) {
            let description = format!("is not the size of the content, {size}");
            return Err(Error::invalid("size_bytes", description));
        }
        if new.sha256.as_ref().is_some_and(|said| *said != sha256) {
            let description = format!("is not that of the content, `{sha256}`");
            return Err(Error::invalid("sha256", description));
        }
        self.begin(&new).await?;
        self.file.end().await?;
        let request = new.request_id.map(|request| RequestId {
            // The same request has the same content, however that was cut.
            hash: digest(&SHA256, &[&request.hash, hash.as_slice()].concat())
                .as_ref()
                .to_vec(),
            ..request
        });
        let size = i64::try_from(size).map_err(Error::internal)?;
        let mut conn = self.scope.conn().await?;
        let of_chat = new.of_chat;
        finish(&mut conn, self.id, of_chat, request.as_ref(), size, &sha256).await
    }

    /// Removes what was written of a file that is not to be.
    async fn clean_up(&mut self) {
        self.file.abort().await;
        if let Err(error) = discard(&self.scope, self.id).await {
            let error = Chain(&error);
            tracing::debug!(attachment.id = %self.id, %error, "an upload is left to the janitor");
        }
    }
}

/// Adds the row of a file that is about to be written.
async fn announce(
    scope: &TenantScope,
    id: AttachmentId,
    new: &NewAttachment,
    beginning: &[u8],
) -> Result<(), Error> {
    let said = new.content_type.as_deref();
    let content_type = content_type::settle(said, beginning).ok_or_else(|| {
        let description = "is not what the first bytes of the content tell";
        Error::invalid("content_type", description)
    })?;
    let mut conn = scope.conn().await?;
    let facts = conn.facts().clone();
    diesel::insert_into(attachments::table)
        .values((
            attachments::id.eq(id),
            attachments::state.eq(State::Uploading),
            attachments::of_chat.eq(new.of_chat),
            attachments::file_name.eq(&new.file_name),
            attachments::content_type.eq(content_type),
            attachments::actor_kind.eq(facts.actor.kind()),
            attachments::actor_id.eq(facts.actor.id()),
            attachments::caller.eq(&facts.caller.service),
            attachments::correlation_id.eq(&*facts.correlation_id),
            attachments::created_at.eq(diesel::dsl::sql("directory.now()")),
        ))
        .execute(&mut conn)
        .await?;
    Ok(())
}

/// Makes a file ready that is there whole; returns the one of the first request, if this one is
/// not the first.
async fn finish(
    conn: &mut TenantConn,
    id: AttachmentId,
    of_chat: bool,
    request: Option<&RequestId>,
    size: i64,
    sha256: &str,
) -> Result<Attachment, Error> {
    conn.transaction(async |conn| {
        if let Some(request) = request
            && !request_id::claim(conn, request).await?
        {
            let answer = request_id::answer(conn, request).await?;
            return answer.ok_or(Error::Aborted(Conflict::Transaction));
        }
        let ready = diesel::update(attachments::table.find(id))
            .filter(attachments::state.eq(State::Uploading))
            .set((
                attachments::state.eq(State::Ready),
                attachments::size_bytes.eq(size),
                attachments::sha256.eq(sha256),
            ))
            .returning(Attachment::as_returning())
            .get_result(conn)
            .await
            .optional()?;
        // The janitor takes none that is younger than a day.
        let ready = ready.ok_or(Error::Aborted(Conflict::Transaction))?;
        if let Some(request) = request {
            request_id::keep(conn, request, &ready).await?;
        }
        log::append(conn, created(id, of_chat)).await?;
        Ok(ready)
    })
    .await
}

/// The event that a file is there; one of the team's chat is of another kind, which is not for all.
pub fn created<'a>(id: AttachmentId, of_chat: bool) -> Change<'a> {
    let (kind, resource_kind) = if of_chat {
        ("chat_attachment.created", "chat_attachment")
    } else {
        ("attachment.created", "attachment")
    };
    Change {
        kind,
        resource_kind,
        resource_id: id.0,
        parent_id: None,
        sequence: None,
        version: 1,
        changed: Vec::new(),
    }
}

/// Removes a file that did not become ready, and its row after it. Whether it did, the row knows:
/// the answer to the statement that said so may have been lost.
async fn discard(scope: &TenantScope, id: AttachmentId) -> Result<(), Error> {
    let mut conn = scope.conn().await?;
    let marked = diesel::update(attachments::table.find(id))
        .filter(attachments::state.eq(State::Uploading))
        .set(attachments::state.eq(State::Deleted))
        .execute(&mut conn)
        .await?;
    if marked == 1 {
        scope.files().remove(&[id]).await?;
        diesel::delete(attachments::table.find(id))
            .execute(&mut conn)
            .await?;
    }
    Ok(())
}

/// Finds a file, unless its message was deleted. Those of the team's chat are elsewhere.
pub async fn find(conn: &mut TenantConn, id: AttachmentId) -> Result<Option<Attachment>, Error> {
    let found = attachments::table
        .left_join(inbox_messages::table)
        .filter(attachments::id.eq(id))
        .filter(attachments::of_chat.eq(false))
        .filter(attachments::state.eq_any([State::Pending, State::Ready, State::Failed]))
        .filter(inbox_messages::deleted_at.is_null())
        .select(Attachment::as_select());
    Ok(found.first(conn).await.optional()?)
}

/// Which part of a file to read.
#[derive(Debug)]
pub struct Reading {
    /// Of which file.
    pub id: AttachmentId,
    /// From which byte on.
    pub offset: u64,
    /// How many bytes at most.
    pub length: Option<u64>,
}

impl Reading {
    /// The bytes to read of a file of a size.
    fn range(&self, size: u64) -> Result<Range<u64>, Error> {
        if self.offset > size {
            let description = format!("must be at most the size of the file, {size}");
            return Err(Error::invalid("offset", description));
        }
        let end = self
            .length
            .and_then(|length| self.offset.checked_add(length));
        Ok(self.offset..end.unwrap_or(size).min(size))
    }
}

/// Opens a file; returns what it is, and its content piece by piece.
///
/// # Errors
/// There is no such file, it is not there yet, or it ends before the part that is asked for.
pub async fn open(
    scope: &TenantScope,
    reading: &Reading,
) -> Result<(Attachment, Receiver<Result<Vec<u8>, Error>>), Error> {
    let found = find(&mut scope.conn().await?, reading.id).await?;
    let found = found.ok_or_else(|| Error::not_found("attachment", reading.id))?;
    let pieces = read(scope, &found, reading).await?;
    Ok((found, pieces))
}

/// Reads a file that was found.
///
/// # Errors
/// It is not there yet, or ends before the part that is asked for.
pub async fn read(
    scope: &TenantScope,
    found: &Attachment,
    reading: &Reading,
) -> Result<Receiver<Result<Vec<u8>, Error>>, Error> {
    let size = found
        .size_bytes
        .filter(|_| found.state == State::Ready)
        .ok_or_else(|| {
            let (id, state) = (found.id.to_string(), found.state.as_str());
            Error::FailedPrecondition(Precondition::AttachmentNotReady { id, state })
        })?;
    let size = u64::try_from(size).map_err(Error::internal)?;
    scope.files().read(found.id, reading.range(size)?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_with_the_file_at_the_latest() {
        let range = |offset, length| {
            let id = AttachmentId::new();
            Reading { id, offset, length }.range(10).ok()
        };
        assert_eq!(range(0, None), Some(0..10));
        assert_eq!(range(3, Some(4)), Some(3..7));
        assert_eq!(range(3, Some(u64::MAX)), Some(3..10));
        assert_eq!(range(10, None), Some(10..10));
        assert_eq!(range(11, None), None);
    }
}
