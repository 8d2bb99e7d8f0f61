//! Undoes the transfer encodings of mail, as far as that is possible.

use crate::provider::form::escaped;

/// Decodes base64 of either alphabet, padded or not. What belongs to no alphabet is passed over.
pub fn base64(encoded: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(encoded.len() / 4 * 3);
    let mut bits: u32 = 0;
    let mut count: u32 = 0;
    for byte in encoded {
        let Some(value) = sextet(*byte) else {
            if *byte == b'=' {
                count = 0;
            }
            continue;
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., low] = (bits >> count).to_be_bytes();
            decoded.push(low);
        }
    }
    decoded
}

/// Tells whether a byte is a digit of base64, of either alphabet.
pub fn is_digit(byte: u8) -> bool {
    sextet(byte).is_some()
}

/// The value of a digit of base64.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Decodes quoted-printable. An equals sign that begins no escape stands for itself.
pub fn quoted_printable(encoded: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'=' {
            decoded.push(*first);
        } else if let Some((byte, after)) = escaped(after) {
            decoded.push(byte);
            rest = after;
        } else if let Some(after) = soft_break(after) {
            rest = after;
        } else {
            decoded.push(b'=');
        }
    }
    decoded
}

/// The most blanks that servers put before the end of a line.
const MAX_BLANKS: usize = 80;

/// Reads the end of a line that is none, and blanks that came before it on the way.
fn soft_break(bytes: &[u8]) -> Option<&[u8]> {
    let blanks = bytes.iter().take(MAX_BLANKS);
    let blanks = blanks.take_while(|byte| matches!(byte, b' ' | b'\t'));
    let rest = bytes.get(blanks.count()..)?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix(b"\r\n")
        .or_else(|| rest.strip_prefix(b"\n"))
}

/// Undoes the encoding that a part names; an unknown one is taken for none.
pub(super) fn decode(encoding: &str, content: &[u8]) -> Vec<u8> {
    let encoding = encoding.trim().to_ascii_lowercase();
    if encoding.starts_with("base64") {
        base64(content)
    } else if encoding.starts_with("quoted-printable") {
        quoted_printable(content)
    } else {
        content.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_however_it_is_written() {
        for encoded in ["w6k/", "w6k_\r\n", " w6 k/", "w6k/===="] {
            assert_eq!(base64(encoded.as_bytes()), "é?".as_bytes());
        }
        assert_eq!(base64(b"YQ==Yg=="), b"ab");
        assert_eq!(base64(b"YQ"), b"a");
        assert_eq!(base64(b"Y"), b"");
    }

    #[test]
    fn quoted_printable_is_read_with_its_mistakes() {
        assert_eq!(
            quoted_printable(b"a=C3=a9 =\r\nb= \t\nc=\n=zz 1=2="),
            "aé bc=zz 1=2".as_bytes()
        );
    }
}
