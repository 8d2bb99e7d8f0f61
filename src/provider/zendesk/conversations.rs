//! What version 2 of the webhooks of the Conversations API says, in our neutral terms.

use serde_json::Value;

use crate::inbox::{
    Amendment, Direction, FileSource, Inbound, InboundFile, InboundMessage, MessageStatus,
    MessageType, Person, Receipt, Thread, Watermark,
};
use crate::provider::lenient::{self, cut, flag, id, list, text, time};
use crate::provider::metadata::Metadata;
use crate::provider::place::{Paths, place};
use crate::provider::words::{said, shown};
use crate::provider::{MAX_ITEMS, MAX_NAME_BYTES};
use crate::webhook::{Content, Item, Verified};

/// Where a place is in the content of a message.
const PLACE: Paths = Paths {
    latitude: "/coordinates/lat",
    longitude: "/coordinates/long",
    name: "/location/name",
    address: "/location/address",
};

/// Reads the items of a webhook, in order.
///
/// # Errors
/// The body is no JSON, or names no app.
pub fn items(body: &Verified<bytes::Bytes>) -> Result<Vec<Item>, String> {
    let body = lenient::json(body)?;
    let app = id(&body, "/app/id").ok_or("a webhook without `app.id`")?;
    let events = list(&body, "/events");
    if events.len() > MAX_ITEMS {
        return Err(format!("the body has more than {MAX_ITEMS} items"));
    }
    let item = |event| Item {
        route_key: app.clone(),
        content: content(event),
    };
    Ok(events.iter().map(item).collect())
}

fn content(event: &Value) -> Content {
    let none = Value::Null;
    let payload = event.get("payload").unwrap_or(&none);
    let Some(conversation) = id(payload, "/conversation/id") else {
        return Content::Ignored("other_event");
    };
    match text(event, "/type").as_str() {
        "conversation:message" => message(payload, conversation),
        "conversation:postback" => postback(event, payload, conversation),
        "conversation:read" => read(event, payload),
        // Another service has it, and not the user yet.
        "conversation:message:delivery:channel" => receipt(event, payload, MessageStatus::Sent),
        "conversation:message:delivery:user" => receipt(event, payload, MessageStatus::Delivered),
        "conversation:message:delivery:failure" => receipt(event, payload, MessageStatus::Failed),
        _ => Content::Ignored("other_event"),
    }
}

/// The customer, or else the conversation in their place: what the business writes names nobody.
fn person(author: &Value, conversation: &str) -> Vec<String> {
    let ids = [id(author, "/userId"), id(author, "/userExternalId")];
    let mut people: Vec<String> = ids.into_iter().flatten().collect();
    people.dedup();
    if people.is_empty() {
        people.extend(stand_in(conversation));
    }
    people
}

/// By what the customer of a conversation is known who has not written in it.
fn stand_in(conversation: &str) -> Option<String> {
    lenient::identifier(&format!("conversation:{conversation}"))
}

