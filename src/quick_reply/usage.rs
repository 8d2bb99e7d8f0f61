//! Uses of quick replies: how one is filled in and counted.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Integer, Jsonb, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::language::Language;
use super::quick_reply::{self, QuickReply};
use super::template::{MAX_TEXT_BYTES, Template};
use crate::access::Actor;
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::{Conflict, Error, Precondition};
use crate::event::log::append_events;
use crate::field::Fields;
use crate::ids::{ConversationId, MessageId, QuickReplyId, QuickReplyUseId};
use crate::inbox::Attachment;
use crate::request_id::{self, RequestId};
use crate::schema::tenant::{contact_identities, contacts, inbox_conversations};
use crate::tenant::TenantConn;

/// What to fill in, and with what.
#[derive(Debug)]
pub struct Filling {
    /// The quick reply.
    pub quick_reply_id: QuickReplyId,
    /// The language wanted.
    pub language: Option<Language>,
    /// The values of declared variables.
    pub variables: BTreeMap<String, String>,
}

/// A quick reply, filled in.
#[derive(Debug)]
pub struct Filled {
    quick_reply_id: QuickReplyId,
    conversation_id: Option<ConversationId>,
    /// The text.
    pub text: String,
    /// The tag of its language, or empty.
    pub language: String,
    /// The variables that had neither value nor fallback.
    pub missing: Vec<String>,
}

impl Filled {
    /// The text, as it can be sent.
    ///
    /// # Errors
    /// Something is missing in it, or it is empty.
    pub fn sendable(&self) -> Result<&str, Error> {
        if !self.missing.is_empty() {
            let missing = Precondition::QuickReplyVariablesMissing {
                id: self.quick_reply_id.to_string(),
                variables: self.missing.clone(),
            };
            return Err(Error::FailedPrecondition(missing));
        }
        if self.text.is_empty() {
            let problem = "has no text once it is filled in";
            return Err(Error::invalid("quick_reply_id", problem));
        }
        Ok(&self.text)
    }
}

/// Fills in the quick reply that was found.
///
/// # Errors
/// There is no such quick reply or conversation, a value is not what its variable declares, or the
/// text would be too long.
pub async fn fill(
    conn: &mut TenantConn,
    found: Option<QuickReply>,
    filling: &Filling,
    conversation_id: Option<ConversationId>,
) -> Result<Filled, Error> {
    let id = filling.quick_reply_id;
    let quick_reply = found
        .filter(|quick_reply| quick_reply.deleted_at.is_none())
        .ok_or_else(|| Error::not_found("quick_reply", id))?;
    let mut values = match conversation_id {
        Some(id) => facts(conn, id).await?,
        None => BTreeMap::new(),
    };
    if let Actor::User(agent) | Actor::Bot(agent) = &conn.facts().actor {
        values.insert("agent.id", agent.clone());
    }
    // A person without a name has no value, not an empty one.
    values.retain(|_, value| !value.is_empty());
    check_values(&quick_reply, &filling.variables)?;

    let content = &quick_reply.content;
    let (text, language) = content.text_for(filling.language.as_ref());
    let template = Template::parse(text)
        .map_err(|fault| Error::internal(format!("a stored template {}", fault.problem)))?;
    let value = |name: &str| {
        let own = filling.variables.get(name);
        own.or_else(|| values.get(name)).map(String::as_str)
    };
    let fallback = |name: &str| {
        let mut declared = content.variables.0.iter();
        let variable = declared.find(|variable| variable.name == name)?;
        variable.fallback.as_deref()
    };
    let rendered = template.render(value, fallback).map_err(|_| {
        Error::FailedPrecondition(Precondition::QuickReplyTooLong {
            id: id.to_string(),
            limit: MAX_TEXT_BYTES,
        })
    })?;
    Ok(Filled {
        quick_reply_id: id,
        conversation_id,
        text: rendered.text,
        language: language.to_owned(),
        missing: rendered.missing,
    })
}

