//! Reads urlencoded forms byte by byte: what is signed may be no UTF-8.

use std::borrow::Cow;

use crate::provider::signature::digest;

/// Many more pairs than any provider sends.
pub const MAX_PAIRS: usize = 2_000;

/// A name and its value, decoded.
pub type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Reads the pairs of a form in their order; `None` where there are too many.
pub fn pairs(form: &[u8]) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Vec::new();
    for (name, value) in encoded(form) {
        if pairs.len() == MAX_PAIRS {
            return None;
        }
        pairs.push((decode(name), decode(value)));
    }
    Some(pairs)
}

/// Splits a form into its pairs, and does not decode them.
pub fn encoded(form: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = form.split(|byte| *byte == b'&');
    pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default();
        (name, parts.next().unwrap_or_default())
    })
}

/// Decodes a name or a value. A percent sign that begins no escape stands for itself.
pub fn decode(encoded: &[u8]) -> Cow<'_, [u8]> {
    if !encoded.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, escaped(after)) {
            (b'+', _) => decoded.push(b' '),
            (b'%', Some((byte, after))) => {
                decoded.push(byte);
                rest = after;
            }
            (byte, _) => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

/// Reads two hexadecimal digits and what follows them.
pub fn escaped(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = bytes.split_first_chunk()?;
    Some((digest::byte_of(*high, *low)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_everyone_reads_them() {
        let form = "a=1&&b=&=c&d&e=%26+%3D%e2%82%ac=x&f=%zz%4&a=%2b%";
        let ours = pairs(form.as_bytes()).unwrap();
        let theirs: Vec<_> = form_urlencoded::parse(form.as_bytes()).collect();
        assert_eq!(ours.len(), theirs.len());
        for ((name, value), (their_name, their_value)) in ours.iter().zip(&theirs) {
            assert_eq!(name.as_ref(), their_name.as_bytes());
            assert_eq!(value.as_ref(), their_value.as_bytes());
        }
    }

    #[test]
    fn every_byte_is_kept() {
        let read = pairs(b"a%00=%ff%C3&\xfe=\0").unwrap();
        assert_eq!(read[0], (b"a\0".into(), b"\xff\xc3".into()));
        assert_eq!(read[1], (b"\xfe".into(), b"\0".into()));
    }

    #[test]
    fn a_form_of_too_many_pairs_is_none() {
        assert_eq!(
            pairs("a=1&".repeat(MAX_PAIRS).as_bytes()).unwrap().len(),
            MAX_PAIRS
        );
        assert_eq!(pairs("a=1&".repeat(MAX_PAIRS + 1).as_bytes()), None);
        assert_eq!(pairs("&".repeat(100_000).as_bytes()), Some(Vec::new()));
    }
}
