//! The newest part of each tenant's log, with what it tells of, which one reader of this server reads
//! for all streams.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::audience::Memberships;
use super::entry::{self, Place};
use super::log;
use super::told::{Told, tell};
use crate::access::Facts;
use crate::error::{Chain, Error};
use crate::ids::TenantId;
use crate::tenant::{Hall, TenantConn, TenantDirectory, TenantScope};

/// How many entries are kept in memory for each tenant that somebody listens to.
const KEPT: usize = 1024;
/// How many bytes they have together.
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// How many bytes those of all tenants have, about: each may have its share.
const ALL_KEPT_BYTES: usize = 256 * 1024 * 1024;
/// How many are read at a time.
const PAGE: usize = 500;
/// How often the log is looked into when nothing is heard of, while other servers are not heard.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often, while they are: a hint may be lost.
const HEAL_EVERY: Duration = Duration::from_secs(5);
/// How often is looked since when the log has everything.
const EARLIEST_EVERY: Duration = Duration::from_secs(600);
/// How long after news it is looked into: what is committed at about the same time is read together.
const TOGETHER: Duration = Duration::from_millis(2);

/// The feeds of the tenants that somebody listens to.
#[derive(Default)]
pub struct Feeds {
    all: Mutex<HashMap<TenantId, Weak<Feed>>>,
    /// How many there are.
    count: Arc<AtomicUsize>,
}

/// What is new in a tenant.
pub struct Feed {
    kept: Mutex<Kept>,
    news: watch::Sender<News>,
    /// Where what is not in the log is said.
    hall: Arc<Hall>,
    /// In which channels those are who listen.
    memberships: Memberships,
    /// Held by who reads what comes before that.
    reaching_back: tokio::sync::Mutex<()>,
    /// How many feeds there are.
    count: Arc<AtomicUsize>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Entries without a gap.
#[derive(Default)]
struct Kept {
    /// The place before the first of them.
    begin: Place,
    /// In which history they are.
    history: u64,
    told: VecDeque<Arc<Told>>,
    bytes: usize,
    /// Whether what comes before them was read, too, as far as there was room.
    reaches_back: bool,
    /// Since when the log has everything.
    earliest: DateTime<Utc>,
}

impl Kept {
    /// Adds what follows, and lets the oldest go, until no more bytes are left than there is room for.
    fn add(&mut self, new: Vec<Told>, room: usize) {
        for told in new {
            self.renew(&told);
            self.bytes += told.bytes();
            self.told.push_back(Arc::new(told));
        }
        while (self.told.len() > KEPT || self.bytes > room)
            && let Some(gone) = self.told.pop_front()
        {
            self.begin = gone.entry.place();
            self.bytes = self.bytes.saturating_sub(gone.bytes());
        }
    }

    /// Adds what comes before, as far as there is room for it. It was read when the last entry was the
    /// one with the number `by`: what was told since renews it.
    fn add_before(&mut self, begin: Place, before: Vec<Told>, by: i64, room: usize) {
        for told in before.into_iter().rev() {
            let bytes = self.bytes + told.bytes();
            if self.told.len() >= KEPT || bytes > room {
                self.begin = told.entry.place();
                break;
            }
            self.bytes = bytes;
            self.begin = begin;
            self.told.push_front(Arc::new(told));
        }
        let from = self.told.partition_point(|told| told.entry.id <= by);
        let since: Vec<_> = self.told.iter().skip(from).cloned().collect();
        for told in since {
            self.renew(&told);
        }
    }

    /// The place behind the last of them.
    fn end(&self) -> Place {
        let last = self.told.back();
        last.map_or(self.begin, |told| told.entry.place())
    }

    /// Whether a place is in the log, where that is known without asking.
    fn has(&self, place: Place) -> Option<bool> {
        if place.id < self.begin.id || place.id > self.end().id {
            return None;
        }
        let at = self.told.partition_point(|told| told.entry.id <= place.id);
        let entry = at.checked_sub(1).and_then(|at| self.told.get(at));
        Some(entry.map_or(self.begin, |told| told.entry.place()) == place)
    }

