//! Voucher JSON: what is read in strict mode is written and read again as the same voucher.
#![no_main]
use artifacts::{Tolerances, Voucher};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Voucher::from_json(bytes, &Tolerances::lenient());
    let Ok((voucher, _)) = Voucher::from_json(bytes, &Tolerances::strict()) else { return };
    let written = voucher.to_json();
    let (again, oddities) =
        Voucher::from_json(&written, &Tolerances::strict()).expect("our own voucher");
    assert!(oddities.is_empty());
    assert_eq!(again.to_json(), written);
});
