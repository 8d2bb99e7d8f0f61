//! Messages of visitors, and messages as they see them.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::body::Object;
use super::session::Session;
use crate::error::Error;
use crate::field::Most;
use crate::ids::AttachmentId;
use crate::inbox::{
    Direction, FileSource, InboundFile, InboundMessage, Location, Message, MessageType, Person,
    Thread,
};

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
fn time(at: DateTime<Utc>) -> Value {
    at.to_rfc3339_opts(SecondsFormat::Millis, true).into()
}

/// A message as its customer sees it: of what the house knows of it, only what was said.
pub fn shown(message: &Message) -> Value {
    let mut shown = Map::new();
    let mut put = |field: &str, value: Value| shown.insert(field.to_owned(), value);
    put("id", message.id.to_string().into());
    put(
        "conversation_id",
        message.conversation_id.to_string().into(),
    );
    put("sequence", message.sequence.into());
    put("direction", message.direction.as_str().into());
    put("type", message.message_type.as_str().into());
    put("body", message.text.as_str().into());
    put("created_at", time(message.created_at));
    if let Some(at) = message.deleted_at {
        put("deleted_at", time(at));
        put("body", "".into());
        return Value::Object(shown);
    }
    if let Some(at) = message.edited_at {
        put("edited_at", time(at));
    }
    if message.direction == Direction::Inbound
        && let Some(id) = message.metadata.get("client_message_id")
    {
        put("client_message_id", id.clone());
    }
    if let (Some(latitude), Some(longitude)) = (message.latitude, message.longitude) {
        let place = json!({
            "latitude": latitude,
            "longitude": longitude,
            "name": message.location_name.as_deref().unwrap_or_default(),
            "address": message.location_address.as_deref().unwrap_or_default(),
        });
        put("location", place);
    }
    if let Some(attachments) = &message.attachments {
        let files = attachments.0.iter().map(|attachment| {
            json!({
                "id": attachment.id,
                "file_name": attachment.file_name,
                "content_type": attachment.content_type,
                "size_bytes": attachment.size_bytes,
            })
        });
        put("attachments", files.collect());
    }
    Value::Object(shown)
}
