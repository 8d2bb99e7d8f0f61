//! Records of uses: who used what when, and how often.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::quick_reply::visible;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{ConversationId, MessageId, QuickReplyId, QuickReplyUseId};
use crate::page::PageSize;
use crate::schema::tenant::{inbox_quick_replies, inbox_quick_reply_uses};
use crate::tenant::TenantConn;

/// A use.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = inbox_quick_reply_uses, check_for_backend(Pg))]
pub struct Use {
    /// Its id.
    pub id: QuickReplyUseId,
    /// The quick reply.
    pub quick_reply_id: QuickReplyId,
    /// The conversation that it was for.
    pub conversation_id: Option<ConversationId>,
    /// The message that was made of it.
    pub message_id: Option<MessageId>,
    /// The tag of the language, or empty.
    pub language: String,
    /// The kind of who used it.
    pub actor_kind: String,
    /// Who used it.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// When.
    pub used_at: DateTime<Utc>,
}

/// Which uses to list.
#[derive(Debug)]
pub struct UseFilter {
    /// Of this quick reply.
    pub quick_reply_id: Option<QuickReplyId>,
    /// By this user.
    pub user_id: Option<String>,
}

/// Where a page of uses begins: before this one.
pub type UsePosition = (DateTime<Utc>, QuickReplyUseId);

/// Lists uses before a position, the newest first.
pub async fn list(
    conn: &mut TenantConn,
    filter: &UseFilter,
    before: Option<UsePosition>,
    size: PageSize,
) -> Result<Vec<Use>, Error> {
    let visible = visible(conn, filter.user_id.as_deref());
    let mut query = inbox_quick_reply_uses::table
        .inner_join(inbox_quick_replies::table)
        .filter(inbox_quick_replies::user_id.eq_any(visible))
        .order((
            inbox_quick_reply_uses::used_at.desc(),
            inbox_quick_reply_uses::id.desc(),
        ))
        .limit(size.rows())
        .select(Use::as_select())
        .into_boxed();
    if let Some(id) = filter.quick_reply_id {
        query = query.filter(inbox_quick_reply_uses::quick_reply_id.eq(id));
    }
    if let Some(user) = &filter.user_id {
        query = query
            .filter(inbox_quick_reply_uses::actor_kind.eq("user"))
            .filter(inbox_quick_reply_uses::actor_id.eq(user));
    }
    if let Some((at, id)) = before {
        // As one comparison of rows, which an index can begin at.
        let columns = "(inbox_quick_reply_uses.used_at, inbox_quick_reply_uses.id)";
        let condition = diesel::dsl::sql::<Bool>(columns)
            .sql(" < (")
            .bind::<Timestamptz, _>(at)
            .sql(", ")
            .bind::<sql_types::Uuid, _>(id)
            .sql(")");
        query = query.filter(condition);
    }
    Ok(query.load(conn).await?)
}

/// How often a quick reply was used in some time.
#[derive(Debug, Clone, PartialEq, Queryable)]
pub struct Usage {
    /// The quick reply.
    pub quick_reply_id: QuickReplyId,
    /// Its shortcut.
    pub shortcut: String,
    /// Its title.
    pub title: String,
    /// How often.
    pub uses: i64,
    /// When last.
    pub last_used_at: DateTime<Utc>,
}

/// Which uses to count.
#[derive(Debug)]
pub struct StatsFilter {
    /// At this time or later.
    pub start: Option<DateTime<Utc>>,
    /// Before this time.
    pub end: Option<DateTime<Utc>>,
    /// By this user.
    pub user_id: Option<String>,
}

/// Where a page of usages begins: beyond so many uses, and this quick reply.
pub type UsagePosition = (i64, QuickReplyId);

statement! {
    /// Counts the uses of each quick reply.
    Stats<'a> -> (sql_types::Uuid, Text, Text, BigInt, Timestamptz) {
        visible: &'a [String] => Array<Text>,
        start: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        end_: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        user_id: Option<&'a str> => Nullable<Text>,
        below: i64 => BigInt,
        below_id: Uuid => sql_types::Uuid,
        rows: i64 => BigInt,
    }
    "
    SELECT q.id, q.shortcut, q.title, s.uses, s.last_used_at
    FROM input CROSS JOIN LATERAL (
        SELECT u.quick_reply_id, count(*) AS uses, max(u.used_at) AS last_used_at
        FROM inbox_quick_reply_uses u
        WHERE u.used_at >= coalesce(input.start, '-infinity')
            AND u.used_at < coalesce(input.end_, 'infinity')
            AND (input.user_id IS NULL OR u.actor_kind = 'user' AND u.actor_id = input.user_id)
        GROUP BY u.quick_reply_id
    ) s JOIN inbox_quick_replies q ON q.id = s.quick_reply_id
    WHERE q.user_id = ANY (input.visible) AND (s.uses, q.id) < (input.below, input.below_id)
    ORDER BY s.uses DESC, q.id DESC
    LIMIT (SELECT rows FROM input)"
}

/// Counts the uses of each quick reply, beyond a position, the most used first.
pub async fn stats(
    conn: &mut TenantConn,
    filter: &StatsFilter,
    beyond: Option<UsagePosition>,
    size: PageSize,
) -> Result<Vec<Usage>, Error> {
    let visible = visible(conn, filter.user_id.as_deref());
    let (below, below_id) = beyond.map_or((i64::MAX, Uuid::max()), |(uses, id)| (uses, id.0));
    let statement = Stats {
        visible: &visible,
        start: filter.start,
        end_: filter.end,
        user_id: filter.user_id.as_deref(),
        below,
        below_id,
        rows: size.rows(),
        life: PhantomData,
    };
    Ok(statement.load(conn).await?)
}
