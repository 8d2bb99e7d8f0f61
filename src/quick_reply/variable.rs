//! Variables: which there are, and what their values look like.

use chrono::{NaiveDate, NaiveTime};
use serde::{Deserialize, Serialize};

use crate::stored_enum::stored_enum;

/// The longest name, in characters.
const MAX_NAME: usize = 64;
/// The longest value of a number, in characters.
const MAX_NUMBER: usize = 64;
/// The longest value, in characters.
const MAX_VALUE: usize = 4000;

/// The variables that every quick reply has.
pub const BUILT_IN: [&str; 7] = [
    "contact.name",
    "contact.first_name",
    "contact.identifier",
    "conversation.number",
    "conversation.subject",
    "conversation.channel",
    "agent.id",
];

stored_enum! {
    /// What the value of a variable has to look like.
    VariableType {
        /// Any text.
        Text = "text",
        /// A decimal number.
        Number = "number",
        /// A day.
        Date = "date",
        /// A time of day.
        Time = "time",
        /// An address of the web.
        Url = "url",
    }
}

impl VariableType {
    /// Tells whether a value looks like this.
    pub fn accepts(self, value: &str) -> bool {
        if value.chars().count() > MAX_VALUE || value.contains('\0') {
            return false;
        }
        match self {
            Self::Text => true,
            Self::Number => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
                let all =
                    |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                value.len() <= MAX_NUMBER && all(whole) && all(fraction)
            }
            // Signs, spaces and missing digits would be read leniently.
            Self::Date => {
                has_form(value, "0000-00-00")
                    && NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok()
            }
            Self::Time => {
                has_form(value, "00:00") && NaiveTime::parse_from_str(value, "%H:%M").is_ok()
                    || has_form(value, "00:00:00")
                        && NaiveTime::parse_from_str(value, "%H:%M:%S").is_ok()
            }
            Self::Url => {
                let rest = value
                    .strip_prefix("https://")
                    .or_else(|| value.strip_prefix("http://"));
                rest.is_some_and(|rest| {
                    !rest.is_empty()
                        && !rest.starts_with(['/', '?', '#'])
                        && !rest
                            .contains(|letter: char| letter.is_whitespace() || letter.is_control())
                })
            }
        }
    }

    /// What a value has to look like, in words.
    pub fn form(self) -> &'static str {
        match self {
            Self::Text => "at most 4000 characters without NUL",
            Self::Number => "a number such as `-12.50`",
            Self::Date => "a day such as `2026-01-31`",
            Self::Time => "a time such as `14:30` or `14:30:05`",
            Self::Url => "an address that begins with `https://` or `http://`",
        }
    }
}

/// Tells whether a value has a digit wherever a form has `0`, and else what the form has.
fn has_form(value: &str, form: &str) -> bool {
    value.len() == form.len()
        && value
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| byte == form || form == b'0' && byte.is_ascii_digit())
}

/// A variable that a quick reply declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What its value has to look like.
    #[serde(rename = "type")]
    pub variable_type: VariableType,
    /// What stands in its place where it has no value.
    pub fallback: Option<String>,
}

/// Tells whether a variable can have this name: lower-case words, joined by dots.
pub fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_word)
}

/// Tells whether a name belongs to the variables that are built in, now or later.
pub fn is_reserved(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    ["contact", "conversation", "agent"].contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_looks_like_its_type() {
        use VariableType::{Date, Number, Text, Time, Url};
        let long = "x".repeat(4001);
        let cases: [(VariableType, &[&str], &[&str]); 5] = [
            (Text, &["", "ä\n", &long[1..]], &["a\0b", &long]),
            (
                Number,
                &["0", "-12.50", "007", "3.0"],
                &[
                    "", "-", ".5", "5.", "1e3", "1,5", "+1", " 1", "--1", "1.2.3", "٣", &long,
                ],
            ),
            (
                Date,
                &["2026-01-31", "2024-02-29"],
                &[
                    "",
                    "2026-1-31",
                    "2026-02-29",
                    "31.01.2026",
                    "+226-01-31",
                    "2026- 1-31",
                    "2026-01-31 ",
                ],
            ),
            (
                Time,
                &["00:00", "23:59:59"],
                &[
                    "", "24:00", "7:30", "07:3", " 7:30", "07:30:", "07:30 am", "07:60",
                ],
            ),
            (
                Url,
                &["https://example.com", "http://ä.example/a?b=c#d"],
                &[
                    "",
                    "https://",
                    "ftp://a",
                    "javascript:alert(1)",
                    "https://a b",
                    "https:///a",
                ],
            ),
        ];
        for (variable_type, good, bad) in cases {
            for value in good {
                assert!(variable_type.accepts(value), "{variable_type:?} {value:?}");
            }
            for value in bad {
                assert!(!variable_type.accepts(value), "{variable_type:?} {value:?}");
            }
        }
    }

    #[test]
    fn what_is_built_in_cannot_be_declared() {
        for name in BUILT_IN {
            assert!(is_name(name) && is_reserved(name));
        }
        assert!(is_reserved("contact") && !is_reserved("contacts") && !is_reserved("order.agent"));
        assert!(is_name(&"a".repeat(64)) && !is_name(&"a".repeat(65)));
    }
}
