//! What the log's rows say to statistics: the one place that decides what counts as what, for the
//! rollups and for what is read beside them.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};

use super::hours::{self, Hours};
use crate::ids::{ChannelAccountId, MessageId};
use crate::inbox::change::ChangeKind;
use crate::inbox::conversation::Status;
use crate::inbox::message::{Direction, MessageType};
use crate::stored_enum::stored_enum;

stored_enum! {
    /// By what things are counted.
    Facet {
        /// All durations, under an empty value.
        All = "all",
        /// Who acted, answered or handled a conversation, as `user/` and an id; durations that are
        /// nobody's under an empty value.
        Actor = "actor",
        /// The conversation's team; empty for none.
        Team = "team",
        /// The channel account.
        Account = "account",
        /// Each label of the conversation.
        Label = "label",
    }
}

impl Facet {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::All,
        Self::Actor,
        Self::Team,
        Self::Account,
        Self::Label,
    ];
}

stored_enum! {
    /// What lasts.
    Lasting {
        /// From a customer's message to a person's first answer of the episode.
        FirstResponse = "first_response",
        /// The same for every further answer.
        NextResponse = "next_response",
        /// From an episode's beginning to its archiving.
        Resolution = "resolution",
        /// Nothing: an archived conversation was opened again.
        Reopening = "reopening",
    }
}

impl Lasting {
    const ALL: [Self; 4] = [
        Self::FirstResponse,
        Self::NextResponse,
        Self::Resolution,
        Self::Reopening,
    ];

    /// The number that the rollups keep.
    pub fn code(self) -> u64 {
        self as u64
    }

    /// Reads the number that the rollups keep.
    pub fn of(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|lasting| lasting.code() == code)
    }
}

/// What happens, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// A message.
    Message(Direction, MessageType),
    /// A conversation was given to the user.
    Assigned,
    /// A conversation was archived.
    Closed,
    /// Any change of a conversation that no message made.
    Acted,
}

const DIRECTIONS: [Direction; 3] = [Direction::Inbound, Direction::Outbound, Direction::Internal];

const TYPES: [MessageType; 6] = [
    MessageType::Text,
    MessageType::Image,
    MessageType::Document,
    MessageType::Audio,
    MessageType::Video,
    MessageType::Location,
];

impl Counted {
    /// All there are, each with the number that the rollups keep: those of each direction's messages
    /// leave room for ten types.
    fn all() -> impl Iterator<Item = (u64, Self)> {
        let messages = (0..)
            .step_by(10)
            .zip(DIRECTIONS)
            .flat_map(|(tens, direction)| {
                (tens..)
                    .zip(TYPES)
                    .map(move |(code, kind)| (code, Self::Message(direction, kind)))
            });
        messages.chain([
            (100, Self::Assigned),
            (101, Self::Closed),
            (102, Self::Acted),
        ])
    }

    /// The number that the rollups keep.
    pub fn code(self) -> u64 {
        let mut all = Self::all().filter(|(_, counted)| *counted == self);
        all.next().map_or(u64::MAX, |(code, _)| code)
    }

    /// Reads the number that the rollups keep.
    pub fn of(code: u64) -> Option<Self> {
        let mut all = Self::all().filter(|(other, _)| *other == code);
        all.next().map(|(_, counted)| counted)
    }
}

/// Something that lasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duration {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What it was.
    pub lasting: Lasting,
    /// How long it took, in milliseconds.
    pub wall: i64,
    /// How much of that was in business hours.
    pub business: i64,
    /// What it is counted by.
    pub by: Vec<(Facet, String)>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub counted: Counted,
    /// What it is counted by.
    pub by: Vec<(Facet, String)>,
}

/// A change of a conversation, as far as statistics look at it.
#[derive(Debug, QueryableByName)]
pub struct LoggedChange {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    kind: ChangeKind,
    #[diesel(sql_type = Text)]
    actor_kind: String,
    #[diesel(sql_type = Text)]
    actor_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    old_status: Option<Status>,
    #[diesel(sql_type = Text)]
    status: Status,
    #[diesel(sql_type = Nullable<Text>)]
    old_assignee_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    assignee_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    team_id: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    labels: Vec<String>,
    #[diesel(sql_type = SqlUuid)]
    channel_account_id: ChannelAccountId,
    #[diesel(sql_type = Timestamptz)]
    episode_started_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    waited_since: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    is_first_response: bool,
}

/// The columns of a `LoggedChange`, of rows `c` of the log.
macro_rules! logged_change {
    () => {
        "c.at, c.kind, c.actor_kind, c.actor_id, c.old_status, c.status, c.old_assignee_id,
            c.assignee_id, c.team_id, c.labels, c.episode_started_at, c.waited_since,
            c.is_first_response, (
                SELECT i.channel_account_id
                FROM inbox_conversations v JOIN contact_identities i ON i.id = v.contact_identity_id
                WHERE v.id = c.conversation_id
            ) AS channel_account_id"
    };
}

/// Which rows `c` of the log tell statistics something: `LoggedChange` makes nothing of the others.
macro_rules! tells_something {
    () => {
        "(c.kind <> 'message' OR c.waited_since IS NOT NULL
            OR c.assignee_id IS DISTINCT FROM c.old_assignee_id
            OR (c.status = 'archived') <> (c.old_status = 'archived'))"
    };
}

