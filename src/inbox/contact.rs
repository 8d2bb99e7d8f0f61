//! Contacts: people, and the identities by which channel accounts know them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::error::Error;
use crate::ids::{ChannelAccountId, ContactId, ContactIdentityId};
use crate::schema::tenant::{contact_identities, contacts};
use crate::tenant::TenantConn;

/// Returns the identity of a person on a channel account, making both if they are new. The name is
/// kept if the person has none yet.
pub async fn find_or_create(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    value: &str,
    name: &str,
) -> Result<ContactIdentityId, Error> {
    let known = find(conn, account, value).await?;
    let (identity, contact) = match known {
        Some(known) => known,
        None => create(conn, account, value, name).await?,
    };
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

async fn find(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    value: &str,
) -> Result<Option<(ContactIdentityId, ContactId)>, Error> {
    // The lock makes those who open a conversation with the same person take turns.
    let identity = contact_identities::table
        .filter(contact_identities::channel_account_id.eq(account))
        .filter(contact_identities::value.eq(value))
        .select((contact_identities::id, contact_identities::contact_id))
        .for_no_key_update();
    Ok(identity.first(conn).await.optional()?)
}

async fn create(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    value: &str,
    name: &str,
) -> Result<(ContactIdentityId, ContactId), Error> {
    let contact = ContactId::new();
    let identity = ContactIdentityId::new();
    diesel::insert_into(contacts::table)
        .values((contacts::id.eq(contact), contacts::name.eq(name)))
        .execute(conn)
        .await?;
    let made = diesel::insert_into(contact_identities::table)
        .values((
            contact_identities::id.eq(identity),
            contact_identities::contact_id.eq(contact),
            contact_identities::channel_account_id.eq(account),
            contact_identities::value.eq(value),
        ))
        .on_conflict((
            contact_identities::channel_account_id,
            contact_identities::value,
        ))
        .do_nothing()
        .execute(conn)
        .await?;
    if made == 1 {
        return Ok((identity, contact));
    }
    // Somebody else met the same person a moment earlier.
    diesel::delete(contacts::table.find(contact))
        .execute(conn)
        .await?;
    find(conn, account, value)
        .await?
        .ok_or_else(|| Error::internal("an identity was there and gone"))
}
