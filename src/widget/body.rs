//! Bodies of visitors' calls: one JSON object, whose fields are read by name.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::error::Error;
use crate::field::{Fields, Most};

/// The most bytes that one has.
const MOST_BYTES: usize = 64 * 1024;

/// What a visitor's browser has sent.
pub struct Object {
    values: Map<String, Value>,
    /// What is wrong with it so far.
    pub fields: Fields,
}

impl Object {
    /// Reads a body.
    ///
    /// # Errors
    /// It says that it is something else, is too large, or is no JSON object.
    pub async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Refusal> {
        // Also because a page can send any other type without asking the browser first.
        if essence(headers) != Some("application/json") {
            return Err(Refusal::ContentType);
        }
        let body = whole(headers, body).await?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(values)) => Ok(Self {
                values,
                fields: Fields::default(),
            }),
            _ => Err(Refusal::invalid(
                "",
                "the body must be one JSON object, of valid Unicode",
            )),
        }
    }

    /// The object inside of a field, if it is there.
    pub fn object(&mut self, field: &str) -> Option<Self> {
        match self.values.remove(field)? {
            Value::Null => None,
            Value::Object(values) => Some(Self {
                values,
                fields: Fields::default(),
            }),
            _ => {
                self.fields.refuse(field, "must be an object");
                None
            }
        }
    }

    /// Reads a text; empty where there is none.
    pub fn text(&mut self, field: &str, most: Most) -> String {
        match self.values.remove(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => self.fields.text(field, text, most),
            Some(_) => {
                self.fields.refuse(field, "must be a text");
                String::new()
            }
        }
    }

    /// Reads a text that must not be empty.
    pub fn required_text(&mut self, field: &str, most: Most) -> String {
        let text = self.text(field, most);
        if text.is_empty() && !self.fields.refuses() {
            self.fields.refuse(field, "is required");
        }
        text
    }

    /// Reads a number, if it is there.
    pub fn number(&mut self, field: &str) -> Option<f64> {
        match self.values.remove(field)? {
            Value::Null => None,
            Value::Number(number) => number.as_f64(),
            _ => {
                self.fields.refuse(field, "must be a number");
                None
            }
        }
    }

    /// Reads a whole number that is not negative.
    pub fn required_count(&mut self, field: &str) -> i64 {
        let number = self.values.remove(field);
        let number = number.as_ref().and_then(Value::as_i64);
        let number = number.filter(|number| *number >= 0);
        if number.is_none() {
            self.fields
                .refuse(field, "must be a whole number, 0 or more");
        }
        number.unwrap_or_default()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Something was wrong.
    pub fn finish(self) -> Result<(), Error> {
        self.fields.finish()
    }
}

/// The content type of a request, without parameters; `None` where there is none or two.
fn essence(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let (only, None) = (all.next()?, all.next()) else {
        return None;
    };
    Some(only.to_str().ok()?.split(';').next()?.trim())
}

/// The length that a request says beforehand.
pub fn said_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn whole(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    // Said beforehand, it need not be sent to be refused.
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    if said_length(headers).is_some_and(|length| length > most) {
        return Err(Refusal::TooLarge);
    }
    let mut whole = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        // Who does not send to the end hears no answer.
        let piece = piece.map_err(|_| Refusal::Unavailable)?;
        if whole.len() + piece.len() > MOST_BYTES {
            return Err(Refusal::TooLarge);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
