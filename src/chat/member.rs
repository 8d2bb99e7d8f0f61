//! Members of channels: how they come, what they are there, and how they go.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};

use super::capability::Capability;
use super::channel::{self, Seen};
use crate::access::{Actor, Facts};
use crate::database::statement::statement;
use crate::error::{Error, Precondition};
use crate::event::log::{Change, append, append_events};
use crate::ids::{ChannelId, ChannelMemberId};
use crate::page::PageSize;
use crate::schema::tenant::{channel_members, channels};
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// What a member is in a channel.
    Role {
        /// May do everything.
        Owner = "owner",
        /// Keeps order.
        Moderator = "moderator",
        /// Talks.
        Member = "member",
        /// Reads, and posts where members may.
        Guest = "guest",
    }
}

impl Role {
    /// What it takes to give it to somebody, or to take somebody out who has it, if that is
    /// otherwise done with `usual`.
    fn takes(self, usual: Capability) -> Capability {
        match self {
            Self::Owner | Self::Moderator => Capability::Govern,
            Self::Member | Self::Guest => usual,
        }
    }
}

stored_enum! {
    /// What a member is told of.
    NotificationLevel {
        /// Every entry.
        All = "all",
        /// Mentions, and replies in threads that they follow.
        Mentions = "mentions",
        /// Nothing.
        None = "none",
    }
}

/// A user in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = channel_members, check_for_backend(Pg))]
pub struct Member {
    /// Its id.
    pub id: ChannelMemberId,
    /// The channel.
    pub channel_id: ChannelId,
    /// The user.
    pub user_id: String,
    /// What they are there.
    pub role: Role,
    /// What they are told of.
    pub notification_level: NotificationLevel,
    /// Whether they are told of nothing for now.
    pub muted: bool,
    /// The channel's last sequence when they came.
    pub joined_sequence: i64,
    /// Up to which sequence they have read.
    pub read_sequence: i64,
    /// Goes up when they mark entries unread.
    pub read_version: i64,
    /// Goes up with every change.
    pub version: i64,
    /// When they came.
    pub joined_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When they left.
    pub left_at: Option<DateTime<Utc>>,
}

impl Member {
    /// A change that is the user's own business.
    pub fn own_change<'a>(&self, kind: &'a str, changed: Vec<&'a str>) -> Change<'a> {
        Change {
            resource_kind: "channel_settings",
            ..self.change(kind, changed)
        }
    }

    fn change<'a>(&self, kind: &'a str, changed: Vec<&'a str>) -> Change<'a> {
        Change {
            kind,
            resource_kind: "channel_member",
            resource_id: self.id.0,
            parent_id: Some(self.channel_id.0),
            sequence: None,
            version: self.version,
            changed,
        }
    }
}

/// The columns of a row as SQL types, in the order of `member_columns`.
pub(super) type MemberRow = <<Member as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of a `Member`, in the order of its fields, of the table `m`.
macro_rules! member_columns {
    () => {
        "m.id, m.channel_id, m.user_id, m.role, m.notification_level, m.muted, m.joined_sequence,
            m.read_sequence, m.read_version, m.version, m.joined_at, m.updated_at, m.left_at"
    };
}

pub(super) use member_columns;

/// A user to make a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// The user.
    pub user_id: String,
    /// What they are to be.
    pub role: Role,
}

statement! {
    // The channel is locked by an earlier statement of the transaction. Who was a member before
    // comes back in the same row.
    /// Makes users members who are none.
    Add<'a> -> MemberRow {
        channel_id: ChannelId => sql_types::Uuid,
        ids: &'a [ChannelMemberId] => Array<sql_types::Uuid>,
        user_ids: &'a [&'a str] => Array<Text>,
        roles: &'a [Role] => Array<Text>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , m AS (
            INSERT INTO channel_members AS was (id, channel_id, user_id, role, joined_sequence,
                read_sequence, joined_at, updated_at)
            SELECT new.id, c.id, new.user_id, new.role, c.last_sequence, c.last_sequence,
                directory.now(), directory.now()
            FROM input CROSS JOIN unnest(input.ids, input.user_ids, input.roles) AS new (id, user_id, role)
            JOIN channels c ON c.id = input.channel_id
            ON CONFLICT (channel_id, user_id) DO UPDATE
            SET role = excluded.role, joined_sequence = excluded.joined_sequence,
                read_sequence = excluded.read_sequence, read_version = was.read_version + 1,
                joined_at = excluded.joined_at, updated_at = excluded.updated_at, left_at = NULL,
                version = was.version + 1
            WHERE was.left_at IS NOT NULL
            RETURNING *
        ), counted AS (
            UPDATE channels c SET member_count = c.member_count + (SELECT count(*) FROM m)
            FROM input WHERE c.id = input.channel_id
        ), changes AS (
            SELECT 'channel_member.created' AS kind, 'channel_member' AS resource_kind,
                m.id AS resource_id, m.channel_id AS parent_id, NULL::bigint AS sequence, m.version,
                '{}'::text[] AS changed
            FROM m
        )", append_events!(), "
        SELECT ", member_columns!(), " FROM m")
}

