//! Who waits for whom: what one person sends is applied in the order in which it came, one account
//! cannot keep all hands busy, what is to be done for one tenant is done while its connection is
//! open, and few connections are opened at once.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};

use super::item::{Content, Item};
use crate::inbox::Inbound;
use crate::tenant::NEW_CONN_USES;

/// How many deliveries are applied at once.
const AT_ONCE: usize = 16;
/// How many of them may be of one account.
const OF_ONE_ACCOUNT: usize = 8;
/// How many of them may be of tenants that have no connection open, or a new one: to open one and to
/// plan its first statements costs the database as much as many deliveries, and while it is busy with
/// that the answers to the next ones wait.
const UNCONNECTED: usize = 4;
/// How many of those may be of one account: while its tenant is locked, none of them gets on.
const UNCONNECTED_OF_ONE_ACCOUNT: usize = 1;
/// How long a delivery is taken to be at work: longer than a busy database takes to open a connection
/// for it, and shorter than it waits for a lock.
const AT_WORK: Duration = Duration::from_secs(5);
/// How many of one account follow one another while others wait, and for how long: to open a
/// connection and to plan the statements on it takes longer than many of them, but who is slow keeps
/// nobody out.
const IN_A_ROW: (usize, Duration) = (32, Duration::from_secs(1));

/// The lane of each person, and the deliveries of each account.
pub struct Lanes {
    /// By the hash of the account and the person: one lane for two of them would let one wait for
    /// the other's locked tenant.
    lanes: Shared<u64, tokio::sync::Mutex<()>>,
    hasher: RandomState,
    places: Places,
    accounts: Shared<String, Account>,
}

/// What those have in common who name the same key, while any of them keeps it.
struct Shared<K, T>(Mutex<HashMap<K, Weak<T>>>);

/// The places that nobody has.
#[derive(Clone)]
struct Places {
    all: Arc<Semaphore>,
    unconnected: Arc<Semaphore>,
}

/// The deliveries of one account.
struct Account {
    few: Arc<Semaphore>,
    unconnected: Arc<Semaphore>,
    /// Those that wait for a place, the first first; some have got one elsewhere.
    waiting: Mutex<VecDeque<oneshot::Sender<Place>>>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            few: Arc::new(Semaphore::new(OF_ONE_ACCOUNT)),
            unconnected: Arc::new(Semaphore::new(UNCONNECTED_OF_ONE_ACCOUNT)),
            waiting: Mutex::default(),
        }
    }
}

/// A place among all that are applied.
struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    /// The first of a tenant opens its connection: one of its account, and one of all.
    unconnected: Option<[OwnedSemaphorePermit; 2]>,
    /// How many of the account have had it in a row.
    turns: usize,
    /// Since when.
    since: Instant,
}

/// The place of a delivery, until it is dropped: then the next one of the account has it.
struct Held {
    place: Option<Place>,
    account: Arc<Account>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (most, longest) = IN_A_ROW;
        if let Some(mut place) = self.place.take()
            && place.turns < most
            && place.since.elapsed() < longest
        {
            place.turns += 1;
            if place.turns > NEW_CONN_USES {
                place.unconnected = None;
            }
            self.account.hand_on(place);
        }
    }
}

impl<K: Eq + Hash, T: Default> Shared<K, T> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn of<Q>(&self, key: &Q) -> Arc<T>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = kept.get(key).and_then(Weak::upgrade) {
            return shared;
        }
        // It grows by those that somebody keeps alone.
        if kept.len() == kept.capacity() {
            kept.retain(|_, shared| shared.strong_count() > 0);
        }
        let shared = Arc::default();
        kept.insert(key.to_owned(), Arc::downgrade(&shared));
        shared
    }
}

impl Places {
    fn new(all: usize, unconnected: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            unconnected: Arc::new(Semaphore::new(unconnected)),
        }
    }

    /// Waits for one.
    async fn take(self, of_account: Arc<Semaphore>, is_connected: impl Fn() -> bool) -> Place {
        // None is ever closed. Who waits for the first ones keeps no place from others.
        let unconnected = async {
            if is_connected() {
                return None;
            }
            let of_account = of_account.acquire_owned().await.ok()?;
            // The one before may have opened it.
            if is_connected() {
                return None;
            }
            Some([of_account, self.unconnected.acquire_owned().await.ok()?])
        };
        Place {
            unconnected: unconnected.await,
            _permit: self.all.acquire_owned().await.ok(),
            turns: 1,
            since: Instant::now(),
        }
    }
}

impl Lanes {
    /// Makes lanes that nobody is in.
    pub fn new() -> Self {
        Self {
            lanes: Shared::new(),
            hasher: RandomState::new(),
            places: Places::new(AT_ONCE, UNCONNECTED),
            accounts: Shared::new(),
        }
    }

