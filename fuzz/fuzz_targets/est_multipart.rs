//! The answer of serverkeygen.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = est::multipart::read("multipart/mixed; boundary=b", bytes);
});
