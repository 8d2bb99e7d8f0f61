//! Conversations on the wire.

use crate::access::Actor;
use crate::channel::Channel;
use crate::error::Error;
use crate::etag::etag;
use crate::field::{Fields, Mask, Most, to_struct};
use crate::ids::{ChannelAccountId, ContactId, ConversationId, ConversationMergeId};
use crate::inbox::activity::{Activity, After, Before};
use crate::inbox::change::{Alteration, Assignment, ChangeKind, Lead, MOST_LABELS, Target};
use crate::inbox::contact_words;
use crate::inbox::conversation::{Conversation, Priority, Seen, Status};
use crate::inbox::conversation_search::TextFilter;
use crate::inbox::listing::{ConversationFilter, Order};
use crate::inbox::merge::{Merge, NewMerge};
use crate::inbox::opening::NewConversation;
use crate::page::PageSize;
use crate::pb;
use crate::request_id::RequestId;
use crate::search::Query;
use crate::time::to_timestamp;

use super::{IDENTIFIER, NAME, TEXT};

/// The longest text to find, and the most words of it.
const FOUND: Most = Most::Characters(256);
const MAX_WORDS: usize = 8;

const SUBJECT: Most = Most::Characters(998);
const NOTES: Most = Most::Characters(4000);
pub(super) const LABEL: Most = Most::Characters(64);
const MAX_LABELS: usize = MOST_LABELS as usize;
const MAX_LABELS_OF_FILTER: usize = 20;

impl TryFrom<pb::CreateConversationRequest> for NewConversation {
    type Error = Error;

    fn try_from(mut request: pb::CreateConversationRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let channel = fields
            .choice::<pb::Channel>("channel", request.channel)
            .and_then(Channel::from_wire);
        let account = &request.channel_account_id;
        let channel_account_id = fields.id("channel_account_id", account, ChannelAccountId);
        if request.channel == 0 && channel_account_id.is_none() {
            fields.refuse("channel", "is required");
        }
        let priority = fields.choice::<pb::Priority>("priority", request.priority);
        let new = Self {
            request_id,
            channel,
            channel_account_id,
            contact_identifier: fields.required_text(
                "contact_identifier",
                request.contact_identifier,
                IDENTIFIER,
            ),
            contact_name: fields.text("contact_name", request.contact_name, NAME),
            first_message: fields.text("first_message", request.first_message, TEXT),
            subject: fields.text("subject", request.subject, SUBJECT),
            priority: priority
                .and_then(self::priority)
                .unwrap_or(Priority::Normal),
            metadata: fields.metadata("metadata", request.metadata),
            thread_key: fields.text("thread_key", request.thread_key, IDENTIFIER),
        };
        fields.finish()?;
        Ok(new)
    }
}

/// What `ListConversations` asks for.
pub struct ConversationsPage {
    /// Which.
    pub filter: ConversationFilter,
    /// In which order.
    pub order: Order,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::ListConversationsRequest> for ConversationsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListConversationsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        // All that is left of the request says which list it is.
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let order = match request.order_by.as_str() {
            "" | "last_message_time desc" => Order::LastMessage,
            "create_time desc" => Order::NewestFirst,
            "create_time" => Order::OldestFirst,
            "priority desc" => Order::Priority,
            "waiting_since_time" => Order::WaitingLongest,
            _ => {
                fields.refuse(
                    "order_by",
                    "must be `last_message_time desc`, `create_time desc`, `create_time`, \
                     `priority desc` or `waiting_since_time`",
                );
                Order::LastMessage
            }
        };
        let filter = pb::ConversationFilter {
            statuses: request.statuses,
            channels: request.channels,
            channel_account_id: request.channel_account_id,
            contact_id: request.contact_id,
            updated_since_time: request.updated_since_time,
            assignee_id: request.assignee_id,
            team_id: request.team_id,
            unassigned: request.unassigned,
            labels: request.labels,
            priorities: request.priorities,
            qualified: request.qualified,
            snoozed: request.snoozed,
            unread: request.unread,
        };
        let mut filter = self::filter(&mut fields, filter);
        filter.text = text(&mut fields, request.text);
        fields.finish()?;
        Ok(Self {
            filter,
            order,
            size,
            token,
            binding,
        })
    }
}

/// Reads what is to be found.
fn text(fields: &mut Fields, given: String) -> Option<TextFilter> {
    let text = fields.text("text", given, FOUND);
    if text.is_empty() {
        return None;
    }
    let words: Vec<String> = contact_words::of(&text).into_iter().collect();
    if words.len() > MAX_WORDS {
        fields.refuse("text", format!("must have at most {MAX_WORDS} words"));
    }
    let query = Query::parse(&text).map_err(|problem| fields.refuse("text", problem));
    let query = query.ok()?;
    Some(TextFilter { query, words })
}

