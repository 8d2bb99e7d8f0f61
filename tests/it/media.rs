//! Files of customers: told of with their message, fetched behind it, tried again until they are there
//! or cannot be had; and never from where nothing may be fetched.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use communication_service::pb::{
    Attachment, AttachmentFailure, AttachmentState, DeleteMessageRequest,
    DownloadAttachmentRequest, EmailProvider, Gateway, GetAttachmentRequest, Message, MessageType,
    TwilioCallSettings,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::harness::{
    ACCESS_TOKEN, FileHost, Folder, Provider, Refusal, SECRET, Service, Tables, TestServer,
    TestTenant, Told, Whatsapp, durable, eventually, sample, within,
};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and what else a picture has";
/// What the recorded image is called by Meta.
const MEDIA: &str = "1003383400000301";

/// A server whose providers are played by a host of files.
async fn server_with(host: &FileHost) -> TestServer {
    let (url, trusted) = (host.url(""), host.address.to_string());
    TestServer::start_with(|config| {
        config.meta_url.clone_from(&url);
        config.twilio_url = url;
        config.trusted_hosts = vec![trusted.parse().unwrap()];
        config.attachment_bytes = 100_000;
    })
    .await
}

/// A WhatsApp account, and where its recorded image is looked up.
async fn whatsapp(server: &TestServer) -> (Whatsapp, String) {
    let account = Whatsapp::connected(server).await;
    let lookup = format!("/{MEDIA}?phone_number_id={}", account.number);
    (account, lookup)
}

