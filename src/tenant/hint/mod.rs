//! What servers tell each other: in which tenants something may have changed, and what is only said
//! there.
//!
//! A hint is never the truth. What is told comes late or not at all, so whoever waits for hints looks
//! by themselves from time to time: seldom while hints are known to come in, often while they are
//! not. What is only said is not looked for: who misses it has missed it.

mod hall;
mod nats;
mod postgres;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible as Never;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use self::hall::Unsaid;
use super::installation::random;
use crate::error::{Chain, Error};

pub use hall::Hall;
pub(super) use nats::by_nats;
pub(super) use postgres::by_postgres;

/// How long hints are gathered before they are told.
const TOGETHER: Duration = Duration::from_millis(10);
/// How often something is told, be it nothing.
const BEAT: Duration = Duration::from_secs(1);
/// After how long without hearing oneself nobody is heard, as far as anybody knows.
const SILENCE: Duration = Duration::from_secs(3);
/// How long after a line has broken another one is tried.
const AGAIN: Duration = Duration::from_secs(1);
/// After how long without a broken line it is news that one breaks.
const CALM: Duration = Duration::from_secs(60);
/// How many bytes are told at once: a notification of PostgreSQL has less than 8,000.
const MOST_BYTES: usize = 7_900;

/// Tells and hears by one line after another, until nobody needs hints any more.
async fn keep_talking(
    hints: Weak<Hints>,
    talk: impl Fn(Arc<Hints>) -> BoxFuture<'static, Result<Never, Error>>,
) {
    let mut warned: Option<Instant> = None;
    while let Some(hints) = hints.upgrade() {
        let Err(error) = talk(hints).await;
        // Once, and not for every attempt to mend it.
        if warned.is_none_or(|at| at.elapsed() > CALM) {
            tracing::warn!(error = %Chain(&error), "other servers are not heard");
        }
        warned = Some(Instant::now());
        sleep(AGAIN).await;
    }
}

/// The hints of one server.
pub(super) struct Hints {
    /// What this server calls itself, to know what it hears from itself.
    server: String,
    tenants: Mutex<HashMap<i32, Arc<News>>>,
    changed: Arc<Changed>,
    is_heard: AtomicBool,
}

/// The tenants that the others have not been told of, and what was said there.
#[derive(Default)]
struct Changed {
    numbers: Mutex<HashSet<i32>>,
    unsaid: Mutex<Unsaid>,
    some: Notify,
}

/// Tells those on this server who listen to a tenant, and the other servers, that something may have
/// changed there.
pub(super) struct News {
    number: i32,
    heard: watch::Sender<()>,
    /// Whether it is about to be told to the others.
    is_told: AtomicBool,
    /// Where what is said is heard here, while somebody may listen.
    hall: Mutex<Weak<Hall>>,
    changed: Arc<Changed>,
}

impl News {
    /// Something may have changed, and can be seen by now.
    pub fn tell(&self) {
        self.heard.send_replace(());
        if !self.is_told.swap(true, Ordering::AcqRel) {
            self.changed.numbers().insert(self.number);
            self.changed.some.notify_one();
        }
    }

    /// Is told when something may have changed.
    pub fn listen(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }

    /// Says something to those who listen, here and on the other servers.
    pub fn say(&self, said: Bytes) {
        let is_first = self.changed.unsaid().add(self.number, &said);
        if is_first {
            self.changed.some.notify_one();
        }
        self.say_here(said);
    }

    /// Where what is said is heard here, for as long as somebody has it.
    pub fn hall(&self) -> Arc<Hall> {
        let mut hall = self.hall.lock().unwrap_or_else(PoisonError::into_inner);
        hall.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Hall::new());
            *hall = Arc::downgrade(&new);
            new
        })
    }

    fn say_here(&self, said: Bytes) {
        let hall = self.hall.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hall) = hall.upgrade() {
            hall.say(said);
        }
    }
}

