//! Reads text in the charsets of mail.

use encoding_rs::{Encoding, GBK, REPLACEMENT, SHIFT_JIS, UTF_8, WINDOWS_1252};

/// Reads text in the charset of a label. An unknown one is taken for UTF-8, and what is not UTF-8
/// for windows-1252.
pub fn decode(label: Option<&str>, bytes: &[u8]) -> String {
    let label = label.unwrap_or_default();
    let label = label
        .trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\''))
        .to_ascii_lowercase();
    if matches!(
        label.as_str(),
        "utf-7" | "utf7" | "unicode-1-1-utf-7" | "x-unicode-2-0-utf-7" | "csutf7"
    ) {
        return utf_7(bytes);
    }
    match encoding(&label) {
        Some(encoding) if encoding != UTF_8 => encoding.decode(bytes).0.into_owned(),
        Some(_) => utf_8(bytes),
        None => guess(bytes),
    }
}

/// The encoding of a label in lower case; none for one that says nothing.
fn encoding(label: &str) -> Option<&'static Encoding> {
    // Much is labelled so that is no ASCII.
    if matches!(
        label,
        "" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "unknown-8bit"
    ) {
        return None;
    }
    let known = match label {
        "cp936" | "ms936" | "windows-936" => Some(GBK),
        "cp932" | "windows-932" => Some(SHIFT_JIS),
        "cp949" | "ms949" => Encoding::for_label(b"euc-kr"),
        "latin-1" => Some(WINDOWS_1252),
        "utf8mb4" | "utf_8" => Some(UTF_8),
        _ => Encoding::for_label(label.as_bytes())
            .or_else(|| Encoding::for_label(label.replace('_', "-").as_bytes())),
    };
    // Of these the standard of the web lets nothing be read.
    known.filter(|encoding| *encoding != REPLACEMENT)
}

/// Reads text of which nothing is known.
fn guess(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => without_mark(text).to_owned(),
        Err(_) => WINDOWS_1252
            .decode_without_bom_handling(bytes)
            .0
            .into_owned(),
    }
}

/// Reads text that says it is UTF-8, which is believed if any of it is.
fn utf_8(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_there = |letter: char| !letter.is_ascii() && letter != '\u{fffd}';
    if text.contains('\u{fffd}') && !text.contains(is_there) {
        return guess(bytes);
    }
    without_mark(&text).to_owned()
}

/// Takes away the mark of the byte order.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads UTF-7: ASCII, and UTF-16 in base64 between `+` and what is no digit of it.
fn utf_7(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'+' {
            text.push(if first.is_ascii() {
                char::from(*first)
            } else {
                '\u{fffd}'
            });
            continue;
        }
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let end = after
            .iter()
            .position(|byte| !is_digit(byte))
            .unwrap_or(after.len());
        let (digits, after) = after.split_at_checked(end).unwrap_or((after, &[]));
        rest = after.strip_prefix(b"-").unwrap_or(after);
        if digits.is_empty() {
            text.push('+');
            continue;
        }
        let decoded = super::transfer::base64(digits);
        let (pairs, _) = decoded.as_chunks::<2>();
        let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
        text.extend(char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}')));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_are_known_by_all_their_labels() {
        let read = |label: &str, bytes: &[u8]| decode(Some(label), bytes);
        assert_eq!(read("iso-8859-1", b"\x80 \xe9"), "€ é");
        assert_eq!(read("ks_c_5601-1987", b"\xbe\xc8"), "안");
        assert_eq!(read("\"GB2312\"", b"\xc4\xe3"), "你");
        assert_eq!(read("gb2312", b"\x81\x40"), "丂");
        assert_eq!(read("cp936", b"\xc4\xe3"), "你");
        assert_eq!(read("iso-2022-jp", b"\x1b$B%O\x1b(B"), "ハ");
        assert_eq!(
            read("utf-7", b"a +AOk- +- +ZYeHTA"),
            "a é + 文致".replace('致', "\u{874c}")
        );
        assert_eq!(read("utf-16", b"\xff\xfea\0"), "a");
        assert_eq!(read("iso_8859-1", b"\xe9"), "é");
    }

    #[test]
    fn unknown_charsets_are_guessed() {
        for label in [
            None,
            Some("x-klingon"),
            Some("us-ascii"),
            Some("iso-2022-kr"),
        ] {
            assert_eq!(decode(label, "é".as_bytes()), "é");
            assert_eq!(decode(label, b"\xe9 \x80"), "é €");
        }
        assert_eq!(decode(Some("utf-8"), b"\xe9t\xe9"), "été");
        assert_eq!(decode(Some("utf-8"), b"\xc3\xa9 \xe9"), "é \u{fffd}");
        assert_eq!(decode(Some("utf-8"), b"\xef\xbb\xbfa"), "a");
    }
}
