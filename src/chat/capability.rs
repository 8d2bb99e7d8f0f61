//! Who may do what in a channel.

use super::channel::{Channel, Kind, Policy};
use super::member::Role;
use crate::access::{Actor, Facts};

/// What somebody may do in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Post entries, edit and delete their own, and react.
    Post,
    /// Mention everyone and here.
    Broadcast,
    /// Pin entries and take pins off.
    Pin,
    /// Delete the entries of others.
    DeleteEntries,
    /// Become a member.
    Join,
    /// Stop being one.
    Leave,
    /// Add members and guests.
    AddMembers,
    /// Remove members and guests.
    RemoveMembers,
    /// Change the name, the topic and the metadata.
    Update,
    /// Change roles, policies and retention.
    Govern,
    /// Archive it and bring it back.
    Archive,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Post,
        Self::Broadcast,
        Self::Pin,
        Self::DeleteEntries,
        Self::Join,
        Self::Leave,
        Self::AddMembers,
        Self::RemoveMembers,
        Self::Update,
        Self::Govern,
        Self::Archive,
    ];

    /// The word for it in errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Broadcast => "BROADCAST",
            Self::Pin => "PIN",
            Self::DeleteEntries => "DELETE_ENTRIES",
            Self::Join => "JOIN",
            Self::Leave => "LEAVE",
            Self::AddMembers => "ADD_MEMBERS",
            Self::RemoveMembers => "REMOVE_MEMBERS",
            Self::Update => "UPDATE",
            Self::Govern => "GOVERN",
            Self::Archive => "ARCHIVE",
        }
    }

    /// Whether an archived channel still allows it.
    pub const fn outlives_archiving(self) -> bool {
        matches!(self, Self::Leave | Self::Archive)
    }

    /// Tells whether somebody has it in a channel, archived or not.
    pub fn is_of(self, who: Standing, channel: &Channel) -> bool {
        use Standing::{Automation, Member, Stranger, Unrestricted};
        let is_public = channel.kind == Kind::Public;
        let is_fixed = channel.kind.is_fixed();
        let keeps_order = matches!(who, Unrestricted | Member(Role::Owner | Role::Moderator));
        let rules = matches!(who, Unrestricted | Member(Role::Owner));
        let policy = |policy: Policy, who: Standing| match who {
            Unrestricted | Member(Role::Owner | Role::Moderator) => true,
            Member(Role::Member) => policy == Policy::Members,
            Automation => policy == Policy::Members && is_public,
            Member(Role::Guest) | Stranger => false,
        };
        match self {
            // A guest does what a member does, if that is to post.
            Self::Post => match who {
                Member(Role::Guest) => policy(channel.posting_policy, Member(Role::Member)),
                who => policy(channel.posting_policy, who),
            },
            Self::Broadcast => {
                Self::Post.is_of(who, channel) && policy(channel.broadcast_policy, who)
            }
            Self::Pin => keeps_order || matches!(who, Member(Role::Member)),
            Self::DeleteEntries => keeps_order,
            Self::Join => is_public && who == Stranger,
            Self::Leave => !is_fixed && matches!(who, Member(_)),
            Self::AddMembers => {
                !is_fixed && who != Automation && policy(channel.invite_policy, who)
            }
            Self::RemoveMembers => !is_fixed && keeps_order,
            Self::Update => keeps_order || is_fixed && matches!(who, Member(_)),
            Self::Govern | Self::Archive => rules,
        }
    }
}

/// What somebody is to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The rules do not hold for them.
    Unrestricted,
    /// A member.
    Member(Role),
    /// A user who is no member.
    Stranger,
    /// A service or a bot.
    Automation,
}

impl Standing {
    /// What who acts is to a channel, in which they may have a role.
    pub fn of(facts: &Facts, role: Option<Role>) -> Self {
        match (facts.unrestricted, role, &facts.actor) {
            (Some(_), ..) => Self::Unrestricted,
            (None, Some(role), _) => Self::Member(role),
            (None, None, Actor::User(_)) => Self::Stranger,
            (None, None, Actor::Bot(_) | Actor::Service(_)) => Self::Automation,
        }
    }

    /// Tells whether they see a channel of a kind.
    pub fn sees(self, kind: Kind) -> bool {
        match self {
            Self::Unrestricted | Self::Member(_) => true,
            Self::Stranger | Self::Automation => kind == Kind::Public,
        }
    }
}
