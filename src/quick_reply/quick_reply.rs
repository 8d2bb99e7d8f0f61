//! Quick replies: how they are made, found, edited and deleted.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::{Content, Stored, Variant};
use super::variable::Variable;
use crate::access::Actor;
use crate::error::{Conflict, Error, Existing};
use crate::etag::{check_etag, etag};
use crate::event::log::{Change, append};
use crate::fold::fold;
use crate::ids::{AttachmentId, QuickReplyId};
use crate::inbox::{Attachment, give_attachments};
use crate::request_id::{self, RequestId};
use crate::schema::tenant::inbox_quick_replies;
use crate::tenant::TenantConn;

/// A quick reply.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = inbox_quick_replies, check_for_backend(Pg))]
pub struct QuickReply {
    /// Its id.
    pub id: QuickReplyId,
    /// The team that it belongs to, or empty.
    pub team_id: String,
    /// The user that it belongs to, or empty.
    pub user_id: String,
    /// What it says.
    #[diesel(embed)]
    pub content: Content,
    /// The files of the messages that are made of it.
    #[serde(default)]
    pub attachments: Stored<Attachment>,
    /// How often it was used.
    pub usage_count: i64,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Goes up with every change.
    pub version: i64,
    /// Goes up with every edit of a caller.
    pub edit_version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last edited.
    pub updated_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Whose a new quick reply is to be.
#[derive(Debug)]
pub enum Scope {
    /// Everybody's.
    Tenant,
    /// A team's.
    Team(String),
    /// A user's own: of the one named, or else of who acts.
    User(Option<String>),
}

impl Scope {
    /// Says which team and which user it belongs to; empty for neither.
    fn belongs_to(self, actor: &Actor) -> Result<(String, String), Error> {
        let refused = |problem: &str| Err(Error::invalid("user_id", problem));
        match (self, actor) {
            (Self::Tenant, _) => Ok(Default::default()),
            (Self::Team(team), _) => Ok((team, String::new())),
            (Self::User(Some(named)), Actor::User(acting)) if named != *acting => {
                refused("must be the user who acts")
            }
            (Self::User(_), Actor::User(acting)) => Ok((String::new(), acting.clone())),
            (Self::User(Some(named)), Actor::Bot(_) | Actor::Service(_)) => {
                Ok((String::new(), named))
            }
            (Self::User(None), Actor::Bot(_) | Actor::Service(_)) => {
                refused("is required where no user acts")
            }
        }
    }
}

/// The user whose own quick replies can be seen: who acts, or the one named where no user acts.
pub fn owner(conn: &TenantConn, named: Option<&str>) -> Option<String> {
    match &conn.facts().actor {
        Actor::User(acting) => Some(acting.clone()),
        Actor::Bot(_) | Actor::Service(_) => named.map(str::to_owned),
    }
}

/// The values of `user_id` of the quick replies that can be seen: of nobody in particular, and of
/// their owner.
pub fn visible(conn: &TenantConn, named: Option<&str>) -> Vec<String> {
    let shared = Some(String::new());
    shared.into_iter().chain(owner(conn, named)).collect()
}

/// A quick reply to make.
#[derive(Debug)]
pub struct NewQuickReply {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// Whose it is to be.
    pub scope: Scope,
    /// What it is to say.
    pub content: Content,
    /// Which files it is to have.
    pub attachment_ids: Vec<AttachmentId>,
}

/// Makes a quick reply.
///
/// # Errors
/// Its content is in disorder, its owner is not the user who acts, or its shortcut is taken.
pub async fn create(conn: &mut TenantConn, new: NewQuickReply) -> Result<QuickReply, Error> {
    if let Some(request) = &new.request_id
        && let Some(answer) = request_id::answer(conn, request).await?
    {
        return Ok(answer);
    }
    new.content.check(|_| true)?;
    let (team_id, user_id) = new.scope.belongs_to(&conn.facts().actor)?;
    conn.transaction(async |conn| {
        if let Some(request) = &new.request_id
            && !request_id::claim(conn, request).await?
        {
            let answer = request_id::answer(conn, request).await?;
            return answer.ok_or(Error::Aborted(Conflict::Transaction));
        }
        let id = QuickReplyId::new();
        let made = diesel::insert_into(inbox_quick_replies::table)
            .values((
                inbox_quick_replies::id.eq(id),
                inbox_quick_replies::team_id.eq(&team_id),
                inbox_quick_replies::user_id.eq(&user_id),
                new.content.columns(),
                inbox_quick_replies::created_at.eq(sql("directory.now()")),
                inbox_quick_replies::updated_at.eq(sql("directory.now()")),
            ))
            .returning(QuickReply::as_returning())
            .get_result(conn)
            .await;
        let mut made: QuickReply = made.map_err(|error| taken(error, &new.content.shortcut))?;
        if !new.attachment_ids.is_empty() {
            made.attachments = attach(conn, id, &new.attachment_ids).await?;
        }
        if let Some(request) = &new.request_id {
            request_id::keep(conn, request, &made).await?;
        }
        append(conn, made.change("quick_reply.created", Vec::new())).await?;
        Ok(made)
    })
    .await
}

/// Makes some files those of a quick reply.
async fn attach(
    conn: &mut TenantConn,
    id: QuickReplyId,
    ids: &[AttachmentId],
) -> Result<Stored<Attachment>, Error> {
    let attachments = Stored(give_attachments(conn, ids, id).await?);
    diesel::update(inbox_quick_replies::table.find(id))
        .set(inbox_quick_replies::attachments.eq(&attachments))
        .execute(conn)
        .await?;
    Ok(attachments)
}

impl QuickReply {
    fn change<'a>(&self, kind: &'a str, changed: Vec<&'a str>) -> Change<'a> {
        Change {
            kind,
            resource_kind: "quick_reply",
            resource_id: self.id.0,
            parent_id: None,
            sequence: None,
            version: self.version,
            changed,
        }
    }
}

/// Tells of a shortcut that another one of the scope has.
fn taken(error: DieselError, shortcut: &str) -> Error {
    match &error {
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, violation)
            if violation.constraint_name() == Some("inbox_quick_replies_shortcut_key") =>
        {
            Error::AlreadyExists(Existing::Shortcut(shortcut.to_owned()))
        }
        _ => error.into(),
    }
}

