//! How many messages there were.

use std::collections::{BTreeMap, HashMap};

use diesel_async::AsyncConnection as _;

use super::fact::{Counted, Facet, actor};
use super::range::{Asked, Span};
use super::response_times::channels;
use super::rollup::{self, Selection, Wanted};
use super::{fold, snapshot};
use crate::channel::Channel;
use crate::error::Error;
use crate::ids::ChannelAccountId;
use crate::inbox::message::{Direction, MessageType};
use crate::tenant::TenantConn;

/// Which messages to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those on a channel.
    Channel(Channel),
    /// Those of a channel account.
    Account(ChannelAccountId),
    /// Those by a user.
    User(String),
}

/// By what to count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Together.
    Nothing,
    /// By channel.
    Channel,
    /// By channel account.
    Account,
    /// By who wrote them.
    Actor,
    /// By what they are.
    Type,
}

/// What is asked for.
#[derive(Debug)]
pub struct VolumeQuery {
    /// When, in which buckets.
    pub range: Asked,
    /// Which.
    pub which: Which,
    /// What they are; `None` for all.
    pub message_type: Option<MessageType>,
    /// By what.
    pub by: By,
}

/// What messages of a count have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Nothing.
    All,
    /// The channel.
    Channel(Channel),
    /// The channel account, by its id.
    Account(String),
    /// Who wrote them: the kind and the id.
    Actor(String, String),
    /// What they are.
    Type(MessageType),
}

/// How many messages there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// From customers.
    pub inbound: i64,
    /// To customers.
    pub outbound: i64,
    /// Among the agents.
    pub notes: i64,
}

impl Volume {
    /// Adds messages of a direction.
    pub fn add(&mut self, direction: Direction, count: i64) {
        match direction {
            Direction::Inbound => self.inbound += count,
            Direction::Outbound => self.outbound += count,
            Direction::Internal => self.notes += count,
        }
    }
}

impl VolumeQuery {
    fn facet(&self) -> Facet {
        match (&self.which, self.by) {
            (Which::User(_), _) | (_, By::Actor) => Facet::Actor,
            _ => Facet::Account,
        }
    }

    fn values(&self, channels: &HashMap<ChannelAccountId, Channel>) -> Option<Vec<String>> {
        match &self.which {
            Which::All => None,
            Which::Account(account) => Some(vec![account.to_string()]),
            Which::User(user) => Some(vec![actor("user", user)]),
            Which::Channel(channel) => {
                let of_it = channels.iter().filter(|(_, other)| *other == channel);
                Some(of_it.map(|(account, _)| account.to_string()).collect())
            }
        }
    }

    /// The group that messages belong to, if they are to be counted.
    fn group(
        &self,
        value: &str,
        counted: Counted,
        channels: &HashMap<String, Channel>,
    ) -> Option<(Group, Direction)> {
        let Counted::Message(direction, kind) = counted else {
            return None;
        };
        if self.message_type.is_some_and(|wanted| wanted != kind) {
            return None;
        }
        let group = match self.by {
            By::Nothing => Group::All,
            By::Type => Group::Type(kind),
            By::Channel => Group::Channel(*channels.get(value)?),
            By::Account => Group::Account(value.to_owned()),
            By::Actor => {
                let (kind, id) = value.split_once('/')?;
                Group::Actor(kind.to_owned(), id.to_owned())
            }
        };
        Some((group, direction))
    }
}

/// Counts the messages of a range, by bucket and group.
///
/// # Errors
/// There is no such range.
pub async fn count(
    conn: &mut TenantConn,
    query: &VolumeQuery,
) -> Result<Vec<(Span, Group, Volume)>, Error> {
    let range = snapshot::cut(conn, &query.range).await?;
    fold::shorten(conn).await?;
    let facet = query.facet();
    let answer = conn
        .transaction(async |conn| {
            let fold = snapshot::begin(conn).await?;
            let (runs, ends) = range.parts(&fold.calendar.grains_for(query.range.zone));
            let channels = channels(conn).await?;
            let values = query.values(&channels);
            let names: HashMap<_, _> = channels
                .into_iter()
                .map(|(account, channel)| (account.to_string(), channel))
                .collect();
            let selection = Selection {
                generation: fold.generation,
                facet,
                values: values.as_deref(),
                runs: &runs,
                wanted: Wanted::Counts,
            };
            let mut answer: BTreeMap<_, Volume> = BTreeMap::new();
            for cell in rollup::cells(conn, &selection).await? {
                for (counted, all) in cell.sums.counts {
                    if let Some((group, direction)) = query.group(&cell.value, counted, &names) {
                        let volume = answer.entry((cell.bucket, group)).or_default();
                        volume.add(direction, all.count);
                    }
                }
            }
            for message in snapshot::messages_beside(conn, &fold, &ends).await? {
                let occurrence = message.occurrence();
                let Some(bucket) = range.bucket(occurrence.at) else {
                    continue;
                };
                let of_facet = occurrence.by.iter().filter(|(of, _)| *of == facet);
                for (_, value) in of_facet {
                    if values.as_ref().is_some_and(|all| !all.contains(value)) {
                        continue;
                    }
                    if let Some((group, direction)) = query.group(value, occurrence.counted, &names)
                    {
                        answer.entry((bucket, group)).or_default().add(direction, 1);
                    }
                }
            }
            Ok::<_, Error>(answer)
        })
        .await?;
    let only = (query.by == By::Nothing).then_some((|| Group::All) as fn() -> Group);
    Ok(range.laid_out(answer, only))
}
