//! The life of a conversation: given to somebody, qualified, put aside, archived, reopened, read,
//! and explained.

use std::time::Duration;

use communication_service::pb::{
    ArchiveConversationRequest, AssignConversationRequest, Conversation, ConversationActivity,
    ConversationActivityKind, ConversationStatus, DisqualifyConversationRequest,
    GetConversationRequest, ListConversationActivitiesRequest, ListConversationMergesRequest,
    ListConversationsRequest, MarkConversationReadRequest, MergeConversationsRequest,
    MessageDirection, Priority, QualifyConversationRequest, ReopenConversationRequest,
    ResumeTenantRequest, SuspendTenantRequest, UndoConversationMergeRequest,
    UpdateConversationRequest,
};
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};

use crate::harness::{TestTenant, admin, eventually, now, refusal, tenant, user};

impl TestTenant {
    async fn assign(
        &self,
        conversation: &Conversation,
        assignee: &str,
        team: &str,
    ) -> Result<Conversation, Status> {
        let request = AssignConversationRequest {
            tenant: self.slug(),
            actor: user("boss"),
            conversation_id: conversation.id.clone(),
            assignee_id: assignee.to_owned(),
            team_id: team.to_owned(),
            ..Default::default()
        };
        let answer = self.inbox.clone().assign_conversation(request).await?;
        Ok(answer.into_inner().conversation.unwrap())
    }

    /// Archives a conversation.
    pub async fn archive(&self, conversation: &Conversation) -> Conversation {
        let request = ArchiveConversationRequest {
            tenant: self.slug(),
            actor: user("mira"),
            conversation_id: conversation.id.clone(),
            ..Default::default()
        };
        let answer = self.inbox.clone().archive_conversation(request).await;
        answer.unwrap().into_inner().conversation.unwrap()
    }

    async fn reopen(&self, conversation: &Conversation) -> Result<Conversation, Status> {
        let request = ReopenConversationRequest {
            tenant: self.slug(),
            actor: user("mira"),
            conversation_id: conversation.id.clone(),
            ..Default::default()
        };
        let answer = self.inbox.clone().reopen_conversation(request).await?;
        Ok(answer.into_inner().conversation.unwrap())
    }

    async fn qualify(&self, conversation: &Conversation, score: i32) -> Conversation {
        let request = QualifyConversationRequest {
            tenant: self.slug(),
            actor: user(&format!("scorer-{score}")),
            conversation_id: conversation.id.clone(),
            score: Some(score),
            notes: format!("worth {score}"),
            ..Default::default()
        };
        let answer = self.inbox.clone().qualify_conversation(request).await;
        answer.unwrap().into_inner().conversation.unwrap()
    }

    async fn mark_read(
        &self,
        conversation: &Conversation,
        reader: &str,
        sequence: i64,
    ) -> Conversation {
        let request = MarkConversationReadRequest {
            tenant: self.slug(),
            actor: user(reader),
            conversation_id: conversation.id.clone(),
            sequence,
        };
        let answer = self.inbox.clone().mark_conversation_read(request).await;
        answer.unwrap().into_inner().conversation.unwrap()
    }

    async fn seen_by(&self, conversation: &Conversation, reader: &str) -> Conversation {
        let request = GetConversationRequest {
            tenant: self.slug(),
            actor: user(reader),
            conversation_id: conversation.id.clone(),
        };
        let answer = self.inbox.clone().get_conversation(request).await;
        answer.unwrap().into_inner().conversation.unwrap()
    }

    /// Adds a user's outbound text.
    pub async fn answer(&self, conversation: &Conversation, agent: &str) {
        let mut request = self.new_message(conversation, "An answer");
        request.actor = user(agent);
        self.send(request).await;
    }

    async fn edit(
        &self,
        conversation: &Conversation,
        change: impl FnOnce(&mut UpdateConversationRequest),
    ) -> Result<Conversation, Status> {
        let mut request = UpdateConversationRequest {
            tenant: self.slug(),
            actor: user("mira"),
            conversation_id: conversation.id.clone(),
            ..Default::default()
        };
        change(&mut request);
        let answer = self.inbox.clone().update_conversation(request).await?;
        Ok(answer.into_inner().conversation.unwrap())
    }

