//! Reads mail as it travels: a header and parts.

use super::draft::{Block, Draft, SEED_BYTES, part};
use super::header;
use super::mail::{Arrival, Envelope, Part};
use super::parameters::Parameters;
use super::structure::{Node, split};
use super::{charset, transfer};

/// Reads a raw mail. What the envelope does not tell is looked for in the header.
pub fn arrival(raw: &[u8], envelope: Envelope) -> Arrival {
    let raw = without_mailbox_line(raw);
    let mut nodes = match split(raw) {
        Ok(nodes) => nodes,
        Err(reason) => return Arrival::Unreadable(reason),
    };
    let mut gathered = Gathered::default();
    gathered.add(&nodes, 0, Place::default());
    let headers = nodes
        .first_mut()
        .map(|node| std::mem::take(&mut node.headers));
    let body = raw.get(header::head(raw).len()..).unwrap_or_default();
    Draft {
        headers: headers.unwrap_or_default(),
        envelope,
        blocks: gathered.blocks,
        parts: gathered.parts,
        seed: body.get(..SEED_BYTES).unwrap_or(body).to_vec(),
    }
    .arrival()
}

/// A mail without empty lines before it, and without the line that mailboxes put there.
fn without_mailbox_line(raw: &[u8]) -> &[u8] {
    let raw = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
    let raw = raw.trim_ascii_start();
    if raw.starts_with(b"From ") || raw.starts_with(b">From ") {
        return raw.get(header::end_of_line(raw)..).unwrap_or_default();
    }
    raw
}

/// What a part is in.
#[derive(Clone, Copy, Default)]
struct Place {
    /// One of several forms of the same.
    is_alternative: bool,
    /// What the words before it refer to.
    is_related: bool,
    /// Nothing else is there.
    has_company: bool,
}

/// The words and the files of a mail.
#[derive(Default)]
struct Gathered {
    blocks: Vec<Block>,
    parts: Vec<Part>,
}

impl Gathered {
    /// Adds a part and those in it. The depth is bound by the splitting.
    fn add(&mut self, nodes: &[Node<'_>], at: usize, place: Place) {
        let Some(node) = nodes.get(at) else { return };
        if node.children.is_empty() {
            return self.add_leaf(node, place);
        }
        let is_alternative = node.content_type.value == "multipart/alternative";
        let is_related = node.content_type.value == "multipart/related";
        let before = self.blocks.len();
        for (number, child) in node.children.iter().enumerate() {
            let place = Place {
                is_alternative: is_alternative || place.is_alternative && number == 0,
                is_related: is_related && number > 0 || place.is_related && !is_alternative,
                has_company: true,
            };
            self.add(nodes, *child, place);
        }
        if is_alternative {
            let forms = self
                .blocks
                .drain(before..)
                .fold(Block::default(), |mut forms, block| {
                    join(&mut forms.plain, &block.plain);
                    forms.html.push_str(&block.html);
                    forms
                });
            self.blocks.push(forms);
        }
    }

    /// Adds a part without parts.
    fn add_leaf(&mut self, node: &Node<'_>, place: Place) {
        let field = |name: &str| node.headers.get(name).unwrap_or_default();
        let disposition = Parameters::of(field("content-disposition"));
        let content = transfer::decode(field("content-transfer-encoding"), node.body);
        let mut kind = node.content_type.value.as_str();
        if !kind.contains('/') || kind.starts_with("multipart/") {
            // One that could not be split is read as text.
            kind = "text/plain";
        }
        let name = disposition
            .get("filename")
            .or_else(|| node.content_type.get("name"));
        let name = name.unwrap_or_default();
        let is_file = disposition.value == "attachment" || place.has_company && !name.is_empty();
        let is_words = matches!(kind, "text/plain" | "text/html") && !is_file && !place.is_related;
        if is_words {
            let text = charset::decode(node.content_type.plain("charset"), &content);
            self.blocks.push(if kind == "text/html" {
                Block {
                    html: text,
                    ..Block::default()
                }
            } else {
                Block {
                    plain: text,
                    ..Block::default()
                }
            });
            return;
        }
        // Other forms of the same words.
        if place.is_alternative
            && matches!(
                kind,
                "text/x-amp-html" | "text/watch-html" | "text/enriched"
            )
        {
            return;
        }
        let mut part = part(&name, kind, field("content-id"), content);
        part.inline = disposition.value != "attachment";
        self.parts.push(part);
    }
}

/// Puts a text below another.
fn join(text: &mut String, below: &str) {
    if !text.is_empty() && !below.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(below);
}
