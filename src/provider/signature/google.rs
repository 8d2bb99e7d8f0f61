//! The tokens that Google's Pub/Sub shows with its pushes.
//!
//! One proves whose subscription pushes, and to where. It says nothing of the body.

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use serde_json::Value;

use crate::provider::lenient::list;
use crate::provider::signature::header;

/// The most that all keys may have together, in bytes. Google's have some 1,500.
pub const MAX_KEYS_BYTES: usize = 64 * 1024;

/// How Google calls itself.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// How far Google's clock may be from ours, in seconds.
const SKEW: i64 = 300;
/// Google's tokens have some 1,000 bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
const MAX_KEY_ID_BYTES: usize = 256;
/// Google has two or three keys at a time.
const MAX_KEYS: usize = 16;
/// From 2,048 bits to 8,192.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
const MAX_EXPONENT_BYTES: usize = 4;

/// The public keys that sign tokens.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: String,
    public: ParsedPublicKey,
}

impl Keys {
    /// Reads a JSON Web Key Set. What is no key for RS256 is passed over.
    ///
    /// # Errors
    /// The set is too long, no JSON, or without a key that can be used.
    pub fn read(set: &[u8]) -> Result<Self, String> {
        if set.len() > MAX_KEYS_BYTES {
            return Err(format!("the keys have more than {MAX_KEYS_BYTES} bytes"));
        }
        let set: Value = serde_json::from_slice(set).map_err(|_| "the keys are no JSON")?;
        let keys = list(&set, "/keys").iter().filter_map(key);
        let keys: Vec<Key> = keys.take(MAX_KEYS).collect();
        if keys.is_empty() {
            return Err("none of the keys can be used".to_owned());
        }
        Ok(Self(keys))
    }
}

/// Reads a key, if it is one of RSA that signs by SHA-256.
fn key(value: &Value) -> Option<Key> {
    let text = |name| value.get(name).and_then(Value::as_str);
    let may_sign = text("kty") == Some("RSA")
        && text("alg").is_none_or(|algorithm| algorithm == "RS256")
        && text("use").is_none_or(|purpose| purpose == "sig");
    let id = text("kid").filter(|id| may_sign && is_key_id(id))?;
    let (n, e) = (number(text("n")?)?, number(text("e")?)?);
    if !MODULUS_BYTES.contains(&n.len()) || e.len() > MAX_EXPONENT_BYTES {
        return None;
    }
    let public = RsaPublicKeyComponents { n, e };
    let public = public.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    Some(Key {
        id: id.to_owned(),
        public: public.ok()?,
    })
}

/// Reads a number from Base64, without the zeros that it may begin with.
fn number(digits: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(digits).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).map(<[u8]>::to_vec)
}

fn is_key_id(id: &str) -> bool {
    (1..=MAX_KEY_ID_BYTES).contains(&id.len())
}

/// Whose pushes are believed.
#[derive(Debug, Clone, Copy)]
pub struct Pusher<'a> {
    /// What a token may be for: our addresses, or what the subscription has been told instead.
    pub audiences: &'a [String],
    /// The service account of the subscription, as Google writes its address.
    pub service_account: &'a str,
}

/// What the token of a request proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The pusher pushes.
    Given,
    /// Nothing yet: all is right, but the key is none of these. Google may have a new one.
    UnknownKey,
    /// Nothing, and why.
    Refused(&'static str),
}

/// Judges the token of a request at a time in seconds since 1970.
pub fn proof(keys: &Keys, pusher: &Pusher<'_>, now: i64, headers: &HeaderMap) -> Proof {
    let Some(token) = header::credentials(headers, "Bearer").and_then(Token::of) else {
        return Proof::Refused("no token of RS256");
    };
    let mut of_id = keys.0.iter().filter(|key| key.id == token.key_id);
    let is_signed = of_id.clone().any(|key| {
        let verified = key.public.verify_sig(token.signed, &token.signature);
        verified.is_ok()
    });
    let objection = token.objection(pusher, now);
    match (of_id.next(), objection) {
        // A stranger can name any key. That nothing else is wrong keeps most of them from making us
        // ask Google.
        (None, None) => Proof::UnknownKey,
        (Some(_), None) if is_signed => Proof::Given,
        (Some(_), _) if !is_signed => Proof::Refused("not signed by the key it names"),
        (_, objection) => Proof::Refused(objection.unwrap_or_default()),
    }
}

