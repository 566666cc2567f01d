//! The suite against this repository's own servers and tools, which are started as processes, and
//! its reports against readers that are not its own.

mod cli;
mod dtls;
mod page;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod vectors;
