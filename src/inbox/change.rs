//! Changes of a conversation that are no messages: one statement for all of them, and how every
//! change enters the conversation's log.

use std::collections::HashMap;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contact_words;
use super::conversation::{
    Conversation, ConversationRow, Priority, Status, conversation_columns, conversation_of,
    is_replaced,
};
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::etag::etag;
use crate::event::log::append_events;
use crate::ids::ConversationId;
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

stored_enum! {
    /// What happened to a conversation.
    ChangeKind {
        /// It was made.
        Created = "created",
        /// A message changed its state.
        Message = "message",
        /// It was edited.
        Updated = "updated",
        /// It was given to somebody or nobody.
        Assigned = "assigned",
        /// It was qualified as a lead.
        Qualified = "qualified",
        /// Its qualification was withdrawn.
        Disqualified = "disqualified",
        /// It was archived.
        Archived = "archived",
        /// It was reopened by a caller.
        Reopened = "reopened",
        /// Somebody read it, as the first of the team.
        Read = "read",
        /// The time that it was put aside for is over.
        Woken = "woken",
        /// It was merged into another, or another into it.
        Merged = "merged",
        /// A merge was undone.
        Unmerged = "unmerged",
        /// Its person was erased: it is in no list any more.
        Erased = "erased",
    }
}

/// CTE `moved`: what a statement has changed in a conversation, of the row before in `head` and the
/// row after in `bumped`; empty where nothing that the log tells has changed. Takes SQL of `h`, `b`
/// and `input`: the kind, the rule, the sequence of the message, since when the customer had waited
/// for this answer, and further fields that may have changed, each with a comma behind.
macro_rules! moved {
    ($kind:literal, $rule:literal, $sequence:literal, $waited:literal, $further:literal) => {
        concat!(
            "
        , moved AS (
            SELECT * FROM (
                SELECT b.id, b.version, b.updated_at, ", $kind, " AS kind, ", $rule, " AS rule, ", $sequence, " AS sequence,
                    array_remove(ARRAY[", $further, "
                        CASE WHEN b.status <> h.status THEN 'status' END,
                        CASE WHEN b.priority <> h.priority THEN 'priority' END,
                        CASE WHEN b.assignee_id IS DISTINCT FROM h.assignee_id THEN 'assignee_id' END,
                        CASE WHEN b.team_id IS DISTINCT FROM h.team_id THEN 'team_id' END,
                        CASE WHEN b.labels <> h.labels THEN 'labels' END,
                        CASE WHEN b.snoozed_until IS DISTINCT FROM h.snoozed_until THEN 'snooze_until_time' END,
                        CASE WHEN (b.qualified_at, b.lead_score, b.lead_notes)
                            IS DISTINCT FROM (h.qualified_at, h.lead_score, h.lead_notes) THEN 'qualification' END,
                        CASE WHEN b.last_inbound_sequence > b.read_sequence
                            IS DISTINCT FROM (h.last_inbound_sequence > h.read_sequence) THEN 'unread' END,
                        CASE WHEN (b.waiting_since IS NULL) <> (h.waiting_since IS NULL) THEN 'waiting_since_time' END,
                        CASE WHEN b.merged_into_id IS DISTINCT FROM h.merged_into_id THEN 'merged_into_id' END
                    ]::text[], NULL) AS changed,
                    h.status AS old_status, b.status, h.priority AS old_priority, b.priority,
                    h.assignee_id AS old_assignee_id, b.assignee_id, h.team_id AS old_team_id, b.team_id,
                    h.labels AS old_labels, b.labels, h.snoozed_until AS old_snoozed_until, b.snoozed_until,
                    h.qualified_at IS NOT NULL AS was_qualified, b.qualified_at IS NOT NULL AS is_qualified,
                    h.last_inbound_sequence > h.read_sequence AS was_unread,
                    b.last_inbound_sequence > b.read_sequence AS is_unread,
                    h.waiting_since IS NOT NULL AS was_waiting, b.waiting_since IS NOT NULL AS is_waiting,
                    b.episode, coalesce(b.episode_started_at, b.created_at) AS episode_started_at,
                    ", $waited, " AS waited_since, h.first_replied_at IS NULL AS is_first_response
                FROM bumped b JOIN head h ON h.id = b.id, input
            ) m WHERE m.changed <> '{}'
        )"
        )
    };
}

