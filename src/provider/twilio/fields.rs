//! The fields of a webhook: a form, or a flat JSON object where that is configured.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::log::{RECOVERED, SENT};
use crate::provider::metadata::Metadata;
use crate::provider::signature::header;
use crate::provider::{form, lenient};

/// The fields of a webhook, by name; of one that comes twice, the first.
pub struct Fields(HashMap<String, String>);

impl Fields {
    /// Reads the fields.
    ///
    /// # Errors
    /// The body is neither a form nor a JSON object.
    pub fn read(content_type: &str, body: &[u8]) -> Result<Self, String> {
        let mut fields = HashMap::new();
        if header::is_type(Some(content_type), "application/json") {
            let object = lenient::json(body)?;
            let Value::Object(object) = object else {
                return Err("the body is no JSON object".to_owned());
            };
            for (name, value) in object {
                let value = match value {
                    Value::String(text) => text,
                    Value::Null => continue,
                    other => other.to_string(),
                };
                fields
                    .entry(name)
                    .or_insert(value.replace('\0', "\u{fffd}"));
            }
        } else {
            let pairs = form::pairs(body).ok_or("the body has too many fields")?;
            for (name, value) in pairs {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
                fields.entry(text(&name)).or_insert_with(|| text(&value));
            }
        }
        Ok(Self(fields))
    }

    /// A field; empty where it is missing.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A field that says something.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// A number that is finite.
    pub fn number(&self, name: &str) -> Option<f64> {
        let number: f64 = self.get(name).trim().parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// The fields that begin in some way and say something, in the order of their names.
    pub fn beginning(&self, prefix: &str) -> Vec<(&str, &str)> {
        let given = self.0.iter().filter(|(_, value)| !value.is_empty());
        let mut found: Vec<(&str, &str)> = given
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
            .collect();
        found.sort_unstable();
        found
    }
}

/// Marks what was not told of, and found in the log: the log lacks some of what is told.
pub fn recovered(fields: &Fields, metadata: &mut Metadata) {
    if fields.given(RECOVERED).is_some() {
        metadata.set("recovered", true);
    }
}

/// When it was, which the log alone says.
pub fn sent_at(fields: &Fields) -> Option<DateTime<Utc>> {
    fields.given(RECOVERED)?;
    let at = DateTime::parse_from_rfc3339(fields.get(SENT)).ok()?;
    lenient::not_ahead(at.to_utc())
}

/// A telephone number without what names the channel.
pub fn bare(address: &str) -> &str {
    address.strip_prefix("whatsapp:").unwrap_or(address)
}
