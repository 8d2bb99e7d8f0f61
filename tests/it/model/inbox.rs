//! The inbox as its contract describes it, in plain Rust: what each call answers, and what is there
//! afterwards.
//!
//! What the service alone can know, ids and times, stands as [`FRESH`] until an answer tells it.

use std::collections::{BTreeMap, BTreeSet};

use communication_service::pb::actor::Kind;
use communication_service::pb::{
    Actor, Channel, Conversation, ConversationActivity, ConversationActivityKind,
    ConversationState, ConversationStatus, Message, MessageDirection, MessageFailure,
    MessageRevision, MessageRevisionKind, MessageStatus, MessageType, Priority, Qualification,
    ReopenPolicy, Routing,
};
use prost_types::{Struct, Timestamp};
use tonic::Code;

use super::merge::{MERGED, Merge};

/// A text that the service makes up.
pub const FRESH: &str = "?";

/// A time that the service makes up.
pub const NOW: Timestamp = Timestamp {
    seconds: i64::MIN,
    nanos: 0,
};

/// The time of the message that is being stored.
pub const STORED: Timestamp = Timestamp {
    seconds: i64::MIN,
    nanos: 1,
};

/// A call that is refused: its code and its reason.
pub type Refused = (Code, &'static str);

pub const ARCHIVED: Refused = (Code::FailedPrecondition, "CONVERSATION_ARCHIVED");
pub const REPLACED: Refused = (Code::FailedPrecondition, "CONVERSATION_REPLACED");
const STALE: Refused = (Code::Aborted, "ETAG_MISMATCH");
const SENT: Refused = (Code::FailedPrecondition, "MESSAGE_SENT");
const INBOUND: Refused = (Code::FailedPrecondition, "MESSAGE_INBOUND");
const MISSING: Refused = (Code::NotFound, "RESOURCE_NOT_FOUND");
const NOT_OUTBOUND: Refused = (Code::FailedPrecondition, "MESSAGE_NOT_OUTBOUND");

/// Among the conversations that are not archived there is one for each of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub channel: i32,
    pub identifier: String,
    pub thread_key: String,
}

/// A person on an account.
#[derive(Debug, Clone)]
pub struct Person {
    pub contact_id: String,
    pub name: String,
}

/// A conversation with all that hangs on it.
#[derive(Debug, Clone)]
pub struct Talk {
    pub place: Place,
    pub now: Conversation,
    pub messages: Vec<Message>,
    /// What they said before, by their places; the oldest first.
    pub said: BTreeMap<usize, Vec<MessageRevision>>,
    /// The places of those that have not been looked at since they changed.
    pub unseen: BTreeSet<usize>,
    /// The message since which the customer waits, or last waited.
    waited_from: i64,
    /// How far each user has read.
    pub marks: BTreeMap<String, i64>,
    /// The oldest first.
    pub activities: Vec<ConversationActivity>,
    /// Those that it had before.
    pub etags: Vec<String>,
    /// Whether it was archived longer ago than the policy's days.
    pub is_old: bool,
}

/// A channel account, by its policy.
#[derive(Debug, Clone, Default)]
pub struct Account {
    pub id: String,
    pub reopen: ReopenPolicy,
    pub routing: Routing,
    pub assignee: String,
    pub team: String,
    /// The users to choose from, each with the number of their last turn.
    pub agents: Vec<(String, i64)>,
    pub turns: i64,
}

/// A user who takes conversations.
#[derive(Debug, Clone)]
pub struct Agent {
    pub available: bool,
    pub capacity: Option<i32>,
    pub version: i64,
}

/// What an edit changes.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    pub status: Option<ConversationStatus>,
    pub priority: Option<Priority>,
    pub subject: Option<String>,
    pub labels: Option<Vec<String>>,
    pub snooze: Option<Option<Timestamp>>,
}

/// All of a tenant's inbox.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    pub talks: Vec<Talk>,
    pub people: BTreeMap<(i32, String), Person>,
    pub accounts: BTreeMap<i32, Account>,
    pub agents: BTreeMap<String, Agent>,
    pub merges: Vec<Merge>,
}