    /// Queues up behind what came before of the same person, and returns the wait for the turn.
    /// The first item decides for its delivery; whether its tenant has a connection is asked when
    /// it needs one.
    pub async fn queue_up<F>(
        &self,
        item: Option<&Item>,
        is_connected: F,
    ) -> impl Future<Output = Turn> + Send + use<F>
    where
        F: Fn() -> bool + Send + Sync + 'static,
    {
        let person = item.and_then(|item| match &item.content {
            Content::Inbound(Inbound::Message(message)) => message.person.identifiers.first(),
            _ => None,
        });
        let key = item.map_or("", |item| item.route_key.as_str());
        let lane = self.lanes.of(&self.hasher.hash_one((key, person)));
        let account = self.accounts.of(key);
        let places = self.places.clone();
        let mut lane = Box::pin(lane.lock_owned());
        // Asked for once, it has its place in the queue, and keeps it.
        let early = poll_fn(|context| Poll::Ready(lane.as_mut().poll(context))).await;
        async move {
            let lane = match early {
                Poll::Ready(lane) => lane,
                Poll::Pending => lane.await,
            };
            // It is never closed.
            let of_account = account.few.clone().acquire_owned().await.ok();
            let held = account.place(places, is_connected).await;
            Turn {
                held,
                _of_account: of_account,
                _lane: lane,
            }
        }
    }
}

impl Account {
    /// Waits for a place: one that another delivery of the account leaves, or any.
    async fn place(self: Arc<Self>, places: Places, is_connected: impl Fn() -> bool) -> Held {
        let any = places.take(self.unconnected.clone(), is_connected);
        let (sender, handed) = oneshot::channel();
        self.waiting().push_back(sender);
        let place = tokio::select! {
            biased;
            Ok(place) = handed => place,
            place = any => place,
        };
        Held {
            place: Some(place),
            account: self,
        }
    }

