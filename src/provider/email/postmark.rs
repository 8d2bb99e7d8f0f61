//! What Postmark sends.

use serde_json::Value;

use super::draft::{Block, Draft, part};
use super::header::Headers;
use super::mail::{Arrival, Envelope, Outcome, Report, Verdict, Verdicts};
use super::report::{accounts, failed, status};
use super::{mime, transfer};
use crate::provider::lenient::{self, id, list, text};

/// Reads a webhook.
///
/// # Errors
/// The body is no JSON, or not of Postmark.
pub fn arrivals(body: &[u8]) -> Result<Vec<Arrival>, String> {
    let body = lenient::json(body)?;
    if !body.is_object() {
        return Err("the body is no object".to_owned());
    }
    let kind = text(&body, "/RecordType");
    let arrival = match kind.as_str() {
        "" | "Inbound" => inbound(&body)?,
        "Delivery" => event(&body, Outcome::Delivered),
        "SpamComplaint" => event(&body, Outcome::Complained),
        "Bounce" => bounce(&body),
        _ => Arrival::Ignored("other_event"),
    };
    Ok(vec![arrival])
}

/// Reads a mail.
fn inbound(body: &Value) -> Result<Arrival, String> {
    if body.get("From").is_none() && body.get("Headers").is_none() && body.get("RawEmail").is_none()
    {
        return Err("the body has neither `RecordType` nor `From`".to_owned());
    }
    let mut headers = Headers::default();
    for header in list(body, "/Headers") {
        headers.push(&text(header, "/Name"), text(header, "/Value"));
    }
    let envelope = Envelope {
        from: headers.get("return-path").map(ToOwned::to_owned),
        recipients: recipients(body),
        verdicts: verdicts(&headers),
    };
    let raw = text(body, "/RawEmail");
    if !raw.is_empty() {
        return Ok(mime::arrival(raw.as_bytes(), envelope));
    }
    headers.push_missing("From", from(body));
    for (name, path) in [
        ("To", "/To"),
        ("Cc", "/Cc"),
        ("Reply-To", "/ReplyTo"),
        ("Subject", "/Subject"),
        ("Date", "/Date"),
    ] {
        headers.push_missing(name, text(body, path));
    }
    let block = Block {
        plain: text(body, "/TextBody"),
        html: text(body, "/HtmlBody"),
    };
    let parts = list(body, "/Attachments").iter().map(|file| {
        let content = match file.get("Content") {
            Some(content) => content.as_str(),
            // As the test of their console has it.
            None => file.get("Data").and_then(Value::as_str),
        };
        part(
            &text(file, "/Name"),
            &text(file, "/ContentType"),
            &text(file, "/ContentID"),
            transfer::base64(content.unwrap_or_default().as_bytes()),
        )
    });
    let parts = parts.collect();
    let seed = [block.plain.as_bytes(), block.html.as_bytes()].concat();
    let draft = Draft {
        headers,
        envelope,
        blocks: vec![block],
        parts,
        seed,
    };
    Ok(draft.arrival())
}

/// Who wrote a mail, as a header says it.
fn from(body: &Value) -> String {
    let (name, address) = (text(body, "/FromFull/Name"), text(body, "/FromFull/Email"));
    if address.is_empty() {
        return text(body, "/From");
    }
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{name}\" <{address}>")
}

/// Whom a mail was delivered to.
fn recipients(body: &Value) -> Vec<String> {
    let original = text(body, "/OriginalRecipient");
    if !original.is_empty() {
        return original.split(',').map(ToOwned::to_owned).collect();
    }
    let lists = ["/ToFull", "/CcFull", "/BccFull"].into_iter();
    let people = lists.flat_map(|path| list(body, path));
    people.map(|person| text(person, "/Email")).collect()
}

/// What Postmark thinks of a mail.
fn verdicts(headers: &Headers) -> Verdicts {
    let field = |name: &str| headers.get(name).unwrap_or_default();
    Verdicts {
        spf: Verdict::of(field("received-spf")),
        spam: Verdict::of_flag(field("x-spam-status")),
        ..Verdicts::default()
    }
}

/// What became of a mail of ours.
fn event(body: &Value, outcome: Outcome) -> Arrival {
    let metadata = id(body, "/Metadata/message_id");
    let own = id(body, "/MessageID");
    let Some(message_id) = metadata.clone().or_else(|| own.clone()) else {
        return Arrival::Unreadable("an event without `MessageID`".to_owned());
    };
    let recipient = ["/Recipient", "/Email"].map(|path| text(body, path));
    let recipient = recipient.into_iter().find(|address| !address.is_empty());
    Arrival::Report(Report {
        message_id,
        other_id: own.filter(|_| metadata.is_some()),
        outcome,
        recipient: recipient.unwrap_or_default().to_lowercase(),
        accounts: accounts([text(body, "/From")]),
    })
}

/// Reads why a mail of ours did not arrive.
fn bounce(body: &Value) -> Arrival {
    let kind = text(body, "/Type");
    let details = text(body, "/Details");
    let code = status(&details);
    let is_temporary = code.as_ref().is_some_and(|code| code.starts_with('4'));
    let permanent = match kind.as_str() {
        "SpamComplaint" => return event(body, Outcome::Complained),
        "HardBounce"
        | "BadEmailAddress"
        | "ManuallyDeactivated"
        | "Unconfirmed"
        | "InboundError"
        | "TemplateRenderingFailed" => true,
        "Blocked" | "SpamNotification" | "DMARCPolicy" | "VirusNotification" => !is_temporary,
        "SoftBounce" | "Transient" | "DnsError" | "SMTPApiError" | "Undeliverable" | "Unknown" => {
            false
        }
        "AutoResponder"
        | "AddressChange"
        | "ChallengeVerification"
        | "OpenRelayTest"
        | "Subscribe"
        | "Unsubscribe" => return Arrival::Ignored("answer_of_a_machine"),
        _ => {
            !is_temporary
                && text(body, "/Inactive").is_empty()
                && body.get("Inactive") == Some(&Value::Bool(true))
        }
    };
    let words = [text(body, "/Description"), details].join(" ");
    event(body, failed(permanent, code.unwrap_or(kind), &words))
}
