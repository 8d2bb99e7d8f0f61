//! What is heard on streams and never stored: it has no place in the log, and who is not there misses
//! it.

use std::future::pending;

use bytes::Bytes;
use chrono::TimeDelta;
use prost::Message as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use uuid::Uuid;

use super::audience::Audience;
use super::filter::Filter;
use crate::clock;
use crate::ids::ChannelId;
use crate::pb;
use crate::pb::ephemeral::Kind;
use crate::tenant::{Hall, TenantScope};
use crate::time::to_timestamp;

/// Says something, by whoever acts in the scope, to the streams of its tenant on all servers.
pub fn say(scope: &TenantScope, kind: Kind) {
    let facts = scope.facts();
    let now = clock::now() + TimeDelta::seconds(facts.clock_offset);
    let said = pb::Ephemeral {
        actor: Some(facts.actor.clone().into()),
        event_time: Some(to_timestamp(now)),
        kind: Some(kind),
    };
    scope.say(said.encode_to_vec().into());
}

/// Who may hear what is said.
pub fn audience(said: &pb::Ephemeral) -> Audience {
    let Some(Kind::Typing(typing)) = &said.kind else {
        return Audience::Everybody;
    };
    match Uuid::try_parse(&typing.channel_id) {
        Ok(id) => Audience::Channel {
            id: ChannelId(id),
            is_public: typing.channel_kind() == pb::ChatChannelKind::Public,
            alone: None,
        },
        Err(_) => Audience::Nobody,
    }
}

/// What a stream hears of what is said.
pub struct Ear {
    /// None for who hears nothing.
    said: Option<Receiver<Bytes>>,
    /// What was heard last, and not looked at yet.
    heard: Option<Bytes>,
}

impl Ear {
    /// Hears what is said from now on, as far as a filter wants any of it.
    pub fn new(hall: &Hall, filter: &Filter) -> Self {
        Self {
            said: filter.listens().then(|| hall.listen()),
            heard: None,
        }
    }

    /// Waits until something is said.
    pub async fn wait(&mut self) {
        match &mut self.said {
            // An error says that something was missed, which is no matter.
            Some(said) if self.heard.is_none() => self.heard = said.recv().await.ok(),
            _ => pending().await,
        }
    }

    /// What was said and is wanted, if there is any.
    pub fn next(&mut self, filter: &Filter) -> Option<pb::Ephemeral> {
        while let Some(said) = self.heard.take().or_else(|| self.try_hear()) {
            // What another version says may mean nothing here.
            let said = pb::Ephemeral::decode(said).ok();
            if let Some(said) = said.filter(|said| filter.hears(said)) {
                return Some(said);
            }
        }
        None
    }

    fn try_hear(&mut self) -> Option<Bytes> {
        let said = self.said.as_mut()?;
        loop {
            match said.try_recv() {
                Ok(said) => return Some(said),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }
}
