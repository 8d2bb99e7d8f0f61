//! A mail in pieces, as each road brings them, and how they become a whole.

use std::collections::HashSet;

use super::address::{self, bare, normal, one_line};
use super::automatic::{self, Signs};
use super::header::{self, Headers};
use super::html;
use super::mail::{Address, Arrival, Envelope, Mail, Part};
use super::quote::{self, MARK};
use super::report;
use crate::hex;
use crate::provider::lenient::{self, cut};

/// The longest text that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// The longest HTML that is read, in bytes.
const MAX_HTML_BYTES: usize = 1024 * 1024;
/// The longest subject that is kept, in bytes.
const MAX_SUBJECT_BYTES: usize = 2_000;
/// The longest label of a file, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The most recipients that are looked at.
const MAX_RECIPIENTS: usize = 1_000;
/// How much of a body an id is derived from, in bytes.
pub const SEED_BYTES: usize = 64 * 1024;

/// A stretch of the words of a mail, told in one form or both.
#[derive(Debug, Default)]
pub struct Block {
    /// As text.
    pub plain: String,
    /// As HTML.
    pub html: String,
}

/// A mail in pieces.
#[derive(Debug, Default)]
pub struct Draft {
    /// Its header.
    pub headers: Headers,
    /// What is known of its way here.
    pub envelope: Envelope,
    /// Its words.
    pub blocks: Vec<Block>,
    /// Its files; those that may be shown within the words are marked.
    pub parts: Vec<Part>,
    /// What its id is derived from, besides the header, if it has none.
    pub seed: Vec<u8>,
}

impl Draft {
    /// Reads what arrived.
    pub fn arrival(mut self) -> Arrival {
        self.complete_envelope();
        if let Some(arrival) = report::read(&self) {
            return arrival;
        }
        Arrival::Mail(Box::new(self.mail()))
    }

    /// Looks in the header for what the envelope does not tell.
    fn complete_envelope(&mut self) {
        self.envelope.recipients.truncate(MAX_RECIPIENTS);
        if self.envelope.from.is_none() {
            let path = self.headers.get("return-path");
            self.envelope.from = path.map(ToOwned::to_owned);
        }
        self.envelope
            .recipients
            .retain(|recipient| !bare(recipient).is_empty());
        for names in [["delivered-to", "x-original-to"], ["to", "cc"]] {
            if !self.envelope.recipients.is_empty() {
                return;
            }
            for name in names {
                let fields = self.headers.all(name);
                // As they are written: a plus part has its case.
                let people = fields.flat_map(address::list_as_written);
                self.envelope.recipients.extend(people.take(MAX_RECIPIENTS));
            }
        }
    }

    /// Whom the mail was delivered to, and their plus parts.
    pub fn recipients(&self) -> Vec<(String, Option<String>)> {
        self.envelope
            .recipients
            .iter()
            .map(|address| normal(address))
            .collect()
    }

    /// Who sent the mail by the envelope.
    pub fn envelope_from(&self) -> Option<String> {
        let from = self.envelope.from.as_ref()?;
        Some(bare(from).to_lowercase())
    }

    /// The people in the fields of a name.
    pub fn people(&self, name: &str) -> Vec<Address> {
        let people = self.headers.all(name).flat_map(address::list);
        people.take(MAX_RECIPIENTS).collect()
    }

    /// Who wrote the mail.
    pub fn author(&self) -> Address {
        let mut people = ["from", "sender", "reply-to"]
            .into_iter()
            .flat_map(|name| self.people(name));
        people.next().unwrap_or_else(|| Address {
            address: self.envelope_from().unwrap_or_default(),
            name: String::new(),
        })
    }

    /// Puts the pieces together.
    fn mail(mut self) -> Mail {
        let (mut recipients, mut plus_keys) = (Vec::new(), Vec::new());
        for (recipient, plus_key) in self.recipients() {
            if !recipients.contains(&recipient) {
                recipients.push(recipient);
            }
            plus_keys.extend(plus_key.filter(|key| !plus_keys.contains(key)));
        }
        let (marked, html) = words(&self.blocks);
        let (text, visible) = (quote::without_marks(&marked), quote::visible(&marked));
        let from = self.author();
        let envelope_from = self.envelope_from();
        let message_id = self.message_id(&recipients);
        let automatic = automatic::reason(&Signs {
            headers: &self.headers,
            envelope_from: envelope_from.as_deref(),
            recipients: &recipients,
            from: &from.address,
            message_id: &message_id,
        });
        let mut subject = one_line(&header::words(
            self.headers.get("subject").unwrap_or_default(),
        ));
        cut(&mut subject, MAX_SUBJECT_BYTES);
        let date = self.headers.get("date").and_then(header::date);
        Mail {
            envelope_from,
            recipients,
            plus_keys,
            message_id,
            in_reply_to: self
                .headers
                .ids("in-reply-to")
                .iter()
                .filter_map(|id| lenient::identifier(id))
                .collect(),
            references: self
                .headers
                .ids("references")
                .iter()
                .filter_map(|id| lenient::identifier(id))
                .collect(),
            from,
            to: self.people("to"),
            cc: self.people("cc"),
            bcc: self.people("bcc"),
            reply_to: self.people("reply-to"),
            subject,
            date: date.and_then(lenient::not_ahead),
            text,
            visible,
            html,
            parts: self.take_parts(),
            automatic,
            verdicts: self.envelope.verdicts,
        }
    }

