//! Searches on the wire.

use crate::access::Actor;
use crate::channel::Channel;
use crate::error::{Error, Violation};
use crate::field::{Fields, Most};
use crate::ids::{ChannelAccountId, ContactId, ConversationId};
use crate::inbox::message::Message;
use crate::inbox::search::SearchFilter;
use crate::page::PageSize;
use crate::pb;
use crate::search::{Query, snippet};

use super::message::{direction, message_type};

const QUERY: Most = Most::Characters(500);

/// What `SearchMessages` asks for.
pub struct SearchPage {
    /// What to look for.
    pub query: Query,
    /// In which messages.
    pub filter: SearchFilter,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::SearchMessagesRequest> for SearchPage {
    type Error = Error;

    fn try_from(mut request: pb::SearchMessagesRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        // All that is left of the request says which list it is.
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let text = fields.required_text("query", request.query, QUERY);
        let query = Query::parse(&text);
        if let (Err(problem), false) = (&query, text.is_empty()) {
            fields.refuse("query", *problem);
        }
        let account = &request.channel_account_id;
        let filter = SearchFilter {
            conversation_id: fields.id("conversation_id", &request.conversation_id, ConversationId),
            contact_id: fields.id("contact_id", &request.contact_id, ContactId),
            channel_account_id: fields.id("channel_account_id", account, ChannelAccountId),
            channels: fields.choices("channels", &request.channels, Channel::from_wire),
            directions: fields.choices("directions", &request.directions, direction),
            types: fields.choices("types", &request.types, message_type),
            author: request
                .author
                .and_then(|author| self::author(&mut fields, author)),
            from: fields.time("start_time", request.start_time.as_ref()),
            before: fields.time("end_time", request.end_time.as_ref()),
        };
        fields.finish()?;
        Ok(Self {
            query: query.map_err(|problem| Error::invalid("query", problem))?,
            filter,
            size,
            token,
            binding,
        })
    }
}

pub(super) fn author(fields: &mut Fields, author: pb::Actor) -> Option<Actor> {
    match Actor::try_from(author) {
        Ok(author) => Some(author),
        Err(Error::InvalidArgument(violations)) => {
            for Violation { field, description } in violations {
                fields.refuse(field.replacen("actor", "author", 1), description);
            }
            None
        }
        Err(_) => None,
    }
}

/// Writes a message that was found, with what was found in it.
pub fn message_match(message: Message, query: &Query) -> pb::MessageMatch {
    let parts = snippet(&message.text, query).into_iter();
    pb::MessageMatch {
        snippet: parts
            .map(|part| pb::SnippetPart {
                text: part.text,
                is_match: part.is_match,
            })
            .collect(),
        message: Some(message.into()),
    }
}
