//! Tickets at Zendesk: each comment once, and each ticket where it stands there, in whatever order
//! its events come.

use communication_service::pb::{Conversation, ConversationStatus, MessageDirection};
use serde_json::{Value as Json, json};

use crate::harness::{Provider, Tables, TestServer, eventually, now, sign_at};

/// A recorded event that is changed.
fn event(tickets: &Provider, file: &str, change: impl FnOnce(&mut Json)) -> Json {
    let mut event = serde_json::from_slice(&tickets.sample(file)).unwrap();
    change(&mut event);
    event
}

/// That a ticket stands somewhere since a minute of an hour.
fn status(tickets: &Provider, status: &str, minute: u32) -> Json {
    event(tickets, "05_event_status_changed.json", |event| {
        event["id"] = json!(format!("{status}-{minute}"));
        event["event"]["current"] = json!(status);
        event["time"] = json!(format!("2026-03-14T10:{minute:02}:00.5Z"));
    })
}

/// A comment in a minute of an hour.
fn comment(tickets: &Provider, file: &str, id: &str, text: &str, minute: u32) -> Json {
    event(tickets, file, |event| {
        event["id"] = json!(format!("event-{id}"));
        event["event"]["comment"]["id"] = json!(id);
        event["event"]["comment"]["body"] = json!(text);
        event["time"] = json!(format!("2026-03-14T10:{minute:02}:00.5Z"));
    })
}

const CUSTOMERS: &str = "02_event_comment_public.json";
const STAFFS: &str = "03_event_comment_agent.json";

async fn tell(server: &TestServer, tickets: &Provider, event: &Json) {
    let (status, _) = tickets.post(server, event.to_string().as_bytes()).await;
    assert_eq!(status, 200);
    tickets.applied().await;
}

/// The only conversation, which is archived.
async fn archived(tickets: &Provider) -> Conversation {
    assert_eq!(tickets.conversations().await, []);
    let mut archived = tickets.conversations_in(ConversationStatus::Archived).await;
    assert_eq!(archived.len(), 1);
    archived.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_what_their_samples_say() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    tickets
        .post_sample(&server, "01_event_ticket_created.json")
        .await;
    let conversation = tickets.conversations().await.remove(0);
    assert_eq!(conversation.subject, "Café table");
    assert_eq!(
        tickets.newest().await.text,
        "is the café table still available?"
    );
    // The description comes again as a comment, and has one message.
    let comment = tickets.sample("02_event_comment_public.json");
    let mut comment: Json = serde_json::from_slice(&comment).unwrap();
    comment["event"]["comment"]["id"] = json!("9876543200");
    comment["event"]["comment"]["body"] = json!("is the café table still available?");
    for _ in 0..2 {
        let (status, _) = tickets.post(&server, comment.to_string().as_bytes()).await;
        assert_eq!(status, 200);
        tickets.applied().await;
        assert_eq!(tickets.messages().await.len(), 1);
    }
    // Saying the same again is another comment.
    comment["event"]["comment"]["id"] = json!("9876543201");
    tickets.post(&server, comment.to_string().as_bytes()).await;
    tickets.applied().await;
    assert_eq!(tickets.messages().await.len(), 2);
    tickets
        .post_sample(&server, "02_event_comment_public.json")
        .await;
    assert_eq!(tickets.newest().await.text, "Any news? 🙏");
    let conversation = tickets.conversations().await.remove(0);
    assert_eq!(conversation.contact_name, "Dana Whitfield");
    // The same comment by our template.
    tickets.post_sample(&server, "06_trigger_custom.json").await;
    assert_eq!(tickets.messages().await.len(), 3);
    tickets
        .post_sample(&server, "03_event_comment_agent.json")
        .await;
    assert_eq!(
        tickets.newest().await.direction(),
        MessageDirection::Outbound
    );
    tickets
        .post_sample(&server, "05_event_status_changed.json")
        .await;
    let conversation = tickets
        .conversations_in(ConversationStatus::Archived)
        .await
        .remove(0);
    tickets
        .post_sample(&server, "04_event_comment_private.json")
        .await;
    let again = tickets
        .conversations_in(ConversationStatus::Archived)
        .await
        .remove(0);
    assert_eq!(again.id, conversation.id, "a note opens nothing again");
    let messages = tickets.tenant.messages(&again).await;
    assert_eq!(
        messages.last().unwrap().direction(),
        MessageDirection::Internal
    );
    assert_eq!(messages.last().unwrap().text, "internal: VIP");
}

