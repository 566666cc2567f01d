//! Vouchers in CBOR with SIDs, signed with COSE.

use super::{
    super::vectors::{Context, Encoding, Kind, Vector},
    NONCE, SERIAL, World,
    cms::flipped,
    pledge, signer,
};
use crate::forge::{
    cbor::{array, bytes, int, map, null, tag, text},
    cose::{ALG, CRIT, Cose, KID, X5BAG, X5CHAIN},
    der,
    key::{Key, Kind as KeyKind},
};

/// SID of the voucher's container.
pub(super) const VOUCHER: i64 = 2451;
/// SID of the request's container.
pub(super) const REQUEST: i64 = 2501;
pub(super) const ASSERTION: i64 = 1;
pub(super) const CREATED_ON: i64 = 2;
pub(super) const REVOCATION_CHECKS: i64 = 3;
pub(super) const EXPIRES_ON: i64 = 4;
pub(super) const IDEVID_ISSUER: i64 = 5;
pub(super) const LAST_RENEWAL: i64 = 6;
pub(super) const NONCE_LEAF: i64 = 7;
pub(super) const PINNED_CERT: i64 = 8;
pub(super) const PINNED_KEY: i64 = 9;
pub(super) const PINNED_KEY_HASH: i64 = 10;
pub(super) const SERIAL_NUMBER: i64 = 11;
/// CBOR tag of an absolute SID.
pub(super) const SID_TAG: u64 = 47;

pub(super) type Leaves = Vec<(Vec<u8>, Vec<u8>)>;

pub(super) fn leaves(world: &World) -> Leaves {
    vec![
        (int(ASSERTION), int(2)),
        (int(CREATED_ON), text("2026-06-01T12:00:00Z")),
        (int(NONCE_LEAF), bytes(&NONCE)),
        (int(PINNED_CERT), bytes(world.domain.certificate())),
        (int(SERIAL_NUMBER), text(SERIAL)),
    ]
}

pub(super) fn set(mut leaves: Leaves, leaf: i64, value: Vec<u8>) -> Leaves {
    let key = int(leaf);
    match leaves.iter_mut().find(|(found, _)| *found == key) {
        Some(place) => place.1 = value,
        None => {
            leaves.push((key, value));
            leaves.sort_by_key(|(key, _)| (key.len(), key.clone()));
        }
    }
    leaves
}

pub(super) fn unset(mut leaves: Leaves, leaf: i64) -> Leaves {
    let key = int(leaf);
    leaves.retain(|(found, _)| *found != key);
    leaves
}

pub(super) fn document(leaves: &Leaves) -> Vec<u8> {
    map(&[(int(VOUCHER), map(leaves))])
}

fn signed(world: &World, payload: &[u8]) -> Cose {
    let bag = Cose::certificates(&world.masa.chain());
    Cose::new(payload, &world.masa.signatory).with(|cose| cose.unprotected.push((int(X5BAG), bag)))
}

