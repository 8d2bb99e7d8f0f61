//! Messages by the hundred: as `CreateMessage` makes them, or as history that nothing follows
//! from; and the command that reads it from a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Instant;

use communication_service::pb::new_message_result::Result as Made;
use communication_service::pb::*;
use prost_types::Timestamp;
use serde_json::json;
use tokio::process::Command;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::harness::{Keys, Tables, TestServer, TestTenant, folder, refusal, user};

/// So many seconds after the beginning of a day in 2019.
fn then(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: 1_556_668_800 + seconds,
        nanos: 0,
    })
}

/// A customer's text of 2019.
fn said(conversation: &Conversation, import_id: &str, text: &str) -> NewMessage {
    NewMessage {
        conversation_id: conversation.id.clone(),
        direction: MessageDirection::Inbound.into(),
        text: text.to_owned(),
        provider_time: then(0),
        import_id: import_id.to_owned(),
        ..Default::default()
    }
}

/// A text of somebody of the house of 2019.
fn told(conversation: &Conversation, import_id: &str, text: &str) -> NewMessage {
    NewMessage {
        direction: MessageDirection::Outbound.into(),
        author: user("anna"),
        ..said(conversation, import_id, text)
    }
}

/// A text of today.
fn new(conversation: &Conversation, text: &str) -> NewMessage {
    NewMessage {
        conversation_id: conversation.id.clone(),
        text: text.to_owned(),
        ..Default::default()
    }
}

fn batch(tenant: &TestTenant, messages: Vec<NewMessage>) -> BatchCreateMessagesRequest {
    BatchCreateMessagesRequest {
        tenant: tenant.slug(),
        messages,
        ..Default::default()
    }
}

fn history(tenant: &TestTenant, messages: Vec<NewMessage>) -> BatchCreateMessagesRequest {
    BatchCreateMessagesRequest {
        imported: true,
        ..batch(tenant, messages)
    }
}

async fn send(tenant: &TestTenant, request: BatchCreateMessagesRequest) -> Vec<NewMessageResult> {
    let answer = tenant.inbox.clone().batch_create_messages(request).await;
    answer.unwrap().into_inner().results
}

async fn refused(
    tenant: &TestTenant,
    request: BatchCreateMessagesRequest,
) -> (Code, String, Vec<String>) {
    refusal(tenant.inbox.clone().batch_create_messages(request).await)
}

/// The messages of an answer that refuses nothing.
fn made(results: &[NewMessageResult]) -> Vec<Message> {
    let messages = results.iter().map(|result| match &result.result {
        Some(Made::Message(message)) => message.clone(),
        other => panic!("not made: {other:?}"),
    });
    messages.collect()
}

