//! How long customers waited for answers, and how long episodes took.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::fact::{Duration, Facet, Lasting, actor};
use super::range::{Asked, Span};
use super::rollup::{self, Selection, Wanted};
use super::sums::Durations;
use super::{fold, snapshot};
use crate::channel::Channel;
use crate::error::Error;
use crate::ids::ChannelAccountId;
use crate::schema::tenant::channel_accounts;
use crate::tenant::TenantConn;

/// By what to group, or what to look at alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slice {
    /// Everything together.
    All,
    /// By agents, or one agent.
    Agents(Option<String>),
    /// By teams, or one team.
    Teams(Option<String>),
    /// By channels, or one channel.
    Channels(Option<Channel>),
    /// By channel accounts, or one channel account.
    Accounts(Option<ChannelAccountId>),
    /// By labels, or one label.
    Labels(Option<String>),
}

/// What is asked for.
#[derive(Debug)]
pub struct ResponseTimesQuery {
    /// When, in which buckets.
    pub range: Asked,
    /// By what.
    pub slice: Slice,
    /// Whether each group is answered alone.
    pub grouped: bool,
}

/// What response times have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Nothing.
    All,
    /// Who answered; empty for nobody known.
    Agent(String),
    /// The team; empty for none.
    Team(String),
    /// The channel.
    Channel(Channel),
    /// The channel account, by its id.
    Account(String),
    /// A label.
    Label(String),
}

/// What came of a bucket and group.
#[derive(Debug, Default)]
pub struct ResponseTimes {
    /// First answers of an episode.
    pub first: Durations,
    /// Further answers.
    pub next: Durations,
    /// Episodes that ended.
    pub resolution: Durations,
    /// How many episodes began by reopening.
    pub reopenings: i64,
}

impl ResponseTimes {
    /// Adds durations of one kind.
    pub fn merge(&mut self, lasting: Lasting, durations: &Durations) {
        match lasting {
            Lasting::FirstResponse => self.first.merge(durations),
            Lasting::NextResponse => self.next.merge(durations),
            Lasting::Resolution => self.resolution.merge(durations),
            Lasting::Reopening => self.reopenings += durations.wall.count,
        }
    }

    /// Adds a duration.
    pub fn add(&mut self, duration: &Duration) {
        match duration.lasting {
            Lasting::FirstResponse => self.first.add(duration),
            Lasting::NextResponse => self.next.add(duration),
            Lasting::Resolution => self.resolution.add(duration),
            Lasting::Reopening => self.reopenings += 1,
        }
    }
}

/// The accounts of each channel.
pub async fn channels(conn: &mut TenantConn) -> Result<HashMap<ChannelAccountId, Channel>, Error> {
    let accounts: Vec<(ChannelAccountId, Channel)> = channel_accounts::table
        .select((channel_accounts::id, channel_accounts::channel))
        .load(conn)
        .await?;
    Ok(accounts.into_iter().collect())
}

impl Slice {
    /// How the rollups count it.
    fn facet(&self) -> Facet {
        match self {
            Self::All => Facet::All,
            Self::Agents(_) => Facet::Actor,
            Self::Teams(_) => Facet::Team,
            Self::Channels(_) | Self::Accounts(_) => Facet::Account,
            Self::Labels(_) => Facet::Label,
        }
    }

    /// The values of the rollups that belong to it; `None` for all.
    fn values(&self, channels: &HashMap<ChannelAccountId, Channel>) -> Option<Vec<String>> {
        let one = |value: &String| vec![value.clone()];
        match self {
            Self::All => None,
            Self::Agents(agent) => agent.as_ref().map(|agent| vec![actor("user", agent)]),
            Self::Teams(one_only) | Self::Labels(one_only) => one_only.as_ref().map(one),
            Self::Accounts(account) => account.map(|account| vec![account.to_string()]),
            Self::Channels(channel) => channel.map(|channel| {
                let of_it = channels.iter().filter(|(_, other)| **other == channel);
                of_it.map(|(account, _)| account.to_string()).collect()
            }),
        }
    }
}

impl ResponseTimesQuery {
    /// The group that a value of the rollups belongs to.
    fn group(&self, value: &str, channels: &HashMap<String, Channel>) -> Option<Group> {
        if !self.grouped {
            return Some(Group::All);
        }
        Some(match self.slice {
            Slice::All => Group::All,
            Slice::Agents(_) => {
                Group::Agent(value.strip_prefix("user/").unwrap_or_default().to_owned())
            }
            Slice::Teams(_) => Group::Team(value.to_owned()),
            Slice::Channels(_) => Group::Channel(*channels.get(value)?),
            Slice::Accounts(_) => Group::Account(value.to_owned()),
            Slice::Labels(_) => Group::Label(value.to_owned()),
        })
    }
}

/// Adds up the response times of a range, by bucket and group.
///
/// # Errors
/// There is no such range.
pub async fn measure(
    conn: &mut TenantConn,
    query: &ResponseTimesQuery,
) -> Result<Vec<(Span, Group, ResponseTimes)>, Error> {
    let range = snapshot::cut(conn, &query.range).await?;
    fold::shorten(conn).await?;
    let facet = query.slice.facet();
    let (cells, beside, (values, names)) = conn
        .transaction(async |conn| {
            let fold = snapshot::begin(conn).await?;
            let (runs, ends) = range.parts(&fold.calendar.grains_for(query.range.zone));
            let channels = self::channels(conn).await?;
            let values = query.slice.values(&channels);
            let names: HashMap<_, _> = channels
                .into_iter()
                .map(|(account, channel)| (account.to_string(), channel))
                .collect();
            let selection = Selection {
                generation: fold.generation,
                facet,
                values: values.as_deref(),
                runs: &runs,
                wanted: Wanted::Durations,
            };
            let cells = rollup::cells(conn, &selection).await?;
            let beside: Vec<Duration> = snapshot::changes_beside(conn, &fold, &ends)
                .await?
                .iter()
                .filter_map(|change| change.duration(&fold.hours))
                .collect();
            Ok::<_, Error>((cells, beside, (values, names)))
        })
        .await?;
    let mut answer: BTreeMap<_, ResponseTimes> = BTreeMap::new();
    for cell in cells {
        let Some(group) = query.group(&cell.value, &names) else {
            continue;
        };
        // Who acted without answering anybody is in no group.
        for (lasting, durations) in &cell.sums.durations {
            let times = answer.entry((cell.bucket, group.clone())).or_default();
            times.merge(*lasting, durations);
        }
    }
    for duration in beside {
        let Some(bucket) = range.bucket(duration.at) else {
            continue;
        };
        let is_wanted = |value: &String| values.as_ref().is_none_or(|all| all.contains(value));
        let of_facet = duration
            .by
            .iter()
            .filter(|(of, value)| *of == facet && is_wanted(value));
        for (_, value) in of_facet {
            if let Some(group) = query.group(value, &names) {
                answer.entry((bucket, group)).or_default().add(&duration);
            }
        }
    }
    let only = (!query.grouped).then_some((|| Group::All) as fn() -> Group);
    Ok(range.laid_out(answer, only))
}
