//! Contacts: people, as agents know and describe them.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contact_identity::{self, ContactIdentity, NewContactIdentity};
use super::contact_words;
use crate::error::{Error, Precondition};
use crate::etag::{check_etag, etag};
use crate::event::log::{Change, append};
use crate::ids::{ChannelAccountId, ContactId};
use crate::page::PageSize;
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{contact_identities, contact_words as words, contacts};
use crate::tenant::TenantConn;

/// A person.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = contacts, check_for_backend(Pg))]
pub struct Contact {
    /// Their id.
    pub id: ContactId,
    /// What they are called.
    pub name: String,
    /// Their place in the order of names.
    pub name_folded: String,
    /// Whom they work for.
    pub company: String,
    /// The language to talk to them in.
    pub language: String,
    /// What agents have to know about them.
    pub notes: String,
    /// Free data.
    pub metadata: Value,
    /// Who they turned out to be.
    pub merged_into_id: Option<ContactId>,
    /// When they did.
    pub merged_at: Option<DateTime<Utc>>,
    /// Goes up with every change.
    pub version: i64,
    /// Goes up with every edit of a caller.
    pub edit_version: i64,
    /// When they became known.
    pub created_at: DateTime<Utc>,
    /// When anything of them last changed.
    pub updated_at: DateTime<Utc>,
}

impl Contact {
    /// Refuses a contact that was merged into another.
    ///
    /// # Errors
    /// It was.
    pub fn check_unmerged(&self) -> Result<(), Error> {
        match self.merged_into_id {
            None => Ok(()),
            Some(into) => Err(Error::FailedPrecondition(Precondition::ContactMerged {
                contact: self.id.to_string(),
                into: into.to_string(),
            })),
        }
    }

    /// Refuses a contact that has changed since an etag was read.
    ///
    /// # Errors
    /// It has.
    pub fn check_etag(&self, given: Option<&str>) -> Result<(), Error> {
        check_etag(given, etag(self.edit_version))
    }
}

/// A person with all identities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The person.
    pub contact: Contact,
    /// How channel accounts know them, the oldest first.
    pub identities: Vec<ContactIdentity>,
}

/// Finds a person, without identities.
pub async fn find(conn: &mut TenantConn, id: ContactId) -> Result<Option<Contact>, Error> {
    let contact = contacts::table
        .filter(contacts::id.eq(id))
        .filter(contacts::deleted_at.is_null())
        .select(Contact::as_select());
    Ok(contact.first(conn).await.optional()?)
}

/// Returns a person with all identities.
///
/// # Errors
/// There is no such contact.
pub async fn get(conn: &mut TenantConn, id: ContactId) -> Result<Profile, Error> {
    let contact = find(conn, id).await?;
    let contact = contact.ok_or_else(|| Error::not_found("contact", id))?;
    let identities = contact_identity::of(conn, &[id]).await?;
    Ok(Profile {
        contact,
        identities,
    })
}

/// Returns a person whom nobody else changes until the open transaction ends.
///
/// # Errors
/// There is no such contact.
pub async fn lock(conn: &mut TenantConn, id: ContactId) -> Result<Contact, Error> {
    let contact = contacts::table
        .filter(contacts::id.eq(id))
        .filter(contacts::deleted_at.is_null())
        .select(Contact::as_select())
        .for_no_key_update();
    let contact = contact.first(conn).await.optional()?;
    contact.ok_or_else(|| Error::not_found("contact", id))
}

/// A person to make.
#[derive(Debug)]
pub struct NewContact {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// What they are called.
    pub name: String,
    /// Whom they work for.
    pub company: String,
    /// The language to talk to them in.
    pub language: String,
    /// What agents have to know about them.
    pub notes: String,
    /// Free data.
    pub metadata: Value,
    /// How channel accounts know them.
    pub identities: Vec<NewContactIdentity>,
}