    /// The id of the mail, or one derived from its content.
    fn message_id(&self, recipients: &[String]) -> String {
        let ids = self.headers.get("message-id").map(header::ids);
        let id = ids.into_iter().flatten().next();
        if let Some(id) = id.and_then(|id| lenient::identifier(&id)) {
            return id;
        }
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let recipient = recipients.first().map_or("", String::as_str);
        let field = |name: &str| self.headers.get(name).unwrap_or_default();
        for piece in [recipient, field("from"), field("date"), field("subject")] {
            digest.update(piece.as_bytes());
            digest.update(b"\0");
        }
        let seed = self.seed.get(..SEED_BYTES).unwrap_or(&self.seed);
        digest.update(seed);
        format!("sha256:{}@derived", hex::digits(digest.finish().as_ref()))
    }

    /// The files. Those that the HTML shows are within it, whatever they say of themselves.
    fn take_parts(&mut self) -> Vec<Part> {
        let mut shown = HashSet::new();
        for block in &self.blocks {
            shown.extend(block.html.split("cid:").skip(1).filter_map(|after| {
                let end = |letter: char| {
                    letter.is_whitespace() || matches!(letter, '"' | '\'' | '>' | ')' | '&')
                };
                let id = after.split(end).next()?;
                Some(id.replace("%40", "@").replace("%24", "$"))
            }));
        }
        let mut parts = std::mem::take(&mut self.parts);
        for part in &mut parts {
            part.inline = part
                .content_id
                .as_ref()
                .is_some_and(|id| part.inline || shown.contains(id));
        }
        parts
    }
}

/// The words as text with marks where quotes begin, and as HTML if any are.
fn words(blocks: &[Block]) -> (String, Option<String>) {
    let mut text = String::new();
    let mut html = String::new();
    let mut room = MAX_HTML_BYTES;
    let has_html = blocks.iter().any(|block| !block.html.trim().is_empty());
    for block in blocks {
        let mut source = block.html.clone();
        cut(&mut source, room);
        room = room.saturating_sub(source.len());
        let read = (!source.trim().is_empty()).then(|| html::read(&source));
        let plain = lines(&block.plain);
        if has_html {
            match &read {
                Some(read) => html.push_str(&read.safe),
                None if !plain.trim().is_empty() => html.push_str(&html::of_text(&plain)),
                None => {}
            }
        }
        let words = match read {
            Some(read) if plain.trim().is_empty() => read.text,
            _ => plain,
        };
        if !text.is_empty() && !words.is_empty() {
            text.push('\n');
        }
        text.push_str(&words);
        if cut(&mut text, MAX_TEXT_BYTES) {
            break;
        }
    }
    (text, has_html.then_some(html))
}

/// Text with the ends of lines that we use, and nothing that cannot be kept.
fn lines(text: &str) -> String {
    let mut text = text.to_owned();
    cut(&mut text, MAX_TEXT_BYTES);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.replace(['\0', MARK], "\u{fffd}")
}

/// A file as a road tells of it.
pub fn part(file_name: &str, content_type: &str, content_id: &str, content: Vec<u8>) -> Part {
    let content_type = content_type.split(';').next().unwrap_or_default();
    let mut content_type = one_line(content_type).to_ascii_lowercase();
    if !content_type.contains('/') || content_type.len() > MAX_NAME_BYTES {
        "application/octet-stream".clone_into(&mut content_type);
    }
    let mut file_name = one_line(file_name);
    if file_name.is_empty() {
        match content_type.as_str() {
            "message/rfc822" | "message/global" => "message.eml",
            "text/calendar" => "invite.ics",
            "application/ms-tnef" => "winmail.dat",
            _ => "attachment",
        }
        .clone_into(&mut file_name);
    }
    cut(&mut file_name, MAX_NAME_BYTES);
    let content_id = content_id
        .trim()
        .trim_start_matches('<')
        .trim_end_matches('>');
    let content_id = one_line(content_id);
    Part {
        inline: content_type.starts_with("image/"),
        file_name,
        content_type,
        content_id: lenient::identifier(&content_id),
        content: content.into(),
        url: None,
    }
}
