//! Reads the headers of webhooks: one that is there twice is none.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Reads a header that is there exactly once.
pub fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Some(only.as_bytes()),
        _ => None,
    }
}

/// Reads a header that is there exactly once and is a text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    str::from_utf8(only(headers, name)?).ok()
}

/// Reads the credentials of a request that has them for one scheme, and for no other.
pub fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credentials) = text(headers, AUTHORIZATION.as_str())?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(credentials)
}

/// Tells whether a content type, whose parameters do not matter, is the given one.
pub fn is_type(content_type: Option<&str>, expected: &str) -> bool {
    content_type
        .and_then(|content_type| content_type.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
}

/// Reads a parameter of a header such as `form-data; name="token"`.
pub fn parameter(header: &str, name: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = parameter_value(after.trim_start())?;
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after.trim_start().strip_prefix(';')?;
    }
}

/// Reads a value, quoted or not, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at_checked(text.find(';').unwrap_or(text.len()))?;
        return Some((value.trim_end().to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_doubled_header_is_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(only(&headers, "x-key"), None);
        headers.append("x-key", HeaderValue::from_static("a"));
        assert_eq!(text(&headers, "X-Key"), Some("a"));
        headers.append("x-key", HeaderValue::from_static("a"));
        assert_eq!(only(&headers, "x-key"), None);
        headers.insert("x-key", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(text(&headers, "x-key"), None);
    }

    #[test]
    fn credentials_have_a_scheme() {
        let read = |value: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            credentials(&headers, "Bearer").map(str::to_owned)
        };
        assert_eq!(read("Bearer a.b").as_deref(), Some("a.b"));
        assert_eq!(read("bearer a").as_deref(), Some("a"));
        assert_eq!(read("Basic a"), None);
        assert_eq!(read("Bearer"), None);
        assert_eq!(read(" Bearer a"), None);
    }

    #[test]
    fn parameters_may_be_quoted() {
        let header = r#"form-data; filename="a;name=\"b\""; Name = "c d" ; size=3"#;
        assert_eq!(parameter(header, "name").as_deref(), Some("c d"));
        assert_eq!(
            parameter(header, "filename").as_deref(),
            Some(r#"a;name="b""#)
        );
        assert_eq!(parameter(header, "size").as_deref(), Some("3"));
        assert_eq!(parameter(header, "none"), None);
        assert_eq!(parameter(r#"form-data; name="open"#, "name"), None);
        assert!(is_type(Some("Text/Plain ; charset=x"), "text/plain"));
        assert!(!is_type(Some("text/plainer"), "text/plain"));
        assert!(!is_type(None, "text/plain"));
    }
}
