//! The connections of all tenants together: never more than the budget, handed round by tenant.
//!
//! A permit stands for one connection, from before it is opened until the server has ended it.
//! Who finds none waits in the line of its tenant; the lines take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::pool::TenantPool;

/// All permits, and who has and who wants them.
pub struct Budget {
    total: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: usize,
    /// Permits on their way back from connections that were closed to make room.
    closing: usize,
    shares: HashMap<i32, Share>,
    /// The tenants with a line, in the order of their turns.
    turns: VecDeque<i32>,
}

struct Share {
    pool: Weak<TenantPool>,
    open: usize,
    line: VecDeque<oneshot::Sender<Grant>>,
}

/// What ends the wait for a connection.
pub enum Grant {
    /// A new connection may be opened.
    Open(Permit),
    /// A connection of the same tenant is idle again.
    Returned,
}

/// The right to one connection.
pub struct Permit {
    budget: Option<Arc<Budget>>,
    tenant: i32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.release(self.tenant);
        }
    }
}

/// A place in the line of a tenant.
struct Place {
    budget: Arc<Budget>,
    tenant: i32,
    grant: oneshot::Receiver<Grant>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.grant.close();
        // The news that a connection is idle must not be lost with who was told first.
        if let Ok(Grant::Returned) = self.grant.try_recv() {
            self.budget.returned(self.tenant);
        }
    }
}

impl Budget {
    /// Makes a budget of so many connections.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            state: Mutex::new(State {
                free: total,
                ..State::default()
            }),
        })
    }

    /// How many connections there may be.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many permits are out.
    pub fn open(&self) -> usize {
        self.total - self.lock().free
    }

    /// How many callers wait for a connection.
    pub fn waiting(&self) -> usize {
        self.lock()
            .shares
            .values()
            .map(|share| share.line.len())
            .sum()
    }

    /// Waits for a permit, or for an idle connection of the same tenant.
    pub async fn acquire(self: &Arc<Self>, pool: &Weak<TenantPool>, tenant: i32) -> Grant {
        let mut place = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                state.share(tenant, pool).open += 1;
                return Grant::Open(self.permit(tenant));
            }
            let (sender, grant) = oneshot::channel();
            let share = state.share(tenant, pool);
            share.line.retain(|sender| !sender.is_closed());
            share.line.push_back(sender);
            if !state.turns.contains(&tenant) {
                state.turns.push_back(tenant);
            }
            state.make_room();
            Place {
                budget: self.clone(),
                tenant,
                grant,
            }
        };
        match (&mut place.grant).await {
            Ok(grant) => grant,
            // The line was dropped with its tenant; asking again is right.
            Err(_) => Grant::Returned,
        }
    }

    /// Tells whether a tenant has to give up a connection that it would rather keep: others wait,
    /// and nobody of its own does or it has more than its share.
    pub fn must_close(&self, tenant: i32) -> bool {
        let mut state = self.lock();
        state.forget_leavers();
        if !state.turns.iter().any(|waiting| *waiting != tenant) {
            return false;
        }
        let sharers = state.shares.len().max(1);
        let fair = self.total / sharers;
        let close = state
            .shares
            .get(&tenant)
            .is_none_or(|share| share.line.is_empty() || share.open > fair);
        if close {
            state.closing += 1;
        }
        close
    }

    /// Takes note that a tenant has an idle connection again.
    pub fn returned(&self, tenant: i32) {
        let mut state = self.lock();
        if let Some(share) = state.shares.get_mut(&tenant) {
            while let Some(sender) = share.line.pop_front() {
                if sender.send(Grant::Returned).is_ok() {
                    return;
                }
            }
        }
        state.forget_leavers();
        if !state.turns.is_empty() {
            state.make_room();
        }
    }

    /// Closes the connections of all tenants that have been idle for longer than `longest`.
    pub fn reap(&self, longest: std::time::Duration) {
        let pools: Vec<_> = self
            .lock()
            .shares
            .values()
            .filter_map(|share| share.pool.upgrade())
            .collect();
        for pool in pools {
            pool.close_idle(longest);
        }
    }

    fn release(self: &Arc<Self>, tenant: i32) {
        let mut state = self.lock();
        state.closing = state.closing.saturating_sub(1);
        if let Some(share) = state.shares.get_mut(&tenant) {
            share.open -= 1;
        }
        state.forget_leavers();
        while let Some(next) = state.turns.pop_front() {
            let Some(share) = state.shares.get_mut(&next) else {
                continue;
            };
            let Some(sender) = share.line.pop_front() else {
                continue;
            };
            let more = !share.line.is_empty();
            match sender.send(Grant::Open(self.permit(next))) {
                Ok(()) => share.open += 1,
                Err(Grant::Open(mut unsent)) => {
                    // It was never out: dropping it must not release it again.
                    unsent.budget = None;
                    if more {
                        state.turns.push_front(next);
                    }
                    continue;
                }
                Err(Grant::Returned) => continue,
            }
            if more {
                state.turns.push_back(next);
            }
            return;
        }
        state.free += 1;
        state.forget_leavers();
    }

    fn permit(self: &Arc<Self>, tenant: i32) -> Permit {
        Permit {
            budget: Some(self.clone()),
            tenant,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn share(&mut self, tenant: i32, pool: &Weak<TenantPool>) -> &mut Share {
        let share = self.shares.entry(tenant).or_insert_with(|| Share {
            pool: pool.clone(),
            open: 0,
            line: VecDeque::new(),
        });
        if share.pool.strong_count() == 0 {
            share.pool = pool.clone();
        }
        share
    }

    /// Drops the places of callers who have given up, and tenants that have and want nothing.
    fn forget_leavers(&mut self) {
        if !self.turns.is_empty() {
            for tenant in &self.turns {
                if let Some(share) = self.shares.get_mut(tenant) {
                    share.line.retain(|sender| !sender.is_closed());
                }
            }
            let shares = &self.shares;
            self.turns.retain(|tenant| {
                shares
                    .get(tenant)
                    .is_some_and(|share| !share.line.is_empty())
            });
        }
        self.shares
            .retain(|_, share| share.open > 0 || !share.line.is_empty());
    }

    /// Closes idle connections, the longest unused first, until enough are on their way for all
    /// who wait.
    fn make_room(&mut self) {
        let waiting: usize = self.shares.values().map(|share| share.line.len()).sum();
        while self.closing < waiting {
            let pools = self
                .shares
                .values()
                .filter_map(|share| share.pool.upgrade());
            let longest_unused = pools
                .filter(|pool| pool.idle() > 0)
                .min_by_key(|pool| pool.last_used());
            match longest_unused {
                Some(pool) if pool.close_longest_unused() => self.closing += 1,
                _ => return,
            }
        }
    }
}
