//! What this server knows of the tenants, and how it stays true.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::backlog::Backlog;
use super::conn::PooledConn;
use super::directory::TenantDirectory;
use super::hint::News;
use super::installation::session_options;
use super::pool::TenantPool;
use super::schema_name::{SchemaName, Slug};
use super::scope::TenantScope;
use super::tenant::{self, Isolation, State, Tenant};
use crate::access::Facts;
use crate::database::dial::Dialer;
use crate::error::{Chain, Error, Precondition};
use crate::file_store::TenantFiles;
use crate::ids::TenantId;

/// From this age on, what is known of the tenants is read again behind the next call.
const STALE: Duration = Duration::from_millis(200);
/// Older than this, nothing that is known of the tenants is used.
const TOO_OLD: Duration = Duration::from_millis(500);
/// How many tenants are looked up at once.
pub(super) const LOOK_UPS: usize = 8;
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
impl TenantDirectory {
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