/// Makes users members of a channel that the open transaction has locked or made; returns those
/// who were none.
pub async fn add(
    conn: &mut TenantConn,
    channel: ChannelId,
    members: &[NewMember],
) -> Result<Vec<Member>, Error> {
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let facts = conn.facts().clone();
    let statement = Add {
        channel_id: channel,
        ids: &members
            .iter()
            .map(|_| ChannelMemberId::new())
            .collect::<Vec<_>>(),
        user_ids: &members
            .iter()
            .map(|member| member.user_id.as_str())
            .collect::<Vec<_>>(),
        roles: &members.iter().map(|member| member.role).collect::<Vec<_>>(),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}

/// Finds a member.
pub async fn find(
    conn: &mut TenantConn,
    channel: ChannelId,
    user: &str,
) -> Result<Option<Member>, Error> {
    let found = channel_members::table
        .filter(channel_members::channel_id.eq(channel))
        .filter(channel_members::user_id.eq(user))
        .filter(channel_members::left_at.is_null())
        .select(Member::as_select());
    Ok(found.first(conn).await.optional()?)
}

/// Who acts, where only a user can.
pub fn acting_user(facts: &Facts) -> Result<&str, Error> {
    match &facts.actor {
        Actor::User(user) => Ok(user),
        Actor::Bot(_) | Actor::Service(_) => Err(Error::invalid("actor", "must be a user")),
    }
}

/// Makes the user who acts a member of a public channel.
///
/// # Errors
/// No user acts, or there is no such channel for them, or it is archived.
pub async fn join(conn: &mut TenantConn, id: ChannelId) -> Result<Seen, Error> {
    let facts = conn.facts().clone();
    let user_id = acting_user(&facts)?.to_owned();
    conn.transaction(async |conn| {
        let mut seen = channel::lock(conn, id).await?;
        if seen.membership.is_some() {
            return Ok(seen);
        }
        seen.check(&facts, Capability::Join)?;
        let role = Role::Member;
        let added = add(conn, id, &[NewMember { user_id, role }]).await?;
        seen.membership = added.into_iter().next();
        seen.channel.member_count += 1;
        Ok(seen)
    })
    .await
}

/// Ends the membership of the user who acts; `None` if they are no member.
///
/// # Errors
/// No user acts, there is no such channel for them, or they are its only owner.
pub async fn leave(conn: &mut TenantConn, id: ChannelId) -> Result<Option<Member>, Error> {
    let facts = conn.facts().clone();
    acting_user(&facts)?;
    conn.transaction(async |conn| {
        let seen = channel::lock(conn, id).await?;
        let Some(member) = seen.membership.clone() else {
            return Ok(None);
        };
        seen.check(&facts, Capability::Leave)?;
        end(conn, &seen, member).await.map(Some)
    })
    .await
}

/// Ends the membership of a user; `None` if they are no member.
///
/// # Errors
/// There is no such channel, who acts may not, or the user is the only owner.
pub async fn remove(
    conn: &mut TenantConn,
    id: ChannelId,
    user: &str,
) -> Result<Option<Member>, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let seen = channel::lock(conn, id).await?;
        seen.check(&facts, Capability::RemoveMembers)?;
        let Some(member) = find(conn, id, user).await? else {
            return Ok(None);
        };
        seen.check(&facts, member.role.takes(Capability::RemoveMembers))?;
        end(conn, &seen, member).await.map(Some)
    })
    .await
}

/// Ends a membership of a locked channel.
async fn end(conn: &mut TenantConn, seen: &Seen, member: Member) -> Result<Member, Error> {
    if seen.channel.member_count > 1 {
        check_not_only_owner(conn, &member).await?;
    }
    let left: Member = diesel::update(channel_members::table.find(member.id))
        .set((
            channel_members::left_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")),
            channel_members::updated_at.eq(sql("directory.now()")),
            channel_members::version.eq(channel_members::version + 1),
        ))
        .returning(Member::as_returning())
        .get_result(conn)
        .await?;
    diesel::update(channels::table.find(member.channel_id))
        .set((
            channels::member_count.eq(channels::member_count - 1),
            channels::removals.eq(channels::removals + 1),
        ))
        .execute(conn)
        .await?;
    append(conn, left.change("channel_member.deleted", Vec::new())).await?;
    Ok(left)
}

/// Refuses to leave a locked channel without an owner.
async fn check_not_only_owner(conn: &mut TenantConn, member: &Member) -> Result<(), Error> {
    if member.role != Role::Owner {
        return Ok(());
    }
    let others = channel_members::table
        .filter(channel_members::channel_id.eq(member.channel_id))
        .filter(channel_members::role.eq(Role::Owner))
        .filter(channel_members::left_at.is_null())
        .filter(channel_members::id.ne(member.id));
    if diesel::select(diesel::dsl::exists(others))
        .get_result(conn)
        .await?
    {
        return Ok(());
    }
    let needed = Precondition::ChannelOwnerNeeded(member.channel_id.to_string());
    Err(Error::FailedPrecondition(needed))
}

