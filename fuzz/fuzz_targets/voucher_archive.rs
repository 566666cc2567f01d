//! Vouchers as portals pack them: alone, tar, tar.gz, zip, and any of these in base64.
#![no_main]
use bootstrap::register::archive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = archive::Limits {
        members_max: 100,
        total_size_max_bytes: 8 * 1024 * 1024,
        ..archive::Limits::default()
    };
    let mut count = 0_u64;
    let mut size = 0_u64;
    let result = archive::read("a.vcj", std::io::Cursor::new(bytes), &limits, &mut |member| {
        count += 1;
        if let archive::Found::Voucher(der) = &member.found {
            assert_eq!(der.first(), Some(&0x30));
            assert!(der.len() as u64 <= limits.member_size_max_bytes);
            assert!(member.name.split('/').all(|part| part != ".."));
            size += der.len() as u64;
        }
        true
    });
    assert!(count <= limits.members_max);
    assert!(size <= limits.total_size_max_bytes + limits.member_size_max_bytes);
    if let Err(refused) = result {
        assert!(refused.code.starts_with("bootstrap."));
    }
});
