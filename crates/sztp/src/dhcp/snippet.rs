//! The option in the configuration of DHCP servers.
//!
//! Each takes the list as it is, without code and length: the server writes those.

use super::codec::V4_INSTANCE_MAX_BYTES;
use super::{BootstrapUri, Error, Family, encode_list};

/// Longest line that dnsmasq reads from a configuration file, in octets.
const DNSMASQ_LINE_MAX_BYTES: usize = 1024;

/// A DHCP server whose configuration we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Cisco IOS and IOS-XE.
    CiscoIos,
    /// dnsmasq.
    Dnsmasq,
    /// ISC dhcpd.
    IscDhcpd,
    /// Juniper Junos.
    Junos,
    /// Kea.
    Kea,
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CiscoIos,
        Self::Dnsmasq,
        Self::IscDhcpd,
        Self::Junos,
        Self::Kea,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CiscoIos => "cisco-ios",
            Self::Dnsmasq => "dnsmasq",
            Self::IscDhcpd => "isc-dhcpd",
            Self::Junos => "junos",
            Self::Kea => "kea",
        }
    }
}

/// The lines that make a server send the option; nothing where it cannot.
///
/// # Errors
///
/// As [`encode_list`].
pub fn snippet(
    server: Server,
    family: Family,
    uris: &[BootstrapUri],
) -> Result<Option<String>, Error> {
    let list = encode_list(uris)?;
    Ok(match server {
        Server::CiscoIos => cisco_ios(family, &list),
        Server::Dnsmasq => dnsmasq(family, &list),
        Server::IscDhcpd => Some(isc_dhcpd(family, &list)),
        Server::Junos => junos(family, &list),
        Server::Kea => Some(kea(family, &list)),
    })
}

/// IOS has a DHCPv4 pool with free options and no such thing for DHCPv6. It takes hexadecimal in
/// groups of four digits.
fn cisco_ios(family: Family, list: &[u8]) -> Option<String> {
    if family == Family::V6 || list.len() > V4_INSTANCE_MAX_BYTES {
        return None;
    }
    let groups: Vec<String> = list.chunks(2).map(hex::encode).collect();
    Some(format!(
        "! in ip dhcp pool NAME\noption 143 hex {}\n",
        groups.join(".")
    ))
}

/// Colons make dnsmasq take the value as octets. It does not split options, and its lines are
/// short.
fn dnsmasq(family: Family, list: &[u8]) -> Option<String> {
    let value = colons(list);
    let line = match family {
        Family::V4 if list.len() > V4_INSTANCE_MAX_BYTES => return None,
        Family::V4 => format!("dhcp-option=143,{value}"),
        Family::V6 => format!("dhcp-option=option6:136,{value}"),
    };
    (line.len() < DNSMASQ_LINE_MAX_BYTES).then(|| format!("{line}\n"))
}

/// dhcpd knows neither option, so a definition stands before the value. It splits by itself.
fn isc_dhcpd(family: Family, list: &[u8]) -> String {
    let value = colons(list);
    match family {
        Family::V4 => {
            format!("option sztp-redirect code 143 = string;\noption sztp-redirect {value};\n")
        }
        Family::V6 => format!(
            "option dhcp6.sztp-redirect code 136 = string;\noption dhcp6.sztp-redirect {value};\n"
        ),
    }
}

fn junos(family: Family, list: &[u8]) -> Option<String> {
    let (inet, code) = match family {
        Family::V4 if list.len() > V4_INSTANCE_MAX_BYTES => return None,
        Family::V4 => ("inet", 143),
        Family::V6 => ("inet6", 136),
    };
    Some(format!(
        "set access address-assignment pool NAME family {inet} dhcp-attributes option {code} hex-string {}\n",
        hex::encode(list)
    ))
}

/// With `csv-format` off Kea takes the octets, whether or not it knows the option by name: later
/// versions do, and then refuse another definition of it. It splits by itself.
fn kea(family: Family, list: &[u8]) -> String {
    let (space, code) = match family {
        Family::V4 => ("dhcp4", 143),
        Family::V6 => ("dhcp6", 136),
    };
    format!(
        "\"option-data\": [\n  {{\n    \"code\": {code},\n    \"space\": \"{space}\",\n    \
         \"csv-format\": false,\n    \"data\": \"{}\"\n  }}\n]\n",
        hex::encode(list)
    )
}

fn colons(list: &[u8]) -> String {
    let octets: Vec<String> = list.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}
