//! Vouchers in whatever a portal packs them: what is read, what is skipped, what is refused.

use std::io::{Cursor, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bootstrap::register::archive::{Found, Limits, Member, is_voucher_name, read, stem_of};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

/// Something that may be a voucher: the octets of an empty DER SEQUENCE and more.
const DER: &[u8] = &[0x30, 0x03, 0x02, 0x01, 0x07];

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        // The library refuses such names when it writes; an attacker's does not.
        let field = &mut header.as_old_mut().name;
        field[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, content) in members {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn all(name: &str, octets: &[u8], limits: &Limits) -> (Vec<Member>, Option<&'static str>) {
    let mut members = Vec::new();
    let result = read(name, Cursor::new(octets.to_vec()), limits, &mut |member| {
        members.push(member);
        true
    });
    (members, result.err().map(|refused| refused.code))
}

/// Name and what became of it: `voucher`, `skipped`, or a code.
fn words(name: &str, octets: &[u8]) -> (Vec<(String, &'static str)>, Option<&'static str>) {
    let (members, error) = all(name, octets, &Limits::default());
    let words = members
        .into_iter()
        .map(|member| {
            let word = match member.found {
                Found::Voucher(der) => {
                    assert_eq!(der.first(), Some(&0x30));
                    "voucher"
                }
                Found::Skipped(_) => "skipped",
                Found::Refused(refused) => refused.code,
            };
            (member.name, word)
        })
        .collect();
    (words, error)
}

#[test]
fn a_voucher_alone_is_der_base64_or_pem() {
    let text = BASE64.encode(DER);
    let lines = format!("\u{feff}{}\r\n{}\n", &text[..4], &text[4..]);
    let pem = format!("-----BEGIN CMS-----\n{text}\n-----END CMS-----\n");
    let two = format!("{pem}{pem}");
    let many = [b"MII".as_slice(), &[b'A'; 400_000]].concat();
    let cases: &[(&[u8], &str)] = &[
        (DER, "voucher"),
        (text.as_bytes(), "voucher"),
        (lines.as_bytes(), "voucher"),
        (pem.as_bytes(), "voucher"),
        (b"", "bootstrap.voucher-encoding"),
        (two.as_bytes(), "bootstrap.voucher-encoding"),
        (b"{\"a\":1}", "bootstrap.voucher-encoding"),
        (b"AgEH", "bootstrap.voucher-encoding"),
        (b"AgEHZ", "bootstrap.voucher-encoding"),
        (&[0xff; 40], "bootstrap.voucher-encoding"),
        (
            &[&[0x30, 0x82, 0xff, 0x00], [0xaa; 300_000].as_slice()].concat(),
            "bootstrap.archive-limit",
        ),
    ];
    for (octets, expected) in cases {
        let (found, error) = words("SN-1.vcj", octets);
        assert_eq!(error, None);
        assert_eq!(found, [("SN-1.vcj".to_owned(), *expected)], "{octets:02x?}");
    }
    // Too long for a voucher, and no archive in it.
    assert_eq!(words("a", &many).1, Some("bootstrap.voucher-encoding"));
}

#[test]
fn archives_hand_on_their_members_in_order() {
    let text = BASE64.encode(DER);
    let members: &[(&str, &[u8])] = &[
        ("bulk/SN-1.vcj", DER),
        ("bulk/SN-2.VCJ", text.as_bytes()),
        ("bulk/SN-3.vcj.b64", text.as_bytes()),
        ("bulk/oc-single.cms", DER),
        ("bulk/manifest.csv", b"serial\n"),
        ("bulk/SN-4.vjj", b"{}"),
        ("bulk/._SN-1.vcj", DER),
        ("bulk/SN-5.vcj", b"nonsense"),
    ];
    let expected = [
        ("bulk/SN-1.vcj", "voucher"),
        ("bulk/SN-2.VCJ", "voucher"),
        ("bulk/SN-3.vcj.b64", "voucher"),
        ("bulk/oc-single.cms", "skipped"),
        ("bulk/manifest.csv", "skipped"),
        ("bulk/SN-4.vjj", "skipped"),
        ("bulk/._SN-1.vcj", "skipped"),
        ("bulk/SN-5.vcj", "bootstrap.voucher-encoding"),
    ]
    .map(|(name, word)| (name.to_owned(), word));
    let tar = tar_of(members);
    let forms = [
        ("a.tar", tar.clone()),
        ("a.tar.gz", gzip(&tar)),
        ("a.zip", zip_of(members)),
        // What it is called does not matter, only what it is.
        ("a.vcj", gzip(&tar)),
        ("a.b64", BASE64.encode(gzip(&tar)).into_bytes()),
        ("b.b64", BASE64.encode(zip_of(members)).into_bytes()),
        ("two.gz", [gzip(&tar[..1024]), gzip(&tar[1024..])].concat()),
    ];
    for (name, octets) in forms {
        let (found, error) = words(name, &octets);
        assert_eq!(error, None, "{name}");
        assert_eq!(found, expected, "{name}");
    }
    let one = words("SN-1.vcj.gz", &gzip(DER)).0;
    assert_eq!(one, [("SN-1.vcj".to_owned(), "voucher")]);
}

#[test]
fn a_long_name_in_a_tar_is_the_name() {
    let mut builder = tar::Builder::new(Vec::new());
    let name = format!("{}/SN-1.vcj", "d".repeat(150));
    let mut header = tar::Header::new_gnu();
    header.set_size(DER.len() as u64);
    header.set_cksum();
    builder.append_data(&mut header, &name, DER).unwrap();
    let (found, error) = words("a.tar", &builder.into_inner().unwrap());
    assert_eq!(error, None);
    assert_eq!(found, [(name, "voucher")]);
}

#[test]
fn names_with_tricks_are_refused_by_name() {
    for name in [
        "../SN-1.vcj",
        "a/../../SN-1.vcj",
        "/etc/SN-1.vcj",
        "a\\..\\SN-1.vcj",
        "C:SN-1.vcj",
        "a\u{1b}[2J.vcj",
        "SN\n1.vcj",
    ] {
        for octets in [tar_of(&[(name, DER)]), zip_of(&[(name, DER)])] {
            let (found, _) = words("a", &octets);
            // Some are refused by the reader of the archive itself; none is a voucher.
            assert!(
                found
                    .iter()
                    .all(|(_, word)| *word == "bootstrap.archive-name"),
                "{name:?}: {found:?}"
            );
        }
    }
    let latin = tar_of(&[("ab.vcj", DER)]);
    let mut octets = latin;
    octets[0] = 0xe9;
    let sum: u32 = (0..512)
        .map(|at| {
            u32::from(if (148..156).contains(&at) {
                b' '
            } else {
                octets[at]
            })
        })
        .sum();
    octets[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(words("a", &octets).0[0].1, "bootstrap.archive-name");
}

#[test]
fn links_devices_and_sparse_files_are_refused() {
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
        tar::EntryType::Block,
        tar::EntryType::Fifo,
        tar::EntryType::GNUSparse,
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_path("SN-1.vcj").unwrap();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
        let (found, _) = words("a.tar", &builder.into_inner().unwrap());
        let expected = [("SN-1.vcj".to_owned(), "bootstrap.archive-entry")];
        assert_eq!(found, expected, "{kind:?}");
    }
}

#[test]
fn bombs_and_broken_archives_end_with_a_code() {
    let good = tar_of(&[("SN-1.vcj", DER)]);
    let zeros = vec![0; 64 * 1024 * 1024];
    let bomb = gzip(&tar_of(&[("big.bin", &zeros)]));
    assert!(bomb.len() < 100_000);
    let mut huge = tar::Header::new_ustar();
    huge.set_path("SN-1.vcj").unwrap();
    huge.set_size(u64::from(u32::MAX));
    huge.set_cksum();
    let mut long_name = tar::Header::new_gnu();
    long_name.set_path("././@LongLink").unwrap();
    long_name.set_entry_type(tar::EntryType::GNULongName);
    long_name.set_size(1 << 30);
    long_name.set_cksum();
    let zip = zip_of(&[("SN-1.vcj", DER)]);
    let mut broken_zip = zip.clone();
    broken_zip[40] ^= 0x55;
    let cases: Vec<(&str, Vec<u8>, Option<&str>)> = vec![
        (
            "a decompression bomb",
            bomb,
            Some("bootstrap.archive-limit"),
        ),
        (
            "a gzip that ends early",
            gzip(&good)[..20].to_vec(),
            Some("bootstrap.archive-broken"),
        ),
        (
            "a gzip in a gzip",
            gzip(&gzip(&good)),
            Some("bootstrap.archive-nested"),
        ),
        (
            "a zip in a gzip",
            gzip(&zip),
            Some("bootstrap.archive-nested"),
        ),
        (
            "a member that claims gigabytes",
            huge.as_bytes().to_vec(),
            None,
        ),
        (
            "a name that claims a gigabyte",
            long_name.as_bytes().to_vec(),
            Some("bootstrap.archive-limit"),
        ),
        (
            "a zip that ends early",
            zip[..30].to_vec(),
            Some("bootstrap.archive-broken"),
        ),
        ("a zip with a broken member", broken_zip, None),
        ("an empty zip", zip_of(&[]), None),
    ];
    for (name, octets, expected) in cases {
        let (found, error) = words("a", &octets);
        assert!(
            found.iter().all(|(_, word)| *word != "voucher"),
            "{name}: {found:?}"
        );
        if expected.is_some() {
            assert_eq!(error, expected, "{name}");
        }
    }
}

#[test]
fn limits_hold() {
    let limits = Limits {
        members_max: 2,
        ..Limits::default()
    };
    let many: Vec<(&str, &[u8])> = vec![("a.vcj", DER), ("b.vcj", DER), ("c.vcj", DER)];
    for octets in [tar_of(&many), zip_of(&many)] {
        let error = all("a", &octets, &limits).1;
        assert_eq!(error, Some("bootstrap.archive-limit"));
    }
    let limits = Limits {
        total_size_max_bytes: 1024,
        ..Limits::default()
    };
    let error = all("a", &gzip(&tar_of(&many)), &limits).1;
    assert_eq!(error, Some("bootstrap.archive-limit"));
    let big = vec![0x30; 600];
    let zip = zip_of(&[("a.vcj", &big), ("b.vcj", &big)]);
    assert_eq!(all("a", &zip, &limits).1, Some("bootstrap.archive-limit"));
}

#[test]
fn who_has_enough_stops_the_reading() {
    let octets = tar_of(&[("a.vcj", DER), ("b.vcj", DER)]);
    let mut count = 0;
    read("a", Cursor::new(octets), &Limits::default(), &mut |_| {
        count += 1;
        false
    })
    .unwrap();
    assert_eq!(count, 1);
}

#[test]
fn names_of_files_are_serial_numbers() {
    assert_eq!(stem_of("bulk/SN-1.vcj"), "SN-1");
    assert_eq!(stem_of("SN.1.VCJ.b64"), "SN.1");
    assert_eq!(stem_of("SN-1"), "SN-1");
    assert!(is_voucher_name("a.vcj") && is_voucher_name("a.vcj.b64"));
    assert!(!is_voucher_name("ü.txt") && !is_voucher_name("vcj"));
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = all("a", &octets, &Limits::default());
        let _ = all("a", &gzip(&octets), &Limits::default());
    }

    #[test]
    fn a_changed_archive_is_read_or_refused(at in 0_usize..1600, to in any::<u8>()) {
        let tar = tar_of(&[("a/SN-1.vcj", DER), ("SN-2.vcj", DER)]);
        for mut octets in [tar, zip_of(&[("a/SN-1.vcj", DER), ("SN-2.vcj", DER)])] {
            let at = at % octets.len();
            octets[at] = to;
            let (members, _) = all("a", &octets, &Limits::default());
            prop_assert!(members.len() <= 3);
        }
    }

    #[test]
    fn what_is_packed_comes_out(
        contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..20)
    ) {
        let names: Vec<String> = (0..contents.len()).map(|n| format!("d/SN-{n}.vcj")).collect();
        let ders: Vec<Vec<u8>> = contents
            .into_iter()
            .map(|content| [&[0x30], content.as_slice()].concat())
            .collect();
        let members: Vec<(&str, &[u8])> =
            names.iter().map(String::as_str).zip(ders.iter().map(Vec::as_slice)).collect();
        let tar = tar_of(&members);
        for octets in [gzip(&tar), tar, zip_of(&members)] {
            let (found, error) = all("a", &octets, &Limits::default());
            prop_assert_eq!(error, None);
            let found: Vec<Found> = found.into_iter().map(|member| member.found).collect();
            let expected: Vec<Found> = ders.iter().cloned().map(Found::Voucher).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
