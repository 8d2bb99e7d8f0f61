//! What Mailgun sends: mail by its routes, and events.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::draft::{Block, Draft, part};
use super::form_data::{self, Field};
use super::header::Headers;
use super::mail::{Arrival, Envelope, Outcome, Part, Report, Verdict, Verdicts};
use super::report::{accounts, failed};
use super::{charset, header, mime};
use crate::provider::form;
use crate::provider::lenient::{self, id, text};

/// The most files of a mail.
const MAX_PARTS: usize = 500;

/// Reads a webhook: a form in either encoding, or JSON.
///
/// # Errors
/// The body is not of Mailgun.
pub fn arrivals(content_type: &str, body: &[u8]) -> Result<Vec<Arrival>, String> {
    let kind = content_type.trim_start().to_ascii_lowercase();
    if kind.starts_with("multipart/") {
        let fields = form_data::fields(content_type, body)?;
        return mail(
            fields
                .iter()
                .map(|field| (field.name.as_str(), Cow::from(field.content))),
            &fields,
        );
    }
    if kind.starts_with("application/json") || body.trim_ascii_start().starts_with(b"{") {
        return event(body).map(|arrival| vec![arrival]);
    }
    let pairs = form::pairs(body).ok_or("the form has too many fields")?;
    let pairs = pairs.into_iter();
    let named: Vec<_> = pairs
        .map(|(name, value)| (charset::decode(None, &name), value))
        .collect();
    mail(
        named
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
        &[],
    )
}

/// The fields of a form that are no files.
struct Form<'a>(Vec<(&'a str, Cow<'a, [u8]>)>);

impl Form<'_> {
    /// The bytes of a field.
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.0.iter();
        let (_, value) = fields.find(|(other, _)| *other == name)?;
        Some(value)
    }

    /// The text of a field; missing is empty.
    fn text(&self, name: &str) -> String {
        self.bytes(name)
            .map_or_else(String::new, |value| charset::decode(None, value))
    }

    /// The JSON of a field; missing or unreadable is null.
    fn json(&self, name: &str) -> Value {
        let value = self.bytes(name).and_then(|value| lenient::json(value).ok());
        value.unwrap_or_default()
    }
}

/// Reads a mail.
fn mail<'a>(
    fields: impl Iterator<Item = (&'a str, Cow<'a, [u8]>)>,
    files: &[Field<'_>],
) -> Result<Vec<Arrival>, String> {
    let form = Form(fields.collect());
    if form.bytes("recipient").is_none() {
        return Err("the form has no `recipient`".to_owned());
    }
    let mut headers = Headers::default();
    for pair in lenient::list(&form.json("message-headers"), "") {
        headers.push(&text(pair, "/0"), text(pair, "/1"));
    }
    let mut envelope = Envelope {
        from: form.bytes("sender").map(|_| form.text("sender")),
        recipients: form
            .text("recipient")
            .split(',')
            .map(ToOwned::to_owned)
            .collect(),
        verdicts: verdicts(&headers),
    };
    if let Some(raw) = form.bytes("body-mime") {
        envelope.verdicts = verdicts(&Headers::of(header::head(raw)));
        return Ok(vec![mime::arrival(raw, envelope)]);
    }
    for (name, field) in [
        ("From", "from"),
        ("From", "From"),
        ("To", "To"),
        ("Cc", "Cc"),
        ("Subject", "subject"),
        ("Date", "Date"),
        ("Message-Id", "Message-Id"),
        ("In-Reply-To", "In-Reply-To"),
        ("References", "References"),
    ] {
        headers.push_missing(name, form.text(field));
    }
    let first = |names: [&str; 2]| {
        let mut texts = names.into_iter().map(|name| form.text(name));
        texts
            .find(|text| !text.trim().is_empty())
            .unwrap_or_default()
    };
    let mut block = Block {
        plain: form.text("body-plain"),
        html: first(["body-html", "stripped-html"]),
    };
    if block.plain.trim().is_empty() && block.html.is_empty() {
        block.plain = form.text("stripped-text");
    }
    let content_id_map = form.json("content-id-map");
    let content_ids = by_place(&content_id_map);
    let draft = Draft {
        seed: [block.plain.as_bytes(), block.html.as_bytes()].concat(),
        parts: [
            parts(&content_ids, files),
            kept_parts(&content_ids, &form.json("attachments")),
        ]
        .concat(),
        headers,
        envelope,
        blocks: vec![block],
    };
    Ok(vec![draft.arrival()])
}

