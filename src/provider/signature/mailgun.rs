//! The signature of Mailgun's webhooks. It is among the fields of the body and does not cover
//! them: whoever saw one can send another body with it, until its token is refused.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use serde_json::Value;

#[cfg(test)]
use crate::hex;
use crate::provider::form;
use crate::provider::signature::{digest, header};

const SIGNATURE_BYTES: usize = 32;
/// How old a signature may be, in seconds: Mailgun tries for eight hours with the same one.
const WINDOW: i64 = 12 * 3600;
/// How far Mailgun's clock may be ahead of ours, in seconds.
const AHEAD: i64 = 300;
/// Events are small; mail does not come as JSON.
const MAX_JSON_BYTES: usize = 1024 * 1024;
/// None of the three fields is as long.
const MAX_FIELD_BYTES: usize = 256;
/// The head of a part that holds one of the three fields is shorter.
const MAX_HEAD_BYTES: usize = 1024;
/// Many more parts than Mailgun sends.
const MAX_PARTS: usize = 2_000;

/// What Mailgun signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Comes again only with the same body.
    pub token: String,
}

/// Reads what a webhook says that Mailgun signed, if the secret did sign it and not long ago.
pub fn signed(secret: &str, now: i64, content_type: Option<&str>, body: &[u8]) -> Option<Signed> {
    let fields = if header::is_type(content_type, "application/json") {
        of_json(body)
    } else if header::is_type(content_type, "multipart/form-data") {
        of_parts(&header::parameter(content_type?, "boundary")?, body)
    } else if header::is_type(content_type, "application/x-www-form-urlencoded") {
        of_form(body)
    } else {
        None
    };
    let fields = fields?;
    let (timestamp, token) = (fields.timestamp?, fields.token?);
    let signature = digest::from_hex::<SIGNATURE_BYTES>(fields.signature?.as_bytes())?;
    let parts = [timestamp.as_bytes(), token.as_bytes()];
    let is_signed = digest::is_signed_by(hmac::HMAC_SHA256, secret, &parts, &signature);
    (is_signed && is_recent(&timestamp, now)).then_some(Signed { token })
}

/// Signs a token as Mailgun does.
#[cfg(test)]
pub fn sign(secret: &str, timestamp: &str, token: &str) -> String {
    let parts = [timestamp.as_bytes(), token.as_bytes()];
    hex::digits(digest::sign(hmac::HMAC_SHA256, secret, &parts).as_ref())
}

/// The fields that prove a webhook.
#[derive(Default)]
struct Fields {
    timestamp: Option<String>,
    token: Option<String>,
    signature: Option<String>,
}

impl Fields {
    /// Keeps a field if it is one of the three; `None` where one is there twice, or is none.
    fn keep(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let field = match name {
            b"timestamp" => &mut self.timestamp,
            b"token" => &mut self.token,
            b"signature" => &mut self.signature,
            _ => return Some(()),
        };
        let is_sound = field.is_none()
            && (1..=MAX_FIELD_BYTES).contains(&value.len())
            && value.iter().all(u8::is_ascii_graphic);
        *field = String::from_utf8(value.to_vec()).ok();
        is_sound.then_some(())
    }
}

fn of_json(body: &[u8]) -> Option<Fields> {
    if body.len() > MAX_JSON_BYTES {
        return None;
    }
    let document: Value = serde_json::from_slice(body).ok()?;
    let mut fields = Fields::default();
    for (name, value) in document.get("signature")?.as_object()? {
        match value {
            Value::String(text) => fields.keep(name.as_bytes(), text.as_bytes())?,
            Value::Number(number) => {
                fields.keep(name.as_bytes(), number.to_string().as_bytes())?;
            }
            _ => {}
        }
    }
    Some(fields)
}

fn of_form(body: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    for (number, (name, value)) in form::encoded(body).enumerate() {
        if number == form::MAX_PAIRS {
            return None;
        }
        // What mail says is long, and is not needed here.
        let value = if value.len() > MAX_FIELD_BYTES * 3 {
            Cow::Borrowed(value)
        } else {
            form::decode(value)
        };
        fields.keep(&form::decode(name), &value)?;
    }
    Some(fields)
}

