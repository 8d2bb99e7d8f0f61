//! Mentions on the wire.

use super::Page;
use crate::chat::mention::MentionFilter;
use crate::error::Error;
use crate::field::Fields;
use crate::ids::ChannelId;
use crate::pb;

/// What `ListMentions` asks for.
pub struct MentionsPage {
    /// Which.
    pub filter: MentionFilter,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListMentionsRequest> for MentionsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListMentionsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let filter = MentionFilter {
            channel_id: fields.id("channel_id", &request.channel_id, ChannelId),
            unread: request.unread,
        };
        fields.finish()?;
        Ok(Self { filter, page })
    }
}
