//! Conversations and messages on the wire.

use chrono::{DateTime, Utc};

use super::conversation::{
    Conversation, ConversationFilter, ConversationPatch, NewConversation, Order, Priority, Status,
    etag,
};
use super::message::{
    self, Direction, Location, Message, MessageStatus, MessageType, NewMessage, StatusReport,
};
use crate::access::Actor;
use crate::channel::Channel;
use crate::error::Error;
use crate::field::{Fields, Most, to_struct};
use crate::ids::{ChannelAccountId, ContactId, ConversationId, MessageId};
use crate::page::PageSize;
use crate::pb;
use crate::request_id::RequestId;
use crate::time::{from_timestamp, to_timestamp};

const TEXT: Most = Most::Bytes(64 * 1024);
const SUBJECT: Most = Most::Characters(998);
const NAME: Most = Most::Characters(256);
const IDENTIFIER: Most = Most::Characters(512);
const PLACE: Most = Most::Characters(1000);
const FAILURE_CODE: Most = Most::Characters(128);
const FAILURE_MESSAGE: Most = Most::Characters(4000);

impl TryFrom<pb::CreateConversationRequest> for NewConversation {
    type Error = Error;

    fn try_from(mut request: pb::CreateConversationRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let channel = fields
            .choice::<pb::Channel>("channel", request.channel)
            .and_then(Channel::from_wire);
        let account = &request.channel_account_id;
        let channel_account_id = fields.id("channel_account_id", account, ChannelAccountId);
        if request.channel == 0 && channel_account_id.is_none() {
            fields.refuse("channel", "is required");
        }
        let priority = fields.choice::<pb::Priority>("priority", request.priority);
        let new = Self {
            request_id,
            channel,
            channel_account_id,
            contact_identifier: fields.required_text(
                "contact_identifier",
                request.contact_identifier,
                IDENTIFIER,
            ),
            contact_name: fields.text("contact_name", request.contact_name, NAME),
            first_message: fields.text("first_message", request.first_message, TEXT),
            subject: fields.text("subject", request.subject, SUBJECT),
            priority: priority
                .and_then(self::priority)
                .unwrap_or(Priority::Normal),
            metadata: fields.metadata("metadata", request.metadata),
            thread_key: fields.text("thread_key", request.thread_key, IDENTIFIER),
        };
        fields.finish()?;
        Ok(new)
    }
}

/// What `ListConversations` asks for.
pub struct ConversationsPage {
    /// Which.
    pub filter: ConversationFilter,
    /// In which order.
    pub order: Order,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::ListConversationsRequest> for ConversationsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListConversationsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        // All that is left of the request says which list it is.
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let statuses = choices(&mut fields, "statuses", &request.statuses, status);
        let channels = choices(
            &mut fields,
            "channels",
            &request.channels,
            Channel::from_wire,
        );
        let order = match request.order_by.as_str() {
            "" | "last_message_time desc" => Order::LastMessage,
            "create_time desc" => Order::NewestFirst,
            "create_time" => Order::OldestFirst,
            _ => {
                fields.refuse(
                    "order_by",
                    "must be `last_message_time desc`, `create_time desc` or `create_time`",
                );
                Order::LastMessage
            }
        };
        let account = &request.channel_account_id;
        let filter = ConversationFilter {
            statuses: statuses.unwrap_or_else(|| {
                vec![
                    Status::New,
                    Status::Open,
                    Status::Replied,
                    Status::Qualified,
                ]
            }),
            channels,
            channel_account_id: fields.id("channel_account_id", account, ChannelAccountId),
            contact_id: fields.id("contact_id", &request.contact_id, ContactId),
            updated_since: time(
                &mut fields,
                "updated_since_time",
                request.updated_since_time.as_ref(),
            ),
        };
        fields.finish()?;
        Ok(Self {
            filter,
            order,
            size,
            token,
            binding,
        })
    }
}

/// What `UpdateConversation` asks for.
pub struct ConversationEdit {
    /// Of which conversation.
    pub id: ConversationId,
    /// Which etag it must have.
    pub etag: Option<String>,
    /// What to change.
    pub patch: ConversationPatch,
}

impl TryFrom<pb::UpdateConversationRequest> for ConversationEdit {
    type Error = Error;

