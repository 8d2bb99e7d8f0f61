//! The event log is commit-safe: who reads it while it is written misses nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use communication_service::pb::{
    BatchCreateMessagesRequest, BatchUpdateConversationsRequest, ConversationChange,
    CreateQuickReplyRequest, DeleteMessageRequest, DeleteQuickReplyRequest, EditMessageRequest,
    MessageStatus, NewMessage, QuickReply, RetryMessageRequest, UndeleteQuickReplyRequest,
    UpdateConversationRequest, UpdateMessageStatusRequest, UpdateQuickReplyRequest,
    UseQuickReplyRequest,
};
use tokio_postgres::error::SqlState;
use tonic::Request;

use crate::harness::{Tables, TestServer, TestTenant, eventually};

/// The first key of the service's advisory locks.
const LOCK_CLASS: i32 = 1_129_270_605;

async fn last_value(tables: &Tables) -> i64 {
    // A sequence that was never drawn from says 1 as well.
    let last = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {schema}.events_id_seq";
    tables.count(last).await
}

/// The condition on `pg_locks` that finds the tenant's log lock in this database.
fn log_lock(tables: &Tables) -> String {
    format!(
        "locktype = 'advisory' AND objsubid = 2
            AND classid = {LOCK_CLASS} AND objid = {}
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        tables.number
    )
}

/// Keeps the log's lock while a call runs: the call waits for it before it draws a number, and
/// after it has locked the row that orders the change, where there is one.
async fn waits_for_the_lock(
    tenant: &TestTenant,
    row: Option<(&str, &str)>,
    call: impl Future<Output = ()> + Send + 'static,
) {
    let (tables, holder) = (Tables::of(tenant).await, Tables::of(tenant).await);
    let before = last_value(&tables).await;
    let events = "SELECT count(*) FROM {schema}.events";
    let had = tables.count(events).await;
    let key = [&LOCK_CLASS as _, &tables.number as _];
    let lock = "SELECT pg_advisory_lock($1, $2)";
    holder.admin.execute(lock, &key).await.unwrap();

    let running = tokio::spawn(call);
    let waiting = format!(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock' AND {}",
        log_lock(&tables)
    );
    eventually("the call waits for the log's lock", async || {
        tables.count(&waiting).await == 1
    })
    .await;
    assert_eq!(last_value(&tables).await, before);
    assert!(!running.is_finished());
    if let Some((table, id)) = row {
        let schema = &tables.schema;
        let query = format!("SELECT FROM {schema}.{table} WHERE id = '{id}' FOR UPDATE NOWAIT");
        let refused = tables.admin.execute(&query, &[]).await;
        let refused = refused.expect_err("the row that orders the change is locked by then");
        assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
    }

    let unlock = "SELECT pg_advisory_unlock($1, $2)";
    holder.admin.execute(unlock, &key).await.unwrap();
    running.await.unwrap();
    let added = tables.count(events).await - had;
    assert!(added > 0);
    assert_eq!(last_value(&tables).await, before + added);
}