/// CTE `logged`: appends `moved` to the log, under the ids of the events in `appended`.
macro_rules! log_changes {
    () => {
        "
        , logged AS (
            INSERT INTO conversation_changes (id, conversation_id, kind, rule, sequence, changed,
                actor_kind, actor_id, caller, correlation_id, at, old_status, status, old_priority,
                priority, old_assignee_id, assignee_id, old_team_id, team_id, old_labels, labels,
                old_snoozed_until, snoozed_until, was_qualified, is_qualified, was_unread, is_unread,
                was_waiting, is_waiting, episode, episode_started_at, waited_since, is_first_response)
            SELECT a.id, m.id, m.kind, m.rule, m.sequence, m.changed,
                input.actor_kind, input.actor_id, input.caller, input.correlation_id,
                greatest(a.at, m.updated_at), m.old_status, m.status, m.old_priority, m.priority, m.old_assignee_id,
                m.assignee_id, m.old_team_id, m.team_id, m.old_labels, m.labels,
                m.old_snoozed_until, m.snoozed_until, m.was_qualified, m.is_qualified, m.was_unread,
                m.is_unread, m.was_waiting, m.is_waiting, m.episode, m.episode_started_at,
                m.waited_since, m.waited_since IS NOT NULL AND m.is_first_response
            FROM moved m JOIN appended a ON a.resource_id = m.id, input
        )"
    };
}

pub(super) use {log_changes, moved};

/// Who handles a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The user.
    pub assignee_id: Option<String>,
    /// The team.
    pub team_id: Option<String>,
}

/// What is said of a lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// How promising it is, 0 to 100.
    pub score: Option<i32>,
    /// What was learned.
    pub notes: String,
}

/// The most labels that a conversation can have.
pub const MOST_LABELS: i32 = 50;

/// A conversation to change.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which.
    pub id: ConversationId,
    /// The etag that it must have.
    pub etag: Option<String>,
}

/// What to change in conversations: what is `None` stays.
#[derive(Debug)]
pub struct Alteration {
    /// What kind of change it is; some kinds change something of their own.
    pub kind: ChangeKind,
    /// The rule that wants it; empty for a caller's wish.
    pub rule: &'static str,
    /// What it is about.
    pub subject: Option<String>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// Where it stands.
    pub status: Option<Status>,
    /// Free data.
    pub metadata: Option<Value>,
    /// All its labels.
    pub labels: Option<Vec<String>>,
    /// Labels that it gets beside those it has.
    pub add_labels: Vec<String>,
    /// Labels that it has no longer.
    pub remove_labels: Vec<String>,
    /// Until when it is put aside, if at all.
    pub snooze: Option<Option<DateTime<Utc>>>,
    /// Who handles it.
    pub assignment: Option<Assignment>,
    /// What is said of the lead.
    pub lead: Option<Lead>,
}

impl Alteration {
    /// A change of a kind that changes nothing else yet.
    pub fn new(kind: ChangeKind) -> Self {
        Self {
            kind,
            rule: "",
            subject: None,
            priority: None,
            status: None,
            metadata: None,
            labels: None,
            add_labels: Vec::new(),
            remove_labels: Vec::new(),
            snooze: None,
            assignment: None,
            lead: None,
        }
    }
}

