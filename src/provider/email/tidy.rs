//! Brings the tags of HTML into order, in a single pass.
//!
//! Parsing as browsers do takes quadratic time on some inputs: deep nesting, formatting that is
//! never closed, much that does not belong into tables. What comes out of here has only known
//! elements, closes what it opens, and nests cells in rows in tables. It is not safe yet.

use super::plain::BLOCKS;
use super::quote::MARK;
use super::tag::{self, ATTRIBUTES, Tag};

/// The most HTML that is made of a mail, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// How deep elements may be nested; tags beyond are left out.
const MAX_DEPTH: usize = 100;
/// The longest text without a tag, in bytes.
const MAX_RUN_BYTES: usize = 256;
/// The longest name of a letter, with its end.
const MAX_ENTITY: usize = 32;

/// Elements whose content is no text.
const HIDDEN: [&str; 8] = [
    "script", "style", "title", "iframe", "noembed", "noframes", "object", "svg",
];
/// Elements that are kept, besides those without content.
const KEPT: [&str; 56] = [
    "a",
    "abbr",
    "address",
    "article",
    "aside",
    "b",
    "blockquote",
    "center",
    "cite",
    "code",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "i",
    "ins",
    "kbd",
    "li",
    "mark",
    "nav",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "u",
    "ul",
];
/// Elements that have no content.
const EMPTY: [&str; 3] = ["br", "hr", "img"];
/// Brings the tags of HTML into order.
pub fn ordered(html: &str) -> String {
    let mut tidy = Tidy::default();
    tidy.read(html);
    tidy.close_to(0);
    tidy.out
}

/// Brings tags into order.
#[derive(Default)]
struct Tidy {
    out: String,
    open: Vec<&'static str>,
    left_out: usize,
    run_bytes: usize,
}

impl Tidy {
    /// Reads all of it.
    fn read(&mut self, html: &str) {
        let mut rest = html;
        while let Some((text, after)) = rest.split_once('<') {
            self.text(text);
            if self.out.len() > MAX_BYTES {
                return;
            }
            rest = match after.chars().next() {
                Some('!') if after.starts_with("!--") => comment(after),
                Some('!' | '?') => after.split_once('>').map_or("", |(_, rest)| rest),
                Some('/') => self.end_tag(after),
                Some(letter) if letter.is_ascii_alphabetic() => self.start_tag(after),
                _ => {
                    self.text("&lt;");
                    after
                }
            };
        }
        self.text(rest);
    }

    /// Adds text.
    fn text(&mut self, text: &str) {
        if !text.trim().is_empty() {
            self.leave_table();
        }
        let mut pieces = text.split('&');
        self.run(pieces.next().unwrap_or_default());
        for piece in pieces {
            self.end_run();
            self.run_bytes += 1;
            // One that begins no name of a letter takes browsers long.
            self.out
                .push_str(if is_entity(piece) { "&" } else { "&amp;" });
            self.run(piece);
        }
    }

    /// Adds text, in runs that are not too long.
    fn run(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.floor_char_boundary(MAX_RUN_BYTES);
            let (run, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            self.out.push_str(run);
            self.run_bytes += run.len();
            rest = after;
            if !rest.is_empty() {
                self.end_run();
            }
        }
    }

    /// Ends a run of text that is long: written as one it takes quadratic time. The comment is
    /// taken away when the HTML is made safe, and leaves two texts.
    fn end_run(&mut self) {
        if self.run_bytes >= MAX_RUN_BYTES {
            self.out.push_str("<!---->");
            self.run_bytes = 0;
        }
    }

