//! Identities: how channel accounts know people, and how a person is met.

use chrono::{DateTime, Utc};
use diesel::dsl::{count_star, exists, select};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde::{Deserialize, Serialize};

use super::contact::{self, Profile, log, now};
use super::visitor::USER;
use super::{channel_account, contact_words};
use crate::channel::Channel;
use crate::error::{Conflict, Error, Existing, Precondition};
use crate::ids::{ChannelAccountId, ContactId, ContactIdentityId};
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{channel_accounts, contact_identities, contacts, inbox_conversations};
use crate::stored_enum::stored_enum;
use crate::tenant::TenantConn;

/// How many identities calls can give to one person.
pub const MOST: usize = 100;

stored_enum! {
    /// What an identifier is.
    IdentityKind {
        /// A telephone number.
        Phone = "phone",
        /// An e-mail address.
        Email = "email",
        /// An id that the provider gave for one business or app.
        ScopedId = "scoped_id",
        /// A name on the channel.
        Username = "username",
        /// A visitor of the web chat.
        Visitor = "visitor",
        /// Anything else.
        Other = "other",
    }
}

impl IdentityKind {
    /// What an identifier is by its channel and its form.
    pub fn guess(channel: Channel, value: &str) -> Self {
        let digits = value.strip_prefix('+').unwrap_or(value);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match channel {
            Channel::Email | Channel::Gmail => Self::Email,
            // An id of the page's own, whatever it looks like.
            Channel::Web if value.starts_with(USER) => Self::Other,
            Channel::Web | Channel::Zendesk if is_email(value) => Self::Email,
            Channel::Web => Self::Visitor,
            _ if value.starts_with('@') => Self::Username,
            Channel::Whatsapp
            | Channel::TwilioWhatsapp
            | Channel::TwilioCall
            | Channel::PersonalWhatsapp
                if is_number =>
            {
                Self::Phone
            }
            Channel::Messenger | Channel::Instagram if !is_number => Self::Username,
            _ => Self::ScopedId,
        }
    }