/// Who did something, and by which rule.
#[derive(Clone)]
pub struct Cause<'a> {
    kind: ConversationActivityKind,
    rule: &'a str,
    sequence: i64,
    actor: &'a Actor,
}

impl<'a> Cause<'a> {
    pub fn wish(kind: ConversationActivityKind, actor: &'a Actor) -> Self {
        Self {
            kind,
            rule: "",
            sequence: 0,
            actor,
        }
    }
}

/// Tells whether nobody has an outbound message yet.
fn is_unsent(message: &Message) -> bool {
    use MessageStatus::{Failed, Queued};
    matches!(message.status(), Queued | Failed)
}

/// What a message says before it changes.
fn revision(of: &Message, kind: MessageRevisionKind, actor: &Actor) -> MessageRevision {
    MessageRevision {
        message_id: of.id.clone(),
        number: of.edit_count + 1,
        kind: kind.into(),
        text: of.text.clone(),
        actor: Some(actor.clone()),
        caller: "local".to_owned(),
        replace_time: Some(NOW),
        ..Default::default()
    }
}

pub fn state(of: &Conversation) -> ConversationState {
    ConversationState {
        status: of.status,
        priority: of.priority,
        assignee_id: of.assignee_id.clone(),
        team_id: of.team_id.clone(),
        labels: of.labels.clone(),
        snooze_until_time: of.snooze_until_time,
        qualified: of.qualification.is_some(),
        unread: of.unread,
        waiting: of.waiting_since_time.is_some(),
    }
}

fn changed_fields(before: &Conversation, after: &Conversation) -> Vec<String> {
    let pairs = [
        ("status", before.status != after.status),
        ("priority", before.priority != after.priority),
        ("subject", before.subject != after.subject),
        ("labels", before.labels != after.labels),
        ("assignee_id", before.assignee_id != after.assignee_id),
        ("team_id", before.team_id != after.team_id),
        ("qualification", before.qualification != after.qualification),
        (
            "snooze_until_time",
            before.snooze_until_time != after.snooze_until_time,
        ),
        (
            "waiting_since_time",
            before.waiting_since_time.is_some() != after.waiting_since_time.is_some(),
        ),
        ("unread", before.unread != after.unread),
        (
            "merged_into_id",
            before.merged_into_id != after.merged_into_id,
        ),
    ];
    let changed = pairs.iter().filter(|(_, changed)| *changed);
    let mut changed: Vec<_> = changed.map(|(name, _)| (*name).to_owned()).collect();
    changed.sort();
    changed
}

impl Talk {
    fn status(&self) -> ConversationStatus {
        self.now.status()
    }

    pub fn is_archived(&self) -> bool {
        self.status() == ConversationStatus::Archived
    }

    fn last_inbound(&self) -> i64 {
        let inbound = |message: &&Message| {
            message.direction() == MessageDirection::Inbound && message.delete_time.is_none()
        };
        let newest = self.messages.iter().rev().find(inbound);
        newest.map_or(0, |message| message.sequence)
    }

    /// How many of the customer's messages a user has not read.
    fn unread_by(&self, user: &str) -> i32 {
        let mark = self.marks.get(user).copied().unwrap_or(0);
        let unread = self.messages.iter().filter(|message| {
            message.direction() == MessageDirection::Inbound
                && message.sequence > mark
                && message.delete_time.is_none()
        });
        i32::try_from(unread.count()).unwrap().min(1000)
    }

    /// Makes a change of which the rest follows: the version, and the record of it.
    pub fn change(
        &mut self,
        cause: &Cause<'_>,
        edits: bool,
        change: impl FnOnce(&mut Conversation),
    ) {
        let before = self.now.clone();
        change(&mut self.now);
        if self.now == before {
            return;
        }
        self.now.version = before.version + 1;
        self.now.update_time = Some(NOW);
        if edits {
            if self.now.etag != FRESH {
                self.etags.push(self.now.etag.clone());
            }
            self.now.etag = FRESH.to_owned();
        }
        let changed_fields = changed_fields(&before, &self.now);
        if !changed_fields.is_empty() {
            let waited_since_time = before.waiting_since_time.filter(|_| {
                cause.kind == ConversationActivityKind::Message
                    && cause.rule != "deletion"
                    && self.now.waiting_since_time.is_none()
            });
            self.record(
                cause,
                Some(state(&before)),
                changed_fields,
                waited_since_time,
            );
        }
    }

