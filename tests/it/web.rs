//! The web chat: sessions bound to their page and their visitor, who sees what is theirs and nothing
//! else, and users who are proved by the page's server.

use std::collections::BTreeSet;

use communication_service::pb::{CreateMessageRequest, MessageDirection};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::harness::{
    IDENTITY_SECRET, ORIGIN, TestServer, Widget, parsed, patient_server, refused, text, user_hash,
    web_sample,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_are_what_they_say() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let mut browser = widget.stranger();
    let mut request = web_sample("01_session_request.json");
    request["widget_token"] = widget.token.clone().into();
    let (status, opened) = browser.post("sessions", &request).await;
    assert_eq!(status, 200, "{opened}");
    let answer = web_sample("02_session_response.json");
    let names =
        |json: &Json| -> BTreeSet<String> { json.as_object().unwrap().keys().cloned().collect() };
    assert!(names(&opened).is_superset(&names(&answer)), "{opened}");
    assert_eq!(opened["stream_url"], answer["stream_url"]);
    assert!(widget.conversations().await.is_empty());
    browser.open(json!({})).await;

    let message = web_sample("03_message.json");
    let (status, posted) = browser.post("messages", &message).await;
    assert_eq!(status, 200, "{posted}");
    let rows = widget.rows().await;
    assert_eq!(browser.post("messages", &message).await, (200, posted));
    assert_eq!(widget.rows().await, rows);
    let messages = widget.messages().await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].text, message["body"].as_str().unwrap());
    assert_eq!(messages[0].direction(), MessageDirection::Inbound);

    let forged = browser
        .post("identify", &web_sample("05_identify_forged.json"))
        .await;
    assert_eq!(refused(forged).0, 401);
    assert_eq!(widget.rows().await, rows);
    let proved = web_sample("04_identify.json");
    let hash = user_hash(IDENTITY_SECRET, proved["user_id"].as_str().unwrap());
    assert_eq!(proved["user_hash"], hash);
    let user_id = proved["user_id"].as_str().unwrap().to_owned();
    browser.identify(&user_id, proved).await;
    let conversations = widget.conversations().await;
    assert_eq!(conversations.len(), 1);
    assert_eq!(conversations[0].contact_name, "Dana Whitfield");

    let mut file = web_sample("08_file.json");
    let gif = b"GIF89a\x01\0\x01\0\0\0\0;";
    file["upload_id"] = browser.upload("a.gif", "image/gif", gif).await.into();
    let (status, shown) = browser.post("messages", &file).await;
    assert_eq!((status, &shown["type"]), (200, &json!("image")), "{shown}");
    let id = shown["attachments"][0]["id"].as_str().unwrap();
    let loaded = browser
        .call("GET", &format!("attachments/{id}"), "", b"")
        .await;
    assert_eq!(loaded.status, 200, "{loaded:?}");
    assert_eq!(loaded.headers["x-content-type-options"], "nosniff");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_not_allowed_hears_nothing() {
    let server = patient_server().await;
    let widget = Widget::with(&server, |settings| {
        settings
            .allowed_origins
            .push("https://*.northwind.example".to_owned());
    })
    .await;
    let mut browser = widget.browser().await;
    let preflight = browser.call("OPTIONS", "messages", "", b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.headers["access-control-allow-origin"], ORIGIN);
    assert_eq!(preflight.headers["access-control-max-age"], "600");
    assert_eq!(preflight.headers["vary"], "Origin");
    for origin in [
        Some("https://evil.example"),
        Some("http://shop.example"),
        Some("https://shop.example:8443"),
        Some("https://shop.example.evil.example"),
        Some("https://northwind.example"),
        Some("null"),
        None,
    ] {
        browser.origin = origin.map(ToOwned::to_owned);
        let answer = browser
            .call("POST", "messages", "application/json", b"{}")
            .await;
        assert_eq!(answer.status, 403, "{origin:?} {answer:?}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    // However long it is.
    let long = format!("https://{}example", "a.".repeat(5_000));
    browser.origin = Some(long);
    assert_eq!(
        browser.call("OPTIONS", "messages", "", b"").await.status,
        403
    );
    // One that is allowed, and not the session's.
    browser.origin = Some("https://a.northwind.example".to_owned());
    let answer = browser.post("messages", &text("Hello")).await;
    assert!(matches!(answer.0, 401 | 403), "{answer:?}");
    assert!(widget.conversations().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_sees_what_is_theirs_and_no_note() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let (dana, other) = (widget.browser().await, widget.browser().await);
    dana.say("Hello").await;
    let conversation = widget.conversations().await.remove(0);
    let note = CreateMessageRequest {
        direction: MessageDirection::Internal.into(),
        ..widget.tenant.new_message(&conversation, "A difficult one")
    };
    widget.tenant.send(note).await;
    widget.tenant.reply(&conversation, "Hi!").await;
    assert_eq!(dana.sees().await, ["Hello", "Hi!"]);
    assert!(other.sees().await.is_empty());
    let theirs = format!("messages?conversation_id={}", conversation.id);
    let (status, page) = other.get(&theirs).await;
    let empty = page["messages"].as_array().is_none_or(Vec::is_empty);
    assert!(status == 404 || empty, "{status} {page}");
    let mine = dana.upload("a.txt", "text/plain", b"mine").await;
    let take = json!({
        "client_message_id": uuid::Uuid::new_v4().to_string(),
        "type": "document",
        "upload_id": mine,
    });
    assert_eq!(other.post("messages", &take).await.0, 404);
    assert_eq!(dana.post("messages", &take).await.0, 200);
    let messages = widget.messages().await;
    let file = messages.iter().flat_map(|message| &message.attachments);
    let path = format!("attachments/{}", file.last().unwrap().id);
    assert_eq!(other.call("GET", &path, "", b"").await.status, 404);
    let loaded = dana.call("GET", &path, "", b"").await;
    assert_eq!((loaded.status, loaded.body.as_str()), (200, "mine"));
    assert!(loaded.headers["content-disposition"].starts_with("attachment"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sits_at_the_browser_next_does_not_see_the_user_before() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let mut dana = widget.browser().await;
    dana.say("My order is late").await;
    dana.identify("crm-42", json!({"name": "Dana"})).await;
    assert_eq!(dana.sees().await, ["My order is late"]);
    let next = dana.come_back().await;
    assert_ne!(next.visitor_id, dana.visitor_id);
    assert!(next.sees().await.is_empty());
    // Who is proved sees it from anywhere, and an id is compared byte for byte.
    let mut elsewhere = widget.browser().await;
    elsewhere.identify("crm-42", json!({})).await;
    assert_eq!(elsewhere.sees().await, ["My order is late"]);
    let mut capital = widget.browser().await;
    capital.identify("CRM-42", json!({})).await;
    assert!(capital.sees().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_still_open_becomes_a_visitor_of_its_own() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let mut first = widget.browser().await;
    first.say("My order is late").await;
    let mut second = first.clone();
    first.identify("crm-42", json!({"name": "Dana"})).await;
    // The other page has the token from before.
    let over = second.get("messages").await;
    let (status, code, _) = refused(over);
    assert_eq!((status, code.as_str()), (401, "session_over"));
    second.open(json!({})).await;
    assert_ne!(second.visitor_id, first.visitor_id);
    assert!(second.sees().await.is_empty());
    second.say("And mine?").await;
    assert_eq!(second.sees().await, ["And mine?"]);
    assert_eq!(first.sees().await, ["My order is late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_are_one() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let browser = widget.browser().await;
    let request = text("Hello");
    let mut posts = JoinSet::new();
    for _ in 0..10 {
        let (browser, request) = (browser.clone(), request.clone());
        posts.spawn(async move { browser.post("messages", &request).await });
    }
    let answers: BTreeSet<String> = posts
        .join_all()
        .await
        .into_iter()
        .map(|answer| format!("{answer:?}"))
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(widget.messages().await.len(), 1);
    // And fifty first messages of one visitor are one conversation.
    let browser = widget.browser().await;
    let mut posts = JoinSet::new();
    for number in 0..50 {
        let browser = browser.clone();
        posts.spawn(async move { browser.say(&format!("Hello {number}")).await });
    }
    posts.join_all().await;
    assert_eq!(widget.conversations().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_posted_leaves_nothing() {
    let server = patient_server().await;
    let widget = Widget::new(&server).await;
    let browser = widget.browser().await;
    let rows = widget.rows().await;
    let long = "x".repeat(4001);
    for (body, field) in [
        (text(""), "body"),
        (text(&long), "body"),
        (json!({"type": "text", "body": "x"}), "client_message_id"),
        (
            json!({"client_message_id": "1", "type": "text", "body": "x"}),
            "client_message_id",
        ),
    ] {
        let (status, _, named) = refused(browser.post("messages", &body).await);
        assert_eq!((status, named.as_str()), (400, field), "{body}");
    }
    for body in ["", "[]", "{", "\"x\"", "{\"a\":1e999}", "\u{feff}{}"] {
        let answer = browser
            .call("POST", "messages", "application/json", body.as_bytes())
            .await;
        assert_eq!(answer.status, 400, "{body} {answer:?}");
    }
    let nested = "[".repeat(40_000);
    let answer = browser
        .call("POST", "messages", "application/json", nested.as_bytes())
        .await;
    assert_eq!(answer.status, 400);
    let large = vec![b' '; 2 * 1024 * 1024];
    let answer = browser
        .call("POST", "messages", "application/json", &large)
        .await;
    assert_eq!(answer.status, 413);
    let plain = browser.call("POST", "messages", "text/plain", b"{}").await;
    assert_eq!(plain.status, 415);
    assert_eq!(widget.rows().await, rows);
    // A NUL and half a surrogate pair are no reason to lose what was said.
    let odd = text("a")
        .to_string()
        .replace("\"a\"", r#""a\u0000b\ud83d""#);
    let answer = browser
        .call("POST", "messages", "application/json", odd.as_bytes())
        .await;
    let (status, _) = parsed(&answer);
    assert!(matches!(status, 200 | 400), "{answer:?}");
    assert_eq!(browser.post("messages", &text("still here")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_posts_too_often_hears_how_long_to_wait() {
    let server = TestServer::start().await;
    let widget = Widget::new(&server).await;
    let browser = widget.browser().await;
    let mut taken = 0;
    let refused = loop {
        let body = text(&format!("Hello {taken}")).to_string();
        let answer = browser
            .call("POST", "messages", "application/json", body.as_bytes())
            .await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        taken += 1;
    };
    // One more for each three seconds that it took.
    assert!((20..40).contains(&taken), "{taken}");
    let wait: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    assert_eq!(widget.messages().await.len(), taken);
    // Others are not held up.
    widget.browser().await.say("Hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_widget_may_want_to_know_who_writes() {
    let server = patient_server().await;
    let widget = Widget::with(&server, |settings| settings.identity_required = true).await;
    let mut browser = widget.browser().await;
    assert_eq!(
        refused(browser.post("messages", &text("Hello")).await).0,
        403
    );
    browser.identify("crm-7", json!({})).await;
    browser.say("Hello").await;
    assert_eq!(widget.messages().await.len(), 1);
}
