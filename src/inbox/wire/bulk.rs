//! Changes of many conversations on the wire.

use std::collections::HashSet;

use prost::Message as _;

use crate::error::{Error, Refusal};
use crate::etag::etag;
use crate::field::{Fields, Mask, Most};
use crate::ids::ConversationId;
use crate::inbox::bulk::{Batch, ByFilter, Item, Outcome, Progress};
use crate::inbox::change::{Alteration, Assignment, ChangeKind, Target};
use crate::pb;
use crate::request_id::RequestId;

use super::conversation::{Edit, filter};

/// How many conversations one batch can have.
const MOST: usize = 100;
/// How many bytes of conversations an answer has, and at most one conversation more.
const MOST_BYTES: usize = 3 * 1024 * 1024;
/// Longer than any token of ours.
const TOKEN: Most = Most::Characters(1024);

impl TryFrom<pb::BatchUpdateConversationsRequest> for Batch {
    type Error = Error;

    fn try_from(mut request: pb::BatchUpdateConversationsRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let batch = Self {
            request_id,
            items: items(&mut fields, request.conversation_ids, request.conversations),
            change: change(&mut fields, request.change),
            all_or_nothing: request.all_or_nothing,
        };
        fields.finish()?;
        Ok(batch)
    }
}

fn items(fields: &mut Fields, ids: Vec<String>, seen: Vec<pb::ConversationToUpdate>) -> Vec<Item> {
    match ids.len() + seen.len() {
        0 => fields.refuse("conversation_ids", "is required"),
        1..=MOST => {}
        _ => {
            let most = format!("must be at most {MOST}, with `conversations`");
            fields.refuse("conversation_ids", most);
            return Vec::new();
        }
    }
    let mut known = HashSet::new();
    let mut items = Vec::with_capacity(ids.len() + seen.len());
    let plain = ids.into_iter().enumerate().map(|(index, id)| {
        let path = format!("conversation_ids[{index}]");
        (path.clone(), path, id, String::new())
    });
    let seen = seen.into_iter().enumerate().map(|(index, seen)| {
        let path = format!("conversations[{index}]");
        let of_id = format!("{path}.conversation_id");
        (path, of_id, seen.conversation_id, seen.etag)
    });
    for (path, of_id, given, etag) in plain.chain(seen) {
        let id = fields.required_id(&of_id, &given, ConversationId);
        if !known.insert(id) && !id.0.is_nil() {
            fields.refuse(&of_id, "is there twice");
        }
        let etag = fields.inside(&path, |fields| fields.etag(etag));
        let target = Target { id, etag };
        items.push(Item {
            path: of_id,
            target,
        });
    }
    items
}

fn change(fields: &mut Fields, given: Option<pb::ConversationChange>) -> Alteration {
    let Some(given) = given else {
        fields.refuse("change", "is required");
        return Alteration::new(ChangeKind::Updated);
    };
    let (change, changes) = fields.inside("change", |fields| alteration(fields, given));
    if !changes {
        fields.refuse("change", "must change something");
    }
    change
}

/// Reads a change, and tells whether it is one.
fn alteration(fields: &mut Fields, given: pb::ConversationChange) -> (Alteration, bool) {
    const FIELDS: [&str; 7] = [
        "status",
        "priority",
        "labels",
        "add_labels",
        "remove_labels",
        "snooze_until_time",
        "assignment",
    ];
    let mask = Mask::read(fields, given.update_mask, &FIELDS);
    let mut change = Alteration::new(ChangeKind::Updated);
    let edit = Edit {
        status: given.status,
        priority: given.priority,
        labels: given.labels,
        add_labels: given.add_labels,
        remove_labels: given.remove_labels,
        snooze_until_time: given.snooze_until_time,
    };
    edit.read(fields, &mask, &mut change);
    if mask.touches("assignment", given.assignment.is_some()) {
        let assignment = given.assignment.unwrap_or_default();
        change.kind = ChangeKind::Assigned;
        change.assignment = Some(fields.inside("assignment", |fields| Assignment {
            assignee_id: fields.name_of_somebody("assignee_id", assignment.assignee_id),
            team_id: fields.name_of_somebody("team_id", assignment.team_id),
        }));
    }
    if given.reopen {
        change.kind = ChangeKind::Reopened;
    }
    if given.archive {
        change.kind = ChangeKind::Archived;
        let beside = [
            ("reopen", given.reopen),
            ("status", change.status.is_some()),
            ("snooze_until_time", change.snooze.is_some()),
        ];
        for (field, _) in beside.into_iter().filter(|(_, is_set)| *is_set) {
            fields.refuse(field, "cannot be there beside `archive`");
        }
    }
    // What is wrong would be a change all the same.
    let changes = fields.refuses()
        || change.kind != ChangeKind::Updated
        || change.status.is_some()
        || change.priority.is_some()
        || change.labels.is_some()
        || !change.add_labels.is_empty()
        || !change.remove_labels.is_empty()
        || change.snooze.is_some();
    (change, changes)
}

