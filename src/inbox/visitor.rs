//! Visitors of the web chat: who they turn out to be, and what they may see.
//!
//! A visitor is known by an id that their browser keeps, until the page proves which of its users
//! they are. From then on their talk is that user's, and the browser's id alone shows nothing of it:
//! the next person at the same browser is somebody else.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::{Map, Value};

use super::contact::{self, ContactPatch};
use super::contact_identity::{self, MOST};
use super::contact_merge::{self, NewMerge};
use super::message::{Message, MessageRow, message_columns};
use super::message_status::{self, MessageStatus, StatusReport};
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::ids::{AttachmentId, ChannelAccountId, ContactId, ConversationId, MessageId};
use crate::page::PageSize;
use crate::schema::tenant::contact_identities;
use crate::tenant::TenantConn;

/// Begins the identifier of a user of the page's own.
pub const USER: &str = "user:";
/// Begins the identifier of a browser.
const BROWSER: &str = "visitor:";
/// The part of a contact's metadata that says what the page proved.
const PROVED: &str = "web";
/// How often an identification is begun anew when others were in its way.
const TRIES: usize = 5;
/// How many of the newest messages of a conversation can be read at once: who reads, reads the end.
const NEWEST: i64 = 1000;

/// A visitor, as their session says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// The account that they talk to.
    pub account: ChannelAccountId,
    /// The id that their browser keeps.
    pub id: String,
    /// Which of the page's users they are, if that is proved.
    pub user_id: Option<String>,
}

impl Visitor {
    /// By what they are known.
    pub fn identifier(&self) -> String {
        match &self.user_id {
            Some(user_id) => format!("{USER}{user_id}"),
            None => format!("{BROWSER}{}", self.id),
        }
    }
}

/// What a page tells of a user whom it has proved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UserProfile {
    /// What they are called, or empty.
    pub name: String,
    /// Their e-mail address, or empty.
    pub email: String,
    /// Their telephone number, or empty.
    pub phone: String,
}

impl UserProfile {
    /// The metadata of a contact with what is told here.
    fn told_in(&self, metadata: &Value, user_id: &str) -> Value {
        let mut metadata = metadata.as_object().cloned().unwrap_or_default();
        let mut proved = match metadata.remove(PROVED) {
            Some(Value::Object(proved)) => proved,
            _ => Map::new(),
        };
        proved.insert("user_id".to_owned(), user_id.into());
        proved.insert("verified".to_owned(), true.into());
        for (field, value) in [("email", &self.email), ("phone", &self.phone)] {
            if !value.is_empty() {
                proved.insert(field.to_owned(), value.as_str().into());
            }
        }
        metadata.insert(PROVED.to_owned(), Value::Object(proved));
        Value::Object(metadata)
    }
}

/// Makes a visitor the user whom their page has proved them to be, with all that they have said
/// before; tells whether it could. The browser may have been another user's: then nothing changes,
/// and it needs a new id.
///
/// # Errors
/// The database is in the way, for now.
pub async fn identify(
    conn: &mut TenantConn,
    visitor: &Visitor,
    user_id: &str,
    profile: &UserProfile,
) -> Result<bool, Error> {
    let mut tries = 1;
    loop {
        let identified = conn
            .transaction(async |conn| identify_once(conn, visitor, user_id, profile).await)
            .await;
        match identified {
            // What was in the way is done now, and is seen by the next try.
            Err(Error::Aborted(_)) if tries < TRIES => tries += 1,
            // Both together would be too much for one contact: the talk of the browser stays apart.
            Err(Error::FailedPrecondition(Precondition::ContactIdentityLimit { .. })) => {
                return Ok(false);
            }
            identified => return identified,
        }
    }
}

