//! Knows the tenants and owns their pools: the one way to a `TenantScope`.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_nats::ServerAddr;
use tokio::sync::Mutex;
use tonic::{Request, Streaming};
use uuid::Uuid;

use super::alarm::Alarm;
use super::backlog::Backlog;
use super::budget::Budget;
use super::channel_account::AccountSealers;
use super::conn::PooledConn;
use super::hint::{self, Hints, News};
use super::installation::{Installation, session_options};
use super::janitor;
use super::migration;
use super::pool::TenantPool;
use super::provision::{CONNECTIONS, Provisioner};
use super::route::Route;
use super::schema_name::{SchemaName, Slug};
use super::scope::TenantScope;
use super::tenant::{self, Isolation, State, Tenant};
use crate::access::{Actor, Call, CallContext, Caller, Facts, Scope, admit};
use crate::channel::Channel;
use crate::codec::broken_off;
use crate::database::dial::Dialer;
use crate::error::{Chain, Error, InvalidRequest, Precondition};
use crate::file_store::{FileStore, TenantFiles};
use crate::ids::TenantId;
use crate::master_key::Sealer;
use crate::pb;

/// How many connections read and write the directory, at least and at most: a fifth of all, because
/// every webhook is committed through one before it is answered.
const DIRECTORY_CONNECTIONS: (usize, usize) = (4, 16);
/// How many connections tell other servers what has changed, and hear it.
const HINT_CONNECTIONS: usize = 1;
/// From this age on, what is known of the tenants is read again behind the next call.
const STALE: Duration = Duration::from_millis(200);
/// Older than this, nothing that is known of the tenants is used.
const TOO_OLD: Duration = Duration::from_millis(500);
/// How many tenants are looked up at once.
const LOOK_UPS: usize = 8;
/// How often idle connections are looked for.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// The fewest connections that a service can do with.
pub const FEWEST_CONNECTIONS: usize = DIRECTORY_CONNECTIONS.0 + CONNECTIONS + HINT_CONNECTIONS + 1;

/// A request that is about one tenant.
pub trait InTenant {
    /// The tenant's slug.
    fn tenant(&self) -> &str;
    /// Who acts, as the request names them. They stay in it: who acts is part of what a request id
    /// stands for.
    fn actor(&self) -> Option<pb::Actor>;
}

/// The tenants of one database.
#[derive(Clone)]
pub struct TenantDirectory(Arc<Inner>);

struct Inner {
    service: Dialer,
    provisioner: Provisioner,
    sealer: Sealer,
    account_sealers: AccountSealers,
    files: FileStore,
    directory: Arc<TenantPool>,
    budget: Arc<Budget>,
    hints: Arc<Hints>,
    echo: bool,
    known: RwLock<HashMap<String, Known>>,
    started: Instant,
    /// When the directory was last read, in milliseconds after the start; 0 for never.
    read_at: AtomicU64,
    epoch: Mutex<i64>,
    /// Held by who looks a tenant up: one of these for each of several tenants.
    look_ups: [Mutex<()>; LOOK_UPS],
    /// How many purges this node has heard of.
    purges: AtomicU64,
}

/// A tenant and its connections.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) tenant: Arc<Tenant>,
    pub(super) pool: Arc<TenantPool>,
    pub(super) files: TenantFiles,
    pub(super) backlog: Arc<Backlog>,
    /// Told when something may have changed.
    pub(super) news: Arc<News>,
}

impl Known {
    /// Tells whether calls may come in.
    pub(super) fn is_active(&self) -> bool {
        self.tenant.state == State::Active
    }

    /// Work inside the tenant that may change something.
    pub(super) fn scope(&self, facts: Facts) -> TenantScope {
        TenantScope::new(self, facts, true)
    }
}

