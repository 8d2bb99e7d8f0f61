//! Reads the answers of Google's interfaces, all of which are objects.

use serde_json::Value;

use crate::provider::lenient;

/// The most that an answer may have, in bytes, but for one that holds a mail: a page of 500 records
/// has some 200 KiB.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Gmail's ids have 16 digits.
const MAX_ID_BYTES: usize = 128;

/// Reads an answer.
pub(super) fn object(body: &[u8]) -> Result<Value, String> {
    if body.len() > MAX_ANSWER_BYTES {
        return Err(format!("the answer has more than {MAX_ANSWER_BYTES} bytes"));
    }
    let answer = lenient::json(body)?;
    if !answer.is_object() {
        return Err("the answer is no object".to_owned());
    }
    Ok(answer)
}

/// Reads a number, which may be a text.
pub(super) fn number(value: &Value, path: &str) -> Option<u64> {
    match value.pointer(path)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

/// Reads the id of a message or of a thread.
pub(super) fn id(value: &Value, path: &str) -> Option<String> {
    lenient::id(value, path).filter(|id| is_id(id))
}

/// Tells whether a text can be an id: it becomes a part of addresses, and leads nowhere else there.
pub(super) fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_an_object() {
        assert_eq!(object(b"{}"), Ok(json!({})));
        assert_eq!(object(b"[]").unwrap_err(), "the answer is no object");
        assert!(object(b"<html>").is_err());
        let deep = format!(r#"{{"a":{}"#, "[".repeat(40_000));
        assert!(object(deep.as_bytes()).is_err());
        let long = [b"{}".as_slice(), &vec![b' '; MAX_ANSWER_BYTES]].concat();
        assert!(object(&long).is_err());
    }

    #[test]
    fn a_number_may_be_a_text() {
        let value = json!({"a": 9_876_543_210_u64, "b": "18446744073709551615", "c": -1, "d": 1.5,
                           "e": "1e3", "f": "", "g": "18446744073709551616"});
        assert_eq!(number(&value, "/a"), Some(9_876_543_210));
        assert_eq!(number(&value, "/b"), Some(u64::MAX));
        for path in ["/c", "/d", "/e", "/f", "/g", "/h"] {
            assert_eq!(number(&value, path), None, "{path}");
        }
    }

    #[test]
    fn an_id_leads_nowhere_else() {
        let value = json!({"a": "18e3a0000000001a", "b": 17, "c": "a/../b", "d": "", "e": "a?b",
                           "f": "x".repeat(129), "g": "x".repeat(600)});
        assert_eq!(id(&value, "/a").as_deref(), Some("18e3a0000000001a"));
        assert_eq!(id(&value, "/b").as_deref(), Some("17"));
        for path in ["/c", "/d", "/e", "/f", "/g", "/h"] {
            assert_eq!(id(&value, path), None, "{path}");
        }
    }
}
