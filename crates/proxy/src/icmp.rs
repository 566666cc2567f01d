//! ICMPv6 errors to pledges, [RFC 4443 §3](https://www.rfc-editor.org/rfc/rfc4443.html#section-3).

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};

/// "Destination unreachable".
const UNREACHABLE: u8 = 1;
const NEXT_HEADER_UDP: u8 = 17;
const UDP_HEADER_LENGTH: u16 = 8;

/// Why a destination is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    NoRoute = 0,
    Prohibited = 1,
    Address = 3,
    Port = 4,
}

impl Code {
    /// The code that the system turned into an error.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Port),
            io::ErrorKind::PermissionDenied => Some(Self::Prohibited),
            io::ErrorKind::HostUnreachable => Some(Self::Address),
            io::ErrorKind::NetworkUnreachable => Some(Self::NoRoute),
            _ => None,
        }
    }
}

/// Sends errors from one address.
pub(crate) struct Sender {
    socket: Socket,
    from: Ipv6Addr,
    scope: u32,
}

impl Sender {
    /// Nothing where this process may not have a raw socket.
    pub(crate) fn new(from: Ipv6Addr, scope: u32) -> Option<Self> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.set_nonblocking(true)?;
            // Nothing is read from it.
            socket.set_recv_buffer_size(0)?;
            socket.bind(&SocketAddr::V6(SocketAddrV6::new(from, 0, 0, scope)).into())?;
            Ok(socket)
        };
        let socket = open().ok()?;
        Some(Self {
            socket,
            from,
            scope,
        })
    }

    /// Tells a pledge that what it sent to this port of ours did not arrive.
    pub(crate) fn send(&self, code: Code, port: u16, to: SocketAddr) {
        let IpAddr::V6(pledge) = to.ip() else {
            return;
        };
        let message = message(code, (pledge, to.port()), (self.from, port));
        let to = SocketAddrV6::new(pledge, 0, 0, self.scope);
        // An error that is lost is one datagram more that is lost.
        let _ = self.socket.send_to(&message, &SocketAddr::V6(to).into());
    }
}

/// The message: its own header, and of the datagram the headers, by which the pledge knows it. The
/// system puts the checksum in.
fn message(code: Code, from: (Ipv6Addr, u16), to: (Ipv6Addr, u16)) -> Vec<u8> {
    let mut out = vec![UNREACHABLE, code as u8, 0, 0, 0, 0, 0, 0];
    out.extend([0x60, 0, 0, 0]);
    out.extend(UDP_HEADER_LENGTH.to_be_bytes());
    out.extend([NEXT_HEADER_UDP, 64]);
    out.extend(from.0.octets());
    out.extend(to.0.octets());
    out.extend(from.1.to_be_bytes());
    out.extend(to.1.to_be_bytes());
    out.extend(UDP_HEADER_LENGTH.to_be_bytes());
    out.extend([0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: JPX-012, JPX-015
    #[test]
    fn the_error_names_the_pledges_datagram() {
        let pledge = ("fe80::1".parse().unwrap(), 0x1234);
        let proxy = ("fe80::2".parse().unwrap(), 0x5678);
        let message = message(Code::Prohibited, pledge, proxy);
        assert_eq!(message[..2], [1, 1]);
        assert_eq!(message.len(), 8 + 40 + 8);
        assert_eq!(message[48..52], [0x12, 0x34, 0x56, 0x78]);
        let cases = [
            (io::ErrorKind::ConnectionRefused, Some(Code::Port)),
            (io::ErrorKind::PermissionDenied, Some(Code::Prohibited)),
            (io::ErrorKind::HostUnreachable, Some(Code::Address)),
            (io::ErrorKind::NetworkUnreachable, Some(Code::NoRoute)),
            (io::ErrorKind::WouldBlock, None),
        ];
        for (kind, code) in cases {
            assert_eq!(Code::of(&kind.into()), code);
        }
    }
}
