//! Lists of conversations.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt, Integer, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};

use super::conversation::{
    Conversation, ConversationRow, Priority, Seen, Status, conversation_columns, conversation_of,
    unread_count,
};
use super::conversation_search::{self, Found, TextFilter};
use crate::channel::Channel;
use crate::error::Error;
use crate::ids::{ChannelAccountId, ContactId, ConversationId};
use crate::page::PageSize;
use crate::tenant::TenantConn;

/// The order of a list of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one with the newest message first.
    LastMessage,
    /// The newest first.
    NewestFirst,
    /// The oldest first.
    OldestFirst,
    /// The most urgent first, of those the oldest.
    Priority,
    /// Who waits longest first, and nobody who does not wait.
    WaitingLongest,
}

/// Which conversations to list.
#[derive(Debug)]
pub struct ConversationFilter {
    /// With one of these statuses.
    pub statuses: Vec<Status>,
    /// On one of these channels.
    pub channels: Option<Vec<Channel>>,
    /// Of this channel account.
    pub channel_account_id: Option<ChannelAccountId>,
    /// Of this person.
    pub contact_id: Option<ContactId>,
    /// Changed at this time or later.
    pub updated_since: Option<DateTime<Utc>>,
    /// Given to this user.
    pub assignee_id: Option<String>,
    /// Given to this team.
    pub team_id: Option<String>,
    /// Given to no user, or to one.
    pub unassigned: Option<bool>,
    /// With each of these labels.
    pub labels: Vec<String>,
    /// With one of these priorities.
    pub priorities: Option<Vec<Priority>>,
    /// Leads, or none.
    pub qualified: Option<bool>,
    /// Put aside, or not.
    pub snoozed: Option<bool>,
    /// Whether nobody has read the customer's newest message.
    pub unread: Option<bool>,
    /// In which a text is found.
    pub text: Option<TextFilter>,
}

/// Where a page of conversations begins: beyond this one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Position {
    /// Its last message, or its creation.
    pub last_message_at: DateTime<Utc>,
    /// Its number.
    pub number: i64,
    /// Its id.
    pub id: ConversationId,
    /// Its priority.
    pub priority: Priority,
    /// Since when its customer waits.
    pub waiting_since: Option<DateTime<Utc>>,
}

impl Conversation {
    /// Where the page after this conversation begins.
    pub fn position(&self) -> Position {
        Position {
            last_message_at: self.last_message_at,
            number: self.number,
            id: self.id,
            priority: self.priority,
            waiting_since: self.waiting_since,
        }
    }
}

/// How urgent a conversation is, as a number; the index by priority has these words.
macro_rules! rank {
    ($table:literal) => {
        concat!(
            "array_position('{urgent,high,normal,low}'::text[], ",
            $table,
            ".priority)"
        )
    };
}

impl Priority {
    fn rank(self) -> &'static str {
        match self {
            Self::Urgent => "1",
            Self::High => "2",
            Self::Normal => "3",
            Self::Low => "4",
        }
    }
}

/// A page of conversations.
///
/// Each status is a walk of its own down an index, and the walks are merged: over several statuses
/// at once the database would read and sort them all. What is archived is apart from what is at
/// work, as the indexes are. Filters that few conversations may pass are planned for their values,
/// so that the database can begin with those few; without them the prepared plan is kept.
#[derive(Debug)]
struct Page<'a> {
    filter: &'a ConversationFilter,
    found: Option<Found<'a>>,
    archived: Vec<Status>,
    at_work: Vec<Status>,
    order: Order,
    beyond: Option<Position>,
    rows: i64,
    reader: Option<&'a str>,
}

impl QueryId for Page<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Page<'_> {
    type SqlType = (ConversationRow, Nullable<Integer>);
}

