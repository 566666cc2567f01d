//! Certificate requests of RFC 9646: the first octet says in which form and what was asked.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::Certificate;
use sztp::csr::{Asked, Device, KeyAlgorithm, Policy, check};
use sztp::message::{CsrFormat, CsrInput, CsrRequest};
use time::macros::datetime;

const NOW: time::OffsetDateTime = datetime!(2026-06-01 12:00:00 UTC);

thread_local! {
    static IDENTITY: Certificate =
        Certificate::from_der(include_bytes!("../world/sztp-device.der")).expect("the world");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, der)) = bytes.split_first() else { return };
    let _ = KeyAlgorithm::from_identifier(der);
    let (input, format) = match first % 3 {
        0 => (CsrInput::P10(der.to_vec()), CsrFormat::P10),
        1 => (CsrInput::Cmc(der.to_vec()), CsrFormat::Cmc),
        _ => (CsrInput::Cmp(der.to_vec()), CsrFormat::Cmp),
    };
    let algorithm = (first & 0x40 != 0).then(|| KeyAlgorithm::EcP256.identifier().to_vec());
    let asked = Asked {
        request: CsrRequest {
            algorithm,
            format,
            cert_req_info: (first & 0x80 != 0).then(|| der.to_vec()),
        },
        at: NOW,
    };
    IDENTITY.with(|identity| {
        let device = Device { serial: "SN-1", identity: Some(identity) };
        match check(&input, Some(&asked), &Policy::default(), &device, NOW) {
            Ok(checked) => assert!(!checked.csr.der().is_empty()),
            Err(error) => assert_eq!(error.status, 400),
        }
    });
});
