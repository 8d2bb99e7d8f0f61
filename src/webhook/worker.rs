//! Applies deliveries: the items of each, one by one, each in a transaction of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;
use uuid::Uuid;

use super::applied::{Outcome, apply_one};
use super::delivery::{self, Delivery, Done};
use super::item::{Content, Item, Items, read, sought};
use super::known_routes::have_places;
use super::quarantine::{self, NewQuarantined, Quarantined, Reason};
use super::webhooks::{FRESH, Webhooks};
use crate::channel::Channel;
use crate::error::{Chain, Error};
use crate::ids::ChannelAccountId;
use crate::inbox::{Origin, is_source};
use crate::tenant::{Route, Routes, TenantScope, TenantState};

/// How many deliveries are taken up from the queue in one step.
const TAKEN_UP: i64 = 16;
/// What deliveries that wait for their turn may have together, in KiB.
pub(super) const ROOM: usize = 64 * 1024;
/// How often the queue is looked into.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often old deliveries are dropped, and those replayed whose account is connected by now.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How many are dropped in one step.
const DROPPED: i64 = 500;
/// How long what an item waits for may last before the whole delivery is tried again, at first
/// and at most.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl Webhooks {
    /// Takes up what is in the queue and drops what is old, until the service ends.
    pub async fn work(&self) {
        tokio::join!(self.renew_leases(), self.work_off());
    }

    async fn work_off(&self) {
        let mut tidied_at: Option<Instant> = None;
        loop {
            let found = match self.take_up().await {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "the queue of webhooks cannot be read");
                    0
                }
            };
            if tidied_at.is_none_or(|at| at.elapsed() > TIDY_EVERY) {
                tidied_at = Some(Instant::now());
                self.replay_waiting().await;
                if let Err(error) = self.drop_old().await {
                    tracing::warn!(error = %Chain(&error), "old deliveries cannot be dropped");
                }
            }
            if found == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn take_up(&self) -> Result<usize, Error> {
        let mut conn = self.0.tenants.directory_conn().await?;
        let found = delivery::take_up(&mut conn, &self.0.sealer, TAKEN_UP).await?;
        drop(conn);
        let count = found.len();
        for delivery in found {
            match delivery {
                Ok(delivery) => {
                    let room = self.0.room.clone().acquire_many_owned(room(&delivery.body));
                    if let Ok(room) = room.await {
                        let items = read(&delivery);
                        self.spawn(delivery, items, None, room).await;
                    }
                }
                // Those that came with it are not to blame.
                Err((id, error)) => {
                    tracing::error!(delivery.id = %id, error = %Chain(&error), "a delivery cannot be opened, it stays as it is");
                }
            }
        }
        Ok(count)
    }

    async fn drop_old(&self) -> Result<(), Error> {
        loop {
            let mut conn = self.0.tenants.directory_conn().await?;
            let (days, quarantine_days) = (self.0.days, self.0.quarantine_days);
            let dropped = delivery::drop_old(&mut conn, days, quarantine_days, DROPPED).await?;
            if i64::try_from(dropped).unwrap_or(0) < DROPPED {
                return Ok(());
            }
        }
    }

    /// Applies a delivery behind whoever calls, after those of the same person that came before.
    pub(super) async fn spawn(
        &self,
        delivery: Delivery,
        items: Items,
        routes: Option<Arc<Routes>>,
        room: OwnedSemaphorePermit,
    ) {
        let webhooks = self.clone();
        let first = items.as_ref().ok().and_then(|items| items.first());
        // What goes to no tenant needs no connection of one.
        let tenant = routes.as_ref().map(|routes| {
            let route = first.and_then(|item| item.route(&delivery, routes));
            route.map(|route| route.tenant.clone())
        });
        let tenants = self.0.tenants.clone();
        let is_connected = move || match &tenant {
            Some(Some(slug)) => tenants.is_connected(slug),
            Some(None) => true,
            None => false,
        };
        let turn = self.0.lanes.queue_up(first, is_connected).await;
        let held = self.hold(&delivery);
        let span = tracing::error_span!("delivery", delivery.id = %delivery.id, correlation_id = delivery.correlation_id);
        let applying = async move {
            let mut turn = turn.await;
            // Boxed, so that what is spawned for each delivery is small.
            let work = Box::pin(webhooks.apply(&delivery, &items, routes));
            let applied = turn.spend(work).await;
            drop((turn, held, items, delivery, room));
            match applied {
                Ok(Some(done)) => webhooks.end(done).await,
                Ok(None) => {}
                // Its lease ends, and it is taken up again.
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "a delivery could not be applied");
                }
            }
        };
        self.0.tasks.spawn(applying.instrument(span));
    }

    /// Applies a delivery, or puts it back.
    async fn apply(
        &self,
        delivery: &Delivery,
        items: &Items,
        routes: Option<Arc<Routes>>,
    ) -> Result<Option<Done>, Error> {
        let outcome = self.apply_items(delivery, items, routes, None).await?;
        match outcome.wait {
            None => Ok(Some(Done {
                id: delivery.id,
                lease: delivery.lease,
                is_repetition: outcome.known && !outcome.news,
            })),
            Some(error) => {
                let why = Chain(&error).to_string();
                tracing::warn!(
                    attempts = delivery.attempts,
                    error = why,
                    "a delivery waits"
                );
                self.put_back(delivery, back_off(delivery.attempts, WAITS), &why)
                    .await?;
                Ok(None)
            }
        }
    }

    async fn put_back(&self, delivery: &Delivery, wait: Duration, why: &str) -> Result<(), Error> {
        let mut conn = self.0.tenants.directory_conn().await?;
        delivery::put_back(&mut conn, delivery, wait, why).await
    }

    /// Applies the items of a delivery, or one of them. Where they go may be known from the moment
    /// it was kept.
    pub(super) async fn apply_items(
        &self,
        delivery: &Delivery,
        items: &Items,
        routes: Option<Arc<Routes>>,
        only: Option<&Quarantined>,
    ) -> Result<Outcome, Error> {
        let channel = delivery.channel;
        let origin = |route: &Route| Origin {
            account: route.account,
            channel,
            delivery: delivery.id,
        };
        let mut outcome = Outcome::default();
        let items = match items {
            Ok(items) => items,
            Err(why) => {
                let whole = (0, "", None);
                self.quarantine(delivery, whole, Reason::Unreadable, why)
                    .await?;
                outcome.stays = true;
                return Ok(outcome);
            }
        };
        let is_fresh = delivery.taken_at.elapsed() < FRESH;
        let known = routes.filter(|routes| is_fresh && have_places(delivery, items, routes));
        let routes = match known {
            Some(routes) => routes,
            None if only.is_some() => self.routes_now(sought(delivery, items)).await?,
            // Whoever had no account may have one by now, and the other way round.
            None => self.routes(delivery, items).await?,
        };
        self.note_proved(delivery, &routes).await?;
        let mut scopes: HashMap<ChannelAccountId, Result<TenantScope, Error>> = HashMap::new();
        for (number, item) in (1..).zip(items) {
            if only.is_some_and(|only| only.item != number && only.item != 0) {
                continue;
            }
            if only.is_none() && !self.0.leases.holds(delivery) {
                return Err(Error::internal("somebody else has taken the delivery up"));
            }
            let key = item.key(delivery);
            let route = item.route(delivery, &routes);
            let place = (number, key.as_str(), route);
            let refused = match (&item.content, route) {
                (Content::Ignored(what), _) => {
                    count(channel, what);
                    continue;
                }
                (
                    Content::BusinessState {
                        business_account,
                        state,
                    },
                    _,
                ) => {
                    let (app, at) = (delivery.body.app(), delivery.received_at());
                    let said = (state.as_str(), at);
                    let tenants = &self.0.tenants;
                    tenants
                        .note_business_state(app, business_account, said)
                        .await?;
                    count(channel, "account_state");
                    outcome.news = true;
                    continue;
                }
                (_, Some(route)) if route.app != delivery.body.app() => {
                    count(channel, "foreign_app");
                    outcome.stays = true;
                    outcome.news = true;
                    continue;
                }
                // What was of one tenant goes to no other.
                (_, Some(route)) if only.is_some_and(|only| !only.may_go_to(&route.tenant)) => {
                    outcome.stays = true;
                    continue;
                }
                // It is confirmed before there is an account, or there would never be one.
                (Content::Subscription(url), _) => {
                    self.0.amazon.confirm(url).await?;
                    count(channel, "subscribed");
                    outcome.news = true;
                    continue;
                }
                // Whom else a mail went to is not for us.
                (_, None) if channel == Channel::Email && routes.has_named() => {
                    count(channel, "other_recipient");
                    continue;
                }
                (_, None) => (Reason::UnknownAccount, String::new()),
                (_, Some(route)) if route.state != TenantState::Active => {
                    let state = route.state.as_str();
                    (Reason::UnknownAccount, format!("the tenant is {state}"))
                }
                (_, Some(route)) if route.disabled_at.is_some() => {
                    (Reason::UnknownAccount, "the account is disabled".to_owned())
                }
                // It has been brought for whom else it is for.
                (Content::StoredMail(_), Some(_)) if outcome.known => continue,
                (Content::StoredMail(place), Some(route)) => {
                    let brought = self.bring_stored(delivery, place, route).await;
                    match outcome.note(origin(route), brought) {
                        None => continue,
                        Some(words) => (Reason::Failed, words),
                    }
                }
                (Content::MailboxChanged, Some(route)) => {
                    self.read_mailbox(route.account).await?;
                    count(channel, "mailbox_changed");
                    // It says nothing but that.
                    outcome.known = true;
                    continue;
                }
                (Content::AccountState(state), Some(route)) => {
                    let at = delivery.received_at();
                    self.0.tenants.note_state(route.account, state, at).await?;
                    count(channel, "account_state");
                    outcome.news = true;
                    continue;
                }
                (Content::Unsupported(kind), _) => (Reason::Unsupported, kind.clone()),
                (Content::Unreadable(why), _) => (Reason::Unreadable, why.clone()),
                // What comes later of this account waits, too, or it would come first.
                (Content::Inbound(_), Some(route)) if outcome.waiting.contains(&route.account) => {
                    continue;
                }
                (Content::Inbound(inbound), Some(route)) => {
                    let scope = match scopes.entry(route.account) {
                        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::hash_map::Entry::Vacant(entry) => {
                            let id = &delivery.correlation_id;
                            entry.insert(self.0.tenants.enter_account(route, channel, id).await)
                        }
                    };
                    let origin = origin(route);
                    let applied = apply_one(self, scope, origin, inbound).await;
                    match outcome.note(origin, applied) {
                        None => continue,
                        Some(words) => (Reason::Failed, words),
                    }
                }
            };
            let (reason, detail) = refused;
            outcome.stays = true;
            outcome.news = true;
            self.quarantine(delivery, place, reason, &detail).await?;
        }
        if outcome.known && !outcome.news {
            // It may be known from this very delivery, which was not ended in time.
            for (account, scope) in &scopes {
                let Ok(scope) = scope else { continue };
                let of_account = items.iter().filter(|item| {
                    let route = item.route(delivery, &routes);
                    route.is_some_and(|route| route.account == *account)
                });
                let ids: Vec<&str> = of_account.filter_map(Item::provider_id).collect();
                let mut conn = scope.conn().await?;
                outcome.news |= is_source(&mut conn, *account, delivery.id, &ids).await?;
            }
        }
        Ok(outcome)
    }

    /// An app of the deployment that signs for an account proves, once, that it is this account.
    async fn note_proved(&self, delivery: &Delivery, routes: &Routes) -> Result<(), Error> {
        let unproved: Vec<_> = (routes.all())
            .filter(|route| route.app_is_shared && route.proved_at.is_none())
            .filter(|route| route.app == delivery.body.app())
            .map(|route| route.account)
            .collect();
        if unproved.is_empty() {
            return Ok(());
        }
        self.0.tenants.note_proved(&unproved).await
    }

    async fn quarantine(
        &self,
        delivery: &Delivery,
        (item, route_key, route): (i32, &str, Option<&Route>),
        reason: Reason,
        detail: &str,
    ) -> Result<(), Error> {
        count(delivery.channel, "quarantined");
        let new = NewQuarantined {
            delivery_id: delivery.id,
            item,
            tenant_id: route.map(|route| route.tenant_id),
            channel: delivery.channel,
            route_key,
            reason,
            detail,
        };
        quarantine::put(&mut self.0.tenants.directory_conn().await?, new).await
    }
}

/// What a delivery takes of the room, in KiB: all of it, where it has more.
pub(super) fn room(body: &[u8]) -> u32 {
    let wanted = (body.len() / 1024 + 1).min(ROOM);
    u32::try_from(wanted).unwrap_or(u32::MAX)
}

/// Doubles with each attempt, and spreads what failed together.
pub(super) fn back_off(attempts: i32, (first, most): (Duration, Duration)) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(0)
        .min(16);
    let wait = first.saturating_mul(1 << doublings).min(most);
    let spread = u32::from(Uuid::new_v4().as_bytes()[0]);
    wait / 2 + wait * spread / 512
}

pub(super) fn count(channel: Channel, outcome: &'static str) {
    let channel = channel.as_str();
    metrics::counter!("webhook_items_total", "channel" => channel, "outcome" => outcome)
        .increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_waits_for_no_more_room_than_there_is() {
        assert_eq!(room(b""), 1);
        assert_eq!(room(&vec![0; ROOM * 1024 * 2]) as usize, ROOM);
    }
}