/// Makes a person.
///
/// # Errors
/// An identity is another person's, or its channel account is missing or could be several.
pub async fn create(conn: &mut TenantConn, new: NewContact) -> Result<Profile, Error> {
    conn.transaction(async |conn| {
        let request = new.request_id.as_ref();
        if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
            return Ok(answer);
        }
        let id = ContactId::new();
        diesel::insert_into(contacts::table)
            .values((
                contacts::id.eq(id),
                contacts::name.eq(&new.name),
                contacts::name_folded.eq(contact_words::order_key(&new.name)),
                contacts::company.eq(&new.company),
                contacts::language.eq(&new.language),
                contacts::notes.eq(&new.notes),
                contacts::metadata.eq(&new.metadata),
            ))
            .execute(conn)
            .await?;
        for identity in &new.identities {
            contact_identity::give(conn, id, identity).await?;
        }
        contact_words::renew(conn, id).await?;
        let profile = get(conn, id).await?;
        if let Some(request) = request {
            request_id::keep(conn, request, &profile).await?;
        }
        log(conn, "contact.created", id, 1, Vec::new()).await?;
        Ok(profile)
    })
    .await
}

/// What to change in a person.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = contacts)]
pub struct ContactPatch {
    /// What they are called.
    pub name: Option<String>,
    /// Whom they work for.
    pub company: Option<String>,
    /// The language to talk to them in.
    pub language: Option<String>,
    /// What agents have to know about them.
    pub notes: Option<String>,
    /// Free data.
    pub metadata: Option<Value>,
}

impl ContactPatch {
    /// The names of the fields that change.
    pub fn changed(&self) -> Vec<&'static str> {
        let fields = [
            ("name", self.name.is_some()),
            ("company", self.company.is_some()),
            ("language", self.language.is_some()),
            ("notes", self.notes.is_some()),
            ("metadata", self.metadata.is_some()),
        ];
        fields
            .into_iter()
            .filter(|(_, changes)| *changes)
            .map(|(name, _)| name)
            .collect()
    }
}

/// Changes a person, if the etag is still the one given.
///
/// # Errors
/// There is no such contact, it was merged into another, or its etag is another one.
pub async fn update(
    conn: &mut TenantConn,
    id: ContactId,
    given: Option<String>,
    patch: ContactPatch,
) -> Result<Profile, Error> {
    conn.transaction(async |conn| {
        let contact = lock(conn, id).await?;
        contact.check_unmerged()?;
        contact.check_etag(given.as_deref())?;
        let changed = patch.changed();
        if changed.is_empty() {
            return get(conn, id).await;
        }
        let version = apply(conn, id, &patch).await?;
        let profile = get(conn, id).await?;
        log(conn, "contact.updated", id, version, changed).await?;
        Ok(profile)
    })
    .await
}

/// Writes a patch, of any number of fields, as an edit; returns the new version.
pub async fn apply(
    conn: &mut TenantConn,
    id: ContactId,
    patch: &ContactPatch,
) -> Result<i64, Error> {
    let name_folded = patch.name.as_deref().map(contact_words::order_key);
    let version = diesel::update(contacts::table.find(id))
        .set((
            patch,
            name_folded.map(|folded| contacts::name_folded.eq(folded)),
            contacts::version.eq(contacts::version + 1),
            contacts::edit_version.eq(contacts::edit_version + 1),
            contacts::updated_at.eq(now()),
        ))
        .returning(contacts::version)
        .get_result(conn)
        .await?;
    contact_words::renew(conn, id).await?;
    Ok(version)
}

/// Appends a change of a person to the log.
pub async fn log(
    conn: &mut TenantConn,
    kind: &str,
    id: ContactId,
    version: i64,
    changed: Vec<&str>,
) -> Result<(), Error> {
    let change = Change {
        kind,
        resource_kind: "contact",
        resource_id: id.0,
        parent_id: None,
        sequence: None,
        version,
        changed,
    };
    append(conn, change).await
}

/// The database's time.
pub fn now() -> diesel::expression::SqlLiteral<Timestamptz> {
    sql("directory.now()")
}

/// The order of a list of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By name.
    Name,
    /// The oldest first.
    OldestFirst,
    /// The newest first.
    NewestFirst,
    /// The last changed first.
    LastChanged,
}

