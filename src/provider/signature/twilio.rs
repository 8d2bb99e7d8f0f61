//! The signature of Twilio's webhooks: over the address, and over what the form says.
//!
//! Nothing separates names from values in what is signed, and a name that comes twice with the
//! same value counts once: readers take what they know by name, and apply it once.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest as digest_of};
use aws_lc_rs::hmac;
#[cfg(test)]
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderMap;

use crate::provider::form;
use crate::provider::form::Pair;
use crate::provider::signature::{digest, header};

/// Carries the signature, in Base64.
const SIGNATURE: &str = "x-twilio-signature";
/// Carries, in the address, the digest of a body that is no form.
const BODY_DIGEST: &[u8] = b"bodySHA256";
/// What Twilio sends, as `content-type` names it.
pub const FORM: &str = "application/x-www-form-urlencoded";
const SIGNATURE_BYTES: usize = 20;
const BODY_DIGEST_BYTES: usize = 32;

/// Reads the signature of a webhook; `None` where there is none, two, or one that is none.
pub fn signature(headers: &HeaderMap) -> Option<[u8; SIGNATURE_BYTES]> {
    digest::from_base64(header::only(headers, SIGNATURE)?)
}

/// Tells whether an account's token signed a webhook that was sent to one of our public URLs.
pub fn is_signed_by(
    token: &str,
    urls: &[String],
    content_type: Option<&str>,
    body: &[u8],
    headers: &HeaderMap,
) -> bool {
    let Some(signature) = signature(headers) else {
        return false;
    };
    let is_form = header::is_type(content_type, FORM);
    let pairs = form::pairs(if is_form { body } else { b"" });
    let Some(parameters) = pairs.map(parameters) else {
        return false;
    };
    urls.iter()
        .filter(|url| is_form || is_body_of(url, body))
        .filter_map(|url| variants(url))
        .flatten()
        .any(|url| {
            let parts = [url.as_bytes(), &parameters];
            digest::is_signed_by(
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                token,
                &parts,
                &signature,
            )
        })
}

/// Signs a webhook as Twilio does.
#[cfg(test)]
pub fn sign(token: &str, url: &str, pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
        .collect();
    let parts = [url.as_bytes(), &parameters(pairs)];
    let made = digest::sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token, &parts);
    BASE64_STANDARD.encode(made)
}

/// Joins the pairs of a form as they are signed: in the order of their bytes, each once.
fn parameters(mut pairs: Vec<Pair<'_>>) -> Vec<u8> {
    pairs.sort_unstable();
    pairs.dedup();
    let mut joined = Vec::new();
    for (name, value) in pairs {
        joined.extend_from_slice(&name);
        joined.extend_from_slice(&value);
    }
    joined
}

/// Tells whether an address, which is signed, vouches for a body, which is not.
fn is_body_of(url: &str, body: &[u8]) -> bool {
    let url = without_fragment(url);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let Some(pairs) = form::pairs(query.as_bytes()) else {
        return false;
    };
    let mut digests = pairs
        .iter()
        .filter(|(name, _)| name.as_ref() == BODY_DIGEST);
    match (digests.next(), digests.next()) {
        (None, _) => body.is_empty(),
        (Some((_, digits)), None) => {
            let made = digest_of(&SHA256, body);
            digest::from_hex::<BODY_DIGEST_BYTES>(digits).is_some_and(|given| {
                verify_slices_are_equal(made.as_ref(), given.as_slice()).is_ok()
            })
        }
        _ => false,
    }
}

