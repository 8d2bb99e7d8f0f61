//! What a server knows of webhooks: it takes them in, and shows and replays what is in quarantine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::amazon::Amazon;
use super::delivery;
use super::ending::Endings;
use super::google::Google;
use super::item::{read, sought};
use super::keeper::Keeper;
use super::known_routes::KnownRoutes;
use super::lane::Lanes;
use super::lease::Leases;
use super::mailbox::Mailboxes;
use super::media::Fetchers;
use super::new_delivery::{NewDelivery, NewRow};
use super::quarantine::{self, QuarantineFilter, Quarantined};
use super::worker::{ROOM, room};
use crate::channel::Channel;
use crate::error::{Chain, Error};
use crate::guarded_client::GuardedClient;
use crate::ids::DeliveryId;
use crate::master_key::Sealer;
use crate::page::PageSize;
use crate::provider::media::Interfaces;
use crate::provider::signature::sns;
use crate::provider::twilio;
use crate::tenant::{App, ChannelSettings, Provider, TenantDirectory, Unnamed};

/// What bodies may have together while they are read, in bytes.
const READING: usize = 256 * 1024 * 1024;
/// How many apps, or keys of none, are kept in mind.
const APPS: usize = 1024;
/// How many tokens are kept in mind of webhooks whose bodies are not signed.
const TOKENS: usize = 65_536;
/// How long apps and accounts are believed to be as they were read.
pub(super) const FRESH: Duration = Duration::from_millis(500);

/// How long the database may take to name the apps, and again to keep a delivery.
pub(super) const KEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes webhooks in and lets them have their effect.
#[derive(Clone)]
pub struct Webhooks(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) tenants: TenantDirectory,
    pub(super) sealer: Sealer,
    pub(super) days: u32,
    pub(super) quarantine_days: u32,
    pub(super) public_url: Option<String>,
    pub(super) room: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    pub(super) keeper: Keeper,
    pub(super) lanes: Lanes,
    pub(super) endings: Endings,
    pub(super) leases: Leases,
    pub(super) tasks: TaskTracker,
    apps: Cache<(Channel, Option<Uuid>), ReadApps>,
    pub(super) known_routes: KnownRoutes,
    tokens: Cache<String, [u8; 32]>,
    pub(super) amazon: Amazon,
    pub(super) client: Arc<GuardedClient>,
    pub(super) fetchers: Fetchers,
    pub(super) google: Google,
    pub(super) mailboxes: Mailboxes,
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
    /// Where providers reach the sidecar, without a slash at the end.
    pub public_url: Option<String>,
    /// Fetches from addresses that strangers chose.
    pub client: Arc<GuardedClient>,
    /// Where the providers' own interfaces are.
    pub interfaces: Interfaces,
}

impl Webhooks {
    /// Takes webhooks in.
    pub fn new(options: WebhooksOptions) -> Self {
        Self(Arc::new(Inner {
            tenants: options.tenants,
            sealer: options.sealer,
            days: options.days,
            quarantine_days: options.quarantine_days,
            public_url: options.public_url,
            room: Arc::new(Semaphore::new(ROOM)),
            reading: Arc::new(Semaphore::new(READING)),
            keeper: Keeper::default(),
            lanes: Lanes::new(),
            endings: Endings::default(),
            leases: Leases::default(),
            tasks: TaskTracker::new(),
            apps: Cache::new(APPS),
            known_routes: KnownRoutes::default(),
            tokens: Cache::new(TOKENS),
            amazon: Amazon::new(options.client.clone(), options.interfaces.aws.clone()),
            google: Google::new(
                options.client.clone(),
                options.interfaces.google_keys.clone(),
            ),
            mailboxes: Mailboxes::new(
                options.interfaces.gmail.clone(),
                options.interfaces.google_token.clone(),
            ),
            client: options.client,
            fetchers: Fetchers::new(options.interfaces),
        }))
    }

    /// The apps that may have signed: the one that has that key or whose account has it, or those of
    /// the deployment.
    pub(super) async fn apps(
        &self,
        channel: Channel,
        key: Option<Uuid>,
    ) -> Result<Arc<Vec<App>>, Error> {
        if let Some((read_at, apps)) = self.0.apps.get(&(channel, key))
            && read_at.elapsed() < FRESH
        {
            return Ok(apps);
        }
        let read_at = Instant::now();
        let apps = Arc::new(self.0.tenants.apps(channel, key).await?);
        // Also that there is none: what strangers make up costs no query each time.
        self.0.apps.insert((channel, key), (read_at, apps.clone()));
        Ok(apps)
    }

