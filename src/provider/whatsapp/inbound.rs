//! What the webhooks of the Cloud API say, in our neutral terms.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::account;
use crate::clock;
use crate::inbox::{
    Amendment, AmendmentKind, Direction, FileSource, Inbound, InboundFile, InboundMessage,
    MessageStatus, MessageType, NewIdentity, Person, Receipt, Thread,
};
use crate::provider::lenient::{self, cut, id, list, number, seconds, text};
use crate::provider::metadata::Metadata;
use crate::provider::phone::with_other_forms;
use crate::provider::place::{Paths, place};
use crate::provider::words::{MAX_TEXT_BYTES, UNSUPPORTED, said};
use crate::provider::{MAX_EMOJI_BYTES, MAX_ITEMS, MAX_NAME_BYTES};
use crate::webhook::{Content, Item, Verified};

/// Where a place is in the object of a message.
const PLACE: Paths = Paths {
    latitude: "/latitude",
    longitude: "/longitude",
    name: "/name",
    address: "/address",
};

/// Reads the items of a webhook, in order.
///
/// # Errors
/// The body is no JSON, or not of WhatsApp.
pub fn items(body: &Verified<bytes::Bytes>) -> Result<Vec<Item>, String> {
    let body = lenient::json(body)?;
    if text(&body, "/object") != "whatsapp_business_account" {
        return Err("`object` is not `whatsapp_business_account`".to_owned());
    }
    if count(&body) > MAX_ITEMS {
        return Err(format!("the body has more than {MAX_ITEMS} items"));
    }
    let mut items = Vec::new();
    let changes = list(&body, "/entry").iter().flat_map(|entry| {
        let changes = list(entry, "/changes").iter();
        changes.map(move |change| (entry, change))
    });
    for (entry, change) in changes {
        let field = text(change, "/field");
        let value = change.get("value").unwrap_or(&Value::Null);
        let route_key = id(value, "/metadata/phone_number_id").unwrap_or_default();
        let contacts = Contacts::of(value);
        let mut add = |content| {
            items.push(Item {
                route_key: route_key.clone(),
                content,
            });
        };
        match field.as_str() {
            "messages" => {
                for message in list(value, "/messages") {
                    add(message_of(&contacts, message));
                }
                for status in list(value, "/statuses") {
                    add(receipt_of(status));
                }
                for _ in list(value, "/errors") {
                    add(Content::Ignored("errors"));
                }
                if !has_list(value, &["messages", "statuses", "errors"]) {
                    let why = "`messages` without a list of messages, statuses or errors";
                    add(Content::Unreadable(why.to_owned()));
                }
            }
            "smb_message_echoes" => {
                for echo in list(value, "/message_echoes") {
                    add(echo_of(echo));
                }
                if !has_list(value, &["message_echoes"]) {
                    let why = "`smb_message_echoes` without a list of echoes";
                    add(Content::Unreadable(why.to_owned()));
                }
            }
            "account_update" => items.push(Item {
                // It names no number.
                route_key: String::new(),
                content: account::state(entry, value),
            }),
            field => add(account::of_field(field)),
        }
    }
    Ok(items)
}

/// Tells whether an object has one of some lists, and nothing of their names that is none.
fn has_list(value: &Value, names: &[&str]) -> bool {
    let mut named = names.iter().filter_map(|name| value.get(*name)).peekable();
    named.peek().is_some() && named.all(Value::is_array)
}

/// How many items a body has.
fn count(body: &Value) -> usize {
    let of_change = |change: &Value| {
        let value = change.get("value").unwrap_or(&Value::Null);
        let lists = [
            "/messages",
            "/statuses",
            "/errors",
            "/message_echoes",
            "/contacts",
        ];
        1 + lists
            .map(|path| list(value, path).len())
            .iter()
            .sum::<usize>()
    };
    let entries = list(body, "/entry").iter();
    entries
        .map(|entry| 1 + list(entry, "/changes").iter().map(of_change).sum::<usize>())
        .sum()
}

/// Who the people of a change are, by each of their ids.
struct Contacts<'a>(HashMap<String, &'a Value>);

impl<'a> Contacts<'a> {
    fn of(value: &'a Value) -> Self {
        let mut contacts = HashMap::new();
        for contact in list(value, "/contacts") {
            let ids = [id(contact, "/wa_id"), id(contact, "/user_id")];
            for id in ids.into_iter().flatten() {
                contacts.entry(id).or_insert(contact);
            }
        }
        Self(contacts)
    }

