//! Merges of two conversations, in the model and through the service.

use communication_service::pb::{
    Actor, ConversationActivityKind, ConversationStatus, ListConversationMergesRequest,
    MergeConversationsRequest, UndoConversationMergeRequest,
};
use prost_types::Timestamp;
use tonic::Code;

use super::inbox::{ARCHIVED, Cause, Inbox, NOW, REPLACED, Refused, Talk};
use super::step::Etag;
use super::{Checked, Run, agree, same, user};

pub const MERGED: Refused = (Code::FailedPrecondition, "CONVERSATION_MERGED");

/// That one conversation was merged into another, and how it stood before.
#[derive(Debug, Clone)]
pub struct Merge {
    /// As the service knows it.
    pub id: String,
    pub source: usize,
    pub target: usize,
    pub undone: bool,
    status: ConversationStatus,
    archive_time: Option<Timestamp>,
    snooze_until_time: Option<Timestamp>,
    waiting_since_time: Option<Timestamp>,
    is_old: bool,
}

impl Talk {
    /// Records that a conversation was merged into this one, or is not any more.
    fn took(&mut self, kind: ConversationActivityKind, actor: &Actor) {
        let before = self.now.clone();
        self.change(&Cause::wish(kind, actor), true, |now| now.version += 1);
        let states = Some(super::inbox::state(&before));
        let cause = Cause::wish(kind, actor);
        self.record(&cause, states, vec!["merges".to_owned()], None);
    }
}

impl Inbox {
    /// `MergeConversations`: which merge it is.
    pub fn merge(
        &mut self,
        source: usize,
        target: usize,
        etag: &str,
        actor: &Actor,
    ) -> Result<usize, Refused> {
        let target_id = self.talks[target].now.id.clone();
        let into = |talk: usize| self.talks[talk].now.merged_into_id.as_str();
        if into(source) == target_id {
            let standing = |merge: &Merge| {
                (merge.source, merge.target, merge.undone) == (source, target, false)
            };
            return Ok(self.merges.iter().position(standing).unwrap());
        }
        if !into(source).is_empty() || !into(target).is_empty() {
            return Err(MERGED);
        }
        if self.talks[target].is_archived() {
            return Err(ARCHIVED);
        }
        self.talks[source].check_etag(etag)?;
        let talk = &mut self.talks[source];
        self.merges.push(Merge {
            id: String::new(),
            source,
            target,
            undone: false,
            status: talk.now.status(),
            archive_time: talk.now.archive_time,
            snooze_until_time: talk.now.snooze_until_time,
            waiting_since_time: talk.now.waiting_since_time,
            is_old: talk.is_old,
        });
        if !talk.is_archived() {
            talk.is_old = false;
        }
        let kind = ConversationActivityKind::Merged;
        talk.change(&Cause::wish(kind, actor), true, |now| {
            now.set_status(ConversationStatus::Archived);
            now.archive_time.get_or_insert(NOW);
            now.snooze_until_time = None;
            now.waiting_since_time = None;
            now.merged_into_id = target_id;
        });
        self.talks[target].took(kind, actor);
        Ok(self.merges.len() - 1)
    }

    /// `UndoConversationMerge`.
    pub fn undo(&mut self, merge: usize, actor: &Actor) -> Result<(), Refused> {
        let merge = &self.merges[merge].clone();
        if merge.undone {
            return Ok(());
        }
        let was_archived = merge.status == ConversationStatus::Archived;
        let place = &self.talks[merge.source].place;
        if !was_archived && self.open_at(place).is_some() {
            return Err(REPLACED);
        }
        let kind = ConversationActivityKind::Unmerged;
        let talk = &mut self.talks[merge.source];
        talk.is_old = merge.is_old;
        talk.change(&Cause::wish(kind, actor), true, |now| {
            let is_lost = now.qualification.is_none();
            now.set_status(match merge.status {
                ConversationStatus::Qualified if is_lost => ConversationStatus::Open,
                status => status,
            });
            now.archive_time = merge.archive_time;
            now.snooze_until_time = merge.snooze_until_time;
            now.waiting_since_time = merge.waiting_since_time;
            now.merged_into_id.clear();
        });
        self.talks[merge.target].took(kind, actor);
        for known in &mut self.merges {
            known.undone |= known.id == merge.id;
        }
        Ok(())
    }

    /// Where a customer's message goes that is meant for a conversation that was merged.
    pub fn merged_into(&self, mut talk: usize) -> usize {
        while let Some(merge) =
            (self.merges.iter()).find(|merge| !merge.undone && merge.source == talk)
        {
            talk = merge.target;
        }
        talk
    }
}

impl Run {
    pub(super) async fn merge(&mut self, source: usize, target: usize, etag: Etag) -> Checked {
        let (source, target) = (self.talk(source), self.talk(target));
        if source == target {
            return Ok(());
        }
        let request = MergeConversationsRequest {
            tenant: self.tenant.slug(),
            actor: Some(user("mira")),
            source_conversation_id: self.id(source),
            target_conversation_id: self.id(target),
            etag: self.etag(source, etag),
            ..Default::default()
        };
        let mira = user("mira");
        let expected = self.model.merge(source, target, &request.etag, &mira);
        let mut inbox = self.tenant.inbox.clone();
        let answer = inbox.merge_conversations(request).await;
        let Some((merge, got)) = agree(expected, answer)? else {
            return Ok(());
        };
        let id = got.merge.unwrap_or_default().id;
        let merge = &mut self.model.merges[merge];
        if merge.id.is_empty() {
            merge.id.clone_from(&id);
        }
        same("the merge", &merge.id, &id)?;
        self.conversation(target, got.conversation, None)?;
        self.get(source, 0).await
    }

    pub(super) async fn undo(&mut self, which: usize) -> Checked {
        let there = self.model.merges.len();
        if there == 0 {
            return Ok(());
        }
        let which = there - 1 - which % there;
        let merge = &self.model.merges[which];
        let (source, target) = (merge.source, merge.target);
        let request = UndoConversationMergeRequest {
            tenant: self.tenant.slug(),
            actor: Some(user("mira")),
            conversation_merge_id: merge.id.clone(),
        };
        let expected = self.model.undo(which, &user("mira"));
        let mut inbox = self.tenant.inbox.clone();
        let answer = inbox.undo_conversation_merge(request).await;
        let Some(((), got)) = agree(expected, answer)? else {
            return Ok(());
        };
        self.conversation(source, got.conversation, None)?;
        self.get(target, 0).await
    }

    /// Compares the merges of a conversation.
    pub(super) async fn look_at_merges(&mut self, talk: usize) -> Checked {
        self.calls += 1;
        let request = ListConversationMergesRequest {
            tenant: self.tenant.slug(),
            conversation_id: self.id(talk),
            page_size: 500,
            ..Default::default()
        };
        let mut inbox = self.tenant.inbox.clone();
        let page = inbox.list_conversation_merges(request).await.unwrap();
        let got = page.into_inner().merges.into_iter();
        let got: Vec<_> = got
            .map(|merge| (merge.id, merge.undo_time.is_some()))
            .collect();
        let merges = self.model.merges.iter().rev();
        let expected: Vec<_> = merges
            .filter(|merge| [merge.source, merge.target].contains(&talk))
            .map(|merge| (merge.id.clone(), merge.undone))
            .collect();
        same("the list of merges", &expected, &got)
    }
}