    /// The addresses that a provider may have signed for a request to this one: none of them comes
    /// from the request but its path, since whoever sends it chooses the host.
    pub(super) fn urls(&self, uri: &Uri) -> Vec<String> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let public = self.0.public_url.iter();
        public.map(|url| format!("{url}{path}")).collect()
    }

    /// The certificate that a notification of Amazon names, if it is of a topic that one of the apps
    /// is for: nobody else makes us ask.
    pub(super) async fn certificate(
        &self,
        apps: &[App],
        body: &[u8],
    ) -> Result<Option<Arc<Vec<u8>>>, Error> {
        let of_amazon = apps.iter().filter(|app| app.provider == Provider::Ses);
        let topics: Vec<&str> = of_amazon.map(|app| app.external_id.as_str()).collect();
        if topics.is_empty() || !sns::topic(body).is_some_and(|topic| topics.contains(&&*topic)) {
            return Ok(None);
        }
        self.0.amazon.certificate(body).await
    }

    /// Tells whether a token has come with another body before: whoever overheard it says something
    /// of their own. The same body again is the provider's.
    pub(super) fn is_used_by_another(&self, token: &str, body: &[u8]) -> bool {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
        let Ok(digest) = <[u8; 32]>::try_from(digest.as_ref()) else {
            return true;
        };
        match self.0.tokens.get(token) {
            Some(known) => known != digest,
            None => {
                self.0.tokens.insert(token.to_owned(), digest);
                false
            }
        }
    }

    /// Lets a token come with another body: the one that it came with is not kept.
    pub(super) fn forget_token(&self, token: &str) {
        self.0.tokens.remove(token);
    }

    /// Room for a piece of a body that is being read, if there is any.
    pub(super) fn room_to_read(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes).ok()?;
        self.0.reading.clone().try_acquire_many_owned(wanted).ok()
    }

    /// Commits a delivery, and applies it behind the answer.
    pub(super) async fn take(&self, new: NewDelivery) -> Result<(), Error> {
        // When there is no room for it, it goes to the queue.
        let room = room(&new.body);
        let room = self.0.room.clone().try_acquire_many_owned(room).ok();
        let (delivery, headers) = new.begun(Uuid::now_v7());
        let items = room.as_ref().map(|_| read(&delivery));
        let sought =
            (items.as_ref()).map(|items| sought(&delivery, items.as_deref().unwrap_or_default()));
        let asked_at = Instant::now();
        let row = NewRow::new(&self.0.sealer, (delivery, headers), sought)?;
        let (row, routes) = self.keep(row).await?;
        let NewRow {
            delivery, sought, ..
        } = row;
        if let (Some(room), Some(items), Some(sought)) = (room, items, sought) {
            self.0.known_routes.note(sought, asked_at, routes.clone());
            self.spawn(delivery, items, Some(routes), room).await;
        }
        Ok(())
    }

    /// What Twilio is to do with the call that a webhook tells of.
    pub(super) async fn twiml(&self, new: &NewDelivery) -> Result<String, Error> {
        let channel = new.channel;
        let (delivery, _) = new.clone().begun(Uuid::nil());
        let items = read(&delivery).unwrap_or_default();
        let mut sought = sought(&delivery, &items);
        // The address names the number, or the app has one alone, or else the call says which it is.
        let (app, account) = (new.app.id, new.app.account);
        sought.unnamed = Some(Unnamed { app, account });
        let routes = self.0.tenants.routes(&sought).await?;
        let first = items.first();
        let named = || first.and_then(|item| item.route(&delivery, &routes));
        let route = routes.unnamed().or_else(named);
        let settings = match route {
            Some(route) => Some(self.0.tenants.account_settings(route.account).await?),
            None => None,
        };
        Ok(match (route, settings) {
            (Some(route), Some(ChannelSettings::TwilioCall(settings))) => {
                let path = format!("/webhooks/{}/{}", channel.as_str(), route.account);
                twilio::answer(&settings, &new.content_type(), &new.body, &path)
            }
            _ => "<Response/>".to_owned(),
        })
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
            let outcome = self
                .apply_items(&delivery, &items, None, Some(&found))
                .await?;
            if let Some(error) = outcome.wait {
                return Err(error);
            }
            // Item 0 that could be read this time has put what is left of it under its own number.
            if !outcome.stays || item == 0 && readable {
                let mut conn = self.0.tenants.directory_conn().await?;
                quarantine::release(&mut conn, id, item).await?;
            }
        }
        let mut conn = self.0.tenants.directory_conn().await?;
        let found = quarantine::find(&mut conn, None, id, item).await?;
        found.ok_or_else(not_found)
    }

    /// Forgets which apps and accounts there are: one of them has been changed.
    pub fn forget_accounts(&self) {
        self.0.apps.clear();
        self.0.known_routes.forget();
    }

    /// Replays, behind the call, what waits for an account that has just been connected, or whose
    /// tenant is active again.
    pub fn replay_soon(&self) {
        self.forget_accounts();
        self.0.mailboxes.look();
        let webhooks = self.clone();
        self.0
            .tasks
            .spawn(async move { webhooks.replay_waiting().await });
    }

    /// Replays what waited for accounts that are connected now.
    pub(super) async fn replay_waiting(&self) {
        const AT_A_TIME: i64 = 100;
        let mut after = (DeliveryId(Uuid::nil()), -1);
        loop {
            let found = async {
                let mut conn = self.0.tenants.directory_conn().await?;
                quarantine::replayable(&mut conn, after, AT_A_TIME).await
            };
            let found = match found.await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the quarantine cannot be read");
                    return;
                }
            };
            let Some(last) = found.last() else {
                return;
            };
            after = *last;
            for (id, item) in found {
                if let Err(error) = self.replay(None, id, item).await {
                    tracing::warn!(delivery.id = %id, item, error = %Chain(&error), "an item stays in quarantine");
                }
            }
        }
    }
}