impl QueryFragment<Pg> for Page<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if self.filter.is_selective() {
            out.unsafe_to_cache_prepared();
        }
        out.push_sql("WITH input AS (SELECT ");
        out.push_bind_param::<Nullable<Text>, _>(&self.reader)?;
        out.push_sql(" AS reader) SELECT ");
        out.push_sql(conversation_columns!());
        out.push_sql(match self.reader {
            Some(_) => concat!(", ", unread_count!()),
            None => ", NULL::integer",
        });
        out.push_sql(" FROM input CROSS JOIN (SELECT * FROM (");
        let mut separator = "";
        for statuses in [&self.at_work, &self.archived] {
            if !statuses.is_empty() {
                out.push_sql(separator);
                separator = " UNION ALL ";
                self.walk_statuses(statuses, out.reborrow())?;
            }
        }
        out.push_sql(") p ORDER BY ");
        out.push_sql(self.order.of_page());
        out.push_sql(" LIMIT ");
        out.push_bind_param::<BigInt, _>(&self.rows)?;
        out.push_sql(") p ORDER BY ");
        out.push_sql(self.order.of_page());
        Ok(())
    }
}

impl Page<'_> {
    /// Reads the first conversations of each of some statuses, or of all that wait among them.
    fn walk_statuses<'b>(
        &'b self,
        statuses: &'b Vec<Status>,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT p.* FROM ");
        // What is found often is looked for in one conversation after the other, in the order that
        // they are read in, until there are enough.
        let begin = match &self.found {
            Some(Found::Often(_)) => "(SELECT p.* FROM (",
            _ => "(",
        };
        if self.order == Order::WaitingLongest {
            out.push_sql(begin);
            out.push_sql(conversation_of!("inbox_conversations"));
            out.push_sql(" WHERE c.status = ANY (");
            out.push_bind_param::<Array<Text>, _>(statuses)?;
            out.push_sql(") AND c.waiting_since IS NOT NULL");
        } else {
            out.push_sql("unnest(");
            out.push_bind_param::<Array<Text>, _>(statuses)?;
            out.push_sql(") AS wanted (status) CROSS JOIN ");
            if let (Order::LastMessage, Some(channels)) = (self.order, &self.filter.channels) {
                out.push_sql("unnest(");
                out.push_bind_param::<Array<Text>, _>(channels)?;
                out.push_sql(") AS of (channel) CROSS JOIN ");
            }
            out.push_sql("LATERAL ");
            out.push_sql(begin);
            out.push_sql(conversation_of!("inbox_conversations"));
            out.push_sql(match (self.order, &self.filter.channels) {
                // Were the status a mere condition, the database might walk down the numbers of all
                // conversations until it has enough that fulfil it.
                (Order::NewestFirst | Order::OldestFirst, _) => {
                    " WHERE c.status = ANY (ARRAY[wanted.status])"
                }
                (Order::LastMessage, Some(_)) => {
                    " WHERE c.status = wanted.status AND c.channel = of.channel"
                }
                _ => " WHERE c.status = wanted.status",
            });
        }
        // Where nothing archived is wanted, the filter says so itself.
        if self.filter.statuses.contains(&Status::Archived) {
            out.push_sql(match statuses[..] {
                [Status::Archived] => " AND c.archived_at IS NOT NULL",
                _ => " AND c.archived_at IS NULL",
            });
        }
        self.filter.walk(out.reborrow())?;
        if let Some(Found::In(ids)) = &self.found {
            out.push_sql(" AND c.id = ANY (");
            out.push_bind_param::<Array<sql_types::Uuid>, _>(ids)?;
            out.push_sql(")");
        }
        self.walk_beyond(out.reborrow())?;
        out.push_sql(" ORDER BY ");
        out.push_sql(self.order.of_conversations());
        if let Some(Found::Often(often)) = &self.found {
            out.push_sql(" OFFSET 0) p WHERE ");
            often.walk(out.reborrow())?;
        }
        out.push_sql(" LIMIT ");
        out.push_bind_param::<BigInt, _>(&self.rows)?;
        out.push_sql(") p");
        Ok(())
    }

    /// Leaves out what came on the pages before.
    fn walk_beyond<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Some(beyond) = &self.beyond else {
            return Ok(());
        };
        match self.order {
            Order::LastMessage => {
                out.push_sql(" AND (c.last_message_at, c.id) < (");
                out.push_bind_param::<Timestamptz, _>(&beyond.last_message_at)?;
                out.push_sql(", ");
                out.push_bind_param::<sql_types::Uuid, _>(&beyond.id)?;
                out.push_sql(")");
            }
            Order::NewestFirst => {
                out.push_sql(" AND c.number < ");
                out.push_bind_param::<BigInt, _>(&beyond.number)?;
            }
            Order::OldestFirst => {
                out.push_sql(" AND c.number > ");
                out.push_bind_param::<BigInt, _>(&beyond.number)?;
            }
            Order::Priority => {
                out.push_sql(concat!(
                    " AND (",
                    rank!("c"),
                    ", c.number) > (array_position('{urgent,high,normal,low}'::text[], "
                ));
                out.push_bind_param::<Text, _>(&beyond.priority)?;
                out.push_sql("), ");
                out.push_bind_param::<BigInt, _>(&beyond.number)?;
                out.push_sql(")");
            }
            Order::WaitingLongest => {
                out.push_sql(" AND (c.waiting_since, c.id) > (");
                out.push_bind_param::<Nullable<Timestamptz>, _>(&beyond.waiting_since)?;
                out.push_sql(", ");
                out.push_bind_param::<sql_types::Uuid, _>(&beyond.id)?;
                out.push_sql(")");
            }
        }
        Ok(())
    }
}

