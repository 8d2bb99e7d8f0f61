//! Writes messages as JSON: the proto's own names of fields, the words for enum values, and every
//! field that cannot be absent.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, SerializeOptions, Value};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

use super::short_name::short_name;

/// The largest whole number up to which a fraction has all whole numbers.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A message, to be written.
pub struct Written<'a>(pub &'a DynamicMessage);

struct Single<'a>(&'a Value, &'a Kind);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.0.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Struct" | "google.protobuf.ListValue" => {
                match self.0.fields().next() {
                    Some((field, value)) => Field(value, &field.kind()).serialize(serializer),
                    None if descriptor.name() == "Struct" => {
                        serializer.serialize_map(Some(0))?.end()
                    }
                    None => serializer.serialize_seq(Some(0))?.end(),
                }
            }
            "google.protobuf.Value" => match self.0.fields().next() {
                Some((field, Value::F64(number))) if is_whole(*number) => {
                    let _ = field;
                    #[expect(clippy::cast_possible_truncation, reason = "a whole number")]
                    serializer.serialize_i64(*number as i64)
                }
                Some((_, Value::EnumNumber(_))) | None => serializer.serialize_unit(),
                Some((field, value)) => Single(value, &field.kind()).serialize(serializer),
            },
            name if name.starts_with("google.protobuf.") => {
                let options = SerializeOptions::new().use_proto_field_name(true);
                self.0.serialize_with_options(serializer, &options)
            }
            _ => {
                let mut map = serializer.serialize_map(None)?;
                for field in descriptor.fields() {
                    if self.0.has_field(&field) || !field.supports_presence() {
                        let value = self.0.get_field(&field);
                        map.serialize_entry(field.name(), &Field(&value, &field.kind()))?;
                    }
                }
                map.end()
            }
        }
    }
}

/// What a field holds: one value or several.
struct Field<'a>(&'a Value, &'a Kind);

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Single(value, self.1))?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                let kind = self
                    .1
                    .as_message()
                    .map(|entry| entry.map_entry_value_field().kind());
                for (key, value) in entries {
                    let kind = kind.as_ref().unwrap_or(self.1);
                    map.serialize_entry(&key_text(key), &Single(value, kind))?;
                }
                map.end()
            }
            value => Single(value, self.1).serialize(serializer),
        }
    }
}

impl Serialize for Single<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(number) => serializer.serialize_i32(*number),
            Value::U32(number) => serializer.serialize_u32(*number),
            Value::I64(number) => serializer.collect_str(number),
            Value::U64(number) => serializer.collect_str(number),
            Value::F32(number) => fraction(f64::from(*number), serializer, |serializer| {
                serializer.serialize_f32(*number)
            }),
            Value::F64(number) => fraction(*number, serializer, |serializer| {
                serializer.serialize_f64(*number)
            }),
            Value::String(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.collect_str(&Base64Display::new(bytes, &STANDARD)),
            Value::EnumNumber(number) => {
                let value = self
                    .1
                    .as_enum()
                    .and_then(|values| values.get_value(*number));
                match value {
                    Some(value) => serializer.serialize_str(&short_name(&value)),
                    // A newer server's; the number is what is known of it.
                    None => serializer.serialize_i32(*number),
                }
            }
            Value::Message(message) => Written(message).serialize(serializer),
            Value::List(_) | Value::Map(_) => Field(self.0, self.1).serialize(serializer),
        }
    }
}

/// JSON has no word for what is no number.
fn fraction<S: Serializer>(
    number: f64,
    serializer: S,
    finite: impl FnOnce(S) -> Result<S::Ok, S::Error>,
) -> Result<S::Ok, S::Error> {
    if number.is_nan() {
        serializer.serialize_str("NaN")
    } else if number == f64::INFINITY {
        serializer.serialize_str("Infinity")
    } else if number == f64::NEG_INFINITY {
        serializer.serialize_str("-Infinity")
    } else {
        finite(serializer)
    }
}

/// Tells whether a number of free data came, as far as can be told, without a fraction.
fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < WHOLE
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
