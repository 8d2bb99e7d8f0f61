//! Direct and group channels: one for the same users, who stay the same.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::{Map, Value};

use super::audit;
use super::channel::{self, Channel, Fixed, Kind, NewChannel, Policy, Seen};
use super::member::{NewMember, Role};
use crate::access::Actor;
use crate::digest;
use crate::error::{Conflict, Error};
use crate::event::log::append;
use crate::ids::ChannelId;
use crate::schema::tenant::channels;
use crate::tenant::TenantConn;

/// Finds the channel of some users, or makes it; tells whether it did.
///
/// # Errors
/// Who acts is none of them.
pub async fn open(conn: &mut TenantConn, mut user_ids: Vec<String>) -> Result<(Seen, bool), Error> {
    let facts = conn.facts().clone();
    match (&facts.actor, facts.unrestricted) {
        (Actor::User(user), _) => user_ids.push(user.clone()),
        (Actor::Bot(_) | Actor::Service(_), Some(_)) => {}
        (Actor::Bot(_) | Actor::Service(_), None) => {
            let problem = "must be a user, or `unrestricted` must be set";
            return Err(Error::invalid("actor", problem));
        }
    }
    user_ids.sort();
    user_ids.dedup();
    if user_ids.is_empty() {
        return Err(Error::invalid("user_ids", "is required where no user acts"));
    }
    if user_ids.len() > MOST_USERS {
        let problem = format!("must be at most {MOST_USERS} users with the one who acts");
        return Err(Error::invalid("user_ids", problem));
    }
    let hash = digest::of_parts(user_ids.iter().map(String::as_bytes));
    if let Some(seen) = find(conn, &hash).await? {
        return Ok((seen, false));
    }
    let made = conn
        .transaction(async |conn| make(conn, &user_ids, &hash).await)
        .await?;
    match made {
        Some(seen) => Ok((seen, true)),
        // Somebody else has made it a moment earlier.
        None => {
            let seen = find(conn, &hash).await?;
            Ok((seen.ok_or(Error::Aborted(Conflict::Transaction))?, false))
        }
    }
}

/// The most users of a channel whose members stay the same.
pub const MOST_USERS: usize = 16;

async fn find(conn: &mut TenantConn, hash: &[u8]) -> Result<Option<Seen>, Error> {
    let found = channels::table
        .filter(channels::users_hash.eq(hash))
        .select(Channel::as_select());
    let found: Option<Channel> = found.first(conn).await.optional()?;
    match found {
        Some(channel) => channel::see(conn, channel.id, Some(channel))
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// Makes the channel of some users; `None` if there is one.
async fn make(
    conn: &mut TenantConn,
    user_ids: &[String],
    hash: &[u8],
) -> Result<Option<Seen>, Error> {
    let new = NewChannel {
        request_id: None,
        kind: if user_ids.len() > 2 {
            Kind::Group
        } else {
            Kind::Direct
        },
        name: String::new(),
        topic: String::new(),
        metadata: Value::Object(Map::new()),
        conversation_id: None,
        posting_policy: Policy::Members,
        broadcast_policy: Policy::Members,
        invite_policy: Policy::Moderators,
        retention_days: 0,
        members: Vec::new(),
    };
    let fixed = Fixed { user_ids, hash };
    let Some(made) = channel::insert(conn, ChannelId::new(), &new, Some(&fixed)).await? else {
        return Ok(None);
    };
    let members = user_ids.iter().map(|user| NewMember {
        user_id: user.clone(),
        role: Role::Member,
    });
    let members: Vec<_> = members.collect();
    let seen = channel::with_members(conn, made, &members).await?;
    audit::note(conn, seen.channel.id).await?;
    append(conn, seen.channel.change("channel.created", Vec::new())).await?;
    Ok(Some(seen))
}
