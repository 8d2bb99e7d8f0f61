//! Channels on the wire.

use super::member::new_members;
use super::{Page, member_answer, user_id};
use crate::access::{Actor, Facts};
use crate::chat::capability::Capability;
use crate::chat::channel::{Channel, Kind, NewChannel, Policy, Seen};
use crate::chat::channel_edit::{ChannelPatch, Edit};
use crate::chat::direct::MOST_USERS;
use crate::chat::listing::ChannelFilter;
use crate::error::Error;
use crate::field::{Fields, Mask, Most, to_struct};
use crate::ids::{ChannelId, ConversationId};
use crate::pb;
use crate::request_id::RequestId;
use crate::time::to_timestamp;

const NAME: Most = Most::Characters(128);
const TOPIC: Most = Most::Characters(1024);
/// The most days that entries can be kept, which is a hundred years.
const MAX_RETENTION_DAYS: i32 = 36_500;

fn kind(kind: pb::ChatChannelKind) -> Option<Kind> {
    Some(match kind {
        pb::ChatChannelKind::Unspecified => return None,
        pb::ChatChannelKind::Public => Kind::Public,
        pb::ChatChannelKind::Private => Kind::Private,
        pb::ChatChannelKind::Direct => Kind::Direct,
        pb::ChatChannelKind::Group => Kind::Group,
    })
}

impl From<Kind> for pb::ChatChannelKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Public => Self::Public,
            Kind::Private => Self::Private,
            Kind::Direct => Self::Direct,
            Kind::Group => Self::Group,
        }
    }
}

/// Reads a policy; `None` where it is left out.
fn policy(fields: &mut Fields, field: &str, number: i32) -> Option<Policy> {
    match fields.choice::<pb::ChatChannelPolicy>(field, number)? {
        pb::ChatChannelPolicy::Unspecified => None,
        pb::ChatChannelPolicy::Members => Some(Policy::Members),
        pb::ChatChannelPolicy::Moderators => Some(Policy::Moderators),
    }
}

impl From<Policy> for pb::ChatChannelPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Members => Self::Members,
            Policy::Moderators => Self::Moderators,
        }
    }
}

impl From<Capability> for pb::ChannelCapability {
    fn from(capability: Capability) -> Self {
        match capability {
            Capability::Post => Self::Post,
            Capability::Broadcast => Self::Broadcast,
            Capability::Pin => Self::Pin,
            Capability::DeleteEntries => Self::DeleteEntries,
            Capability::Join => Self::Join,
            Capability::Leave => Self::Leave,
            Capability::AddMembers => Self::AddMembers,
            Capability::RemoveMembers => Self::RemoveMembers,
            Capability::Update => Self::Update,
            Capability::Govern => Self::Govern,
            Capability::Archive => Self::Archive,
        }
    }
}

fn retention_days(fields: &mut Fields, days: i32) -> i32 {
    if !(0..=MAX_RETENTION_DAYS).contains(&days) {
        fields.refuse(
            "retention_days",
            format!("must be 0 to {MAX_RETENTION_DAYS}"),
        );
    }
    days
}

/// Reads what a channel is called: something that can be seen.
fn name(fields: &mut Fields, name: String) -> String {
    if !name.is_empty() && name.trim().is_empty() || name.contains(char::is_control) {
        let problem = "must have visible characters, and no control characters";
        fields.refuse("name", problem);
    }
    fields.required_text("name", name, NAME)
}

impl TryFrom<pb::CreateChannelRequest> for NewChannel {
    type Error = Error;

    fn try_from(mut request: pb::CreateChannelRequest) -> Result<Self, Error> {
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        let given = fields.choice("kind", request.kind).and_then(kind);
        if !fields.refuses() && !matches!(given, Some(Kind::Public | Kind::Private)) {
            fields.refuse("kind", "must be PUBLIC or PRIVATE");
        }
        let mut policy = |field, number| {
            let policy = policy(&mut fields, field, number);
            policy.unwrap_or(Policy::Members)
        };
        let posting_policy = policy("posting_policy", request.posting_policy);
        let broadcast_policy = policy("broadcast_policy", request.broadcast_policy);
        let invite_policy = policy("invite_policy", request.invite_policy);
        let id = &request.conversation_id;
        let new = Self {
            request_id,
            kind: given.unwrap_or(Kind::Public),
            name: name(&mut fields, request.name),
            topic: fields.text("topic", request.topic, TOPIC),
            metadata: fields.metadata("metadata", request.metadata),
            conversation_id: fields.id("conversation_id", id, ConversationId),
            posting_policy,
            broadcast_policy,
            invite_policy,
            retention_days: retention_days(&mut fields, request.retention_days),
            members: new_members(&mut fields, request.members),
        };
        fields.finish()?;
        Ok(new)
    }
}

/// What `OpenDirectChannel` asks for.
pub struct OpenDirect {
    /// Whose channel.
    pub user_ids: Vec<String>,
}

impl TryFrom<pb::OpenDirectChannelRequest> for OpenDirect {
    type Error = Error;

    fn try_from(request: pb::OpenDirectChannelRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        if request.user_ids.len() > MOST_USERS {
            fields.refuse("user_ids", format!("must be at most {MOST_USERS} users"));
        }
        let user_ids = request.user_ids.into_iter().take(MOST_USERS).enumerate();
        let user_ids = user_ids
            .map(|(place, id)| user_id(&mut fields, &format!("user_ids[{place}]"), id))
            .collect();
        fields.finish()?;
        Ok(Self { user_ids })
    }
}

