//! What the webhooks of tickets say, in our neutral terms: those of events, and those of triggers
//! that use our template.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::inbox::{
    Amendment, Direction, Inbound, InboundMessage, MessageType, Person, Thread, ThreadState,
};
use crate::provider::MAX_NAME_BYTES;
use crate::provider::lenient::{self, cut, id, text, time};
use crate::provider::metadata::Metadata;
use crate::provider::words::said;
use crate::webhook::{Content, Item, Verified};

/// What the types of events begin with.
const EVENT: &str = "zen:event-type:";

/// Reads the item of a webhook.
///
/// # Errors
/// The body is no JSON: a template of a trigger may not escape what customers write.
pub fn items(body: &Verified<bytes::Bytes>) -> Result<Vec<Item>, String> {
    let body = lenient::json(body)?;
    if body.get("ticket").is_some_and(Value::is_object) {
        return Ok(vec![Item {
            // Nothing in our template names the account: the address does.
            route_key: String::new(),
            content: triggered(&body),
        }]);
    }
    let account = id(&body, "/account_id").ok_or("neither an event nor our template")?;
    let item = |content| Item {
        route_key: account.clone(),
        content,
    };
    Ok(event(&body).into_iter().map(item).collect())
}

/// What the description of a ticket is known by, which is its first comment too.
fn description_id(ticket: &str) -> String {
    format!("ticket:{ticket}")
}

fn comment_id(comment: &str) -> String {
    format!("comment:{comment}")
}

fn event(body: &Value) -> Vec<Content> {
    let kind = text(body, "/type");
    let kind = kind.strip_prefix(EVENT).unwrap_or(&kind);
    let Some(ticket) = id(body, "/detail/id") else {
        return vec![Content::Ignored("other_event")];
    };
    let content = match kind {
        "ticket.created" => {
            let description = created(body, &ticket);
            let state = state(body, "/detail/status", ticket);
            // One that begins open is what conversations are.
            let solved = state.archived.then_some(Inbound::ThreadState(state));
            return [description]
                .into_iter()
                .chain(solved.map(Content::Inbound))
                .collect();
        }
        "ticket.comment_added" => commented(body, &ticket),
        "ticket.status_changed" => {
            Content::Inbound(Inbound::ThreadState(state(body, "/event/current", ticket)))
        }
        // It stays for the staff, who are all that see messages here.
        "ticket.comment_made_private" => Content::Ignored("made_private"),
        "ticket.comment_redacted" => {
            let Some(comment) =
                id(body, "/event/comment/id").or_else(|| id(body, "/event/comment_id"))
            else {
                return vec![Content::Unreadable("a comment without `id`".to_owned())];
            };
            Content::Inbound(Inbound::Amendment(Amendment::withdrawal(
                comment_id(&comment),
                id(body, "/detail/requester_id").into_iter().collect(),
            )))
        }
        _ => Content::Ignored("other_event"),
    };
    vec![content]
}

/// What an event says of where its ticket stands.
fn state(body: &Value, path: &str, ticket: String) -> ThreadState {
    let state = text(body, path).to_uppercase();
    ThreadState {
        provider_id: id(body, "/id").unwrap_or_else(|| format!("{ticket}:{state}")),
        thread_key: ticket,
        archived: matches!(state.as_str(), "SOLVED" | "CLOSED"),
        at: time(body, "/time"),
    }
}

fn created(body: &Value, ticket: &str) -> Content {
    let Some(requester) = id(body, "/detail/requester_id") else {
        return Content::Unreadable("a ticket without `requester_id`".to_owned());
    };
    let by_staff = id(body, "/detail/submitter_id").is_some_and(|id| id != requester);
    let direction = direction(is_public(body, "/detail/is_public"), by_staff);
    let mut metadata = Metadata::default();
    metadata.keep("via", body.pointer("/detail/via"));
    message(Comment {
        provider_id: description_id(ticket),
        direction,
        words: text(body, "/detail/description"),
        person: Person {
            identifiers: vec![requester],
            name: String::new(),
        },
        ticket,
        subject: text(body, "/detail/subject"),
        at: time(body, "/time"),
        metadata,
    })
}