async fn identify_once(
    conn: &mut TenantConn,
    visitor: &Visitor,
    user_id: &str,
    profile: &UserProfile,
) -> Result<bool, Error> {
    let account = visitor.account;
    let mut identifiers = vec![
        format!("{USER}{user_id}"),
        format!("{BROWSER}{}", visitor.id),
    ];
    let known = contact_identity::find(conn, account, &identifiers).await?;
    let contact_of = |identifier: &str| {
        let found = known.iter().find(|(_, _, value)| value == identifier);
        found.map(|(_, contact, _)| *contact)
    };
    match (contact_of(&identifiers[0]), contact_of(&identifiers[1])) {
        (Some(user), Some(browser)) if user == browser => {}
        (_, Some(browser)) if is_of_user(conn, account, browser).await? => return Ok(false),
        (Some(user), Some(browser)) => {
            let merge = NewMerge {
                request_id: None,
                source_id: browser,
                target_id: user,
                etag: None,
            };
            contact_merge::merge(conn, merge).await?;
        }
        // A browser more or less makes no difference to somebody who has so many.
        (Some(user), None) if count(conn, user).await? >= MOST => identifiers.truncate(1),
        (_, None) | (None, Some(_)) => {}
    }
    let met = (account, Channel::Web);
    let identity = contact_identity::meet(conn, met, &identifiers, &profile.name).await?;
    let contact = contact_identities::table
        .find(identity)
        .select(contact_identities::contact_id)
        .first(conn)
        .await?;
    let known = contact::lock(conn, contact).await;
    let known = known.map_err(|error| match error {
        // Erased at this moment: the next try meets somebody new.
        Error::NotFound { .. } => Error::Aborted(Conflict::Transaction),
        error => error,
    })?;
    let metadata = profile.told_in(&known.metadata, user_id);
    if metadata != known.metadata {
        let patch = ContactPatch {
            metadata: Some(metadata),
            ..ContactPatch::default()
        };
        let version = contact::apply(conn, contact, &patch).await?;
        contact::log(conn, "contact.updated", contact, version, patch.changed()).await?;
    }
    Ok(true)
}

/// Tells whether a contact is a user of the page's.
async fn is_of_user(
    conn: &mut TenantConn,
    account: ChannelAccountId,
    contact: ContactId,
) -> Result<bool, Error> {
    let of_user = contact_identities::table
        .filter(contact_identities::contact_id.eq(contact))
        .filter(contact_identities::channel_account_id.eq(account))
        .filter(contact_identities::value.like(format!("{USER}%")));
    let found: i64 = of_user.count().get_result(conn).await?;
    Ok(found > 0)
}

async fn count(conn: &mut TenantConn, contact: ContactId) -> Result<usize, Error> {
    let all = contact_identities::table.filter(contact_identities::contact_id.eq(contact));
    let all: i64 = all.count().get_result(conn).await?;
    usize::try_from(all).map_err(Error::internal)
}

/// The contact `person` of a visitor. Once it is a user's, who has not proved to be that user sees
/// nothing of it: `is_over`.
macro_rules! person {
    () => {
        "
        , person AS (
            SELECT i.contact_id, NOT starts_with(input.identifier, 'user:') AND EXISTS (
                    SELECT FROM contact_identities u
                    WHERE u.contact_id = i.contact_id AND u.channel_account_id = input.account
                        AND starts_with(u.value, 'user:')
                ) AS is_over
            FROM input JOIN contact_identities i
                ON i.channel_account_id = input.account AND i.value = input.identifier
        ), own AS (
            SELECT c.id, c.number, c.archived_at
            FROM input, person
            JOIN contact_identities i ON i.contact_id = person.contact_id
            JOIN inbox_conversations c ON c.contact_identity_id = i.id AND c.deleted_at IS NULL
            WHERE i.channel_account_id = input.account AND NOT person.is_over
        )"
    };
}

statement! {
    /// Finds a conversation of a visitor, else the one that goes on, and the one before it.
    FindConversation<'a> -> (Bool, Nullable<sql_types::Uuid>, Nullable<sql_types::Uuid>) {
        account: ChannelAccountId => sql_types::Uuid,
        identifier: &'a str => Text,
        conversation_id: Option<ConversationId> => Nullable<sql_types::Uuid>,
    }
    concat!(person!(), ", shown AS (
            SELECT own.id, own.number FROM own, input
            WHERE input.conversation_id IS NULL OR own.id = input.conversation_id
            ORDER BY own.archived_at IS NOT NULL, own.number DESC LIMIT 1
        )
        SELECT coalesce((SELECT is_over FROM person), false), (SELECT id FROM shown), (
            SELECT own.id FROM own, shown WHERE own.number < shown.number
            ORDER BY own.number DESC LIMIT 1
        )")
}

