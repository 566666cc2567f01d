//! What is written is read back, and nothing that a peer sends makes a reader panic.

use artifacts::{
    Assertion, AuditLog, Document, Extension, ExtensionData, Nonce, RequestFields, SerialNumber,
    Tolerances, Voucher, VoucherFields, VoucherRequest, VoucherStatus, open,
};
use proptest::prelude::*;
use time::OffsetDateTime;

use crate::common::{World, certificate, file};

fn date() -> impl Strategy<Value = OffsetDateTime> {
    (0_i64..4_000_000_000, 0_i64..1000).prop_map(|(seconds, milli)| {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap() + time::Duration::milliseconds(milli)
    })
}

fn serial() -> impl Strategy<Value = SerialNumber> {
    "[ -~äß中]{1,40}".prop_map(|text| SerialNumber::new(text).unwrap())
}

fn nonce() -> impl Strategy<Value = Nonce> {
    prop::collection::vec(any::<u8>(), 8..=32)
        .prop_map(|octets| Nonce::from_octets(&octets).unwrap())
}

fn assertion() -> impl Strategy<Value = Assertion> {
    prop::sample::select(Assertion::ALL.to_vec())
}

fn fields() -> impl Strategy<Value = VoucherFields> {
    let when = (
        prop::option::of(date()),
        prop::option::of(date()),
        any::<bool>(),
    );
    let pins = (any::<bool>(), prop::option::of(any::<[u8; 32]>()));
    let rest = (
        prop::option::of(any::<bool>()),
        prop::option::of("[a-z]{1,8}"),
        nonce(),
    );
    (serial(), prop::option::of(assertion()), when, pins, rest).prop_map(
        |(
            serial,
            assertion,
            (created, expires, with_nonce),
            (pin, hash),
            (checks, name, nonce),
        )| {
            let owner = certificate("rfc8995/ownerca_secp384r1.crt");
            let expires = expires.map(|expires| expires.min(owner.not_after()));
            let extension = name.map(|name| Extension {
                name,
                data: Some(ExtensionData::Json(serde_json::json!([1, "x"]))),
            });
            VoucherFields {
                created_on: created,
                assertion,
                expires_on: expires.filter(|_| !with_nonce),
                last_renewal_date: expires.filter(|_| !with_nonce),
                nonce: with_nonce.then_some(nonce),
                pinned_domain_cert: (pin || hash.is_none()).then_some(owner),
                pinned_domain_pubk_sha256: hash,
                domain_cert_revocation_checks: checks,
                extensions: extension.into_iter().collect(),
                ..VoucherFields::new(serial)
            }
        },
    )
}

proptest! {
    #[test]
    fn vouchers_are_read_back(fields in fields()) {
        let voucher = Voucher::new(fields).unwrap();
        let json = voucher.to_json();
        let (again, oddities) = Voucher::from_json(&json, &Tolerances::strict()).unwrap();
        prop_assert_eq!(again.to_json(), json);
        prop_assert!(oddities.is_empty() && again.unknown.is_empty());
        prop_assert_eq!(&again.serial_number, &voucher.serial_number);
        prop_assert_eq!(&again.nonce, &voucher.nonce);
        prop_assert_eq!(again.created_on, voucher.created_on);
    }

    #[test]
    fn requests_are_read_back(serial in serial(), nonce in nonce(), created in date(), prior in any::<Vec<u8>>()) {
        let fields = RequestFields {
            nonce: Some(nonce),
            created_on: Some(created),
            prior_signed_voucher_request: Some(prior),
            ..RequestFields::new(serial)
        };
        let json = VoucherRequest::new(fields).unwrap().to_json();
        let (again, _) = VoucherRequest::from_json(&json, &Tolerances::strict()).unwrap();
        prop_assert_eq!(again.to_json(), json);
    }

    #[test]
    fn octets_do_not_panic(bytes in any::<Vec<u8>>()) {
        for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
            let _ = open(Document::Voucher, &bytes, None, &tolerances);
            let _ = Voucher::from_json(&bytes, &tolerances);
            let _ = VoucherRequest::from_json(&bytes, &tolerances);
            let _ = AuditLog::from_json(&bytes, &tolerances);
            let _ = VoucherStatus::from_json(&bytes, &tolerances);
        }
    }

    #[test]
    fn damaged_artefacts_do_not_panic(
        which in 0_usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let names = [
            "rfc8995/voucher_00-D0-E5-F2-00-02.der",
            "rfc8366bis/A4-voucher.jws.json",
            "rfc8995/parboiled_vr_00-D0-E5-F2-00-02.der",
            "jws-voucher/8.2-rvr.jws.json",
        ];
        let mut bytes = file(names[which]);
        for (index, octet) in damage {
            let index = index.index(bytes.len());
            bytes[index] = octet;
        }
        let tolerances = Tolerances::lenient();
        if let Ok(signed) = open(Document::Request, &bytes, None, &tolerances) {
            let world = World::new();
            let context = artifacts::verify::RegistrarRequestContext::new(None)
                .with_pledge(world.vendor_trust());
            let _ = artifacts::verify::verify_registrar_request(&signed, &context, &tolerances).result();
        }
    }
}
