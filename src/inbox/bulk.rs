//! One change of many conversations: of those that are named, or of all that match a filter.
//!
//! Conversations are changed some at a time, by one statement for all of them: who locks fewer is
//! done sooner with those that others want. Where that cannot be, because of one of them, each is
//! tried alone.

use std::collections::{HashMap, HashSet};

use diesel_async::AsyncConnection as _;
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};

use super::change::{Alteration, Altered, Target, alter_each};
use super::listing::{self, ConversationFilter};
use crate::error::{Error, Refusal};
use crate::ids::ConversationId;
use crate::request_id::{self, RequestId};
use crate::tenant::{TenantConn, TenantDirectory, TenantScope};

/// How many conversations one transaction changes.
const TOGETHER: usize = 100;
/// How often a change of one conversation is tried that others are in the way of.
const ATTEMPTS: usize = 5;

/// A conversation of a batch.
#[derive(Debug)]
pub struct Item {
    /// The path of the field that names it.
    pub path: String,
    /// The conversation.
    pub target: Target,
}

/// A change of the conversations that are named.
#[derive(Debug)]
pub struct Batch {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// The conversations, each once.
    pub items: Vec<Item>,
    /// What to change.
    pub change: Alteration,
    /// Whether none is to be changed where one cannot be.
    pub all_or_nothing: bool,
}

/// What became of one conversation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub id: ConversationId,
    /// The conversation, or why it was not changed.
    pub result: Result<Altered, Refusal>,
}

/// Changes the conversations of a batch, and returns what became of each, in their order; also what
/// a repeated request gets.
///
/// # Errors
/// The database cannot be reached; or one cannot be changed, where that is to change none.
pub async fn update(conn: &mut TenantConn, batch: Batch) -> Result<Vec<Outcome>, Error> {
    if let Some(request) = &batch.request_id
        && let Some(answer) = request_id::answer(conn, request).await?
    {
        return Ok(answer);
    }
    if batch.all_or_nothing {
        let done = conn.transaction(async |conn| {
            let request = batch.request_id.as_ref();
            if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
                return Ok(answer);
            }
            let outcomes = update_all(conn, &batch).await?;
            if let Some(request) = request {
                request_id::keep(conn, request, &outcomes).await?;
            }
            Ok(outcomes)
        });
        return done.await;
    }
    let targets: Vec<Target> = batch.items.into_iter().map(|item| item.target).collect();
    let outcomes = update_each(conn, &targets, &batch.change).await?;
    let Some(request) = &batch.request_id else {
        return Ok(outcomes);
    };
    // Claimed behind the changes, which are final one by one: a call that is cut off can be
    // repeated. Of two at the same time, the answer of the first to end is the answer.
    let kept = conn.transaction(async |conn| {
        if let Some(answer) = request_id::claim_or_answer(conn, Some(request)).await? {
            return Ok(answer);
        }
        request_id::keep(conn, request, &outcomes).await?;
        Ok::<_, Error>(outcomes)
    });
    kept.await
}

async fn update_all(conn: &mut TenantConn, batch: &Batch) -> Result<Vec<Outcome>, Error> {
    let targets = batch.items.iter().map(|item| item.target.clone());
    let targets: Vec<_> = targets.collect();
    let altered = alter_each(conn, &targets, &batch.change, true).await?;
    let outcomes = batch.items.iter().zip(altered).map(|(item, altered)| {
        let altered = altered.map_err(|error| Error::OfItem {
            path: item.path.clone(),
            error: Box::new(error),
        })?;
        Ok(Outcome {
            id: item.target.id,
            result: Ok(altered),
        })
    });
    outcomes.collect()
}

/// Changes each conversation by itself, and returns what became of it.
async fn update_each(
    conn: &mut TenantConn,
    targets: &[Target],
    change: &Alteration,
) -> Result<Vec<Outcome>, Error> {
    let mut sorted: Vec<&Target> = targets.iter().collect();
    sorted.sort_by_key(|target| target.id);
    let mut outcomes = HashMap::new();
    for some in sorted.chunks(TOGETHER) {
        let some: Vec<Target> = some.iter().copied().cloned().collect();
        for outcome in update_some(conn, &some, change).await? {
            outcomes.insert(outcome.id, outcome);
        }
    }
    let in_order = targets.iter().map(|target| outcomes.remove(&target.id));
    Ok(in_order.flatten().collect())
}

/// Changes some conversations in one transaction, or where that cannot be in one for each.
async fn update_some(
    conn: &mut TenantConn,
    targets: &[Target],
    change: &Alteration,
) -> Result<Vec<Outcome>, Error> {
    match alter_each(conn, targets, change, false).await {
        Ok(altered) => {
            let outcomes = targets.iter().zip(altered);
            Ok(outcomes
                .map(|(target, altered)| Outcome::new(target.id, altered))
                .collect())
        }
        Err(Error::Aborted(_) | Error::DeadlineExceeded) => {
            let mut outcomes = Vec::with_capacity(targets.len());
            for target in targets {
                outcomes.push(update_one(conn, target, change).await?);
            }
            Ok(outcomes)
        }
        Err(error) => Err(error),
    }
}

