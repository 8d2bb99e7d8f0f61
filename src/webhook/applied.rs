//! What comes of the items of a delivery.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::webhooks::Webhooks;
use super::worker::count;
use crate::channel::Channel;
use crate::error::{Chain, Error};
use crate::ids::ChannelAccountId;
use crate::inbox::{Effect, Inbound, Origin, record};
use crate::tenant::TenantScope;

/// When files are fetched at the latest that nobody has begun to fetch.
const FILES_LATER: Duration = Duration::from_secs(20);

/// What became of the items of a delivery.
#[derive(Default)]
pub(super) struct Outcome {
    /// The first thing that stood in the way for now.
    pub wait: Option<Error>,
    /// Whether the item asked for stays in quarantine.
    pub stays: bool,
    /// Whether anything was known before.
    pub known: bool,
    /// Whether anything was not.
    pub news: bool,
    /// The accounts for which something was in the way.
    pub waiting: HashSet<ChannelAccountId>,
}

impl Outcome {
    /// Notes what came of an item; returns why it failed, if it has.
    pub fn note(&mut self, of: Origin, applied: Applied) -> Option<String> {
        match applied {
            Applied::Done(effect) => {
                count(of.channel, effect.as_str());
                match effect {
                    Effect::Known => self.known = true,
                    Effect::Applied | Effect::Parked => self.news = true,
                }
                None
            }
            Applied::Wait(error) => {
                self.waiting.insert(of.account);
                self.wait.get_or_insert(error);
                None
            }
            Applied::Failed(words) => Some(words),
        }
    }
}

/// What came of one item.
pub(super) enum Applied {
    /// It had its effect, now or before.
    Done(Effect),
    /// Something is in the way for now.
    Wait(Error),
    /// It cannot have any; the words say why.
    Failed(String),
}

impl Applied {
    /// What time may heal waits, and else the log says what is wrong.
    pub(super) fn not(error: Error) -> Self {
        if error.may_pass() {
            return Self::Wait(error);
        }
        tracing::error!(error = %Chain(&error), "an item failed");
        Self::Failed("see the log under the delivery's id".to_owned())
    }
}

/// Tells whether something may have files that are to be fetched: a message, or a recording of a
/// call, which may have waited for its call.
fn brings_files(channel: Channel, inbound: &Inbound) -> bool {
    match inbound {
        Inbound::Message(message) => channel == Channel::TwilioCall || !message.files.is_empty(),
        Inbound::Amendment(_) => channel == Channel::TwilioCall,
        _ => false,
    }
}

pub(super) async fn apply_one(
    webhooks: &Webhooks,
    scope: &Result<TenantScope, Error>,
    origin: Origin,
    inbound: &Inbound,
) -> Applied {
    let applying = async {
        let scope = match scope {
            Ok(scope) => scope,
            // Whatever keeps the tenant from being entered keeps it from everybody, and ends.
            Err(error) => return Err(Error::Unavailable(Chain(error).to_string().into())),
        };
        let brings_files = brings_files(origin.channel, inbound);
        if brings_files {
            // Should this node end before they are fetched, another hears of them.
            let later = FILES_LATER;
            webhooks.0.tenants.set_alarm_in(scope, later).await?;
        }
        let effect = record(&mut scope.conn().await?, origin, inbound).await?;
        if brings_files && effect == Effect::Applied {
            webhooks.fetch_files(scope.clone());
        }
        Ok(effect)
    };
    match AssertUnwindSafe(applying).catch_unwind().await {
        Ok(Ok(effect)) => Applied::Done(effect),
        Ok(Err(error)) => Applied::not(error),
        Err(_) => {
            metrics::counter!("panics_total").increment(1);
            Applied::not(Error::internal("the item's application panicked"))
        }
    }
}
