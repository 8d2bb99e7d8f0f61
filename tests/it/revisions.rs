//! Messages that are edited, deleted and answered: what remains of what they said, and for whom.

use communication_service::pb::{
    BatchCreateMessagesRequest, Channel, ConversationActivityKind, DeleteMessageRequest,
    EditMessageRequest, GetMessageRequest, ListConversationActivitiesRequest,
    ListMessageRevisionsRequest, ListMessagesRequest, Location, MarkConversationReadRequest,
    Message, MessageDirection, MessageRevision, MessageRevisionKind, MessageStatus, MessageType,
    NewMessage, RetryMessageRequest, SearchMessagesRequest, new_message_result,
};
use prost_types::Timestamp;
use serde_json::{Value as Json, json};
use tonic::{Code, Status};

use crate::harness::{
    Tables, TestServer, TestTenant, Whatsapp, eventually, now, refusal, tenant, user,
};

fn edit(tenant: &TestTenant, message: &Message, text: &str) -> EditMessageRequest {
    EditMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        text: text.to_owned(),
        ..Default::default()
    }
}

async fn edited(tenant: &TestTenant, request: EditMessageRequest) -> Message {
    let answer = tenant.inbox.clone().edit_message(request).await.unwrap();
    answer.into_inner().message.unwrap()
}

fn deletion(tenant: &TestTenant, message: &Message, redact: bool) -> DeleteMessageRequest {
    DeleteMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        redact,
        ..Default::default()
    }
}

async fn deleted(tenant: &TestTenant, message: &Message, redact: bool) -> Message {
    let request = deletion(tenant, message, redact);
    let answer = tenant.inbox.clone().delete_message(request).await.unwrap();
    answer.into_inner().message.unwrap()
}

async fn get(tenant: &TestTenant, message: &Message) -> Result<Message, Status> {
    let request = GetMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
    };
    let answer = tenant.inbox.clone().get_message(request).await?;
    Ok(answer.into_inner().message.unwrap())
}

