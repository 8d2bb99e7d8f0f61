//! Messages that are to be sent at a time.

use communication_service::pb::{
    ArchiveConversationRequest, Conversation, CreateMessageRequest, DeleteScheduledMessageRequest,
    GetMessageRequest, GetScheduledMessageRequest, ListScheduledMessagesRequest, Message,
    MessageDirection, ReopenConversationRequest, ScheduledMessage, UpdateScheduledMessageRequest,
};
use prost_types::Timestamp;
use tonic::{Code, Response, Status};

use crate::harness::{Tables, TestServer, TestTenant, eventually, now, refusal, tenant, user};

/// So many seconds from now.
fn in_seconds(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: i64::try_from(now()).unwrap() + seconds,
        nanos: 0,
    })
}

fn later(tenant: &TestTenant, conversation: &Conversation, text: &str) -> CreateMessageRequest {
    CreateMessageRequest {
        send_time: in_seconds(3600),
        actor: user("ana"),
        ..tenant.new_message(conversation, text)
    }
}

async fn schedule(
    tenant: &TestTenant,
    request: CreateMessageRequest,
) -> Result<ScheduledMessage, Status> {
    let answer = tenant
        .inbox
        .clone()
        .create_message(request)
        .await?
        .into_inner();
    assert_eq!(answer.message, None);
    Ok(answer.scheduled_message.unwrap())
}

async fn update(
    tenant: &TestTenant,
    request: UpdateScheduledMessageRequest,
) -> Result<ScheduledMessage, Status> {
    let answer = tenant
        .inbox
        .clone()
        .update_scheduled_message(request)
        .await?;
    Ok(answer.into_inner().scheduled_message.unwrap())
}

fn change(tenant: &TestTenant, scheduled: &ScheduledMessage) -> UpdateScheduledMessageRequest {
    UpdateScheduledMessageRequest {
        tenant: tenant.slug(),
        scheduled_message_id: scheduled.id.clone(),
        ..Default::default()
    }
}

async fn get(tenant: &TestTenant, id: &str) -> Result<ScheduledMessage, Status> {
    let request = GetScheduledMessageRequest {
        tenant: tenant.slug(),
        scheduled_message_id: id.to_owned(),
    };
    let answer = tenant.inbox.clone().get_scheduled_message(request).await?;
    Ok(answer.into_inner().scheduled_message.unwrap())
}

async fn message(tenant: &TestTenant, id: &str) -> Option<Message> {
    let request = GetMessageRequest {
        tenant: tenant.slug(),
        message_id: id.to_owned(),
    };
    let answer = tenant.inbox.clone().get_message(request).await;
    answer.ok()?.into_inner().message
}

