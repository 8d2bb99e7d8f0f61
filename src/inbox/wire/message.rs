//! Messages on the wire.

use chrono::{DateTime, Utc};

use crate::access::Actor;
use crate::error::Error;
use crate::field::{Fields, Most, to_struct};
use crate::ids::{AttachmentId, ConversationId, MessageId};
use crate::inbox::attachment::MOST_OF_A_MESSAGE;
use crate::inbox::attempt::{Attempt, AttemptOutcome};
use crate::inbox::deletion::Deletion;
use crate::inbox::message::{Direction, Location, Message, MessageType, NewMessage};
use crate::inbox::message_list;
use crate::inbox::message_status::{MessageStatus, StatusReport};
use crate::inbox::reaction::Reactions;
use crate::inbox::revision::{Edit, Revision, RevisionKind};
use crate::page::PageSize;
use crate::pb;
use crate::quick_reply::filling;
use crate::request_id::RequestId;
use crate::schedule::send_time;
use crate::time::to_timestamp;

use super::TEXT;

const PLACE: Most = Most::Characters(1000);
const FAILURE_CODE: Most = Most::Characters(128);
const FAILURE_MESSAGE: Most = Most::Characters(4000);

/// What `CreateMessage` asks for.
pub struct Sending {
    /// The message.
    pub message: NewMessage,
    /// When to send it, if not at once.
    pub send_at: Option<DateTime<Utc>>,
}

impl TryFrom<pb::CreateMessageRequest> for Sending {
    type Error = Error;

    fn try_from(mut request: pb::CreateMessageRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let direction = fields.choice::<pb::MessageDirection>("direction", request.direction);
        let kind = fields.choice::<pb::MessageType>("type", request.r#type);
        let message_type = kind.and_then(message_type).unwrap_or(MessageType::Text);
        let direction = direction
            .and_then(self::direction)
            .unwrap_or(Direction::Outbound);
        let (values, language) = (request.variables, &request.language);
        let quick_reply = filling(&mut fields, &request.quick_reply_id, language, values);
        if quick_reply.is_some() && !request.text.is_empty() {
            fields.refuse("text", "must be left out beside `quick_reply_id`");
        }
        if quick_reply.is_some() && direction == Direction::Inbound {
            fields.refuse("quick_reply_id", "must be left out of an inbound message");
        }
        let text = match message_type {
            MessageType::Text if quick_reply.is_none() => {
                fields.required_text("text", request.text, TEXT)
            }
            _ => fields.text("text", request.text, TEXT),
        };
        let location = request.location.map(|place| location(&mut fields, place));
        let files = &request.attachment_ids;
        match message_type {
            MessageType::Location => {
                if location.is_none() {
                    fields.refuse("location", "is required for type LOCATION");
                }
                if !files.is_empty() {
                    fields.refuse("attachment_ids", "must be empty for type LOCATION");
                }
            }
            MessageType::Text
            | MessageType::Image
            | MessageType::Document
            | MessageType::Audio
            | MessageType::Video => {
                if location.is_some() {
                    fields.refuse("location", "must be left out unless type is LOCATION");
                }
                if files.is_empty() && message_type != MessageType::Text {
                    fields.refuse("attachment_ids", "is required for this type");
                }
            }
        }
        let attachments = attachment_ids(&mut fields, files);
        let send_at = send_time(&mut fields, request.send_time.as_ref());
        if send_at.is_some() && direction == Direction::Inbound {
            fields.refuse("send_time", "must be left out of an inbound message");
        }
        if send_at.is_some() && quick_reply.is_some() {
            fields.refuse("send_time", "must be left out beside `quick_reply_id`");
        }
        let message = NewMessage {
            id: MessageId::new(),
            request_id,
            conversation_id: fields.required_id(
                "conversation_id",
                &request.conversation_id,
                ConversationId,
            ),
            direction,
            message_type,
            text,
            location,
            reply_to: fields.id(
                "reply_to_message_id",
                &request.reply_to_message_id,
                MessageId,
            ),
            metadata: fields.metadata("metadata", request.metadata),
            quick_reply,
            attachments,
        };
        fields.finish()?;
        Ok(Self { message, send_at })
    }
}

/// Reads the files that something is to have.
pub fn attachment_ids(fields: &mut Fields, ids: &[String]) -> Vec<AttachmentId> {
    if ids.len() > MOST_OF_A_MESSAGE {
        let description = format!("must have at most {MOST_OF_A_MESSAGE} values");
        fields.refuse("attachment_ids", description);
        return Vec::new();
    }
    let mut attachments = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let path = format!("attachment_ids[{index}]");
        let id = fields.required_id(&path, id, AttachmentId);
        if attachments.contains(&id) {
            fields.refuse(path, "is there twice");
        }
        attachments.push(id);
    }
    attachments
}

