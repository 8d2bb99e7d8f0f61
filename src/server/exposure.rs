//! Decides who can reach what: the one place that turns the settings of access into listeners.
//!
//! What is not protected stays on this machine, and the rest of the service starts all the same:
//! a container without any setting serves its health and its signed webhooks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Environment;

/// Who ends the TLS of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Nobody: the port speaks plain text.
    None,
    /// The port itself.
    Own,
    /// A proxy in front of it, as the operator states.
    Proxy,
}

/// What is configured.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The address to listen on.
    pub host: IpAddr,
    /// What the service runs for.
    pub environment: Environment,
    /// Whether callers' tokens can be checked.
    pub authentication: bool,
    /// Who ends the TLS of gRPC.
    pub grpc: Protection,
    /// Who ends the TLS of the sidecar.
    pub http: Protection,
    /// Whether a proxy stands in front of both ports, as the operator states.
    pub proxied: bool,
    /// Whether the operator said that protection is not wanted.
    pub insecure: bool,
}

/// Where metrics are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metrics {
    /// On the sidecar, to whoever reaches it.
    Open,
    /// On the sidecar, to who has a token.
    WithToken,
    /// On a port of loopback.
    Loopback,
}

/// Where REST is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// On the sidecar, to callers of gRPC.
    Sidecar,
    /// On the port of loopback that has the metrics.
    Loopback,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// The address that gRPC listens on.
    pub grpc_host: IpAddr,
    /// Where metrics are shown.
    pub metrics: Metrics,
    /// Where REST is offered.
    pub rest: Rest,
    /// Whether a call without a credential is let in, as the service `local`.
    pub anonymous: bool,
    /// Whether tokens of the data folder's own key are believed.
    pub development_key: bool,
    /// What an operator has to be warned of.
    pub warning: Option<&'static str>,
}

impl Setting {
    /// Returns what is reached by whom.
    pub fn exposure(&self) -> Exposure {
        // A proxy in front of loopback brings the whole world to it.
        let local = self.host.is_loopback() && !self.proxied;
        let protected = |protection| self.authentication && protection != Protection::None;
        let grpc_host = if self.host.is_loopback() || self.insecure || protected(self.grpc) {
            self.host
        } else {
            loopback_like(self.host)
        };
        let metrics = if local || (self.insecure && !self.authentication) {
            Metrics::Open
        } else if self.insecure || protected(self.http) {
            Metrics::WithToken
        } else {
            Metrics::Loopback
        };
        // As gRPC, but by the TLS of this port.
        let rest = if local || self.insecure || protected(self.http) {
            Rest::Sidecar
        } else {
            Rest::Loopback
        };
        let development = local && self.environment == Environment::Development;
        let anonymous = !self.authentication && (development || self.insecure);
        // Beyond this machine, a key that lies in a folder is nobody's credential.
        let development_key = !self.authentication && grpc_host.is_loopback() && !self.proxied;
        let warning = if anonymous && !(local && grpc_host.is_loopback()) {
            Some("INSECURE: whoever reaches the ports may do everything")
        } else if anonymous && !development {
            Some("INSECURE: whoever is on this machine may do everything")
        } else if !grpc_host.is_loopback() && self.grpc == Protection::None {
            Some("INSECURE: tokens and messages pass the gRPC port in plain text")
        } else if metrics == Metrics::WithToken && self.http == Protection::None {
            Some("INSECURE: tokens and messages pass the HTTP port in plain text")
        } else {
            None
        };
        Exposure {
            grpc_host,
            metrics,
            rest,
            anonymous,
            development_key,
            warning,
        }
    }
}

