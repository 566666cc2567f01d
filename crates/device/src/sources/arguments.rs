//! The sources as options of a command.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use pki::Coded;
use sztp::usb::Layout;

use super::{DhcpInput, DhcpSource, DnsSource, Multicast, UsbSource, name_servers};
use crate::sztp::{Source, SourceError};

/// Which sources a device looks at. The order among them is removable storage, DNS, DHCP: what is
/// near before what is far
/// ([RFC 8572 §9.7](https://www.rfc-editor.org/rfc/rfc8572.html#section-9.7)).
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Sources")]
pub struct Arguments {
    /// Folder where removable storage is mounted.
    #[arg(long, value_name = "DIR")]
    pub usb: Vec<PathBuf>,
    /// Layout of the files on it; all known ones in turn without this.
    #[arg(long, value_enum, value_name = "LAYOUT", requires = "usb")]
    pub usb_layout: Option<LayoutName>,
    /// The vendor's folder in the general layout.
    #[arg(long, value_name = "NAME", default_value = "usher", requires = "usb")]
    pub usb_vendor: String,
    /// Domain in which to look for DNS records.
    #[arg(long, value_name = "DOMAIN")]
    pub dns_domain: Vec<String>,
    /// Address of a DNS server; those of /etc/resolv.conf without this.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = server_address)]
    pub dns_server: Vec<SocketAddr>,
    /// Look for DNS records by multicast.
    #[arg(long)]
    pub mdns: bool,
    /// Address of the interface on which to multicast.
    #[arg(long, value_name = "ADDRESS", requires = "mdns")]
    pub mdns_interface: Option<IpAddr>,
    /// Lease file of the DHCP client, or the environment that its script was given.
    #[arg(long, value_name = "FILE")]
    pub dhcp_lease: Vec<PathBuf>,
    /// Data of a DHCP option, hexadecimal.
    #[arg(long, value_name = "HEX")]
    pub dhcp_option: Vec<String>,
}

/// Layouts of removable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayoutName {
    /// sztp/VENDOR/SERIAL/…
    General,
    /// EN9/SERIAL/bootstrapping-data/…
    IosXr,
}

impl Arguments {
    /// The sources for the device with this serial number, in the order in which it asks them.
    ///
    /// # Errors
    ///
    /// A name that cannot be a folder or a domain, or no DNS server where one is needed.
    pub fn sources(&self, serial: &str) -> Result<Vec<Box<dyn Source>>, SourceError> {
        let mut all: Vec<Box<dyn Source>> = Vec::new();
        for folder in &self.usb {
            all.push(Box::new(UsbSource::new(folder, self.layouts()?, serial)));
        }
        if self.mdns || !self.dns_domain.is_empty() {
            let servers = match (self.dns_server.is_empty(), self.dns_domain.is_empty()) {
                (true, false) => system_servers(Path::new("/etc/resolv.conf"))?,
                _ => self.dns_server.clone(),
            };
            let mut source = DnsSource::new(serial, &self.dns_domain, servers)?;
            if self.mdns {
                source = source.with_multicast(Multicast::on(
                    self.mdns_interface
                        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                ));
            }
            all.push(Box::new(source));
        }
        let values = self.dhcp_option.iter().cloned().map(DhcpInput::Value);
        let leases = self.dhcp_lease.iter().cloned().map(DhcpInput::Lease);
        let inputs: Vec<_> = values.chain(leases).collect();
        if !inputs.is_empty() {
            all.push(Box::new(DhcpSource::new(inputs)));
        }
        Ok(all)
    }

    fn layouts(&self) -> Result<Vec<Layout>, SourceError> {
        let general = || {
            Layout::general(&self.usb_vendor)
                .map_err(|error| SourceError::new(error.code(), error.to_string()))
        };
        Ok(match self.usb_layout {
            Some(LayoutName::General) => vec![general()?],
            Some(LayoutName::IosXr) => vec![Layout::IosXr],
            None => vec![general()?, Layout::IosXr],
        })
    }
}

fn system_servers(path: &Path) -> Result<Vec<SocketAddr>, SourceError> {
    let text = fs::read_to_string(path).map_err(|error| {
        SourceError::new("dns.no-server", format!("{}: {error}", path.display()))
    })?;
    let servers = name_servers(&text);
    if servers.is_empty() {
        return Err(SourceError::new(
            "dns.no-server",
            format!("{} names no DNS server", path.display()),
        ));
    }
    Ok(servers)
}

fn server_address(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|address| (address, 53).into()))
        .map_err(|_| format!("{text:?} is no IP address with or without a port"))
}