    pub fn record(
        &mut self,
        cause: &Cause<'_>,
        before: Option<ConversationState>,
        changed_fields: Vec<String>,
        waited_since_time: Option<Timestamp>,
    ) {
        self.activities.push(ConversationActivity {
            conversation_id: self.now.id.clone(),
            kind: cause.kind.into(),
            rule: cause.rule.to_owned(),
            changed_fields,
            before,
            after: Some(state(&self.now)),
            message_sequence: cause.sequence,
            actor: Some(cause.actor.clone()),
            caller: "local".to_owned(),
            episode: self.now.episode,
            create_time: Some(NOW),
            waited_since_time,
            ..Default::default()
        });
    }

    fn add(&mut self, direction: MessageDirection, text: &str, actor: &Actor) -> Message {
        let status = match direction {
            MessageDirection::Outbound => MessageStatus::Queued,
            _ => MessageStatus::Unspecified,
        };
        let message = Message {
            id: FRESH.to_owned(),
            conversation_id: self.now.id.clone(),
            sequence: self.now.last_sequence + 1,
            direction: direction.into(),
            r#type: MessageType::Text.into(),
            text: text.to_owned(),
            status: status.into(),
            actor: Some(actor.clone()),
            caller: "local".to_owned(),
            metadata: Some(Struct::default()),
            create_time: Some(NOW),
            update_time: Some(NOW),
            version: 1,
            etag: "\"1\"".to_owned(),
            ..Default::default()
        };
        self.messages.push(message.clone());
        message
    }

    pub fn check_etag(&self, etag: &str) -> Result<(), Refused> {
        if etag.is_empty() || etag == self.now.etag {
            return Ok(());
        }
        Err(STALE)
    }
}

impl Inbox {
    /// A conversation as a user sees it.
    pub fn seen(&self, talk: usize, user: Option<&str>) -> Conversation {
        let talk = &self.talks[talk];
        let person = &self.people[&(talk.place.channel, talk.place.identifier.clone())];
        Conversation {
            contact_id: person.contact_id.clone(),
            contact_name: person.name.clone(),
            unread_count: user.map(|user| talk.unread_by(user)),
            ..talk.now.clone()
        }
    }

    /// The conversation that is at hand for a place.
    pub fn open_at(&self, place: &Place) -> Option<usize> {
        let mut talks = self.talks.iter();
        talks.position(|talk| talk.place == *place && !talk.is_archived())
    }

    /// How many conversations that are not archived a user has.
    pub fn open_count(&self, user: &str) -> i64 {
        self.others_of(user, None)
    }

    /// How many conversations a user has that are not archived, but for one.
    fn others_of(&self, user: &str, except: Option<usize>) -> i64 {
        let open = self.talks.iter().enumerate().filter(|(index, talk)| {
            !talk.is_archived() && talk.now.assignee_id == user && Some(*index) != except
        });
        i64::try_from(open.count()).unwrap()
    }

    fn is_free(&self, user: &str, except: Option<usize>) -> bool {
        self.agents.get(user).is_none_or(|agent| {
            let has_room = |most: i32| self.others_of(user, except) < i64::from(most);
            agent.available && agent.capacity.is_none_or(has_room)
        })
    }

    /// Whom the routing of a channel's account gives a conversation to; one that is routed anew
    /// counts for nobody.
    fn route(&self, channel: i32, except: Option<usize>) -> Option<(String, String, &'static str)> {
        let account = &self.accounts[&channel];
        let free = account.agents.iter().enumerate();
        let free = free.filter(|(_, (user, _))| self.is_free(user, except));
        let (chosen, rule) = match account.routing {
            Routing::RoundRobin => {
                let next = free.min_by_key(|(place, (_, turn))| (*turn, *place));
                (next, "route_round_robin")
            }
            Routing::LeastOpen => {
                let next = free.min_by_key(|(place, (user, turn))| {
                    (self.others_of(user, except), *turn, *place)
                });
                (next, "route_least_open")
            }
            Routing::Fixed => {
                let mut user = account.assignee.clone();
                if !self.is_free(&user, except) {
                    user.clear();
                }
                let team = account.team.clone();
                let any = !user.is_empty() || !team.is_empty();
                return any.then_some((user, team, "route_fixed"));
            }
            Routing::None | Routing::Unspecified => return None,
        };
        let chosen = chosen?.0;
        Some((account.agents[chosen].0.clone(), account.team.clone(), rule))
    }