/// Reads which conversations are meant.
pub(super) fn filter(fields: &mut Fields, given: pb::ConversationFilter) -> ConversationFilter {
    let account = &given.channel_account_id;
    let statuses = fields.choices("statuses", &given.statuses, status);
    ConversationFilter {
        statuses: statuses.unwrap_or_else(|| {
            vec![
                Status::New,
                Status::Open,
                Status::Replied,
                Status::Qualified,
            ]
        }),
        channels: fields.choices("channels", &given.channels, Channel::from_wire),
        channel_account_id: fields.id("channel_account_id", account, ChannelAccountId),
        contact_id: fields.id("contact_id", &given.contact_id, ContactId),
        assignee_id: fields.name_of_somebody("assignee_id", given.assignee_id),
        team_id: fields.name_of_somebody("team_id", given.team_id),
        unassigned: given.unassigned,
        labels: labels(fields, "labels", given.labels, MAX_LABELS_OF_FILTER),
        priorities: fields.choices("priorities", &given.priorities, priority),
        qualified: given.qualified,
        snoozed: given.snoozed,
        unread: given.unread,
        text: None,
        updated_since: fields.time("updated_since_time", given.updated_since_time.as_ref()),
    }
}

impl TryFrom<pb::UpdateConversationRequest> for (Target, Alteration) {
    type Error = Error;

    fn try_from(request: pb::UpdateConversationRequest) -> Result<Self, Error> {
        const FIELDS: [&str; 8] = [
            "subject",
            "priority",
            "status",
            "metadata",
            "labels",
            "add_labels",
            "remove_labels",
            "snooze_until_time",
        ];
        let mut fields = Fields::default();
        let id = fields.required_id("conversation_id", &request.conversation_id, ConversationId);
        let mask = Mask::read(&mut fields, request.update_mask, &FIELDS);
        let mut change = Alteration::new(ChangeKind::Updated);
        if mask.touches("subject", request.subject.is_some()) {
            let subject = request.subject.unwrap_or_default();
            change.subject = Some(fields.text("subject", subject, SUBJECT));
        }
        let edit = Edit {
            status: request.status,
            priority: request.priority,
            labels: request.labels,
            add_labels: request.add_labels,
            remove_labels: request.remove_labels,
            snooze_until_time: request.snooze_until_time,
        };
        edit.read(&mut fields, &mask, &mut change);
        if mask.touches("metadata", request.metadata.is_some()) {
            change.metadata = Some(fields.metadata("metadata", request.metadata));
        }
        let etag = fields.etag(request.etag);
        fields.finish()?;
        Ok((Target { id, etag }, change))
    }
}

/// What one and many conversations can be edited in.
pub(super) struct Edit {
    pub(super) status: Option<i32>,
    pub(super) priority: Option<i32>,
    pub(super) labels: Vec<String>,
    pub(super) add_labels: Vec<String>,
    pub(super) remove_labels: Vec<String>,
    pub(super) snooze_until_time: Option<prost_types::Timestamp>,
}

impl Edit {
    /// Reads the fields that a mask touches into a change.
    pub(super) fn read(self, fields: &mut Fields, mask: &Mask, change: &mut Alteration) {
        if mask.touches("priority", self.priority.is_some()) {
            let number = self.priority.unwrap_or_default();
            let priority = fields.choice::<pb::Priority>("priority", number);
            change.priority = Some(
                priority
                    .and_then(self::priority)
                    .unwrap_or(Priority::Normal),
            );
        }
        // With `*` too, a status that nobody named stays as it is: it cannot be cleared.
        if self.status.is_some() && mask.touches("status", true) || mask.names("status") {
            let number = self.status.unwrap_or_default();
            let status = fields
                .choice::<pb::ConversationStatus>("status", number)
                .and_then(status);
            match status {
                Some(Status::New | Status::Open | Status::Replied) => change.status = status,
                Some(Status::Qualified | Status::Archived) => {
                    fields.refuse(
                        "status",
                        "must be NEW, OPEN or REPLIED: the others have calls of their own",
                    );
                }
                None if number == 0 => fields.refuse("status", "cannot be cleared"),
                None => {}
            }
        }
        if mask.touches("labels", !self.labels.is_empty()) {
            change.labels = Some(labels(fields, "labels", self.labels, MAX_LABELS));
        }
        if mask.touches("add_labels", !self.add_labels.is_empty()) {
            change.add_labels = labels(fields, "add_labels", self.add_labels, MAX_LABELS);
        }
        if mask.touches("remove_labels", !self.remove_labels.is_empty()) {
            let removed = labels(fields, "remove_labels", self.remove_labels, MAX_LABELS);
            for (index, label) in removed.iter().enumerate() {
                if change.add_labels.contains(label) {
                    fields.refuse(format!("remove_labels[{index}]"), "is in `add_labels` too");
                }
            }
            change.remove_labels = removed;
        }
        let snooze = self.snooze_until_time.as_ref();
        if mask.touches("snooze_until_time", snooze.is_some()) {
            change.snooze = Some(fields.time("snooze_until_time", snooze));
        }
    }
}

