//! What the webhooks of calls say, in our neutral terms: a call is a message, and what happens to it
//! amends that.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::fields::{Fields, bare, recovered, sent_at};
use crate::inbox::{
    Amendment, AmendmentKind, Direction, Inbound, InboundMessage, MessageType, Person, Thread,
};
use crate::provider::MAX_NAME_BYTES;
use crate::provider::lenient::{self, cut};
use crate::provider::metadata::Metadata;
use crate::provider::words::MAX_TEXT_BYTES;
use crate::webhook::{Content, Item, Verified};

/// What a caller is known by who hides the number.
const ANONYMOUS: &str = "anonymous";

/// Reads the items of a webhook: the call, where it tells whose it is, and what happened to it.
///
/// # Errors
/// The body is no form, or names no call.
pub fn items(
    content_type: &str,
    body: &Verified<bytes::Bytes>,
    received_at: DateTime<Utc>,
) -> Result<Vec<Item>, String> {
    let fields = Fields::read(content_type, body)?;
    let sid = fields.given("CallSid").and_then(lenient::identifier);
    let sid = sid.ok_or("a webhook without `CallSid`")?;
    // What a leg to somebody else tells is of the call that it was made for.
    let parent = fields.given("ParentCallSid").and_then(lenient::identifier);
    let is_inbound = fields.get("Direction") == "inbound";
    let is_leg = parent.is_some();
    let sid = parent.unwrap_or(sid);
    let (ours, other) = if is_inbound {
        (fields.get("To"), fields.get("From"))
    } else {
        (fields.get("From"), fields.get("To"))
    };
    let says_whose = !fields.get("Direction").is_empty() && !is_leg;
    let route_key = if says_whose {
        format!("{}/{}", fields.get("AccountSid"), bare(ours))
    } else {
        String::new()
    };
    let mut items = Vec::new();
    let mut add = |content| {
        items.push(Item {
            route_key: route_key.clone(),
            content,
        });
    };
    let person = if other.is_empty() {
        ANONYMOUS
    } else {
        bare(other)
    };
    if says_whose {
        add(call(&fields, sid.clone(), is_inbound, person));
    }
    let changes = changes(&fields, is_leg);
    if !changes.is_empty() {
        add(amendment(&fields, sid, person, changes, received_at));
    }
    Ok(items)
}

fn call(fields: &Fields, provider_id: String, is_inbound: bool, person: &str) -> Content {
    let mut metadata = Metadata::default();
    metadata.set("raw_kind", "call");
    if !is_inbound {
        metadata.set("source", "external");
    }
    recovered(fields, &mut metadata);
    let mut name = fields.get("CallerName").to_owned();
    cut(&mut name, MAX_NAME_BYTES);
    let direction = if is_inbound {
        Direction::Inbound
    } else {
        Direction::Outbound
    };
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id,
        direction,
        message_type: MessageType::Text,
        text: if is_inbound {
            "Incoming call"
        } else {
            "Outgoing call"
        }
        .to_owned(),
        location: None,
        person: Person {
            identifiers: lenient::identifier(person).into_iter().collect(),
            name,
        },
        reply_to: None,
        at: sent_at(fields),
        metadata: metadata.finish(),
        files: Vec::new(),
        thread: Thread::default(),
        automatic: false,
    })))
}

/// What a webhook tells of the call, under the names that the message's metadata has.
fn changes(fields: &Fields, is_leg: bool) -> Map<String, Value> {
    let mut changes = Map::new();
    let text = |name: &str| {
        let mut text = fields.given(name)?.to_owned();
        cut(&mut text, MAX_TEXT_BYTES / 4);
        Some(Value::from(text))
    };
    let whole = |name: &str| fields.get(name).trim().parse::<u64>().ok().map(Value::from);
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            changes.insert(key.to_owned(), value);
        }
    };
    if !is_leg {
        set("status", text("CallStatus"));
        set("duration_seconds", whole("CallDuration"));
        set("sip_code", whole("SipResponseCode"));
        set("forwarded_from", text("ForwardedFrom"));
    }
    set("answered_by", text("AnsweredBy"));
    set("dial_status", text("DialCallStatus"));
    set("dial_duration_seconds", whole("DialCallDuration"));
    set("digits", text("Digits").map(|digits| json!([digits])));
    let speech = text("SpeechResult");
    set(
        "speech",
        speech.map(|said| json!([{"text": said, "confidence": fields.number("Confidence")}])),
    );
    if let Some(sid) = text("RecordingSid") {
        let mut recording = Map::new();
        recording.insert("sid".to_owned(), sid);
        for (key, value) in [
            ("url", text("RecordingUrl")),
            ("status", text("RecordingStatus")),
            ("duration_seconds", whole("RecordingDuration")),
            ("transcript", text("TranscriptionText")),
        ] {
            if let Some(value) = value {
                recording.insert(key.to_owned(), value);
            }
        }
        set("recordings", Some(json!([recording])));
    }
    changes
}

fn amendment(
    fields: &Fields,
    provider_id: String,
    person: &str,
    changes: Map<String, Value>,
    received_at: DateTime<Utc>,
) -> Content {
    let sequence = fields.get("SequenceNumber").trim().parse::<u32>().ok();
    let parts = [
        "CallStatus",
        "DialCallSid",
        "RecordingSid",
        "RecordingStatus",
        "TranscriptionSid",
        "AnsweredBy",
        "CallSid",
    ];
    let mut occurrence: Vec<&str> = parts.map(|name| fields.get(name)).to_vec();
    let sequence_text = sequence.map_or(String::new(), |number| number.to_string());
    occurrence.push(&sequence_text);
    // Keys can be pressed again: each time is told when it was.
    let pressed = fields.given("Digits").or(fields.given("SpeechResult"));
    let time = fields.get("Timestamp");
    let pressed = pressed.map_or(String::new(), |said| format!("{said}/{time}"));
    occurrence.push(&pressed);
    let occurrence = lenient::identifier(&occurrence.join("/")).unwrap_or_default();
    Content::Inbound(Inbound::Amendment(Amendment {
        provider_id,
        kind: AmendmentKind::Call,
        occurrence,
        place: sequence.map_or_else(|| received_at.timestamp_millis(), i64::from),
        text: Value::Object(changes).to_string(),
        identifiers: lenient::identifier(person).into_iter().collect(),
    }))
}