/// Reads the fields from the parts between boundaries, of which the last ends in `--`.
fn of_parts(boundary: &str, body: &[u8]) -> Option<Fields> {
    if boundary.is_empty() {
        return None;
    }
    let delimiter = format!("\r\n--{boundary}");
    let mut fields = Fields::default();
    let mut rest = match body.strip_prefix(delimiter.trim_start().as_bytes()) {
        Some(rest) => rest,
        None => split(body, delimiter.as_bytes())?.1,
    };
    for _ in 0..MAX_PARTS {
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        let (part, after) = split(rest, delimiter.as_bytes())?;
        if let Some((name, value)) = field(part) {
            fields.keep(name.as_bytes(), value)?;
        }
        rest = after;
    }
    None
}

/// Reads the name and the value of a part that is a field, not a file.
fn field(part: &[u8]) -> Option<(String, &[u8])> {
    let (head, value) = split(part, b"\r\n\r\n")?;
    if head.len() > MAX_HEAD_BYTES {
        return None;
    }
    let disposition = str::from_utf8(head).ok()?.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    let is_file = header::parameter(disposition, "filename").is_some();
    let name = header::parameter(disposition, "name").filter(|_| !is_file)?;
    Some((name, value))
}

/// Splits bytes at the first of a delimiter, which begins with a carriage return.
fn split<'a>(bytes: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == b'\r')?;
        let (before, after) = bytes.split_at_checked(at)?;
        if let Some(after) = after.strip_prefix(delimiter) {
            return Some((before, after));
        }
        from = at + 1;
    }
}