    fn find(&self, ids: &[&Option<String>]) -> Option<&'a Value> {
        let mut ids = ids.iter().copied().flatten();
        ids.find_map(|id| self.0.get(id).copied())
    }
}

fn message_of(contacts: &Contacts<'_>, message: &Value) -> Content {
    if message.get("group_id").is_some() {
        return Content::Ignored("group");
    }
    let Some(provider_id) = id(message, "/id") else {
        return Content::Unreadable("a message without `id`".to_owned());
    };
    let kind = text(message, "/type");
    match kind.as_str() {
        "reaction" => return reaction_of(message, provider_id),
        "edit" | "revoke" => {
            let customer = (id(message, "/from"), id(message, "/from_user_id"));
            return amendment_of(message, &kind, provider_id, customer);
        }
        "system" => return system_of(provider_id, message),
        // That somebody looks at the chat for the first time, and has not written.
        "request_welcome" => return Content::Ignored("request_welcome"),
        _ => {}
    }
    let phone = id(message, "/from");
    let user = id(message, "/from_user_id");
    let mut identifiers = identifiers(phone.as_deref(), user.as_deref());
    let contact = contacts.find(&[&phone, &user]);
    let mut name = String::new();
    if let Some(contact) = contact {
        name = text(contact, "/profile/name");
        if name.is_empty() {
            name = text(contact, "/profile/username");
        }
        cut(&mut name, MAX_NAME_BYTES);
        // A message may leave out what the profile beside it tells.
        for identifier in self::identifiers(
            id(contact, "/wa_id").as_deref(),
            id(contact, "/user_id").as_deref(),
        ) {
            if !identifiers.contains(&identifier) {
                identifiers.push(identifier);
            }
        }
    }
    if identifiers.is_empty() {
        return Content::Unreadable("a message without a sender".to_owned());
    }
    let person = Person { identifiers, name };
    content_of(message, &kind, provider_id, Direction::Inbound, person)
}

fn echo_of(echo: &Value) -> Content {
    if echo.get("group_id").is_some() {
        return Content::Ignored("group");
    }
    let Some(provider_id) = id(echo, "/id") else {
        return Content::Unreadable("an echo without `id`".to_owned());
    };
    let kind = text(echo, "/type");
    let customer = (id(echo, "/to"), id(echo, "/to_user_id"));
    match kind.as_str() {
        // What the business itself thinks of a message is no news of a customer.
        "reaction" => return Content::Ignored("own_reaction"),
        "edit" | "revoke" => return amendment_of(echo, &kind, provider_id, customer),
        _ => {}
    }
    let identifiers = identifiers(
        id(echo, "/to").as_deref(),
        id(echo, "/to_user_id").as_deref(),
    );
    if identifiers.is_empty() {
        return Content::Unreadable("an echo without a receiver".to_owned());
    }
    let person = Person {
        identifiers,
        name: String::new(),
    };
    content_of(echo, &kind, provider_id, Direction::Outbound, person)
}

/// That a customer reacted to a message, or took that back. The order is their time.
fn reaction_of(message: &Value, provider_id: String) -> Content {
    let Some(target) = id(message, "/reaction/message_id") else {
        return Content::Unreadable("`reaction` without `message_id`".to_owned());
    };
    let identifiers = identifiers(
        id(message, "/from").as_deref(),
        id(message, "/from_user_id").as_deref(),
    );
    if identifiers.is_empty() {
        return Content::Unreadable("`reaction` without the customer".to_owned());
    }
    let mut emoji = text(message, "/reaction/emoji");
    cut(&mut emoji, MAX_EMOJI_BYTES);
    Content::Inbound(Inbound::Amendment(Amendment {
        provider_id: target,
        kind: AmendmentKind::Reaction,
        occurrence: provider_id,
        place: happened(message).timestamp_millis(),
        text: emoji,
        identifiers,
    }))
}

/// When something was that has its place by its time; now, where nobody knows better.
fn happened(news: &Value) -> DateTime<Utc> {
    seconds(news, "/timestamp").unwrap_or_else(clock::now)
}

