//! What Meta's products have in common: the signature of webhooks, the proof of a subscription.

use aws_lc_rs::hmac::HMAC_SHA256;
use http::HeaderMap;

use super::{digest, header};
use crate::hex;

/// Carries the signature: `sha256=` and 64 hexadecimal digits.
const SIGNATURE: &str = "x-hub-signature-256";
const DIGEST_BYTES: usize = 32;

/// Reads the signature of a webhook; `None` where there is none, two, or one that is none.
pub fn signature(headers: &HeaderMap) -> Option<[u8; DIGEST_BYTES]> {
    let digits = header::only(headers, SIGNATURE)?.strip_prefix(b"sha256=")?;
    digest::from_hex(digits)
}

/// Tells whether an app's secret made a signature of a body.
pub fn is_signed_by(secret: &str, body: &[u8], signature: &[u8]) -> bool {
    digest::is_signed_by(HMAC_SHA256, secret, &[body], signature)
}

/// Tells whether a subscription proves that it is meant for an app.
pub fn is_token(expected: &str, given: &str) -> bool {
    digest::is_secret(expected, given)
}

/// Signs a body as Meta does.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let digest = digest::sign(HMAC_SHA256, secret, &[body]);
    format!("sha256={}", hex::digits(digest.as_ref()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BODY: &[u8] = br#"{"object":"page","entry":[]}"#;
    const SIGNED: &str = "sha256=1a82db3abc2fa71a3fffecfedef579a8468a44850cd8a83a0c56974faff81689";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SIGNATURE, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_documented_signature_is_believed_and_made() {
        let signature = signature(&headers(&[SIGNED])).unwrap();
        assert!(is_signed_by("test-app-secret", BODY, &signature));
        assert!(!is_signed_by("another-secret", BODY, &signature));
        assert!(!is_signed_by("", BODY, &signature));
        assert_eq!(sign("test-app-secret", BODY), SIGNED);
    }

    #[test]
    fn what_is_no_signature_is_none() {
        let digits = &SIGNED["sha256=".len()..];
        let wrong = [
            String::new(),
            digits.to_owned(),
            format!("sha256=sha256={digits}"),
            format!("sha1={digits}"),
            SIGNED[..SIGNED.len() - 2].to_owned(),
            format!("{SIGNED}00"),
            SIGNED.replace('f', "g"),
            SIGNED.replace('1', "+"),
        ];
        for wrong in wrong {
            assert_eq!(signature(&headers(&[&wrong])), None, "{wrong}");
        }
        assert_eq!(signature(&headers(&[])), None);
        assert_eq!(signature(&headers(&[SIGNED, SIGNED])), None);
    }

    #[test]
    fn an_app_without_a_token_has_no_subscription() {
        assert!(is_token("token", "token"));
        assert!(!is_token("token", "Token"));
        assert!(!is_token("", ""));
    }
}
