//! Reads JSON as a message, and names every field that is wrong.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE_NO_PAD};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use serde_json::{Map, Value as Json};

use super::binding;
use super::short_name::{short_name, value_of};
use crate::field::{Fields, MAX_METADATA_BYTES};

/// The spellings of bytes that are understood.
const BASE64: [GeneralPurpose; 2] = [STANDARD, URL_SAFE_NO_PAD];

/// What is said of a field that a message does not have.
pub fn unknown(descriptor: &MessageDescriptor) -> String {
    let names = descriptor
        .fields()
        .map(|field| format!("`{}`", field.name()));
    let names = names.collect::<Vec<_>>().join(", ");
    format!("is not known; there are {names}")
}

/// Reads an object. A field that is null is not set; one that is not known is refused.
pub fn message(
    descriptor: &MessageDescriptor,
    object: &Map<String, Json>,
    path: &str,
    fields: &mut Fields,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in object {
        let path = join(path, name);
        let Some(field) = binding::field(descriptor, name) else {
            fields.refuse(path, unknown(descriptor));
            continue;
        };
        // Refusals call a field by one name, however the request spelled it.
        let path = path[..path.len() - name.len()].to_owned() + field.name();
        if value.is_null() && !holds_null(&field) {
            continue;
        }
        if message.has_field(&field) {
            fields.refuse(path, "is there twice");
            continue;
        }
        if let Some(other) = rival(&message, &field) {
            fields.refuse(path, format!("cannot be there beside `{other}`"));
            continue;
        }
        if let Some(value) = of_field(&field, value, &path, fields) {
            message.set_field(&field, value);
        }
    }
    message
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Tells whether null is a value of the field.
fn holds_null(field: &FieldDescriptor) -> bool {
    let kind = field.kind();
    let message = kind.as_message();
    !field.is_list() && message.is_some_and(|it| it.full_name() == "google.protobuf.Value")
}

/// The field that is set already where only one of several can be.
fn rival(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let several = field.containing_oneof()?;
    let rival = several.fields().find(|other| message.has_field(other))?;
    Some(rival.name().to_owned())
}

fn of_field(
    field: &FieldDescriptor,
    value: &Json,
    path: &str,
    fields: &mut Fields,
) -> Option<Value> {
    let kind = field.kind();
    if field.is_map() {
        let Json::Object(entries) = value else {
            fields.refuse(path, "must be an object");
            return None;
        };
        let entry = kind.as_message()?;
        let (keys, values) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let read = entries.iter().filter_map(|(key, value)| {
            let path = join(path, key);
            let Some(key) = map_key(&keys.kind(), key) else {
                fields.refuse(path, "has a name that it cannot have");
                return None;
            };
            Some((key, single(&values.kind(), value, &path, fields)?))
        });
        return Some(Value::Map(read.collect()));
    }
    if field.is_list() {
        let Json::Array(values) = value else {
            fields.refuse(path, "must be a list");
            return None;
        };
        let read = values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| single(&kind, value, &format!("{path}[{index}]"), fields));
        return Some(Value::List(read.collect()));
    }
    single(&kind, value, path, fields)
}

