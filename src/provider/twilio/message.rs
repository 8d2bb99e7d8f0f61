//! What the webhooks of WhatsApp messages say, in our neutral terms.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::fields::{Fields, bare, recovered, sent_at};
use crate::inbox::{
    Amendment, AmendmentKind, Direction, FileSource, Inbound, InboundFile, InboundMessage,
    Location, MessageStatus, MessageType, Person, Receipt, Thread,
};
use crate::provider::lenient::{self, cut};
use crate::provider::metadata::Metadata;
use crate::provider::phone::with_other_forms;
use crate::provider::words::said;
use crate::provider::{MAX_EMOJI_BYTES, MAX_NAME_BYTES};
use crate::webhook::{Content, Item, Verified};

/// The most files of a message.
const MOST_FILES: usize = 10;

/// Reads the item of a webhook. Twilio tells no times: the order of reactions is that in which they
/// came.
///
/// # Errors
/// The body is no form.
pub fn items(
    content_type: &str,
    body: &Verified<bytes::Bytes>,
    received_at: DateTime<Utc>,
) -> Result<Vec<Item>, String> {
    let fields = Fields::read(content_type, body)?;
    let is_status = fields
        .given("MessageStatus")
        .is_some_and(|status| status != "received");
    let ours = bare(fields.get(if is_status { "From" } else { "To" }));
    let content = if is_status {
        receipt(&fields)
    } else {
        message(&fields, received_at)
    };
    Ok(vec![Item {
        route_key: format!("{}/{ours}", fields.get("AccountSid")),
        content,
    }])
}

fn receipt(fields: &Fields) -> Content {
    let Some(provider_id) = sid(fields) else {
        return Content::Unreadable("a status without `MessageSid`".to_owned());
    };
    let status = match fields.get("MessageStatus") {
        "accepted" | "scheduled" | "queued" | "sending" => MessageStatus::Queued,
        "sent" => MessageStatus::Sent,
        "delivered" => MessageStatus::Delivered,
        "read" => MessageStatus::Read,
        "undelivered" | "failed" | "canceled" => MessageStatus::Failed,
        _ => return Content::Unsupported("status".to_owned()),
    };
    let failed = status == MessageStatus::Failed;
    let words = fields
        .given("ErrorMessage")
        .or(fields.given("ChannelStatusMessage"));
    let words = words.unwrap_or_else(|| fields.get("MessageStatus"));
    let mut words = words.to_owned();
    cut(&mut words, MAX_NAME_BYTES);
    Content::Inbound(Inbound::Receipt(Receipt {
        provider_id,
        status,
        at: None,
        failure_code: fields
            .given("ErrorCode")
            .filter(|_| failed)
            .map(ToOwned::to_owned),
        failure_message: failed.then_some(words),
    }))
}

fn sid(fields: &Fields) -> Option<String> {
    let names = ["MessageSid", "SmsSid", "SmsMessageSid"];
    let sid = names.into_iter().find_map(|name| fields.given(name))?;
    lenient::identifier(sid)
}

