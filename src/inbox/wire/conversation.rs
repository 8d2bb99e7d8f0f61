//! Conversations on the wire.

use crate::channel::Channel;
use crate::error::Error;
use crate::field::{Fields, Mask, Most, to_struct};
use crate::ids::{ChannelAccountId, ContactId, ConversationId};
use crate::inbox::conversation::{
    Conversation, ConversationFilter, ConversationPatch, NewConversation, Order, Priority, Status,
    etag,
};
use crate::page::PageSize;
use crate::pb;
use crate::request_id::RequestId;
use crate::time::to_timestamp;

use super::{IDENTIFIER, NAME, TEXT};

const SUBJECT: Most = Most::Characters(998);

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
        let statuses = fields.choices("statuses", &request.statuses, status);
        let channels = fields.choices("channels", &request.channels, Channel::from_wire);
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
            updated_since: fields.time("updated_since_time", request.updated_since_time.as_ref()),
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
        let mask = Mask::read(&mut fields, request.update_mask, &FIELDS);
        let mut patch = ConversationPatch::default();
        if mask.touches("subject", request.subject.is_some()) {
            let subject = request.subject.unwrap_or_default();
            patch.subject = Some(fields.text("subject", subject, SUBJECT));
        }
        if mask.touches("priority", request.priority.is_some()) {
            let number = request.priority.unwrap_or_default();
            let priority = fields.choice::<pb::Priority>("priority", number);
            patch.priority = Some(
                priority
                    .and_then(self::priority)
                    .unwrap_or(Priority::Normal),
            );
        }
        // With `*` too, a status that nobody named stays as it is: it cannot be cleared.
        if request.status.is_some() && mask.touches("status", true) || mask.names("status") {
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
        if mask.touches("metadata", request.metadata.is_some()) {
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
/// Reads the id of `GetConversation`.
pub fn conversation_id(request: &pb::GetConversationRequest) -> Result<ConversationId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("conversation_id", &request.conversation_id, ConversationId);
    fields.finish()?;
    Ok(id)
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
