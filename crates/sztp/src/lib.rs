//! Device and server side of Secure Zero Touch Provisioning without I/O: what is said over
//! RESTCONF, what a server decides, what a device does, and the encodings by which a device
//! finds its server.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time, nonces and the
//! peer's identity are arguments. Reading is strict; each departure of a known peer is a
//! switch of [`Leniency`] and is reported as an [`Oddity`] when it was needed.
//!
//! Specifications: RFC 8572, RFC 9646, RFC 8040, RFC 7951.

pub mod agent;
pub mod csr;
pub mod dhcp;
pub mod discovery;
pub mod dns;
mod json;
mod leniency;
pub mod message;
pub mod negotiate;
pub mod restconf;
mod schema;
pub mod server;
pub mod usb;
mod value;
mod xml;

pub use artifacts::{Encoding, Oddity};

pub use crate::leniency::Leniency;
