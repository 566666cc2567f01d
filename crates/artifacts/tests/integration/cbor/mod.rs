//! Voucher data in CBOR as other writers make it: ciborium here, which shares no code with ours.

mod properties;
mod telemetry;

use artifacts::cbor::{CBOR_DEPTH_MAX, CborError, Item, leaves_by_sid};
use artifacts::{
    Assertion, Extension, ExtensionData, Fault, Nonce, RequestFields, Tolerances, Voucher,
    VoucherFields, VoucherRequest, VoucherStatus,
};
use ciborium::Value;
use proptest::prelude::*;

use crate::common::{World, certificate, file, serial};

pub(crate) fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

/// What ciborium reads.
pub(crate) fn foreign(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).unwrap()
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(crate) fn int(number: impl Into<i128>) -> Value {
    Value::Integer(number.into().try_into().unwrap())
}

pub(crate) fn absolute(sid: u64) -> Value {
    Value::Tag(47, Box::new(int(sid)))
}

pub(crate) type Entries = Vec<(Value, Value)>;

/// A voucher that is good, as deltas.
pub(crate) fn good() -> Entries {
    vec![
        (int(1), int(2)),
        (int(2), text("2026-11-23T20:00:00Z")),
        (int(7), Value::Bytes(vec![7; 8])),
        (int(10), Value::Bytes(vec![9; 32])),
        (int(11), text("SN-1")),
    ]
}

pub(crate) fn with(entries: &[(Value, Value)]) -> Entries {
    let mut all = good();
    for (key, value) in entries {
        all.retain(|(other, _)| other != key);
        all.push((key.clone(), value.clone()));
    }
    all
}

pub(crate) fn under(top: Value, entries: Entries) -> Vec<u8> {
    written(&Value::Map(vec![(top, Value::Map(entries))]))
}

pub(crate) fn read(bytes: &[u8]) -> Result<Voucher, Option<Fault>> {
    Voucher::from_cbor(bytes, &Tolerances::strict())
        .map(|(voucher, _)| voucher)
        .map_err(|error| error.fault())
}

/// The voucher that [`good`] is.
pub(crate) fn expect_good(bytes: &[u8], what: &str) {
    let voucher = read(bytes).unwrap_or_else(|fault| panic!("{what}: {fault:?}"));
    assert_eq!(voucher.assertion, Some(Assertion::Proximity), "{what}");
    assert_eq!(voucher.serial_number.as_str(), "SN-1", "{what}");
    let nonce = voucher.nonce.as_ref().unwrap();
    assert_eq!(nonce.octets(), [7; 8], "{what}");
    assert_eq!(voucher.pinned_domain_pubk_sha256, Some([9; 32]), "{what}");
    assert!(voucher.unknown.is_empty(), "{what}: {:?}", voucher.unknown);
}

/// Requirements: VCB-001, VCB-006, VCB-007, VCB-008, VCB-009, CBR-147, CBR-160, CBR-161
#[test]
fn a_leaf_has_a_delta_an_absolute_sid_and_a_name() {
    let delta = good();
    let tagged: Entries = delta
        .iter()
        .map(|(key, value)| {
            let delta = u64::try_from(key.as_integer().unwrap()).unwrap();
            (absolute(2451 + delta), value.clone())
        })
        .collect();
    let names = [
        "assertion",
        "created-on",
        "nonce",
        "pinned-domain-pubk-sha256",
        "serial-number",
    ];
    let named: Entries = names
        .iter()
        .zip(&delta)
        .map(|(name, (_, value))| (text(name), value.clone()))
        .collect();
    let qualified: Entries = names
        .iter()
        .zip(&delta)
        .map(|(name, (_, value))| (text(&format!("ietf-voucher:{name}")), value.clone()))
        .collect();
    let bare: Entries = delta
        .iter()
        .map(|(key, value)| {
            let delta = i128::from(key.as_integer().unwrap());
            (int(2451 + delta), value.clone())
        })
        .collect();
    let mixed: Entries = [&delta[..1], &tagged[1..2], &named[2..4], &qualified[4..]].concat();
    let by_name = || text("ietf-voucher:voucher");
    for (what, bytes) in [
        ("deltas", under(int(2451), delta.clone())),
        ("absolute", under(int(2451), tagged.clone())),
        ("names", under(int(2451), named.clone())),
        ("qualified names", under(int(2451), qualified.clone())),
        ("mixed", under(int(2451), mixed)),
        ("names under a name", under(by_name(), named)),
        ("absolute under a name", under(by_name(), tagged)),
        ("bare SIDs under a name", under(by_name(), bare.clone())),
        ("an absolute top", under(absolute(2451), delta.clone())),
    ] {
        expect_good(&bytes, what);
    }
    // Under a name the small numbers are no deltas, under a SID the large ones are.
    assert_eq!(
        read(&under(by_name(), delta)).err(),
        Some(Some(Fault::MissingMember))
    );
    assert_eq!(
        read(&under(int(2451), bare)).err(),
        Some(Some(Fault::MissingMember))
    );
}

