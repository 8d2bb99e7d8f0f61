//! Contacts: people, and the identities by which channel accounts know them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::error::{Conflict, Error};
use crate::ids::{ChannelAccountId, ContactId, ContactIdentityId};
use crate::schema::tenant::{contact_identities, contacts};
use crate::tenant::TenantConn;

/// Returns the identity of a person on a channel account: the first of the identifiers that is
/// known, or else the first of all. The person is made if nobody has one of them, and has them all
/// afterwards, but for those that are another person's. The name is kept if the person has none
/// yet.
pub async fn meet(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    identifiers: &[String],
    name: &str,
) -> Result<ContactIdentityId, Error> {
    let mut known = find(conn, account, identifiers).await?;
    let is_new = known.is_empty();
    if is_new {
        known.push(create(conn, account, identifiers, name).await?);
    }
    let first = identifiers
        .iter()
        .find_map(|identifier| known.iter().find(|(_, _, value)| value == identifier));
    let (identity, contact) = match first {
        Some((identity, contact, _)) => (*identity, *contact),
        None => return Err(Error::internal("a person without an identifier")),
    };
    for identifier in identifiers {
        if known.iter().all(|(_, _, value)| value != identifier) {
            let added = insert(conn, account, contact, identifier).await?;
            // Somebody else has met the same person by this one: beginning anew finds them.
            if is_new && added.is_none() {
                return Err(Error::Aborted(Conflict::Transaction));
            }
        }
    }
    if !name.is_empty() {
        diesel::update(contacts::table.find(contact))
            .filter(contacts::name.eq(""))
            .set((
                contacts::name.eq(name),
                contacts::version.eq(contacts::version + 1),
                contacts::updated_at.eq(diesel::dsl::sql("directory.now()")),
            ))
            .execute(conn)
            .await?;
    }
    Ok(identity)
}

/// Returns by which identities a person is known.
pub async fn identities(
    conn: &mut TenantConn,
    id: ContactId,
) -> Result<Vec<ContactIdentityId>, Error> {
    let identities = contact_identities::table
        .filter(contact_identities::contact_id.eq(id))
        .select(contact_identities::id);
    Ok(identities.load(conn).await?)
}

type Identity = (ContactIdentityId, ContactId, String);

async fn find(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    identifiers: &[String],
) -> Result<Vec<Identity>, Error> {
    // The locks make those who open a conversation with the same person take turns; taken in one
    // order, they do not wait for each other in a circle.
    let identities = contact_identities::table
        .filter(contact_identities::channel_account_id.eq(account))
        .filter(contact_identities::value.eq_any(identifiers))
        .order(contact_identities::value)
        .select((
            contact_identities::id,
            contact_identities::contact_id,
            contact_identities::value,
        ))
        .for_no_key_update();
    Ok(identities.load(conn).await?)
}

async fn create(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    identifiers: &[String],
    name: &str,
) -> Result<Identity, Error> {
    let [identifier, ..] = identifiers else {
        return Err(Error::internal("a person without an identifier"));
    };
    let contact = ContactId::new();
    diesel::insert_into(contacts::table)
        .values((contacts::id.eq(contact), contacts::name.eq(name)))
        .execute(conn)
        .await?;
    if let Some(identity) = insert(conn, account, contact, identifier).await? {
        return Ok((identity, contact, identifier.clone()));
    }
    // Somebody else met the same person a moment earlier.
    diesel::delete(contacts::table.find(contact))
        .execute(conn)
        .await?;
    let known = find(conn, account, identifiers).await?;
    let mut known = known.into_iter();
    known.next().ok_or(Error::Aborted(Conflict::Transaction))
}

async fn insert(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    contact: ContactId,
    identifier: &str,
) -> Result<Option<ContactIdentityId>, Error> {
    let id = ContactIdentityId::new();
    let made = diesel::insert_into(contact_identities::table)
        .values((
            contact_identities::id.eq(id),
            contact_identities::contact_id.eq(contact),
            contact_identities::channel_account_id.eq(account),
            contact_identities::value.eq(identifier),
        ))
        .on_conflict((
            contact_identities::channel_account_id,
            contact_identities::value,
        ))
        .do_nothing()
        .execute(conn)
        .await?;
    Ok((made == 1).then_some(id))
}
