//! The proofs of unofficial WhatsApp gateways: WAHA signs, Evolution shows a token or a key.

use aws_lc_rs::hmac;
use http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::Value;

#[cfg(test)]
use crate::hex;
use crate::provider::signature::{digest, header};

/// Carries WAHA's signature, in hexadecimal digits.
const SIGNATURE: &str = "x-webhook-hmac";
/// Names the algorithm of WAHA's signature. There is only one that we take.
const ALGORITHM: &str = "x-webhook-hmac-algorithm";
const SIGNATURE_BYTES: usize = 64;
/// How far a gateway's clock may be from ours, in seconds.
const SKEW: i64 = 60;

/// Tells whether WAHA's secret signed a body.
pub fn is_signed_by(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    signature(headers).is_some_and(|signature| {
        digest::is_signed_by(hmac::HMAC_SHA512, secret, &[body], &signature)
    })
}

/// Reads WAHA's signature; `None` where there is none, two, one that is none, or one of another
/// algorithm.
pub fn signature(headers: &HeaderMap) -> Option<[u8; SIGNATURE_BYTES]> {
    if headers.contains_key(ALGORITHM) && header::only(headers, ALGORITHM)? != b"sha512" {
        return None;
    }
    digest::from_hex(header::only(headers, SIGNATURE)?)
}

/// Signs a body as WAHA does.
#[cfg(test)]
pub fn sign(secret: &str, body: &[u8]) -> String {
    hex::digits(digest::sign(hmac::HMAC_SHA512, secret, &[body]).as_ref())
}

/// Tells whether a request shows a token of Evolution that a secret signed and that still holds.
/// It says nothing of the body.
pub fn is_sent_by(secret: &str, now: i64, headers: &HeaderMap) -> bool {
    let Some(token) = header::credentials(headers, "Bearer").filter(|_| !secret.is_empty()) else {
        return false;
    };
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    let key = DecodingKey::from_secret(secret.as_bytes());
    decode::<Value>(token, &key, &validation).is_ok_and(|token| {
        token.header.crit.is_none() && is_of_webhook(&token.claims) && holds(&token.claims, now)
    })
}

fn is_of_webhook(claims: &Value) -> bool {
    let says = |name, expected| claims.get(name).and_then(Value::as_str) == Some(expected);
    says("app", "evolution") && says("action", "webhook")
}

fn holds(claims: &Value, now: i64) -> bool {
    let time = |name| claims.get(name).and_then(Value::as_i64);
    let has_begun = time("iat").is_none_or(|begin| begin.saturating_sub(SKEW) <= now);
    has_begun && time("exp").is_some_and(|end| now <= end.saturating_add(SKEW))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "my-secret-key";
    const BODY: &[u8] = br#"{"event":"message","session":"default","engine":"WEBJS"}"#;
    const NOW: i64 = 1_773_480_005;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn wahas_signature_is_believed() {
        let signed = sign(SECRET, BODY);
        let believes = |all: &[(&'static str, &str)]| is_signed_by(SECRET, &headers(all), BODY);
        assert!(signed.starts_with("208f8a55dde9e05519e898b10b89bf0d"));
        assert!(believes(&[(SIGNATURE, &signed)]));
        assert!(believes(&[(SIGNATURE, &signed.to_uppercase())]));
        assert!(believes(&[(SIGNATURE, &signed), (ALGORITHM, "sha512")]));
        assert!(!believes(&[(SIGNATURE, &signed), (ALGORITHM, "sha256")]));
        assert!(!believes(&[(SIGNATURE, &signed), (ALGORITHM, "")]));
        assert!(!believes(&[
            (SIGNATURE, &signed),
            (ALGORITHM, "sha512"),
            (ALGORITHM, "sha512")
        ]));
        assert!(!believes(&[(SIGNATURE, &signed), (SIGNATURE, &signed)]));
        assert!(!believes(&[(SIGNATURE, &signed[..126])]));
        assert!(!believes(&[(SIGNATURE, &format!(" {signed}"))]));
        assert!(!believes(&[(SIGNATURE, &format!("sha512={signed}"))]));
        assert!(!believes(&[]));
        assert!(!is_signed_by(
            "",
            &headers(&[(SIGNATURE, &sign("", BODY))]),
            BODY
        ));
        assert!(!is_signed_by(
            SECRET,
            &headers(&[(SIGNATURE, &signed)]),
            &BODY[1..]
        ));
    }

    fn token(header: &Header, claims: &Value, secret: &str) -> HeaderMap {
        let token = encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
        HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
        )])
    }

    #[test]
    fn evolutions_token_says_what_it_is_for_and_how_long() {
        let claims = |begin: i64, end: i64| json!({"iat": NOW + begin, "exp": NOW + end, "app": "evolution", "action": "webhook"});
        let header = Header::new(Algorithm::HS256);
        let believes = |claims: &Value| is_sent_by(SECRET, NOW, &token(&header, claims, SECRET));
        assert!(believes(&claims(0, 600)));
        assert!(believes(&claims(60, 600)));
        assert!(believes(&claims(-660, -60)));
        assert!(!believes(&claims(61, 600)));
        assert!(!believes(&claims(-661, -61)));
        assert!(!believes(&json!({"app": "evolution", "action": "webhook"})));
        assert!(!believes(&json!({"exp": NOW + 9, "app": "evolution"})));
        assert!(!believes(
            &json!({"exp": NOW + 9, "app": "other", "action": "webhook"})
        ));
        assert!(!believes(
            &json!({"exp": "9999999999", "app": "evolution", "action": "webhook"})
        ));
    }

    #[test]
    fn a_token_of_another_secret_or_algorithm_is_refused() {
        let claims = json!({"exp": NOW + 600, "app": "evolution", "action": "webhook"});
        let header = Header::new(Algorithm::HS256);
        let other = Header::new(Algorithm::HS512);
        assert!(!is_sent_by(SECRET, NOW, &token(&header, &claims, "other")));
        assert!(!is_sent_by(SECRET, NOW, &token(&other, &claims, SECRET)));
        assert!(!is_sent_by("", NOW, &token(&header, &claims, "")));
        let mut doubled = token(&header, &claims, SECRET);
        assert!(is_sent_by(SECRET, NOW, &doubled));
        doubled.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert!(!is_sent_by(SECRET, NOW, &doubled));
        assert!(!is_sent_by(SECRET, NOW, &HeaderMap::new()));
    }
}