fn message(fields: &Fields, received_at: DateTime<Utc>) -> Content {
    let Some(provider_id) = sid(fields) else {
        return Content::Unreadable("a message without `MessageSid`".to_owned());
    };
    let identifiers = identifiers(fields);
    if identifiers.is_empty() {
        return Content::Unreadable("a message without a sender".to_owned());
    }
    let reply_to = fields
        .given("OriginalRepliedMessageSid")
        .and_then(lenient::identifier);
    let kind = fields.get("MessageType");
    if kind == "reaction" {
        let Some(target) = reply_to else {
            return Content::Unreadable("a reaction to no message".to_owned());
        };
        let mut emoji = fields.get("Body").to_owned();
        cut(&mut emoji, MAX_EMOJI_BYTES);
        return Content::Inbound(Inbound::Amendment(Amendment {
            provider_id: target,
            kind: AmendmentKind::Reaction,
            occurrence: provider_id,
            place: received_at.timestamp_millis(),
            text: emoji,
            identifiers,
        }));
    }
    let location = location(fields);
    let mut files = files(fields);
    let message_type = type_of(kind, location.is_some(), &files);
    let mut metadata = Metadata::default();
    let words = ["Body", "ButtonText", "ListTitle"]
        .into_iter()
        .find_map(|name| fields.given(name))
        .unwrap_or_default()
        .to_owned();
    let words = said(words, message_type, &mut metadata, &mut files);
    if !kind.is_empty() && kind != message_type.as_str() {
        metadata.set("raw_kind", kind);
    }
    let object = |fields: Vec<(&str, &str)>| {
        let named = fields.into_iter();
        let named = named.map(|(name, value)| (name.to_owned(), Value::from(value)));
        Value::Object(named.collect::<Map<_, _>>())
    };
    if fields
        .given("ReferralSourceId")
        .or(fields.given("ReferralSourceUrl"))
        .is_some()
    {
        metadata.keep("referral", Some(&object(fields.beginning("Referral"))));
    }
    for (key, name) in [
        ("button_payload", "ButtonPayload"),
        ("list_id", "ListId"),
        ("forwarded", "Forwarded"),
        ("frequently_forwarded", "FrequentlyForwarded"),
        ("channel_metadata", "ChannelMetadata"),
    ] {
        metadata.keep_text(key, fields.get(name));
    }
    recovered(fields, &mut metadata);
    let mut name = fields.get("ProfileName").to_owned();
    cut(&mut name, MAX_NAME_BYTES);
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id,
        direction: Direction::Inbound,
        message_type,
        text: words,
        location,
        person: Person { identifiers, name },
        reply_to,
        at: sent_at(fields),
        metadata: metadata.finish(),
        files,
        thread: Thread::default(),
        automatic: false,
    })))
}

/// The number that WhatsApp knows, or else what Twilio has in its place, the id for the business,
/// and how people dial the number.
fn identifiers(fields: &Fields) -> Vec<String> {
    let number = fields
        .given("WaId")
        .map(|digits| format!("+{}", digits.trim_start_matches('+')));
    let sender = || fields.given("From").map(|sender| bare(sender).to_owned());
    let external = fields.given("ExternalUserId").map(|id| bare(id).to_owned());
    let mut identifiers = Vec::new();
    for identifier in number.or_else(sender).into_iter().chain(external) {
        if let Some(identifier) = lenient::identifier(&identifier)
            && !identifiers.contains(&identifier)
        {
            identifiers.push(identifier);
        }
    }
    with_other_forms(identifiers)
}

fn location(fields: &Fields) -> Option<Location> {
    let latitude = fields
        .number("Latitude")
        .filter(|degrees| degrees.abs() <= 90.0)?;
    let longitude = fields
        .number("Longitude")
        .filter(|degrees| degrees.abs() <= 180.0)?;
    let text = |name: &str| {
        let mut text = fields.get(name).to_owned();
        cut(&mut text, MAX_NAME_BYTES);
        text
    };
    Some(Location {
        latitude,
        longitude,
        name: text("Label"),
        address: text("Address"),
    })
}

fn files(fields: &Fields) -> Vec<InboundFile> {
    let is_document = fields.get("MessageType") == "document";
    (0..MOST_FILES)
        .map_while(|number| {
            let url = fields.given(&format!("MediaUrl{number}"))?;
            Some(InboundFile {
                // Of a document, the body is its name.
                name: if is_document {
                    fields.get("Body").to_owned()
                } else {
                    String::new()
                },
                content_type: fields.get(&format!("MediaContentType{number}")).to_owned(),
                content_id: None,
                source: FileSource::Url(url.to_owned()),
            })
        })
        .collect()
}

fn type_of(kind: &str, has_location: bool, files: &[InboundFile]) -> MessageType {
    let media = files
        .first()
        .map(|file| file.content_type.split('/').next().unwrap_or(""));
    match (kind, media) {
        ("image" | "sticker", Some(_)) | ("" | "unknown", Some("image")) => MessageType::Image,
        ("audio", Some(_)) | ("" | "unknown", Some("audio")) => MessageType::Audio,
        ("video", Some(_)) | ("" | "unknown", Some("video")) => MessageType::Video,
        (_, Some(_)) => MessageType::Document,
        _ if has_location => MessageType::Location,
        _ => MessageType::Text,
    }
}
