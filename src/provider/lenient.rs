//! Reads what providers send as leniently as it can be read: a customer's message is not refused
//! for one odd byte.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::clock;
use crate::hex;

/// The longest identifier that is kept as it is, in bytes.
const MAX_ID_BYTES: usize = 512;
/// How far a provider's clock may be ahead of ours, in seconds.
const AHEAD: u64 = 24 * 3600;

/// Reads a JSON document, with halves of surrogate pairs replaced by U+FFFD. What is said to be
/// `null` is left out.
///
/// # Errors
/// The body is none; the words quote nothing of it.
pub fn json(body: &[u8]) -> Result<Value, String> {
    let read: Result<Value, _> =
        serde_json::from_slice(body).or_else(|error| match without_lone_surrogates(body) {
            Cow::Borrowed(_) => Err(error),
            Cow::Owned(body) => serde_json::from_slice(&body),
        });
    let mut document = read.map_err(|error| format!("the body is no JSON: {error}"))?;
    leave_null_out(&mut document);
    Ok(document)
}

/// Leaves out the members of objects that are `null`: to a provider they are not there.
fn leave_null_out(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(leave_null_out),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(leave_null_out);
        }
        _ => {}
    }
}

/// Replaces escapes such as `\ud83d` that stand alone, which strict readers refuse.
fn without_lone_surrogates(body: &[u8]) -> Cow<'_, [u8]> {
    let mut fixed: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < body.len() {
        if body.get(at) != Some(&b'\\') {
            at += 1;
            continue;
        }
        match escaped_unit(body, at) {
            Some(0xd800..=0xdbff)
                if matches!(escaped_unit(body, at + 6), Some(0xdc00..=0xdfff)) =>
            {
                at += 12;
            }
            Some(0xd800..=0xdfff) => {
                let fixed = fixed.get_or_insert_with(|| body.to_vec());
                if let Some(escape) = fixed.get_mut(at + 2..at + 6) {
                    escape.copy_from_slice(b"fffd");
                }
                at += 6;
            }
            Some(_) => at += 6,
            None => at += 2,
        }
    }
    fixed.map_or(Cow::Borrowed(body), Cow::Owned)
}

/// Reads the code unit of an escape: `\u` and four digits.
fn escaped_unit(body: &[u8], at: usize) -> Option<u32> {
    let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// What is at a path of names and places, as in `/a/0/b`. A name has no slash: a JSON pointer, which
/// may have one, copies each name twice to look for it, and this is done some hundred times for each
/// message.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/')
        .skip(1)
        .try_fold(value, |value, name| match value {
            Value::Object(members) => members.get(name),
            Value::Array(values) => values.get(name.parse::<usize>().ok()?),
            _ => None,
        })
}

/// Reads a text at a path; missing or something else is empty. NUL, which the database refuses,
/// becomes U+FFFD.
pub fn text(value: &Value, path: &str) -> String {
    match at(value, path) {
        Some(Value::String(text)) => plain(text),
        _ => String::new(),
    }
}

/// A text without NUL.
fn plain(text: &str) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text.to_owned()
    }
}

/// Reads an identifier, which may be a number; `None` where there is none. One that no index could
/// hold is told by its hash.
pub fn id(value: &Value, path: &str) -> Option<String> {
    match at(value, path)? {
        Value::String(text) => identifier(text),
        Value::Number(number) => identifier(&number.to_string()),
        _ => None,
    }
}

/// An identifier that is not empty, without NUL; one that no index could hold is told by its hash.
pub fn identifier(id: &str) -> Option<String> {
    let id = plain(id);
    if id.len() > MAX_ID_BYTES {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
        return Some(format!("sha256:{}", hex::digits(digest.as_ref())));
    }
    (!id.is_empty()).then_some(id)
}

/// The beginning of the year 2000, in milliseconds since 1970: no message is older.
const EARLIEST: u64 = 946_684_800_000;
/// From which number on a time is in milliseconds: as seconds it would be in the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// Reads a time in seconds since 1970, as number or text. One that has not come yet, or was before
/// there were messages, is none.
pub fn seconds(value: &Value, path: &str) -> Option<DateTime<Utc>> {
    past(whole(value, path)?.checked_mul(1000)?)
}

