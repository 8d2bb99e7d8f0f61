//! Where deliveries go, as it was found a moment ago: those that waited for their turn ask once for
//! all of their account.

use std::sync::Arc;
use std::time::Instant;

use quick_cache::sync::Cache;

use super::delivery::Delivery;
use super::item::{Item, sought};
use super::webhooks::{FRESH, Webhooks};
use crate::error::Error;
use crate::tenant::{Routes, Sought};

/// How many accounts, or keys of none, are kept in mind.
const ACCOUNTS: usize = 1024;

/// What was found, and since when it is so.
pub struct KnownRoutes(Cache<Sought, (Instant, Arc<Routes>)>);

impl Default for KnownRoutes {
    fn default() -> Self {
        Self(Cache::new(ACCOUNTS))
    }
}

impl KnownRoutes {
    /// Keeps in mind what was found of one account: what names many has seldom the same again.
    pub(super) fn note(&self, sought: Sought, asked_at: Instant, routes: Arc<Routes>) {
        if sought.keys.len() <= 1 {
            self.0.insert(sought, (asked_at, routes));
        }
    }

    /// Forgets all: one of the accounts has been changed.
    pub(super) fn forget(&self) {
        self.0.clear();
    }

    fn fresh(&self, sought: &Sought) -> Option<Arc<Routes>> {
        let known = self.0.get(sought);
        let fresh = known.filter(|(asked_at, _)| asked_at.elapsed() < FRESH);
        fresh.map(|(_, routes)| routes)
    }
}

impl Webhooks {
    /// Where the items of a delivery go. That they have no place is asked for each time: whoever had
    /// no account may have one by now.
    pub(super) async fn routes(
        &self,
        delivery: &Delivery,
        items: &[Item],
    ) -> Result<Arc<Routes>, Error> {
        let sought = sought(delivery, items);
        let fresh = self.0.known_routes.fresh(&sought);
        let have_places = |routes: &Arc<Routes>| have_places(delivery, items, routes);
        match fresh.filter(have_places) {
            Some(routes) => Ok(routes),
            None => self.routes_now(sought).await,
        }
    }

    /// Where what is sought is at this moment.
    pub(super) async fn routes_now(&self, sought: Sought) -> Result<Arc<Routes>, Error> {
        let asked_at = Instant::now();
        let routes = Arc::new(self.0.tenants.routes(&sought).await?);
        self.0.known_routes.note(sought, asked_at, routes.clone());
        Ok(routes)
    }
}

/// Whether all items go to nobody, or to accounts that take in what comes.
pub(super) fn have_places(delivery: &Delivery, items: &[Item], routes: &Routes) -> bool {
    items.iter().all(|item| item.has_place(delivery, routes))
}