/// The loopback address of the same kind.
pub fn loopback_like(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A row for each configuration: what is set, and what follows.
    fn matrix() -> String {
        let mut table = String::new();
        for (host, environment) in [
            ("127.0.0.1", Environment::Development),
            ("127.0.0.1", Environment::Production),
            ("0.0.0.0", Environment::Production),
        ] {
            for authentication in [false, true] {
                for (tls, grpc, http, proxied) in [
                    ("plain", Protection::None, Protection::None, false),
                    ("tls", Protection::Own, Protection::None, false),
                    ("tls+http", Protection::Own, Protection::Own, false),
                    ("proxy", Protection::Proxy, Protection::Proxy, true),
                    ("both", Protection::Own, Protection::Own, true),
                ] {
                    for insecure in [false, true] {
                        let setting = Setting {
                            host: host.parse().unwrap(),
                            environment,
                            authentication,
                            grpc,
                            http,
                            proxied,
                            insecure,
                        };
                        let exposure = setting.exposure();
                        writeln!(
                            table,
                            "{host:9} {environment:?} {} {tls:8} {} -> {:9} {:?} {:?} {} {} {}",
                            if authentication { "keys" } else { "----" },
                            if insecure { "insecure" } else { "--------" },
                            exposure.grpc_host,
                            exposure.metrics,
                            exposure.rest,
                            if exposure.anonymous {
                                "anonymous"
                            } else {
                                "token"
                            },
                            if exposure.development_key {
                                "own-key"
                            } else {
                                "-"
                            },
                            if exposure.warning.is_some() {
                                "warned"
                            } else {
                                "-"
                            },
                        )
                        .unwrap();
                    }
                }
            }
        }
        table
    }

    #[test]
    fn each_configuration_exposes_what_is_documented_and_nothing_more() {
        insta::assert_snapshot!(matrix(), @r"
        127.0.0.1 Development ---- plain    -------- -> 127.0.0.1 Open Sidecar anonymous own-key -
        127.0.0.1 Development ---- plain    insecure -> 127.0.0.1 Open Sidecar anonymous own-key -
        127.0.0.1 Development ---- tls      -------- -> 127.0.0.1 Open Sidecar anonymous own-key -
        127.0.0.1 Development ---- tls      insecure -> 127.0.0.1 Open Sidecar anonymous own-key -
        127.0.0.1 Development ---- tls+http -------- -> 127.0.0.1 Open Sidecar anonymous own-key -
        127.0.0.1 Development ---- tls+http insecure -> 127.0.0.1 Open Sidecar anonymous own-key -
        127.0.0.1 Development ---- proxy    -------- -> 127.0.0.1 Loopback Loopback token - -
        127.0.0.1 Development ---- proxy    insecure -> 127.0.0.1 Open Sidecar anonymous - warned
        127.0.0.1 Development ---- both     -------- -> 127.0.0.1 Loopback Loopback token - -
        127.0.0.1 Development ---- both     insecure -> 127.0.0.1 Open Sidecar anonymous - warned
        127.0.0.1 Development keys plain    -------- -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Development keys plain    insecure -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Development keys tls      -------- -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Development keys tls      insecure -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Development keys tls+http -------- -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Development keys tls+http insecure -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Development keys proxy    -------- -> 127.0.0.1 WithToken Sidecar token - -
        127.0.0.1 Development keys proxy    insecure -> 127.0.0.1 WithToken Sidecar token - -
        127.0.0.1 Development keys both     -------- -> 127.0.0.1 WithToken Sidecar token - -
        127.0.0.1 Development keys both     insecure -> 127.0.0.1 WithToken Sidecar token - -
        127.0.0.1 Production ---- plain    -------- -> 127.0.0.1 Open Sidecar token own-key -
        127.0.0.1 Production ---- plain    insecure -> 127.0.0.1 Open Sidecar anonymous own-key warned
        127.0.0.1 Production ---- tls      -------- -> 127.0.0.1 Open Sidecar token own-key -
        127.0.0.1 Production ---- tls      insecure -> 127.0.0.1 Open Sidecar anonymous own-key warned
        127.0.0.1 Production ---- tls+http -------- -> 127.0.0.1 Open Sidecar token own-key -
        127.0.0.1 Production ---- tls+http insecure -> 127.0.0.1 Open Sidecar anonymous own-key warned
        127.0.0.1 Production ---- proxy    -------- -> 127.0.0.1 Loopback Loopback token - -
        127.0.0.1 Production ---- proxy    insecure -> 127.0.0.1 Open Sidecar anonymous - warned
        127.0.0.1 Production ---- both     -------- -> 127.0.0.1 Loopback Loopback token - -
        127.0.0.1 Production ---- both     insecure -> 127.0.0.1 Open Sidecar anonymous - warned
        127.0.0.1 Production keys plain    -------- -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Production keys plain    insecure -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Production keys tls      -------- -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Production keys tls      insecure -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Production keys tls+http -------- -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Production keys tls+http insecure -> 127.0.0.1 Open Sidecar token - -
        127.0.0.1 Production keys proxy    -------- -> 127.0.0.1 WithToken Sidecar token - -
        127.0.0.1 Production keys proxy    insecure -> 127.0.0.1 WithToken Sidecar token - -
        127.0.0.1 Production keys both     -------- -> 127.0.0.1 WithToken Sidecar token - -
        127.0.0.1 Production keys both     insecure -> 127.0.0.1 WithToken Sidecar token - -
        0.0.0.0   Production ---- plain    -------- -> 127.0.0.1 Loopback Loopback token own-key -
        0.0.0.0   Production ---- plain    insecure -> 0.0.0.0   Open Sidecar anonymous - warned
        0.0.0.0   Production ---- tls      -------- -> 127.0.0.1 Loopback Loopback token own-key -
        0.0.0.0   Production ---- tls      insecure -> 0.0.0.0   Open Sidecar anonymous - warned
        0.0.0.0   Production ---- tls+http -------- -> 127.0.0.1 Loopback Loopback token own-key -
        0.0.0.0   Production ---- tls+http insecure -> 0.0.0.0   Open Sidecar anonymous - warned
        0.0.0.0   Production ---- proxy    -------- -> 127.0.0.1 Loopback Loopback token - -
        0.0.0.0   Production ---- proxy    insecure -> 0.0.0.0   Open Sidecar anonymous - warned
        0.0.0.0   Production ---- both     -------- -> 127.0.0.1 Loopback Loopback token - -
        0.0.0.0   Production ---- both     insecure -> 0.0.0.0   Open Sidecar anonymous - warned
        0.0.0.0   Production keys plain    -------- -> 127.0.0.1 Loopback Loopback token - -
        0.0.0.0   Production keys plain    insecure -> 0.0.0.0   WithToken Sidecar token - warned
        0.0.0.0   Production keys tls      -------- -> 0.0.0.0   Loopback Loopback token - -
        0.0.0.0   Production keys tls      insecure -> 0.0.0.0   WithToken Sidecar token - warned
        0.0.0.0   Production keys tls+http -------- -> 0.0.0.0   WithToken Sidecar token - -
        0.0.0.0   Production keys tls+http insecure -> 0.0.0.0   WithToken Sidecar token - -
        0.0.0.0   Production keys proxy    -------- -> 0.0.0.0   WithToken Sidecar token - -
        0.0.0.0   Production keys proxy    insecure -> 0.0.0.0   WithToken Sidecar token - -
        0.0.0.0   Production keys both     -------- -> 0.0.0.0   WithToken Sidecar token - -
        0.0.0.0   Production keys both     insecure -> 0.0.0.0   WithToken Sidecar token - -
        ");
    }

    #[test]
    fn ipv6_falls_back_to_its_own_loopback() {
        assert_eq!(loopback_like("::".parse().unwrap()), Ipv6Addr::LOCALHOST);
    }
}
