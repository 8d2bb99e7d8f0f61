//! Tells what a person wrote from what was quoted and from the signature, line by line.

use super::quote_words::{ENDS, FIELDS, FORWARDS, INTRODUCTIONS, ORIGINALS, SENDERS, SENT_FROM};

/// Stands where a quote begins in what was HTML. It is no character, so no text has it.
pub const MARK: char = '\u{fdd0}';

/// The longest line that may introduce a quote, in bytes.
const MAX_INTRODUCTION: usize = 500;
/// Over how many lines an introduction may be folded.
const MAX_FOLDS: usize = 3;
/// Within how many lines the fields of a quoted header are.
const HEADER_LINES: usize = 8;
/// How many lines may follow a line such as "Sent from my phone".
const LINES_AFTER_SENT_FROM: usize = 2;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing is on it.
    Blank,
    /// It begins with `>`.
    Quoted,
    /// The mark of the HTML that a quote begins.
    Mark,
    /// Anything else.
    Words,
}

/// The words of a text without what it quotes and without signature; all of it if nothing else is
/// left, or if it answers between the lines.
pub fn visible(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let kinds: Vec<Line> = lines.iter().map(|line| kind(line)).collect();
    let end = Trimmer::new(&lines, &kinds).end();
    let end = signature(&lines, &kinds, end).unwrap_or(end);
    let kept = join(&lines, end);
    if kept.is_empty() || is_forward(&kept) {
        join(&lines, lines.len())
    } else {
        kept
    }
}

/// Whether a text says only that a mail is forwarded.
fn is_forward(text: &str) -> bool {
    let words = text.trim_matches(|letter: char| !letter.is_alphanumeric());
    FORWARDS.contains(&words.to_lowercase().as_str())
}

/// A text without the marks of its HTML.
pub fn without_marks(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    join(&lines, lines.len())
}

/// Joins the first lines, without marks and without the empty ones around them.
fn join(lines: &[&str], end: usize) -> String {
    let mut text = String::new();
    for line in lines.iter().take(end) {
        if !is_mark(line) {
            text.push_str(line);
            text.push('\n');
        }
    }
    let text = text.trim_end();
    text.trim_start_matches(['\n', '\r']).to_owned()
}

/// What a line is.
fn kind(line: &str) -> Line {
    if line.is_empty() {
        return Line::Blank;
    }
    let line = line.trim();
    if line.is_empty() {
        Line::Blank
    } else if is_mark(line) {
        Line::Mark
    } else if line.starts_with('>') {
        Line::Quoted
    } else {
        Line::Words
    }
}
/// Whether a line is a mark and nothing else.
fn is_mark(line: &str) -> bool {
    line.ends_with(MARK) && line.trim_start_matches(['>', ' ']).chars().eq([MARK])
}

/// Finds where what is quoted begins.
struct Trimmer<'a> {
    lines: &'a [&'a str],
    kinds: &'a [Line],
    /// For each line, the first from it on that is neither empty nor a mark.
    next: Vec<usize>,
    /// From which line on nothing but quotes and a signature follow.
    quotes_from: usize,
}

