//! Checks the fields of a request, and names all that are wrong at once.

use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use crate::access::Actor;
use crate::error::{Error, Violation};
use crate::time::from_timestamp;

/// The most that the metadata of one resource may have, as JSON.
pub const MAX_METADATA_BYTES: usize = 32 * 1024;
/// How deep metadata may be nested.
pub const MAX_METADATA_DEPTH: usize = 32;

/// The most that a text may have.
#[derive(Debug, Clone, Copy)]
pub enum Most {
    /// So many characters.
    Characters(usize),
    /// So many bytes of UTF-8.
    Bytes(usize),
}

/// What is wrong with a request so far.
#[derive(Debug, Default)]
pub struct Fields(Vec<Violation>);

impl Fields {
    /// Takes note of a field that is wrong.
    pub fn refuse(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Tells whether something is wrong so far.
    pub fn refuses(&self) -> bool {
        !self.0.is_empty()
    }

    /// Reads the fields inside of a field.
    pub fn inside<T>(&mut self, path: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut inner = Self::default();
        let value = read(&mut inner);
        self.0
            .extend(inner.0.into_iter().map(|violation| Violation {
                field: format!("{path}.{}", violation.field),
                ..violation
            }));
        value
    }

    /// Reads a text that may be empty.
    pub fn text(&mut self, field: &str, text: String, most: Most) -> String {
        let (over, limit) = match most {
            Most::Characters(most) => (
                text.len() > most && text.chars().count() > most,
                format!("{most} characters"),
            ),
            Most::Bytes(most) => (text.len() > most, format!("{most} bytes")),
        };
        if over {
            self.refuse(field, format!("must have at most {limit}"));
        }
        if text.contains('\0') {
            self.refuse(field, "must not contain NUL");
        }
        text
    }

    /// Reads a text that must not be empty.
    pub fn required_text(&mut self, field: &str, text: String, most: Most) -> String {
        if text.is_empty() {
            self.refuse(field, "is required");
        }
        self.text(field, text, most)
    }

    /// Reads an id that must be there.
    pub fn required_id<T>(&mut self, field: &str, id: &str, make: fn(Uuid) -> T) -> T {
        if id.is_empty() {
            self.refuse(field, "is required");
            return make(Uuid::nil());
        }
        make(self.uuid(field, id))
    }

    /// Reads an id that may be empty.
    pub fn id<T>(&mut self, field: &str, id: &str, make: fn(Uuid) -> T) -> Option<T> {
        (!id.is_empty()).then(|| make(self.uuid(field, id)))
    }

    /// Reads the id of a user or a team, which another service knows; `None` for nobody.
    pub fn name_of_somebody(&mut self, field: &str, id: String) -> Option<String> {
        if id.is_empty() {
            return None;
        }
        if !Actor::may_be_called(&id) {
            let description = "must be 1 to 128 characters without control characters";
            self.refuse(field, description);
        }
        Some(id)
    }

    /// Reads an etag; `None` where the caller takes whatever is there.
    pub fn etag(&mut self, etag: String) -> Option<String> {
        let etag = self.text("etag", etag, Most::Characters(64));
        (!etag.is_empty()).then_some(etag)
    }

    /// Reads the number of an enum value; `None` for the unspecified one, which is 0.
    pub fn choice<T: TryFrom<i32>>(&mut self, field: &str, number: i32) -> Option<T> {
        if number == 0 {
            return None;
        }
        let value = T::try_from(number).ok();
        if value.is_none() {
            self.refuse(field, format!("has no value `{number}`"));
        }
        value
    }

    /// Reads the numbers of several values of an enum, 20 at most, each once; `None` for none.
    pub fn choices<P: TryFrom<i32>, T: PartialEq>(
        &mut self,
        field: &str,
        numbers: &[i32],
        read: fn(P) -> Option<T>,
    ) -> Option<Vec<T>> {
        if numbers.is_empty() {
            return None;
        }
        if numbers.len() > 20 {
            self.refuse(field, "must have at most 20 values");
            return None;
        }
        let mut values = Vec::new();
        for (index, number) in numbers.iter().enumerate() {
            let path = format!("{field}[{index}]");
            match self.choice::<P>(&path, *number).and_then(read) {
                Some(value) if values.contains(&value) => {}
                Some(value) => values.push(value),
                None if *number == 0 => self.refuse(path, "must not be unspecified"),
                None => {}
            }
        }
        Some(values)
    }

    /// Reads a time that may be left out.
    pub fn time(
        &mut self,
        field: &str,
        time: Option<&prost_types::Timestamp>,
    ) -> Option<DateTime<Utc>> {
        match from_timestamp(field, time?) {
            Ok(time) => Some(time),
            Err(Error::InvalidArgument(violations)) => {
                self.0.extend(violations);
                None
            }
            Err(_) => None,
        }
    }

    /// Reads metadata.
    pub fn metadata(&mut self, field: &str, metadata: Option<prost_types::Struct>) -> Value {
        let mut problem = None;
        let object = to_object(metadata.unwrap_or_default(), 1, &mut problem);
        let value = Value::Object(object);
        if let Some(problem) = problem {
            self.refuse(field, problem);
        } else if value.to_string().len() > MAX_METADATA_BYTES {
            self.refuse(
                field,
                format!("must have at most {MAX_METADATA_BYTES} bytes as JSON"),
            );
        }
        value
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// Something was wrong.
    pub fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidArgument(self.0))
        }
    }

    fn uuid(&mut self, field: &str, id: &str) -> Uuid {
        // One form only, so that ids can be compared as texts.
        match Uuid::try_parse(id) {
            Ok(uuid) if id.len() == 36 => uuid,
            _ => {
                self.refuse(field, "must be a UUID");
                Uuid::nil()
            }
        }
    }
}

