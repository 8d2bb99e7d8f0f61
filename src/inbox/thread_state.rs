//! Where a thread stands with its provider: what is solved there is archived here.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::FutureExt as _;

use super::change::{self, Alteration, ChangeKind, Target};
use super::inbound::{Effect, EventKind, Origin, claim};
use super::opening;
use crate::error::Error;
use crate::schema::tenant::inbox_conversations;
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
}

/// Archives a conversation that is closed, or opens it again; that of a thread which nobody knows
/// changes nothing.
pub(super) async fn record(
    conn: &mut TenantConn,
    origin: Origin,
    state: &ThreadState,
) -> Result<Effect, Error> {
    conn.transaction(async |conn| {
        let kind = EventKind::ThreadState;
        if !claim(conn, origin, &state.provider_id, kind, "").await? {
            return Ok(Effect::Known);
        }
        let found = opening::find_thread(conn, origin.account, &state.thread_key).await?;
        let Some(id) = found else {
            return Ok(Effect::Applied);
        };
        let is_archived: bool = inbox_conversations::table
            .find(id)
            .select(inbox_conversations::archived_at.is_not_null())
            .first(conn)
            .await?;
        if is_archived == state.archived {
            return Ok(Effect::Applied);
        }
        let kind = if state.archived {
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
            Ok(_) | Err(Error::FailedPrecondition(_) | Error::NotFound { .. }) => {
                Ok(Effect::Applied)
            }
            Err(error) => Err(error),
        }
    })
    .await
}
