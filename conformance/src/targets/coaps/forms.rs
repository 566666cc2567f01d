//! Forms of voucher requests, right and wrong.

use crate::{
    coaps_voucher::{Leaves, REQUEST, VOUCHER, leaf},
    forge::{
        cbor,
        cose::{ALG, CRIT, Cose, KID},
        key::Key,
    },
};

pub(super) type Change = fn(Leaves) -> Leaves;

/// Leaves that make a request one to refuse.
pub(super) const BAD_LEAVES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-5.2/no-assertion",
        "a request without assertion is refused",
        &["CBR-131"],
        |it| it.unset(leaf::ASSERTION),
    ),
    (
        "rfc9254-6.6/assertion-text",
        "an assertion that is text is refused",
        &["VCB-012"],
        |it| it.set(leaf::ASSERTION, cbor::text("proximity")),
    ),
    (
        "rfc9254-6.6/assertion-4",
        "an assertion that does not exist is refused",
        &["VCB-012"],
        |it| it.set(leaf::ASSERTION, cbor::int(9)),
    ),
    (
        "rfc8366bis/no-serial",
        "a request without serial-number is refused",
        &["VCB-019"],
        |it| it.unset(leaf::SERIAL),
    ),
    (
        "cbrski-9/other-serial",
        "a request for another serial number than the certificate's is refused",
        &["CBR-134"],
        |it| it.set(leaf::SERIAL, cbor::text("CONF-REG-OTHER")),
    ),
    (
        "rfc9254-6/serial-bytes",
        "a serial number that is a byte string is refused",
        &["VCB-019"],
        |it| it.set(leaf::SERIAL, cbor::bytes(b"CONF-REG-1")),
    ),
    (
        "rfc8366bis/nonce-7",
        "a nonce of 7 octets is refused",
        &["VCB-027"],
        |it| it.set(leaf::NONCE, cbor::bytes(b"7octets")),
    ),
    (
        "rfc8366bis/nonce-33",
        "a nonce of 33 octets is refused",
        &["VCB-027"],
        |it| it.set(leaf::NONCE, cbor::bytes(&[0x41; 33])),
    ),
    (
        "rfc9254-6.8/nonce-text",
        "a nonce that is text is refused",
        &["VCB-013"],
        |it| it.set(leaf::NONCE, cbor::text("MTIzNDU2Nzg5MDEyMzQ1Ng==")),
    ),
    (
        "cbrski-9/names-no-registrar",
        "a request that names no registrar is refused",
        &["CBR-131"],
        |it| it.unset(leaf::PROXIMITY_HASH),
    ),
    (
        "cbrski-9/other-hash",
        "a request that names another registrar by the hash of its key is refused",
        &["CBR-131"],
        |it| it.set(leaf::PROXIMITY_HASH, cbor::bytes(&[7; 32])),
    ),
    (
        "rfc8366bis/hash-31",
        "a hash of 31 octets is refused",
        &["VCB-041"],
        |it| it.set(leaf::PROXIMITY_HASH, cbor::bytes(&[7; 31])),
    ),
    (
        "rfc8366bis/bare-point",
        "a key that is a bare point is refused",
        &["VCB-040"],
        |it| {
            it.unset(leaf::PROXIMITY_HASH)
                .set(leaf::PROXIMITY_KEY, cbor::bytes(&[4; 65]))
        },
    ),
    (
        "rfc9254-6.4/created-on-number",
        "created-on that is a number is refused",
        &["VCB-015"],
        |it| it.set(leaf::CREATED_ON, cbor::int(1_790_000_000)),
    ),
    (
        "rfc9254-6.4/created-on-tag",
        "created-on with tag 1 is refused",
        &["VCB-015"],
        |it| it.set(leaf::CREATED_ON, cbor::tag(1, &cbor::int(1_790_000_000))),
    ),
    (
        "rfc9254-3.2/named-and-numbered",
        "a leaf that is there by its name and by its number is refused",
        &["VCB-011"],
        |it| it.add(cbor::text("serial-number"), cbor::text("CONF-REG-OTHER")),
    ),
    (
        "rfc9254-3.2/tagged-and-numbered",
        "a leaf that is there by tag 47 and by its number is refused",
        &["VCB-011"],
        |it| {
            it.add(
                cbor::tag(47, &cbor::int(REQUEST + leaf::SERIAL)),
                cbor::text("CONF-REG-OTHER"),
            )
        },
    ),
    (
        "rfc8949-5.6/twice",
        "a leaf that is there twice is refused",
        &["VCB-046"],
        |it| it.add(cbor::int(leaf::SERIAL), cbor::text("CONF-REG-OTHER")),
    ),
    (
        "rfc8366bis/voucher",
        "a request under the top level of a voucher is refused",
        &["VCB-002", "VCB-001"],
        |mut it| {
            it.top = cbor::int(VOUCHER);
            it
        },
    ),
    (
        "rfc8366bis/unknown-top",
        "a request under an unknown top level is refused",
        &["VCB-002"],
        |mut it| {
            it.top = cbor::int(4711);
            it
        },
    ),
    (
        "rfc9254-3.2/number-under-name",
        "a bare difference under a name is not taken for a leaf",
        &["VCB-008"],
        |mut it| {
            it.top = cbor::text("ietf-voucher-request:voucher");
            it
        },
    ),
];