/// The reason and the field of what was refused.
fn why(result: &NewMessageResult) -> (i32, &str, &str) {
    match &result.result {
        Some(Made::Error(error)) => {
            let reason = error.reason().as_str_name();
            let reason = reason.trim_start_matches("ERROR_REASON_");
            (error.code, reason, &error.field)
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn created(results: &[NewMessageResult]) -> Vec<bool> {
    results.iter().map(|result| result.created).collect()
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|it| it.text.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_goes_behind_what_is_there_and_keeps_what_is_known_of_its_past() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let first = tenant.conversation().await;
    let second = tenant.conversation().await;
    let live = tenant.receive(&first, "Are you there?").await;
    let image = NewMessage {
        r#type: MessageType::Image.into(),
        provider_time: then(20),
        ..said(&first, "2", "")
    };
    let place = NewMessage {
        r#type: MessageType::Location.into(),
        location: Some(Location {
            latitude: 52.5,
            longitude: 13.4,
            name: "Alex".to_owned(),
            address: String::new(),
        }),
        ..said(&second, "3", "")
    };
    let read = NewMessage {
        status: MessageStatus::Read.into(),
        reply_to_index: Some(0),
        provider_time: then(30),
        ..told(&first, "4", "The second of May")
    };
    let failed = NewMessage {
        status: MessageStatus::Failed.into(),
        reply_to_message_id: live.id.clone(),
        ..told(&first, "5", "Unheard")
    };
    let note = NewMessage {
        direction: MessageDirection::Internal.into(),
        provider_time: None,
        ..told(&second, "6", "Called her")
    };
    let request = BatchCreateMessagesRequest {
        actor: user("importer"),
        ..history(
            &tenant,
            vec![said(&first, "1", "When?"), image, place, read, failed, note],
        )
    };
    let results = send(&tenant, request).await;
    assert_eq!(created(&results), [true; 6]);
    let all = made(&results);
    let of = |of: fn(&Message) -> i64| all.iter().map(of).collect::<Vec<_>>();
    assert_eq!(of(|it| it.sequence), [2, 3, 1, 4, 5, 2]);
    assert!(all.iter().all(|message| message.imported));
    assert!(!live.imported);
    assert_eq!(all[0].actor, user("importer"));
    assert_eq!(all[3].actor, user("anna"));
    assert_eq!(all[1].r#type(), MessageType::Image);
    assert_eq!(all[2].location.as_ref().unwrap().name, "Alex");
    assert_eq!(all[3].reply_to_message_id, all[0].id);
    assert_eq!(all[4].reply_to_message_id, live.id);
    assert_eq!(all[0].status(), MessageStatus::Unspecified);
    assert_eq!(all[3].status(), MessageStatus::Read);
    assert_eq!((all[3].sent_time, all[3].fail_time), (then(30), None));
    assert_eq!((all[4].sent_time, all[4].fail_time), (None, then(0)));
    assert_eq!(all[3].provider_time, then(30));
    assert_eq!(all[5].provider_time, None);
    // When they were stored is in the order of the sequence.
    let stored = tenant.messages(&first).await;
    assert_eq!(stored[1..], [&all[..2], &all[3..5]].concat());
    let times = stored.iter().map(|it| {
        let time = it.create_time.unwrap();
        (time.seconds, time.nanos)
    });
    assert!(times.is_sorted());

    // What is new goes on from there.
    assert_eq!(tenant.receive(&first, "Hello?").await.sequence, 6);
    let tables = Tables::of(&tenant).await;
    let disorder = tables
        .count(
            "SELECT count(*) FROM (
                SELECT sequence - row_number() OVER (PARTITION BY parent_id ORDER BY id) AS gap
                FROM {schema}.events WHERE kind = 'message.created'
            ) e WHERE gap <> 0",
        )
        .await;
    assert_eq!(disorder, 0, "events in the order of the sequence");
    let words = SearchMessagesRequest {
        tenant: tenant.slug(),
        query: "second may".to_owned(),
        author: user("anna"),
        ..Default::default()
    };
    let found = tenant.inbox.clone().search_messages(words).await.unwrap();
    let found = found.into_inner().matches;
    assert_eq!(found[0].message.as_ref(), Some(&all[3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_from_history() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let seen_by = async |conversation: &Conversation| {
        let request = GetConversationRequest {
            tenant: tenant.slug(),
            actor: user("agent"),
            conversation_id: conversation.id.clone(),
        };
        let answer = tenant.inbox.clone().get_conversation(request).await;
        answer.unwrap().into_inner().conversation.unwrap()
    };
    // One that nobody has touched, one that waits, one that is answered, one put aside, one that
    // is archived.
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(tenant.conversation().await);
    }
    tenant.receive(&all[1], "Hello").await;
    tenant.receive(&all[2], "Hello").await;
    tenant.reply(&all[2], "Hello yourself").await;
    let snooze = UpdateConversationRequest {
        tenant: tenant.slug(),
        conversation_id: all[3].id.clone(),
        snooze_until_time: Some(Timestamp {
            seconds: 4_000_000_000,
            nanos: 0,
        }),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.update_conversation(snooze).await.unwrap();
    let archive = ArchiveConversationRequest {
        tenant: tenant.slug(),
        conversation_id: all[4].id.clone(),
        ..Default::default()
    };
    inbox.archive_conversation(archive).await.unwrap();
    let tables = Tables::of(&tenant).await;
    let changes = "SELECT count(*) FROM {schema}.conversation_changes";
    let logged = tables.count(changes).await;
    for conversation in &all {
        let before = seen_by(conversation).await;
        let messages = vec![
            said(conversation, "", "Once"),
            told(conversation, "", "Upon"),
            said(conversation, "", "A time"),
        ];
        assert_eq!(
            created(&send(&tenant, history(&tenant, messages)).await),
            [true; 3]
        );
        let after = seen_by(conversation).await;
        let expected = Conversation {
            last_sequence: before.last_sequence + 3,
            version: before.version + 1,
            last_message_time: before.last_message_time.or(then(0)),
            update_time: after.update_time,
            ..before.clone()
        };
        assert_eq!(after, expected);
    }
    assert_eq!(tables.count(changes).await, logged);
    assert_eq!(seen_by(&all[1]).await.unread_count, Some(1));
    // What was said after that is not read.
    tenant.receive(&all[1], "Hello again").await;
    assert_eq!(seen_by(&all[1]).await.unread_count, Some(2));
    let read = MarkConversationReadRequest {
        tenant: tenant.slug(),
        actor: user("agent"),
        conversation_id: all[1].id.clone(),
        sequence: 1,
    };
    let marked = inbox.mark_conversation_read(read).await.unwrap();
    let marked = marked.into_inner().conversation.unwrap();
    assert_eq!(marked.unread_count, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_is_the_newest_of_history_alone_and_never_moves_back() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let old = tenant.conversation().await;
    let import = async |conversation: &Conversation, seconds: &[i64]| {
        let messages = seconds.iter().map(|&seconds| NewMessage {
            provider_time: then(seconds),
            ..said(conversation, "", "Once")
        });
        send(&tenant, history(&tenant, messages.collect())).await;
        tenant.get(conversation).await.last_message_time
    };
    assert_eq!(import(&old, &[5, 9, 7]).await, then(9));
    assert_eq!(import(&old, &[8]).await, then(9));
    assert_eq!(import(&old, &[11]).await, then(11));
    let live = tenant.conversation().await;
    let time = tenant.receive(&live, "Now").await.create_time;
    assert_eq!(import(&live, &[5]).await, time);
    // The list has the live one first, though the other has newer rows.
    let request = ListConversationsRequest {
        tenant: tenant.slug(),
        ..Default::default()
    };
    let listed = tenant.inbox.clone().list_conversations(request).await;
    let listed = listed.unwrap().into_inner().conversations;
    let ids: Vec<_> = listed.iter().map(|it| &it.id).collect();
    assert_eq!(ids, [&live.id, &old.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_id_makes_one_message_of_its_account() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (first, second) = (tenant.conversation().await, tenant.conversation().await);
    let messages = || {
        vec![
            said(&first, "a", "One"),
            said(&first, "b", "Two"),
            said(&first, "a", "One again"),
            NewMessage {
                reply_to_index: Some(2),
                ..told(&first, "c", "Three")
            },
        ]
    };
    let once = send(&tenant, history(&tenant, messages())).await;
    assert_eq!(created(&once), [true, true, false, true]);
    let all = made(&once);
    assert_eq!(all[2], all[0]);
    assert_eq!(all[3].reply_to_message_id, all[0].id);
    let twice = send(&tenant, history(&tenant, messages())).await;
    assert_eq!(created(&twice), [false; 4]);
    assert_eq!(made(&twice), all);
    let elsewhere = vec![said(&second, "a", "One"), said(&second, "d", "Four")];
    let results = send(&tenant, history(&tenant, elsewhere)).await;
    assert_eq!(created(&results), [false, true]);
    assert_eq!(made(&results)[0], all[0]);
    assert_eq!(
        texts(&tenant.messages(&first).await),
        ["One", "Two", "Three"]
    );
    // Another account has ids of its own.
    let mut other = tenant.new_conversation();
    other.channel = Channel::Messenger.into();
    let other = tenant.create(other).await;
    let results = send(&tenant, history(&tenant, vec![said(&other, "a", "One")])).await;
    assert_eq!(created(&results), [true]);
    // Without ids, nothing is known.
    let nameless = || vec![said(&second, "", "Five")];
    for _ in 0..2 {
        let results = send(&tenant, history(&tenant, nameless())).await;
        assert_eq!(created(&results), [true]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_history_by_many_at_once_is_there_once() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut conversations = Vec::new();
    for _ in 0..4 {
        conversations.push(tenant.conversation().await);
    }
    // Each begins elsewhere, and takes one of the conversations for it all.
    let tasks = (0..8_usize).map(|task| {
        let (tenant, conversations) = (tenant.clone(), conversations.clone());
        tokio::spawn(async move {
            let messages = (0..100).map(|at| {
                let number = (at * 7 + task * 13) % 100;
                said(&conversations[task % 4], &format!("m-{number}"), "Once")
            });
            let results = send(&tenant, history(&tenant, messages.collect())).await;
            let ids = made(&results).into_iter().map(|it| it.id);
            (created(&results), ids.collect::<BTreeSet<_>>())
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let (mut count, mut ids) = (0, BTreeSet::new());
    for task in tasks {
        let (created, of_task) = task.await.unwrap();
        assert_eq!(of_task.len(), 100);
        count += created.iter().filter(|created| **created).count();
        ids.extend(of_task);
    }
    assert_eq!((count, ids.len()), (100, 100));
    let mut stored = 0;
    for conversation in &conversations {
        let messages = tenant.messages(conversation).await;
        let sequences = messages.iter().map(|it| it.sequence);
        assert!(sequences.eq(1..=i64::try_from(messages.len()).unwrap()));
        stored += messages.len();
    }
    assert_eq!(stored, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_named_and_holds_nothing_up() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let other = tenant.receive(&tenant.conversation().await, "Hello").await;
    let nowhere = Conversation {
        id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let messages = |past: fn(&Conversation, &str, &str) -> NewMessage| {
        let answer = |index: Option<i32>, id: &str| NewMessage {
            reply_to_index: index,
            reply_to_message_id: id.to_owned(),
            ..past(&conversation, "", "Answer")
        };
        vec![
            past(&conversation, "", "First"),
            past(&conversation, "", ""),
            past(&nowhere, "", "Lost"),
            answer(None, &other.id),
            answer(Some(2), ""),
            answer(Some(5), ""),
            answer(Some(0), ""),
        ]
    };
    let live = |conversation: &Conversation, _: &str, text: &str| new(conversation, text);
    let invalid = Code::InvalidArgument as i32;
    for request in [
        history(&tenant, messages(said)),
        batch(&tenant, messages(live)),
    ] {
        let results = send(&tenant, request.clone()).await;
        let first = made(&results[..1]).remove(0);
        assert_eq!(
            why(&results[1]),
            (invalid, "INVALID_FIELD", "messages[1].text")
        );
        let not_found = (Code::NotFound as i32, "RESOURCE_NOT_FOUND", "");
        assert_eq!(why(&results[2]), not_found);
        assert_eq!(why(&results[3]), not_found);
        for place in [4, 5] {
            let field = format!("messages[{place}].reply_to_index");
            assert_eq!(
                why(&results[place]),
                (invalid, "INVALID_FIELD", field.as_str())
            );
        }
        assert_eq!(made(&results[6..])[0].reply_to_message_id, first.id);
        let Some(Made::Error(error)) = &results[2].result else {
            panic!("{results:?}");
        };
        assert!(error.message.contains(&nowhere.id), "{error:?}");
        assert_eq!(error.metadata["kind"], "conversation");
        assert_eq!(error.metadata["id"], nowhere.id);

        // All of them or none.
        let mut all = request;
        all.all_or_nothing = true;
        let fields = ["messages[1].text", "messages[5].reply_to_index"];
        let named = refused(&tenant, all.clone()).await;
        assert_eq!(named.2, fields);
        all.messages.remove(5);
        all.messages.remove(1);
        let why = refused(&tenant, all.clone()).await;
        assert_eq!(
            (why.0, why.1.as_str()),
            (Code::NotFound, "RESOURCE_NOT_FOUND")
        );
        let before = tenant.get(&conversation).await;
        all.messages.truncate(1);
        all.messages.extend(vec![all.messages[0].clone(); 3]);
        assert_eq!(created(&send(&tenant, all).await), [true; 4]);
        let after = tenant.get(&conversation).await;
        assert_eq!(after.last_sequence, before.last_sequence + 4);
    }
    // Twice: two that were good among bad ones, then four.
    assert_eq!(tenant.messages(&conversation).await.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_history_is_made_as_by_create_message() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (first, second) = (tenant.conversation().await, tenant.conversation().await);
    let hello = NewMessage {
        direction: MessageDirection::Inbound.into(),
        ..new(&first, "Hello")
    };
    let answer = NewMessage {
        reply_to_index: Some(0),
        ..new(&first, "Hello yourself")
    };
    for all_or_nothing in [false, true] {
        let request = BatchCreateMessagesRequest {
            actor: user("anna"),
            all_or_nothing,
            ..batch(
                &tenant,
                vec![hello.clone(), answer.clone(), new(&second, "Anybody?")],
            )
        };
        let all = made(&send(&tenant, request).await);
        assert_eq!(all[1].status(), MessageStatus::Queued);
        assert_eq!(all[1].reply_to_message_id, all[0].id);
        assert_eq!(all[1].actor, user("anna"));
        assert!(all.iter().all(|message| !message.imported));
    }
    let first = tenant.get(&first).await;
    assert_eq!(first.status(), ConversationStatus::Replied);
    assert_eq!((first.unread, first.waiting_since_time), (true, None));
    let archive = ArchiveConversationRequest {
        tenant: tenant.slug(),
        conversation_id: second.id.clone(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    inbox.archive_conversation(archive).await.unwrap();
    let messages = || vec![new(&second, "Too late"), new(&first, "In time")];
    let results = send(&tenant, batch(&tenant, messages())).await;
    let archived = "CONVERSATION_ARCHIVED";
    assert_eq!(
        why(&results[0]),
        (Code::FailedPrecondition as i32, archived, "")
    );
    assert_eq!(created(&results), [false, true]);
    let all = BatchCreateMessagesRequest {
        all_or_nothing: true,
        ..batch(&tenant, messages().into_iter().rev().collect())
    };
    assert_eq!(refused(&tenant, all).await.1, archived);
    assert_eq!(tenant.messages(&first).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_makes_a_batch_once() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let nowhere = Conversation {
        id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let mut stored = 0;
    for (imported, all_or_nothing) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut request = batch(
            &tenant,
            vec![new(&conversation, "One"), new(&conversation, "Two")],
        );
        if !all_or_nothing {
            request.messages.push(new(&nowhere, "Lost"));
        }
        request.request_id = Uuid::now_v7().to_string();
        (request.imported, request.all_or_nothing) = (imported, all_or_nothing);
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let (tenant, request) = (tenant.clone(), request.clone());
                tokio::spawn(async move { send(&tenant, request).await })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        answers.push(send(&tenant, request.clone()).await);
        for answer in &answers {
            assert_eq!(answer, &answers[0], "{imported} {all_or_nothing}");
        }
        assert_eq!(created(&answers[0][..2]), [true, true]);
        stored += 2;
        assert_eq!(tenant.messages(&conversation).await.len(), stored);
        request.messages.push(new(&conversation, "Three"));
        let other = refused(&tenant, request).await;
        assert_eq!(
            (other.0, other.1.as_str()),
            (Code::AlreadyExists, "REQUEST_ID_REUSED")
        );
    }
    assert_eq!(tenant.messages(&conversation).await.len(), stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_cannot_hold_is_refused_by_its_name() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    for messages in [
        Vec::new(),
        vec![new(&conversation, "x"); 101],
        vec![new(&conversation, &"x".repeat(64 * 1024)); 49],
    ] {
        let why = refused(&tenant, history(&tenant, messages)).await;
        assert_eq!(
            (why.0, why.2),
            (Code::InvalidArgument, vec!["messages".to_owned()])
        );
    }
    let past = told(&conversation, "1", "Once");
    let of_today = NewMessage {
        status: MessageStatus::Read.into(),
        ..past.clone()
    };
    let future = Timestamp {
        seconds: 4_000_000_000,
        nanos: 0,
    };
    let all: Vec<(bool, NewMessage, &[&str])> = vec![
        (
            false,
            of_today,
            &["author", "provider_time", "status", "import_id"],
        ),
        (
            false,
            NewMessage {
                r#type: MessageType::Image.into(),
                ..new(&conversation, "")
            },
            &["type"],
        ),
        (
            true,
            NewMessage {
                status: MessageStatus::Queued.into(),
                ..past.clone()
            },
            &["status"],
        ),
        (
            true,
            NewMessage {
                status: MessageStatus::Read.into(),
                ..said(&conversation, "1", "x")
            },
            &["status"],
        ),
        (
            true,
            NewMessage {
                provider_time: Some(future),
                ..past.clone()
            },
            &["provider_time"],
        ),
        (
            true,
            NewMessage {
                author: user(""),
                ..past.clone()
            },
            &["author.user_id"],
        ),
        (
            true,
            NewMessage {
                reply_to_index: Some(0),
                ..past.clone()
            },
            &["reply_to_index"],
        ),
        (
            true,
            NewMessage {
                reply_to_index: Some(-1),
                ..past.clone()
            },
            &["reply_to_index"],
        ),
        (
            true,
            NewMessage {
                conversation_id: String::new(),
                ..past.clone()
            },
            &["conversation_id"],
        ),
        (
            true,
            NewMessage {
                location: Some(Location::default()),
                ..past
            },
            &["location"],
        ),
    ];
    for (imported, message, fields) in all {
        let request = BatchCreateMessagesRequest {
            imported,
            all_or_nothing: true,
            ..batch(&tenant, vec![message])
        };
        let why = refused(&tenant, request).await;
        let named: Vec<_> = fields
            .iter()
            .map(|it| format!("messages[0].{it}"))
            .collect();
        assert_eq!((why.0, why.2), (Code::InvalidArgument, named));
    }
    assert_eq!(tenant.get(&conversation).await.last_sequence, 0);
    // As many as there can be.
    let messages = vec![said(&conversation, "", "x"); 100];
    assert_eq!(
        made(&send(&tenant, history(&tenant, messages)).await).len(),
        100
    );
    let messages = vec![said(&conversation, "", &"x".repeat(64 * 1024 - 100)); 48];
    assert_eq!(
        made(&send(&tenant, history(&tenant, messages)).await).len(),
        48
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_token_writes_no_history_of_others() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let admin = keys.metadata(json!({"scope": "tenant.admin inbox.write"}));
    let slug = format!("t{}", Uuid::now_v7().simple());
    let mut request = Request::new(InitializeTenantRequest {
        tenant: slug.clone(),
        schema_name: String::new(),
    });
    *request.metadata_mut() = admin.clone();
    server
        .tenant_admin()
        .initialize_tenant(request)
        .await
        .unwrap();
    let mut request = Request::new(CreateConversationRequest {
        tenant: slug.clone(),
        channel: Channel::Web.into(),
        contact_identifier: "jane".to_owned(),
        ..Default::default()
    });
    *request.metadata_mut() = admin;
    let made = server.inbox().create_conversation(request).await.unwrap();
    let conversation = made.into_inner().conversation.unwrap();
    let own = keys.metadata(json!({"scope": "inbox.write", "sub": "app", "user_id": "anna"}));
    let send = async |author: &str| {
        let mut request = Request::new(BatchCreateMessagesRequest {
            tenant: slug.clone(),
            imported: true,
            messages: vec![NewMessage {
                author: user(author),
                ..told(&conversation, "", "Once")
            }],
            ..Default::default()
        });
        *request.metadata_mut() = own.clone();
        server.inbox().batch_create_messages(request).await
    };
    let why = refusal(send("bob").await);
    assert_eq!(
        (why.0, why.1.as_str()),
        (Code::PermissionDenied, "ACTOR_NOT_ALLOWED")
    );
    assert_eq!(send("anna").await.unwrap().into_inner().results.len(), 1);
}

/// What statistics say of a tenant.
async fn statistics(tenant: &TestTenant) -> String {
    let (start_time, slug) = (then(0), tenant.slug());
    // Left out, it would be another one each time.
    let end_time = Some(Timestamp {
        seconds: 4_000_000_000,
        nanos: 0,
    });
    let mut inbox = tenant.inbox.clone();
    let stats = GetConversationStatsRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    let stats = inbox
        .get_conversation_stats(stats)
        .await
        .unwrap()
        .into_inner();
    let times = GetResponseTimesRequest {
        tenant: slug.clone(),
        start_time,
        end_time,
        ..Default::default()
    };
    let times = inbox.get_response_times(times).await.unwrap().into_inner();
    let volume = GetMessageVolumeRequest {
        tenant: slug.clone(),
        start_time,
        end_time,
        group_by: MessageVolumeGrouping::Type.into(),
        ..Default::default()
    };
    let volume = inbox.get_message_volume(volume).await.unwrap().into_inner();
    let activity = GetUserActivityRequest {
        tenant: slug,
        start_time,
        end_time,
        ..Default::default()
    };
    let activity = inbox
        .get_user_activity(activity)
        .await
        .unwrap()
        .into_inner();
    format!(
        "{stats:?}\n{:?}\n{:?}\n{:?}",
        times.response_times, volume.volumes, activity.activities
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_in_no_statistics() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut conversations = Vec::new();
    for _ in 0..5 {
        let conversation = tenant.conversation().await;
        tenant.receive(&conversation, "Hello").await;
        let mut answer = tenant.new_message(&conversation, "Hello yourself");
        answer.actor = user("anna");
        tenant.send(answer).await;
        tenant.receive(&conversation, "One more thing").await;
        conversations.push(conversation);
    }
    let differences = async || tenant.recompute().await.unwrap().difference_count;
    let before = statistics(&tenant).await;
    assert!(before.contains("anna"), "{before}");
    let messages = (0..500_usize).map(|number| {
        let conversation = &conversations[number % 5];
        match number % 3 {
            0 => said(conversation, "", "Once"),
            1 => told(conversation, "", "Upon"),
            _ => NewMessage {
                direction: MessageDirection::Internal.into(),
                ..told(conversation, "", "A note")
            },
        }
    });
    let messages: Vec<_> = messages.collect();
    for batch in messages.chunks(100) {
        let results = send(&tenant, history(&tenant, batch.to_vec())).await;
        assert_eq!(made(&results).len(), 100);
    }
    assert_eq!(statistics(&tenant).await, before, "beside the rollups");
    assert_eq!(differences().await, 0);
    assert_eq!(statistics(&tenant).await, before, "recomputed");
    // A second time, when all of it lies before the new generation.
    assert_eq!(differences().await, 0);
    assert_eq!(statistics(&tenant).await, before, "recomputed once more");
    // What comes in is counted as ever.
    tenant.receive(&conversations[0], "And another").await;
    assert_ne!(statistics(&tenant).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_forgets_what_history_was_called() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (gone, other) = (tenant.conversation().await, tenant.conversation().await);
    let messages = vec![
        said(&gone, "jane-1", "Once"),
        said(&other, "john-1", "Once"),
    ];
    send(&tenant, history(&tenant, messages)).await;
    let erase = EraseContactRequest {
        tenant: tenant.slug(),
        contact_id: gone.contact_id.clone(),
        ..Default::default()
    };
    tenant.inbox.clone().erase_contact(erase).await.unwrap();
    let tables = Tables::of(&tenant).await;
    let left = "SELECT count(*) FROM {schema}.message_imports";
    assert_eq!(tables.count(left).await, 1);
    let texts = "SELECT count(*) FROM {schema}.inbox_messages WHERE text <> ''";
    assert_eq!(tables.count(texts).await, 1);
    let results = send(
        &tenant,
        history(&tenant, vec![said(&gone, "jane-1", "Once")]),
    )
    .await;
    assert_eq!(why(&results[0]).0, Code::NotFound as i32);
}

/// Runs `import` on a file.
async fn import(server: &TestServer, tenant: &TestTenant, file: &PathBuf) -> Output {
    Command::new(env!("CARGO_BIN_EXE_communication-service"))
        .args(["import", "--tenant", &tenant.slug()])
        .arg(file)
        .env("COMM_SERVER", format!("http://{}", server.grpc))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

/// The last line of what a command wrote, and what it complained of.
fn said_by(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let out = text(&output.stdout).trim_end().to_owned();
    (output.status.success(), out, text(&output.stderr))
}

/// Imports so many messages of so many people by the command, twice; returns how many a second the
/// first time.
pub async fn import_file(messages: u64, people: u64) -> u64 {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut lines = String::new();
    for number in 0..messages {
        let mut line = json!({
            "channel": "email",
            "contact_identifier": format!("p{}@example.com", number % people),
            "contact_name": format!("Person {}", number % people),
            "thread_key": "imported",
            "subject": "Old mail",
            "import_id": format!("mail-{number}"),
            "direction": if number % 2 == 0 { "inbound" } else { "outbound" },
            "text": format!("Message {number} about the order of table {}", number % 97),
            "provider_time": "2019-05-01T09:30:00Z",
            "metadata": {"folder": "archive"},
        });
        if number % 2 == 1 {
            line["author"] = json!({"user_id": format!("agent-{}", number % 7)});
        }
        if number >= people {
            line["reply_to_import_id"] = json!(format!("mail-{}", number - people));
        }
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    let file = folder().join(format!("import-{}.jsonl", Uuid::now_v7()));
    std::fs::write(&file, &lines).unwrap();
    let begun = Instant::now();
    let (ok, out, err) = said_by(&import(&server, &tenant, &file).await);
    let rate = messages * 1000 / u64::try_from(begun.elapsed().as_millis()).unwrap();
    let all = format!("{messages} messages imported, 0 were there already, 0 lines failed");
    assert!(ok && out == all, "{out} {err}");
    assert!(
        err.contains(&format!("{messages} of {messages} lines")),
        "{err}"
    );
    let (ok, out, err) = said_by(&import(&server, &tenant, &file).await);
    let all = format!("0 messages imported, {messages} were there already, 0 lines failed");
    assert!(ok && out == all, "{out} {err}");
    std::fs::remove_file(&file).unwrap();

    let tables = Tables::of(&tenant).await;
    let count = async |query: &str| u64::try_from(tables.count(query).await).unwrap();
    assert_eq!(
        count("SELECT count(*) FROM {schema}.inbox_messages").await,
        messages
    );
    assert_eq!(
        count("SELECT count(*) FROM {schema}.inbox_conversations").await,
        people
    );
    let replies = "SELECT count(*) FROM {schema}.inbox_messages m
        JOIN {schema}.inbox_messages r ON r.id = m.reply_to_message_id
        WHERE r.conversation_id = m.conversation_id AND r.sequence = m.sequence - 1";
    assert_eq!(count(replies).await, messages - people);
    let dense = "SELECT count(*) FROM {schema}.inbox_conversations c
        WHERE c.last_sequence = (
            SELECT count(*) FROM {schema}.inbox_messages m
            WHERE m.conversation_id = c.id AND m.imported
        )";
    assert_eq!(count(dense).await, people);
    let events = "SELECT count(*) FROM {schema}.events WHERE kind = 'message.created'";
    assert_eq!(count(events).await, messages);
    assert_eq!(
        count("SELECT count(*) FROM {schema}.inbox_message_words").await,
        messages
    );
    rate
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_lines_are_imported_once() {
    import_file(2_000, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_wrong_are_named_and_left_out() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let jane = json!({"channel": "web", "contact_identifier": "jane"});
    let line = |of: &serde_json::Value, more: serde_json::Value| {
        let mut line = of.clone();
        let more = more.as_object().unwrap().clone();
        line.as_object_mut().unwrap().extend(more);
        line.to_string()
    };
    let here = json!({"conversation_id": conversation.id});
    let thread = json!({"channel": "web", "contact_identifier": "jane", "thread_key": "t"});
    let lines = [
        line(
            &jane,
            json!({"import_id": "1", "text": "One", "direction": "inbound"}),
        ),
        String::new(),
        "no JSON".to_owned(),
        line(
            &jane,
            json!({"import_id": "2", "text": "Two", "reply_to_import_id": "1"}),
        ),
        line(
            &jane,
            json!({"import_id": "3", "text": "Three", "reply_to_import_id": "9"}),
        ),
        line(
            &jane,
            json!({"import_id": "4", "text": "Four", "provider_time": "soon"}),
        ),
        line(&jane, json!({"import_id": "5", "direction": "inbound"})),
        line(&jane, json!({"text": "Six"})),
        line(&thread, json!({"import_id": "7", "text": "Seven"})),
        line(&here, json!({"import_id": "8", "text": "Eight"})),
        line(&jane, json!({"import_id": "2", "text": "Two"})),
    ];
    let file = folder().join(format!("import-{}.jsonl", Uuid::now_v7()));
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (ok, out, err) = said_by(&import(&server, &tenant, &file).await);
    let summary = "3 messages imported, 1 were there already, 6 lines failed";
    assert!(!ok && out == summary, "{out} {err}");
    let problems: BTreeMap<&str, &str> = err
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.split_once(": "))
        .collect();
    let expected = [
        ("3", "is no object"),
        ("5", "`reply_to_import_id`"),
        ("6", "`provider_time`"),
        ("7", "`text` is required"),
        ("8", "`import_id` is required"),
        ("9", "`thread_key`"),
    ];
    assert_eq!(problems.len(), expected.len(), "{err}");
    for (number, problem) in expected {
        assert!(problems[number].contains(problem), "{number}: {err}");
    }
    assert!(err.contains("11 of 11 lines"), "{err}");
    assert!(err.contains("6 lines could not be imported"), "{err}");

    // A tenant that is not there ends it at once.
    let nobody = TestTenant {
        tenant: Tenant {
            slug: format!("n{}", Uuid::now_v7().simple()),
            ..Default::default()
        },
        ..tenant.clone()
    };
    let (ok, _, err) = said_by(&import(&server, &nobody, &file).await);
    assert!(!ok && err.contains("does not exist"), "{err}");
    std::fs::remove_file(&file).unwrap();
}