/// Reads a time in seconds or milliseconds since 1970, whichever it must be, as number or text.
/// One that has not come yet is none.
pub fn instant(value: &Value, path: &str) -> Option<DateTime<Utc>> {
    let number = whole(value, path)?;
    if number < MILLISECONDS_FROM {
        past(number.checked_mul(1000)?)
    } else {
        past(number)
    }
}

/// Reads a time as RFC 3339 writes it. One that has not come yet is none.
pub fn time(value: &Value, path: &str) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc3339(&text(value, path)).ok()?;
    not_ahead(at.to_utc())
}

/// Tells whether a flag is set; missing or something else is not.
pub fn flag(value: &Value, path: &str) -> bool {
    at(value, path).and_then(Value::as_bool) == Some(true)
}

/// Reads a whole number, as number or text; what follows a decimal point does not count.
fn whole(value: &Value, path: &str) -> Option<i64> {
    let whole = match at(value, path)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is below 2 to the 53rd, and cut off on purpose"
    )]
    whole.or_else(|| {
        let number = number(value, path)?;
        (number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
    })
}

/// A time that may have come, in milliseconds since 1970.
fn past(milliseconds: i64) -> Option<DateTime<Utc>> {
    let latest = (clock::since_epoch().as_secs() + AHEAD).saturating_mul(1000);
    let is_past = u64::try_from(milliseconds).is_ok_and(|at| (EARLIEST..=latest).contains(&at));
    is_past
        .then(|| DateTime::from_timestamp_millis(milliseconds))
        .flatten()
}

/// Lets through a time that may have come.
pub fn not_ahead(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    past(at.timestamp_millis())
}

/// Reads a number, as number or text.
pub fn number(value: &Value, path: &str) -> Option<f64> {
    match at(value, path)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// Reads a list; missing or something else is empty.
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Replaces every NUL in keys and texts.
pub fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(plain(&text)),
        Value::Array(values) => values.into_iter().map(without_nul).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (plain(&key), without_nul(value)))
            .collect(),
        value => value,
    }
}

/// How deep a value is nested: 0 for one that holds no others.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Cuts a text at a character so that it has at most so many bytes; tells whether it was longer.
pub fn cut(text: &mut String, most: usize) -> bool {
    if text.len() <= most {
        return false;
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn half_a_surrogate_pair_costs_one_character() {
        let read = |body: &str| json(body.as_bytes()).unwrap();
        assert_eq!(read(r#"{"a":"x\ud83dy"}"#), json!({"a": "x\u{fffd}y"}));
        assert_eq!(read(r#""\ude00""#), json!("\u{fffd}"));
        assert_eq!(read(r#""\ud83d\ud83d\ude00""#), json!("\u{fffd}\u{1f600}"));
        assert_eq!(read(r#""\\ud83d \ud83d""#), json!("\\ud83d \u{fffd}"));
        assert_eq!(read(r#""\ud83d\ude00""#), json!("\u{1f600}"));
        assert!(json(b"{").is_err());
        assert!(json(br#""\ud8"#).is_err());
        assert!(json("[".repeat(40_000).as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        let value = json!({"id": 17, "text": "a\0b", "at": "1773480000", "late": "9999999999"});
        assert_eq!(id(&value, "/id").as_deref(), Some("17"));
        assert_eq!(id(&value, "/none"), None);
        assert_eq!(text(&value, "/text"), "a\u{fffd}b");
        assert_eq!(text(&value, "/id"), "");
        assert_eq!(seconds(&value, "/at").unwrap().timestamp(), 1_773_480_000);
        assert_eq!(seconds(&value, "/late"), None);
        assert_eq!(
            without_nul(json!({"a\0": ["\0"]})),
            json!({"a\u{fffd}": ["\u{fffd}"]})
        );
        let long = json!({"id": "x".repeat(513)});
        assert!(id(&long, "/id").unwrap().starts_with("sha256:"));
    }

    #[test]
    fn depth_is_counted() {
        assert_eq!(depth(&json!(1)), 0);
        assert_eq!(depth(&json!([])), 1);
        assert_eq!(depth(&json!({"a": [1, {"b": 2}]})), 3);
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        let mut text = "aé".repeat(2);
        assert!(!cut(&mut text, 6));
        assert!(cut(&mut text, 5));
        assert_eq!(text, "aéa");
    }
}