/// The file of a message, if it has one: Meta tells its id, by which it is fetched.
fn file_of(message_type: MessageType, body: &Value) -> Option<InboundFile> {
    let is_file = !matches!(message_type, MessageType::Text | MessageType::Location);
    let media = id(body, "/id").filter(|_| is_file)?;
    Some(InboundFile {
        name: text(body, "/filename"),
        content_type: text(body, "/mime_type"),
        content_id: None,
        source: FileSource::Media(media),
    })
}

/// That a message was edited or called back, by whichever side. The order of the edits is their
/// time: they have no number.
fn amendment_of(
    news: &Value,
    kind: &str,
    provider_id: String,
    (phone, user): (Option<String>, Option<String>),
) -> Content {
    let body = news.get(kind).unwrap_or(&Value::Null);
    let Some(original) = id(body, "/original_message_id") else {
        return Content::Unreadable(format!("`{kind}` without `original_message_id`"));
    };
    let identifiers = identifiers(phone.as_deref(), user.as_deref());
    if identifiers.is_empty() {
        return Content::Unreadable(format!("`{kind}` without the customer"));
    }
    let mut amendment = Amendment {
        provider_id: original,
        kind: AmendmentKind::Withdrawal,
        occurrence: provider_id,
        place: happened(news).timestamp(),
        text: String::new(),
        identifiers,
    };
    if kind == "edit" {
        let mut inner = text(body, "/message/type");
        if inner.is_empty() && body.pointer("/message/text/body").is_some() {
            "text".clone_into(&mut inner);
        }
        amendment.kind = AmendmentKind::Edit;
        amendment.text = match inner.as_str() {
            "text" => text(body, "/message/text/body"),
            "image" | "video" | "document" => text(body, &format!("/message/{inner}/caption")),
            _ => return Content::Unsupported(format!("edit of {inner}")),
        };
        if inner == "text" && amendment.text.trim().is_empty() {
            UNSUPPORTED.clone_into(&mut amendment.text);
        }
        cut(&mut amendment.text, MAX_TEXT_BYTES);
    }
    Content::Inbound(Inbound::Amendment(amendment))
}

/// A phone number has the forms that people write it in; the business-scoped id stays as it is.
fn identifiers(phone: Option<&str>, user: Option<&str>) -> Vec<String> {
    let phone = phone.map(|phone| format!("+{}", phone.trim_start_matches('+')));
    let identifiers = phone.into_iter().chain(user.map(ToOwned::to_owned));
    with_other_forms(identifiers.collect())
}

fn system_of(provider_id: String, message: &Value) -> Content {
    let kind = text(message, "/system/type");
    if !matches!(
        kind.as_str(),
        "user_changed_number" | "user_changed_user_id"
    ) {
        return Content::Ignored("system");
    }
    let known = identifiers(
        id(message, "/from").as_deref(),
        id(message, "/from_user_id").as_deref(),
    );
    let new = identifiers(
        id(message, "/system/wa_id").as_deref(),
        id(message, "/system/user_id").as_deref(),
    );
    if known.is_empty() || new.is_empty() {
        return Content::Unreadable(format!("`{kind}` without both identifiers"));
    }
    Content::Inbound(Inbound::NewIdentity(NewIdentity {
        provider_id,
        known,
        new,
    }))
}

fn content_of(
    message: &Value,
    kind: &str,
    provider_id: String,
    direction: Direction,
    person: Person,
) -> Content {
    let body = message.get(kind).unwrap_or(&Value::Null);
    let mut metadata = Metadata::default();
    let (message_type, mut words) = match kind {
        "text" => (MessageType::Text, text(body, "/body")),
        "image" | "sticker" => (MessageType::Image, text(body, "/caption")),
        "video" => (MessageType::Video, text(body, "/caption")),
        "audio" => (MessageType::Audio, String::new()),
        "document" => (MessageType::Document, text(body, "/caption")),
        "location" => (MessageType::Location, String::new()),
        "contacts" => (MessageType::Text, cards(body)),
        "button" => {
            let words = [text(body, "/text"), text(body, "/payload")];
            let words = words.into_iter().find(|words| !words.trim().is_empty());
            (MessageType::Text, words.unwrap_or_default())
        }
        "interactive" => (MessageType::Text, interactive(body, &mut metadata)),
        "order" => (MessageType::Text, order(body)),
        _ => (MessageType::Text, UNSUPPORTED.to_owned()),
    };
    let location = (message_type == MessageType::Location)
        .then(|| place(body, &PLACE))
        .flatten();
    let message_type = match (message_type, &location) {
        // A place that is none on this earth is told by its name.
        (MessageType::Location, None) => {
            words = [text(body, "/name"), text(body, "/address")].join(" ");
            MessageType::Text
        }
        (message_type, _) => message_type,
    };
    let mut files: Vec<_> = file_of(message_type, body).into_iter().collect();
    let words = said(words, message_type, &mut metadata, &mut files);
    if kind != message_type.as_str() {
        metadata.set("raw_kind", kind);
    }
    if direction == Direction::Outbound {
        metadata.set("source", "external");
    }
    for (key, value) in [
        ("context", message.get("context")),
        ("referral", message.get("referral")),
        ("errors", message.get("errors")),
        ("unsupported", message.get("unsupported")),
        (kind, (kind != "text").then_some(body)),
    ] {
        metadata.keep(key, value);
    }
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id,
        direction,
        message_type,
        text: words,
        location,
        person,
        reply_to: id(message, "/context/id"),
        at: seconds(message, "/timestamp"),
        metadata: metadata.finish(),
        files,
        thread: Thread::default(),
        automatic: false,
    })))
}