    /// Tells whether an identifier can be of this kind.
    pub fn fits(self, value: &str) -> bool {
        match self {
            Self::Phone => value.strip_prefix('+').is_some_and(|digits| {
                (5..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
            }),
            Self::Email => is_email(value),
            Self::ScopedId | Self::Username | Self::Visitor | Self::Other => true,
        }
    }
}

fn is_email(value: &str) -> bool {
    let parts = value.rsplit_once('@');
    parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !value.contains(char::is_whitespace)
}

/// One way in which a channel account knows a person.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = contact_identities, check_for_backend(Pg))]
pub struct ContactIdentity {
    /// Its id.
    pub id: ContactIdentityId,
    /// The person.
    pub contact_id: ContactId,
    /// The channel account.
    pub channel_account_id: ChannelAccountId,
    /// Its channel.
    #[diesel(select_expression = channel_accounts::channel)]
    pub channel: Channel,
    /// What it is.
    pub kind: IdentityKind,
    /// The identifier.
    pub value: String,
    /// When it became known.
    pub created_at: DateTime<Utc>,
}

/// Lists the identities of some people, the oldest first.
pub async fn of(
    conn: &mut TenantConn,
    contacts: &[ContactId],
) -> Result<Vec<ContactIdentity>, Error> {
    let identities = contact_identities::table
        .inner_join(channel_accounts::table)
        .filter(contact_identities::contact_id.eq_any(contacts))
        .order((contact_identities::created_at, contact_identities::id))
        .select(ContactIdentity::as_select());
    Ok(identities.load(conn).await?)
}

/// An identity to give to a person.
#[derive(Debug)]
pub struct NewContactIdentity {
    /// Where the request has it.
    pub path: String,
    /// The channel, unless the account says it.
    pub channel: Option<Channel>,
    /// The channel account.
    pub channel_account_id: Option<ChannelAccountId>,
    /// What it is; else as it looks.
    pub kind: Option<IdentityKind>,
    /// The identifier.
    pub value: String,
}

/// Gives an identity to a person, in the open transaction; tells whether it was not theirs before.
///
/// # Errors
/// It is another person's, or its channel account is missing or could be several.
pub async fn give(
    conn: &mut TenantConn,
    contact: ContactId,
    new: &NewContactIdentity,
) -> Result<bool, Error> {
    let (account, channel) = channel_account::resolve(conn, new.channel, new.channel_account_id)
        .await
        .map_err(|error| error.inside(&new.path))?;
    let kind = new
        .kind
        .unwrap_or_else(|| IdentityKind::guess(channel, &new.value));
    if insert(conn, account, contact, kind, &new.value)
        .await?
        .is_some()
    {
        return Ok(true);
    }
    let owner: Option<ContactId> = contact_identities::table
        .filter(contact_identities::channel_account_id.eq(account))
        .filter(contact_identities::value.eq(&new.value))
        .select(contact_identities::contact_id)
        .first(conn)
        .await
        .optional()?;
    match owner {
        Some(owner) if owner == contact => Ok(false),
        Some(owner) => Err(Error::AlreadyExists(Existing::ContactIdentity {
            account: account.to_string(),
            contact: owner.to_string(),
        })),
        None => Err(Error::Aborted(Conflict::Transaction)),
    }
}

/// Refuses more identities than a person can have.
///
/// # Errors
/// There are more.
pub async fn check_limit(
    conn: &mut TenantConn,
    contact: ContactId,
    more: &[ContactId],
) -> Result<(), Error> {
    let all: i64 = contact_identities::table
        .filter(contact_identities::contact_id.eq_any([&[contact], more].concat()))
        .select(count_star())
        .first(conn)
        .await?;
    if usize::try_from(all).is_ok_and(|all| all <= MOST) {
        return Ok(());
    }
    Err(Error::FailedPrecondition(
        Precondition::ContactIdentityLimit {
            contact: contact.to_string(),
            limit: MOST,
        },
    ))
}

/// An identity to add to a person who is there.
#[derive(Debug)]
pub struct Addition {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// The person.
    pub contact_id: ContactId,
    /// Which etag they must have.
    pub etag: Option<String>,
    /// The identity.
    pub identity: NewContactIdentity,
}

/// Adds an identity to a person; one that they have already changes nothing.
///
/// # Errors
/// There is no such contact, it was merged into another, its etag is another one, it has too many
/// identities, or this one is another person's.
pub async fn add(conn: &mut TenantConn, addition: Addition) -> Result<Profile, Error> {
    let id = addition.contact_id;
    conn.transaction(async |conn| {
        let request = addition.request_id.as_ref();
        if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
            return Ok(answer);
        }
        let person = contact::lock(conn, id).await?;
        person.check_unmerged()?;
        person.check_etag(addition.etag.as_deref())?;
        let version = if give(conn, id, &addition.identity).await? {
            check_limit(conn, id, &[]).await?;
            Some(contact::apply(conn, id, &contact::ContactPatch::default()).await?)
        } else {
            None
        };
        let profile = contact::get(conn, id).await?;
        if let Some(request) = request {
            request_id::keep(conn, request, &profile).await?;
        }
        if let Some(version) = version {
            log(conn, "contact.updated", id, version, vec!["identities"]).await?;
        }
        Ok(profile)
    })
    .await
}

/// An identity to remove from a person.
#[derive(Debug)]
pub struct Removal {
    /// The person.
    pub contact_id: ContactId,
    /// The identity.
    pub identity_id: ContactIdentityId,
    /// Which etag they must have.
    pub etag: Option<String>,
    /// Whether it is no error that they have none such.
    pub allow_missing: bool,
}

