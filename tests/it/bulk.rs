//! One change of many conversations: a result for each, all or nothing, and by a filter with
//! progress.

use std::collections::BTreeSet;
use std::time::Instant;

use communication_service::pb::*;
use prost_types::{FieldMask, Timestamp};
use serde_json::json;
use tonic::{Code, Status, Streaming};

use crate::harness::{Refusal, Tables, TestServer, TestTenant, eventually, exchange, user};

fn label(label: &str) -> Option<ConversationChange> {
    Some(ConversationChange {
        add_labels: vec![label.to_owned()],
        ..Default::default()
    })
}

fn assignment(assignee: &str) -> Option<ConversationAssignment> {
    Some(ConversationAssignment {
        assignee_id: assignee.to_owned(),
        team_id: String::new(),
    })
}

/// What became of an item: the reason of its refusal, or whether it was changed.
fn outcome(result: &ConversationUpdateResult) -> String {
    match &result.error {
        None if result.changed => "changed".to_owned(),
        None => "unchanged".to_owned(),
        Some(error) => error.reason().as_str_name()["ERROR_REASON_".len()..].to_owned(),
    }
}

impl TestTenant {
    fn batch(&self, ids: &[String]) -> BatchUpdateConversationsRequest {
        BatchUpdateConversationsRequest {
            tenant: self.slug(),
            actor: user("mira"),
            conversation_ids: ids.to_vec(),
            ..Default::default()
        }
    }

    async fn update_many(
        &self,
        request: BatchUpdateConversationsRequest,
    ) -> Result<BatchUpdateConversationsResponse, Status> {
        let answer = self.inbox.clone().batch_update_conversations(request).await;
        answer.map(tonic::Response::into_inner)
    }

    fn matching(&self, filter: ConversationFilter) -> UpdateConversationsByFilterRequest {
        UpdateConversationsByFilterRequest {
            tenant: self.slug(),
            actor: user("mira"),
            filter: Some(filter),
            ..Default::default()
        }
    }

    async fn update_matching(
        &self,
        request: UpdateConversationsByFilterRequest,
    ) -> Result<Streaming<UpdateConversationsByFilterResponse>, Status> {
        let mut inbox = self.inbox.clone();
        let answer = inbox.update_conversations_by_filter(request).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn read(&self, id: &str) -> Conversation {
        let conversation = Conversation {
            id: id.to_owned(),
            ..Default::default()
        };
        self.get(&conversation).await
    }

    /// A conversation by mail, where one person can have many.
    async fn thread(&self) -> Conversation {
        let request = CreateConversationRequest {
            tenant: self.slug(),
            channel: Channel::Email.into(),
            contact_identifier: "jane@example.com".to_owned(),
            thread_key: uuid::Uuid::now_v7().to_string(),
            ..Default::default()
        };
        self.create(request).await
    }

    /// Makes many conversations at once, in threads of one person; returns their ids by number.
    async fn threads(&self, tables: &Tables, count: i32) -> Vec<String> {
        let schema = &tables.schema;
        let id = self.thread().await.id;
        let copy = format!(
            "INSERT INTO {schema}.inbox_conversations (id, number, contact_identity_id, channel,
                thread_key, status, priority, subject, metadata, last_message_at, created_at, updated_at)
            SELECT gen_random_uuid(), nextval('{schema}.inbox_conversations_number_seq'),
                c.contact_identity_id, c.channel, 'thread-' || n, 'new', 'normal', '', '{{}}',
                c.last_message_at, c.created_at, c.updated_at
            FROM {schema}.inbox_conversations c, generate_series(2, $1::int) n
            WHERE c.id::text = $2"
        );
        tables.admin.execute(&copy, &[&count, &id]).await.unwrap();
        tables.numbered("true").await
    }
}

