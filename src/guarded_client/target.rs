//! Reads addresses of media, and tells which of them may be asked.

use std::net::{IpAddr, SocketAddr};

use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::address;
use super::fetch_error::TargetError;
use super::host::{self, HostRule, TrustedHost};

/// More than the address of any media.
const MAX_URL_BYTES: usize = 8 * 1024;
/// The port of https.
const HTTPS: u16 = 443;

/// What decides whether an address may be asked.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// Where the media comes from.
    pub allowed: &'a [HostRule],
    /// The operator's own hosts.
    pub trusted: &'a [TrustedHost],
}

/// An address that may be asked, as far as its text tells.
pub struct Target {
    url: Url,
    host: Host,
    port: u16,
    is_https: bool,
    is_trusted: bool,
    path: PathAndQuery,
}

impl Target {
    /// Reads an address.
    ///
    /// # Errors
    /// It may not be asked.
    pub fn new(text: &str, policy: Policy<'_>) -> Result<Self, TargetError> {
        check_text(text)?;
        let authority = authority(text).ok_or(TargetError::Url)?;
        if authority.is_empty() {
            return Err(TargetError::Url);
        }
        Self::check(Url::parse(text).map_err(|_| TargetError::Url)?, policy)
    }

    /// Reads where this one redirects to.
    ///
    /// # Errors
    /// That may not be asked.
    pub fn redirect(&self, location: &[u8], policy: Policy<'_>) -> Result<Self, TargetError> {
        let location = std::str::from_utf8(location).map_err(|_| TargetError::Url)?;
        check_text(location)?;
        let url = self.url.join(location).map_err(|_| TargetError::Url)?;
        let next = Self::check(url, policy)?;
        if self.is_https && !next.is_https {
            return Err(TargetError::Downgrade);
        }
        Ok(next)
    }

    fn check(url: Url, policy: Policy<'_>) -> Result<Self, TargetError> {
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(TargetError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::User);
        }
        let host = url.host().ok_or(TargetError::Url)?.to_owned();
        let port = url.port_or_known_default().ok_or(TargetError::Url)?;
        if !host::is_plain(&host) {
            return Err(TargetError::Url);
        }
        let is_trusted = policy.trusted.iter().any(|trusted| trusted.is(&host, port));
        if !is_trusted {
            if !is_https {
                return Err(TargetError::Scheme);
            }
            if port != HTTPS {
                return Err(TargetError::Port);
            }
            if !matches!(host, Host::Domain(_)) {
                return Err(TargetError::Number);
            }
        }
        if !policy.allowed.iter().any(|rule| rule.allows(&host)) {
            return Err(TargetError::Host {
                host: host.to_string(),
            });
        }
        Ok(Self {
            path: path_and_query(&url)?,
            url,
            host,
            port,
            is_https,
            is_trusted,
        })
    }

    /// Chooses where to connect to, out of the addresses of the host: all or none of them.
    ///
    /// # Errors
    /// One of them is none that this host may have.
    pub fn sockets(&self, addresses: &[IpAddr]) -> Result<Vec<SocketAddr>, TargetError> {
        let is_allowed = |address: &IpAddr| {
            if self.is_trusted {
                address::is_own_or_public(*address)
            } else {
                address::is_public(*address)
            }
        };
        if !addresses.iter().all(is_allowed) {
            return Err(TargetError::NotPublic {
                host: self.host.to_string(),
            });
        }
        let sockets = addresses.iter().map(|ip| SocketAddr::new(*ip, self.port));
        Ok(sockets.collect())
    }

    /// Tells whether what may be told to the other may be told to this one.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port && self.is_https == other.is_https
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The host, and the port where it is not the usual one.
    pub fn authority(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }

    /// What is asked of the host.
    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// The name that the certificate must have; `None` where there is none, by plain http.
    pub fn server_name(&self) -> Result<Option<ServerName<'static>>, TargetError> {
        if !self.is_https {
            return Ok(None);
        }
        let name = match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| TargetError::Url),
            Host::Ipv4(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
            Host::Ipv6(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
        };
        name.map(Some)
    }
}

/// Refuses what readers of URLs silently correct, each in its own way.
fn check_text(text: &str) -> Result<(), TargetError> {
    let is_odd =
        |character: char| character.is_whitespace() || character.is_control() || character == '\\';
    if text.len() > MAX_URL_BYTES || text.contains(is_odd) {
        return Err(TargetError::Url);
    }
    if authority(text).is_some_and(|authority| authority.contains('@')) {
        return Err(TargetError::User);
    }
    Ok(())
}