    /// Whoever was given a conversation in turns comes last from now on.
    fn took(&mut self, channel: i32, user: &str, rule: &str) {
        let account = self.accounts.get_mut(&channel).unwrap();
        if rule != "route_fixed"
            && let Some(agent) = account.agents.iter_mut().find(|agent| agent.0 == user)
        {
            account.turns += 1;
            agent.1 = account.turns;
        }
    }

    fn begin(&mut self, place: &Place, previous: &str, actor: &Actor, rest: Conversation) -> usize {
        let now = Conversation {
            id: FRESH.to_owned(),
            number: -1,
            channel: place.channel,
            channel_account_id: self.accounts[&place.channel].id.clone(),
            contact_identifier: place.identifier.clone(),
            thread_key: place.thread_key.clone(),
            status: ConversationStatus::New.into(),
            create_time: Some(NOW),
            update_time: Some(NOW),
            version: 1,
            etag: FRESH.to_owned(),
            metadata: Some(Struct::default()),
            episode: 1,
            previous_conversation_id: previous.to_owned(),
            ..rest
        };
        let mut talk = Talk {
            place: place.clone(),
            now,
            messages: Vec::new(),
            said: BTreeMap::new(),
            unseen: BTreeSet::new(),
            waited_from: 0,
            marks: BTreeMap::new(),
            activities: Vec::new(),
            etags: Vec::new(),
            is_old: false,
        };
        let mut cause = Cause::wish(ConversationActivityKind::Created, actor);
        if !previous.is_empty() {
            cause.rule = "continued";
        }
        // It is made as it is given.
        if let Some((user, team, rule)) = self.route(place.channel, None) {
            self.took(place.channel, &user, rule);
            talk.now.set_status(ConversationStatus::Open);
            talk.now.assignee_id = user;
            talk.now.team_id = team;
            talk.now.assign_time = Some(NOW);
            cause.rule = rule;
        }
        talk.record(&cause, None, Vec::new(), None);
        self.talks.push(talk);
        self.talks.len() - 1
    }

    fn give(&mut self, talk: usize, user: &str, team: &str, rule: &str, actor: &Actor) {
        let mut cause = Cause::wish(ConversationActivityKind::Assigned, actor);
        cause.rule = rule;
        self.talks[talk].change(&cause, true, |now| {
            let nobody = user.is_empty() && team.is_empty();
            if (now.assignee_id.as_str(), now.team_id.as_str()) != (user, team) {
                user.clone_into(&mut now.assignee_id);
                team.clone_into(&mut now.team_id);
                now.assign_time = (!nobody).then_some(NOW);
            }
            if !nobody && now.status() == ConversationStatus::New {
                now.set_status(ConversationStatus::Open);
            }
        });
    }

    /// `CreateConversation`: which one, whether it is new, and its first message.
    pub fn create(
        &mut self,
        place: &Place,
        name: &str,
        first: &str,
        priority: Priority,
        actor: &Actor,
    ) -> (usize, bool, Option<usize>) {
        let key = (place.channel, place.identifier.clone());
        let person = self.people.entry(key).or_insert_with(|| Person {
            contact_id: FRESH.to_owned(),
            name: String::new(),
        });
        if person.name.is_empty() {
            name.clone_into(&mut person.name);
        }
        let found = self.open_at(place);
        let talk = found.unwrap_or_else(|| {
            let rest = Conversation {
                priority: priority.into(),
                ..Default::default()
            };
            self.begin(place, "", actor, rest)
        });
        let message = (!first.is_empty()).then(|| self.hear(talk, first, actor, ""));
        (talk, found.is_none(), message)
    }