/// Removes an identity from a person.
///
/// # Errors
/// There is no such contact or identity, the contact was merged into another, its etag is another
/// one, or conversations hang on the identity.
pub async fn remove(conn: &mut TenantConn, removal: Removal) -> Result<Profile, Error> {
    let (id, identity) = (removal.contact_id, removal.identity_id);
    conn.transaction(async |conn| {
        // It is locked first, as by those who meet the person by it.
        let theirs: Option<ContactIdentityId> = contact_identities::table
            .filter(contact_identities::id.eq(identity))
            .filter(contact_identities::contact_id.eq(id))
            .select(contact_identities::id)
            .for_update()
            .first(conn)
            .await
            .optional()?;
        let person = contact::lock(conn, id).await?;
        person.check_unmerged()?;
        person.check_etag(removal.etag.as_deref())?;
        if theirs.is_none() {
            if removal.allow_missing {
                return contact::get(conn, id).await;
            }
            return Err(Error::not_found("contact_identity", identity));
        }
        let conversations = inbox_conversations::table
            .filter(inbox_conversations::contact_identity_id.eq(identity));
        if select(exists(conversations)).get_result(conn).await? {
            let in_use = Precondition::ContactIdentityInUse(identity.to_string());
            return Err(Error::FailedPrecondition(in_use));
        }
        diesel::delete(contact_identities::table.find(identity))
            .execute(conn)
            .await?;
        let version = contact::apply(conn, id, &contact::ContactPatch::default()).await?;
        let profile = contact::get(conn, id).await?;
        log(conn, "contact.updated", id, version, vec!["identities"]).await?;
        Ok(profile)
    })
    .await
}

/// Returns the identity of a person on a channel account: the first of the identifiers that is
/// known, or else the first of all; of several people, that of who has one that is no number, which
/// may be somebody else's by now. The person is made if nobody has one of them, and has them all
/// afterwards, but for those that are another person's. The name is kept if the person has none
/// yet.
pub async fn meet(
    conn: &mut TenantConn,
    (account, channel): (ChannelAccountId, Channel),
    identifiers: &[String],
    name: &str,
) -> Result<ContactIdentityId, Error> {
    let mut known = find(conn, account, identifiers).await?;
    let is_new = known.is_empty();
    let mut made = false;
    if is_new {
        let (identity, mine) = create(conn, account, channel, identifiers, name).await?;
        known.push(identity);
        made = mine;
    }
    let of = |identifier: &String| known.iter().find(|(_, _, value)| value == identifier);
    let lasting = identifiers.iter().filter(|value| !value.starts_with('+'));
    let whose = lasting.chain(identifiers).find_map(of).map(|found| found.1);
    let mut theirs = identifiers.iter().filter_map(of);
    let first = theirs.find(|(_, contact, _)| Some(*contact) == whose);
    let (identity, contact) = match first {
        Some((identity, contact, _)) => (*identity, *contact),
        None => return Err(Error::internal("a person without an identifier")),
    };
    let mut changed = Vec::new();
    for identifier in identifiers {
        if known.iter().all(|(_, _, value)| value != identifier) {
            let kind = IdentityKind::guess(channel, identifier);
            let added = insert(conn, account, contact, kind, identifier).await?;
            // Somebody else has met the same person by this one: beginning anew finds them.
            if is_new && added.is_none() {
                return Err(Error::Aborted(Conflict::Transaction));
            }
            if added.is_some() {
                changed = vec!["identities"];
            }
        }
    }
    if made {
        let texts = identifiers.iter().map(String::as_str).chain([name]);
        contact_words::add(conn, contact, texts).await?;
        log(conn, "contact.created", contact, 1, Vec::new()).await?;
        return Ok(identity);
    }
    if !name.is_empty() {
        let named = diesel::update(contacts::table.find(contact))
            .filter(contacts::name.eq(""))
            .set((
                contacts::name.eq(name),
                contacts::name_folded.eq(contact_words::order_key(name)),
            ))
            .execute(conn)
            .await?;
        if named == 1 {
            changed.push("name");
        }
    }
    if !changed.is_empty() {
        contact_words::renew(conn, contact).await?;
        let version = touch(conn, contact).await?;
        log(conn, "contact.updated", contact, version, changed).await?;
    }
    Ok(identity)
}

/// Takes note of a change that no caller made; returns the new version.
pub async fn touch(conn: &mut TenantConn, contact: ContactId) -> Result<i64, Error> {
    let version = diesel::update(contacts::table.find(contact))
        .set((
            contacts::version.eq(contacts::version + 1),
            contacts::updated_at.eq(now()),
        ))
        .returning(contacts::version)
        .get_result(conn)
        .await?;
    Ok(version)
}

