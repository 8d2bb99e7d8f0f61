//! Values with parameters, such as those of `Content-Type` and `Content-Disposition`.

use super::{charset, header};
use crate::provider::form;

/// Many more parameters than any part has.
const MAX_PARAMETERS: usize = 200;

/// A value and its parameters.
#[derive(Debug, Default)]
pub struct Parameters {
    /// The value in lower case.
    pub value: String,
    /// The parameters as they are written, with names in lower case.
    parameters: Vec<(String, String)>,
}

impl Parameters {
    /// Reads the value of a field.
    pub fn of(field: &str) -> Self {
        let mut pieces = pieces(field).into_iter();
        let value = pieces.next().unwrap_or_default();
        let value = value.split(['(', ' ', '\t']).find(|word| !word.is_empty());
        let value = value.unwrap_or_default().to_ascii_lowercase();
        let parameters = pieces
            .filter_map(|piece| {
                let (name, value) = piece.split_once('=')?;
                Some((name.trim().to_ascii_lowercase(), unquoted(value.trim())))
            })
            .take(MAX_PARAMETERS)
            .collect();
        Self { value, parameters }
    }

    /// The plain parameter of a name.
    pub fn plain(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let (_, value) = parameters.find(|(other, _)| other == name)?;
        Some(value)
    }

    /// The parameter of a name, whole or in pieces, with or without charset.
    pub fn get(&self, name: &str) -> Option<String> {
        let mut pieces: Vec<(u32, bool, &str)> = Vec::new();
        for (other, value) in &self.parameters {
            let Some(rest) = other
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('*'))
            else {
                continue;
            };
            let (number, is_encoded) = match rest.strip_suffix('*') {
                Some(number) => (number, true),
                None => (rest, rest.is_empty()),
            };
            let number = if rest.is_empty() {
                Some(0)
            } else {
                number.parse().ok()
            };
            if let Some(number) = number {
                pieces.push((number, is_encoded, value));
            }
        }
        if pieces.is_empty() {
            return self.plain(name).map(header::words);
        }
        pieces.sort_by_key(|(number, ..)| *number);
        Some(joined(&pieces))
    }
}

/// Joins the pieces of a parameter. The first tells the charset, if any does.
fn joined(pieces: &[(u32, bool, &str)]) -> String {
    let mut label = None;
    let mut bytes = Vec::new();
    for (at, (_, is_encoded, value)) in pieces.iter().enumerate() {
        if !is_encoded {
            bytes.extend(value.as_bytes());
            continue;
        }
        let mut value = *value;
        if at == 0 {
            let mut words = value.splitn(3, '\'');
            if let (Some(charset), Some(_), Some(rest)) = (words.next(), words.next(), words.next())
            {
                label = Some(charset);
                value = rest;
            }
        }
        percent_decoded(value, &mut bytes);
    }
    charset::decode(label, &bytes)
}

/// Undoes the escapes of a piece.
fn percent_decoded(value: &str, bytes: &mut Vec<u8>) {
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match form::escaped(after) {
            Some((byte, after)) if *first == b'%' => {
                bytes.push(byte);
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
}

/// Splits a field at the semicolons outside of quotes.
fn pieces(field: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut is_quoted = false;
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ';' if !is_quoted => {
                pieces.push(std::mem::take(&mut piece));
                continue;
            }
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => {
                piece.push(letter);
                piece.extend(letters.next());
                continue;
            }
            _ => {}
        }
        piece.push(letter);
    }
    pieces.push(piece);
    pieces
}

/// Takes away quotes and the backslashes that belong to them; others are of paths.
fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some(next @ ('"' | '\\'))) => {
                text.push(*next);
                letters.next();
            }
            ('"', _) => break,
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_in_all_their_forms() {
        let name = |field: &str| Parameters::of(field).get("filename").unwrap_or_default();
        assert_eq!(
            name("attachment; filename*=UTF-8''Rechnung%20M%C3%A4rz.pdf"),
            "Rechnung März.pdf"
        );
        assert_eq!(name("x; filename=my file.pdf; size=1"), "my file.pdf");
        assert_eq!(
            name("x; FileName=\"a;\\\"b\\\" C:\\d.pdf\""),
            "a;\"b\" C:\\d.pdf"
        );
        assert_eq!(
            name("x; filename*1=b.pdf; filename*0*=iso-8859-1'de'%e9%20"),
            "é b.pdf"
        );
        assert_eq!(
            name("x; filename*0*=''a%C3; filename*1*=%A9; filename=z"),
            "aé"
        );
        assert_eq!(
            name("x; filename=\"=?UTF-8?Q?M=C3=A4rz?=.pdf\""),
            "März.pdf"
        );
        assert_eq!(name("x; filename=\"open"), "open");
        assert_eq!(name("x"), "");
        assert_eq!(Parameters::of(" Text/PLAIN (x); a=b").value, "text/plain");
    }
}
