//! UDP sockets: several at one address, and those of multicast groups.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::Error;

/// Bytes that the system is asked to keep for a socket that is not read at the moment; it may give
/// less.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// The longest datagram there is.
pub(super) const DATAGRAM_MAX: usize = 65_535;

/// What an IPv6 socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    /// IPv6 only.
    One,
    /// IPv4 too, where it is bound to all addresses.
    Both,
}

impl Stack {
    /// IPv4 has addresses of its own, or none.
    pub(super) fn of(addresses: &[SocketAddr]) -> Self {
        if addresses.iter().any(SocketAddr::is_ipv4) {
            Self::One
        } else {
            Self::Both
        }
    }
}

/// Binds `count` sockets to one address; the system spreads peers over them, and a peer stays with
/// its socket.
pub(super) fn bind(
    address: SocketAddr,
    count: usize,
    stack: Stack,
) -> Result<Vec<UdpSocket>, Error> {
    let refuse = |source| Error::Bind { address, source };
    let count = count.max(1);
    let first = one(address, count > 1, stack).map_err(refuse)?;
    let same = first.local_addr().map_err(refuse)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(one(same, true, stack).map_err(refuse)?);
    }
    Ok(sockets)
}

fn one(address: SocketAddr, shared: bool, stack: Stack) -> io::Result<UdpSocket> {
    let socket = new(address, stack)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn new(address: SocketAddr, stack: Stack) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(stack == Stack::One)?;
    }
    // The usual size does as well when the system gives no more.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket)
}

/// A socket for what is sent in the clear to an address of this host. It shares its port with the
/// sockets of multicast groups, and does not get what is sent to those.
pub(super) fn bind_open(address: SocketAddr, stack: Stack) -> Result<UdpSocket, Error> {
    let open = || {
        let socket = new(address, stack)?;
        share_with_groups(&socket, address.ip())?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|source| Error::Bind { address, source })
}

/// A socket that gets what is sent to a multicast group, and nothing else.
pub(super) fn bind_group(
    group: IpAddr,
    port: u16,
    interface: Option<&str>,
) -> Result<UdpSocket, Error> {
    let index = match interface {
        Some(name) => index_of(name)?,
        None => 0,
    };
    let address = match group {
        IpAddr::V4(_) => SocketAddr::new(group, port),
        IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, index)),
    };
    let join = || {
        let socket = new(address, Stack::One)?;
        share_with_groups(&socket, group)?;
        // Bound to the group, it gets nothing that goes elsewhere.
        socket.bind(&address.into())?;
        match group {
            IpAddr::V4(v4) if index == 0 => {
                socket.join_multicast_v4(&v4, &Ipv4Addr::UNSPECIFIED)?;
            }
            IpAddr::V4(v4) => {
                socket.join_multicast_v4_n(&v4, &socket2::InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(v6) => socket.join_multicast_v6(&v6, index)?,
        }
        UdpSocket::from_std(socket.into())
    };
    join().map_err(|source| Error::Bind { address, source })
}

/// A socket to ask a multicast group from.
pub(super) fn towards_group(
    group: SocketAddr,
    interface: Option<&str>,
) -> Result<(UdpSocket, SocketAddr), Error> {
    let index = interface.map(index_of).transpose()?;
    let any = match group {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let mut to = group;
    if let (SocketAddr::V6(v6), Some(index)) = (&mut to, index) {
        v6.set_scope_id(index);
    }
    let bind = || {
        let socket = new(any, Stack::One)?;
        match (group, index) {
            (SocketAddr::V6(_), Some(index)) => socket.set_multicast_if_v6(index)?,
            (SocketAddr::V4(_), Some(index)) => {
                let group = Ipv4Addr::UNSPECIFIED;
                rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
                    &socket, &group, &group, index,
                )?;
            }
            _ => {}
        }
        socket.bind(&any.into())?;
        UdpSocket::from_std(socket.into())
    };
    let socket = bind().map_err(|source| Error::Bind {
        address: any,
        source,
    })?;
    Ok((socket, to))
}

/// A socket that talks to one address.
pub(super) async fn connected(to: SocketAddr) -> Result<UdpSocket, Error> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let bind = || {
        let socket = new(any, Stack::One)?;
        socket.bind(&any.into())?;
        UdpSocket::from_std(socket.into())
    };
    let socket = bind().map_err(|source| Error::Bind {
        address: any,
        source,
    })?;
    socket.connect(to).await.map_err(|error| Error::Connect {
        target: to.to_string(),
        reason: error.to_string(),
    })?;
    Ok(socket)
}

fn share_with_groups(socket: &Socket, address: IpAddr) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    match address {
        IpAddr::V4(_) => socket.set_multicast_all_v4(false)?,
        IpAddr::V6(_) => socket.set_multicast_all_v6(false)?,
    }
    Ok(())
}

fn index_of(interface: &str) -> Result<u32, Error> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None);
    socket
        .and_then(|socket| {
            rustix::net::netdevice::name_to_index(&socket, interface).map_err(io::Error::from)
        })
        .map_err(|error| Error::Name {
            name: interface.to_owned(),
            reason: format!("no such network interface: {error}"),
        })
}
