//! What lets us have media that is not for everybody.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};

/// What lets us have media that is not for everybody.
#[derive(Clone)]
pub enum Credentials {
    /// A bearer token.
    Bearer(String),
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A header of the server's own.
    Header(HeaderName, String),
}

impl Credentials {
    /// Writes the header; `None` if they cannot be in one.
    pub(super) fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::Bearer(token) => (header::AUTHORIZATION, format!("Bearer {token}")),
            Self::Basic { user, .. } if user.contains(':') => return None,
            Self::Basic { user, password } => {
                let both = STANDARD.encode(format!("{user}:{password}"));
                (header::AUTHORIZATION, format!("Basic {both}"))
            }
            Self::Header(name, value) => (name.clone(), value.clone()),
        };
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(credentials: &Credentials) -> Option<String> {
        assert_eq!(format!("{credentials:?}"), "***");
        let (name, value) = credentials.header()?;
        assert!(value.is_sensitive());
        Some(format!("{name}: {}", value.to_str().unwrap()))
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn credentials_are_one_header() {
        let bearer = |token: &str| Credentials::Bearer(token.to_owned());
        let own = |value: &str| {
            Credentials::Header(HeaderName::from_static("x-api-key"), value.to_owned())
        };
        let is = |credentials: &Credentials, text: &str| {
            assert_eq!(written(credentials).as_deref(), Some(text));
        };
        is(&bearer("abc"), "authorization: Bearer abc");
        is(
            &basic("AC1", "pass:word"),
            "authorization: Basic QUMxOnBhc3M6d29yZA==",
        );
        is(&own("k"), "x-api-key: k");
        assert_eq!(written(&bearer("a\r\nHost: b")), None);
        assert_eq!(written(&own("a\nb")), None);
        assert_eq!(written(&basic("a:b", "c")), None);
    }
}
