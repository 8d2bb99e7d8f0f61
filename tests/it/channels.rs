//! What comes of the recorded webhooks of every channel.

use std::collections::BTreeSet;

use communication_service::pb::{
    DisableChannelAccountRequest, EmailProvider, EnableChannelAccountRequest, Gateway, Message,
    MessageDirection, MessageStatus, MessageType, RotateChannelAccountSecretRequest,
    TwilioCallSettings,
};
use serde_json::{Value as Json, json};
use tonic::Code;

use crate::harness::{
    PUBLIC_URL, Provider, SECRET, Tables, TestServer, eventually, http_get, json_of, metadata,
    refusal, sign, sign_form,
};

/// Posts every sample, and all of them again: nothing is different afterwards.
async fn twice(server: &TestServer, account: &Provider, most: usize) {
    let files = account.samples();
    assert!(files.len() >= most, "{files:?}");
    for file in &files {
        account.post_sample(server, file).await;
    }
    let before = account.state().await;
    for file in files.iter().rev() {
        account.post_sample(server, file).await;
    }
    assert_eq!(account.state().await, before);
}

/// Posts a sample, which leaves one more message, and checks that.
async fn leaves(
    server: &TestServer,
    account: &Provider,
    file: &str,
    (message_type, text): (MessageType, &str),
) -> Message {
    let before = account.conversations().await.len();
    account.post_sample(server, file).await;
    assert_eq!(account.conversations().await.len(), before.max(1), "{file}");
    let message = account.newest().await;
    assert_eq!(message.r#type(), message_type, "{file}: {message:?}");
    assert_eq!(message.text, text, "{file}");
    assert_eq!(message.direction(), MessageDirection::Inbound, "{file}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn messenger_is_what_its_samples_say() {
    use MessageType::{Image, Text};
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    let first = page.sample("01_text.json");
    let first: Json = serde_json::from_slice(&first).unwrap();
    let said = first.pointer("/entry/0/messaging/0/message/text").unwrap();
    leaves(
        &server,
        &page,
        "01_text.json",
        (Text, said.as_str().unwrap()),
    )
    .await;
    leaves(&server, &page, "02_image.json", (Image, "")).await;
    page.post_sample(&server, "03_two_attachments.json").await;
    let two = page.newest().await;
    assert_eq!(two.r#type(), Image);
    assert_ne!(two.text, "");
    assert!(metadata(&two, "/attachments/1").is_object());
    page.post_sample(&server, "04_audio_video_file.json").await;
    let messages = page.messages().await;
    let types: Vec<_> = messages.iter().rev().take(3).map(Message::r#type).collect();
    use MessageType::{Audio, Document, Video};
    assert_eq!(types, [Document, Video, Audio]);
    let sticker = leaves(&server, &page, "05_sticker.json", (Image, "")).await;
    let id = metadata(&sticker, "/attachments/0/payload/sticker_id");
    assert!(id.is_number(), "{sticker:?}");
    page.post_sample(&server, "06_fallback_share.json").await;
    let share = page.newest().await;
    assert_eq!(share.r#type(), Text);
    assert!(!share.text.is_empty());
    let red = leaves(&server, &page, "07_quick_reply.json", (Text, "Red")).await;
    assert!(metadata(&red, "/quick_reply/payload").is_string());
    let postback = leaves(&server, &page, "08_postback.json", (Text, "Get started")).await;
    assert_eq!(metadata(&postback, "/raw_kind"), "postback");
    assert!(metadata(&postback, "/referral").is_object());
    let count = page.messages().await.len();
    page.post_sample(&server, "09_referral.json").await;
    assert_eq!(page.messages().await.len(), count);
    let conversation = page.conversations().await.remove(0);
    assert!(json_of(conversation.metadata.as_ref().unwrap())["referral"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn messenger_knows_what_became_of_what_was_sent() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    page.post_sample(&server, "01_text.json").await;
    // By its echo; the same again, and from another app.
    page.post_sample(&server, "12_echo.json").await;
    let sent = page.newest().await;
    assert_eq!(sent.direction(), MessageDirection::Outbound);
    page.post_sample(&server, "13_echo_other_app.json").await;
    let other = page.newest().await;
    assert_ne!(other.id, sent.id);
    assert_eq!(metadata(&other, "/source"), "external");
    page.post_sample(&server, "11_reply_to.json").await;
    assert_eq!(page.newest().await.reply_to_message_id, sent.id);
    let count = page.messages().await.len();
    page.post_sample(&server, "10_reaction.json").await;
    let messages = page.messages().await;
    assert_eq!(messages.len(), count);
    let of =
        |id: &str, messages: &[Message]| messages.iter().find(|m| m.id == id).cloned().unwrap();
    assert_eq!(of(&sent.id, &messages).reactions, []);
    // The same without its end stands.
    let mut reaction: Json = serde_json::from_slice(&page.sample("10_reaction.json")).unwrap();
    let events = reaction.pointer_mut("/entry/0/messaging").unwrap();
    events.as_array_mut().unwrap().truncate(1);
    events[0]["timestamp"] = json!(1_773_480_009_900_i64);
    page.post(&server, reaction.to_string().as_bytes()).await;
    page.applied().await;
    let reactions = of(&sent.id, &page.messages().await).reactions;
    assert_eq!(reactions.len(), 1, "{reactions:?}");
    assert_eq!(reactions[0].emoji, "❤");
    page.post_sample(&server, "14_delivery_read.json").await;
    let read = of(&sent.id, &page.messages().await);
    assert_eq!(read.status(), MessageStatus::Read);
    assert!(read.delivered_time.is_some() && read.read_time.is_some());
    let count = page.messages().await.len();
    page.post_sample(&server, "15_edit.json").await;
    let edited: Vec<_> = page.messages().await;
    assert_eq!(edited.len(), count);
    assert_eq!(edited[0].edit_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messenger_reads_marks_that_came_before_the_message() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    page.post_sample(&server, "01_text.json").await;
    page.post_sample(&server, "14_delivery_read.json").await;
    page.post_sample(&server, "12_echo.json").await;
    let sent = page.newest().await;
    assert_eq!(sent.direction(), MessageDirection::Outbound);
    let marked = page.sample("14_delivery_read.json");
    let marked: Json = serde_json::from_slice(&marked).unwrap();
    let watermark = marked
        .pointer("/entry/0/messaging/1/read/watermark")
        .unwrap();
    let sent_at = sent.provider_time.unwrap();
    assert!(sent_at.seconds * 1000 <= watermark.as_i64().unwrap());
    assert_eq!(sent.status(), MessageStatus::Read);
}

#[tokio::test(flavor = "multi_thread")]
async fn messenger_tells_pages_apart_and_what_is_not_ours_to_answer() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    page.post_sample(&server, "16_standby.json").await;
    assert_eq!(metadata(&page.newest().await, "/standby"), true);
    // The other page is nobody's: its event waits alone.
    let before = page.messages().await.len();
    page.post_sample(&server, "17_batch_two_pages.json").await;
    let after: usize = {
        let mut all = 0;
        for conversation in page.conversations().await {
            all += page.tenant.messages(&conversation).await.len();
        }
        all
    };
    assert_eq!(after, before + 1);
    let tables = Tables::of(&page.tenant).await;
    let waiting = format!(
        "SELECT count(*) FROM directory.quarantine q JOIN directory.deliveries d ON d.id = q.delivery_id
        WHERE d.correlation_id = '{}' AND q.reason = 'unknown_account'",
        page.account.id
    );
    assert_eq!(tables.count(&waiting).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn instagram_is_what_its_samples_say() {
    use MessageType::{Image, Text};
    let server = TestServer::start().await;
    let account = Provider::instagram(&server).await;
    account.post_sample(&server, "01_text.json").await;
    let first = account.newest().await;
    let image = leaves(&server, &account, "02_image.json", (Image, "")).await;
    let story = leaves(&server, &account, "03_story_reply.json", (Text, "love it")).await;
    assert_eq!(story.reply_to_provider_id, "");
    assert!(metadata(&story, "/story/url").is_string());
    let mention = leaves(&server, &account, "04_story_mention.json", (Image, "")).await;
    assert_eq!(metadata(&mention, "/raw_kind"), "story_mention");
    let count = account.messages().await.len();
    account
        .post_sample(&server, "05_share_reel_post.json")
        .await;
    let messages = account.messages().await;
    assert_eq!(messages.len(), count + 3);
    assert_eq!(messages[count].text, "https://www.instagram.example/p/1");
    assert_eq!(
        messages[count + 1].text,
        "Reel\nhttps://lookaside.fbsbx.com/r"
    );
    leaves(
        &server,
        &account,
        "09_unsupported.json",
        (Text, "Unsupported message"),
    )
    .await;
    account
        .post_sample(&server, "11_postback_icebreaker.json")
        .await;
    assert_eq!(account.newest().await.r#type(), Text);
    account.post_sample(&server, "12_referral_ad.json").await;
    assert!(metadata(&account.newest().await, "/referral").is_object());
    account.post_sample(&server, "13_edit.json").await;
    let messages = account.messages().await;
    assert_eq!(messages[0].id, first.id);
    assert_eq!(messages[0].edit_count, 1);
    // Nobody's, and the account's own.
    let before = account.state().await;
    account
        .post_sample(&server, "14_dashboard_test_shape.json")
        .await;
    account.post_sample(&server, "15_self_message.json").await;
    assert_eq!(account.state().await, before);
    // What is unsent is gone.
    account.post_sample(&server, "08_unsend.json").await;
    let left = account.messages().await;
    assert_eq!(left.len(), messages.len() - 1);
    assert!(left.iter().all(|message| message.id != image.id));
    let tables = Tables::of(&account.tenant).await;
    let gone = "SELECT count(*) FROM {schema}.inbox_messages
        WHERE deleted_at IS NOT NULL AND type = 'image' AND metadata = '{}'";
    assert_eq!(tables.count(gone).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn instagram_tells_the_last_that_was_seen_and_all_before_it_were() {
    let server = TestServer::start().await;
    let account = Provider::instagram(&server).await;
    account.post_sample(&server, "01_text.json").await;
    // An earlier one of the same sender.
    let echo = String::from_utf8(account.sample("10_echo.json")).unwrap();
    let mut earlier: Json = serde_json::from_str(&echo).unwrap();
    let event = earlier.pointer_mut("/entry/0/messaging/0").unwrap();
    event["timestamp"] = json!(1_773_480_000_500_i64);
    event["message"]["mid"] = json!("an-earlier-one");
    account.post(&server, earlier.to_string().as_bytes()).await;
    account.applied().await;
    account.post_sample(&server, "10_echo.json").await;
    account.post_sample(&server, "06_reaction.json").await;
    account.post_sample(&server, "07_seen.json").await;
    let messages = account.messages().await;
    let sent: Vec<_> = messages
        .iter()
        .filter(|message| message.direction() == MessageDirection::Outbound)
        .collect();
    assert_eq!(sent.len(), 2);
    for message in &sent {
        assert_eq!(message.status(), MessageStatus::Read, "{message:?}");
    }
    assert_eq!(sent[1].reactions.len(), 1);
    assert_eq!(sent[1].reactions[0].emoji, "❤️");
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_messages_are_what_their_samples_say() {
    use MessageType::{Audio, Document, Image, Location, Text};
    let server = TestServer::start().await;
    let account = Provider::twilio_whatsapp(&server).await;
    let text = "Is it open & ready? 50% off = yes + \"quotes\" 😀";
    leaves(&server, &account, "01_text.form", (Text, text)).await;
    let conversation = account.conversations().await.remove(0);
    assert_eq!(conversation.contact_identifier, "+15550109911");
    assert_eq!(conversation.contact_name, "Dana Whitfield");
    leaves(&server, &account, "02_image_caption.form", (Image, "look")).await;
    leaves(&server, &account, "03_voice.form", (Audio, "")).await;
    account.post_sample(&server, "04_document.form").await;
    assert_eq!(account.newest().await.r#type(), Document);
    account.post_sample(&server, "05_location.form").await;
    let place = account.newest().await;
    assert_eq!(place.r#type(), Location);
    assert!(place.location.is_some());
    leaves(&server, &account, "06_contact_vcard.form", (Document, "")).await;
    let sent = account.sent("SM0baab084490978e19cac365c18ec9b19").await;
    let button = leaves(&server, &account, "07_button.form", (Text, "Confirm")).await;
    assert!(metadata(&button, "/button_payload").is_string());
    let reply = leaves(&server, &account, "08_reply.form", (Text, "that one")).await;
    assert_eq!(reply.reply_to_message_id, sent.id);
    account.post_sample(&server, "09_referral.form").await;
    assert!(metadata(&account.newest().await, "/referral/SourceId").is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_may_send_all_in_the_address() {
    let server = TestServer::start().await;
    let account = Provider::twilio_whatsapp(&server).await;
    let text = account.sample("01_text.form");
    let (status, twiml) = account.get_form(&server, "", &text).await;
    assert_eq!((status, twiml.as_str()), (200, "<Response/>"));
    account.applied().await;
    let said = account.newest().await.text;
    assert_eq!(said, "Is it open & ready? 50% off = yes + \"quotes\" 😀");
    // However it is sent, it is the same message.
    account.post_sample(&server, "01_text.form").await;
    assert_eq!(account.messages().await.len(), 1);
    // The address is all that is signed.
    let path = format!("{}?{}", account.account.webhook_path, "Body=forged");
    let signature = sign_form(SECRET, &format!("{PUBLIC_URL}{path}"), b"");
    let headers = [("x-twilio-signature", signature.as_str())];
    let forged = path.replace("forged", "Forged");
    assert_eq!(http_get(server.http, &forged, &headers).await.0, 403);
    assert_eq!(http_get(server.http, &path, &[]).await.0, 403);
    let number = Provider::twilio_call(
        &server,
        TwilioCallSettings {
            greeting: "Welcome".to_owned(),
            ..Default::default()
        },
    )
    .await;
    let incoming = number.sample("01_incoming.form");
    let (status, twiml) = number.get_form(&server, "/voice", &incoming).await;
    assert_eq!(status, 200);
    assert!(twiml.contains(">Welcome</Say>"), "{twiml}");
    number.applied().await;
    assert_eq!(metadata(&number.newest().await, "/call/status"), "ringing");
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_tells_how_far_messages_have_come() {
    let server = TestServer::start().await;
    let account = Provider::twilio_whatsapp(&server).await;
    account.post_sample(&server, "01_text.form").await;
    let failed = sid(&account, "14_status_failed_63016.form");
    let undelivered = sid(&account, "15_status_undelivered_63024.form");
    let read = sid(&account, "13_status_read.form");
    // Before anybody knows that it was sent, in whatever order.
    account.post_sample(&server, "13_status_read.form").await;
    let sent = account.sent(&read).await;
    for file in [
        "10_status_queued.form",
        "12_status_delivered.form",
        "11_status_sent.form",
    ] {
        account.post_sample(&server, file).await;
    }
    let found = account.newest().await;
    assert_eq!(found.id, sent.id);
    assert_eq!(found.status(), MessageStatus::Delivered);
    if failed != read {
        account.sent(&failed).await;
    }
    account
        .post_sample(&server, "14_status_failed_63016.form")
        .await;
    if failed != read {
        let found = account.newest().await;
        assert_eq!(found.status(), MessageStatus::Failed);
        assert_eq!(found.failure.unwrap().code, "63016");
    }
    if undelivered != read && undelivered != failed {
        account.sent(&undelivered).await;
        account
            .post_sample(&server, "15_status_undelivered_63024.form")
            .await;
        assert_eq!(account.newest().await.failure.unwrap().code, "63024");
    }
}

/// The message that a status is of.
fn sid(account: &Provider, file: &str) -> String {
    let body = account.sample(file);
    let mut pairs = form_urlencoded::parse(&body);
    let sid = pairs.find(|(name, _)| name == "MessageSid");
    sid.unwrap().1.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_one_message_whatever_happens_to_it() {
    let server = TestServer::start().await;
    let number = Provider::twilio_call(
        &server,
        TwilioCallSettings {
            greeting: "Welcome & hello".to_owned(),
            greeting_language: "en-GB".to_owned(),
            forward_to: "+15550003003".to_owned(),
            voicemail: true,
            ..Default::default()
        },
    )
    .await;
    let incoming = number.sample("01_incoming.form");
    let (status, twiml) = number.post_form(&server, "/voice", &incoming).await;
    assert_eq!(status, 200);
    assert!(
        twiml.contains("<Say language=\"en-GB\">Welcome &amp; hello</Say>"),
        "{twiml}"
    );
    assert!(twiml.contains(">+15550003003</Number></Dial>"), "{twiml}");
    number.applied().await;
    let call = number.newest().await;
    assert_eq!(metadata(&call, "/raw_kind"), "call");
    assert_eq!(metadata(&call, "/call/status"), "ringing");
    for file in [
        "04_status_completed.form",
        "02_gather_digits.form",
        "03_gather_speech.form",
        "08_voicemail_transcription.form",
        "06_recording_completed.form",
    ] {
        number.post_sample(&server, file).await;
    }
    let call = number.newest().await;
    assert_eq!(number.messages().await.len(), 1);
    assert_eq!(metadata(&call, "/call/status"), "completed");
    assert_eq!(metadata(&call, "/call/duration_seconds"), 73.0);
    assert_eq!(metadata(&call, "/call/digits"), json!(["2"]));
    assert_eq!(
        metadata(&call, "/call/speech/0/text"),
        "I would like to change my booking."
    );
    let recording = metadata(&call, "/call/recordings/0");
    assert_eq!(
        recording["transcript"],
        "Hi, please call me back about order seven."
    );
    assert_eq!(recording["duration_seconds"], 64.0);
    // One that nobody answered, of which the answering machine is told first.
    number.post_sample(&server, "07_amd.form").await;
    number
        .post_sample(&server, "05_status_no_answer.form")
        .await;
    let messages = number.messages().await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1].direction(), MessageDirection::Outbound);
    assert_eq!(metadata(&messages[1], "/call/status"), "no-answer");
    assert_eq!(
        metadata(&messages[1], "/call/answered_by"),
        "machine_end_beep"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn waha_is_what_its_samples_say() {
    use MessageType::{Audio, Image, Location, Text};
    let server = TestServer::start().await;
    let number = Provider::personal_whatsapp(&server, Gateway::Waha).await;
    let text = "ciao, è ancora disponibile? 🪑";
    let first = leaves(&server, &number, "01_waha_text.json", (Text, text)).await;
    assert_eq!(metadata(&first, "/unofficial"), true);
    let conversation = number.conversations().await.remove(0);
    assert_eq!(conversation.contact_identifier, "+15550109911");
    leaves(
        &server,
        &number,
        "02_waha_image.json",
        (Image, "the scratch"),
    )
    .await;
    leaves(&server, &number, "03_waha_voice.json", (Audio, "")).await;
    let place = leaves(&server, &number, "04_waha_location.json", (Location, "")).await;
    assert_eq!(place.location.unwrap().latitude, 51.5081);
    let sent = number.sent("3EB0FFFF00000000OUT1").await;
    number.post_sample(&server, "05_waha_reaction.json").await;
    number.post_sample(&server, "07_waha_ack.json").await;
    let found = number.newest().await;
    assert_eq!(found.id, sent.id);
    assert_eq!(found.reactions[0].emoji, "👍");
    assert_eq!(found.status(), MessageStatus::Read);
    number.post_sample(&server, "06_waha_from_me.json").await;
    let elsewhere = number.newest().await;
    assert_eq!(elsewhere.direction(), MessageDirection::Outbound);
    assert_eq!(elsewhere.text, "answered on the handset");
    let count = number.messages().await.len();
    number.post_sample(&server, "08_waha_revoked.json").await;
    assert_eq!(number.messages().await.len(), count - 1);
    // No group is a conversation, and no number is made of a hidden one.
    number.post_sample(&server, "10_waha_group.json").await;
    assert_eq!(number.conversations().await.len(), 1);
    number.post_sample(&server, "11_waha_lid.json").await;
    let people: Vec<String> = number
        .conversations()
        .await
        .into_iter()
        .map(|conversation| conversation.contact_identifier)
        .collect();
    assert_eq!(people.len(), 2);
    assert!(
        people.contains(&"190000000000001@lid".to_owned()),
        "{people:?}"
    );
    number
        .post_sample(&server, "09_waha_session_status.json")
        .await;
    let account = number.shown(&server).await;
    assert_eq!(account.provider_state, "SCAN_QR_CODE");
    assert!(account.provider_state_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn evolution_is_what_its_samples_say() {
    use MessageType::{Image, Text};
    let server = TestServer::start().await;
    let number = Provider::personal_whatsapp(&server, Gateway::Evolution).await;
    leaves(&server, &number, "20_evolution_text.json", (Text, "hello")).await;
    leaves(
        &server,
        &number,
        "21_evolution_image.json",
        (Image, "scratch"),
    )
    .await;
    let sent = number.sent("3EB0OUT1").await;
    let reply = leaves(
        &server,
        &number,
        "22_evolution_reply.json",
        (Text, "that one"),
    )
    .await;
    assert_eq!(reply.reply_to_message_id, sent.id);
    number
        .post_sample(&server, "23_evolution_update_read.json")
        .await;
    let messages = number.messages().await;
    let read = messages
        .iter()
        .find(|message| message.id == sent.id)
        .unwrap();
    assert_eq!(read.status(), MessageStatus::Read);
    number
        .post_sample(&server, "24_evolution_delete.json")
        .await;
    assert_eq!(number.messages().await.len(), messages.len() - 1);
    number
        .post_sample(&server, "25_evolution_connection.json")
        .await;
    let account = number.shown(&server).await;
    assert_eq!(account.provider_state, "close 401");
    // Told so, it adds the name of each event to the address.
    let text = number.sample("20_evolution_text.json");
    for (event, status) in [
        ("/messages-upsert", 200),
        ("/evolution/messages-upsert", 200),
        ("/evolution/messages", 404),
        ("/evolution/messages-upsert/x", 404),
    ] {
        assert_eq!(number.post_form(&server, event, &text).await.0, status);
    }
    number.applied().await;
    let again = number.messages().await;
    assert_eq!(again.len(), messages.len() - 1);
    let page = Provider::messenger(&server).await;
    let text = page.sample("01_text.json");
    let (status, _) = page.post_form(&server, "/messages-upsert", &text).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_the_messages_of_another_chat() {
    let server = TestServer::start().await;
    for (gateway, text, revoke, id) in [
        (
            Gateway::Waha,
            "01_waha_text.json",
            "08_waha_revoked.json",
            "3EB0A1B2C3D4E5F60001",
        ),
        (
            Gateway::Evolution,
            "20_evolution_text.json",
            "24_evolution_delete.json",
            "3EB0C0FFEE0000000001",
        ),
    ] {
        let number = Provider::personal_whatsapp(&server, gateway).await;
        let of = |file: &str, person: &str| {
            let body = String::from_utf8(number.sample(file)).unwrap();
            assert!(body.contains(id));
            body.replace("15550109911", person)
        };
        let post = async |body: String| -> usize {
            assert_eq!(number.post(&server, body.as_bytes()).await.0, 200);
            number.applied().await;
            let mut messages = 0;
            for conversation in number.conversations().await {
                messages += number.tenant.messages(&conversation).await.len();
            }
            messages
        };
        assert_eq!(post(of(text, "15550109911")).await, 1);
        let other = of(text, "15550107777").replace(id, "3EB0FFFFFFFF");
        assert_eq!(post(other).await, 2);
        assert_eq!(post(of(revoke, "15550107777")).await, 2, "{gateway:?}");
        assert_eq!(post(of(revoke, "15550109911")).await, 1, "{gateway:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_at_zendesk_are_what_their_samples_say() {
    use MessageType::{Image, Text};
    let server = TestServer::start().await;
    let account = Provider::zendesk_conversations(&server).await;
    let said = (Text, "hello from the widget");
    leaves(&server, &account, "07_sunshine_user_message.json", said).await;
    account
        .post_sample(&server, "08_sunshine_business_echo.json")
        .await;
    let sent = account.newest().await;
    assert_eq!(sent.direction(), MessageDirection::Outbound);
    assert_eq!(sent.r#type(), Image);
    assert_eq!(sent.status(), MessageStatus::Read);
    assert_eq!(account.messages().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_one_conversation_at_zendesk_has_not_read_the_others() {
    let server = TestServer::start().await;
    let account = Provider::zendesk_conversations(&server).await;
    let sample = |file: &str| String::from_utf8(account.sample(file)).unwrap();
    let user = sample("07_sunshine_user_message.json");
    let business = sample("08_sunshine_business_echo.json");
    // One event of a sample, in another conversation, under ids of its own.
    let only = |sample: &str, event: usize, begun: &str| {
        let mut body: Json = serde_json::from_str(sample).unwrap();
        let event = body["events"][event].take();
        body["events"] = json!([event]);
        let ids = ["c616a583e4c240a871818541", "64000000000000", "5f40256af057"];
        ids.into_iter().fold(body.to_string(), |body, id| {
            assert!(id.len() < 20 || body.contains(id));
            body.replace(id, &format!("{begun}{id}"))
        })
    };
    let post = async |body: String| {
        assert_eq!(account.post(&server, body.as_bytes()).await.0, 200);
        account.applied().await;
    };
    for begun in ["one", "other"] {
        post(only(&user, 0, begun)).await;
        post(only(&business, 0, begun)).await;
    }
    post(only(&business, 1, "one")).await;
    // The person has not written in this one, and it is read before it is known.
    post(only(&business, 1, "third")).await;
    post(only(&business, 0, "third")).await;
    let mut conversations = account.conversations().await;
    conversations.sort_by_key(|conversation| conversation.number);
    let mut statuses = Vec::new();
    for conversation in &conversations {
        let said = account.tenant.messages(conversation).await;
        statuses.push(said.last().unwrap().status());
    }
    use MessageStatus::{Read, Sent};
    assert_eq!(statuses, [Read, Sent, Read]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_the_business_begins_becomes_that_of_who_answers() {
    let server = TestServer::start().await;
    let account = Provider::zendesk_conversations(&server).await;
    let user = String::from_utf8(account.sample("07_sunshine_user_message.json")).unwrap();
    let business = account.sample("08_sunshine_business_echo.json");
    let business: Json = serde_json::from_slice(&business).unwrap();
    let conversation = business.pointer("/events/0/payload/conversation/id");
    let conversation = conversation.and_then(Json::as_str).unwrap();
    assert!(user.contains(conversation));
    let post = async |body: String| {
        assert_eq!(account.post(&server, body.as_bytes()).await.0, 200);
        account.applied().await;
    };
    // Somebody who is nobody yet, and the same somebody in another conversation.
    for (number, begun) in ["c-1", "c-2"].into_iter().enumerate() {
        let unlike = |body: &str| {
            let mut body: Json = serde_json::from_str(&body.replace(conversation, begun)).unwrap();
            for event in body["events"].as_array_mut().unwrap() {
                event["id"] = json!(format!("{}-{number}", event["id"].as_str().unwrap()));
                if let Some(message) = event["payload"].get_mut("message") {
                    message["id"] = json!(format!("{}-{number}", message["id"].as_str().unwrap()));
                }
            }
            body.to_string()
        };
        post(unlike(&business.to_string())).await;
        let newest = &account.conversations().await[0];
        assert_eq!(newest.contact_identifier, format!("conversation:{begun}"));
        assert_eq!(newest.contact_name, "");
        post(unlike(&user)).await;
        let conversations = account.conversations().await;
        assert_eq!(conversations.len(), number + 1, "{conversations:?}");
        let names: BTreeSet<_> = conversations.iter().map(|of| &of.contact_name).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(!names.contains(&String::new()));
        let people: BTreeSet<_> = conversations.iter().map(|of| &of.contact_id).collect();
        assert_eq!(people.len(), 1, "{conversations:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_and_the_one_before_is_valid_for_a_time() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    let mut admin = server.tenant_admin();
    let mut rotation = RotateChannelAccountSecretRequest {
        tenant: page.tenant.slug(),
        channel_account_id: page.account.id.clone(),
        secret: "another-secret-of-the-tests".to_owned(),
        overlap: None,
    };
    let rotated = admin.rotate_channel_account_secret(rotation.clone()).await;
    let account = rotated.unwrap().into_inner().channel_account.unwrap();
    assert!(account.previous_secret_expire_time.is_some());
    // Both are believed.
    page.post_sample(&server, "01_text.json").await;
    let body = page.sample("02_image.json");
    let by = async |secret: &str| {
        let signature = sign(secret, &body);
        let headers = [("x-hub-signature-256", signature.as_str())];
        let path = &page.account.webhook_path;
        server.http_post(path, &headers, &body).await.0
    };
    assert_eq!(by("another-secret-of-the-tests").await, 200);
    assert_eq!(by("no-secret-of-the-tests").await, 403);
    // Without a time in which both are, the one before is none at once.
    rotation.secret = "a-third-secret-of-the-tests".to_owned();
    rotation.overlap = Some(prost_types::Duration::default());
    admin
        .rotate_channel_account_secret(rotation.clone())
        .await
        .unwrap();
    assert_eq!(by("another-secret-of-the-tests").await, 403);
    assert_eq!(by("a-third-secret-of-the-tests").await, 200);
    rotation.overlap = Some(prost_types::Duration {
        seconds: 31 * 24 * 3600,
        nanos: 0,
    });
    rotation.secret = "short".to_owned();
    let (code, _, fields) = refusal(admin.rotate_channel_account_secret(rotation).await);
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(fields, ["secret", "overlap"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_for_a_disabled_account_waits_until_it_is_enabled() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    let mut admin = server.tenant_admin();
    let request = DisableChannelAccountRequest {
        tenant: page.tenant.slug(),
        channel_account_id: page.account.id.clone(),
    };
    for _ in 0..2 {
        let disabled = admin
            .disable_channel_account(request.clone())
            .await
            .unwrap();
        let account = disabled.into_inner().channel_account.unwrap();
        assert!(account.disable_time.is_some());
    }
    page.post_sample(&server, "01_text.json").await;
    assert_eq!(page.conversations().await, []);
    let request = EnableChannelAccountRequest {
        tenant: page.tenant.slug(),
        channel_account_id: page.account.id.clone(),
    };
    let enabled = admin.enable_channel_account(request).await.unwrap();
    let account = enabled.into_inner().channel_account.unwrap();
    assert_eq!(account.disable_time, None);
    eventually("it is replayed", async || {
        page.conversations().await.len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_apps_signature_is_none_for_another_channel_or_account() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    let other = Provider::messenger(&server).await;
    // Signed by the app of the one, for the page of the other: counted, never applied.
    let body = page.sample("01_text.json");
    let (status, _) = other.post(&server, &body).await;
    assert_eq!(status, 200);
    other.applied().await;
    assert_eq!(page.conversations().await, []);
    assert_eq!(other.conversations().await, []);
    // Another provider's webhook at an address of this one.
    let number = Provider::personal_whatsapp(&server, Gateway::Waha).await;
    let mut astray = number.clone();
    astray.account.webhook_path = page.account.webhook_path.clone();
    let (status, words) = astray
        .post(&server, &number.sample("01_waha_text.json"))
        .await;
    assert_eq!((status, words.as_str()), (403, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_samples_again_change_nothing() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    twice(&server, &page, 17).await;
    let instagram = Provider::instagram(&server).await;
    twice(&server, &instagram, 15).await;
    let sender = Provider::twilio_whatsapp(&server).await;
    twice(&server, &sender, 15).await;
    let number = Provider::twilio_call(&server, TwilioCallSettings::default()).await;
    twice(&server, &number, 8).await;
    let waha = Provider::personal_whatsapp(&server, Gateway::Waha).await;
    twice(&server, &waha, 11).await;
    let evolution = Provider::personal_whatsapp(&server, Gateway::Evolution).await;
    twice(&server, &evolution, 6).await;
    let tickets = Provider::tickets(&server).await;
    twice(&server, &tickets, 6).await;
    let conversations = Provider::zendesk_conversations(&server).await;
    twice(&server, &conversations, 2).await;
    let postmark = Provider::email(&server, EmailProvider::Postmark).await;
    twice(&server, &postmark, 4).await;
    let mailgun = Provider::email(&server, EmailProvider::Mailgun).await;
    twice(&server, &mailgun, 4).await;
    let sendgrid = Provider::email(&server, EmailProvider::Sendgrid).await;
    twice(&server, &sendgrid, 3).await;
}
