//! What the webhooks of Evolution API say, in our neutral terms.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::address::{is_crowd, message_id, people};
use crate::inbox::{
    Amendment, AmendmentKind, Direction, FileSource, Inbound, InboundFile, InboundMessage,
    Location, MessageStatus, MessageType, Person, Receipt, Thread,
};
use crate::provider::email::transfer;
use crate::provider::lenient::{self, cut, flag, id, instant, list, text};
use crate::provider::metadata::Metadata;
use crate::provider::place::{Paths, place};
use crate::provider::words::{said, shown};
use crate::provider::{MAX_EMOJI_BYTES, MAX_ITEMS, MAX_NAME_BYTES};
use crate::webhook::{Content, Item, Verified};

/// Where a place is in the body of a message.
const PLACE: Paths = Paths {
    latitude: "/degreesLatitude",
    longitude: "/degreesLongitude",
    name: "/name",
    address: "/address",
};

/// How many wrappers are taken off a message.
const MOST_WRAPPERS: usize = 8;
/// What a message can be wrapped in.
const WRAPPERS: [&str; 6] = [
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "editedMessage",
];

/// Reads the items of a webhook.
///
/// # Errors
/// The body is no JSON, or names no instance.
pub fn items(body: &Verified<bytes::Bytes>) -> Result<Vec<Item>, String> {
    let body = lenient::json(body)?;
    let instance = id(&body, "/instance").ok_or("a webhook without `instance`")?;
    let event = text(&body, "/event")
        .to_lowercase()
        .replace(['_', '-'], ".");
    let none = Value::Null;
    let data = body.get("data").unwrap_or(&none);
    // Some versions tell one thing, some a list.
    let all = data
        .as_array()
        .map_or(std::slice::from_ref(data), Vec::as_slice);
    if all.len() > MAX_ITEMS {
        return Err(format!("the body has more than {MAX_ITEMS} items"));
    }
    let item = |data: &Value| Item {
        route_key: instance.clone(),
        content: content(&event, data, lenient::time(&body, "/date_time")),
    };
    Ok(all.iter().map(item).collect())
}

fn content(event: &str, data: &Value, at: Option<DateTime<Utc>>) -> Content {
    match event {
        "messages.upsert" | "send.message" => message(data),
        "messages.update" => receipt(data, at),
        "messages.edited" => edit(data),
        "messages.delete" => withdrawal(data.get("key").unwrap_or(data)),
        "connection.update" => {
            let state = text(data, "/state");
            let reason = id(data, "/statusReason").map(|reason| format!(" {reason}"));
            Content::AccountState(format!("{state}{}", reason.unwrap_or_default()))
        }
        _ => Content::Ignored("other_event"),
    }
}

fn is_from_me(key: &Value) -> bool {
    flag(key, "/fromMe")
}

/// The other side of a chat of two; or what else it is: of a group or the like.
fn customer(key: &Value) -> Result<Vec<String>, Content> {
    let addresses = ["/remoteJid", "/remoteJidAlt"].map(|path| text(key, path));
    if addresses.iter().any(|address| is_crowd(address)) {
        return Err(Content::Ignored("group"));
    }
    let people = people(&addresses);
    if people.is_empty() {
        return Err(Content::Unreadable("it is of nobody's chat".to_owned()));
    }
    Ok(people)
}

fn id_at(value: &Value, path: &str) -> Option<String> {
    message_id(&id(value, path)?)
}

/// A time as number, text, or the halves of a long number.
fn time(data: &Value) -> Option<DateTime<Utc>> {
    instant(data, "/messageTimestamp").or_else(|| instant(data, "/messageTimestamp/low"))
}

/// Takes off what a message is wrapped in.
fn unwrapped(message: &Value) -> &Value {
    let mut message = message;
    for _ in 0..MOST_WRAPPERS {
        let inner = WRAPPERS
            .iter()
            .find_map(|wrapper| message.get(*wrapper)?.get("message"));
        match inner {
            Some(inner) => message = inner,
            None => break,
        }
    }
    message
}