/// Checks values against the variables that a quick reply declares.
fn check_values(
    quick_reply: &QuickReply,
    variables: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let mut fields = Fields::default();
    for (name, value) in variables {
        let mut declared = quick_reply.content.variables.0.iter();
        match declared.find(|variable| variable.name == *name) {
            None => fields.refuse("variables", "has one that the quick reply does not declare"),
            Some(variable) if !variable.variable_type.accepts(value) => {
                let problem = format!("must be {}", variable.variable_type.form());
                fields.refuse(format!("variables[{name}]"), problem);
            }
            Some(_) => {}
        }
    }
    fields.finish()
}

/// What the built-in variables say of a conversation and its person.
async fn facts(
    conn: &mut TenantConn,
    id: ConversationId,
) -> Result<BTreeMap<&'static str, String>, Error> {
    let facts = inbox_conversations::table
        .inner_join(contact_identities::table.inner_join(contacts::table))
        .filter(inbox_conversations::id.eq(id))
        .filter(inbox_conversations::deleted_at.is_null())
        .select((
            contacts::name,
            contact_identities::value,
            inbox_conversations::number,
            inbox_conversations::subject,
            inbox_conversations::channel,
        ));
    let facts: Option<(String, String, i64, String, Channel)> =
        facts.first(conn).await.optional()?;
    let (name, identifier, number, subject, channel) =
        facts.ok_or_else(|| Error::not_found("conversation", id))?;
    let first_name = name.split_whitespace().next().unwrap_or_default();
    Ok(BTreeMap::from([
        ("contact.first_name", first_name.to_owned()),
        ("contact.name", name),
        ("contact.identifier", identifier),
        ("conversation.number", number.to_string()),
        ("conversation.subject", subject),
        ("conversation.channel", channel.as_str().to_owned()),
    ]))
}

statement! {
    // One round trip. The quick reply's row lock orders its uses, and the request id is claimed
    // under it with the answer in hand. No head = no such quick reply; a head without a count = a
    // repeated request.
    /// Counts a use.
    Count<'a> -> (sql_types::Uuid, Nullable<BigInt>) {
        id: QuickReplyUseId => sql_types::Uuid,
        quick_reply_id: QuickReplyId => sql_types::Uuid,
        conversation_id: Option<ConversationId> => Nullable<sql_types::Uuid>,
        message_id: Option<MessageId> => Nullable<sql_types::Uuid>,
        language: &'a str => Text,
        request_id: Option<&'a str> => Nullable<Text>,
        request_hash: Option<&'a [u8]> => Nullable<sql_types::Bytea>,
        method: &'a str => Text,
        response: Value => Jsonb,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT q.id, q.usage_count
            FROM inbox_quick_replies q, input
            WHERE q.id = input.quick_reply_id AND q.deleted_at IS NULL
            FOR NO KEY UPDATE OF q
        ), claimed AS (
            INSERT INTO requests (caller, method, request_id, request_hash, response, created_at)
            SELECT input.caller, input.method, input.request_id, input.request_hash,
                input.response || jsonb_build_object('usage_count', head.usage_count + 1),
                directory.now()
            FROM head, input WHERE input.request_id IS NOT NULL
            ON CONFLICT DO NOTHING
            RETURNING request_id
        ), bumped AS (
            UPDATE inbox_quick_replies q
            SET usage_count = q.usage_count + 1, last_used_at = directory.now(),
                version = q.version + 1
            FROM head, input
            WHERE q.id = head.id AND (input.request_id IS NULL OR EXISTS (SELECT FROM claimed))
            RETURNING q.id, q.usage_count, q.version, q.last_used_at
        ), used AS (
            INSERT INTO inbox_quick_reply_uses (id, quick_reply_id, conversation_id, message_id,
                language, actor_kind, actor_id, caller, correlation_id, used_at)
            SELECT input.id, bumped.id, input.conversation_id, input.message_id, input.language,
                input.actor_kind, input.actor_id, input.caller, input.correlation_id,
                bumped.last_used_at
            FROM bumped, input
        ), changes AS (
            SELECT 'quick_reply.used' AS kind, 'quick_reply' AS resource_kind,
                bumped.id AS resource_id, NULL::uuid AS parent_id, NULL::bigint AS sequence,
                bumped.version, '{usage_count,last_used_time}'::text[] AS changed
            FROM bumped
        )", append_events!(), "
        SELECT head.id, bumped.usage_count FROM head LEFT JOIN bumped ON true")
}