    /// Adds a customer's message to a conversation.
    fn hear(&mut self, talk: usize, text: &str, actor: &Actor, rule: &str) -> usize {
        let talk = &mut self.talks[talk];
        let message = talk.add(MessageDirection::Inbound, text, actor);
        let cause = Cause {
            kind: ConversationActivityKind::Message,
            rule: if rule.is_empty() { "message" } else { rule },
            sequence: message.sequence,
            actor,
        };
        if talk.now.waiting_since_time.is_none() {
            talk.waited_from = message.sequence;
        }
        talk.change(&cause, false, |now| {
            now.last_sequence += 1;
            now.last_message_time = Some(STORED);
            now.unread = true;
            now.snooze_until_time = None;
            now.waiting_since_time.get_or_insert(STORED);
            match now.status() {
                ConversationStatus::Archived => {
                    now.set_status(ConversationStatus::Open);
                    now.archive_time = None;
                    now.episode += 1;
                }
                ConversationStatus::Replied => now.set_status(ConversationStatus::Open),
                _ => {}
            }
        });
        talk.messages.len() - 1
    }

    /// `CreateMessage` of a customer: the conversation that it went to, and the message.
    pub fn receive(&mut self, talk: usize, text: &str, actor: &Actor) -> (usize, usize) {
        let place = self.talks[talk].place.clone();
        if !self.talks[talk].is_archived() {
            return (talk, self.hear(talk, text, actor, ""));
        }
        let end = self.merged_into(talk);
        if end != talk {
            return self.receive_instead(end, text, actor);
        }
        if let Some(open) = self.open_at(&place) {
            return (open, self.hear(open, text, actor, ""));
        }
        let reopens = match self.accounts[&place.channel].reopen {
            ReopenPolicy::Never => false,
            ReopenPolicy::Within => !self.talks[talk].is_old,
            ReopenPolicy::Always | ReopenPolicy::Unspecified => true,
        };
        if reopens {
            return (talk, self.hear(talk, text, actor, "reopen"));
        }
        self.continue_anew(talk, text, actor)
    }

    /// Adds a customer's message to the conversation that theirs was merged into, or to the one that
    /// has taken its place.
    fn receive_instead(&mut self, end: usize, text: &str, actor: &Actor) -> (usize, usize) {
        let open = match self.talks[end].is_archived() {
            false => Some(end),
            true => self.open_at(&self.talks[end].place),
        };
        match open {
            Some(open) => (open, self.hear(open, text, actor, "")),
            None => self.continue_anew(end, text, actor),
        }
    }

    fn continue_anew(&mut self, talk: usize, text: &str, actor: &Actor) -> (usize, usize) {
        let place = self.talks[talk].place.clone();
        let previous = self.talks[talk].now.id.clone();
        let rest = Conversation {
            priority: Priority::Normal.into(),
            ..Default::default()
        };
        let next = self.begin(&place, &previous, actor, rest);
        (next, self.hear(next, text, actor, ""))
    }

    /// `CreateMessage` of an agent, a bot or a service.
    pub fn reply(&mut self, talk: usize, text: &str, actor: &Actor) -> Result<usize, Refused> {
        let talk = &mut self.talks[talk];
        if talk.is_archived() {
            return Err(ARCHIVED);
        }
        let message = talk.add(MessageDirection::Outbound, text, actor);
        let cause = Cause {
            kind: ConversationActivityKind::Message,
            rule: "message",
            sequence: message.sequence,
            actor,
        };
        talk.change(&cause, false, |now| {
            now.last_sequence += 1;
            now.last_message_time = Some(STORED);
            if matches!(actor.kind, Some(Kind::UserId(_))) {
                now.waiting_since_time = None;
            }
            if let ConversationStatus::New | ConversationStatus::Open = now.status() {
                now.set_status(ConversationStatus::Replied);
            }
        });
        Ok(talk.messages.len() - 1)
    }

    /// `CreateMessage` of a note.
    pub fn note(&mut self, talk: usize, text: &str, actor: &Actor) -> usize {
        let talk = &mut self.talks[talk];
        talk.add(MessageDirection::Internal, text, actor);
        let cause = Cause::wish(ConversationActivityKind::Message, actor);
        talk.change(&cause, false, |now| {
            now.last_sequence += 1;
            now.last_message_time = Some(STORED);
        });
        talk.messages.len() - 1
    }

