//! What is left to be done for a tenant behind its calls, on this server.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use uuid::Uuid;

use super::directory::TenantDirectory;
use super::scope::TenantScope;
use crate::access::Facts;

/// What has gathered for one tenant.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    writes: AtomicU32,
    visit: AtomicBool,
}

impl Backlog {
    /// Somebody came in who may write.
    pub fn entered_to_write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self, writes: u32) -> Option<Due> {
        if self.visit.swap(false, Ordering::Relaxed) {
            return Some(Due::Visit);
        }
        if self.writes.load(Ordering::Relaxed) < writes {
            return None;
        }
        self.writes.store(0, Ordering::Relaxed);
        Some(Due::Writes)
    }
}

/// Why a tenant is to be looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It was asked for, or is from time to time.
    Visit,
    /// Much was written.
    Writes,
}

impl TenantDirectory {
    /// Has a tenant looked after soon. What this server does not know yet stays as it is.
    pub fn visit_soon(&self, slug: &str) {
        if let Some(known) = self.read_known(slug) {
            known.backlog.visit.store(true, Ordering::Relaxed);
        }
    }

    /// Has a tenant looked after soon, whether this server knows it yet or not. One that is not
    /// ready needs no visit.
    pub(super) async fn get_visited(&self, slug: &str) {
        if self.known(slug).await.is_ok() {
            self.visit_soon(slug);
        }
    }

    /// The tenants that are to be looked after: those to visit, and those that so many writers have
    /// entered since they were taken last. The service itself acts.
    pub fn take_due(&self, writes: u32) -> Vec<(TenantScope, Due)> {
        let all = self.known_tenants();
        let all = all.read().unwrap_or_else(PoisonError::into_inner);
        let due = all.values().filter(|known| known.is_active());
        due.filter_map(|known| {
            let due = known.backlog.take(writes)?;
            let facts = Facts::itself(Uuid::now_v7().simple().to_string());
            Some((known.scope(facts), due))
        })
        .collect()
    }
}
