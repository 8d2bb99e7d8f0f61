//! Batches of messages on the wire.

use prost::Message as _;

use super::TEXT;
use super::message::{direction, location, message_type};
use super::search::author;
use crate::clock;
use crate::error::Error;
use crate::field::{Fields, Most};
use crate::ids::{ConversationId, MessageId};
use crate::inbox::message::{Direction, MessageType, NewMessage};
use crate::inbox::message_batch::{Item, NewBatch, Outcome, Past};
use crate::inbox::message_status::MessageStatus;
use crate::pb;
use crate::request_id::RequestId;

/// The most messages of one batch.
const MESSAGES: usize = 100;
/// The most that they may have on the wire: the answer has more than they, and has to pass too.
const BYTES: usize = 3 * 1024 * 1024;
const IMPORT_ID: Most = Most::Characters(512);
/// How much this machine's clock may be behind the source's, in seconds.
const CLOCKS: i64 = 300;

impl TryFrom<pb::BatchCreateMessagesRequest> for NewBatch {
    type Error = Error;

    fn try_from(mut request: pb::BatchCreateMessagesRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let messages = request.messages;
        if messages.is_empty() {
            return Err(Error::invalid("messages", "is required"));
        }
        if messages.len() > MESSAGES {
            let description = format!("must have at most {MESSAGES} values");
            return Err(Error::invalid("messages", description));
        }
        let bytes: usize = messages.iter().map(pb::NewMessage::encoded_len).sum();
        if bytes > BYTES {
            let description = format!("must have at most {BYTES} bytes");
            return Err(Error::invalid("messages", description));
        }
        let imported = request.imported;
        let items = messages.into_iter().enumerate();
        let items: Vec<_> = items
            .map(|(place, message)| {
                item(message, place, imported)
                    .map_err(|error| error.inside(&format!("messages[{place}]")))
            })
            .collect();
        if request.all_or_nothing {
            let mut violations = Vec::new();
            for item in &items {
                if let Err(Error::InvalidArgument(of_item)) = item {
                    violations.extend_from_slice(of_item);
                }
            }
            if !violations.is_empty() {
                return Err(Error::InvalidArgument(violations));
            }
        }
        Ok(Self {
            request_id,
            imported,
            all_or_nothing: request.all_or_nothing,
            items,
        })
    }
}

fn item(message: pb::NewMessage, place: usize, imported: bool) -> Result<Item, Error> {
    let mut fields = Fields::default();
    let direction = fields
        .choice::<pb::MessageDirection>("direction", message.direction)
        .and_then(direction)
        .unwrap_or(Direction::Outbound);
    let message_type = fields
        .choice::<pb::MessageType>("type", message.r#type)
        .and_then(message_type)
        .unwrap_or(MessageType::Text);
    let text = match message_type {
        MessageType::Text => fields.required_text("text", message.text, TEXT),
        MessageType::Location => fields.text("text", message.text, TEXT),
        MessageType::Image | MessageType::Document | MessageType::Audio | MessageType::Video => {
            if !imported {
                fields.refuse("type", "must be TEXT or LOCATION without `imported`");
            }
            fields.text("text", message.text, TEXT)
        }
    };
    let location = message.location.map(|place| location(&mut fields, place));
    match (message_type, &location) {
        (MessageType::Location, None) => fields.refuse("location", "is required for type LOCATION"),
        (MessageType::Location, Some(_)) | (_, None) => {}
        (_, Some(_)) => fields.refuse("location", "must be left out unless type is LOCATION"),
    }
    let reply_to = fields.id(
        "reply_to_message_id",
        &message.reply_to_message_id,
        MessageId,
    );
    let reply_to_index = message.reply_to_index.and_then(|index| {
        if reply_to.is_some() {
            let description = "must be left out beside `reply_to_message_id`";
            fields.refuse("reply_to_index", description);
        }
        let index = usize::try_from(index).ok().filter(|index| *index < place);
        if index.is_none() {
            fields.refuse("reply_to_index", "must be the place of an earlier message");
        }
        index
    });
    let author = message.author.and_then(|it| author(&mut fields, it));
    let at = fields.time("provider_time", message.provider_time.as_ref());
    let now = i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX);
    if at.is_some_and(|at| at.timestamp() > now.saturating_add(CLOCKS)) {
        fields.refuse("provider_time", "must not be in the future");
    }
    let import_id = fields.text("import_id", message.import_id, IMPORT_ID);
    let past = Past {
        author,
        at,
        status: status(&mut fields, message.status, direction),
        import_id: (!import_id.is_empty()).then_some(import_id),
    };
    if !imported {
        let given = [
            ("author", past.author.is_some()),
            ("provider_time", past.at.is_some()),
            ("status", message.status != 0),
            ("import_id", past.import_id.is_some()),
        ];
        for (field, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            fields.refuse(field, "must be left out without `imported`");
        }
    }
    let item = Item {
        message: NewMessage {
            id: MessageId::new(),
            request_id: None,
            conversation_id: fields.required_id(
                "conversation_id",
                &message.conversation_id,
                ConversationId,
            ),
            direction,
            message_type,
            text,
            location,
            reply_to,
            metadata: fields.metadata("metadata", message.metadata),
            quick_reply: None,
            attachments: Vec::new(),
        },
        reply_to_index,
        past,
    };
    fields.finish()?;
    Ok(item)
}

/// Reads how far a message of the past had come.
fn status(fields: &mut Fields, number: i32, direction: Direction) -> Option<MessageStatus> {
    let status = fields.choice::<pb::MessageStatus>("status", number);
    if status.is_some() && direction != Direction::Outbound {
        fields.refuse("status", "must be left out unless direction is OUTBOUND");
    }
    match status {
        Some(pb::MessageStatus::Sent) => Some(MessageStatus::Sent),
        Some(pb::MessageStatus::Delivered) => Some(MessageStatus::Delivered),
        Some(pb::MessageStatus::Read) => Some(MessageStatus::Read),
        Some(pb::MessageStatus::Failed) => Some(MessageStatus::Failed),
        Some(pb::MessageStatus::Queued) => {
            fields.refuse("status", "must be SENT, DELIVERED, READ or FAILED");
            None
        }
        Some(pb::MessageStatus::Unspecified) | None => {
            (direction == Direction::Outbound).then_some(MessageStatus::Sent)
        }
    }
}

impl From<Outcome> for pb::NewMessageResult {
    fn from(outcome: Outcome) -> Self {
        use pb::new_message_result::Result;
        let (result, created) = match outcome {
            Outcome::Message { message, created } => (Result::Message((*message).into()), created),
            Outcome::Refused(refusal) => (Result::Error(refusal.into()), false),
        };
        Self {
            result: Some(result),
            created,
        }
    }
}