/// Finds the part with the host: between `//` and the path.
fn authority(text: &str) -> Option<&str> {
    let before_path = text.split(['?', '#']).next()?;
    let (scheme, rest) = before_path.split_once("//")?;
    let is_scheme = scheme.is_empty() || scheme.strip_suffix(':').is_some();
    is_scheme.then(|| rest.split('/').next()).flatten()
}

fn path_and_query(url: &Url) -> Result<PathAndQuery, TargetError> {
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    path.parse().map_err(|_| TargetError::Url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Target, TargetError> {
        let allowed = [
            HostRule::below("fbcdn.net"),
            HostRule::exact("media.example.com"),
            HostRule::exact("xn--bcher-kva.example"),
            HostRule::exact("127.0.0.1"),
            HostRule::exact("gateway"),
            HostRule::exact("[fd12::1]"),
        ];
        let trusted = ["gateway:3000", "[fd12::1]:80", "other:80"];
        let trusted = trusted.map(|text| text.parse().unwrap());
        let policy = Policy {
            allowed: &allowed,
            trusted: &trusted,
        };
        Target::new(text, policy)
    }

    #[test]
    fn plain_https_addresses_of_the_named_hosts_are_read() {
        for (text, authority, path) in [
            (
                "https://a.fbcdn.net/v/x.jpg?oh=1&oe=2#top",
                "a.fbcdn.net",
                "/v/x.jpg?oh=1&oe=2",
            ),
            ("https://A.B.FBCDN.NET", "a.b.fbcdn.net", "/"),
            (
                "HTTPS://media.example.com:443/a/../b",
                "media.example.com",
                "/b",
            ),
            (
                "https://media.example.com/a@b//c?d@e",
                "media.example.com",
                "/a@b//c?d@e",
            ),
            (
                "https://media.example.com?u=http://1.2.3.4/",
                "media.example.com",
                "/?u=http://1.2.3.4/",
            ),
            (
                "https://media%2eexample.com/é|{}",
                "media.example.com",
                "/%C3%A9|%7B%7D",
            ),
            ("https://bücher.example/", "xn--bcher-kva.example", "/"),
            ("http://gateway:3000/f", "gateway:3000", "/f"),
            ("https://gateway:3000/f", "gateway:3000", "/f"),
            ("http://[fd12:0::1]/f", "[fd12::1]", "/f"),
        ] {
            let target = read(text)
                .map_err(|error| format!("{text}: {error}"))
                .unwrap();
            assert_eq!(target.authority(), authority);
            assert_eq!(target.path().as_str(), path);
        }
    }

    #[test]
    fn every_other_address_is_refused() {
        use TargetError::{Number, Port, Scheme, Url, User};
        for (text, error) in [
            ("", Url),
            ("media.example.com/x", Url),
            ("//media.example.com/x", Url),
            ("https:media.example.com/x", Url),
            ("https:/media.example.com/x", Url),
            ("https:///media.example.com/x", Url),
            ("https://", Url),
            (" https://media.example.com/", Url),
            ("https://media.example.com/\n", Url),
            ("https://med\tia.example.com/", Url),
            ("https://media.example.com\\@evil.example/", Url),
            ("https:\\\\media.example.com/", Url),
            ("https://media.example.com./", Url),
            ("https://a..fbcdn.net/", Url),
            ("https://.fbcdn.net/", Url),
            ("https://*.fbcdn.net/", Url),
            ("https://media.example.com:99999/", Url),
            ("https://1.2.3.4.5/", Url),
            ("https://[::1/", Url),
            ("https://[fe80::1%25eth0]/", Url),
            ("https://user@media.example.com/", User),
            ("https://user:password@media.example.com/", User),
            ("https://@media.example.com/", User),
            ("https://media.example.com:443@evil.example/", User),
            ("http://media.example.com/", Scheme),
            ("http://media.example.com:443/", Scheme),
            ("http://gateway/f", Scheme),
            ("http://gateway:3001/f", Scheme),
            ("ftp://media.example.com/", Scheme),
            ("ftp://gateway:3000/", Scheme),
            ("file://media.example.com/etc/passwd", Scheme),
            ("gopher://media.example.com/", Scheme),
            ("ws://gateway:3000/", Scheme),
            ("https://media.example.com:80/", Port),
            ("https://media.example.com:8443/", Port),
            ("https://gateway:3001/f", Port),
            ("https://127.0.0.1/", Number),
            ("https://2130706433/", Number),
            ("https://0x7f000001/", Number),
            ("https://0x7f.1/", Number),
            ("https://017700000001/", Number),
            ("https://0177.0.0.1/", Number),
            ("https://127.1/", Number),
            ("https://127.0.0.1./", Number),
            ("https://%31%32%37.0.0.1/", Number),
            ("https://１２７.0.0.1/", Number),
            ("https://①②⑦.0.0.1/", Number),
            ("https://8.8.8.8/", Number),
            ("https://0/", Number),
            ("https://[::1]/", Number),
            ("https://[::ffff:127.0.0.1]/", Number),
            ("https://[fd12::1]/", Number),
        ] {
            assert_eq!(read(text).err(), Some(error), "{text}");
        }
        assert_eq!(
            read(&format!("https://media.example.com/{}", "a".repeat(8192))).err(),
            Some(Url)
        );
    }

    #[test]
    fn a_host_that_no_rule_names_is_refused() {
        for host in [
            "fbcdn.net",
            "fbcdn.net.evil.example",
            "xfbcdn.net",
            "a.fbcdn.net.evil.example",
            "example.com",
            "x.media.example.com",
            "localhost",
            "gateway",
            "xn--mdia-csa.example.com",
        ] {
            let error = read(&format!("https://{host}/?secret")).err();
            let wanted = if host == "gateway" {
                None
            } else {
                Some(host.to_owned())
            };
            assert_eq!(
                error,
                wanted.map(|host| TargetError::Host { host }),
                "{host}"
            );
        }
        // Trust says how a host may be asked, and not that it may be.
        let host = "other".to_owned();
        assert_eq!(
            read("http://other/").err(),
            Some(TargetError::Host { host })
        );
    }

    #[test]
    fn a_redirect_is_checked_like_the_first_address() {
        let allowed = [HostRule::below("fbcdn.net"), HostRule::exact("gateway")];
        let policy = Policy {
            allowed: &allowed,
            trusted: &["gateway:80".parse().unwrap()],
        };
        let from = Target::new("https://a.fbcdn.net/x/y?z", policy).unwrap();
        let to = |location: &str| from.redirect(location.as_bytes(), policy);
        assert_eq!(to("../w?v").unwrap().path(), "/w?v");
        assert!(to("w").unwrap().is_same_server(&from));
        assert!(!to("//b.fbcdn.net/w").unwrap().is_same_server(&from));
        assert_eq!(to("http://gateway/w").err(), Some(TargetError::Downgrade));
        assert_eq!(to("http://a.fbcdn.net/w").err(), Some(TargetError::Scheme));
        assert_eq!(to("//u@a.fbcdn.net/w").err(), Some(TargetError::User));
        assert_eq!(to("//127.0.0.1/").err(), Some(TargetError::Number));
        assert_eq!(to("/\\evil.example/").err(), Some(TargetError::Url));
        assert_eq!(to("data:text/plain,x").err(), Some(TargetError::Scheme));
        let host = "evil.example".to_owned();
        assert_eq!(
            to("//evil.example/").err(),
            Some(TargetError::Host { host })
        );
        assert_eq!(to("///a.fbcdn.net/").err(), Some(TargetError::Url));
        assert_eq!(
            from.redirect(b"/\xff", policy).err(),
            Some(TargetError::Url)
        );
    }

    #[test]
    fn one_address_that_is_not_public_spoils_all() {
        let target = read("https://media.example.com/").unwrap();
        let public = "8.8.8.8".parse().unwrap();
        let own = "127.0.0.1".parse().unwrap();
        assert_eq!(
            target.sockets(&[public]),
            Ok(vec!["8.8.8.8:443".parse().unwrap()])
        );
        let host = "media.example.com".to_owned();
        assert_eq!(
            target.sockets(&[public, own]),
            Err(TargetError::NotPublic { host })
        );
        let target = read("http://gateway:3000/").unwrap();
        assert_eq!(
            target.sockets(&[own]),
            Ok(vec!["127.0.0.1:3000".parse().unwrap()])
        );
        assert!(
            target
                .sockets(&["169.254.169.254".parse().unwrap()])
                .is_err()
        );
    }
}
