//! Any signed artefact, its envelope guessed.
#![no_main]
use artifacts::{Document, Tolerances, open};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        let _ = open(Document::Voucher, bytes, None, &tolerances);
    }
});
