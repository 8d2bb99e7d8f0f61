//! What holds for the conversations of a channel account: when they are opened again, and whom they
//! are given to.

use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::agent;
use crate::error::{Conflict, Error};
use crate::etag::etag;
use crate::event::log::{Change, append};
use crate::ids::{AgentId, ChannelAccountId};
use crate::schema::tenant::{agents, channel_account_agents, channel_accounts};
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// What becomes of an archived conversation when its customer writes again.
    ReopenPolicy {
        /// It is opened again.
        Always = "always",
        /// It is opened again for some days.
        Within = "within",
        /// A new one begins.
        Never = "never",
    }
}

stored_enum! {
    /// Whom new conversations are given to.
    Routing {
        /// Nobody.
        None = "none",
        /// Always the same.
        Fixed = "fixed",
        /// The agents in turns.
        RoundRobin = "round_robin",
        /// The agent who has the fewest.
        LeastOpen = "least_open",
    }
}

/// What holds for the conversations of a channel account.
#[derive(Debug)]
pub struct Policy {
    /// What is stored with the account.
    pub account: AccountPolicy,
    /// The users to choose from, in the order of their turns.
    pub agent_ids: Vec<String>,
}

/// What is stored with an account of its policy.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = channel_accounts, check_for_backend(Pg))]
pub struct AccountPolicy {
    /// The account.
    pub id: ChannelAccountId,
    /// What becomes of an archived conversation when its customer writes again.
    pub reopen_policy: ReopenPolicy,
    /// For how many days it is opened again.
    pub reopen_days: Option<i32>,
    /// Whom new conversations are given to.
    pub routing: Routing,
    /// The user, where it is always the same.
    pub routing_assignee_id: Option<String>,
    /// The team of every routed conversation.
    pub routing_team_id: Option<String>,
    /// Goes up with every change of the policy.
    pub policy_version: i64,
}

/// What to change in a policy: what is `None` stays.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = channel_accounts)]
pub struct PolicyPatch {
    /// What becomes of an archived conversation when its customer writes again.
    pub reopen_policy: Option<ReopenPolicy>,
    /// For how many days it is opened again.
    pub reopen_days: Option<Option<i32>>,
    /// Whom new conversations are given to.
    pub routing: Option<Routing>,
    /// The user, where it is always the same.
    pub routing_assignee_id: Option<Option<String>>,
    /// The team of every routed conversation.
    pub routing_team_id: Option<Option<String>>,
}

/// Finds what holds for an account.
pub async fn find(conn: &mut TenantConn, id: ChannelAccountId) -> Result<Option<Policy>, Error> {
    let account = channel_accounts::table
        .filter(channel_accounts::id.eq(id))
        .filter(channel_accounts::deleted_at.is_null())
        .select(AccountPolicy::as_select());
    let account: Option<AccountPolicy> = account.first(conn).await.optional()?;
    let Some(account) = account else {
        return Ok(None);
    };
    let agent_ids = channel_account_agents::table
        .inner_join(agents::table)
        .filter(channel_account_agents::channel_account_id.eq(id))
        .order(channel_account_agents::position)
        .select(agents::user_id)
        .load(conn)
        .await?;
    Ok(Some(Policy { account, agent_ids }))
}