async fn give_up(
    tenant: &TestTenant,
    scheduled: &ScheduledMessage,
    allow_missing: bool,
) -> Result<(), Status> {
    let request = DeleteScheduledMessageRequest {
        tenant: tenant.slug(),
        scheduled_message_id: scheduled.id.clone(),
        allow_missing,
        ..Default::default()
    };
    let answer = tenant.inbox.clone().delete_scheduled_message(request).await;
    answer.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_message_is_sent_at_its_time_by_who_wrote_it() {
    let (_server, tenant) = tenant().await;
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    let mut request = later(&tenant, &conversation, "See you tomorrow");
    request.send_time = in_seconds(2);
    request.request_id = "once".to_owned();
    let scheduled = schedule(&tenant, request.clone()).await.unwrap();
    assert_eq!(scheduled.text, "See you tomorrow");
    assert_eq!(scheduled.send_time, request.send_time);
    assert_eq!(scheduled.actor, user("ana"));
    assert_eq!(schedule(&tenant, request).await.unwrap(), scheduled);
    assert_eq!(get(&tenant, &scheduled.id).await.unwrap(), scheduled);
    // Until then it has no effect.
    let before = tenant.get(&conversation).await;
    assert_eq!(
        (before.version, before.last_sequence),
        (conversation.version, 0)
    );

    eventually("it is sent", async || {
        tables.hear().await;
        message(&tenant, &scheduled.id).await.is_some()
    })
    .await;
    let sent = message(&tenant, &scheduled.id).await.unwrap();
    assert_eq!((sent.text.as_str(), sent.sequence), ("See you tomorrow", 1));
    assert_eq!(
        (&sent.actor, &sent.caller),
        (&scheduled.actor, &scheduled.caller)
    );
    assert!(sent.create_time.unwrap().seconds >= scheduled.send_time.unwrap().seconds);
    let (code, ..) = refusal(get(&tenant, &scheduled.id).await.map(Response::new));
    assert_eq!(code, Code::NotFound);
    assert_eq!(tenant.messages(&conversation).await, [sent]);
    let kinds = "SELECT count(*) FROM {schema}.events WHERE kind LIKE 'scheduled_message.%'";
    assert_eq!(tables.count(kinds).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_message_can_be_changed_and_given_up() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut request = later(&tenant, &conversation, "At eight");
    request.request_id = "eight".to_owned();
    let scheduled = schedule(&tenant, request).await.unwrap();
    let tables = Tables::of(&tenant).await;
    let kept = "SELECT count(*) FROM {schema}.requests WHERE response::text LIKE '%At eight%'";
    assert_eq!(tables.count(kept).await, 1);
    let mut request = change(&tenant, &scheduled);
    request.text = Some("At nine".to_owned());
    request.etag = "\"9\"".to_owned();
    let (code, reason, _) = refusal(update(&tenant, request.clone()).await.map(Response::new));
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    request.etag.clone_from(&scheduled.etag);
    let changed = update(&tenant, request).await.unwrap();
    assert_eq!((changed.text.as_str(), changed.version), ("At nine", 2));
    assert_eq!(changed.send_time, scheduled.send_time);

    let mut request = change(&tenant, &scheduled);
    request.text = Some(String::new());
    let (code, _, fields) = refusal(update(&tenant, request).await.map(Response::new));
    assert_eq!(
        (code, fields),
        (Code::InvalidArgument, vec!["text".to_owned()])
    );

    give_up(&tenant, &scheduled, false).await.unwrap();
    let (code, ..) = refusal(give_up(&tenant, &scheduled, false).await.map(Response::new));
    assert_eq!(code, Code::NotFound);
    give_up(&tenant, &scheduled, true).await.unwrap();
    assert_eq!(tenant.messages(&conversation).await, []);
    // Its words are not kept for who asks once more, either.
    assert_eq!(tables.count(kept).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_says_why_and_is_sent_once_it_can() {
    let (_server, tenant) = tenant().await;
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    let request = later(&tenant, &conversation, "One last thing");
    let scheduled = schedule(&tenant, request).await.unwrap();
    let request = ArchiveConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    tenant
        .inbox
        .clone()
        .archive_conversation(request)
        .await
        .unwrap();
    let mut request = change(&tenant, &scheduled);
    request.send_time = in_seconds(-1);
    update(&tenant, request.clone()).await.unwrap();
    eventually("it has failed", async || {
        tables.hear().await;
        let scheduled = get(&tenant, &scheduled.id).await.unwrap();
        scheduled.failure.is_some()
    })
    .await;
    let failed = get(&tenant, &scheduled.id).await.unwrap();
    assert_eq!(failed.failure.unwrap().code, "CONVERSATION_ARCHIVED");
    assert_eq!(tenant.messages(&conversation).await, []);

    let reopen = ReopenConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    tenant
        .inbox
        .clone()
        .reopen_conversation(reopen)
        .await
        .unwrap();
    assert_eq!(update(&tenant, request).await.unwrap().failure, None);
    eventually("it is sent", async || {
        tables.hear().await;
        message(&tenant, &scheduled.id).await.is_some()
    })
    .await;
    assert_eq!(tenant.messages(&conversation).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_now_is_refused_when_it_is_scheduled() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let request = later(&tenant, &conversation, "Hello");
    let refused = async |request: CreateMessageRequest| {
        refusal(schedule(&tenant, request).await.map(Response::new))
    };
    let mut inbound = request.clone();
    inbound.direction = MessageDirection::Inbound.into();
    let mut far = request.clone();
    far.send_time = in_seconds(400 * 86_400);
    for request in [inbound, far] {
        let (code, _, fields) = refused(request).await;
        assert_eq!(
            (code, fields),
            (Code::InvalidArgument, vec!["send_time".to_owned()])
        );
    }
    let mut reply = request.clone();
    reply.reply_to_message_id = uuid::Uuid::now_v7().to_string();
    let mut elsewhere = request.clone();
    elsewhere.conversation_id = uuid::Uuid::now_v7().to_string();
    for request in [reply, elsewhere] {
        assert_eq!(refused(request).await.0, Code::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_are_due_together_are_sent_once_each() {
    let (_server, tenant) = tenant().await;
    let tables = Tables::of(&tenant).await;
    let mut conversations = Vec::new();
    for _ in 0..4 {
        conversations.push(tenant.conversation().await);
    }
    let at = in_seconds(2);
    for number in 0..40 {
        let mut request = later(&tenant, &conversations[number % 4], &format!("{number}"));
        request.send_time = at;
        schedule(&tenant, request).await.unwrap();
    }
    // A second server hears the same alarms.
    let _second = TestServer::start().await;
    eventually("all are sent", async || {
        tables.hear().await;
        let left = "SELECT count(*) FROM {schema}.scheduled_messages";
        tables.count(left).await == 0
    })
    .await;
    let mut texts = Vec::new();
    for conversation in &conversations {
        for message in tenant.messages(conversation).await {
            texts.push(message.text.parse::<usize>().unwrap());
        }
    }
    texts.sort_unstable();
    assert_eq!(texts, (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_messages_are_listed_by_their_time() {
    let (_server, tenant) = tenant().await;
    let (first, second) = (tenant.conversation().await, tenant.conversation().await);
    for (seconds, conversation) in [(500, &first), (300, &second), (300, &first), (400, &first)] {
        let mut request = later(&tenant, conversation, &format!("{seconds}"));
        request.send_time = in_seconds(seconds);
        schedule(&tenant, request).await.unwrap();
    }
    let listed = async |conversation: Option<&Conversation>| {
        let mut texts = Vec::new();
        let mut request = ListScheduledMessagesRequest {
            tenant: tenant.slug(),
            conversation_id: conversation.map(|it| it.id.clone()).unwrap_or_default(),
            page_size: 1,
            ..Default::default()
        };
        loop {
            let mut inbox = tenant.inbox.clone();
            let page = inbox.list_scheduled_messages(request.clone()).await;
            let page = page.unwrap().into_inner();
            texts.extend(page.scheduled_messages.into_iter().map(|it| it.text));
            if page.next_page_token.is_empty() {
                return texts;
            }
            request.page_token = page.next_page_token;
        }
    };
    assert_eq!(listed(None).await, ["300", "300", "400", "500"]);
    assert_eq!(listed(Some(&first)).await, ["300", "400", "500"]);
}
