//! Uses of quick replies on the wire.

use std::collections::BTreeMap;

use super::{MAX_VARIABLES, language, someone};
use crate::access::Actor;
use crate::error::Error;
use crate::field::Fields;
use crate::ids::{ConversationId, QuickReplyId};
use crate::page::PageSize;
use crate::pb;
use crate::quick_reply::record::{StatsFilter, Usage, Use, UseFilter};
use crate::quick_reply::usage::{Filling, NewUse, Used};
use crate::quick_reply::variable::is_name;
use crate::request_id::RequestId;
use crate::time::to_timestamp;

impl TryFrom<pb::UseQuickReplyRequest> for NewUse {
    type Error = Error;

    fn try_from(mut request: pb::UseQuickReplyRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let id = &request.quick_reply_id;
        let new = Self {
            request_id,
            filling: Filling {
                quick_reply_id: fields.required_id("quick_reply_id", id, QuickReplyId),
                language: language(&mut fields, "language", &request.language),
                variables: values(&mut fields, request.variables),
            },
            conversation_id: fields.id("conversation_id", &request.conversation_id, ConversationId),
        };
        fields.finish()?;
        Ok(new)
    }
}

/// Reads what a message is to be filled in with; nothing where it names no quick reply.
pub fn filling(
    fields: &mut Fields,
    id: &str,
    tag: &str,
    variables: BTreeMap<String, String>,
) -> Option<Filling> {
    let quick_reply_id = fields.id("quick_reply_id", id, QuickReplyId);
    if quick_reply_id.is_none() {
        let beside = "goes only with `quick_reply_id`";
        if !tag.is_empty() {
            fields.refuse("language", beside);
        }
        if !variables.is_empty() {
            fields.refuse("variables", beside);
        }
    }
    quick_reply_id.map(|quick_reply_id| Filling {
        quick_reply_id,
        language: language(fields, "language", tag),
        variables: values(fields, variables),
    })
}

/// Reads values of variables; what they have to look like, the quick reply says.
fn values(fields: &mut Fields, values: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if values.len() > MAX_VARIABLES {
        let problem = format!("must have at most {MAX_VARIABLES} values");
        fields.refuse("variables", problem);
    }
    if values.keys().any(|name| !is_name(name)) {
        fields.refuse("variables", "has a name that no variable can have");
    }
    values
}

/// What `ListQuickReplyUses` asks for.
pub struct UsesPage {
    /// Which.
    pub filter: UseFilter,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::ListQuickReplyUsesRequest> for UsesPage {
    type Error = Error;

    fn try_from(mut request: pb::ListQuickReplyUsesRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let filter = UseFilter {
            quick_reply_id: fields.id("quick_reply_id", &request.quick_reply_id, QuickReplyId),
            user_id: someone(&mut fields, "user_id", request.user_id),
        };
        fields.finish()?;
        Ok(Self {
            filter,
            size,
            token,
            binding,
        })
    }
}

/// What `GetQuickReplyStats` asks for.
pub struct StatsPage {
    /// Which uses.
    pub filter: StatsFilter,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::GetQuickReplyStatsRequest> for StatsPage {
    type Error = Error;

    fn try_from(mut request: pb::GetQuickReplyStatsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let filter = StatsFilter {
            start: fields.time("start_time", request.start_time.as_ref()),
            end: fields.time("end_time", request.end_time.as_ref()),
            user_id: someone(&mut fields, "user_id", request.user_id),
        };
        if let (Some(start), Some(end)) = (filter.start, filter.end)
            && end < start
        {
            fields.refuse("end_time", "must not be before `start_time`");
        }
        fields.finish()?;
        Ok(Self {
            filter,
            size,
            token,
            binding,
        })
    }
}

impl From<Used> for pb::UseQuickReplyResponse {
    fn from(used: Used) -> Self {
        Self {
            text: used.text,
            language: used.language,
            missing_variables: used.missing,
            usage_count: used.usage_count,
            use_id: used.use_id.into(),
            attachments: used.attachments.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Use> for pb::QuickReplyUse {
    fn from(used: Use) -> Self {
        Self {
            id: used.id.into(),
            quick_reply_id: used.quick_reply_id.into(),
            conversation_id: used.conversation_id.map(Into::into).unwrap_or_default(),
            message_id: used.message_id.map(Into::into).unwrap_or_default(),
            language: used.language,
            actor: Actor::of_kind(&used.actor_kind, used.actor_id).map(Into::into),
            caller: used.caller,
            use_time: Some(to_timestamp(used.used_at)),
        }
    }
}

impl From<Usage> for pb::QuickReplyUsage {
    fn from(usage: Usage) -> Self {
        Self {
            quick_reply_id: usage.quick_reply_id.into(),
            shortcut: usage.shortcut,
            title: usage.title,
            uses: usage.uses,
            last_used_time: Some(to_timestamp(usage.last_used_at)),
        }
    }
}