fn message(payload: &Value, conversation: String) -> Content {
    let none = Value::Null;
    let message = payload.get("message").unwrap_or(&none);
    let Some(provider_id) = id(message, "/id") else {
        return Content::Unreadable("a message without `id`".to_owned());
    };
    let author = message.get("author").unwrap_or(&none);
    let is_business = text(author, "/type") == "business";
    let identifiers = person(author, &conversation);
    if flag(message, "/deleted") {
        return Content::Inbound(Inbound::Amendment(Amendment::withdrawal(
            provider_id,
            identifiers,
        )));
    }
    let body = message.get("content").unwrap_or(&none);
    let kind = text(body, "/type");
    let content_type = text(body, "/mediaType");
    let url = Some(text(body, "/mediaUrl")).filter(|url| !url.is_empty());
    let location = (kind == "location").then(|| place(body, &PLACE)).flatten();
    let message_type = match (kind.as_str(), content_type.split('/').next(), &url) {
        ("image", _, Some(_)) => MessageType::Image,
        ("audio", _, Some(_)) | ("file", Some("audio"), Some(_)) => MessageType::Audio,
        ("file", Some("video"), Some(_)) => MessageType::Video,
        ("file", Some("image"), Some(_)) => MessageType::Image,
        ("file", _, Some(_)) => MessageType::Document,
        ("location", _, _) if location.is_some() => MessageType::Location,
        _ => MessageType::Text,
    };
    let mut metadata = Metadata::default();
    let mut words = ["/text", "/textFallback", "/htmlText", "/payload"]
        .map(|path| text(body, path))
        .into_iter()
        .find(|words| !words.trim().is_empty())
        .unwrap_or_default();
    if kind == "formResponse" && words.is_empty() {
        words = form(body);
    }
    let is_file = !matches!(message_type, MessageType::Text | MessageType::Location);
    let file = url.filter(|_| is_file).map(|url| {
        let name = text(body, "/altText");
        InboundFile::new(name, content_type, FileSource::Url(url))
    });
    let mut files: Vec<_> = file.into_iter().collect();
    let words = said(words, message_type, &mut metadata, &mut files);
    if kind != message_type.as_str() {
        metadata.set("raw_kind", kind.as_str());
    }
    if is_business {
        metadata.set("source", "external");
    }
    metadata.keep("source_of_message", message.get("source"));
    if kind != "text" {
        metadata.keep("content", Some(body));
    }
    let mut name = text(author, "/displayName");
    if is_business {
        metadata.keep_text("author", &name);
        name.clear();
    }
    cut(&mut name, MAX_NAME_BYTES);
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id,
        direction: if is_business {
            Direction::Outbound
        } else {
            Direction::Inbound
        },
        message_type,
        text: words,
        location,
        person: Person { identifiers, name },
        reply_to: id(message, "/quotedMessage/message/id")
            .or_else(|| id(message, "/quotedMessage/id")),
        at: time(message, "/received"),
        metadata: metadata.finish(),
        files,
        thread: Thread {
            stand_in: stand_in(&conversation),
            key: conversation,
            ..Thread::default()
        },
        automatic: false,
    })))
}

/// The answers of a form, one in a line.
fn form(body: &Value) -> String {
    let lines = list(body, "/fields").iter().map(|field| {
        let answers = ["/text", "/email", "/select/0/label", "/quotedMessage"];
        let answer = answers
            .map(|path| text(field, path))
            .into_iter()
            .find(|answer| !answer.is_empty());
        format!("{}: {}", text(field, "/label"), answer.unwrap_or_default())
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn postback(event: &Value, payload: &Value, conversation: String) -> Content {
    let none = Value::Null;
    let Some(provider_id) = id(event, "/id") else {
        return Content::Unreadable("a postback without `id`".to_owned());
    };
    let mut metadata = Metadata::default();
    metadata.set("raw_kind", "postback");
    metadata.keep("postback", payload.get("postback"));
    let mut words = text(payload, "/postback/text");
    if words.trim().is_empty() {
        words = text(payload, "/postback/payload");
    }
    let words = shown(words);
    let user = payload.get("user").unwrap_or(&none);
    let identifiers = id(user, "/id").map_or_else(|| person(user, &conversation), |id| vec![id]);
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id,
        direction: Direction::Inbound,
        message_type: MessageType::Text,
        text: words,
        location: None,
        person: Person {
            identifiers,
            name: String::new(),
        },
        reply_to: None,
        at: time(event, "/createdAt"),
        metadata: metadata.finish(),
        files: Vec::new(),
        thread: Thread {
            stand_in: stand_in(&conversation),
            key: conversation,
            ..Thread::default()
        },
        automatic: false,
    })))
}

fn read(event: &Value, payload: &Value) -> Content {
    if text(payload, "/activity/author/type") == "business" {
        return Content::Ignored("own_receipt");
    }
    let user = id(payload, "/activity/author/userId");
    let conversation = id(payload, "/conversation/id");
    match (time(event, "/createdAt"), conversation, user) {
        (Some(until), Some(conversation), Some(user)) => {
            Content::Inbound(Inbound::Watermark(Watermark {
                // They may not have written yet.
                identifiers: [user].into_iter().chain(stand_in(&conversation)).collect(),
                thread: Some(conversation),
                status: MessageStatus::Read,
                until,
            }))
        }
        _ => Content::Unreadable("a read mark without its time, conversation or person".to_owned()),
    }
}

fn receipt(event: &Value, payload: &Value, status: MessageStatus) -> Content {
    let Some(provider_id) = id(payload, "/message/id") else {
        return Content::Unreadable("a receipt for no message".to_owned());
    };
    let failed = status == MessageStatus::Failed;
    let mut words = text(payload, "/error/message");
    cut(&mut words, MAX_NAME_BYTES);
    Content::Inbound(Inbound::Receipt(Receipt {
        provider_id,
        status,
        at: time(event, "/createdAt"),
        failure_code: id(payload, "/error/code").filter(|_| failed),
        failure_message: failed.then_some(words),
    }))
}
