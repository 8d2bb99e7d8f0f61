//! What Amazon SES sends through SNS: mail, and events.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::address::normal;
use super::header;
use super::mail::{Arrival, Envelope, Outcome, Report, StoredMail, Verdict, Verdicts};
use super::report::{accounts, failed, status};
use super::{mime, transfer};
use crate::provider::lenient::{self, id, list, text};

/// The most recipients, or fields of a header, that are looked at.
const MAX_ITEMS: usize = 1_000;

/// Reads a notification of SNS, or what it holds where that is sent bare. Whether it is signed by
/// SNS and of a topic of ours is not asked here.
///
/// # Errors
/// The body is no JSON, or not of SNS.
pub fn arrivals(body: &[u8]) -> Result<Vec<Arrival>, String> {
    let body = lenient::json(body)?;
    if kind(&body).is_some() {
        return Ok(message(&body, ""));
    }
    match text(&body, "/Type").as_str() {
        "SubscriptionConfirmation" => Ok(vec![Arrival::Subscription {
            topic: text(&body, "/TopicArn"),
            url: text(&body, "/SubscribeURL"),
        }]),
        "UnsubscribeConfirmation" => Ok(vec![Arrival::Ignored("unsubscribed")]),
        "Notification" => {
            let inner = text(&body, "/Message");
            // SES tries a topic with plain words.
            let inner = lenient::json(inner.as_bytes()).unwrap_or_default();
            Ok(message(&inner, &text(&body, "/TopicArn")))
        }
        _ => Err("`Type` is none of SNS".to_owned()),
    }
}

/// What a message of SES is.
fn kind(message: &Value) -> Option<String> {
    let kinds = ["/notificationType", "/eventType"].map(|path| text(message, path));
    kinds.into_iter().find(|kind| !kind.is_empty())
}

/// A notification of a mail that is kept elsewhere, with the mail in it, as if SES had sent it so;
/// `None` if it is no such notification.
pub fn completed(body: &[u8], mail: &[u8]) -> Option<Vec<u8>> {
    let body = lenient::json(body).ok()?;
    let mut message = lenient::json(text(&body, "/Message").as_bytes()).ok()?;
    let action = message.pointer_mut("/receipt/action")?.as_object_mut()?;
    action.insert("encoding".to_owned(), "BASE64".into());
    let content = BASE64_STANDARD.encode(mail);
    (message.as_object_mut()?).insert("content".to_owned(), content.into());
    serde_json::to_vec(&message).ok()
}

/// Reads a message of SES, which a topic sent.
fn message(message: &Value, topic: &str) -> Vec<Arrival> {
    let Some(kind) = kind(message) else {
        return vec![Arrival::Ignored("other_message")];
    };
    match kind.as_str() {
        "Received" => vec![received(message, topic)],
        "Bounce" => bounce(message),
        "Complaint" => complaint(message),
        "Delivery" => {
            let people = list(message, "/delivery/recipients").iter().take(MAX_ITEMS);
            let people = people.filter_map(Value::as_str);
            people
                .map(|address| report(message, address, Outcome::Delivered))
                .collect()
        }
        "Reject" => to_all(
            message,
            &failed(true, "Reject".to_owned(), &text(message, "/reject/reason")),
        ),
        "Rendering Failure" => {
            let words = text(message, "/failure/errorMessage");
            to_all(
                message,
                &failed(true, "RenderingFailure".to_owned(), &words),
            )
        }
        _ => vec![Arrival::Ignored("other_event")],
    }
}

/// Reads a mail, or where it is.
fn received(message: &Value, topic: &str) -> Arrival {
    let addresses = |path: &str| -> Vec<String> {
        let people = list(message, path).iter().filter_map(Value::as_str);
        people.map(ToOwned::to_owned).collect()
    };
    let mut recipients = addresses("/receipt/recipients");
    if recipients.is_empty() {
        recipients = addresses("/mail/destination");
    }
    let verdict = |path: &str| Verdict::of(&text(message, path));
    let envelope = Envelope {
        from: message
            .pointer("/mail/source")
            .and_then(Value::as_str)
            .map(ToOwned::to_owned),
        recipients,
        verdicts: Verdicts {
            spf: verdict("/receipt/spfVerdict/status"),
            dkim: verdict("/receipt/dkimVerdict/status"),
            dmarc: verdict("/receipt/dmarcVerdict/status"),
            spam: verdict("/receipt/spamVerdict/status"),
            virus: verdict("/receipt/virusVerdict/status"),
        },
    };
    let Some(content) = message.get("content").and_then(Value::as_str) else {
        return stored(message, topic, &envelope.recipients);
    };
    let encoding = text(message, "/receipt/action/encoding");
    let is_base64 = encoding.eq_ignore_ascii_case("base64")
        || encoding.is_empty() && !content.contains([':', ' ']);
    if is_base64 {
        mime::arrival(&transfer::base64(content.as_bytes()), envelope)
    } else {
        mime::arrival(content.as_bytes(), envelope)
    }
}

