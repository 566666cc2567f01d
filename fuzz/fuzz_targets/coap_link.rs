//! Link format: what is read is read again from what is written.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(links) = coap::link::decode(text) {
        let _ = coap::link::decode(&coap::link::encode(&links));
        for link in &links {
            let _ = link.matches(text);
        }
    }
});
