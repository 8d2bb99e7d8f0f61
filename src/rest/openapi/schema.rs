//! The schemas of messages and enums.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json, json};

use super::comments::Comments;
use crate::rest::short_name::short_name;

/// The schemas that were asked for so far, and those that they are made of.
pub struct Schemas<'a> {
    comments: &'a Comments,
    made: BTreeMap<String, Json>,
}

impl<'a> Schemas<'a> {
    /// None yet.
    pub fn new(comments: &'a Comments) -> Self {
        Self {
            comments,
            made: BTreeMap::from([("Error".to_owned(), error())]),
        }
    }

    /// All of them, by name.
    pub fn finish(self) -> BTreeMap<String, Json> {
        self.made
    }

    /// The schema of a message.
    pub fn message(&mut self, message: &MessageDescriptor) -> Json {
        if message.package_name() == "google.protobuf" {
            return known(message.name());
        }
        let name = message.name();
        if !self.made.contains_key(name) {
            // Before its fields, which may hold the same again.
            self.made.insert(name.to_owned(), Json::Null);
            let fields = message.fields().map(|field| self.property(&field));
            let fields: Map<_, _> = fields.collect();
            let schema = json!({
                "type": "object",
                "description": self.comments.of(message.parent_file().name(), message.path()),
                "properties": fields,
            });
            self.made.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// The schema of what a body holds: a message without the fields that are in the path. What an
    /// update can clear may be null.
    pub fn body(&mut self, name: &str, message: &MessageDescriptor, path: &[String]) -> Json {
        let mask = message.get_field_by_name("update_mask");
        let mut properties = Map::new();
        for field in message.fields() {
            if path.iter().any(|segment| segment == field.name()) {
                continue;
            }
            let (name, mut schema) = self.property(&field);
            if mask
                .as_ref()
                .is_some_and(|mask| field.number() > mask.number())
            {
                let description = schema["description"].take();
                schema
                    .as_object_mut()
                    .map(|schema| schema.remove("description"));
                schema = json!({
                    "anyOf": [schema, {"type": "null"}],
                    "description": description,
                });
            }
            properties.insert(name, schema);
        }
        let schema = json!({
            "type": "object",
            "description": self.comments.of(message.parent_file().name(), message.path()),
            "properties": properties,
            "additionalProperties": false,
        });
        // Bindings differ in what their paths hold.
        let names = std::iter::once(name.to_owned());
        let names = names.chain((2..).map(|time| format!("{name}{time}")));
        for name in names {
            match self.made.get(&name) {
                Some(other) if *other != schema => {}
                _ => {
                    let reference = reference(&name);
                    self.made.insert(name, schema);
                    return reference;
                }
            }
        }
        schema
    }

    /// The schema of a field, without its description.
    pub fn field(&mut self, field: &FieldDescriptor) -> Json {
        let kind = field.kind();
        if let (true, Some(entry)) = (field.is_map(), kind.as_message()) {
            let values = self.kind(&entry.map_entry_value_field().kind());
            return json!({"type": "object", "additionalProperties": values});
        }
        let one = self.kind(&kind);
        if field.is_list() {
            return json!({"type": "array", "items": one});
        }
        one
    }

    fn property(&mut self, field: &FieldDescriptor) -> (String, Json) {
        let mut schema = self.field(field);
        let file = field.parent_message().parent_file();
        schema["description"] = self.comments.of(file.name(), field.path()).into();
        (field.name().to_owned(), schema)
    }

    fn kind(&mut self, kind: &Kind) -> Json {
        match kind {
            Kind::Message(message) => self.message(message),
            Kind::Enum(values) => self.choice(values),
            Kind::String => json!({"type": "string"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "format": "int32"})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"})
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": "^[0-9]+$"})
            }
        }
    }

    fn choice(&mut self, values: &EnumDescriptor) -> Json {
        let name = values.name();
        if !self.made.contains_key(name) {
            let file = values.parent_file();
            let mut description = self.comments.of(file.name(), values.path()).to_owned();
            description.push('\n');
            let mut words = Vec::new();
            for value in values.values() {
                let word = short_name(&value);
                let comment = self
                    .comments
                    .of(file.name(), value.path())
                    .replace('\n', " ");
                description.push_str(&format!("\n- `{word}`: {comment}"));
                words.push(word);
            }
            let schema = json!({"type": "string", "enum": words, "description": description});
            self.made.insert(name.to_owned(), schema);
        }
        reference(name)
    }
}

fn reference(name: &str) -> Json {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The forms that JSON has for protobuf's own messages.
fn known(name: &str) -> Json {
    match name {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"}),
        "FieldMask" => json!({"type": "string"}),
        "Struct" => json!({"type": "object", "additionalProperties": true}),
        "ListValue" => json!({"type": "array", "items": {}}),
        "Empty" => json!({"type": "object"}),
        _ => json!({}),
    }
}

/// The form of every refusal.
fn error() -> Json {
    json!({
        "type": "object",
        "description": "Why a request was refused, as AIP-193 has it.",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "message", "status", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "message": {"type": "string", "description": "For people."},
                "status": {"type": "string", "description": "The name of the `google.rpc.Code`."},
                "details": {
                    "type": "array",
                    "description": "`google.rpc.ErrorInfo` with a `reason` always; `BadRequest`, `RetryInfo`, `ResourceInfo` and, in development, `DebugInfo` where they have something to say.",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": {"@type": {"type": "string"}},
                        "additionalProperties": true,
                    },
                },
            },
        }},
    })
}
