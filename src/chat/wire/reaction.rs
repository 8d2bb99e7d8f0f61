//! Reactions on the wire.

use super::Page;
use crate::chat::emoji::Emoji;
use crate::chat::reaction::{Reaction, UserReaction};
use crate::error::Error;
use crate::field::Fields;
use crate::ids::ChatEntryId;
use crate::pb;
use crate::time::to_timestamp;

fn emoji(fields: &mut Fields, text: &str) -> Option<Emoji> {
    let emoji = Emoji::parse(text);
    if text.is_empty() {
        fields.refuse("emoji", "is required");
    } else if emoji.is_none() {
        let problem =
            "must be one emoji, or a name between colons of 1 to 32 of `a-z`, `0-9`, `_`, `+`, `-`";
        fields.refuse("emoji", problem);
    }
    emoji
}

/// Reads which entry somebody reacts to, and with what.
///
/// # Errors
/// A field cannot be what it is.
pub fn reacted(id: &str, text: &str) -> Result<(ChatEntryId, Emoji), Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("entry_id", id, ChatEntryId);
    let emoji = emoji(&mut fields, text);
    fields.finish()?;
    let emoji = emoji.ok_or_else(|| Error::invalid("emoji", "is required"))?;
    Ok((id, emoji))
}

/// What `ListReactions` asks for.
pub struct ReactionsPage {
    /// To which entry.
    pub entry_id: ChatEntryId,
    /// With this alone.
    pub emoji: Option<Emoji>,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListReactionsRequest> for ReactionsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListReactionsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let entry_id = fields.required_id("entry_id", &request.entry_id, ChatEntryId);
        let emoji = match request.emoji.as_str() {
            "" => None,
            text => emoji(&mut fields, text),
        };
        fields.finish()?;
        Ok(Self {
            entry_id,
            emoji,
            page,
        })
    }
}

impl From<Reaction> for pb::ChatReaction {
    fn from(reaction: Reaction) -> Self {
        Self {
            emoji: reaction.emoji,
            count: reaction.count,
            user_ids: reaction.user_ids,
        }
    }
}

impl From<UserReaction> for pb::ChatUserReaction {
    fn from(reaction: UserReaction) -> Self {
        Self {
            user_id: reaction.user_id,
            emoji: reaction.emoji,
            create_time: Some(to_timestamp(reaction.created_at)),
        }
    }
}