/// A token that says it is signed by RSA with SHA-256.
struct Token<'a> {
    key_id: String,
    claims: Value,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart, and checks nothing but its form.
    fn of(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = json(header)?;
        let text = |name| header.get(name).and_then(Value::as_str);
        // What is critical is nothing that we know.
        if text("alg") != Some("RS256") || header.get("crit").is_some() {
            return None;
        }
        Some(Self {
            key_id: text("kid").filter(|id| is_key_id(id))?.to_owned(),
            claims: json(claims)?,
            signed: signed.as_bytes(),
            signature: BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// What is wrong with the claims, if anything is.
    fn objection(&self, pusher: &Pusher<'_>, now: i64) -> Option<&'static str> {
        let text = |name| self.claims.get(name).and_then(Value::as_str).unwrap_or("");
        let time = |name| self.claims.get(name).and_then(Value::as_i64);
        let is_verified = self.claims.get("email_verified") == Some(&Value::Bool(true));
        let (audience, email) = (text("aud"), text("email"));
        let of_audience = pusher.audiences.iter().any(|ours| ours == audience);
        let checks = [
            (ISSUERS.contains(&text("iss")), "not issued by Google"),
            (!audience.is_empty() && of_audience, "for somebody else"),
            (
                !email.is_empty() && email == pusher.service_account,
                "of another service account",
            ),
            (is_verified, "of an account that nobody has verified"),
            (
                time("iat").is_some_and(|begin| begin.saturating_sub(SKEW) <= now),
                "not valid yet",
            ),
            (
                time("exp").is_some_and(|end| now <= end.saturating_add(SKEW)),
                "not valid any more",
            ),
        ];
        let mut wrong = checks.into_iter().filter(|(is_right, _)| !is_right);
        wrong.next().map(|(_, why)| why)
    }
}

/// Reads a part of a token.
fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
    use http::HeaderValue;
    use http::header::AUTHORIZATION;
    use serde_json::json;

    use super::*;

    const SET: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/keys/google_jwks.json"
    ));
    const VECTORS: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/vectors.json"
    ));
    const NOW: i64 = 1_773_480_010;
    const AUDIENCE: &str = "https://hooks.inbox.example/webhooks/gmail";
    const ACCOUNT: &str = "gmail-push@inbox-samples.iam.gserviceaccount.com";

    /// Made anew for each run.
    static PAIR: LazyLock<RsaKeyPair> =
        LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Our own key as Google would tell it.
    fn told() -> Value {
        // SEQUENCE { INTEGER n, INTEGER 65537 }, with a zero before the first of 256 bytes.
        let der = PAIR.public_key().as_ref();
        assert_eq!(der.len(), 270);
        json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "ours",
               "n": encode(&der[9..265]), "e": "AQAB"})
    }

    fn ours() -> Keys {
        Keys::read(json!({"keys": [told()]}).to_string().as_bytes()).unwrap()
    }

    fn token(header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let (random, mut signature) = (SystemRandom::new(), [0; 256]);
        let signing = PAIR.sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        );
        signing.unwrap();
        format!("{signed}.{}", encode(signature))
    }

    fn headers(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    fn judged(keys: &Keys, headers: &HeaderMap) -> Proof {
        let audiences = ["https://first.example".to_owned(), AUDIENCE.to_owned()];
        let pusher = Pusher {
            audiences: &audiences,
            service_account: ACCOUNT,
        };
        proof(keys, &pusher, NOW, headers)
    }

    fn header() -> Value {
        json!({"alg": "RS256", "kid": "ours", "typ": "JWT"})
    }

    fn claims() -> Value {
        json!({"iss": ISSUERS[0], "aud": AUDIENCE, "email": ACCOUNT, "email_verified": true,
               "iat": NOW - 10, "exp": NOW + 3590, "sub": "113774264463038321964"})
    }

    fn changed(mut value: Value, name: &str, to: Value) -> Value {
        value[name] = to;
        value
    }

    #[test]
    fn every_sample_is_judged_as_it_should_be() {
        let document: Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = document["vectors"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let keys = Keys::read(SET).unwrap();
        let mut seen = Vec::new();
        for vector in vectors.filter(|vector| vector["scheme"] == "google-oidc") {
            assert_eq!(vector["jwks_file"], "gmail/keys/google_jwks.json");
            let audiences = [text(&vector["audience"])];
            let pusher = Pusher {
                audiences: &audiences,
                service_account: &text(&vector["service_account"]),
            };
            let value = HeaderValue::from_str(&text(&vector["headers"]["Authorization"])).unwrap();
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            let now = vector["now"].as_i64().unwrap();
            let id = text(&vector["id"]);
            let expected = match id.as_str() {
                "gm-01-ok" => Proof::Given,
                "gm-02-wrong-aud" => Proof::Refused("for somebody else"),
                "gm-03-wrong-email" => Proof::Refused("of another service account"),
                "gm-04-expired" => Proof::Refused("not valid any more"),
                "gm-05-alg-none" | "gm-06-hs256-with-public-key" => {
                    Proof::Refused("no token of RS256")
                }
                "gm-07-unknown-kid" => Proof::UnknownKey,
                other => panic!("nobody checks {other}"),
            };
            let judged = proof(&keys, &pusher, now, &headers);
            assert_eq!(judged, expected, "{id}");
            assert_eq!(vector["valid"], judged == Proof::Given, "{id}");
            seen.push(id);
        }
        assert_eq!(seen.len(), 7);
    }

    #[test]
    fn each_claim_counts() {
        let believes = |name, to| {
            let claims = changed(claims(), name, to);
            judged(&ours(), &headers(&token(&header(), &claims))) == Proof::Given
        };
        assert!(believes("more", json!([{}])));
        assert!(believes("iss", json!("accounts.google.com")));
        assert!(believes("aud", json!("https://first.example")));
        assert!(believes("exp", json!(NOW - 300)));
        assert!(believes("iat", json!(NOW + 300)));
        assert!(believes("exp", json!(i64::MAX)));
        for (name, to) in [
            ("iss", json!("http://accounts.google.com")),
            ("iss", json!("https://accounts.google.com/")),
            ("iss", Value::Null),
            ("aud", json!(format!("{AUDIENCE}/"))),
            ("aud", json!([AUDIENCE])),
            ("aud", json!("")),
            ("email", json!(ACCOUNT.to_uppercase())),
            ("email", json!("")),
            ("email_verified", json!("true")),
            ("email_verified", json!(false)),
            ("exp", json!(NOW - 301)),
            ("exp", json!((NOW + 9).to_string())),
            ("exp", json!(u64::MAX)),
            ("exp", json!(i64::MIN)),
            ("iat", json!(NOW + 301)),
            ("iat", json!(i64::MAX)),
            ("iat", Value::Null),
        ] {
            assert!(!believes(name, to.clone()), "{name}: {to}");
        }
        let none = headers(&token(&header(), &json!([])));
        assert_eq!(
            judged(&ours(), &none),
            Proof::Refused("not issued by Google")
        );
    }

    #[test]
    fn nothing_matches_what_is_not_set() {
        let claims = changed(claims(), "email", json!(""));
        let audiences = [AUDIENCE.to_owned(), String::new()];
        let pusher = |audiences| Pusher {
            audiences,
            service_account: "",
        };
        let shown = headers(&token(&header(), &claims));
        let refused = Proof::Refused("of another service account");
        assert_eq!(proof(&ours(), &pusher(&audiences), NOW, &shown), refused);
        let refused = Proof::Refused("for somebody else");
        assert_eq!(proof(&ours(), &pusher(&[]), NOW, &shown), refused);
        let shown = headers(&token(&header(), &changed(claims, "aud", json!(""))));
        assert_eq!(proof(&ours(), &pusher(&audiences), NOW, &shown), refused);
    }

    #[test]
    fn only_a_signature_of_the_named_key_is_one() {
        let good = token(&header(), &claims());
        assert_eq!(judged(&ours(), &headers(&good)), Proof::Given);
        let unsigned = Proof::Refused("not signed by the key it names");
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (first, _) = signed.split_once('.').unwrap();
        let other = format!("{first}.{}.{signature}", encode(r#"{"iss":"x"}"#));
        assert_eq!(judged(&ours(), &headers(&other)), unsigned);
        assert_eq!(judged(&ours(), &headers(&format!("{signed}."))), unsigned);
        let short = format!("{signed}.{}", encode([1; 255]));
        assert_eq!(judged(&ours(), &headers(&short)), unsigned);
        // The sample's key under our name.
        let mut set: Value = serde_json::from_slice(SET).unwrap();
        set["keys"][0]["kid"] = json!("ours");
        let keys = Keys::read(set.to_string().as_bytes()).unwrap();
        assert_eq!(judged(&keys, &headers(&good)), unsigned);
        // Of two keys of one name either may sign.
        set["keys"].as_array_mut().unwrap().push(told());
        let keys = Keys::read(set.to_string().as_bytes()).unwrap();
        assert_eq!(judged(&keys, &headers(&good)), Proof::Given);
    }

    #[test]
    fn an_unknown_key_is_worth_a_question_if_nothing_else_is_wrong() {
        let header = changed(header(), "kid", json!("new"));
        let shown = headers(&token(&header, &claims()));
        assert_eq!(judged(&ours(), &shown), Proof::UnknownKey);
        let expired = changed(claims(), "exp", json!(NOW - 301));
        let shown = headers(&token(&header, &expired));
        let refused = Proof::Refused("not valid any more");
        assert_eq!(judged(&ours(), &shown), refused);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let refused = Proof::Refused("no token of RS256");
        let good = token(&header(), &claims());
        for header in [
            changed(header(), "alg", json!("RS512")),
            changed(header(), "alg", json!("rs256")),
            changed(header(), "alg", json!(["RS256"])),
            changed(header(), "crit", json!(["exp"])),
            changed(header(), "kid", json!("")),
            changed(header(), "kid", json!("k".repeat(257))),
            changed(header(), "kid", json!(1)),
            json!("RS256"),
        ] {
            let shown = headers(&token(&header, &claims()));
            assert_eq!(judged(&ours(), &shown), refused, "{header}");
        }
        let (first, _) = good.split_once('.').unwrap();
        let deep = format!("{first}.{}.AAAA", encode("[".repeat(5000)));
        for wrong in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            "e30.e30.AAAA",
            &format!("{good}."),
            &format!(".{good}"),
            &format!(" {good}"),
            &format!("{good}="),
            &format!("{good}{}", "A".repeat(MAX_TOKEN_BYTES)),
            &deep,
        ] {
            assert_eq!(judged(&ours(), &headers(wrong)), refused, "{wrong}");
        }
        assert_eq!(judged(&ours(), &HeaderMap::new()), refused);
        let mut doubled = headers(&good);
        doubled.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(judged(&ours(), &doubled), refused);
        let mut basic = HeaderMap::new();
        let value = format!("Basic {good}");
        basic.insert(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
        assert_eq!(judged(&ours(), &basic), refused);
    }

    #[test]
    fn keys_that_cannot_be_used_are_passed_over() {
        let count = |keys: Value| {
            let set = json!({ "keys": keys }).to_string();
            Keys::read(set.as_bytes()).map(|keys| keys.0.len())
        };
        let bare = json!({"kty": "RSA", "kid": "a", "n": told()["n"], "e": "AQAB", "x": 1});
        assert_eq!(count(json!([bare])), Ok(1));
        let zeros = format!("AAAA{}", told()["n"].as_str().unwrap());
        assert_eq!(count(json!([changed(told(), "n", json!(zeros))])), Ok(1));
        assert_eq!(count(json!(vec![told(); 20])), Ok(MAX_KEYS));
        let unused = Err("none of the keys can be used".to_owned());
        for (name, to) in [
            ("kty", json!("EC")),
            ("alg", json!("RS384")),
            ("use", json!("enc")),
            ("kid", Value::Null),
            ("kid", json!("")),
            ("n", json!(encode([255; 255]))),
            ("n", json!(encode([255; 1025]))),
            ("n", json!("+")),
            ("n", json!("")),
            ("e", json!("")),
            ("e", json!("AAAA")),
            ("e", json!(encode([1; 5]))),
            ("e", json!(65537)),
        ] {
            let key = changed(told(), name, to);
            assert_eq!(count(json!([key, 1])), unused, "{key}");
        }
        assert_eq!(count(json!({})), unused);
        assert_eq!(Keys::read(b"[]").map(|keys| keys.0.len()), unused);
        assert!(Keys::read(b"<html>").is_err());
        let padded = [SET, &vec![b' '; MAX_KEYS_BYTES]].concat();
        assert!(Keys::read(&padded).is_err());
    }
}
