//! Why Google does not do what it is asked, named by what the caller can do about it.

use std::time::Duration;

use chrono::DateTime;
use http::StatusCode;
use serde_json::Value;

use crate::provider::MAX_NAME_BYTES;
use crate::provider::lenient::{self, cut, list, text};

/// A refusal has some 300 bytes. What is longer is none of Gmail's.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most reasons that are looked at.
const MAX_REASONS: usize = 100;
const MAX_CODE_BYTES: usize = 64;
/// The longest that anybody is kept waiting, in seconds.
const LONGEST_WAIT: u64 = 24 * 3600;
/// What comes before the time in the words of a refusal.
const RETRY_AFTER: &str = "retry after ";

/// The reasons that pass, whatever the status.
const PASSING: [&str; 12] = [
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "dailyLimitExceeded",
    "quotaExceeded",
    "backendError",
    "RATE_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "rate_limit_exceeded",
    "temporarily_unavailable",
    "internal_failure",
    "server_error",
];
/// The reasons of OAuth that are not those of one account: nobody may use our client so.
const OF_CLIENT: [&str; 9] = [
    "invalid_client",
    "unauthorized_client",
    "deleted_client",
    "disabled_client",
    "access_denied",
    "admin_policy_enforced",
    "org_internal",
    "invalid_scope",
    "restricted_client",
];

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The message is gone, or the history is not kept from so far back.
    Gone,
    /// The access token does not hold any more: once, a new one may help.
    Unauthorized,
    /// It may work later.
    Later {
        /// How long Google asks to wait, if it does.
        retry_after: Option<Duration>,
    },
    /// The owner of the mailbox has to connect it anew.
    Disconnected(Reason),
    /// Nothing works with this account until somebody changes it.
    Account(Reason),
    /// This will never work.
    Refused(Reason),
}

/// What Google says of a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// Its word for it, such as `domainPolicy`; empty if it has none.
    pub code: String,
    /// What it tells people. It may quote what was asked.
    pub words: String,
}

impl Failure {
    /// Reads a refusal of Gmail's at a time in seconds since 1970.
    pub fn of(status: StatusCode, body: &[u8], now: i64) -> Self {
        let error = error(body);
        let codes = codes(&error);
        let has = |known: &[&str]| codes.iter().any(|code| known.contains(&code.as_str()));
        let later = || Self::Later {
            retry_after: wait(&error, now),
        };
        let reason = || Reason {
            code: codes.first().cloned().unwrap_or_default(),
            words: words(text(&error, "/message")),
        };
        match status.as_u16() {
            401 => Self::Unauthorized,
            404 | 410 => Self::Gone,
            408 | 425 | 429 => later(),
            400..=499 if has(&PASSING) => later(),
            // It comes from something in between, or from a guard against robots.
            403 if codes.is_empty() => later(),
            403 => Self::Account(reason()),
            // The mailbox has no mail, or none any more.
            400 if has(&["failedPrecondition", "FAILED_PRECONDITION"]) => Self::Account(reason()),
            400..=499 => Self::Refused(reason()),
            _ => later(),
        }
    }

    /// Reads a refusal of OAuth's to give a token.
    pub fn of_token(status: StatusCode, body: &[u8]) -> Self {
        let answer = answer(body);
        let later = Self::Later { retry_after: None };
        let reason = Reason {
            code: code(&answer, "/error").unwrap_or_default(),
            words: words(text(&answer, "/error_description")),
        };
        let is_client_error = status.is_client_error();
        match (status.as_u16(), reason.code.as_str()) {
            (408 | 425 | 429, _) => later,
            _ if !is_client_error => later,
            (_, "invalid_grant") => Self::Disconnected(reason),
            (_, code) if PASSING.contains(&code) => later,
            (_, code) if OF_CLIENT.contains(&code) => Self::Account(reason),
            // It comes from something in between.
            (_, "") => later,
            _ => Self::Refused(reason),
        }
    }
}

/// Reads an answer, of which nothing is left if it is none.
fn answer(body: &[u8]) -> Value {
    let body = body.get(..MAX_BODY_BYTES.min(body.len()));
    lenient::json(body.unwrap_or_default()).unwrap_or_default()
}

fn error(body: &[u8]) -> Value {
    let mut answer = answer(body);
    answer.get_mut("error").map(Value::take).unwrap_or_default()
}

