//! Who calls, as far as the network tells.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap};

/// Carries whom each proxy talked to, the nearest to us last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Returns the address that a request comes from, behind so many proxies of ours: as a number, by
/// which limits know it. What nobody of ours has written is not believed.
pub fn caller(extensions: &Extensions, headers: &HeaderMap, proxies: u8) -> u128 {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(peer)| peer.ip());
    let forwarded = match proxies {
        0 => None,
        proxies => forwarded(headers, usize::from(proxies)),
    };
    forwarded.or(peer).map_or(0, number)
}

fn forwarded(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let lines = headers.get_all(FORWARDED_FOR).iter();
    let lines: Vec<&str> = lines
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let hop = hops.nth(proxies - 1)?.trim();
    // Some write the port behind it.
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    hop.parse().ok().or_else(with_port)
}

/// The number of an address. Whoever has IPv6 has a whole network of it.
fn number(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn caller_of(peer: &str, forwarded: &[&'static str], proxies: u8) -> u128 {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        caller(&extensions, &headers, proxies)
    }

    fn of(address: &str) -> u128 {
        number(address.parse().unwrap())
    }

    #[test]
    fn only_what_our_proxies_wrote_is_believed() {
        let spoofed = ["9.9.9.9, 1.1.1.1", "2.2.2.2"];
        assert_eq!(caller_of("10.0.0.1", &spoofed, 0), of("10.0.0.1"));
        assert_eq!(caller_of("10.0.0.1", &spoofed, 1), of("2.2.2.2"));
        assert_eq!(caller_of("10.0.0.1", &spoofed, 2), of("1.1.1.1"));
        assert_eq!(caller_of("10.0.0.1", &spoofed, 4), of("10.0.0.1"));
        assert_eq!(caller_of("10.0.0.1", &[], 1), of("10.0.0.1"));
        assert_eq!(caller_of("10.0.0.1", &["nobody"], 1), of("10.0.0.1"));
        assert_eq!(caller_of("10.0.0.1", &["3.3.3.3:5678"], 1), of("3.3.3.3"));
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
    }
}