/// What changes the conversations `given`: `id` and `edit_version`.
macro_rules! alter {
    ($given:literal) => {
        concat!("
        , given AS (", $given, "), head AS (
            SELECT c.* FROM given JOIN inbox_conversations c ON c.id = given.id
            WHERE c.deleted_at IS NULL
            ORDER BY c.id
            FOR NO KEY UPDATE OF c
        ), wanted AS (
            SELECT h.id,
                CASE
                    WHEN given.edit_version <> h.edit_version THEN 'etag'
                    WHEN input.kind = 'reopened' AND h.merged_into_id IS NOT NULL THEN 'merged'
                    WHEN input.kind = 'woken' AND coalesce(h.snoozed_until, 'infinity') > directory.now() THEN 'asleep'
                    WHEN h.archived_at IS NOT NULL AND input.kind NOT IN ('archived', 'reopened')
                        AND (input.status IS NOT NULL OR input.snoozed_until IS NOT NULL OR input.assigns) THEN 'archived'
                    WHEN cardinality(tagged.labels) > input.most_labels THEN 'labels'
                    WHEN input.kind = 'reopened' AND h.status = 'archived' AND (EXISTS (
                            SELECT FROM inbox_conversations o
                            WHERE o.contact_identity_id = h.contact_identity_id AND o.thread_key = h.thread_key
                                AND o.archived_at IS NULL AND o.deleted_at IS NULL
                        ) OR row_number() OVER (
                            PARTITION BY h.contact_identity_id, h.thread_key, h.status,
                                h.merged_into_id IS NULL, given.edit_version <> h.edit_version
                            ORDER BY h.number DESC
                        ) > 1) THEN 'replaced'
                END AS refusal,
                CASE
                    WHEN input.kind = 'archived' THEN 'archived'
                    WHEN input.kind = 'reopened' AND h.status = 'archived' THEN coalesce(input.status, 'open')
                    WHEN input.kind = 'qualified' AND h.status <> 'archived' THEN 'qualified'
                    WHEN input.kind = 'disqualified' AND h.status = 'qualified' THEN 'open'
                    WHEN input.status IS NOT NULL THEN input.status
                    WHEN input.assigns AND h.status = 'new'
                        AND coalesce(input.assignee_id, input.team_id) IS NOT NULL THEN 'open'
                    ELSE h.status
                END AS status,
                input.kind = 'reopened' AND h.status = 'archived' AS reopens,
                coalesce(input.subject, h.subject) AS subject,
                coalesce(input.priority, h.priority) AS priority,
                coalesce(input.metadata, h.metadata) AS metadata,
                tagged.labels,
                CASE WHEN input.kind = 'archived' THEN NULL
                    WHEN input.snoozes THEN CASE WHEN input.snoozed_until > directory.now() THEN input.snoozed_until END
                    ELSE h.snoozed_until END AS snoozed_until,
                CASE WHEN input.assigns THEN input.assignee_id ELSE h.assignee_id END AS assignee_id,
                CASE WHEN input.assigns THEN input.team_id ELSE h.team_id END AS team_id,
                CASE input.kind WHEN 'qualified' THEN coalesce(h.qualified_at, directory.now())
                    WHEN 'disqualified' THEN NULL ELSE h.qualified_at END AS qualified_at,
                CASE input.kind WHEN 'qualified' THEN coalesce(h.qualified_by_kind, input.actor_kind)
                    WHEN 'disqualified' THEN NULL ELSE h.qualified_by_kind END AS qualified_by_kind,
                CASE input.kind WHEN 'qualified' THEN coalesce(h.qualified_by_id, input.actor_id)
                    WHEN 'disqualified' THEN NULL ELSE h.qualified_by_id END AS qualified_by_id,
                CASE input.kind WHEN 'qualified' THEN input.lead_score
                    WHEN 'disqualified' THEN NULL ELSE h.lead_score END AS lead_score,
                CASE input.kind WHEN 'qualified' THEN input.lead_notes
                    WHEN 'disqualified' THEN NULL ELSE h.lead_notes END AS lead_notes
            FROM head h JOIN given ON given.id = h.id CROSS JOIN input CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN input.add_labels = '{}' AND input.remove_labels = '{}' THEN coalesce(input.labels, h.labels)
                    ELSE ARRAY(
                        SELECT u.label
                        FROM unnest(coalesce(input.labels, h.labels) || input.add_labels)
                            WITH ORDINALITY AS u (label, place)
                        WHERE u.label <> ALL (input.remove_labels)
                        GROUP BY u.label ORDER BY min(u.place)
                    ) END AS labels
            ) tagged
        ), new AS (
            -- Against the locked row: the update itself would first look at the row of its snapshot,
            -- and pass by what has changed while it waited.
            SELECT w.*, w.refusal IS NULL
                AND (NOT input.all_or_nothing
                    OR NOT bool_or(w.refusal IS NOT NULL) OVER ()
                        AND count(*) OVER () = cardinality(input.conversation_ids))
                AND (w.status, w.subject, w.priority, w.metadata, w.labels, w.snoozed_until,
                    w.assignee_id, w.team_id, w.qualified_at, w.lead_score, w.lead_notes)
                    IS DISTINCT FROM (h.status, h.subject, h.priority, h.metadata, h.labels, h.snoozed_until,
                    h.assignee_id, h.team_id, h.qualified_at, h.lead_score, h.lead_notes) AS changes
            FROM wanted w JOIN head h ON h.id = w.id CROSS JOIN input
        ), bumped AS (
            UPDATE inbox_conversations c
            SET status = new.status, subject = new.subject, priority = new.priority,
                metadata = new.metadata, labels = new.labels, snoozed_until = new.snoozed_until,
                assignee_id = new.assignee_id, team_id = new.team_id,
                assigned_at = CASE
                    WHEN (new.assignee_id, new.team_id) IS NOT DISTINCT FROM (c.assignee_id, c.team_id) THEN c.assigned_at
                    WHEN coalesce(new.assignee_id, new.team_id) IS NOT NULL THEN directory.now() END,
                qualified_at = new.qualified_at, qualified_by_kind = new.qualified_by_kind,
                qualified_by_id = new.qualified_by_id, lead_score = new.lead_score,
                lead_notes = new.lead_notes,
                archived_at = CASE new.status WHEN 'archived' THEN coalesce(c.archived_at, directory.now()) END,
                waiting_since = CASE WHEN new.status <> 'archived' THEN c.waiting_since END,
                episode = c.episode + new.reopens::integer,
                episode_started_at = CASE WHEN new.reopens THEN directory.now() ELSE c.episode_started_at END,
                first_replied_at = CASE WHEN NOT new.reopens THEN c.first_replied_at END,
                version = c.version + 1, edit_version = c.edit_version + (input.kind <> 'woken')::integer,
                updated_at = directory.now()
            FROM new, input
            WHERE c.id = new.id AND new.changes
            RETURNING c.*
        ), unworded AS (
            DELETE FROM conversation_words s USING bumped b, input
            WHERE input.subject IS NOT NULL AND s.conversation_id = b.id AND s.word <> ALL (input.words)
        ), worded AS (
            INSERT INTO conversation_words (word, conversation_id)
            SELECT u.word, b.id FROM bumped b, input, unnest(input.words) AS u (word)
            ON CONFLICT DO NOTHING
        )", moved!("input.kind", "input.rule", "NULL::bigint", "NULL::timestamptz", "
                        CASE WHEN b.subject <> h.subject THEN 'subject' END,
                        CASE WHEN b.metadata <> h.metadata THEN 'metadata' END,"), "
        , changes AS (
            SELECT 'conversation.updated' AS kind, 'conversation' AS resource_kind, m.id AS resource_id,
                NULL::uuid AS parent_id, NULL::bigint AS sequence, m.version, m.changed
            FROM moved m
        )", append_events!(), log_changes!(), "
        SELECT new.refusal, new.changes, ", conversation_columns!(), "
        FROM new JOIN (", conversation_of!("(
            SELECT * FROM bumped
            UNION ALL SELECT h.* FROM head h WHERE NOT EXISTS (SELECT FROM bumped b WHERE b.id = h.id)
        )"), ") p ON p.id = new.id")
    };
}