async fn update_one(
    conn: &mut TenantConn,
    target: &Target,
    change: &Alteration,
) -> Result<Outcome, Error> {
    let mut attempt = 1;
    loop {
        let altered = alter_each(conn, std::slice::from_ref(target), change, false).await;
        let altered = match altered {
            Err(Error::Aborted(_)) if attempt < ATTEMPTS => {
                attempt += 1;
                continue;
            }
            Ok(altered) => altered.into_iter().next(),
            Err(
                error
                @ (Error::Aborted(_) | Error::DeadlineExceeded | Error::FailedPrecondition(_)),
            ) => Some(Err(error)),
            Err(error) => return Err(error),
        };
        let altered = altered.unwrap_or_else(|| Err(Error::not_found("conversation", target.id)));
        return Ok(Outcome::new(target.id, altered));
    }
}

impl Outcome {
    fn new(id: ConversationId, altered: Result<Altered, Error>) -> Self {
        Self {
            id,
            result: altered.map_err(|error| error.refusal()),
        }
    }
}

/// A change of all conversations that match a filter.
#[derive(Debug)]
pub struct ByFilter {
    /// Which.
    pub filter: ConversationFilter,
    /// What to change.
    pub change: Alteration,
    /// Whether only to count them.
    pub dry: bool,
}

/// How far it has come: all conversations up to a number, of those up to another.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Position {
    done: i64,
    last: i64,
}

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    /// How many conversations matched.
    pub total: i64,
    /// How many of them it has come to.
    pub processed: i64,
    /// How many were changed.
    pub changed: i64,
    /// How many were so already.
    pub unchanged: i64,
    /// How many did not match any more.
    pub skipped: i64,
    /// How many were refused.
    pub failed: i64,
    /// Those that were refused since it was told last.
    pub failures: Vec<Outcome>,
    /// Where it goes on, once something was done.
    pub position: Option<Position>,
    /// Whether nothing is to be done.
    dry: bool,
}

impl Progress {
    /// Tells whether it is at the end.
    pub fn is_finished(&self) -> bool {
        self.dry || self.processed == self.total
    }

    fn add(&mut self, outcome: Outcome) {
        match &outcome.result {
            Ok(altered) if altered.changed => self.changed += 1,
            Ok(_) => self.unchanged += 1,
            Err(_) => {
                self.failed += 1;
                self.failures.push(outcome);
            }
        }
    }

    /// What is told now; what was refused is told once.
    fn tell(&mut self) -> Self {
        Self {
            failures: std::mem::take(&mut self.failures),
            ..*self
        }
    }
}

/// Changes all conversations that match a filter now, from a position on. The stream does the work
/// while it is read: who stops reading stops it, after a whole transaction. A connection is held
/// only while some are changed.
///
/// # Errors
/// The database cannot be reached.
pub async fn update_matching(
    tenants: TenantDirectory,
    scope: TenantScope,
    work: ByFilter,
    after: Option<Position>,
) -> Result<impl Stream<Item = Result<Progress, Error>> + Send + use<>, Error> {
    let within = after.map(|position| (position.done, position.last));
    let mut conn = scope.conn().await?;
    let matching = listing::matching(&mut conn, &work.filter, within).await?;
    drop(conn);
    let last = matching.last().map_or(0, |(number, _)| *number);
    let mut progress = Progress {
        total: i64::try_from(matching.len()).map_err(Error::internal)?,
        dry: work.dry,
        position: after,
        ..Progress::default()
    };
    let begin = progress.tell();
    let run = Run {
        last: after.map_or(last, |position| position.last),
        tenants,
        scope,
        work,
        matching: matching.into_iter(),
        progress,
    };
    let told = stream::try_unfold(run, async |mut run| {
        let progress = run.step().await?;
        Ok(progress.map(|progress| (progress, run)))
    });
    Ok(stream::StreamExt::chain(
        stream::once(async { Ok(begin) }),
        told,
    ))
}

struct Run {
    tenants: TenantDirectory,
    scope: TenantScope,
    work: ByFilter,
    /// Those that it has not come to, by number and id.
    matching: std::vec::IntoIter<(i64, ConversationId)>,
    last: i64,
    progress: Progress,
}

impl Run {
    /// Changes some; `None` once all were told of.
    async fn step(&mut self) -> Result<Option<Progress>, Error> {
        if self.progress.is_finished() {
            return Ok(None);
        }
        let some: Vec<_> = self.matching.by_ref().take(TOGETHER).collect();
        let Some((done, _)) = some.last().copied() else {
            return Ok(None);
        };
        // An alarm is for what is stored soon.
        if let Some(Some(until)) = self.work.change.snooze {
            self.tenants.set_alarm(&self.scope, until).await?;
        }
        let mut conn = self.scope.conn().await?;
        let mut targets: Vec<ConversationId> = some.iter().map(|(_, id)| *id).collect();
        let filter = &self.work.filter;
        let still = listing::matching_among(&mut conn, filter, &targets).await?;
        let still: HashSet<_> = still.into_iter().collect();
        targets.retain(|id| still.contains(id));
        let targets: Vec<_> = targets
            .into_iter()
            .map(|id| Target { id, etag: None })
            .collect();
        let outcomes = update_some(&mut conn, &targets, &self.work.change).await?;
        drop(conn);
        let count = |length: usize| i64::try_from(length).map_err(Error::internal);
        let progress = &mut self.progress;
        progress.processed += count(some.len())?;
        progress.skipped += count(some.len() - outcomes.len())?;
        for outcome in outcomes {
            progress.add(outcome);
        }
        progress.position = Some(Position {
            done,
            last: self.last,
        });
        Ok(Some(progress.tell()))
    }
}
