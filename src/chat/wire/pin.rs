//! Pins on the wire.

use super::Page;
use crate::error::Error;
use crate::field::Fields;
use crate::ids::ChannelId;
use crate::pb;

/// What `ListPinnedEntries` asks for.
pub struct PinsPage {
    /// Of which channel.
    pub channel_id: ChannelId,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListPinnedEntriesRequest> for PinsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListPinnedEntriesRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let channel_id = fields.required_id("channel_id", &request.channel_id, ChannelId);
        fields.finish()?;
        Ok(Self { channel_id, page })
    }
}
