//! What `SendGrid` sends: mail by its inbound parse, and events.

use std::collections::HashMap;

use serde_json::Value;

use super::draft::{Block, Draft, part};
use super::form_data::{self, Field};
use super::header::{Headers, head};
use super::mail::{Arrival, Envelope, Outcome, Part, Report, Verdict, Verdicts};
use super::report::{accounts, failed, status};
use super::{charset, mime};
use crate::provider::lenient::{self, id, list, number, text};

/// From which score on a mail is spam.
const SPAM_SCORE: f64 = 5.0;
/// Many more events than `SendGrid` sends at once.
const MAX_EVENTS: usize = 10_000;

/// Reads a webhook: a form with a mail, or a list of events.
///
/// # Errors
/// The body is not of `SendGrid`.
pub fn arrivals(content_type: &str, body: &[u8]) -> Result<Vec<Arrival>, String> {
    if content_type
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("multipart/")
    {
        return Form::of(content_type, body)?
            .mail()
            .map(|arrival| vec![arrival]);
    }
    let body = lenient::json(body)?;
    let events = body.as_array().ok_or("the body is no list of events")?;
    if events.len() > MAX_EVENTS {
        return Err(format!("the body has more than {MAX_EVENTS} events"));
    }
    Ok(events.iter().map(event).collect())
}

/// The form of a mail.
struct Form<'a> {
    fields: Vec<Field<'a>>,
    charsets: Value,
}

impl<'a> Form<'a> {
    /// Splits a form.
    fn of(content_type: &str, body: &'a [u8]) -> Result<Self, String> {
        let mut form = Self {
            fields: form_data::fields(content_type, body)?,
            charsets: Value::Null,
        };
        form.charsets = form.json("charsets");
        Ok(form)
    }

    /// The bytes of a field.
    fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        Some(field.content)
    }

    /// The text of a field in its own charset; missing is empty.
    fn text(&self, name: &str) -> String {
        let label = self.charsets.get(name).and_then(Value::as_str);
        let bytes = self.bytes(name).unwrap_or_default();
        charset::decode(label, bytes)
    }

    /// The JSON of a field; missing or unreadable is null.
    fn json(&self, name: &str) -> Value {
        let bytes = self.bytes(name).unwrap_or_default();
        let text = charset::decode(None, bytes);
        lenient::json(text.as_bytes()).unwrap_or_default()
    }

    /// Reads the mail.
    fn mail(&self) -> Result<Arrival, String> {
        let told = self.json("envelope");
        let envelope = Envelope {
            from: told
                .get("from")
                .and_then(Value::as_str)
                .map(ToOwned::to_owned),
            recipients: recipients(&told),
            verdicts: self.verdicts(),
        };
        if let Some(raw) = self.bytes("email") {
            return Ok(mime::arrival(raw, envelope));
        }
        if self.bytes("headers").is_none() && self.bytes("from").is_none() {
            return Err("the form has neither `email` nor `headers`".to_owned());
        }
        let mut headers = Headers::of(head(self.bytes("headers").unwrap_or_default()));
        for (name, field) in [
            ("From", "from"),
            ("To", "to"),
            ("Cc", "cc"),
            ("Subject", "subject"),
        ] {
            headers.push_missing(name, self.text(field));
        }
        let block = Block {
            plain: self.text("text"),
            html: self.text("html"),
        };
        let draft = Draft {
            seed: [block.plain.as_bytes(), block.html.as_bytes()].concat(),
            parts: self.parts(),
            headers,
            envelope,
            blocks: vec![block],
        };
        Ok(draft.arrival())
    }

    /// The files of the mail.
    fn parts(&self) -> Vec<Part> {
        let told = self.json("attachment-info");
        let content_ids = self.json("content-ids");
        let ids: HashMap<&str, &str> = content_ids
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(id, field)| Some((field.as_str()?, id.as_str())))
            .collect();
        let files = self
            .fields
            .iter()
            .filter_map(|file| Some((file, file.file_name.as_ref()?)));
        files
            .map(|(file, name)| {
                let told = told.get(&file.name).unwrap_or(&Value::Null);
                let first = |path: &str, other: &str| {
                    let told = text(told, path);
                    if told.is_empty() {
                        other.to_owned()
                    } else {
                        told
                    }
                };
                let id = ids.get(file.name.as_str()).copied().unwrap_or_default();
                part(
                    &first("/filename", name),
                    &first("/type", &file.content_type),
                    &first("/content-id", id),
                    file.content.to_vec(),
                )
            })
            .collect()
    }

    /// What `SendGrid` thinks of the mail.
    fn verdicts(&self) -> Verdicts {
        // It looks like JSON: `{@customer.example : pass}`.
        let dkim = self.text("dkim");
        let dkim: Vec<_> = dkim
            .split([',', '{', '}'])
            .filter_map(|result| result.rsplit_once(':'))
            .map(|(_, result)| Verdict::of(result))
            .collect();
        let score = self.text("spam_score").trim().parse::<f64>().ok();
        Verdicts {
            spf: Verdict::of(&self.text("SPF")),
            dkim: [Verdict::Pass, Verdict::Fail]
                .into_iter()
                .find(|verdict| dkim.contains(verdict))
                .unwrap_or_default(),
            spam: match score {
                Some(score) if score >= SPAM_SCORE => Verdict::Fail,
                Some(_) => Verdict::Pass,
                None => Verdict::Unknown,
            },
            ..Verdicts::default()
        }
    }
}

/// Whom a mail was delivered to.
fn recipients(envelope: &Value) -> Vec<String> {
    let to = list(envelope, "/to").iter().filter_map(Value::as_str);
    let to: Vec<String> = to.map(ToOwned::to_owned).collect();
    if to.is_empty() {
        return vec![text(envelope, "/to")];
    }
    to
}

/// Reads what became of a mail of ours.
fn event(event: &Value) -> Arrival {
    let outcome = match text(event, "/event").as_str() {
        "delivered" => Outcome::Delivered,
        "spamreport" => Outcome::Complained,
        "bounce" | "blocked" | "dropped" => failure(event),
        "" => return Arrival::Unreadable("an event without `event`".to_owned()),
        _ => return Arrival::Ignored("other_event"),
    };
    let own = id(event, "/smtp-id").map(|id| id.trim_matches(['<', '>', ' ']).to_owned());
    let metadata = id(event, "/message_id");
    let provider = id(event, "/sg_message_id");
    let mut ids = [own, metadata, provider]
        .into_iter()
        .flatten()
        .filter(|id| !id.is_empty());
    let Some(message_id) = ids.next() else {
        return Arrival::Unreadable("an event without a message id".to_owned());
    };
    Arrival::Report(Report {
        message_id,
        other_id: ids.next(),
        outcome,
        recipient: text(event, "/email").to_lowercase(),
        accounts: accounts([text(event, "/from")]),
    })
}

/// Why a mail of ours did not arrive.
fn failure(event: &Value) -> Outcome {
    let reason = text(event, "/reason");
    let code =
        id(event, "/status").or_else(|| number(event, "/status").map(|code| code.to_string()));
    let code = code.or_else(|| status(&reason)).unwrap_or_default();
    // Whatever kept it from arriving: what is going to be tried again is `deferred`.
    failed(true, code, &reason)
}
