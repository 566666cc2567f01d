//! Voucher and request CBOR: what is read in strict mode is written and read again as the same, and
//! says the same in JSON.
#![no_main]
use artifacts::cbor::{Item, Named};
use artifacts::{Tolerances, Voucher, VoucherRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (strict, lenient) = (Tolerances::strict(), Tolerances::lenient());
    if let Ok((item, _)) = Item::parse(bytes) {
        let written = item.encode();
        let (again, form) = Item::parse(&written).expect("our own CBOR");
        assert!(!form.indefinite && !form.longer && !form.unsorted);
        assert_eq!(again.encode(), written);
        let _ = (item.to_string(), item.to_json());
    }
    let _ = Named::read(bytes).map(|named| named.to_json());
    let _ = Voucher::from_cbor(bytes, &lenient);
    let _ = VoucherRequest::from_cbor(bytes, &lenient);
    if let Ok((voucher, _)) = Voucher::from_cbor(bytes, &strict) {
        let written = voucher.to_cbor();
        let (again, oddities) = Voucher::from_cbor(&written, &strict).expect("our own voucher");
        assert!(oddities.is_empty() && again.unknown.is_empty());
        assert_eq!(again.to_cbor(), written);
        let (json, _) = Voucher::from_json(&voucher.to_json(), &strict).expect("the same in JSON");
        assert_eq!(json.serial_number, voucher.serial_number);
        assert_eq!(json.nonce, voucher.nonce);
        assert_eq!(json.pins().count(), voucher.pins().count());
    }
    if let Ok((request, _)) = VoucherRequest::from_cbor(bytes, &strict) {
        let written = request.to_cbor();
        let (again, oddities) =
            VoucherRequest::from_cbor(&written, &strict).expect("our own request");
        assert!(oddities.is_empty() && again.unknown.is_empty());
        assert_eq!(again.to_cbor(), written);
    }
});
