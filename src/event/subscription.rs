//! A stream of what happens in a tenant, at its reader's pace.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::audience::{OwnChannels, Viewer};
use super::entry::{self, Place};
use super::ephemeral::{self, Ear};
use super::feed::{Feed, News};
use super::filter::Filter;
use super::told::{Told, tell};
use crate::clock;
use crate::error::Error;
use crate::ids::ChannelId;
use crate::pb;
use crate::tenant::{TenantConn, TenantDirectory, TenantScope};

/// How many events a frame has at most.
const MOST: usize = 256;
/// How many bytes its events have together, unless one alone has more.
const MOST_BYTES: usize = 1024 * 1024;
/// How many they have if they come from memory: what is left over is no work lost, and a frame takes as
/// much again for each of the many who come back at once.
const MOST_KEPT_BYTES: usize = 64 * 1024;
/// After how long without a token a reader is told where it is.
const QUIET: Duration = Duration::from_secs(15);
/// After how many entries that nobody wanted, too.
const UNWANTED: usize = 4096;
/// How often it is looked whether the credential has expired.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is committed from now on.
    Now,
    /// Behind a place.
    After(Place),
    /// With the oldest that is kept.
    Earliest,
}

/// What a reader is sent.
pub enum Frame {
    /// The stream has begun; the present is there, and everything since then is kept.
    Hello(Place, DateTime<Utc>),
    /// Events, and the place behind the last of them.
    Batch(Vec<Arc<Told>>, Place),
    /// Nothing else was wanted up to there.
    Checkpoint(Place),
    /// The reader's place is not in the log; it goes on from there.
    Reset(Place),
    /// The server stops.
    Goodbye(Place),
    /// Something was said that is in no log.
    Ephemeral(pb::Ephemeral),
    /// The reader sees a channel from now on.
    AccessGained(ChannelId, Place),
    /// The reader does not see a channel any more.
    AccessLost(ChannelId, Place),
}

/// A reader.
pub struct Subscription {
    /// Knows whether the tenant is open.
    pub tenants: TenantDirectory,
    /// In which tenant.
    pub scope: TenantScope,
    /// What is new there.
    pub feed: Arc<Feed>,
    /// Where to begin.
    pub start: Start,
    /// What is wanted.
    pub filter: Filter,
    /// Who listens.
    pub viewer: Viewer,
    /// Whether the server stops.
    pub stopping: watch::Receiver<bool>,
}

/// How far a reader is.
struct Reading {
    of: Subscription,
    news: watch::Receiver<News>,
    ear: Ear,
    /// Whether what was said comes before what is in the log: they take turns.
    is_ears_turn: bool,
    state: State,
    /// Since when no place was sent, and behind how many entries that nobody wanted.
    quiet: (Instant, usize),
    place: Place,
    history: u64,
    /// The number of the entry whose gain or loss of access was told last.
    announced: i64,
}

#[derive(PartialEq, Eq)]
enum State {
    New,
    Greeted,
    Going,
    Over,
}

impl Subscription {
    async fn enter_again(&self) -> Result<TenantScope, Error> {
        self.tenants.enter_again(&self.scope).await
    }

    /// Sends frames until the server stops, the credential expires, or the tenant is closed.
    pub fn frames(self) -> impl Stream<Item = Result<Frame, Error>> + Send {
        let reading = Reading {
            news: self.feed.news(),
            ear: Ear::new(self.feed.hall(), &self.filter),
            is_ears_turn: true,
            state: State::New,
            quiet: (Instant::now(), 0),
            place: Place::default(),
            history: 0,
            announced: 0,
            of: self,
        };
        stream::try_unfold(reading, async |mut reading| {
            if reading.state == State::Over {
                return Ok(None);
            }
            let frame = reading.next().await?;
            reading.is_ears_turn = !matches!(frame, Frame::Ephemeral(_));
            if reading.is_ears_turn {
                reading.quiet = (Instant::now(), 0);
            }
            Ok(Some((frame, reading)))
        })
    }
}