impl Order {
    fn of_conversations(self) -> &'static str {
        match self {
            Self::LastMessage => "c.last_message_at DESC, c.id DESC",
            Self::NewestFirst => "c.status DESC, c.number DESC",
            Self::OldestFirst => "c.status, c.number",
            Self::Priority => concat!(rank!("c"), ", c.number"),
            Self::WaitingLongest => "c.waiting_since, c.id",
        }
    }

    fn of_page(self) -> &'static str {
        match self {
            Self::LastMessage => "p.last_message_at DESC, p.id DESC",
            Self::NewestFirst => "p.number DESC",
            Self::OldestFirst => "p.number",
            Self::Priority => concat!(rank!("p"), ", p.number"),
            Self::WaitingLongest => "p.waiting_since, p.id",
        }
    }
}

impl ConversationFilter {
    /// Tells whether it asks for a person or a channel account.
    fn is_of_somebody(&self) -> bool {
        self.contact_id.is_some() || self.channel_account_id.is_some()
    }

    /// Tells whether few conversations of many may pass.
    fn is_selective(&self) -> bool {
        self.contact_id.is_some()
            || self.assignee_id.is_some()
            || self.team_id.is_some()
            || !self.labels.is_empty()
            || self.channel_account_id.is_some()
            || self.channels.is_some()
            || self.updated_since.is_some()
            || self.priorities.is_some()
            || self.qualified.is_some()
            || self.snoozed.is_some()
            || self.unread.is_some()
            || self.text.is_some()
    }

    fn walk<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(" AND c.deleted_at IS NULL");
        // The indexes of what is at work leave the archived out.
        if !self.statuses.contains(&Status::Archived) {
            out.push_sql(" AND c.archived_at IS NULL");
        }
        if let Some(channels) = &self.channels {
            out.push_sql(" AND c.channel = ANY (");
            out.push_bind_param::<Array<Text>, _>(channels)?;
            out.push_sql(")");
        }
        if let Some(account) = &self.channel_account_id {
            out.push_sql(" AND i.channel_account_id = ");
            out.push_bind_param::<sql_types::Uuid, _>(account)?;
        }
        if let Some(contact) = &self.contact_id {
            out.push_sql(" AND i.contact_id = ");
            out.push_bind_param::<sql_types::Uuid, _>(contact)?;
        }
        if let Some(since) = &self.updated_since {
            out.push_sql(" AND c.updated_at >= ");
            out.push_bind_param::<Timestamptz, _>(since)?;
        }
        if let Some(assignee) = &self.assignee_id {
            out.push_sql(" AND c.assignee_id = ");
            out.push_bind_param::<Text, _>(assignee)?;
        }
        if let Some(team) = &self.team_id {
            out.push_sql(" AND c.team_id = ");
            out.push_bind_param::<Text, _>(team)?;
        }
        if !self.labels.is_empty() {
            out.push_sql(" AND c.labels <> '{}' AND c.labels @> ");
            out.push_bind_param::<Array<Text>, _>(&self.labels)?;
        }
        if let Some(priorities) = &self.priorities {
            // As the index has it, and a single one so that the index gives the order.
            let ranks: Vec<_> = priorities.iter().map(|wanted| wanted.rank()).collect();
            out.push_sql(concat!(" AND ", rank!("c"), " = "));
            match ranks[..] {
                [rank] => out.push_sql(rank),
                _ => out.push_sql(&format!("ANY ('{{{}}}'::integer[])", ranks.join(","))),
            }
        }
        let states = [
            (self.unassigned, "c.assignee_id IS NULL"),
            (self.qualified, "c.qualified_at IS NOT NULL"),
            (self.snoozed, "c.snoozed_until IS NOT NULL"),
            (self.unread, "c.last_inbound_sequence - c.read_sequence > 0"),
        ];
        for (wanted, state) in states {
            if let Some(wanted) = wanted {
                out.push_sql(if wanted { " AND (" } else { " AND NOT (" });
                out.push_sql(state);
                out.push_sql(")");
            }
        }
        Ok(())
    }
}