type Identity = (ContactIdentityId, ContactId, String);

/// Finds and locks identities of an account.
pub(super) async fn find(
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

/// What a person is called who may be named in several ways: by what we knew them first, or by the
/// first of what is given of somebody unknown.
pub(super) async fn first_known(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    mut identifiers: Vec<String>,
) -> Result<String, Error> {
    let of_account = contact_identities::table
        .filter(contact_identities::channel_account_id.eq(account))
        .order(contact_identities::id);
    let contact: Option<ContactId> = of_account
        .filter(contact_identities::value.eq_any(&identifiers))
        .select(contact_identities::contact_id)
        .first(conn)
        .await
        .optional()?;
    let known: Option<String> = match contact {
        Some(contact) => of_account
            .filter(contact_identities::contact_id.eq(contact))
            .select(contact_identities::value)
            .first(conn)
            .await
            .optional()?,
        None => None,
    };
    let given = (!identifiers.is_empty()).then(|| identifiers.swap_remove(0));
    Ok(known.or(given).unwrap_or_default())
}

/// Makes a person, unless somebody else met the same one a moment earlier; tells whether it did.
async fn create(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    channel: Channel,
    identifiers: &[String],
    name: &str,
) -> Result<(Identity, bool), Error> {
    let [identifier, ..] = identifiers else {
        return Err(Error::internal("a person without an identifier"));
    };
    let contact = ContactId::new();
    diesel::insert_into(contacts::table)
        .values((
            contacts::id.eq(contact),
            contacts::name.eq(name),
            contacts::name_folded.eq(contact_words::order_key(name)),
        ))
        .execute(conn)
        .await?;
    let kind = IdentityKind::guess(channel, identifier);
    if let Some(identity) = insert(conn, account, contact, kind, identifier).await? {
        return Ok(((identity, contact, identifier.clone()), true));
    }
    diesel::delete(contacts::table.find(contact))
        .execute(conn)
        .await?;
    let known = find(conn, account, identifiers).await?.into_iter().next();
    let known = known.ok_or(Error::Aborted(Conflict::Transaction))?;
    Ok((known, false))
}

async fn insert(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    contact: ContactId,
    kind: IdentityKind,
    identifier: &str,
) -> Result<Option<ContactIdentityId>, Error> {
    let id = ContactIdentityId::new();
    let made = diesel::insert_into(contact_identities::table)
        .values((
            contact_identities::id.eq(id),
            contact_identities::contact_id.eq(contact),
            contact_identities::channel_account_id.eq(account),
            contact_identities::kind.eq(kind),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_what_its_channel_and_its_form_say() {
        use Channel::{Email, Instagram, Messenger, Web, Whatsapp, Zendesk};
        use IdentityKind::{ScopedId, Username, Visitor};
        let cases = [
            (Whatsapp, "+15550109911", IdentityKind::Phone),
            (Whatsapp, "15550109911", IdentityKind::Phone),
            (Whatsapp, "US.13499900112233445566", ScopedId),
            (Whatsapp, "@dana", Username),
            (Email, "jane@example.com", IdentityKind::Email),
            (Messenger, "7712345678", ScopedId),
            (Instagram, "dana.w", Username),
            (Web, "0198-visitor", Visitor),
            (Web, "jane@example.com", IdentityKind::Email),
            (Web, "user:jane@example.com", IdentityKind::Other),
            (Zendesk, "4417", ScopedId),
        ];
        for (channel, value, kind) in cases {
            assert_eq!(IdentityKind::guess(channel, value), kind, "{value}");
        }
    }

    #[test]
    fn phones_and_addresses_have_to_look_like_it() {
        for good in ["+49301234567", "+12345"] {
            assert!(IdentityKind::Phone.fits(good), "{good}");
        }
        for bad in [
            "49301234567",
            "+1 555",
            "+1234",
            "+1234567890123456",
            "+",
            "",
        ] {
            assert!(!IdentityKind::Phone.fits(bad), "{bad}");
        }
        for bad in ["jane", "@example.com", "jane@", "ja ne@example.com"] {
            assert!(!IdentityKind::Email.fits(bad), "{bad}");
        }
    }
}
