//! Who is at the other end of a CoAP exchange.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use ::coap::Via;
use bytes::Bytes;
use pki::Certificate;

use crate::dtls::SessionPeer;

/// What the listener knows of the sender of a request.
#[derive(Clone, Debug)]
pub struct CoapPeer {
    /// Address and port that the datagrams come from: the peer's, or those of its join proxy. A
    /// link-local address names its interface.
    pub address: SocketAddr,
    /// The header of the stateless join proxy that stands between, as it came.
    pub proxied: Option<Bytes>,
    /// The DTLS association; `None` in the clear.
    pub session: Option<Arc<DtlsPeer>>,
    /// How the request came.
    pub via: Via,
    /// The address of ours that it came to.
    pub local: SocketAddr,
    /// Names the association in logs; another one for every association of this process, 0 in the
    /// clear.
    pub id: u64,
}

impl CoapPeer {
    /// The certificates that the peer showed, leaf first; none in the clear. Possession of the
    /// leaf's key is proven, trust is not.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        match &self.session {
            Some(session) => &session.chain,
            None => &[],
        }
    }
}

/// The other end of a DTLS association.
#[derive(Clone, Debug)]
pub struct DtlsPeer {
    /// The certificates that the peer showed, leaf first and in the order they were sent.
    pub chain: Vec<Certificate>,
    /// The cipher suite, by its name at IANA.
    pub suite: &'static str,
    /// `DTLS 1.2` or `DTLS 1.3`.
    pub version: &'static str,
    /// The certificate that the server showed in this association: ours at a listener, the peer's
    /// at a client.
    pub server_certificate_der: Vec<u8>,
    /// The host name that the client asked for, if it did.
    pub server_name: Option<String>,
    /// Another number for every association of this process.
    pub session_id: u64,
    /// The channel binding `tls-exporter` of
    /// [RFC 9266](https://www.rfc-editor.org/rfc/rfc9266.html), where it is unique.
    pub exporter: Option<[u8; 32]>,
}

impl DtlsPeer {
    pub(super) fn of(shown: &SessionPeer, session_id: u64) -> Self {
        Self {
            chain: shown.chain.clone(),
            suite: shown.suite,
            version: shown.version,
            server_certificate_der: shown.server_certificate_der.clone(),
            server_name: shown.server_name.clone(),
            session_id,
            exporter: shown.exporter,
        }
    }
}

/// Names a peer towards the CoAP endpoint, together with its security association
/// ([RFC 7252 §9.1.1](https://www.rfc-editor.org/rfc/rfc7252.html#section-9.1.1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    bytes: [u8; Self::LENGTH],
    length: usize,
}

impl Name {
    /// Address, port and interface.
    const LENGTH: usize = 16 + 2 + 4;
    const SESSION: usize = 8;

    // COA-039: Over DTLS ACK/RST matching needs the same DTLS session and epoch; deduplication per
    // session.
    pub(super) fn session(id: u64) -> Self {
        let mut bytes = [0; Self::LENGTH];
        for (to, from) in bytes.iter_mut().zip(id.to_be_bytes()) {
            *to = from;
        }
        Self {
            bytes,
            length: Self::SESSION,
        }
    }

    pub(super) fn address(address: SocketAddr) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        let parts = ip
            .octets()
            .into_iter()
            .chain(address.port().to_be_bytes())
            .chain(scope.to_be_bytes());
        let mut bytes = [0; Self::LENGTH];
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        Self {
            bytes,
            length: Self::LENGTH,
        }
    }

    /// What it names.
    pub(super) fn what(&self) -> Named {
        let [first @ .., s0, s1, s2, s3] = self.bytes;
        let [ip @ .., p0, p1] = first;
        if self.length == Self::SESSION {
            let [a, b, c, d, e, f, g, h, ..] = ip;
            return Named::Session(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        }
        let port = u16::from_be_bytes([p0, p1]);
        let ip = Ipv6Addr::from(ip);
        Named::Address(match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
            None => {
                let scope = u32::from_be_bytes([s0, s1, s2, s3]);
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
            }
        })
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

/// An address as people write it: IPv4 is not told as a part of IPv6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(IpAddr::V4(v4), address.port()),
        // With its interface.
        IpAddr::V6(_) => address,
    }
}

/// An address as a socket takes it.
pub(super) fn on_stack_of(ipv6: bool, address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if ipv6 => {
            SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
        }
        address => address,
    }
}

/// What a [`Name`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Session(u64),
    Address(SocketAddr),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_names() {
        assert_eq!(Name::session(7).what(), Named::Session(7));
        for address in [
            "192.0.2.1:5684",
            "[2001:db8::1]:1",
            "[fe80::1%3]:65535",
            "[::1]:0",
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(Name::address(address).what(), Named::Address(address));
        }
        assert_ne!(
            Name::address("[fe80::1%3]:1".parse().expect("an address")),
            Name::address("[fe80::1%4]:1".parse().expect("an address")),
        );
        assert_ne!(Name::session(1).as_ref(), Name::session(256).as_ref());
    }
}
