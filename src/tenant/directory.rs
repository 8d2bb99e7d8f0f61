//! Knows the tenants and owns their pools: the one way to a `TenantScope`.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use async_nats::ServerAddr;
use tokio::sync::Mutex;
use tonic::{Request, Streaming};
use uuid::Uuid;

use super::alarm::Alarm;
use super::budget::Budget;
use super::channel_account::AccountSealers;
use super::conn::PooledConn;
use super::hint::{self, Hints};
use super::installation::Installation;
use super::janitor;
use super::known::{Known, LOOK_UPS};
use super::migration;
use super::pool::TenantPool;
use super::provision::{CONNECTIONS, Provisioner};
use super::route::Route;
use super::schema_name::Slug;
use super::scope::TenantScope;
use super::tenant::{self, Tenant};
use crate::access::{Actor, Call, CallContext, Caller, Facts, Scope, admit};
use crate::channel::Channel;
use crate::codec::broken_off;
use crate::database::dial::Dialer;
use crate::error::{Error, InvalidRequest};
use crate::file_store::FileStore;
use crate::master_key::Sealer;
use crate::pb;

/// How many connections read and write the directory, at least and at most: a fifth of all, because
/// every webhook is committed through one before it is answered.
const DIRECTORY_CONNECTIONS: (usize, usize) = (4, 16);
/// How many connections tell other servers what has changed, and hear it.
const HINT_CONNECTIONS: usize = 1;
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
    /// Whether what the actor may see and do in channels is to be skipped.
    fn unrestricted(&self) -> bool;
}

/// The tenants of one database.
#[derive(Clone)]
pub struct TenantDirectory(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) service: Dialer,
    pub(super) provisioner: Provisioner,
    pub(super) sealer: Sealer,
    pub(super) account_sealers: AccountSealers,
    pub(super) files: FileStore,
    pub(super) directory: Arc<TenantPool>,
    pub(super) budget: Arc<Budget>,
    pub(super) hints: Arc<Hints>,
    pub(super) echo: bool,
    pub(super) known: RwLock<HashMap<String, Known>>,
    pub(super) started: Instant,
    /// When the directory was last read, in milliseconds after the start; 0 for never.
    pub(super) read_at: AtomicU64,
    pub(super) epoch: Mutex<i64>,
    /// Held by who looks a tenant up: one of these for each of several tenants.
    pub(super) look_ups: [Mutex<()>; LOOK_UPS],
    /// How many purges this node has heard of.
    pub(super) purges: AtomicU64,
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
        let unrestricted = request.unrestricted().then_some(T::PATH);
        if unrestricted.is_some() {
            context.caller.check_scope(Scope::ChatUnrestricted)?;
        }
        let known = self.known(slug).await?;
        let named = request.actor().map(Actor::try_from).transpose()?;
        let facts = Facts {
            actor: context.caller.actor(named)?,
            unrestricted,
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
            unrestricted: None,
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
        let facts = Facts::itself(Uuid::now_v7().simple().to_string());
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
}