    /// `AssignConversation`.
    pub fn assign(
        &mut self,
        talk: usize,
        etag: &str,
        user: &str,
        team: &str,
        actor: &Actor,
    ) -> Result<(), Refused> {
        self.talks[talk].check_etag(etag)?;
        if self.talks[talk].is_archived() {
            return Err(ARCHIVED);
        }
        self.give(talk, user, team, "", actor);
        Ok(())
    }

    /// `AutoAssignConversation`: whether it gave the conversation to somebody.
    pub fn auto_assign(
        &mut self,
        talk: usize,
        etag: &str,
        reassign: bool,
        actor: &Actor,
    ) -> Result<bool, Refused> {
        self.talks[talk].check_etag(etag)?;
        if self.talks[talk].is_archived() {
            return Err(ARCHIVED);
        }
        if !reassign && !self.talks[talk].now.assignee_id.is_empty() {
            return Ok(false);
        }
        let channel = self.talks[talk].place.channel;
        let Some((user, team, rule)) = self.route(channel, Some(talk)) else {
            return Ok(false);
        };
        let before = self.talks[talk].now.clone();
        // Whoever has it keeps it, unless somebody else is there to have it.
        if user.is_empty() && !before.assignee_id.is_empty() {
            return Ok(false);
        }
        if user != before.assignee_id {
            self.took(channel, &user, rule);
        }
        let team = if team.is_empty() {
            before.team_id
        } else {
            team
        };
        self.give(talk, &user, &team, rule, actor);
        Ok(self.talks[talk].now.version != before.version)
    }

    /// `QualifyConversation`.
    pub fn qualify(
        &mut self,
        talk: usize,
        etag: &str,
        score: Option<i32>,
        notes: &str,
        actor: &Actor,
    ) -> Result<(), Refused> {
        let talk = &mut self.talks[talk];
        talk.check_etag(etag)?;
        let cause = Cause::wish(ConversationActivityKind::Qualified, actor);
        talk.change(&cause, true, |now| {
            let lead = now.qualification.get_or_insert_with(|| Qualification {
                qualify_time: Some(NOW),
                actor: Some(actor.clone()),
                ..Default::default()
            });
            lead.score = score;
            notes.clone_into(&mut lead.notes);
            if now.status() != ConversationStatus::Archived {
                now.set_status(ConversationStatus::Qualified);
            }
        });
        Ok(())
    }

    /// `DisqualifyConversation`.
    pub fn disqualify(&mut self, talk: usize, etag: &str, actor: &Actor) -> Result<(), Refused> {
        let talk = &mut self.talks[talk];
        talk.check_etag(etag)?;
        let cause = Cause::wish(ConversationActivityKind::Disqualified, actor);
        talk.change(&cause, true, |now| {
            if now.qualification.take().is_some() && now.status() == ConversationStatus::Qualified {
                now.set_status(ConversationStatus::Open);
            }
        });
        Ok(())
    }

    /// `ArchiveConversation`.
    pub fn archive(&mut self, talk: usize, etag: &str, actor: &Actor) -> Result<(), Refused> {
        let talk = &mut self.talks[talk];
        talk.check_etag(etag)?;
        if talk.is_archived() {
            return Ok(());
        }
        talk.is_old = false;
        let cause = Cause::wish(ConversationActivityKind::Archived, actor);
        talk.change(&cause, true, |now| {
            now.set_status(ConversationStatus::Archived);
            now.archive_time = Some(NOW);
            now.waiting_since_time = None;
            now.snooze_until_time = None;
        });
        Ok(())
    }

    /// `ReopenConversation`.
    pub fn reopen(&mut self, talk: usize, etag: &str, actor: &Actor) -> Result<(), Refused> {
        self.talks[talk].check_etag(etag)?;
        if !self.talks[talk].is_archived() {
            return Ok(());
        }
        if !self.talks[talk].now.merged_into_id.is_empty() {
            return Err(MERGED);
        }
        if self.open_at(&self.talks[talk].place).is_some() {
            return Err(REPLACED);
        }
        let cause = Cause::wish(ConversationActivityKind::Reopened, actor);
        self.talks[talk].change(&cause, true, |now| {
            now.set_status(ConversationStatus::Open);
            now.archive_time = None;
            now.episode += 1;
        });
        Ok(())
    }

