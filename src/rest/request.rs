//! What a request by REST asks for: path, query and body put together to the message of the call.

use std::borrow::Cow;
use std::sync::Arc;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::{Map, Value as Json};

use super::binding::{self, Binding, Body};
use super::read;
use crate::error::{Error, InvalidRequest};
use crate::field::Fields;

/// A request whose body has not been read yet.
#[derive(Clone)]
pub struct Asked {
    /// What it is bound to.
    pub binding: Arc<Binding>,
    /// What stands in the path where fields do, in their order.
    pub segments: Vec<String>,
    /// The query, in its order.
    pub query: Vec<(String, String)>,
}

impl Asked {
    /// Makes the message of the call.
    ///
    /// # Errors
    /// The body is no JSON object, or fields are not known or wrong.
    pub fn message(&self, body: &[u8]) -> Result<DynamicMessage, Error> {
        let input = self.binding.call.input();
        let mut fields = Fields::default();
        let mut object = self.object(body)?;
        let cleared = cleared(&input, &object);
        for (name, text) in &self.query {
            if self.binding.body == Body::Whole {
                fields.refuse(
                    name,
                    "belongs into the body of this call, not into its query",
                );
            } else if let Err(why) = put(&input, &mut object, name, text) {
                fields.refuse(name, why);
            }
        }
        for (path, text) in self.binding.segments.iter().zip(&self.segments) {
            let same = |there: &Json| {
                let number = there.to_string();
                there.as_str().unwrap_or(&number) == text
            };
            let placed = place(&input, &mut object, path, |_, slot| match slot {
                Json::Null => {
                    *slot = Json::String(text.clone());
                    Ok(())
                }
                there if same(there) => Ok(()),
                _ => Err("differs from what is in the path".into()),
            });
            if let Err(why) = placed {
                fields.refuse(path, why);
            }
        }
        let mut message = read::message(&input, &object, "", &mut fields);
        fields.finish()?;
        if !cleared.is_empty() {
            clear(&mut message, cleared);
        }
        Ok(message)
    }

    /// The object in the body; an empty body is an empty one.
    fn object(&self, body: &[u8]) -> Result<Map<String, Json>, Error> {
        let undecodable = |why: String| Error::InvalidRequest(InvalidRequest::Undecodable(why));
        let read = || -> Result<Json, Error> {
            serde_json::from_slice(body)
                .map_err(|error| undecodable(format!("the body is no JSON: {error}")))
        };
        match &self.binding.body {
            _ if body.is_empty() => Ok(Map::new()),
            Body::None => Err(undecodable(
                "this call has no body, its fields are in the query".to_owned(),
            )),
            Body::Whole => match read()? {
                Json::Object(object) => Ok(object),
                _ => Err(undecodable("the body is no JSON object".to_owned())),
            },
            Body::Field(field) => Ok(Map::from_iter([(field.name().to_owned(), read()?)])),
        }
    }
}

/// Puts a parameter of the query where it belongs.
fn put(
    input: &MessageDescriptor,
    object: &mut Map<String, Json>,
    name: &str,
    text: &str,
) -> Result<(), Cow<'static, str>> {
    place(input, object, name, |field, slot| {
        let value = match (field.kind(), text) {
            _ if field.is_map() => return Err("cannot be in a query".into()),
            (Kind::Message(message), _)
                if !["Timestamp", "Duration", "FieldMask"].contains(&message.name()) =>
            {
                return Err("cannot be in a query".into());
            }
            (Kind::Bool, "true") => Json::Bool(true),
            (Kind::Bool, "false") => Json::Bool(false),
            (_, text) => Json::String(text.to_owned()),
        };
        match slot {
            Json::Array(values) if field.is_list() => values.push(value),
            Json::Null if field.is_list() => *slot = Json::Array(vec![value]),
            Json::Null => *slot = value,
            _ => return Err("is there twice".into()),
        }
        Ok(())
    })
}

/// Finds the place of a field such as `actor.user_id` in an object, which has null where nothing
/// is yet.
fn place(
    message: &MessageDescriptor,
    object: &mut Map<String, Json>,
    path: &str,
    fill: impl FnOnce(&FieldDescriptor, &mut Json) -> Result<(), Cow<'static, str>>,
) -> Result<(), Cow<'static, str>> {
    let unknown = || Cow::Owned(read::unknown(message));
    let (name, rest) = match path.split_once('.') {
        None => (path, None),
        Some((name, rest)) => (name, Some(rest)),
    };
    let field = binding::field(message, name).ok_or_else(unknown)?;
    // A body may have it under its other name.
    let key = [field.name(), field.json_name()]
        .into_iter()
        .find(|name| object.contains_key(*name))
        .unwrap_or(field.name());
    let slot = object.entry(key).or_insert(Json::Null);
    let Some(rest) = rest else {
        return fill(&field, slot);
    };
    let kind = field.kind();
    let inner = binding::ours(&kind).filter(|_| !field.is_list() && !field.is_map());
    let inner = inner.ok_or("has no parts")?;
    if slot.is_null() {
        *slot = Json::Object(Map::new());
    }
    match slot {
        Json::Object(object) => place(inner, object, rest, fill),
        _ => Err("must be an object".into()),
    }
}

/// The fields that an update clears because its body has them as null or as an empty list. Those
/// that an update can change stand below its mask.
fn cleared(input: &MessageDescriptor, object: &Map<String, Json>) -> Vec<String> {
    let cleared: Vec<_> = object
        .iter()
        .filter(|(_, value)| value.is_null() || value.as_array().is_some_and(Vec::is_empty))
        .filter_map(|(name, _)| changeable(input, name))
        .collect();
    let mask = ["update_mask", "updateMask"];
    let mask = mask.iter().find_map(|mask| object.get(*mask));
    if cleared.is_empty() || mask.is_some_and(|mask| !mask.is_null()) {
        return cleared;
    }
    // A mask that names what is cleared has to name what is set too.
    let all = object.keys().filter_map(|name| changeable(input, name));
    all.collect()
}

fn changeable(input: &MessageDescriptor, name: &str) -> Option<String> {
    let mask = input.get_field_by_name("update_mask")?;
    let field = binding::field(input, name)?;
    (field.number() > mask.number()).then(|| field.name().to_owned())
}

fn clear(message: &mut DynamicMessage, cleared: Vec<String>) {
    let mask = message.get_field_by_name_mut("update_mask");
    let mask = mask.and_then(Value::as_message_mut);
    let paths = mask.and_then(|mask| mask.get_field_by_name_mut("paths"));
    let Some(paths) = paths.and_then(Value::as_list_mut) else {
        return;
    };
    for name in cleared {
        let name = Value::String(name);
        if !paths.contains(&name) {
            paths.push(name);
        }
    }
}