statement! {
    // No row = no such conversation. What would change nothing writes nothing.
    //
    // All rows are locked, in one order, before the first is changed: the windows are over all of
    // them. So nobody is waited for while the log's lock is held, and no two such statements for
    // each other.
    /// Changes one conversation, or several.
    Alter<'a, ONE> -> (Nullable<Text>, Bool, ConversationRow) {
        conversation_ids: Vec<ConversationId> => Array<sql_types::Uuid>,
        edit_versions: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        all_or_nothing: bool => Bool,
        kind: ChangeKind => Text,
        rule: &'static str => Text,
        subject: Option<&'a str> => Nullable<Text>,
        words: Vec<String> => Array<Text>,
        priority: Option<Priority> => Nullable<Text>,
        status: Option<Status> => Nullable<Text>,
        metadata: Option<&'a Value> => Nullable<Jsonb>,
        labels: Option<&'a [String]> => Nullable<Array<Text>>,
        add_labels: &'a [String] => Array<Text>,
        remove_labels: &'a [String] => Array<Text>,
        most_labels: i32 => Integer,
        snoozes: bool => Bool,
        snoozed_until: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        assigns: bool => Bool,
        assignee_id: Option<&'a str> => Nullable<Text>,
        team_id: Option<&'a str> => Nullable<Text>,
        lead_score: Option<i32> => Nullable<Integer>,
        lead_notes: Option<&'a str> => Nullable<Text>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    alter!("SELECT input.conversation_ids[1] AS id, input.edit_versions[1] AS edit_version FROM input"),
    // A series is taken for long by the planner, which so joins by hashes.
    alter!("
            SELECT input.conversation_ids[n] AS id, input.edit_versions[n] AS edit_version
            FROM input, generate_series(1, cardinality(input.conversation_ids)) n
        ")
}

/// A conversation that was to be changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Altered {
    /// The conversation, as it is then.
    pub conversation: Conversation,
    /// Whether it was changed: it may have been so already.
    pub changed: bool,
}

/// Changes a conversation, and returns it as it is then.
///
/// # Errors
/// There is no such conversation, its etag is another one, or it is in a state that does not allow
/// the change.
pub async fn alter(
    conn: &mut TenantConn,
    target: Target,
    alteration: &Alteration,
) -> Result<Conversation, Error> {
    let altered = alter_each(conn, std::slice::from_ref(&target), alteration, true).await?;
    match altered.into_iter().next() {
        Some(altered) => Ok(altered?.conversation),
        None => Err(Error::not_found("conversation", target.id)),
    }
}

type Row = (Option<String>, bool, Conversation);

