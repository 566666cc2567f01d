//! Voucher status and enrolment status in CBOR.
#![no_main]
use artifacts::{Tolerances, VoucherStatus};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        if let Ok((status, _)) = VoucherStatus::from_cbor(bytes, &tolerances) {
            let strict = Tolerances::strict();
            let (again, oddities) =
                VoucherStatus::from_cbor(&status.to_cbor(), &strict).expect("our own status");
            assert!(oddities.is_empty() && again.unknown.is_empty());
            assert_eq!(again.to_cbor(), status.to_cbor());
            VoucherStatus::from_json(&status.to_json(), &strict).expect("the same in JSON");
        }
    }
});
