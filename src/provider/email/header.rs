//! The header of a mail or a part: its fields, and the forms of value they have.

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};

use super::{charset, transfer};
use crate::provider::lenient::cut;

/// Many more fields than any mail has.
const MAX_FIELDS: usize = 1_000;
/// The longest value that is read, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The most ids of a field that are read: threads get long.
const MAX_IDS: usize = 500;

/// The fields of a header in their order, unfolded, with names in lower case.
#[derive(Debug, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Reads the lines of a header.
    pub fn of(block: &[u8]) -> Self {
        let mut headers = Self::default();
        let mut field: Vec<u8> = Vec::new();
        for line in block.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !matches!(line.first(), Some(b' ' | b'\t')) {
                headers.add(&field);
                field.clear();
            }
            let room = MAX_VALUE_BYTES.saturating_sub(field.len());
            field.extend(line.iter().take(room));
        }
        headers.add(&field);
        headers
    }

    /// Adds a field, unless it is none.
    fn add(&mut self, field: &[u8]) {
        let mut halves = field.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (halves.next(), halves.next())
            && let Ok(name) = std::str::from_utf8(name)
            && let name = name.trim()
            && !name.is_empty()
            && !name.contains(char::is_whitespace)
        {
            self.push(name, charset::decode(None, value));
        }
    }

    /// Adds a field that was told in other ways.
    pub fn push(&mut self, name: &str, mut value: String) {
        if self.0.len() < MAX_FIELDS {
            cut(&mut value, MAX_VALUE_BYTES);
            let value = value.trim().replace('\0', "\u{fffd}");
            self.0.push((name.to_ascii_lowercase(), value));
        }
    }

    /// Adds a field if there is none of that name, and something to say.
    pub fn push_missing(&mut self, name: &str, value: String) {
        if self.get(&name.to_ascii_lowercase()).is_none() && !value.trim().is_empty() {
            self.push(name, value);
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first field of a name, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        let (_, value) = fields.find(|(other, _)| other == name)?;
        Some(value)
    }

    /// The fields of a name, which is in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The ids in the fields of a name, without brackets.
    pub fn ids(&self, name: &str) -> Vec<String> {
        let mut ids = Vec::new();
        for id in self.all(name).flat_map(self::ids) {
            if ids.len() < MAX_IDS {
                ids.push(id);
            }
        }
        ids
    }
}

/// The header of a message: all before its first empty line.
pub fn head(message: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(rest) = message.get(at..).filter(|rest| !rest.is_empty()) {
        let end = end_of_line(rest);
        if matches!(rest.get(..end), Some(b"\n" | b"\r\n")) {
            break;
        }
        at += end;
    }
    message.get(..at).unwrap_or_default()
}

/// How long the first line is, with its end.
pub fn end_of_line(bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    end.map_or(bytes.len(), |end| end + 1)
}

/// Reads the encoded words of a value. Neighbours in the same charset are read as one, as some
/// cut a letter in two.
pub fn words(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut pending: Option<(String, Vec<u8>)> = None;
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("=?") {
        let is_between = pending.is_some() && before.chars().all(char::is_whitespace);
        if !is_between {
            flush(&mut text, &mut pending);
            text.push_str(before);
        }
        match encoded_word(after) {
            Ok((label, bytes, after)) => {
                match &mut pending {
                    Some((other, joined)) if *other == label => joined.extend(bytes),
                    _ => {
                        flush(&mut text, &mut pending);
                        pending = Some((label, bytes));
                    }
                }
                rest = after;
            }
            Err(Broken::Word) => {
                flush(&mut text, &mut pending);
                if is_between {
                    text.push_str(before);
                }
                text.push_str("=?");
                rest = after;
            }
            Err(Broken::Rest) => {
                flush(&mut text, &mut pending);
                if is_between {
                    text.push_str(before);
                }
                text.push_str("=?");
                text.push_str(after);
                return text;
            }
        }
    }
    flush(&mut text, &mut pending);
    text.push_str(rest);
    text
}

