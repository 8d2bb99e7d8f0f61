//! Lists of channels.

use std::marker::PhantomData;

use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::audit;
use super::channel::{Channel, Kind, Seen};
use super::member::{Member, MemberRow, member_columns};
use crate::database::statement::statement;
use crate::error::Error;
use crate::fold::fold;
use crate::ids::{ChannelId, ConversationId};
use crate::page::PageSize;
use crate::tenant::TenantConn;

/// The columns of a row as SQL types, in the order of `channel_columns`.
type ChannelRow = <<Channel as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

/// The columns of a `Channel`, in the order of its fields, of the table `c`.
macro_rules! channel_columns {
    () => {
        "c.id, c.kind, c.name, c.topic, c.metadata, c.conversation_id, c.user_ids, c.posting_policy,
            c.broadcast_policy, c.invite_policy, c.retention_days, c.member_count, c.last_sequence,
            c.last_entry_at, c.actor_kind, c.actor_id, c.caller, c.version, c.edit_version,
            c.created_at, c.updated_at, c.archived_at"
    };
}

/// Which channels to list.
#[derive(Debug)]
pub struct ChannelFilter {
    /// Of these kinds.
    pub kinds: Option<Vec<Kind>>,
    /// Those alone that who acts is a member of.
    pub joined: bool,
    /// About this conversation.
    pub conversation_id: Option<ConversationId>,
    /// Whose names contain this.
    pub query: String,
    /// Archived ones too.
    pub archived: bool,
}

/// Where a page of channels begins: beyond this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Position {
    name_key: String,
    id: ChannelId,
}

impl Seen {
    /// Where the page after this channel begins.
    pub fn position(&self) -> Position {
        Position {
            name_key: fold(&self.channel.name),
            id: self.channel.id,
        }
    }
}

/// The condition that a channel `c` is one of those asked for.
macro_rules! asked {
    () => {
        "c.deleted_at IS NULL AND (c.name_key, c.id) > (input.after_key, input.after_id)
            AND (input.kinds IS NULL OR c.kind = ANY (input.kinds))
            AND (input.conversation_id IS NULL OR c.conversation_id = input.conversation_id)
            AND (input.archived OR c.archived_at IS NULL)
            AND strpos(c.name_key, input.query) > 0"
    };
}

statement! {
    // One walk down the index of what everybody sees, one through the memberships of who acts, of
    // which there are not many, and one through all for who sees all; two of them have nothing.
    /// Lists channels by name.
    List<'a> -> (ChannelRow, Nullable<MemberRow>) {
        user_id: Option<&'a str> => Nullable<Text>,
        sees_all: bool => Bool,
        joined: bool => Bool,
        kinds: Option<&'a [Kind]> => Nullable<Array<Text>>,
        conversation_id: Option<ConversationId> => Nullable<sql_types::Uuid>,
        query: &'a str => Text,
        archived: bool => Bool,
        after_key: &'a str => Text,
        after_id: Uuid => sql_types::Uuid,
        rows: i64 => BigInt,
    }
    concat!("
        SELECT ", channel_columns!(), ", ", member_columns!(), "
        FROM input CROSS JOIN LATERAL (
            (SELECT c.* FROM channels c
            WHERE NOT input.joined AND NOT input.sees_all AND c.kind = 'public' AND ", asked!(), "
            ORDER BY c.name_key, c.id LIMIT input.rows)
            UNION ALL
            (SELECT c.* FROM channel_members own JOIN channels c ON c.id = own.channel_id
            WHERE own.user_id = input.user_id AND own.left_at IS NULL
                AND (input.joined OR NOT input.sees_all AND c.kind <> 'public') AND ", asked!(), "
            ORDER BY c.name_key, c.id LIMIT input.rows)
            UNION ALL
            (SELECT c.* FROM channels c
            WHERE NOT input.joined AND input.sees_all AND ", asked!(), "
            ORDER BY c.name_key, c.id LIMIT input.rows)
        ) c
        LEFT JOIN channel_members m ON m.channel_id = c.id AND m.user_id = input.user_id AND m.left_at IS NULL
        ORDER BY c.name_key, c.id
        LIMIT (SELECT rows FROM input)")
}

/// Lists the channels that who acts sees, by name, beyond a position.
pub async fn list(
    conn: &mut TenantConn,
    filter: &ChannelFilter,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<Seen>, Error> {
    let facts = conn.facts().clone();
    let statement = List {
        user_id: facts.actor.user_id(),
        sees_all: facts.unrestricted.is_some(),
        joined: filter.joined,
        kinds: filter.kinds.as_deref(),
        conversation_id: filter.conversation_id,
        query: &fold(&filter.query),
        archived: filter.archived,
        after_key: beyond.as_ref().map_or("", |position| &position.name_key),
        after_id: beyond
            .as_ref()
            .map_or(Uuid::nil(), |position| position.id.0),
        rows: size.rows(),
        life: PhantomData,
    };
    let found: Vec<(Channel, Option<Member>)> = statement.load(conn).await?;
    audit::note_list(conn).await?;
    let seen = found.into_iter().map(|(channel, membership)| Seen {
        channel,
        membership,
    });
    Ok(seen.collect())
}