    fn try_from(request: pb::UpdateConversationRequest) -> Result<Self, Error> {
        const FIELDS: [&str; 4] = ["subject", "priority", "status", "metadata"];
        let mut fields = Fields::default();
        let id = fields.required_id("conversation_id", &request.conversation_id, ConversationId);
        let paths = request
            .update_mask
            .map(|mask| mask.paths)
            .unwrap_or_default();
        for path in &paths {
            if path != "*" && !FIELDS.contains(&path.as_str()) {
                let all = "`subject`, `priority`, `status`, `metadata` or `*`";
                fields.refuse("update_mask", format!("has `{path}`, which is not {all}"));
            }
        }
        let every = paths.iter().any(|path| path == "*");
        let touches = |field: &str, is_set: bool| {
            if paths.is_empty() {
                is_set
            } else {
                every || paths.iter().any(|path| path == field)
            }
        };
        let mut patch = ConversationPatch::default();
        if touches("subject", request.subject.is_some()) {
            let subject = request.subject.unwrap_or_default();
            patch.subject = Some(fields.text("subject", subject, SUBJECT));
        }
        if touches("priority", request.priority.is_some()) {
            let number = request.priority.unwrap_or_default();
            let priority = fields.choice::<pb::Priority>("priority", number);
            patch.priority = Some(
                priority
                    .and_then(self::priority)
                    .unwrap_or(Priority::Normal),
            );
        }
        // With `*` too, a status that nobody named stays as it is: it cannot be cleared.
        let names_status = paths.iter().any(|path| path == "status");
        if request.status.is_some() && touches("status", true) || names_status {
            let number = request.status.unwrap_or_default();
            let status = fields
                .choice::<pb::ConversationStatus>("status", number)
                .and_then(status);
            match status {
                Some(Status::New | Status::Open | Status::Replied) => patch.status = status,
                Some(Status::Qualified | Status::Archived) => {
                    fields.refuse(
                        "status",
                        "must be NEW, OPEN or REPLIED: the others have calls of their own",
                    );
                }
                None if number == 0 => fields.refuse("status", "cannot be cleared"),
                None => {}
            }
        }
        if touches("metadata", request.metadata.is_some()) {
            patch.metadata = Some(fields.metadata("metadata", request.metadata));
        }
        let etag = fields.text("etag", request.etag, Most::Characters(64));
        fields.finish()?;
        Ok(Self {
            id,
            etag: (!etag.is_empty()).then_some(etag),
            patch,
        })
    }
}

impl TryFrom<pb::CreateMessageRequest> for NewMessage {
    type Error = Error;

    fn try_from(mut request: pb::CreateMessageRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let direction = fields.choice::<pb::MessageDirection>("direction", request.direction);
        let kind = fields.choice::<pb::MessageType>("type", request.r#type);
        let message_type = kind.and_then(message_type).unwrap_or(MessageType::Text);
        let text = match message_type {
            MessageType::Text => fields.required_text("text", request.text, TEXT),
            _ => fields.text("text", request.text, TEXT),
        };
        let location = request.location.map(|place| location(&mut fields, place));
        match message_type {
            MessageType::Location if location.is_none() => {
                fields.refuse("location", "is required for type LOCATION");
            }
            MessageType::Location => {}
            MessageType::Text => {
                if location.is_some() {
                    fields.refuse("location", "must be left out unless type is LOCATION");
                }
            }
            MessageType::Image
            | MessageType::Document
            | MessageType::Audio
            | MessageType::Video => {
                fields.refuse(
                    "type",
                    "needs an attachment, which messages cannot carry yet",
                );
            }
        }
        let new = Self {
            request_id,
            conversation_id: fields.required_id(
                "conversation_id",
                &request.conversation_id,
                ConversationId,
            ),
            direction: direction
                .and_then(self::direction)
                .unwrap_or(Direction::Outbound),
            message_type,
            text,
            location,
            reply_to: fields.id(
                "reply_to_message_id",
                &request.reply_to_message_id,
                MessageId,
            ),
            metadata: fields.metadata("metadata", request.metadata),
        };
        fields.finish()?;
        Ok(new)
    }
}

/// What `ListMessages` asks for.
pub struct MessagesPage {
    /// Of which conversation.
    pub conversation_id: ConversationId,
    /// In which order.
    pub order: message::Order,
    /// Around which message.
    pub around: Option<MessageId>,
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
            "" | "sequence" => message::Order::OldestFirst,
            "sequence desc" => message::Order::NewestFirst,
            _ => {
                fields.refuse("order_by", "must be `sequence` or `sequence desc`");
                message::Order::OldestFirst
            }
        };
        let around = fields.id("around_message_id", &request.around_message_id, MessageId);
        if around.is_some() && order == message::Order::NewestFirst {
            fields.refuse("around_message_id", "goes only with the order `sequence`");
        }
        let conversation = &request.conversation_id;
        let page = Self {
            conversation_id: fields.required_id("conversation_id", conversation, ConversationId),
            order,
            around,
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
        let at = time(&mut fields, "status_time", request.status_time.as_ref());
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

/// Reads the id of `GetConversation`.
pub fn conversation_id(request: &pb::GetConversationRequest) -> Result<ConversationId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("conversation_id", &request.conversation_id, ConversationId);
    fields.finish()?;
    Ok(id)
}

/// Reads the id of `GetMessage`.
pub fn message_id(request: &pb::GetMessageRequest) -> Result<MessageId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("message_id", &request.message_id, MessageId);
    fields.finish()?;
    Ok(id)
}

