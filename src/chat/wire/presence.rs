//! Presence on the wire.

use crate::access::Facts;
use crate::error::Error;
use crate::field::{Fields, Most};
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
