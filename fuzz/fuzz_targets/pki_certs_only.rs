//! `pki::pkcs7::parse_certs_only`: what is read can be written and read again.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::pkcs7::{certs_only, parse_certs_only};

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificates) = parse_certs_only(bytes) else { return };
    let written = certs_only(&certificates).expect("certificates that were parsed");
    let again = parse_certs_only(&written).expect("our own bag");
    assert_eq!(again.len(), certificates.len());
});