impl Changed {
    fn numbers(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsaid(&self) -> MutexGuard<'_, Unsaid> {
        self.unsaid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hints {
    /// Those of a server that is not heard yet.
    pub fn new() -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            server: format!("{:016x}", random()?),
            tenants: Mutex::default(),
            changed: Arc::default(),
            is_heard: AtomicBool::new(false),
        }))
    }

    /// The news of a tenant.
    pub fn of(&self, number: i32) -> Arc<News> {
        let mut tenants = self.lock();
        let news = tenants.entry(number).or_insert_with(|| {
            Arc::new(News {
                number,
                heard: watch::channel(()).0,
                is_told: AtomicBool::new(false),
                hall: Mutex::default(),
                changed: self.changed.clone(),
            })
        });
        news.clone()
    }

    /// Whether what others tell comes in, as far as is known.
    pub fn are_heard(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    /// Tells and hears by a line until that breaks, or nobody needs hints any more.
    async fn talk<'line>(
        self: &Arc<Self>,
        heard: impl Stream<Item = String>,
        say: impl Fn(String) -> BoxFuture<'line, Result<(), Error>>,
    ) -> Result<Never, Error> {
        // What was said while there was no line is not worth hearing any more.
        self.changed.unsaid().take();
        let echo = Mutex::new(Instant::now());
        let hearing = async {
            let mut heard = std::pin::pin!(heard);
            while let Some(words) = heard.next().await {
                if self.hear(&words) {
                    *echo.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                }
            }
            Error::internal("the line has ended")
        };
        let telling = async {
            while Arc::strong_count(self) > 1 {
                for words in self.take() {
                    match timeout(BEAT, say(words)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return error,
                        Err(_) => return Error::internal("nothing can be told"),
                    }
                }
                if timeout(BEAT, self.changed.some.notified()).await.is_ok() {
                    sleep(TOGETHER).await;
                }
                let echo = *echo.lock().unwrap_or_else(PoisonError::into_inner);
                if echo.elapsed() > SILENCE {
                    return Error::internal("what is told is not heard");
                }
            }
            Error::internal("nobody needs hints any more")
        };
        let why = tokio::select! {
            why = hearing => why,
            why = telling => why,
        };
        self.is_heard.store(false, Ordering::Relaxed);
        Err(why)
    }

    /// Hears what a server tells; returns whether that is this one.
    fn hear(&self, words: &str) -> bool {
        let (server, words) = words.split_once(' ').unwrap_or((words, ""));
        if server == self.server {
            // Whatever was told before this server could hear it has to be looked for.
            if !self.is_heard.swap(true, Ordering::Relaxed) {
                for news in self.lock().values() {
                    news.heard.send_replace(());
                }
            }
            return true;
        }
        let tenants = self.lock();
        for word in words.split(' ') {
            if let Some(news) = word.parse().ok().and_then(|number| tenants.get(&number)) {
                news.heard.send_replace(());
            } else if let Some((number, said)) = hall::read(word)
                && let Some(news) = tenants.get(&number)
            {
                news.say_here(said);
            }
        }
        false
    }

    /// Takes what is to be told, in words that are not too long; those of this server's name alone if
    /// there is nothing.
    fn take(&self) -> Vec<String> {
        let numbers: Vec<i32> = {
            let mut numbers = self.changed.numbers();
            let tenants = self.lock();
            for news in numbers.iter().filter_map(|number| tenants.get(number)) {
                news.is_told.store(false, Ordering::Release);
            }
            numbers.drain().collect()
        };
        let mut all = vec![self.server.clone()];
        let said = self.changed.unsaid().take();
        for word in numbers.iter().map(i32::to_string).chain(said) {
            match all.last_mut() {
                Some(words) if words.len() + word.len() < MOST_BYTES => {
                    words.push(' ');
                    words.push_str(&word);
                }
                _ => all.push(format!("{} {word}", self.server)),
            }
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Arc<News>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(server: &str) -> Hints {
        Hints {
            server: server.to_owned(),
            tenants: Mutex::default(),
            changed: Arc::default(),
            is_heard: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_tenant_is_told_of_once_however_often_it_changes_and_again_when_it_changes_after_that() {
        let one = hints("one");
        let news = one.of(7);
        assert_eq!(one.take(), ["one"]);
        news.tell();
        news.tell();
        one.of(7).tell();
        assert_eq!(one.take(), ["one 7"]);
        assert_eq!(one.take(), ["one"]);
        news.tell();
        assert_eq!(one.take(), ["one 7"]);
    }

    #[test]
    fn what_others_tell_is_heard_and_not_told_again() {
        let one = hints("one");
        let (seven, eight) = (one.of(7), one.of(8));
        let (mut of_seven, of_eight) = (seven.listen(), eight.listen());
        assert!(!one.hear("two 7 9 nonsense 99999999999"));
        assert!(of_seven.has_changed().unwrap() && !of_eight.has_changed().unwrap());
        assert_eq!(one.take(), ["one"]);
        of_seven.mark_unchanged();
        // Who hears themselves for the first time may have missed what others told before.
        assert!(!one.are_heard());
        assert!(one.hear("one"));
        assert!(one.are_heard());
        assert!(of_seven.has_changed().unwrap() && of_eight.has_changed().unwrap());
        of_seven.mark_unchanged();
        assert!(one.hear("one 7"));
        assert!(!of_seven.has_changed().unwrap());
    }

    #[test]
    fn what_is_said_is_heard_where_somebody_listens_and_told_to_others_once() {
        let (one, two) = (hints("one"), hints("two"));
        let (here, there) = (one.of(7), two.of(7));
        // Nobody is there yet.
        here.say("too early".into());
        for words in one.take() {
            assert!(!two.hear(&words));
        }
        let (hall, other_hall) = (here.hall(), there.hall());
        let (mut hears, mut other_hears) = (hall.listen(), other_hall.listen());
        here.tell();
        here.say("away for lunch".into());
        assert_eq!(hears.try_recv().unwrap(), "away for lunch");
        let told = one.take();
        assert_eq!(told, ["one 7 7:YXdheSBmb3IgbHVuY2g"]);
        assert!(one.hear(&told[0]) && !two.hear(&told[0]));
        assert_eq!(other_hears.try_recv().unwrap(), "away for lunch");
        assert!(hears.try_recv().is_err() && other_hears.try_recv().is_err());
        assert_eq!(
            (one.take(), two.take()),
            (vec!["one".into()], vec!["two".into()])
        );
        // They find each other there, and nothing is kept of it afterwards.
        assert!(Arc::ptr_eq(&hall, &here.hall()));
        let gone = Arc::downgrade(&hall);
        drop((hall, hears));
        assert!(gone.upgrade().is_none());
    }

    #[test]
    fn no_words_are_too_long_for_a_notification() {
        let one = hints("0123456789abcdef");
        for number in 0..2_000 {
            one.of(i32::MAX - number).tell();
        }
        for _ in 0..20 {
            one.of(1).say(vec![0; 2_000].into());
        }
        let words = one.take();
        assert!(words.iter().all(|words| words.len() < 8_000));
        let numbers = words.iter().map(|words| words.split(' ').count() - 1);
        assert_eq!(numbers.sum::<usize>(), 2_020);
    }
}
