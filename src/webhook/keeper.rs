//! Commits deliveries: those that come while others are being committed are committed together, by
//! one statement.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::new_delivery::{self, NewRow};
use super::webhooks::{KEEP_TIMEOUT, Webhooks};
use crate::error::{Chain, Error};
use crate::tenant::Routes;

/// How many statements are under way at once: as few as leave half of the fewest connections to the
/// directory for what else is asked of it.
const AT_ONCE: usize = 2;
/// How many deliveries one of them keeps at most, and how many bytes those may have together. One
/// with more keeps nobody waiting, and is kept beside them.
const TOGETHER: (usize, usize) = (64, 1024 * 1024);

/// Deliveries that are to be committed.
#[derive(Default)]
pub struct Keeper(Mutex<Line>);

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// How many take from it.
    takers: usize,
}

/// A delivery, and who waits for it.
struct Waiting {
    row: NewRow,
    kept: oneshot::Sender<Result<Kept, Error>>,
}

/// A delivery that is committed, and where its items go.
type Kept = (NewRow, Arc<Routes>);

impl Keeper {
    /// Adds one; tells whether it needs another taker.
    fn add(&self, new: Waiting) -> bool {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.waiting.push_back(new);
        let is_needed = line.takers < AT_ONCE;
        line.takers += usize::from(is_needed);
        is_needed
    }

    /// Takes those that are kept together next; a taker who finds none is one no more.
    fn take(&self) -> Vec<Waiting> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits no more has said so to the provider, which sends it again.
        line.waiting.retain(|waiting| !waiting.kept.is_closed());
        let (most, most_bytes) = TOGETHER;
        let (mut together, mut bytes) = (Vec::new(), 0);
        while let Some(next) = line.waiting.front()
            && together.len() < most
        {
            bytes += next.row.sealed.len();
            if bytes > most_bytes {
                break;
            }
            together.extend(line.waiting.pop_front());
        }
        if together.is_empty() {
            line.takers -= 1;
        }
        together
    }
}

impl Webhooks {
    /// Commits a delivery; from here on it cannot be lost. With what is looked for, whoever kept it
    /// applies it at once; without, it is taken up from the queue.
    pub(super) async fn keep(&self, row: NewRow) -> Result<Kept, Error> {
        if row.sealed.len() > TOGETHER.1 {
            return self.keep_alone(row).await;
        }
        let (sender, kept) = oneshot::channel();
        if self.0.keeper.add(Waiting { row, kept: sender }) {
            let webhooks = self.clone();
            // On its own: others wait for it, too, when this caller goes away.
            let taking = async move {
                loop {
                    let together = webhooks.0.keeper.take();
                    if together.is_empty() {
                        return;
                    }
                    // After a panic, all that wait for it hear that there was one.
                    let keeping = AssertUnwindSafe(webhooks.keep_together(together));
                    if keeping.catch_unwind().await.is_err() {
                        metrics::counter!("panics_total").increment(1);
                    }
                }
            };
            self.0.tasks.spawn(taking);
        }
        kept.await
            .map_err(|_| Error::internal("who keeps deliveries panicked"))?
    }

    async fn keep_together(&self, together: Vec<Waiting>) {
        let (mut rows, mut callers) = (Vec::new(), Vec::new());
        for Waiting { row, kept } in together {
            rows.push(row);
            callers.push(kept);
        }
        let error = match self.insert(&rows).await {
            Ok(routes) => {
                for ((row, routes), caller) in rows.into_iter().zip(routes).zip(callers) {
                    // Whoever is gone by now has it taken up when its lease ends.
                    let _ = caller.send(Ok((row, routes)));
                }
                return;
            }
            Err(error) => error,
        };
        if rows.len() > 1 && !error.may_pass() {
            // One of them is to blame, and the others are not.
            for (row, caller) in rows.into_iter().zip(callers) {
                let _ = caller.send(self.keep_alone(row).await);
            }
            return;
        }
        let why = Chain(&error).to_string();
        for caller in callers {
            let _ = caller.send(Err(Error::Unavailable(why.clone().into())));
        }
    }

    async fn keep_alone(&self, row: NewRow) -> Result<Kept, Error> {
        let routes = self.insert(std::slice::from_ref(&row)).await?;
        Ok((row, routes.into_iter().next().unwrap_or_default()))
    }

    /// Commits deliveries by one statement; returns where the items of each go.
    async fn insert(&self, rows: &[NewRow]) -> Result<Vec<Arc<Routes>>, Error> {
        let inserting = async {
            let mut conn = self.0.tenants.directory_conn().await?;
            new_delivery::insert(&mut conn, rows).await
        };
        let inserted = tokio::time::timeout(KEEP_TIMEOUT, inserting).await;
        inserted.unwrap_or(Err(Error::DeadlineExceeded))
    }
}