/// Requirements: VCB-001, VCB-002, VCB-010, VCB-011, VCB-012, VCB-013, VCB-014, VCB-015, VCB-018, VCB-019, VCB-027, VCB-040, VCB-041, VCB-046
#[test]
fn what_is_wrong_has_its_own_fault() {
    let key = certificate("rfc8995/vendor.crt");
    let point = key.public_key().spki_der();
    let point = point[point.len() - 65..].to_vec();
    let bytes = |octets: &[u8]| Value::Bytes(octets.to_vec());
    let date = |value: Value| with(&[(int(2), value)]);
    let lone = |key: Value, value: Value| with(&[(key, value)]);
    let cases: &[(&str, Entries, Fault)] = &[
        (
            "assertion by name",
            lone(int(1), text("proximity")),
            Fault::WrongType,
        ),
        ("assertion 4", lone(int(1), int(4)), Fault::BadAssertion),
        ("assertion -1", lone(int(1), int(-1)), Fault::WrongType),
        ("epoch", date(int(1_700_000_000)), Fault::WrongType),
        (
            "tag 0",
            date(Value::Tag(0, Box::new(text("2026-11-23T20:00:00Z")))),
            Fault::WrongType,
        ),
        (
            "tag 1",
            date(Value::Tag(1, Box::new(int(1)))),
            Fault::WrongType,
        ),
        ("no date", date(text("2026-11-23 20:00:00")), Fault::BadDate),
        ("boolean 1", lone(int(3), int(1)), Fault::WrongType),
        ("boolean null", lone(int(3), Value::Null), Fault::WrongType),
        (
            "nonce as text",
            lone(int(7), text("BwcHBwcHBwc=")),
            Fault::WrongType,
        ),
        ("nonce of 7", lone(int(7), bytes(&[1; 7])), Fault::BadNonce),
        (
            "nonce of 33",
            lone(int(7), bytes(&[1; 33])),
            Fault::BadNonce,
        ),
        (
            "serial number as octets",
            lone(int(11), bytes(b"SN-1")),
            Fault::WrongType,
        ),
        (
            "serial number as number",
            lone(int(11), int(1)),
            Fault::WrongType,
        ),
        (
            "empty serial number",
            lone(int(11), text("")),
            Fault::BadSerialNumber,
        ),
        (
            "certificate",
            lone(int(8), bytes(b"\x30\x00")),
            Fault::BadCertificate,
        ),
        (
            "point for a key",
            lone(int(9), bytes(&point)),
            Fault::BadPublicKey,
        ),
        (
            "hash of 31",
            lone(int(10), bytes(&[1; 31])),
            Fault::BadPublicKey,
        ),
        (
            "hash of 33",
            lone(int(10), bytes(&[1; 33])),
            Fault::BadPublicKey,
        ),
        (
            "proprietary map",
            lone(int(14), Value::Map(vec![])),
            Fault::WrongType,
        ),
        (
            "proprietary text",
            lone(int(14), text("x")),
            Fault::WrongType,
        ),
        (
            "extensions map",
            lone(int(15), Value::Map(vec![])),
            Fault::WrongType,
        ),
        (
            "extension -1",
            lone(int(15), Value::Array(vec![int(-1)])),
            Fault::WrongType,
        ),
        (
            "an extension twice",
            lone(int(15), Value::Array(vec![int(5), int(5)])),
            Fault::BadExtension,
        ),
        (
            "idevid-issuer",
            lone(int(5), bytes(&[])),
            Fault::BadIdevidIssuer,
        ),
        ("URI", lone(int(13), text("no uri")), Fault::BadUri),
        ("key of octets", lone(bytes(b"x"), int(1)), Fault::WrongType),
        (
            "key true",
            lone(Value::Bool(true), int(1)),
            Fault::WrongType,
        ),
        (
            "bignum key",
            lone(Value::Tag(2, Box::new(bytes(&[1; 9]))), int(1)),
            Fault::WrongType,
        ),
        (
            "47 of a text",
            lone(Value::Tag(47, Box::new(text("nonce"))), int(1)),
            Fault::WrongType,
        ),
        (
            "twice: tag 47",
            lone(absolute(2458), bytes(&[7; 8])),
            Fault::DuplicateMember,
        ),
        (
            "twice: name",
            lone(text("nonce"), bytes(&[7; 8])),
            Fault::DuplicateMember,
        ),
        (
            "twice: module",
            lone(text("ietf-voucher:nonce"), bytes(&[7; 8])),
            Fault::DuplicateMember,
        ),
        (
            "unknown twice: tag 47",
            with(&[(int(99), int(1)), (absolute(2550), int(1))]),
            Fault::DuplicateMember,
        ),
        (
            "no serial number",
            good()
                .into_iter()
                .filter(|(key, _)| *key != int(11))
                .collect(),
            Fault::MissingMember,
        ),
        (
            "no pin",
            good()
                .into_iter()
                .filter(|(key, _)| *key != int(10))
                .collect(),
            Fault::NoPin,
        ),
        (
            "both ends",
            lone(int(4), text("2027-11-23T20:00:00Z")),
            Fault::NonceAndExpiresOn,
        ),
    ];
    for (what, entries, want) in cases {
        let found = read(&under(int(2451), entries.clone())).err().flatten();
        assert_eq!(found, Some(*want), "{what}");
    }
    let top = |top: Value| read(&under(top, good())).err().flatten();
    for (what, key) in [
        ("a request", int(2501)),
        ("the module", int(2450)),
        ("a SID of 2018", int(1_001_104)),
        ("a SID of 2021", int(2467)),
        ("another name", text("ietf-voucher-request:voucher")),
        ("no module", text("voucher")),
        ("negative", int(-2451)),
        ("tag 48", Value::Tag(48, Box::new(int(2451)))),
    ] {
        assert_eq!(top(key), Some(Fault::TopLevelName), "{what}");
    }
    let map = || Value::Map(good());
    for (what, outer, want) in [
        (
            "both spellings",
            vec![(int(2451), map()), (absolute(2451), map())],
            Fault::DuplicateMember,
        ),
        (
            "a neighbour",
            vec![(int(2451), map()), (int(1), int(1))],
            Fault::TopLevelName,
        ),
        (
            "no map",
            vec![(int(2451), Value::Array(vec![]))],
            Fault::WrongType,
        ),
        ("nothing", vec![], Fault::TopLevelName),
    ] {
        let found = read(&written(&Value::Map(outer))).err().flatten();
        assert_eq!(found, Some(want), "{what}");
    }
    assert_eq!(
        read(&written(&Value::Array(vec![]))).err().flatten(),
        Some(Fault::WrongType)
    );
    let json = br#"{"ietf-voucher:voucher":{}}"#;
    assert_eq!(read(json).err().flatten(), Some(Fault::NotCbor));
}

