//! What providers send: taken once, believed only if signed, applied item by item.

use std::collections::BTreeSet;
use std::time::Duration;

use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::{
    Channel, ChannelAccount, ConnectChannelAccountRequest, ConversationStatus,
    CreateConversationRequest, DisconnectChannelAccountRequest, GetChannelAccountRequest,
    InitializeTenantRequest, ListChannelAccountsRequest, ListQuarantinedItemsRequest, Message,
    MessageDirection, MessageStatus, MessageType, QuarantineReason, QuarantinedItem,
    ReplayQuarantinedItemRequest,
};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request};

use crate::harness::{
    APP_SECRET, Keys, Tables, TestServer, TestTenant, Whatsapp, eventually, json_of, refusal,
    sample, sign, unsupported, within,
};

/// Everything that a customer's message leaves behind.
async fn state(account: &Whatsapp) -> String {
    let mut state = String::new();
    for conversation in account.conversations().await {
        let messages = account.tenant.messages(&conversation).await;
        state.push_str(&format!("{conversation:?}\n{messages:?}\n"));
    }
    let tables = Tables::of(&account.tenant).await;
    for table in [
        "events",
        "contacts",
        "contact_identities",
        "provider_events",
    ] {
        let query = format!("SELECT count(*) FROM {{schema}}.{table}");
        state.push_str(&format!("{table} {}\n", tables.count(&query).await));
    }
    state
}

/// Waits until no delivery that was posted for an account waits to be applied.
async fn applied(account: &Whatsapp) {
    // The server of a test that has just ended may have taken one up: its lease ends first.
    applied_within(Duration::from_secs(60), account).await;
}

async fn applied_within(limit: Duration, account: &Whatsapp) {
    let tables = Tables::of(&account.tenant).await;
    let waiting = format!(
        "SELECT count(*) FROM directory.deliveries
        WHERE correlation_id = '{}' AND due_at IS NOT NULL",
        account.number
    );
    within(limit, "all deliveries are applied", async || {
        tables.count(&waiting).await == 0
    })
    .await;
}

async fn messages_of_one(account: &Whatsapp) -> Vec<Message> {
    let conversations = account.conversations().await;
    assert_eq!(conversations.len(), 1, "{conversations:?}");
    account.tenant.messages(&conversations[0]).await
}