/// Tells whether a comment is for the customer too: what does not say that it is private. In a
/// template, words may be quoted or not.
fn is_public(value: &Value, path: &str) -> bool {
    match value.pointer(path) {
        Some(Value::Bool(is_public)) => *is_public,
        _ => !text(value, path).trim().eq_ignore_ascii_case("false"),
    }
}

/// A private comment is a note, one of the staff an answer.
fn direction(is_public: bool, by_staff: bool) -> Direction {
    match (is_public, by_staff) {
        (false, _) => Direction::Internal,
        (true, true) => Direction::Outbound,
        (true, false) => Direction::Inbound,
    }
}

fn commented(body: &Value, ticket: &str) -> Content {
    let none = Value::Null;
    let comment = body.pointer("/event/comment").unwrap_or(&none);
    let Some(comment_key) = id(comment, "/id") else {
        return Content::Unreadable("a comment without `id`".to_owned());
    };
    let Some(requester) = id(body, "/detail/requester_id") else {
        return Content::Unreadable("a comment without `requester_id`".to_owned());
    };
    let flag = |path: &str| comment.pointer(path).and_then(Value::as_bool);
    let author = id(comment, "/author/id");
    let is_requester = author.as_ref().is_some_and(|author| *author == requester);
    let by_staff = flag("/author/is_staff").unwrap_or(!is_requester);
    let mut name = text(comment, "/author/name");
    cut(&mut name, MAX_NAME_BYTES);
    let mut metadata = Metadata::default();
    metadata.keep("author", comment.get("author"));
    message(Comment {
        provider_id: comment_id(&comment_key),
        direction: direction(is_public(comment, "/is_public"), by_staff),
        words: text(comment, "/body"),
        person: Person {
            identifiers: vec![requester],
            name: if is_requester { name } else { String::new() },
        },
        ticket,
        subject: text(body, "/detail/subject"),
        at: time(body, "/time"),
        metadata,
    })
}

/// What our template says, in which everything is a text.
fn triggered(body: &Value) -> Content {
    let Some(ticket) = id(body, "/ticket/id") else {
        return Content::Unreadable("a ticket without `id`".to_owned());
    };
    let Some(comment) = id(body, "/ticket/latest_comment/id") else {
        return Content::Ignored("no_comment");
    };
    let email = text(body, "/ticket/requester/email").to_lowercase();
    let mut name = text(body, "/ticket/requester/name");
    cut(&mut name, MAX_NAME_BYTES);
    // Many people have one name.
    let person =
        lenient::identifier(&email).or_else(|| lenient::identifier(&description_id(&ticket)));
    let Some(person) = person else {
        return Content::Unreadable("a ticket without its requester".to_owned());
    };
    let is_public = is_public(body, "/ticket/latest_comment/is_public");
    let by_staff =
        text(body, "/ticket/latest_comment/author_name") != text(body, "/ticket/requester/name");
    message(Comment {
        provider_id: comment_id(&comment),
        direction: direction(is_public, by_staff),
        words: text(body, "/ticket/latest_comment/value"),
        person: Person {
            identifiers: vec![person],
            name,
        },
        ticket: &ticket,
        subject: text(body, "/ticket/title"),
        at: None,
        metadata: Metadata::default(),
    })
}

/// A comment, or the description of a ticket.
struct Comment<'a> {
    provider_id: String,
    direction: Direction,
    words: String,
    person: Person,
    ticket: &'a str,
    subject: String,
    at: Option<DateTime<Utc>>,
    metadata: Metadata,
}

fn message(comment: Comment<'_>) -> Content {
    let mut metadata = comment.metadata;
    let mut files = Vec::new();
    let words = said(comment.words, MessageType::Text, &mut metadata, &mut files);
    if comment.direction == Direction::Outbound {
        metadata.set("source", "external");
    }
    let mut subject = comment.subject;
    cut(&mut subject, MAX_NAME_BYTES / 4);
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id: comment.provider_id,
        direction: comment.direction,
        message_type: MessageType::Text,
        text: words,
        location: None,
        person: comment.person,
        reply_to: None,
        at: comment.at,
        metadata: metadata.finish(),
        files,
        thread: Thread {
            key: comment.ticket.to_owned(),
            subject,
            opening: Some(description_id(comment.ticket)),
            ..Thread::default()
        },
        automatic: false,
    })))
}
