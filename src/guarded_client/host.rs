//! Names the hosts that media may come from, and the operator's own ones.

use std::borrow::Cow;
use std::str::FromStr;

use http::Uri;
use rustls::pki_types::DnsName;
use url::Host;

/// Hosts that media of one kind comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// This host, in lowercase.
    Exact(Cow<'static, str>),
    /// All hosts below this domain, in lowercase, and not the domain itself.
    Below(Cow<'static, str>),
}

/// A host of the operator's own: plain http and a private address are fine there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedHost {
    host: Host,
    port: u16,
}

/// The text names no host, or not in the form that is wanted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not {wanted}")]
pub struct HostError {
    text: String,
    wanted: &'static str,
}

impl HostRule {
    /// This host, in lowercase.
    #[must_use]
    pub const fn exact(host: &'static str) -> Self {
        Self::Exact(Cow::Borrowed(host))
    }

    /// All hosts below this domain, in lowercase, and not the domain itself.
    #[must_use]
    pub const fn below(domain: &'static str) -> Self {
        Self::Below(Cow::Borrowed(domain))
    }

    /// The host of an interface, which alone it is asked at.
    pub fn of(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let host = url.host()?.to_ascii_lowercase();
        Some(Self::Exact(host.into()))
    }

    /// Tells whether a host is one of these.
    pub(super) fn allows(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => host.to_string() == *exact,
            (Self::Below(domain), Host::Domain(host)) => host
                .strip_suffix(domain.as_ref())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty()),
            (Self::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }
}

impl FromStr for HostRule {
    type Err = HostError;

    /// Reads `media.example.com` or `*.example.com`.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let wrong = || HostError {
            text: text.to_owned(),
            wanted: "a host, or `*.` and a domain",
        };
        let Some(domain) = text.strip_prefix("*.") else {
            let host = read_host(text).ok_or_else(wrong)?;
            return Ok(Self::Exact(host.to_string().into()));
        };
        match read_host(domain) {
            // All of a top-level domain is everybody.
            Some(Host::Domain(domain)) if domain.contains('.') => Ok(Self::Below(domain.into())),
            _ => Err(wrong()),
        }
    }
}

impl TrustedHost {
    /// Tells whether it is this host, at this port.
    pub(super) fn is(&self, host: &Host, port: u16) -> bool {
        self.host == *host && self.port == port
    }
}

impl FromStr for TrustedHost {
    type Err = HostError;

    /// Reads `host:port`; both are needed.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let read = || {
            let (host, port) = text.rsplit_once(':')?;
            let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
            Some(Self {
                host: read_host(host)?,
                port: port.parse().ok().filter(|port| is_number && *port != 0)?,
            })
        };
        read().ok_or_else(|| HostError {
            text: text.to_owned(),
            wanted: "a host and a port",
        })
    }
}

/// Reads a host as it is read in a URL.
fn read_host(text: &str) -> Option<Host> {
    let host = Host::parse(text).ok()?;
    is_plain(&host).then_some(host)
}

/// Tells whether a host is a number or a name as DNS has them, without the final dot, by which one
/// host would have two names.
pub(super) fn is_plain(host: &Host) -> bool {
    match host {
        Host::Domain(name) => !name.ends_with('.') && DnsName::try_from(name.as_str()).is_ok(),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_trusted_hosts_are_read() {
        let rule = |text: &str| text.parse::<HostRule>().ok();
        assert_eq!(rule("*.FbCdn.net"), Some(HostRule::below("fbcdn.net")));
        assert_eq!(
            rule("Bücher.example"),
            Some(HostRule::exact("xn--bcher-kva.example"))
        );
        assert_eq!(rule("10.0.0.5"), Some(HostRule::exact("10.0.0.5")));
        assert_eq!(rule("[::1]"), Some(HostRule::exact("[::1]")));
        for wrong in [
            "",
            "*",
            "*.",
            "*.net",
            "*.10.0.0.5",
            "a.*.net",
            "**.a.net",
            "a.net.",
            "a/b",
            "a:1",
        ] {
            assert_eq!(rule(wrong), None, "{wrong}");
        }
        for good in ["gateway:3000", "10.0.0.5:80", "[::1]:8080", "waha_1:3000"] {
            assert!(good.parse::<TrustedHost>().is_ok(), "{good}");
        }
        for wrong in [
            "gateway",
            "gateway:",
            ":80",
            "gateway:0",
            "gateway:+1",
            "gateway:65536",
            "::1:80",
            "http://gateway:80",
            "u@gateway:80",
            "*.a.net:80",
        ] {
            assert!(wrong.parse::<TrustedHost>().is_err(), "{wrong}");
        }
        assert!(!HostRule::below("0.0.1").allows(&Host::Ipv4([127, 0, 0, 1].into())));
        assert!(!HostRule::below("").allows(&Host::Domain("a.example".to_owned())));
    }
}
