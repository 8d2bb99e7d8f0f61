//! Merging conversations: one goes on in the place of two. No message moves, so that undoing leaves
//! no gap in either.

use std::cmp::Reverse;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Integer, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};

use super::change::{ChangeKind, edit_version, log_changes, moved};
use super::conversation::{self, Conversation, is_replaced};
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::etag::etag;
use crate::event::log::append_events;
use crate::ids::{ConversationId, ConversationMergeId};
use crate::page::PageSize;
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{conversation_merges, inbox_conversations};
use crate::tenant::TenantConn;

/// That one conversation was merged into another.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = conversation_merges, check_for_backend(Pg))]
pub struct Merge {
    /// Its id.
    pub id: ConversationMergeId,
    /// The conversation that ended.
    pub source_conversation_id: ConversationId,
    /// The conversation that goes on.
    pub target_conversation_id: ConversationId,
    /// The kind of who merged them.
    pub actor_kind: String,
    /// Who merged them.
    pub actor_id: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When that was undone.
    pub undone_at: Option<DateTime<Utc>>,
}

/// A merge to make.
#[derive(Debug)]
pub struct NewMerge {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// The conversation that ends.
    pub source: ConversationId,
    /// The conversation that goes on.
    pub target: ConversationId,
    /// The etag that the source must have.
    pub etag: Option<String>,
}

/// What came of a merge; also what a repeated request gets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Merged {
    /// The target, or of a merge that is undone the source.
    pub conversation: Conversation,
    /// The merge.
    pub merge: Merge,
}

statement! {
    // Both rows are locked by the transaction already. The target's row changes in its version
    // alone, so that the log of both tells of the merge. What has ended meanwhile, a qualification
    // or the time of a snooze, does not come back.
    /// Ends the source of a merge, or lets it stand as it stood before.
    SetMerged<'a> -> BigInt {
        merge_id: ConversationMergeId => sql_types::Uuid,
        kind: ChangeKind => Text,
        source: ConversationId => sql_types::Uuid,
        target: ConversationId => sql_types::Uuid,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT c.* FROM inbox_conversations c, input WHERE c.id IN (input.source, input.target)
        ), kept AS (
            INSERT INTO conversation_merges (id, source_conversation_id, target_conversation_id,
                source_status, source_archived_at, source_snoozed_until, source_waiting_since,
                actor_kind, actor_id, created_at)
            SELECT input.merge_id, h.id, input.target, h.status, h.archived_at, h.snoozed_until,
                h.waiting_since, input.actor_kind, input.actor_id, directory.now()
            FROM head h, input WHERE h.id = input.source AND input.kind = 'merged'
        ), undone AS (
            UPDATE conversation_merges m SET undone_at = directory.now()
            FROM input WHERE m.id = input.merge_id AND input.kind = 'unmerged'
            RETURNING m.*
        ), new AS (
            SELECT h.id,
                CASE WHEN h.id = input.target THEN h.status
                    WHEN u.source_status = 'qualified' AND h.qualified_at IS NULL THEN 'open'
                    ELSE coalesce(u.source_status, 'archived') END AS status,
                CASE WHEN h.id = input.target THEN h.archived_at WHEN u.id IS NOT NULL THEN u.source_archived_at
                    ELSE coalesce(h.archived_at, directory.now()) END AS archived_at,
                CASE WHEN h.id = input.target THEN h.snoozed_until
                    WHEN u.source_snoozed_until > directory.now() THEN u.source_snoozed_until
                    END AS snoozed_until,
                CASE WHEN h.id = input.target THEN h.waiting_since ELSE u.source_waiting_since END AS waiting_since,
                CASE WHEN h.id = input.target THEN h.merged_into_id
                    WHEN u.id IS NULL THEN input.target END AS merged_into_id
            FROM input CROSS JOIN head h LEFT JOIN undone u ON true
        ), bumped AS (
            UPDATE inbox_conversations c
            SET status = new.status, archived_at = new.archived_at,
                snoozed_until = new.snoozed_until, waiting_since = new.waiting_since,
                merged_into_id = new.merged_into_id, version = c.version + 1,
                edit_version = c.edit_version + 1, updated_at = directory.now()
            FROM new WHERE c.id = new.id
            RETURNING c.*
        )", moved!("input.kind", "''", "NULL::bigint", "NULL::timestamptz", "
                        CASE WHEN b.id = input.target THEN 'merges' END,"), "
        , changes AS (
            SELECT 'conversation.updated' AS kind, 'conversation' AS resource_kind, m.id AS resource_id,
                NULL::uuid AS parent_id, NULL::bigint AS sequence, m.version, m.changed
            FROM moved m
        )", append_events!(), log_changes!(), "
        SELECT count(*) FROM bumped")
}