impl<'a> Trimmer<'a> {
    fn new(lines: &'a [&'a str], kinds: &'a [Line]) -> Self {
        let mut next = vec![lines.len(); lines.len() + 1];
        for (at, kind) in kinds.iter().enumerate().rev() {
            let after = next.get(at + 1).copied().unwrap_or(lines.len());
            if let Some(next) = next.get_mut(at) {
                *next = if matches!(kind, Line::Blank | Line::Mark) {
                    after
                } else {
                    at
                };
            }
        }
        let end = signature(lines, kinds, lines.len()).unwrap_or(lines.len());
        let words = kinds
            .iter()
            .take(end)
            .rposition(|kind| *kind == Line::Words);
        Self {
            lines,
            kinds,
            next,
            quotes_from: words.map_or(0, |words| words + 1),
        }
    }

    /// The line at which what is kept ends.
    fn end(&self) -> usize {
        let mut at = 0;
        while at < self.lines.len() {
            if let Some(end) = self.end_at(at) {
                return end;
            }
            at += 1;
        }
        self.lines.len()
    }

    /// If a quote begins at a line: that line, or the end of the text if words follow the quote.
    fn end_at(&self, at: usize) -> Option<usize> {
        let kind = self.kinds.get(at)?;
        let line = self.lines.get(at)?;
        let whole = self.lines.len();
        match kind {
            Line::Blank => None,
            Line::Quoted => {
                let is_last = at >= self.quotes_from;
                // One sign may be a comparison.
                let is_quote = line.trim_start().trim_start_matches('>').starts_with(' ')
                    || line.trim().chars().all(|letter| letter == '>');
                if is_last {
                    is_quote.then_some(at)
                } else {
                    Some(whole)
                }
            }
            Line::Mark => {
                let start = self.next(at + 1);
                Some(self.hard(at, start + self.introduction(start).unwrap_or(0)))
            }
            Line::Words => {
                if let Some(length) = self.introduction(at) {
                    let start = self.next(at + length);
                    return match self.kinds.get(start) {
                        None => Some(at),
                        Some(Line::Quoted) if start >= self.quotes_from => Some(at),
                        Some(Line::Quoted) => Some(whole),
                        Some(_) => None,
                    };
                }
                if is_original(line) {
                    let start = self.next(at + 1);
                    return Some(self.hard(at, start + self.header(start).unwrap_or(0)));
                }
                let block = if is_rule(line) { self.next(at + 1) } else { at };
                let length = self.header(block)?;
                Some(self.hard(at, block + length))
            }
        }
    }

    /// Where to cut before a quote whose lines need no `>`. If they have it, none may be without.
    fn hard(&self, at: usize, start: usize) -> usize {
        let start = self.next(start);
        if self.kinds.get(start) == Some(&Line::Quoted) && start < self.quotes_from {
            self.lines.len()
        } else {
            at
        }
    }

    /// The first line from one on that says something.
    fn next(&self, at: usize) -> usize {
        self.next.get(at).copied().unwrap_or(self.lines.len())
    }

    /// How many lines the introduction of a quote has that begins at a line.
    fn introduction(&self, at: usize) -> Option<usize> {
        let lines = self.lines.iter().skip(at).take(MAX_FOLDS);
        if !lines
            .clone()
            .any(|line| line.trim_end().ends_with([':', '：']))
        {
            return None;
        }
        let mut whole = String::new();
        for length in 1..=MAX_FOLDS {
            let line = self.lines.get(at + length - 1)?;
            if self.kinds.get(at + length - 1) != Some(&Line::Words)
                || whole.len() + line.len() > MAX_INTRODUCTION
            {
                return None;
            }
            if length > 1 {
                whole.push(' ');
            }
            whole.push_str(&line.trim().to_lowercase());
            if length == 1 && !may_introduce(&whole) {
                return None;
            }
            if introduces(&whole) {
                return Some(length);
            }
        }
        None
    }

    /// How many lines the quoted header has that begins at a line.
    fn header(&self, at: usize) -> Option<usize> {
        if !label(self.lines.get(at)?).is_some_and(|label| SENDERS.contains(&label.as_str())) {
            return None;
        }
        let rest = self
            .lines
            .iter()
            .skip(at)
            .take(HEADER_LINES)
            .enumerate()
            .skip(1);
        let rest = rest.take_while(|(_, line)| !line.trim().is_empty());
        let fields = rest
            .filter(|(_, line)| label(line).is_some_and(|label| FIELDS.contains(&label.as_str())));
        let fields: Vec<usize> = fields.map(|(at, _)| at).collect();
        match fields.last() {
            Some(last) if fields.len() >= 2 => Some(last + 1),
            _ => None,
        }
    }
}

/// Whether a first line may begin an introduction.
fn may_introduce(line: &str) -> bool {
    INTRODUCTIONS
        .iter()
        .any(|(start, _)| line.starts_with(start))
        || line.contains(['@', ':', '年', '/'])
        || line.contains(|letter: char| letter.is_ascii_digit())
}

