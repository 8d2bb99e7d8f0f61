//! The leases of deliveries that wait for their turn, or take long: all are renewed in one statement.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::delivery::{self, Delivery, LEASE};
use super::webhooks::Webhooks;
use crate::error::{Chain, Error};
use crate::ids::DeliveryId;

/// How often leases are renewed.
const EVERY: Duration = Duration::from_secs(5);

/// The leases of this node, with when each was added.
#[derive(Default)]
pub struct Leases(Mutex<HashMap<DeliveryId, (Uuid, Instant)>>);

impl Leases {
    /// Tells whether nobody else is known to have it.
    pub(super) fn holds(&self, delivery: &Delivery) -> bool {
        let all = self.all();
        all.get(&delivery.id)
            .is_some_and(|(lease, _)| *lease == delivery.lease)
    }

    /// Those that are not quite new; most are gone before.
    fn lasting(&self) -> Vec<(DeliveryId, Uuid)> {
        let all = self.all();
        let lasting = all.iter().filter(|(_, (_, since))| since.elapsed() > EVERY);
        lasting.map(|(id, (lease, _))| (*id, *lease)).collect()
    }

    /// Forgets those that somebody else has.
    fn lose(&self, asked: &[(DeliveryId, Uuid)], renewed: &[DeliveryId]) {
        let renewed: std::collections::HashSet<_> = renewed.iter().collect();
        let mut all = self.all();
        for (id, lease) in asked.iter().filter(|(id, _)| !renewed.contains(id)) {
            if all.get(id).is_some_and(|(held, _)| held == lease) {
                all.remove(id);
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<DeliveryId, (Uuid, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease that is renewed until this is dropped.
pub(super) struct Held {
    webhooks: Webhooks,
    id: DeliveryId,
    lease: Uuid,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.webhooks.0.leases.all();
        if all
            .get(&self.id)
            .is_some_and(|(lease, _)| *lease == self.lease)
        {
            all.remove(&self.id);
        }
    }
}

impl Webhooks {
    /// Has the lease of a delivery renewed.
    pub(super) fn hold(&self, delivery: &Delivery) -> Held {
        let (id, lease) = (delivery.id, delivery.lease);
        self.0.leases.all().insert(id, (lease, Instant::now()));
        Held {
            webhooks: self.clone(),
            id,
            lease,
        }
    }

    /// Renews leases, until the service ends.
    pub(super) async fn renew_leases(&self) {
        const _: () = assert!(EVERY.as_secs() * 3 <= LEASE.as_secs());
        loop {
            tokio::time::sleep(EVERY).await;
            let asked = self.0.leases.lasting();
            if asked.is_empty() {
                continue;
            }
            let renewing = async {
                let mut conn = self.0.tenants.directory_conn().await?;
                delivery::renew(&mut conn, &asked).await
            };
            let renewed: Result<Vec<DeliveryId>, Error> = renewing.await;
            match renewed {
                Ok(renewed) => self.0.leases.lose(&asked, &renewed),
                Err(error) => {
                    tracing::warn!(deliveries = asked.len(), error = %Chain(&error), "leases cannot be renewed");
                }
            }
        }
    }
}
