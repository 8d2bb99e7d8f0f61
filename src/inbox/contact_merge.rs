//! Merges: two contacts turn out to be one person, and what was done for it can be undone.
//!
//! Conversations hang on identities, so moving those moves everything. The identities are locked
//! before the contacts, as by whoever meets a person.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contact::{self, Contact, ContactPatch, Profile, log, now};
use super::contact_identity;
use crate::error::Error;
use crate::ids::{ContactId, ContactIdentityId, ContactMergeId};
use crate::page::PageSize;
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{
    contact_identities, contact_merge_identities, contact_merges, contacts,
};
use crate::tenant::TenantConn;

/// That one contact turned out to be another.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = contact_merges, check_for_backend(Pg))]
pub struct ContactMerge {
    /// Its id.
    pub id: ContactMergeId,
    /// The contact that went into the other.
    pub source_id: ContactId,
    /// The contact that has it all.
    pub target_id: ContactId,
    /// The fields that the target took from the source.
    pub filled: Vec<Option<String>>,
    /// The kind of who merged.
    pub actor_kind: String,
    /// Who merged.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it was undone.
    pub undone_at: Option<DateTime<Utc>>,
}

/// A merge with the identities that it moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The merge.
    pub merge: ContactMerge,
    /// The identities, the oldest first.
    pub identities: Vec<ContactIdentityId>,
}

/// Two contacts to merge.
#[derive(Debug)]
pub struct NewMerge {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// The contact that goes into the other.
    pub source_id: ContactId,
    /// The contact that has it all afterwards.
    pub target_id: ContactId,
    /// Which etag the target must have.
    pub etag: Option<String>,
}

/// What came of a merge; also what a repeated request gets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Merged {
    /// The target.
    pub target: Profile,
    /// The merge.
    pub merge: Moved,
}

/// Merges a contact into another.
///
/// # Errors
/// There is no such contact, one of the two was merged before, the target's etag is another one, or
/// both together have too many identities.
pub async fn merge(conn: &mut TenantConn, new: NewMerge) -> Result<Merged, Error> {
    conn.transaction(async |conn| {
        let request = new.request_id.as_ref();
        if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
            return Ok(answer);
        }
        let (source, target) = lock_both(conn, new.source_id, new.target_id).await?;
        target.check_unmerged()?;
        if source.merged_into_id == Some(target.id) {
            let answer = standing(conn, &source, &target).await?;
            if let Some(request) = request {
                request_id::keep(conn, request, &answer).await?;
            }
            return Ok(answer);
        }
        source.check_unmerged()?;
        target.check_etag(new.etag.as_deref())?;
        contact_identity::check_limit(conn, target.id, &[source.id]).await?;

        let patch = missing(&target, &source);
        let filled = patch.changed();
        let merge = insert(conn, &source, &target, &filled).await?;
        let identities: Vec<ContactIdentityId> = diesel::update(contact_identities::table)
            .filter(contact_identities::contact_id.eq(source.id))
            .set(contact_identities::contact_id.eq(target.id))
            .returning(contact_identities::id)
            .get_results(conn)
            .await?;
        keep_moved(conn, merge, &identities).await?;
        let source_version = mark(conn, source.id, Some(target.id)).await?;
        let target_version = contact::apply(conn, target.id, &patch).await?;
        let answer = Merged {
            target: contact::get(conn, target.id).await?,
            merge: get(conn, merge).await?,
        };
        if let Some(request) = request {
            request_id::keep(conn, request, &answer).await?;
        }
        let changed = [vec!["identities"], filled].concat();
        log(
            conn,
            "contact.merged",
            source.id,
            source_version,
            vec!["merged_into_id"],
        )
        .await?;
        log(conn, "contact.updated", target.id, target_version, changed).await?;
        Ok(answer)
    })
    .await
}

/// Locks the identities of two contacts, then the contacts.
async fn lock_both(
    conn: &mut TenantConn,
    source: ContactId,
    target: ContactId,
) -> Result<(Contact, Contact), Error> {
    let _: Vec<ContactIdentityId> = contact_identities::table
        .filter(contact_identities::contact_id.eq_any([source, target]))
        .order(contact_identities::value)
        .select(contact_identities::id)
        .for_no_key_update()
        .load(conn)
        .await?;
    if source < target {
        let source = contact::lock(conn, source).await?;
        Ok((source, contact::lock(conn, target).await?))
    } else {
        let target = contact::lock(conn, target).await?;
        Ok((contact::lock(conn, source).await?, target))
    }
}

