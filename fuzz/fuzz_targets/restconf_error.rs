//! What a device reads of a server beside bootstrapping data: errors, and host-meta.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sztp::message::CsrRequest;
use sztp::restconf::ErrorReport;
use sztp::{Encoding, Leniency, discovery, negotiate};

fuzz_target!(|bytes: &[u8]| {
    let every = Leniency::from_names(Leniency::NAMES.iter().copied()).expect("the names");
    for encoding in [Encoding::Json, Encoding::Xml] {
        for leniency in [Leniency::strict(), every.clone()] {
            if let Ok((report, _)) = ErrorReport::decode(bytes, encoding, &leniency) {
                let _ = report.csr_request(400);
            }
        }
        if let Ok(request) = CsrRequest::decode(bytes, encoding) {
            let again = CsrRequest::decode(&request.encode(encoding), encoding);
            assert_eq!(again.expect("our own request"), request);
        }
    }
    let _ = discovery::parse_host_meta(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = negotiate::response_encoding(Some(text), None);
        let _ = negotiate::request_encoding(Some(text), b"x", &every);
    }
});
