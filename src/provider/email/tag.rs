//! Reads a tag of HTML as browsers do, and keeps of it what is of use.

use std::collections::HashMap;

/// The longest attribute that is kept, in bytes.
const MAX_ATTRIBUTE_BYTES: usize = 4096;
/// The longest name of an element that is known, in bytes.
const MAX_NAME_BYTES: usize = 20;
/// Attributes that are kept.
pub const ATTRIBUTES: [&str; 9] = [
    "href", "src", "alt", "title", "width", "height", "align", "colspan", "rowspan",
];

/// A tag as it is written.
pub struct Tag<'a> {
    /// The element, in lower case.
    pub name: String,
    /// The attributes of use.
    pub attributes: HashMap<&'static str, String>,
    /// Whether a quote begins with it.
    pub is_quote: bool,
    /// What follows it.
    pub rest: &'a str,
}

/// Reads a tag from its name on; `None` if it never ends.
pub fn read(html: &str) -> Option<Tag<'_>> {
    let is_end = |letter: char| letter.is_ascii_whitespace() || matches!(letter, '/' | '>');
    let (name, mut rest) = html.split_at_checked(html.find(is_end)?)?;
    let mut tag = Tag {
        name: if name.len() > MAX_NAME_BYTES {
            String::new()
        } else {
            name.to_ascii_lowercase()
        },
        attributes: HashMap::new(),
        is_quote: false,
        rest: "",
    };
    loop {
        rest =
            rest.trim_start_matches(|letter: char| letter.is_ascii_whitespace() || letter == '/');
        if let Some(rest) = rest.strip_prefix('>') {
            tag.rest = rest;
            return Some(tag);
        }
        let end = |letter: char| is_end(letter) || letter == '=';
        // An equals sign at the beginning belongs to the name.
        let skip = rest.chars().next()?.len_utf8();
        let end = rest.get(skip..)?.find(end)? + skip;
        let (name, after) = rest.split_at_checked(end)?;
        rest = after.trim_ascii_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = attribute_value(after.trim_ascii_start())?;
        }
        tag.add(name, value);
    }
}

/// Reads the value of an attribute, and what follows it; `None` if it never ends.
fn attribute_value(html: &str) -> Option<(&str, &str)> {
    for quote in ['"', '\''] {
        if let Some(value) = html.strip_prefix(quote) {
            return value.split_once(quote);
        }
    }
    let end = html.find(|letter: char| letter.is_ascii_whitespace() || letter == '>')?;
    html.split_at_checked(end)
}

impl Tag<'_> {
    /// Adds an attribute, if it is one of use.
    fn add(&mut self, name: &str, value: &str) {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("class") || is("id") {
            self.is_quote |= value.split_ascii_whitespace().take(20).any(begins_quote);
        } else if is("type") && self.name == "blockquote" && value.eq_ignore_ascii_case("cite") {
            self.is_quote = true;
        }
        if value.len() > MAX_ATTRIBUTE_BYTES {
            return;
        }
        if let Some(name) = ATTRIBUTES.iter().find(|other| is(other)) {
            self.attributes
                .entry(name)
                .or_insert_with(|| value.to_owned());
        }
    }
}

/// Whether a class or an id is what mail programs put where a quote begins.
fn begins_quote(word: &str) -> bool {
    let word = word.trim_start_matches("x_");
    matches!(
        word,
        "gmail_quote"
            | "gmail_quote_container"
            | "divRplyFwdMsg"
            | "appendonsend"
            | "yahoo_quoted"
            | "moz-cite-prefix"
            | "protonmail_quote"
            | "tutanota_quote"
            | "OLK_SRC_BODY_SECTION"
    )
}