/// Loads quick replies whoever may see them, deleted ones too.
pub async fn load(conn: &mut TenantConn, ids: &[QuickReplyId]) -> Result<Vec<QuickReply>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = inbox_quick_replies::table
        .filter(inbox_quick_replies::id.eq_any(ids))
        .select(QuickReply::as_select());
    Ok(found.load(conn).await?)
}

/// Finds a quick reply that can be seen, a deleted one too.
pub async fn find(conn: &mut TenantConn, id: QuickReplyId) -> Result<Option<QuickReply>, Error> {
    let found = inbox_quick_replies::table
        .filter(inbox_quick_replies::id.eq(id))
        .filter(inbox_quick_replies::user_id.eq_any(visible(conn, None)))
        .select(QuickReply::as_select());
    Ok(found.first(conn).await.optional()?)
}

/// Finds a quick reply that can be seen, a deleted one too, and keeps it as it is until the
/// transaction ends.
pub async fn lock(conn: &mut TenantConn, id: QuickReplyId) -> Result<Option<QuickReply>, Error> {
    let found = inbox_quick_replies::table
        .filter(inbox_quick_replies::id.eq(id))
        .filter(inbox_quick_replies::user_id.eq_any(visible(conn, None)))
        .select(QuickReply::as_select())
        .for_no_key_update();
    Ok(found.first(conn).await.optional()?)
}

/// What to change in a quick reply.
#[derive(Debug, Default)]
pub struct QuickReplyPatch {
    /// What an agent types to find it.
    pub shortcut: Option<String>,
    /// What it is called.
    pub title: Option<String>,
    /// The template.
    pub text: Option<String>,
    /// The tag of its language, or empty.
    pub language: Option<String>,
    /// The template in other languages.
    pub variants: Option<Vec<Variant>>,
    /// The variables that it declares.
    pub variables: Option<Vec<Variable>>,
    /// Free data.
    pub metadata: Option<Value>,
    /// The files.
    pub attachment_ids: Option<Vec<AttachmentId>>,
}

impl QuickReplyPatch {
    /// Puts what changes into a content, and names it; the files too, which are not of the content.
    fn apply(self, content: &mut Content) -> Vec<&'static str> {
        fn put<T>(into: &mut T, new: Option<T>) -> bool {
            let changes = new.is_some();
            if let Some(new) = new {
                *into = new;
            }
            changes
        }
        let fields = [
            ("shortcut", put(&mut content.shortcut, self.shortcut)),
            ("title", put(&mut content.title, self.title)),
            ("text", put(&mut content.text, self.text)),
            ("language", put(&mut content.language, self.language)),
            (
                "variants",
                put(&mut content.variants, self.variants.map(Stored)),
            ),
            (
                "variables",
                put(&mut content.variables, self.variables.map(Stored)),
            ),
            ("metadata", put(&mut content.metadata, self.metadata)),
            ("attachments", self.attachment_ids.is_some()),
        ];
        let changed = fields.into_iter().filter(|(_, changes)| *changes);
        changed.map(|(name, _)| name).collect()
    }
}

/// Which quick reply to change, and under which terms.
#[derive(Debug)]
pub struct Edit {
    /// The quick reply.
    pub id: QuickReplyId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// Whether to check only.
    pub validate_only: bool,
}