/// The cards as one line each: the name, then the ways to reach them.
fn cards(cards: &Value) -> String {
    let line = |card: &Value| {
        let mut words = vec![text(card, "/name/formatted_name")];
        words.extend(list(card, "/phones").iter().map(|phone| {
            let dialled = text(phone, "/phone");
            if dialled.is_empty() {
                text(phone, "/wa_id")
            } else {
                dialled
            }
        }));
        words.extend(
            list(card, "/emails")
                .iter()
                .map(|email| text(email, "/email")),
        );
        words.retain(|word| !word.is_empty());
        words.join(", ")
    };
    let lines: Vec<_> = list(cards, "").iter().map(line).collect();
    lines.join("\n")
}

fn interactive(body: &Value, metadata: &mut Metadata) -> String {
    match text(body, "/type").as_str() {
        "button_reply" => text(body, "/button_reply/title"),
        "list_reply" => text(body, "/list_reply/title"),
        "nfm_reply" => {
            let answers = text(body, "/nfm_reply/response_json");
            // What cannot be read stays what it is, a text in the raw object.
            if let Ok(answers) = serde_json::from_str::<Value>(&answers) {
                metadata.keep("flow", Some(&answers));
            }
            let words = text(body, "/nfm_reply/body");
            if words.is_empty() {
                text(body, "/nfm_reply/name")
            } else {
                words
            }
        }
        "call_permission_reply" => {
            format!(
                "Call permission: {}",
                text(body, "/call_permission_reply/response")
            )
        }
        _ => String::new(),
    }
}

fn order(order: &Value) -> String {
    let mut lines = vec![text(order, "/text")];
    lines.extend(list(order, "/product_items").iter().map(|item| {
        let price = number(item, "/item_price").map(|price| price.to_string());
        format!(
            "{} × {} at {} {}",
            number(item, "/quantity").unwrap_or(1.0),
            id(item, "/product_retailer_id").unwrap_or_default(),
            price.unwrap_or_default(),
            text(item, "/currency"),
        )
    }));
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

fn receipt_of(status: &Value) -> Content {
    if text(status, "/type") == "call" {
        return Content::Ignored("call_status");
    }
    let Some(provider_id) = id(status, "/id") else {
        return Content::Unreadable("a status without `id`".to_owned());
    };
    let word = text(status, "/status");
    let reached = match word.as_str() {
        "accepted" => MessageStatus::Queued,
        "sent" => MessageStatus::Sent,
        "delivered" => MessageStatus::Delivered,
        "read" | "played" => MessageStatus::Read,
        "failed" => MessageStatus::Failed,
        _ => return Content::Unsupported("status".to_owned()),
    };
    let error = status.pointer("/errors/0").unwrap_or(&Value::Null);
    let failure_message = ["/error_data/details", "/message", "/title"]
        .map(|path| text(error, path))
        .into_iter()
        .find(|words| !words.is_empty())
        .map(|mut words| {
            cut(&mut words, MAX_NAME_BYTES);
            words
        });
    Content::Inbound(Inbound::Receipt(Receipt {
        provider_id,
        status: reached,
        at: seconds(status, "/timestamp"),
        failure_code: id(error, "/code"),
        failure_message,
    }))
}
