//! What comes to its time by itself: conversations that were put aside, messages and
//! entries of the chat to be sent, files to be fetched.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::StreamExt as _;

use super::change::{self, Alteration, ChangeKind, Target};
use super::schedule::Scheduled;
use crate::chat::ScheduledEntry;
use crate::error::{Chain, Error};
use crate::ids::ConversationId;
use crate::schedule;
use crate::schema::tenant::inbox_conversations;
use crate::tenant::{Alarm, TenantConn, TenantDirectory, TenantScope};

/// How often alarms are listened for.
const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// How many tenants are seen to in one step.
const TAKEN: i64 = 16;
/// How many tenants are seen to at once.
const TOGETHER: usize = 4;
/// How many conversations of a tenant are woken in one step.
const WOKEN: i64 = 100;

/// Does what is due in every tenant, until the service ends. Files are for `fetch_files`, which
/// does not wait for them.
pub async fn work(tenants: TenantDirectory, fetch_files: impl Fn(TenantScope)) {
    loop {
        match tenants.take_alarms(TAKEN).await {
            Ok(alarms) if alarms.is_empty() => tokio::time::sleep(LISTEN_EVERY).await,
            Ok(alarms) => {
                let work = futures_util::stream::iter(&alarms);
                work.for_each_concurrent(TOGETHER, |alarm| see_to(&tenants, alarm, &fetch_files))
                    .await;
            }
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "alarms cannot be heard");
                tokio::time::sleep(LISTEN_EVERY).await;
            }
        }
    }
}

async fn see_to(tenants: &TenantDirectory, alarm: &Alarm, fetch_files: &impl Fn(TenantScope)) {
    let done = async {
        let scope = tenants.enter_for_alarm(alarm).await?;
        fetch_files(scope.clone());
        wake(&mut scope.conn().await?).await?;
        // What is in the way of the one is not in that of the other.
        let messages = schedule::do_due::<Scheduled>(&scope).await;
        schedule::do_due::<ScheduledEntry>(&scope).await?;
        messages?;
        tenants.end_alarm(alarm).await
    };
    let Err(error) = done.await else {
        return;
    };
    let slug = &alarm.slug;
    tracing::warn!(tenant.slug = slug, error = %Chain(&error), "what is due has to wait");
    // Where this fails too, the lease ends by itself.
    if let Err(error) = tenants.put_off_alarm(alarm).await {
        tracing::debug!(error = %Chain(&error), "an alarm cannot be put off");
    }
}

/// Wakes the conversations whose time has come.
async fn wake(conn: &mut TenantConn) -> Result<(), Error> {
    loop {
        let due: Vec<ConversationId> = inbox_conversations::table
            .filter(inbox_conversations::snoozed_until.le(diesel::dsl::sql("directory.now()")))
            .filter(inbox_conversations::deleted_at.is_null())
            .order(inbox_conversations::snoozed_until)
            .limit(WOKEN)
            .select(inbox_conversations::id)
            .load(conn)
            .await?;
        if due.is_empty() {
            return Ok(());
        }
        let wake = Alteration {
            rule: "snooze_due",
            snooze: Some(None),
            ..Alteration::new(ChangeKind::Woken)
        };
        for id in due {
            change::alter(conn, Target { id, etag: None }, &wake).await?;
        }
    }
}