/// What `ListMessages` asks for.
pub struct MessagesPage {
    /// Of which conversation.
    pub conversation_id: ConversationId,
    /// In which order.
    pub order: message_list::Order,
    /// Around which message.
    pub around: Option<MessageId>,
    /// Whether with what is left of deleted ones.
    pub shows_deleted: bool,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
}

impl TryFrom<pb::ListMessagesRequest> for MessagesPage {
    type Error = Error;

    fn try_from(request: pb::ListMessagesRequest) -> Result<Self, Error> {
        let size = PageSize::new(request.page_size)?;
        let mut fields = Fields::default();
        let order = match request.order_by.as_str() {
            "" | "sequence" => message_list::Order::OldestFirst,
            "sequence desc" => message_list::Order::NewestFirst,
            _ => {
                fields.refuse("order_by", "must be `sequence` or `sequence desc`");
                message_list::Order::OldestFirst
            }
        };
        let around = fields.id("around_message_id", &request.around_message_id, MessageId);
        if around.is_some() && order == message_list::Order::NewestFirst {
            fields.refuse("around_message_id", "goes only with the order `sequence`");
        }
        let conversation = &request.conversation_id;
        let page = Self {
            conversation_id: fields.required_id("conversation_id", conversation, ConversationId),
            order,
            around,
            shows_deleted: request.show_deleted,
            size,
            token: request.page_token,
        };
        fields.finish()?;
        Ok(page)
    }
}

impl TryFrom<pb::UpdateMessageStatusRequest> for StatusReport {
    type Error = Error;

    fn try_from(request: pb::UpdateMessageStatusRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let message_id = fields.required_id("message_id", &request.message_id, MessageId);
        let status = match fields.choice::<pb::MessageStatus>("status", request.status) {
            Some(pb::MessageStatus::Sent) => MessageStatus::Sent,
            Some(pb::MessageStatus::Delivered) => MessageStatus::Delivered,
            Some(pb::MessageStatus::Read) => MessageStatus::Read,
            Some(pb::MessageStatus::Failed) => MessageStatus::Failed,
            Some(pb::MessageStatus::Queued | pb::MessageStatus::Unspecified) | None => {
                if pb::MessageStatus::try_from(request.status).is_ok() {
                    fields.refuse("status", "must be SENT, DELIVERED, READ or FAILED");
                }
                MessageStatus::Queued
            }
        };
        if request.failure.is_some() && status != MessageStatus::Failed {
            fields.refuse("failure", "must be left out unless status is FAILED");
        }
        let failure = request.failure.map(|failure| {
            let code = fields.text("failure.code", failure.code, FAILURE_CODE);
            let message = fields.text("failure.message", failure.message, FAILURE_MESSAGE);
            (code, message)
        });
        let (failure_code, failure_message) = failure.unzip();
        let at = fields.time("status_time", request.status_time.as_ref());
        fields.finish()?;
        Ok(Self {
            message_id,
            status,
            at,
            failure_code,
            failure_message,
        })
    }
}

impl TryFrom<pb::EditMessageRequest> for Edit {
    type Error = Error;

    fn try_from(request: pb::EditMessageRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let edit = Self {
            message_id: fields.required_id("message_id", &request.message_id, MessageId),
            etag: fields.etag(request.etag),
            text: fields.text("text", request.text, TEXT),
            by_provider: None,
        };
        fields.finish()?;
        Ok(edit)
    }
}

impl TryFrom<pb::DeleteMessageRequest> for Deletion {
    type Error = Error;

    fn try_from(request: pb::DeleteMessageRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let deletion = Self {
            message_id: fields.required_id("message_id", &request.message_id, MessageId),
            etag: fields.etag(request.etag),
            redacts: request.redact,
        };
        fields.finish()?;
        Ok(deletion)
    }
}