/// The files of a mail.
fn parts(ids: &HashMap<&str, &str>, files: &[Field<'_>]) -> Vec<Part> {
    let files = files
        .iter()
        .filter_map(|file| Some((file, file.file_name.as_ref()?)));
    files
        .map(|(file, name)| {
            let id = ids.get(file.name.as_str()).copied().unwrap_or_default();
            part(name, &file.content_type, id, file.content.to_vec())
        })
        .collect()
}

/// The files of a mail that Mailgun keeps.
fn kept_parts(ids: &HashMap<&str, &str>, files: &Value) -> Vec<Part> {
    let files = lenient::list(files, "").iter().filter_map(|file| {
        let url = id(file, "/url")?;
        let content_id = ids.get(url.as_str()).copied().unwrap_or_default();
        let (name, kind) = (text(file, "/name"), text(file, "/content-type"));
        Some(Part {
            url: Some(url.clone()),
            ..part(&name, &kind, content_id, Vec::new())
        })
    });
    files.take(MAX_PARTS).collect()
}

/// By what the HTML shows files, by the fields or addresses that hold them.
fn by_place(content_ids: &Value) -> HashMap<&str, &str> {
    let ids = content_ids.as_object().into_iter().flatten();
    ids.filter_map(|(id, place)| Some((place.as_str()?, id.as_str())))
        .collect()
}

/// What Mailgun thinks of a mail.
fn verdicts(headers: &Headers) -> Verdicts {
    let field = |name: &str| headers.get(name).unwrap_or_default();
    Verdicts {
        spf: Verdict::of(field("x-mailgun-spf")),
        dkim: Verdict::of(field("x-mailgun-dkim-check-result")),
        spam: Verdict::of_flag(field("x-mailgun-sflag")),
        ..Verdicts::default()
    }
}

/// Reads what became of a mail of ours.
fn event(body: &[u8]) -> Result<Arrival, String> {
    let body = lenient::json(body)?;
    let event = body
        .get("event-data")
        .ok_or("the body has no `event-data`")?;
    let outcome = match text(event, "/event").as_str() {
        "delivered" => Outcome::Delivered,
        "complained" => Outcome::Complained,
        "failed" | "rejected" => failure(event),
        _ => return Ok(Arrival::Ignored("other_event")),
    };
    let own = id(event, "/message/headers/message-id");
    let own = own.map(|id| id.trim_matches(['<', '>']).to_owned());
    let metadata = id(event, "/user-variables/message_id");
    let Some(message_id) = own.clone().or_else(|| metadata.clone()) else {
        return Ok(Arrival::Unreadable(
            "an event without `message-id`".to_owned(),
        ));
    };
    Ok(Arrival::Report(Report {
        message_id,
        other_id: metadata.filter(|_| own.is_some()),
        outcome,
        recipient: text(event, "/recipient").to_lowercase(),
        accounts: accounts([
            text(event, "/envelope/sender"),
            text(event, "/message/headers/from"),
        ]),
    }))
}

/// Why a mail of ours did not arrive.
fn failure(event: &Value) -> Outcome {
    let status = [
        "/delivery-status/enhanced-code",
        "/delivery-status/code",
        "/reason",
    ];
    let code = status.into_iter().find_map(|path| id(event, path));
    let words = [
        "/delivery-status/message",
        "/delivery-status/description",
        "/reject/reason",
        "/reason",
    ];
    let words = words.map(|path| text(event, path));
    let words = words.into_iter().find(|words| !words.is_empty());
    failed(
        text(event, "/severity") != "temporary",
        code.unwrap_or_default(),
        &words.unwrap_or_default(),
    )
}
