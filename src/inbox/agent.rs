//! Agents: users who take conversations, as far as routing goes.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use crate::error::Error;
use crate::event::log::{Change, append};
use crate::ids::AgentId;
use crate::page::PageSize;
use crate::schema::tenant::agents;
use crate::tenant::TenantConn;

/// A user who takes conversations.
#[derive(Debug, Clone, QueryableByName)]
pub struct Agent {
    /// The user.
    #[diesel(sql_type = Text)]
    pub user_id: String,
    /// Whether conversations may be routed to them.
    #[diesel(sql_type = Bool)]
    pub is_available: bool,
    /// How many they may be routed to.
    #[diesel(sql_type = Nullable<Integer>)]
    pub capacity: Option<i32>,
    /// How many they have that are not archived.
    #[diesel(sql_type = BigInt)]
    pub open_count: i64,
    /// When they were last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    /// Goes up with every change.
    #[diesel(sql_type = BigInt)]
    pub version: i64,
}

/// What to change in an agent: what is `None` stays.
#[derive(Debug)]
pub struct AgentPatch {
    /// The user.
    pub user_id: String,
    /// Whether conversations may be routed to them.
    pub available: Option<bool>,
    /// How many they may be routed to, if there is a limit.
    pub capacity: Option<Option<i32>>,
}

/// The columns of an `Agent`, of the table `a`.
macro_rules! agent_columns {
    () => {
        "a.user_id, a.is_available, a.capacity, a.updated_at, a.version, (
            SELECT count(*) FROM inbox_conversations c
            WHERE c.assignee_id = a.user_id AND c.archived_at IS NULL AND c.deleted_at IS NULL
        ) AS open_count"
    };
}

#[derive(QueryableByName)]
struct Identified {
    #[diesel(sql_type = sql_types::Uuid)]
    id: AgentId,
    #[diesel(embed)]
    agent: Agent,
}

/// Loads agents by their ids, as far as they are there.
pub async fn load(conn: &mut TenantConn, ids: &[AgentId]) -> Result<Vec<(AgentId, Agent)>, Error> {
    let found: Vec<Identified> = diesel::sql_query(concat!(
        "SELECT a.id, ",
        agent_columns!(),
        " FROM agents a WHERE a.id = ANY ($1)"
    ))
    .bind::<Array<sql_types::Uuid>, _>(ids)
    .load(conn)
    .await?;
    Ok(found.into_iter().map(|one| (one.id, one.agent)).collect())
}

/// Makes users agents, unless they are.
pub async fn introduce(conn: &mut TenantConn, user_ids: &[String]) -> Result<(), Error> {
    // In one order, so that two who introduce the same users do not wait for each other in a circle.
    let mut user_ids: Vec<_> = user_ids.iter().collect();
    user_ids.sort_unstable();
    let rows: Vec<_> = user_ids
        .into_iter()
        .map(|user_id| {
            (
                agents::id.eq(AgentId::new()),
                agents::user_id.eq(user_id),
                agents::is_available.eq(true),
            )
        })
        .collect();
    diesel::insert_into(agents::table)
        .values(rows)
        .on_conflict(agents::user_id)
        .do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// Changes an agent, and makes one of who is none yet.
pub async fn update(conn: &mut TenantConn, patch: AgentPatch) -> Result<Agent, Error> {
    conn.transaction(async |conn| {
        introduce(conn, std::slice::from_ref(&patch.user_id)).await?;
        let mut changed = Vec::new();
        if patch.available.is_some() {
            changed.push("available");
        }
        if patch.capacity.is_some() {
            changed.push("capacity");
        }
        let (id, version): (AgentId, i64) = diesel::update(agents::table)
            .filter(agents::user_id.eq(&patch.user_id))
            .set((
                patch
                    .available
                    .map(|available| agents::is_available.eq(available)),
                patch.capacity.map(|capacity| agents::capacity.eq(capacity)),
                agents::version.eq(agents::version + 1),
                agents::updated_at.eq(sql("directory.now()")),
            ))
            .returning((agents::id, agents::version))
            .get_result(conn)
            .await?;
        let agent = diesel::sql_query(concat!(
            "SELECT ",
            agent_columns!(),
            " FROM agents a WHERE a.user_id = $1"
        ))
        .bind::<Text, _>(&patch.user_id)
        .get_result(conn)
        .await?;
        let change = Change {
            kind: "agent.updated",
            resource_kind: "agent",
            resource_id: id.0,
            parent_id: None,
            sequence: None,
            version,
            changed,
        };
        append(conn, change).await?;
        Ok(agent)
    })
    .await
}

/// Lists agents beyond one, by user.
pub async fn list(
    conn: &mut TenantConn,
    available: Option<bool>,
    after: Option<String>,
    size: PageSize,
) -> Result<Vec<Agent>, Error> {
    let page = diesel::sql_query(concat!(
        "SELECT ",
        agent_columns!(),
        " FROM agents a
        WHERE a.user_id > $1 AND ($2 IS NULL OR a.is_available = $2)
        ORDER BY a.user_id LIMIT $3"
    ))
    .bind::<Text, _>(after.unwrap_or_default())
    .bind::<Nullable<Bool>, _>(available)
    .bind::<BigInt, _>(size.rows());
    Ok(page.load(conn).await?)
}
