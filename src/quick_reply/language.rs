//! Languages, by their BCP 47 tags.

use serde::{Deserialize, Serialize};

/// The longest tag, in characters.
const MAX_TAG: usize = 35;

/// The tag of a language, in its usual capitals: `de`, `pt-BR`, `zh-Hant-TW`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Language(String);

impl Language {
    /// Reads a tag; `None` where it has not the form of one.
    pub fn parse(tag: &str) -> Option<Self> {
        if tag.len() > MAX_TAG {
            return None;
        }
        let mut usual = String::with_capacity(tag.len());
        // After a single letter such as `u`, nothing is a region or a script.
        let mut extension = false;
        for (index, subtag) in tag.split('-').enumerate() {
            let letters = subtag.bytes().all(|byte| byte.is_ascii_alphabetic());
            let form = match index {
                0 => (2..=8).contains(&subtag.len()) && letters,
                _ => {
                    (1..=8).contains(&subtag.len())
                        && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
                }
            };
            if !form {
                return None;
            }
            if index > 0 {
                usual.push('-');
            }
            match subtag.len() {
                2 if index > 0 && !extension => usual.push_str(&subtag.to_ascii_uppercase()),
                4 if index > 0 && letters && !extension => {
                    usual.push_str(&subtag[..1].to_ascii_uppercase());
                    usual.push_str(&subtag[1..].to_ascii_lowercase());
                }
                _ => usual.push_str(&subtag.to_ascii_lowercase()),
            }
            extension |= subtag.len() == 1;
        }
        // What a single letter announces has to follow.
        let last = usual.rsplit('-').next().unwrap_or_default();
        (last.len() > 1).then_some(Self(usual))
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tags that serve whoever wants this language, the nearest first: itself, then what is
    /// left of it without its last part, down to the language alone.
    pub fn served_by(&self) -> Vec<&str> {
        let mut tags = vec![self.0.as_str()];
        let mut tag = self.0.as_str();
        while let Some((shorter, _)) = tag.rsplit_once('-') {
            tag = shorter;
            let last = tag.rsplit('-').next().unwrap_or_default();
            if last.len() > 1 {
                tags.push(tag);
            }
        }
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_kept_in_their_usual_capitals() {
        for (given, kept) in [
            ("de", "de"),
            ("EN-us", "en-US"),
            ("zh-hant-tw", "zh-Hant-TW"),
            ("es-419", "es-419"),
            ("sl-ROZAJ-biske-1994", "sl-rozaj-biske-1994"),
            ("de-DE-u-CO-phonebk", "de-DE-u-co-phonebk"),
        ] {
            assert_eq!(Language::parse(given).unwrap().as_str(), kept);
        }
        let long = format!("de-{}", "abcdefgh-".repeat(5));
        for wrong in [
            "",
            "d",
            "-",
            "de-",
            "-de",
            "d3",
            "de--DE",
            "de_DE",
            "de DE",
            "dé",
            "de-u",
            "abcdefghi",
            "de-abcdefghi",
            "de\0",
            &long,
        ] {
            assert_eq!(Language::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_language_is_served_by_itself_and_what_it_is_a_part_of() {
        let served_by = |tag: &str| Language::parse(tag).unwrap().served_by().join(" ");
        assert_eq!(served_by("de"), "de");
        assert_eq!(served_by("pt-BR"), "pt-BR pt");
        assert_eq!(served_by("zh-Hant-TW"), "zh-Hant-TW zh-Hant zh");
        assert_eq!(served_by("de-u-co-phonebk"), "de-u-co-phonebk de-u-co de");
    }
}
