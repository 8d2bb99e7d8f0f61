//! How many conversations are in each state now.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::fold::{self, state_changes};
use super::snapshot;
use crate::channel::Channel;
use crate::error::Error;
use crate::ids::ChannelAccountId;
use crate::inbox::conversation::{Priority, Status};
use crate::tenant::TenantConn;

/// How many groups of a kind are answered with, at most.
pub const MAX_GROUPS: i64 = 1000;

/// Which conversations to count.
#[derive(Debug)]
pub struct StatsFilter {
    /// On one of these channels.
    pub channels: Option<Vec<Channel>>,
    /// Of this channel account.
    pub channel_account_id: Option<ChannelAccountId>,
    /// Given to this user.
    pub assignee_id: Option<String>,
    /// Given to this team.
    pub team_id: Option<String>,
    /// With this label; empty for all.
    pub label: String,
}

/// What the conversations of a count have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Nothing.
    All,
    /// The status.
    Status(Status),
    /// The channel.
    Channel(Channel),
    /// The channel account.
    Account(ChannelAccountId),
    /// Who handles them; empty for nobody.
    Assignee(String),
    /// The team that handles them; empty for none.
    Team(String),
    /// The priority.
    Priority(Priority),
    /// A label.
    Label(String),
}

/// How many conversations there are.
#[derive(Debug, Default, QueryableByName)]
pub struct Counts {
    /// All.
    #[diesel(sql_type = BigInt)]
    pub total: i64,
    /// Not archived.
    #[diesel(sql_type = BigInt)]
    pub active: i64,
    /// Not archived and given to no user.
    #[diesel(sql_type = BigInt)]
    pub unassigned: i64,
    /// Not archived, and nobody has read the customer's newest message.
    #[diesel(sql_type = BigInt)]
    pub unread: i64,
    /// The customer waits for a person.
    #[diesel(sql_type = BigInt)]
    pub waiting: i64,
    /// Put aside.
    #[diesel(sql_type = BigInt)]
    pub snoozed: i64,
    /// Leads, archived ones too.
    #[diesel(sql_type = BigInt)]
    pub qualified: i64,
}

#[derive(Debug, QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    grouped: i32,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<Status>,
    #[diesel(sql_type = Nullable<Text>)]
    channel: Option<Channel>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    channel_account_id: Option<ChannelAccountId>,
    #[diesel(sql_type = Nullable<Text>)]
    assignee_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    team_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    priority: Option<Priority>,
    #[diesel(sql_type = Nullable<Text>)]
    label: Option<String>,
    #[diesel(embed)]
    counts: Counts,
}

/// Each of the counts, over some cells.
macro_rules! counts {
    () => {
        "coalesce(sum(conversations), 0)::bigint AS total,
            coalesce(sum(conversations) FILTER (WHERE status <> 'archived'), 0)::bigint AS active,
            coalesce(sum(conversations) FILTER (WHERE status <> 'archived' AND assignee_id = ''), 0)::bigint AS unassigned,
            coalesce(sum(conversations) FILTER (WHERE status <> 'archived' AND is_unread), 0)::bigint AS unread,
            coalesce(sum(conversations) FILTER (WHERE is_waiting), 0)::bigint AS waiting,
            coalesce(sum(conversations) FILTER (WHERE is_snoozed), 0)::bigint AS snoozed,
            coalesce(sum(conversations) FILTER (WHERE is_qualified), 0)::bigint AS qualified"
    };
}

/// Counts conversations, altogether and in groups, the largest groups first.
pub async fn count(
    conn: &mut TenantConn,
    filter: &StatsFilter,
) -> Result<Vec<(Group, Counts)>, Error> {
    fold::shorten(conn).await?;
    let rows: Vec<Row> = conn
        .transaction(async |conn| {
            let fold = snapshot::begin(conn).await?;
            // One number for each kind of group; that of labels is of rows of their own, because a
            // conversation has any number of them.
            let counts = diesel::sql_query(concat!(
                "WITH cells AS (
                    SELECT s.*, a.channel FROM (
                        SELECT label, status, channel_account_id, assignee_id, team_id, priority,
                            is_qualified, is_unread, is_waiting, is_snoozed, conversations
                        FROM statistics_states WHERE generation = $1
                        UNION ALL ",
                state_changes!(),
                " WHERE c.id > $2
                    ) s JOIN channel_accounts a ON a.id = s.channel_account_id
                    WHERE ($3 IS NULL OR a.channel = ANY ($3)) AND ($4 IS NULL OR a.id = $4)
                        AND ($5 IS NULL OR s.assignee_id = $5) AND ($6 IS NULL OR s.team_id = $6)
                ), counted AS (
                    SELECT grouping(status, channel, channel_account_id, assignee_id, team_id,
                            priority) AS grouped,
                        status, channel, channel_account_id, assignee_id, team_id, priority,
                        NULL::text AS label, ", counts!(), "
                    FROM cells WHERE label = $7
                    GROUP BY GROUPING SETS ((), (status), (channel), (channel_account_id),
                        (assignee_id), (team_id), (priority))
                    UNION ALL
                    SELECT 0, NULL, NULL, NULL, NULL, NULL, NULL, label, ", counts!(), "
                    FROM cells WHERE label <> '' AND ($7 = '' OR label = $7)
                    GROUP BY label
                ), ranked AS (
                    SELECT *, row_number() OVER (PARTITION BY grouped ORDER BY total DESC, active DESC,
                        status, channel, channel_account_id, assignee_id, team_id, priority, label)
                        AS rank
                    FROM counted WHERE total > 0 OR grouped = 63
                )
                SELECT * FROM ranked WHERE rank <= $8 ORDER BY grouped, rank"
            ));
            let rows = counts
                .bind::<Integer, _>(fold.generation)
                .bind::<BigInt, _>(fold.position)
                .bind::<Nullable<Array<Text>>, _>(&filter.channels)
                .bind::<Nullable<SqlUuid>, _>(filter.channel_account_id)
                .bind::<Nullable<Text>, _>(&filter.assignee_id)
                .bind::<Nullable<Text>, _>(&filter.team_id)
                .bind::<Text, _>(&filter.label)
                .bind::<BigInt, _>(MAX_GROUPS);
            Ok::<_, Error>(rows.load(conn).await?)
        })
        .await?;
    Ok(rows.into_iter().filter_map(grouped).collect())
}

/// Tells a row's group by the one column that it has, which is the one that the sum of the others'
/// bits leaves out.
fn grouped(row: Row) -> Option<(Group, Counts)> {
    let group = match row.grouped {
        0 => Group::Label(row.label?),
        31 => Group::Status(row.status?),
        47 => Group::Channel(row.channel?),
        55 => Group::Account(row.channel_account_id?),
        59 => Group::Assignee(row.assignee_id?),
        61 => Group::Team(row.team_id?),
        62 => Group::Priority(row.priority?),
        _ => Group::All,
    };
    Some((group, row.counts))
}