fn message(data: &Value) -> Content {
    let none = Value::Null;
    let key = data.get("key").unwrap_or(&none);
    let identifiers = match customer(key) {
        Ok(identifiers) => identifiers,
        Err(other) => return other,
    };
    let Some(provider_id) = id_at(key, "/id") else {
        return Content::Unreadable("a message without `key.id`".to_owned());
    };
    let message = unwrapped(data.get("message").unwrap_or(&none));
    if let Some(reaction) = message.get("reactionMessage") {
        return reacted(data, reaction, is_from_me(key), provider_id, identifiers);
    }
    if let Some(protocol) = message.get("protocolMessage") {
        let kind = id(protocol, "/type").unwrap_or_default();
        let of = protocol.get("key").unwrap_or(&none);
        return match kind.as_str() {
            "REVOKE" | "0" => withdrawn(of, identifiers),
            "MESSAGE_EDIT" | "14" => edited(data, of, protocol, identifiers),
            _ => Content::Ignored("protocol"),
        };
    }
    let direction = if is_from_me(key) {
        Direction::Outbound
    } else {
        Direction::Inbound
    };
    let body = Body::of(message);
    let mut metadata = Metadata::default();
    let mut files: Vec<_> = file(data, message, &body).into_iter().collect();
    let words = said(body.words, body.message_type, &mut metadata, &mut files);
    if body.kind != "conversation" && body.kind != "extendedTextMessage" {
        metadata.set("raw_kind", body.kind.as_str());
        metadata.keep(&body.kind, message.get(&body.kind));
    }
    metadata.set("unofficial", true);
    if direction == Direction::Outbound {
        metadata.set("source", "external");
    }
    let context = data
        .get("contextInfo")
        .filter(|context| context.is_object());
    let context = context.or_else(|| message.get(&body.kind)?.get("contextInfo"));
    let mut name = match direction {
        Direction::Inbound => text(data, "/pushName"),
        _ => String::new(),
    };
    cut(&mut name, MAX_NAME_BYTES);
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id,
        direction,
        message_type: body.message_type,
        text: words,
        location: body.location,
        person: Person { identifiers, name },
        reply_to: context.and_then(|context| id_at(context, "/stanzaId")),
        at: time(data),
        metadata: metadata.finish(),
        files,
        thread: Thread::default(),
        automatic: false,
    })))
}

/// The file of a message: in clear beside it, or where the gateway has stored it, or else the gateway
/// is asked for it. What WhatsApp itself tells of is encrypted.
fn file(data: &Value, message: &Value, body: &Body) -> Option<InboundFile> {
    if matches!(body.message_type, MessageType::Text | MessageType::Location) {
        return None;
    }
    let beside = |path: &str| {
        let places = [message, data, data.get("message")?];
        let mut found = places.iter().map(|place| text(place, path));
        found.find(|found| !found.is_empty())
    };
    let source = match beside("/base64") {
        Some(base64) => FileSource::Inline(transfer::base64(base64.as_bytes()).into()),
        None => match beside("/mediaUrl") {
            Some(url) => FileSource::Url(url),
            None => FileSource::Media(id(data, "/key/id")?),
        },
    };
    let (name, content_type) = (body.file_name.clone(), body.content_type.clone());
    Some(InboundFile::new(name, content_type, source))
}

/// What a message says.
struct Body {
    kind: String,
    message_type: MessageType,
    words: String,
    location: Option<Location>,
    content_type: String,
    file_name: String,
}

impl Body {
    fn of(message: &Value) -> Self {
        let kinds = message.as_object().into_iter().flatten();
        let mut kinds = kinds.filter(|(kind, value)| {
            let is_words = value.as_str().is_some_and(|words| !words.is_empty());
            let is_body = value.is_object() || kind.as_str() == "conversation" && is_words;
            is_body && kind.as_str() != "messageContextInfo"
        });
        let kind = kinds.next().map_or("unknown", |(kind, _)| kind.as_str());
        let none = Value::Null;
        let body = message.get(kind).unwrap_or(&none);
        let content_type = text(body, "/mimetype");
        let mut location = None;
        let (message_type, words) = match kind {
            "conversation" => (MessageType::Text, text(message, "/conversation")),
            "extendedTextMessage" => (MessageType::Text, text(body, "/text")),
            "imageMessage" => (MessageType::Image, text(body, "/caption")),
            "stickerMessage" => (MessageType::Image, String::new()),
            "videoMessage" | "ptvMessage" => (MessageType::Video, text(body, "/caption")),
            "audioMessage" => (MessageType::Audio, String::new()),
            "documentMessage" => (MessageType::Document, text(body, "/caption")),
            "locationMessage" | "liveLocationMessage" => {
                location = place(body, &PLACE);
                match &location {
                    Some(_) => (MessageType::Location, String::new()),
                    None => (MessageType::Text, text(body, "/name")),
                }
            }
            "contactMessage" => (MessageType::Text, text(body, "/displayName")),
            "contactsArrayMessage" => {
                let names = list(body, "/contacts").iter();
                let names: Vec<String> = names.map(|card| text(card, "/displayName")).collect();
                (MessageType::Text, names.join("\n"))
            }
            "pollCreationMessage" | "pollCreationMessageV2" | "pollCreationMessageV3" => {
                (MessageType::Text, text(body, "/name"))
            }
            _ => (MessageType::Text, text(body, "/text")),
        };
        Self {
            kind: kind.to_owned(),
            message_type,
            words,
            location,
            content_type,
            file_name: text(body, "/fileName"),
        }
    }
}

