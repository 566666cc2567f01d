//! The sources of bootstrapping data besides bootstrap servers
//! ([RFC 8572 §4](https://www.rfc-editor.org/rfc/rfc8572.html#section-4)): removable storage,
//! DNS and DHCP. All are untrusted: what they hold is judged by [`sztp::agent`].

mod arguments;
mod dhcp;
mod dns;
mod usb;

pub use self::{
    arguments::{Arguments, LayoutName},
    dhcp::{DhcpInput, DhcpSource},
    dns::{DnsSource, Multicast, name_servers},
    usb::UsbSource,
};