impl TryFrom<pb::AssignConversationRequest> for (Target, Alteration) {
    type Error = Error;

    fn try_from(request: pb::AssignConversationRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = fields.required_id("conversation_id", &request.conversation_id, ConversationId);
        let assignment = Assignment {
            assignee_id: fields.name_of_somebody("assignee_id", request.assignee_id),
            team_id: fields.name_of_somebody("team_id", request.team_id),
        };
        let change = Alteration {
            assignment: Some(assignment),
            ..Alteration::new(ChangeKind::Assigned)
        };
        let etag = fields.etag(request.etag);
        fields.finish()?;
        Ok((Target { id, etag }, change))
    }
}

impl TryFrom<pb::QualifyConversationRequest> for (Target, Alteration) {
    type Error = Error;

    fn try_from(request: pb::QualifyConversationRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = fields.required_id("conversation_id", &request.conversation_id, ConversationId);
        if request
            .score
            .is_some_and(|score| !(0..=100).contains(&score))
        {
            fields.refuse("score", "must be 0 to 100");
        }
        let lead = Lead {
            score: request.score,
            notes: fields.text("notes", request.notes, NOTES),
        };
        let change = Alteration {
            lead: Some(lead),
            ..Alteration::new(ChangeKind::Qualified)
        };
        let etag = fields.etag(request.etag);
        fields.finish()?;
        Ok((Target { id, etag }, change))
    }
}

/// Requests that name a conversation and nothing else to change.
macro_rules! plain_alterations {
    ($($request:ident => $kind:ident),* $(,)?) => {$(
        impl TryFrom<pb::$request> for (Target, Alteration) {
            type Error = Error;

            fn try_from(request: pb::$request) -> Result<Self, Error> {
                let mut fields = Fields::default();
                let id =
                    fields.required_id("conversation_id", &request.conversation_id, ConversationId);
                let etag = fields.etag(request.etag);
                fields.finish()?;
                Ok((Target { id, etag }, Alteration::new(ChangeKind::$kind)))
            }
        }
    )*};
}

plain_alterations! {
    DisqualifyConversationRequest => Disqualified,
    ArchiveConversationRequest => Archived,
    ReopenConversationRequest => Reopened,
}

