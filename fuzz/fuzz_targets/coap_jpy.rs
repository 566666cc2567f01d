//! JPY: what is read comes back from what is written.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(jpy) = coap::jpy::Jpy::decode(bytes) {
        let written = jpy.encode();
        assert_eq!(coap::jpy::Jpy::decode(&written), Ok(jpy));
    }
});
