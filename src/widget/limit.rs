//! How often visitors may do things.
//!
//! A limit lets its whole number through at once, and then one more each time that its share of the
//! period has passed (the generic cell rate algorithm). What is remembered of each caller is one
//! time; of the callers, those that were heard of last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::refusal::Refusal;
use crate::config::WidgetConfig;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// How many pages without a widget an address may name in a minute.
const STRANGERS: u32 = 60;
/// How many streams a visitor has at once, one for each page that is open, and an address.
const VISITOR_STREAMS: usize = 5;
const ADDRESS_STREAMS: usize = 50;
/// When a place may be free, where there is none.
const FREE_AFTER: Duration = Duration::from_secs(1);
/// How many callers are remembered.
const CALLERS: usize = 16_384;

/// Lets a number through in each period, for each caller.
pub struct Limit {
    began: Instant,
    /// What each caller has used up, as the time since the beginning when all of it is back.
    used: Cache<u128, Arc<Mutex<Duration>>>,
    number: u32,
    period: Duration,
}

impl Limit {
    fn new(number: u32, period: Duration) -> Self {
        Self {
            began: Instant::now(),
            used: Cache::new(CALLERS),
            number,
            period,
        }
    }

    /// Takes one of what a caller has; else says after how long there is one.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&self, caller: u128) -> Result<(), Duration> {
        self.take_at(caller, self.began.elapsed())
    }

    /// Whether a caller has nothing left.
    pub fn is_used_up(&self, caller: u128) -> bool {
        let Some(used) = self.used.get(&caller) else {
            return false;
        };
        let used = *used.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, wait) = self.one_more(used, self.began.elapsed());
        !wait.is_zero()
    }

    /// When all is back after one more, and how long that one has to wait.
    fn one_more(&self, used: Duration, now: Duration) -> (Duration, Duration) {
        let all_back = used.max(now) + self.period / self.number.max(1);
        (all_back, all_back.saturating_sub(now + self.period))
    }

    fn take_at(&self, caller: u128, now: Duration) -> Result<(), Duration> {
        let none = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(used) = self.used.get_or_insert_with(&caller, none);
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        let (all_back, wait) = self.one_more(*used, now);
        if wait.is_zero() {
            *used = all_back;
            return Ok(());
        }
        Err(wait)
    }
}

/// Places that callers have for as long as they need them, so many each.
pub struct Places {
    taken: Arc<Mutex<HashMap<u128, usize>>>,
    most: usize,
}

/// One that is taken.
pub struct Place {
    taken: Arc<Mutex<HashMap<u128, usize>>>,
    caller: u128,
}

impl Places {
    fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// Takes one of a caller's.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&self, caller: u128) -> Result<Place, Refusal> {
        let mut taken = lock(&self.taken);
        let by_caller = taken.entry(caller).or_default();
        if *by_caller >= self.most {
            return Err(Refusal::TooOften(FREE_AFTER));
        }
        *by_caller += 1;
        Ok(Place {
            taken: self.taken.clone(),
            caller,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(by_caller) = taken.get_mut(&self.caller) {
            *by_caller -= 1;
            if *by_caller == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

fn lock(taken: &Mutex<HashMap<u128, usize>>) -> MutexGuard<'_, HashMap<u128, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All limits of visitors.
pub struct Limits {
    /// Of an address that opens sessions.
    pub sessions: Limit,
    /// Of an address that identifies somebody.
    pub identifications: Limit,
    /// Of a visitor who posts messages.
    pub messages: Limit,
    /// Of an address that messages come from.
    pub address_messages: Limit,
    /// Of a visitor who uploads files.
    pub uploads: Limit,
    /// Of an address that files come from.
    pub address_uploads: Limit,
    /// Of a visitor who reads.
    pub reads: Limit,
    /// Of an address that names pages which have no widget.
    pub strangers: Limit,
    /// Of all visitors who listen.
    pub streams: Places,
    /// Of a visitor who listens.
    pub visitor_streams: Places,
    /// Of an address where somebody listens.
    pub address_streams: Places,
}

impl Limits {
    /// The limits that are configured, with so many streams at once.
    pub fn new(config: &WidgetConfig, streams: usize) -> Self {
        Self {
            sessions: Limit::new(config.sessions, MINUTE),
            identifications: Limit::new(config.identifications, MINUTE),
            messages: Limit::new(config.messages, MINUTE),
            address_messages: Limit::new(config.address_messages, MINUTE),
            uploads: Limit::new(config.uploads, HOUR),
            address_uploads: Limit::new(config.address_uploads, HOUR),
            reads: Limit::new(config.reads, MINUTE),
            strangers: Limit::new(STRANGERS, MINUTE),
            streams: Places::new(streams),
            visitor_streams: Places::new(VISITOR_STREAMS),
            address_streams: Places::new(ADDRESS_STREAMS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_number_passes_at_once_and_then_its_share() {
        let limit = Limit::new(10, MINUTE);
        let second = Duration::from_secs;
        for _ in 0..10 {
            assert_eq!(limit.take_at(1, second(5)), Ok(()));
        }
        assert_eq!(limit.take_at(1, second(5)), Err(second(6)));
        // Asking costs nothing, and others are not held up.
        assert_eq!(limit.take_at(1, second(7)), Err(second(4)));
        assert_eq!(limit.take_at(2, second(7)), Ok(()));
        assert_eq!(limit.take_at(1, second(11)), Ok(()));
        assert_eq!(limit.take_at(1, second(11)), Err(second(6)));
        for _ in 0..10 {
            assert_eq!(limit.take_at(1, second(200)), Ok(()));
        }
        assert!(limit.take_at(1, second(200)).is_err());
    }

    #[test]
    fn who_has_nothing_left_is_known() {
        let limit = Limit::new(2, MINUTE);
        assert!(!limit.is_used_up(1));
        limit.take(1).unwrap();
        assert!(!limit.is_used_up(1));
        limit.take(1).unwrap();
        assert!(limit.is_used_up(1));
        assert!(limit.take(1).is_err());
        assert!(!limit.is_used_up(2));
    }

    #[test]
    fn a_place_is_free_when_it_is_left() {
        let places = Places::new(2);
        let (one, _two) = (places.take(1).unwrap(), places.take(1).unwrap());
        assert!(places.take(1).is_err());
        let _other = places.take(2).unwrap();
        drop(one);
        drop(places.take(1).unwrap());
        let _again = places.take(1).unwrap();
        assert!(places.take(1).is_err());
    }

    #[test]
    fn callers_without_end_take_no_memory_without_end() {
        let limit = Limit::new(1, HOUR);
        for caller in 0..100_000 {
            let _ = limit.take(caller);
        }
        assert!(limit.used.len() <= CALLERS);
    }
}
