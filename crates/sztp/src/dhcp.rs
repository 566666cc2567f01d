//! The DHCP options of
//! [RFC 8572 §8](https://www.rfc-editor.org/rfc/rfc8572.html#section-8): a list of bootstrap
//! servers in `OPTION_V4_SZTP_REDIRECT` (143) and `OPTION_V6_SZTP_REDIRECT` (136).
//!
//! Both carry the same data, each URI behind a length of two octets:
//!
//! ```text
//! +--+--+--+--+--+--+--+--+--+--+--+--+-...-+--+--+
//! |     uri-length    |          URI              |
//! +--+--+--+--+--+--+--+--+--+--+--+--+-...-+--+--+
//! ```
//!
//! [`encode_v4`] and [`encode_v6`] write it, [`decode_list`] reads it as a device does,
//! [`inspect()`] says what is wrong with an option that somebody pasted, and [`snippet`] has the
//! configuration of DHCP servers.

mod codec;
mod inspect;
mod lease;
mod pasted;
pub mod snippet;
mod uri;

use pki::{Blame, Coded};

pub use self::codec::{
    ENTRIES_MAX, Entry, Instance, LIST_MAX_BYTES, List, V4_CODE, V4_INSTANCE_MAX_BYTES, V6_CODE,
    decode_list, encode_list, encode_v4, encode_v6, v4_instances, v4_option, v6_options,
};
pub use self::inspect::{Framing, Mistake, Report, inspect, inspect_as};
pub use self::lease::{LEASE_MAX_BYTES, lease_options};
pub use self::pasted::INPUT_MAX_BYTES;
pub use self::uri::{BootstrapUri, UriFault};

/// Which DHCP an option is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// DHCPv4, option 143.
    V4,
    /// DHCPv6, option 136.
    V6,
}

impl Family {
    /// The option's code.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::V4 => u16::from(V4_CODE),
            Self::V6 => V6_CODE,
        }
    }

    /// Its name: `v4` or `v6`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// Why an option cannot be written, or what was given cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no URI to write. The caller's fault.
    #[error("there is no URI")]
    Empty,
    /// The text is no hexadecimal, no base64 and no URI. The caller's fault.
    #[error("this is neither hexadecimal nor base64 nor a URI")]
    Input,
    /// The input is larger than any option. The caller's fault.
    #[error("{0} octets are more than any DHCP message has")]
    InputTooLong(usize),
    /// Option headers do not fit their octets. The peer's fault.
    #[error("{0}")]
    Options(&'static str),
    /// The list does not fit into DHCP. The caller's fault.
    #[error("a list of {0} octets does not fit into a DHCP message")]
    TooLong(usize),
    /// A URI is not of the form that the options take. The caller's fault.
    #[error("{text:?}: {fault}")]
    Uri {
        /// The text.
        text: String,
        /// What is wrong with it.
        fault: UriFault,
    },
}

impl Error {
    /// A URI that cannot be written.
    #[must_use]
    pub fn uri(text: &str, fault: UriFault) -> Self {
        Self::Uri {
            text: text.chars().take(200).collect(),
            fault,
        }
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "dhcp.empty",
            Self::Input => "dhcp.input",
            Self::InputTooLong(_) => "dhcp.input-too-long",
            Self::Options(_) => "dhcp.options",
            Self::TooLong(_) => "dhcp.too-long",
            Self::Uri { fault, .. } => fault.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Options(_) => Blame::PeerMisbehaved,
            Self::Empty
            | Self::Input
            | Self::InputTooLong(_)
            | Self::TooLong(_)
            | Self::Uri { .. } => Blame::Caller,
        }
    }
}
