//! Digests as providers write them, and the secrets that make them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Reads a digest of exactly so many bytes from hexadecimal digits of either case.
pub fn from_hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    if digits.len() != BYTES * 2 {
        return None;
    }
    let mut digest = [0; BYTES];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = byte_of(*high, *low)?;
    }
    Some(digest)
}

/// Reads the byte that two hexadecimal digits stand for.
pub fn byte_of(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// Reads a digest of exactly so many bytes from padded Base64.
pub fn from_base64<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    if text.len() != BYTES.div_ceil(3) * 4 {
        return None;
    }
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// Signs the parts of a message, one after the other.
pub fn sign(algorithm: hmac::Algorithm, secret: &str, parts: &[&[u8]]) -> hmac::Tag {
    let key = hmac::Key::new(algorithm, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// Tells whether a secret made a signature of a message's parts. An empty secret made none.
pub fn is_signed_by(
    algorithm: hmac::Algorithm,
    secret: &str,
    parts: &[&[u8]],
    signature: &[u8],
) -> bool {
    let made = sign(algorithm, secret, parts);
    !secret.is_empty() && verify_slices_are_equal(made.as_ref(), signature).is_ok()
}

/// Tells whether a text is a secret, in a time that tells no more than its length.
pub fn is_secret(expected: &str, given: &str) -> bool {
    !expected.is_empty() && verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_one_length() {
        assert_eq!(from_hex(b"00fF7a"), Some([0, 255, 122]));
        for wrong in [
            "", "00fF7", "00fF7a0", "00fF7a00", "00fF7g", "+0fF7a", " 0fF7a",
        ] {
            assert_eq!(from_hex::<3>(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(from_base64(b"AP96AA=="), Some([0, 255, 122, 0]));
        for wrong in [
            "",
            "AP96AA",
            "AP96AA=",
            "AP96AAA=",
            "AP96AB==",
            "AP96AA==AP96",
            " P96AA==",
        ] {
            assert_eq!(from_base64::<4>(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn an_empty_secret_signs_nothing() {
        let made = sign(hmac::HMAC_SHA256, "", &[b"a"]);
        assert!(!is_signed_by(hmac::HMAC_SHA256, "", &[b"a"], made.as_ref()));
        let made = sign(hmac::HMAC_SHA256, "secret", &[b"a", b"bc"]);
        assert!(is_signed_by(
            hmac::HMAC_SHA256,
            "secret",
            &[b"ab", b"c"],
            made.as_ref()
        ));
        assert!(!is_signed_by(
            hmac::HMAC_SHA256,
            "secret",
            &[b"abc"],
            &made.as_ref()[..31]
        ));
        assert!(is_secret("key", "key"));
        assert!(!is_secret("key", "Key"));
        assert!(!is_secret("", ""));
    }
}
