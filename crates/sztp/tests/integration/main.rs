//! The crate as its users see it.

mod bodies;
mod examples;
mod messages;
mod roundtrip;
mod support;
mod yanglint;