async fn set(
    conn: &mut TenantConn,
    merge_id: ConversationMergeId,
    kind: ChangeKind,
    source: ConversationId,
    target: ConversationId,
) -> Result<(), Error> {
    let facts = conn.facts().clone();
    let statement = SetMerged {
        merge_id,
        kind,
        source,
        target,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let set: QueryResult<i64> = statement.get_result(conn).await;
    match set {
        Ok(2) => Ok(()),
        Ok(_) => Err(Error::internal("a merge did not find both conversations")),
        Err(error) if is_replaced(&error) => Err(Error::FailedPrecondition(
            Precondition::ConversationReplaced(source.to_string()),
        )),
        Err(error) => Err(error.into()),
    }
}

/// A conversation, as far as a merge looks at it.
type Standing = (
    ConversationId,
    i64,
    Option<DateTime<Utc>>,
    Option<ConversationId>,
);

/// Locks both conversations, in one order, whoever merges which into which.
async fn lock(
    conn: &mut TenantConn,
    source: ConversationId,
    target: ConversationId,
) -> Result<(Standing, Standing), Error> {
    let both: Vec<Standing> = inbox_conversations::table
        .filter(inbox_conversations::id.eq_any([source, target]))
        .filter(inbox_conversations::deleted_at.is_null())
        .order(inbox_conversations::id)
        .select((
            inbox_conversations::id,
            inbox_conversations::edit_version,
            inbox_conversations::archived_at,
            inbox_conversations::merged_into_id,
        ))
        .for_no_key_update()
        .load(conn)
        .await?;
    let find = |id: ConversationId| {
        let found = both.iter().find(|(of, ..)| *of == id);
        found
            .copied()
            .ok_or_else(|| Error::not_found("conversation", id))
    };
    Ok((find(source)?, find(target)?))
}

/// Merges one conversation into another, unless it is merged into that one already.
///
/// # Errors
/// One of them is missing or was merged already, the target is archived, or the source's etag is
/// another one.
pub async fn merge(conn: &mut TenantConn, new: NewMerge) -> Result<Merged, Error> {
    if let Some(request) = &new.request_id
        && let Some(answer) = request_id::answer(conn, request).await?
    {
        return Ok(answer);
    }
    conn.transaction(async |conn| {
        if let Some(request) = &new.request_id
            && !request_id::claim(conn, request).await?
        {
            let answer = request_id::answer(conn, request).await?;
            return answer.ok_or(Error::Aborted(Conflict::Transaction));
        }
        let (source, target) = lock(conn, new.source, new.target).await?;
        if source.3 == Some(new.target)
            && let Some(id) = standing(conn, new.source, new.target).await?
        {
            return merged(conn, id, new.target).await;
        }
        for (id, _, _, merged_into_id) in [source, target] {
            if let Some(merged_into_id) = merged_into_id {
                return Err(Error::FailedPrecondition(
                    Precondition::ConversationMerged {
                        id: id.to_string(),
                        merged_into_id: merged_into_id.to_string(),
                    },
                ));
            }
        }
        if target.2.is_some() {
            let archived = Precondition::ConversationArchived(new.target.to_string());
            return Err(Error::FailedPrecondition(archived));
        }
        if let Some(given) = &new.etag
            && edit_version(given) != source.1
        {
            return Err(Error::Aborted(Conflict::Etag {
                given: given.clone(),
                current: etag(source.1),
            }));
        }
        let id = ConversationMergeId::new();
        set(conn, id, ChangeKind::Merged, new.source, new.target).await?;
        let answer = merged(conn, id, new.target).await?;
        if let Some(request) = &new.request_id {
            request_id::keep(conn, request, &answer).await?;
        }
        Ok(answer)
    })
    .await
}

/// Undoes a merge, unless it is undone: the source stands as it stood before.
///
/// # Errors
/// There is no such merge, or another conversation has taken the source's place.
pub async fn undo(conn: &mut TenantConn, id: ConversationMergeId) -> Result<Merged, Error> {
    let not_found = || Error::not_found("conversation_merge", id);
    conn.transaction(async |conn| {
        // The conversations first, as who merges does.
        let found = find(conn, id).await?.ok_or_else(not_found)?;
        let (source, target) = (found.source_conversation_id, found.target_conversation_id);
        lock(conn, source, target).await?;
        let found = find(conn, id).await?.ok_or_else(not_found)?;
        if found.undone_at.is_none() {
            set(conn, id, ChangeKind::Unmerged, source, target).await?;
        }
        merged(conn, id, source).await
    })
    .await
}

/// Finds the merge of one conversation into another that has not been undone.
async fn standing(
    conn: &mut TenantConn,
    source: ConversationId,
    target: ConversationId,
) -> Result<Option<ConversationMergeId>, Error> {
    let merge = conversation_merges::table
        .filter(conversation_merges::source_conversation_id.eq(source))
        .filter(conversation_merges::target_conversation_id.eq(target))
        .filter(conversation_merges::undone_at.is_null())
        .select(conversation_merges::id);
    Ok(merge.first(conn).await.optional()?)
}

async fn merged(
    conn: &mut TenantConn,
    id: ConversationMergeId,
    conversation: ConversationId,
) -> Result<Merged, Error> {
    let gone = || Error::internal("a merged conversation is gone");
    let merge = find(conn, id).await?.ok_or_else(gone)?;
    let (conversation, _) = conversation::find(conn, conversation)
        .await?
        .ok_or_else(gone)?;
    Ok(Merged {
        conversation,
        merge,
    })
}

async fn find(conn: &mut TenantConn, id: ConversationMergeId) -> Result<Option<Merge>, Error> {
    let merge = conversation_merges::table
        .find(id)
        .select(Merge::as_select());
    Ok(merge.first(conn).await.optional()?)
}

/// Lists the merges from and into a conversation before one, the newest first.
///
/// # Errors
/// There is no such conversation.
pub async fn list(
    conn: &mut TenantConn,
    id: ConversationId,
    before: Option<ConversationMergeId>,
    size: PageSize,
) -> Result<Vec<Merge>, Error> {
    conversation::find(conn, id)
        .await?
        .ok_or_else(|| Error::not_found("conversation", id))?;
    let before = before.unwrap_or(ConversationMergeId(uuid::Uuid::max()));
    // Either side is a walk down an index of its own; with both in one condition, the database would
    // read and sort them all.
    let page = conversation_merges::table
        .filter(conversation_merges::id.lt(before))
        .limit(size.rows())
        .select(Merge::as_select());
    let (of_source, of_target) = (
        conversation_merges::source_conversation_id,
        conversation_merges::target_conversation_id,
    );
    let of_source = page
        .filter(of_source.eq_any([id]))
        .order((of_source.desc(), conversation_merges::id.desc()));
    let of_target = page
        .filter(of_target.eq_any([id]))
        .order((of_target.desc(), conversation_merges::id.desc()));
    let mut merges: Vec<Merge> = of_source.union_all(of_target).load(conn).await?;
    merges.sort_unstable_by_key(|merge| Reverse(merge.id));
    merges.truncate(usize::try_from(size.rows()).unwrap_or_default());
    Ok(merges)
}
