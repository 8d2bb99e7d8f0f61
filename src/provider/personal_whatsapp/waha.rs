//! What the webhooks of WAHA say, in our neutral terms.

use serde_json::Value;

use super::address::{chat_of, is_crowd, message_id, people};
use crate::inbox::{
    Amendment, AmendmentKind, Direction, FileSource, Inbound, InboundFile, InboundMessage,
    MessageStatus, MessageType, Person, Receipt, Thread,
};
use crate::provider::lenient::{self, cut, flag, id, instant, list, text};
use crate::provider::metadata::Metadata;
use crate::provider::place::{Paths, place};
use crate::provider::words::{said, shown};
use crate::provider::{MAX_EMOJI_BYTES, MAX_NAME_BYTES};
use crate::webhook::{Content, Item, Verified};

/// Where a place is in a message.
const PLACE: Paths = Paths {
    latitude: "/location/latitude",
    longitude: "/location/longitude",
    name: "/location/description",
    address: "",
};

/// Reads the item of a webhook.
///
/// # Errors
/// The body is no JSON, or names no session.
pub fn items(body: &Verified<bytes::Bytes>) -> Result<Vec<Item>, String> {
    let body = lenient::json(body)?;
    let session = id(&body, "/session").ok_or("a webhook without `session`")?;
    Ok(vec![Item {
        route_key: session,
        content: content(&body),
    }])
}

fn content(body: &Value) -> Content {
    let none = Value::Null;
    let payload = body.get("payload").unwrap_or(&none);
    match text(body, "/event").as_str() {
        // Some sessions send both of one message.
        "message" | "message.any" => message(payload),
        "message.reaction" => reaction(payload),
        "message.ack" => receipt(body, payload),
        "message.revoked" => withdrawal(payload),
        "message.edited" => edit(body, payload),
        "session.status" => Content::AccountState(text(payload, "/status")),
        _ => Content::Ignored("other_event"),
    }
}

/// An id, which some engines give as an object, with all that is put around it.
fn whole_id(value: &Value, path: &str) -> Option<String> {
    let inner = || id(value, &format!("{path}/_serialized"));
    id(value, path).or_else(inner)
}

fn id_at(value: &Value, path: &str) -> Option<String> {
    message_id(&whole_id(value, path)?)
}

fn is_from_me(payload: &Value) -> bool {
    flag(payload, "/fromMe")
}

/// The other side of a chat of two; or what else it is: of a group or the like, of ourselves.
fn customer(payload: &Value) -> Result<Vec<String>, Content> {
    let (from, to) = (text(payload, "/from"), text(payload, "/to"));
    let whole = whole_id(payload, "/id").unwrap_or_default();
    let chat = chat_of(&whole).to_owned();
    if [&from, &to, &chat]
        .into_iter()
        .any(|address| is_crowd(address))
    {
        return Err(Content::Ignored("group"));
    }
    let other = if is_from_me(payload) { &to } else { &from };
    if !from.is_empty() && from == to {
        return Err(Content::Ignored("self"));
    }
    let named = people(std::slice::from_ref(other));
    let people = if named.is_empty() {
        people(&[chat])
    } else {
        named
    };
    if people.is_empty() {
        return Err(Content::Unreadable("it is of nobody's chat".to_owned()));
    }
    Ok(people)
}

fn message(payload: &Value) -> Content {
    let identifiers = match customer(payload) {
        Ok(identifiers) => identifiers,
        Err(other) => return other,
    };
    let Some(provider_id) = id_at(payload, "/id") else {
        return Content::Unreadable("a message without `id`".to_owned());
    };
    let direction = if is_from_me(payload) {
        Direction::Outbound
    } else {
        Direction::Inbound
    };
    let location = place(payload, &PLACE);
    let mut files: Vec<_> = file(payload).into_iter().collect();
    let cards = list(payload, "/vCards");
    let has_media = flag(payload, "/hasMedia");
    let media_type = text(payload, "/media/mimetype");
    let message_type = match files.first() {
        Some(file) => type_of(&file.content_type),
        None if location.is_some() => MessageType::Location,
        // The gateway could not download it.
        None if has_media && !media_type.is_empty() => type_of(&media_type),
        None => MessageType::Text,
    };
    let mut metadata = Metadata::default();
    let mut words = text(payload, "/body");
    let is_bare = words.trim().is_empty() || words.starts_with("BEGIN:VCARD");
    if is_bare && !cards.is_empty() {
        let lines: Vec<String> = cards.iter().map(card).collect();
        words = lines.join("\n");
        metadata.set("raw_kind", "contacts");
        metadata.keep("contacts", payload.get("vCards"));
    }
    let has_file = !files.is_empty();
    let words = said(words, message_type, &mut metadata, &mut files);
    metadata.set("unofficial", true);
    if has_media && !has_file {
        metadata.set("media_missing", true);
    }
    if direction == Direction::Outbound {
        metadata.set("source", "external");
    }
    metadata.keep("media", payload.get("media"));
    metadata.keep("location", payload.get("location"));
    let mut name = [
        "/notifyName",
        "/pushName",
        "/_data/notifyName",
        "/_data/Info/PushName",
    ]
    .map(|path| text(payload, path))
    .into_iter()
    .find(|name| !name.is_empty() && direction == Direction::Inbound)
    .unwrap_or_default();
    cut(&mut name, MAX_NAME_BYTES);
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id,
        direction,
        message_type,
        text: words,
        location,
        person: Person { identifiers, name },
        reply_to: id_at(payload, "/replyTo/id"),
        at: instant(payload, "/timestamp"),
        metadata: metadata.finish(),
        files,
        thread: Thread::default(),
        automatic: false,
    })))
}

