//! The bootstrap server: RFC 8572 and 9646 towards devices, what they are given, and the owner's
//! tools.
//!
//! [`serve`] starts it from a [`Config`]. What a message says and what may be answered comes from
//! [`sztp`]; this crate finds out who asks ([`auth`]), chooses what that device gets ([`content`])
//! and writes every attempt of every device, the unknown and the refused ones too, into a timeline
//! ([`timeline`]).
//!
//! Invariants:
//! - A device's identity is (vendor, serial number), taken from its verified IDevID or from
//!   credentials that the operator gave it, and never from the body of a request.
//! - The lines of a request are durable before its answer leaves.
//! - Nothing a peer sends leads to a 500.

pub mod auth;
pub mod cli;
pub mod config;
pub mod content;
mod counters;
pub mod csr;
mod error;
pub mod events;
pub mod handover;
pub mod init;
pub mod profile;
pub mod register;
mod routes;
mod schema;
mod server;
pub mod service;
pub mod timeline;
pub mod vendor;

pub use config::Config;
pub use error::Error;
pub use schema::SCHEMA;
pub use server::{Running, serve};
pub use service::Service;
