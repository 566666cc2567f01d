//! `pki::Crl::from_der`.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::Crl;

fuzz_target!(|bytes: &[u8]| {
    let Ok(crl) = Crl::from_der(bytes) else { return };
    assert_eq!(crl.der(), bytes);
    let _ = (crl.issuer(), crl.this_update(), crl.next_update(), crl.revocation(&[1]));
});
