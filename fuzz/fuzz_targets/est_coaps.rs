//! Bodies and requests of EST over CoAP.

#![no_main]

use coap::{Code, Request, Response};
use est::coaps::{self, Operation, accepted, client, multipart};
use est::server::{Policy, Standing, handle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u8, Option<u16>, Option<u16>, &[u8])| {
    let (operation, method, content_format, accept, payload) = input;
    let operation = Operation::ALL[usize::from(operation) % Operation::ALL.len()];
    if let Ok(parts) = multipart::read(payload) {
        assert_eq!(multipart::read(&multipart::write(&parts)).unwrap(), parts);
    }
    let _ = multipart::key_and_certificates(payload);
    let response = Response {
        content_format,
        payload: payload.to_vec(),
        ..Response::new(Code::CONTENT)
    };
    let _ = client::ca_certificates(&response);
    let _ = client::csr_attrs(&response);
    let request = Request {
        method: Some(Code(method & 0x07)),
        content_format,
        accept,
        payload: payload.to_vec(),
        ..Request::default()
    };
    let format = accepted(operation, accept);
    let policy = Policy {
        server_keygen: true,
        ..Policy::default()
    };
    for standing in [Standing::Known, Standing::MayEnrol] {
        let _ = handle(
            &coaps::request(operation, &request, format, None),
            &standing,
            &policy,
        );
    }
});