/// The name on a card, and its numbers.
fn card(card: &Value) -> String {
    let card = match card {
        Value::String(card) => card.clone(),
        other => text(other, "/vcard"),
    };
    let value = |line: &str| {
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    };
    let is_shown = |line: &&str| {
        let name = line.split([':', ';']).next().unwrap_or_default();
        // A group of properties has a name of its own before theirs.
        let name = name.rsplit('.').next().unwrap_or_default();
        matches!(name, "FN" | "TEL")
    };
    let words = card.lines().filter(is_shown);
    let words: Vec<String> = words.filter_map(value).collect();
    words.join(", ")
}

/// What a file is by its media type.
fn type_of(content_type: &str) -> MessageType {
    match content_type.split('/').next() {
        Some("image") => MessageType::Image,
        Some("audio") => MessageType::Audio,
        Some("video") => MessageType::Video,
        _ => MessageType::Document,
    }
}

fn file(payload: &Value) -> Option<InboundFile> {
    let url = text(payload, "/media/url");
    (!url.is_empty()).then(|| InboundFile {
        name: text(payload, "/media/filename"),
        content_type: text(payload, "/media/mimetype"),
        content_id: None,
        source: FileSource::Url(url),
    })
}

fn reaction(payload: &Value) -> Content {
    if is_from_me(payload) {
        return Content::Ignored("own_reaction");
    }
    let identifiers = match customer(payload) {
        Ok(identifiers) => identifiers,
        Err(other) => return other,
    };
    let Some(provider_id) = id_at(payload, "/reaction/messageId") else {
        return Content::Unreadable("a reaction without `messageId`".to_owned());
    };
    let mut emoji = text(payload, "/reaction/text");
    cut(&mut emoji, MAX_EMOJI_BYTES);
    let at = instant(payload, "/timestamp").map_or(0, |at| at.timestamp_millis());
    Content::Inbound(Inbound::Amendment(Amendment {
        provider_id,
        kind: AmendmentKind::Reaction,
        occurrence: id_at(payload, "/id").unwrap_or_else(|| format!("{at}:{emoji}")),
        place: at,
        text: emoji,
        identifiers,
    }))
}

fn receipt(body: &Value, payload: &Value) -> Content {
    if !is_from_me(payload) {
        return Content::Ignored("own_receipt");
    }
    if let Err(other) = customer(payload) {
        return other;
    }
    let Some(provider_id) = id_at(payload, "/id") else {
        return Content::Unreadable("a receipt without `id`".to_owned());
    };
    let status = match payload.get("ack").and_then(Value::as_i64) {
        Some(-1) => MessageStatus::Failed,
        Some(0) => MessageStatus::Queued,
        Some(1) => MessageStatus::Sent,
        Some(2) => MessageStatus::Delivered,
        Some(3 | 4) => MessageStatus::Read,
        _ => return Content::Unsupported("ack".to_owned()),
    };
    let failed = status == MessageStatus::Failed;
    Content::Inbound(Inbound::Receipt(Receipt {
        provider_id,
        status,
        at: instant(body, "/timestamp"),
        failure_code: None,
        failure_message: failed.then(|| "the gateway reports an error".to_owned()),
    }))
}

fn withdrawal(payload: &Value) -> Content {
    let of = ["after", "before"].into_iter().find_map(|key| {
        let message = payload.get(key).filter(|message| message.is_object())?;
        Some((customer(message).unwrap_or_default(), id_at(message, "/id")))
    });
    let (identifiers, known) = of.unwrap_or_default();
    let Some(provider_id) = id_at(payload, "/revokedMessageId").or(known) else {
        return Content::Unreadable("a withdrawal of no message".to_owned());
    };
    Content::Inbound(Inbound::Amendment(Amendment::withdrawal(
        provider_id,
        identifiers,
    )))
}

fn edit(body: &Value, payload: &Value) -> Content {
    let identifiers = match customer(payload) {
        Ok(identifiers) => identifiers,
        Err(other) => return other,
    };
    let original = id_at(payload, "/editedMessageId").or_else(|| id_at(payload, "/id"));
    let Some(provider_id) = original else {
        return Content::Unreadable("an edit of no message".to_owned());
    };
    // Some engines repeat the time of the message: what the webhook says is that of the edit.
    let at = instant(body, "/timestamp").or_else(|| instant(payload, "/timestamp"));
    let place = at.map_or(0, |at| at.timestamp_millis());
    let mut words = text(payload, "/body");
    // A picture may be left without words.
    if !flag(payload, "/hasMedia") {
        words = shown(words);
    }
    let told = id(body, "/id").unwrap_or_else(|| place.to_string());
    Content::Inbound(Inbound::Amendment(Amendment {
        provider_id,
        kind: AmendmentKind::Edit,
        occurrence: format!("{}:{told}", id_at(payload, "/id").unwrap_or_default()),
        place,
        text: words,
        identifiers,
    }))
}
