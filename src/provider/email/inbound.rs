//! What arrives by mail, in our neutral terms.

use serde_json::{Value, json};

use super::{Address, Arrival, Mail, Outcome, Report, Verdict};
use crate::inbox::{
    Direction, FileSource, Inbound, InboundFile, InboundMessage, MessageStatus, MessageType,
    Person, Receipt, Thread,
};
use crate::provider::MAX_NAME_BYTES;
use crate::provider::lenient::{cut, identifier};
use crate::provider::metadata::Metadata;
use crate::provider::words::{MAX_TEXT_BYTES, said, written};
use crate::webhook::{Content, Item};

/// How many messages are looked for that a mail may go on from.
const MOST_REFERENCES: usize = 50;

/// What has arrived, for each account that it is for.
pub fn items(arrivals: Vec<Arrival>) -> Vec<Item> {
    arrivals.into_iter().flat_map(items_of).collect()
}

fn items_of(arrival: Arrival) -> Vec<Item> {
    // What names no account is of the one that its address names.
    let without_key = |content| Item {
        route_key: String::new(),
        content,
    };
    match arrival {
        Arrival::Mail(mail) => items_of_mail(&mail),
        Arrival::Report(report) => items_of_report(report),
        Arrival::Subscription { url, .. } => vec![without_key(Content::Subscription(url))],
        Arrival::Stored { place, recipients } => {
            let item = |recipient| Item {
                route_key: recipient,
                content: Content::StoredMail(place.clone()),
            };
            recipients.into_iter().map(item).collect()
        }
        Arrival::Ignored(what) => vec![without_key(Content::Ignored(what))],
        Arrival::Unreadable(why) => vec![without_key(Content::Unreadable(why))],
    }
}

fn items_of_mail(mail: &Mail) -> Vec<Item> {
    if mail.recipients.is_empty() {
        return vec![Item {
            route_key: String::new(),
            content: message(mail, ""),
        }];
    }
    let item = |recipient: &String| Item {
        route_key: recipient.clone(),
        content: message(mail, recipient),
    };
    mail.recipients.iter().map(item).collect()
}

/// A report, for each account that it may be for: those that are none have no place.
fn items_of_report(mut report: Report) -> Vec<Item> {
    let mut accounts = std::mem::take(&mut report.accounts);
    accounts.retain(|account| !account.is_empty());
    if accounts.is_empty() {
        accounts.push(String::new());
    }
    let of = |account: String| {
        let item = move |content| Item {
            route_key: account.clone(),
            content,
        };
        receipts(&report).into_iter().map(item)
    };
    accounts.into_iter().flat_map(of).collect()
}

