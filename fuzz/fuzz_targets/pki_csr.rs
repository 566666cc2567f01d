//! `pki::Csr::from_der` and what is asked of a request afterwards.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::Csr;

fuzz_target!(|bytes: &[u8]| {
    let Ok(csr) = Csr::from_der(bytes) else { return };
    assert_eq!(csr.der(), bytes);
    let _ = (csr.subject(), csr.subject_serial_number(), csr.challenge_password());
    let _ = (csr.extension_request(), csr.subject_alt_name_der(), csr.dns_names());
    let _ = csr.verify();
});