/// What `RetryMessage` asks for.
pub struct Retry {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// Which message.
    pub message_id: MessageId,
}

impl TryFrom<pb::RetryMessageRequest> for Retry {
    type Error = Error;

    fn try_from(mut request: pb::RetryMessageRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let message_id = fields.required_id("message_id", &request.message_id, MessageId);
        fields.finish()?;
        Ok(Self {
            request_id,
            message_id,
        })
    }
}

/// What a list asks for that belongs to one message.
pub struct PageOfMessage {
    /// Of which message.
    pub message_id: MessageId,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
}

macro_rules! pages_of_message {
    ($($request:ident),* $(,)?) => {$(
        impl TryFrom<pb::$request> for PageOfMessage {
            type Error = Error;

            fn try_from(request: pb::$request) -> Result<Self, Error> {
                let size = PageSize::new(request.page_size)?;
                let mut fields = Fields::default();
                let message_id = fields.required_id("message_id", &request.message_id, MessageId);
                fields.finish()?;
                Ok(Self {
                    message_id,
                    size,
                    token: request.page_token,
                })
            }
        }
    )*};
}

pages_of_message! {
    ListMessageAttemptsRequest,
    ListMessageRevisionsRequest,
}

impl From<Attempt> for pb::MessageAttempt {
    fn from(attempt: Attempt) -> Self {
        let outcome = match attempt.outcome {
            None => pb::MessageAttemptOutcome::Unspecified,
            Some(AttemptOutcome::Sent) => pb::MessageAttemptOutcome::Sent,
            Some(AttemptOutcome::Failed) => pb::MessageAttemptOutcome::Failed,
        };
        let failed = attempt.outcome == Some(AttemptOutcome::Failed);
        let failure = failed.then(|| pb::MessageFailure {
            code: attempt.failure_code.unwrap_or_default(),
            message: attempt.failure_message.unwrap_or_default(),
        });
        Self {
            message_id: attempt.message_id.into(),
            number: attempt.number,
            outcome: outcome.into(),
            failure,
            actor: Actor::of_kind(&attempt.actor_kind, attempt.actor_id).map(Into::into),
            caller: attempt.caller,
            start_time: Some(to_timestamp(attempt.started_at)),
            end_time: attempt.ended_at.map(to_timestamp),
        }
    }
}

impl From<Revision> for pb::MessageRevision {
    fn from(revision: Revision) -> Self {
        let kind = match revision.kind {
            RevisionKind::Edit => pb::MessageRevisionKind::Edit,
            RevisionKind::Deletion => pb::MessageRevisionKind::Deletion,
        };
        let location = revision.location().map(Into::into);
        Self {
            message_id: revision.message_id.into(),
            number: revision.number,
            kind: kind.into(),
            text: revision.text,
            location,
            actor: Actor::of_kind(&revision.actor_kind, revision.actor_id).map(Into::into),
            caller: revision.caller,
            replace_time: Some(to_timestamp(revision.created_at)),
            redact_time: revision.redacted_at.map(to_timestamp),
        }
    }
}

/// Reads the id of `GetMessage`.
pub fn message_id(request: &pb::GetMessageRequest) -> Result<MessageId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("message_id", &request.message_id, MessageId);
    fields.finish()?;
    Ok(id)
}

pub(super) fn location(fields: &mut Fields, place: pb::Location) -> Location {
    // Written so that NaN, which is in no range, is refused too.
    if !(-90.0..=90.0).contains(&place.latitude) {
        fields.refuse("location.latitude", "must be between -90 and 90");
    }
    if !(-180.0..=180.0).contains(&place.longitude) {
        fields.refuse("location.longitude", "must be between -180 and 180");
    }
    Location {
        latitude: place.latitude,
        longitude: place.longitude,
        name: fields.text("location.name", place.name, PLACE),
        address: fields.text("location.address", place.address, PLACE),
    }
}
pub(super) fn direction(direction: pb::MessageDirection) -> Option<Direction> {
    Some(match direction {
        pb::MessageDirection::Unspecified => return None,
        pb::MessageDirection::Inbound => Direction::Inbound,
        pb::MessageDirection::Outbound => Direction::Outbound,
        pb::MessageDirection::Internal => Direction::Internal,
    })
}

