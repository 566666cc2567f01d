//! Where a registrar is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::Error;

/// What a registrar offers at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// JPY over UDP, for the stateless proxy.
    Jpy,
    /// CoAP over DTLS, for the stateful proxy.
    Coaps,
    /// HTTPS over TCP, for the circuit proxy.
    Https,
}

impl Service {
    /// The scheme of its URIs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Jpy => "jpy",
            Self::Coaps => "coaps",
            Self::Https => "https",
        }
    }

    /// The port where none is said.
    #[must_use]
    pub const fn usual_port(self) -> Option<u16> {
        match self {
            Self::Jpy => None,
            // JPX-041: A coaps URI without port means 5684.
            Self::Coaps => Some(5684),
            Self::Https => Some(443),
        }
    }
}

/// A host with a port, not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A registrar's address for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Target {
    /// What it offers there.
    pub service: Service,
    /// Where.
    pub address: SocketAddr,
}

impl Place {
    /// Reads `HOST:PORT`, `[ADDRESS]:PORT`, a bare host, or a URI of the service's scheme.
    ///
    /// # Errors
    /// [`Error::Place`] for what is none of these, has another scheme, or lacks a port that cannot
    /// be guessed.
    pub fn parse(text: &str, service: Service) -> Result<Self, Error> {
        let refuse = |reason| Error::Place {
            text: text.to_owned(),
            reason,
        };
        let authority = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(service.scheme()) => {
                // JPX-024: A path in a jpy URI is ignored.
                // JPX-043: The path of the coaps link is not used by the proxy.
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                rest.get(..end).unwrap_or_default()
            }
            Some(_) => return Err(refuse("it has another scheme")),
            None => text,
        };
        let (host, port) = split(authority).ok_or_else(|| refuse("host or port is malformed"))?;
        // JPX-023: A jpy URI without explicit port is invalid and rejected.
        let port = port
            .or_else(|| service.usual_port())
            .ok_or_else(|| refuse("the port is missing"))?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The address, where the host is one.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        let address: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(address, self.port))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            host.split('%')
                .next()
                .filter(|address| address.parse::<std::net::Ipv6Addr>().is_ok())?;
            (host, rest)
        }
        None if authority.parse::<std::net::Ipv6Addr>().is_ok() => (authority, ""),
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            authority.split_at_checked(end)?
        }
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return None;
    }
    if rest.is_empty() {
        return Some((host, None));
    }
    let digits = rest.strip_prefix(':')?;
    let port = digits
        .parse::<u16>()
        .ok()
        .filter(|port| *port > 0 && !digits.starts_with('+'))?;
    Some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: JPX-023, JPX-024, JPX-041, JPX-043
    #[test]
    fn places_and_uris() {
        let cases = [
            (
                Service::Jpy,
                "jpy://[2001:db8::1]:7634",
                Some(("2001:db8::1", 7634)),
            ),
            (
                Service::Jpy,
                "jpy://[2001:db8::1]:7634/x/y?z",
                Some(("2001:db8::1", 7634)),
            ),
            (Service::Jpy, "jpy://[2001:db8::1]", None),
            (Service::Jpy, "jpy://[2001:db8::1]/x", None),
            (
                Service::Jpy,
                "[2001:db8::1]:7634",
                Some(("2001:db8::1", 7634)),
            ),
            (Service::Jpy, "2001:db8::1", None),
            (Service::Jpy, "coaps://[2001:db8::1]:7634", None),
            (
                Service::Coaps,
                "coaps://[2001:db8::52]/b",
                Some(("2001:db8::52", 5684)),
            ),
            (
                Service::Coaps,
                "COAPS://[2001:db8::52]",
                Some(("2001:db8::52", 5684)),
            ),
            (Service::Coaps, "192.0.2.1", Some(("192.0.2.1", 5684))),
            (
                Service::Coaps,
                "registrar.example:1",
                Some(("registrar.example", 1)),
            ),
            (
                Service::Https,
                "https://registrar.example",
                Some(("registrar.example", 443)),
            ),
            (Service::Https, "registrar.example:0", None),
            (Service::Https, "registrar.example:+1", None),
            (Service::Https, "registrar.example:99999", None),
            (Service::Https, "a b:1", None),
            (Service::Https, "[192.0.2.1]:1", None),
            (Service::Https, "", None),
        ];
        for (service, text, expected) in cases {
            let found = Place::parse(text, service).ok();
            let found = found
                .as_ref()
                .map(|place| (place.host.as_str(), place.port));
            assert_eq!(found, expected, "{text}");
        }
    }
}