/// Writes a URL with its port and without: Twilio signs now the one, now the other.
fn variants(url: &str) -> Option<[String; 2]> {
    let (scheme, rest) = without_fragment(url).split_once("://")?;
    let default_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return None,
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => (host, port),
        _ => (authority, default_port),
    };
    Some([
        format!("{scheme}://{host}{path}"),
        format!("{scheme}://{host}:{port}{path}"),
    ])
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Cuts off what is meant for Twilio alone, such as `#rc=2`.
fn without_fragment(url: &str) -> &str {
    url.split_once('#').map_or(url, |(url, _)| url)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http::HeaderValue;

    use super::*;

    const TOKEN: &str = "12345";
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SIGNATURE, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn believes(url: &str, content_type: Option<&str>, body: &[u8], signature: &str) -> bool {
        is_signed_by(
            TOKEN,
            &[url.to_owned()],
            content_type,
            body,
            &headers(&[signature]),
        )
    }

    fn signed_bytes(url: &str, parameters: &[u8]) -> String {
        let algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
        BASE64_STANDARD.encode(digest::sign(
            algorithm,
            TOKEN,
            &[url.as_bytes(), parameters],
        ))
    }

    #[test]
    fn the_documented_signature_is_made_with_and_without_a_port() {
        let pairs = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
            ("Caller", "+14158675309"),
        ];
        assert_eq!(sign(TOKEN, URL, &pairs), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        let with_port = URL.replace(".com", ".com:443");
        assert_eq!(
            sign(TOKEN, &with_port, &pairs),
            "kvajT1Ptam85bY51eRf/AJRuM3w="
        );
    }

    #[test]
    fn a_port_may_be_signed_or_not() {
        let form =
            |url, signed| believes(url, Some(FORM), b"a=1", &sign(TOKEN, signed, &[("a", "1")]));
        assert!(form("https://a.example/x", "https://a.example:443/x"));
        assert!(form("https://a.example:443/x", "https://a.example/x"));
        assert!(form(
            "https://a.example:8443/x?y=:1",
            "https://a.example/x?y=:1"
        ));
        assert!(form("https://a.example:8443", "https://a.example:8443"));
        assert!(form("http://a.example?x", "http://a.example:80?x"));
        assert!(form("http://[::1]/x", "http://[::1]:80/x"));
        assert!(form(
            "https://u:1@a.example/x",
            "https://u:1@a.example:443/x"
        ));
        assert!(form("https://a.example/x#rc=2", "https://a.example/x"));
        assert!(!form("https://a.example/x", "https://a.example:80/x"));
        assert!(!form("https://a.example/x", "https://a.example:8443/x"));
        assert!(!form("https://a.example/x", "https://a.example/x/"));
        assert!(!form("https://a.example/x", "http://a.example/x"));
        assert!(!form("ftp://a.example/x", "ftp://a.example/x"));
        assert!(!form("a.example", "a.example"));
    }

    #[test]
    fn what_is_no_signature_is_none() {
        let signed = sign(TOKEN, URL, &[]);
        assert!(signature(&headers(&[&signed])).is_some());
        let spaced = [format!(" {signed}"), format!("{signed} ")];
        let wrong = [
            "",
            "RSOY",
            "!SOYDt4T1cUTdK1PDd93/VVr8B8=",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8",
        ];
        for wrong in spaced.iter().map(String::as_str).chain(wrong) {
            assert_eq!(signature(&headers(&[wrong])), None, "{wrong}");
        }
        assert_eq!(signature(&headers(&[&signed, &signed])), None);
        assert_eq!(signature(&HeaderMap::new()), None);
        let urls = [URL.to_owned()];
        assert!(is_signed_by(TOKEN, &urls, None, b"", &headers(&[&signed])));
        assert!(!is_signed_by(
            "1234",
            &urls,
            None,
            b"",
            &headers(&[&signed])
        ));
        assert!(!is_signed_by(
            "",
            &urls,
            None,
            b"",
            &headers(&[&sign("", URL, &[])])
        ));
        assert!(!is_signed_by(TOKEN, &[], None, b"", &headers(&[&signed])));
    }

    #[test]
    fn names_and_distinct_values_are_sorted_by_their_bytes() {
        let signed = sign(
            TOKEN,
            URL,
            &[
                ("b", ""),
                ("M2", "x"),
                ("M10", "y"),
                ("M2", "a"),
                ("M2", "x"),
            ],
        );
        assert_eq!(signed, signed_bytes(URL, b"M10yM2aM2xb"));
        assert!(believes(URL, Some(FORM), b"M2=x&b=&M10=y&M2=a", &signed));
        assert!(!believes(URL, Some(FORM), b"M2=x&M10=y", &signed));
    }

    #[test]
    fn decoded_bytes_are_signed_whatever_they_are() {
        let signed = signed_bytes(URL, b"A\xff\0Body\xc3(+ %zz");
        assert!(believes(
            URL,
            Some(FORM),
            b"Body=%C3%28%2B+%zz&A=%ff%00",
            &signed
        ));
        let replaced = signed_bytes(URL, "A\u{fffd}\0".as_bytes());
        assert!(!believes(URL, Some(FORM), b"A=%ff%00", &replaced));
    }

    #[test]
    fn a_body_that_is_no_form_needs_its_digest_in_the_address() {
        let body = b"{\"a\":1}";
        let digits = crate::hex::digits(digest_of(&SHA256, body).as_ref());
        let json = Some("application/json");
        let url = format!("{URL}&bodySHA256={digits}");
        assert!(believes(&url, json, body, &sign(TOKEN, &url, &[])));
        assert!(!believes(&url, json, b"{\"a\":2}", &sign(TOKEN, &url, &[])));
        assert!(!believes(&url, None, b"", &sign(TOKEN, &url, &[])));
        assert!(!believes(URL, json, body, &sign(TOKEN, URL, &[])));
        assert!(!believes(URL, None, body, &sign(TOKEN, URL, &[])));
        assert!(believes(URL, json, b"", &sign(TOKEN, URL, &[])));
        let upper = format!("{URL}&bodySHA256={}", digits.to_uppercase());
        assert!(believes(&upper, json, body, &sign(TOKEN, &upper, &[])));
        for wrong in [
            format!("{url}&bodySHA256={digits}"),
            format!("{url}0"),
            url.replace("SHA", "sha"),
        ] {
            assert!(
                !believes(&wrong, json, body, &sign(TOKEN, &wrong, &[])),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_form_of_very_many_pairs_is_refused_quickly() {
        let body = "a=%41&".repeat(100_000);
        let start = Instant::now();
        assert!(!believes(
            URL,
            Some(FORM),
            body.as_bytes(),
            &sign(TOKEN, URL, &[("a", "A")])
        ));
        assert!(start.elapsed() < Duration::from_millis(200));
        assert!(believes(
            URL,
            Some(FORM),
            "a=%41&".repeat(2_000).as_bytes(),
            &sign(TOKEN, URL, &[("a", "A")])
        ));
    }
}
