//! One message as `messages.get` with `format=raw` gives it: a mail, and what Gmail says of it.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::answer::is_id;
use super::label::Labels;
use crate::inbox::Direction;
use crate::provider::email::transfer;
use crate::provider::lenient;

/// The most that a mail may have, in bytes.
pub const MAX_MIME_BYTES: usize = 50 * 1024 * 1024;
/// The most that an answer may have, in bytes: the mail in Base64, which takes four for three, and
/// what is said of it.
pub const MAX_BODY_BYTES: usize = MAX_MIME_BYTES / 3 * 4 + 1024 * 1024;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Gmail's id, which no other message of the mailbox has.
    pub id: String,
    /// Gmail's id of the thread within the mailbox.
    pub thread_id: String,
    /// What Gmail takes it for.
    pub labels: Labels,
    /// When Gmail got it.
    pub at: Option<DateTime<Utc>>,
    /// The mail as it travelled.
    pub mime: Vec<u8>,
}

impl Message {
    /// Which way it goes: outbound if the owner of the mailbox sent it.
    pub fn direction(&self) -> Direction {
        self.labels.direction()
    }
}

/// What is read of an answer. All else is passed over without being kept.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    id: Option<String>,
    thread_id: Option<String>,
    label_ids: Option<Labels>,
    internal_date: Option<Milliseconds>,
    #[serde(borrow, default)]
    raw: Cow<'a, str>,
}

/// Reads a message.
///
/// # Errors
/// The answer is no message, without the mail itself, or too long; the words quote nothing of it.
pub fn read(body: &[u8]) -> Result<Message, String> {
    if body.len() > MAX_BODY_BYTES {
        return Err(too_long());
    }
    // What the reader says of an error may quote a mail.
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("the answer is no message, at line {line} column {column}")
    })?;
    let id = answer.id.filter(|id| is_id(id));
    let id = id.ok_or("a message without `id`")?;
    let digits = answer.raw.trim_end_matches('=');
    if digits.len() / 4 * 3 > MAX_MIME_BYTES {
        return Err(too_long());
    }
    let mime = transfer::base64(digits.as_bytes());
    if mime.is_empty() {
        return Err("a message without `raw`".to_owned());
    }
    let at = answer.internal_date.and_then(|at| at.0);
    let at = at.and_then(DateTime::from_timestamp_millis);
    Ok(Message {
        // A thread is called as its first message is.
        thread_id: answer
            .thread_id
            .filter(|id| is_id(id))
            .unwrap_or_else(|| id.clone()),
        id,
        labels: answer.label_ids.unwrap_or_default(),
        at: at.and_then(lenient::not_ahead),
        mime,
    })
}

fn too_long() -> String {
    format!("the mail has more than {MAX_MIME_BYTES} bytes")
}

/// A time in milliseconds since 1970, as text or number; `None` if it is neither.
struct Milliseconds(Option<i64>);

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber)
    }
}

struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = Milliseconds;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a time in milliseconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Milliseconds, E> {
        Ok(Milliseconds(text.trim().parse().ok()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Milliseconds, E> {
        Ok(Milliseconds(Some(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Milliseconds, E> {
        Ok(Milliseconds(i64::try_from(number).ok()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Milliseconds, E> {
        Ok(Milliseconds(None))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Milliseconds, E> {
        Ok(Milliseconds(None))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    const FULL: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/05_message_full.json"
    ));
    const RAW: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/06_message_raw.json"
    ));

    fn read_value(value: &Value) -> Result<Message, String> {
        read(value.to_string().as_bytes())
    }

    #[test]
    fn the_samples_are_read() {
        let message = read(RAW).unwrap();
        assert_eq!(message.id, "18e3a0000000001a");
        assert_eq!(message.thread_id, "18e3a0000000001a");
        assert_eq!(message.labels.names(), ["INBOX"]);
        assert_eq!(message.direction(), Direction::Inbound);
        assert_eq!(message.at.unwrap().timestamp_millis(), 1_773_480_000_000);
        let mime = String::from_utf8(message.mime).unwrap();
        assert!(mime.starts_with("Return-Path: <dana@customer.example>\r\n"));
        assert!(mime.ends_with("Dana\r\n"));
        assert_eq!(read(FULL).unwrap_err(), "a message without `raw`");
    }

    #[test]
    fn the_mail_is_base64_of_any_flavour() {
        let mail = "Subject: ??>>~~\r\n\r\nÿÿ\0é?";
        for raw in [
            BASE64_URL_SAFE.encode(mail),
            BASE64_URL_SAFE_NO_PAD.encode(mail),
            BASE64_STANDARD.encode(mail),
        ] {
            let escaped = raw.replace('=', "\\u003d");
            let body = format!(r#"{{"id":"a","raw":"{escaped}"}}"#);
            assert_eq!(read(body.as_bytes()).unwrap().mime, mail.as_bytes());
        }
    }

    #[test]
    fn what_is_missing_is_left_out() {
        let bare = read_value(&json!({"id": "a", "raw": "YQ"})).unwrap();
        let expected = Message {
            id: "a".to_owned(),
            thread_id: "a".to_owned(),
            labels: Labels::default(),
            at: None,
            mime: b"a".to_vec(),
        };
        assert_eq!(bare, expected);
        let nulls = json!({"id": "a", "threadId": null, "labelIds": null, "internalDate": null,
                           "raw": "YQ", "more": [[[{}]]]});
        assert_eq!(read_value(&nulls).unwrap(), expected);
        // Half a pair in what is passed over, which cuts words anywhere.
        let body = b"{\"snippet\":\"\\ud83d\xff\",\"id\":\"a\",\"raw\":\"YQ\"}";
        assert_eq!(read(body).unwrap(), expected);
        let elsewhere = json!({"id": "a", "threadId": "a/../b", "raw": "YQ"});
        assert_eq!(read_value(&elsewhere).unwrap(), expected);
    }

    #[test]
    fn the_time_is_in_milliseconds() {
        let at = |time: Value| {
            let message = json!({"id": "a", "raw": "YQ", "internalDate": time});
            let at = read_value(&message).unwrap().at;
            at.map(|at| at.timestamp_millis())
        };
        assert_eq!(at(json!("1700000000123")), Some(1_700_000_000_123));
        assert_eq!(at(json!(1_700_000_000_123_u64)), Some(1_700_000_000_123));
        for none in [
            json!("86400000"),
            json!(""),
            json!("x"),
            json!(-1),
            json!(1.5),
            json!(true),
            json!(i64::MAX),
            json!(u64::MAX),
            json!("99999999999999"),
        ] {
            assert_eq!(at(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn labels_tell_the_direction() {
        let labelled = |labels: Value| {
            read_value(&json!({"id": "a", "raw": "YQ", "labelIds": labels})).unwrap()
        };
        assert_eq!(labelled(json!(["SENT"])).direction(), Direction::Outbound);
        let own = labelled(json!(["INBOX", "SENT"]));
        assert_eq!(own.direction(), Direction::Outbound);
        assert!(labelled(json!(["DRAFT"])).labels.is_unwanted());
    }

    #[test]
    fn what_is_no_message_is_told_of_without_its_content() {
        for (body, why) in [
            (json!({}), "a message without `id`"),
            (json!({"id": "../x", "raw": "YQ"}), "a message without `id`"),
            (json!({"id": "a"}), "a message without `raw`"),
            (json!({"id": "a", "raw": "!"}), "a message without `raw`"),
        ] {
            assert_eq!(read_value(&body).unwrap_err(), why);
        }
        for body in [
            r#"{"id":"a","raw":["secret"]}"#,
            r#"{"id":"a","raw":"YQ","labelIds":"secret"}"#,
            r#"{"id":"a","raw":"YQ","labelIds":[["secret"]]}"#,
            r#"{"id":"a","raw":"YQ","internalDate":{"secret":1}}"#,
            r#"{"id":"a","id":"secret","raw":"YQ"}"#,
            r#"{"id":"a","raw":"secret"#,
            "secret",
            "",
        ] {
            let why = read(body.as_bytes()).unwrap_err();
            assert!(why.starts_with("the answer is no message"), "{why}");
            assert!(!why.contains("secret"), "{why}");
        }
        let deep = format!(r#"{{"id":"a","raw":"YQ","x":{}"#, "[".repeat(100_000));
        assert!(read(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_mail_has_an_end() {
        let raw = |bytes: usize| {
            let digits = "QUFB".repeat(bytes.div_ceil(3));
            format!(r#"{{"id":"a","raw":"{digits}"}}"#)
        };
        let why = read(raw(MAX_MIME_BYTES + 3).as_bytes()).unwrap_err();
        assert_eq!(why, "the mail has more than 52428800 bytes");
        let why = read(raw(MAX_MIME_BYTES * 2).as_bytes()).unwrap_err();
        assert_eq!(why, "the mail has more than 52428800 bytes");
    }
}