async fn revisions(tenant: &TestTenant, message: &Message) -> Vec<MessageRevision> {
    let mut all = Vec::new();
    let mut request = ListMessageRevisionsRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        page_size: 2,
        ..Default::default()
    };
    loop {
        let mut inbox = tenant.inbox.clone();
        let page = inbox.list_message_revisions(request.clone()).await;
        let page = page.unwrap().into_inner();
        all.extend(page.revisions);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

async fn found(tenant: &TestTenant, words: &str) -> usize {
    let request = SearchMessagesRequest {
        tenant: tenant.slug(),
        query: words.to_owned(),
        ..Default::default()
    };
    let page = tenant.inbox.clone().search_messages(request).await;
    page.unwrap().into_inner().matches.len()
}

/// In which tables of a tenant some words stand.
async fn tables_with(tenant: &TestTenant, words: &str) -> Vec<String> {
    let tables = Tables::of(tenant).await;
    let all = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1";
    let mut found = Vec::new();
    for row in tables.admin.query(all, &[&tables.schema]).await.unwrap() {
        let table: String = row.get(0);
        let query = format!(
            "SELECT count(*) FROM {{schema}}.{table} t WHERE strpos(t::text, '{words}') > 0"
        );
        if tables.count(&query).await > 0 {
            found.push(table);
        }
    }
    found
}

async fn events(tenant: &TestTenant, kind: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {{schema}}.events WHERE kind = '{kind}'");
    Tables::of(tenant).await.count(&query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_said_before_is_kept_with_who_changed_it() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut note = tenant.new_message(&conversation, "Call back on Munday");
    note.direction = MessageDirection::Internal.into();
    let first = tenant.send(note).await;
    assert_eq!((first.edit_count, first.edit_time), (0, None));

    let mut request = edit(&tenant, &first, "Call back on Monday");
    request.actor = user("ana");
    request.etag.clone_from(&first.etag);
    let second = edited(&tenant, request.clone()).await;
    assert_eq!(second.text, "Call back on Monday");
    assert_eq!((second.edit_count, second.version), (1, first.version + 1));
    assert_eq!(second.edit_time, second.update_time);
    assert_eq!(second.actor, first.actor, "who wrote it stays");
    assert_eq!(second.sequence, first.sequence);

    // The same text again, and a stale etag.
    request.etag.clear();
    assert_eq!(edited(&tenant, request.clone()).await, second);
    request.etag.clone_from(&first.etag);
    request.text = "Never call".to_owned();
    let (code, reason, _) = refusal(tenant.inbox.clone().edit_message(request).await);
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    let mut request = edit(&tenant, &first, "Call back on Tuesday");
    request.actor = user("bob");
    let third = edited(&tenant, request).await;
    let all = revisions(&tenant, &first).await;
    let said: Vec<_> = all
        .iter()
        .map(|revision| {
            (
                revision.number,
                revision.text.as_str(),
                revision.actor.clone(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (2, "Call back on Monday", user("bob")),
            (1, "Call back on Munday", user("ana")),
        ]
    );
    assert!(all.iter().all(|it| it.kind() == MessageRevisionKind::Edit));
    assert_eq!(all[0].replace_time, third.edit_time);
    assert_eq!(tenant.messages(&conversation).await, [third]);
    assert_eq!(events(&tenant, "message.updated").await, 2);

    // Found by what it says, not by what it said.
    let words = ["tuesday", "monday", "munday", "call"];
    let mut counts = Vec::new();
    for word in words {
        counts.push(found(&tenant, word).await);
    }
    assert_eq!(counts, [1, 0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_stays_as_the_customer_has_it() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Your order is late").await;
    // Nobody has it yet.
    edited(&tenant, edit(&tenant, &message, "Your order is on its way")).await;
    tenant.report(&message, MessageStatus::Failed).await;
    edited(&tenant, edit(&tenant, &message, "Your order will come")).await;

    tenant.report(&message, MessageStatus::Delivered).await;
    let (code, reason, _) = refusal(
        tenant
            .inbox
            .clone()
            .edit_message(edit(&tenant, &message, "Your order is lost"))
            .await,
    );
    let refused = (Code::FailedPrecondition, "MESSAGE_SENT");
    assert_eq!((code, reason.as_str()), refused);
    let request = deletion(&tenant, &message, false);
    let (code, reason, _) = refusal(tenant.inbox.clone().delete_message(request).await);
    assert_eq!((code, reason.as_str()), refused);
    assert_eq!(
        get(&tenant, &message).await.unwrap().text,
        "Your order will come"
    );
    // Our copy goes where that is wanted, and what comes later of it is no error.
    let gone = deleted(&tenant, &message, true).await;
    assert_eq!(
        (gone.text.as_str(), gone.status()),
        ("", MessageStatus::Delivered)
    );
    let read = tenant.report(&message, MessageStatus::Read).await;
    assert_eq!(
        (read.text.as_str(), read.status()),
        ("", MessageStatus::Read)
    );
    assert!(read.delete_time.is_some());

    // The client of the web is ours: it shows what is there now.
    let mut request = tenant.new_conversation();
    request.channel = Channel::Web.into();
    let web = tenant.create(request).await;
    let message = tenant.reply(&web, "Hello").await;
    tenant.report(&message, MessageStatus::Read).await;
    let changed = edited(&tenant, edit(&tenant, &message, "Good morning")).await;
    assert_eq!(changed.status(), MessageStatus::Read);
    deleted(&tenant, &message, false).await;

    let question = tenant.receive(&conversation, "Where is it?").await;
    let request = edit(&tenant, &question, "Thank you");
    let (code, reason, _) = refusal(tenant.inbox.clone().edit_message(request).await);
    assert_eq!(
        (code, reason.as_str()),
        (Code::FailedPrecondition, "MESSAGE_INBOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_cannot_become_empty_and_a_caption_can() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Hello").await;
    let request = edit(&tenant, &message, "");
    let (code, _, fields) = refusal(tenant.inbox.clone().edit_message(request).await);
    assert_eq!(
        (code, fields),
        (Code::InvalidArgument, vec!["text".to_owned()])
    );

    let mut place = tenant.new_message(&conversation, "We are here");
    place.set_type(MessageType::Location);
    place.location = Some(Location {
        latitude: 52.5,
        longitude: 13.4,
        ..Default::default()
    });
    let place = tenant.send(place).await;
    assert_eq!(found(&tenant, "here").await, 1);
    let bare = edited(&tenant, edit(&tenant, &place, "")).await;
    assert_eq!(
        (bare.text.as_str(), bare.location),
        ("", place.location.clone())
    );
    assert_eq!(found(&tenant, "here").await, 0);
    edited(&tenant, edit(&tenant, &place, "Meet us here")).await;
    assert_eq!(found(&tenant, "here").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_at_once_form_one_chain() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "text 0").await;
    let calls = (1..=32).map(|number| {
        let (tenant, message) = (tenant.clone(), message.clone());
        tokio::spawn(async move {
            edited(&tenant, edit(&tenant, &message, &format!("text {number}"))).await
        })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers.sort_by_key(|answer| answer.edit_count);
    let counts: Vec<_> = answers.iter().map(|answer| answer.edit_count).collect();
    assert_eq!(counts, (1..=32).collect::<Vec<_>>());
    // Each revision is what the edit before it answered.
    let mut said: Vec<_> = revisions(&tenant, &message).await;
    said.reverse();
    assert_eq!(said[0].text, "text 0");
    for (revision, answer) in said[1..].iter().zip(&answers) {
        assert_eq!(revision.text, answer.text);
        assert_eq!(revision.number, answer.edit_count + 1);
    }
    let now = get(&tenant, &message).await.unwrap();
    assert_eq!(now, answers[31]);
    assert_eq!(found(&tenant, "text").await, 1);
    let last = now.text.strip_prefix("text ").unwrap();
    assert_eq!(found(&tenant, last).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_leaves_a_tombstone_and_a_revision() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let before = tenant.reply(&conversation, "Before").await;
    let mut request = tenant.new_message(&conversation, "Zanzibar");
    request.metadata = Some(prost_types::Struct {
        fields: [("code".to_owned(), prost_types::Value::from("Zanzibar"))].into(),
    });
    let message = tenant.send(request).await;
    let after = tenant.reply(&conversation, "After").await;
    let mut request = deletion(&tenant, &message, false);
    request.actor = user("ana");
    request.etag = "\"7\"".to_owned();
    let (code, reason, _) = refusal(tenant.inbox.clone().delete_message(request.clone()).await);
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    request.etag.clone_from(&message.etag);
    let answer = tenant.inbox.clone().delete_message(request).await.unwrap();
    let tombstone = answer.into_inner().message.unwrap();
    assert!(tombstone.delete_time.is_some());
    assert_eq!((tombstone.text.as_str(), tombstone.sequence), ("", 2));
    assert_eq!(tombstone.version, message.version + 1);
    assert!(tombstone.metadata.as_ref().unwrap().fields.is_empty());

    // Once is enough.
    assert_eq!(deleted(&tenant, &message, false).await, tombstone);
    assert_eq!(events(&tenant, "message.deleted").await, 1);
    assert_eq!(get(&tenant, &message).await.unwrap(), tombstone);
    let request = edit(&tenant, &message, "Back again");
    let (code, ..) = refusal(tenant.inbox.clone().edit_message(request).await);
    assert_eq!(code, Code::NotFound);

    assert_eq!(
        tenant.messages(&conversation).await,
        [before.clone(), after.clone()]
    );
    for order_by in ["sequence", "sequence desc"] {
        let request = ListMessagesRequest {
            tenant: tenant.slug(),
            conversation_id: conversation.id.clone(),
            order_by: order_by.to_owned(),
            show_deleted: true,
            ..Default::default()
        };
        let page = tenant.inbox.clone().list_messages(request).await.unwrap();
        let mut all = page.into_inner().messages;
        all.sort_by_key(|message| message.sequence);
        assert_eq!(all, [before.clone(), tombstone.clone(), after.clone()]);
    }
    assert_eq!(found(&tenant, "zanzibar").await, 0);
    let said = revisions(&tenant, &message).await;
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].kind(), MessageRevisionKind::Deletion);
    assert_eq!(
        (said[0].text.as_str(), &said[0].actor),
        ("Zanzibar", &user("ana"))
    );
    assert_eq!(said[0].replace_time, tombstone.delete_time);
    assert_eq!(
        tables_with(&tenant, "Zanzibar").await,
        ["message_revisions"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redaction_leaves_nothing_of_what_was_said() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    for later in [false, true] {
        let mut request = tenant.new_message(&conversation, "Zanzibar 1");
        request.request_id = format!("request-{later}");
        let message = tenant.send(request.clone()).await;
        edited(&tenant, edit(&tenant, &message, "Zanzibar 2")).await;
        if later {
            deleted(&tenant, &message, false).await;
            assert_eq!(revisions(&tenant, &message).await[0].text, "Zanzibar 2");
        }
        deleted(&tenant, &message, true).await;
        let said = revisions(&tenant, &message).await;
        assert_eq!(said.len(), 2, "who did what is still known");
        for revision in said {
            assert_eq!((revision.text.as_str(), revision.location), ("", None));
            assert!(revision.redact_time.is_some());
        }
        assert_eq!(tables_with(&tenant, "Zanzibar").await, Vec::<String>::new());
        // The request is still known as made.
        let (code, reason, _) = refusal(tenant.inbox.clone().create_message(request).await);
        assert_eq!(
            (code, reason.as_str()),
            (Code::FailedPrecondition, "ANSWER_ERASED")
        );
    }
    assert_eq!(tenant.messages(&conversation).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn redaction_finds_answers_that_were_given_long_before_or_after_the_message() {
    let (_server, tenant) = tenant().await;
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    let mut inbox = tenant.inbox.clone();

    let mut retried = tenant.new_message(&conversation, "Zanzibar, once more");
    retried.request_id = "first".to_owned();
    let retried = tenant.send(retried).await;
    tenant.report(&retried, MessageStatus::Failed).await;
    let again = RetryMessageRequest {
        tenant: tenant.slug(),
        message_id: retried.id.clone(),
        request_id: "again".to_owned(),
        ..Default::default()
    };
    inbox.retry_message(again).await.unwrap();

    let mut scheduled = tenant.new_message(&conversation, "Zanzibar, soon");
    let soon = i64::try_from(now()).unwrap() + 2;
    scheduled.send_time = Some(Timestamp {
        seconds: soon,
        nanos: 0,
    });
    scheduled.request_id = "soon".to_owned();
    let answer = inbox.create_message(scheduled).await.unwrap().into_inner();
    let scheduled = answer.scheduled_message.unwrap();

    let mut ids = vec![retried.id.clone(), scheduled.id.clone()];
    for (imported, all_or_nothing) in [(false, false), (false, true), (true, false), (true, true)] {
        let item = |text: &str| NewMessage {
            conversation_id: conversation.id.clone(),
            text: text.to_owned(),
            ..Default::default()
        };
        let batch = BatchCreateMessagesRequest {
            tenant: tenant.slug(),
            messages: vec![item("Zanzibar, one"), item("Zanzibar, two")],
            imported,
            all_or_nothing,
            request_id: format!("batch-{imported}-{all_or_nothing}"),
            ..Default::default()
        };
        let answer = inbox.batch_create_messages(batch).await.unwrap();
        for result in answer.into_inner().results {
            let Some(new_message_result::Result::Message(message)) = result.result else {
                panic!("{result:?}");
            };
            ids.push(message.id);
        }
    }
    eventually("it is sent", async || {
        tables.hear().await;
        let sent = Message {
            id: scheduled.id.clone(),
            ..Default::default()
        };
        get(&tenant, &sent).await.is_ok()
    })
    .await;
    // The items of a batch whose messages have ids of their own are kept as CreateMessage's.
    let hour = format!(
        "UPDATE \"{}\".requests SET created_at = created_at - interval '1 hour'
         WHERE request_id <> 'first' AND strpos(request_id, ' ') = 0",
        tables.schema
    );
    tables.admin.batch_execute(&hour).await.unwrap();

    assert!(
        tables_with(&tenant, "Zanzibar")
            .await
            .contains(&"requests".to_owned())
    );
    for id in ids {
        let message = Message {
            id,
            ..Default::default()
        };
        deleted(&tenant, &message, true).await;
    }
    assert_eq!(tables_with(&tenant, "Zanzibar").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_answer_to_a_deleted_message() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let first = tenant.receive(&conversation, "First").await;
    let second = tenant.receive(&conversation, "Second").await;
    let mut read = MarkConversationReadRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        actor: user("ana"),
        ..Default::default()
    };
    read.sequence = first.sequence;
    tenant
        .inbox
        .clone()
        .mark_conversation_read(read)
        .await
        .unwrap();
    let before = tenant.get(&conversation).await;
    assert!(before.unread);
    assert_eq!(before.waiting_since_time, first.create_time);

    // The first is still there: the customer waits; but all of it is read.
    deleted(&tenant, &second, false).await;
    let between = tenant.get(&conversation).await;
    assert!(!between.unread);
    assert_eq!(between.waiting_since_time, first.create_time);
    assert_eq!(between.last_sequence, 2);

    deleted(&tenant, &first, false).await;
    let after = tenant.get(&conversation).await;
    assert_eq!((after.unread, after.waiting_since_time), (false, None));

    let request = ListConversationActivitiesRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    let page = tenant
        .inbox
        .clone()
        .list_conversation_activities(request)
        .await;
    let log: Vec<_> = page
        .unwrap()
        .into_inner()
        .activities
        .into_iter()
        .take(2)
        .map(|it| (it.kind(), it.rule, it.message_sequence, it.changed_fields))
        .collect();
    let deletion = |sequence, changed: &str| {
        let kind = ConversationActivityKind::Message;
        (
            kind,
            "deletion".to_owned(),
            sequence,
            vec![changed.to_owned()],
        )
    };
    assert_eq!(
        log,
        [deletion(1, "waiting_since_time"), deletion(2, "unread"),]
    );
    let again = tenant.receive(&conversation, "Third").await;
    let again_since = tenant.get(&conversation).await.waiting_since_time;
    assert_eq!(again_since, again.create_time);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_messages_are_still_counted() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut place = tenant.new_message(&conversation, "We are here");
    place.set_type(MessageType::Location);
    place.location = Some(Location {
        latitude: 52.5,
        longitude: 13.4,
        name: "Zanzibar".to_owned(),
        ..Default::default()
    });
    let place = tenant.send(place).await;
    tenant.recompute().await.unwrap();
    let tombstone = deleted(&tenant, &place, true).await;
    assert_eq!(tombstone.r#type(), MessageType::Location);
    assert_eq!(tombstone.location, None);
    assert_eq!(tables_with(&tenant, "Zanzibar").await, Vec::<String>::new());
    assert_eq!(tables_with(&tenant, "52.5").await, Vec::<String>::new());
    let question = tenant.receive(&conversation, "Where?").await;
    deleted(&tenant, &question, false).await;
    let answer = tenant.recompute().await.unwrap();
    assert!(answer.agreed, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_names_any_message_of_the_same_person_on_the_same_account() {
    let (_server, tenant) = tenant().await;
    let request = tenant.new_conversation();
    let mut threads = Vec::new();
    for thread in ["a", "b", "c"] {
        let mut request = request.clone();
        request.channel = Channel::Email.into();
        request.thread_key = thread.to_owned();
        threads.push(tenant.create(request).await);
    }
    let message = tenant.receive(&threads[0], "The first").await;
    let mut reply = tenant.new_message(&threads[2], "About your first");
    reply.reply_to_message_id.clone_from(&message.id);
    assert_eq!(
        tenant.send(reply.clone()).await.reply_to_message_id,
        message.id
    );

    let stranger = tenant.conversation().await;
    reply.conversation_id = stranger.id;
    let (code, ..) = refusal(tenant.inbox.clone().create_message(reply.clone()).await);
    assert_eq!(code, Code::NotFound);
    deleted(&tenant, &message, false).await;
    reply.conversation_id.clone_from(&threads[2].id);
    let (code, ..) = refusal(tenant.inbox.clone().create_message(reply).await);
    assert_eq!(code, Code::NotFound);
}

/// A webhook with one message of one customer.
fn webhook(account: &Whatsapp, message: Json) -> Vec<u8> {
    let mut message = message;
    message["from"] = json!("15550109911");
    let value = json!({
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001001", "phone_number_id": account.number},
        "contacts": [{"profile": {"name": "Dana"}, "wa_id": "15550109911"}],
        "messages": [message],
    });
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
    });
    serde_json::to_vec(&body).unwrap()
}

fn text(id: &str, text: &str) -> Json {
    json!({"id": id, "timestamp": "1773480000", "type": "text", "text": {"body": text}})
}

fn edit_of(id: &str, original: &str, at: &str, text: &str) -> Json {
    json!({
        "id": id,
        "timestamp": at,
        "type": "edit",
        "edit": {
            "original_message_id": original,
            "message": {"type": "text", "text": {"body": text}},
        },
    })
}

fn withdrawal_of(id: &str, original: &str) -> Json {
    json!({
        "id": id,
        "timestamp": "1773480640",
        "type": "revoke",
        "revoke": {"original_message_id": original},
    })
}

/// Posts webhooks one after the other, each of which is applied before the next comes.
async fn tell(server: &TestServer, account: &Whatsapp, messages: &[Json]) {
    let tables = Tables::of(&account.tenant).await;
    let waiting = format!(
        "SELECT count(*) FROM directory.deliveries
        WHERE correlation_id = '{}' AND due_at IS NOT NULL",
        account.number
    );
    for message in messages {
        let body = webhook(account, message.clone());
        assert_eq!(account.post(server, &body).await, 200);
        eventually("it is applied", async || tables.count(&waiting).await == 0).await;
    }
}

/// All messages of the account's one conversation, tombstones too.
async fn history(account: &Whatsapp) -> Vec<Message> {
    let conversations = account.conversations().await;
    assert_eq!(conversations.len(), 1, "{conversations:?}");
    let request = ListMessagesRequest {
        tenant: account.tenant.slug(),
        conversation_id: conversations[0].id.clone(),
        show_deleted: true,
        ..Default::default()
    };
    let page = account.tenant.inbox.clone().list_messages(request).await;
    page.unwrap().into_inner().messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_edits_and_withdraws_in_whatever_order_it_is_told() {
    let server = TestServer::start().await;
    let first = text("wamid.1", "Zanzibar, please");
    let early = edit_of("wamid.2", "wamid.1", "1773480100", "Madagascar, please");
    let late = edit_of("wamid.3", "wamid.1", "1773480200", "Mauritius, please");
    let gone = withdrawal_of("wamid.4", "wamid.1");
    let hello = text("wamid.0", "Hello");
    let orders: [&[&Json]; 4] = [
        &[&hello, &first, &early, &late],
        &[&hello, &first, &late, &early],
        &[&late, &hello, &early, &first],
        &[&hello, &early, &first, &early, &late, &first, &late],
    ];
    for order in orders {
        let account = Whatsapp::connected(&server).await;
        let order: Vec<Json> = order.iter().map(|it| (*it).clone()).collect();
        tell(&server, &account, &order).await;
        let mut all = history(&account).await;
        assert_eq!(all.len(), 2, "{all:?}");
        all.retain(|message| message.text != "Hello");
        let message = all.pop().unwrap();
        assert_eq!(message.text, "Mauritius, please");
        let said = revisions(&account.tenant, &message).await;
        assert_eq!(said.last().unwrap().text, "Zanzibar, please");
        assert_eq!(found(&account.tenant, "mauritius").await, 1);
        assert_eq!(found(&account.tenant, "zanzibar").await, 0);
    }
    let orders: [&[&Json]; 3] = [
        &[&hello, &first, &late, &gone, &early, &first],
        &[&hello, &gone, &first, &late],
        &[&early, &gone, &hello, &first, &gone],
    ];
    for order in orders {
        let account = Whatsapp::connected(&server).await;
        let order: Vec<Json> = order.iter().map(|it| (*it).clone()).collect();
        tell(&server, &account, &order).await;
        let mut all = history(&account).await;
        assert_eq!(all.len(), 2, "{all:?}");
        all.retain(|message| message.text != "Hello");
        let message = all.pop().unwrap();
        assert_eq!(message.text, "");
        assert!(message.delete_time.is_some());
        for words in ["Zanzibar", "Mauritius", "Madagascar"] {
            let left = tables_with(&account.tenant, words).await;
            assert_eq!(left, Vec::<String>::new(), "{words}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_their_edits_that_come_at_once_find_each_other() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let mut bodies = Vec::new();
    for number in 0..24 {
        let id = format!("wamid.{number}");
        let edit = format!("wamid.edit.{number}");
        let mut answer = text(&format!("wamid.reply.{number}"), "About that");
        answer["context"] = json!({"id": id, "from": "15550109911"});
        bodies.push(edit_of(&edit, &id, "1773480100", "after"));
        bodies.push(answer);
        bodies.push(text(&id, "before"));
    }
    let posts = bodies.into_iter().map(|message| {
        let body = webhook(&account, message);
        let (account, http) = (account.clone(), server.http);
        tokio::spawn(async move { account.post_to(http, &body).await })
    });
    for post in posts.collect::<Vec<_>>() {
        assert_eq!(post.await.unwrap(), Some(200));
    }
    eventually("all has come together", async || {
        let conversations = account.conversations().await;
        if conversations.len() != 1 {
            return false;
        }
        let all = history(&account).await;
        let after = all.iter().filter(|it| it.text == "after").count();
        let linked = all.iter().filter(|it| !it.reply_to_message_id.is_empty());
        (all.len(), after, linked.count()) == (48, 24, 24)
    })
    .await;
    let all = history(&account).await;
    for reply in all.iter().filter(|it| it.text == "About that") {
        let parent = all.iter().find(|it| it.id == reply.reply_to_message_id);
        assert_eq!(parent.unwrap().text, "after");
        assert!(reply.reply_to_provider_id.starts_with("wamid."));
    }
}