/// Which fields an update changes.
#[derive(Debug)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Reads an update mask that may name some of these fields, or `*` for all.
    pub fn read(fields: &mut Fields, mask: Option<prost_types::FieldMask>, known: &[&str]) -> Self {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        for path in &paths {
            if path != "*" && !known.contains(&path.as_str()) {
                let all = known.join("`, `");
                let description = format!("has `{path}`, which is not one of `{all}` or `*`");
                fields.refuse("update_mask", description);
            }
        }
        Self(paths)
    }

    /// Tells whether a field is to change: it is named, or nothing is named and the field is set.
    pub fn touches(&self, field: &str, is_set: bool) -> bool {
        match self.0.as_slice() {
            [] => is_set,
            paths => paths.iter().any(|path| path == "*" || path == field),
        }
    }

    /// Tells whether a field is named by its own name.
    pub fn names(&self, field: &str) -> bool {
        self.0.iter().any(|path| path == field)
    }
}

fn to_object(
    object: prost_types::Struct,
    depth: usize,
    problem: &mut Option<&'static str>,
) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in object.fields {
        if key.contains('\0') {
            *problem = Some("must not contain NUL");
        }
        map.insert(key, to_value(value, depth, problem));
    }
    map
}

fn to_value(value: prost_types::Value, depth: usize, problem: &mut Option<&'static str>) -> Value {
    use prost_types::value::Kind;
    if depth > MAX_METADATA_DEPTH {
        *problem = Some("must not be nested deeper than 32 levels");
        return Value::Null;
    }
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(number)) => match Number::from_f64(number) {
            Some(number) => Value::Number(number),
            None => {
                *problem = Some("must not contain numbers that JSON does not have");
                Value::Null
            }
        },
        Some(Kind::StringValue(text)) => {
            if text.contains('\0') {
                *problem = Some("must not contain NUL");
            }
            Value::String(text)
        }
        Some(Kind::ListValue(list)) => Value::Array(
            list.values
                .into_iter()
                .map(|value| to_value(value, depth + 1, problem))
                .collect(),
        ),
        Some(Kind::StructValue(object)) => Value::Object(to_object(object, depth + 1, problem)),
    }
}

/// Writes metadata.
pub fn to_struct(value: Value) -> prost_types::Struct {
    match value {
        Value::Object(map) => prost_types::Struct {
            fields: map
                .into_iter()
                .map(|(key, value)| (key, to_prost_value(value)))
                .collect(),
        },
        // The database holds nothing else; an empty object says the same.
        _ => prost_types::Struct::default(),
    }
}

fn to_prost_value(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(to_prost_value).collect(),
        }),
        object @ Value::Object(_) => Kind::StructValue(to_struct(object)),
    };
    prost_types::Value { kind: Some(kind) }
}
