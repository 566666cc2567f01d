//! The links at which pledges are helped.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::PledgesConfig;

/// Where Linux lists the IPv6 addresses of its interfaces.
const ADDRESSES: &str = "/proc/thread-self/net/if_inet6";
/// Scope of a link-local address in that list.
const SCOPE_LINK: u8 = 0x20;
/// Marks of an address that cannot be used (yet): a duplicate, or still being looked for.
const UNUSABLE: u32 = 0x08 | 0x40;

/// One link: a link-local address of an interface, or an address that was configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Link {
    /// Name of the interface, or the address as text.
    pub(crate) name: String,
    /// Our address there.
    pub(crate) address: IpAddr,
    /// Index of the interface; 0 where there is none.
    pub(crate) scope: u32,
    /// Whether pledges have to have link-local addresses.
    pub(crate) only_local: bool,
}

impl Link {
    /// Our address with a port.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        self.with(self.address, port)
    }

    /// An address on this link.
    pub(crate) fn with(&self, address: IpAddr, port: u16) -> SocketAddr {
        match address {
            IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, self.scope)),
            IpAddr::V4(_) => SocketAddr::new(address, port),
        }
    }

    /// The interface, where the link is one.
    pub(crate) fn interface(&self) -> Option<&str> {
        self.only_local.then_some(self.name.as_str())
    }
}

/// The links that there are at this moment. Interfaces without a link-local address are missing.
pub(crate) fn present(config: &PledgesConfig) -> Vec<Link> {
    let list = match config.interfaces.is_empty() {
        true => String::new(),
        false => std::fs::read_to_string(ADDRESSES).unwrap_or_default(),
    };
    let mut links: Vec<Link> = config
        .interfaces
        .iter()
        .filter_map(|name| of_interface(&list, name))
        .collect();
    links.extend(config.addresses.iter().map(|address| Link {
        name: address.to_string(),
        address: *address,
        scope: 0,
        only_local: false,
    }));
    links
}

/// The index of an interface that has an IPv6 address.
pub(crate) fn index_of(name: &str) -> Option<u32> {
    let list = std::fs::read_to_string(ADDRESSES).unwrap_or_default();
    list.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let index = fields.nth(1)?;
        (fields.next_back() == Some(name))
            .then(|| u32::from_str_radix(index, 16).ok())
            .flatten()
    })
}

/// Finds `fe80…0001 02 40 20 80 eth0`: address, index, prefix, scope, flags, name.
fn of_interface(list: &str, wanted: &str) -> Option<Link> {
    list.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let scope_id = u32::from_str_radix(fields.next()?, 16).ok()?;
        let _prefix = fields.next()?;
        let scope = u8::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        let name = fields.next()?;
        (name == wanted && scope == SCOPE_LINK && flags & UNUSABLE == 0).then(|| Link {
            name: name.to_owned(),
            address: IpAddr::V6(Ipv6Addr::from(address)),
            scope: scope_id,
            only_local: true,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_system_is_read() {
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    20010db8000000000000000000000001 03 40 00 80     eth0\n\
                    fe800000000000000000000000000001 03 40 20 c0     eth0\n\
                    fe800000000000000c78e3c458a0a4ad 03 40 20 80     eth0\n\
                    fe800000000000000000000000000002 04 40 20 88    wpan0\n";
        let link = of_interface(list, "eth0").unwrap();
        assert_eq!(link.at(5).to_string(), "[fe80::c78:e3c4:58a0:a4ad%3]:5");
        for missing in ["lo", "wpan0", "eth1", ""] {
            assert_eq!(of_interface(list, missing), None, "{missing}");
        }
    }
}