fn octets(
    name: impl Into<String>,
    valid: bool,
    requirements: &[&'static str],
    reason: impl Into<String>,
    make: impl Fn(&World) -> Vec<u8> + Send + Sync + 'static,
) -> Vector {
    Vector::new(
        format!("voucher-cose/{}", name.into()),
        (Kind::Voucher, Encoding::Cose),
        valid,
        requirements,
        reason,
        make,
    )
    .context(pledge())
}

/// What is inside is changed.
pub(super) fn inside(
    name: impl Into<String>,
    valid: bool,
    requirements: &[&'static str],
    reason: impl Into<String>,
    make: impl Fn(&World) -> Vec<u8> + Send + Sync + 'static,
) -> Vector {
    octets(
        format!("leaf-{}", name.into()),
        valid,
        requirements,
        reason,
        move |world| signed(world, &make(world)).encode(),
    )
}

/// The envelope is changed.
fn outside(
    name: &str,
    valid: bool,
    requirements: &[&'static str],
    reason: &str,
    change: impl Fn(&mut Cose, &World) + Send + Sync + 'static,
) -> Vector {
    octets(name, valid, requirements, reason, move |world| {
        let mut cose = signed(world, &document(&leaves(world)));
        change(&mut cose, world);
        cose.encode()
    })
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = envelope();
    vectors.extend(more_envelope());
    vectors.extend(super::cose_leaves::vectors());
    for place in [50, 150, 250, 350, 450, 550, 650, 850, 950, 990] {
        vectors.push(
            octets(
                format!("flip-{place:03}"),
                false,
                &["COS-007", "COS-008"],
                format!("a bit is turned after {place} thousandths of the octets"),
                move |world| {
                    // The bag is not signed, so it is put in front where no place leads.
                    let cose = Cose::new(&document(&leaves(world)), &world.masa.signatory);
                    flipped(&cose.encode(), place)
                },
            )
            .context(Context {
                intermediates: vec!["pki/masa.pem"],
                ..pledge()
            }),
        );
    }
    vectors
}

fn envelope() -> Vec<Vector> {
    let mut vectors = vec![
        outside(
            "good",
            true,
            &["CBR-002", "COS-007", "COS-014"],
            "a voucher as the draft has it",
            |_, _| {},
        ),
        outside(
            "good-chain",
            true,
            &["COS-016"],
            "the certificates come in x5chain",
            |cose, world| {
                cose.unprotected = vec![(int(X5CHAIN), Cose::certificates(&world.masa.chain()))];
            },
        ),
        outside(
            "good-with-root",
            true,
            &["COS-015"],
            "the root is in x5bag as well",
            |cose, world| {
                cose.unprotected = vec![(
                    int(X5BAG),
                    Cose::certificates(&[
                        world.manufacturer.certificate().to_vec(),
                        world.masa.certificate().to_vec(),
                    ]),
                )];
            },
        ),
        outside(
            "good-unknown-header",
            true,
            &["COS-005"],
            "an unprotected header that nobody has to know",
            |cose, _| {
                cose.unprotected.push((int(-70_000), text("note")));
            },
        ),
        outside(
            "good-kid",
            true,
            &["COS-008"],
            "a key identifier comes along",
            |cose, world| {
                cose.unprotected
                    .push((int(KID), bytes(&world.masa.key().key_id())));
            },
        ),
    ];
    for (name, kind) in [("es384", KeyKind::P384), ("eddsa", KeyKind::Ed25519)] {
        for wrong in [false, true] {
            vectors.push(octets(
                format!("{}-{name}", if wrong { "changed" } else { "good" }),
                !wrong,
                if name == "eddsa" {
                    &["COS-012"]
                } else {
                    &["COS-010"]
                },
                if wrong {
                    format!("signed with {name}, and changed afterwards")
                } else {
                    format!("signed with {name}")
                },
                move |world| {
                    let Ok(key) = Key::derive(kind, "masa") else {
                        return Vec::new();
                    };
                    let masa = signer(&world.manufacturer, "Example Manufacturer", key);
                    let bag = Cose::certificates(&masa.chain());
                    let mut cose = Cose::new(&document(&leaves(world)), &masa.signatory)
                        .with(|cose| cose.unprotected.push((int(X5BAG), bag)));
                    if wrong {
                        cose.signature = Some(cose.signature_octets());
                        cose.payload = document(&set(leaves(world), ASSERTION, int(0)));
                    }
                    cose.encode()
                },
            ));
        }
    }
    for (number, what) in [
        (16, "COSE_Encrypt0"),
        (17, "COSE_Mac0"),
        (96, "COSE_Encrypt"),
        (97, "COSE_Mac"),
        (98, "COSE_Sign"),
        (61, "CWT"),
    ] {
        vectors.push(outside(
            &format!("tag-{number}"),
            false,
            &["COS-020", "COS-025"],
            &format!("the tag is that of {what}"),
            move |cose, _| cose.tag = Some(number),
        ));
    }
    vectors
}

fn more_envelope() -> Vec<Vector> {
    let form = &["COS-006"];
    let signature = &["COS-009"];
    vec![
        octets(
            "three-elements",
            false,
            form,
            "the array has three elements",
            |world| {
                let parts = signed(world, &document(&leaves(world))).parts();
                tag(18, &array(parts.get(..3).unwrap_or_default()))
            },
        ),
        octets(
            "five-elements",
            false,
            form,
            "the array has five elements",
            |world| {
                let mut parts = signed(world, &document(&leaves(world))).parts();
                parts.push(null());
                tag(18, &array(&parts))
            },
        ),
        octets(
            "protected-map",
            false,
            form,
            "the protected header is a map and no byte string",
            |world| {
                let cose = signed(world, &document(&leaves(world)));
                let mut parts = cose.parts();
                if let Some(first) = parts.first_mut() {
                    *first = map(&cose.protected);
                }
                tag(18, &array(&parts))
            },
        ),
        octets(
            "signature-text",
            false,
            form,
            "the signature is a text",
            |world| {
                let mut parts = signed(world, &document(&leaves(world))).parts();
                if let Some(last) = parts.last_mut() {
                    *last = text("signature");
                }
                tag(18, &array(&parts))
            },
        ),
        outside("detached", false, form, "the payload is nil", |cose, _| {
            cose.detached = true
        }),
        octets(
            "trailing",
            false,
            &["VCB-046"],
            "an octet follows",
            |world| {
                [
                    signed(world, &document(&leaves(world))).encode().as_slice(),
                    &[0],
                ]
                .concat()
            },
        ),
        octets(
            "cut",
            false,
            &["VCB-046"],
            "the last octet is missing",
            |world| {
                let whole = signed(world, &document(&leaves(world))).encode();
                whole.get(..whole.len() - 1).unwrap_or_default().to_vec()
            },
        ),
        octets(
            "unsigned",
            false,
            &["CBR-003", "COS-025"],
            "it is a voucher without an envelope",
            |world| document(&leaves(world)),
        ),
        outside(
            "alg-unprotected",
            false,
            &["COS-004"],
            "alg is not protected",
            |cose, _| {
                cose.unprotected.push((int(ALG), int(-7)));
                cose.protected.clear();
            },
        ),
        outside(
            "alg-twice-protected",
            false,
            &["COS-002"],
            "alg is twice in the protected header",
            |cose, _| {
                cose.protected.push((int(ALG), int(-7)));
            },
        ),
        outside(
            "alg-both",
            false,
            &["COS-003"],
            "alg is in both headers with other values",
            |cose, _| {
                cose.unprotected.push((int(ALG), int(-35)));
            },
        ),
        outside(
            "alg-text",
            false,
            &["COS-004"],
            "alg is a text that nobody registered",
            |cose, _| {
                cose.protected = vec![(int(ALG), text("ES256"))];
            },
        ),
        outside(
            "alg-missing",
            false,
            &["COS-004"],
            "alg is missing",
            |cose, _| cose.protected.clear(),
        ),
        outside(
            "alg-hmac",
            false,
            &["COS-004"],
            "alg is HMAC 256/256",
            |cose, _| {
                cose.protected = vec![(int(ALG), int(5))];
            },
        ),
        outside(
            "alg-es384-p256",
            false,
            &["COS-011"],
            "alg says ES384 with a P-256 key",
            |cose, _| {
                cose.protected = vec![(int(ALG), int(-35))];
            },
        ),
        outside(
            "alg-eddsa-p256",
            false,
            &["COS-012"],
            "alg says EdDSA with a P-256 key",
            |cose, _| {
                cose.protected = vec![(int(ALG), int(-8))];
            },
        ),
        outside(
            "bag-twice",
            false,
            &["COS-024", "COS-002"],
            "x5bag is there twice",
            |cose, world| {
                cose.unprotected
                    .push((int(X5BAG), bytes(world.attacker_masa.certificate())));
            },
        ),
        outside(
            "crit-unknown",
            false,
            &["COS-005"],
            "crit names a header that nobody knows",
            |cose, _| {
                cose.protected.push((int(CRIT), array(&[int(99)])));
                cose.protected.push((int(99), int(1)));
            },
        ),
        outside(
            "crit-unprotected",
            false,
            &["COS-005"],
            "crit is not protected",
            |cose, _| {
                cose.unprotected.push((int(CRIT), array(&[int(99)])));
            },
        ),
        outside(
            "signature-der",
            false,
            signature,
            "the signature is DER",
            |cose, _| {
                let raw = cose.signature_octets();
                let (r, s) = raw.split_at(32);
                cose.signature = Some(der::seq(&[der::uint(r), der::uint(s)]));
            },
        ),
        outside(
            "signature-zero",
            false,
            &["COS-013"],
            "r and s are zero",
            |cose, _| {
                cose.signature = Some(vec![0; 64]);
            },
        ),
        outside(
            "signature-ones",
            false,
            &["COS-013"],
            "r and s are beyond the order",
            |cose, _| {
                cose.signature = Some(vec![0xff; 64]);
            },
        ),
        outside(
            "signature-cut",
            false,
            signature,
            "the signature lacks its last octet",
            |cose, _| {
                let mut raw = cose.signature_octets();
                raw.truncate(63);
                cose.signature = Some(raw);
            },
        ),
        outside(
            "signature-empty",
            false,
            signature,
            "the signature is empty",
            |cose, _| {
                cose.signature = Some(Vec::new());
            },
        ),
        outside(
            "context-signature",
            false,
            &["COS-007"],
            "Sig_structure says Signature and not Signature1",
            |cose, _| {
                cose.context = "Signature";
            },
        ),
        outside(
            "sig-empty-map",
            false,
            &["COS-001", "COS-004"],
            "the protected header is an encoded empty map, and alg is unprotected",
            |cose, _| {
                cose.protected_octets = Some(vec![0xa0]);
                cose.unprotected.push((int(ALG), int(-7)));
            },
        ),
        outside(
            "signature-of-another",
            false,
            &["COS-008"],
            "another key signed in the signer's name",
            |cose, world| {
                cose.signer.key = world.attacker_masa.key().clone();
            },
        ),
        octets(
            "attacker",
            false,
            &["COS-015"],
            "somebody with the MASA's name signed; their root is in x5bag",
            |world| {
                let bag = Cose::certificates(&[
                    world.attacker_masa.certificate().to_vec(),
                    world.attacker.certificate().to_vec(),
                ]);
                Cose::new(&document(&leaves(world)), &world.attacker_masa.signatory)
                    .with(|cose| cose.unprotected.push((int(X5BAG), bag)))
                    .encode()
            },
        ),
        outside(
            "chain-reordered",
            false,
            &["COS-016"],
            "x5chain begins with the root",
            |cose, world| {
                cose.unprotected = vec![(
                    int(X5CHAIN),
                    Cose::certificates(&[
                        world.manufacturer.certificate().to_vec(),
                        world.masa.certificate().to_vec(),
                    ]),
                )];
            },
        ),
        outside(
            "bag-garbage",
            false,
            &["COS-014"],
            "x5bag holds no certificate",
            |cose, _| {
                cose.unprotected = vec![(int(X5BAG), bytes(b"certificate"))];
            },
        ),
    ]
}