impl Reading {
    async fn next(&mut self) -> Result<Frame, Error> {
        loop {
            if *self.of.stopping.borrow() {
                if self.state == State::New {
                    return Err(Error::Draining);
                }
                self.state = State::Over;
                return Ok(Frame::Goodbye(self.place));
            }
            self.check_credential()?;
            if let Some(said) = self.overhear().await? {
                return Ok(Frame::Ephemeral(said));
            }
            let news = *self.news.borrow_and_update();
            let (head, history) = match news {
                News::None => {
                    self.wait().await?;
                    continue;
                }
                News::Closed => {
                    self.of.enter_again().await?;
                    return Err(Error::internal("the log cannot be read"));
                }
                News::Read(head, history) => (head, history),
            };
            if let Some(frame) = self.step(head, history).await? {
                return Ok(frame);
            }
        }
    }

    /// Returns what was said, if that may come now.
    async fn overhear(&mut self) -> Result<Option<pb::Ephemeral>, Error> {
        if self.state != State::Going || !self.is_ears_turn {
            return Ok(None);
        }
        while let Some(said) = self.ear.next(&self.of.filter) {
            let audience = ephemeral::audience(&said);
            let own = self.of.viewer.judged_by(&audience).cloned();
            if self.knows(own).await? && self.of.viewer.hears(&audience) {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// Tells whether it is known what the reader's channels were a moment ago, if something depends on
    /// them.
    async fn knows(&self, own: Option<Arc<OwnChannels>>) -> Result<bool, Error> {
        let Some(own) = own else {
            return Ok(true);
        };
        let conn = async || self.of.enter_again().await?.conn().await;
        let known = self.of.feed.memberships().know(&own, conn).await;
        Ok(self.unless_away(known).await?.is_some())
    }

    /// Returns the next frame; none if something has to be looked at again.
    async fn step(&mut self, head: Place, history: u64) -> Result<Option<Frame>, Error> {
        match self.state {
            State::New => {
                self.history = history;
                self.place = match self.of.start {
                    Start::Now => head,
                    Start::After(place) => place,
                    Start::Earliest => match self.first().await? {
                        Some(place) => place,
                        None => return Ok(None),
                    },
                };
                self.state = State::Greeted;
                return Ok(Some(Frame::Hello(head, self.of.feed.earliest())));
            }
            State::Greeted => {
                self.state = State::Going;
                if !self.is_known().await? {
                    return self.reset(head).await;
                }
            }
            State::Going | State::Over => {}
        }
        if history != self.history {
            self.history = history;
            if !self.is_known().await? {
                return self.reset(head).await;
            }
        }
        if self.place.id < head.id {
            return self.read(head).await;
        }
        let is_quiet = self.quiet.0.elapsed() >= QUIET;
        if is_quiet {
            return Ok(Some(Frame::Checkpoint(self.place)));
        }
        self.wait().await?;
        Ok(None)
    }

    /// Goes on from the present, and tells of it, unless that is of a history that was replaced, too:
    /// then the reader of the log is about to notice.
    async fn reset(&mut self, head: Place) -> Result<Option<Frame>, Error> {
        self.place = head;
        if self.is_there().await? {
            return Ok(Some(Frame::Reset(head)));
        }
        self.wait().await?;
        Ok(None)
    }

    /// Sends what is behind its place.
    async fn read(&mut self, head: Place) -> Result<Option<Frame>, Error> {
        let kept = self.of.feed.after(self.place, self.history, MOST);
        let most_bytes = kept.as_ref().map_or(MOST_BYTES, |_| MOST_KEPT_BYTES);
        let told = match kept {
            Some(told) => told,
            // It reads what is not in memory any more by itself.
            None => {
                let Some(mut conn) = self.conn().await? else {
                    return Ok(None);
                };
                let place = self.place;
                let reading = async {
                    match entry::page(&mut conn, place, head.id, MOST).await? {
                        Some(entries) => tell(&mut conn, entries).await.map(Some),
                        None => Ok(None),
                    }
                };
                let Some(told) = self.unless_away(reading.await).await? else {
                    return Ok(None);
                };
                let Some(told) = told else {
                    return self.reset(head).await;
                };
                told.into_iter().map(Arc::new).collect()
            }
        };
        if told.is_empty() {
            // The reader of the log has begun anew in between.
            self.wait().await?;
            return Ok(None);
        }
        let viewer = &self.of.viewer;
        let own = told.iter().find_map(|one| viewer.judged_by(&one.audience));
        if !self.knows(own.cloned()).await? {
            return Ok(None);
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        for one in &told {
            let change = self.of.viewer.gains_or_loses(one);
            if let Some((channel, sees)) = change.filter(|(id, _)| self.of.filter.has_channel(*id))
                && self.announced != one.entry.id
            {
                if !events.is_empty() {
                    return Ok(Some(Frame::Batch(events, self.place)));
                }
                self.announced = one.entry.id;
                return Ok(Some(if sees {
                    Frame::AccessGained(channel, self.place)
                } else {
                    Frame::AccessLost(channel, self.place)
                }));
            }
            if self.of.viewer.hears(&one.audience) && self.of.filter.wants(one) {
                bytes += one.encoded.len();
                if bytes > most_bytes && !events.is_empty() {
                    return Ok(Some(Frame::Batch(events, self.place)));
                }
                events.push(one.clone());
            }
            self.place = one.entry.place();
        }
        if events.is_empty() {
            self.quiet.1 += told.len();
            let is_long = self.quiet.1 >= UNWANTED || self.quiet.0.elapsed() >= QUIET;
            return Ok(is_long.then_some(Frame::Checkpoint(self.place)));
        }
        Ok(Some(Frame::Batch(events, self.place)))
    }

    /// The place before all that is kept.
    async fn first(&self) -> Result<Option<Place>, Error> {
        let Some(mut conn) = self.conn().await? else {
            return Ok(None);
        };
        let first = entry::first(&mut conn).await;
        Ok(self.unless_away(first).await?.map(|(place, _)| place))
    }

    /// Tells whether its place is in the log, from memory if it is new enough to be there.
    async fn is_known(&self) -> Result<bool, Error> {
        let feed = &self.of.feed;
        if feed.has(self.place, self.history).is_none() {
            let conn = async || self.of.enter_again().await?.conn().await;
            self.unless_away(feed.reach_back(conn).await).await?;
        }
        match feed.has(self.place, self.history) {
            Some(there) => Ok(there),
            None => self.is_there().await,
        }
    }

    /// Tells whether its place is in the log.
    async fn is_there(&self) -> Result<bool, Error> {
        loop {
            self.check_credential()?;
            // It says goodbye next.
            if *self.of.stopping.borrow() {
                return Ok(true);
            }
            if let Some(mut conn) = self.conn().await? {
                let there = entry::is_there(&mut conn, self.place).await;
                if let Some(there) = self.unless_away(there).await? {
                    return Ok(there);
                }
            }
        }
    }

    async fn conn(&self) -> Result<Option<TenantConn>, Error> {
        let conn = async { self.of.enter_again().await?.conn().await };
        self.unless_away(conn.await).await
    }

    /// What time heals is tried again, a moment later.
    async fn unless_away<T>(&self, done: Result<T, Error>) -> Result<Option<T>, Error> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.may_pass() => {
                tokio::time::sleep(LOOK_EVERY).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for news, or for a reason to look up.
    async fn wait(&mut self) -> Result<(), Error> {
        tokio::select! {
            changed = self.news.changed() => changed.map_err(Error::internal)?,
            _ = self.of.stopping.changed() => {}
            () = self.ear.wait() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        self.is_ears_turn = true;
        Ok(())
    }

    fn check_credential(&self) -> Result<(), Error> {
        let now = clock::since_epoch().as_secs();
        if self.of.scope.facts().caller.has_ended(now) {
            return Err(Error::Unauthenticated);
        }
        Ok(())
    }
}