/// Changes what holds for an account, if its etag is still the one given.
///
/// # Errors
/// There is no such account, its policy's etag is another one, or days and policy do not fit.
pub async fn update(
    conn: &mut TenantConn,
    id: ChannelAccountId,
    given: Option<String>,
    mut patch: PolicyPatch,
    agent_ids: Option<Vec<String>>,
) -> Result<Policy, Error> {
    let not_found = || Error::not_found("channel_account", id);
    conn.transaction(async |conn| {
        let current: AccountPolicy = channel_accounts::table
            .filter(channel_accounts::id.eq(id))
            .filter(channel_accounts::deleted_at.is_null())
            .select(AccountPolicy::as_select())
            .for_no_key_update()
            .first(conn)
            .await
            .optional()?
            .ok_or_else(not_found)?;
        let current_etag = etag(current.policy_version);
        if let Some(given) = given.clone()
            && given != current_etag
        {
            return Err(Error::Aborted(Conflict::Etag {
                given,
                current: current_etag,
            }));
        }
        let reopen_policy = patch.reopen_policy.unwrap_or(current.reopen_policy);
        let days = patch.reopen_days.unwrap_or(current.reopen_days);
        match (reopen_policy, days) {
            (ReopenPolicy::Within, None) => {
                return Err(Error::invalid("reopen_days", "is required with WITHIN"));
            }
            (ReopenPolicy::Within, Some(_)) => {}
            (ReopenPolicy::Always | ReopenPolicy::Never, _) => {
                patch.reopen_days = current.reopen_days.is_some().then_some(None);
            }
        }
        let mut changed = changed_fields(&patch);
        if let Some(agent_ids) = &agent_ids {
            changed.push("agent_ids");
            set_agents(conn, id, agent_ids).await?;
        }
        if !changed.is_empty() {
            let version = diesel::update(channel_accounts::table.find(id))
                .set((
                    &patch,
                    channel_accounts::policy_version.eq(channel_accounts::policy_version + 1),
                    channel_accounts::version.eq(channel_accounts::version + 1),
                    channel_accounts::updated_at.eq(sql("directory.now()")),
                ))
                .returning(channel_accounts::version)
                .get_result(conn)
                .await?;
            let change = Change {
                kind: "account_policy.updated",
                resource_kind: "channel_account",
                resource_id: id.0,
                parent_id: None,
                sequence: None,
                version,
                changed,
            };
            append(conn, change).await?;
        }
        find(conn, id).await?.ok_or_else(not_found)
    })
    .await
}

fn changed_fields(patch: &PolicyPatch) -> Vec<&'static str> {
    let fields = [
        ("reopen_policy", patch.reopen_policy.is_some()),
        ("reopen_days", patch.reopen_days.is_some()),
        ("routing", patch.routing.is_some()),
        ("routing_assignee_id", patch.routing_assignee_id.is_some()),
        ("routing_team_id", patch.routing_team_id.is_some()),
    ];
    let changed = fields.into_iter().filter(|(_, changes)| *changes);
    changed.map(|(name, _)| name).collect()
}

/// Replaces the agents of an account; who stays keeps their turn, and who comes is not served first
/// for all that they have missed.
async fn set_agents(
    conn: &mut TenantConn,
    id: ChannelAccountId,
    user_ids: &[String],
) -> Result<(), Error> {
    agent::introduce(conn, user_ids).await?;
    let known: Vec<(String, AgentId)> = agents::table
        .filter(agents::user_id.eq_any(user_ids))
        .select((agents::user_id, agents::id))
        .load(conn)
        .await?;
    let ids: Vec<_> = known.iter().map(|(_, agent)| *agent).collect();
    diesel::delete(channel_account_agents::table)
        .filter(channel_account_agents::channel_account_id.eq(id))
        .filter(channel_account_agents::agent_id.ne_all(&ids))
        .execute(conn)
        .await?;
    let turn: Option<i64> = channel_account_agents::table
        .filter(channel_account_agents::channel_account_id.eq(id))
        .select(diesel::dsl::min(channel_account_agents::turn))
        .first(conn)
        .await?;
    let mut rows = Vec::new();
    for (position, user_id) in (0_i32..).zip(user_ids) {
        if let Some((_, agent)) = known.iter().find(|(known, _)| known == user_id) {
            rows.push((
                channel_account_agents::channel_account_id.eq(id),
                channel_account_agents::agent_id.eq(*agent),
                channel_account_agents::position.eq(position),
                channel_account_agents::turn.eq(turn.unwrap_or(0)),
            ));
        }
    }
    diesel::insert_into(channel_account_agents::table)
        .values(rows)
        .on_conflict((
            channel_account_agents::channel_account_id,
            channel_account_agents::agent_id,
        ))
        .do_update()
        .set(
            channel_account_agents::position
                .eq(diesel::upsert::excluded(channel_account_agents::position)),
        )
        .execute(conn)
        .await?;
    Ok(())
}
