//! Channels: how they are made and found.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit;
use super::capability::{Capability, Standing};
use super::member::{self, Member, NewMember, Role};
use crate::access::Facts;
use crate::error::{Denial, Error, Existing, Precondition};
use crate::etag::etag;
use crate::event::log::{Change, append};
use crate::fold::fold;
use crate::ids::{ChannelId, ConversationId};
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{channels, inbox_conversations};
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// Who can see a channel.
    Kind {
        /// Everybody of the tenant.
        Public = "public",
        /// Its members.
        Private = "private",
        /// One or two users.
        Direct = "direct",
        /// More users, who stay the same.
        Group = "group",
    }
}

impl Kind {
    /// Whether its members stay the same.
    pub const fn is_fixed(self) -> bool {
        matches!(self, Self::Direct | Self::Group)
    }
}

stored_enum! {
    /// Who may do something in a channel.
    Policy {
        /// Its members.
        Members = "members",
        /// Its moderators and owners.
        Moderators = "moderators",
    }
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = channels, check_for_backend(Pg))]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Who can see it.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// Free data.
    pub metadata: Value,
    /// The conversation that it is about.
    pub conversation_id: Option<ConversationId>,
    /// The users of a direct or group channel.
    pub user_ids: Vec<Option<String>>,
    /// Who may post.
    pub posting_policy: Policy,
    /// Who may mention everyone and here.
    pub broadcast_policy: Policy,
    /// Who may add members.
    pub invite_policy: Policy,
    /// After how many days entries go for good; 0 for never.
    pub retention_days: i32,
    /// How many members it has.
    pub member_count: i32,
    /// The sequence of its newest entry.
    pub last_sequence: i64,
    /// When that was posted.
    pub last_entry_at: Option<DateTime<Utc>>,
    /// The kind of who made it.
    pub actor_kind: String,
    /// Who made it.
    pub actor_id: String,
    /// The service that called for them.
    pub caller: String,
    /// Goes up with every change of its own.
    pub version: i64,
    /// Goes up with every edit of a caller.
    pub edit_version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was archived.
    pub archived_at: Option<DateTime<Utc>>,
}

impl Channel {
    /// The etag that stands for what a caller may edit of it.
    pub fn etag(&self) -> String {
        etag(self.edit_version)
    }

    pub(super) fn change<'a>(&self, kind: &'a str, changed: Vec<&'a str>) -> Change<'a> {
        Change {
            kind,
            resource_kind: "channel",
            resource_id: self.id.0,
            parent_id: None,
            sequence: None,
            version: self.version,
            changed,
        }
    }
}

/// A channel as who acts sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// The channel.
    pub channel: Channel,
    /// What they are in it.
    pub membership: Option<Member>,
}

impl Seen {
    /// What who acts is to it.
    pub fn standing(&self, facts: &Facts) -> Standing {
        Standing::of(facts, self.membership.as_ref().map(|member| member.role))
    }

    /// What who acts may do in it now.
    pub fn capabilities(&self, facts: &Facts) -> Vec<Capability> {
        let standing = self.standing(facts);
        let is_open = |capability: &Capability| {
            self.channel.archived_at.is_none() || capability.outlives_archiving()
        };
        let all = Capability::ALL.into_iter().filter(is_open);
        all.filter(|capability| capability.is_of(standing, &self.channel))
            .collect()
    }

    /// Checks that who acts may do something in it.
    ///
    /// # Errors
    /// They may not, or nobody may because it is archived.
    pub fn check(&self, facts: &Facts, capability: Capability) -> Result<(), Error> {
        let channel = self.channel.id.to_string();
        if !capability.is_of(self.standing(facts), &self.channel) {
            let capability = capability.as_str();
            return Err(Error::PermissionDenied(Denial::Capability {
                channel,
                capability,
            }));
        }
        if self.channel.archived_at.is_some() && !capability.outlives_archiving() {
            let archived = Precondition::ChannelArchived(channel);
            return Err(Error::FailedPrecondition(archived));
        }
        Ok(())
    }

    /// What who acts is in it.
    ///
    /// # Errors
    /// They are no member.
    pub fn member(self) -> Result<Member, Error> {
        let channel = self.channel.id.to_string();
        self.membership
            .ok_or(Error::FailedPrecondition(Precondition::NotChannelMember(
                channel,
            )))
    }
}

/// Finds a channel that who acts sees.
///
/// # Errors
/// There is none for them.
pub async fn get(conn: &mut TenantConn, id: ChannelId) -> Result<Seen, Error> {
    let found = channels::table
        .find(id)
        .filter(channels::deleted_at.is_null())
        .select(Channel::as_select());
    let found: Option<Channel> = found.first(conn).await.optional()?;
    see(conn, id, found).await
}

/// Finds a channel that who acts sees, and keeps it and who its members are as they are until the
/// open transaction ends.
///
/// # Errors
/// There is none for them.
pub async fn lock(conn: &mut TenantConn, id: ChannelId) -> Result<Seen, Error> {
    let found = channels::table
        .find(id)
        .filter(channels::deleted_at.is_null())
        .select(Channel::as_select())
        .for_no_key_update();
    let found: Option<Channel> = found.first(conn).await.optional()?;
    // Who its members are is read after the wait for the lock.
    see(conn, id, found).await
}

/// Keeps a channel as it is until the open transaction ends, if there is one, whoever sees it.
pub(super) async fn hold(conn: &mut TenantConn, id: ChannelId) -> Result<(), Error> {
    let channel = channels::table.find(id).select(channels::id);
    let _: Option<ChannelId> = channel.for_no_key_update().first(conn).await.optional()?;
    Ok(())
}

