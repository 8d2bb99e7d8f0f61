//! Messages of visitors, and messages as they see them.

use chrono::{DateTime, SecondsFormat};
use prost_types::Timestamp;
use prost_types::value::Kind;
use serde_json::{Map, Value, json};

use super::body::Object;
use super::session::Session;
use crate::error::Error;
use crate::field::Most;
use crate::ids::AttachmentId;
use crate::inbox::{
    Direction, FileSource, InboundFile, InboundMessage, Location, MessageType, Person, Thread,
};
use crate::pb;

/// The most characters that a text has.
pub const MOST_CHARACTERS: usize = 4000;
const WORD: Most = Most::Characters(36);
const PLACE: Most = Most::Characters(1000);

/// A message that a visitor posts.
#[derive(Debug)]
pub struct Posting {
    /// Its id, of the browser's own making.
    client_message_id: String,
    message_type: MessageType,
    body: String,
    location: Option<Location>,
    /// Its file.
    pub upload: Option<AttachmentId>,
}

impl Posting {
    /// Reads a posting.
    ///
    /// # Errors
    /// A field is wrong.
    pub fn read(mut object: Object) -> Result<Self, Error> {
        let client_message_id = object.text("client_message_id", WORD);
        let id = object.fields.required_id(
            "client_message_id",
            &client_message_id,
            std::convert::identity,
        );
        let message_type = message_type(&mut object);
        let body = object.text("body", Most::Characters(MOST_CHARACTERS));
        let upload = object.text("upload_id", WORD);
        let upload = object.fields.id("upload_id", &upload, AttachmentId);
        let location = location(&mut object);
        let fields = &mut object.fields;
        let is_place = message_type == MessageType::Location;
        match message_type {
            MessageType::Text if body.is_empty() => fields.refuse("body", "is required"),
            MessageType::Location if location.is_none() => {
                fields.refuse("location", "is required for type `location`");
            }
            MessageType::Image
            | MessageType::Document
            | MessageType::Audio
            | MessageType::Video
                if upload.is_none() =>
            {
                fields.refuse("upload_id", "is required for this type");
            }
            _ => {}
        }
        if !is_place && location.is_some() {
            fields.refuse("location", "must be left out unless type is `location`");
        }
        if matches!(message_type, MessageType::Text | MessageType::Location) && upload.is_some() {
            fields.refuse("upload_id", "must be left out for this type");
        }
        object.finish()?;
        Ok(Self {
            client_message_id: id.to_string(),
            message_type,
            body,
            location,
            upload,
        })
    }

    /// Refuses a file of another kind than the message.
    ///
    /// # Errors
    /// It is.
    pub fn check_file(&self, content_type: &str) -> Result<(), Error> {
        if content_type.starts_with(self.message_type.content_types()) {
            return Ok(());
        }
        let word = self.message_type.as_str();
        let description = format!("is a file of type `{content_type}`, and not of type `{word}`");
        Err(Error::invalid("upload_id", description))
    }

    /// By what the message is known in the inbox: the browser's id for it, of this visitor alone.
    pub fn provider_id(&self, session: &Session) -> String {
        session.trace_of(self.client_message_id.as_bytes())
    }

    /// The message for the inbox.
    pub fn into_inbound(self, session: &Session) -> InboundMessage {
        let file = self
            .upload
            .map(|id| InboundFile::new(String::new(), String::new(), FileSource::Upload(id)));
        InboundMessage {
            provider_id: self.provider_id(session),
            direction: Direction::Inbound,
            message_type: self.message_type,
            text: self.body,
            location: self.location,
            person: Person {
                identifiers: vec![session.visitor().identifier()],
                name: String::new(),
            },
            reply_to: None,
            at: None,
            metadata: json!({"client_message_id": self.client_message_id}),
            files: file.into_iter().collect(),
            thread: Thread::default(),
            automatic: false,
        }
    }
}

fn message_type(object: &mut Object) -> MessageType {
    match object.text("type", WORD).as_str() {
        "text" => MessageType::Text,
        "image" => MessageType::Image,
        "document" => MessageType::Document,
        "audio" => MessageType::Audio,
        "video" => MessageType::Video,
        "location" => MessageType::Location,
        _ => {
            let all = "must be `text`, `image`, `document`, `audio`, `video` or `location`";
            object.fields.refuse("type", all);
            MessageType::Text
        }
    }
}

fn location(object: &mut Object) -> Option<Location> {
    let mut place = object.object("location")?;
    let mut degrees = |field: &str, most: f64| {
        let number = place.number(field);
        let is_there = number.is_some_and(|number| number.abs() <= most);
        if !is_there {
            let description = format!("must be a number, -{most} to {most}");
            place.fields.refuse(field, description);
        }
        number.unwrap_or_default()
    };
    let location = Location {
        latitude: degrees("latitude", 90.),
        longitude: degrees("longitude", 180.),
        name: place.text("name", PLACE),
        address: place.text("address", PLACE),
    };
    if let Err(error) = place.finish()
        && let Error::InvalidArgument(violations) = error.inside("location")
    {
        for violation in violations {
            object.fields.refuse(violation.field, violation.description);
        }
    }
    Some(location)
}

/// A time as visitors' browsers read it.
fn time(at: &Timestamp) -> Value {
    let nanos = u32::try_from(at.nanos).unwrap_or_default();
    let at = DateTime::from_timestamp(at.seconds, nanos).unwrap_or_default();
    at.to_rfc3339_opts(SecondsFormat::Millis, true).into()
}

/// The word for a value of an enum, without what all its names begin with.
fn word(name: &str, prefix: &str) -> Value {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    name.to_ascii_lowercase().into()
}

/// A message as its customer sees it: of what the house knows of it, only what was said.
pub fn shown(message: &pb::Message) -> Value {
    let mut shown = Map::new();
    let mut put = |field: &str, value: Value| shown.insert(field.to_owned(), value);
    put("id", message.id.as_str().into());
    put("conversation_id", message.conversation_id.as_str().into());
    put("sequence", message.sequence.into());
    let direction = message.direction();
    let direction_word = word(direction.as_str_name(), "MESSAGE_DIRECTION_");
    put("direction", direction_word);
    put(
        "type",
        word(message.r#type().as_str_name(), "MESSAGE_TYPE_"),
    );
    put("body", message.text.as_str().into());
    let created = message.create_time.unwrap_or_default();
    put("created_at", time(&created));
    if let Some(at) = &message.delete_time {
        put("deleted_at", time(at));
        put("body", "".into());
        return Value::Object(shown);
    }
    if let Some(at) = &message.edit_time {
        put("edited_at", time(at));
    }
    if direction == pb::MessageDirection::Inbound
        && let Some(metadata) = &message.metadata
        && let Some(id) = metadata.fields.get("client_message_id")
        && let Some(Kind::StringValue(id)) = &id.kind
    {
        put("client_message_id", id.as_str().into());
    }
    if let Some(place) = &message.location {
        let place = json!({
            "latitude": place.latitude,
            "longitude": place.longitude,
            "name": place.name,
            "address": place.address,
        });
        put("location", place);
    }
    if !message.attachments.is_empty() {
        let files = message.attachments.iter().map(|attachment| {
            json!({
                "id": attachment.id,
                "file_name": attachment.file_name,
                "content_type": attachment.content_type,
                "size_bytes": Some(attachment.size_bytes).filter(|size| *size > 0),
            })
        });
        put("attachments", files.collect());
    }
    Value::Object(shown)
}
