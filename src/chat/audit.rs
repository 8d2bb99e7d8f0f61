//! The record of what was seen or done past the rules.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::error::Error;
use crate::ids::ChannelId;
use crate::schema::tenant::audit_log;
use crate::tenant::TenantConn;

/// Records that a call goes past what the actor may see and do in a channel, if it does: in the open
/// transaction, where there is one.
pub async fn note(conn: &mut TenantConn, channel: ChannelId) -> Result<(), Error> {
    note_of(conn, Some(channel)).await
}

/// Records that a call goes past what the actor may see, in a list of channels.
pub async fn note_list(conn: &mut TenantConn) -> Result<(), Error> {
    note_of(conn, None).await
}

async fn note_of(conn: &mut TenantConn, channel: Option<ChannelId>) -> Result<(), Error> {
    let facts = conn.facts().clone();
    let Some(call) = facts.unrestricted else {
        return Ok(());
    };
    diesel::insert_into(audit_log::table)
        .values((
            audit_log::id.eq(Uuid::now_v7()),
            audit_log::call.eq(call),
            audit_log::resource_kind.eq("channel"),
            audit_log::resource_id.eq(channel),
            audit_log::actor_kind.eq(facts.actor.kind()),
            audit_log::actor_id.eq(facts.actor.id()),
            audit_log::caller.eq(&facts.caller.service),
            audit_log::correlation_id.eq(&*facts.correlation_id),
            audit_log::at.eq(sql::<Timestamptz>("directory.now()")),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