/// Whether lines, joined and in lower case, introduce a quote.
fn introduces(whole: &str) -> bool {
    let Some(words) = whole.strip_suffix([':', '：']) else {
        return false;
    };
    let words = words.trim_end().trim_end_matches(['*', '_']).trim_end();
    let by_both = INTRODUCTIONS.iter().any(|(start, end)| {
        // In some languages the name comes last.
        whole.starts_with(start)
            && (words.ends_with(end)
                || matches!(
                    *end,
                    "schrieb" | "schreef" | "skrev" | "napisał" | "napsal" | "napisao"
                ) && words.contains(&format!(" {end}")))
    });
    let has_person = words.contains('@') && words.contains(|letter: char| letter.is_ascii_digit());
    let by_end = ENDS.iter().any(|end| words.ends_with(end));
    by_both
        || has_person && (by_end || words.contains("schrieb am ") || words.ends_with('>'))
        || by_end && words.contains('年')
}

/// Whether a line says that a mail follows that is answered.
fn is_original(line: &str) -> bool {
    let line = line.trim();
    if line.len() > MAX_INTRODUCTION {
        return false;
    }
    let words = line.trim_start_matches(['-', '_', '–', '—']);
    let dashes = line.len() - words.len();
    let words = words
        .trim_end_matches(['-', '_', '–', '—'])
        .trim()
        .to_lowercase();
    dashes >= 2 && ORIGINALS.contains(&words.as_str())
}

/// Whether a line is a rule.
fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 10
        && (line.bytes().all(|byte| byte == b'_') || line.bytes().all(|byte| byte == b'-'))
}

/// What a line of a header begins with, in lower case.
fn label(line: &str) -> Option<String> {
    let line = line.trim_start().trim_start_matches(['*', ' ']);
    let (label, _) = line.split_once([':', '：'])?;
    let label = label.trim().trim_matches('*').trim();
    (!label.is_empty() && label.len() <= 40).then(|| label.to_lowercase())
}

/// Where the signature of the first lines begins. It is none if a quote follows it.
fn signature(lines: &[&str], kinds: &[Line], end: usize) -> Option<usize> {
    let kinds = kinds.get(..end)?;
    let quoted = kinds.iter().rposition(|kind| matches!(kind, Line::Quoted));
    let start = quoted.map_or(0, |quoted| quoted + 1);
    let rest = lines.iter().enumerate().take(end).skip(start);
    if let Some((at, _)) = rest
        .clone()
        .find(|(_, line)| matches!(**line, "-- " | "--"))
    {
        return Some(at);
    }
    let words = rest.rev().filter(|(_, line)| kind(line) == Line::Words);
    let mut last = words.take(LINES_AFTER_SENT_FROM + 1);
    last.find(|(_, line)| is_sent_from(line)).map(|(at, _)| at)
}

