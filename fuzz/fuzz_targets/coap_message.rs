//! Messages: what is read is written as the same bytes.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = coap::Message::decode(bytes) {
        assert_eq!(message.encode().as_deref(), Ok(bytes));
    }
    let _ = coap::Block::decode(bytes);
});