pub(super) type Make = fn(Cose) -> Vec<u8>;

/// Envelopes that make a request one to refuse.
pub(super) const BAD_ENVELOPES: &[(&str, &str, &[&str], Make)] = &[
    (
        "cbrski-4/unsigned",
        "a request without signature is refused",
        &["CBR-003"],
        |it| it.payload,
    ),
    (
        "cbrski-9.2.2/signature",
        "a wrong signature is refused",
        &["CBR-124", "COS-007"],
        |it| {
            let mut octets = it.encode();
            if let Some(last) = octets.last_mut() {
                *last ^= 1;
            }
            octets
        },
    ),
    (
        "rfc9052-4.4/signed-by-another",
        "a request that another key signed is refused",
        &["COS-008", "CBR-124"],
        |it| {
            it.with(|it| {
                if let Ok(key) = Key::generate() {
                    it.signer.key = key;
                }
            })
            .encode()
        },
    ),
    (
        "rfc9052-4.2/nil-payload",
        "a request without its payload is refused",
        &["CBR-112", "COS-006"],
        |it| it.with(|it| it.detached = true).encode(),
    ),
    (
        "rfc9052-3.1/unprotected-algorithm",
        "an algorithm that is not protected is refused",
        &["CBR-113", "COS-004"],
        |it| {
            it.with(|it| {
                it.unprotected = std::mem::take(&mut it.protected);
            })
            .encode()
        },
    ),
    (
        "rfc9052-3/algorithm-twice",
        "an algorithm in both headers is refused",
        &["COS-003"],
        |it| {
            it.with(|it| it.unprotected.push((cbor::int(ALG), cbor::int(-35))))
                .encode()
        },
    ),
    (
        "rfc9052-3/label-twice",
        "a label that is there twice in one header is refused",
        &["COS-002"],
        |it| {
            it.with(|it| it.protected.push((cbor::int(ALG), cbor::int(-7))))
                .encode()
        },
    ),
    (
        "rfc8949-5.6/unprotected-twice",
        "an unprotected label that is there twice is refused",
        &["COS-024"],
        |it| {
            it.with(|it| {
                for _ in 0..2 {
                    it.unprotected.push((cbor::int(KID), cbor::bytes(b"kid")));
                }
            })
            .encode()
        },
    ),
    (
        "rfc9052-3.1/critical",
        "a label that has to be understood and is not is refused",
        &["COS-005"],
        |it| {
            it.with(|it| {
                it.protected
                    .push((cbor::int(CRIT), cbor::array(&[cbor::int(99)])));
                it.protected.push((cbor::int(99), cbor::int(1)));
            })
            .encode()
        },
    ),
    (
        "rfc9052-3.1/critical-unprotected",
        "crit in the unprotected header is refused",
        &["COS-005"],
        |it| {
            it.with(|it| {
                it.unprotected
                    .push((cbor::int(CRIT), cbor::array(&[cbor::int(1)])))
            })
            .encode()
        },
    ),
    (
        "rfc9052-4.2/three-parts",
        "a message of three parts is refused",
        &["COS-006"],
        |it| {
            let mut parts = it.parts();
            parts.pop();
            cbor::tag(18, &cbor::array(&parts))
        },
    ),
    (
        "rfc9052-4.2/five-parts",
        "a message of five parts is refused",
        &["COS-006"],
        |it| {
            let mut parts = it.parts();
            parts.push(cbor::bytes(b"more"));
            cbor::tag(18, &cbor::array(&parts))
        },
    ),
    (
        "rfc9052-2/mac0",
        "a COSE_Mac0 is refused",
        &["COS-020", "COS-025", "CBR-114"],
        |it| it.with(|it| it.tag = Some(17)).encode(),
    ),
    (
        "rfc9052-2/sign",
        "a COSE_Sign is refused",
        &["COS-020", "CBR-114"],
        |it| it.with(|it| it.tag = Some(98)).encode(),
    ),
    (
        "rfc9053-2.1/der-signature",
        "an ECDSA signature in DER is refused",
        &["COS-009"],
        |it| {
            let structure = cbor::array(&[
                cbor::text("Signature1"),
                cbor::bytes(&it.protected_bytes()),
                cbor::bytes(&[]),
                cbor::bytes(&it.payload),
            ]);
            let der = it.signer.key.sign(&structure);
            it.with(|it| it.signature = Some(der)).encode()
        },
    ),
    (
        "rfc9053-2.1/zero-signature",
        "a signature of zeroes is refused",
        &["COS-013"],
        |it| it.with(|it| it.signature = Some(vec![0; 64])).encode(),
    ),
    (
        "rfc9052-4.4/other-context",
        "a signature with the word of COSE_Sign is refused",
        &["COS-007"],
        |it| it.with(|it| it.context = "Signature").encode(),
    ),
    (
        "rfc9053-2.2/eddsa-with-ec",
        "EdDSA with an EC key is refused",
        &["COS-012"],
        |it| {
            it.with(|it| it.protected = vec![(cbor::int(ALG), cbor::int(-8))])
                .encode()
        },
    ),
    (
        "rfc9053-2.1/es384-with-p256",
        "ES384 with a P-256 key is refused",
        &["COS-011", "CBR-113"],
        |it| {
            it.with(|it| it.protected = vec![(cbor::int(ALG), cbor::int(-35))])
                .encode()
        },
    ),
    (
        "rfc8949-3/trailing",
        "an octet after the message is refused",
        &["VCB-046"],
        |it| {
            let mut octets = it.encode();
            octets.push(0);
            octets
        },
    ),
    (
        "rfc8949-3/truncated",
        "a message without its last octet is refused",
        &["VCB-046"],
        |it| {
            let mut octets = it.encode();
            octets.pop();
            octets
        },
    ),
    (
        "rfc8949-3/deep",
        "CBOR nested two thousand deep is refused",
        &["VCB-046"],
        |_| vec![0x81; 2000],
    ),
    (
        "rfc8949-3/huge-length",
        "CBOR that says that it has 2^63 octets is refused",
        &["VCB-046"],
        |_| {
            vec![
                0xd2, 0x84, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,
            ]
        },
    ),
    (
        "rfc8366bis/payload-trailing",
        "an octet after the leaves is refused",
        &["VCB-046"],
        |it| it.with(|it| it.payload.push(0)).encode(),
    ),
    (
        "cbrski-9.2/base64",
        "a request in base64 is refused",
        &["CBR-112"],
        |it| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            STANDARD.encode(it.encode()).into_bytes()
        },
    ),
    (
        "cbrski-6.5/garbage",
        "garbage is refused",
        &["CBR-003"],
        |_| b"garbage".to_vec(),
    ),
    (
        "cbrski-6.5/empty",
        "an empty body is refused",
        &["CBR-003"],
        |_| Vec::new(),
    ),
];