/// Writes what was gathered of encoded words.
fn flush(text: &mut String, pending: &mut Option<(String, Vec<u8>)>) {
    if let Some((label, bytes)) = pending.take() {
        text.push_str(&charset::decode(Some(&label), &bytes));
    }
}

/// Why something is no encoded word.
enum Broken {
    /// It is none.
    Word,
    /// Nothing after it can be one, as none ends any more.
    Rest,
}

/// Reads an encoded word after its `=?`: its charset, its bytes, and what follows it.
fn encoded_word(word: &str) -> Result<(String, Vec<u8>, &str), Broken> {
    let is_label = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':' | '*' | '+')
    };
    let label = word.find(|letter| !is_label(letter)).unwrap_or(word.len());
    let (label, after) = word.split_at_checked(label).ok_or(Broken::Word)?;
    let after = after.strip_prefix('?').ok_or(Broken::Word)?;
    let (encoding, after) = after.split_once('?').ok_or(Broken::Rest)?;
    let is_base64 = match encoding {
        "B" | "b" => true,
        "Q" | "q" => false,
        _ => return Err(Broken::Word),
    };
    let (content, after) = after.split_once("?=").ok_or(Broken::Rest)?;
    let bytes = if is_base64 {
        transfer::base64(content.as_bytes())
    } else {
        transfer::quoted_printable(content.replace('_', " ").as_bytes())
    };
    let label = label.split('*').next().unwrap_or_default();
    Ok((label.to_ascii_lowercase(), bytes, after))
}

/// Reads message ids without their brackets, which some leave out. Comments are none.
pub fn ids(value: &str) -> Vec<String> {
    let mut bare = String::new();
    let mut ids = Vec::new();
    let mut comment = 0_usize;
    let mut open: Option<String> = None;
    for letter in value.chars() {
        match (letter, &mut open) {
            ('>', Some(id)) => {
                ids.push(std::mem::take(id));
                open = None;
            }
            ('<', _) if comment == 0 => open = Some(String::new()),
            (_, Some(id)) => {
                if !letter.is_whitespace() {
                    id.push(letter);
                }
            }
            ('(', None) => comment += 1,
            (')', None) => comment = comment.saturating_sub(1),
            (_, None) if comment == 0 => bare.push(letter),
            (_, None) => {}
        }
    }
    ids.extend(open);
    if ids.is_empty() {
        let words = bare.split(|letter: char| letter.is_whitespace() || letter == ',');
        ids.extend(
            words
                .filter(|word| word.contains('@'))
                .map(ToOwned::to_owned),
        );
    }
    ids.retain(|id| !id.is_empty());
    ids
}

/// Reads a date as mail writes it, with or without day of the week, seconds and zone.
pub fn date(value: &str) -> Option<DateTime<Utc>> {
    let value: String = value.chars().take(100).collect();
    let words: Vec<&str> = value
        .split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | '-' | '('))
        .filter(|word| !word.is_empty())
        .collect();
    let at = words.iter().position(|word| month(word).is_some())?;
    let number = |at: Option<usize>| -> Option<u32> { words.get(at?)?.parse().ok() };
    let (day, year) = match number(at.checked_sub(1)) {
        Some(day) => (day, number(Some(at + 1))),
        None => (number(Some(at + 1))?, None),
    };
    let clock = words.iter().position(|word| word.contains(':'))?;
    // As `ctime` writes it, with the year at the end.
    let year = year
        .or_else(|| number(Some(clock + 1)))
        .or_else(|| number(words.len().checked_sub(1)))?;
    let year = match year {
        0..=49 => year + 2000,
        50..=999 => year + 1900,
        _ => year,
    };
    let mut times = words
        .get(clock)?
        .split(':')
        .map(|time| time.parse::<u32>().ok());
    let (hour, minute) = (times.next()??, times.next()??);
    let second = times.next().flatten().unwrap_or(0).min(59);
    let month = words.get(at).and_then(|word| month(word))?;
    let naive = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?
        .and_hms_opt(hour, minute, second)?;
    // The sign of the zone is lost by the split, so it is looked for in the whole.
    let zone = zone(&value).unwrap_or(0);
    let zone = FixedOffset::east_opt(zone)?;
    Some(naive.and_local_timezone(zone).single()?.to_utc())
}