fn located(url: &str) -> Told {
    let answer = format!(r#"{{"url":"{url}","mime_type":"image/jpeg","id":"{MEDIA}"}}"#);
    Told::File("application/json", answer.into_bytes())
}

async fn get(tenant: &TestTenant, id: &str) -> Result<Attachment, Status> {
    let request = GetAttachmentRequest {
        tenant: tenant.slug(),
        attachment_id: id.to_owned(),
    };
    let answer = tenant.inbox.clone().get_attachment(request).await?;
    Ok(answer.into_inner().attachment.unwrap())
}

async fn content(tenant: &TestTenant, id: &str) -> Result<Vec<u8>, Status> {
    let request = DownloadAttachmentRequest {
        tenant: tenant.slug(),
        attachment_id: id.to_owned(),
        ..Default::default()
    };
    let mut inbox = tenant.inbox.clone();
    let mut frames = inbox.download_attachment(request).await?.into_inner();
    let mut content = Vec::new();
    while let Some(frame) = frames.message().await? {
        content.extend(frame.data);
    }
    Ok(content)
}

/// The messages of the tenant's only conversation, once there are so many.
async fn messages(tenant: &TestTenant, count: usize) -> Vec<Message> {
    let tables = Tables::of(tenant).await;
    eventually("the messages are there", async || {
        let found = "SELECT count(*) FROM {schema}.inbox_messages";
        tables.count(found).await == i64::try_from(count).unwrap()
    })
    .await;
    let found = "SELECT id::text FROM {schema}.inbox_conversations";
    let found = found.replace("{schema}", &tables.schema);
    let id: String = tables.admin.query_one(&found, &[]).await.unwrap().get(0);
    let conversation = communication_service::pb::Conversation {
        id,
        ..Default::default()
    };
    tenant.messages(&conversation).await
}

/// The files of the first message, once none of them is pending.
async fn settled(tenant: &TestTenant) -> Vec<Attachment> {
    let first = messages(tenant, 1).await.remove(0);
    let mut files = first.attachments;
    assert!(!files.is_empty(), "the message has no files");
    eventually("the files are settled", async || {
        files = messages(tenant, 1).await.remove(0).attachments;
        files
            .iter()
            .all(|file| file.state() != AttachmentState::Pending)
    })
    .await;
    for file in &files {
        assert_eq!(get(tenant, &file.id).await.unwrap(), *file);
    }
    files
}

/// Waits until a file of the tenant was tried so often, and lets it be tried again now, by this
/// server alone: others hear no alarm of the tenant.
async fn try_again(tenant: &TestTenant, attempts: usize) {
    let tables = Tables::of(tenant).await;
    eventually(&format!("it was tried {attempts} times"), async || {
        let tried = format!(
            "SELECT count(*) FROM {{schema}}.media_fetches
            WHERE attempts >= {attempts} AND lease IS NULL"
        );
        tables.count(&tried).await > 0
    })
    .await;
    let now = format!(
        "DELETE FROM directory.alarms
        WHERE tenant_id = (SELECT id FROM directory.tenants WHERE number = {});
        UPDATE {}.media_fetches SET due_at = now() - interval '1 second'",
        tables.number, tables.schema
    );
    tables.admin.batch_execute(&now).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_by_whatsapp_is_looked_up_and_fetched() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let (account, lookup) = whatsapp(&server).await;
    // It stays pending until the test lets it come.
    host.tells(
        &lookup,
        [
            Told::Status(503, "Retry-After: 30\r\n"),
            located(&host.url("/x")),
        ],
    );
    host.tells("/x", [Told::File("image/jpeg", PNG.to_vec())]);
    account.post_sample(&server, "03_image_caption.json").await;
    let message = messages(&account.tenant, 1).await.remove(0);
    assert_eq!(message.r#type(), MessageType::Image);
    let pending = &message.attachments[0];
    assert_eq!(pending.state(), AttachmentState::Pending);
    assert_eq!(
        (pending.file_name.as_str(), pending.size_bytes),
        ("image", 0)
    );
    assert_eq!(pending.content_type, "image/jpeg");
    assert_eq!(pending.message_id, message.id);
    let refused = content(&account.tenant, &pending.id).await.unwrap_err();
    assert_eq!(
        Refusal::of(&refused).why(),
        (Code::FailedPrecondition, "ATTACHMENT_NOT_READY")
    );
    try_again(&account.tenant, 1).await;
    account.post_sample(&server, "04_document.json").await;
    let tables = Tables::of(&account.tenant).await;
    eventually("the picture is there", async || {
        let ready = "SELECT count(*) FROM {schema}.attachments WHERE state = 'ready'";
        tables.count(ready).await == 1
    })
    .await;
    let first = messages(&account.tenant, 2).await.remove(0);
    let file = &first.attachments[0];
    assert_eq!(file.state(), AttachmentState::Attached);
    // What it is, its bytes say.
    assert_eq!(
        (file.file_name.as_str(), file.content_type.as_str()),
        ("image.png", "image/png")
    );
    assert_eq!(file.size_bytes, i64::try_from(PNG.len()).unwrap());
    assert_eq!(first.version, message.version + 1);
    assert_eq!(content(&account.tenant, &file.id).await.unwrap(), PNG);
    for path in [lookup.as_str(), "/x"] {
        let asked = host.asked(path).pop().unwrap();
        let token = format!("Bearer {ACCESS_TOKEN}");
        assert_eq!(asked.header["authorization"], token, "{path}");
    }
    let told = format!(
        "SELECT count(*) FROM {{schema}}.events
        WHERE kind = 'message.updated' AND resource_id = '{}' AND changed = '{{attachments}}'",
        first.id
    );
    assert_eq!(tables.count(&told).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_stumbles_is_asked_again() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let (account, lookup) = whatsapp(&server).await;
    let url = host.url("/x");
    let wrong = format!(r#"{{"url":"{url}","sha256":"{}"}}"#, "0".repeat(64));
    host.tells(
        &lookup,
        [
            Told::Status(500, ""),
            Told::File("text/html", b"<html>".to_vec()),
            Told::File("application/json", wrong.into_bytes()),
            located(&url),
        ],
    );
    host.tells(
        "/x",
        [
            Told::File("image/png", PNG.to_vec()),
            Told::Status(404, ""),
            Told::Broken(PNG.to_vec()),
            Told::File("image/png", Vec::new()),
            Told::Status(401, ""),
            Told::File("image/png", PNG.to_vec()),
        ],
    );
    account.post_sample(&server, "03_image_caption.json").await;
    for attempt in 1..=7 {
        try_again(&account.tenant, attempt).await;
        // Whatever comes next of the tenant sees what is due.
        server_kick(&server, &account).await;
    }
    let tables = Tables::of(&account.tenant).await;
    eventually("the picture is there", async || {
        let ready = "SELECT count(*) FROM {schema}.attachments a JOIN {schema}.inbox_messages m
            ON m.id = a.message_id WHERE a.state = 'ready' AND m.sequence = 1";
        tables.count(ready).await == 1
    })
    .await;
    let found = "SELECT id::text FROM {schema}.attachments WHERE state = 'ready'";
    let found = found.replace("{schema}", &tables.schema);
    let id: String = tables.admin.query_one(&found, &[]).await.unwrap().get(0);
    assert_eq!(content(&account.tenant, &id).await.unwrap(), PNG);
    assert_eq!(host.asked("/x").len(), 6);
}

/// Posts a picture that is never there, after which the server looks at what is due.
async fn server_kick(server: &TestServer, account: &Whatsapp) {
    let body = String::from_utf8(sample("03_image_caption.json", &account.number)).unwrap();
    let (wamid, media) = (Uuid::now_v7().simple(), "77");
    let body = body
        .replace("wamid.HQ", &format!("wamid.{wamid}"))
        .replace(MEDIA, media);
    assert_eq!(account.post(server, body.as_bytes()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_fetched_fails_and_says_why() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let stranger = FileHost::open().await;
    stranger.tells("/x", [Told::File("image/png", PNG.to_vec())]);
    let large = vec![b'x'; 100_001];
    host.tells("/large", [Told::File("text/plain", large)]);
    host.tells("/away", [Told::Redirect(stranger.url("/x"))]);
    for (url, failure) in [
        (stranger.url("/x"), AttachmentFailure::Refused),
        (host.url("/away"), AttachmentFailure::Refused),
        (
            "https://169.254.169.254/latest".to_owned(),
            AttachmentFailure::Refused,
        ),
        ("file:///etc/passwd".to_owned(), AttachmentFailure::Refused),
        (host.url("/large"), AttachmentFailure::TooLarge),
    ] {
        let (account, lookup) = whatsapp(&server).await;
        host.tells(&lookup, [located(&url)]);
        account.post_sample(&server, "03_image_caption.json").await;
        let file = settled(&account.tenant).await.remove(0);
        assert_eq!(
            (file.state(), file.failure()),
            (AttachmentState::Failed, failure),
            "{url}"
        );
        let tables = Tables::of(&account.tenant).await;
        let left = "SELECT count(*) FROM {schema}.media_fetches";
        assert_eq!(tables.count(left).await, 0);
    }
    assert!(stranger.asked("/x").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_stays_away_is_given_up() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let (account, lookup) = whatsapp(&server).await;
    host.tells(&lookup, [Told::Status(404, "")]);
    account.post_sample(&server, "03_image_caption.json").await;
    for attempt in 1..=5 {
        try_again(&account.tenant, attempt).await;
        server_kick(&server, &account).await;
    }
    let tables = Tables::of(&account.tenant).await;
    eventually("it is given up", async || {
        let gone = "SELECT count(*) FROM {schema}.attachments WHERE failure = 'gone'";
        tables.count(gone).await > 0
    })
    .await;
    // And one that the account may not have, when its time is over.
    let (account, lookup) = whatsapp(&server).await;
    host.tells(&lookup, [Told::Status(401, "")]);
    account.post_sample(&server, "03_image_caption.json").await;
    try_again(&account.tenant, 1).await;
    let tables = Tables::of(&account.tenant).await;
    let old = format!(
        "UPDATE {}.attachments SET created_at = created_at - interval '7 days'",
        tables.schema
    );
    tables.admin.batch_execute(&old).await.unwrap();
    server_kick(&server, &account).await;
    eventually("it is given up", async || {
        let denied = "SELECT count(*) FROM {schema}.attachments WHERE failure = 'unauthorized'";
        tables.count(denied).await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_answers_without_end_costs_no_memory() {
    const GIB: usize = 1024 * 1024 * 1024;
    let host = FileHost::open().await;
    let (folder, url, trusted) = (Folder::new(), host.url(""), host.address.to_string());
    let settings = [
        ("COMM_META_URL", url.as_str()),
        ("COMM_TRUSTED_HOSTS", trusted.as_str()),
        ("COMM_ATTACHMENT_BYTES", "20000000"),
    ];
    let database = durable(&folder).await;
    let service = Service::start_with(&folder.0, database.url(), &settings).await;
    let account = Whatsapp::new(service.tenant("endless").await);
    account.connect_by(&service.channel).await;
    let lookup = format!("/{MEDIA}?phone_number_id={}", account.number);
    let image = String::from_utf8(sample("03_image_caption.json", &account.number)).unwrap();
    let mut count = 0;
    // Posts the image once more; returns how far its file has come, once it was asked for.
    let mut posted = async |told: Told| {
        host.tells(&lookup, [told]);
        count += 1;
        let body = image.replace("wamid.", &format!("wamid.{count}."));
        assert_eq!(
            account.post_to(service.http, body.as_bytes()).await,
            Some(200)
        );
        let mut all = Vec::new();
        eventually("its file was asked for", async || {
            all = messages_of(&account).await;
            all.len() == count && host.asked(&lookup).len() >= count
        })
        .await;
        all.pop().unwrap()
    };
    let small = Told::File("image/png", PNG.to_vec());
    host.tells("/small", [small]);
    host.tells("/some", [Told::Endless("image/png", 3_000_000)]);
    let odd = [
        Told::File("application/json", vec![b'['; 200_000]),
        Told::File("application/json", vec![0xff; 50_000]),
        Told::Broken(b"{\"url\":".to_vec()),
    ];
    // What the first ones of each kind need does not count: most of it is code that is read in.
    for told in ["/small", "/some"].map(|path| located(&host.url(path))) {
        posted(told).await;
    }
    for told in &odd {
        posted(told.clone()).await;
    }
    let before = service.peak_memory();
    host.tells("/long", [Told::Endless("image/png", GIB)]);
    let id = posted(located(&host.url("/long"))).await.id;
    within(Duration::from_secs(60), "it is too large", async || {
        file_of(&account, &id).await.failure() == AttachmentFailure::TooLarge
    })
    .await;
    println!(
        "a long file: {} KiB",
        service.peak_memory().saturating_sub(before) / 1024
    );
    // What is looked up is no better: it is asked for again later.
    let endless = Told::Endless("application/json", GIB);
    for told in [endless].into_iter().chain(odd) {
        let message = posted(told).await;
        let state = message.attachments[0].state();
        assert_eq!(state, AttachmentState::Pending, "{message:?}");
    }
    let grown = service.peak_memory().saturating_sub(before);
    println!("grown by {} KiB", grown / 1024);
    assert!(grown < 8 * 1024 * 1024, "grown by {grown} bytes");
    // It goes on as before.
    let id = posted(located(&host.url("/small"))).await.id;
    eventually("the next file is fetched", async || {
        file_of(&account, &id).await.state() == AttachmentState::Attached
    })
    .await;
    service.stop().await;
}

/// The file of a message of an account's only conversation.
async fn file_of(account: &Whatsapp, message: &str) -> Attachment {
    let mut all = messages_of(account).await.into_iter();
    let mut found = all.find(|one| one.id == message).unwrap();
    found.attachments.remove(0)
}

/// The messages of an account's only conversation, if it has begun.
async fn messages_of(account: &Whatsapp) -> Vec<Message> {
    match account.conversations().await.first() {
        Some(conversation) => account.tenant.messages(conversation).await,
        None => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_never_answers_is_in_nobodys_way() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let (stuck, lookup) = whatsapp(&server).await;
    host.tells(&lookup, [Told::Nothing]);
    stuck.post_sample(&server, "03_image_caption.json").await;
    let message = messages(&stuck.tenant, 1).await.remove(0);
    assert_eq!(message.attachments[0].state(), AttachmentState::Pending);
    let (other, lookup) = whatsapp(&server).await;
    host.tells(&lookup, [located(&host.url("/y"))]);
    host.tells("/y", [Told::File("image/png", PNG.to_vec())]);
    other.post_sample(&server, "03_image_caption.json").await;
    let file = settled(&other.tenant).await.remove(0);
    assert_eq!(file.state(), AttachmentState::Attached);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_meanwhile_does_not_come_back() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let (account, lookup) = whatsapp(&server).await;
    host.tells(&lookup, [Told::Status(503, ""), located(&host.url("/x"))]);
    host.tells("/x", [Told::File("image/png", PNG.to_vec())]);
    account.post_sample(&server, "03_image_caption.json").await;
    let message = messages(&account.tenant, 1).await.remove(0);
    try_again(&account.tenant, 1).await;
    let request = DeleteMessageRequest {
        tenant: account.tenant.slug(),
        message_id: message.id.clone(),
        redact: true,
        ..Default::default()
    };
    let mut inbox = account.tenant.inbox.clone();
    inbox.delete_message(request).await.unwrap();
    server_kick(&server, &account).await;
    try_again(&account.tenant, 1).await;
    let gone = get(&account.tenant, &message.attachments[0].id).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    assert!(host.asked("/x").is_empty());
    let tables = Tables::of(&account.tenant).await;
    let told = format!(
        "SELECT count(*) FROM {{schema}}.media_fetches WHERE source::text LIKE '%{MEDIA}%'"
    );
    assert_eq!(tables.count(&told).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_asked_by_its_key_and_nobody_else_is() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    host.tells("/api/files/a.jpeg", [Told::File("image/png", PNG.to_vec())]);
    for (base, url, state) in [
        (
            "/one/",
            host.url("/api/files/a.jpeg"),
            AttachmentState::Attached,
        ),
        (
            "/two/",
            "http://waha:3000/api/files/b.jpeg".to_owned(),
            AttachmentState::Failed,
        ),
    ] {
        let account = Provider::behind(&server, Gateway::Waha, host.url(base)).await;
        let body = String::from_utf8(account.sample("02_waha_image.json")).unwrap();
        let recorded = "http://waha:3000/api/files/sales-01/3EB0A1B2C3D4E5F60002.jpeg";
        assert!(body.contains(recorded));
        let body = body.replace(recorded, &url);
        assert_eq!(account.post(&server, body.as_bytes()).await.0, 200);
        let file = settled(&account.tenant).await.remove(0);
        assert_eq!(file.state(), state, "{url}");
    }
    let asked = host.asked("/api/files/a.jpeg").remove(0);
    assert_eq!(asked.header["x-api-key"], ACCESS_TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_a_file_of_its_call() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let account = Provider::twilio_call(&server, TwilioCallSettings::default()).await;
    account.post_sample(&server, "01_incoming.form").await;
    let body = account.sample("06_recording_completed.form");
    let body = String::from_utf8(body).unwrap();
    let fields = body
        .split('&')
        .map(|field| match field.strip_prefix("RecordingUrl=") {
            Some(_) => format!(
                "RecordingUrl={}",
                host.url("/recording")
                    .replace('/', "%2F")
                    .replace(':', "%3A")
            ),
            None => field.to_owned(),
        });
    let body = fields.collect::<Vec<_>>().join("&");
    host.tells(
        "/recording.mp3",
        [Told::File("audio/mpeg", b"ID3 and sounds".to_vec())],
    );
    for _ in 0..2 {
        assert_eq!(account.post(&server, body.as_bytes()).await.0, 200);
        account.applied().await;
    }
    let files = settled(&account.tenant).await;
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].state(), AttachmentState::Attached);
    assert_eq!(files[0].file_name, "recording.mp3");
    assert_eq!(
        content(&account.tenant, &files[0].id).await.unwrap(),
        b"ID3 and sounds"
    );
    let asked = host.asked("/recording.mp3").remove(0);
    let (user, password) = (asked.header["authorization"].clone(), SECRET);
    let shown = BASE64_STANDARD
        .decode(user.strip_prefix("Basic ").unwrap())
        .unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.starts_with("AC") && shown.ends_with(&format!(":{password}")),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_the_webhook_itself_are_taken_out_of_it() {
    let server = TestServer::start().await;
    let account = Provider::personal_whatsapp(&server, Gateway::Evolution).await;
    account
        .post_sample(&server, "21_evolution_image.json")
        .await;
    let file = settled(&account.tenant).await.remove(0);
    assert_eq!(file.state(), AttachmentState::Attached);
    assert_eq!(
        (file.file_name.as_str(), file.content_type.as_str()),
        ("image.png", "image/png")
    );
    let bytes = content(&account.tenant, &file.id).await.unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n"));

    let mail = Provider::email(&server, EmailProvider::Mailgun).await;
    mail.post_sample(&server, "21_mailgun_attachments.multipart")
        .await;
    let files = settled(&mail.tenant).await;
    let told: Vec<_> = files
        .iter()
        .map(|file| {
            (
                file.file_name.as_str(),
                file.content_id.as_str(),
                file.state(),
            )
        })
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        (told[0].1, told[0].2),
        ("logo@1", AttachmentState::Attached)
    );
    assert_eq!(
        told[1],
        ("Rechnung März.pdf", "", AttachmentState::Attached)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_asked_for_a_file_that_it_neither_sends_nor_stores() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let account = Provider::behind(&server, Gateway::Evolution, host.url("/gateway")).await;
    let path = "/gateway/chat/getBase64FromMediaMessage/sales-01";
    let wrapped = format!(
        r#"{{"mediaType":"imageMessage","fileName":"x.png","base64":"{}","buffer":null}}"#,
        BASE64_STANDARD.encode(PNG)
    );
    // Once is enough: a server of another test does not trust the host, and may try it again.
    host.tells(path, [Told::File("application/json", wrapped.into_bytes())]);
    let body = String::from_utf8(account.sample("21_evolution_image.json")).unwrap();
    let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let message = body["data"]["message"].as_object_mut().unwrap();
    assert!(message.remove("base64").is_some());
    let id = body["data"]["key"]["id"].clone();
    assert_eq!(
        account.post(&server, body.to_string().as_bytes()).await.0,
        200
    );
    let file = settled(&account.tenant).await.remove(0);
    assert_eq!(file.state(), AttachmentState::Attached);
    assert_eq!(
        (file.file_name.as_str(), file.content_type.as_str()),
        ("image.png", "image/png")
    );
    assert_eq!(content(&account.tenant, &file.id).await.unwrap(), PNG);
    let asked = host.asked(path).remove(0);
    let question: serde_json::Value = serde_json::from_str(&asked.content).unwrap();
    assert_eq!(question["message"]["key"]["id"], id);
    assert_eq!(asked.header["apikey"], ACCESS_TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mail_says_beyond_all_limits_is_a_file() {
    let server = TestServer::start().await;
    let mail = Provider::email(&server, EmailProvider::Postmark).await;
    let body = String::from_utf8(mail.sample("10_postmark_text.json")).unwrap();
    let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let long = "a word and another ".repeat(10_000);
    body["TextBody"] = long.clone().into();
    body["StrippedTextReply"] = serde_json::Value::Null;
    body["HtmlBody"] = format!("<p>{long}</p>").into();
    assert_eq!(mail.post(&server, body.to_string().as_bytes()).await.0, 200);
    let files = settled(&mail.tenant).await;
    let names: Vec<_> = files.iter().map(|file| file.file_name.as_str()).collect();
    assert_eq!(names, ["message.html", "message.txt"]);
    let text = content(&mail.tenant, &files[1].id).await.unwrap();
    assert_eq!(String::from_utf8(text).unwrap().trim(), long.trim());
    let message = messages(&mail.tenant, 1).await.remove(0);
    assert!(message.text.len() <= 64 * 1024 && long.starts_with(&message.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nobody_has_begun_to_fetch_is_heard_of() {
    let server = TestServer::start().await;
    let account = Provider::personal_whatsapp(&server, Gateway::Evolution).await;
    account
        .post_sample(&server, "21_evolution_image.json")
        .await;
    let file = settled(&account.tenant).await.remove(0);
    let tables = Tables::of(&account.tenant).await;
    // As if the server had ended between the message and the file.
    let back = format!(
        "UPDATE {schema}.attachments SET state = 'pending', size_bytes = NULL, sha256 = NULL;
        INSERT INTO {schema}.media_fetches (attachment_id, channel_account_id, delivery_id, source,
            due_at)
        SELECT '{id}', e.channel_account_id, e.delivery_id,
            jsonb_build_object('inline', jsonb_build_object('message', e.provider_id, 'place', 0)),
            now()
        FROM {schema}.provider_events e WHERE e.kind = 'message';
        INSERT INTO directory.alarms (tenant_id, due_at)
        SELECT id, now() FROM directory.tenants WHERE number = {number}",
        schema = tables.schema,
        number = tables.number,
        id = file.id,
    );
    tables.admin.batch_execute(&back).await.unwrap();
    assert_eq!(
        get(&account.tenant, &file.id).await.unwrap().state(),
        AttachmentState::Pending
    );
    let heard = async {
        loop {
            tables.hear().await;
            let ready = "SELECT count(*) FROM {schema}.attachments WHERE state = 'ready'";
            if tables.count(ready).await == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(30), heard).await;
    heard.expect("the file is fetched");
    assert_eq!(get(&account.tenant, &file.id).await.unwrap(), file);
}
