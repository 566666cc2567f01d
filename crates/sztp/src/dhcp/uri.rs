//! The URI of a bootstrap server as the DHCP options carry it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pki::{Blame, Coded};

/// Longest host name, in octets
/// ([RFC 1035 §2.3.4](https://www.rfc-editor.org/rfc/rfc1035.html#section-2.3.4), without the
/// octets that only the wire has).
const HOST_NAME_MAX_BYTES: usize = 253;
/// Longest label of a host name, in octets.
const LABEL_MAX_BYTES: usize = 63;

/// `https://<ip-address-or-hostname>[:<port>]`, the one form that
/// [RFC 8572 §8.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-8.3) allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BootstrapUri {
    host: Host,
    port: Option<u16>,
}

/// Name or address of a bootstrap server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Address(IpAddr),
    Name(String),
}

/// Why a text is not the URI of a bootstrap server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriFault {
    /// It uses Bootz's scheme, which is for another protocol.
    #[error("bootz:// is another protocol's scheme; SZTP clients have to ignore it")]
    Bootz,
    /// Nothing is there.
    #[error("the URI is empty")]
    Empty,
    /// It has a fragment.
    #[error("a fragment (#…) is not part of the form")]
    Fragment,
    /// The host is missing, or is no host name and no IP address.
    #[error("{0}")]
    Host(&'static str),
    /// It uses plain HTTP.
    #[error("http:// is not allowed, the scheme has to be https")]
    Http,
    /// It has a path of more than `/`.
    #[error("a path is not allowed: the device finds the RESTCONF root by itself")]
    Path,
    /// The port is no number from 1 to 65535.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// It has a query.
    #[error("a query (?…) is not part of the form")]
    Query,
    /// It has no scheme: a bare host, or host and port.
    #[error("there is no scheme: https:// has to stand before the host")]
    SchemeMissing,
    /// It uses another scheme.
    #[error("the scheme has to be https")]
    SchemeOther,
    /// It ends in a slash.
    #[error("a slash after the host is a path, and no path is allowed")]
    Slash,
    /// It has octets that no URI has: blanks, control characters, quotes, octets beyond ASCII.
    #[error("{0}")]
    Text(&'static str),
    /// It names a user.
    #[error("user information (user@) is not part of the form")]
    UserInformation,
}

impl Coded for UriFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Bootz => "dhcp.uri-bootz",
            Self::Empty => "dhcp.uri-empty",
            Self::Fragment | Self::Query => "dhcp.uri-query",
            Self::Host(_) => "dhcp.uri-host",
            Self::Http => "dhcp.uri-http",
            Self::Path => "dhcp.uri-path",
            Self::Port => "dhcp.uri-port",
            Self::SchemeMissing => "dhcp.uri-scheme-missing",
            Self::SchemeOther => "dhcp.uri-scheme",
            Self::Slash => "dhcp.uri-slash",
            Self::Text(_) => "dhcp.uri-text",
            Self::UserInformation => "dhcp.uri-userinfo",
        }
    }

    fn blame(&self) -> Blame {
        Blame::PeerMisbehaved
    }
}

impl BootstrapUri {
    /// Reads the text of a URI.
    ///
    /// # Errors
    ///
    /// [`UriFault`] says in what it departs from `https://<ip-address-or-hostname>[:<port>]`.
    pub fn parse(text: &str) -> Result<Self, UriFault> {
        if text.is_empty() {
            return Err(UriFault::Empty);
        }
        check_text(text)?;
        let rest = strip_scheme(text)?;
        // The first of these ends the authority.
        if let Some(at) = rest.find(['/', '?', '#']) {
            let (_, tail) = rest.split_at(at);
            return Err(match tail {
                "/" => UriFault::Slash,
                tail if tail.starts_with('/') => UriFault::Path,
                tail if tail.starts_with('?') => UriFault::Query,
                _ => UriFault::Fragment,
            });
        }
        if rest.contains('@') {
            return Err(UriFault::UserInformation);
        }
        let (host, port) = split_port(rest)?;
        Ok(Self {
            host: Host::parse(host)?,
            port: port.map(parse_port).transpose()?,
        })
    }

