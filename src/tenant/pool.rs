//! One deadpool for each tenant, logged in as that tenant's role.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use deadpool::managed::{
    self, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult,
};
use diesel_async::AsyncConnection as _;

use super::budget::{Budget, Grant};
use super::conn::is_unclean;
use crate::database::dial::{DialError, Dialer, Session};
use crate::database::echo::Echo;
use crate::error::Error;

/// How long a call waits for a connection before it is told to come back.
const WAIT: Duration = Duration::from_secs(2);

/// The connections of one tenant.
pub struct TenantPool {
    tenant: i32,
    pool: Pool<Manager>,
    budget: Arc<Budget>,
    made: Instant,
    last_used: AtomicU64,
}

/// Opens and checks the connections of one tenant.
pub struct Manager {
    tenant: i32,
    dialer: Dialer,
    budget: Arc<Budget>,
    pool: Weak<TenantPool>,
    echo: bool,
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Another connection of the tenant became idle instead: take that.
    #[error("an idle connection is there")]
    Returned,
    /// The server cannot be reached or refuses.
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl managed::Manager for Manager {
    // Boxed, because deadpool keeps room for as many as there may ever be.
    type Type = Box<Session>;
    type Error = ManagerError;

    async fn create(&self) -> Result<Box<Session>, ManagerError> {
        match self.budget.acquire(&self.pool, self.tenant).await {
            Grant::Returned => Err(ManagerError::Returned),
            Grant::Open(permit) => {
                let mut session = self.dialer.dial(permit).await?;
                if self.echo {
                    session.conn.set_instrumentation(Echo);
                }
                Ok(Box::new(session))
            }
        }
    }

    async fn recycle(
        &self,
        session: &mut Box<Session>,
        _: &Metrics,
    ) -> RecycleResult<ManagerError> {
        if !session.is_alive() || is_unclean(&mut session.conn) {
            return Err(RecycleError::message("the connection has ended"));
        }
        Ok(())
    }
}

impl TenantPool {
    /// Makes an empty pool.
    pub fn new(tenant: i32, dialer: Dialer, budget: &Arc<Budget>, echo: bool) -> Arc<Self> {
        Arc::new_cyclic(|pool| {
            let manager = Manager {
                tenant,
                dialer,
                budget: budget.clone(),
                pool: pool.clone(),
                echo,
            };
            let config = PoolConfig {
                max_size: budget.total(),
                queue_mode: QueueMode::Lifo,
                ..PoolConfig::default()
            };
            let pool = Pool::builder(manager).config(config).build();
            Self {
                tenant,
                #[expect(
                    clippy::expect_used,
                    reason = "building fails only for timeouts without a runtime, and none is set"
                )]
                pool: pool.expect("a pool without timeouts"),
                budget: budget.clone(),
                made: Instant::now(),
                last_used: AtomicU64::new(0),
            }
        })
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// None came free in time, or the server cannot be reached.
    pub async fn take(&self) -> Result<Object<Manager>, Error> {
        let taking = async {
            loop {
                #[expect(clippy::disallowed_methods, reason = "the one place that takes one")]
                match self.pool.get().await {
                    Ok(session) => return Ok(session),
                    Err(PoolError::Backend(ManagerError::Returned)) => {}
                    Err(PoolError::Backend(ManagerError::Dial(error))) => {
                        return Err(Error::Unavailable(error.into()));
                    }
                    Err(error) => return Err(Error::internal(error)),
                }
            }
        };
        match tokio::time::timeout(WAIT, taking).await {
            Ok(taken) => taken,
            Err(_) => Err(Error::ResourceExhausted { retry_after: WAIT }),
        }
    }

    /// Takes a connection back that nothing runs on.
    pub fn put_back(&self, session: Object<Manager>) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_used.store(now, Ordering::Relaxed);
        if self.budget.must_close(self.tenant) {
            drop(Object::take(session));
        } else {
            drop(session);
            self.budget.returned(self.tenant);
        }
    }

    /// Takes a connection back whose caller left in the middle of something: it is stopped and
    /// closed, because its next user would wait for it or see half of it.
    pub fn abandon(&self, session: Object<Manager>, busy: bool) {
        let session = Object::take(session);
        if busy {
            let dialer = self.pool.manager().dialer.clone();
            tokio::spawn(async move {
                if let Err(error) = dialer.stop(*session).await {
                    tracing::warn!(%error, "a statement without a caller could not be stopped");
                }
            });
        }
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.pool.status().available
    }

    /// When a connection was last given back.
    pub fn last_used(&self) -> Instant {
        self.made + Duration::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    /// Closes the idle connection that was unused longest; tells whether there was one.
    pub fn close_longest_unused(&self) -> bool {
        let mut closed = false;
        // Last in, first out: the first is the one unused longest.
        let removed = self
            .pool
            .retain(|_, _| std::mem::replace(&mut closed, true));
        !removed.removed.is_empty()
    }

    /// Closes the connections that have been idle for longer than `longest`.
    pub fn close_idle(&self, longest: Duration) {
        self.pool.retain(|_, metrics| metrics.last_used() < longest);
    }
}
