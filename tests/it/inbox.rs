//! Conversations and messages.

use communication_service::pb::{
    Channel, ConversationStatus, CreateConversationRequest, ListConversationsRequest,
    ListMessagesRequest, Location, Message, MessageDirection, MessageFailure, MessageStatus,
    MessageType, Priority, UpdateConversationRequest, UpdateMessageStatusRequest,
};
use prost_types::FieldMask;
use tonic::Code;

use crate::harness::{TestTenant, admin, refusal, tenant};

fn report(
    tenant: &TestTenant,
    message: &Message,
    status: MessageStatus,
) -> UpdateMessageStatusRequest {
    UpdateMessageStatusRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        status: status.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_person_on_the_same_account_has_one_conversation() {
    let (_server, tenant) = tenant().await;
    let mut request = tenant.new_conversation();
    request.contact_name = "John Doe".to_owned();
    request.first_message = "Hello, I need help".to_owned();
    let first = tenant
        .inbox
        .clone()
        .create_conversation(request.clone())
        .await
        .unwrap();
    let first = first.into_inner();
    assert!(first.created);
    let conversation = first.conversation.unwrap();
    assert_eq!(conversation.contact_name, "John Doe");
    assert_eq!(conversation.status(), ConversationStatus::New);
    assert_eq!(conversation.priority(), Priority::Normal);
    assert_eq!((conversation.number, conversation.last_sequence), (1, 1));
    let message = first.message.unwrap();
    assert_eq!(message.direction(), MessageDirection::Inbound);
    assert_eq!(
        (message.text.as_str(), message.sequence),
        ("Hello, I need help", 1)
    );

    request.first_message = "Are you there?".to_owned();
    let second = tenant
        .inbox
        .clone()
        .create_conversation(request)
        .await
        .unwrap()
        .into_inner();
    assert!(!second.created);
    let again = second.conversation.unwrap();
    assert_eq!(again.id, conversation.id);
    assert_eq!(again.last_sequence, 2);
    assert_eq!(tenant.messages(&conversation).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_first_messages_of_one_person_at_once_open_one_conversation() {
    let (_server, tenant) = tenant().await;
    let mut request = tenant.new_conversation();
    request.first_message = "Hello".to_owned();
    let calls = (0..50).map(|_| {
        let (tenant, request) = (tenant.clone(), request.clone());
        tokio::spawn(async move { tenant.create(request).await })
    });
    let mut ids = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        ids.push(call.await.unwrap().id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let request = ListConversationsRequest {
        tenant: tenant.slug(),
        ..Default::default()
    };
    let listed = tenant
        .inbox
        .clone()
        .list_conversations(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.conversations.len(), 1);
    let sequences: Vec<_> = tenant
        .messages(&listed.conversations[0])
        .await
        .into_iter()
        .map(|message| message.sequence)
        .collect();
    assert_eq!(sequences, (1..=50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_has_one_effect_and_one_answer() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut request = tenant.new_message(&conversation, "Once");
    request.request_id = "request-1".to_owned();
    let calls = (0..50).map(|_| {
        let (tenant, request) = (tenant.clone(), request.clone());
        tokio::spawn(async move { tenant.send(request).await })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(tenant.messages(&conversation).await, answers[..1]);

    request.text = "Twice".to_owned();
    let (code, reason, _) = refusal(tenant.inbox.clone().create_message(request).await);
    assert_eq!(
        (code, reason.as_str()),
        (Code::AlreadyExists, "REQUEST_ID_REUSED")
    );

    let mut request = tenant.new_conversation();
    request.first_message = "Hello".to_owned();
    request.request_id = "request-1".to_owned();
    let first = tenant
        .inbox
        .clone()
        .create_conversation(request.clone())
        .await
        .unwrap();
    let first = first.into_inner();
    assert!(first.created);
    let again = tenant
        .inbox
        .clone()
        .create_conversation(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first);
    assert_eq!(tenant.messages(&first.conversation.unwrap()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_leaves_its_id_free() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut request = tenant.new_message(&conversation, "Answer");
    request.request_id = "request-2".to_owned();
    request.reply_to_message_id = "01890000-0000-7000-8000-000000000000".to_owned();
    let refused = refusal(tenant.inbox.clone().create_message(request.clone()).await);
    assert_eq!(refused.0, Code::NotFound);
    request.reply_to_message_id = String::new();
    assert_eq!(tenant.send(request).await.sequence, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_moves_the_status_of_its_conversation() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let status = async || tenant.get(&conversation).await.status();
    tenant.receive(&conversation, "Hello").await;
    assert_eq!(status().await, ConversationStatus::New);
    let mut note = tenant.new_message(&conversation, "VIP");
    note.direction = MessageDirection::Internal.into();
    let note = tenant.send(note).await;
    assert_eq!(note.status(), MessageStatus::Unspecified);
    assert_eq!(status().await, ConversationStatus::New);
    let reply = tenant.reply(&conversation, "How can I help?").await;
    assert_eq!(reply.status(), MessageStatus::Queued);
    assert_eq!(status().await, ConversationStatus::Replied);
    tenant.receive(&conversation, "It broke").await;
    assert_eq!(status().await, ConversationStatus::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_conversation_refuses_replies_and_opens_on_a_customers_message() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let archive = format!(
        "UPDATE {}.inbox_conversations SET status = 'archived', archived_at = now()",
        tenant.tenant.schema_name
    );
    admin().await.batch_execute(&archive).await.unwrap();
    let reply = tenant.new_message(&conversation, "Hello?");
    let (code, reason, _) = refusal(tenant.inbox.clone().create_message(reply).await);
    assert_eq!(
        (code, reason.as_str()),
        (Code::FailedPrecondition, "CONVERSATION_ARCHIVED")
    );
    tenant.receive(&conversation, "Hello again").await;
    let opened = tenant.get(&conversation).await;
    assert_eq!(opened.status(), ConversationStatus::Open);
    assert_eq!(opened.archive_time, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_listed_in_pages_both_ways_and_around_one() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut sent = Vec::new();
    for number in 1..=7 {
        sent.push(
            tenant
                .reply(&conversation, &format!("Message {number}"))
                .await,
        );
    }
    let list = async |request: ListMessagesRequest| {
        tenant
            .inbox
            .clone()
            .list_messages(request)
            .await
            .unwrap()
            .into_inner()
    };
    let request = ListMessagesRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        page_size: 3,
        ..Default::default()
    };
    let mut forwards = Vec::new();
    let mut next = request.clone();
    loop {
        let page = list(next.clone()).await;
        forwards.extend(page.messages);
        if page.next_page_token.is_empty() {
            break;
        }
        next.page_token = page.next_page_token;
        // The size of a page may change on the way.
        next.page_size = 2;
    }
    assert_eq!(forwards, sent);

    let newest = ListMessagesRequest {
        order_by: "sequence desc".to_owned(),
        ..request.clone()
    };
    let page = list(newest.clone()).await;
    let sequences: Vec<_> = page
        .messages
        .iter()
        .map(|message| message.sequence)
        .collect();
    assert_eq!(sequences, [7, 6, 5]);
    let older = ListMessagesRequest {
        page_token: page.next_page_token.clone(),
        ..newest
    };
    assert_eq!(list(older).await.messages[0].sequence, 4);

    let around = ListMessagesRequest {
        around_message_id: sent[3].id.clone(),
        ..request.clone()
    };
    let sequences: Vec<_> = list(around)
        .await
        .messages
        .iter()
        .map(|message| message.sequence)
        .collect();
    assert_eq!(sequences, [3, 4, 5]);

    let other_order = ListMessagesRequest {
        page_token: page.next_page_token,
        ..request
    };
    let (code, reason, fields) = refusal(tenant.inbox.clone().list_messages(other_order).await);
    assert_eq!(
        (code, reason.as_str()),
        (Code::InvalidArgument, "INVALID_PAGE_TOKEN")
    );
    assert_eq!(fields, ["page_token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_message_only_goes_forward() {
    use MessageStatus::{Delivered, Failed, Read, Sent};
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Hello").await;
    let update = async |status| {
        let request = report(&tenant, &message, status);
        let answer = tenant
            .inbox
            .clone()
            .update_message_status(request)
            .await
            .unwrap();
        answer.into_inner().message.unwrap()
    };
    let sent = update(Sent).await;
    assert_eq!((sent.status(), sent.version), (Sent, 2));
    assert!(sent.sent_time.is_some());
    let mut failure = report(&tenant, &message, Failed);
    failure.failure = Some(MessageFailure {
        code: "131026".to_owned(),
        message: "undeliverable".to_owned(),
    });
    let failed = tenant
        .inbox
        .clone()
        .update_message_status(failure)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(failed.message.unwrap().failure.unwrap().code, "131026");
    let read = update(Read).await;
    assert_eq!((read.status(), read.failure.clone()), (Read, None));
    assert_eq!(read.sent_time, sent.sent_time);
    for late in [Sent, Delivered, Read, Failed] {
        assert_eq!(update(late).await, read);
    }

    let inbound = tenant.receive(&conversation, "Hello").await;
    let refused = tenant
        .inbox
        .clone()
        .update_message_status(report(&tenant, &inbound, Read))
        .await;
    let (code, reason, _) = refusal(refused);
    assert_eq!(
        (code, reason.as_str()),
        (Code::FailedPrecondition, "MESSAGE_NOT_OUTBOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_needs_the_current_etag_and_a_customers_message_does_not_spoil_it() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    tenant.receive(&conversation, "Hello").await;
    let mut edit = UpdateConversationRequest {
        tenant: tenant.slug(),
        conversation_id: conversation.id.clone(),
        etag: conversation.etag.clone(),
        subject: Some("Broken table".to_owned()),
        priority: Some(Priority::Urgent.into()),
        ..Default::default()
    };
    let edited = tenant
        .inbox
        .clone()
        .update_conversation(edit.clone())
        .await
        .unwrap();
    let edited = edited.into_inner().conversation.unwrap();
    assert_eq!(
        (edited.subject.as_str(), edited.priority()),
        ("Broken table", Priority::Urgent)
    );
    assert_ne!(edited.etag, conversation.etag);
    assert_eq!(edited.version, 3);

    let (code, reason, _) = refusal(tenant.inbox.clone().update_conversation(edit.clone()).await);
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    edit.etag = String::new();
    edit.subject = None;
    edit.update_mask = Some(FieldMask {
        paths: vec!["subject".to_owned()],
    });
    let cleared = tenant
        .inbox
        .clone()
        .update_conversation(edit.clone())
        .await
        .unwrap();
    let cleared = cleared.into_inner().conversation.unwrap();
    assert_eq!(
        (cleared.subject.as_str(), cleared.priority()),
        ("", Priority::Urgent)
    );

    edit.update_mask = Some(FieldMask {
        paths: vec!["number".to_owned()],
    });
    let (code, _, fields) = refusal(tenant.inbox.clone().update_conversation(edit.clone()).await);
    assert_eq!(
        (code, fields),
        (Code::InvalidArgument, vec!["update_mask".to_owned()])
    );

    edit.update_mask = None;
    edit.status = Some(ConversationStatus::Archived.into());
    let (_, _, fields) = refusal(tenant.inbox.clone().update_conversation(edit.clone()).await);
    assert_eq!(fields, ["status"]);
    edit.status = Some(ConversationStatus::Open.into());
    let opened = tenant
        .inbox
        .clone()
        .update_conversation(edit)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        opened.conversation.unwrap().status(),
        ConversationStatus::Open
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_filtered_ordered_and_paged() {
    let (_server, tenant) = tenant().await;
    let mut all = Vec::new();
    for number in 0..6 {
        let channel = if number % 2 == 0 {
            Channel::Whatsapp
        } else {
            Channel::Email
        };
        let request = CreateConversationRequest {
            channel: channel.into(),
            ..tenant.new_conversation()
        };
        all.push(tenant.create(request).await);
    }
    // The last message decides the order, so the first conversation comes first again.
    tenant.reply(&all[0], "Hello").await;
    let list = async |change: fn(&mut ListConversationsRequest)| {
        let mut request = ListConversationsRequest {
            tenant: tenant.slug(),
            page_size: 2,
            ..Default::default()
        };
        change(&mut request);
        let mut numbers = Vec::new();
        loop {
            let page = tenant
                .inbox
                .clone()
                .list_conversations(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert!(page.conversations.len() <= 2);
            numbers.extend(
                page.conversations
                    .iter()
                    .map(|conversation| conversation.number),
            );
            if page.next_page_token.is_empty() {
                return numbers;
            }
            request.page_token = page.next_page_token;
        }
    };
    assert_eq!(list(|_| {}).await, [1, 6, 5, 4, 3, 2]);
    assert_eq!(
        list(|r| r.order_by = "create_time".to_owned()).await,
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(
        list(|r| r.order_by = "create_time desc".to_owned()).await,
        [6, 5, 4, 3, 2, 1]
    );
    let emails = |r: &mut ListConversationsRequest| r.channels = vec![Channel::Email.into()];
    assert_eq!(list(emails).await, [6, 4, 2]);
    let replied =
        |r: &mut ListConversationsRequest| r.statuses = vec![ConversationStatus::Replied.into()];
    assert_eq!(list(replied).await, [1]);
    let archived =
        |r: &mut ListConversationsRequest| r.statuses = vec![ConversationStatus::Archived.into()];
    assert!(list(archived).await.is_empty());

    let mut request = ListConversationsRequest {
        tenant: tenant.slug(),
        channel_account_id: all[1].channel_account_id.clone(),
        ..Default::default()
    };
    let page = tenant
        .inbox
        .clone()
        .list_conversations(request.clone())
        .await
        .unwrap();
    assert_eq!(page.into_inner().conversations.len(), 3);
    request.contact_id = all[3].contact_id.clone();
    let page = tenant
        .inbox
        .clone()
        .list_conversations(request.clone())
        .await
        .unwrap();
    assert_eq!(page.into_inner().conversations, [tenant.get(&all[3]).await]);
    request.contact_id = String::new();
    request.updated_since_time = tenant.get(&all[0]).await.update_time;
    let page = tenant
        .inbox
        .clone()
        .list_conversations(request)
        .await
        .unwrap();
    assert!(page.into_inner().conversations.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_kept_as_it_was_sent() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let place = Location {
        latitude: 52.520_008,
        longitude: 13.404_954,
        name: "Alexanderplatz".to_owned(),
        address: String::new(),
    };
    let mut request = tenant.new_message(&conversation, "");
    request.r#type = MessageType::Location.into();
    request.location = Some(place.clone());
    let sent = tenant.send(request).await;
    assert_eq!(sent.location, Some(place));
    assert_eq!(tenant.messages(&conversation).await, [sent]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_accounts_of_a_channel_have_to_be_told_apart() {
    let (_server, tenant) = tenant().await;
    let first = tenant.conversation().await;
    let second = format!(
        "INSERT INTO {}.channel_accounts (id, channel, name, is_default)
         VALUES (gen_random_uuid(), 'whatsapp', 'second', false),
            (gen_random_uuid(), 'whatsapp', 'third', false)",
        tenant.tenant.schema_name
    );
    admin().await.batch_execute(&second).await.unwrap();
    let mut request = tenant.new_conversation();
    let (code, reason, fields) = refusal(
        tenant
            .inbox
            .clone()
            .create_conversation(request.clone())
            .await,
    );
    assert_eq!(
        (code, reason.as_str()),
        (Code::InvalidArgument, "CHANNEL_ACCOUNT_AMBIGUOUS")
    );
    assert_eq!(fields, ["channel_account_id"]);
    request.channel_account_id = first.channel_account_id.clone();
    assert_eq!(
        tenant.create(request).await.channel_account_id,
        first.channel_account_id
    );
}
