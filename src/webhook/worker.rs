//! Applies deliveries: the items of each, one by one, each in a transaction of its own.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;
use uuid::Uuid;

use super::delivery::{self, Delivery, LEASE};
use super::quarantine::{self, NewQuarantined, Quarantined, Reason};
use super::webhooks::Webhooks;
use crate::channel::Channel;
use crate::error::{Chain, Error};
use crate::inbox::{Effect, Inbound, Origin, record};
use crate::provider::messenger::{self, Product};
use crate::provider::{email, gmail, personal_whatsapp, twilio, whatsapp, zendesk};
use crate::tenant::{Provider, Route, TenantScope, TenantState};

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

/// When files are fetched at the latest that nobody has begun to fetch.
const FILES_LATER: Duration = Duration::from_secs(20);

/// An item of a delivery.
#[derive(Debug, PartialEq)]
pub struct Item {
    /// By what the provider names the account.
    pub route_key: String,
    /// What it says.
    pub content: Content,
}

/// What an item says.
#[derive(Debug, PartialEq)]
pub enum Content {
    /// Something for the inbox.
    Inbound(Inbound),
    /// That a topic is to be subscribed to, at an address.
    Subscription(String),
    /// That there is something new in the account's mailbox.
    MailboxChanged,
    /// What the provider says of the account, in its own word.
    AccountState(String),
    /// Nothing that we act on; the word says what, for the count.
    Ignored(&'static str),
    /// Something that we cannot act on yet; the word says what.
    Unsupported(String),
    /// Not what the provider documents; the words say why, without content.
    Unreadable(String),
}

impl Item {
    /// Whether it is for an account that it does not name.
    fn needs_account(&self) -> bool {
        self.route_key.is_empty() && !matches!(self.content, Content::Ignored(_))
    }
}

/// Where items go.
#[derive(Default)]
struct Routes {
    by_key: Vec<Route>,
    without_key: Option<Route>,
}

/// What became of the items of a delivery.
#[derive(Default)]
pub(super) struct Outcome {
    /// The first thing that stood in the way for now.
    pub wait: Option<Error>,
    /// Whether the item asked for stays in quarantine.
    pub stays: bool,
    /// Whether anything was known before.
    pub known: bool,
    /// Whether anything was not.
    pub news: bool,
}

impl Webhooks {
    /// Takes up what is in the queue and drops what is old, until the service ends.
    pub async fn work(&self) {
        let mut tidied_at = Instant::now();
        loop {
            let found = match self.take_up().await {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "the queue of webhooks cannot be read");
                    0
                }
            };
            if tidied_at.elapsed() > TIDY_EVERY {
                tidied_at = Instant::now();
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
                        self.spawn(delivery, room).await;
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
    pub(super) async fn spawn(&self, delivery: Delivery, room: OwnedSemaphorePermit) {
        let webhooks = self.clone();
        let items = read(&delivery);
        let first = items.as_ref().ok().and_then(|items| items.first());
        let turn = self.0.lanes.queue_up(first).await;
        let span = tracing::error_span!("delivery", delivery.id = %delivery.id, correlation_id = delivery.correlation_id);
        let applying = async move {
            let _room = room;
            let _turn = turn.await;
            if let Err(error) = webhooks.apply(&delivery, &items).await {
                // Its lease ends, and it is taken up again.
                tracing::warn!(error = %Chain(&error), "a delivery could not be applied");
            }
        };
        self.0.tasks.spawn(applying.instrument(span));
    }

    async fn apply(&self, delivery: &Delivery, items: &Items) -> Result<(), Error> {
        let outcome = self.apply_items(delivery, items, None).await?;
        match outcome.wait {
            None => {
                let mut conn = self.0.tenants.directory_conn().await?;
                // What only repeats another is kept nowhere, so that whoever is erased from the
                // other is not in this one.
                if outcome.known && !outcome.news {
                    delivery::drop(&mut conn, delivery).await
                } else {
                    delivery::finish(&mut conn, delivery).await
                }
            }
            Some(error) => {
                let why = Chain(&error).to_string();
                tracing::warn!(
                    attempts = delivery.attempts,
                    error = why,
                    "a delivery waits"
                );
                self.put_back(delivery, back_off(delivery.attempts, WAITS), &why)
                    .await
            }
        }
    }

    async fn put_back(&self, delivery: &Delivery, wait: Duration, why: &str) -> Result<(), Error> {
        let mut conn = self.0.tenants.directory_conn().await?;
        delivery::put_back(&mut conn, delivery, wait, why).await
    }

    /// Applies the items of a delivery, or one of them.
    pub(super) async fn apply_items(
        &self,
        delivery: &Delivery,
        items: &Items,
        only: Option<&Quarantined>,
    ) -> Result<Outcome, Error> {
        let channel = delivery.channel;
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
        let routes = self.routes(delivery, items).await?;
        self.note_proved(delivery, &routes).await?;
        let mut scopes: HashMap<Uuid, Result<TenantScope, Error>> = HashMap::new();
        let mut waiting = HashSet::new();
        let mut held_since = delivery.taken_at;
        for (number, item) in (1..).zip(items) {
            if only.is_some_and(|only| only.item != number && only.item != 0) {
                continue;
            }
            if only.is_none() && held_since.elapsed() > LEASE / 3 {
                held_since = Instant::now();
                let mut conn = self.0.tenants.directory_conn().await?;
                if !delivery::extend(&mut conn, delivery).await? {
                    return Err(Error::internal("somebody else has taken the delivery up"));
                }
            }
            let key = format!("{}{}", delivery.route_prefix, item.route_key);
            let route = match item.route_key.as_str() {
                "" => routes.without_key.as_ref(),
                _ => routes.by_key.iter().find(|route| route.key == key),
            };
            let place = (number, key.as_str(), route);
            let refused = match (&item.content, route) {
                (Content::Ignored(what), _) => {
                    count(channel, what);
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
                (_, None) if channel == Channel::Email && !routes.by_key.is_empty() => {
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
                (Content::Inbound(_), Some(route)) if waiting.contains(&route.account) => continue,
                (Content::Inbound(inbound), Some(route)) => {
                    let scope = match scopes.entry(route.account.0) {
                        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::hash_map::Entry::Vacant(entry) => {
                            let id = &delivery.correlation_id;
                            entry.insert(self.0.tenants.enter_account(route, channel, id).await)
                        }
                    };
                    let origin = Origin {
                        account: route.account,
                        channel,
                        delivery: delivery.id,
                    };
                    match apply_one(self, scope, origin, inbound).await {
                        Applied::Done(effect) => {
                            count(channel, effect.as_str());
                            match effect {
                                Effect::Known => outcome.known = true,
                                Effect::Applied | Effect::Parked => outcome.news = true,
                            }
                            continue;
                        }
                        Applied::Wait(error) => {
                            waiting.insert(route.account);
                            outcome.wait.get_or_insert(error);
                            continue;
                        }
                        Applied::Failed(error) => {
                            tracing::error!(delivery.id = %delivery.id, item = number, error = %Chain(&error), "an item failed");
                            let words = "see the log under the delivery's id";
                            (Reason::Failed, words.to_owned())
                        }
                    }
                }
            };
            let (reason, detail) = refused;
            outcome.stays = true;
            outcome.news = true;
            self.quarantine(delivery, place, reason, &detail).await?;
        }
        Ok(outcome)
    }

    /// An app of the deployment that signs for an account proves, once, that it is this account.
    async fn note_proved(&self, delivery: &Delivery, routes: &Routes) -> Result<(), Error> {
        let all = routes.by_key.iter().chain(&routes.without_key);
        let unproved: Vec<_> = all
            .filter(|route| route.app_is_shared && route.proved_at.is_none())
            .filter(|route| route.app == delivery.body.app())
            .map(|route| route.account)
            .collect();
        if unproved.is_empty() {
            return Ok(());
        }
        self.0.tenants.note_proved(&unproved).await
    }

    /// Finds out where the items of a delivery go.
    async fn routes(&self, delivery: &Delivery, items: &[Item]) -> Result<Routes, Error> {
        let (channel, prefix) = (delivery.channel, &delivery.route_prefix);
        let named = items.iter().filter(|item| !item.route_key.is_empty());
        let mut keys: Vec<String> = named
            .map(|item| format!("{prefix}{}", item.route_key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut routes = Routes::default();
        if !keys.is_empty() {
            routes.by_key = self.0.tenants.routes(channel, &keys).await?;
        }
        if items.iter().any(Item::needs_account) {
            let (app, account) = (delivery.body.app(), delivery.account);
            routes.without_key = self
                .0
                .tenants
                .route_without_key(channel, app, account)
                .await?;
        }
        Ok(routes)
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

/// The items of a delivery, or why they cannot be read.
pub(super) type Items = Result<Vec<Item>, String>;

/// Reads the items of a delivery.
pub(super) fn read(delivery: &Delivery) -> Items {
    let (body, content_type) = (&delivery.body, delivery.content_type.as_str());
    let at = delivery.received_at();
    let reading = AssertUnwindSafe(|| match delivery.channel {
        Channel::Whatsapp => whatsapp::items(body),
        Channel::Messenger => messenger::items(Product::Messenger, body),
        Channel::Instagram => messenger::items(Product::Instagram, body),
        Channel::TwilioWhatsapp => twilio::messages(content_type, body, at),
        Channel::TwilioCall => twilio::calls(content_type, body, at),
        Channel::PersonalWhatsapp if delivery.provider == Provider::Evolution => {
            personal_whatsapp::evolution_items(body)
        }
        Channel::PersonalWhatsapp => personal_whatsapp::waha_items(body),
        Channel::Zendesk if delivery.provider == Provider::Sunshine => zendesk::conversations(body),
        Channel::Zendesk => zendesk::tickets(body),
        Channel::Email => arrivals(delivery).map(email::items),
        Channel::Gmail => gmail::items(content_type, body),
        other => Err(format!("webhooks of `{}` are not read yet", other.as_str())),
    });
    std::panic::catch_unwind(reading).unwrap_or_else(|_| {
        metrics::counter!("panics_total").increment(1);
        Err("the reader of the body panicked".to_owned())
    })
}

/// Reads what arrived by mail.
fn arrivals(delivery: &Delivery) -> Result<Vec<email::Arrival>, String> {
    let (body, content_type) = (&delivery.body, delivery.content_type.as_str());
    match delivery.provider {
        Provider::Postmark => email::postmark::arrivals(body),
        Provider::Mailgun => email::mailgun::arrivals(content_type, body),
        Provider::Sendgrid => email::sendgrid::arrivals(content_type, body),
        Provider::Ses => email::ses::arrivals(body),
        other => Err(format!("`{}` delivers no mail", other.as_str())),
    }
}

/// What came of one item.
enum Applied {
    Done(Effect),
    Wait(Error),
    Failed(Error),
}

/// Tells whether something may have files that are to be fetched: a message, or a recording of a
/// call, which may have waited for its call.
fn brings_files(channel: Channel, inbound: &Inbound) -> bool {
    match inbound {
        Inbound::Message(message) => channel == Channel::TwilioCall || !message.files.is_empty(),
        Inbound::Amendment(_) => channel == Channel::TwilioCall,
        _ => false,
    }
}

async fn apply_one(
    webhooks: &Webhooks,
    scope: &Result<TenantScope, Error>,
    origin: Origin,
    inbound: &Inbound,
) -> Applied {
    let applying = async {
        let scope = match scope {
            Ok(scope) => scope,
            // Whatever keeps the tenant from being entered keeps it from everybody, and ends.
            Err(error) => return Err(Error::Unavailable(Chain(error).to_string().into())),
        };
        let brings_files = brings_files(origin.channel, inbound);
        if brings_files {
            // Should this node end before they are fetched, another hears of them.
            let later = FILES_LATER;
            webhooks.0.tenants.set_alarm_in(scope, later).await?;
        }
        let effect = record(&mut scope.conn().await?, origin, inbound).await?;
        if brings_files && effect == Effect::Applied {
            webhooks.fetch_files(scope.clone());
        }
        Ok(effect)
    };
    match AssertUnwindSafe(applying).catch_unwind().await {
        Ok(Ok(effect)) => Applied::Done(effect),
        Ok(Err(error)) if may_pass(&error) => Applied::Wait(error),
        Ok(Err(error)) => Applied::Failed(error),
        Err(_) => {
            metrics::counter!("panics_total").increment(1);
            Applied::Failed(Error::internal("the item's application panicked"))
        }
    }
}

/// Tells whether time may heal an error.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Unavailable(_)
        | Error::FilesUnavailable(_)
        | Error::ResourceExhausted { .. }
        | Error::TooManyCalls
        | Error::Aborted(_)
        | Error::DeadlineExceeded
        | Error::Cancelled
        | Error::Draining => true,
        Error::InvalidArgument(_)
        | Error::FailedPrecondition(_)
        | Error::InvalidRequest(_)
        | Error::Unauthenticated
        | Error::PermissionDenied(_)
        | Error::NotFound { .. }
        | Error::AlreadyExists(_)
        | Error::MethodNotAllowed { .. }
        | Error::Internal(_) => false,
        Error::OfItem { error, .. } => may_pass(error),
    }
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

fn count(channel: Channel, outcome: &'static str) {
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