/// A message, as far as statistics look at it.
#[derive(Debug, QueryableByName)]
pub struct LoggedMessage {
    #[diesel(sql_type = SqlUuid)]
    /// Its id.
    pub id: MessageId,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    direction: Direction,
    #[diesel(sql_type = Text)]
    message_type: MessageType,
    #[diesel(sql_type = Text)]
    actor_kind: String,
    #[diesel(sql_type = Text)]
    actor_id: String,
    #[diesel(sql_type = SqlUuid)]
    channel_account_id: ChannelAccountId,
}

/// The columns of a `LoggedMessage`, of rows `m` of the messages.
macro_rules! logged_message {
    () => {
        "m.id, m.created_at, m.direction, m.type AS message_type, m.actor_kind, m.actor_id, (
                SELECT i.channel_account_id
                FROM inbox_conversations v JOIN contact_identities i ON i.id = v.contact_identity_id
                WHERE v.id = m.conversation_id
            ) AS channel_account_id"
    };
}

/// Which messages `m` are counted: not those that were imported; deleted ones too, because they
/// were sent.
macro_rules! is_counted {
    () => {
        "NOT m.imported"
    };
}

pub(super) use {is_counted, logged_change, logged_message, tells_something};

/// How a person, an automation or a service is written as a value of `Facet::Actor`.
pub fn actor(kind: &str, id: &str) -> String {
    format!("{kind}/{id}")
}

impl LoggedChange {
    /// What lasted until this change, if anything did. A merge ends no episode that was resolved,
    /// and undoing it opens nothing again.
    pub fn duration(&self, hours: &[Hours]) -> Option<Duration> {
        let was_archived = self.old_status? == Status::Archived;
        let is_archived = self.status == Status::Archived;
        let user = (self.actor_kind == "user").then_some(&self.actor_id);
        let assignee = self.assignee_id.as_ref();
        let (lasting, since, agent) = if let Some(since) = self.waited_since {
            let lasting = match self.is_first_response {
                true => Lasting::FirstResponse,
                false => Lasting::NextResponse,
            };
            (lasting, since, user)
        } else if is_archived && !was_archived && self.kind != ChangeKind::Merged {
            (Lasting::Resolution, self.episode_started_at, assignee)
        } else if was_archived && !is_archived && self.kind != ChangeKind::Unmerged {
            (Lasting::Reopening, self.at, assignee)
        } else {
            return None;
        };
        let business = hours::open(hours, self.team_id.as_deref(), since, self.at);
        let mut by = vec![
            (Facet::All, String::new()),
            (
                Facet::Actor,
                agent.map_or_else(String::new, |agent| actor("user", agent)),
            ),
            (Facet::Team, self.team_id.clone().unwrap_or_default()),
            (Facet::Account, self.channel_account_id.to_string()),
        ];
        by.extend(
            self.labels
                .iter()
                .map(|label| (Facet::Label, label.clone())),
        );
        Some(Duration {
            at: self.at,
            lasting,
            wall: (self.at - since).num_milliseconds().max(0),
            business: business.num_milliseconds().max(0),
            by,
        })
    }

    /// What people did with it.
    pub fn occurrences(&self) -> Vec<Occurrence> {
        let mut all = Vec::new();
        let mut add = |counted, kind: &str, id: &str| {
            all.push(Occurrence {
                at: self.at,
                counted,
                by: vec![(Facet::Actor, actor(kind, id))],
            });
        };
        if let Some(assignee) = &self.assignee_id
            && self.old_assignee_id.as_ref() != Some(assignee)
        {
            add(Counted::Assigned, "user", assignee);
        }
        // What messages did to a conversation is told by the messages; who erases a person does
        // one thing and not one to each conversation.
        if matches!(self.kind, ChangeKind::Message | ChangeKind::Erased) {
            return all;
        }
        add(Counted::Acted, &self.actor_kind, &self.actor_id);
        if self.kind == ChangeKind::Archived && self.old_status != Some(Status::Archived) {
            add(Counted::Closed, &self.actor_kind, &self.actor_id);
        }
        all
    }
}

impl LoggedMessage {
    /// What it is counted as.
    pub fn occurrence(&self) -> Occurrence {
        Occurrence {
            at: self.created_at,
            counted: Counted::Message(self.direction, self.message_type),
            by: vec![
                (Facet::Account, self.channel_account_id.to_string()),
                (Facet::Actor, actor(&self.actor_kind, &self.actor_id)),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_keeps_its_number() {
        let all = [
            (0, Counted::Message(Direction::Inbound, MessageType::Text)),
            (
                24,
                Counted::Message(Direction::Internal, MessageType::Video),
            ),
            (100, Counted::Assigned),
            (102, Counted::Acted),
        ];
        for (code, counted) in all {
            assert_eq!((counted.code(), Counted::of(code)), (code, Some(counted)));
        }
        assert_eq!(Counted::of(6), None);
        for lasting in Lasting::ALL {
            assert_eq!(Lasting::of(lasting.code()), Some(lasting));
        }
    }
}
