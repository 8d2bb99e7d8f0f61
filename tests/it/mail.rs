//! Mail by every service: whose it is, where it belongs, and what became of what was sent.

use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::{
    ArchiveConversationRequest, ConnectChannelAccountRequest, ConversationStatus, EmailProvider,
    EmailSettings, Message, MessageStatus, MessageType, ReopenPolicy, UpdateAccountPolicyRequest,
};
use serde_json::{Value as Json, json};

use crate::harness::{Provider, SECRET, Tables, TestServer, metadata, now, sign_inside};

/// A mail by Postmark, from somebody, with an id; `answers` is what it answers.
fn mail(address: &Provider, from: &str, id: &str, answers: Option<&str>) -> Json {
    let mail = address.sample("10_postmark_text.json");
    let mut mail: Json = serde_json::from_slice(&mail).unwrap();
    mail["From"] = json!(from);
    mail["FromFull"] = json!({"Email": from, "Name": ""});
    mail["TextBody"] = json!(format!("<{id}>"));
    mail["HtmlBody"] = json!("");
    let headers = mail["Headers"].as_array_mut().unwrap();
    headers.retain(|header| header["Name"] != "Message-ID");
    headers.push(json!({"Name": "Message-ID", "Value": format!("<{id}@mail.example>")}));
    if let Some(answers) = answers {
        let answers = format!("<{answers}@mail.example>");
        headers.push(json!({"Name": "In-Reply-To", "Value": answers}));
    }
    mail
}

/// How far a message has come that was sent in the only conversation.
async fn status_of(address: &Provider, sent: &Message) -> MessageStatus {
    let messages = address.messages().await;
    let found = messages.iter().find(|message| message.id == sent.id);
    found.unwrap().status()
}