impl Tables {
    /// The ids of the conversations that fulfil a condition, by their numbers.
    async fn numbered(&self, condition: &str) -> Vec<String> {
        let schema = &self.schema;
        let query = format!(
            "SELECT id::text FROM {schema}.inbox_conversations WHERE {condition} ORDER BY number"
        );
        let rows = self.admin.query(&query, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Locks a conversation until the transaction of this connection ends.
    async fn lock(&self, id: &str) {
        let schema = &self.schema;
        let lock =
            format!("BEGIN; SELECT FROM {schema}.inbox_conversations WHERE id = '{id}' FOR UPDATE");
        self.admin.batch_execute(&lock).await.unwrap();
    }

    async fn unlock(&self) {
        self.admin.batch_execute("ROLLBACK").await.unwrap();
    }

    /// Waits until a session of the tenant waits for a row.
    async fn until_one_waits(&self) {
        let other = Self {
            admin: crate::harness::admin().await,
            number: self.number,
            schema: self.schema.clone(),
            role: self.role.clone(),
        };
        eventually("somebody waits for the row", async || {
            other.sessions("wait_event_type = 'Lock'").await > 0
        })
        .await;
    }
}

async fn tenant() -> (TestServer, TestTenant, Tables) {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let tables = Tables::of(&tenant).await;
    (server, tenant, tables)
}

const CHANGES: &str = "SELECT count(*) FROM {schema}.conversation_changes WHERE kind <> 'created'";

#[tokio::test(flavor = "multi_thread")]
async fn each_conversation_of_a_batch_is_changed_or_refused_by_itself() {
    let (_server, tenant, tables) = tenant().await;
    let (fresh, closed) = (tenant.conversation().await, tenant.conversation().await);
    let (seen, stale) = (tenant.conversation().await, tenant.conversation().await);
    tenant.archive(&closed).await;
    let before = tables.count(CHANGES).await;
    let missing = uuid::Uuid::now_v7().to_string();
    let mut request = tenant.batch(&[missing.clone(), fresh.id.clone(), closed.id.clone()]);
    request.conversations = vec![
        ConversationToUpdate {
            conversation_id: seen.id.clone(),
            etag: seen.etag.clone(),
        },
        ConversationToUpdate {
            conversation_id: stale.id.clone(),
            etag: "\"7\"".to_owned(),
        },
    ];
    request.change = Some(ConversationChange {
        priority: Some(Priority::High.into()),
        add_labels: vec!["vip".to_owned()],
        assignment: assignment("zoe"),
        ..Default::default()
    });
    let answer = tenant.update_many(request.clone()).await.unwrap();
    let results = &answer.results;
    let ids: Vec<_> = results.iter().map(|r| r.conversation_id.clone()).collect();
    let asked = [&missing, &fresh.id, &closed.id, &seen.id, &stale.id];
    assert_eq!(ids.iter().collect::<Vec<_>>(), asked);
    assert_eq!(
        results.iter().map(outcome).collect::<Vec<_>>(),
        [
            "RESOURCE_NOT_FOUND",
            "changed",
            "CONVERSATION_ARCHIVED",
            "changed",
            "ETAG_MISMATCH"
        ]
    );
    let counts = (
        answer.changed_count,
        answer.unchanged_count,
        answer.failed_count,
    );
    assert_eq!(counts, (2, 0, 3));
    for (result, before) in [(&results[1], &fresh), (&results[3], &seen)] {
        let changed = result.conversation.clone().unwrap();
        assert_eq!(changed, tenant.get(before).await);
        assert_eq!(result.etag, changed.etag);
        assert_eq!(result.version, before.version + 1);
        assert_eq!(changed.status(), ConversationStatus::Open);
        assert_eq!(changed.priority(), Priority::High);
        assert_eq!(changed.assignee_id, "zoe");
        assert_eq!(changed.labels, ["vip"]);
    }
    let error = results[0].error.clone().unwrap();
    assert_eq!(error.code, Code::NotFound as i32);
    assert_eq!(
        error.message,
        format!("conversation `{missing}` does not exist")
    );
    assert_eq!(error.metadata["id"], missing);
    let error = results[4].error.clone().unwrap();
    assert_eq!(error.code, Code::Aborted as i32);
    assert_eq!(error.metadata["current"], stale.etag);
    assert_eq!(results[4].conversation, None);
    assert_eq!(tenant.get(&stale).await, stale);
    // Each change is in the log, and what changes nothing is not.
    assert_eq!(tables.count(CHANGES).await, before + 2);
    let logged = "SELECT count(*) FROM {schema}.conversation_changes c
        JOIN {schema}.events e ON e.id = c.id
        WHERE c.kind = 'assigned' AND c.actor_id = 'mira' AND e.kind = 'conversation.updated'
            AND c.changed = '{status,priority,assignee_id,labels}'";
    assert_eq!(tables.count(logged).await, 2);
    request.conversations.clear();
    request.conversation_ids = vec![fresh.id.clone(), seen.id.clone()];
    let again = tenant.update_many(request).await.unwrap();
    assert_eq!((again.changed_count, again.unchanged_count), (0, 2));
    assert_eq!(tables.count(CHANGES).await, before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_or_nothing_changes_nothing_where_one_is_refused_and_says_which() {
    let (_server, tenant, tables) = tenant().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(tenant.conversation().await.id);
    }
    let mut request = tenant.batch(&ids);
    request.all_or_nothing = true;
    request.request_id = "once".to_owned();
    request.change = Some(ConversationChange {
        status: Some(ConversationStatus::Replied.into()),
        ..Default::default()
    });
    let before = tables.count(CHANGES).await;
    let missing = uuid::Uuid::now_v7().to_string();
    let mut with_missing = request.clone();
    with_missing.conversation_ids.insert(1, missing.clone());
    let refusal = Refusal::of(&tenant.update_many(with_missing).await.unwrap_err());
    assert_eq!(refusal.why(), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    assert_eq!(refusal.metadata["item"], "conversation_ids[1]");
    assert_eq!(
        refusal.message,
        format!("`conversation_ids[1]`: conversation `{missing}` does not exist")
    );
    assert_eq!(refusal.resource, Some(("conversation".to_owned(), missing)));

    let mut stale = request.clone();
    let id = stale.conversation_ids.pop().unwrap();
    stale.conversations = vec![ConversationToUpdate {
        conversation_id: id,
        etag: "\"9\"".to_owned(),
    }];
    let refusal = Refusal::of(&tenant.update_many(stale).await.unwrap_err());
    assert_eq!(refusal.why(), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(refusal.metadata["item"], "conversations[0].conversation_id");
    assert_eq!(tables.count(CHANGES).await, before);

    // The id was not used up by what was refused.
    let done = tenant.update_many(request.clone()).await.unwrap();
    assert_eq!((done.changed_count, done.failed_count), (3, 0));
    assert_eq!(tenant.update_many(request).await.unwrap(), done);
    assert_eq!(tables.count(CHANGES).await, before + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_added_and_removed_beside_the_others_within_their_limit() {
    let (_server, tenant, _) = tenant().await;
    let (one, full) = (tenant.conversation().await, tenant.conversation().await);
    let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let many: Vec<_> = (0..50).map(|n| format!("label-{n}")).collect();
    for (conversation, labels) in [(&one, words(&["b", "a", "c"])), (&full, many.clone())] {
        let mut request = tenant.batch(std::slice::from_ref(&conversation.id));
        request.change = Some(ConversationChange {
            labels,
            ..Default::default()
        });
        tenant.update_many(request).await.unwrap();
    }
    let mut request = tenant.batch(&[one.id.clone(), full.id.clone()]);
    request.change = Some(ConversationChange {
        add_labels: words(&["d", "a", "d"]),
        remove_labels: words(&["b", "x"]),
        ..Default::default()
    });
    let answer = tenant.update_many(request.clone()).await.unwrap();
    assert_eq!(tenant.get(&one).await.labels, ["a", "c", "d"]);
    assert_eq!(outcome(&answer.results[1]), "CONVERSATION_LABEL_LIMIT");
    let error = answer.results[1].error.clone().unwrap();
    assert_eq!(error.code, Code::FailedPrecondition as i32);
    assert_eq!(error.metadata["limit"], "50");
    assert_eq!(tenant.get(&full).await.labels, many);
    // One goes, one comes: that is 50 again.
    request.change = Some(ConversationChange {
        add_labels: words(&["d"]),
        remove_labels: words(&["label-0"]),
        ..Default::default()
    });
    let answer = tenant.update_many(request.clone()).await.unwrap();
    assert_eq!(outcome(&answer.results[1]), "changed");
    let labels = tenant.get(&full).await.labels;
    assert_eq!((labels.len(), labels[49].as_str()), (50, "d"));
    // Named and not set is cleared.
    request.conversation_ids.remove(0);
    request.change = Some(ConversationChange {
        update_mask: Some(FieldMask {
            paths: words(&["labels"]),
        }),
        ..Default::default()
    });
    tenant.update_many(request).await.unwrap();
    assert!(tenant.get(&full).await.labels.is_empty());
    // The call for one conversation knows them too.
    let request = UpdateConversationRequest {
        tenant: tenant.slug(),
        conversation_id: one.id.clone(),
        add_labels: words(&["e"]),
        remove_labels: words(&["a"]),
        ..Default::default()
    };
    let answer = tenant.inbox.clone().update_conversation(request).await;
    let changed = answer.unwrap().into_inner().conversation.unwrap();
    assert_eq!(changed.labels, ["c", "d", "e"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_archived_reopened_put_aside_and_taken_from_everybody() {
    let (_server, tenant, tables) = tenant().await;
    let (a, b) = (tenant.thread().await, tenant.thread().await);
    let ids = [a.id.clone(), b.id.clone()];
    let mut request = tenant.batch(&ids);
    let until = Timestamp {
        seconds: 4_102_444_800,
        nanos: 0,
    };
    request.change = Some(ConversationChange {
        snooze_until_time: Some(until),
        assignment: assignment("zoe"),
        ..Default::default()
    });
    tenant.update_many(request.clone()).await.unwrap();
    assert_eq!(tenant.get(&a).await.snooze_until_time, Some(until));
    let alarms = format!(
        "SELECT count(*) FROM directory.alarms a JOIN directory.tenants t ON t.id = a.tenant_id
        WHERE t.slug = '{}'",
        tenant.slug()
    );
    assert_eq!(tables.count(&alarms).await, 1);
    request.change = Some(ConversationChange {
        archive: true,
        add_labels: vec!["done".to_owned()],
        ..Default::default()
    });
    tenant.update_many(request.clone()).await.unwrap();
    for conversation in [&a, &b] {
        let archived = tenant.get(conversation).await;
        assert_eq!(archived.status(), ConversationStatus::Archived);
        assert_eq!(archived.snooze_until_time, None);
        assert_eq!(archived.assignee_id, "zoe");
        assert_eq!(archived.labels, ["done"]);
    }
    // Two of one thread: the newer one goes on, and the other has lost its place.
    let mut thread = CreateConversationRequest {
        tenant: tenant.slug(),
        channel: Channel::Email.into(),
        contact_identifier: "jane@example.com".to_owned(),
        thread_key: a.thread_key.clone(),
        ..Default::default()
    };
    let newer = tenant.create(thread.clone()).await;
    tenant.archive(&newer).await;
    thread.thread_key.clone_from(&b.thread_key);
    let taken = tenant.create(thread).await;
    let mut request = tenant.batch(&[a.id.clone(), newer.id.clone(), b.id.clone()]);
    request.change = Some(ConversationChange {
        reopen: true,
        assignment: Some(ConversationAssignment::default()),
        ..Default::default()
    });
    let answer = tenant.update_many(request).await.unwrap();
    assert_eq!(
        answer.results.iter().map(outcome).collect::<Vec<_>>(),
        ["CONVERSATION_REPLACED", "changed", "CONVERSATION_REPLACED"]
    );
    let open = tenant.get(&newer).await;
    assert_eq!((open.status(), open.episode), (ConversationStatus::Open, 2));
    assert_eq!(open.assignee_id, "");
    assert_eq!(tenant.get(&taken).await, taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_are_changed_and_one_more_is_refused() {
    let (_server, tenant, tables) = tenant().await;
    let ids = tenant.threads(&tables, 101).await;
    let mut request = tenant.batch(&ids[..100]);
    let before = tables.count("SELECT count(*) FROM {schema}.events").await;
    for (all_or_nothing, word) in [(false, "each"), (true, "all")] {
        request.all_or_nothing = all_or_nothing;
        request.change = label(word);
        let begun = Instant::now();
        let answer = tenant.update_many(request.clone()).await.unwrap();
        println!("100 conversations, {word}: {:?}", begun.elapsed());
        assert_eq!((answer.changed_count, answer.failed_count), (100, 0));
        let changed: Vec<_> = answer.results.iter().map(|r| &r.conversation_id).collect();
        assert_eq!(changed, ids[..100].iter().collect::<Vec<_>>());
    }
    assert_eq!(
        tables
            .numbered("labels = '{each,all}' AND version = 3")
            .await,
        ids[..100]
    );
    let after = tables.count("SELECT count(*) FROM {schema}.events").await;
    assert_eq!(after, before + 200);
    request.conversation_ids.push(ids[100].clone());
    let refusal = Refusal::of(&tenant.update_many(request).await.unwrap_err());
    assert_eq!(refusal.why(), (Code::InvalidArgument, "INVALID_FIELD"));
    assert!(refusal.names("conversation_ids"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_be_too_large_leaves_conversations_out() {
    let (_server, tenant, tables) = tenant().await;
    let ids = tenant.threads(&tables, 100).await;
    let fill = format!(
        "UPDATE {}.inbox_conversations SET metadata = jsonb_build_object('a', repeat('x', 32000))",
        tables.schema
    );
    tables.admin.batch_execute(&fill).await.unwrap();
    let mut request = tenant.batch(&ids);
    request.change = label("vip");
    let answer = tenant.update_many(request).await.unwrap();
    assert!(prost::Message::encoded_len(&answer) < 4 * 1024 * 1024);
    let whole = answer.results.iter().filter(|r| r.conversation.is_some());
    assert!((90..100).contains(&whole.count()));
    assert!(answer.results.iter().all(|r| r.changed && r.version == 2));
    assert!(answer.results.iter().all(|r| !r.etag.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_overlap_wait_for_each_other_and_never_in_a_circle() {
    let (_server, tenant, tables) = tenant().await;
    let ids = tenant.threads(&tables, 100).await;
    let callers = (0..8_usize).map(|caller| {
        let (tenant, mut ids) = (tenant.clone(), ids.clone());
        ids.rotate_left(caller * 12);
        if caller % 2 == 0 {
            ids.reverse();
        }
        tokio::spawn(async move {
            for round in 0..4 {
                let mut request = tenant.batch(&ids);
                request.all_or_nothing = caller % 3 == 0;
                request.change = label(&format!("{caller}-{round}"));
                let answer = tenant.update_many(request).await.unwrap();
                assert_eq!(answer.changed_count, 100, "{answer:?}");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let complete = tables.numbered("cardinality(labels) = 32 AND version = 33");
    assert_eq!(complete.await, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_together_is_changed_one_by_one() {
    let (_server, tenant, tables) = tenant().await;
    let mut ids = tenant.threads(&tables, 3).await;
    ids.sort();
    let holder = Tables::of(&tenant).await;
    holder.lock(&ids[2]).await;
    let mut request = tenant.batch(&ids);
    request.change = label("vip");
    let caller = tenant.clone();
    let running = tokio::spawn(async move { caller.update_many(request).await });
    holder.until_one_waits().await;
    // Now each waits for the other, and the database ends who waited first.
    let lock = format!(
        "SELECT FROM {}.inbox_conversations WHERE id = '{}' FOR UPDATE",
        tables.schema, ids[0]
    );
    holder.admin.batch_execute(&lock).await.unwrap();
    holder.unlock().await;
    let answer = running.await.unwrap().unwrap();
    assert_eq!((answer.changed_count, answer.failed_count), (3, 0));
    let once = tables.numbered("labels = '{vip}' AND version = 2").await;
    assert_eq!(once.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_repeated_by_its_id_gets_the_first_results() {
    let (_server, tenant, tables) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut request = tenant.batch(&[]);
    request.conversations = vec![ConversationToUpdate {
        conversation_id: conversation.id.clone(),
        etag: conversation.etag.clone(),
    }];
    request.request_id = "batch-1".to_owned();
    request.change = label("vip");
    let first = tenant.update_many(request.clone()).await.unwrap();
    assert_eq!(outcome(&first.results[0]), "changed");
    let before = tables.count(CHANGES).await;
    // By now the etag is stale; who has the first results does not hear of it.
    assert_eq!(tenant.update_many(request.clone()).await.unwrap(), first);
    assert_eq!(tables.count(CHANGES).await, before);
    request.change = label("spam");
    let refusal = Refusal::of(&tenant.update_many(request).await.unwrap_err());
    assert_eq!(refusal.why(), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(tenant.get(&conversation).await.labels, ["vip"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_match_are_changed_once_and_told_of_as_it_goes() {
    let (_server, tenant, tables) = tenant().await;
    let ids = tenant.threads(&tables, 2_450).await;
    // Two that cannot have one label more, and two that do not match.
    let schema = &tables.schema;
    let fill = format!(
        "UPDATE {schema}.inbox_conversations SET labels = (SELECT array_agg('l' || n)
            FROM generate_series(1, 50) n) WHERE id IN ('{}', '{}');
        UPDATE {schema}.inbox_conversations SET priority = 'low' WHERE id IN ('{}', '{}')",
        ids[3], ids[2_000], ids[5], ids[6]
    );
    tables.admin.batch_execute(&fill).await.unwrap();
    let mut request = tenant.matching(ConversationFilter {
        unassigned: Some(true),
        priorities: vec![Priority::Normal.into()],
        ..Default::default()
    });
    // The change makes it match no more.
    request.change = Some(ConversationChange {
        assignment: assignment("zoe"),
        ..label("bulk").unwrap()
    });
    let mut dry = request.clone();
    dry.validate_only = true;
    let mut told = tenant.update_matching(dry).await.unwrap();
    let only = told.message().await.unwrap().unwrap();
    assert_eq!((only.total_count, only.processed_count), (2_448, 0));
    assert!(only.finished && only.resume_token.is_empty());
    assert_eq!(told.message().await.unwrap(), None);
    assert_eq!(tables.count(CHANGES).await, 0);

    let holder = Tables::of(&tenant).await;
    holder.lock(&ids[1_500]).await;
    let begun = Instant::now();
    let mut told = tenant.update_matching(request.clone()).await.unwrap();
    holder.until_one_waits().await;
    // Made while it is under way, so not meant; one that was meant is given to somebody else.
    let late = tenant.conversation().await;
    let mut other = tenant.batch(&[ids[2_400].clone()]);
    other.change = Some(ConversationChange {
        assignment: assignment("kim"),
        ..Default::default()
    });
    tenant.update_many(other).await.unwrap();
    holder.unlock().await;
    let mut messages = Vec::new();
    while let Some(message) = told.message().await.unwrap() {
        messages.push(message);
    }
    println!("2,448 conversations by filter: {:?}", begun.elapsed());
    assert_eq!(messages.len(), 26);
    let (first, last) = (&messages[0], &messages[25]);
    assert_eq!((first.total_count, first.processed_count), (2_448, 0));
    for pair in messages.windows(2) {
        assert!(pair[0].processed_count < pair[1].processed_count);
        assert!(!pair[0].finished);
    }
    assert!(last.finished && last.resume_token.is_empty());
    assert_eq!(last.processed_count, 2_448);
    let counts = (last.changed_count, last.skipped_count, last.failed_count);
    assert_eq!(counts, (2_445, 1, 2));
    assert_eq!(last.unchanged_count, 0);
    let failures = messages.iter().flat_map(|message| &message.failures);
    let failures: Vec<_> = failures
        .map(|failure| (failure.conversation_id.as_str(), outcome(failure)))
        .collect();
    let limit = || "CONVERSATION_LABEL_LIMIT".to_owned();
    assert_eq!(
        failures,
        [(ids[3].as_str(), limit()), (ids[2_000].as_str(), limit())]
    );
    let once = "labels = '{bulk}' AND assignee_id = 'zoe' AND version = 2";
    assert_eq!(tables.numbered(once).await.len(), 2_445);
    assert_eq!(tables.count(CHANGES).await, 2_446);
    assert_eq!(tenant.read(&ids[2_400]).await.assignee_id, "kim");
    assert_eq!(tenant.get(&late).await, late);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_makes_others_match_does_not_run_after_itself() {
    let (_server, tenant, tables) = tenant().await;
    tenant.threads(&tables, 250).await;
    // What is changed stays among those that match, as the newest of them.
    let mut request = tenant.matching(ConversationFilter {
        statuses: vec![ConversationStatus::New.into()],
        updated_since_time: Some(Timestamp::default()),
        ..Default::default()
    });
    request.change = label("bulk");
    let mut told = tenant.update_matching(request.clone()).await.unwrap();
    let mut last = None;
    while let Some(message) = told.message().await.unwrap() {
        last = Some(message);
    }
    assert_eq!(last.unwrap().changed_count, 250);
    assert_eq!(tables.numbered("version = 2").await.len(), 250);
    // Everything, once more: it is so already.
    request.filter = None;
    request.everything = true;
    let mut told = tenant.update_matching(request).await.unwrap();
    let mut last = None;
    while let Some(message) = told.message().await.unwrap() {
        last = Some(message);
    }
    let last = last.unwrap();
    assert_eq!((last.unchanged_count, last.changed_count), (250, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_stops_the_change_and_can_go_on_later() {
    let (_server, tenant, tables) = tenant().await;
    let ids = tenant.threads(&tables, 450).await;
    let mut request = tenant.matching(ConversationFilter {
        statuses: vec![ConversationStatus::New.into()],
        ..Default::default()
    });
    request.change = label("bulk");
    let holder = Tables::of(&tenant).await;
    holder.lock(&ids[250]).await;
    let mut told = tenant.update_matching(request.clone()).await.unwrap();
    let mut last = UpdateConversationsByFilterResponse::default();
    while last.processed_count < 200 {
        last = told.message().await.unwrap().unwrap();
    }
    holder.until_one_waits().await;
    drop(told);
    eventually("the call has ended", async || {
        tables.sessions("state <> 'idle'").await == 0
    })
    .await;
    holder.unlock().await;
    assert_eq!(tables.numbered("labels = '{bulk}'").await, ids[..200]);

    // What is made in between is not meant by the call that goes on.
    let late = tenant.thread().await;
    request.resume_token = last.resume_token;
    let mut told = tenant.update_matching(request.clone()).await.unwrap();
    let mut last = UpdateConversationsByFilterResponse::default();
    while let Some(message) = told.message().await.unwrap() {
        last = message;
    }
    assert_eq!((last.total_count, last.changed_count), (250, 250));
    assert!(last.finished);
    let once = tables.numbered("labels = '{bulk}' AND version = 2").await;
    assert_eq!(once, ids);
    assert_eq!(tenant.get(&late).await, late);
    // A token goes on with the call that it is of, and with no other.
    request.change = label("other");
    let refusal = Refusal::of(&tenant.update_matching(request).await.unwrap_err());
    assert!(refusal.names("resume_token"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_many_that_is_wrong_is_refused_by_the_name_of_its_field() {
    let (_server, tenant, tables) = tenant().await;
    let id = tenant.conversation().await.id;
    let batch = tenant.batch(std::slice::from_ref(&id));
    let with = |change: ConversationChange| BatchUpdateConversationsRequest {
        change: Some(change),
        ..batch.clone()
    };
    let good = label("vip");
    let other = uuid::Uuid::now_v7().to_string();
    let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let mask = |paths: &[&str]| {
        Some(FieldMask {
            paths: words(paths),
        })
    };
    let wrong = [
        ("change", batch.clone()),
        ("change", with(ConversationChange::default())),
        (
            "conversation_ids",
            BatchUpdateConversationsRequest {
                change: good.clone(),
                ..tenant.batch(&[])
            },
        ),
        (
            "conversation_ids[3]",
            BatchUpdateConversationsRequest {
                change: good.clone(),
                ..tenant.batch(&[
                    id.clone(),
                    uuid::Uuid::now_v7().to_string(),
                    other.clone(),
                    id.clone(),
                ])
            },
        ),
        (
            "conversations[1].conversation_id",
            BatchUpdateConversationsRequest {
                change: good.clone(),
                conversations: vec![
                    ConversationToUpdate {
                        conversation_id: other,
                        ..Default::default()
                    },
                    ConversationToUpdate {
                        conversation_id: id.to_uppercase(),
                        ..Default::default()
                    },
                ],
                ..batch.clone()
            },
        ),
        (
            "change.remove_labels[1]",
            with(ConversationChange {
                add_labels: words(&["a"]),
                remove_labels: words(&["b", "a"]),
                ..Default::default()
            }),
        ),
        (
            "change.add_labels",
            with(ConversationChange {
                add_labels: (0..51).map(|n| n.to_string()).collect(),
                ..Default::default()
            }),
        ),
        (
            "change.status",
            with(ConversationChange {
                status: Some(ConversationStatus::Archived.into()),
                ..Default::default()
            }),
        ),
        (
            "change.status",
            with(ConversationChange {
                update_mask: mask(&["status"]),
                ..Default::default()
            }),
        ),
        (
            "change.update_mask",
            with(ConversationChange {
                update_mask: mask(&["subject"]),
                archive: true,
                ..Default::default()
            }),
        ),
        (
            "change.status",
            with(ConversationChange {
                status: Some(ConversationStatus::Open.into()),
                archive: true,
                ..Default::default()
            }),
        ),
        (
            "change.reopen",
            with(ConversationChange {
                reopen: true,
                archive: true,
                ..Default::default()
            }),
        ),
        (
            "change.assignment.team_id",
            with(ConversationChange {
                assignment: Some(ConversationAssignment {
                    team_id: "x".repeat(129),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        ),
    ];
    for (field, request) in wrong {
        let refusal = Refusal::of(&tenant.update_many(request).await.unwrap_err());
        assert_eq!(refusal.code, Code::InvalidArgument, "{field}: {refusal:?}");
        let named: BTreeSet<_> = refusal.fields.keys().map(String::as_str).collect();
        assert_eq!(named, BTreeSet::from([field]), "{refusal:?}");
    }
    let everything = UpdateConversationsByFilterRequest {
        everything: true,
        change: good.clone(),
        ..tenant.matching(ConversationFilter::default())
    };
    let wrong = [
        (
            "filter",
            UpdateConversationsByFilterRequest {
                everything: false,
                ..everything.clone()
            },
        ),
        (
            "everything",
            UpdateConversationsByFilterRequest {
                filter: Some(ConversationFilter {
                    unread: Some(true),
                    ..Default::default()
                }),
                ..everything.clone()
            },
        ),
        (
            "filter.contact_id",
            UpdateConversationsByFilterRequest {
                everything: false,
                filter: Some(ConversationFilter {
                    contact_id: "jane".to_owned(),
                    ..Default::default()
                }),
                ..everything.clone()
            },
        ),
        (
            "change",
            UpdateConversationsByFilterRequest {
                change: None,
                ..everything.clone()
            },
        ),
        (
            "resume_token",
            UpdateConversationsByFilterRequest {
                resume_token: "x".to_owned(),
                ..everything
            },
        ),
    ];
    for (field, request) in wrong {
        let refusal = Refusal::of(&tenant.update_matching(request).await.unwrap_err());
        assert_eq!(refusal.code, Code::InvalidArgument, "{field}: {refusal:?}");
        let named: BTreeSet<_> = refusal.fields.keys().map(String::as_str).collect();
        assert_eq!(named, BTreeSet::from([field]), "{refusal:?}");
    }
    assert_eq!(tables.count(CHANGES).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_many_reaches_no_other_tenant() {
    let server = TestServer::start().await;
    let (ours, theirs) = (server.tenant().await, server.tenant().await);
    let (own, foreign) = (ours.conversation().await, theirs.conversation().await);
    let mut request = ours.batch(&[own.id.clone(), foreign.id.clone()]);
    request.change = label("vip");
    let answer = ours.update_many(request.clone()).await.unwrap();
    assert_eq!(outcome(&answer.results[1]), "RESOURCE_NOT_FOUND");
    request.all_or_nothing = true;
    let refusal = Refusal::of(&ours.update_many(request).await.unwrap_err());
    assert_eq!(refusal.why(), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    let mut request = ours.matching(ConversationFilter::default());
    request.everything = true;
    request.change = label("all");
    let mut told = ours.update_matching(request).await.unwrap();
    let mut last = None;
    while let Some(message) = told.message().await.unwrap() {
        last = Some(message);
    }
    assert_eq!(last.unwrap().changed_count, 1);
    assert_eq!(ours.get(&own).await.labels, ["vip", "all"]);
    assert_eq!(theirs.get(&foreign).await, foreign);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_changed_by_rest() {
    let (server, tenant, _) = tenant().await;
    let conversation = tenant.conversation().await;
    let path = format!(
        "/api/v1/tenants/{}/conversations/batch-update",
        tenant.slug()
    );
    let body = json!({
        "conversation_ids": [conversation.id, uuid::Uuid::now_v7().to_string()],
        "change": {"status": "open", "add_labels": ["vip"], "assignment": {"assignee_id": "zoe"}},
    });
    let headers = [("content-type", "application/json")];
    let body = body.to_string();
    let answer = exchange(server.http, "POST", &path, &headers, body.as_bytes()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let results = &answer["results"];
    assert_eq!(results[0]["changed"], json!(true));
    assert_eq!(results[0]["conversation"]["labels"], json!(["vip"]));
    assert_eq!(results[0]["conversation"]["assignee_id"], json!("zoe"));
    assert_eq!(results[1]["error"]["code"], json!(5));
    assert_eq!(results[1]["error"]["reason"], json!("resource_not_found"));
    assert_eq!(answer["failed_count"], json!(1));
}
