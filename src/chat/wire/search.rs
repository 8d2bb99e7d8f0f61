//! Searches on the wire.

use super::Page;
use crate::chat::entry::Entry;
use crate::chat::search::SearchFilter;
use crate::error::Error;
use crate::field::{Fields, Most};
use crate::ids::{ChannelId, ChatEntryId};
use crate::pb;
use crate::search::{Query, snippet};

const QUERY: Most = Most::Characters(500);

/// What `SearchEntries` asks for.
pub struct SearchPage {
    /// What to look for.
    pub query: Query,
    /// In which entries.
    pub filter: SearchFilter,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::SearchEntriesRequest> for SearchPage {
    type Error = Error;

    fn try_from(mut request: pb::SearchEntriesRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let text = fields.required_text("query", request.query, QUERY);
        let query = Query::parse(&text);
        if let (Err(problem), false) = (&query, text.is_empty()) {
            fields.refuse("query", *problem);
        }
        let author = request.author_user_id;
        let filter = SearchFilter {
            channel_id: fields.id("channel_id", &request.channel_id, ChannelId),
            thread_root_id: fields.id("thread_root_id", &request.thread_root_id, ChatEntryId),
            author_user_id: fields.name_of_somebody("author_user_id", author),
            from: fields.time("start_time", request.start_time.as_ref()),
            before: fields.time("end_time", request.end_time.as_ref()),
        };
        fields.finish()?;
        Ok(Self {
            query: query.map_err(|problem| Error::invalid("query", problem))?,
            filter,
            page,
        })
    }
}

/// Writes an entry that was found, with what was found in it.
pub fn entry_match(entry: Entry, query: &Query) -> pb::ChatEntryMatch {
    let parts = snippet(&entry.text, query).into_iter();
    pb::ChatEntryMatch {
        snippet: parts
            .map(|part| pb::SnippetPart {
                text: part.text,
                is_match: part.is_match,
            })
            .collect(),
        entry: Some(entry.into()),
    }
}
