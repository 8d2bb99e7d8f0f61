//! The signature of Twilio's mail service: of its events as of incoming mail.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;

use crate::provider::signature::header;

/// Carries the signature: DER in Base64.
const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
/// Carries when it was made, in seconds since 1970.
const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
/// Two numbers of 256 bits in DER have no more bytes than this, in Base64.
const MAX_SIGNATURE_BYTES: usize = 96;
/// How far its clock may be ahead of ours, in seconds.
const AHEAD: i64 = 300;

/// How old a signature may be, in seconds, where nothing else is asked for.
pub const WINDOW: i64 = 4 * 24 * 3600;

/// Tells whether the owner of a public key (SPKI in Base64) signed a body within so many seconds.
pub fn is_signed_by(
    public_key: &str,
    window: i64,
    now: i64,
    headers: &HeaderMap,
    body: &[u8],
) -> bool {
    let Some(timestamp) = header::text(headers, TIMESTAMP) else {
        return false;
    };
    let (Some(key), Some(signature)) = (key(public_key), signature(headers)) else {
        return false;
    };
    let mut digest = Context::new(&SHA256);
    digest.update(timestamp.as_bytes());
    digest.update(body);
    is_recent(timestamp, window, now)
        && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify_digest(&digest.finish(), &signature)
            .is_ok()
}

/// Reads the signature of a webhook; `None` where there is none, two, or one that is none.
pub fn signature(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = header::only(headers, SIGNATURE)?;
    if text.is_empty() || text.len() > MAX_SIGNATURE_BYTES {
        return None;
    }
    BASE64_STANDARD.decode(text).ok()
}

fn key(public_key: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(public_key.trim()).ok()
}

fn is_recent(timestamp: &str, window: i64, now: i64) -> bool {
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let Some(at) = timestamp.parse::<i64>().ok().filter(|_| digits) else {
        return false;
    };
    let age = now.saturating_sub(at);
    (-AHEAD..=window).contains(&age)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair as _,
    };
    use http::HeaderValue;

    use super::*;

    const NOW: i64 = 1_773_480_042;
    const BODY: &[u8] = b"[{\"event\":\"open\"}]\r\n";

    fn signed(
        algorithm: &'static EcdsaSigningAlgorithm,
        timestamp: &str,
        body: &[u8],
    ) -> (String, HeaderMap) {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let der: PublicKeyX509Der = pair.public_key().as_der().unwrap();
        let message = [timestamp.as_bytes(), body].concat();
        let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP, HeaderValue::from_str(timestamp).unwrap());
        let signature = BASE64_STANDARD.encode(signature.as_ref());
        headers.insert(SIGNATURE, HeaderValue::from_str(&signature).unwrap());
        (BASE64_STANDARD.encode(der.as_ref()), headers)
    }

    fn p256(timestamp: i64) -> (String, HeaderMap) {
        signed(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &timestamp.to_string(),
            BODY,
        )
    }

    #[test]
    fn a_signature_is_believed_within_its_window() {
        for (at, window, is_believed) in [
            (NOW, WINDOW, true),
            (NOW - WINDOW, WINDOW, true),
            (NOW - WINDOW - 1, WINDOW, false),
            (NOW - 601, 86_400, true),
            (NOW + 300, WINDOW, true),
            (NOW + 301, 86_400, false),
        ] {
            let (key, headers) = p256(at);
            assert_eq!(
                is_signed_by(&key, window, NOW, &headers, BODY),
                is_believed,
                "{at}"
            );
        }
    }

    #[test]
    fn what_is_not_signed_by_the_key_is_refused() {
        let (key, headers) = p256(NOW);
        let (other, _) = p256(NOW);
        assert!(is_signed_by(
            &format!(" {key}\n"),
            WINDOW,
            NOW,
            &headers,
            BODY
        ));
        assert!(!is_signed_by(&other, WINDOW, NOW, &headers, BODY));
        assert!(!is_signed_by("", WINDOW, NOW, &headers, BODY));
        assert!(!is_signed_by("key", WINDOW, NOW, &headers, BODY));
        assert!(!is_signed_by(
            &key,
            WINDOW,
            NOW,
            &headers,
            &BODY[..BODY.len() - 2]
        ));
        assert!(!is_signed_by(&key, WINDOW, NOW, &HeaderMap::new(), BODY));
        let mut later = headers.clone();
        later.insert(TIMESTAMP, HeaderValue::from(NOW + 1));
        assert!(!is_signed_by(&key, WINDOW, NOW, &later, BODY));
        for name in [TIMESTAMP, SIGNATURE] {
            let mut doubled = headers.clone();
            doubled.append(name, headers.get(name).unwrap().clone());
            assert!(!is_signed_by(&key, WINDOW, NOW, &doubled, BODY));
        }
    }

    #[test]
    fn a_timestamp_is_digits_and_a_key_of_the_right_curve() {
        for odd in [
            format!("+{NOW}"),
            format!("{NOW} "),
            format!("{NOW}.0"),
            "9".repeat(40),
        ] {
            let (key, headers) = signed(&ECDSA_P256_SHA256_ASN1_SIGNING, &odd, BODY);
            assert!(!is_signed_by(&key, i64::MAX, NOW, &headers, BODY), "{odd}");
        }
        let (key, headers) = signed(&ECDSA_P384_SHA384_ASN1_SIGNING, &NOW.to_string(), BODY);
        assert!(!is_signed_by(&key, WINDOW, NOW, &headers, BODY));
    }
}
