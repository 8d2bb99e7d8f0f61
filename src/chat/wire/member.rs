//! Members of channels on the wire.

use super::{Page, user_id};
use crate::access::Facts;
use crate::chat::member::{Member, NewMember, NotificationLevel, Role, Settings};
use crate::error::Error;
use crate::field::{Fields, Mask};
use crate::ids::ChannelId;
use crate::pb;
use crate::time::to_timestamp;

/// The most users that can be made members at once.
const MOST_MEMBERS: usize = 100;

fn role(role: pb::ChannelRole) -> Option<Role> {
    Some(match role {
        pb::ChannelRole::Unspecified => return None,
        pb::ChannelRole::Owner => Role::Owner,
        pb::ChannelRole::Moderator => Role::Moderator,
        pb::ChannelRole::Member => Role::Member,
        pb::ChannelRole::Guest => Role::Guest,
    })
}

impl From<Role> for pb::ChannelRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Moderator => Self::Moderator,
            Role::Member => Self::Member,
            Role::Guest => Self::Guest,
        }
    }
}

impl From<NotificationLevel> for pb::NotificationLevel {
    fn from(level: NotificationLevel) -> Self {
        match level {
            NotificationLevel::All => Self::All,
            NotificationLevel::Mentions => Self::Mentions,
            NotificationLevel::None => Self::None,
        }
    }
}

/// Reads users to make members, each once.
pub(super) fn new_members(
    fields: &mut Fields,
    members: Vec<pb::NewChannelMember>,
) -> Vec<NewMember> {
    if members.len() > MOST_MEMBERS {
        fields.refuse("members", format!("must be at most {MOST_MEMBERS}"));
        return Vec::new();
    }
    let mut new: Vec<NewMember> = Vec::with_capacity(members.len());
    for (place, member) in members.into_iter().enumerate() {
        let field = format!("members[{place}].user_id");
        let user_id = user_id(fields, &field, member.user_id);
        if new.iter().any(|other| other.user_id == user_id) {
            fields.refuse(field, "must be named once");
        }
        let field = format!("members[{place}].role");
        let role = fields.choice(&field, member.role).and_then(role);
        new.push(NewMember {
            user_id,
            role: role.unwrap_or(Role::Member),
        });
    }
    new
}

/// What `AddChannelMembers` asks for.
pub struct NewMembers {
    /// Of which channel.
    pub channel_id: ChannelId,
    /// Who.
    pub members: Vec<NewMember>,
}

impl TryFrom<pb::AddChannelMembersRequest> for NewMembers {
    type Error = Error;

    fn try_from(request: pb::AddChannelMembersRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        if request.members.is_empty() {
            fields.refuse("members", "is required");
        }
        let new = Self {
            channel_id: fields.required_id("channel_id", &request.channel_id, ChannelId),
            members: new_members(&mut fields, request.members),
        };
        fields.finish()?;
        Ok(new)
    }
}

/// A user in a channel.
pub struct UserOfChannel {
    /// The channel.
    pub channel_id: ChannelId,
    /// The user.
    pub user_id: String,
}

impl UserOfChannel {
    fn read(fields: &mut Fields, channel_id: &str, user: String) -> Self {
        Self {
            channel_id: fields.required_id("channel_id", channel_id, ChannelId),
            user_id: user_id(fields, "user_id", user),
        }
    }
}

impl TryFrom<pb::RemoveChannelMemberRequest> for UserOfChannel {
    type Error = Error;

    fn try_from(request: pb::RemoveChannelMemberRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let user = Self::read(&mut fields, &request.channel_id, request.user_id);
        fields.finish()?;
        Ok(user)
    }
}

/// What `UpdateChannelMember` asks for.
pub struct RoleEdit {
    /// Whose role.
    pub of: UserOfChannel,
    /// What they are to be.
    pub role: Role,
}

impl TryFrom<pb::UpdateChannelMemberRequest> for RoleEdit {
    type Error = Error;

    fn try_from(request: pb::UpdateChannelMemberRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let of = UserOfChannel::read(&mut fields, &request.channel_id, request.user_id);
        if request.role == 0 {
            fields.refuse("role", "is required");
        }
        let role = fields.choice("role", request.role).and_then(role);
        fields.finish()?;
        let role = role.unwrap_or(Role::Member);
        Ok(Self { of, role })
    }
}

/// Reads `UpdateChannelSettings`.
pub fn settings(request: pb::UpdateChannelSettingsRequest) -> Result<(ChannelId, Settings), Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("channel_id", &request.channel_id, ChannelId);
    let known = ["notification_level", "muted"];
    let mask = Mask::read(&mut fields, request.update_mask, &known);
    let mut settings = Settings::default();
    let given = request.notification_level;
    if mask.touches("notification_level", given != 0) {
        let level = fields.choice("notification_level", given);
        settings.notification_level = Some(match level {
            // What nobody has set yet is that, too.
            None | Some(pb::NotificationLevel::Unspecified | pb::NotificationLevel::All) => {
                NotificationLevel::All
            }
            Some(pb::NotificationLevel::Mentions) => NotificationLevel::Mentions,
            Some(pb::NotificationLevel::None) => NotificationLevel::None,
        });
    }
    if mask.touches("muted", request.muted.is_some()) {
        settings.muted = Some(request.muted.unwrap_or_default());
    }
    fields.finish()?;
    Ok((id, settings))
}

/// What `ListChannelMembers` asks for.
pub struct MembersPage {
    /// Of which channel.
    pub channel_id: ChannelId,
    /// Of which roles.
    pub roles: Option<Vec<Role>>,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::ListChannelMembersRequest> for MembersPage {
    type Error = Error;

    fn try_from(mut request: pb::ListChannelMembersRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = std::mem::take(&mut request.page_size);
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let channel_id = fields.required_id("channel_id", &request.channel_id, ChannelId);
        let roles = fields.choices("roles", &request.roles, role);
        fields.finish()?;
        Ok(Self {
            channel_id,
            roles,
            page,
        })
    }
}

impl From<Member> for pb::ChannelMember {
    /// With what is shown to themselves alone.
    fn from(member: Member) -> Self {
        Self {
            id: member.id.into(),
            channel_id: member.channel_id.into(),
            user_id: member.user_id,
            role: pb::ChannelRole::from(member.role).into(),
            notification_level: pb::NotificationLevel::from(member.notification_level).into(),
            muted: member.muted,
            join_sequence: member.joined_sequence,
            read_sequence: member.read_sequence,
            read_version: member.read_version,
            version: member.version,
            join_time: Some(to_timestamp(member.joined_at)),
            update_time: Some(to_timestamp(member.updated_at)),
            leave_time: member.left_at.map(to_timestamp),
        }
    }
}

/// A member as others see them.
pub fn as_others_see(member: Member) -> pb::ChannelMember {
    pb::ChannelMember {
        notification_level: pb::NotificationLevel::Unspecified.into(),
        muted: false,
        read_sequence: 0,
        read_version: 0,
        ..member.into()
    }
}

/// A member as who acts sees them.
pub fn member_answer(member: Member, facts: &Facts) -> pb::ChannelMember {
    if facts.actor.user_id() == Some(member.user_id.as_str()) {
        member.into()
    } else {
        as_others_see(member)
    }
}
