//! `pki::jws::Jws::parse` and verification.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::jws::{Jws, JwsPolicy};

fuzz_target!(|bytes: &[u8]| {
    let Ok(jws) = Jws::parse(bytes) else { return };
    for index in 0..jws.signer_count() {
        let _ = (jws.certificates(index), jws.algorithm(index), jws.typ(index));
    }
    let _ = jws.verify(&JwsPolicy::tolerant(None), &[]);
});
