//! Artefacts as peers make them, good and bad, and the verdicts on them.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod algorithms;
mod artefacts;
mod bundle;
mod cbor;
mod common;
mod constrained;
mod conveyed;
mod conveyed_properties;
mod flips;
mod fuzz_seeds;
mod openssl;
mod properties;
mod schema;
mod sztp;
mod vectors;
mod verdicts;
mod yang;
