//! Whose files are: which a message or a quick reply can take, and copies for the messages that are
//! made of a quick reply.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::attachment::{Attachment, State, created};
use super::message::MessageType;
use crate::error::{Error, Precondition};
use crate::event::log;
use crate::ids::{AttachmentId, QuickReplyId};
use crate::schema::tenant::attachments;
use crate::tenant::{TenantConn, TenantScope};

/// Says why a message of a type cannot have these files.
///
/// # Errors
/// It cannot.
pub async fn refuse(
    conn: &mut TenantConn,
    ids: &[AttachmentId],
    message_type: MessageType,
) -> Result<(), Error> {
    let found: Vec<Attachment> = attachments::table
        .filter(attachments::id.eq_any(ids))
        .filter(attachments::state.eq(State::Ready))
        .filter(attachments::of_chat.eq(false))
        .select(Attachment::as_select())
        .load(conn)
        .await?;
    for (index, id) in ids.iter().enumerate() {
        let found = find_free(&found, *id, None)?;
        let content_type = &found.content_type;
        if !content_type.starts_with(message_type.content_types()) {
            let description = format!(
                "is a file of type `{content_type}`, which a message of type `{}` cannot have",
                message_type.as_str()
            );
            return Err(Error::invalid(
                format!("attachment_ids[{index}]"),
                description,
            ));
        }
    }
    Ok(())
}

/// Finds a file among those that are there which is of nothing yet, or of a quick reply.
fn find_free(
    found: &[Attachment],
    id: AttachmentId,
    of: Option<QuickReplyId>,
) -> Result<&Attachment, Error> {
    let found = found.iter().find(|found| found.id == id);
    let found = found.ok_or_else(|| Error::not_found("attachment", id))?;
    let is_free = found
        .quick_reply_id
        .is_none_or(|quick_reply| Some(quick_reply) == of);
    if found.message_id.is_some() || !is_free {
        let in_use = Precondition::AttachmentInUse(id.to_string());
        return Err(Error::FailedPrecondition(in_use));
    }
    Ok(found)
}

/// Makes some files those of a quick reply, in their order, and lets go of those that it had beside
/// them. To be called in a transaction.
///
/// # Errors
/// One of them is not there, or of something else.
pub async fn give(
    conn: &mut TenantConn,
    ids: &[AttachmentId],
    to: QuickReplyId,
) -> Result<Vec<Attachment>, Error> {
    let found: Vec<Attachment> = attachments::table
        .filter(attachments::id.eq_any(ids))
        .filter(attachments::state.eq(State::Ready))
        .filter(attachments::of_chat.eq(false))
        .select(Attachment::as_select())
        .order(attachments::id)
        .for_no_key_update()
        .load(conn)
        .await?;
    let free: Result<Vec<_>, _> = (ids.iter())
        .map(|id| find_free(&found, *id, Some(to)))
        .collect();
    let given = free?.into_iter().map(|attachment| Attachment {
        quick_reply_id: Some(to),
        ..attachment.clone()
    });
    diesel::update(attachments::table.filter(attachments::id.eq_any(ids)))
        .set(attachments::quick_reply_id.eq(to))
        .execute(conn)
        .await?;
    diesel::update(attachments::table)
        .filter(attachments::quick_reply_id.eq(to))
        .filter(attachments::id.ne_all(ids))
        .set((
            attachments::state.eq(State::Deleted),
            attachments::file_name.eq(""),
        ))
        .execute(conn)
        .await?;
    Ok(given.collect())
}

/// Copies files, so that a message can have them; returns the copies' ids. A copy that no message
/// takes goes as any file does.
///
/// # Errors
/// The store of files or the database cannot be reached.
pub async fn copy(scope: &TenantScope, of: &[Attachment]) -> Result<Vec<AttachmentId>, Error> {
    let mut conn = scope.conn().await?;
    let facts = conn.facts().clone();
    let ids: Vec<_> = of.iter().map(|_| AttachmentId::new()).collect();
    let rows = of.iter().zip(&ids).map(|(attachment, id)| {
        (
            attachments::id.eq(*id),
            attachments::state.eq(State::Uploading),
            attachments::file_name.eq(&attachment.file_name),
            attachments::content_type.eq(&attachment.content_type),
            attachments::size_bytes.eq(attachment.size_bytes),
            attachments::sha256.eq(&attachment.sha256),
            attachments::actor_kind.eq(facts.actor.kind()),
            attachments::actor_id.eq(facts.actor.id()),
            attachments::caller.eq(&facts.caller.service),
            attachments::correlation_id.eq(&*facts.correlation_id),
            attachments::created_at.eq(diesel::dsl::sql("directory.now()")),
        )
    });
    diesel::insert_into(attachments::table)
        .values(rows.collect::<Vec<_>>())
        .execute(&mut conn)
        .await?;
    // The store may take its time.
    drop(conn);
    for (attachment, id) in of.iter().zip(&ids) {
        scope.files().copy(attachment.id, *id).await?;
    }
    let mut conn = scope.conn().await?;
    conn.transaction(async |conn| {
        diesel::update(attachments::table.filter(attachments::id.eq_any(&ids)))
            .set(attachments::state.eq(State::Ready))
            .execute(conn)
            .await?;
        for id in &ids {
            log::append(conn, created(*id, false)).await?;
        }
        Ok::<_, Error>(())
    })
    .await?;
    Ok(ids)
}
