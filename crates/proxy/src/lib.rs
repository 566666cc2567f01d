//! The join proxy: it helps devices that have no address of the network yet to their registrar.
//!
//! Over TCP it is the circuit proxy of
//! [RFC 8995 §4](https://www.rfc-editor.org/rfc/rfc8995.html#section-4); over UDP it is the join
//! proxy of
//! [draft-ietf-anima-constrained-join-proxy](https://datatracker.ietf.org/doc/html/draft-ietf-anima-constrained-join-proxy-21),
//! stateful or stateless. It looks into nothing that it relays.
//!
//! What is relayed, refused and forgotten is decided in [`relay`], which has no socket and no
//! clock; the rest of the crate gives it both, finds registrars, and lets itself be found.

mod announce;
mod circuit;
pub mod cli;
mod config;
mod counters;
mod error;
mod icmp;
mod init;
mod link;
mod mdns;
mod probe;
pub mod relay;
mod server;
mod target;
mod targets;
mod udp;

pub use config::{
    Config, DiscoveryConfig, Finder, HeaderConfig, LimitsConfig, Mode, PledgesConfig,
    RegistrarConfig,
};
pub use error::Error;
pub use init::{InitOptions, Initialised, init};
pub use server::{Port, Running, Way, serve};
pub use target::{Place, Service, Target};
