//! The suite against this repository's own servers and tools, which are started as processes, and
//! its reports against readers that are not its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cli;
mod dtls;
mod page;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod vectors;