/// Lists conversations beyond a position, as the acting user sees them.
pub async fn list(
    conn: &mut TenantConn,
    filter: &ConversationFilter,
    order: Order,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Vec<Seen>, Error> {
    let facts = conn.facts().clone();
    let (mut archived, at_work): (Vec<_>, Vec<_>) =
        (filter.statuses.iter().copied()).partition(|status| *status == Status::Archived);
    if order == Order::WaitingLongest {
        // For what is archived nobody waits.
        archived.clear();
    }
    if archived.is_empty() && at_work.is_empty() {
        return Ok(Vec::new());
    }
    let found = match &filter.text {
        None => None,
        Some(text) => Some(conversation_search::find(conn, text).await?),
    };
    if matches!(&found, Some(Found::In(ids)) if ids.is_empty()) {
        return Ok(Vec::new());
    }
    let page = Page {
        filter,
        found,
        archived,
        at_work,
        order,
        beyond,
        rows: size.rows(),
        reader: facts.actor.user_id(),
    };
    Ok(page.load(conn).await?)
}

/// Conversations that match a filter, each by its number and its id, the oldest first.
#[derive(Debug)]
struct Matching<'a> {
    filter: &'a ConversationFilter,
    /// Of these only.
    among: Option<&'a [ConversationId]>,
    /// With a higher number, and one that is not higher.
    within: Option<(i64, i64)>,
}

impl QueryId for Matching<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Matching<'_> {
    type SqlType = (BigInt, sql_types::Uuid);
}

impl QueryFragment<Pg> for Matching<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // Planned for its values: all of them are read at once, so what is best depends on how many
        // there are.
        out.unsafe_to_cache_prepared();
        out.push_sql("SELECT c.number, c.id FROM inbox_conversations c");
        if self.filter.is_of_somebody() {
            out.push_sql(" JOIN contact_identities i ON i.id = c.contact_identity_id");
        }
        out.push_sql(" WHERE c.status = ANY (");
        out.push_bind_param::<Array<Text>, _>(&self.filter.statuses)?;
        out.push_sql(")");
        self.filter.walk(out.reborrow())?;
        if let Some(among) = &self.among {
            out.push_sql(" AND c.id = ANY (");
            out.push_bind_param::<Array<sql_types::Uuid>, _>(among)?;
            out.push_sql(")");
        }
        if let Some((after, up_to)) = &self.within {
            out.push_sql(" AND c.number > ");
            out.push_bind_param::<BigInt, _>(after)?;
            out.push_sql(" AND c.number <= ");
            out.push_bind_param::<BigInt, _>(up_to)?;
        }
        out.push_sql(" ORDER BY c.number");
        Ok(())
    }
}

/// Finds all conversations that match, by number and id, the oldest first; those only whose numbers
/// are within what is given: higher than the first, and no higher than the second.
pub async fn matching(
    conn: &mut TenantConn,
    filter: &ConversationFilter,
    within: Option<(i64, i64)>,
) -> Result<Vec<(i64, ConversationId)>, Error> {
    let matching = Matching {
        filter,
        among: None,
        within,
    };
    Ok(matching.load(conn).await?)
}

/// Finds those of some conversations that match.
pub async fn matching_among(
    conn: &mut TenantConn,
    filter: &ConversationFilter,
    among: &[ConversationId],
) -> Result<Vec<ConversationId>, Error> {
    let matching = Matching {
        filter,
        among: Some(among),
        within: None,
    };
    let found: Vec<(i64, ConversationId)> = matching.load(conn).await?;
    Ok(found.into_iter().map(|(_, id)| id).collect())
}
