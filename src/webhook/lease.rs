//! The leases of deliveries that wait for their turn, or take long: all are renewed in one statement.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::delivery::{self, Delivery, LEASE};
use super::webhooks::Webhooks;
use crate::error::{Chain, Error};
use crate::ids::DeliveryId;

/// How often leases are renewed.
const EVERY: Duration = Duration::from_secs(10);

/// The leases of this node.
#[derive(Default)]
pub struct Leases(Mutex<Held>);

/// The lease of each delivery, and when it was added.
type Held = HashMap<DeliveryId, (Uuid, Instant)>;

impl Leases {
    /// Tells whether nobody else is known to have it.
    pub(super) fn holds(&self, delivery: &Delivery) -> bool {
        is_there(&self.all(), delivery.id, delivery.lease)
    }

    /// Forgets one, unless the delivery is under another by now.
    fn forget(&self, id: DeliveryId, lease: Uuid) {
        let mut all = self.all();
        if is_there(&all, id, lease) {
            all.remove(&id);
        }
    }

    /// Those that are not quite new; most are gone before.
    fn lasting(&self) -> Vec<(DeliveryId, Uuid)> {
        let all = self.all();
        let lasting = all.iter().filter(|(_, (_, since))| since.elapsed() > EVERY);
        lasting.map(|(id, (lease, _))| (*id, *lease)).collect()
    }

    fn all(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_there(all: &Held, id: DeliveryId, lease: Uuid) -> bool {
    all.get(&id).is_some_and(|(held, _)| *held == lease)
}

/// A lease that is renewed until this is dropped.
pub(super) struct Lease {
    webhooks: Webhooks,
    id: DeliveryId,
    lease: Uuid,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.webhooks.0.leases.forget(self.id, self.lease);
    }
}

impl Webhooks {
    /// Has the lease of a delivery renewed.
    pub(super) fn hold(&self, delivery: &Delivery) -> Lease {
        let (id, lease) = (delivery.id, delivery.lease);
        self.0.leases.all().insert(id, (lease, Instant::now()));
        Lease {
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
                let _turn = self.0.endings.turn.lock().await;
                let mut conn = self.0.tenants.directory_conn().await?;
                delivery::renew(&mut conn, &asked).await
            };
            let renewed: Result<Vec<DeliveryId>, Error> = renewing.await;
            match renewed {
                Ok(renewed) => {
                    let renewed: HashSet<_> = renewed.into_iter().collect();
                    // Somebody else has the others.
                    for (id, lease) in asked.iter().filter(|(id, _)| !renewed.contains(id)) {
                        self.0.leases.forget(*id, *lease);
                    }
                }
                Err(error) => {
                    tracing::warn!(deliveries = asked.len(), error = %Chain(&error), "leases cannot be renewed");
                }
            }
        }
    }
}