/// Counts the use of what was filled in, for a message that was made of it or for a request id
/// with its answer; returns the count, or nothing where the request is a repeated one.
///
/// # Errors
/// The quick reply is deleted by now.
async fn count(
    conn: &mut TenantConn,
    id: QuickReplyUseId,
    filled: &Filled,
    message_id: Option<MessageId>,
    request: Option<(&RequestId, Value)>,
) -> Result<Option<i64>, Error> {
    let facts = conn.facts().clone();
    let (request, response) = request.unzip();
    let statement = Count {
        id,
        quick_reply_id: filled.quick_reply_id,
        conversation_id: filled.conversation_id,
        message_id,
        language: &filled.language,
        request_id: request.map(|request| request.id.as_str()),
        request_hash: request.map(|request| request.hash.as_slice()),
        method: request.map_or("", |request| request.method),
        response: response.unwrap_or(Value::Null),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let counted: Option<(Uuid, Option<i64>)> = statement.get_result(conn).await.optional()?;
    let id = filled.quick_reply_id;
    let (_, count) = counted.ok_or_else(|| Error::not_found("quick_reply", id))?;
    Ok(count)
}

/// Counts the use of what was filled in for a message, in the transaction that stored it.
pub async fn count_sent(
    conn: &mut TenantConn,
    filled: &Filled,
    message_id: MessageId,
) -> Result<(), Error> {
    let id = QuickReplyUseId::new();
    count(conn, id, filled, Some(message_id), None).await?;
    Ok(())
}

/// A use to make.
#[derive(Debug)]
pub struct NewUse {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// What to fill in.
    pub filling: Filling,
    /// The conversation that it is for.
    pub conversation_id: Option<ConversationId>,
}

/// What came of a `NewUse`; also what a repeated request gets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Used {
    /// The use.
    pub use_id: QuickReplyUseId,
    /// The conversation, by which an erasure finds what the text says of its person.
    pub conversation_id: Option<ConversationId>,
    /// The text.
    pub text: String,
    /// The tag of its language, or empty.
    pub language: String,
    /// The variables that had neither value nor fallback.
    pub missing: Vec<String>,
    /// Its files.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// How often the quick reply was used, with this use.
    pub usage_count: i64,
}

/// Fills a quick reply in and counts the use.
///
/// # Errors
/// As `fill`.
pub async fn make(conn: &mut TenantConn, new: NewUse) -> Result<Used, Error> {
    let request = new.request_id.as_ref();
    // First of all: the answer does not depend on what has become of the quick reply since.
    if let Some(request) = request
        && let Some(answer) = request_id::answer(conn, request).await?
    {
        return Ok(answer);
    }
    let found = quick_reply::find(conn, new.filling.quick_reply_id).await?;
    let attachments = found.as_ref().map(|found| found.attachments.0.clone());
    let filled = fill(conn, found, &new.filling, new.conversation_id).await?;
    let mut used = Used {
        use_id: QuickReplyUseId::new(),
        conversation_id: new.conversation_id,
        text: filled.text.clone(),
        language: filled.language.clone(),
        missing: filled.missing.clone(),
        attachments: attachments.unwrap_or_default(),
        usage_count: 0,
    };
    let response = serde_json::to_value(&used).map_err(Error::internal)?;
    let claim = request.map(|request| (request, response));
    if let Some(count) = count(conn, used.use_id, &filled, None, claim).await? {
        used.usage_count = count;
        return Ok(used);
    }
    // The same request came twice at once, and the other was first.
    let answer = match request {
        Some(request) => request_id::answer(conn, request).await?,
        None => None,
    };
    answer.ok_or(Error::Aborted(Conflict::Transaction))
}