pub(super) fn message_type(message_type: pb::MessageType) -> Option<MessageType> {
    Some(match message_type {
        pb::MessageType::Unspecified => return None,
        pb::MessageType::Text => MessageType::Text,
        pb::MessageType::Image => MessageType::Image,
        pb::MessageType::Document => MessageType::Document,
        pb::MessageType::Audio => MessageType::Audio,
        pb::MessageType::Video => MessageType::Video,
        pb::MessageType::Location => MessageType::Location,
    })
}
impl From<Location> for pb::Location {
    fn from(place: Location) -> Self {
        Self {
            latitude: place.latitude,
            longitude: place.longitude,
            name: place.name,
            address: place.address,
        }
    }
}

impl From<Direction> for pb::MessageDirection {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::Inbound,
            Direction::Outbound => Self::Outbound,
            Direction::Internal => Self::Internal,
        }
    }
}

impl From<MessageType> for pb::MessageType {
    fn from(message_type: MessageType) -> Self {
        match message_type {
            MessageType::Text => Self::Text,
            MessageType::Image => Self::Image,
            MessageType::Document => Self::Document,
            MessageType::Audio => Self::Audio,
            MessageType::Video => Self::Video,
            MessageType::Location => Self::Location,
        }
    }
}

impl From<Message> for pb::Message {
    fn from(message: Message) -> Self {
        let etag = message.etag();
        let direction = pb::MessageDirection::from(message.direction);
        let message_type = pb::MessageType::from(message.message_type);
        let status = match message.status {
            None => pb::MessageStatus::Unspecified,
            Some(MessageStatus::Queued) => pb::MessageStatus::Queued,
            Some(MessageStatus::Sent) => pb::MessageStatus::Sent,
            Some(MessageStatus::Delivered) => pb::MessageStatus::Delivered,
            Some(MessageStatus::Read) => pb::MessageStatus::Read,
            Some(MessageStatus::Failed) => pb::MessageStatus::Failed,
        };
        let location = message
            .latitude
            .zip(message.longitude)
            .filter(|_| message.deleted_at.is_none())
            .map(|(latitude, longitude)| pb::Location {
                latitude,
                longitude,
                name: message.location_name.unwrap_or_default(),
                address: message.location_address.unwrap_or_default(),
            });
        let failed = message.status == Some(MessageStatus::Failed);
        let failure = failed.then(|| pb::MessageFailure {
            code: message.failure_code.unwrap_or_default(),
            message: message.failure_message.unwrap_or_default(),
        });
        Self {
            id: message.id.into(),
            conversation_id: message.conversation_id.into(),
            sequence: message.sequence,
            direction: direction.into(),
            r#type: message_type.into(),
            text: message.text,
            location,
            status: status.into(),
            failure,
            reply_to_message_id: message
                .reply_to_message_id
                .map(Into::into)
                .unwrap_or_default(),
            actor: Actor::of_kind(&message.actor_kind, message.actor_id).map(Into::into),
            caller: message.caller,
            metadata: Some(to_struct(message.metadata)),
            create_time: Some(to_timestamp(message.created_at)),
            update_time: Some(to_timestamp(message.updated_at)),
            sent_time: message.sent_at.map(to_timestamp),
            delivered_time: message.delivered_at.map(to_timestamp),
            read_time: message.read_at.map(to_timestamp),
            fail_time: message.failed_at.map(to_timestamp),
            provider_time: message.provider_at.map(to_timestamp),
            attachments: message
                .attachments
                .map(|files| files.0.into_iter().map(Into::into).collect())
                .unwrap_or_default(),
            version: message.version,
            reply_to_provider_id: message.reply_to_provider_id.unwrap_or_default(),
            edit_count: message.edits,
            edit_time: message.edited_at.map(to_timestamp),
            delete_time: message.deleted_at.map(to_timestamp),
            etag,
            imported: message.imported,
            reactions: reactions(message.reactions),
        }
    }
}

/// The reactions that stand: one that was taken back is kept for its order alone.
fn reactions(reactions: Reactions) -> Vec<pb::Reaction> {
    let standing = reactions.0.into_iter();
    standing
        .filter(|reaction| !reaction.emoji.is_empty())
        .map(|reaction| pb::Reaction {
            time: reaction.at().map(to_timestamp),
            emoji: reaction.emoji,
            contact_identifier: reaction.by,
        })
        .collect()
}