pub(super) async fn see(
    conn: &mut TenantConn,
    id: ChannelId,
    found: Option<Channel>,
) -> Result<Seen, Error> {
    let missing = || Error::not_found("channel", id);
    let channel = found.ok_or_else(missing)?;
    let facts = conn.facts().clone();
    let membership = match facts.actor.user_id() {
        Some(user) => member::find(conn, id, user).await?,
        None => None,
    };
    let seen = Seen {
        channel,
        membership,
    };
    if !seen.standing(&facts).sees(seen.channel.kind) {
        return Err(missing());
    }
    audit::note(conn, id).await?;
    Ok(seen)
}

/// A channel to make.
#[derive(Debug)]
pub struct NewChannel {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// Who can see it.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// Free data.
    pub metadata: Value,
    /// The conversation that it is about.
    pub conversation_id: Option<ConversationId>,
    /// Who may post.
    pub posting_policy: Policy,
    /// Who may mention everyone and here.
    pub broadcast_policy: Policy,
    /// Who may add members.
    pub invite_policy: Policy,
    /// After how many days entries go for good; 0 for never.
    pub retention_days: i32,
    /// Who else is a member.
    pub members: Vec<NewMember>,
}

/// Makes a public or private channel, whose owner is the user who acts.
///
/// # Errors
/// Its name is taken, or there is no such conversation.
pub async fn create(conn: &mut TenantConn, new: NewChannel) -> Result<Seen, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let request = new.request_id.as_ref();
        if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
            return Ok(answer);
        }
        if let Some(conversation) = new.conversation_id {
            check_conversation(conn, conversation).await?;
        }
        let id = ChannelId::new();
        let owner = facts.actor.user_id().map(|user| NewMember {
            user_id: user.to_owned(),
            role: Role::Owner,
        });
        let acting = facts.actor.user_id();
        let others = new.members.iter();
        let others = others.filter(|member| Some(member.user_id.as_str()) != acting);
        let members: Vec<_> = owner.into_iter().chain(others.cloned()).collect();
        let made = insert(conn, id, &new, None).await?;
        let taken = || Error::AlreadyExists(Existing::ChannelName(new.name.clone()));
        let made = made.ok_or_else(taken)?;
        let seen = with_members(conn, made, &members).await?;
        if let Some(request) = request {
            request_id::keep(conn, request, &seen).await?;
        }
        append(conn, seen.channel.change("channel.created", Vec::new())).await?;
        Ok(seen)
    })
    .await
}

/// Users whose one channel it is to be, and what stands for them.
pub(super) struct Fixed<'a> {
    pub(super) user_ids: &'a [String],
    pub(super) hash: &'a [u8],
}

/// Adds the row of a channel; `None` if another one has its name, or is that of its users.
pub(super) async fn insert(
    conn: &mut TenantConn,
    id: ChannelId,
    new: &NewChannel,
    fixed: Option<&Fixed<'_>>,
) -> Result<Option<Channel>, Error> {
    let facts = conn.facts().clone();
    let users = fixed.into_iter().flat_map(|fixed| fixed.user_ids);
    let users: Vec<_> = users.cloned().map(Some).collect();
    let made = diesel::insert_into(channels::table)
        .values((
            channels::id.eq(id),
            channels::kind.eq(new.kind),
            channels::name.eq(&new.name),
            channels::name_key.eq(fold(&new.name)),
            channels::topic.eq(&new.topic),
            channels::metadata.eq(&new.metadata),
            channels::conversation_id.eq(new.conversation_id),
            channels::user_ids.eq(users),
            channels::users_hash.eq(fixed.map(|fixed| fixed.hash)),
            channels::posting_policy.eq(new.posting_policy),
            channels::broadcast_policy.eq(new.broadcast_policy),
            channels::invite_policy.eq(new.invite_policy),
            channels::retention_days.eq(new.retention_days),
            channels::member_count.eq(0),
            channels::actor_kind.eq(facts.actor.kind()),
            channels::actor_id.eq(facts.actor.id()),
            channels::caller.eq(&facts.caller.service),
            channels::correlation_id.eq(&*facts.correlation_id),
            channels::created_at.eq(sql("directory.now()")),
            channels::updated_at.eq(sql("directory.now()")),
        ))
        .on_conflict_do_nothing()
        .returning(Channel::as_returning());
    Ok(made.get_result(conn).await.optional()?)
}

/// Gives a channel that was just made its first members.
pub(super) async fn with_members(
    conn: &mut TenantConn,
    made: Channel,
    members: &[NewMember],
) -> Result<Seen, Error> {
    let facts = conn.facts().clone();
    let added = member::add(conn, made.id, members).await?;
    let acting = facts.actor.user_id();
    let mut own = added
        .iter()
        .filter(|member| Some(member.user_id.as_str()) == acting);
    let membership = own.next().cloned();
    let member_count = i32::try_from(added.len()).map_err(Error::internal)?;
    let channel = Channel {
        member_count,
        ..made
    };
    Ok(Seen {
        channel,
        membership,
    })
}

async fn check_conversation(conn: &mut TenantConn, id: ConversationId) -> Result<(), Error> {
    // Shared with who erases its person, so that the channel is not tied to nobody.
    let found = inbox_conversations::table
        .filter(inbox_conversations::id.eq(id))
        .filter(inbox_conversations::deleted_at.is_null())
        .select(inbox_conversations::id)
        .for_share();
    let found: Option<ConversationId> = found.first(conn).await.optional()?;
    found
        .map(drop)
        .ok_or_else(|| Error::not_found("conversation", id))
}