/// What a directory is made of.
pub struct DirectoryOptions {
    /// The prepared database.
    pub installation: Installation,
    /// Logs in as the service's own account.
    pub service: Dialer,
    /// Seals the passwords of tenants' roles.
    pub role_sealer: Sealer,
    /// Seals page tokens.
    pub page_sealer: Sealer,
    /// Seals what providers entrust to accounts and apps.
    pub account_sealers: AccountSealers,
    /// Where the tenants' files are.
    pub files: FileStore,
    /// By which servers of NATS others are told what has changed; if there are none, by PostgreSQL.
    pub nats_servers: Vec<ServerAddr>,
    /// The most connections of all kinds together.
    pub connections: usize,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// Whether statements are written to the log.
    pub echo: bool,
    /// Whether tenants of an older version are migrated at once.
    pub migrate: bool,
}

impl TenantDirectory {
    /// Opens the directory; connects on first use.
    ///
    /// # Errors
    /// The migrations of this binary are not in order.
    pub fn new(options: DirectoryOptions) -> Result<Self, Error> {
        let (fewest, most) = DIRECTORY_CONNECTIONS;
        let directory = (options.connections / 5).clamp(fewest, most);
        let others = directory + CONNECTIONS + HINT_CONNECTIONS;
        let tenants = options.connections.saturating_sub(others);
        let budget = Budget::new(tenants.max(1));
        let directory = TenantPool::new(
            0,
            options.installation.directory,
            &Budget::new(directory),
            options.echo,
        );
        let provisioner = Provisioner::new(
            options.service.clone(),
            options.installation.isolation,
            options.role_sealer,
        )?;
        let reaped = Arc::downgrade(&budget);
        let idle = options.idle;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(REAP_EVERY).await;
                let Some(budget) = reaped.upgrade() else {
                    return;
                };
                budget.reap(idle);
            }
        });
        let hints = Hints::new()?;
        let weak = Arc::downgrade(&hints);
        if options.nats_servers.is_empty() {
            tokio::spawn(hint::by_postgres(options.service.clone(), weak));
        } else {
            let subject = format!("communication.{}.hints", options.installation.id);
            tokio::spawn(hint::by_nats(options.nats_servers, subject, weak));
        }
        let directory = Self(Arc::new(Inner {
            service: options.service,
            provisioner,
            sealer: options.page_sealer,
            account_sealers: options.account_sealers,
            files: options.files,
            directory,
            budget,
            hints,
            echo: options.echo,
            known: RwLock::default(),
            started: Instant::now(),
            read_at: AtomicU64::new(0),
            epoch: Mutex::new(0),
            look_ups: Default::default(),
            purges: AtomicU64::new(0),
        }));
        let weak = Arc::downgrade(&directory.0);
        tokio::spawn(janitor::run(move || weak.upgrade().map(TenantDirectory)));
        if options.migrate {
            tokio::spawn(migration::at_start(directory.clone()));
        }
        Ok(directory)
    }

    /// Lets a call into its tenant: the credential has the call's scope, is for that tenant, and
    /// may act as whom the request names.
    ///
    /// # Errors
    /// The credential does not allow it, or the tenant is unknown or not ready.
    pub async fn enter<T: Call + InTenant>(
        &self,
        request: Request<T>,
    ) -> Result<(TenantScope, T), Error> {
        let (context, request) = admit(request)?;
        let scope = self.let_in(context, &request).await?;
        Ok((scope, request))
    }

    /// Lets a call of several requests into the tenant that the first one names; returns that one,
    /// and the stream of the others.
    ///
    /// # Errors
    /// There is no first one, the credential does not allow it, or the tenant is unknown or not
    /// ready.
    pub async fn enter_stream<T: Call + InTenant>(
        &self,
        request: Request<Streaming<T>>,
    ) -> Result<(TenantScope, T, Streaming<T>), Error> {
        let (context, mut stream) = admit(request)?;
        let first = stream.message().await.map_err(broken_off)?.ok_or_else(|| {
            let none = "there is no first message".to_owned();
            Error::InvalidRequest(InvalidRequest::Undecodable(none))
        })?;
        let scope = self.let_in(context, &first).await?;
        Ok((scope, first, stream))
    }

    async fn let_in<T: Call + InTenant>(
        &self,
        context: CallContext,
        request: &T,
    ) -> Result<TenantScope, Error> {
        let slug = request.tenant();
        if slug.is_empty() {
            return Err(Error::invalid("tenant", "is required: the tenant's slug"));
        }
        context.caller.check_tenant(slug)?;
        let known = self.known(slug).await?;
        let named = request.actor().map(Actor::try_from).transpose()?;
        let facts = Facts {
            actor: context.caller.actor(named)?,
            caller: context.caller,
            correlation_id: context.correlation_id,
            clock_offset: context.clock_offset,
        };
        if T::SCOPE == Scope::InboxWrite {
            known.backlog.entered_to_write();
        }
        Ok(TenantScope::new(&known, facts, T::SCOPE.writes()))
    }

    /// Lets work that lasts into its tenant again, as that is by now.
    ///
    /// # Errors
    /// The tenant is closed, or what is known of it is too old and cannot be read again.
    pub async fn enter_again(&self, scope: &TenantScope) -> Result<TenantScope, Error> {
        let known = self.known(scope.slug()).await?;
        // The slug may be somebody else's by now.
        if known.tenant.id != scope.tenant_id() {
            return Err(Error::not_found("tenant", scope.slug()));
        }
        Ok(scope.renewed(&known))
    }

    /// Lets an item into the tenant whose account it is for. The provider acts.
    ///
    /// # Errors
    /// The tenant is gone or not ready.
    pub async fn enter_account(
        &self,
        route: &Route,
        channel: Channel,
        correlation_id: &str,
    ) -> Result<TenantScope, Error> {
        let known = self.known(&route.tenant).await?;
        // The slug may be somebody else's by now.
        if known.tenant.id != route.tenant_id {
            return Err(Error::not_found("tenant", &route.tenant));
        }
        let facts = Facts {
            actor: Actor::Service(channel.as_str().to_owned()),
            caller: Arc::new(Caller::provider(channel.as_str())),
            correlation_id: correlation_id.into(),
            clock_offset: 0,
        };
        known.backlog.entered_to_write();
        Ok(known.scope(facts))
    }

    /// Lets in what is due in a tenant. The service itself acts.
    ///
    /// # Errors
    /// The tenant is gone or not ready.
    pub async fn enter_for_alarm(&self, alarm: &Alarm) -> Result<TenantScope, Error> {
        let known = self.known(&alarm.slug).await?;
        // The slug may be somebody else's by now.
        if known.tenant.id != alarm.tenant_id {
            return Err(Error::not_found("tenant", &alarm.slug));
        }
        let caller = Caller::itself();
        let facts = Facts {
            actor: Actor::Service(caller.service.clone()),
            caller: Arc::new(caller),
            correlation_id: Uuid::now_v7().simple().to_string().into(),
            clock_offset: 0,
        };
        Ok(known.scope(facts))
    }

    /// Whether a tenant has a connection that is open and idle.
    pub fn is_connected(&self, slug: &str) -> bool {
        self.read_known(slug)
            .is_some_and(|known| known.pool.idle() > 0)
    }

    /// Finds a tenant by slug.
    pub async fn find(&self, slug: &Slug) -> Result<Option<Tenant>, Error> {
        tenant::find(&mut self.directory_conn().await?, slug.as_str()).await
    }

    /// The schema version that tenants should have.
    pub fn newest(&self) -> &str {
        self.0.provisioner.newest()
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> {
        tenant::epochs(&mut self.directory_conn().await?)
            .await
            .map(drop)
    }

    /// Seals page tokens.
    pub fn page_sealer(&self) -> &Sealer {
        &self.0.sealer
    }

    /// Whether it is known at once what other servers change, as far as anybody can tell.
    pub fn hears_others(&self) -> bool {
        self.0.hints.are_heard()
    }

    /// The connections of all tenants.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.0.budget
    }

    /// Takes a connection to the directory.
    ///
    /// # Errors
    /// None came free in time, or the database cannot be reached.
    pub async fn directory_conn(&self) -> Result<PooledConn, Error> {
        PooledConn::take(&self.0.directory).await
    }

    /// Where the tenants' files are.
    pub(super) fn files(&self) -> &FileStore {
        &self.0.files
    }

    /// Seals what providers entrust to accounts and apps.
    pub(super) fn account_sealers(&self) -> &AccountSealers {
        &self.0.account_sealers
    }

    /// Makes and changes tenants.
    pub(super) fn provisioner(&self) -> &Provisioner {
        &self.0.provisioner
    }

    pub(super) async fn known(&self, slug: &str) -> Result<Known, Error> {
        self.keep_fresh().await?;
        let found = self.read_known(slug);
        let known = match found {
            Some(known) => known,
            None => self.look_up(slug).await?,
        };
        let newest = self.newest();
        match known.tenant.state {
            State::Provisioning => Err(Error::FailedPrecondition(Precondition::TenantNotReady(
                slug.to_owned(),
            ))),
            State::Suspended => Err(Error::FailedPrecondition(Precondition::TenantSuspended(
                slug.to_owned(),
            ))),
            // As one that was purged: who uses a tenant need not know the difference.
            State::Deleted => Err(Error::not_found("tenant", slug)),
            State::Active if known.tenant.schema_version.as_str() < newest => {
                Err(Error::FailedPrecondition(Precondition::TenantNotMigrated {
                    slug: slug.to_owned(),
                    has: known.tenant.schema_version.clone(),
                    needs: newest.to_owned(),
                }))
            }
            State::Active => Ok(known),
        }
    }

    /// Reads a tenant, and reads it again if one was purged meanwhile: it may have been this one.
    async fn look_up(&self, slug: &str) -> Result<Known, Error> {
        let parsed = Slug::parse("tenant", slug)?;
        // Those who ask for it at the same time hear of it from the first.
        let mut hasher = DefaultHasher::new();
        slug.hash(&mut hasher);
        let line = usize::try_from(hasher.finish()).unwrap_or_default() % LOOK_UPS;
        let _in_turn = match self.0.look_ups.get(line) {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        if let Some(known) = self.read_known(slug) {
            return Ok(known);
        }
        loop {
            let purges = self.0.purges.load(Ordering::SeqCst);
            let found = self.find(&parsed).await?;
            let known = self.remember(found.ok_or_else(|| Error::not_found("tenant", slug))?)?;
            if self.0.purges.load(Ordering::SeqCst) == purges {
                return Ok(known);
            }
            self.forget(|tenant| tenant.id == known.tenant.id);
        }
    }

    /// The tenants that this server knows, by slug.
    pub(super) fn known_tenants(&self) -> &RwLock<HashMap<String, Known>> {
        &self.0.known
    }

    pub(super) fn read_known(&self, slug: &str) -> Option<Known> {
        self.0
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(slug)
            .cloned()
    }

    /// Keeps what was read of a tenant, unless something newer is known already.
    pub(super) fn remember(&self, tenant: Tenant) -> Result<Known, Error> {
        let mut all = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = all.get(&tenant.slug);
        let backlog = before.map(|known| known.backlog.clone());
        let news = self.0.hints.of(tenant.number);
        let pool = match all.get(&tenant.slug) {
            Some(known) if known.tenant.epoch > tenant.epoch => return Ok(known.clone()),
            Some(known) if same_login(&known.tenant, &tenant) => known.pool.clone(),
            _ => TenantPool::new(
                tenant.number,
                self.dialer(&tenant)?,
                &self.0.budget,
                self.0.echo,
            ),
        };
        if matches!(tenant.state, State::Suspended | State::Deleted) {
            pool.close_idle(Duration::ZERO);
        }
        let files = self.0.files.of(tenant.id);
        let known = Known {
            tenant: Arc::new(tenant),
            pool,
            files,
            backlog: backlog.unwrap_or_default(),
            news,
        };
        all.insert(known.tenant.slug.clone(), known.clone());
        Ok(known)
    }

    fn forget(&self, gone: impl Fn(&Tenant) -> bool) {
        let mut all = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| !gone(&known.tenant));
    }

    /// Drops what is known of a tenant that was purged.
    pub(super) fn forget_purged(&self, id: TenantId) {
        self.0.purges.fetch_add(1, Ordering::SeqCst);
        self.forget(|tenant| tenant.id == id);
    }

    /// Drops what is known of tenants that others have purged.
    async fn forget_missing(&self, conn: &mut PooledConn) -> Result<(), Error> {
        self.0.purges.fetch_add(1, Ordering::SeqCst);
        let ids: Vec<_> = {
            let all = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
            all.values().map(|known| known.tenant.id).collect()
        };
        let there: HashSet<_> = tenant::remaining(conn, &ids).await?.into_iter().collect();
        let gone: HashSet<_> = ids.into_iter().filter(|id| !there.contains(id)).collect();
        self.forget(|tenant| gone.contains(&tenant.id));
        Ok(())
    }

    fn dialer(&self, tenant: &Tenant) -> Result<Dialer, Error> {
        match (tenant.isolation, &tenant.role_name) {
            (Isolation::Role, Some(role)) => Ok(self
                .0
                .service
                .login(role, &self.0.provisioner.password(tenant)?)),
            _ => {
                let schema = SchemaName::parse("schema_name", &tenant.schema_name)?;
                Ok(self.0.service.options(&session_options(&schema)))
            }
        }
    }

    /// Reads the changes of the directory again when the last reading is no longer fresh: behind
    /// the call while it is recent, before it when it is not.
    async fn keep_fresh(&self) -> Result<(), Error> {
        let age = self.age();
        if age < STALE {
            return Ok(());
        }
        if age < TOO_OLD {
            if let Ok(epoch) = self.0.epoch.try_lock() {
                drop(epoch);
                let directory = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = directory.refresh().await {
                        tracing::debug!(%error, "the directory could not be read again");
                    }
                });
            }
            return Ok(());
        }
        self.refresh().await
    }

    async fn refresh(&self) -> Result<(), Error> {
        let mut seen = self.0.epoch.lock().await;
        // Somebody else may have done it while this call waited for the lock.
        if self.age() < STALE {
            return Ok(());
        }
        let begun = self.0.started.elapsed();
        let mut conn = self.directory_conn().await?;
        let now = tenant::epochs(&mut conn).await?;
        if self.0.read_at.load(Ordering::Relaxed) == 0 {
            // What was remembered before there was an epoch to compare it with may be old by now.
            let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
            known.clear();
        } else if now.epoch > *seen {
            for tenant in tenant::changed_since(&mut conn, *seen).await? {
                let slug = tenant.slug.clone();
                // One that cannot be understood keeps nobody from the others.
                if let Err(error) = self.remember(tenant) {
                    tracing::error!(tenant.slug = slug, error = %Chain(&error), "a tenant cannot be used");
                    let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
                    known.remove(&slug);
                }
            }
            if now.purged_epoch > *seen {
                self.forget_missing(&mut conn).await?;
            }
        }
        *seen = now.epoch;
        let read_at = u64::try_from(begun.as_millis()).unwrap_or(u64::MAX).max(1);
        self.0.read_at.store(read_at, Ordering::Relaxed);
        Ok(())
    }

    fn age(&self) -> Duration {
        match self.0.read_at.load(Ordering::Relaxed) {
            0 => Duration::MAX,
            read_at => self
                .0
                .started
                .elapsed()
                .saturating_sub(Duration::from_millis(read_at)),
        }
    }
}

fn same_login(one: &Tenant, other: &Tenant) -> bool {
    one.role_name == other.role_name
        && one.role_password == other.role_password
        && one.schema_name == other.schema_name
}