/// Reads the id of a channel.
pub fn channel_id(id: &str) -> Result<ChannelId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("channel_id", id, ChannelId);
    fields.finish()?;
    Ok(id)
}

/// What `ListChannels` asks for.
pub struct ChannelsPage {
    /// Which.
    pub filter: ChannelFilter,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListChannelsRequest> for ChannelsPage {
    type Error = Error;

    fn try_from(mut request: pb::ListChannelsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let id = &request.conversation_id;
        let filter = ChannelFilter {
            kinds: fields.choices("kinds", &request.kinds, kind),
            joined: request.joined,
            conversation_id: fields.id("conversation_id", id, ConversationId),
            query: fields.text("query", request.query, NAME),
            archived: request.show_archived,
        };
        fields.finish()?;
        Ok(Self { filter, page })
    }
}

/// Reads `UpdateChannel`.
pub fn update(request: pb::UpdateChannelRequest) -> Result<(Edit, ChannelPatch), Error> {
    const FIELDS: [&str; 7] = [
        "name",
        "topic",
        "metadata",
        "posting_policy",
        "broadcast_policy",
        "invite_policy",
        "retention_days",
    ];
    let mut fields = Fields::default();
    let edit = edit(&mut fields, &request.channel_id, request.etag);
    let mask = Mask::read(&mut fields, request.update_mask, &FIELDS);
    let mut patch = ChannelPatch::default();
    // A direct or group channel has no name to be set, and `*` means what can be.
    if mask.touches("name", request.name.is_some())
        && (request.name.is_some() || mask.names("name"))
    {
        let given = request.name.unwrap_or_default();
        patch.name = Some(name(&mut fields, given));
    }
    if mask.touches("topic", request.topic.is_some()) {
        let topic = request.topic.unwrap_or_default();
        patch.topic = Some(fields.text("topic", topic, TOPIC));
    }
    if mask.touches("metadata", request.metadata.is_some()) {
        patch.metadata = Some(fields.metadata("metadata", request.metadata));
    }
    let mut policy = |field: &str, number: i32| {
        if !mask.touches(field, number != 0) {
            return None;
        }
        Some(policy(&mut fields, field, number).unwrap_or(Policy::Members))
    };
    patch.posting_policy = policy("posting_policy", request.posting_policy);
    patch.broadcast_policy = policy("broadcast_policy", request.broadcast_policy);
    patch.invite_policy = policy("invite_policy", request.invite_policy);
    if mask.touches("retention_days", request.retention_days.is_some()) {
        let days = request.retention_days.unwrap_or_default();
        patch.retention_days = Some(retention_days(&mut fields, days));
    }
    fields.finish()?;
    Ok((edit, patch))
}

fn edit(fields: &mut Fields, id: &str, etag: String) -> Edit {
    Edit {
        id: fields.required_id("channel_id", id, ChannelId),
        etag: fields.etag(etag),
    }
}

/// Reads which channel to change as a whole.
fn whole(id: &str, etag: String) -> Result<Edit, Error> {
    let mut fields = Fields::default();
    let edit = edit(&mut fields, id, etag);
    fields.finish()?;
    Ok(edit)
}

impl TryFrom<pb::ArchiveChannelRequest> for Edit {
    type Error = Error;

    fn try_from(request: pb::ArchiveChannelRequest) -> Result<Self, Error> {
        whole(&request.channel_id, request.etag)
    }
}

impl TryFrom<pb::UnarchiveChannelRequest> for Edit {
    type Error = Error;

    fn try_from(request: pb::UnarchiveChannelRequest) -> Result<Self, Error> {
        whole(&request.channel_id, request.etag)
    }
}

impl From<Channel> for pb::ChatChannel {
    fn from(channel: Channel) -> Self {
        let etag = channel.etag();
        let creator = Actor::of_kind(&channel.actor_kind, channel.actor_id);
        Self {
            id: channel.id.into(),
            kind: pb::ChatChannelKind::from(channel.kind).into(),
            name: channel.name,
            topic: channel.topic,
            metadata: Some(to_struct(channel.metadata)),
            conversation_id: channel.conversation_id.map(Into::into).unwrap_or_default(),
            user_ids: channel.user_ids.into_iter().flatten().collect(),
            posting_policy: pb::ChatChannelPolicy::from(channel.posting_policy).into(),
            broadcast_policy: pb::ChatChannelPolicy::from(channel.broadcast_policy).into(),
            invite_policy: pb::ChatChannelPolicy::from(channel.invite_policy).into(),
            retention_days: channel.retention_days,
            member_count: channel.member_count,
            last_sequence: channel.last_sequence,
            last_entry_time: channel.last_entry_at.map(to_timestamp),
            creator: creator.map(Into::into),
            caller: channel.caller,
            version: channel.version,
            etag,
            create_time: Some(to_timestamp(channel.created_at)),
            update_time: Some(to_timestamp(channel.updated_at)),
            archive_time: channel.archived_at.map(to_timestamp),
            membership: None,
            capabilities: Vec::new(),
        }
    }
}

/// A channel as who acts sees it.
pub fn channel_answer(seen: Seen, facts: &Facts) -> pb::ChatChannel {
    let capabilities = seen.capabilities(facts).into_iter();
    let capabilities = capabilities
        .map(|capability| pb::ChannelCapability::from(capability).into())
        .collect();
    pb::ChatChannel {
        membership: seen.membership.map(|member| member_answer(member, facts)),
        capabilities,
        ..seen.channel.into()
    }
}