    /// `UpdateConversation`.
    pub fn update(
        &mut self,
        talk: usize,
        etag: &str,
        edit: &Edit,
        actor: &Actor,
    ) -> Result<(), Refused> {
        let talk = &mut self.talks[talk];
        talk.check_etag(etag)?;
        // There is nothing to clear in one that is archived.
        if talk.is_archived() && (edit.status.is_some() || edit.snooze.flatten().is_some()) {
            return Err(ARCHIVED);
        }
        let cause = Cause::wish(ConversationActivityKind::Updated, actor);
        talk.change(&cause, true, |now| {
            if let Some(status) = edit.status {
                now.set_status(status);
            }
            if let Some(priority) = edit.priority {
                now.set_priority(priority);
            }
            if let Some(subject) = &edit.subject {
                now.subject.clone_from(subject);
            }
            if let Some(labels) = &edit.labels {
                now.labels.clone_from(labels);
            }
            if let Some(snooze) = edit.snooze {
                now.snooze_until_time = snooze;
            }
        });
        Ok(())
    }

    /// `MarkConversationRead`.
    pub fn read(&mut self, talk: usize, user: &str, sequence: i64) {
        let talk = &mut self.talks[talk];
        let last = talk.now.last_sequence;
        let sequence = match sequence {
            0 => last,
            _ => sequence.min(last),
        };
        let mark = talk.marks.entry(user.to_owned()).or_default();
        if sequence <= *mark && talk.now.status() != ConversationStatus::New {
            return;
        }
        *mark = sequence.max(*mark);
        let furthest = talk.marks.values().copied().max().unwrap_or(0);
        let unread = talk.last_inbound() > furthest;
        let actor = Actor {
            kind: Some(Kind::UserId(user.to_owned())),
        };
        let cause = Cause::wish(ConversationActivityKind::Read, &actor);
        // Each mark is a change, also one that leaves everything else as it was.
        talk.change(&cause, false, |now| {
            now.version += 1;
            now.unread = unread;
            if now.status() == ConversationStatus::New {
                now.set_status(ConversationStatus::Open);
            }
        });
    }

    /// `EditMessage`.
    pub fn edit(
        &mut self,
        talk: usize,
        message: usize,
        etag: &str,
        text: &str,
        actor: &Actor,
    ) -> Result<(), Refused> {
        let talk = &mut self.talks[talk];
        let it = &mut talk.messages[message];
        if it.delete_time.is_some() {
            return Err(MISSING);
        }
        if !etag.is_empty() && etag != it.etag {
            return Err(STALE);
        }
        match it.direction() {
            MessageDirection::Inbound => return Err(INBOUND),
            MessageDirection::Outbound if !is_unsent(it) => return Err(SENT),
            _ => {}
        }
        talk.unseen.insert(message);
        let said = talk.said.entry(message).or_default();
        said.push(revision(it, MessageRevisionKind::Edit, actor));
        text.clone_into(&mut it.text);
        it.edit_count += 1;
        it.etag = format!("\"{}\"", it.edit_count + 1);
        it.version += 1;
        (it.update_time, it.edit_time) = (Some(NOW), Some(NOW));
        Ok(())
    }

    /// `DeleteMessage`.
    pub fn delete(
        &mut self,
        talk: usize,
        message: usize,
        etag: &str,
        redact: bool,
        actor: &Actor,
    ) -> Result<(), Refused> {
        let talk = &mut self.talks[talk];
        let it = &mut talk.messages[message];
        if !etag.is_empty() && etag != it.etag {
            return Err(STALE);
        }
        let is_there = it.delete_time.is_none();
        let outbound = it.direction() == MessageDirection::Outbound;
        if is_there && !redact && outbound && !is_unsent(it) {
            return Err(SENT);
        }
        talk.unseen.insert(message);
        let said = talk.said.entry(message).or_default();
        if is_there {
            said.push(revision(it, MessageRevisionKind::Deletion, actor));
            it.text.clear();
            if let Some(failure) = &mut it.failure {
                failure.message.clear();
            }
            it.version += 1;
            (it.update_time, it.delete_time) = (Some(NOW), Some(NOW));
        }
        if redact {
            for revision in said {
                revision.text.clear();
                revision.redact_time = Some(NOW);
            }
        }
        if !is_there || it.direction() != MessageDirection::Inbound {
            return Ok(());
        }
        let sequence = it.sequence;
        let last = talk.last_inbound();
        let waits = talk.now.waiting_since_time.is_some() && last >= talk.waited_from;
        let is_last = sequence > last;
        let furthest = talk.marks.values().copied().max().unwrap_or(0);
        let cause = Cause {
            kind: ConversationActivityKind::Message,
            rule: "deletion",
            sequence,
            actor,
        };
        talk.change(&cause, false, |now| {
            if is_last {
                now.version += 1;
                now.unread = last > furthest;
            }
            if !waits {
                now.waiting_since_time = None;
            }
        });
        Ok(())
    }

