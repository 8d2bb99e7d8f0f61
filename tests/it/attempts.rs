//! Messages that failed and are sent again.

use communication_service::pb::{
    ArchiveConversationRequest, DeleteMessageRequest, ListMessageAttemptsRequest, Message,
    MessageAttempt, MessageAttemptOutcome, MessageStatus, RetryMessageRequest,
};
use tonic::{Code, Response, Status};

use crate::harness::{TestTenant, refusal, tenant, user};

fn again(tenant: &TestTenant, message: &Message) -> RetryMessageRequest {
    RetryMessageRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        ..Default::default()
    }
}

async fn retry(tenant: &TestTenant, request: RetryMessageRequest) -> Result<Message, Status> {
    let answer = tenant.inbox.clone().retry_message(request).await?;
    Ok(answer.into_inner().message.unwrap())
}

/// Why a message cannot be sent again.
async fn refused(tenant: &TestTenant, message: &Message) -> (Code, String) {
    let answer = retry(tenant, again(tenant, message)).await;
    let (code, reason, _) = refusal(answer.map(Response::new));
    (code, reason)
}

async fn attempts(tenant: &TestTenant, message: &Message) -> Vec<MessageAttempt> {
    let mut all = Vec::new();
    let mut request = ListMessageAttemptsRequest {
        tenant: tenant.slug(),
        message_id: message.id.clone(),
        page_size: 2,
        ..Default::default()
    };
    loop {
        let mut inbox = tenant.inbox.clone();
        let page = inbox.list_message_attempts(request.clone()).await;
        let page = page.unwrap().into_inner();
        all.extend(page.attempts);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_says_who_wanted_it_and_how_it_ended() {
    use MessageAttemptOutcome::{Failed, Sent, Unspecified};
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let mut request = tenant.new_message(&conversation, "Hello");
    request.actor = user("ana");
    let message = tenant.send(request).await;
    assert_eq!(attempts(&tenant, &message).await, []);

    let failed = tenant.report(&message, MessageStatus::Failed).await;
    let first = attempts(&tenant, &message).await.remove(0);
    assert_eq!((first.number, first.outcome()), (1, Failed));
    assert_eq!(first.failure, failed.failure);
    assert_eq!(first.actor, user("ana"));
    assert_eq!(first.start_time, message.create_time);
    assert_eq!(first.end_time, failed.fail_time);

    let mut request = again(&tenant, &message);
    request.actor = user("bob");
    let queued = retry(&tenant, request).await.unwrap();
    assert_eq!(queued.status(), MessageStatus::Queued);
    assert_eq!((&queued.failure, queued.fail_time), (&None, None));
    assert_eq!(queued.version, failed.version + 1);
    let all = attempts(&tenant, &message).await;
    assert_eq!((all[0].number, all[0].outcome()), (2, Unspecified));
    assert_eq!((&all[0].actor, all[0].end_time), (&user("bob"), None));
    assert_eq!(all[0].start_time, queued.update_time);
    assert_eq!(all[1], first);

    // It went out, and came back; and then it was there all the same.
    tenant.report(&message, MessageStatus::Sent).await;
    assert_eq!(attempts(&tenant, &message).await[0].outcome(), Sent);
    tenant.report(&message, MessageStatus::Failed).await;
    assert_eq!(attempts(&tenant, &message).await[0].outcome(), Failed);
    retry(&tenant, again(&tenant, &message)).await.unwrap();
    tenant.report(&message, MessageStatus::Failed).await;
    tenant.report(&message, MessageStatus::Delivered).await;
    tenant.report(&message, MessageStatus::Read).await;
    let all = attempts(&tenant, &message).await;
    let outcomes: Vec<_> = all.iter().map(|it| (it.number, it.outcome())).collect();
    assert_eq!(outcomes, [(3, Sent), (2, Failed), (1, Failed)]);
    assert_eq!(all[0].failure, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_failed_is_sent_again() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Hello").await;
    // It is about to be sent anyway.
    assert_eq!(
        retry(&tenant, again(&tenant, &message)).await.unwrap(),
        message
    );
    assert_eq!(attempts(&tenant, &message).await, []);

    tenant.report(&message, MessageStatus::Delivered).await;
    let precondition = |reason: &str| (Code::FailedPrecondition, reason.to_owned());
    assert_eq!(
        refused(&tenant, &message).await,
        precondition("MESSAGE_NOT_FAILED")
    );
    let question = tenant.receive(&conversation, "Hello?").await;
    assert_eq!(
        refused(&tenant, &question).await,
        precondition("MESSAGE_NOT_OUTBOUND")
    );

    let deleted = tenant.reply(&conversation, "Sorry").await;
    tenant.report(&deleted, MessageStatus::Failed).await;
    let request = DeleteMessageRequest {
        tenant: tenant.slug(),
        message_id: deleted.id.clone(),
        ..Default::default()
    };
    tenant.inbox.clone().delete_message(request).await.unwrap();
    assert_eq!(refused(&tenant, &deleted).await.0, Code::NotFound);

    let message = tenant.reply(&conversation, "Goodbye").await;
    tenant.report(&message, MessageStatus::Failed).await;
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
    assert_eq!(
        refused(&tenant, &message).await,
        precondition("CONVERSATION_ARCHIVED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_itself_repeated_sends_once() {
    let (_server, tenant) = tenant().await;
    let conversation = tenant.conversation().await;
    let message = tenant.reply(&conversation, "Hello").await;
    tenant.report(&message, MessageStatus::Failed).await;
    let mut request = again(&tenant, &message);
    request.request_id = "again".to_owned();
    let calls = (0..32).map(|number| {
        let (tenant, mut request) = (tenant.clone(), request.clone());
        if number % 2 == 0 {
            request.request_id.clear();
        }
        tokio::spawn(async move { retry(&tenant, request).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().status(), MessageStatus::Queued);
    }
    assert_eq!(attempts(&tenant, &message).await.len(), 2);
    // It failed again meanwhile: the repeated request is answered, and not carried out.
    tenant.report(&message, MessageStatus::Failed).await;
    retry(&tenant, request).await.unwrap();
    let all = attempts(&tenant, &message).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].outcome(), MessageAttemptOutcome::Failed);
}