fn is_recent(timestamp: &str, now: i64) -> bool {
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let Some(at) = timestamp.parse::<i64>().ok().filter(|_| digits) else {
        return false;
    };
    let age = now.saturating_sub(at);
    (-AHEAD..=WINDOW).contains(&age)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const SECRET: &str = "key-test";
    const AT: &str = "1773480030";
    const NOW: i64 = 1_773_480_030;
    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
    const PARTS: Option<&str> = Some("multipart/form-data; boundary=\"a b\"");

    fn form(timestamp: &str, token: &str, secret: &str) -> String {
        let signature = sign(secret, timestamp, token);
        format!("from=a&timestamp={timestamp}&token={token}&signature={signature}&x=%00%ff")
    }

    fn parts(fields: &[(&str, &str)]) -> String {
        let mut body = String::new();
        for (name, value) in fields {
            body += "--a b\r\nContent-Type: text/plain\r\n";
            body += &format!("content-disposition: form-data; {name}\r\n\r\n{value}\r\n");
        }
        body + "--a b--\r\n"
    }

    fn token(content_type: Option<&str>, body: &str) -> Option<String> {
        signed(SECRET, NOW, content_type, body.as_bytes()).map(|signed| signed.token)
    }

    #[test]
    fn the_documented_signature_is_believed_and_made() {
        let known = "cef4c1a3c244f347c803048abbb2996ec027aef5aae488f895f0d04d2ee47262";
        let long = "a".repeat(50);
        assert_eq!(sign(SECRET, AT, &long), known);
        assert_eq!(token(FORM, &form(AT, &long, SECRET)), Some(long));
        let upper = format!(
            "timestamp={AT}&token=t&signature={}",
            sign(SECRET, AT, "t").to_uppercase()
        );
        assert!(token(FORM, &upper).is_some());
    }

    #[test]
    fn a_signature_is_believed_within_its_window() {
        let body = form(AT, "t", SECRET);
        for (late, is_believed) in [
            (0, true),
            (43_200, true),
            (43_201, false),
            (-300, true),
            (-301, false),
        ] {
            let signed = signed(SECRET, NOW + late, FORM, body.as_bytes());
            assert_eq!(signed.is_some(), is_believed, "{late}");
        }
        for odd in [
            "%2B1773480030",
            "1773480030.0",
            "-1",
            "17734800300",
            "",
            "9".repeat(40).as_str(),
        ] {
            let plain = odd.replace("%2B", "+");
            let signature = sign(SECRET, &plain, "t");
            assert_eq!(
                token(
                    FORM,
                    &format!("timestamp={odd}&token=t&signature={signature}")
                ),
                None
            );
        }
    }

    #[test]
    fn what_is_not_signed_is_refused() {
        let good = form(AT, "t", SECRET);
        assert!(token(FORM, &good).is_some());
        assert_eq!(signed("", NOW, FORM, form(AT, "t", "").as_bytes()), None);
        assert_eq!(token(FORM, &form(AT, "t", "other")), None);
        assert_eq!(token(None, &good), None);
        assert_eq!(token(Some("text/plain"), &good), None);
        for wrong in [
            good.replace("token=t", "token=u"),
            good.replace("token=t", "token="),
            good.replace("token=t", "token=t+"),
            good.replace("token=t", "token=%ff"),
            good.replace("token=t", "Token=t"),
            good.replace("signature=", "signature=%20"),
            good.replace("&x=", "0&x="),
            format!("{good}&token=t"),
            format!("{good}&token={}", "t".repeat(1000)),
            good.replace("token=t", &format!("token={}", "%74".repeat(300))),
            String::new(),
        ] {
            assert_eq!(token(FORM, &wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parts_are_read_where_the_boundary_says() {
        let signature = sign(SECRET, AT, "t");
        let timestamp = ("name=\"timestamp\"", AT);
        let token_part = ("name=token", "t");
        let signature_part = ("name=\"signature\"", signature.as_str());
        let file = (
            "name=\"token\"; filename=\"token\"",
            "\r\n\r\n--a\r\rb\r\n-",
        );
        let good = parts(&[file, timestamp, token_part, signature_part]);
        assert_eq!(token(PARTS, &good).as_deref(), Some("t"));
        assert_eq!(
            token(PARTS, &format!("preamble\r\n{good}")).as_deref(),
            Some("t")
        );
        assert_eq!(token(Some("multipart/form-data; boundary=b"), &good), None);
        assert_eq!(token(Some("multipart/form-data; boundary="), &good), None);
        assert_eq!(token(Some("multipart/form-data"), &good), None);
        assert_eq!(token(PARTS, good.trim_end_matches("--\r\n")), None);
        assert_eq!(token(PARTS, &parts(&[timestamp, token_part])), None);
        let doubled = parts(&[timestamp, token_part, signature_part, token_part]);
        assert_eq!(token(PARTS, &doubled), None);
        let long = parts(&[timestamp, token_part, ("name=signature", &"a".repeat(300))]);
        assert_eq!(token(PARTS, &long), None);
        assert_eq!(token(PARTS, ""), None);
    }

    #[test]
    fn events_are_json() {
        let json = Some("application/json; charset=utf-8");
        let signature = sign(SECRET, AT, "t");
        let fields = format!(r#""token":"t","signature":"{signature}","parent-signature":null"#);
        let body = |at: &str| {
            format!(r#"{{"signature":{{"timestamp":{at},{fields}}},"event-data":{{}}}}"#)
        };
        assert_eq!(token(json, &body("\"1773480030\"")).as_deref(), Some("t"));
        assert_eq!(token(json, &body("1773480030")).as_deref(), Some("t"));
        assert_eq!(token(json, &body("1773480030.0")), None);
        for wrong in ["{}", "[]", "{", r#"{"signature":"a"}"#] {
            assert_eq!(token(json, wrong), None, "{wrong}");
        }
        let large = body("1773480030") + &" ".repeat(MAX_JSON_BYTES);
        assert_eq!(token(json, &large), None);
    }

    #[test]
    fn very_many_fields_are_refused_quickly() {
        let start = Instant::now();
        assert_eq!(
            token(
                FORM,
                &format!("{}{}", "a=1&".repeat(100_000), form(AT, "t", SECRET))
            ),
            None
        );
        assert_eq!(token(PARTS, &parts(&vec![("name=a", "1"); 100_000])), None);
        assert_eq!(
            token(PARTS, &format!("--a b\r\n{}", "\r\n--a ".repeat(100_000))),
            None
        );
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