impl Edit {
    fn check_etag(&self, quick_reply: &QuickReply) -> Result<(), Error> {
        check_etag(self.etag.as_deref(), etag(quick_reply.edit_version))
    }

    fn not_found(&self) -> Error {
        Error::not_found("quick_reply", self.id)
    }
}

/// Changes a quick reply, if its etag is still the one given.
///
/// # Errors
/// There is no such quick reply, its etag is another one, its content would be in disorder, or its
/// new shortcut is taken.
pub async fn update(
    conn: &mut TenantConn,
    edit: Edit,
    patch: QuickReplyPatch,
) -> Result<QuickReply, Error> {
    conn.transaction(async |conn| {
        let current = lock(conn, edit.id).await?;
        let mut current = current
            .filter(|current| current.deleted_at.is_none())
            .ok_or_else(|| edit.not_found())?;
        edit.check_etag(&current)?;
        let attachment_ids = patch.attachment_ids.clone();
        let changed = patch.apply(&mut current.content);
        if changed.is_empty() {
            return Ok(current);
        }
        current.content.check(|field| changed.contains(&field))?;
        if let Some(ids) = attachment_ids {
            attach(conn, edit.id, &ids).await?;
        }
        let updated = diesel::update(inbox_quick_replies::table.find(edit.id))
            .set((
                current.content.columns(),
                inbox_quick_replies::version.eq(inbox_quick_replies::version + 1),
                inbox_quick_replies::edit_version.eq(inbox_quick_replies::edit_version + 1),
                inbox_quick_replies::updated_at.eq(sql("directory.now()")),
            ))
            .returning(QuickReply::as_returning())
            .get_result(conn)
            .await;
        let updated: QuickReply =
            updated.map_err(|error| taken(error, &current.content.shortcut))?;
        append(conn, updated.change("quick_reply.updated", changed)).await?;
        Ok(updated)
    })
    .await
}

/// Deletes a quick reply, if its etag is still the one given.
///
/// # Errors
/// There is no such quick reply, it is deleted already, or its etag is another one.
pub async fn delete(conn: &mut TenantConn, edit: Edit) -> Result<QuickReply, Error> {
    conn.transaction(async |conn| {
        let current = lock(conn, edit.id).await?;
        let current = current
            .filter(|current| current.deleted_at.is_none())
            .ok_or_else(|| edit.not_found())?;
        edit.check_etag(&current)?;
        if edit.validate_only {
            return Ok(current);
        }
        mark(conn, &current, true, "quick_reply.deleted").await
    })
    .await
}

/// Brings a deleted quick reply back, if its etag is still the one given.
///
/// # Errors
/// There is no such quick reply, it is not deleted, its etag is another one, or its shortcut is
/// taken by now.
pub async fn undelete(conn: &mut TenantConn, edit: Edit) -> Result<QuickReply, Error> {
    conn.transaction(async |conn| {
        let current = lock(conn, edit.id).await?;
        let current = current.ok_or_else(|| edit.not_found())?;
        if current.deleted_at.is_none() {
            let id = current.id.to_string();
            return Err(Error::AlreadyExists(Existing::LiveQuickReply(id)));
        }
        edit.check_etag(&current)?;
        let shortcut = &current.content.shortcut;
        let other = inbox_quick_replies::table
            .filter(inbox_quick_replies::user_id.eq(&current.user_id))
            .filter(inbox_quick_replies::team_id.eq(&current.team_id))
            .filter(inbox_quick_replies::shortcut_key.eq(fold(shortcut)))
            .filter(inbox_quick_replies::deleted_at.is_null());
        if diesel::select(diesel::dsl::exists(other))
            .get_result(conn)
            .await?
        {
            return Err(Error::AlreadyExists(Existing::Shortcut(shortcut.clone())));
        }
        if edit.validate_only {
            return Ok(current);
        }
        mark(conn, &current, false, "quick_reply.undeleted").await
    })
    .await
}

/// Marks a quick reply as deleted or not.
async fn mark(
    conn: &mut TenantConn,
    current: &QuickReply,
    deleted: bool,
    kind: &str,
) -> Result<QuickReply, Error> {
    let deleted_at = if deleted { "directory.now()" } else { "NULL" };
    let marked = diesel::update(inbox_quick_replies::table.find(current.id))
        .set((
            inbox_quick_replies::deleted_at.eq(sql(deleted_at)),
            inbox_quick_replies::version.eq(inbox_quick_replies::version + 1),
            inbox_quick_replies::edit_version.eq(inbox_quick_replies::edit_version + 1),
            inbox_quick_replies::updated_at.eq(sql("directory.now()")),
        ))
        .returning(QuickReply::as_returning())
        .get_result(conn)
        .await;
    let marked: QuickReply = marked.map_err(|error| taken(error, &current.content.shortcut))?;
    append(conn, marked.change(kind, Vec::new())).await?;
    Ok(marked)
}