/// Whether a line is what a phone puts below the words.
fn is_sent_from(line: &str) -> bool {
    let line = line.trim();
    if line.len() > 100 {
        return false;
    }
    let line = line.to_lowercase();
    SENT_FROM.iter().any(|start| line.starts_with(start))
        && (!line.starts_with("von meinem ") || line.ends_with("gesendet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTE: &str = "> Yes, it is.\n>\n> Mia";

    #[track_caller]
    fn is_cut(below: &str) {
        let text = format!("Works.\n\nBye\n\n{below}\n");
        assert_eq!(visible(&text), "Works.\n\nBye", "{below}");
    }

    #[track_caller]
    fn is_kept(text: &str) {
        assert_eq!(visible(text), text.trim_end(), "{text}");
    }

    #[test]
    fn what_is_forwarded_without_a_word_is_kept() {
        for text in [
            "---------- Forwarded message ---------\nFrom: Dana <d@x>\nDate: Sat\nSubject: s\n\nHello.",
            "Begin forwarded message:\n\n> From: Dana <d@x>\n> Subject: s\n>\n> Hello.",
        ] {
            is_kept(text);
        }
    }

    #[test]
    fn introductions_are_known_in_many_languages() {
        for introduction in [
            "On Sat, 14 Mar 2026 at 10:30, Mia <m@x> wrote:",
            "On Sat, 14 Mar 2026 at 10:30, Northwind\nSupport <support@in.inbox.example>\nwrote:",
            "Am 14.03.2026 um 10:30 schrieb Mia Muster <m@x>:",
            "Am Sa., 14. März 2026 um 10:30 Uhr schrieb Mia\n<m@x>:",
            "Mia <m@x> schrieb am 14.03.2026 10:30:",
            "Le sam. 14 mars 2026 à 10:30, Mia <m@x> a écrit :",
            "Le 14/03/2026 à 10:30, Mia a écrit\u{a0}:",
            "El sáb, 14 mar 2026 a las 10:30, Mia (<m@x>) escribió:",
            "Il giorno sab 14 mar 2026 alle ore 10:30 Mia <m@x> ha scritto:",
            "Op za 14 mrt 2026 om 10:30 schreef Mia <m@x>:",
            "Em sáb., 14 de mar. de 2026 às 10:30, Mia <m@x> escreveu:",
            "Den lör 14 mars 2026 kl 10:30 skrev Mia <m@x>:",
            "W dniu 14.03.2026 o 10:30, Mia pisze i napisał:",
            "14.03.2026 10:30, Mia <m@x> пишет:",
            "2026年3月14日(土) 10:30 Mia <m@x>:",
            "2026-03-14 10:30 GMT+01:00 Mia <m@x>:",
        ] {
            is_cut(&format!("{introduction}\n{QUOTE}"));
            is_cut(&format!("{introduction}\n\n{QUOTE}\n\n-- \nDana"));
        }
        is_cut("On Sat, Mia wrote:");
        is_cut(QUOTE);
    }

    #[test]
    fn headers_and_separators_are_known() {
        is_cut(
            "-----Original Message-----\nFrom: Mia\nSent: Sat\nTo: Dana\nSubject: x\n\nYes, it is.",
        );
        is_cut("-----Ursprüngliche Nachricht-----\nYes, it is.");
        is_cut("From: Mia <m@x>\nSent: Saturday\nTo: Dana\nSubject: x\n\nYes, it is.");
        is_cut("*Von:* Mia\n*Gesendet:* Samstag\n*An:* Dana\n*Betreff:* x\n\nJa.");
        is_cut("________________________________\nDe : Mia\nEnvoyé : samedi\nÀ : Dana\n\nOui.");
        is_cut("________________________________________\n\nFrom: Mia\nSent: x\nTo: y\n\nYes");
        is_cut("发件人： Mia\n发送时间： x\n收件人： y\n\n是");
        is_cut("\u{fdd0}\nAnything at all");
        is_cut("\u{fdd0}\nOn Sat, Mia wrote:\n> Yes");
    }

    #[test]
    fn what_answers_between_the_lines_is_kept() {
        is_kept("On Sat, Mia wrote:\n> Yes, it is.\n\nFine.\n\n> Mia\n");
        is_kept("Hi\n> Yes, it is.\nFine.\n> When?\nAt ten.");
        is_kept("Hi\n-----Original Message-----\n> Yes\nFine.");
        is_kept("Hi\n\nOn Monday you wrote:\nthat all is fine. It is not.");
        is_kept("We need\n>5 tables");
        is_kept("From: here it is fine.\n\nTo: you.");
        is_kept("Price list\n______________\nten");
        assert_eq!(visible("> a\nb\n\u{fdd0}\n> c\nd"), "> a\nb\n> c\nd");
        assert_eq!(
            visible("Hi\n\u{fdd0}\nOn x, y wrote:\n> a\nb"),
            "Hi\nOn x, y wrote:\n> a\nb"
        );
    }

    #[test]
    fn everything_is_kept_if_nothing_is_left() {
        is_kept("On Sat, Mia wrote:\n> Yes");
        is_kept("-----Original Message-----\nYes");
        is_kept("-- \nDana");
        is_kept("> Yes");
        is_kept("");
    }

    #[test]
    fn signatures_are_cut() {
        is_cut("-- \nDana\nCustomer Inc.");
        is_cut("Sent from my iPhone");
        is_cut("Von meinem iPhone gesendet\n\nOn Sat, Mia wrote:\n> x");
        is_cut("-- \nDana\n\nOn Sat, Mia wrote:\n> x");
        is_kept("Sent from my desk, so\nthere\nis\nmore");
        assert_eq!(
            visible("On x, y wrote:\n> a\nb\n-- \nDana"),
            "On x, y wrote:\n> a\nb"
        );
    }
}
