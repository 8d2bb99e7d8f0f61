//! The tokens with which Gmail is asked, as Google's OAuth gives them for a refresh token.

use std::fmt;
use std::time::Duration;

use super::answer::{number, object};
use crate::provider::lenient::text;

/// Google promises no more than 2,048.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How long a token holds where nothing is told. Google's hold for an hour.
const UNTOLD: u64 = 300;
/// The longest that a token is believed to hold, in seconds.
const LONGEST: u64 = 24 * 3600;

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What is shown to Gmail.
    pub access_token: String,
    /// For how long it holds, from the question on.
    pub expires_in: Duration,
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Reads an answer that gives a token.
///
/// # Errors
/// The answer gives none that can be shown; the words quote nothing of it.
pub fn read(body: &[u8]) -> Result<Token, String> {
    let answer = object(body)?;
    let access_token = text(&answer, "/access_token");
    let is_sound = (1..=MAX_TOKEN_BYTES).contains(&access_token.len())
        && access_token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_sound {
        return Err("an answer without `access_token`".to_owned());
    }
    let seconds = number(&answer, "/expires_in").unwrap_or(UNTOLD);
    Ok(Token {
        access_token,
        expires_in: Duration::from_secs(seconds.min(LONGEST)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_holds_for_a_time() {
        let read_value = |value: serde_json::Value| read(value.to_string().as_bytes());
        let token = read_value(json!({"access_token": "ya29.a0-_", "expires_in": 3599,
                                      "scope": "x", "token_type": "Bearer"}))
        .unwrap();
        assert_eq!(token.access_token, "ya29.a0-_");
        assert_eq!(token.expires_in, Duration::from_secs(3599));
        assert_eq!(format!("{token:?}"), "***");
        for (told, seconds) in [
            (json!("3599"), 3599),
            (json!(u64::MAX), LONGEST),
            (json!(0), 0),
            (json!(-1), UNTOLD),
            (json!(null), UNTOLD),
        ] {
            let token = read_value(json!({"access_token": "a", "expires_in": told})).unwrap();
            assert_eq!(token.expires_in, Duration::from_secs(seconds));
        }
    }

    #[test]
    fn what_cannot_be_shown_is_no_token() {
        for token in [
            json!(""),
            json!("a b"),
            json!("a\r\nb"),
            json!("é"),
            json!("a\0"),
            json!(1),
            json!("x".repeat(MAX_TOKEN_BYTES + 1)),
        ] {
            let answer = json!({ "access_token": token, "expires_in": 3599 }).to_string();
            let why = read(answer.as_bytes()).unwrap_err();
            assert_eq!(why, "an answer without `access_token`");
        }
        assert!(read(br#"{"error":"invalid_grant"}"#).is_err());
    }
}
