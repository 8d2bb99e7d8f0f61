//! Statistics: what the model's conversations, messages and activities come to.

use std::collections::BTreeMap;

use communication_service::pb::actor::Kind;
use communication_service::pb::{
    Actor, Conversation, ConversationActivityKind, ConversationCounts, ConversationStatus,
    GetConversationStatsRequest, GetMessageVolumeRequest, GetResponseTimesRequest,
    GetUserActivityRequest, MessageDirection, RecomputeStatisticsRequest,
};

use super::inbox::Inbox;
use super::step::USERS;
use super::{Checked, Run, same};

fn counts<'a>(talks: impl Iterator<Item = &'a Conversation>) -> ConversationCounts {
    let mut counts = ConversationCounts::default();
    for talk in talks {
        let active = talk.status() != ConversationStatus::Archived;
        for (count, counted) in [
            (&mut counts.total, true),
            (&mut counts.active, active),
            (
                &mut counts.unassigned,
                active && talk.assignee_id.is_empty(),
            ),
            (&mut counts.unread, active && talk.unread),
            (&mut counts.waiting, talk.waiting_since_time.is_some()),
            (&mut counts.snoozed, talk.snooze_until_time.is_some()),
            (&mut counts.qualified, talk.qualification.is_some()),
        ] {
            *count += i64::from(counted);
        }
    }
    counts
}

fn is_user(actor: Option<&Actor>, user: &str) -> bool {
    actor.is_some_and(|actor| actor.kind == Some(Kind::UserId(user.to_owned())))
}

impl Inbox {
    /// Messages by their directions, deleted ones too.
    fn volume(&self, by: Option<&str>) -> [i64; 3] {
        use MessageDirection::{Inbound, Internal, Outbound};
        [Inbound, Outbound, Internal].map(|direction| {
            let messages = self.talks.iter().flat_map(|talk| &talk.messages);
            let counted = messages.filter(|message| {
                message.direction() == direction
                    && by.is_none_or(|user| is_user(message.actor.as_ref(), user))
            });
            i64::try_from(counted.count()).unwrap()
        })
    }

    /// Answers, episodes that ended, and those that began by reopening.
    fn episodes(&self) -> [i64; 3] {
        use ConversationActivityKind::{Merged, Unmerged};
        let mut found = [0; 3];
        for activity in self.talks.iter().flat_map(|talk| &talk.activities) {
            let Some(before) = &activity.before else {
                continue;
            };
            let archived = ConversationStatus::Archived;
            let was = before.status() == archived;
            let is = activity.after.as_ref().unwrap().status() == archived;
            found[0] += i64::from(activity.waited_since_time.is_some());
            found[1] += i64::from(!was && is && activity.kind() != Merged);
            found[2] += i64::from(was && !is && activity.kind() != Unmerged);
        }
        found
    }

    /// What a user answered, closed and was given.
    fn work(&self, user: &str) -> [i64; 3] {
        let mut found = [0; 3];
        for activity in self.talks.iter().flat_map(|talk| &talk.activities) {
            let by = is_user(activity.actor.as_ref(), user);
            let before = activity.before.as_ref();
            let after = activity.after.as_ref().unwrap();
            let had = before.is_some_and(|before| before.assignee_id == user);
            found[0] += i64::from(by && activity.waited_since_time.is_some());
            found[1] += i64::from(by && activity.kind() == ConversationActivityKind::Archived);
            found[2] += i64::from(!had && after.assignee_id == user);
        }
        found
    }
}

impl Run {
    /// Compares the statistics, as far as they are no times.
    pub(super) async fn look_at_statistics(&mut self) -> Checked {
        self.calls += 4;
        let tenant = self.tenant.slug();
        let mut inbox = self.tenant.inbox.clone();
        let request = GetConversationStatsRequest {
            tenant: tenant.clone(),
            ..Default::default()
        };
        let got = inbox.get_conversation_stats(request).await.unwrap();
        let got = got.into_inner();
        let talks = || self.model.talks.iter().map(|talk| &talk.now);
        same("the statistics", &Some(counts(talks())), &got.counts)?;
        let mut expected = BTreeMap::new();
        for talk in talks() {
            let status = talk.status;
            let alike = talks().filter(|other| other.status == status);
            expected.entry(status).or_insert_with(|| counts(alike));
        }
        let got = got.by_status.into_iter();
        let got: BTreeMap<_, _> = got
            .map(|group| (group.status, group.counts.unwrap_or_default()))
            .collect();
        same("the statistics by status", &expected, &got)?;

        let request = GetMessageVolumeRequest {
            tenant: tenant.clone(),
            ..Default::default()
        };
        let got = inbox.get_message_volume(request).await.unwrap();
        let got = &got.into_inner().volumes[0];
        let got = [got.inbound_count, got.outbound_count, got.note_count];
        same("the volume", &self.model.volume(None), &got)?;

        let request = GetResponseTimesRequest {
            tenant: tenant.clone(),
            ..Default::default()
        };
        let got = inbox.get_response_times(request).await.unwrap();
        let got = got.into_inner().response_times.remove(0);
        let count = |of: Option<communication_service::pb::DurationStatistics>| {
            of.unwrap_or_default().count
        };
        let answers = count(got.first_response) + count(got.next_response);
        let got = [answers, count(got.resolution), got.reopenings];
        same("the episodes", &self.model.episodes(), &got)?;

        let users = [&USERS[..], &["zoe"]].concat();
        let request = GetUserActivityRequest {
            tenant,
            user_ids: users.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let got = inbox.get_user_activity(request).await.unwrap();
        let got = got.into_inner().activities.into_iter();
        let got: Vec<_> = got
            .map(|it| {
                let said = [it.sent_count, it.note_count];
                let done = [it.answered_count, it.closed_count, it.assigned_count];
                (it.user_id, said, done)
            })
            .collect();
        let expected: Vec<_> = users
            .iter()
            .map(|user| {
                let [_, sent, notes] = self.model.volume(Some(user));
                ((*user).to_owned(), [sent, notes], self.model.work(user))
            })
            .collect();
        same("what users have done", &expected, &got)
    }

    /// Lets the statistics be counted anew from the log, which changes nothing.
    pub(super) async fn recompute(&mut self) -> Checked {
        let mut inbox = self.tenant.inbox.clone();
        loop {
            self.calls += 1;
            let request = RecomputeStatisticsRequest {
                tenant: self.tenant.slug(),
            };
            let answer = inbox.recompute_statistics(request).await.unwrap();
            let answer = answer.into_inner();
            if answer.done {
                same(
                    "the rollups",
                    &(true, 0),
                    &(answer.agreed, answer.difference_count),
                )?;
                return self.look_at_statistics().await;
            }
        }
    }
}
