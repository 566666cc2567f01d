//! Voucher request JSON, as for vouchers.
#![no_main]
use artifacts::{Tolerances, VoucherRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = VoucherRequest::from_json(bytes, &Tolerances::lenient());
    let Ok((request, _)) = VoucherRequest::from_json(bytes, &Tolerances::strict()) else { return };
    let written = request.to_json();
    let (again, _) =
        VoucherRequest::from_json(&written, &Tolerances::strict()).expect("our own request");
    assert_eq!(again.to_json(), written);
});