    /// Leaves a place to the next delivery of the account, or to all.
    fn hand_on(&self, mut place: Place) {
        let mut waiting = self.waiting();
        while let Some(next) = waiting.pop_front() {
            match next.send(place) {
                Ok(()) => return,
                // It has got one elsewhere.
                Err(back) => place = back,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Place>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of a delivery, until it is dropped.
pub struct Turn {
    held: Held,
    _of_account: Option<OwnedSemaphorePermit>,
    _lane: OwnedMutexGuard<()>,
}

impl Turn {
    /// Does its work, and leaves its place to others when that takes long: by then it waits for
    /// something else, such as a lock. It stays one of the few of its account.
    pub async fn spend<T>(&mut self, mut work: Pin<Box<impl Future<Output = T>>>) -> T {
        match tokio::time::timeout(AT_WORK, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.held.place = None;
                work.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of an account have had a place in a row when they got it.
    fn turns(held: &Held) -> usize {
        held.place.as_ref().map_or(0, |place| place.turns)
    }

    #[tokio::test]
    async fn nobody_waits_for_a_stranger_and_what_is_over_is_forgotten() {
        let lanes = Lanes::new();
        let item = |number: usize| Item {
            route_key: number.to_string(),
            content: Content::Ignored("test"),
        };
        let slow = lanes.queue_up(Some(&item(0)), || true).await.await;
        let second = tokio::spawn(lanes.queue_up(Some(&item(0)), || true).await);
        for number in 1..10_000 {
            let stranger = lanes.queue_up(Some(&item(number)), || true).await;
            assert!(tokio::time::timeout(AT_WORK * 20, stranger).await.is_ok());
        }
        assert!(!second.is_finished());
        drop(slow);
        assert!(second.await.is_ok());
        assert!(lanes.lanes.0.lock().is_ok_and(|lanes| lanes.len() < 100));
        assert!(lanes.accounts.0.lock().is_ok_and(|kept| kept.len() < 100));
    }

    #[tokio::test]
    async fn a_place_goes_on_to_the_same_account_and_comes_back_to_all_in_the_end() {
        let (lanes, places) = (Lanes::new(), Places::new(1, 1));
        let (one, other) = (lanes.accounts.of("one"), lanes.accounts.of("other"));
        let first = one.clone().place(places.clone(), || true).await;
        let stranger = tokio::spawn(other.place(places.clone(), || true));
        tokio::task::yield_now().await;
        let next = tokio::spawn(one.clone().place(places.clone(), || true));
        tokio::task::yield_now().await;
        assert!(!stranger.is_finished() && !next.is_finished());
        drop(first);
        let next = next.await.ok();
        assert_eq!(next.as_ref().map(turns), Some(2));
        assert!(!stranger.is_finished());
        // Nobody of the account waits any more.
        drop(next);
        assert_eq!(stranger.await.ok().as_ref().map(turns), Some(1));
        assert_eq!(places.all.available_permits(), 1);
    }

    #[tokio::test]
    async fn an_account_with_much_to_do_lets_others_in() {
        let (lanes, places) = (Lanes::new(), Places::new(1, 1));
        let (busy, other) = (lanes.accounts.of("busy"), lanes.accounts.of("other"));
        let first = busy.clone().place(places.clone(), || true).await;
        let stranger = tokio::spawn(other.place(places.clone(), || true));
        tokio::task::yield_now().await;
        let all_of_busy: Vec<_> = (0..IN_A_ROW.0 * 3)
            .map(|_| {
                let place = busy.clone().place(places.clone(), || true);
                tokio::spawn(async move { drop(place.await) })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(first);
        assert!(stranger.await.is_ok());
        let done = all_of_busy.iter().filter(|one| one.is_finished()).count();
        assert_eq!(done, IN_A_ROW.0 - 1);
        for one in all_of_busy {
            assert!(one.await.is_ok());
        }
        assert_eq!(places.all.available_permits(), 1);
    }

    #[tokio::test]
    async fn who_is_slow_lets_others_in() {
        let (lanes, places) = (Lanes::new(), Places::new(1, 1));
        let (slow, other) = (lanes.accounts.of("slow"), lanes.accounts.of("other"));
        let first = slow.clone().place(places.clone(), || true).await;
        let stranger = tokio::spawn(other.place(places.clone(), || true));
        tokio::task::yield_now().await;
        let next = tokio::spawn(slow.clone().place(places.clone(), || true));
        tokio::task::yield_now().await;
        std::thread::sleep(IN_A_ROW.1);
        drop(first);
        assert_eq!(stranger.await.ok().as_ref().map(turns), Some(1));
        assert_eq!(next.await.ok().as_ref().map(turns), Some(1));
    }

    #[tokio::test]
    async fn who_waits_for_something_else_leaves_its_place() {
        let lanes = Lanes::new();
        let mut turns = Vec::new();
        for number in 0..UNCONNECTED {
            let account = lanes.accounts.of(number.to_string().as_str());
            turns.push(Turn {
                held: account.place(lanes.places.clone(), || false).await,
                _of_account: None,
                _lane: Arc::new(tokio::sync::Mutex::new(())).lock_owned().await,
            });
        }
        let stuck = turns
            .iter_mut()
            .map(|turn| turn.spend(Box::pin(std::future::pending::<()>())));
        let stuck = futures_util::future::join_all(stuck);
        let stranger = lanes
            .accounts
            .of("other")
            .place(lanes.places.clone(), || false);
        let stranger = async { tokio::time::timeout(AT_WORK * 20, stranger).await.is_ok() };
        tokio::select! {
            _ = stuck => unreachable!("nothing ends"),
            came = stranger => assert!(came),
        }
    }

    #[tokio::test]
    async fn a_locked_tenant_keeps_one_of_the_few_that_open_connections() {
        let (lanes, places) = (Lanes::new(), Places::new(3, 2));
        let (locked, other) = (lanes.accounts.of("locked"), lanes.accounts.of("other"));
        let stuck = locked.clone().place(places.clone(), || false).await;
        let behind = tokio::spawn(locked.place(places.clone(), || false));
        tokio::task::yield_now().await;
        let stranger = other.place(places.clone(), || false).await;
        assert!(!behind.is_finished());
        drop(stranger);
        tokio::task::yield_now().await;
        assert!(!behind.is_finished());
        drop(stuck);
        assert_eq!(behind.await.ok().as_ref().map(turns), Some(2));
    }

    #[tokio::test]
    async fn few_connections_are_opened_at_once_and_who_has_one_need_not_wait() {
        let (lanes, places) = (Lanes::new(), Places::new(3, 1));
        let (one, other) = (lanes.accounts.of("one"), lanes.accounts.of("other"));
        let first = one.clone().place(places.clone(), || false).await;
        let stranger = tokio::spawn(other.clone().place(places.clone(), || false));
        tokio::task::yield_now().await;
        assert!(!stranger.is_finished());
        let connected = other.place(places.clone(), || true).await;
        // The next ones of the account find the connection open; when it is no longer new, the
        // stranger may open one.
        let mut held = first;
        for turn in 2..=NEW_CONN_USES + 1 {
            assert!(!stranger.is_finished());
            let next = tokio::spawn(one.clone().place(places.clone(), || false));
            tokio::task::yield_now().await;
            drop(held);
            held = next.await.unwrap();
            assert_eq!(turns(&held), turn);
        }
        let stranger = stranger.await.ok();
        assert_eq!(stranger.as_ref().map(turns), Some(1));
        drop((held, stranger, connected));
        assert_eq!(places.all.available_permits(), 3);
        assert_eq!(places.unconnected.available_permits(), 1);
    }
}