/// Reads where a mail is that did not come with its notification: that has at most 150 KB.
fn stored(message: &Value, topic: &str, recipients: &[String]) -> Arrival {
    let [bucket, key] =
        ["bucketName", "objectKey"].map(|name| id(message, &format!("/receipt/action/{name}")));
    let mut people: Vec<String> = Vec::new();
    for recipient in recipients.iter().take(MAX_ITEMS) {
        let (recipient, _) = normal(recipient);
        if !recipient.is_empty() && !people.contains(&recipient) {
            people.push(recipient);
        }
    }
    match (bucket, key) {
        (Some(bucket), Some(key)) if !topic.is_empty() && !people.is_empty() => Arrival::Stored {
            place: StoredMail {
                topic: topic.to_owned(),
                bucket,
                key,
            },
            recipients: people,
        },
        _ => Arrival::Unreadable("the mail is kept elsewhere".to_owned()),
    }
}

/// Reads for whom a mail of ours did not arrive.
fn bounce(message: &Value) -> Vec<Arrival> {
    let is_general = text(message, "/bounce/bounceType") == "Transient"
        && text(message, "/bounce/bounceSubType") == "General";
    let people = list(message, "/bounce/bouncedRecipients")
        .iter()
        .take(MAX_ITEMS);
    people
        .map(|person| {
            let words = text(person, "/diagnosticCode");
            let code = id(person, "/status").or_else(|| status(&words));
            // SES has given up, whatever the kind is called; but the answer of an absent person
            // comes as such a bounce, too, and has no code.
            let permanent = !is_general || code.is_some();
            let code = code.unwrap_or_else(|| text(message, "/bounce/bounceSubType"));
            report(
                message,
                &text(person, "/emailAddress"),
                failed(permanent, code, &words),
            )
        })
        .collect()
}

/// Reads who calls a mail of ours spam.
fn complaint(message: &Value) -> Vec<Arrival> {
    if text(message, "/complaint/complaintFeedbackType") == "not-spam" {
        return vec![Arrival::Ignored("not_spam")];
    }
    let people = list(message, "/complaint/complainedRecipients")
        .iter()
        .take(MAX_ITEMS);
    people
        .map(|person| report(message, &text(person, "/emailAddress"), Outcome::Complained))
        .collect()
}

/// The same for all whom a mail of ours went to.
fn to_all(message: &Value, outcome: &Outcome) -> Vec<Arrival> {
    let people = list(message, "/mail/destination")
        .iter()
        .take(MAX_ITEMS)
        .filter_map(Value::as_str);
    people
        .map(|address| report(message, address, outcome.clone()))
        .collect()
}

/// What became of a mail of ours for one recipient.
fn report(message: &Value, recipient: &str, outcome: Outcome) -> Arrival {
    let provider = id(message, "/mail/messageId");
    let headers = list(message, "/mail/headers").iter().take(MAX_ITEMS);
    let mut headers =
        headers.filter(|header| text(header, "/name").eq_ignore_ascii_case("message-id"));
    let own = headers.next().map(|header| text(header, "/value"));
    let own = own.unwrap_or_else(|| text(message, "/mail/commonHeaders/messageId"));
    let own = header::ids(&own).into_iter().next();
    let metadata = id(message, "/mail/tags/message_id/0");
    let mut ids = [own, metadata, provider].into_iter().flatten();
    let Some(message_id) = ids.next() else {
        return Arrival::Unreadable("an event without `messageId`".to_owned());
    };
    Arrival::Report(Report {
        message_id,
        other_id: ids.next(),
        outcome,
        recipient: super::address::bare(recipient).to_lowercase(),
        accounts: accounts([
            text(message, "/mail/source"),
            text(message, "/mail/commonHeaders/from/0"),
        ]),
    })
}
