//! Credentials in the address of a webhook, which its sender gives back as HTTP Basic: Postmark's
//! only proof.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;

use crate::provider::signature::{digest, header};

/// Tells whether a request has these credentials. None are had where the password is empty.
pub fn has_credentials(user: &str, password: &str, headers: &HeaderMap) -> bool {
    let Some((given_user, given_password)) = credentials(headers) else {
        return false;
    };
    // The colon lets an empty user be compared as well. Both are, whatever the first says.
    let is_user = digest::is_secret(&format!("{user}:"), &format!("{given_user}:"));
    let is_password = digest::is_secret(password, &given_password);
    is_user & is_password
}

/// Reads user and password; a colon may be in the latter.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD
        .decode(header::credentials(headers, "Basic")?)
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;

    fn headers(credentials: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    #[test]
    fn both_user_and_password_are_needed() {
        assert!(has_credentials("hook", "a:b", &headers("hook:a:b")));
        assert!(has_credentials("", "secret", &headers(":secret")));
        for wrong in [
            "hook:a",
            "hook:A:b",
            "Hook:a:b",
            ":a:b",
            "hook",
            "",
            "hook:a:b ",
        ] {
            assert!(!has_credentials("hook", "a:b", &headers(wrong)), "{wrong}");
        }
        assert!(!has_credentials("hook", "", &headers("hook:")));
        assert!(!has_credentials("", "", &headers(":")));
    }

    #[test]
    fn credentials_are_there_once_and_in_base64() {
        let mut doubled = headers("hook:secret");
        doubled.append(
            AUTHORIZATION,
            HeaderValue::from_static("Basic aG9vazpzZWNyZXQ="),
        );
        assert!(!has_credentials("hook", "secret", &doubled));
        for wrong in [
            "Basic hook:secret",
            "Bearer aG9vazpzZWNyZXQ=",
            "Basic  aG9vazpzZWNyZXQ=",
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(wrong))]);
            assert!(!has_credentials("hook", "secret", &headers), "{wrong}");
        }
        assert!(!has_credentials("hook", "secret", &HeaderMap::new()));
    }
}
