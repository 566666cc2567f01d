//! The audit log of a MASA, strict and tolerant.
#![no_main]
use artifacts::{AuditLog, Tolerances};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((log, _)) = AuditLog::from_json(bytes, &Tolerances::lenient()) else { return };
    let written = log.to_json();
    let (again, _) = AuditLog::from_json(&written, &Tolerances::strict()).expect("our own log");
    assert_eq!(again.to_json(), written);
});