fn map_key(kind: &Kind, text: &str) -> Option<MapKey> {
    Some(match kind {
        Kind::Bool => MapKey::Bool(text.parse().ok()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(text.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(text.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(text.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(text.parse().ok()?),
        Kind::String => MapKey::String(text.to_owned()),
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

fn single(kind: &Kind, value: &Json, path: &str, fields: &mut Fields) -> Option<Value> {
    let read = match kind {
        Kind::Message(descriptor) => return of_message(descriptor, value, path, fields),
        Kind::Enum(values) => return of_enum(values, value, path, fields),
        Kind::String => value.as_str().map(|text| Value::String(text.to_owned())),
        Kind::Bool => value.as_bool().map(Value::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(value).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(value).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => whole(value).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => whole(value).map(Value::U64),
        Kind::Double => fraction(value).map(Value::F64),
        Kind::Float => fraction(value).and_then(|number| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it is what the field can hold"
            )]
            let narrow = number as f32;
            (narrow.is_finite() || !number.is_finite()).then_some(Value::F32(narrow))
        }),
        Kind::Bytes => value.as_str().and_then(|text| {
            let bytes = BASE64
                .iter()
                .find_map(|spelling| spelling.decode(text).ok())?;
            Some(Value::Bytes(bytes.into()))
        }),
    };
    if read.is_none() {
        let wanted = match kind {
            Kind::String => "must be a text",
            Kind::Bool => "must be true or false",
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "must be a whole number of 32 bits",
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "must be a whole number of 64 bits",
            Kind::Uint32 | Kind::Fixed32 => "must be a whole number of 32 bits, not below 0",
            Kind::Uint64 | Kind::Fixed64 => "must be a whole number of 64 bits, not below 0",
            Kind::Double | Kind::Float => "must be a number",
            Kind::Bytes => "must be bytes in Base64",
            Kind::Message(_) | Kind::Enum(_) => "has another kind",
        };
        fields.refuse(path, wanted);
    }
    read
}

/// A whole number, also as a text, because JSON's own numbers end at 53 bits for some.
fn whole<T: TryFrom<i128>>(value: &Json) -> Option<T> {
    let number: i128 = match value {
        Json::String(text) => text.parse().ok()?,
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            #[expect(clippy::cast_possible_truncation, reason = "far within 2^127")]
            (_, _, Some(number)) if number.fract() == 0.0 && number.abs() < 1e20 => number as i128,
            _ => return None,
        },
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => return None,
    };
    T::try_from(number).ok()
}

fn fraction(value: &Json) -> Option<f64> {
    match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn of_enum(
    values: &EnumDescriptor,
    value: &Json,
    path: &str,
    fields: &mut Fields,
) -> Option<Value> {
    let number = match value {
        Json::String(word) => value_of(values, word).map(|value| value.number()),
        // What it stands for is for the call to say.
        Json::Number(_) => whole(value),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    };
    if number.is_none() {
        let words = values.values().filter(|value| value.number() != 0);
        let words: Vec<_> = words
            .map(|value| format!("`{}`", short_name(&value)))
            .collect();
        fields.refuse(path, format!("must be one of {}", words.join(", ")));
    }
    number.map(Value::EnumNumber)
}

fn of_message(
    descriptor: &MessageDescriptor,
    value: &Json,
    path: &str,
    fields: &mut Fields,
) -> Option<Value> {
    if descriptor.full_name() == "google.protobuf.FieldMask" {
        let Json::String(paths) = value else {
            fields.refuse(path, "must be names of fields, separated by commas");
            return None;
        };
        return Some(Value::Message(mask(descriptor, paths)?));
    }
    if descriptor.package_name() == "google.protobuf" {
        // Each value has a byte at least; read, it has hundreds.
        if count(value) > MAX_METADATA_BYTES {
            fields.refuse(
                path,
                format!("must have at most {MAX_METADATA_BYTES} bytes as JSON"),
            );
            return None;
        }
        let read = DynamicMessage::deserialize(descriptor.clone(), value);
        if read.is_err() {
            let wanted = match descriptor.name() {
                "Timestamp" => "must be a time such as `2026-01-31T12:00:00Z`",
                "Duration" => "must be a duration in seconds such as `3.5s`",
                "Struct" | "Empty" => "must be an object",
                "ListValue" => "must be a list",
                _ => "has a form that it cannot have",
            };
            fields.refuse(path, wanted);
        }
        return read.ok().map(Value::Message);
    }
    let Json::Object(object) = value else {
        fields.refuse(path, "must be an object");
        return None;
    };
    Some(Value::Message(message(descriptor, object, path, fields)))
}

/// How many values there are in free data.
fn count(value: &Json) -> usize {
    match value {
        Json::Array(values) => 1 + values.iter().map(count).sum::<usize>(),
        Json::Object(object) => 1 + object.values().map(count).sum::<usize>(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => 1,
    }
}

/// Reads a mask, its names as the proto spells them or as JSON does by custom.
fn mask(descriptor: &MessageDescriptor, paths: &str) -> Option<DynamicMessage> {
    let names = paths
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let names = names.map(|name| {
        let mut snake = String::new();
        for letter in name.chars() {
            if letter.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        Value::String(snake)
    });
    let mut mask = DynamicMessage::new(descriptor.clone());
    mask.set_field(
        &descriptor.get_field_by_name("paths")?,
        Value::List(names.collect()),
    );
    Some(mask)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DescriptorPool;
    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{
        DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
        FileDescriptorProto, MessageOptions,
    };
    use serde_json::json;

    use super::*;
    use crate::rest::write::Written;

    /// A message with a field of every kind, and with lists and maps of them.
    fn everything() -> MessageDescriptor {
        let field = |name: &str, number, kind: Type, label: Label, type_name: Option<&str>| {
            FieldDescriptorProto {
                name: Some(name.to_owned()),
                number: Some(number),
                r#type: Some(kind.into()),
                label: Some(label.into()),
                type_name: type_name.map(ToOwned::to_owned),
                ..Default::default()
            }
        };
        let kinds = [
            ("text", Type::String),
            ("flag", Type::Bool),
            ("int32", Type::Int32),
            ("sint64", Type::Sint64),
            ("uint32", Type::Uint32),
            ("fixed64", Type::Fixed64),
            ("float", Type::Float),
            ("double", Type::Double),
            ("bytes", Type::Bytes),
        ];
        let mut fields: Vec<_> = (1..)
            .zip(kinds)
            .map(|(number, (name, kind))| field(name, number, kind, Label::Optional, None))
            .collect();
        let color = Some(".test.Color");
        let entry = Some(".test.Everything.ShelfEntry");
        let value = Some(".google.protobuf.Value");
        fields.extend([
            field("colors", 20, Type::Enum, Label::Repeated, color),
            field("shelf", 21, Type::Message, Label::Repeated, entry),
            field(
                "inner",
                22,
                Type::Message,
                Label::Optional,
                Some(".test.Everything"),
            ),
            field("free", 23, Type::Message, Label::Optional, value),
        ]);
        let values = ["COLOR_UNSPECIFIED", "COLOR_RED", "COLOR_DARK_BLUE"];
        let values = (0..)
            .zip(values)
            .map(|(number, name)| EnumValueDescriptorProto {
                name: Some(name.to_owned()),
                number: Some(number),
                options: None,
            });
        let file = FileDescriptorProto {
            name: Some("test.proto".to_owned()),
            package: Some("test".to_owned()),
            syntax: Some("proto3".to_owned()),
            dependency: vec!["google/protobuf/struct.proto".to_owned()],
            enum_type: vec![EnumDescriptorProto {
                name: Some("Color".to_owned()),
                value: values.collect(),
                ..Default::default()
            }],
            message_type: vec![DescriptorProto {
                name: Some("Everything".to_owned()),
                field: fields,
                nested_type: vec![DescriptorProto {
                    name: Some("ShelfEntry".to_owned()),
                    field: vec![
                        field("key", 1, Type::Int64, Label::Optional, None),
                        field("value", 2, Type::Enum, Label::Optional, color),
                    ],
                    options: Some(MessageOptions {
                        map_entry: Some(true),
                        ..Default::default()
                    }),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut pool = DescriptorPool::decode(crate::pb::DESCRIPTORS).unwrap();
        pool.add_file_descriptor_proto(file).unwrap();
        pool.get_message_by_name("test.Everything").unwrap()
    }

    fn read(json: &Json) -> Result<DynamicMessage, String> {
        let mut fields = Fields::default();
        let read = message(&everything(), json.as_object().unwrap(), "", &mut fields);
        match fields.finish() {
            Ok(()) => Ok(read),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn canonical_json_of_every_kind_is_read_as_the_library_reads_it() {
        for json in [
            json!({"text": "ü", "flag": true, "int32": -7, "uint32": 7, "double": 1.5}),
            json!({"int32": "-7", "sint64": "-9223372036854775808", "fixed64": "18446744073709551615"}),
            json!({"int32": 3e2, "sint64": 1, "fixed64": 12, "uint32": "4294967295"}),
            json!({"float": "NaN", "double": "-Infinity", "bytes": "AAECAw=="}),
            json!({"float": 0.1, "double": "1e-3", "bytes": "_-8"}),
            json!({"colors": ["COLOR_RED", 2, "COLOR_DARK_BLUE"], "shelf": {"-5": "COLOR_RED"}}),
            json!({"inner": {"inner": {"text": "deep"}}, "free": [null, {"a": 1}], "text": null}),
            json!({"free": null}),
        ] {
            let expected = DynamicMessage::deserialize(everything(), &json).unwrap();
            let read = read(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(read.encode_to_vec(), expected.encode_to_vec(), "{json}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let json = json!({
            "text": "x", "flag": true, "int32": -1, "sint64": "-2", "uint32": 3, "fixed64": "4",
            "float": 0.5, "double": "Infinity", "bytes": "AQ==",
            "colors": ["red", "dark_blue", "unspecified"], "shelf": {"-5": "red"},
            "free": {"list": [1, 2.5, null, true]},
        });
        let message = read(&json).unwrap();
        assert_eq!(serde_json::to_value(Written(&message)).unwrap(), json);
        let empty = serde_json::to_value(Written(&read(&json!({})).unwrap())).unwrap();
        let defaults = json!({
            "text": "", "flag": false, "int32": 0, "sint64": "0", "uint32": 0, "fixed64": "0",
            "float": 0.0, "double": 0.0, "bytes": "", "colors": [], "shelf": {},
        });
        assert_eq!(empty, defaults);
        let newer = serde_json::to_value(Written(&read(&json!({"colors": [9]})).unwrap())).unwrap();
        assert_eq!(newer["colors"], json!([9]));
    }

    #[test]
    fn values_out_of_range_or_of_another_kind_are_refused_at_their_place() {
        for (json, place) in [
            (json!({"int32": 2_147_483_648_u32}), "int32"),
            (json!({"int32": 1.5}), "int32"),
            (json!({"int32": "1.0"}), "int32"),
            (json!({"uint32": -1}), "uint32"),
            (json!({"fixed64": "18446744073709551616"}), "fixed64"),
            (json!({"sint64": 1e19}), "sint64"),
            (json!({"float": 1e39}), "float"),
            (json!({"double": "inf"}), "double"),
            (json!({"double": "1e999"}), "double"),
            (json!({"bytes": "?"}), "bytes"),
            (json!({"flag": "true"}), "flag"),
            (json!({"colors": "red"}), "colors"),
            (json!({"colors": ["red", null]}), "colors[1]"),
            (json!({"colors": ["green"]}), "colors[0]"),
            (json!({"shelf": {"a": "red"}}), "shelf.a"),
            (json!({"shelf": {"1": "green"}}), "shelf.1"),
            (json!({"inner": {"inner": {"text": 1}}}), "inner.inner.text"),
            (json!({"inner": {"what": 1}}), "inner.what"),
        ] {
            let refused = read(&json).unwrap_err();
            assert!(
                refused.starts_with(&format!("`{place}` ")),
                "{json}: {refused}"
            );
        }
    }
}