/// Requirements: VCB-010, VCB-017, BRSKI-5.6.1-05
#[test]
fn unknown_keys_are_passed_over_however_large() {
    let keys = [
        int(99),
        int(-2450),
        int(-3000),
        int(u64::MAX),
        int(-1 - i128::from(u64::MAX)),
        int(i64::MAX),
        absolute(u64::MAX),
        text("vendor.example:thing"),
        text("x"),
    ];
    let strange = Value::Map(vec![(Value::Null, Value::Array(vec![Value::Float(1.5)]))]);
    let entries: Entries = keys.map(|key| (key, strange.clone())).to_vec();
    let (voucher, _) =
        Voucher::from_cbor(&under(int(2451), with(&entries)), &Tolerances::strict()).unwrap();
    let mut unknown = voucher.unknown.clone();
    unknown.sort();
    let want = [
        "SID 1",
        "SID 18446744073709551615",
        "SID 18446744073709554066",
        "SID -18446744073709549165",
        "SID -549",
        "SID 2550",
        "SID 9223372036854778258",
        "vendor.example:thing",
        "x",
    ];
    for want in want {
        assert!(
            unknown.iter().any(|name| name == want),
            "{want}: {unknown:?}"
        );
    }
    assert_eq!(unknown.len(), want.len());
    // 2451 - 2450 and 47(1) are one SID.
    let twice = with(&[(int(-2450), int(1)), (absolute(1), int(1))]);
    assert_eq!(
        read(&under(int(2451), twice)).err().flatten(),
        Some(Fault::DuplicateMember)
    );
}

