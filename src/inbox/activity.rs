//! What happened to a conversation: who did what when, by which rule.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::change::ChangeKind;
use super::conversation::{Priority, Status};
use crate::error::Error;
use crate::ids::ConversationId;
use crate::page::PageSize;
use crate::schema::tenant::{conversation_changes, inbox_conversations};
use crate::tenant::TenantConn;

/// One thing that happened to a conversation.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = conversation_changes, check_for_backend(Pg))]
pub struct Activity {
    /// That of its event.
    pub id: i64,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// What happened.
    pub kind: ChangeKind,
    /// What made it happen, where it was nobody's own wish.
    pub rule: String,
    /// The message that brought it about.
    pub sequence: Option<i64>,
    /// The fields that changed.
    pub changed: Vec<Option<String>>,
    /// The kind of who acted.
    pub actor_kind: String,
    /// Who acted.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// The correlation id of the call.
    pub correlation_id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The state before; without a status, there was none.
    #[diesel(embed)]
    pub before: Before,
    /// The state after.
    #[diesel(embed)]
    pub after: After,
    /// The episode of the conversation.
    pub episode: i32,
    /// Since when the customer had waited for this answer.
    pub waited_since: Option<DateTime<Utc>>,
}

/// The state of a conversation before a change.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = conversation_changes, check_for_backend(Pg))]
pub struct Before {
    /// Where it stood.
    pub old_status: Option<Status>,
    /// How urgent it was.
    pub old_priority: Option<Priority>,
    /// The user who handled it.
    pub old_assignee_id: Option<String>,
    /// The team that handled it.
    pub old_team_id: Option<String>,
    /// Its labels.
    pub old_labels: Option<Vec<Option<String>>>,
    /// Until when it was put aside.
    pub old_snoozed_until: Option<DateTime<Utc>>,
    /// Whether it was a lead.
    pub was_qualified: bool,
    /// Whether nobody had read the customer's newest message.
    pub was_unread: bool,
    /// Whether the customer waited for a person.
    pub was_waiting: bool,
}

/// The state of a conversation after a change.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = conversation_changes, check_for_backend(Pg))]
pub struct After {
    /// Where it stands.
    pub status: Status,
    /// How urgent it is.
    pub priority: Priority,
    /// The user who handles it.
    pub assignee_id: Option<String>,
    /// The team that handles it.
    pub team_id: Option<String>,
    /// Its labels.
    pub labels: Vec<Option<String>>,
    /// Until when it is put aside.
    pub snoozed_until: Option<DateTime<Utc>>,
    /// Whether it is a lead.
    pub is_qualified: bool,
    /// Whether nobody has read the customer's newest message.
    pub is_unread: bool,
    /// Whether the customer waits for a person.
    pub is_waiting: bool,
}

/// Lists what happened to a conversation before a change, the newest first.
///
/// # Errors
/// There is no such conversation.
pub async fn list(
    conn: &mut TenantConn,
    id: ConversationId,
    before: Option<i64>,
    size: PageSize,
) -> Result<Vec<Activity>, Error> {
    let conversation = inbox_conversations::table
        .filter(inbox_conversations::id.eq(id))
        .filter(inbox_conversations::deleted_at.is_null())
        .select(inbox_conversations::id);
    let found: Option<ConversationId> = conversation.first(conn).await.optional()?;
    found.ok_or_else(|| Error::not_found("conversation", id))?;
    // Were the conversation a mere condition, the database might walk down the changes of all until
    // it has enough of this one.
    let activities = conversation_changes::table
        .filter(conversation_changes::conversation_id.eq_any([id]))
        .filter(conversation_changes::id.lt(before.unwrap_or(i64::MAX)))
        .order((
            conversation_changes::conversation_id.desc(),
            conversation_changes::id.desc(),
        ))
        .limit(size.rows())
        .select(Activity::as_select());
    Ok(activities.load(conn).await?)
}
