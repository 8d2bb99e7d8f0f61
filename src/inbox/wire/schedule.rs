//! Messages that are to be sent, on the wire.

use super::TEXT;
use crate::access::Actor;
use crate::error::Error;
use crate::field::{Fields, Mask, to_struct};
use crate::ids::{ConversationId, MessageId};
use crate::inbox::schedule::{Scheduled, ScheduledPatch};
use crate::page::PageSize;
use crate::pb;
use crate::schedule::send_time;
use crate::time::to_timestamp;

/// What `ListScheduledMessages` asks for.
pub struct ScheduledPage {
    /// Of which conversation.
    pub conversation_id: Option<ConversationId>,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
}

impl TryFrom<pb::ListScheduledMessagesRequest> for ScheduledPage {
    type Error = Error;

    fn try_from(request: pb::ListScheduledMessagesRequest) -> Result<Self, Error> {
        let size = PageSize::new(request.page_size)?;
        let mut fields = Fields::default();
        let conversation = &request.conversation_id;
        let conversation_id = fields.id("conversation_id", conversation, ConversationId);
        fields.finish()?;
        Ok(Self {
            conversation_id,
            size,
            token: request.page_token,
        })
    }
}

impl TryFrom<pb::UpdateScheduledMessageRequest> for ScheduledPatch {
    type Error = Error;

    fn try_from(request: pb::UpdateScheduledMessageRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let mask = Mask::read(&mut fields, request.update_mask, &["text", "send_time"]);
        let text = mask
            .touches("text", request.text.is_some())
            .then(|| fields.text("text", request.text.unwrap_or_default(), TEXT));
        let asked = request.send_time.as_ref();
        let touches = mask.touches("send_time", asked.is_some());
        if touches && asked.is_none() {
            fields.refuse("send_time", "cannot be cleared");
        }
        let send_at = touches.then(|| send_time(&mut fields, asked)).flatten();
        let id = &request.scheduled_message_id;
        let patch = Self {
            id: fields.required_id("scheduled_message_id", id, MessageId),
            etag: fields.etag(request.etag),
            text,
            send_at,
        };
        fields.finish()?;
        Ok(patch)
    }
}

/// What `DeleteScheduledMessage` gives up.
pub struct Abandonment {
    /// Which.
    pub id: MessageId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// Whether it is no error that there is none.
    pub allow_missing: bool,
}

impl TryFrom<pb::DeleteScheduledMessageRequest> for Abandonment {
    type Error = Error;

    fn try_from(request: pb::DeleteScheduledMessageRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = &request.scheduled_message_id;
        let abandonment = Self {
            id: fields.required_id("scheduled_message_id", id, MessageId),
            etag: fields.etag(request.etag),
            allow_missing: request.allow_missing,
        };
        fields.finish()?;
        Ok(abandonment)
    }
}

/// Reads the id of `GetScheduledMessage`.
pub fn scheduled_id(request: &pb::GetScheduledMessageRequest) -> Result<MessageId, Error> {
    let mut fields = Fields::default();
    let id = &request.scheduled_message_id;
    let id = fields.required_id("scheduled_message_id", id, MessageId);
    fields.finish()?;
    Ok(id)
}

impl From<Scheduled> for pb::ScheduledMessage {
    fn from(scheduled: Scheduled) -> Self {
        let (etag, location) = (scheduled.etag(), scheduled.location());
        let message = scheduled.failure_message.unwrap_or_default();
        let failure = scheduled.failure_reason;
        Self {
            id: scheduled.id.into(),
            conversation_id: scheduled.conversation_id.into(),
            direction: pb::MessageDirection::from(scheduled.direction).into(),
            r#type: pb::MessageType::from(scheduled.message_type).into(),
            text: scheduled.text,
            location: location.map(Into::into),
            reply_to_message_id: scheduled
                .reply_to_message_id
                .map(Into::into)
                .unwrap_or_default(),
            metadata: Some(to_struct(scheduled.metadata)),
            attachment_ids: scheduled
                .attachment_ids
                .into_iter()
                .flatten()
                .map(Into::into)
                .collect(),
            send_time: Some(to_timestamp(scheduled.send_at)),
            failure: failure.map(|code| pb::MessageFailure { code, message }),
            actor: Actor::of_kind(&scheduled.actor_kind, scheduled.actor_id).map(Into::into),
            caller: scheduled.caller,
            create_time: Some(to_timestamp(scheduled.created_at)),
            update_time: Some(to_timestamp(scheduled.updated_at)),
            version: scheduled.version,
            etag,
        }
    }
}
