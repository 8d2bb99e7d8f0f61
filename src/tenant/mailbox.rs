//! Mailboxes, and logs, which are read because nobody tells all that is in them: how far they are
//! read, and when next.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Double, Nullable, Text};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::directory::TenantDirectory;
use crate::channel::Channel;
use crate::error::Error;
use crate::ids::ChannelAccountId;

/// A mailbox to read, and the right to do so.
#[derive(Debug, QueryableByName)]
pub struct DueMailbox {
    /// The account.
    #[diesel(sql_type = sql_types::Uuid)]
    pub account_id: ChannelAccountId,
    /// What it is for.
    #[diesel(sql_type = Text)]
    pub channel: Channel,
    /// How far it is read; `None` before the first time.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub cursor: Option<i64>,
    /// How long ago its provider was last asked to tell of changes, in seconds.
    #[diesel(sql_type = Nullable<Double>)]
    pub watched_seconds_ago: Option<f64>,
    /// How often in a row it could not be read.
    #[diesel(sql_type = sql_types::Integer)]
    pub failures: i32,
    #[diesel(sql_type = sql_types::Uuid)]
    lease: Uuid,
}

impl TenantDirectory {
    /// Takes mailboxes that are to be read, for so long.
    pub async fn take_mailboxes(
        &self,
        most: i64,
        lease: Duration,
    ) -> Result<Vec<DueMailbox>, Error> {
        let taken = diesel::sql_query(
            "WITH due AS MATERIALIZED (
                SELECT m.account_id, a.channel
                FROM directory.mailboxes m
                JOIN directory.channel_accounts a ON a.id = m.account_id
                    AND a.disconnected_at IS NULL AND a.disabled_at IS NULL
                JOIN directory.tenants t ON t.id = a.tenant_id AND t.state = 'active'
                WHERE m.due_at <= directory.now()
                    AND (m.leased_until IS NULL OR m.leased_until < directory.now())
                ORDER BY m.due_at LIMIT $1
                FOR UPDATE OF m SKIP LOCKED
            )
            UPDATE directory.mailboxes m
            SET lease = gen_random_uuid(), leased_until = directory.now() + make_interval(secs => $2),
                due_at = directory.now() + make_interval(secs => $2)
            FROM due WHERE m.account_id = due.account_id
            RETURNING m.account_id, due.channel, m.cursor, m.failures, m.lease,
                extract(epoch FROM directory.now() - m.watched_at)::double precision
                    AS watched_seconds_ago",
        )
        .bind::<BigInt, _>(most)
        .bind::<Double, _>(lease.as_secs_f64())
        .load(&mut self.directory_conn().await?)
        .await?;
        Ok(taken)
    }

    /// Lets a mailbox be read now: something in it has changed, or its account is connected anew.
    pub async fn mailbox_changed(&self, account: ChannelAccountId) -> Result<(), Error> {
        diesel::sql_query(
            "INSERT INTO directory.mailboxes (account_id, due_at) VALUES ($1, directory.now())
            ON CONFLICT (account_id) DO UPDATE SET due_at = directory.now()",
        )
        .bind::<sql_types::Uuid, _>(account)
        .execute(&mut self.directory_conn().await?)
        .await?;
        Ok(())
    }

    /// Keeps how far a mailbox is read, and that its provider was asked to tell of changes; it is kept
    /// for so much longer. Tells whether it was: somebody else may have it by now.
    pub async fn mailbox_read(
        &self,
        mailbox: &DueMailbox,
        cursor: Option<i64>,
        is_watched: bool,
        lease: Duration,
    ) -> Result<bool, Error> {
        let kept = diesel::sql_query(
            "UPDATE directory.mailboxes
            SET cursor = greatest(cursor, $3),
                leased_until = directory.now() + make_interval(secs => $5),
                watched_at = CASE WHEN $4 THEN directory.now() ELSE watched_at END
            WHERE account_id = $1 AND lease = $2",
        )
        .bind::<sql_types::Uuid, _>(mailbox.account_id)
        .bind::<sql_types::Uuid, _>(mailbox.lease)
        .bind::<Nullable<BigInt>, _>(cursor)
        .bind::<sql_types::Bool, _>(is_watched)
        .bind::<Double, _>(lease.as_secs_f64())
        .execute(&mut self.directory_conn().await?)
        .await?;
        Ok(kept == 1)
    }

    /// Lets go of a mailbox until so much later, or until something is told of it; what was told
    /// meanwhile counts.
    pub async fn leave_mailbox(
        &self,
        mailbox: &DueMailbox,
        wait: Duration,
        failed: bool,
    ) -> Result<(), Error> {
        diesel::sql_query(
            "UPDATE directory.mailboxes
            SET lease = NULL, leased_until = NULL,
                failures = CASE WHEN $4 THEN failures + 1 ELSE 0 END,
                due_at = CASE WHEN due_at <= directory.now() AND NOT $4 THEN due_at
                    ELSE directory.now() + make_interval(secs => $3) END
            WHERE account_id = $1 AND lease = $2",
        )
        .bind::<sql_types::Uuid, _>(mailbox.account_id)
        .bind::<sql_types::Uuid, _>(mailbox.lease)
        .bind::<Double, _>(wait.as_secs_f64())
        .bind::<sql_types::Bool, _>(failed)
        .execute(&mut self.directory_conn().await?)
        .await?;
        Ok(())
    }
}