fn time(
    fields: &mut Fields,
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Option<DateTime<Utc>> {
    match from_timestamp(field, time?) {
        Ok(time) => Some(time),
        Err(Error::InvalidArgument(violations)) => {
            for violation in violations {
                fields.refuse(violation.field, violation.description);
            }
            None
        }
        Err(_) => None,
    }
}

fn choices<P: TryFrom<i32>, T>(
    fields: &mut Fields,
    field: &str,
    numbers: &[i32],
    read: fn(P) -> Option<T>,
) -> Option<Vec<T>> {
    if numbers.is_empty() {
        return None;
    }
    if numbers.len() > 20 {
        fields.refuse(field, "must have at most 20 values");
        return None;
    }
    let mut values = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        let path = format!("{field}[{index}]");
        match fields.choice::<P>(&path, *number).and_then(read) {
            Some(value) => values.push(value),
            None if *number == 0 => fields.refuse(path, "must not be unspecified"),
            None => {}
        }
    }
    Some(values)
}

fn location(fields: &mut Fields, place: pb::Location) -> Location {
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

fn status(status: pb::ConversationStatus) -> Option<Status> {
    Some(match status {
        pb::ConversationStatus::Unspecified => return None,
        pb::ConversationStatus::New => Status::New,
        pb::ConversationStatus::Open => Status::Open,
        pb::ConversationStatus::Replied => Status::Replied,
        pb::ConversationStatus::Qualified => Status::Qualified,
        pb::ConversationStatus::Archived => Status::Archived,
    })
}

fn priority(priority: pb::Priority) -> Option<Priority> {
    Some(match priority {
        pb::Priority::Unspecified => return None,
        pb::Priority::Low => Priority::Low,
        pb::Priority::Normal => Priority::Normal,
        pb::Priority::High => Priority::High,
        pb::Priority::Urgent => Priority::Urgent,
    })
}

fn direction(direction: pb::MessageDirection) -> Option<Direction> {
    Some(match direction {
        pb::MessageDirection::Unspecified => return None,
        pb::MessageDirection::Inbound => Direction::Inbound,
        pb::MessageDirection::Outbound => Direction::Outbound,
        pb::MessageDirection::Internal => Direction::Internal,
    })
}

fn message_type(message_type: pb::MessageType) -> Option<MessageType> {
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

impl From<Conversation> for pb::Conversation {
    fn from(conversation: Conversation) -> Self {
        let status = match conversation.status {
            Status::New => pb::ConversationStatus::New,
            Status::Open => pb::ConversationStatus::Open,
            Status::Replied => pb::ConversationStatus::Replied,
            Status::Qualified => pb::ConversationStatus::Qualified,
            Status::Archived => pb::ConversationStatus::Archived,
        };
        let priority = match conversation.priority {
            Priority::Low => pb::Priority::Low,
            Priority::Normal => pb::Priority::Normal,
            Priority::High => pb::Priority::High,
            Priority::Urgent => pb::Priority::Urgent,
        };
        let has_messages = conversation.last_sequence > 0;
        Self {
            id: conversation.id.into(),
            number: conversation.number,
            channel: pb::Channel::from(conversation.channel).into(),
            channel_account_id: conversation.channel_account_id.into(),
            contact_id: conversation.contact_id.into(),
            contact_identifier: conversation.contact_identifier,
            contact_name: conversation.contact_name,
            status: status.into(),
            priority: priority.into(),
            subject: conversation.subject,
            metadata: Some(to_struct(conversation.metadata)),
            last_sequence: conversation.last_sequence,
            last_message_time: has_messages.then(|| to_timestamp(conversation.last_message_at)),
            create_time: Some(to_timestamp(conversation.created_at)),
            update_time: Some(to_timestamp(conversation.updated_at)),
            archive_time: conversation.archived_at.map(to_timestamp),
            version: conversation.version,
            etag: etag(conversation.edit_version),
            thread_key: conversation.thread_key,
        }
    }
}

impl From<Message> for pb::Message {
    fn from(message: Message) -> Self {
        let direction = match message.direction {
            Direction::Inbound => pb::MessageDirection::Inbound,
            Direction::Outbound => pb::MessageDirection::Outbound,
            Direction::Internal => pb::MessageDirection::Internal,
        };
        let message_type = match message.message_type {
            MessageType::Text => pb::MessageType::Text,
            MessageType::Image => pb::MessageType::Image,
            MessageType::Document => pb::MessageType::Document,
            MessageType::Audio => pb::MessageType::Audio,
            MessageType::Video => pb::MessageType::Video,
            MessageType::Location => pb::MessageType::Location,
        };
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
            version: message.version,
        }
    }
}
