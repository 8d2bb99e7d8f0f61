//! What a provider tells of a message beyond our own fields, within the limits of metadata.

use serde_json::{Map, Value, json};

use super::lenient::{depth, without_nul};
use crate::field::{MAX_METADATA_BYTES, MAX_METADATA_DEPTH};

/// The most of one raw object that is kept.
const MAX_RAW_BYTES: usize = 16 * 1024;

/// Metadata in the making.
#[derive(Debug, Default)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Adds a value of our own.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Adds an object of the provider's, if it is there; one that is too large is told of by a
    /// mark. Returns whether nothing of it is lost.
    pub fn keep(&mut self, key: &str, value: Option<&Value>) -> bool {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return true;
        };
        let fits = value.to_string().len() <= MAX_RAW_BYTES;
        if fits {
            self.0.insert(key.to_owned(), without_nul(value.clone()));
        } else {
            self.0.insert(format!("{key}_cut"), Value::Bool(true));
        }
        fits
    }

    /// Adds a text of the provider's, if it is not empty. Returns whether nothing of it is lost.
    pub fn keep_text(&mut self, key: &str, text: &str) -> bool {
        text.is_empty() || self.keep(key, Some(&Value::from(text)))
    }

    /// The metadata; of what is too much or too deep as a whole only a mark is left.
    pub fn finish(self) -> Value {
        let metadata = Value::Object(self.0);
        let is_too_deep = depth(&metadata) > MAX_METADATA_DEPTH;
        if is_too_deep || metadata.to_string().len() > MAX_METADATA_BYTES {
            return json!({"metadata_cut": true});
        }
        metadata
    }
}
