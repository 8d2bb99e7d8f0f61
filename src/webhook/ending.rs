//! Deliveries that are done: the database is told of several at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::delivery::{self, Done};
use super::webhooks::Webhooks;
use crate::error::{Chain, Error};

/// How long those that are done wait for others.
const TOGETHER: Duration = Duration::from_millis(20);

/// Those that wait for others.
#[derive(Default)]
pub struct Endings {
    done: Mutex<Vec<Done>>,
    /// Held by who changes many deliveries at once: who waited for their rows in the database would
    /// keep a connection from those that come in.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Endings {
    /// Adds one; tells whether it is the first, whose keeper takes the others along.
    fn add(&self, done: Done) -> bool {
        let mut all = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(done);
        all.len() == 1
    }

    fn take(&self) -> Vec<Done> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Webhooks {
    /// Ends the work on a delivery, together with what ends at about the same time. What cannot be
    /// ended is taken up again when its lease ends, and has no effect any more.
    pub(super) async fn end(&self, done: Done) {
        if !self.0.endings.add(done) {
            return;
        }
        tokio::time::sleep(TOGETHER).await;
        let _turn = self.0.endings.turn.lock().await;
        let all = self.0.endings.take();
        let ending = async {
            let mut conn = self.0.tenants.directory_conn().await?;
            delivery::end(&mut conn, &all).await
        };
        let ended: Result<(), Error> = ending.await;
        if let Err(error) = ended {
            tracing::warn!(deliveries = all.len(), error = %Chain(&error), "deliveries that are done cannot be ended");
        }
    }
}
