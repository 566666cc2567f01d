//! Any data item, and any octets.

use super::*;

fn any_item() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Item::Unsigned),
        any::<u64>().prop_map(Item::Negative),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Item::Bytes),
        ".{0,12}".prop_map(Item::Text),
        prop_oneof![Just(20_u8), Just(21), Just(22), Just(23)].prop_map(Item::Simple),
        prop_oneof![
            any::<f64>(),
            any::<f32>().prop_map(f64::from),
            (-2000_i32..2000).prop_map(|n| f64::from(n) / 16.0),
            Just(5.960_464_477_539_063e-8),
            Just(65504.0),
            Just(f64::INFINITY),
        ]
        .prop_map(|value| Item::Float(value.to_bits())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Item::Array),
            prop::collection::btree_map(inner.clone(), inner.clone(), 0..5)
                .prop_map(|map| Item::Map(map.into_iter().collect())),
            (any::<u64>(), inner).prop_map(|(tag, inner)| Item::Tag(tag, Box::new(inner))),
        ]
    })
}

/// What ciborium would write for it. It turns the tags of bignums into integers where they fit.
fn as_foreign(item: &Item) -> Value {
    match item {
        Item::Unsigned(value) => int(*value),
        Item::Negative(value) => int(-1 - i128::from(*value)),
        Item::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Item::Text(text) => Value::Text(text.clone()),
        Item::Array(items) => Value::Array(items.iter().map(as_foreign).collect()),
        Item::Map(entries) => {
            let mut entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| (as_foreign(key), as_foreign(value)))
                .collect();
            entries.sort_by_key(|(key, _)| written(key));
            Value::Map(entries)
        }
        Item::Tag(tag, inner) => Value::Tag(*tag, Box::new(as_foreign(inner))),
        Item::Simple(20) => Value::Bool(false),
        Item::Simple(21) => Value::Bool(true),
        Item::Simple(_) => Value::Null,
        Item::Float(bits) => Value::Float(f64::from_bits(*bits)),
    }
}

fn has_undefined(item: &Item) -> bool {
    match item {
        Item::Simple(23) => true,
        Item::Array(items) => items.iter().any(has_undefined),
        Item::Map(entries) => entries
            .iter()
            .any(|(key, value)| has_undefined(key) || has_undefined(value)),
        Item::Tag(_, inner) => has_undefined(inner),
        _ => false,
    }
}

proptest! {
    #[test]
    fn items_are_written_as_another_writer_does_and_read_again(item in any_item()) {
        let bytes = item.encode();
        // A NaN has one spelling, and two keys may become one by it.
        let Ok((again, form)) = Item::parse(&bytes) else {
            prop_assert!(item.to_string().contains("NaN"));
            return Ok(());
        };
        prop_assert!(!form.indefinite && !form.longer && !form.unsorted);
        prop_assert_eq!(again.encode(), bytes.clone());
        if !has_undefined(&item) {
            prop_assert_eq!(written(&as_foreign(&item)), bytes);
        }
    }

    #[test]
    fn any_octets_are_no_danger(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((item, _)) = Item::parse(&bytes) {
            let (again, form) = Item::parse(&item.encode()).unwrap();
            prop_assert!(!form.indefinite && !form.longer && !form.unsorted);
            prop_assert_eq!(again.encode(), item.encode());
            let _ = (item.to_string(), item.to_json());
        }
        for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
            let _ = Voucher::from_cbor(&bytes, &tolerances);
            let _ = VoucherRequest::from_cbor(&bytes, &tolerances);
            let _ = VoucherStatus::from_cbor(&bytes, &tolerances);
        }
    }

    /// What we call well-formed, ciborium does too, simple values that it does not know aside.
    #[test]
    fn another_reader_agrees_on_what_is_well_formed(bytes in prop::collection::vec(any::<u8>(), 1..12)) {
        let ours = Item::parse(&bytes);
        let mut rest = &bytes[..];
        let theirs: Result<Value, _> = ciborium::from_reader(&mut rest);
        if let Ok((item, _)) = &ours {
            let strange = item.to_string().contains("simple(");
            prop_assert!(theirs.is_ok() || strange, "{item} {theirs:?}");
        }
    }

    #[test]
    fn a_voucher_with_any_leaves_comes_back(
        nonce in prop::collection::vec(any::<u8>(), 8..=32),
        hash in any::<[u8; 32]>(),
        assertion in prop::sample::select(Assertion::ALL.to_vec()),
        checks in any::<Option<bool>>(),
        sid in 3000_u64..,
        proprietary in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut fields = VoucherFields::new(serial());
        fields.nonce = Nonce::from_octets(&nonce);
        fields.pinned_domain_pubk_sha256 = Some(hash);
        fields.assertion = Some(assertion);
        fields.domain_cert_revocation_checks = checks;
        fields.extensions = vec![Extension { name: sid.to_string(), data: None }];
        let mut entries = vec![
            (int(1), int(assertion.number())),
            (int(7), Value::Bytes(nonce)),
            (int(10), Value::Bytes(hash.to_vec())),
            (int(11), text(serial().as_str())),
            (int(14), Value::Bytes(proprietary)),
            (int(15), Value::Array(vec![int(sid)])),
        ];
        if let Some(checks) = checks {
            entries.insert(1, (int(3), Value::Bool(checks)));
        }
        let foreign = under(int(2451), entries);
        let voucher = read(&foreign).unwrap();
        prop_assert_eq!(voucher.to_cbor(), foreign);
        fields.manufacturer_proprietary = voucher.manufacturer_proprietary.clone();
        let json = Voucher::new(fields).unwrap().to_json();
        prop_assert_eq!(voucher.to_json(), json);
    }
}