async fn quarantined(server: &TestServer, tenant: &TestTenant) -> Vec<QuarantinedItem> {
    let request = ListQuarantinedItemsRequest {
        tenant: tenant.slug(),
        ..Default::default()
    };
    let mut admin = server.tenant_admin();
    let page = admin.list_quarantined_items(request).await.unwrap();
    page.into_inner().items
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_message_makes_contact_conversation_and_message() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "02_text.json").await;
    eventually("the message is there", async || {
        !account.conversations().await.is_empty()
    })
    .await;
    let conversation = account.conversations().await.remove(0);
    assert_eq!(conversation.contact_identifier, "+15550109911");
    assert_eq!(conversation.contact_name, "Dana Whitfield");
    assert_eq!(conversation.status(), ConversationStatus::New);
    let message = messages_of_one(&account).await.remove(0);
    assert_eq!(
        message.text,
        "Olá! Is the café table still available? 😀 / thanks"
    );
    assert_eq!(message.direction(), MessageDirection::Inbound);
    assert_eq!(message.sequence, 1);
    assert_eq!(message.provider_time.unwrap().seconds, 1_773_480_000);

    let reply = account.tenant.reply(&conversation, "Yes, it is.").await;
    assert_eq!(reply.direction(), MessageDirection::Outbound);
    assert_eq!(reply.status(), MessageStatus::Queued);
    let conversation = account.tenant.get(&conversation).await;
    assert_eq!(conversation.status(), ConversationStatus::Replied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_of_a_business_is_told_of_all_its_numbers() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let mut admin = server.tenant_admin();
    let sender = Whatsapp::new(tenant.clone());
    let (banned, other) = (sender.number.clone(), format!("{}7", sender.number));
    let mut accounts = Vec::new();
    for business in [&banned, &banned, &other] {
        let mut request = Whatsapp::new(tenant.clone()).request();
        let Some(Settings::Whatsapp(settings)) = &mut request.settings else {
            panic!("{request:?}");
        };
        settings.business_account_id.clone_from(business);
        let connected = admin.connect_channel_account(request).await.unwrap();
        accounts.push(connected.into_inner().channel_account.unwrap());
    }
    let body = json!({"object": "whatsapp_business_account", "entry": [{
        "id": banned,
        "time": 1_773_480_900,
        "changes": [{"field": "account_update", "value": {
            "event": "DISABLED_UPDATE",
            "ban_info": {"waba_ban_state": "DISABLE", "waba_ban_date": "March 14, 2026"},
        }}],
    }]});
    assert_eq!(sender.post(&server, body.to_string().as_bytes()).await, 200);
    applied(&sender).await;
    let mut states = Vec::new();
    for account in accounts {
        let request = GetChannelAccountRequest {
            tenant: tenant.slug(),
            channel_account_id: account.id,
        };
        let shown = admin.get_channel_account(request).await.unwrap();
        states.push(shown.into_inner().channel_account.unwrap().provider_state);
    }
    assert_eq!(states, ["DISABLE", "DISABLE", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_webhook_again_changes_nothing() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let folder = format!("{}/tests/samples/whatsapp", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    files.sort();
    assert_eq!(files.len(), 29);
    for file in &files {
        account.post_sample(&server, file).await;
    }
    applied(&account).await;
    let before = state(&account).await;
    assert!(before.contains("wamid") || before.contains("Olá"));
    for file in &files {
        account.post_sample(&server, file).await;
    }
    applied(&account).await;
    assert_eq!(state(&account).await, before);
}

/// What a sample leaves: the type, the text, and a piece of the metadata.
struct Expected(&'static str, MessageType, &'static str, &'static str, Json);

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_message_is_what_its_sample_says() {
    use MessageType::{Audio, Document, Image, Location, Text, Video};
    let cases = [
        Expected(
            "03_image_caption.json",
            Image,
            "the scratch is here",
            "/image/id",
            json!("1003383400000301"),
        ),
        Expected(
            "04_document.json",
            Document,
            "signed copy",
            "/document/filename",
            json!("contrato firmado (v2).pdf"),
        ),
        Expected(
            "05_audio_voice.json",
            Audio,
            "",
            "/audio/voice",
            json!(true),
        ),
        Expected(
            "06_video_forwarded.json",
            Video,
            "",
            "/context/forwarded",
            json!(true),
        ),
        Expected("07_sticker.json", Image, "", "/raw_kind", json!("sticker")),
        Expected(
            "08_location.json",
            Location,
            "",
            "/location/url",
            json!("https://maps.example/t/1"),
        ),
        Expected(
            "09_contacts.json",
            Text,
            "Luís Prado, +1 (555) 010-2233, luis@prado.example\nNo Phone",
            "/contacts/1/name/formatted_name",
            json!("No Phone"),
        ),
        Expected(
            "13_button_template.json",
            Text,
            "Confirm",
            "/button/payload",
            json!("CONFIRM_APPT_88"),
        ),
        Expected(
            "14_interactive_button.json",
            Text,
            "Cancel",
            "/interactive/button_reply/id",
            json!("btn_cancel"),
        ),
        Expected(
            "15_interactive_list.json",
            Text,
            "Express",
            "/interactive/list_reply/id",
            json!("ship_express"),
        ),
        Expected(
            "16_flow_reply.json",
            Text,
            "Sent",
            "/flow/rating",
            json!("4"),
        ),
        Expected(
            "17_order.json",
            Text,
            "2 × sku-7 at 12.5 EUR\n1 × sku-9 at 30 EUR",
            "/order/catalog_id",
            json!("920011"),
        ),
        Expected(
            "18_referral_ad.json",
            Text,
            "Hello! Can I get more info on this?",
            "/referral/ctwa_clid",
            json!("AffEXAMPLEclid"),
        ),
        Expected(
            "19_unsupported.json",
            Text,
            "Unsupported message",
            "/unsupported/type",
            json!("poll_creation"),
        ),
    ];
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    for (before, Expected(file, message_type, text, path, value)) in cases.iter().enumerate() {
        account.post_sample(&server, file).await;
        eventually(file, async || {
            let conversations = account.conversations().await;
            conversations
                .first()
                .is_some_and(|conversation| conversation.last_sequence == before as i64 + 1)
        })
        .await;
        let message = messages_of_one(&account).await.pop().unwrap();
        assert_eq!(message.r#type(), *message_type, "{file}");
        assert_eq!(message.text, *text, "{file}");
        assert_eq!(message.direction(), MessageDirection::Inbound, "{file}");
        let metadata = metadata(&message);
        assert_eq!(metadata.pointer(path), Some(value), "{file}: {metadata}");
        if *message_type == Location {
            let place = message.location.unwrap();
            assert_eq!((place.latitude, place.longitude), (51.5081, -0.0759));
            assert_eq!(place.name, "Tower Hill");
        }
    }
    assert_eq!(quarantined(&server, &account.tenant).await, []);
}

/// The metadata of a message as JSON.
fn metadata(message: &Message) -> Json {
    json_of(message.metadata.as_ref().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_applied_whole_and_in_order() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "25_batch.json").await;
    applied(&account).await;
    let texts: Vec<_> = messages_of_one(&account).await;
    let texts: Vec<_> = texts.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts, ["first", "second"]);
    // The receipts are of a message that nobody here has sent yet.
    let tables = Tables::of(&account.tenant).await;
    let parked = "SELECT count(*) FROM {schema}.parked_receipts";
    assert_eq!(tables.count(parked).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_elsewhere_is_outbound_and_gets_the_receipts_that_came_before_it() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let echo = String::from_utf8(sample("28_app_echo.json", &account.number)).unwrap();
    let id = "wamid.HQQLMTU1NTAxMDk5MTEVAgARGBJGQjIwRTFCM0Y5NDE5RDYzRTcA";
    assert!(echo.contains(id));
    for (file, other) in [
        (
            "22_status_delivered.json",
            "wamid.HQQLMTU1NTAxMDk5MTEVAgARGBI2Nzc2MTI4Mjg3RUYyQ0I4RUEA",
        ),
        (
            "23_status_read.json",
            "wamid.HQQLMTU1NTAxMDk5MTEVAgARGBI2Nzc2MTI4Mjg3RUYyQ0I4RUEA",
        ),
    ] {
        let receipt = String::from_utf8(sample(file, &account.number)).unwrap();
        assert!(receipt.contains(other), "{receipt}");
        let receipt = receipt.replace(other, id);
        assert_eq!(account.post(&server, receipt.as_bytes()).await, 200);
    }
    applied(&account).await;
    account.post_sample(&server, "28_app_echo.json").await;
    applied(&account).await;
    let message = messages_of_one(&account).await.remove(0);
    assert_eq!(message.direction(), MessageDirection::Outbound);
    assert_eq!(message.text, "answered from the phone");
    assert_eq!(message.status(), MessageStatus::Read);
    assert_eq!(metadata(&message)["source"], "external");
    let conversation = account.conversations().await.remove(0);
    assert_eq!(conversation.status(), ConversationStatus::Replied);

    // A late one does not move it back.
    let sent = String::from_utf8(sample("21_status_sent.json", &account.number)).unwrap();
    let sent = sent.replace(
        "wamid.HQQLMTU1NTAxMDk5MTEVAgARGBI2Nzc2MTI4Mjg3RUYyQ0I4RUEA",
        id,
    );
    assert_eq!(account.post(&server, sent.as_bytes()).await, 200);
    applied(&account).await;
    let message = messages_of_one(&account).await.remove(0);
    assert_eq!(message.status(), MessageStatus::Read);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_the_message_that_it_quotes() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    let quoted = "wamid.HQQLMTU1NTAxMDk5MTEVAgARGBI2Nzc2MTI4Mjg3RUYyQ0I4RUEA";
    let first = "wamid.HQQLMTU1NTAxMDk5MTEVAgASGBQyNDIwMEQxQjY5QzE4QjBDOEFDOQA=";
    let reply = String::from_utf8(sample("12_reply_context.json", &account.number)).unwrap();
    assert!(reply.contains(quoted));
    let reply = reply.replace(quoted, first);
    assert_eq!(account.post(&server, reply.as_bytes()).await, 200);
    applied(&account).await;
    let messages = messages_of_one(&account).await;
    assert_eq!(messages[1].text, "yes, that one");
    assert_eq!(messages[1].reply_to_message_id, messages[0].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_stays_one_by_number_by_name_and_with_a_new_number() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    // The same person, by the business-scoped id alone.
    let named = String::from_utf8(sample("29_username_only.json", &account.number)).unwrap();
    let same = named.replace("US.77001122334455667788", "US.13499900112233445566");
    assert_eq!(account.post(&server, same.as_bytes()).await, 200);
    applied(&account).await;
    assert_eq!(messages_of_one(&account).await.len(), 2);
    // The same person, after they changed their number.
    account
        .post_sample(&server, "20_system_number_change.json")
        .await;
    applied(&account).await;
    assert_eq!(messages_of_one(&account).await.len(), 2);
    let text = String::from_utf8(sample("03_image_caption.json", &account.number)).unwrap();
    let moved = text
        .replace("15550109911", "15550109912")
        .replace("US.13499900112233445566", "US.99");
    assert_eq!(account.post(&server, moved.as_bytes()).await, 200);
    applied(&account).await;
    assert_eq!(messages_of_one(&account).await.len(), 3);
    // Somebody else.
    assert_eq!(
        account
            .post(&server, named.replace("wamid.", "wamid.2").as_bytes())
            .await,
        200
    );
    applied(&account).await;
    let conversations = account.conversations().await;
    let identifiers: BTreeSet<_> = conversations
        .iter()
        .map(|conversation| conversation.contact_identifier.as_str())
        .collect();
    let expected = BTreeSet::from(["+15550109911", "US.77001122334455667788"]);
    assert_eq!(identifiers, expected);
    let tables = Tables::of(&account.tenant).await;
    assert_eq!(
        tables.count("SELECT count(*) FROM {schema}.contacts").await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_as_it_is_dialled_and_as_whatsapp_has_it_is_one_persons() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let connected = account.connect(&server).await;
    let mut inbox = account.tenant.inbox.clone();
    let mut dial = async |number: &str| {
        let request = CreateConversationRequest {
            tenant: account.tenant.slug(),
            channel: Channel::Whatsapp.into(),
            channel_account_id: connected.id.clone(),
            contact_identifier: number.to_owned(),
            ..Default::default()
        };
        let answer = inbox.create_conversation(request).await.unwrap();
        answer.into_inner().conversation.unwrap()
    };
    let dialled = dial("+5531987654321").await;
    let write = async |number: &str, id: &str| {
        let text = account.text_of(1, id, "Hello");
        let text = text.replace("15550000001", number);
        assert_eq!(account.post(&server, text.as_bytes()).await, 200);
        applied(&account).await;
    };
    write("553187654321", "one").await;
    write("553187654321", "two").await;
    assert_eq!(messages_of_one(&account).await.len(), 2);
    assert_eq!(account.conversations().await[0].id, dialled.id);
    // A conversation is of one identity, and the person of all.
    assert_eq!(dial("+553187654321").await.contact_id, dialled.contact_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_somebody_elses_by_now_leads_to_them() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let post = async |body: String| {
        assert_eq!(account.post(&server, body.as_bytes()).await, 200);
        applied(&account).await;
    };
    post(account.text_of(1, "one", "the first has the number")).await;
    // The second one shows no number.
    let hidden = account.text_of(2, "two", "the second has a name");
    let mut hidden: Json = serde_json::from_str(&hidden).unwrap();
    let value = &mut hidden["entry"][0]["changes"][0]["value"];
    value["messages"][0].as_object_mut().unwrap().remove("from");
    value["contacts"][0]
        .as_object_mut()
        .unwrap()
        .remove("wa_id");
    post(hidden.to_string()).await;
    let moved = account.text_of(1, "three", "and now the number too");
    post(moved.replace("US.1\"", "US.2\"")).await;
    let mut counts = Vec::new();
    for conversation in account.conversations().await {
        let messages = account.tenant.messages(&conversation).await;
        let words = messages[0].text.split(" Is the").next();
        counts.push((words.unwrap().to_owned(), messages.len()));
    }
    counts.sort();
    let expected = [
        ("the first has the number", 1),
        ("the second has a name", 2),
    ];
    assert_eq!(
        counts,
        expected.map(|(words, count)| (words.to_owned(), count))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_first_messages_of_one_person_make_one_conversation() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let text = String::from_utf8(sample("02_text.json", &account.number)).unwrap();
    let mut posting = tokio::task::JoinSet::new();
    let server = std::sync::Arc::new(server);
    for number in 0..50 {
        let body = text.replace("wamid.", &format!("wamid.{number}."));
        let (account, server) = (account.clone(), server.clone());
        posting.spawn(async move { account.post(&server, body.as_bytes()).await });
    }
    for status in posting.join_all().await {
        assert_eq!(status, 200);
    }
    applied(&account).await;
    let messages = messages_of_one(&account).await;
    let sequences: Vec<_> = messages.iter().map(|message| message.sequence).collect();
    assert_eq!(sequences, (1..=50).collect::<Vec<_>>());
    let tables = Tables::of(&account.tenant).await;
    assert_eq!(
        tables.count("SELECT count(*) FROM {schema}.contacts").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_sends_is_in_the_order_in_which_it_was_taken() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let text = String::from_utf8(sample("02_text.json", &account.number)).unwrap();
    for number in 0..40 {
        let body = text
            .replace("wamid.", &format!("wamid.{number}."))
            .replace("Ol\\u00e1!", &number.to_string());
        assert_eq!(account.post(&server, body.as_bytes()).await, 200);
    }
    applied(&account).await;
    let messages = messages_of_one(&account).await;
    let numbers: Vec<usize> = messages
        .iter()
        .map(|message| message.text.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_opens_the_archived_conversation_again() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    let conversation = account.conversations().await.remove(0);
    let tables = Tables::of(&account.tenant).await;
    let archive = format!(
        "UPDATE {}.inbox_conversations SET status = 'archived', archived_at = now()",
        tables.schema
    );
    tables.admin.execute(&archive, &[]).await.unwrap();
    account.post_sample(&server, "03_image_caption.json").await;
    applied(&account).await;
    let after = account.conversations().await.remove(0);
    assert_eq!(after.id, conversation.id);
    assert_eq!(after.status(), ConversationStatus::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_cannot_be_applied_costs_only_itself() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let mut body: Json = serde_json::from_slice(&sample("25_batch.json", &account.number)).unwrap();
    let messages = &mut body["entry"][0]["changes"][0]["value"]["messages"];
    let messages = messages.as_array_mut().unwrap();
    messages.insert(
        1,
        json!({"id": "wamid.nobody", "type": "text", "text": {"body": "x"}}),
    );
    messages.insert(0, json!(17));
    messages.push(
        json!({"from": "1", "id": "wamid.nul", "type": "text", "timestamp": {},
        "text": {"body": "a\u{0}b"}}),
    );
    assert_eq!(
        account.post(&server, body.to_string().as_bytes()).await,
        200
    );
    applied(&account).await;
    let conversations = account.conversations().await;
    let mut texts = Vec::new();
    for conversation in &conversations {
        for message in account.tenant.messages(conversation).await {
            texts.push(message.text);
        }
    }
    texts.sort();
    assert_eq!(texts, ["a\u{fffd}b", "first", "second"]);
    let items = quarantined(&server, &account.tenant).await;
    let places: Vec<_> = items
        .iter()
        .map(|item| (item.item, item.reason()))
        .collect();
    let unreadable = QuarantineReason::Unreadable;
    assert_eq!(places, [(1, unreadable), (3, unreadable)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_nobody_can_read_are_kept_and_told_of() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let deep = "[".repeat(40_000);
    for body in ["", "{", "null", "[]", "\u{1f600}", deep.as_str()] {
        assert_eq!(
            account.post(&server, body.as_bytes()).await,
            200,
            "{body:.20}"
        );
    }
    applied(&account).await;
    let tables = Tables::of(&account.tenant).await;
    let kept = "SELECT count(*) FROM directory.quarantine WHERE item = 0 AND reason = 'unreadable'";
    assert!(tables.count(kept).await >= 6);
    // The process lives, and the next one is applied.
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    assert_eq!(messages_of_one(&account).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_character_and_a_long_text_are_not_refused() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let text = String::from_utf8(sample("02_text.json", &account.number)).unwrap();
    let half = text.replace(r"\ud83d\ude00", r"\ud83d");
    assert_ne!(half, text);
    assert_eq!(account.post(&server, half.as_bytes()).await, 200);
    let long = "é".repeat(40_000);
    let long = text.replace("wamid.", "wamid.long.").replace("Ol", &long);
    assert_eq!(account.post(&server, long.as_bytes()).await, 200);
    applied(&account).await;
    let messages = messages_of_one(&account).await;
    assert!(
        messages
            .iter()
            .any(|message| message.text.contains('\u{fffd}'))
    );
    let long = messages.iter().find(|message| message.text.len() == 65_536);
    assert_eq!(metadata(long.unwrap())["text_cut"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_signatures_are_believed_and_false_ones_are_not() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let folder = format!("{}/tests/samples/whatsapp", env!("CARGO_MANIFEST_DIR"));
    let vectors = std::fs::read(format!("{folder}/vectors.json")).unwrap();
    let vectors: Json = serde_json::from_slice(&vectors).unwrap();
    assert_eq!(vectors["app_secret"], APP_SECRET);
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 7);
    for vector in vectors {
        let file = format!("{folder}/{}", vector["body_file"].as_str().unwrap());
        let body = std::fs::read(file).unwrap();
        let headers: Vec<_> = vector["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let (status, words) = server
            .http_post("/webhooks/whatsapp", &headers, &body)
            .await;
        let expected = if vector["valid"] == true { 200 } else { 403 };
        assert_eq!(status, expected, "{}", vector["id"]);
        assert_eq!(words, "");
    }
    // One changed byte, two signatures, a signature in another header.
    let body = sample("02_text.json", &account.number);
    let right = sign(APP_SECRET, &body);
    let mut changed = body.clone();
    *changed.last_mut().unwrap() ^= 1;
    let name = "x-hub-signature-256";
    let false_secret = sign("another-secret", &body);
    let once = vec![(name, right.as_str())];
    let refused = [
        (once.clone(), &changed),
        (once.repeat(2), &body),
        (vec![("x-hub-signature", right.as_str())], &body),
        (vec![(name, false_secret.as_str())], &body),
    ];
    for (headers, body) in refused {
        let (status, _) = server.http_post("/webhooks/whatsapp", &headers, body).await;
        assert_eq!(status, 403);
    }
    applied(&account).await;
    assert_eq!(account.conversations().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_before_they_listen_hears_that_it_is_too_much() {
    let server = TestServer::start().await;
    let large = vec![b' '; 20 * 1024 * 1024];
    let right = format!("x-hub-signature-256: sha256={}\r\n", "0".repeat(64));
    let piece = format!("{:x}\r\n", large.len());
    let said = format!("content-length: {}\r\n\r\n", large.len());
    let unsaid = format!("transfer-encoding: chunked\r\n\r\n{piece}");
    for (length, end) in [(said, ""), (unsaid, "\r\n0\r\n\r\n")] {
        let mut socket = TcpStream::connect(server.http).await.unwrap();
        let head = format!("POST /webhooks/whatsapp HTTP/1.1\r\nhost: a\r\n{right}{length}");
        for sent in [head.as_bytes(), &large, end.as_bytes()] {
            socket.write_all(sent).await.expect("it is taken");
        }
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"HTTP/1.1 413");
    }
    // Who asks first is not asked to send it.
    let mut socket = TcpStream::connect(server.http).await.unwrap();
    let head = format!(
        "POST /webhooks/whatsapp HTTP/1.1\r\nhost: a\r\n{right}expect: 100-continue\r\n\
        content-length: {}\r\n\r\n",
        large.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_body_is_refused_and_odd_addresses_lead_nowhere() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let large = vec![b' '; 4 * 1024 * 1024 + 1];
    assert_eq!(account.post(&server, &large).await, 413);
    let body = sample("02_text.json", &account.number);
    let signature = sign(APP_SECRET, &body);
    let headers = [("x-hub-signature-256", signature.as_str())];
    for (path, status) in [
        ("/webhooks/whatsapp/nobody", 403),
        (
            "/webhooks/whatsapp/01234567-89ab-7def-8123-456789abcdef",
            403,
        ),
        ("/webhooks/telegram", 404),
        ("/webhooks", 404),
        ("/webhooks/whatsapp/", 404),
    ] {
        assert_eq!(
            server.http_post(path, &headers, &body).await.0,
            status,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_proved_by_the_token() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let path = |mode: &str, token: &str| {
        format!("?hub.mode={mode}&hub.challenge=1158201444&hub.verify_token={token}")
    };
    let right = path("subscribe", "vt-samples-7Qm2");
    let key = account.connect(&server).await.webhook_path;
    for base in ["/webhooks/whatsapp", key.as_str()] {
        let answer = server.http_get(&format!("{base}{right}")).await;
        assert_eq!(answer, (200, "1158201444".to_owned()));
    }
    for wrong in [
        path("subscribe", "vt-samples-7Qm3"),
        path("subscribe", ""),
        path("unsubscribe", "vt-samples-7Qm2"),
        String::new(),
    ] {
        let (status, words) = server.http_get(&format!("/webhooks/whatsapp{wrong}")).await;
        assert_eq!((status, words.as_str()), (403, ""), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_its_account_was_connected_is_replayed() {
    let server = TestServer::start().await;
    let _other = Whatsapp::connected(&server).await;
    let account = Whatsapp::new(server.tenant().await);
    account.post_sample(&server, "25_batch.json").await;
    let tables = Tables::of(&account.tenant).await;
    let waiting = format!(
        "SELECT count(*) FROM directory.quarantine
        WHERE route_key = '{}' AND reason = 'unknown_account' AND replayed_at IS NULL",
        account.number
    );
    eventually("four items wait", async || {
        tables.count(&waiting).await == 4
    })
    .await;
    account.connect(&server).await;
    eventually("nothing waits", async || tables.count(&waiting).await == 0).await;
    assert_eq!(messages_of_one(&account).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_kept_for_their_time_and_longer_while_an_item_waits() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    let tables = Tables::of(&account.tenant).await;
    let age = async |of: &Whatsapp, days: u32| {
        let age = format!(
            "UPDATE directory.deliveries SET received_at = directory.now() - interval '{days} days'
            WHERE correlation_id = '{}'",
            of.number
        );
        tables.admin.batch_execute(&age).await.unwrap();
    };
    let kept = format!(
        "SELECT count(*) FROM directory.deliveries WHERE correlation_id = '{}'",
        account.number
    );
    assert_eq!(tables.count(&kept).await, 1);
    let poll = unsupported(&account.number);
    assert_eq!(account.post(&server, &poll).await, 200);
    applied(&account).await;
    assert_eq!(tables.count(&kept).await, 2);
    age(&account, 8).await;
    // A server that starts looks at once, and again each minute.
    let second = TestServer::start().await;
    eventually("what waits for nothing is dropped", async || {
        tables.count(&kept).await == 1
    })
    .await;
    age(&account, 29).await;
    account.post_sample(&second, "25_batch.json").await;
    applied(&account).await;
    let third = TestServer::start().await;
    let other = Whatsapp::connected(&third).await;
    other.post_sample(&third, "02_text.json").await;
    let old = kept.replace(&account.number, &other.number);
    applied(&other).await;
    age(&other, 8).await;
    let _fourth = TestServer::start().await;
    eventually("another old one is dropped", async || {
        tables.count(&old).await == 0
    })
    .await;
    // What waits and what is new are both there still.
    assert_eq!(tables.count(&kept).await, 2);
    let items = quarantined(&server, &account.tenant).await;
    assert_eq!(items.len(), 1);
    age(&account, 31).await;
    let _fifth = TestServer::start().await;
    eventually("nothing waits for ever", async || {
        tables.count(&kept).await == 0
    })
    .await;
    assert_eq!(quarantined(&server, &account.tenant).await, []);
    // What came of them stays.
    assert_eq!(messages_of_one(&account).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_in_quarantine_is_replayed_by_its_own_tenant_alone() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let poll = unsupported(&account.number);
    assert_eq!(account.post(&server, &poll).await, 200);
    applied(&account).await;
    let item = quarantined(&server, &account.tenant).await.remove(0);
    assert_eq!(item.reason(), QuarantineReason::Unsupported);
    assert_eq!(item.detail, "edit of poll");
    assert_eq!(item.route_key, account.number);
    let mut admin = server.tenant_admin();
    let replay = |tenant: String| ReplayQuarantinedItemRequest {
        tenant,
        delivery_id: item.delivery_id.clone(),
        item: item.item,
    };
    // It is still of a kind that cannot be applied.
    let answer = admin
        .replay_quarantined_item(replay(account.tenant.slug()))
        .await;
    let again = answer.unwrap().into_inner().item.unwrap();
    assert_eq!(again.replay_time, None);
    let other = server.tenant().await;
    let answer = admin.replay_quarantined_item(replay(other.slug())).await;
    assert_eq!(refusal(answer).0, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_speaks_for_its_own_accounts_alone() {
    let server = TestServer::start().await;
    let ours = Whatsapp::connected(&server).await;
    // Another tenant, with an app of its own.
    let theirs = Whatsapp::new(server.tenant().await);
    let secret = format!("secret-{}", theirs.number);
    let path = theirs.connect_own(&server, &secret).await.webhook_path;
    let post = async |path: &str, body: &[u8]| {
        let signature = sign(&secret, body);
        let headers = [
            ("x-hub-signature-256", signature.as_str()),
            ("x-request-id", ours.number.as_str()),
        ];
        server.http_post(path, &headers, body).await.0
    };
    // For its own account, at its own address alone.
    let body = sample("02_text.json", &theirs.number);
    assert_eq!(post("/webhooks/whatsapp", &body).await, 403);
    assert_eq!(post(&path, &body).await, 200);
    // For somebody else's account: taken, without effect.
    let body = sample("02_text.json", &ours.number);
    assert_eq!(post(&path, &body).await, 200);
    applied(&ours).await;
    assert_eq!(messages_of_one(&theirs).await.len(), 1);
    assert_eq!(ours.conversations().await, []);
    assert_eq!(quarantined(&server, &ours.tenant).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_in_one_body_stay_apart() {
    let server = TestServer::start().await;
    let one = Whatsapp::connected(&server).await;
    let other = Whatsapp::connected(&server).await;
    let mut body: Json = serde_json::from_slice(&sample("02_text.json", &one.number)).unwrap();
    let second: Json =
        serde_json::from_slice(&sample("03_image_caption.json", &other.number)).unwrap();
    let entry = second["entry"][0].clone();
    body["entry"].as_array_mut().unwrap().push(entry);
    assert_eq!(one.post(&server, body.to_string().as_bytes()).await, 200);
    applied(&one).await;
    assert!(messages_of_one(&one).await[0].text.starts_with("Olá"));
    assert_eq!(messages_of_one(&other).await[0].text, "the scratch is here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_connected_once_and_comes_back_as_the_one_it_was() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let mut admin = server.tenant_admin();
    let mut connect = async |request| -> (ChannelAccount, bool) {
        let answer = admin.connect_channel_account(Request::new(request));
        let answer = answer.await.unwrap().into_inner();
        (answer.channel_account.unwrap(), answer.connected)
    };
    let (first, connected) = connect(account.request()).await;
    assert!(connected);
    let mut renamed = account.request();
    renamed.name = "Sales".to_owned();
    // Without the secret, which is known.
    renamed.whatsapp_secrets = None;
    let (second, connected) = connect(renamed).await;
    assert!(!connected);
    assert_eq!((&second.id, second.name.as_str()), (&first.id, "Sales"));

    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    let mut admin = server.tenant_admin();
    let disconnect = DisconnectChannelAccountRequest {
        tenant: account.tenant.slug(),
        channel_account_id: first.id.clone(),
    };
    for _ in 0..2 {
        let answer = admin.disconnect_channel_account(disconnect.clone()).await;
        let gone = answer.unwrap().into_inner().channel_account.unwrap();
        assert!(gone.disconnect_time.is_some());
    }
    let list = |show_disconnected| ListChannelAccountsRequest {
        tenant: account.tenant.slug(),
        show_disconnected,
        ..Default::default()
    };
    let shown = admin.list_channel_accounts(list(false)).await.unwrap();
    assert_eq!(shown.into_inner().channel_accounts, []);
    let shown = admin.list_channel_accounts(list(true)).await.unwrap();
    assert_eq!(shown.into_inner().channel_accounts.len(), 1);
    // What comes now belongs to nobody.
    account.post_sample(&server, "03_image_caption.json").await;
    applied(&account).await;
    assert_eq!(messages_of_one(&account).await.len(), 1);

    let again = account.connect(&server).await;
    assert_eq!(again.id, first.id);
    assert_eq!(again.disconnect_time, None);
    eventually("what came meanwhile is there", async || {
        messages_of_one(&account).await.len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_belongs_to_one_tenant_and_shows_no_secret() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let other = server.tenant().await;
    let mut admin = server.tenant_admin();
    let mut request = account.request();
    request.tenant = other.slug();
    let answer = admin.connect_channel_account(request).await;
    let (code, reason, _) = refusal(answer);
    assert_eq!(
        (code, reason.as_str()),
        (Code::AlreadyExists, "CHANNEL_ACCOUNT_TAKEN")
    );

    let known = account.connect(&server).await;
    let get = GetChannelAccountRequest {
        tenant: other.slug(),
        channel_account_id: known.id.clone(),
    };
    assert_eq!(
        refusal(admin.get_channel_account(get).await).0,
        Code::NotFound
    );
    let disconnect = DisconnectChannelAccountRequest {
        tenant: other.slug(),
        channel_account_id: known.id.clone(),
    };
    let answer = admin.disconnect_channel_account(disconnect).await;
    assert_eq!(refusal(answer).0, Code::NotFound);

    assert!(!format!("{known:?}").contains(APP_SECRET));
    let tables = Tables::of(&account.tenant).await;
    let clear = format!(
        "SELECT count(*) FROM directory.provider_apps a, directory.channel_accounts c
        WHERE a::text LIKE '%{APP_SECRET}%' OR c::text LIKE '%{APP_SECRET}%'
            OR encode(a.secrets, 'escape') LIKE '%{APP_SECRET}%'"
    );
    assert_eq!(tables.count(&clear).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_tenant_delays_its_own_messages_alone() {
    let server = TestServer::start().await;
    let locked = Whatsapp::connected(&server).await;
    let free = Whatsapp::connected(&server).await;
    let tables = Tables::of(&locked.tenant).await;
    let lock = format!(
        "BEGIN; LOCK TABLE {}.inbox_messages IN ACCESS EXCLUSIVE MODE",
        tables.schema
    );
    tables.admin.batch_execute(&lock).await.unwrap();
    locked.post_sample(&server, "02_text.json").await;
    free.post_sample(&server, "02_text.json").await;
    eventually("the free tenant has its message", async || {
        free.conversations().await.len() == 1
    })
    .await;
    assert_eq!(locked.conversations().await, []);
    tables.admin.batch_execute("COMMIT").await.unwrap();
    eventually("the locked one has it too", async || {
        locked.conversations().await.len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_locked_when_it_is_done_is_ended_as_soon_as_it_is_free() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let (tenant, delivery) = (
        Tables::of(&account.tenant).await,
        Tables::of(&account.tenant).await,
    );
    let lock = format!(
        "BEGIN; LOCK TABLE {}.inbox_messages IN ACCESS EXCLUSIVE MODE",
        tenant.schema
    );
    tenant.admin.batch_execute(&lock).await.unwrap();
    account.post_sample(&server, "02_text.json").await;
    // As it is while its lease is being renewed.
    let lock = format!(
        "BEGIN; SELECT FROM directory.deliveries WHERE correlation_id = '{}' FOR NO KEY UPDATE",
        account.number
    );
    delivery.admin.batch_execute(&lock).await.unwrap();
    tenant.admin.batch_execute("COMMIT").await.unwrap();
    eventually("it is applied", async || {
        account.conversations().await.len() == 1
    })
    .await;
    // By now its end waits, and would otherwise have left it to whoever takes it up half a minute later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    delivery.admin.batch_execute("COMMIT").await.unwrap();
    applied_within(Duration::from_secs(10), &account).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_nobody_applied_is_taken_up_by_another_node() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    let tables = Tables::of(&account.tenant).await;
    let schema = &tables.schema;
    // As if the node had died between its answer and the first item.
    let undo = format!(
        "DELETE FROM {schema}.provider_events; DELETE FROM {schema}.inbox_messages;
        UPDATE directory.deliveries d SET due_at = directory.now(), lease = gen_random_uuid()
        WHERE d.id = (SELECT id FROM {schema}.forgotten)"
    );
    let remember = format!(
        "CREATE TABLE {schema}.forgotten AS SELECT delivery_id AS id FROM {schema}.provider_events"
    );
    tables.admin.batch_execute(&remember).await.unwrap();
    tables.admin.batch_execute(&undo).await.unwrap();
    let _other = TestServer::start().await;
    let messages = "SELECT count(*) FROM {schema}.inbox_messages";
    // The server of a test that has just ended may have taken it up: its lease ends first.
    let limit = Duration::from_secs(60);
    let is_applied = async || tables.count(messages).await == 1;
    within(limit, "it is applied", is_applied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_is_valid_beside_the_one_before() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let body = sample("02_text.json", &account.number);
    let post = async |path: &str, secret: &str| {
        let signature = sign(secret, &body);
        let headers = [("x-hub-signature-256", signature.as_str())];
        server.http_post(path, &headers, &body).await.0
    };
    let path = account
        .connect_own(&server, "first-secret")
        .await
        .webhook_path;
    assert_eq!(post(&path, "first-secret").await, 200);
    assert_eq!(post(&path, "second-secret").await, 403);
    let again = account.connect_own(&server, "second-secret").await;
    assert_eq!(again.webhook_path, path);
    assert_eq!(post(&path, "first-secret").await, 200);
    assert_eq!(post(&path, "second-secret").await, 200);
    account.connect_own(&server, "third-secret").await;
    assert_eq!(post(&path, "first-secret").await, 403);
    assert_eq!(post(&path, "second-secret").await, 200);
    assert_eq!(post(&path, "third-secret").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_deployments_is_not_a_tenants_to_change() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let all = keys.metadata(json!({"scope": "tenant.admin"}));
    let slug = format!("t{}", uuid::Uuid::now_v7().simple());
    let mut admin = server.tenant_admin();
    let with = |metadata: &MetadataMap, message: ConnectChannelAccountRequest| {
        Request::from_parts(metadata.clone(), tonic::Extensions::default(), message)
    };
    let make = InitializeTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    let make = Request::from_parts(all.clone(), tonic::Extensions::default(), make);
    let tenant = admin.initialize_tenant(make).await.unwrap();
    let tenant = TestTenant::new(&server, tenant.into_inner().tenant.unwrap());
    let own = keys.metadata(json!({"scope": "tenant.admin", "tenants": [slug]}));
    let account = Whatsapp::new(tenant);
    let known = account.request();
    let made = admin
        .connect_channel_account(with(&all, known.clone()))
        .await;
    made.unwrap();

    // Not without the secret, not with another one, no other token, no new app.
    let mut without = known.clone();
    without.whatsapp_secrets = None;
    let mut other = known.clone();
    other.whatsapp_secrets.as_mut().unwrap().app_secret = "another-secret".to_owned();
    let mut token = known.clone();
    token.whatsapp_secrets.as_mut().unwrap().verify_token = "another-token".to_owned();
    let mut new = known.clone();
    if let Some(Settings::Whatsapp(settings)) = &mut new.settings {
        settings.app_id = account.number.clone();
    }
    for request in [without, other, token, new] {
        let answer = admin.connect_channel_account(with(&own, request)).await;
        let (code, reason, _) = refusal(answer);
        let denied = (Code::PermissionDenied, "TENANT_NOT_ALLOWED");
        assert_eq!((code, reason.as_str()), denied);
    }
    // Who knows the secret may connect.
    let made = admin.connect_channel_account(with(&own, known)).await;
    made.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_connected_to_another_app_takes_nothing_of_what_waits() {
    let server = TestServer::start().await;
    let _app = Whatsapp::connected(&server).await;
    let account = Whatsapp::new(server.tenant().await);
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    let tables = Tables::of(&account.tenant).await;
    let waiting = format!(
        "SELECT count(*) FROM directory.quarantine
        WHERE route_key = '{}' AND reason = 'unknown_account' AND replayed_at IS NULL",
        account.number
    );
    assert_eq!(tables.count(&waiting).await, 1);
    let mut other = Whatsapp::new(server.tenant().await);
    other.number.clone_from(&account.number);
    let wrong = other.connect_own(&server, "made-up-secret").await;
    // By hand, too, it stays.
    let item = format!(
        "SELECT delivery_id::text FROM directory.quarantine WHERE route_key = '{}'",
        account.number
    );
    let delivery_id = tables.admin.query_one(&item, &[]).await.unwrap().get(0);
    let replay = ReplayQuarantinedItemRequest {
        tenant: String::new(),
        delivery_id,
        item: 1,
    };
    let answer = server.tenant_admin().replay_quarantined_item(replay).await;
    assert_eq!(answer.unwrap().into_inner().item.unwrap().replay_time, None);
    let disconnect = DisconnectChannelAccountRequest {
        tenant: other.tenant.slug(),
        channel_account_id: wrong.id,
    };
    let mut admin = server.tenant_admin();
    admin.disconnect_channel_account(disconnect).await.unwrap();
    account.connect(&server).await;
    eventually("nothing waits", async || tables.count(&waiting).await == 0).await;
    assert_eq!(messages_of_one(&account).await.len(), 1);
    assert_eq!(other.conversations().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_account_takes_the_place_of_the_default_one() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let before = account.tenant.conversation().await;
    let connected = account.connect(&server).await;
    let after = account.tenant.conversation().await;
    assert_ne!(after.channel_account_id, before.channel_account_id);
    assert_eq!(after.channel_account_id, connected.id);
    // Who writes in is the one who was written to.
    let mut new = account.tenant.new_conversation();
    new.contact_identifier = "+15550109911".to_owned();
    let begun = account.tenant.create(new).await;
    account.post_sample(&server, "02_text.json").await;
    applied(&account).await;
    assert_eq!(account.tenant.messages(&begun).await.len(), 1);
}
