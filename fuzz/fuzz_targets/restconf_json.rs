//! The messages of RFC 8572 in JSON: what is read can be written and read again.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sztp::Encoding;

#[path = "../messages.rs"]
mod messages;

fuzz_target!(|bytes: &[u8]| messages::read(bytes, Encoding::Json));