/// What a contact has nothing in and the other has something in.
fn missing(target: &Contact, source: &Contact) -> ContactPatch {
    let text = |target: &String, source: &String| {
        (target.is_empty() && !source.is_empty()).then(|| source.clone())
    };
    let is_empty = |metadata: &Value| metadata.as_object().is_none_or(serde_json::Map::is_empty);
    ContactPatch {
        name: text(&target.name, &source.name),
        company: text(&target.company, &source.company),
        language: text(&target.language, &source.language),
        notes: text(&target.notes, &source.notes),
        metadata: (is_empty(&target.metadata) && !is_empty(&source.metadata))
            .then(|| source.metadata.clone()),
    }
}

/// What takes back the fields that were filled in and are still as they were then.
fn emptied(filled: &[Option<String>], target: &Contact, source: &Contact) -> ContactPatch {
    let was = |field: &str| filled.iter().flatten().any(|filled| filled == field);
    let text = |field: &str, target: &String, source: &String| {
        (was(field) && target == source).then(String::new)
    };
    ContactPatch {
        name: text("name", &target.name, &source.name),
        company: text("company", &target.company, &source.company),
        language: text("language", &target.language, &source.language),
        notes: text("notes", &target.notes, &source.notes),
        metadata: (was("metadata") && target.metadata == source.metadata)
            .then(|| Value::Object(serde_json::Map::new())),
    }
}

async fn insert(
    conn: &mut TenantConn,
    source: &Contact,
    target: &Contact,
    filled: &[&str],
) -> Result<ContactMergeId, Error> {
    let facts = conn.facts().clone();
    let id = ContactMergeId::new();
    let filled: Vec<Option<&str>> = filled.iter().copied().map(Some).collect();
    diesel::insert_into(contact_merges::table)
        .values((
            contact_merges::id.eq(id),
            contact_merges::source_id.eq(source.id),
            contact_merges::target_id.eq(target.id),
            contact_merges::filled.eq(filled),
            contact_merges::actor_kind.eq(facts.actor.kind()),
            contact_merges::actor_id.eq(facts.actor.id()),
            contact_merges::caller.eq(&facts.caller.service),
            contact_merges::created_at.eq(now()),
        ))
        .execute(conn)
        .await?;
    Ok(id)
}

