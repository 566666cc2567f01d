//! Tests of the EST crate from the outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(
    clippy::cloned_ref_to_slice_refs,
    reason = "a list of one reads as a list"
)]

mod bodies;
mod client;
mod coaps;
mod csr_attrs;
mod server;
mod support;