fn reacted(
    data: &Value,
    reaction: &Value,
    from_me: bool,
    occurrence: String,
    identifiers: Vec<String>,
) -> Content {
    if from_me {
        return Content::Ignored("own_reaction");
    }
    let Some(provider_id) = id_at(reaction, "/key/id") else {
        return Content::Unreadable("a reaction without `key.id`".to_owned());
    };
    let mut emoji = text(reaction, "/text");
    cut(&mut emoji, MAX_EMOJI_BYTES);
    Content::Inbound(Inbound::Amendment(Amendment {
        provider_id,
        kind: AmendmentKind::Reaction,
        occurrence,
        place: time(data).map_or(0, |at| at.timestamp_millis()),
        text: emoji,
        identifiers,
    }))
}

fn withdrawal(key: &Value) -> Content {
    let identifiers = match customer(key) {
        Ok(identifiers) => identifiers,
        Err(other) => return other,
    };
    withdrawn(key, identifiers)
}

fn withdrawn(key: &Value, identifiers: Vec<String>) -> Content {
    let Some(provider_id) = id_at(key, "/id") else {
        return Content::Unreadable("a withdrawal of no message".to_owned());
    };
    Content::Inbound(Inbound::Amendment(Amendment::withdrawal(
        provider_id,
        identifiers,
    )))
}

/// An edit that has an event of its own: its parts are at other places in other versions.
fn edit(data: &Value) -> Content {
    let none = Value::Null;
    let key = data.get("key").unwrap_or(&none);
    let identifiers = match customer(key) {
        Ok(identifiers) => identifiers,
        Err(other) => return other,
    };
    edited(data, key, data, identifiers)
}

fn edited(data: &Value, key: &Value, edit: &Value, identifiers: Vec<String>) -> Content {
    let Some(provider_id) = id_at(key, "/id") else {
        return Content::Unreadable("an edit of no message".to_owned());
    };
    let none = Value::Null;
    let message = edit.get("editedMessage").or_else(|| edit.get("message"));
    let message = unwrapped(message.unwrap_or(&none));
    let body = Body::of(message);
    // A picture may be left without words.
    let words = match body.message_type {
        MessageType::Text => shown(body.words),
        _ => body.words,
    };
    let at = time(data).or_else(|| instant(edit, "/timestampMs"));
    let place = at.map_or(0, |at| at.timestamp_millis());
    Content::Inbound(Inbound::Amendment(Amendment {
        provider_id,
        kind: AmendmentKind::Edit,
        occurrence: lenient::identifier(&format!("{place}:{words}")).unwrap_or_default(),
        place,
        text: words,
        identifiers,
    }))
}

fn receipt(data: &Value, at: Option<DateTime<Utc>>) -> Content {
    let none = Value::Null;
    let key = data.get("key").unwrap_or(&none);
    let from_me = is_from_me(data) || is_from_me(key);
    let status = text(data, "/status");
    let status = if status.is_empty() {
        text(data, "/update/status")
    } else {
        status
    };
    let provider_id = id_at(data, "/keyId").or_else(|| id_at(key, "/id"));
    let Some(provider_id) = provider_id else {
        return Content::Unreadable("a receipt without `keyId`".to_owned());
    };
    let reached = match status.as_str() {
        "ERROR" => MessageStatus::Failed,
        "PENDING" => MessageStatus::Queued,
        "SERVER_ACK" => MessageStatus::Sent,
        "DELIVERY_ACK" => MessageStatus::Delivered,
        "READ" | "PLAYED" => MessageStatus::Read,
        "DELETED" => {
            // The one or the other has the chat.
            let identifiers = match customer(data).or_else(|_| customer(key)) {
                Ok(identifiers) => identifiers,
                Err(other) => return other,
            };
            return Content::Inbound(Inbound::Amendment(Amendment::withdrawal(
                provider_id,
                identifiers,
            )));
        }
        _ => return Content::Ignored("other_update"),
    };
    if !from_me {
        return Content::Ignored("own_receipt");
    }
    let failed = reached == MessageStatus::Failed;
    Content::Inbound(Inbound::Receipt(Receipt {
        provider_id,
        status: reached,
        at,
        failure_code: None,
        failure_message: failed.then(|| "the gateway reports an error".to_owned()),
    }))
}