    async fn activities(&self, conversation: &Conversation) -> Vec<ConversationActivity> {
        let mut request = ListConversationActivitiesRequest {
            tenant: self.slug(),
            conversation_id: conversation.id.clone(),
            page_size: 2,
            ..Default::default()
        };
        let mut all = Vec::new();
        loop {
            let mut inbox = self.inbox.clone();
            let page = inbox.list_conversation_activities(request.clone()).await;
            let page = page.unwrap().into_inner();
            all.extend(page.activities);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn policy(&self, policy: &str) {
        let set = format!(
            "UPDATE {}.channel_accounts SET {policy}",
            self.tenant.schema_name
        );
        admin().await.batch_execute(&set).await.unwrap();
    }

    async fn numbers(&self, change: impl FnOnce(&mut ListConversationsRequest)) -> Vec<i64> {
        let mut request = ListConversationsRequest {
            tenant: self.slug(),
            page_size: 1,
            ..Default::default()
        };
        change(&mut request);
        let mut numbers = Vec::new();
        loop {
            let page = self
                .inbox
                .clone()
                .list_conversations(request.clone())
                .await
                .unwrap()
                .into_inner();
            numbers.extend(page.conversations.iter().map(|c| c.number));
            if page.next_page_token.is_empty() {
                return numbers;
            }
            request.page_token = page.next_page_token;
        }
    }
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let (code, reason, _) = refusal(answer.map(tonic::Response::new));
    (code, reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_given_to_somebody_and_to_nobody() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let given = tenant.assign(&conversation, "mira", "sales").await.unwrap();
    assert_eq!(given.status(), ConversationStatus::Open);
    assert_eq!(
        (given.assignee_id.as_str(), given.team_id.as_str()),
        ("mira", "sales")
    );
    assert!(given.assign_time.is_some());
    // The same again changes nothing, not even the version.
    let again = tenant.assign(&conversation, "mira", "sales").await.unwrap();
    assert_eq!(again, given);
    let team = tenant.assign(&conversation, "", "sales").await.unwrap();
    assert_eq!(
        (team.assignee_id.as_str(), team.team_id.as_str()),
        ("", "sales")
    );
    assert_eq!(team.version, given.version + 1);
    assert_ne!(team.etag, given.etag);
    let nobody = tenant.assign(&conversation, "", "").await.unwrap();
    assert_eq!(nobody.assign_time, None);
    assert_eq!(nobody.status(), ConversationStatus::Open);

    let stale = AssignConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        etag: given.etag,
        assignee_id: "jon".to_owned(),
        ..Default::default()
    };
    let refused = tenant.inbox.clone().assign_conversation(stale).await;
    let (code, reason_, _) = refusal(refused);
    assert_eq!((code, reason_.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    tenant.archive(&conversation).await;
    let refused = tenant.assign(&conversation, "mira", "").await;
    let archived = (Code::FailedPrecondition, "CONVERSATION_ARCHIVED".to_owned());
    assert_eq!(reason(refused), archived);
    let bad = tenant.assign(&conversation, "a\nb", "").await;
    assert_eq!(reason(bad).0, Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_stays_one_whatever_becomes_of_the_status() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let lead = tenant.qualify(&conversation, 40).await;
    assert_eq!(lead.status(), ConversationStatus::Qualified);
    let first = lead.qualification.clone().unwrap();
    assert_eq!(first.actor, user("scorer-40"));
    assert_eq!((first.score, first.notes.as_str()), (Some(40), "worth 40"));
    // Who was first and when stays; the rest follows.
    let second = tenant
        .qualify(&conversation, 90)
        .await
        .qualification
        .unwrap();
    assert_eq!(second.actor, first.actor);
    assert_eq!(second.qualify_time, first.qualify_time);
    assert_eq!(second.score, Some(90));
    for step in 0..5 {
        match step {
            0 => drop(tenant.receive(&conversation, "Hello").await),
            1 => tenant.answer(&conversation, "mira").await,
            2 => drop(tenant.archive(&conversation).await),
            3 => drop(tenant.receive(&conversation, "Again").await),
            _ => {
                let open = ConversationStatus::Replied.into();
                let edited = tenant.edit(&conversation, |r| r.status = Some(open)).await;
                assert_eq!(edited.unwrap().status(), ConversationStatus::Replied);
            }
        }
        let now = tenant.get(&conversation).await;
        assert_eq!(now.qualification, Some(second.clone()), "step {step}");
        if step < 2 {
            assert_eq!(now.status(), ConversationStatus::Qualified);
        }
    }
    let archived = tenant.archive(&conversation).await;
    let requalified = tenant.qualify(&archived, 10).await;
    assert_eq!(requalified.status(), ConversationStatus::Archived);
    assert_eq!(requalified.qualification.unwrap().score, Some(10));
    let request = DisqualifyConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    let none = tenant.inbox.clone().disqualify_conversation(request).await;
    let none = none.unwrap().into_inner().conversation.unwrap();
    assert_eq!(none.qualification, None);
    assert_eq!(none.status(), ConversationStatus::Archived);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_archived_is_reopened_into_a_new_episode_unless_it_was_replaced() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    tenant.receive(&conversation, "Hello").await;
    let until = Timestamp {
        seconds: i64::try_from(now()).unwrap() + 3600,
        nanos: 0,
    };
    let snoozed = tenant
        .edit(&conversation, |r| r.snooze_until_time = Some(until))
        .await;
    assert_eq!(snoozed.unwrap().snooze_until_time, Some(until));
    let archived = tenant.archive(&conversation).await;
    assert_eq!(archived.status(), ConversationStatus::Archived);
    assert!(archived.archive_time.is_some());
    assert_eq!(archived.waiting_since_time, None);
    assert_eq!(archived.snooze_until_time, None);
    assert_eq!(tenant.archive(&conversation).await, archived);
    let archived_error = (Code::FailedPrecondition, "CONVERSATION_ARCHIVED".to_owned());
    let refused = tenant
        .edit(&conversation, |r| r.snooze_until_time = Some(until))
        .await;
    assert_eq!(reason(refused), archived_error);
    let open = ConversationStatus::Open.into();
    let refused = tenant.edit(&conversation, |r| r.status = Some(open)).await;
    assert_eq!(reason(refused), archived_error);
    // What is no state can still be corrected.
    let subject = tenant
        .edit(&conversation, |r| r.subject = Some("Done".to_owned()))
        .await;
    assert_eq!(subject.unwrap().subject, "Done");

    let reopened = tenant.reopen(&conversation).await.unwrap();
    assert_eq!(reopened.status(), ConversationStatus::Open);
    assert_eq!((reopened.episode, reopened.archive_time), (2, None));
    assert_eq!(tenant.reopen(&conversation).await.unwrap(), reopened);

    tenant.archive(&conversation).await;
    let mut request = tenant.new_conversation();
    request.contact_identifier = conversation.contact_identifier.clone();
    let second = tenant.create(request).await;
    assert_ne!(second.id, conversation.id);
    let replaced = (Code::FailedPrecondition, "CONVERSATION_REPLACED".to_owned());
    assert_eq!(reason(tenant.reopen(&conversation).await), replaced);
    // A customer's message for the old one goes where the person is now.
    let message = tenant.receive(&conversation, "Hello again").await;
    assert_eq!(message.conversation_id, second.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_account_says_whether_a_message_reopens() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    tenant.receive(&conversation, "Hello").await;
    tenant.archive(&conversation).await;
    assert_eq!(
        tenant
            .receive(&conversation, "Always")
            .await
            .conversation_id,
        conversation.id
    );
    assert_eq!(tenant.get(&conversation).await.episode, 2);

    tenant
        .policy("reopen_policy = 'within', reopen_days = 3")
        .await;
    tenant.archive(&conversation).await;
    tenant.receive(&conversation, "Within").await;
    assert_eq!(tenant.get(&conversation).await.episode, 3);
    tenant.archive(&conversation).await;
    let earlier = format!(
        "UPDATE {}.inbox_conversations SET archived_at = archived_at - interval '4 days'",
        tenant.tenant.schema_name
    );
    admin().await.batch_execute(&earlier).await.unwrap();
    let mut request = tenant.new_message(&conversation, "Too late");
    request.direction = MessageDirection::Inbound.into();
    request.request_id = "late-1".to_owned();
    let late = tenant.send(request.clone()).await;
    assert_ne!(late.conversation_id, conversation.id);
    assert_eq!(late.sequence, 1);
    assert_eq!(tenant.send(request).await, late);
    let next = Conversation {
        id: late.conversation_id.clone(),
        ..conversation.clone()
    };
    let next = tenant.get(&next).await;
    assert_eq!(next.previous_conversation_id, conversation.id);
    assert_eq!(next.contact_id, conversation.contact_id);
    assert_eq!(next.status(), ConversationStatus::New);
    let activities = tenant.activities(&next).await;
    let created = activities.last().unwrap();
    assert_eq!(created.kind(), ConversationActivityKind::Created);
    assert_eq!(created.rule, "continued");
    // Whoever comes next goes on with the new one, by either name.
    let message = tenant.receive(&conversation, "And").await;
    assert_eq!(message.conversation_id, next.id);
    assert_eq!(
        tenant.get(&conversation).await.status(),
        ConversationStatus::Archived
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_known_until_a_person_answers() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    assert_eq!(tenant.get(&conversation).await.waiting_since_time, None);
    let first = tenant.receive(&conversation, "Hello").await;
    tenant.receive(&conversation, "Anybody?").await;
    // Neither a service nor a note answers.
    tenant
        .reply(&conversation, "We will be with you shortly")
        .await;
    let mut note = tenant.new_message(&conversation, "Mine");
    note.direction = MessageDirection::Internal.into();
    note.actor = user("mira");
    tenant.send(note).await;
    let waiting = tenant.get(&conversation).await;
    assert_eq!(waiting.waiting_since_time, first.create_time);
    tenant.answer(&conversation, "mira").await;
    assert_eq!(tenant.get(&conversation).await.waiting_since_time, None);
    let answered = &tenant.activities(&conversation).await[0];
    assert_eq!(answered.waited_since_time, first.create_time);
    assert_eq!(answered.actor, user("mira"));
    assert_eq!(answered.message_sequence, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_read_as_far_as_they_have() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    for text in ["One", "Two", "Three"] {
        tenant.receive(&conversation, text).await;
    }
    tenant.answer(&conversation, "jon").await;
    let count = async |reader: &str| tenant.seen_by(&conversation, reader).await.unread_count;
    assert_eq!(
        (count("mira").await, count("jon").await),
        (Some(3), Some(3))
    );
    assert_eq!(tenant.get(&conversation).await.unread_count, None);
    assert!(tenant.get(&conversation).await.unread);

    let read = tenant.mark_read(&conversation, "mira", 2).await;
    assert_eq!((read.unread_count, read.unread), (Some(1), true));
    let lower = tenant.mark_read(&conversation, "mira", 1).await;
    assert_eq!((lower.unread_count, lower.version), (Some(1), read.version));
    assert_eq!(
        (count("mira").await, count("jon").await),
        (Some(1), Some(3))
    );
    let all = tenant.mark_read(&conversation, "jon", 0).await;
    assert_eq!((all.unread_count, all.unread), (Some(0), false));
    // Beyond the end is the end.
    let mira = tenant.mark_read(&conversation, "mira", 1_000_000).await;
    assert_eq!(mira.unread_count, Some(0));
    tenant.receive(&conversation, "Four").await;
    assert!(tenant.get(&conversation).await.unread);
    assert_eq!(
        (count("mira").await, count("jon").await),
        (Some(1), Some(1))
    );

    let request = ListConversationsRequest {
        tenant: tenant.slug(),
        actor: user("mira"),
        ..Default::default()
    };
    let page = tenant.inbox.clone().list_conversations(request).await;
    let page = page.unwrap().into_inner();
    assert_eq!(page.conversations[0].unread_count, Some(1));

    let nobody = MarkConversationReadRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    let refused = tenant.inbox.clone().mark_conversation_read(nobody).await;
    let (code, _, fields) = refusal(refused);
    assert_eq!(
        (code, fields),
        (Code::InvalidArgument, vec!["actor.user_id".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_opens_a_new_conversation() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    tenant.receive(&conversation, "Hello").await;
    assert_eq!(
        tenant.get(&conversation).await.status(),
        ConversationStatus::New
    );
    let read = tenant.mark_read(&conversation, "mira", 0).await;
    assert_eq!(read.status(), ConversationStatus::Open);
    let kinds: Vec<_> = tenant
        .activities(&conversation)
        .await
        .iter()
        .map(|activity| (activity.kind(), activity.changed_fields.join(",")))
        .collect();
    assert_eq!(
        kinds,
        [
            (ConversationActivityKind::Read, "status,unread".to_owned()),
            (
                ConversationActivityKind::Message,
                "unread,waiting_since_time".to_owned()
            ),
            (ConversationActivityKind::Created, String::new()),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_comes_back_by_itself() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let other = tenant.conversation().await;
    let at = |seconds: u64| Timestamp {
        seconds: i64::try_from(now() + seconds).unwrap(),
        nanos: 0,
    };
    let later = tenant
        .edit(&other, |r| r.snooze_until_time = Some(at(3600)))
        .await;
    let aside = tenant
        .edit(&conversation, |r| r.snooze_until_time = Some(at(1)))
        .await
        .unwrap();
    // A server of another test may end with the alarm in its hands, and keep it for a minute.
    let hear = "UPDATE directory.alarms a SET leased_until = NULL FROM directory.tenants t
        WHERE t.id = a.tenant_id AND t.slug = $1";
    eventually("it is woken", async || {
        admin()
            .await
            .execute(hear, &[&tenant.slug()])
            .await
            .unwrap();
        tenant.get(&conversation).await.snooze_until_time.is_none()
    })
    .await;
    let awake = tenant.get(&conversation).await;
    // No caller's edit is spoiled by it.
    assert_eq!(awake.etag, aside.etag);
    assert_eq!(awake.version, aside.version + 1);
    let activity = &tenant.activities(&conversation).await[0];
    assert_eq!(activity.kind(), ConversationActivityKind::Woken);
    assert_eq!(activity.rule, "snooze_due");
    assert_eq!(activity.caller, "communication-service");
    let before = activity.before.as_ref().unwrap();
    assert_eq!(before.snooze_until_time, aside.snooze_until_time);
    assert_eq!(tenant.get(&other).await, later.unwrap());
    // The event log has heard of it.
    let events = format!(
        "SELECT count(*) FROM {}.events WHERE resource_id = '{}' AND changed = '{{snooze_until_time}}'",
        tenant.tenant.schema_name, conversation.id
    );
    let count: i64 = admin().await.query_one(&events, &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_due_in_a_suspended_tenant_is_done_when_it_is_resumed() {
    let (server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let until = Timestamp {
        seconds: i64::try_from(now()).unwrap() + 1,
        nanos: 0,
    };
    tenant
        .edit(&conversation, |r| r.snooze_until_time = Some(until))
        .await
        .unwrap();
    let slug = tenant.slug();
    let suspend = SuspendTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    server.tenant_admin().suspend_tenant(suspend).await.unwrap();
    // Its time comes, and nobody has it for good.
    let due =
        "SELECT count(*) FROM directory.alarms a JOIN directory.tenants t ON t.id = a.tenant_id
        WHERE t.slug = $1 AND a.due_at <= directory.now()";
    let database = admin().await;
    eventually("the alarm is due", async || {
        let row = database.query_one(due, &[&slug]).await.unwrap();
        row.get::<_, i64>(0) == 1
    })
    .await;
    let resume = ResumeTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    server.tenant_admin().resume_tenant(resume).await.unwrap();
    assert!(tenant.get(&conversation).await.snooze_until_time.is_some());
    // Nobody waits for the minute to be over; who still believes the tenant suspended puts it off
    // once more.
    let hear = "UPDATE directory.alarms a SET leased_until = NULL FROM directory.tenants t
        WHERE t.id = a.tenant_id AND t.slug = $1";
    eventually("it is woken", async || {
        database.execute(hear, &[&slug]).await.unwrap();
        tenant.get(&conversation).await.snooze_until_time.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_ends_one_conversation_and_undoing_it_brings_it_back_as_it_was() {
    let (_server, tenant) = tenant().await;
    let (source, target) = (tenant.conversation().await, tenant.conversation().await);
    tenant.receive(&source, "Hello").await;
    tenant.receive(&target, "Hello, by mail").await;
    let before = tenant.get(&source).await;
    let request = MergeConversationsRequest {
        tenant: tenant.slug(),
        actor: user("mira"),
        source_conversation_id: source.id.clone(),
        target_conversation_id: target.id.clone(),
        etag: before.etag.clone(),
        ..Default::default()
    };
    let merged = tenant
        .inbox
        .clone()
        .merge_conversations(request.clone())
        .await;
    let merged = merged.unwrap().into_inner();
    let merge = merged.merge.unwrap();
    assert_eq!(merge.actor, user("mira"));
    let ended = tenant.get(&source).await;
    assert_eq!(ended.status(), ConversationStatus::Archived);
    assert_eq!(ended.merged_into_id, target.id);
    assert_eq!(ended.waiting_since_time, None);
    // The source's messages stay where they are, and what comes for it goes on in the target.
    assert_eq!(tenant.messages(&source).await.len(), 1);
    let message = tenant.receive(&source, "And another thing").await;
    assert_eq!(
        (message.conversation_id.as_str(), message.sequence),
        (target.id.as_str(), 2)
    );
    let refused = (Code::FailedPrecondition, "CONVERSATION_MERGED".to_owned());
    assert_eq!(reason(tenant.reopen(&source).await), refused);
    let third = tenant.conversation().await;
    let elsewhere = MergeConversationsRequest {
        etag: String::new(),
        target_conversation_id: third.id.clone(),
        ..request.clone()
    };
    let answer = tenant.inbox.clone().merge_conversations(elsewhere).await;
    assert_eq!(reason(answer), refused);
    let again = MergeConversationsRequest {
        etag: String::new(),
        ..request.clone()
    };
    let again = tenant
        .inbox
        .clone()
        .merge_conversations(again)
        .await
        .unwrap();
    assert_eq!(again.into_inner().merge, Some(merge.clone()));
    // Both timelines tell of it.
    for conversation in [&source, &target] {
        let activities = tenant.activities(conversation).await;
        let merges = activities
            .iter()
            .filter(|a| a.kind() == ConversationActivityKind::Merged);
        assert_eq!(merges.count(), 1);
    }

    let undo = UndoConversationMergeRequest {
        tenant: tenant.slug(),
        actor: user("mira"),
        conversation_merge_id: merge.id.clone(),
    };
    for _ in 0..2 {
        let undone = tenant
            .inbox
            .clone()
            .undo_conversation_merge(undo.clone())
            .await;
        let undone = undone.unwrap().into_inner();
        assert!(undone.merge.unwrap().undo_time.is_some());
        let mut restored = undone.conversation.unwrap();
        assert_eq!(restored.version, before.version + 2);
        assert_ne!(restored.etag, before.etag);
        restored.version = before.version;
        restored.etag = before.etag.clone();
        restored.update_time = before.update_time;
        assert_eq!(restored, before);
    }
    assert_eq!(
        tenant.receive(&source, "Back").await.conversation_id,
        source.id
    );
    // A merge that was undone can be made again.
    let once_more = MergeConversationsRequest {
        etag: String::new(),
        ..request
    };
    let merged = tenant
        .inbox
        .clone()
        .merge_conversations(once_more)
        .await
        .unwrap();
    assert_ne!(merged.into_inner().merge.unwrap().id, merge.id);
    let list = ListConversationMergesRequest {
        tenant: tenant.slug(),
        conversation_id: target.id.clone(),
        page_size: 1,
        ..Default::default()
    };
    let page = tenant
        .inbox
        .clone()
        .list_conversation_merges(list)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((page.merges.len(), page.merges[0].undo_time), (1, None));
    assert!(!page.next_page_token.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_a_conversation_was_merged_does_not_come_back_with_it() {
    let (_server, tenant) = tenant().await;
    let (source, target) = (tenant.conversation().await, tenant.conversation().await);
    tenant.qualify(&source, 80).await;
    let until = Timestamp {
        seconds: i64::try_from(now() + 2).unwrap(),
        nanos: 0,
    };
    let snoozed = tenant
        .edit(&source, |r| r.snooze_until_time = Some(until))
        .await
        .unwrap();
    assert_eq!(snoozed.status(), ConversationStatus::Qualified);
    let request = MergeConversationsRequest {
        tenant: tenant.slug(),
        source_conversation_id: source.id.clone(),
        target_conversation_id: target.id.clone(),
        ..Default::default()
    };
    let merged = tenant.inbox.clone().merge_conversations(request).await;
    let merge = merged.unwrap().into_inner().merge.unwrap();
    let request = DisqualifyConversationRequest {
        tenant: tenant.slug(),
        conversation_id: source.id.clone(),
        ..Default::default()
    };
    let answer = tenant.inbox.clone().disqualify_conversation(request).await;
    let ended = answer.unwrap().into_inner().conversation.unwrap();
    assert_eq!(ended.status(), ConversationStatus::Archived);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let request = UndoConversationMergeRequest {
        tenant: tenant.slug(),
        conversation_merge_id: merge.id,
        ..Default::default()
    };
    let undone = tenant.inbox.clone().undo_conversation_merge(request).await;
    let restored = undone.unwrap().into_inner().conversation.unwrap();
    assert_eq!(restored.status(), ConversationStatus::Open);
    assert_eq!(restored.qualification, None);
    assert_eq!(restored.snooze_until_time, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waited_for_another_is_made_of_what_it_finds_then() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    tenant.assign(&conversation, "a", "").await.unwrap();
    let database = admin().await;
    let schema = &tenant.tenant.schema_name;
    let other = format!(
        "BEGIN; UPDATE {schema}.inbox_conversations SET assignee_id = 'b' WHERE id = '{}'",
        conversation.id
    );
    database.batch_execute(&other).await.unwrap();
    let waiting = {
        let (tenant, conversation) = (tenant.clone(), conversation.clone());
        tokio::spawn(async move { tenant.assign(&conversation, "a", "").await })
    };
    let blocked = format!(
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename
        JOIN directory.tenants t ON t.role_name = r.rolname
        WHERE t.slug = '{}' AND a.wait_event_type = 'Lock'",
        tenant.slug()
    );
    let observer = admin().await;
    eventually("the call waits for the row", async || {
        observer
            .query_one(&blocked, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 1
    })
    .await;
    database.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().assignee_id, "a");
    let change = &tenant.activities(&conversation).await[0];
    assert_eq!(change.before.as_ref().unwrap().assignee_id, "b");
    assert_eq!(change.after.as_ref().unwrap().assignee_id, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_kept_in_order_and_each_once() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let labels = |labels: &[&str]| labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    let given = labels(&["vip", "refund", "vip", "größe"]);
    let edited = tenant
        .edit(&conversation, |r| r.labels = given)
        .await
        .unwrap();
    assert_eq!(edited.labels, ["vip", "refund", "größe"]);
    let mask = FieldMask {
        paths: vec!["labels".to_owned()],
    };
    let cleared = tenant
        .edit(&conversation, |r| r.update_mask = Some(mask))
        .await;
    assert!(cleared.unwrap().labels.is_empty());
    let many = (0..51).map(|n| n.to_string()).collect();
    let refused = tenant.edit(&conversation, |r| r.labels = many).await;
    assert_eq!(reason(refused).0, Code::InvalidArgument);
    let change = &tenant.activities(&conversation).await[0];
    let before = change.before.as_ref().unwrap();
    assert_eq!(before.labels, ["vip", "refund", "größe"]);
    assert!(change.after.as_ref().unwrap().labels.is_empty());
    assert_eq!(change.changed_fields, ["labels"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_listed_by_who_has_them_and_how_they_stand() {
    let (_server, tenant) = tenant().await;
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(tenant.conversation().await);
    }
    let priority = async |index: usize, priority: Priority| {
        let change = |r: &mut UpdateConversationRequest| r.priority = Some(priority.into());
        tenant.edit(&all[index], change).await.unwrap();
    };
    priority(0, Priority::Low).await;
    priority(2, Priority::Urgent).await;
    priority(4, Priority::Urgent).await;
    let by_priority = |r: &mut ListConversationsRequest| r.order_by = "priority desc".to_owned();
    assert_eq!(tenant.numbers(by_priority).await, [3, 5, 2, 4, 6, 1]);
    tenant.archive(&all[2]).await;
    assert_eq!(tenant.numbers(by_priority).await, [5, 2, 4, 6, 1]);

    for index in [3, 1, 5] {
        tenant.receive(&all[index], "Hello").await;
    }
    let waiting = |r: &mut ListConversationsRequest| r.order_by = "waiting_since_time".to_owned();
    assert_eq!(tenant.numbers(waiting).await, [4, 2, 6]);
    tenant.answer(&all[1], "mira").await;
    assert_eq!(tenant.numbers(waiting).await, [4, 6]);

    tenant.assign(&all[0], "mira", "").await.unwrap();
    tenant.assign(&all[1], "mira", "sales").await.unwrap();
    tenant.assign(&all[3], "", "sales").await.unwrap();
    let by = |r: &mut ListConversationsRequest| r.order_by = "create_time".to_owned();
    let mira = |r: &mut ListConversationsRequest| {
        r.assignee_id = "mira".to_owned();
        by(r);
    };
    assert_eq!(tenant.numbers(mira).await, [1, 2]);
    let sales = |r: &mut ListConversationsRequest| r.team_id = "sales".to_owned();
    assert_eq!(tenant.numbers(sales).await, [2, 4]);
    let nobodys = |r: &mut ListConversationsRequest| {
        r.unassigned = Some(true);
        by(r);
    };
    assert_eq!(tenant.numbers(nobodys).await, [4, 5, 6]);
    let unread = |r: &mut ListConversationsRequest| {
        r.unread = Some(true);
        by(r);
    };
    assert_eq!(tenant.numbers(unread).await, [2, 4, 6]);
    let urgent = |r: &mut ListConversationsRequest| {
        r.priorities = vec![Priority::Urgent.into(), Priority::Low.into()];
        r.statuses = vec![
            ConversationStatus::New.into(),
            ConversationStatus::Open.into(),
            ConversationStatus::Archived.into(),
        ];
        by(r);
    };
    assert_eq!(tenant.numbers(urgent).await, [1, 3, 5]);
    tenant.qualify(&all[4], 1).await;
    assert_eq!(tenant.numbers(|r| r.qualified = Some(true)).await, [5]);
    for index in [0, 4] {
        let labels = vec!["vip".to_owned(), format!("l{index}")];
        tenant
            .edit(&all[index], |r| r.labels = labels)
            .await
            .unwrap();
    }
    let vip = |r: &mut ListConversationsRequest| {
        r.labels = vec!["vip".to_owned()];
        by(r);
    };
    assert_eq!(tenant.numbers(vip).await, [1, 5]);
    let both =
        |r: &mut ListConversationsRequest| r.labels = vec!["vip".to_owned(), "l4".to_owned()];
    assert_eq!(tenant.numbers(both).await, [5]);
    let until = Timestamp {
        seconds: i64::try_from(now()).unwrap() + 3600,
        nanos: 0,
    };
    tenant
        .edit(&all[5], |r| r.snooze_until_time = Some(until))
        .await
        .unwrap();
    assert_eq!(tenant.numbers(|r| r.snoozed = Some(true)).await, [6]);
    tenant.receive(&all[5], "Me again").await;
    assert_eq!(tenant.numbers(|r| r.snoozed = Some(true)).await, [0_i64; 0]);
}