/// A conversation of a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk {
    /// Its id.
    pub id: ConversationId,
    /// The one before it.
    pub previous: Option<ConversationId>,
}

/// What a visitor asks for, if they may.
#[derive(Debug)]
pub enum Seen<T> {
    /// What is there.
    There(T),
    /// The browser is a user's by now, whom this visitor has not proved to be.
    Over,
}

/// Finds a conversation of a visitor, else the one that goes on; `None` where they have none.
///
/// # Errors
/// It is not theirs.
pub async fn talk(
    conn: &mut TenantConn,
    visitor: &Visitor,
    conversation_id: Option<ConversationId>,
) -> Result<Seen<Option<Talk>>, Error> {
    type Found = (bool, Option<ConversationId>, Option<ConversationId>);
    let find = FindConversation {
        account: visitor.account,
        identifier: &visitor.identifier(),
        conversation_id,
        life: PhantomData,
    };
    let (is_over, found, previous): Found = find.get_result(conn).await?;
    match (is_over, found, conversation_id) {
        (true, _, _) => Ok(Seen::Over),
        (false, Some(id), _) => Ok(Seen::There(Some(Talk { id, previous }))),
        (false, None, None) => Ok(Seen::There(None)),
        (false, None, Some(id)) => Err(Error::not_found("conversation", id)),
    }
}

statement! {
    /// Finds the contact and the conversations of a visitor.
    FindTalks<'a> -> (Bool, Nullable<sql_types::Uuid>, Array<sql_types::Uuid>) {
        account: ChannelAccountId => sql_types::Uuid,
        identifier: &'a str => Text,
    }
    concat!(person!(), "
        SELECT coalesce((SELECT is_over FROM person), false), (SELECT contact_id FROM person),
            ARRAY(SELECT id FROM own)")
}

/// Who a visitor is by now, and all their conversations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Talks {
    /// Their contact; none until they have said something.
    pub contact: Option<ContactId>,
    /// Their conversations.
    pub conversations: Vec<ConversationId>,
}

/// Finds the contact and the conversations of a visitor.
pub async fn talks(conn: &mut TenantConn, visitor: &Visitor) -> Result<Seen<Talks>, Error> {
    let find = FindTalks {
        account: visitor.account,
        identifier: &visitor.identifier(),
        life: PhantomData,
    };
    let (is_over, contact, conversations) = find.get_result(conn).await?;
    Ok(match is_over {
        true => Seen::Over,
        false => Seen::There(Talks {
            contact,
            conversations,
        }),
    })
}

statement! {
    /// Lists the messages of a conversation that its customer may see, what is left of deleted ones
    /// among them.
    List<'a> -> MessageRow {
        conversation_id: ConversationId => sql_types::Uuid,
        after: i64 => BigInt,
        rows: i64 => BigInt,
    }
    concat!(" SELECT ", message_columns!(), "
        FROM input CROSS JOIN LATERAL (
            SELECT * FROM inbox_messages
            WHERE (conversation_id, sequence) > (input.conversation_id, input.after)
                AND (conversation_id, sequence) <= (input.conversation_id, 9223372036854775807)
                AND direction <> 'internal'
            ORDER BY conversation_id, sequence LIMIT input.rows
        ) m ORDER BY m.sequence")
}

/// Lists the messages of a visitor's conversation after a sequence.
pub async fn list(
    conn: &mut TenantConn,
    talk: Talk,
    after: i64,
    size: PageSize,
) -> Result<Vec<Message>, Error> {
    let list = List {
        conversation_id: talk.id,
        after,
        rows: size.rows(),
        life: PhantomData,
    };
    Ok(list.load(conn).await?)
}

statement! {
    /// Finds what a visitor has posted, by what it is known by.
    FindPosted<'a> -> (Bool, Nullable<MessageRow>) {
        account: ChannelAccountId => sql_types::Uuid,
        identifier: &'a str => Text,
        provider_id: &'a str => Text,
    }
    concat!(person!(), "
        SELECT coalesce(person.is_over, false), ", message_columns!(), "
        FROM input LEFT JOIN person ON true
        LEFT JOIN LATERAL (
            SELECT m.* FROM provider_events e
            JOIN inbox_messages m ON m.id = e.message_id
            JOIN inbox_conversations c ON c.id = m.conversation_id AND c.deleted_at IS NULL
            WHERE e.channel_account_id = input.account AND e.provider_id = input.provider_id
                AND e.kind = 'message' AND e.occurrence = ''
        ) m ON true")
}

