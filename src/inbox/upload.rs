//! Files that visitors of the web chat bring themselves, before the message that they are for.

use diesel::prelude::*;
use diesel::sql_types::{self, Array, Text};
use diesel_async::RunQueryDsl;

use super::attachment::{Attachment, State};
use super::inbound::{FileSource, InboundMessage, Origin};
use crate::access::Actor;
use crate::error::{Error, Precondition};
use crate::ids::AttachmentId;
use crate::schema::tenant::attachments;
use crate::tenant::TenantConn;

/// The files of a message that are with us already.
pub(super) fn of(message: &InboundMessage) -> Vec<AttachmentId> {
    let uploads = message.files.iter().filter_map(|file| match file.source {
        FileSource::Upload(id) => Some(id),
        _ => None,
    });
    uploads.collect()
}

/// Finds a file that somebody has uploaded.
///
/// # Errors
/// They have not.
pub async fn find(
    conn: &mut TenantConn,
    owner: &Actor,
    id: AttachmentId,
) -> Result<Attachment, Error> {
    let found = attachments::table
        .find(id)
        .filter(attachments::state.eq(State::Ready))
        .filter(attachments::of_chat.eq(false))
        .filter(attachments::actor_kind.eq(owner.kind()))
        .filter(attachments::actor_id.eq(owner.id()))
        .select(Attachment::as_select());
    let found = found.first(conn).await.optional()?;
    found.ok_or_else(|| Error::not_found("upload", id))
}

/// Gives a message that was just recorded its files, in the same transaction.
///
/// # Errors
/// One of them is of another message already.
pub(super) async fn attach(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<(), Error> {
    let uploads = of(message);
    let [first, ..] = uploads.as_slice() else {
        return Ok(());
    };
    let attached = diesel::sql_query(
        "WITH recorded AS (
            SELECT message_id AS id FROM provider_events
            WHERE channel_account_id = $1 AND provider_id = $2 AND kind = 'message'
                AND occurrence = ''
        ), taken AS (
            UPDATE attachments a SET message_id = recorded.id
            FROM recorded
            WHERE a.id = ANY ($3) AND a.state = 'ready' AND a.message_id IS NULL
                AND a.quick_reply_id IS NULL AND NOT a.of_chat
            RETURNING a.*
        )
        UPDATE inbox_messages m
        SET attachments = (
            SELECT jsonb_agg(jsonb_build_object('id', t.id, 'message_id', t.message_id,
                'file_name', t.file_name, 'content_type', t.content_type,
                'size_bytes', t.size_bytes, 'sha256', t.sha256, 'created_at', t.created_at)
                ORDER BY array_position($3, t.id))
            FROM taken t
        )
        FROM recorded
        WHERE m.id = recorded.id AND (SELECT count(*) FROM taken) = cardinality($3)",
    )
    .bind::<sql_types::Uuid, _>(origin.account)
    .bind::<Text, _>(&message.provider_id)
    .bind::<Array<sql_types::Uuid>, _>(&uploads)
    .execute(conn)
    .await?;
    if attached == 1 {
        return Ok(());
    }
    let in_use = Precondition::AttachmentInUse(first.to_string());
    Err(Error::FailedPrecondition(in_use))
}