    /// What was told before of the same message or person is told as it is now: what was taken back
    /// or deleted is not kept. A conversation has too many events for that, and is only ended.
    fn renew(&mut self, by: &Told) {
        let is_end = by.event.deleted;
        if by.entry.resource_kind == "conversation" && !is_end {
            return;
        }
        for told in &mut self.told {
            // A member is shown as others see them, or as they see themselves.
            let is_same = told.entry.resource_id == by.entry.resource_id
                && told.entry.resource_kind == by.entry.resource_kind;
            let is_within = is_end && told.entry.parent_id == Some(by.entry.resource_id);
            if !is_same && !is_within {
                continue;
            }
            let told = Arc::make_mut(told);
            let before = told.bytes();
            told.event.deleted = is_end;
            told.event.resource = by.event.resource.clone().filter(|_| is_same);
            told.encoded = told.event.encode_to_vec().into();
            self.bytes = self.bytes + told.bytes() - before;
        }
    }
}

/// How far the log has been read.
#[derive(Debug, Clone, Copy)]
pub enum News {
    /// It has not been read yet.
    None,
    /// To a place, in one of the histories that this server has seen.
    Read(Place, u64),
    /// It cannot be read any more.
    Closed,
}

impl Feeds {
    /// The feed of a tenant, which is read for as long as somebody has it.
    pub fn of(&self, tenants: &TenantDirectory, scope: &TenantScope) -> Arc<Feed> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = scope.tenant_id();
        let known = all.get(&tenant).and_then(Weak::upgrade);
        if let Some(feed) = known.filter(|feed| !feed.is_closed()) {
            return feed;
        }
        all.retain(|_, feed| feed.strong_count() > 0);
        let feed = Arc::new(Feed {
            kept: Mutex::default(),
            news: watch::channel(News::None).0,
            hall: scope.hall(),
            memberships: Memberships::default(),
            reaching_back: tokio::sync::Mutex::default(),
            count: self.count.clone(),
        });
        self.count.fetch_add(1, Ordering::Relaxed);
        all.insert(tenant, Arc::downgrade(&feed));
        let reader = Reader {
            tenants: tenants.clone(),
            heard: scope.news(),
            scope: scope.on_behalf(Facts::itself("events")),
            feed: Arc::downgrade(&feed),
            read: None,
            earliest_at: Instant::now(),
        };
        tokio::spawn(reader.read());
        feed
    }
}

impl Feed {
    /// What tells how far the log has been read.
    pub fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Where what is not in the log is said.
    pub fn hall(&self) -> &Hall {
        &self.hall
    }

    /// What some entries behind a place in a history tell; `None` if they are not in memory any more.
    pub fn after(&self, place: Place, history: u64, most: usize) -> Option<Vec<Arc<Told>>> {
        let kept = self.kept();
        if history != kept.history {
            return Some(Vec::new());
        }
        if place.id < kept.begin.id {
            return None;
        }
        let from = kept.told.partition_point(|told| told.entry.id <= place.id);
        Some(kept.told.iter().skip(from).take(most).cloned().collect())
    }

    /// Since when the log has everything.
    pub fn earliest(&self) -> DateTime<Utc> {
        self.kept().earliest
    }

    /// Whether a place is in the log of a history, where that is known without asking.
    pub fn has(&self, place: Place, history: u64) -> Option<bool> {
        let kept = self.kept();
        (kept.history == history).then(|| kept.has(place)).flatten()
    }

    /// In which channels those are who listen.
    pub fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// Reads what comes before what is in memory, once for all who are behind that.
    pub async fn reach_back(
        &self,
        conn: impl AsyncFnOnce() -> Result<TenantConn, Error>,
    ) -> Result<(), Error> {
        let _one_at_a_time = self.reaching_back.lock().await;
        let (begin, history, last, room) = {
            let kept = self.kept();
            if kept.reaches_back {
                return Ok(());
            }
            let room = KEPT.saturating_sub(kept.told.len());
            (kept.begin, kept.history, kept.end().id, room)
        };
        let mut conn = conn().await?;
        let before = entry::before(&mut conn, begin, room).await?;
        let (before_all, told) = match before {
            Some((place, entries)) => (place, tell(&mut conn, entries).await?),
            None => (begin, Vec::new()),
        };
        let mut kept = self.kept();
        if kept.history == history && kept.begin == begin {
            kept.add_before(before_all, told, last, self.room());
            kept.reaches_back = true;
        }
        Ok(())
    }