/// Requirements: VCB-046, VCB-047, COS-024
#[test]
fn what_is_no_cbor_is_refused_and_other_spellings_are_read_alike() {
    let voucher = under(int(2451), good());
    for end in 0..voucher.len() {
        assert!(read(&voucher[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(
        read(&[&voucher[..], &[0]].concat()).err().flatten(),
        Some(Fault::NotCbor)
    );
    for (what, bytes) in [
        ("reserved length", &b"\x1c"[..]),
        ("reserved length 30", b"\x5e\x00"),
        ("break", b"\xff"),
        ("break in a map of known length", b"\xa1\x01\xff"),
        ("key without value", b"\xbf\x01\xff"),
        ("indefinite number", b"\x1f"),
        ("indefinite tag", b"\xdf\x01"),
        ("chunk of another type", b"\x5f\x61\x61\xff"),
        ("chunk of open length", b"\x5f\x5f\x41\x61\xff\xff"),
        ("reserved simple value", b"\xf8\x14"),
        ("no UTF-8", b"\x62\xc3\x28"),
        ("a character in two chunks", b"\x7f\x61\xc3\x61\xa9\xff"),
        ("a bomb of arrays", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("a bomb of octets", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff"),
        (
            "a bomb of entries",
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
    ] {
        assert!(
            matches!(Item::parse(bytes), Err(CborError::Malformed { .. })),
            "{what}"
        );
    }
    for bytes in [
        &b"\xa2\x01\x00\x01\x00"[..],
        b"\xa2\x01\x00\x18\x01\x00",
        b"\xbf\x01\x00\x1b\x00\x00\x00\x00\x00\x00\x00\x01\x00\xff",
        b"\xa2\x61\x61\x00\x7f\x61\x61\xff\x00",
    ] {
        assert!(
            matches!(Item::parse(bytes), Err(CborError::DuplicateKey(_))),
            "{bytes:02x?}"
        );
    }
    let nested = |count: usize| [vec![0x81; count], vec![0]].concat();
    assert!(Item::parse(&nested(CBOR_DEPTH_MAX)).is_ok());
    assert_eq!(
        Item::parse(&nested(CBOR_DEPTH_MAX + 1)),
        Err(CborError::TooDeep)
    );
    assert_eq!(Item::parse(&nested(500_000)), Err(CborError::TooDeep));
    assert_eq!(
        Item::parse(&[0xc6].repeat(500_000)),
        Err(CborError::TooDeep)
    );
    let flat = [&[0x9a, 0, 1, 0, 0][..], &[0; 0x1_0000]].concat();
    assert_eq!(Item::parse(&flat), Err(CborError::TooManyItems));

    // The same voucher with a map of open length, a nonce in two chunks, and long numbers.
    let mut open = b"\xbf\x1a\x00\x00\x09\x93\xbf".to_vec();
    open.extend(b"\x18\x01\x19\x00\x02");
    open.extend(b"\x18\x07\x5f\x43\x07\x07\x07\x45\x07\x07\x07\x07\x07\xff");
    open.extend([&[0x0a, 0x59, 0, 32][..], &[9; 32]].concat());
    open.extend(b"\x0b\x7f\x62SN\x62-1\xff");
    open.extend(b"\xff\xff");
    expect_good(&open, "open lengths");
    let (_, form) = Item::parse(&open).unwrap();
    assert!(form.indefinite && form.longer && !form.unsorted);
    // OpenThread's order.
    let mut entries = good();
    entries.reverse();
    let unsorted = under(int(2451), entries);
    expect_good(&unsorted, "unsorted");
    assert!(Item::parse(&unsorted).unwrap().1.unsorted);
    assert_eq!(read(&unsorted).unwrap().to_cbor(), voucher);
}

/// Requirements: VCB-003, VCB-004, VCB-005
#[test]
fn every_leaf_has_the_sid_of_the_tables() {
    let table = String::from_utf8(file("cbrski-31/sid-table.csv")).unwrap();
    let mut rows = 0;
    for row in table.lines().skip(1) {
        let cells: Vec<_> = row.split(',').collect();
        let [_, sid, delta, identifier] = cells[..] else {
            panic!("{row}")
        };
        let Some((structure, leaf)) = identifier[1..].split_once("/") else {
            continue;
        };
        let sid: u64 = sid.parse().unwrap();
        let ours = leaves_by_sid()
            .find(|one| one.structure == structure && one.name == leaf)
            .unwrap_or_else(|| panic!("{row}"));
        assert_eq!(ours.sid, sid, "{row}");
        assert_eq!(
            ours.sid - ours.structure_sid,
            delta.parse::<u64>().unwrap(),
            "{row}"
        );
        rows += 1;
    }
    assert_eq!(rows, 37);
    assert_eq!(leaves_by_sid().count(), rows);
}

/// Every leaf of a voucher, written by us and read by another.
///
/// Requirements: VCB-001, VCB-003, VCB-006, VCB-012, VCB-013, VCB-014, VCB-015, VCB-016, VCB-018, CBR-148
#[test]
fn a_voucher_is_written_with_deltas_in_order() {
    let world = World::new();
    let owner = world.registrar.chain[1].clone();
    let fields = VoucherFields {
        expires_on: Some(crate::common::AT_8995),
        last_renewal_date: Some(crate::common::AT_8995),
        nonce: None,
        idevid_issuer: Some(artifacts::IdevidIssuer::of(world.idevid())),
        pinned_domain_pubk: Some(owner.public_key().clone()),
        pinned_domain_pubk_sha256: Some(owner.public_key().sha256()),
        domain_cert_revocation_checks: Some(false),
        est_domain: Some("https://est.example/".to_owned()),
        additional_configuration_url: Some("https://more.example/".to_owned()),
        manufacturer_proprietary: Some("gwEYKmF4".to_owned()),
        extensions: vec![
            Extension {
                name: "305823299950".to_owned(),
                data: Some(ExtensionData::Cbor(Item::Map(vec![(
                    Item::Unsigned(1),
                    Item::Bytes(vec![1, 2]),
                )]))),
            },
            Extension {
                name: "example-my-extension".to_owned(),
                data: Some(ExtensionData::Json(serde_json::json!({ "a": -5 }))),
            },
        ],
        ..world.voucher_fields()
    };
    let voucher = Voucher::new(fields).unwrap();
    let bytes = voucher.to_cbor();
    let Value::Map(outer) = foreign(&bytes) else {
        panic!("no map")
    };
    let [(top, Value::Map(entries))] = &outer[..] else {
        panic!("{outer:?}")
    };
    assert_eq!(*top, int(2451));
    let key = owner.public_key();
    let issuer = artifacts::IdevidIssuer::of(world.idevid());
    let want: Entries = vec![
        (int(1), int(2)),
        (int(2), text("2021-06-01T00:00:00Z")),
        (int(3), Value::Bool(false)),
        (int(4), text("2021-06-01T00:00:00Z")),
        (int(5), Value::Bytes(issuer.as_bytes().to_vec())),
        (int(6), text("2021-06-01T00:00:00Z")),
        (int(8), Value::Bytes(owner.der().to_vec())),
        (int(9), Value::Bytes(key.spki_der().to_vec())),
        (int(10), Value::Bytes(key.sha256().to_vec())),
        (int(11), text("00-D0-E5-F2-00-02")),
        (int(12), text("https://more.example/")),
        (int(13), text("https://est.example/")),
        (int(14), Value::Bytes(b"\x83\x01\x18\x2aax".to_vec())),
        (
            int(15),
            Value::Array(vec![int(305_823_299_950_u64), text("example-my-extension")]),
        ),
        (
            text("extension:example-my-extension"),
            Value::Map(vec![(text("a"), int(-5))]),
        ),
        (
            absolute(305_823_299_950),
            Value::Map(vec![(int(1), Value::Bytes(vec![1, 2]))]),
        ),
    ];
    assert_eq!(*entries, want);
    assert_eq!(written(&foreign(&bytes)), bytes, "preferred encoding");
    let (again, oddities) = Voucher::from_cbor(&bytes, &Tolerances::strict()).unwrap();
    assert_eq!(again.to_cbor(), bytes);
    assert!(oddities.is_empty() && again.unknown.is_empty());
    // The two encodings say the same.
    let (from_json, _) = Voucher::from_json(&again.to_json(), &Tolerances::strict()).unwrap();
    assert_eq!(from_json.serial_number, again.serial_number);
    assert_eq!(
        from_json.manufacturer_proprietary,
        again.manufacturer_proprietary
    );
    assert_eq!(from_json.extensions[0].name, again.extensions[0].name);

    // The key that the draft's example of an extension has is not that of the SID table.
    let data = Value::Map(vec![(int(1), text("my-ext-leaf1-data"))]);
    let listed = |key| {
        let list = Value::Array(vec![int(305_823_299_950_u64)]);
        under(
            int(2451),
            with(&[(key, list), (absolute(305_823_299_950), data.clone())]),
        )
    };
    let right = read(&listed(int(15))).unwrap();
    assert_eq!(right.extensions.len(), 1);
    assert_eq!(right.extensions[0].sid(), Some(305_823_299_950));
    assert!(right.extensions[0].data.is_some() && right.unknown.is_empty());
    let draft = read(&listed(int(17))).unwrap();
    assert!(draft.extensions.is_empty());
    assert_eq!(draft.unknown.len(), 2);
}

/// Requirements: VCB-002, VCB-004, VCB-036
#[test]
fn a_request_has_its_own_sids_and_ignores_what_only_a_voucher_has() {
    let world = World::new();
    let registrar = &world.registrar.chain[0];
    let key = registrar.public_key();
    let fields = RequestFields {
        created_on: Some(crate::common::AT_8995),
        idevid_issuer: Some(artifacts::IdevidIssuer::of(world.idevid())),
        prior_signed_voucher_request: Some(vec![1, 2, 3]),
        proximity_registrar_pubk: Some(key.clone()),
        proximity_registrar_pubk_sha256: Some(key.sha256()),
        agent_signed_data: Some(vec![4]),
        agent_provided_proximity_registrar_cert: Some(registrar.clone()),
        agent_sign_cert: vec![registrar.clone()],
        manufacturer_proprietary: Some("AQ".to_owned()),
        ..world.pledge_fields()
    };
    let bytes = VoucherRequest::new(fields).unwrap().to_cbor();
    let Value::Map(outer) = foreign(&bytes) else {
        panic!("no map")
    };
    let [(top, Value::Map(entries))] = &outer[..] else {
        panic!("{outer:?}")
    };
    assert_eq!(*top, int(2501));
    let keys: Vec<i128> = entries
        .iter()
        .map(|(key, _)| key.as_integer().unwrap().into())
        .collect();
    assert_eq!(keys, [1, 2, 5, 7, 9, 10, 11, 12, 13, 14, 15, 16, 22]);
    let mut entries = entries.clone();
    for ignored in [3, 6, 8, 17, 18, 19, 20] {
        // None of them has the type of its leaf.
        entries.push((int(ignored), Value::Null));
    }
    let more = under(int(2501), entries);
    let (request, _) = VoucherRequest::from_cbor(&more, &Tolerances::strict()).unwrap();
    assert_eq!(request.ignored.len(), 7);
    assert_eq!(request.to_cbor(), bytes);
    assert_eq!(
        VoucherRequest::new((*request).clone()).unwrap().to_cbor(),
        bytes
    );
}