    /// `UpdateMessageStatus`.
    pub fn receipt(
        &mut self,
        talk: usize,
        message: usize,
        status: MessageStatus,
        failure: Option<&MessageFailure>,
    ) -> Result<(), Refused> {
        let message = &mut self.talks[talk].messages[message];
        if message.direction() != MessageDirection::Outbound {
            return Err(NOT_OUTBOUND);
        }
        // Where each state leads, in the order QUEUED, SENT, DELIVERED, READ, FAILED.
        use MessageStatus::{Delivered, Failed, Queued, Read, Sent};
        let later: &[MessageStatus] = match message.status() {
            Queued => &[Sent, Delivered, Read, Failed],
            Sent => &[Delivered, Read, Failed],
            Delivered => &[Read],
            Failed => &[Delivered, Read],
            _ => &[],
        };
        if !later.contains(&status) {
            return Ok(());
        }
        message.set_status(status);
        message.version += 1;
        message.update_time = Some(NOW);
        message.failure = failure.cloned();
        match status {
            Sent => message.sent_time = Some(NOW),
            Delivered => message.delivered_time = Some(NOW),
            Read => message.read_time = Some(NOW),
            _ => message.fail_time = Some(NOW),
        }
        Ok(())
    }

    fn introduce(&mut self, user: &str) -> &mut Agent {
        let agent = self.agents.entry(user.to_owned());
        agent.or_insert(Agent {
            available: true,
            capacity: None,
            version: 1,
        })
    }

    /// `UpdateAgent`, with what is said; each call counts as a change.
    pub fn set_agent(&mut self, user: &str, available: Option<bool>, capacity: Option<i32>) {
        let agent = self.introduce(user);
        agent.available = available.unwrap_or(agent.available);
        agent.capacity = capacity.or(agent.capacity);
        agent.version += 1;
    }

    /// `UpdateAccountPolicy` of the routing.
    pub fn set_routing(
        &mut self,
        channel: i32,
        routing: Routing,
        assignee: &str,
        team: &str,
        agents: &[String],
    ) {
        for user in agents {
            self.introduce(user);
        }
        let account = self.accounts.get_mut(&channel).unwrap();
        account.routing = routing;
        assignee.clone_into(&mut account.assignee);
        team.clone_into(&mut account.team);
        // Who comes stands with who has waited longest of those who stay.
        account.agents.retain(|(user, _)| agents.contains(user));
        let longest = account.agents.iter().map(|(_, turn)| *turn).min();
        let turn = |user: &String| {
            let before = account.agents.iter().find(|(known, _)| known == user);
            before.map_or(longest.unwrap_or(0), |(_, turn)| *turn)
        };
        account.agents = agents
            .iter()
            .map(|user| (user.clone(), turn(user)))
            .collect();
    }

    /// The conversations that a condition holds for, ordered.
    pub fn listed<K: Ord>(
        &self,
        holds: impl Fn(&Conversation) -> bool,
        order: impl Fn(&Conversation) -> K,
    ) -> Vec<i64> {
        let talks = self.talks.iter().map(|talk| &talk.now);
        let mut found: Vec<_> = talks.filter(|talk| holds(talk)).collect();
        found.sort_by_key(|talk| order(talk));
        found.iter().map(|talk| talk.number).collect()
    }
}

/// The channels of the model: one without threads, one with.
pub const CHANNELS: [Channel; 2] = [Channel::Whatsapp, Channel::Email];
