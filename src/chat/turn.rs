//! Posts take turns: those of a tenant that have to wait for one share a statement and its commit.
//!
//! What a turn cannot post at once is posted by itself, which waits, refuses and answers as it has to.
//! So no turn waits for a channel, and a channel that is held up holds up no other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::entry::Entry;
use super::post::{NewEntry, post, post_together};
use crate::error::{Chain, Error};
use crate::ids::{ChannelId, TenantId};
use crate::tenant::TenantScope;

/// How many turns of a tenant there are at a time.
const AT_ONCE: usize = 4;
/// How many entries a turn has at most.
const MOST: usize = 16;

/// The posts of all tenants.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<TenantId, Line>>>);

/// Those of a tenant.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// How many turns are under way.
    turns: usize,
    /// The channels that those are for.
    channels: HashSet<ChannelId>,
}

/// Somebody who waits.
struct Waiting {
    scope: TenantScope,
    new: NewEntry,
    answer: oneshot::Sender<Answer>,
}

/// What a turn has to say.
enum Answer {
    /// The entry was posted.
    Posted(Box<Entry>),
    /// It was not, and has to be posted by itself.
    Alone(Box<NewEntry>),
    /// Nobody knows.
    Lost(Error),
}

/// A turn. Its channels are free again when it ends.
struct Turn {
    of: Turns,
    tenant: TenantId,
    channels: Vec<ChannelId>,
    entries: Vec<Waiting>,
}

impl Turns {
    /// Posts an entry.
    ///
    /// # Errors
    /// As `post`.
    pub async fn post(&self, scope: &TenantScope, new: NewEntry) -> Result<Entry, Error> {
        let facts = scope.facts();
        let is_plain =
            !new.reaches_out() && facts.unrestricted.is_none() && facts.clock_offset == 0;
        if !is_plain {
            return post(&mut scope.conn().await?, new).await;
        }
        match self.wait(scope, new).await? {
            Answer::Posted(entry) => Ok(*entry),
            Answer::Alone(new) => post(&mut scope.conn().await?, *new).await,
            Answer::Lost(error) => Err(error),
        }
    }

    async fn wait(&self, scope: &TenantScope, new: NewEntry) -> Result<Answer, Error> {
        let tenant = scope.tenant_id();
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            scope: scope.clone(),
            new,
            answer,
        };
        self.lines()
            .entry(tenant)
            .or_default()
            .waiting
            .push_back(waiting);
        if let Some(turn) = self.next(tenant) {
            // Nobody ends it by going away: it is for others, too.
            tokio::spawn(turn.take());
        }
        answered.await.map_err(Error::internal)
    }

    /// The next turn of a tenant, if there may be one more and something waits for it.
    fn next(&self, tenant: TenantId) -> Option<Turn> {
        let mut lines = self.lines();
        let line = lines.get_mut(&tenant)?;
        if line.turns == AT_ONCE {
            return None;
        }
        let (mut entries, mut later) = (Vec::new(), VecDeque::new());
        let mut requests = HashSet::new();
        while entries.len() < MOST
            && let Some(one) = line.waiting.pop_front()
        {
            // Who has gone away needs no entry any more.
            if one.answer.is_closed() {
                continue;
            }
            let request = one.new.request_id.as_ref();
            let request = request.map(|request| request.id.clone());
            let is_free = !line.channels.contains(&one.new.channel_id)
                && request.as_ref().is_none_or(|id| !requests.contains(id));
            if is_free {
                line.channels.insert(one.new.channel_id);
                requests.extend(request);
                entries.push(one);
            } else {
                later.push_back(one);
            }
        }
        later.append(&mut line.waiting);
        line.waiting = later;
        if entries.is_empty() {
            line.is_over().then(|| lines.remove(&tenant));
            return None;
        }
        line.turns += 1;
        Some(Turn {
            of: self.clone(),
            tenant,
            channels: entries.iter().map(|one| one.new.channel_id).collect(),
            entries,
        })
    }

    /// Those of a tenant who wait for the next turn.
    fn all_waiting(&self, tenant: TenantId) -> VecDeque<Waiting> {
        let mut lines = self.lines();
        let line = lines.get_mut(&tenant);
        line.map(|line| mem::take(&mut line.waiting))
            .unwrap_or_default()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<TenantId, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_over(&self) -> bool {
        self.turns == 0 && self.waiting.is_empty()
    }
}

impl Waiting {
    fn answer(self, answer: impl FnOnce(NewEntry) -> Answer) {
        // Whoever went away meanwhile does not hear it.
        let _ = self.answer.send(answer(self.new));
    }

    fn alone(self) {
        self.answer(|new| Answer::Alone(Box::new(new)));
    }
}

impl Turn {
    /// Takes the turn, and those that follow, until nobody waits.
    async fn take(self) {
        let (turns, tenant) = (self.of.clone(), self.tenant);
        let mut turn = Some(self);
        while let Some(mut this) = turn {
            this.post().await;
            drop(this);
            turn = turns.next(tenant);
        }
    }

    async fn post(&mut self) {
        let entries = mem::take(&mut self.entries);
        let Some(first) = entries.first() else {
            return;
        };
        let Ok(mut conn) = first.scope.conn().await else {
            // Each hears why for itself, and at once.
            let all = entries.into_iter().chain(self.of.all_waiting(self.tenant));
            all.for_each(Waiting::alone);
            return;
        };
        let all: Vec<_> = entries
            .iter()
            .map(|one| (&**one.scope.facts(), &one.new))
            .collect();
        let posted = post_together(&mut conn, &all).await;
        // News of them go out first.
        drop(conn);
        match posted.map_err(Error::from) {
            Ok(posted) => {
                let posted = posted.into_iter().map(|entry| (entry.id, Box::new(entry)));
                let mut posted: HashMap<_, _> = posted.collect();
                for one in entries {
                    match posted.remove(&one.new.id) {
                        Some(entry) => one.answer(|_| Answer::Posted(entry)),
                        None => one.alone(),
                    }
                }
            }
            Err(Error::Unavailable(source)) => {
                let why = Chain(&*source).to_string();
                for one in entries {
                    let why = why.as_str().into();
                    one.answer(|_| Answer::Lost(Error::Unavailable(why)));
                }
            }
            // None was posted, because of one of them.
            Err(_) => entries.into_iter().for_each(Waiting::alone),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.of.lines();
        if let Some(line) = lines.get_mut(&self.tenant) {
            line.turns = line.turns.saturating_sub(1);
            for channel in &self.channels {
                line.channels.remove(channel);
            }
            line.is_over().then(|| lines.remove(&self.tenant));
        }
    }
}
