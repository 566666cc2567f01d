//! COSE_Sign1: read, stripped of its certificates, and read again.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::cose::{CosePolicy, Sign1};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Sign1::parse(bytes) {
        let _ = message.verify(&CosePolicy::default(), &[]);
        if let Ok(bare) = message.without_certificates() {
            assert_eq!(Sign1::parse(&bare).unwrap().payload(), message.payload());
        }
    }
});