/// The id, the title, the requirements, and what is done to the envelope.
type OddEnvelope = (
    &'static str,
    &'static str,
    &'static [&'static str],
    fn(&mut Cose),
);

/// Envelopes that are odd and right.
pub(super) const ODD_ENVELOPES: &[OddEnvelope] = &[
    (
        "cbrski-9.2.2/kid",
        "a key identifier in a request is ignored",
        &["CBR-121"],
        |it| it.unprotected.push((cbor::int(KID), cbor::bytes(b"any"))),
    ),
    (
        "cbrski-9.2.5/unknown-header",
        "a header that nobody knows and nobody has to know is ignored",
        &["CBR-130"],
        |it| {
            it.unprotected
                .push((cbor::int(15), cbor::map(&[(cbor::int(6), cbor::int(1))])))
        },
    ),
    ("rfc9052-2/tag", "tag 18 is accepted", &["CBR-114"], |it| {
        it.tag = Some(18)
    }),
];

/// Leaves that are odd and right.
pub(super) const ODD_LEAVES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc9254-3.2/names",
        "leaves by their names are read",
        &["CBR-160", "VCB-009"],
        |it| it.named(),
    ),
    (
        "rfc9254-3.2/absolute",
        "leaves under tag 47 are read",
        &["VCB-007", "VCB-006"],
        |it| {
            let leaves = it
                .leaves
                .iter()
                .map(|(key, value)| {
                    let delta = (1..=22)
                        .find(|delta| cbor::int(*delta) == *key)
                        .unwrap_or_default();
                    (cbor::tag(47, &cbor::int(REQUEST + delta)), value.clone())
                })
                .collect();
            Leaves {
                top: it.top,
                leaves,
            }
        },
    ),
    (
        "rfc9254-3.2/absolute-under-name",
        "bare numbers under a name are absolute",
        &["VCB-008"],
        |it| {
            let leaves = it
                .leaves
                .iter()
                .map(|(key, value)| {
                    let delta = (1..=22)
                        .find(|delta| cbor::int(*delta) == *key)
                        .unwrap_or_default();
                    (cbor::int(REQUEST + delta), value.clone())
                })
                .collect();
            Leaves {
                top: cbor::text("ietf-voucher-request:voucher"),
                leaves,
            }
        },
    ),
    (
        "rfc9254-3.2/mixed",
        "leaves by their names and by numbers together are read",
        &["CBR-160"],
        |mut it| {
            for (key, _) in &mut it.leaves {
                if *key == cbor::int(leaf::NONCE) {
                    *key = cbor::text("nonce");
                }
            }
            it
        },
    ),
    (
        "rfc8366bis/ignored-leaves",
        "last-renewal-date and domain-cert-revocation-checks in a request are ignored",
        &["VCB-036", "VCB-014"],
        |it| it.set(leaf::REVOCATION_CHECKS, cbor::boolean(true)),
    ),
    (
        "rfc9254-6.4/created-on",
        "created-on with a fraction and an offset is read",
        &["VCB-015"],
        |it| {
            it.set(
                leaf::CREATED_ON,
                cbor::text(&crate::clock::now_text().replace('Z', ".5+00:00")),
            )
        },
    ),
];
