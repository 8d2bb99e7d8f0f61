//! What is said and never stored, on the wire.

use crate::access::Facts;
use crate::chat::channel::Seen;
use crate::error::Error;
use crate::field::{Fields, Most};
use crate::ids::{ChannelId, ChatEntryId};
use crate::pb;

/// The longest that somebody can say about being there or not, in characters.
const MAX_PRESENCE_TEXT: usize = 128;

/// Reads whether who acts is there.
///
/// # Errors
/// That is no user, or a field cannot be what it is.
pub fn presence(request: pb::SetPresenceRequest, facts: &Facts) -> Result<pb::Presence, Error> {
    let mut fields = Fields::default();
    if facts.actor.user_id().is_none() {
        fields.refuse("actor", "must be a user");
    }
    let state: Option<pb::PresenceState> = fields.choice("state", request.state);
    if request.state == 0 {
        fields.refuse("state", "is required");
    }
    let text = fields.text("text", request.text, Most::Characters(MAX_PRESENCE_TEXT));
    fields.finish()?;
    Ok(pb::Presence {
        state: state.unwrap_or_default().into(),
        text,
    })
}

/// Where somebody is writing.
pub struct Writing {
    /// In which channel.
    pub id: ChannelId,
    /// In which thread.
    pub thread_root_id: Option<ChatEntryId>,
}

impl Writing {
    /// Reads `SetTyping`.
    ///
    /// # Errors
    /// No user acts, or a field cannot be what it is.
    pub fn read(request: pb::SetTypingRequest, facts: &Facts) -> Result<Self, Error> {
        let mut fields = Fields::default();
        if facts.actor.user_id().is_none() {
            fields.refuse("actor", "must be a user");
        }
        let root = &request.thread_root_id;
        let writing = Self {
            id: fields.required_id("channel_id", &request.channel_id, ChannelId),
            thread_root_id: fields.id("thread_root_id", root, ChatEntryId),
        };
        fields.finish()?;
        Ok(writing)
    }
}

/// What is said of who is writing in a channel.
pub fn typing(seen: &Seen, thread_root_id: Option<ChatEntryId>) -> pb::Typing {
    pb::Typing {
        channel_id: seen.channel.id.into(),
        thread_root_id: thread_root_id.map(Into::into).unwrap_or_default(),
        channel_kind: pb::ChatChannelKind::from(seen.channel.kind).into(),
    }
}
