//! DHCP options: as a device reads them, as a lease has them, and as people paste them.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sztp::dhcp::{decode_list, encode_list, encode_v4, inspect, lease_options, v4_option};

fuzz_target!(|bytes: &[u8]| {
    let list = decode_list(bytes);
    let entries: usize = list
        .entries
        .iter()
        .map(|entry| entry.octets.len() + 2)
        .sum();
    assert_eq!(entries + list.left_over, bytes.len());
    let _ = v4_option(bytes, 143);
    let _ = lease_options(bytes);
    // What a device uses can be written, and is read back.
    if let Ok(written) = encode_list(&list.usable()) {
        assert_eq!(decode_list(&written).usable(), list.usable());
        assert!(decode_list(&written).is_clean());
        let option = encode_v4(&list.usable()).expect("a list that was written");
        let report = inspect(&option).expect("an option that was written");
        assert_eq!(report.usable(), list.usable());
        assert!(report.mistakes.is_empty());
    }
    if let Ok(report) = inspect(bytes) {
        assert!(!report.usable().is_empty() || !report.mistakes.is_empty());
    }
});
