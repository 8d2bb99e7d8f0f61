//! Origins that a widget may be called from.

use std::net::Ipv4Addr;

use http::Uri;
use serde::{Deserialize, Serialize};

/// The longest name of a host, in bytes.
const MOST_HOST: usize = 253;
/// Stands for calls that name no origin, as those of native apps.
const APP: &str = "app";
/// What stands in front of a host for all its subdomains.
const SUBDOMAINS: &str = "*.";

/// An origin, the subdomains of one, or native apps; in the one form that browsers send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedOrigin(String);

impl AllowedOrigin {
    /// Reads what a tenant allows; `None` where it is no such thing.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            None if text == APP => return Some(Self(text.to_owned())),
            None => return None,
            Some(parts) => parts,
        };
        let bare = rest.strip_prefix(SUBDOMAINS);
        let origin = format!("{scheme}://{}", bare.unwrap_or(rest));
        let host = host_of(&origin)?;
        // A star in front of one word would be for everybody's pages.
        let may_have_star = host.contains('.') && host.parse::<Ipv4Addr>().is_err();
        let is_right = match scheme {
            "https" => bare.is_none() || may_have_star,
            "http" => bare.is_none() && matches!(host.as_str(), "localhost" | "127.0.0.1"),
            _ => false,
        };
        is_right.then(|| Self(text.to_owned()))
    }

    /// How it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// All that allow an origin; `None` for what no browser sends, of which `null` is the most
    /// frequent. No origin is that of an app.
    pub fn of(origin: Option<&str>) -> Option<Vec<String>> {
        let Some(origin) = origin else {
            return Some(vec![APP.to_owned()]);
        };
        let host = host_of(origin)?;
        let mut all = vec![origin.to_owned()];
        let (scheme, authority) = origin.split_once("://")?;
        let port = authority.strip_prefix(host.as_str())?;
        // None of an IPv6 address, which has no dots.
        let parents = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
        all.extend(parents.map(|parent| format!("{scheme}://{SUBDOMAINS}{parent}{port}")));
        Some(all)
    }
}

/// The host of an origin that is written as browsers write it.
fn host_of(origin: &str) -> Option<String> {
    if origin.len() > "https://".len() + MOST_HOST + ":65535".len() {
        return None;
    }
    let uri: Uri = origin.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let host = authority.host();
    let port = match authority.port_u16() {
        // Browsers leave out the one that the scheme has anyway.
        Some(443) if scheme == "https" => return None,
        Some(80) if scheme == "http" => return None,
        Some(port) => format!(":{port}"),
        None => String::new(),
    };
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    let written = format!("{scheme}://{host}{port}");
    let is_whole = matches!(scheme, "http" | "https") && written == origin;
    (is_whole && !host.is_empty() && host.bytes().all(is_plain)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for good in [
            "https://shop.example",
            "https://shop.example:8443",
            "https://*.shop.example",
            "https://*.shop.example:8443",
            "https://xn--caf-dma.example",
            "https://[2001:db8::1]",
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "app",
        ] {
            let read = AllowedOrigin::parse(good);
            assert_eq!(read.map(|origin| origin.0).as_deref(), Some(good));
        }
        for bad in [
            "",
            "*",
            "null",
            "App",
            "https://",
            "https://*",
            "https://*.",
            "https://*.example",
            "https://*.10.0.0.1",
            "https://*.*.shop.example",
            "https://shop.*.example",
            "https://a*.shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "https://shop.example?query",
            "https://shop.example#part",
            "https://user@shop.example",
            "https://Shop.example",
            "https://café.example",
            "https://shop.example:443",
            "http://localhost:80",
            "http://shop.example",
            "http://*.localhost",
            "http://localhost.evil.example",
            "ftp://shop.example",
            "file://",
            "https://shop.example ",
            "https://shop.example,https://other.example",
        ] {
            assert_eq!(AllowedOrigin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn subdomains_are_below_and_an_origin_is_all_of_it() {
        let allows = |allowed: &str, origin: Option<&str>| {
            let allowed = AllowedOrigin::parse(allowed).unwrap();
            AllowedOrigin::of(origin).is_some_and(|all| all.contains(&allowed.0))
        };
        for (allowed, origin) in [
            ("https://shop.example", "https://shop.example"),
            ("https://*.shop.example", "https://www.shop.example"),
            ("https://*.shop.example", "https://a.b.shop.example"),
            ("https://*.shop.example:8443", "https://a.shop.example:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert!(allows(allowed, Some(origin)), "{allowed} {origin}");
        }
        for (allowed, origin) in [
            ("https://shop.example", "https://www.shop.example"),
            ("https://shop.example", "http://shop.example"),
            ("https://shop.example", "https://shop.example:8443"),
            ("https://shop.example", "https://shop.example.evil.example"),
            ("https://*.shop.example", "https://shop.example"),
            ("https://*.shop.example", "https://evilshop.example"),
            ("https://*.shop.example", "https://a.shop.example:8443"),
            (
                "https://*.shop.example",
                "https://a.shop.example.evil.example",
            ),
            ("http://localhost:3000", "http://localhost"),
            ("app", "https://app"),
            ("app", "app"),
            ("app", "null"),
            ("app", ""),
        ] {
            assert!(!allows(allowed, Some(origin)), "{allowed} {origin}");
        }
        assert!(allows("app", None));
        assert!(!allows("https://shop.example", None));
    }
}
