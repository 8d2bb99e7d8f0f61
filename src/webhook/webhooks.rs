//! What a server knows of webhooks: it takes them in, and shows and replays what is in quarantine.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::delivery::{self, Delivery};
use super::lane::Lanes;
use super::quarantine::{self, QuarantineFilter, Quarantined};
use super::verified::Verified;
use super::worker::{ROOM, read, room};
use crate::channel::Channel;
use crate::error::{Chain, Error};
use crate::ids::{AppId, DeliveryId};
use crate::master_key::Sealer;
use crate::page::PageSize;
use crate::tenant::{App, Provider, TenantDirectory};

/// How long apps are believed to be as they were read.
const FRESH: Duration = Duration::from_millis(500);

/// Takes webhooks in and lets them have their effect.
#[derive(Clone)]
pub struct Webhooks(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) tenants: TenantDirectory,
    pub(super) sealer: Sealer,
    pub(super) days: u32,
    pub(super) quarantine_days: u32,
    pub(super) room: Arc<Semaphore>,
    pub(super) lanes: Lanes,
    pub(super) tasks: TaskTracker,
    apps: RwLock<HashMap<Option<AppId>, ReadApps>>,
}

/// Apps, and when they were read.
type ReadApps = (Instant, Arc<Vec<App>>);

/// What webhooks are taken in with.
pub struct WebhooksOptions {
    /// Whose they are.
    pub tenants: TenantDirectory,
    /// Seals deliveries.
    pub sealer: Sealer,
    /// How long deliveries are kept, in days.
    pub days: u32,
    /// How long those with items in quarantine are kept, in days.
    pub quarantine_days: u32,
}

impl Webhooks {
    /// Takes webhooks in.
    pub fn new(options: WebhooksOptions) -> Self {
        Self(Arc::new(Inner {
            tenants: options.tenants,
            sealer: options.sealer,
            days: options.days,
            quarantine_days: options.quarantine_days,
            room: Arc::new(Semaphore::new(ROOM)),
            lanes: Lanes::new(),
            tasks: TaskTracker::new(),
            apps: RwLock::default(),
        }))
    }

    /// The apps that may have signed: the one with that key, or those of the deployment.
    pub(super) async fn apps(&self, key: Option<AppId>) -> Result<Arc<Vec<App>>, Error> {
        let known = {
            let all = self.0.apps.read().unwrap_or_else(PoisonError::into_inner);
            all.get(&key).cloned()
        };
        if let Some((read_at, apps)) = known
            && read_at.elapsed() < FRESH
        {
            return Ok(apps);
        }
        let read_at = Instant::now();
        let apps = Arc::new(self.0.tenants.apps(Provider::Meta, key).await?);
        let mut all = self.0.apps.write().unwrap_or_else(PoisonError::into_inner);
        // What strangers make up must not fill the memory.
        if apps.is_empty() {
            all.remove(&key);
        } else {
            all.insert(key, (read_at, apps.clone()));
        }
        Ok(apps)
    }

    /// Commits a delivery, and applies it behind the answer.
    pub(super) async fn take(
        &self,
        channel: Channel,
        headers: &serde_json::Value,
        body: Verified<Bytes>,
        correlation_id: String,
    ) -> Result<(), Error> {
        // When there is no room for it, it goes to the queue.
        let room = self.0.room.clone().try_acquire_many_owned(room(&body)).ok();
        let lease = room.as_ref().map(|_| Uuid::now_v7());
        let mut conn = self.0.tenants.directory_conn().await?;
        let sealer = &self.0.sealer;
        let id = delivery::keep(
            &mut conn,
            sealer,
            channel,
            headers,
            &body,
            &correlation_id,
            lease,
        )
        .await?;
        drop(conn);
        if let (Some(room), Some(lease)) = (room, lease) {
            let delivery = Delivery {
                id,
                channel,
                body,
                correlation_id,
                attempts: 1,
                lease,
                taken_at: Instant::now(),
            };
            self.spawn(delivery, room).await;
        }
        Ok(())
    }

    /// Waits for the deliveries that are being applied.
    pub async fn drain(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Lists items in quarantine.
    pub async fn quarantined(
        &self,
        filter: &QuarantineFilter,
        size: PageSize,
        after: Option<(DeliveryId, i32)>,
    ) -> Result<Vec<Quarantined>, Error> {
        let mut conn = self.0.tenants.directory_conn().await?;
        quarantine::list(&mut conn, filter, size, after).await
    }

    /// Applies an item in quarantine once more; returns how it is afterwards.
    ///
    /// # Errors
    /// There is no such item, or something is in the way for now.
    pub async fn replay(
        &self,
        tenant: Option<&str>,
        id: DeliveryId,
        item: i32,
    ) -> Result<Quarantined, Error> {
        let not_found = || Error::not_found("quarantined_item", format!("{id}/{item}"));
        let mut conn = self.0.tenants.directory_conn().await?;
        let found = quarantine::find(&mut conn, tenant, id, item).await?;
        let found = found.ok_or_else(not_found)?;
        let delivery = delivery::find(&mut conn, &self.0.sealer, id).await?;
        drop(conn);
        if found.replayed_at.is_none() {
            let delivery = delivery.ok_or_else(not_found)?;
            let items = read(&delivery);
            let readable = items.is_ok();
            let outcome = self.apply_items(&delivery, &items, Some(item)).await?;
            if let Some(error) = outcome.wait {
                return Err(error);
            }
            // Item 0 that could be read this time has put what is left of it under its own number.
            if !outcome.quarantined || item == 0 && readable {
                let mut conn = self.0.tenants.directory_conn().await?;
                quarantine::release(&mut conn, id, item).await?;
            }
        }
        let mut conn = self.0.tenants.directory_conn().await?;
        let found = quarantine::find(&mut conn, None, id, item).await?;
        found.ok_or_else(not_found)
    }

    /// Replays, behind the call, what waits for an account that is connected now.
    pub fn connected(&self, channel: Channel, route_key: String) {
        let webhooks = self.clone();
        self.0.tasks.spawn(async move {
            if let Err(error) = webhooks.replay_waiting(channel, &route_key).await {
                tracing::warn!(error = %Chain(&error), "what waits for an account is still in quarantine");
            }
        });
    }

    async fn replay_waiting(&self, channel: Channel, route_key: &str) -> Result<(), Error> {
        const AT_A_TIME: i64 = 100;
        let mut after = (DeliveryId(Uuid::nil()), -1);
        loop {
            let mut conn = self.0.tenants.directory_conn().await?;
            let waiting =
                quarantine::waiting_for(&mut conn, channel, route_key, after, AT_A_TIME).await?;
            drop(conn);
            let Some(last) = waiting.last() else {
                return Ok(());
            };
            after = *last;
            for (id, item) in waiting {
                self.replay(None, id, item).await?;
            }
        }
    }
}