async fn keep_moved(
    conn: &mut TenantConn,
    merge: ContactMergeId,
    identities: &[ContactIdentityId],
) -> Result<(), Error> {
    let rows: Vec<_> = identities
        .iter()
        .map(|identity| {
            (
                contact_merge_identities::merge_id.eq(merge),
                contact_merge_identities::identity_id.eq(identity),
            )
        })
        .collect();
    diesel::insert_into(contact_merge_identities::table)
        .values(rows)
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes note of into whom a contact was merged, or that it stands for itself again; returns its
/// new version.
async fn mark(conn: &mut TenantConn, id: ContactId, into: Option<ContactId>) -> Result<i64, Error> {
    let at = diesel::dsl::sql::<diesel::sql_types::Nullable<diesel::sql_types::Timestamptz>>(
        if into.is_some() {
            "directory.now()"
        } else {
            "NULL"
        },
    );
    diesel::update(contacts::table.find(id))
        .set((
            contacts::merged_into_id.eq(into),
            contacts::merged_at.eq(at),
        ))
        .execute(conn)
        .await?;
    contact::apply(conn, id, &ContactPatch::default()).await
}

/// The merge of two that stands already.
async fn standing(
    conn: &mut TenantConn,
    source: &Contact,
    target: &Contact,
) -> Result<Merged, Error> {
    let id = contact_merges::table
        .filter(contact_merges::source_id.eq(source.id))
        .filter(contact_merges::undone_at.is_null())
        .select(contact_merges::id)
        .first(conn)
        .await?;
    Ok(Merged {
        target: contact::get(conn, target.id).await?,
        merge: get(conn, id).await?,
    })
}

/// What came of undoing a merge.
#[derive(Debug)]
pub struct Undone {
    /// The contact that stands for itself again.
    pub source: Profile,
    /// The contact that it had gone into.
    pub target: Profile,
    /// The merge.
    pub merge: Moved,
}

/// Takes a merge back; one that was undone stays as it is.
///
/// # Errors
/// There is no such merge, or its target is merged into another contact itself.
pub async fn undo(conn: &mut TenantConn, id: ContactMergeId) -> Result<Undone, Error> {
    let not_found = || Error::not_found("contact_merge", id);
    conn.transaction(async |conn| {
        let parties: Option<(ContactId, ContactId)> = contact_merges::table
            .find(id)
            .select((contact_merges::source_id, contact_merges::target_id))
            .first(conn)
            .await
            .optional()?;
        let (source, target) = parties.ok_or_else(not_found)?;
        let (source, target) = match lock_both(conn, source, target).await {
            // What was merged has been erased since.
            Err(Error::NotFound { .. }) => return Err(not_found()),
            locked => locked?,
        };
        let moved = get(conn, id).await?;
        let mut versions = None;
        if moved.merge.undone_at.is_none() {
            target.check_unmerged()?;
            diesel::update(contact_identities::table)
                .filter(contact_identities::id.eq_any(&moved.identities))
                .filter(contact_identities::contact_id.eq(target.id))
                .set(contact_identities::contact_id.eq(source.id))
                .execute(conn)
                .await?;
            diesel::update(contact_merges::table.find(id))
                .set(contact_merges::undone_at.eq(now().nullable()))
                .execute(conn)
                .await?;
            let patch = emptied(&moved.merge.filled, &target, &source);
            let source_version = mark(conn, source.id, None).await?;
            let target_version = contact::apply(conn, target.id, &patch).await?;
            let changed = [vec!["identities"], patch.changed()].concat();
            versions = Some((source_version, target_version, changed));
        }
        let undone = Undone {
            source: contact::get(conn, source.id).await?,
            target: contact::get(conn, target.id).await?,
            merge: get(conn, id).await?,
        };
        if let Some((source_version, target_version, changed)) = versions {
            let own = vec!["merged_into_id", "identities"];
            log(conn, "contact.unmerged", source.id, source_version, own).await?;
            log(conn, "contact.updated", target.id, target_version, changed).await?;
        }
        Ok(undone)
    })
    .await
}

async fn get(conn: &mut TenantConn, id: ContactMergeId) -> Result<Moved, Error> {
    let merge = contact_merges::table
        .find(id)
        .select(ContactMerge::as_select())
        .first(conn)
        .await?;
    let mut moved = with_identities(conn, vec![merge]).await?;
    moved
        .pop()
        .ok_or_else(|| Error::internal("a merge is gone that was there"))
}

async fn with_identities(
    conn: &mut TenantConn,
    merges: Vec<ContactMerge>,
) -> Result<Vec<Moved>, Error> {
    let ids: Vec<_> = merges.iter().map(|merge| merge.id).collect();
    let moved: Vec<(ContactMergeId, ContactIdentityId)> = contact_merge_identities::table
        .filter(contact_merge_identities::merge_id.eq_any(ids))
        .order(contact_merge_identities::identity_id)
        .select((
            contact_merge_identities::merge_id,
            contact_merge_identities::identity_id,
        ))
        .load(conn)
        .await?;
    let with = |merge: ContactMerge| Moved {
        identities: moved
            .iter()
            .filter(|(id, _)| *id == merge.id)
            .map(|(_, identity)| *identity)
            .collect(),
        merge,
    };
    Ok(merges.into_iter().map(with).collect())
}

/// Lists merges, of some contacts if any are named, the newest first, before one of them.
pub async fn list(
    conn: &mut TenantConn,
    contacts: Option<&[ContactId]>,
    before: Option<ContactMergeId>,
    size: PageSize,
) -> Result<Vec<Moved>, Error> {
    let mut page = contact_merges::table
        .inner_join(contacts::table.on(contacts::id.eq(contact_merges::target_id)))
        .filter(contacts::deleted_at.is_null())
        .order(contact_merges::id.desc())
        .limit(size.rows())
        .select(ContactMerge::as_select())
        .into_boxed();
    if let Some(contacts) = contacts {
        page = page.filter(
            contact_merges::source_id
                .eq_any(contacts)
                .or(contact_merges::target_id.eq_any(contacts)),
        );
    }
    if let Some(before) = before {
        page = page.filter(contact_merges::id.lt(before));
    }
    let merges = page.load(conn).await?;
    with_identities(conn, merges).await
}

/// Lists a contact and all that went into it, however many merges ago; itself first.
pub async fn family(conn: &mut TenantConn, id: ContactId) -> Result<Vec<ContactId>, Error> {
    let mut all = vec![id];
    let mut newest = all.clone();
    while !newest.is_empty() {
        newest = contacts::table
            .filter(contacts::merged_into_id.eq_any(&newest))
            .order(contacts::id)
            .select(contacts::id)
            .load(conn)
            .await?;
        newest.retain(|id| !all.contains(id));
        all.extend(&newest);
    }
    Ok(all)
}