async fn deliver(server: &TestServer, address: &Provider, mail: &Json) {
    let (status, _) = address.post(server, mail.to_string().as_bytes()).await;
    assert_eq!(status, 200);
    address.applied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_by_postmark_is_what_its_samples_say() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Postmark).await;
    address.post_sample(&server, "10_postmark_text.json").await;
    let conversation = address.conversations().await.remove(0);
    assert_eq!(conversation.subject, "Café table: still available?");
    let first = address.newest().await;
    assert_eq!(first.r#type(), MessageType::Text);
    address
        .post_sample(&server, "11_postmark_reply_attachment.json")
        .await;
    let reply = address.newest().await;
    assert_ne!(reply.id, first.id);
    assert_eq!(address.messages().await.len(), 2);
    assert_eq!(reply.attachments.len(), 1);
    assert_eq!(reply.attachments[0].content_id, "");
    let failed = address.sent("msg-2001").await;
    let delivered = address.sent("msg-2002").await;
    address
        .post_sample(&server, "12_postmark_bounce.json")
        .await;
    address
        .post_sample(&server, "13_postmark_delivery.json")
        .await;
    assert_eq!(status_of(&address, &failed).await, MessageStatus::Failed);
    assert_eq!(
        status_of(&address, &delivered).await,
        MessageStatus::Delivered
    );
    // A machine's mail opens nothing again.
    let archived = ArchiveConversationRequest {
        tenant: address.tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    let mut inbox = address.tenant.inbox.clone();
    inbox.archive_conversation(archived).await.unwrap();
    let away = address.sample("11_postmark_reply_attachment.json");
    let mut away: Json = serde_json::from_slice(&away).unwrap();
    let headers = away["Headers"].as_array_mut().unwrap();
    for header in headers.iter_mut() {
        if header["Name"] == "Message-ID" {
            header["Value"] = json!("<away@customer.example>");
        }
    }
    headers.push(json!({"Name": "Auto-Submitted", "Value": "auto-replied"}));
    address.post(&server, away.to_string().as_bytes()).await;
    address.applied().await;
    let archived = address
        .conversations_in(ConversationStatus::Archived)
        .await
        .remove(0);
    assert_eq!(archived.id, conversation.id);
    let messages = address.tenant.messages(&archived).await;
    assert_eq!(messages.len(), 5);
    assert!(metadata(messages.last().unwrap(), "/automatic").is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_by_mailgun_is_what_its_samples_say() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Mailgun).await;
    // The others are the first mail again: as a whole, and with its files.
    for file in [
        "20_mailgun_parsed.form",
        "22_mailgun_raw_mime.form",
        "21_mailgun_attachments.multipart",
    ] {
        address.post_sample(&server, file).await;
        assert_eq!(address.messages().await.len(), 1, "{file}");
    }
    let files = Provider::email(&server, EmailProvider::Mailgun).await;
    files
        .post_sample(&server, "21_mailgun_attachments.multipart")
        .await;
    let with_files = files.newest().await;
    let inline = with_files.attachments.iter();
    let inline: Vec<_> = inline.map(|file| !file.content_id.is_empty()).collect();
    assert_eq!(inline, [true, false]);
    // Whole first is the same.
    let whole = Provider::email(&server, EmailProvider::Mailgun).await;
    whole.post_sample(&server, "22_mailgun_raw_mime.form").await;
    assert!(
        whole
            .newest()
            .await
            .text
            .contains("is the café table still available?")
    );
    let failed = whole.sent("msg-2001").await;
    whole
        .post_sample(&server, "23_mailgun_event_failed.json")
        .await;
    assert_eq!(status_of(&whole, &failed).await, MessageStatus::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_mailgun_is_for_one_body() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Mailgun).await;
    let body = address.sample("20_mailgun_parsed.form");
    let signed = sign_inside(SECRET, &body, &now().to_string());
    let other = String::from_utf8(signed.clone())
        .unwrap()
        .replace("Dana", "Mallory");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let path = &address.account.webhook_path;
    for (body, status) in [
        (signed.as_slice(), 200),
        (other.as_bytes(), 403),
        (signed.as_slice(), 200),
    ] {
        assert_eq!(server.http_post(path, &headers, body).await.0, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_by_sendgrid_is_what_its_samples_say() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Sendgrid).await;
    address
        .post_sample(&server, "30_sendgrid_parsed.multipart")
        .await;
    let parsed = address.newest().await;
    assert_eq!(parsed.text, "is the café table still available?");
    assert_eq!(parsed.attachments.len(), 1);
    let failed = address.sent("msg-2001").await;
    address
        .post_sample(&server, "32_sendgrid_events.json")
        .await;
    assert_eq!(status_of(&address, &failed).await, MessageStatus::Failed);
    // The same mail again, as a whole.
    let before = address.messages().await.len();
    address
        .post_sample(&server, "31_sendgrid_raw.multipart")
        .await;
    assert_eq!(address.messages().await.len(), before);
    let whole = Provider::email(&server, EmailProvider::Sendgrid).await;
    whole
        .post_sample(&server, "31_sendgrid_raw.multipart")
        .await;
    assert!(
        whole
            .newest()
            .await
            .text
            .contains("is the café table still available?")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_of_the_address_that_sent() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Postmark).await;
    address.post_sample(&server, "10_postmark_text.json").await;
    let failed = address.sent("msg-2001").await;
    // The same service is for another address, too, so what names none could be of either.
    let domain = address.address().split_once('@').unwrap().1.to_owned();
    let other = ConnectChannelAccountRequest {
        tenant: address.tenant.slug(),
        name: "Sales".to_owned(),
        settings: Some(Settings::Email(EmailSettings {
            address: format!("sales@{domain}"),
            provider: EmailProvider::Postmark.into(),
            provider_account: domain,
            own_app: true,
        })),
        ..Default::default()
    };
    let mut admin = server.tenant_admin();
    admin.connect_channel_account(other).await.unwrap();
    address
        .post_sample(&server, "12_postmark_bounce.json")
        .await;
    let newest = address.newest().await;
    assert_eq!(newest.id, failed.id);
    assert_eq!(newest.status(), MessageStatus::Failed);
    let tables = Tables::of(&address.tenant).await;
    let stuck = format!(
        "SELECT count(*) FROM directory.quarantine q JOIN directory.deliveries d ON d.id = q.delivery_id
        WHERE d.correlation_id = '{}'",
        address.account.id
    );
    assert_eq!(tables.count(&stuck).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_conversation_by_mail_is_told_of_once() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Postmark).await;
    let dana = "dana@customer.example";
    let mut first = mail(&address, dana, "1", None);
    first["Headers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"Name": "Cc", "Value": "Lee <lee@customer.example>"}));
    deliver(&server, &address, &first).await;
    let is_new = async |from: &str, id: &str| {
        deliver(&server, &address, &mail(&address, from, id, Some("1"))).await;
        let newest = address.newest().await;
        assert_eq!(newest.text, format!("<{id}>"));
        metadata(&newest, "/new_participant") == true
    };
    assert!(!is_new(dana, "2").await);
    assert!(!is_new("lee@customer.example", "3").await);
    assert!(is_new("mallory@elsewhere.example", "4").await);
    assert!(!is_new("mallory@elsewhere.example", "5").await);
    assert_eq!(address.messages().await.len(), 5);
    let conversation = address.conversations().await.remove(0);
    assert_eq!(conversation.contact_identifier, dana);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_filled_in_on_a_page_is_of_whom_to_answer() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Postmark).await;
    let own = address.address();
    // What is from us and for nobody else is none of a customer.
    deliver(&server, &address, &mail(&address, own, "1", None)).await;
    assert_eq!(address.conversations().await, []);
    let mut form = mail(&address, own, "2", None);
    form["ReplyTo"] = json!(format!("{own}, Dana Whitfield <Dana@customer.example>"));
    deliver(&server, &address, &form).await;
    let conversation = address.conversations().await.remove(0);
    assert_eq!(conversation.contact_identifier, "dana@customer.example");
    assert_eq!(conversation.contact_name, "Dana Whitfield");
    let newest = address.newest().await;
    assert_eq!(
        metadata(&newest, "/reply_to/1/address"),
        "dana@customer.example"
    );
    assert_eq!(metadata(&newest, "/from/address"), json!(own));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automatic_answer_stays_in_a_conversation_that_is_not_to_go_on() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Postmark).await;
    let policy = UpdateAccountPolicyRequest {
        tenant: address.tenant.slug(),
        channel_account_id: address.account.id.clone(),
        reopen_policy: Some(ReopenPolicy::Never.into()),
        ..Default::default()
    };
    let mut inbox = address.tenant.inbox.clone();
    inbox.update_account_policy(policy).await.unwrap();
    let dana = "dana@customer.example";
    deliver(&server, &address, &mail(&address, dana, "1", None)).await;
    let conversation = address.conversations().await.remove(0);
    let archive = ArchiveConversationRequest {
        tenant: address.tenant.slug(),
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    inbox.archive_conversation(archive).await.unwrap();
    let mut away = mail(&address, dana, "2", Some("1"));
    away["Headers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"Name": "Auto-Submitted", "Value": "auto-replied"}));
    deliver(&server, &address, &away).await;
    assert_eq!(address.conversations().await, []);
    let archived = address.conversations_in(ConversationStatus::Archived).await;
    assert_eq!(archived.len(), 1);
    assert_eq!(address.tenant.messages(&archived[0]).await.len(), 2);
    // What a person says goes on elsewhere.
    let more = mail(&address, dana, "3", Some("1"));
    deliver(&server, &address, &more).await;
    let next = address.conversations().await.remove(0);
    assert_ne!(next.id, conversation.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_mailgun_keeps_are_told_of_with_their_mail() {
    let server = TestServer::start().await;
    let address = Provider::email(&server, EmailProvider::Mailgun).await;
    let body = address.sample("20_mailgun_parsed.form");
    let kept = json!([
        {
            "url": "https://storage-us-east4.api.mailgun.net/v3/domains/x/messages/m/attachments/0",
            "content-type": "application/pdf",
            "name": "order.pdf",
            "size": 7,
        },
        {"name": "nowhere"},
    ]);
    let mut form = String::from_utf8(body).unwrap();
    form.push_str("&attachments=");
    form.extend(form_urlencoded::byte_serialize(kept.to_string().as_bytes()));
    let (status, _) = address.post(&server, form.as_bytes()).await;
    assert_eq!(status, 200);
    address.applied().await;
    let newest = address.newest().await;
    assert_eq!(newest.attachments.len(), 1);
    assert_eq!(newest.attachments[0].file_name, "order.pdf");
    assert_eq!(newest.attachments[0].content_type, "application/pdf");
}
