//! The reference pledge and SZTP agent: what a device vendor can build on, measure against, and
//! test a registrar and a bootstrap server with.
//!
//! [`brski::run`] carries out the steps of [`::brski::pledge::Machine`] over real connections and
//! keeps its state on disk, so that a power cut at any point costs at most one repeated request.
//! [`coaps::run`] does the same over CoAP and DTLS.
//! [`sztp::run`] does the same with [`::sztp::agent::Machine`].

pub mod brski;
pub mod cli;
pub mod coaps;
mod error;
pub mod sources;
pub mod sztp;

pub use error::Error;