    /// Reads a tag that ends an element, and returns what follows it.
    fn end_tag<'a>(&mut self, after: &'a str) -> &'a str {
        let Some(name) = after.strip_prefix('/') else {
            return after;
        };
        if !name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            return after.split_once('>').map_or("", |(_, rest)| rest);
        }
        let Some(tag) = tag::read(name) else {
            return "";
        };
        if BLOCKS.contains(&tag.name.as_str()) || KEPT.contains(&tag.name.as_str()) {
            self.end(&tag.name);
        }
        tag.rest
    }

    /// Ends an element, and those in it.
    fn end(&mut self, name: &str) {
        if self.left_out > 0 {
            self.left_out -= 1;
            return;
        }
        let is_of_table = is_of_table(name);
        let found = self.open.iter().enumerate().rev();
        let mut found = found.take_while(|(_, open)| {
            **open == name || **open != "table" && (is_of_table || !matches!(**open, "td" | "th"))
        });
        if let Some((at, _)) = found.find(|(_, open)| **open == name) {
            self.close_to(at);
        }
    }

    /// Reads a tag that begins an element, and returns what follows it.
    fn start_tag<'a>(&mut self, after: &'a str) -> &'a str {
        let Some(tag) = tag::read(after) else {
            return "";
        };
        let name = tag.name.as_str();
        if HIDDEN.contains(&name) {
            return content_end(tag.rest, name);
        }
        if tag.is_quote {
            self.leave_table();
            self.out.push(MARK);
        }
        if let Some(name) = EMPTY.iter().find(|other| **other == name) {
            self.leave_table();
            self.write(name, &tag);
        } else if let Some(name) = KEPT.iter().find(|other| **other == name) {
            self.start(name, &tag);
        }
        tag.rest
    }

    /// Begins an element, after ending those that it cannot be in.
    fn start(&mut self, name: &'static str, tag: &Tag<'_>) {
        match name {
            "td" | "th" | "tr" | "tbody" | "thead" => {
                let Some(table) = self.open.iter().rposition(|open| *open == "table") else {
                    return;
                };
                let mut keep = table + 1;
                let parents: &[&str] = match name {
                    "td" | "th" => &["tbody", "thead", "tr"],
                    "tr" => &["tbody", "thead"],
                    _ => &[],
                };
                while self
                    .open
                    .get(keep)
                    .is_some_and(|open| parents.contains(open))
                {
                    keep += 1;
                }
                self.close_to(keep);
                if matches!(name, "td" | "th") && self.open.last() != Some(&"tr") {
                    self.push("tr");
                }
            }
            "li" | "dd" | "dt" => {
                let ends =
                    |open: &&str| matches!(*open, "ul" | "ol" | "dl" | "td" | "th" | "table");
                let list = self.open.iter().rposition(ends);
                let start = list.map_or(0, |list| list + 1);
                let items = self.open.iter().enumerate().skip(start);
                let mut items = items.filter(|(_, open)| matches!(**open, "li" | "dd" | "dt"));
                if let Some((at, _)) = items.next() {
                    self.close_to(at);
                }
                self.leave_table();
            }
            "a" => {
                self.leave_table();
                if let Some(at) = self.open.iter().rposition(|open| *open == "a") {
                    self.close_to(at);
                }
            }
            _ => {
                self.leave_table();
                if BLOCKS.contains(&name) && self.open.last() == Some(&"p") {
                    self.close_to(self.open.len().saturating_sub(1));
                }
            }
        }
        if self.open.len() >= MAX_DEPTH {
            self.left_out += 1;
            if BLOCKS.contains(&name) {
                self.out.push_str("<br>");
            }
            return;
        }
        self.open.push(name);
        self.write(name, tag);
    }

    /// Begins a cell where there is none, as only cells are in a row.
    fn leave_table(&mut self) {
        if self
            .open
            .last()
            .is_some_and(|open| is_of_table(open) && !matches!(*open, "td" | "th"))
        {
            if self.open.last() != Some(&"tr") {
                self.push("tr");
            }
            self.push("td");
        }
    }

    /// Begins an element that was not written.
    fn push(&mut self, name: &'static str) {
        self.open.push(name);
        self.out.extend(["<", name, ">"]);
    }

    /// Ends elements until so many are open.
    fn close_to(&mut self, keep: usize) {
        while self.open.len() > keep {
            if let Some(name) = self.open.pop() {
                self.out.extend(["</", name, ">"]);
            }
        }
    }

    /// Writes a tag.
    fn write(&mut self, name: &str, tag: &Tag<'_>) {
        self.out.extend(["<", name]);
        for name in ATTRIBUTES {
            if let Some(value) = tag.attributes.get(name) {
                let value = value.replace('"', "&quot;");
                self.out.extend([" ", name, "=\"", &value, "\""]);
            }
        }
        self.out.push('>');
    }
}

/// Whether an element is a table or of the frame of one.
fn is_of_table(name: &str) -> bool {
    matches!(name, "table" | "tbody" | "thead" | "tr" | "td" | "th")
}

/// Whether what follows an ampersand names a letter.
fn is_entity(after: &str) -> bool {
    let end = after.bytes().take(MAX_ENTITY).position(|byte| byte == b';');
    let name = end.and_then(|end| after.get(..end)).unwrap_or_default();
    let name = name.strip_prefix('#').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What follows a comment.
fn comment(after: &str) -> &str {
    for empty in ["!-->", "!--->"] {
        if let Some(rest) = after.strip_prefix(empty) {
            return rest;
        }
    }
    after.split_once("-->").map_or("", |(_, rest)| rest)
}

/// What follows the content of an element that is no text.
fn content_end<'a>(html: &'a str, name: &str) -> &'a str {
    let mut rest = html;
    while let Some((_, after)) = rest.split_once("</") {
        if let Some((start, end)) = after.split_at_checked(name.len())
            && start.eq_ignore_ascii_case(name)
            && !end.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        {
            return end.split_once('>').map_or("", |(_, rest)| rest);
        }
        rest = after;
    }
    ""
}
