//! What comes of Gmail, in our neutral terms: that a mailbox has changed, and the mails in it.

use serde_json::Value;

use super::{message, push};
use crate::inbox::{Direction, Inbound, Person};
use crate::provider::email::{self, Arrival, mime};
use crate::webhook::{Content, Item, Verified};

/// What a mail is that was asked for, as the delivery that it is kept as says it.
pub const MAIL: &str = "application/vnd.google.gmail.message+json";

/// Reads what was pushed, or a mail that was asked for.
pub fn items(content_type: &str, body: &Verified<bytes::Bytes>) -> Result<Vec<Item>, String> {
    if content_type == MAIL {
        return message::read(body).map(mail);
    }
    let push = push::read(body)?;
    Ok(vec![Item {
        route_key: push.mailbox,
        content: Content::MailboxChanged,
    }])
}

/// A mail, which is of the account that it was asked for.
fn mail(message: message::Message) -> Vec<Item> {
    let unnamed = |content| Item {
        route_key: String::new(),
        content,
    };
    if message.labels.is_unwanted() {
        return vec![unnamed(Content::Ignored("draft_or_spam"))];
    }
    let direction = message.direction();
    let arrival = mime::arrival(&message.mime, email::Envelope::default());
    let Arrival::Mail(mail) = arrival else {
        // A report of the mail's way, or nothing that can be read.
        return email::items(vec![arrival])
            .into_iter()
            .map(|item| unnamed(item.content))
            .collect();
    };
    let mut content = email::message(&mail, "");
    if let Content::Inbound(Inbound::Message(inbound)) = &mut content {
        inbound.thread.key.clone_from(&message.thread_id);
        inbound.at = message.at.or(inbound.at);
        if let Value::Object(metadata) = &mut inbound.metadata {
            metadata.insert("gmail_id".to_owned(), message.id.into());
            let labels = message.labels.names().to_vec();
            metadata.insert("gmail_labels".to_owned(), labels.into());
            metadata.insert("gmail_thread_id".to_owned(), message.thread_id.into());
        }
        if direction == Direction::Outbound {
            let mut people = mail.to.iter().chain(&mail.cc).chain(&mail.bcc);
            let Some(to) = people.find(|to| !to.address.is_empty()) else {
                return vec![unnamed(Content::Ignored("no_recipient"))];
            };
            inbound.direction = direction;
            inbound.person = Person {
                identifiers: vec![to.address.clone()],
                name: to.name.clone(),
            };
            if let Value::Object(metadata) = &mut inbound.metadata {
                metadata.insert("source".to_owned(), "external".into());
            }
        }
    }
    vec![unnamed(content)]
}
