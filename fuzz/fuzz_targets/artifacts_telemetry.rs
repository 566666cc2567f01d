//! Voucher status and enrolment status.
#![no_main]
use artifacts::{EnrollStatus, Tolerances, VoucherStatus};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((status, _)) = VoucherStatus::from_json(bytes, &Tolerances::lenient()) {
        VoucherStatus::from_json(&status.to_json(), &Tolerances::strict()).expect("our own status");
    }
    if let Ok((status, _)) = EnrollStatus::from_json(bytes, &Tolerances::lenient()) {
        EnrollStatus::from_json(&status.to_json(), &Tolerances::strict()).expect("our own status");
    }
});