/// Makes users members of a channel; returns them in their order, with those who were members
/// before.
///
/// # Errors
/// There is no such channel, or who acts may not.
pub async fn add_all(
    conn: &mut TenantConn,
    id: ChannelId,
    new: &[NewMember],
) -> Result<Vec<Member>, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let seen = channel::lock(conn, id).await?;
        for member in new {
            seen.check(&facts, member.role.takes(Capability::AddMembers))?;
        }
        if seen.channel.kind.is_fixed() {
            seen.check(&facts, Capability::AddMembers)?;
        }
        add(conn, id, new).await?;
        let user_ids: Vec<_> = new.iter().map(|member| &member.user_id).collect();
        let found: Vec<Member> = channel_members::table
            .filter(channel_members::channel_id.eq(id))
            .filter(channel_members::user_id.eq_any(&user_ids))
            .select(Member::as_select())
            .load(conn)
            .await?;
        let in_order = user_ids.into_iter().filter_map(|user| {
            let mut found = found.iter();
            found.find(|member| member.user_id == *user).cloned()
        });
        Ok(in_order.collect())
    })
    .await
}

/// Gives a member another role.
///
/// # Errors
/// There is no such channel or member, who acts may not, or the member is the only owner.
pub async fn set_role(
    conn: &mut TenantConn,
    id: ChannelId,
    user: &str,
    role: Role,
) -> Result<Member, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let seen = channel::lock(conn, id).await?;
        seen.check(&facts, Capability::Govern)?;
        if seen.channel.kind.is_fixed() {
            let problem = "cannot be set: the members of direct and group channels are all alike";
            return Err(Error::invalid("role", problem));
        }
        let member = find(conn, id, user).await?;
        let member = member.ok_or_else(|| Error::not_found("channel_member", user))?;
        if member.role == role {
            return Ok(member);
        }
        check_not_only_owner(conn, &member).await?;
        let changed: Member = diesel::update(channel_members::table.find(member.id))
            .set((
                channel_members::role.eq(role),
                channel_members::updated_at.eq(sql("directory.now()")),
                channel_members::version.eq(channel_members::version + 1),
            ))
            .returning(Member::as_returning())
            .get_result(conn)
            .await?;
        diesel::update(channels::table.find(id))
            .set(channels::removals.eq(channels::removals + 1))
            .execute(conn)
            .await?;
        append(conn, changed.change("channel_member.updated", vec!["role"])).await?;
        Ok(changed)
    })
    .await
}

/// What a member wants to be told of.
#[derive(Debug, Default)]
pub struct Settings {
    /// What they are told of.
    pub notification_level: Option<NotificationLevel>,
    /// Whether they are told of nothing for now.
    pub muted: Option<bool>,
}

/// Changes what the user who acts is told of.
///
/// # Errors
/// No user acts, there is no such channel for them, or they are no member of it.
pub async fn set(
    conn: &mut TenantConn,
    id: ChannelId,
    settings: Settings,
) -> Result<Member, Error> {
    let facts = conn.facts().clone();
    acting_user(&facts)?;
    conn.transaction(async |conn| {
        let member = channel::get(conn, id).await?.member()?;
        let locked = channel_members::table
            .find(member.id)
            .filter(channel_members::left_at.is_null())
            .select(Member::as_select())
            .for_no_key_update();
        let locked: Option<Member> = locked.first(conn).await.optional()?;
        let member = locked.ok_or_else(|| Error::not_found("channel", id))?;
        let level = settings
            .notification_level
            .unwrap_or(member.notification_level);
        let muted = settings.muted.unwrap_or(member.muted);
        let fields = [
            ("notification_level", level != member.notification_level),
            ("muted", muted != member.muted),
        ];
        let changed = fields.into_iter().filter(|(_, changes)| *changes);
        let changed: Vec<_> = changed.map(|(name, _)| name).collect();
        if changed.is_empty() {
            return Ok(member);
        }
        let member: Member = diesel::update(channel_members::table.find(member.id))
            .set((
                channel_members::notification_level.eq(level),
                channel_members::muted.eq(muted),
                channel_members::updated_at.eq(sql("directory.now()")),
                channel_members::version.eq(channel_members::version + 1),
            ))
            .returning(Member::as_returning())
            .get_result(conn)
            .await?;
        append(conn, member.own_change("channel_settings.updated", changed)).await?;
        Ok(member)
    })
    .await
}

/// Lists the members of a channel that who acts sees, by their users' ids, after one of them.
///
/// # Errors
/// There is no such channel for them.
pub async fn list(
    conn: &mut TenantConn,
    id: ChannelId,
    roles: Option<&[Role]>,
    after: Option<&str>,
    size: PageSize,
) -> Result<Vec<Member>, Error> {
    channel::get(conn, id).await?;
    let mut members = channel_members::table
        .filter(channel_members::channel_id.eq(id))
        .filter(channel_members::left_at.is_null())
        .filter(channel_members::user_id.gt(after.unwrap_or("")))
        .order(channel_members::user_id)
        .limit(size.rows())
        .select(Member::as_select())
        .into_boxed();
    if let Some(roles) = roles {
        members = members.filter(channel_members::role.eq_any(roles));
    }
    Ok(members.load(conn).await?)
}
