//! The crate as its users see it.

mod agent;
mod bodies;
mod dhcp_servers;
mod examples;
mod messages;
mod roundtrip;
mod support;
mod yanglint;
