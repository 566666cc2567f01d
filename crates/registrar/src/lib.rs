//! The registrar: BRSKI and EST towards devices, the MASA client, policy, and the CA behind it.
//!
//! [`serve`] starts it from a [`Config`]. What it decides comes from [`brski::registrar`]; this
//! crate carries the decisions out: it asks the policy, calls the MASA, and writes everything
//! down in one transaction for each decision. Every attempt of every device, the unknown and the
//! refused ones too, is a line in a timeline ([`records`]).
//!
//! Invariants:
//! - The MASA named by an IDevID is never contacted before a vendor profile vouches for the IDevID.
//! - What the policy looks at comes from the verified IDevID and never from a request.
//! - A voucher is in the database, with its audit entry, before a device gets it.

mod admin;
pub mod ca;
pub mod cli;
pub mod coap;
pub mod config;
mod counters;
mod error;
pub mod est;
pub mod policy;
pub mod records;
mod routes;
pub mod schema;
mod server;
pub mod service;
pub mod vendor;

pub use config::Config;
pub use counters::Counters;
pub use error::Error;
pub use server::{Running, serve};
pub use service::Service;