/// The number of a month by the letters it begins with.
fn month(word: &str) -> Option<u32> {
    let names = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let start = word.get(..3)?.to_ascii_lowercase();
    let at = names.iter().position(|name| *name == start)?;
    u32::try_from(at + 1).ok()
}

/// The seconds that a zone is east of Greenwich.
fn zone(value: &str) -> Option<i32> {
    for word in value.split_whitespace() {
        let (sign, digits) = match word.split_at_checked(1).unwrap_or_default() {
            ("+", digits) => (1, digits),
            ("-", digits) => (-1, digits),
            _ => match word {
                "EDT" => return Some(-4 * 3600),
                "EST" | "CDT" => return Some(-5 * 3600),
                "CST" | "MDT" => return Some(-6 * 3600),
                "MST" | "PDT" => return Some(-7 * 3600),
                "PST" => return Some(-8 * 3600),
                _ => continue,
            },
        };
        let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
        if digits.len() == 4
            && let Ok(number) = digits.parse::<i32>()
        {
            return Some(sign * (number / 100 * 3600 + number % 100 * 60));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unfolded_and_found_whatever_the_case() {
        let headers =
            Headers::of(b"SUBJECT: a\r\n b\r\n\tc\r\nnonsense\r\nX : y\r\nx:z\r\nL: \xe9\r\n");
        assert_eq!(headers.get("subject"), Some("a b\tc"));
        assert_eq!(headers.all("x").collect::<Vec<_>>(), ["y", "z"]);
        assert_eq!(headers.get("l"), Some("é"));
        assert_eq!(headers.get("nonsense"), None);
    }

    #[test]
    fn encoded_words_are_read_even_when_a_letter_is_cut() {
        assert_eq!(words("=?UTF-8?Q?Caf=C3=A9_x?= y"), "Café x y");
        assert_eq!(words("a =?utf-8?Q?=C3?=\t=?UTF-8?q?=A9?= b"), "a é b");
        assert_eq!(words("=?utf-8?B?w6k=?= =?iso-8859-1*de?Q?=E9?="), "éé");
        assert_eq!(
            words("1 =? 2 =?x?y?z?= =?utf-8?Q?open"),
            "1 =? 2 =?x?y?z?= =?utf-8?Q?open"
        );
        assert_eq!(words("=?utf-8?Q?a b?= =? c"), "a b =? c");
        assert_eq!(words("=?iso-2022-jp?B?GyRCJU8bKEI=?="), "ハ");
    }

    #[test]
    fn ids_are_found_with_and_without_brackets() {
        assert_eq!(ids("<a@b> (x <no@no>) <c\r\n d@e>"), ["a@b", "cd@e"]);
        assert_eq!(ids("a@b c@d"), ["a@b", "c@d"]);
        assert_eq!(ids("Your message of \"Mon\" <x@y"), ["x@y"]);
        assert_eq!(ids("Your message"), [""; 0]);
        assert_eq!(ids("<> <>"), [""; 0]);
    }

    #[test]
    fn dates_are_read_in_all_their_forms() {
        let at = |value: &str| date(value).map(|at| at.to_rfc3339());
        let noon = Some("2026-03-14T11:02:10+00:00".to_owned());
        for value in [
            "Sat, 14 Mar 2026 12:02:10 +0100",
            "14 Mar 26 11:02:10 GMT",
            "Sat, 14 March 2026 06:02:10 EST (x)",
            "Sat Mar 14 11:02:10 2026",
            "Sat, 14-Mar-2026 11:02:10 -0000",
            "Sat,14 Mar 2026 13:02:10 +02:00",
        ] {
            assert_eq!(at(value), noon, "{value}");
        }
        assert_eq!(
            at("14 Mar 2026 11:02"),
            Some("2026-03-14T11:02:00+00:00".to_owned())
        );
        for value in [
            "",
            "yesterday",
            "99 Mar 2026 11:02",
            "14 Mar 2026",
            "14 Mar 2026 25:00:00 +9999",
        ] {
            assert_eq!(at(value), None, "{value}");
        }
    }
}
