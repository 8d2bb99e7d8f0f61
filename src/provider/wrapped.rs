//! Files that come as base64 within JSON, of which no more is in memory than what has just come.

use crate::provider::email::transfer;

/// The name of the field, as it stands in JSON: within a text its marks would be escaped.
const FIELD: &[u8] = b"\"base64\"";

/// Takes the file out of the JSON, piece by piece.
#[derive(Debug, Default)]
pub struct Unwrapping {
    place: Place,
    /// Digits that do not make up bytes yet: fewer than four.
    digits: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the end of the name, of which so many bytes have come.
    Before(usize),
    /// Behind the name.
    Named,
    /// Behind the colon.
    Announced,
    /// Within the text.
    Inside,
    /// Behind it.
    Behind,
}

impl Default for Place {
    fn default() -> Self {
        Self::Before(0)
    }
}

impl Place {
    /// The place after another byte that is not of the text.
    fn after(self, byte: u8) -> Self {
        let begun = || Self::Before(usize::from(byte == b'"'));
        match self {
            Self::Before(come) if FIELD.get(come) != Some(&byte) => begun(),
            Self::Before(come) if come + 1 == FIELD.len() => Self::Named,
            Self::Before(come) => Self::Before(come + 1),
            Self::Named | Self::Announced if byte.is_ascii_whitespace() => self,
            Self::Named if byte == b':' => Self::Announced,
            Self::Announced if byte == b'"' => Self::Inside,
            Self::Named | Self::Announced => begun(),
            Self::Inside | Self::Behind => self,
        }
    }
}

impl Unwrapping {
    /// Returns what a piece of the JSON has of the file.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut rest = piece.iter();
        while self.place != Place::Inside
            && let Some(byte) = rest.next()
        {
            self.place = self.place.after(*byte);
        }
        let text = rest.as_slice();
        let end = text.iter().position(|byte| *byte == b'"');
        let text = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        self.digits
            .extend(text.iter().filter(|byte| transfer::is_digit(**byte)));
        let mut rest = Vec::new();
        if end.is_some() {
            self.place = Place::Behind;
        } else {
            rest = self.digits.split_off(self.digits.len() / 4 * 4);
        }
        let digits = std::mem::replace(&mut self.digits, rest);
        transfer::base64(&digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(json: &[u8], length: usize) -> Vec<u8> {
        let mut unwrapping = Unwrapping::default();
        let pieces = json.chunks(length);
        pieces.flat_map(|piece| unwrapping.push(piece)).collect()
    }

    #[test]
    fn a_file_is_found_in_pieces_of_each_length() {
        let json = br#"{"caption":"\"base64\":\"bm8=\"","kind":"base64","base64" : "YSBm\/2lsZSE=","buffer":{"base64":"bm8="}}"#;
        for length in 1..json.len() + 1 {
            assert_eq!(unwrapped(json, length), b"a f\xffile!", "{length}");
        }
    }

    #[test]
    fn what_has_no_file_has_none() {
        for json in [
            &b""[..],
            b"{}",
            br#"{"base64":null}"#,
            br#"{"base64""#,
            br#"{"base64":"""#,
            br#""base64""base64""Ym8=""#,
        ] {
            for length in 1..json.len() + 1 {
                assert!(unwrapped(json, length).is_empty());
            }
        }
    }
}
