//! What somebody can react with.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The longest name of an emoji of the tenant's own.
const LONGEST_NAME: usize = 32;
/// Asks for a picture in place of a character of text, where there are both.
const AS_PICTURE: char = '\u{fe0f}';

/// One emoji as Unicode recommends to write it, or the name of one of the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emoji(String);

impl Emoji {
    /// Reads one emoji, whether it asks for pictures or not, or a `:name:`.
    pub fn parse(text: &str) -> Option<Self> {
        let known = KNOWN.get(bare(text).as_str()).copied();
        let emoji = known.or_else(|| is_name(text).then_some(text))?;
        Some(Self(emoji.to_owned()))
    }

    /// How it is stored and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All emoji by what they are without `AS_PICTURE`: which of those one has to write differs from
/// emoji to emoji, and from keyboard to keyboard.
static KNOWN: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let all = emojis::iter().flat_map(|emoji| {
        let toned = emoji.skin_tones().into_iter().flatten();
        toned.chain(std::iter::once(emoji))
    });
    all.map(|emoji| (bare(emoji.as_str()), emoji.as_str()))
        .collect()
});

fn bare(text: &str) -> String {
    text.chars().filter(|&c| c != AS_PICTURE).collect()
}

fn is_name(text: &str) -> bool {
    let name = text
        .strip_prefix(':')
        .and_then(|rest| rest.strip_suffix(':'));
    let is_of_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'+' | b'-');
    name.is_some_and(|name| {
        (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_emoji_is_one_whatever_it_asks_to_look_like() {
        for (written, stored) in [
            ("👍", "👍"),
            ("👍🏽", "👍🏽"),
            ("👍\u{fe0f}", "👍"),
            ("\u{2764}", "\u{2764}\u{fe0f}"),
            ("\u{2764}\u{fe0f}", "\u{2764}\u{fe0f}"),
            ("1\u{20e3}", "1\u{fe0f}\u{20e3}"),
            ("🇩🇪", "🇩🇪"),
            ("🏳\u{200d}🌈", "🏳\u{fe0f}\u{200d}🌈"),
            (
                "👩🏽\u{200d}\u{2764}\u{200d}👨🏿",
                "👩🏽\u{200d}\u{2764}\u{fe0f}\u{200d}👨🏿",
            ),
            (
                "👨\u{200d}👩\u{200d}👧\u{200d}👦",
                "👨\u{200d}👩\u{200d}👧\u{200d}👦",
            ),
            (":party_parrot:", ":party_parrot:"),
            (":+1:", ":+1:"),
        ] {
            let emoji = Emoji::parse(written);
            assert_eq!(emoji.as_ref().map(Emoji::as_str), Some(stored));
        }
    }

    #[test]
    fn whatever_else_is_written_is_none() {
        for text in [
            "", "a", "1", "👍👍", "👍 ", " 👍", "👍!", "🏽", "\u{fe0f}", "\u{200d}", "🇩", "::",
            ":A:", ":a", "a:", ":a b:", ":ä:", ":👍:", ":a:b:",
        ] {
            assert_eq!(Emoji::parse(text), None, "{text:?}");
        }
        assert!(Emoji::parse(&format!(":{}:", "a".repeat(32))).is_some());
        assert!(Emoji::parse(&format!(":{}:", "a".repeat(33))).is_none());
    }

    #[test]
    fn every_emoji_is_short_and_no_two_are_alike() {
        let written: std::collections::HashSet<_> = KNOWN.values().collect();
        assert_eq!(written.len(), KNOWN.len());
        assert!(KNOWN.len() > 3_500, "{}", KNOWN.len());
        assert!(KNOWN.values().all(|emoji| emoji.len() <= 64));
    }
}