impl From<Refusal> for pb::BatchItemError {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            reason: refusal.reason,
            message: refusal.message,
            metadata: refusal.metadata,
            field: refusal.field,
        }
    }
}

impl From<Outcome> for pb::ConversationUpdateResult {
    fn from(outcome: Outcome) -> Self {
        let conversation_id = outcome.id.into();
        match outcome.result {
            Ok(altered) => Self {
                conversation_id,
                changed: altered.changed,
                etag: etag(altered.conversation.edit_version),
                version: altered.conversation.version,
                conversation: Some(altered.conversation.into()),
                error: None,
            },
            Err(refusal) => Self {
                conversation_id,
                error: Some(refusal.into()),
                ..Default::default()
            },
        }
    }
}

impl FromIterator<Outcome> for pb::BatchUpdateConversationsResponse {
    fn from_iter<T: IntoIterator<Item = Outcome>>(outcomes: T) -> Self {
        let mut answer = Self::default();
        let mut bytes = 0;
        for outcome in outcomes {
            let mut result = pb::ConversationUpdateResult::from(outcome);
            match (&result.error, result.changed) {
                (Some(_), _) => answer.failed_count += 1,
                (None, true) => answer.changed_count += 1,
                (None, false) => answer.unchanged_count += 1,
            }
            if bytes >= MOST_BYTES {
                result.conversation = None;
            }
            let conversation = result.conversation.as_ref();
            bytes += conversation.map_or(0, prost::Message::encoded_len);
            answer.results.push(result);
        }
        answer
    }
}

/// What `UpdateConversationsByFilter` asks for.
pub struct FilterCall {
    /// What to do.
    pub work: ByFilter,
    /// From where on.
    pub token: String,
    /// What the token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::UpdateConversationsByFilterRequest> for FilterCall {
    type Error = Error;

    fn try_from(mut request: pb::UpdateConversationsByFilterRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let token = std::mem::take(&mut request.resume_token);
        let token = fields.text("resume_token", token, TOKEN);
        let binding = request.encode_to_vec();
        let given = request.filter.unwrap_or_default();
        let is_empty = given == pb::ConversationFilter::default();
        if is_empty && !request.everything {
            fields.refuse("filter", "must not be empty, unless `everything` is set");
        }
        if !is_empty && request.everything {
            fields.refuse("everything", "cannot be there beside a filter");
        }
        let work = ByFilter {
            filter: fields.inside("filter", |fields| filter(fields, given)),
            change: change(&mut fields, request.change),
            dry: request.validate_only,
        };
        fields.finish()?;
        Ok(Self {
            work,
            token,
            binding,
        })
    }
}

impl From<Progress> for pb::UpdateConversationsByFilterResponse {
    fn from(progress: Progress) -> Self {
        Self {
            finished: progress.is_finished(),
            total_count: progress.total,
            processed_count: progress.processed,
            changed_count: progress.changed,
            unchanged_count: progress.unchanged,
            skipped_count: progress.skipped,
            failed_count: progress.failed,
            failures: progress.failures.into_iter().map(Into::into).collect(),
            resume_token: String::new(),
        }
    }
}
