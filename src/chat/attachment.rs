//! Files of entries: who sees them, and that they go with what they were said with.

use diesel::prelude::*;
use diesel::sql_types::{self, Array};
use diesel_async::RunQueryDsl;

use super::entry;
use crate::error::{Error, Precondition};
use crate::ids::{AttachmentId, ChatEntryId};
use crate::inbox::{Attachment, AttachmentState};
use crate::schema::tenant::attachments;
use crate::tenant::TenantConn;

/// Finds a file that who acts sees: of an entry of a channel that they see, or their own while it is
/// of none.
///
/// # Errors
/// There is none for them.
pub async fn get(conn: &mut TenantConn, id: AttachmentId) -> Result<Attachment, Error> {
    let facts = conn.facts().clone();
    let missing = || Error::not_found("attachment", id);
    let found = attachments::table
        .find(id)
        .filter(attachments::of_chat)
        .filter(attachments::state.eq(AttachmentState::Ready))
        .select((
            Attachment::as_select(),
            attachments::actor_kind,
            attachments::actor_id,
        ));
    let found: Option<(Attachment, String, String)> = found.first(conn).await.optional()?;
    let (found, kind, actor) = found.ok_or_else(missing)?;
    match found.chat_entry_id {
        Some(of) => match entry::get(conn, of).await {
            Ok((_, entry)) if entry.deleted_at.is_none() => Ok(found),
            Ok(_) | Err(Error::NotFound { .. }) => Err(missing()),
            Err(error) => Err(error),
        },
        None if (kind.as_str(), actor.as_str()) == (facts.actor.kind(), facts.actor.id()) => {
            Ok(found)
        }
        None => Err(missing()),
    }
}

/// Says why an entry of who acts cannot have these files.
///
/// # Errors
/// It cannot.
pub async fn refuse(conn: &mut TenantConn, ids: &[AttachmentId]) -> Result<(), Error> {
    let facts = conn.facts().clone();
    let found: Vec<Attachment> = attachments::table
        .filter(attachments::id.eq_any(ids))
        .filter(attachments::of_chat)
        .filter(attachments::state.eq(AttachmentState::Ready))
        .filter(attachments::actor_kind.eq(facts.actor.kind()))
        .filter(attachments::actor_id.eq(facts.actor.id()))
        .select(Attachment::as_select())
        .load(conn)
        .await?;
    for id in ids {
        let found = found.iter().find(|found| found.id == *id);
        let found = found.ok_or_else(|| Error::not_found("attachment", *id))?;
        if found.chat_entry_id.is_some() {
            let in_use = Precondition::AttachmentInUse(id.to_string());
            return Err(Error::FailedPrecondition(in_use));
        }
    }
    Ok(())
}

/// Lets go of the files of some entries and of some that were to be, in the open transaction, and
/// forgets what they were called.
pub async fn discard(
    conn: &mut TenantConn,
    of: &[ChatEntryId],
    unsent: &[AttachmentId],
) -> Result<(), Error> {
    let discarded: Vec<Discarded> = diesel::sql_query(
        "UPDATE attachments SET state = 'deleted', file_name = ''
         WHERE (chat_entry_id = ANY ($1) OR id = ANY ($2) AND of_chat AND chat_entry_id IS NULL)
             AND state <> 'deleted'
         RETURNING id",
    )
    .bind::<Array<sql_types::Uuid>, _>(of)
    .bind::<Array<sql_types::Uuid>, _>(unsent)
    .load(conn)
    .await?;
    if discarded.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = discarded.iter().map(|discarded| discarded.id).collect();
    // The answer to an upload tells of its file, and was kept when that was there: within the hour
    // that an upload may take.
    diesel::sql_query(
        "UPDATE requests r SET response = 'null', request_hash = ''
         FROM attachments a
         WHERE a.id = ANY ($1)
             AND r.created_at BETWEEN a.created_at AND a.created_at + interval '62 minutes'
             AND r.response ->> 'id' = a.id::text",
    )
    .bind::<Array<sql_types::Uuid>, _>(ids)
    .execute(conn)
    .await?;
    Ok(())
}

/// A file that was let go of.
#[derive(QueryableByName)]
struct Discarded {
    #[diesel(sql_type = sql_types::Uuid)]
    id: AttachmentId,
}
