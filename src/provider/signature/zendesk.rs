//! The proofs of Zendesk: the signature of its webhooks, the key of its conversations.

use aws_lc_rs::hmac;
#[cfg(test)]
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::DateTime;
use http::HeaderMap;

use crate::provider::signature::{digest, header};

/// Carries the signature, in Base64.
const SIGNATURE: &str = "x-zendesk-webhook-signature";
/// Carries when it was made, as RFC 3339 says; its text is signed before the body.
const TIMESTAMP: &str = "x-zendesk-webhook-signature-timestamp";
/// Carries the account that sends; not signed.
const ACCOUNT: &str = "x-zendesk-account-id";
/// Carries the secret of a webhook of conversations.
const API_KEY: &str = "x-api-key";
const SIGNATURE_BYTES: usize = 32;
/// How far Zendesk's clock may be from ours, in seconds.
const WINDOW: u64 = 300;

/// Signs what Zendesk sends before a webhook is created. The whole world knows it.
pub const TEST_SECRET: &str = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";

/// Tells whether a webhook's secret, or during its set-up the one for tests, signed a body.
pub fn is_signed_by(
    secret: &str,
    in_setup: bool,
    now: i64,
    headers: &HeaderMap,
    body: &[u8],
) -> bool {
    let (Some(signature), Some(timestamp)) = (signature(headers), header::text(headers, TIMESTAMP))
    else {
        return false;
    };
    let is_signed_by = |secret| {
        let parts = [timestamp.as_bytes(), body];
        digest::is_signed_by(hmac::HMAC_SHA256, secret, &parts, &signature)
    };
    let is_proved = is_signed_by(secret) && secret != TEST_SECRET;
    is_recent(timestamp, now) && (is_proved || in_setup && is_signed_by(TEST_SECRET))
}

/// Reads the signature of a webhook; `None` where there is none, two, or one that is none.
pub fn signature(headers: &HeaderMap) -> Option<[u8; SIGNATURE_BYTES]> {
    digest::from_base64(header::only(headers, SIGNATURE)?)
}

/// Reads the account that a webhook says it is of. It is not signed, and may be missing.
pub fn account(headers: &HeaderMap) -> Option<u64> {
    header::text(headers, ACCOUNT)?.parse().ok()
}

/// Tells whether a webhook of conversations carries its secret.
pub fn has_api_key(secret: &str, headers: &HeaderMap) -> bool {
    header::text(headers, API_KEY).is_some_and(|given| digest::is_secret(secret, given))
}

/// Signs a body as Zendesk does.
#[cfg(test)]
pub fn sign(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let parts = [timestamp.as_bytes(), body];
    BASE64_STANDARD.encode(digest::sign(hmac::HMAC_SHA256, secret, &parts))
}

fn is_recent(timestamp: &str, now: i64) -> bool {
    DateTime::parse_from_rfc3339(timestamp).is_ok_and(|at| at.timestamp().abs_diff(now) <= WINDOW)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SECRET: &str = "Zs4mpl3S3cretKq9vXyTBd7h";
    const AT: &str = "2026-03-14T09:20:05Z";
    const NOW: i64 = 1_773_480_005;

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP, HeaderValue::from_str(timestamp).unwrap());
        headers.insert(SIGNATURE, HeaderValue::from_str(signature).unwrap());
        headers
    }

    #[test]
    fn a_signature_is_believed_within_its_window() {
        for (now, is_believed) in [
            (0, true),
            (300, true),
            (-300, true),
            (301, false),
            (-301, false),
        ] {
            let headers = headers(AT, &sign(SECRET, AT, b""));
            assert_eq!(
                is_signed_by(SECRET, false, NOW + now, &headers, b""),
                is_believed
            );
        }
        let odd = "2026-03-14T11:20:05.123+02:00";
        assert!(is_signed_by(
            SECRET,
            false,
            NOW,
            &headers(odd, &sign(SECRET, odd, b"a")),
            b"a"
        ));
        for wrong in [
            "",
            "1773480005",
            "2026-03-14 09:20:05",
            "2026-03-14T09:20:05",
        ] {
            let headers = headers(wrong, &sign(SECRET, wrong, b"a"));
            assert!(!is_signed_by(SECRET, false, NOW, &headers, b"a"), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_signed_by_the_secret_is_refused() {
        let signed = sign(SECRET, AT, b"a");
        assert!(is_signed_by(SECRET, true, NOW, &headers(AT, &signed), b"a"));
        assert!(!is_signed_by(
            SECRET,
            false,
            NOW,
            &headers(AT, &signed),
            b"b"
        ));
        assert!(!is_signed_by(
            "",
            false,
            NOW,
            &headers(AT, &sign("", AT, b"a")),
            b"a"
        ));
        assert!(!is_signed_by(
            SECRET,
            false,
            NOW,
            &headers(AT, &format!(" {signed}")),
            b"a"
        ));
        assert!(!is_signed_by(
            SECRET,
            false,
            NOW,
            &headers(AT, &signed[..40]),
            b"a"
        ));
        for name in [TIMESTAMP, SIGNATURE] {
            let mut doubled = headers(AT, &signed);
            let value = doubled.get(name).unwrap().clone();
            doubled.append(name, value);
            assert!(!is_signed_by(SECRET, false, NOW, &doubled, b"a"));
        }
    }

    #[test]
    fn the_secret_for_tests_proves_nothing_after_the_set_up() {
        let headers = headers(AT, &sign(TEST_SECRET, AT, b"a"));
        assert!(is_signed_by("", true, NOW, &headers, b"a"));
        assert!(is_signed_by(SECRET, true, NOW, &headers, b"a"));
        assert!(!is_signed_by(SECRET, false, NOW, &headers, b"a"));
        assert!(!is_signed_by(TEST_SECRET, false, NOW, &headers, b"a"));
        assert!(!is_signed_by(SECRET, true, NOW + 301, &headers, b"a"));
    }

    #[test]
    fn keys_and_accounts_are_there_once() {
        let mut headers = HeaderMap::new();
        assert!(!has_api_key("key", &headers));
        assert_eq!(account(&headers), None);
        headers.insert(API_KEY, HeaderValue::from_static("key"));
        headers.insert(ACCOUNT, HeaderValue::from_static("22450118"));
        assert!(has_api_key("key", &headers));
        assert!(!has_api_key("keys", &headers));
        assert_eq!(account(&headers), Some(22_450_118));
        headers.append(API_KEY, HeaderValue::from_static("key"));
        headers.append(ACCOUNT, HeaderValue::from_static("22450118"));
        assert!(!has_api_key("key", &headers));
        assert_eq!(account(&headers), None);
        headers.insert(API_KEY, HeaderValue::from_static(""));
        assert!(!has_api_key("", &headers));
    }
}
