//! What the people of a team have done.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection as _;

use super::fact::{Counted, Facet, actor};
use super::message_volume::Volume;
use super::range::Asked;
use super::response_times::ResponseTimes;
use super::rollup::{self, Selection, Wanted};
use super::sums::Occurrences;
use super::{fold, snapshot};
use crate::error::Error;
use crate::tenant::TenantConn;

/// How many users are answered with, at most.
const MAX_USERS: usize = 1000;

/// What is asked for.
#[derive(Debug)]
pub struct ActivityQuery {
    /// When: one bucket.
    pub range: Asked,
    /// Who; empty for all who did anything.
    pub user_ids: Vec<String>,
}

/// What a user has done.
#[derive(Debug, Default)]
pub struct UserActivity {
    /// The messages that they wrote.
    pub messages: Volume,
    /// How many conversations they archived.
    pub closed: i64,
    /// How often a conversation was given to them.
    pub assigned: i64,
    /// When they first did anything.
    pub first_at: Option<DateTime<Utc>>,
    /// When they last did anything.
    pub last_at: Option<DateTime<Utc>>,
    /// How fast they answered, and how long what they handled took.
    pub times: ResponseTimes,
}

impl UserActivity {
    fn count(&mut self, counted: Counted, all: Occurrences) {
        match counted {
            Counted::Message(direction, _) => self.messages.add(direction, all.count),
            Counted::Closed => self.closed += all.count,
            // Others may have done that.
            Counted::Assigned => {
                self.assigned += all.count;
                return;
            }
            Counted::Acted => {}
        }
        let first = self
            .first_at
            .map_or(all.first_at, |at| at.min(all.first_at));
        let last = self.last_at.map_or(all.last_at, |at| at.max(all.last_at));
        (self.first_at, self.last_at) = (Some(first), Some(last));
    }
}

/// Adds up what users did in a range, in the order of their ids.
///
/// # Errors
/// There is no such range.
pub async fn sum(
    conn: &mut TenantConn,
    query: &ActivityQuery,
) -> Result<BTreeMap<String, UserActivity>, Error> {
    let range = snapshot::cut(conn, &query.range).await?;
    fold::shorten(conn).await?;
    let is_wanted = |user: &String| {
        !user.is_empty() && (query.user_ids.is_empty() || query.user_ids.contains(user))
    };
    let actors: Vec<_> = query.user_ids.iter().map(|id| actor("user", id)).collect();
    let mut answer = conn
        .transaction(async |conn| {
            let fold = snapshot::begin(conn).await?;
            let (runs, ends) = range.parts(&fold.calendar.grains_for(query.range.zone));
            let mut answer: BTreeMap<String, UserActivity> = BTreeMap::new();
            let selection = Selection {
                generation: fold.generation,
                facet: Facet::Actor,
                values: (!actors.is_empty()).then_some(actors.as_slice()),
                runs: &runs,
                wanted: Wanted::Both,
            };
            for cell in rollup::cells(conn, &selection).await? {
                let Some(user) = cell.value.strip_prefix("user/") else {
                    continue;
                };
                let activity = answer.entry(user.to_owned()).or_default();
                for (counted, all) in cell.sums.counts {
                    activity.count(counted, all);
                }
                for (lasting, durations) in &cell.sums.durations {
                    activity.times.merge(*lasting, durations);
                }
            }
            let mut occurrences = Vec::new();
            for change in snapshot::changes_beside(conn, &fold, &ends).await? {
                occurrences.extend(change.occurrences());
                let Some(duration) = change.duration(&fold.hours) else {
                    continue;
                };
                let agent = duration.by.iter().find(|(facet, _)| *facet == Facet::Actor);
                let user = agent.and_then(|(_, actor)| actor.strip_prefix("user/"));
                if let Some(user) = user.map(str::to_owned).filter(is_wanted)
                    && range.bucket(duration.at).is_some()
                {
                    answer.entry(user).or_default().times.add(&duration);
                }
            }
            let messages = snapshot::messages_beside(conn, &fold, &ends).await?;
            occurrences.extend(messages.iter().map(|message| message.occurrence()));
            for occurrence in occurrences {
                let by = occurrence
                    .by
                    .iter()
                    .find(|(facet, _)| *facet == Facet::Actor);
                let user = by.and_then(|(_, actor)| actor.strip_prefix("user/"));
                if let Some(user) = user.map(str::to_owned).filter(is_wanted)
                    && range.bucket(occurrence.at).is_some()
                {
                    let once = Occurrences::once(occurrence.at);
                    answer
                        .entry(user)
                        .or_default()
                        .count(occurrence.counted, once);
                }
            }
            Ok::<_, Error>(answer)
        })
        .await?;
    for user in &query.user_ids {
        answer.entry(user.clone()).or_default();
    }
    while answer.len() > MAX_USERS {
        answer.pop_last();
    }
    Ok(answer)
}
