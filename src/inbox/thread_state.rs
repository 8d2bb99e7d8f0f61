//! Where a thread stands with its provider: what is solved there is archived here. The newest news
//! count, in whatever order they come, and also if they come before the messages.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::FutureExt as _;

use super::change::{self, Alteration, ChangeKind, Target};
use super::inbound::{Effect, EventKind, InboundMessage, Origin, claim};
use super::message::Direction;
use super::{opening, receipt};
use crate::error::Error;
use crate::ids::{ChannelAccountId, ConversationId};
use crate::schema::tenant::{inbox_conversations, thread_states};
use crate::tenant::TenantConn;

/// That a thread was closed or opened again.
#[derive(Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// What the provider calls the news.
    pub provider_id: String,
    /// What separates the thread from others.
    pub thread_key: String,
    /// Whether it is closed.
    pub archived: bool,
    /// When the provider says that it happened.
    pub at: Option<DateTime<Utc>>,
}

/// Keeps where a thread stands, and archives its conversation or opens it again, unless something
/// newer is known.
pub(super) async fn record(
    conn: &mut TenantConn,
    origin: Origin,
    state: &ThreadState,
) -> Result<Effect, Error> {
    conn.transaction(async |conn| {
        receipt::lock(conn, origin, &state.thread_key).await?;
        let kind = EventKind::ThreadState;
        if !claim(conn, origin, &state.provider_id, kind, "").await? {
            return Ok(Effect::Known);
        }
        if keep(conn, origin.account, state).await?
            && let Some(id) = opening::find_thread(conn, origin.account, &state.thread_key).await?
        {
            set_archived(conn, id, state.archived).await?;
        }
        Ok(Effect::Applied)
    })
    .await
}

/// Keeps where a thread stands; tells whether it is the newest that is known.
async fn keep(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    state: &ThreadState,
) -> Result<bool, Error> {
    let kept = diesel::sql_query(
        "INSERT INTO thread_states AS s (channel_account_id, thread_key, archived, changed_at)
        VALUES ($1, $2, $3, coalesce($4, directory.now()))
        ON CONFLICT (channel_account_id, thread_key) DO UPDATE
        SET archived = excluded.archived, changed_at = excluded.changed_at
        WHERE s.changed_at <= excluded.changed_at",
    )
    .bind::<sql_types::Uuid, _>(account)
    .bind::<Text, _>(&state.thread_key)
    .bind::<Bool, _>(state.archived)
    .bind::<Nullable<Timestamptz>, _>(state.at)
    .execute(conn)
    .await?;
    Ok(kept == 1)
}

/// Tells whether a message was written before its thread was closed. Of an answer of unknown time
/// that is assumed. To be called by who holds the thread's lock.
pub(super) async fn was_closed_after(
    conn: &mut TenantConn,
    origin: Origin,
    message: &InboundMessage,
) -> Result<bool, Error> {
    let closed_at: Option<DateTime<Utc>> = thread_states::table
        .find((origin.account, &message.thread.key))
        .filter(thread_states::archived)
        .select(thread_states::changed_at)
        .first(conn)
        .await
        .optional()?;
    let is_answer = message.direction != Direction::Inbound;
    Ok(closed_at.is_some_and(|closed_at| message.at.map_or(is_answer, |at| at <= closed_at)))
}

/// Archives a conversation or opens it again as its provider says, if that changes anything.
pub(super) async fn set_archived(
    conn: &mut TenantConn,
    id: ConversationId,
    archived: bool,
) -> Result<(), Error> {
    let is_archived: bool = inbox_conversations::table
        .find(id)
        .select(inbox_conversations::archived_at.is_not_null())
        .first(conn)
        .await?;
    if is_archived == archived {
        return Ok(());
    }
    let kind = if archived {
        ChangeKind::Archived
    } else {
        ChangeKind::Reopened
    };
    let alteration = Alteration {
        rule: "provider",
        ..Alteration::new(kind)
    };
    let altered = change::alter(conn, Target { id, etag: None }, &alteration);
    match altered.boxed().await {
        // Another one of the person goes on in its place.
        Ok(_) | Err(Error::FailedPrecondition(_) | Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
