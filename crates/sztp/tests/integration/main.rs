//! The crate as its users see it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod agent;
mod bodies;
mod csr;
mod dhcp_servers;
mod examples;
mod fuzz_seeds;
mod http;
mod messages;
mod roundtrip;
mod server;
mod support;
mod yanglint;
