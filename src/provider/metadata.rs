//! What a provider tells of a message beyond our own fields, within the limits of metadata.

use serde_json::{Map, Value, json};

use super::lenient::{depth, without_nul};
use crate::field::{MAX_METADATA_BYTES, MAX_METADATA_DEPTH};

/// The most of one raw object that is kept.
const MAX_RAW_BYTES: usize = 16 * 1024;
/// What is left of the metadata for values of our own.
const OWN_BYTES: usize = 4 * 1024;

/// Metadata in the making.
#[derive(Debug, Default)]
pub struct Metadata {
    members: Map<String, Value>,
    /// How much of it is the provider's.
    raw_bytes: usize,
}

impl Metadata {
    /// Adds a value of our own.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.members.insert(key.to_owned(), value.into());
    }

    /// Adds an object of the provider's, if it is there; one that is too large, alone or beside the
    /// others, or too deep is told of by a mark. Returns whether nothing of it is lost.
    pub fn keep(&mut self, key: &str, value: Option<&Value>) -> bool {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return true;
        };
        let bytes = value.to_string().len();
        let fits = bytes <= MAX_RAW_BYTES
            && self.raw_bytes + bytes <= MAX_METADATA_BYTES - OWN_BYTES
            && depth(value) < MAX_METADATA_DEPTH;
        if fits {
            self.raw_bytes += bytes;
            self.set(key, without_nul(value.clone()));
        } else {
            self.set(&format!("{key}_cut"), true);
        }
        fits
    }

    /// Adds a text of the provider's, if it is not empty. Returns whether nothing of it is lost.
    pub fn keep_text(&mut self, key: &str, text: &str) -> bool {
        text.is_empty() || self.keep(key, Some(&Value::from(text)))
    }

    /// The metadata; of what is too much or too deep as a whole only a mark is left.
    pub fn finish(self) -> Value {
        let metadata = Value::Object(self.members);
        let is_too_deep = depth(&metadata) > MAX_METADATA_DEPTH;
        if is_too_deep || metadata.to_string().len() > MAX_METADATA_BYTES {
            return json!({"metadata_cut": true});
        }
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_beside_the_others_is_told_of_and_costs_none_of_them() {
        let mut metadata = Metadata::default();
        let text = "x".repeat(MAX_RAW_BYTES - 10);
        assert!(metadata.keep_text("html", &text));
        metadata.set("spam", true);
        assert!(!metadata.keep_text("full_text", &text));
        assert!(metadata.keep_text("cc", "dana@customer.example"));
        let deep = (0..MAX_METADATA_DEPTH).fold(json!(1), |inner, _| json!([inner]));
        assert!(!metadata.keep("raw", Some(&deep)));
        assert!(!metadata.keep_text("large", &text.repeat(2)));
        let kept = metadata.finish();
        let expected = json!({"html": text, "spam": true, "cc": "dana@customer.example",
            "full_text_cut": true, "raw_cut": true, "large_cut": true});
        assert_eq!(kept, expected);
    }
}
