//! What the team said about customers who are erased: it goes with them.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Timestamptz};
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};

use super::attachment;
use super::channel::Channel;
use super::schedule;
use crate::error::Error;
use crate::event::log::append;
use crate::ids::{ChannelId, ChatEntryId, ConversationId};
use crate::schema::tenant::{channels, chat_entries};
use crate::tenant::TenantConn;

/// Erases the channels about some conversations with all that was said there, in the open
/// transaction.
pub async fn erase_about(
    conn: &mut TenantConn,
    conversations: &[ConversationId],
) -> Result<(), Error> {
    let erased: Vec<Channel> = diesel::update(channels::table)
        .filter(channels::conversation_id.eq_any(conversations))
        .filter(channels::deleted_at.is_null())
        .set((
            channels::name.eq(""),
            channels::name_key.eq(""),
            channels::topic.eq(""),
            channels::metadata.eq(Value::Object(Map::new())),
            channels::deleted_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")),
            channels::updated_at.eq(sql("directory.now()")),
            channels::version.eq(channels::version + 1),
        ))
        .returning(Channel::as_returning())
        .get_results(conn)
        .await?;
    // Who posted meanwhile held the channel's row: now all is there that will be.
    let ids: Vec<_> = erased.iter().map(|channel| channel.id).collect();
    let with_files: Vec<ChatEntryId> = chat_entries::table
        .filter(chat_entries::channel_id.eq_any(&ids))
        .filter(chat_entries::attachments.is_not_null())
        .select(chat_entries::id)
        .load(conn)
        .await?;
    let unsent = schedule::discard(conn, &ids).await?;
    attachment::discard(conn, &with_files, &unsent).await?;
    diesel::delete(chat_entries::table)
        .filter(chat_entries::channel_id.eq_any(ids))
        .execute(conn)
        .await?;
    for channel in erased {
        append(conn, channel.change("channel.deleted", Vec::new())).await?;
    }
    Ok(())
}

/// Lists the channels about some conversations, erased ones too.
pub async fn about(
    conn: &mut TenantConn,
    conversations: &[ConversationId],
) -> Result<Vec<ChannelId>, Error> {
    let about = channels::table
        .filter(channels::conversation_id.eq_any(conversations))
        .select(channels::id);
    Ok(about.load(conn).await?)
}