/// Reads labels, each once.
fn labels(fields: &mut Fields, field: &str, given: Vec<String>, most: usize) -> Vec<String> {
    if given.len() > most {
        fields.refuse(field, format!("must have at most {most} values"));
        return Vec::new();
    }
    let mut labels = Vec::new();
    for (index, label) in given.into_iter().enumerate() {
        let label = fields.required_text(&format!("{field}[{index}]"), label, LABEL);
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// What `MarkConversationRead` asks for.
pub struct ReadMark {
    /// Of which conversation.
    pub conversation_id: ConversationId,
    /// Up to which message.
    pub sequence: i64,
}

impl TryFrom<pb::MarkConversationReadRequest> for ReadMark {
    type Error = Error;

    fn try_from(request: pb::MarkConversationReadRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let conversation = &request.conversation_id;
        let mark = Self {
            conversation_id: fields.required_id("conversation_id", conversation, ConversationId),
            sequence: match request.sequence {
                0 => i64::MAX,
                sequence => sequence,
            },
        };
        if request.sequence < 0 {
            fields.refuse("sequence", "must not be negative");
        }
        fields.finish()?;
        Ok(mark)
    }
}

impl TryFrom<pb::MergeConversationsRequest> for NewMerge {
    type Error = Error;

    fn try_from(mut request: pb::MergeConversationsRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let (source, target) = (
            &request.source_conversation_id,
            &request.target_conversation_id,
        );
        let new = Self {
            request_id,
            source: fields.required_id("source_conversation_id", source, ConversationId),
            target: fields.required_id("target_conversation_id", target, ConversationId),
            etag: fields.etag(request.etag),
        };
        if !source.is_empty() && source == target {
            fields.refuse("target_conversation_id", "must be another conversation");
        }
        fields.finish()?;
        Ok(new)
    }
}

/// Reads the merge of `UndoConversationMerge`.
pub fn conversation_merge_id(
    request: &pb::UndoConversationMergeRequest,
) -> Result<ConversationMergeId, Error> {
    let mut fields = Fields::default();
    let merge = &request.conversation_merge_id;
    let id = fields.required_id("conversation_merge_id", merge, ConversationMergeId);
    fields.finish()?;
    Ok(id)
}

impl From<Merge> for pb::ConversationMerge {
    fn from(merge: Merge) -> Self {
        Self {
            id: merge.id.into(),
            source_conversation_id: merge.source_conversation_id.into(),
            target_conversation_id: merge.target_conversation_id.into(),
            actor: Actor::of_kind(&merge.actor_kind, merge.actor_id).map(Into::into),
            create_time: Some(to_timestamp(merge.created_at)),
            undo_time: merge.undone_at.map(to_timestamp),
        }
    }
}

/// What a list asks for that belongs to one conversation.
pub struct PageOfConversation {
    /// Of which conversation.
    pub conversation_id: ConversationId,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
}

macro_rules! pages_of_conversation {
    ($($request:ident),* $(,)?) => {$(
        impl TryFrom<pb::$request> for PageOfConversation {
            type Error = Error;

            fn try_from(request: pb::$request) -> Result<Self, Error> {
                let size = PageSize::new(request.page_size)?;
                let mut fields = Fields::default();
                let id =
                    fields.required_id("conversation_id", &request.conversation_id, ConversationId);
                fields.finish()?;
                Ok(Self {
                    conversation_id: id,
                    size,
                    token: request.page_token,
                })
            }
        }
    )*};
}

pages_of_conversation! {
    ListConversationActivitiesRequest,
    ListConversationMergesRequest,
}

/// Reads the id of `GetConversation`.
pub fn conversation_id(request: &pb::GetConversationRequest) -> Result<ConversationId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("conversation_id", &request.conversation_id, ConversationId);
    fields.finish()?;
    Ok(id)
}

fn status(status: pb::ConversationStatus) -> Option<Status> {
    Some(match status {
        pb::ConversationStatus::Unspecified => return None,
        pb::ConversationStatus::New => Status::New,
        pb::ConversationStatus::Open => Status::Open,
        pb::ConversationStatus::Replied => Status::Replied,
        pb::ConversationStatus::Qualified => Status::Qualified,
        pb::ConversationStatus::Archived => Status::Archived,
    })
}

fn priority(priority: pb::Priority) -> Option<Priority> {
    Some(match priority {
        pb::Priority::Unspecified => return None,
        pb::Priority::Low => Priority::Low,
        pb::Priority::Normal => Priority::Normal,
        pb::Priority::High => Priority::High,
        pb::Priority::Urgent => Priority::Urgent,
    })
}
impl From<Status> for pb::ConversationStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::New => Self::New,
            Status::Open => Self::Open,
            Status::Replied => Self::Replied,
            Status::Qualified => Self::Qualified,
            Status::Archived => Self::Archived,
        }
    }
}

impl From<Priority> for pb::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
            Priority::Urgent => Self::Urgent,
        }
    }
}

impl From<Seen> for pb::Conversation {
    fn from((conversation, unread_count): Seen) -> Self {
        Self {
            unread_count,
            ..conversation.into()
        }
    }
}