    /// As [`Self::parse`], for octets.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn from_octets(octets: &[u8]) -> Result<Self, UriFault> {
        let text = std::str::from_utf8(octets)
            .map_err(|_| UriFault::Text("there are octets that are no UTF-8, and so no URI"))?;
        Self::parse(text)
    }

    /// A URI of its parts. The host is a name, an IPv4 address, or an IPv6 address without
    /// brackets.
    ///
    /// # Errors
    ///
    /// [`UriFault::Host`] or [`UriFault::Port`].
    pub fn new(host: &str, port: Option<u16>) -> Result<Self, UriFault> {
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => Host::Address(IpAddr::V6(address)),
            Err(_) => Host::parse(host)?,
        };
        if port == Some(0) {
            return Err(UriFault::Port);
        }
        Ok(Self { host, port })
    }

    /// Host name or address, an IPv6 address without brackets: what redirect information has as
    /// `address`.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// The port, where the URI names one. Without one it is 443.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for BootstrapUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "https://[{address}]")?,
            Host::Address(IpAddr::V4(address)) => write!(f, "https://{address}")?,
            Host::Name(name) => write!(f, "https://{name}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for BootstrapUri {
    type Err = UriFault;

    fn from_str(text: &str) -> Result<Self, UriFault> {
        Self::parse(text)
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, UriFault> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(UriFault::Host(
                "the bracket of the IPv6 address is not closed",
            ))?;
            if inner.contains('%') {
                return Err(UriFault::Host(
                    "a zone (%…) means nothing to the device that gets it",
                ));
            }
            return inner
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(IpAddr::V6(address)))
                .map_err(|_| UriFault::Host("what the brackets hold is no IPv6 address"));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        check_name(text)?;
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

fn check_text(text: &str) -> Result<(), UriFault> {
    for octet in text.bytes() {
        let fault = match octet {
            0 => "there is a NUL octet; the length counts the URI's own octets only",
            b'\n' | b'\r' => "there is a line end in it",
            b' ' | b'\t' => {
                "there is a blank in it; each URI has an entry with a length of its own"
            }
            b'"' | b'\'' => "the quotes of the configuration are part of the value",
            b',' | b';' => "there is a list in one entry; each URI has one of its own",
            0x80.. => "a host name beyond ASCII is written in its xn-- form",
            octet if octet.is_ascii_control() => "there is a control character in it",
            _ => continue,
        };
        return Err(UriFault::Text(fault));
    }
    Ok(())
}

/// What stands behind `https://`, whose case does not matter
/// ([RFC 3986 §3.1](https://www.rfc-editor.org/rfc/rfc3986.html#section-3.1)).
fn strip_scheme(text: &str) -> Result<&str, UriFault> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(UriFault::SchemeMissing);
    };
    // SZTP-8572-8.3-02: The URI of the SZTP bootstrap server MUST use the "https" URI scheme.
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Ok(rest),
        "http" => Err(UriFault::Http),
        "bootz" => Err(UriFault::Bootz),
        "" => Err(UriFault::SchemeMissing),
        _ => Err(UriFault::SchemeOther),
    }
}

/// Host, still in its brackets, and the digits of the port.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), UriFault> {
    if authority.starts_with('[') {
        let Some(end) = authority.find(']') else {
            return Ok((authority, None));
        };
        let (host, tail) = authority.split_at(end + 1);
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err(UriFault::Port),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err(UriFault::Host("an IPv6 address has to stand in brackets"))
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_port(digits: &str) -> Result<u16, UriFault> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UriFault::Port);
    }
    match digits.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(UriFault::Port),
    }
}

/// What `inet:domain-name` of
/// [RFC 6991 §4](https://www.rfc-editor.org/rfc/rfc6991.html#section-4) takes, because that is
/// the type the address has as redirect information. A last label of digits only would be a
/// broken IPv4 address.
fn check_name(name: &str) -> Result<(), UriFault> {
    if name.is_empty() {
        return Err(UriFault::Host("there is no host"));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > HOST_NAME_MAX_BYTES {
        return Err(UriFault::Host("the host name is longer than 253 octets"));
    }
    let mut last = "";
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_MAX_BYTES {
            return Err(UriFault::Host(
                "a label of the host name is empty or longer than 63 octets",
            ));
        }
        if !label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            return Err(UriFault::Host(
                "a host name has letters, digits and hyphens only",
            ));
        }
        if label.starts_with('-') || label.ends_with(['-', '_']) {
            return Err(UriFault::Host(
                "a label of the host name begins or ends with a hyphen",
            ));
        }
        last = label;
    }
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UriFault::Host("the IPv4 address is malformed"));
    }
    Ok(())
}
