//! Lists of the messages of a conversation, by their sequence.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Bool, Nullable};
use diesel_async::RunQueryDsl;

use super::message::{Message, MessageRow, message_columns};
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{ConversationId, MessageId};
use crate::page::PageSize;
use crate::schema::tenant::inbox_messages;
use crate::tenant::TenantConn;

/// The order of a list of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    OldestFirst,
    /// The newest first.
    NewestFirst,
}

statement! {
    // PostgreSQL takes every conversation for one of the average length, of which a few rows are
    // soon read and sorted. Of a range of pairs it expects many, and walks down the index.
    /// Lists messages upwards from a sequence.
    OldestFirst<'a> -> (sql_types::Uuid, Nullable<MessageRow>) {
        conversation_id: ConversationId => sql_types::Uuid,
        after: i64 => BigInt,
        shows_deleted: bool => Bool,
        rows: i64 => BigInt,
    }
    concat!(" SELECT c.id, ", message_columns!(), "
        FROM input JOIN inbox_conversations c ON c.id = input.conversation_id
        LEFT JOIN LATERAL (
            SELECT * FROM inbox_messages
            WHERE (conversation_id, sequence) > (c.id, input.after)
                AND (conversation_id, sequence) <= (c.id, 9223372036854775807)
                AND (input.shows_deleted OR deleted_at IS NULL)
            ORDER BY conversation_id, sequence LIMIT input.rows
        ) m ON true
        WHERE c.deleted_at IS NULL ORDER BY m.sequence")
}

statement! {
    /// Lists messages downwards from a sequence.
    NewestFirst<'a> -> (sql_types::Uuid, Nullable<MessageRow>) {
        conversation_id: ConversationId => sql_types::Uuid,
        before: i64 => BigInt,
        shows_deleted: bool => Bool,
        rows: i64 => BigInt,
    }
    concat!(" SELECT c.id, ", message_columns!(), "
        FROM input JOIN inbox_conversations c ON c.id = input.conversation_id
        LEFT JOIN LATERAL (
            SELECT * FROM inbox_messages
            WHERE (conversation_id, sequence) < (c.id, input.before)
                AND (conversation_id, sequence) > (c.id, 0)
                AND (input.shows_deleted OR deleted_at IS NULL)
            ORDER BY conversation_id DESC, sequence DESC LIMIT input.rows
        ) m ON true
        WHERE c.deleted_at IS NULL ORDER BY m.sequence DESC")
}

/// Lists the messages of a conversation beyond a sequence, in either order, with what is left of
/// deleted ones if that is wanted.
///
/// # Errors
/// There is no such conversation.
pub async fn list(
    conn: &mut TenantConn,
    conversation_id: ConversationId,
    order: Order,
    beyond: Option<i64>,
    shows_deleted: bool,
    size: PageSize,
) -> Result<Vec<Message>, Error> {
    let life = PhantomData;
    let rows = size.rows();
    let found: Vec<(ConversationId, Option<Message>)> = match order {
        Order::OldestFirst => {
            let after = beyond.unwrap_or(0);
            OldestFirst {
                conversation_id,
                after,
                shows_deleted,
                rows,
                life,
            }
            .load(conn)
            .await?
        }
        Order::NewestFirst => {
            let before = beyond.unwrap_or(i64::MAX);
            NewestFirst {
                conversation_id,
                before,
                shows_deleted,
                rows,
                life,
            }
            .load(conn)
            .await?
        }
    };
    if found.is_empty() {
        return Err(Error::not_found("conversation", conversation_id));
    }
    Ok(found
        .into_iter()
        .filter_map(|(_, message)| message)
        .collect())
}

/// Finds where a message stands in its conversation, or stood before it was deleted.
pub async fn find_sequence(
    conn: &mut TenantConn,
    conversation_id: ConversationId,
    id: MessageId,
) -> Result<Option<i64>, Error> {
    let sequence = inbox_messages::table
        .filter(inbox_messages::id.eq(id))
        .filter(inbox_messages::conversation_id.eq(conversation_id))
        .select(inbox_messages::sequence);
    Ok(sequence.first(conn).await.optional()?)
}
