//! The built binary, run as a stranger would run it.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod demo;
mod network;
mod tools;
mod tools_constrained;
mod tools_discovery;
mod tools_help;
mod tools_sztp;
mod walk;