    /// How many bytes there is room for.
    fn room(&self) -> usize {
        let count = self.count.load(Ordering::Relaxed).max(1);
        KEPT_BYTES.min(ALL_KEPT_BYTES / count)
    }

    fn is_closed(&self) -> bool {
        matches!(*self.news.borrow(), News::Closed)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was read, and begins anew at a place, in another history.
    fn begin(&self, place: Place, history: u64, earliest: DateTime<Utc>) {
        *self.kept() = Kept {
            begin: place,
            history,
            earliest,
            ..Kept::default()
        };
    }
}

/// Reads the log of a tenant.
struct Reader {
    tenants: TenantDirectory,
    scope: TenantScope,
    heard: watch::Receiver<()>,
    feed: Weak<Feed>,
    /// How far, and in which history.
    read: Option<(Place, u64)>,
    /// When it was looked since when the log has everything.
    earliest_at: Instant,
}

impl Reader {
    async fn read(mut self) {
        while self.feed.strong_count() > 0 {
            match self.read_on().await {
                Ok(true) => {}
                Ok(false) => {
                    tokio::time::sleep(TOGETHER).await;
                    continue;
                }
                Err(error) if error.may_pass() => {
                    tracing::debug!(error = %Chain(&error), "the log cannot be read for now");
                }
                Err(error) => {
                    if let Some(feed) = self.feed.upgrade() {
                        tracing::info!(error = %Chain(&error), "the log is not read any more");
                        feed.news.send_replace(News::Closed);
                    }
                    return;
                }
            }
            self.wait().await;
        }
    }

    /// Waits until there may be something to read, or something to look up in what is known of the
    /// tenant.
    async fn wait(&mut self) {
        let since = Instant::now();
        loop {
            let heard = tokio::select! {
                _ = self.heard.changed() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if heard {
                tokio::time::sleep(TOGETHER).await;
                self.heard.mark_unchanged();
                return;
            }
            let is_open = self.tenants.enter_again(&self.scope).await.is_ok();
            let is_needed = self.feed.strong_count() > 0;
            let is_heard = self.tenants.hears_others() && since.elapsed() < HEAL_EVERY;
            if !(is_open && is_needed && is_heard) {
                return;
            }
        }
    }

    /// Reads what is new; tells whether all that was begun before is read.
    async fn read_on(&mut self) -> Result<bool, Error> {
        let scope = self.tenants.enter_again(&self.scope).await?;
        let mut conn = scope.conn().await?;
        // The wait for a connection does not make what is read older.
        let began = Instant::now();
        let Some(final_id) = log::settled(&mut conn).await? else {
            return Ok(false);
        };
        let Some(feed) = self.feed.upgrade() else {
            return Ok(true);
        };
        if self.earliest_at.elapsed() > EARLIEST_EVERY {
            feed.kept().earliest = entry::first(&mut conn).await?.1;
            self.earliest_at = Instant::now();
        }
        loop {
            let page = match self.read {
                Some((place, _)) => entry::page(&mut conn, place, final_id, PAGE).await?,
                None => None,
            };
            let (Some(entries), Some((_, history))) = (page, self.read) else {
                // It has not been read yet, or its history was replaced: it begins with the present.
                let (place, earliest) = entry::ends(&mut conn, final_id).await?;
                self.earliest_at = Instant::now();
                let history = self.read.map_or(0, |(_, history)| history + 1);
                feed.begin(place, history, earliest);
                feed.memberships.forget();
                feed.memberships.noted_to(began);
                self.read = Some((place, history));
                feed.news.send_replace(News::Read(place, history));
                return Ok(true);
            };
            let is_last = entries.len() < PAGE;
            let Some(entry) = entries.last() else {
                feed.memberships.noted_to(began);
                return Ok(true);
            };
            let place = entry.place();
            let told = tell(&mut conn, entries).await?;
            for one in &told {
                feed.memberships.note(one);
            }
            feed.kept().add(told, feed.room());
            self.read = Some((place, history));
            if is_last {
                feed.memberships.noted_to(began);
            }
            feed.news.send_replace(News::Read(place, history));
            if is_last {
                return Ok(true);
            }
        }
    }
}