#[tokio::test(flavor = "multi_thread")]
async fn zendesks_test_is_answered_while_an_account_is_set_up_and_never_kept() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    let body = tickets.sample("09_builder_test.json");
    let test = async || {
        let at = chrono::DateTime::from_timestamp(i64::try_from(now()).unwrap(), 0).unwrap();
        let timestamp = at.to_rfc3339();
        let known = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";
        let signature = sign_at(known, &timestamp, &body);
        let headers = [
            ("x-zendesk-webhook-signature", signature.as_str()),
            ("x-zendesk-webhook-signature-timestamp", timestamp.as_str()),
            ("x-request-id", tickets.account.id.as_str()),
        ];
        let path = &tickets.account.webhook_path;
        server.http_post(path, &headers, &body).await.0
    };
    assert_eq!(test().await, 200);
    let tables = Tables::of(&tickets.tenant).await;
    let kept = format!(
        "SELECT count(*) FROM directory.deliveries WHERE correlation_id = '{}'",
        tickets.account.id
    );
    assert_eq!(tables.count(&kept).await, 0);
    let later = format!(
        "WITH aged AS (
            UPDATE directory.provider_apps a SET created_at = now() - interval '2 hours'
            FROM directory.channel_accounts c WHERE c.id = '{}' AND a.id = c.app_id RETURNING 1
        ) SELECT count(*) FROM aged",
        tickets.account.id
    );
    assert_eq!(tables.count(&later).await, 1);
    eventually("it is set up", async || test().await == 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_comment_of_a_ticket_may_come_before_the_ticket() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    let comment = tickets.sample("02_event_comment_public.json");
    let mut comment: Json = serde_json::from_slice(&comment).unwrap();
    comment["event"]["comment"]["body"] = json!("is the café table still available?");
    tickets.post(&server, comment.to_string().as_bytes()).await;
    tickets.applied().await;
    for _ in 0..2 {
        tickets
            .post_sample(&server, "01_event_ticket_created.json")
            .await;
        assert_eq!(tickets.messages().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_solved_with_a_comment_stays_solved() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    tell(
        &server,
        &tickets,
        &comment(&tickets, CUSTOMERS, "1", "Is it there?", 1),
    )
    .await;
    tell(&server, &tickets, &status(&tickets, "SOLVED", 5)).await;
    let solved = archived(&tickets).await;
    // What was said with it, and before it, comes later.
    tell(
        &server,
        &tickets,
        &comment(&tickets, STAFFS, "3", "It is here.", 5),
    )
    .await;
    tell(
        &server,
        &tickets,
        &comment(&tickets, CUSTOMERS, "2", "Hello?", 4),
    )
    .await;
    let still = archived(&tickets).await;
    assert_eq!(still.id, solved.id);
    let messages = tickets.tenant.messages(&still).await;
    let said: Vec<_> = messages.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(said, ["Is it there?", "It is here.", "Hello?"]);
    let tables = Tables::of(&tickets.tenant).await;
    let reopened = "SELECT count(*) FROM {schema}.conversation_changes WHERE kind = 'reopen'";
    assert_eq!(tables.count(reopened).await, 0);
    // What the customer says after that opens it again.
    tell(
        &server,
        &tickets,
        &comment(&tickets, CUSTOMERS, "4", "No, it is not.", 6),
    )
    .await;
    let open = tickets.conversations().await.remove(0);
    assert_eq!(open.id, solved.id);
    assert_eq!(tickets.newest().await.text, "No, it is not.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_where_its_newest_status_says_in_whatever_order_they_come() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    // Before there is anything of the ticket.
    tell(&server, &tickets, &status(&tickets, "SOLVED", 5)).await;
    tell(&server, &tickets, &status(&tickets, "OPEN", 3)).await;
    tell(
        &server,
        &tickets,
        &comment(&tickets, CUSTOMERS, "1", "Is it there?", 1),
    )
    .await;
    let solved = archived(&tickets).await;
    for older in [
        status(&tickets, "PENDING", 4),
        status(&tickets, "SOLVED", 5),
    ] {
        tell(&server, &tickets, &older).await;
        assert_eq!(archived(&tickets).await.id, solved.id);
    }
    tell(&server, &tickets, &status(&tickets, "OPEN", 7)).await;
    assert_eq!(tickets.conversations().await.remove(0).id, solved.id);
    tell(&server, &tickets, &status(&tickets, "CLOSED", 6)).await;
    assert_eq!(tickets.conversations().await.remove(0).id, solved.id);
    tell(&server, &tickets, &status(&tickets, "CLOSED", 8)).await;
    assert_eq!(archived(&tickets).await.id, solved.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_may_begin_solved() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    let created = event(&tickets, "01_event_ticket_created.json", |event| {
        event["detail"]["status"] = json!("SOLVED");
    });
    for _ in 0..2 {
        tell(&server, &tickets, &created).await;
        let solved = archived(&tickets).await;
        assert_eq!(tickets.tenant.messages(&solved).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_comment_is_one_message_whatever_came_between() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    let first = "is the café table still available?";
    tell(
        &server,
        &tickets,
        &comment(&tickets, CUSTOMERS, "2", "Any news?", 2),
    )
    .await;
    tickets
        .post_sample(&server, "01_event_ticket_created.json")
        .await;
    tell(
        &server,
        &tickets,
        &comment(&tickets, CUSTOMERS, "1", first, 1),
    )
    .await;
    let said = async || -> Vec<String> {
        let messages = tickets.messages().await;
        messages.into_iter().map(|message| message.text).collect()
    };
    assert_eq!(said().await, ["Any news?", first]);

    // The other way round, where the ticket comes last.
    let other = Provider::tickets(&server).await;
    for (id, text, minute) in [("2", "Any news?", 2), ("1", first, 1)] {
        tell(
            &server,
            &other,
            &comment(&other, CUSTOMERS, id, text, minute),
        )
        .await;
    }
    other
        .post_sample(&server, "01_event_ticket_created.json")
        .await;
    let messages = other.messages().await;
    assert_eq!(messages.len(), 2, "{messages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_redacted_does_not_come_back_with_its_ticket() {
    let server = TestServer::start().await;
    let tickets = Provider::tickets(&server).await;
    let words = "is the café table still available?";
    let mut first = comment(&tickets, CUSTOMERS, "1", words, 0);
    first["time"] = json!("2026-03-14T09:20:00.123456789Z");
    tell(&server, &tickets, &first).await;
    let redacted = event(&tickets, CUSTOMERS, |event| {
        event["id"] = json!("redacted");
        event["type"] = json!("zen:event-type:ticket.comment_redacted");
        event["event"]["comment"] = json!({"id": "1"});
    });
    tell(&server, &tickets, &redacted).await;
    tickets
        .post_sample(&server, "01_event_ticket_created.json")
        .await;
    let tables = Tables::of(&tickets.tenant).await;
    let left = format!("SELECT count(*) FROM {{schema}}.inbox_messages WHERE text = '{words}'");
    assert_eq!(tables.count(&left).await, 0);
    let all = "SELECT count(*) FROM {schema}.inbox_messages";
    assert_eq!(tables.count(all).await, 1);
}