async fn alter_given<const ONE: bool>(
    conn: &mut TenantConn,
    targets: &[Target],
    alteration: &Alteration,
    all_or_nothing: bool,
) -> QueryResult<Vec<Row>> {
    let facts = conn.facts().clone();
    let assignment = alteration.assignment.as_ref();
    let lead = alteration.lead.as_ref();
    let edit_versions = targets
        .iter()
        .map(|target| target.etag.as_deref().map(edit_version));
    let statement = Alter::<ONE> {
        conversation_ids: targets.iter().map(|target| target.id).collect(),
        edit_versions: edit_versions.collect(),
        all_or_nothing,
        kind: alteration.kind,
        rule: alteration.rule,
        subject: alteration.subject.as_deref(),
        words: (alteration.subject.iter())
            .flat_map(|subject| contact_words::of(subject))
            .collect(),
        priority: alteration.priority,
        status: alteration.status,
        metadata: alteration.metadata.as_ref(),
        labels: alteration.labels.as_deref(),
        add_labels: &alteration.add_labels,
        remove_labels: &alteration.remove_labels,
        most_labels: MOST_LABELS,
        snoozes: alteration.snooze.is_some(),
        snoozed_until: alteration.snooze.flatten(),
        assigns: assignment.is_some(),
        assignee_id: assignment.and_then(|assignment| assignment.assignee_id.as_deref()),
        team_id: assignment.and_then(|assignment| assignment.team_id.as_deref()),
        lead_score: lead.and_then(|lead| lead.score),
        lead_notes: lead.map(|lead| lead.notes.as_str()),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    statement.load(conn).await
}

/// Changes conversations in one transaction, and returns what became of each, in their order. With
/// `all_or_nothing` none is changed where one cannot be.
///
/// # Errors
/// The change of one failed in a way that none of them was made.
pub async fn alter_each(
    conn: &mut TenantConn,
    targets: &[Target],
    alteration: &Alteration,
    all_or_nothing: bool,
) -> Result<Vec<Result<Altered, Error>>, Error> {
    let rows = match targets {
        [_] => alter_given::<true>(conn, targets, alteration, all_or_nothing).await,
        _ => alter_given::<false>(conn, targets, alteration, all_or_nothing).await,
    };
    let rows = match rows {
        Ok(rows) => rows,
        // Somebody has taken the place of one of them since it was looked at.
        Err(error) if is_replaced(&error) => {
            return Err(match targets {
                [only] => {
                    let replaced = Precondition::ConversationReplaced(only.id.to_string());
                    Error::FailedPrecondition(replaced)
                }
                _ => Error::Aborted(Conflict::Transaction),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let mut rows: HashMap<_, _> = rows
        .into_iter()
        .map(|(refusal, changed, conversation)| (conversation.id, (refusal, changed, conversation)))
        .collect();
    let outcomes = targets.iter().map(|target| {
        let row = rows.remove(&target.id);
        let (refusal, changed, conversation) =
            row.ok_or_else(|| Error::not_found("conversation", target.id))?;
        match refusal {
            None => Ok(Altered {
                conversation,
                changed,
            }),
            Some(refusal) => refused(target, &refusal, conversation),
        }
    });
    Ok(outcomes.collect())
}

fn refused(target: &Target, refusal: &str, conversation: Conversation) -> Result<Altered, Error> {
    let id = target.id.to_string();
    let precondition = match refusal {
        // One that is not due any more was changed meanwhile, which is as good.
        "asleep" => {
            return Ok(Altered {
                conversation,
                changed: false,
            });
        }
        "etag" => {
            return Err(Error::Aborted(Conflict::Etag {
                given: target.etag.clone().unwrap_or_default(),
                current: etag(conversation.edit_version),
            }));
        }
        "archived" => Precondition::ConversationArchived(id),
        "replaced" => Precondition::ConversationReplaced(id),
        "labels" => Precondition::LabelLimit {
            id,
            limit: MOST_LABELS,
        },
        "merged" => Precondition::ConversationMerged {
            id,
            merged_into_id: conversation
                .merged_into_id
                .map(Into::into)
                .unwrap_or_default(),
        },
        other => return Err(Error::internal(format!("`{other}` is no refusal"))),
    };
    Err(Error::FailedPrecondition(precondition))
}

/// The edit version that an etag stands for; one that no conversation has, if it is none of ours.
pub fn edit_version(etag: &str) -> i64 {
    let version = etag
        .strip_prefix('"')
        .and_then(|etag| etag.strip_suffix('"'));
    version
        .and_then(|version| version.parse().ok())
        .filter(|version| self::etag(*version) == etag)
        .unwrap_or(-1)
}
