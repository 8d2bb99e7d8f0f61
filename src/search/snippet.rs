//! Why a text was found: the place where the words stand, and which they are.

use std::collections::HashMap;
use std::ops::Range;

use super::query::{Phrase, Query};
use super::word::{Word, words};

/// The most characters of a text that are shown.
const LONGEST: usize = 200;
/// How many characters are shown before the first word that was found, about.
const LEAD: usize = 40;

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The piece.
    pub text: String,
    /// Whether it is what was looked for.
    pub is_match: bool,
}

/// Returns the part of a text where most of what was looked for stands, in pieces; an ellipsis
/// stands for what is left out.
pub fn snippet(text: &str, query: &Query) -> Vec<Part> {
    let matches = matches(text, query);
    let shown = window(text, &matches);
    let mut parts = Vec::new();
    let mut push = |text: &str, is_match| {
        if !text.is_empty() {
            let text = text.to_owned();
            parts.push(Part { text, is_match });
        }
    };
    if shown.start > 0 {
        push("…", false);
    }
    let mut at = shown.start;
    for range in matches {
        let (start, end) = (range.start.max(at), range.end.min(shown.end));
        if start < end {
            push(&text[at..start], false);
            push(&text[start..end], true);
            at = end;
        }
    }
    push(&text[at..shown.end], false);
    if shown.end < text.len() {
        push("…", false);
    }
    parts
}

/// Where what was looked for stands, in order and apart from each other.
fn matches(text: &str, query: &Query) -> Vec<Range<usize>> {
    let words = words(text);
    let mut at_place: HashMap<usize, Vec<&Word>> = HashMap::new();
    for word in &words {
        at_place.entry(word.place).or_default().push(word);
    }
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for phrase in query.wanted() {
        let places = words.iter().map(|word| word.place);
        ranges.extend(places.filter_map(|place| standing(phrase, place, &at_place)));
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// Where a phrase stands that begins at a place, if one does.
fn standing(
    phrase: &Phrase,
    place: usize,
    at_place: &HashMap<usize, Vec<&Word>>,
) -> Option<Range<usize>> {
    let last = phrase.words.len() - 1;
    let mut whole: Option<Range<usize>> = None;
    for (index, (lexeme, offset)) in phrase.words.iter().enumerate() {
        let begins = phrase.is_prefix && index == last;
        let is_it = |word: &&&Word| match begins {
            true => word.lexeme.starts_with(lexeme),
            false => word.lexeme == *lexeme,
        };
        let there = at_place.get(&(place + offset))?;
        let range = there.iter().find(is_it)?.range.clone();
        whole = Some(whole.map_or(range.clone(), |whole| whole.start..range.end));
    }
    whole
}

/// Which part of a text to show: all of it if it is short, or else where most matches are.
fn window(text: &str, matches: &[Range<usize>]) -> Range<usize> {
    let forward = |from: usize, characters: usize| {
        let mut rest = text[from..].char_indices();
        rest.nth(characters).map_or(text.len(), |(at, _)| from + at)
    };
    if forward(0, LONGEST) == text.len() {
        return 0..text.len();
    }
    let reach = LONGEST - LEAD;
    let (mut best, mut most) = (0, 0);
    for (index, first) in matches.iter().enumerate() {
        let end = forward(first.start, reach);
        let inside = matches[index..].iter().take_while(|range| range.end <= end);
        let count = inside.count();
        if count > most {
            (best, most) = (first.start, count);
        }
    }
    let back = text[..best].char_indices().rev();
    let start = back.take(LEAD).last().map_or(best, |(at, _)| at);
    // From the beginning of a word, where one begins there.
    let start = match text[start..best].find(char::is_whitespace) {
        Some(space) if start > 0 => {
            let after = text[start + space..best].find(|c: char| !c.is_whitespace());
            after.map_or(best, |after| start + space + after)
        }
        _ => start,
    };
    start..forward(start, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, query: &str) -> String {
        let parts = snippet(text, &Query::parse(query).unwrap());
        let shown = parts.iter().map(|part| match part.is_match {
            true => format!("[{}]", part.text),
            false => part.text.clone(),
        });
        shown.collect()
    }

    #[test]
    fn what_was_looked_for_is_marked_as_it_is_written() {
        assert_eq!(shown("Die Größe, bitte!", "grosse"), "Die [Größe], bitte!");
        assert_eq!(shown("我要申请退款。", "申请退款"), "我要[申请退款]。");
        assert_eq!(
            shown("big bad big world", "\"big world\""),
            "big bad [big world]"
        );
        assert_eq!(
            shown("Ring +49 170 123-4567", "+491701234567"),
            "Ring +[49 170 123-4567]"
        );
        assert_eq!(shown("Orders order", "ord*"), "[Orders] [order]");
        assert_eq!(shown("👩‍💻 👍🏽", "👍"), "👩‍💻 [👍🏽]");
    }

    #[test]
    fn of_a_long_text_the_part_with_most_matches_is_shown() {
        let text = format!(
            "needle {} needle in hay {}",
            "hay ".repeat(200),
            "x ".repeat(200)
        );
        let shown = shown(&text, "needle in");
        assert!(shown.starts_with("…hay hay"), "{shown}");
        assert!(shown.contains("[needle] [in] hay"), "{shown}");
        assert!(shown.ends_with('…'));
        assert!(shown.chars().count() < LONGEST + 10);
    }
}