/// Which people to list.
#[derive(Debug)]
pub struct ContactFilter {
    /// Each of these begins a word of their name or of an identifier.
    pub words: Vec<String>,
    /// Known to this channel account.
    pub channel_account_id: Option<ChannelAccountId>,
    /// Changed at this time or later.
    pub updated_since: Option<DateTime<Utc>>,
    /// Those too who were merged into others.
    pub merged: bool,
}

/// Where a page of people begins: beyond this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Position {
    name_folded: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    id: ContactId,
}

impl Profile {
    /// Where the page after this person begins.
    pub fn position(&self) -> Position {
        let contact = &self.contact;
        Position {
            name_folded: contact.name_folded.clone(),
            created_at: contact.created_at,
            updated_at: contact.updated_at,
            id: contact.id,
        }
    }
}

/// Lists people beyond a position.
pub async fn list(
    conn: &mut TenantConn,
    filter: &ContactFilter,
    order: Order,
    beyond: Option<&Position>,
    size: PageSize,
) -> Result<Vec<Profile>, Error> {
    let mut query = contacts::table
        .filter(contacts::deleted_at.is_null())
        .select(Contact::as_select())
        .limit(size.rows())
        .into_boxed();
    if !filter.merged {
        query = query.filter(contacts::merged_into_id.is_null());
    }
    for word in &filter.words {
        let found = words::table
            .filter(words::word.ge(word))
            .filter(words::word.lt(contact_words::beyond(word)))
            .select(words::contact_id);
        query = query.filter(contacts::id.eq_any(found));
    }
    if let Some(account) = filter.channel_account_id {
        let known = contact_identities::table
            .filter(contact_identities::contact_id.eq(contacts::id))
            .filter(contact_identities::channel_account_id.eq(account));
        query = query.filter(diesel::dsl::exists(known));
    }
    if let Some(since) = filter.updated_since {
        query = query.filter(contacts::updated_at.ge(since));
    }
    // The first condition on a position is there for the index, which the second cannot use.
    query = match order {
        Order::Name => {
            if let Some(position) = beyond {
                let name = position.name_folded.clone();
                query = query.filter(contacts::name_folded.ge(name.clone())).filter(
                    contacts::name_folded
                        .gt(name)
                        .or(contacts::id.gt(position.id)),
                );
            }
            query.order((contacts::name_folded, contacts::id))
        }
        Order::OldestFirst => {
            if let Some(position) = beyond {
                let at = position.created_at;
                query = query
                    .filter(contacts::created_at.ge(at))
                    .filter(contacts::created_at.gt(at).or(contacts::id.gt(position.id)));
            }
            query.order((contacts::created_at, contacts::id))
        }
        Order::NewestFirst => {
            if let Some(position) = beyond {
                let at = position.created_at;
                query = query
                    .filter(contacts::created_at.le(at))
                    .filter(contacts::created_at.lt(at).or(contacts::id.lt(position.id)));
            }
            query.order((contacts::created_at.desc(), contacts::id.desc()))
        }
        Order::LastChanged => {
            if let Some(position) = beyond {
                let at = position.updated_at;
                query = query
                    .filter(contacts::updated_at.le(at))
                    .filter(contacts::updated_at.lt(at).or(contacts::id.lt(position.id)));
            }
            query.order((contacts::updated_at.desc(), contacts::id.desc()))
        }
    };
    let found: Vec<Contact> = query.load(conn).await?;
    with_identities(conn, found).await
}

/// Adds to people how channel accounts know them.
pub async fn with_identities(
    conn: &mut TenantConn,
    found: Vec<Contact>,
) -> Result<Vec<Profile>, Error> {
    let ids: Vec<_> = found.iter().map(|contact| contact.id).collect();
    let mut identities = contact_identity::of(conn, &ids).await?;
    let mut profiles = Vec::with_capacity(found.len());
    for contact in found {
        let (own, others): (Vec<_>, Vec<_>) = identities
            .into_iter()
            .partition(|identity| identity.contact_id == contact.id);
        identities = others;
        profiles.push(Profile {
            contact,
            identities: own,
        });
    }
    Ok(profiles)
}
