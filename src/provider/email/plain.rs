//! Reads the words of safe HTML, with the lines that a reader sees.

use super::quote::MARK;

/// How many signs tell how often something was quoted.
const MAX_QUOTES: usize = 10;
/// Elements that begin and end a line.
pub const BLOCKS: [&str; 33] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
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
    "hr",
    "li",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "thead",
    "tr",
    "ul",
];
/// The words of safe HTML.
pub fn text(html: &str) -> String {
    let mut words = Words::default();
    let mut rest = html;
    while let Some((text, after)) = rest.split_once('<') {
        words.add(text);
        let Some((tag, after)) = after.split_once('>') else {
            break;
        };
        rest = after;
        words.tag(tag);
    }
    words.add(rest);
    words.finish()
}

/// Gathers the lines of a text.
#[derive(Default)]
struct Words {
    out: String,
    line: String,
    quotes: usize,
    blank: bool,
    pre: usize,
}

impl Words {
    /// Adds text. White space is one blank, but where it is told to be kept.
    fn add(&mut self, text: &str) {
        let text = text
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&nbsp;", "\u{a0}")
            .replace("&quot;", "\"")
            .replace("&amp;", "&");
        for letter in text.chars() {
            match letter {
                MARK => {
                    self.end_line();
                    self.line.push(MARK);
                    self.end_line();
                }
                '\n' if self.pre > 0 => self.break_line(),
                '\u{200b}' | '\u{feff}' | '\u{ad}' => {}
                _ if self.pre > 0 => self.line.push(letter),
                // Between blocks they mean nothing; a hard one may be all that there is.
                '\u{a0}' => self.line.push(' '),
                _ if letter.is_ascii_whitespace() => {
                    if !self.line.is_empty() && !self.line.ends_with(' ') {
                        self.line.push(' ');
                    }
                }
                _ => self.line.push(letter),
            }
        }
    }

    /// Does what a tag means.
    fn tag(&mut self, tag: &str) {
        let (name, is_end) = match tag.strip_prefix('/') {
            Some(name) => (name, true),
            None => (tag.split(' ').next().unwrap_or_default(), false),
        };
        if BLOCKS.contains(&name) {
            self.end_line();
        }
        match (name, is_end) {
            ("br", false) => self.break_line(),
            ("p" | "ul" | "ol" | "table" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "pre", _) => {
                self.blank = true;
            }
            ("blockquote", false) => self.quotes += 1,
            ("blockquote", true) => self.quotes = self.quotes.saturating_sub(1),
            ("li", false) => self.line.push_str("* "),
            ("td" | "th", true) if !self.line.is_empty() => self.line.push(' '),
            ("img", false) => self.image(tag),
            _ => {}
        }
        if name == "pre" {
            self.pre = if is_end {
                self.pre.saturating_sub(1)
            } else {
                self.pre + 1
            };
        }
    }

    /// Tells what an image shows, if its author did.
    fn image(&mut self, tag: &str) {
        let Some((_, after)) = tag.split_once(" alt=\"") else {
            return;
        };
        if let Some((alt, _)) = after.split_once('"') {
            self.add(alt);
        }
    }

    /// Ends a line, if one has begun.
    fn end_line(&mut self) {
        if !self.line.trim().is_empty() {
            self.break_line();
        }
        self.line.clear();
    }

    /// Ends a line, even an empty one.
    fn break_line(&mut self) {
        let quotes = ">".repeat(self.quotes.min(MAX_QUOTES));
        if self.blank && !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.extend([quotes.as_str(), "\n"]);
        }
        self.blank = false;
        let line = self.line.trim_end();
        self.out.push_str(&quotes);
        if !quotes.is_empty() && !line.is_empty() {
            self.out.push(' ');
        }
        self.out.extend([line, "\n"]);
        self.line.clear();
    }

    /// The whole text.
    fn finish(mut self) -> String {
        self.end_line();
        self.out
    }
}