/// Finds what a visitor has posted, by what it is known by.
pub async fn posted(
    conn: &mut TenantConn,
    visitor: &Visitor,
    provider_id: &str,
) -> Result<Seen<Option<Message>>, Error> {
    let find = FindPosted {
        account: visitor.account,
        identifier: &visitor.identifier(),
        provider_id,
        life: PhantomData,
    };
    let (is_over, message): (bool, Option<Message>) = find.get_result(conn).await?;
    Ok(if is_over {
        Seen::Over
    } else {
        Seen::There(message)
    })
}

statement! {
    /// Tells whether a file is of a message that a visitor may see.
    FindFile<'a> -> (Bool, Bool) {
        account: ChannelAccountId => sql_types::Uuid,
        identifier: &'a str => Text,
        attachment_id: AttachmentId => sql_types::Uuid,
    }
    concat!(person!(), "
        SELECT coalesce((SELECT is_over FROM person), false), EXISTS (
            SELECT FROM attachments a
            JOIN inbox_messages m ON m.id = a.message_id AND m.deleted_at IS NULL
            JOIN own ON own.id = m.conversation_id
            WHERE a.id = input.attachment_id AND a.state = 'ready' AND m.direction <> 'internal'
        )
        FROM input")
}

/// Refuses a file that is of no message which a visitor may see.
///
/// # Errors
/// It is not.
pub async fn check_file(
    conn: &mut TenantConn,
    visitor: &Visitor,
    id: AttachmentId,
) -> Result<Seen<()>, Error> {
    let find = FindFile {
        account: visitor.account,
        identifier: &visitor.identifier(),
        attachment_id: id,
        life: PhantomData,
    };
    match find.get_result(conn).await? {
        (true, _) => Ok(Seen::Over),
        (false, true) => Ok(Seen::There(())),
        (false, false) => Err(Error::not_found("attachment", id)),
    }
}

/// Whether the browser of a visitor is a user's by now.
pub async fn is_over(conn: &mut TenantConn, visitor: &Visitor) -> Result<bool, Error> {
    Ok(matches!(talk(conn, visitor, None).await?, Seen::Over))
}

#[derive(QueryableByName)]
struct Unread {
    #[diesel(sql_type = sql_types::Uuid)]
    id: MessageId,
}

/// Takes note that a visitor has seen all of a conversation up to a sequence.
pub async fn read(conn: &mut TenantConn, talk: Talk, sequence: i64) -> Result<(), Error> {
    conn.transaction(async |conn| {
        let unread: Vec<Unread> = diesel::sql_query(
            "SELECT m.id
            FROM (
                SELECT * FROM inbox_messages WHERE conversation_id = $1 AND sequence <= $2
                ORDER BY sequence DESC LIMIT $3
            ) m
            WHERE m.direction = 'outbound' AND m.deleted_at IS NULL
                AND m.status IN ('queued', 'sent', 'delivered')
            ORDER BY m.sequence",
        )
        .bind::<sql_types::Uuid, _>(talk.id)
        .bind::<BigInt, _>(sequence)
        .bind::<BigInt, _>(NEWEST)
        .load(conn)
        .await?;
        for message in unread {
            let report = StatusReport {
                message_id: message.id,
                status: MessageStatus::Read,
                at: None,
                failure_code: None,
                failure_message: None,
            };
            message_status::report(conn, report).await?;
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_page_proves_stands_beside_what_agents_know() {
        let profile = UserProfile {
            name: "Dana".to_owned(),
            email: "dana@customer.example".to_owned(),
            phone: String::new(),
        };
        let known =
            json!({"tier": "gold", "web": {"phone": "+15550109911", "email": "old@a.example"}});
        assert_eq!(
            profile.told_in(&known, "crm-42"),
            json!({"tier": "gold", "web": {"user_id": "crm-42", "verified": true,
                "phone": "+15550109911", "email": "dana@customer.example"}})
        );
        let told = profile.told_in(&Value::Null, "crm-42");
        assert_eq!(profile.told_in(&told, "crm-42"), told);
    }
}
