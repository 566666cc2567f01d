//! Vouchers in CBOR with SIDs: what is said inside.

use super::{
    super::vectors::{Context, Vector},
    NONCE, SERIAL, World,
    cose::{
        ASSERTION, CREATED_ON, EXPIRES_ON, IDEVID_ISSUER, LAST_RENEWAL, Leaves, NONCE_LEAF,
        PINNED_CERT, PINNED_KEY, PINNED_KEY_HASH, REQUEST, REVOCATION_CHECKS, SERIAL_NUMBER,
        SID_TAG, VOUCHER, document, inside, leaves, set, unset,
    },
    pledge,
};
use crate::forge::{
    cbor::{self, array, boolean, bytes, head_long, int, map, map_indefinite, tag, text},
    key::Hash,
    voucher::idevid_issuer,
};

/// All of them.
pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = contents();
    vectors.extend(leaf_types());
    vectors.extend(pins());
    vectors
}

fn contents() -> Vec<Vector> {
    let keys = &["VCB-006"];
    vec![
        inside(
            "names",
            true,
            &["VCB-009", "VCB-001"],
            "all keys are names",
            |world| {
                let names = [
                    (ASSERTION, "assertion"),
                    (CREATED_ON, "created-on"),
                    (NONCE_LEAF, "nonce"),
                    (PINNED_CERT, "pinned-domain-cert"),
                    (SERIAL_NUMBER, "serial-number"),
                ];
                let named: Leaves = leaves(world)
                    .into_iter()
                    .zip(names)
                    .map(|((_, value), (_, name))| (text(name), value))
                    .collect();
                map(&[(text("ietf-voucher:voucher"), map(&named))])
            },
        ),
        inside(
            "absolute",
            true,
            &["VCB-007"],
            "keys are absolute SIDs with tag 47",
            |world| {
                let absolute: Leaves = [
                    ASSERTION,
                    CREATED_ON,
                    NONCE_LEAF,
                    PINNED_CERT,
                    SERIAL_NUMBER,
                ]
                .into_iter()
                .zip(leaves(world))
                .map(|(delta, (_, value))| (tag(SID_TAG, &int(VOUCHER + delta)), value))
                .collect();
                map(&[(int(VOUCHER), map(&absolute))])
            },
        ),
        inside(
            "absolute-under-name",
            true,
            &["VCB-008"],
            "below a name, bare integers are absolute SIDs",
            |world| {
                let absolute: Leaves = [
                    ASSERTION,
                    CREATED_ON,
                    NONCE_LEAF,
                    PINNED_CERT,
                    SERIAL_NUMBER,
                ]
                .into_iter()
                .zip(leaves(world))
                .map(|(delta, (_, value))| (int(VOUCHER + delta), value))
                .collect();
                map(&[(text("ietf-voucher:voucher"), map(&absolute))])
            },
        ),
        inside(
            "delta-under-name",
            false,
            &["VCB-008"],
            "below a name, bare integers are deltas",
            |world| map(&[(text("ietf-voucher:voucher"), map(&leaves(world)))]),
        ),
        inside(
            "absolute-without-tag",
            false,
            keys,
            "below a SID, bare integers are absolute",
            |world| {
                let absolute: Leaves = [
                    ASSERTION,
                    CREATED_ON,
                    NONCE_LEAF,
                    PINNED_CERT,
                    SERIAL_NUMBER,
                ]
                .into_iter()
                .zip(leaves(world))
                .map(|(delta, (_, value))| (int(VOUCHER + delta), value))
                .collect();
                map(&[(int(VOUCHER), map(&absolute))])
            },
        ),
        inside(
            "unordered",
            true,
            &["VCB-047"],
            "the keys are not sorted",
            |world| {
                let mut leaves = leaves(world);
                leaves.reverse();
                document(&leaves)
            },
        ),
        inside(
            "old-sid",
            false,
            &["VCB-001"],
            "the top-level key is the SID of an old draft",
            |world| map(&[(int(1_001_100), map(&leaves(world)))]),
        ),
        inside(
            "request-sid",
            false,
            &["VCB-001", "VCB-002"],
            "the top-level key is that of a request",
            |world| map(&[(int(REQUEST), map(&leaves(world)))]),
        ),
        inside(
            "two-members",
            false,
            &["VCB-001"],
            "there are two top-level keys",
            |world| {
                map(&[
                    (int(VOUCHER), map(&leaves(world))),
                    (int(REQUEST), map(&leaves(world))),
                ])
            },
        ),
        inside(
            "duplicate",
            false,
            &["VCB-011", "VCB-046"],
            "serial-number is there twice",
            |world| {
                let mut leaves = leaves(world);
                leaves.push((int(SERIAL_NUMBER), text("JADA-2")));
                document(&leaves)
            },
        ),
        inside(
            "duplicate-tagged",
            false,
            &["VCB-011"],
            "serial-number is there as a delta and with tag 47",
            |world| {
                let mut leaves = leaves(world);
                leaves.push((tag(SID_TAG, &int(VOUCHER + SERIAL_NUMBER)), text("JADA-2")));
                document(&leaves)
            },
        ),
        inside(
            "duplicate-named",
            false,
            &["VCB-011"],
            "serial-number is there as a delta and by name",
            |world| {
                let mut leaves = leaves(world);
                leaves.push((text("serial-number"), text("JADA-2")));
                document(&leaves)
            },
        ),
        inside(
            "trailing",
            false,
            &["VCB-046"],
            "an octet follows the CBOR",
            |world| [document(&leaves(world)).as_slice(), &[0]].concat(),
        ),
        inside(
            "cut",
            false,
            &["VCB-046"],
            "the CBOR lacks its last octet",
            |world| {
                let whole = document(&leaves(world));
                whole.get(..whole.len() - 1).unwrap_or_default().to_vec()
            },
        ),
        inside("empty", false, &["VCB-046"], "there is no content", |_| {
            Vec::new()
        }),
        inside(
            "empty-map",
            false,
            &["VCB-001"],
            "the content is an empty map",
            |_| map(&[]),
        ),
        inside(
            "array",
            false,
            &["VCB-001"],
            "the content is an array",
            |world| array(&[document(&leaves(world))]),
        ),
        inside(
            "json",
            false,
            &["VCB-046"],
            "the content is JSON",
            |world| world.voucher().encode(),
        ),
        inside(
            "deep",
            false,
            &["VCB-046"],
            "arrays are nested twenty thousand deep",
            |_| {
                let mut deep = cbor::head(5, 1);
                deep.extend(int(VOUCHER));
                deep.extend(std::iter::repeat_n(0x81, 20_000));
                deep.push(0);
                deep
            },
        ),
        inside(
            "reserved",
            false,
            &["VCB-046"],
            "a head has a reserved argument",
            |world| {
                let mut octets = document(&leaves(world));
                if let Some(first) = octets.first_mut() {
                    *first = 0xbc;
                }
                octets
            },
        ),
        inside(
            "huge-length",
            false,
            &["VCB-046"],
            "a byte string says that it has 2^60 octets",
            |_| {
                let mut octets = cbor::head(5, 1);
                octets.extend(int(VOUCHER));
                octets.extend(cbor::head(2, 1 << 60));
                octets
            },
        ),
        inside(
            "last-renewal-alone",
            false,
            &["VCB-031"],
            "last-renewal-date comes without expires-on",
            |world| {
                document(&set(
                    leaves(world),
                    LAST_RENEWAL,
                    text("2026-05-01T00:00:00Z"),
                ))
            },
        ),
        inside(
            "bignum-length",
            false,
            &["VCB-047", "VCB-012"],
            "assertion is a bignum",
            |world| document(&set(leaves(world), ASSERTION, tag(2, &bytes(&[2])))),
        ),
        inside(
            "indefinite-cut",
            false,
            &["VCB-046"],
            "a map of indefinite length does not end",
            |world| {
                let mut octets = map_indefinite(&leaves(world));
                octets.pop();
                let mut document = cbor::head(5, 1);
                document.extend(int(VOUCHER));
                document.extend(octets);
                document
            },
        ),
        inside(
            "text-length-long",
            false,
            &["VCB-046"],
            "a text says that it is longer than the rest",
            |world| {
                let mut octets = document(&unset(leaves(world), SERIAL_NUMBER));
                octets.extend(head_long(3, 1000));
                octets
            },
        ),
    ]
}

