//! `pki::Certificate::from_der`: what is accepted is kept to the byte, and its accessors hold.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::Certificate;

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificate) = Certificate::from_der(bytes) else { return };
    assert_eq!(certificate.der(), bytes);
    let _ = (certificate.subject(), certificate.issuer(), certificate.dns_names());
    let _ = (certificate.subject_serial_number(), certificate.masa_url());
    let _ = (certificate.hardware_module_name(), certificate.extended_key_usages());
    let _ = (certificate.not_before(), certificate.not_after(), certificate.is_ca());
    let again = Certificate::from_pem(&certificate.to_pem()).expect("our own PEM");
    assert_eq!(again.der(), bytes);
});