#[tokio::test(flavor = "multi_thread")]
async fn create_conversation_locks_the_log_before_it_draws() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut request = tenant.new_conversation();
    request.first_message = "Hello".to_owned();
    let caller = tenant.clone();
    waits_for_the_lock(&tenant, None, async move {
        caller.create(request).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update_conversation_locks_the_log_before_it_draws() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let caller = tenant.clone();
    let id = conversation.id.clone();
    let row = Some(("inbox_conversations", id.as_str()));
    waits_for_the_lock(&tenant, row, async move {
        rename(&caller, &conversation.id, "Order 7", None)
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_locks_all_its_rows_and_then_the_log_before_it_draws() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(tenant.conversation().await.id);
    }
    // Locked by their ids, one after the other: where the last is, all are.
    let last = ids.iter().max().unwrap().clone();
    for all_or_nothing in [false, true] {
        let mut inbox = tenant.inbox.clone();
        let request = BatchUpdateConversationsRequest {
            tenant: tenant.slug(),
            conversation_ids: ids.clone(),
            change: Some(ConversationChange {
                add_labels: vec![format!("label-{all_or_nothing}")],
                ..Default::default()
            }),
            all_or_nothing,
            ..Default::default()
        };
        let row = Some(("inbox_conversations", last.as_str()));
        waits_for_the_lock(&tenant, row, async move {
            inbox.batch_update_conversations(request).await.unwrap();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_create_messages_locks_the_log_before_it_draws() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let request = BatchCreateMessagesRequest {
        tenant: tenant.slug(),
        imported: true,
        messages: vec![
            NewMessage {
                conversation_id: conversation.id.clone(),
                text: "Hello".to_owned(),
                ..Default::default()
            };
            3
        ],
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    let row = Some(("inbox_conversations", conversation.id.as_str()));
    waits_for_the_lock(&tenant, row, async move {
        let answer = inbox.batch_create_messages(request).await.unwrap();
        assert_eq!(answer.into_inner().results.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_message_locks_the_log_before_it_draws() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let caller = tenant.clone();
    let id = conversation.id.clone();
    let row = Some(("inbox_conversations", id.as_str()));
    waits_for_the_lock(&tenant, row, async move {
        caller.reply(&conversation, "Hello").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update_message_status_locks_the_log_before_it_draws() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Hello").await;
    let mut inbox = tenant.inbox.clone();
    let request = UpdateMessageStatusRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        status: MessageStatus::Delivered.into(),
        ..Default::default()
    };
    let row = Some(("inbox_messages", message.id.as_str()));
    waits_for_the_lock(&tenant, row, async move {
        inbox.update_message_status(request).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_retries_and_deletions_lock_the_log_before_they_draw() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Hello").await;
    let row = Some(("inbox_messages", message.id.as_str()));
    let mut inbox = tenant.inbox.clone();
    let edit = EditMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        text: "Good morning".to_owned(),
        ..Default::default()
    };
    waits_for_the_lock(&tenant, row, async move {
        inbox.edit_message(edit).await.unwrap();
    })
    .await;
    let failed = UpdateMessageStatusRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        status: MessageStatus::Failed.into(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.update_message_status(failed).await.unwrap();
    let retry = RetryMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        ..Default::default()
    };
    waits_for_the_lock(&tenant, row, async move {
        inbox.retry_message(retry).await.unwrap();
    })
    .await;
    let mut inbox = tenant.inbox.clone();
    let delete = DeleteMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        ..Default::default()
    };
    waits_for_the_lock(&tenant, row, async move {
        inbox.delete_message(delete).await.unwrap();
    })
    .await;
}

async fn quick_reply(tenant: &TestTenant) -> QuickReply {
    let request = CreateQuickReplyRequest {
        tenant: tenant.slug(),
        shortcut: "hi".to_owned(),
        text: "Hello".to_owned(),
        ..Default::default()
    };
    let mut client = tenant.quick_replies.clone();
    let answer = client.create_quick_reply(request).await;
    answer.unwrap().into_inner().quick_reply.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn create_quick_reply_locks_the_log_before_it_draws() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let caller = tenant.clone();
    waits_for_the_lock(&tenant, None, async move {
        quick_reply(&caller).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_quick_reply_lock_the_log_before_they_draw() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let made = quick_reply(&tenant).await;
    let (slug, id) = (tenant.slug(), made.id.clone());
    let row = Some(("inbox_quick_replies", id.as_str()));

    let mut client = tenant.quick_replies.clone();
    let request = UpdateQuickReplyRequest {
        tenant: slug.clone(),
        quick_reply_id: id.clone(),
        title: Some("Greeting".to_owned()),
        ..Default::default()
    };
    waits_for_the_lock(&tenant, row, async move {
        client.update_quick_reply(request).await.unwrap();
    })
    .await;

    let mut client = tenant.quick_replies.clone();
    let request = UseQuickReplyRequest {
        tenant: slug.clone(),
        quick_reply_id: id.clone(),
        request_id: "use".to_owned(),
        ..Default::default()
    };
    waits_for_the_lock(&tenant, row, async move {
        client.use_quick_reply(request).await.unwrap();
    })
    .await;

    let caller = tenant.clone();
    let conversation = tenant.conversation().await;
    let mut request = tenant.new_message(&conversation, "");
    request.quick_reply_id.clone_from(&id);
    waits_for_the_lock(&tenant, row, async move {
        caller.send(request).await;
    })
    .await;

    let mut client = tenant.quick_replies.clone();
    let request = DeleteQuickReplyRequest {
        tenant: slug.clone(),
        quick_reply_id: id.clone(),
        ..Default::default()
    };
    waits_for_the_lock(&tenant, row, async move {
        client.delete_quick_reply(request).await.unwrap();
    })
    .await;

    let mut client = tenant.quick_replies.clone();
    let request = UndeleteQuickReplyRequest {
        tenant: slug,
        quick_reply_id: id.clone(),
        ..Default::default()
    };
    waits_for_the_lock(&tenant, row, async move {
        client.undelete_quick_reply(request).await.unwrap();
    })
    .await;
}

/// Changes a conversation's subject, within a time.
async fn rename(
    tenant: &TestTenant,
    conversation_id: &str,
    subject: &str,
    timeout: Option<Duration>,
) -> Result<(), tonic::Status> {
    let mut request = Request::new(UpdateConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation_id.to_owned(),
        subject: Some(subject.to_owned()),
        ..Default::default()
    });
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let answer = tenant.inbox.clone().update_conversation(request).await;
    answer.map(drop)
}

/// What the log says of one change.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: i64,
    kind: String,
    parent: Option<String>,
    sequence: Option<i64>,
}

async fn events(tables: &Tables, after: i64, up_to: i64) -> Vec<Event> {
    let query = format!(
        "SELECT id, kind, parent_id::text, sequence FROM {}.events
         WHERE id > $1 AND id <= $2 ORDER BY id",
        tables.schema
    );
    let rows = tables.admin.query(&query, &[&after, &up_to]).await.unwrap();
    let event = |row: &tokio_postgres::Row| Event {
        id: row.get(0),
        kind: row.get(1),
        parent: row.get(2),
        sequence: row.get(3),
    };
    rows.iter().map(event).collect()
}

/// The transactions that hold the log's lock.
async fn holders(tables: &Tables) -> HashSet<(i32, String)> {
    let query = format!(
        "SELECT pid, virtualtransaction FROM pg_locks WHERE granted AND {}",
        log_lock(tables)
    );
    let rows = tables.admin.query(&query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Reads once, as the design says: how far numbers were drawn, then the writers that may have
/// drawn them until they have ended, then the rows.
async fn read_on(tables: &Tables, read: &mut Vec<Event>) -> usize {
    let up_to = last_value(tables).await;
    let mut seen = holders(tables).await;
    let held = seen.len();
    eventually("the writers that were seen have ended", async || {
        let now = holders(tables).await;
        seen.retain(|holder| now.contains(holder));
        seen.is_empty()
    })
    .await;
    let position = read.last().map_or(0, |event| event.id);
    read.extend(events(tables, position, up_to).await);
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_beside_sixteen_writers_misses_nothing() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let tables = Tables::of(&tenant).await;
    let done = AtomicBool::new(false);
    let reading = async {
        let mut read = Vec::new();
        let mut held = 0;
        // The last pass begins after the last writer has ended.
        loop {
            let last = done.load(Ordering::Relaxed);
            held += read_on(&tables, &mut read).await;
            if last {
                return (read, held);
            }
        }
    };
    let writers = (0..16_u64).map(|writer| {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            let own = tenant.conversation().await;
            let mut stored = 0;
            for round in 0..40_u64 {
                let text = format!("{writer}-{round}");
                let moment = Duration::from_micros(500 + (writer * 40 + round) * 37 % 6_000);
                match round % 5 {
                    0 => {
                        let mut request = tenant.new_conversation();
                        request.first_message = text;
                        tenant.create(request).await;
                        stored += 1;
                    }
                    1 => rename(&tenant, &own.id, &text, None).await.unwrap(),
                    // The caller is gone in the middle, in two ways.
                    2 => {
                        let call = tenant.reply(&own, &text);
                        stored += usize::from(tokio::time::timeout(moment, call).await.is_ok());
                    }
                    3 => drop(rename(&tenant, &own.id, &text, Some(moment)).await),
                    _ => {
                        tenant.reply(&own, &text).await;
                        stored += 1;
                    }
                }
            }
            stored
        })
    });
    let writers: Vec<_> = writers.collect();
    let writing = async {
        let mut stored = 0;
        for writer in writers {
            stored += writer.await.unwrap();
        }
        eventually("what was cancelled has ended", async || {
            tables.sessions("state <> 'idle'").await == 0
        })
        .await;
        done.store(true, Ordering::Relaxed);
        stored
    };
    let ((read, held), stored) = tokio::join!(reading, writing);

    let all = events(&tables, 0, i64::MAX).await;
    assert_eq!(read, all, "every event, in order, none twice");
    let mut conversations: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for event in read.iter().filter(|event| event.kind == "message.created") {
        let parent = event.parent.as_deref().unwrap();
        let sequence = event.sequence.unwrap();
        conversations.entry(parent).or_default().push(sequence);
    }
    let mut messages = 0;
    for (conversation, sequences) in conversations {
        let dense: Vec<_> = (1..).take(sequences.len()).collect();
        assert_eq!(sequences, dense, "{conversation}");
        messages += sequences.len();
    }
    let kept = "SELECT count(*) FROM {schema}.inbox_messages";
    assert_eq!(tables.count(kept).await, i64::try_from(messages).unwrap());
    assert!(messages >= stored, "{messages} of {stored}");
    assert!(held > 0, "the reader never met a writer");
}