/// All words for what is wrong, the closest first.
fn codes(error: &Value) -> Vec<String> {
    let lists = [list(error, "/errors"), list(error, "/details")];
    let reasons = lists.into_iter().flat_map(|list| {
        let list = list.iter().take(MAX_REASONS);
        list.filter_map(|reason| code(reason, "/reason"))
    });
    reasons.chain(code(error, "/status")).collect()
}

/// Reads one word that programs read.
fn code(value: &Value, path: &str) -> Option<String> {
    let code = text(value, path);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_code = (1..=MAX_CODE_BYTES).contains(&code.len()) && code.bytes().all(is_plain);
    is_code.then_some(code)
}

fn words(mut words: String) -> String {
    cut(&mut words, MAX_NAME_BYTES);
    words
}

/// How long Google asks to wait: in words, or as it asks for in general.
fn wait(error: &Value, now: i64) -> Option<Duration> {
    let errors = list(error, "/errors").iter().take(MAX_REASONS);
    let errors = errors.map(|error| text(error, "/message"));
    let mut told = std::iter::once(text(error, "/message")).chain(errors);
    let seconds = told.find_map(|words| in_words(&words, now)).or_else(|| {
        let mut details = list(error, "/details").iter().take(MAX_REASONS);
        details.find_map(|detail| whole_seconds(text(detail, "/retryDelay").strip_suffix('s')?))
    });
    seconds.map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

/// Reads `Retry after` a time, or so many seconds.
fn in_words(words: &str, now: i64) -> Option<u64> {
    let at = words.to_ascii_lowercase().find(RETRY_AFTER)?;
    let told = words.get(at + RETRY_AFTER.len()..)?;
    let told = told.split_whitespace().next()?;
    let told = told.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let Ok(until) = DateTime::parse_from_rfc3339(told) else {
        return whole_seconds(told.strip_suffix('s').unwrap_or(told));
    };
    let has_more = until.timestamp_subsec_nanos() > 0;
    let until = until.timestamp().saturating_add(i64::from(has_more));
    Some(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
}

/// Reads seconds, of which a part counts as a whole one.
fn whole_seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_more = part.bytes().any(|digit| digit != b'0');
    let seconds: u64 = whole
        .parse()
        .ok()
        .filter(|_| digits(whole) && digits(part))?;
    Some(seconds.saturating_add(u64::from(has_more)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOO_OLD: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/07_history_too_old.json"
    ));
    /// 2026-03-14T09:20:10Z.
    const NOW: i64 = 1_773_480_010;

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    fn of(code: u16, error: &Value) -> Failure {
        let body = json!({ "error": error }).to_string();
        Failure::of(status(code), body.as_bytes(), NOW)
    }

    fn with_reason(code: u16, reason: &str) -> Failure {
        of(
            code,
            &json!({"code": code, "message": "Words", "errors": [{"reason": reason}]}),
        )
    }

    fn later(seconds: u64) -> Failure {
        Failure::Later {
            retry_after: Some(Duration::from_secs(seconds)),
        }
    }

    const LATER: Failure = Failure::Later { retry_after: None };

    fn reason(code: &str, words: &str) -> Reason {
        Reason {
            code: code.to_owned(),
            words: words.to_owned(),
        }
    }

    #[test]
    fn a_history_that_is_too_old_is_gone() {
        assert_eq!(Failure::of(status(404), TOO_OLD, NOW), Failure::Gone);
        assert_eq!(Failure::of(status(404), b"<html>", NOW), Failure::Gone);
    }

    #[test]
    fn limits_pass() {
        // As in the sample of what is sent.
        let error = json!({
            "code": 429,
            "message": "User-rate limit exceeded. Retry after 2026-03-14T10:00:00.000Z",
            "errors": [{"domain": "usageLimits", "reason": "userRateLimitExceeded"}],
            "status": "RESOURCE_EXHAUSTED",
        });
        assert_eq!(of(429, &error), later(2390));
        assert_eq!(of(403, &error), later(2390));
        for reason in [
            "rateLimitExceeded",
            "userRateLimitExceeded",
            "dailyLimitExceeded",
        ] {
            assert_eq!(with_reason(403, reason), LATER);
        }
        assert_eq!(of(403, &json!({"status": "RESOURCE_EXHAUSTED"})), LATER);
        let detail =
            json!({"status": "X", "details": [{"@type": "y", "reason": "RATE_LIMIT_EXCEEDED"}]});
        assert_eq!(of(403, &detail), LATER);
        for code in [408, 429, 500, 502, 503, 504, 302, 200] {
            assert_eq!(with_reason(code, "domainPolicy"), LATER, "{code}");
        }
        assert_eq!(Failure::of(status(503), b"<html>", NOW), LATER);
        assert_eq!(Failure::of(status(403), b"<html>", NOW), LATER);
    }

    #[test]
    fn the_time_to_wait_is_read_from_words() {
        for (words, seconds) in [
            ("Retry after 2026-03-14T09:20:11Z", Some(1)),
            ("Retry after 2026-03-14T09:20:11.001Z", Some(2)),
            (
                "x RETRY AFTER  2026-03-14T10:20:11+01:00. (Mail sending)",
                Some(1),
            ),
            ("Retry after 2026-03-14T09:20:00Z", Some(0)),
            ("Retry after 2036-03-14T09:20:00Z", Some(LONGEST_WAIT)),
            ("Retry after 30 seconds", Some(30)),
            ("retry after 30s.", Some(30)),
            ("Retry after 1.5", Some(2)),
            ("İ retry after 7", Some(7)),
            ("Retry after 99999999999999999999", None),
            ("Retry after -1", None),
            ("Retry after a while", None),
            ("Retry after ", None),
            ("Retry after", None),
            ("", None),
        ] {
            let retry_after = seconds.map(Duration::from_secs);
            let expected = Failure::Later { retry_after };
            assert_eq!(of(429, &json!({ "message": words })), expected, "{words}");
            let within = json!({"message": "x", "errors": [{"message": words}]});
            assert_eq!(of(429, &within), expected, "{words}");
        }
        let delay = |delay: Value| of(503, &json!({"details": [{"retryDelay": delay}, 1]}));
        assert_eq!(delay(json!("30s")), later(30));
        assert_eq!(delay(json!("0.500s")), later(1));
        for none in [json!("-1s"), json!("30"), json!("é"), json!(30)] {
            assert_eq!(delay(none), LATER);
        }
    }

    #[test]
    fn some_failures_are_the_accounts() {
        assert_eq!(with_reason(401, "authError"), Failure::Unauthorized);
        for known in [
            "domainPolicy",
            "insufficientPermissions",
            "accessNotConfigured",
            "other",
        ] {
            let expected = Failure::Account(reason(known, "Words"));
            assert_eq!(with_reason(403, known), expected);
        }
        let denied = json!({"status": "PERMISSION_DENIED", "message": "Words"});
        let expected = Failure::Account(reason("PERMISSION_DENIED", "Words"));
        assert_eq!(of(403, &denied), expected);
        let expected = Failure::Account(reason("failedPrecondition", "Words"));
        assert_eq!(with_reason(400, "failedPrecondition"), expected);
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        let expected = Failure::Refused(reason("invalidArgument", "Words"));
        assert_eq!(with_reason(400, "invalidArgument"), expected);
        assert_eq!(with_reason(413, "invalidArgument"), expected);
        assert_eq!(of(400, &Value::Null), Failure::Refused(Reason::default()));
        let long = json!({"message": "é".repeat(2000), "errors": [{"reason": "a b"}, 1, {}]});
        let expected = Failure::Refused(reason("", &"é".repeat(512)));
        assert_eq!(of(400, &long), expected);
        let many = vec![json!({"reason": "x"}); 10_000];
        assert_eq!(
            of(400, &json!({ "errors": many })),
            Failure::Refused(reason("x", ""))
        );
    }

    #[test]
    fn a_token_is_refused_for_one_account_or_for_all() {
        let of = |code: u16, body: &str| Failure::of_token(status(code), body.as_bytes());
        let revoked = r#"{"error":"invalid_grant","error_description":"Token has been revoked."}"#;
        let expected = reason("invalid_grant", "Token has been revoked.");
        assert_eq!(of(400, revoked), Failure::Disconnected(expected));
        let client = r#"{"error":"invalid_client"}"#;
        assert_eq!(
            of(401, client),
            Failure::Account(reason("invalid_client", ""))
        );
        let request = r#"{"error":"invalid_request"}"#;
        assert_eq!(
            of(400, request),
            Failure::Refused(reason("invalid_request", ""))
        );
        assert_eq!(of(403, r#"{"error":"rate_limit_exceeded"}"#), LATER);
        assert_eq!(of(400, r#"{"error":"temporarily_unavailable"}"#), LATER);
        assert_eq!(of(429, revoked), LATER);
        assert_eq!(of(500, revoked), LATER);
        assert_eq!(of(200, revoked), LATER);
        assert_eq!(of(400, "<html>"), LATER);
        assert_eq!(of(403, r#"{"error":{"code":403}}"#), LATER);
    }
}