fn leaf_types() -> Vec<Vector> {
    let mut vectors = Vec::new();
    type Bad = (&'static str, &'static str, i64, Vec<u8>, &'static str);
    let bad: Vec<Bad> = vec![
        (
            "assertion-text",
            "VCB-012",
            ASSERTION,
            text("proximity"),
            "assertion is a text",
        ),
        (
            "assertion-4",
            "VCB-012",
            ASSERTION,
            int(4),
            "assertion is 4, which nobody defined",
        ),
        (
            "assertion-negative",
            "VCB-012",
            ASSERTION,
            int(-1),
            "assertion is negative",
        ),
        (
            "assertion-bytes",
            "VCB-012",
            ASSERTION,
            bytes(&[2]),
            "assertion is a byte string",
        ),
        (
            "nonce-text",
            "VCB-013",
            NONCE_LEAF,
            text("nx5gKhHEd10DuJpA7i9xZg=="),
            "the nonce is base64",
        ),
        (
            "nonce-array",
            "VCB-013",
            NONCE_LEAF,
            array(&[int(1)]),
            "the nonce is an array",
        ),
        (
            "nonce-7",
            "VCB-027",
            NONCE_LEAF,
            bytes(&NONCE[..7]),
            "the nonce has 7 octets",
        ),
        (
            "nonce-33",
            "VCB-027",
            NONCE_LEAF,
            bytes(&[0x41; 33]),
            "the nonce has 33 octets",
        ),
        (
            "nonce-other",
            "VCB-028",
            NONCE_LEAF,
            bytes(b"another nonce!!!"),
            "the nonce is not the one sent",
        ),
        (
            "created-on-number",
            "VCB-015",
            CREATED_ON,
            int(1_780_315_200),
            "created-on is a number",
        ),
        (
            "created-on-tag-0",
            "VCB-015",
            CREATED_ON,
            tag(0, &text("2026-06-01T12:00:00Z")),
            "created-on is tagged as a time",
        ),
        (
            "created-on-tag-1",
            "VCB-015",
            CREATED_ON,
            tag(1, &int(1_780_315_200)),
            "created-on is an epoch time",
        ),
        (
            "created-on-basic",
            "VCB-015",
            CREATED_ON,
            text("20260601T120000Z"),
            "created-on is in the basic format",
        ),
        (
            "revocation-number",
            "VCB-014",
            REVOCATION_CHECKS,
            int(0),
            "domain-cert-revocation-checks is 0",
        ),
        (
            "revocation-text",
            "VCB-014",
            REVOCATION_CHECKS,
            text("false"),
            "domain-cert-revocation-checks is a text",
        ),
        (
            "serial-bytes",
            "VCB-019",
            SERIAL_NUMBER,
            bytes(SERIAL.as_bytes()),
            "serial-number is a byte string",
        ),
        (
            "serial-number",
            "VCB-019",
            SERIAL_NUMBER,
            int(7),
            "serial-number is a number",
        ),
        (
            "serial-other",
            "VCB-020",
            SERIAL_NUMBER,
            text("JADA-2"),
            "serial-number is another device's",
        ),
        (
            "pin-text",
            "VCB-013",
            PINNED_CERT,
            text("MIIB"),
            "pinned-domain-cert is a text",
        ),
        (
            "pin-garbage",
            "VCB-013",
            PINNED_CERT,
            bytes(b"certificate"),
            "pinned-domain-cert is no certificate",
        ),
        (
            "expires-on-with-nonce",
            "VCB-032",
            EXPIRES_ON,
            text("2026-06-02T12:00:00Z"),
            "nonce and expires-on are both there",
        ),
        (
            "key-hash-31",
            "VCB-041",
            PINNED_KEY_HASH,
            bytes(&[7; 31]),
            "pinned-domain-pubk-sha256 has 31 octets",
        ),
        (
            "key-point",
            "VCB-040",
            PINNED_KEY,
            bytes(&[4; 65]),
            "pinned-domain-pubk is a bare point",
        ),
        (
            "issuer-text",
            "VCB-013",
            IDEVID_ISSUER,
            text("issuer"),
            "idevid-issuer is a text",
        ),
        (
            "proprietary-map",
            "VCB-018",
            14,
            map(&[]),
            "manufacturer-proprietary is a map",
        ),
    ];
    for (name, row, leaf, value, reason) in bad {
        vectors.push(inside(name, false, &[row], reason, move |world| {
            document(&set(leaves(world), leaf, value.clone()))
        }));
    }
    for (assertion, name) in [(0, "verified"), (1, "logged"), (2, "proximity")] {
        vectors.push(inside(
            format!("assertion-{name}"),
            true,
            &["VCB-012"],
            format!("assertion is {name}"),
            move |world| document(&set(leaves(world), ASSERTION, int(assertion))),
        ));
    }
    for (name, value) in [
        ("fraction", "2026-06-01T11:59:59.123Z"),
        ("offset", "2026-06-01T13:30:00+02:00"),
    ] {
        vectors.push(inside(
            format!("created-on-{name}"),
            true,
            &["VCB-015"],
            format!("created-on is {value}"),
            move |world| document(&set(leaves(world), CREATED_ON, text(value))),
        ));
    }
    for length in 8_usize..=32 {
        let nonce: Vec<u8> = (0..length).map(|at| 0x40 + at.to_le_bytes()[0]).collect();
        let told = {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            STANDARD.encode(&nonce)
        };
        vectors.push(
            inside(
                format!("nonce-{length}"),
                true,
                &["VCB-027", "VCB-028"],
                format!("a nonce of {length} octets that is the one sent"),
                move |world| document(&set(leaves(world), NONCE_LEAF, bytes(&nonce))),
            )
            .context(Context {
                nonce: Some(told),
                ..pledge()
            }),
        );
    }
    vectors.push(inside(
        "revocation-false",
        true,
        &["VCB-014"],
        "domain-cert-revocation-checks is false",
        |world| document(&set(leaves(world), REVOCATION_CHECKS, boolean(false))),
    ));
    vectors.push(inside(
        "serial-missing",
        false,
        &["VCB-019"],
        "serial-number is missing",
        |world| document(&unset(leaves(world), SERIAL_NUMBER)),
    ));
    vectors.push(inside(
        "nonce-missing",
        false,
        &["VCB-028"],
        "there is no nonce though one was sent",
        |world| document(&unset(leaves(world), NONCE_LEAF)),
    ));
    vectors.push(inside(
        "issuer",
        true,
        &["VCB-021", "VCB-024"],
        "idevid-issuer is that of the device",
        |world| {
            document(&set(
                leaves(world),
                IDEVID_ISSUER,
                bytes(&idevid_issuer(&world.device_ca.key_id())),
            ))
        },
    ));
    vectors.push(inside(
        "issuer-other",
        false,
        &["VCB-021"],
        "idevid-issuer is another CA's",
        |world| {
            document(&set(
                leaves(world),
                IDEVID_ISSUER,
                bytes(&idevid_issuer(&world.manufacturer.key_id())),
            ))
        },
    ));
    let nonceless = |world: &World, expires: &str| {
        document(&set(
            unset(set(leaves(world), ASSERTION, int(1)), NONCE_LEAF),
            EXPIRES_ON,
            text(expires),
        ))
    };
    for (name, expires, valid) in [
        ("ahead", "2026-06-02T12:00:00Z", true),
        ("passed", "2026-05-31T12:00:00Z", false),
    ] {
        vectors.push(
            inside(
                format!("expires-on-{name}"),
                valid,
                &["VCB-029"],
                format!("without a nonce; expires-on is {expires}"),
                move |world| nonceless(world, expires),
            )
            .context(Context {
                nonce: None,
                ..pledge()
            }),
        );
    }
    vectors
}

/// Raw keys and their hashes are pinned.
fn pins() -> Vec<Vector> {
    let pinned = |name: &str,
                  valid: bool,
                  row: &'static str,
                  reason: &str,
                  leaf: i64,
                  value: fn(&World) -> Vec<u8>| {
        inside(name, valid, &[row], reason, move |world| {
            document(&set(
                unset(leaves(world), PINNED_CERT),
                leaf,
                bytes(&value(world)),
            ))
        })
        .context(Context {
            domain: vec![],
            ..pledge()
        })
    };
    vec![
        pinned(
            "pin-key",
            true,
            "VCB-040",
            "the registrar's public key is pinned",
            PINNED_KEY,
            |world| world.registrar.key().spki().to_vec(),
        ),
        pinned(
            "pin-key-hash",
            true,
            "VCB-041",
            "the hash of the registrar's public key is pinned",
            PINNED_KEY_HASH,
            |world| Hash::Sha256.of(world.registrar.key().spki()),
        ),
        pinned(
            "pin-key-other",
            false,
            "VCB-040",
            "another registrar's public key is pinned",
            PINNED_KEY,
            |world| world.other_registrar.key().spki().to_vec(),
        ),
        pinned(
            "pin-key-hash-other",
            false,
            "VCB-041",
            "the hash of another registrar's public key is pinned",
            PINNED_KEY_HASH,
            |world| Hash::Sha256.of(world.other_registrar.key().spki()),
        ),
        pinned(
            "pin-certificate-hash",
            false,
            "VCB-041",
            "the hash of the registrar's certificate and not of its key is pinned",
            PINNED_KEY_HASH,
            |world| Hash::Sha256.of(world.registrar.certificate()),
        ),
    ]
}