impl From<Conversation> for pb::Conversation {
    fn from(conversation: Conversation) -> Self {
        let qualification = conversation.qualified_at.map(|at| pb::Qualification {
            qualify_time: Some(to_timestamp(at)),
            actor: conversation
                .qualified_by_kind
                .as_deref()
                .zip(conversation.qualified_by_id.clone())
                .and_then(|(kind, id)| Actor::of_kind(kind, id))
                .map(Into::into),
            score: conversation.lead_score,
            notes: conversation.lead_notes.clone().unwrap_or_default(),
        });
        let unread = conversation.is_unread();
        let has_messages = conversation.last_sequence > 0;
        Self {
            id: conversation.id.into(),
            number: conversation.number,
            channel: pb::Channel::from(conversation.channel).into(),
            channel_account_id: conversation.channel_account_id.into(),
            contact_id: conversation.contact_id.into(),
            contact_identifier: conversation.contact_identifier,
            contact_name: conversation.contact_name,
            status: pb::ConversationStatus::from(conversation.status).into(),
            priority: pb::Priority::from(conversation.priority).into(),
            subject: conversation.subject,
            metadata: Some(to_struct(conversation.metadata)),
            last_sequence: conversation.last_sequence,
            last_message_time: has_messages.then(|| to_timestamp(conversation.last_message_at)),
            create_time: Some(to_timestamp(conversation.created_at)),
            update_time: Some(to_timestamp(conversation.updated_at)),
            archive_time: conversation.archived_at.map(to_timestamp),
            version: conversation.version,
            etag: etag(conversation.edit_version),
            thread_key: conversation.thread_key,
            assignee_id: conversation.assignee_id.unwrap_or_default(),
            team_id: conversation.team_id.unwrap_or_default(),
            assign_time: conversation.assigned_at.map(to_timestamp),
            qualification,
            labels: conversation.labels.into_iter().flatten().collect(),
            snooze_until_time: conversation.snoozed_until.map(to_timestamp),
            waiting_since_time: conversation.waiting_since.map(to_timestamp),
            unread,
            unread_count: None,
            previous_conversation_id: conversation
                .previous_conversation_id
                .map(Into::into)
                .unwrap_or_default(),
            merged_into_id: conversation
                .merged_into_id
                .map(Into::into)
                .unwrap_or_default(),
            episode: conversation.episode,
        }
    }
}

impl From<Activity> for pb::ConversationActivity {
    fn from(activity: Activity) -> Self {
        let kind = match activity.kind {
            ChangeKind::Created => pb::ConversationActivityKind::Created,
            ChangeKind::Message => pb::ConversationActivityKind::Message,
            ChangeKind::Updated => pb::ConversationActivityKind::Updated,
            ChangeKind::Assigned => pb::ConversationActivityKind::Assigned,
            ChangeKind::Qualified => pb::ConversationActivityKind::Qualified,
            ChangeKind::Disqualified => pb::ConversationActivityKind::Disqualified,
            ChangeKind::Archived => pb::ConversationActivityKind::Archived,
            ChangeKind::Reopened => pb::ConversationActivityKind::Reopened,
            ChangeKind::Read => pb::ConversationActivityKind::Read,
            ChangeKind::Woken => pb::ConversationActivityKind::Woken,
            ChangeKind::Merged => pb::ConversationActivityKind::Merged,
            ChangeKind::Unmerged => pb::ConversationActivityKind::Unmerged,
            // Whose timeline nobody can read any more.
            ChangeKind::Erased => pb::ConversationActivityKind::Unspecified,
        };
        Self {
            id: activity.id,
            conversation_id: activity.conversation_id.into(),
            kind: kind.into(),
            rule: activity.rule,
            changed_fields: activity.changed.into_iter().flatten().collect(),
            before: before(activity.before),
            after: Some(activity.after.into()),
            message_sequence: activity.sequence.unwrap_or_default(),
            actor: Actor::of_kind(&activity.actor_kind, activity.actor_id).map(Into::into),
            caller: activity.caller,
            correlation_id: activity.correlation_id,
            create_time: Some(to_timestamp(activity.at)),
            episode: activity.episode,
            waited_since_time: activity.waited_since.map(to_timestamp),
        }
    }
}

/// The state before a change; `None` for a conversation that was made.
fn before(before: Before) -> Option<pb::ConversationState> {
    let (status, priority) = before.old_status.zip(before.old_priority)?;
    Some(pb::ConversationState {
        status: pb::ConversationStatus::from(status).into(),
        priority: pb::Priority::from(priority).into(),
        assignee_id: before.old_assignee_id.unwrap_or_default(),
        team_id: before.old_team_id.unwrap_or_default(),
        labels: before.old_labels.into_iter().flatten().flatten().collect(),
        snooze_until_time: before.old_snoozed_until.map(to_timestamp),
        qualified: before.was_qualified,
        unread: before.was_unread,
        waiting: before.was_waiting,
    })
}

impl From<After> for pb::ConversationState {
    fn from(after: After) -> Self {
        Self {
            status: pb::ConversationStatus::from(after.status).into(),
            priority: pb::Priority::from(after.priority).into(),
            assignee_id: after.assignee_id.unwrap_or_default(),
            team_id: after.team_id.unwrap_or_default(),
            labels: after.labels.into_iter().flatten().collect(),
            snooze_until_time: after.snoozed_until.map(to_timestamp),
            qualified: after.is_qualified,
            unread: after.is_unread,
            waiting: after.is_waiting,
        }
    }
}
