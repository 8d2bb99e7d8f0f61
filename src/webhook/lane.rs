//! Who waits for whom: what one person sends is applied in the order in which it came, and one
//! account cannot keep all hands busy.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::item::{Content, Item};
use crate::inbox::Inbound;

/// How many lanes there are; people share them by chance.
const LANES: usize = 256;
/// How many deliveries are applied at once.
const AT_ONCE: usize = 32;
/// How many of them may be of one account.
const OF_ONE_ACCOUNT: usize = 8;

/// The lanes, and how many deliveries of each account are at work.
pub struct Lanes {
    lanes: Vec<Arc<tokio::sync::Mutex<()>>>,
    hasher: RandomState,
    all: Arc<Semaphore>,
    accounts: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Lanes {
    /// Makes lanes that nobody is in.
    pub fn new() -> Self {
        Self {
            lanes: (0..LANES).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
            all: Arc::new(Semaphore::new(AT_ONCE)),
            accounts: Mutex::default(),
        }
    }

    /// Queues up behind what came before of the same person, and returns the wait for the turn.
    /// The first item decides for its delivery.
    pub async fn queue_up(&self, item: Option<&Item>) -> impl Future<Output = Turn> + Send + use<> {
        let person = item.and_then(|item| match &item.content {
            Content::Inbound(Inbound::Message(message)) => message.person.identifiers.first(),
            _ => None,
        });
        let key = item.map_or("", |item| item.route_key.as_str());
        let hash = self.hasher.hash_one((key, person)) % LANES as u64;
        let lane = usize::try_from(hash)
            .ok()
            .and_then(|lane| self.lanes.get(lane));
        let account = self.account(key);
        let all = self.all.clone();
        let mut lane = Box::pin(lane.cloned().unwrap_or_default().lock_owned());
        // Asked for once, it has its place in the queue, and keeps it.
        let early = poll_fn(|context| Poll::Ready(lane.as_mut().poll(context))).await;
        async move {
            let lane = match early {
                Poll::Ready(lane) => lane,
                Poll::Pending => lane.await,
            };
            // Neither is ever closed.
            let of_account = account.clone().acquire_owned().await.ok();
            let of_all = all.acquire_owned().await.ok();
            Turn {
                _held: (of_all, of_account, lane),
                _account: account,
            }
        }
    }

    fn account(&self, key: &str) -> Arc<Semaphore> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(key).and_then(Weak::upgrade) {
            return account;
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(Semaphore::new(OF_ONE_ACCOUNT));
        accounts.insert(key.to_owned(), Arc::downgrade(&account));
        account
    }
}

/// The turn of a delivery, until it is dropped.
pub struct Turn {
    _held: (
        Option<OwnedSemaphorePermit>,
        Option<OwnedSemaphorePermit>,
        OwnedMutexGuard<()>,
    ),
    _account: Arc<Semaphore>,
}