/// A mail, as it is for one of those that it was delivered to.
pub fn message(mail: &Mail, recipient: &str) -> Content {
    let envelope = mail.envelope_from.as_deref().unwrap_or_default();
    let (mut from, mut name) = match mail.from.address.as_str() {
        "" => (envelope, mail.from.name.clone()),
        address => (address, mail.from.name.clone()),
    };
    if from == recipient {
        // What is filled in on a page comes from our address, and is the one's whom to answer.
        let mut answers = mail.reply_to.iter();
        let is_other = |to: &&Address| !to.address.is_empty() && to.address != recipient;
        let Some(asks) = answers.find(is_other) else {
            return Content::Ignored("own_mail");
        };
        (from, name) = (&asks.address, asks.name.clone());
    }
    let Some(person) = identifier(from) else {
        return Content::Unreadable("a mail without a sender".to_owned());
    };
    let mut metadata = Metadata::default();
    let mut words = mail.visible.clone();
    let mut message_type = MessageType::Text;
    if words.trim().is_empty() && !mail.parts.is_empty() {
        message_type = MessageType::Document;
        metadata.set("raw_kind", "mail");
    } else if words.trim().is_empty() {
        mail.subject.trim().clone_into(&mut words);
    }
    let parts = mail.parts.iter().map(|part| InboundFile {
        name: part.file_name.clone(),
        content_type: part.content_type.clone(),
        content_id: part.content_id.clone().filter(|_| part.inline),
        source: match &part.url {
            Some(url) => FileSource::Url(url.clone()),
            None => FileSource::Inline(part.content.clone()),
        },
    });
    let mut files: Vec<_> = parts.collect();
    // What the metadata cannot hold is a file.
    let html = mail.html.as_deref().unwrap_or_default();
    if !metadata.keep_text("html", html) {
        files.push(written("message.html", "text/html", html.to_owned()));
    }
    let has_more = mail.text != mail.visible && words.len() <= MAX_TEXT_BYTES;
    if has_more && !metadata.keep_text("full_text", &mail.text) {
        files.push(written("message.txt", "text/plain", mail.text.clone()));
    }
    let words = said(words, message_type, &mut metadata, &mut files);
    metadata.set("from", address_of(&mail.from));
    for (key, people) in [
        ("to", &mail.to),
        ("cc", &mail.cc),
        ("reply_to", &mail.reply_to),
    ] {
        let people: Vec<Value> = people.iter().map(address_of).collect();
        if !people.is_empty() {
            metadata.keep(key, Some(&Value::from(people)));
        }
    }
    metadata.keep_text("subject", &mail.subject);
    if let Some(why) = mail.automatic {
        metadata.set("automatic", why);
    }
    if is_doubtful(mail) {
        metadata.set("unverified_sender", true);
    }
    if mail.verdicts.spam == Verdict::Fail {
        metadata.set("spam", true);
    }
    if mail.verdicts.virus == Verdict::Fail {
        metadata.set("virus", true);
    }
    cut(&mut name, MAX_NAME_BYTES);
    let mut subject = mail.subject.clone();
    cut(&mut subject, MAX_NAME_BYTES / 4);
    Content::Inbound(Inbound::Message(Box::new(InboundMessage {
        provider_id: identifier(&mail.message_id).unwrap_or_default(),
        direction: Direction::Inbound,
        message_type,
        text: words,
        location: None,
        person: Person {
            identifiers: vec![person],
            name,
        },
        reply_to: mail.in_reply_to.first().and_then(|id| identifier(id)),
        at: mail.date,
        metadata: metadata.finish(),
        files,
        thread: Thread {
            key: identifier(&mail.message_id).unwrap_or_default(),
            subject,
            after: before(mail),
            ..Thread::default()
        },
        automatic: mail.automatic.is_some(),
    })))
}

fn address_of(of: &Address) -> Value {
    json!({"address": of.address, "name": of.name})
}

/// What a mail goes on from, the closest first.
fn before(mail: &Mail) -> Vec<String> {
    let references = mail.references.iter().rev();
    let all = mail.in_reply_to.iter().chain(references);
    let mut before: Vec<String> = Vec::new();
    for id in all.take(MOST_REFERENCES).filter_map(|id| identifier(id)) {
        if !before.contains(&id) {
            before.push(id);
        }
    }
    before
}

/// Whether nobody stands for the sender.
fn is_doubtful(mail: &Mail) -> bool {
    let verdicts = mail.verdicts;
    verdicts.dmarc == Verdict::Fail
        || verdicts.spf == Verdict::Fail && verdicts.dkim != Verdict::Pass
}

/// What became of a mail of ours, under each id that it may be known by.
fn receipts(report: &Report) -> Vec<Content> {
    let (status, code, words) = match &report.outcome {
        Outcome::Delivered => (MessageStatus::Delivered, None, None),
        Outcome::Failed {
            permanent: true,
            code,
            words,
        } => {
            let mut words = words.clone();
            cut(&mut words, MAX_NAME_BYTES);
            (MessageStatus::Failed, Some(code.clone()), Some(words))
        }
        // It is tried again.
        Outcome::Failed { .. } => return vec![Content::Ignored("delivery_goes_on")],
        Outcome::Complained => return vec![Content::Ignored("complaint")],
    };
    let ids = [Some(&report.message_id), report.other_id.as_ref()];
    let receipt = |provider_id| {
        Content::Inbound(Inbound::Receipt(Receipt {
            provider_id,
            status,
            at: None,
            failure_code: code.clone(),
            failure_message: words.clone(),
        }))
    };
    let ids = ids.into_iter().flatten().filter_map(|id| identifier(id));
    ids.map(receipt).collect()
}
