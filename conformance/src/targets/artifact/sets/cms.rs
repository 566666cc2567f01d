//! Vouchers in CMS: the envelope.

use super::{
    super::vectors::{Encoding, Kind, Vector},
    NOW, World, pledge, signer,
};
use crate::forge::{
    cms::{
        ANIMA_JSON_VOUCHER, Attributes, Cms, DATA, Over, SZTP_JSON, SignerId, attribute,
        content_info,
    },
    der,
    key::{Hash, Key},
    x509::{Certificate, pem},
};

const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";

/// A voucher whose envelope is changed before it is signed.
fn vector(
    name: impl Into<String>,
    valid: bool,
    requirements: &[&'static str],
    reason: impl Into<String>,
    change: impl Fn(&mut Cms, &World) + Send + Sync + 'static,
) -> Vector {
    octets(name, valid, requirements, reason, move |world| {
        let mut cms = right(world);
        change(&mut cms, world);
        cms.encode()
    })
}

/// A voucher that is made in another way.
fn octets(
    name: impl Into<String>,
    valid: bool,
    requirements: &[&'static str],
    reason: impl Into<String>,
    make: impl Fn(&World) -> Vec<u8> + Send + Sync + 'static,
) -> Vector {
    Vector::new(
        format!("voucher-cms/{}", name.into()),
        (Kind::Voucher, Encoding::Cms),
        valid,
        requirements,
        reason,
        make,
    )
    .context(pledge())
}

fn right(world: &World) -> Cms {
    Cms::new(
        &world.voucher().encode(),
        ANIMA_JSON_VOUCHER,
        &world.masa.signatory,
        NOW,
    )
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = good();
    vectors.extend(keys());
    vectors.extend(attributes());
    vectors.extend(signatures());
    vectors.extend(trust());
    vectors.extend(encodings());
    vectors.extend(flips());
    vectors
}

fn good() -> Vec<Vector> {
    vec![
        vector(
            "good",
            true,
            &["VOUCHER-5-01", "VOUCHER-5.4-01", "VOUCHER-5.4-02"],
            "a voucher as RFC 8366 has it",
            |_, _| {},
        ),
        vector(
            "good-by-key-id",
            true,
            &["CMS-5.3-01"],
            "the signer is named by its key identifier",
            |cms, _| cms.signer_id = SignerId::KeyId,
        ),
        vector(
            "good-with-root",
            true,
            &["VOUCHER-5.4-06", "VOUCHER-5.4-05"],
            "the root comes along",
            |cms, world| {
                cms.certificates
                    .push(world.manufacturer.certificate().to_vec())
            },
        ),
        vector(
            "good-with-stranger",
            true,
            &["VOUCHER-5.4-06"],
            "a certificate that has nothing to do with it comes along",
            |cms, world| {
                cms.certificates
                    .push(world.other_domain.certificate().to_vec())
            },
        ),
        vector(
            "good-without-signing-time",
            true,
            &["CMS-5.3-05"],
            "there is no signing time, which is optional",
            |cms, _| cms.signing_time = None,
        ),
        vector(
            "good-unsigned-attribute",
            true,
            &["CMS-5.3-03"],
            "there is an unsigned attribute, which nobody has to know",
            |cms, _| {
                cms.unsigned
                    .push(attribute("1.3.6.1.4.1.32473.1", &[der::utf8("note")]));
            },
        ),
        vector(
            "good-unknown-signed-attribute",
            true,
            &["CMS-5.3-05"],
            "there is a further signed attribute, which nobody has to know",
            |cms, _| {
                let mut attributes = cms.usual_attributes(Hash::Sha256);
                attributes.push(attribute("1.3.6.1.4.1.32473.1", &[der::utf8("note")]));
                cms.attributes = Attributes::These {
                    attributes,
                    unsorted: false,
                };
            },
        ),
        octets(
            "good-below-intermediate",
            true,
            &["BRSKI-11.6-01", "VOUCHER-5.4-06"],
            "the signer is below a CA that comes along",
            |world| {
                let maker = "Example Manufacturer";
                let Ok(masa) = Key::derive(crate::forge::key::Kind::P256, "masa-below") else {
                    return Vec::new();
                };
                let signer = signer(&world.device_ca, maker, masa);
                Cms::new(
                    &world.voucher().encode(),
                    ANIMA_JSON_VOUCHER,
                    &signer.signatory,
                    NOW,
                )
                .with(|cms| cms.certificates = signer.chain())
                .encode()
            },
        ),
    ]
}

fn keys() -> Vec<Vector> {
    use crate::forge::key::Kind as KeyKind;
    let mut vectors = Vec::new();
    for (name, kind) in [
        ("p384", KeyKind::P384),
        ("rsa2048", KeyKind::Rsa2048),
        ("ed25519", KeyKind::Ed25519),
    ] {
        for (part, wrong) in [("good", false), ("changed", true)] {
            vectors.push(octets(
                format!("{part}-{name}"),
                !wrong,
                if wrong {
                    &["VOUCHER-5.4-03", "CMS-5.6-01"]
                } else {
                    &["VOUCHER-5.4-03", "VOUCHER-5-01"]
                },
                if wrong {
                    format!("signed with {name}, and the content was changed afterwards")
                } else {
                    format!("signed with {name}")
                },
                move |world| {
                    let Ok(key) = Key::derive(kind, "masa") else {
                        return Vec::new();
                    };
                    let masa = signer(&world.manufacturer, "Example Manufacturer", key);
                    let octets = Cms::new(
                        &world.voucher().encode(),
                        ANIMA_JSON_VOUCHER,
                        &masa.signatory,
                        NOW,
                    )
                    .encode();
                    if wrong {
                        replaced(&octets, b"proximity", b"proximitx")
                    } else {
                        octets
                    }
                },
            ));
        }
    }
    vectors
}

/// Octets with the first occurrence of some replaced by as many others.
pub(super) fn replaced(octets: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    if let Some(at) = octets.windows(from.len()).position(|part| part == from)
        && let Some(place) = octets.get_mut(at..at + to.len())
    {
        place.copy_from_slice(to);
    }
    octets
}

fn these(cms: &mut Cms, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut attributes = cms.usual_attributes(Hash::Sha256);
    change(&mut attributes);
    cms.attributes = Attributes::These {
        attributes,
        unsorted: false,
    };
}

fn attributes() -> Vec<Vector> {
    let rows = &["CMS-5.3-05"];
    vec![
        vector(
            "no-signed-attributes",
            false,
            &["VOUCHERBIS-7.1-04", "CMS-5.3-03"],
            "signedAttrs are missing",
            |cms, _| cms.attributes = Attributes::Absent,
        ),
        vector(
            "no-content-type",
            false,
            rows,
            "the attribute content-type is missing",
            |cms, _| these(cms, |attributes| drop(attributes.remove(0))),
        ),
        vector(
            "no-message-digest",
            false,
            rows,
            "the attribute message-digest is missing",
            |cms, _| these(cms, |attributes| drop(attributes.remove(1))),
        ),
        vector(
            "content-type-twice",
            false,
            rows,
            "the attribute content-type is there twice",
            |cms, _| {
                these(cms, |attributes| {
                    attributes.push(attribute(CONTENT_TYPE, &[der::oid(ANIMA_JSON_VOUCHER)]));
                });
            },
        ),
        vector(
            "message-digest-twice",
            false,
            rows,
            "the attribute message-digest is there twice, the second one wrong",
            |cms, _| {
                these(cms, |attributes| {
                    attributes.push(attribute(MESSAGE_DIGEST, &[der::octets(&[0; 32])]));
                });
            },
        ),
        vector(
            "message-digest-two-values",
            false,
            rows,
            "the attribute message-digest has two values",
            |cms, _| {
                let right = Hash::Sha256.of(&cms.content);
                these(cms, |attributes| {
                    attributes.remove(1);
                    attributes.push(attribute(
                        MESSAGE_DIGEST,
                        &[der::octets(&[0; 32]), der::octets(&right)],
                    ));
                });
            },
        ),
        vector(
            "message-digest-no-value",
            false,
            rows,
            "the attribute message-digest has no value",
            |cms, _| {
                these(cms, |attributes| {
                    attributes.remove(1);
                    attributes.push(attribute(MESSAGE_DIGEST, &[]));
                });
            },
        ),
        vector(
            "content-type-other",
            false,
            &["CMS-5.6-02"],
            "the attribute content-type says id-data",
            |cms, _| cms.attribute_content_type = DATA.to_owned(),
        ),
        vector(
            "message-digest-other",
            false,
            &["CMS-5.6-01"],
            "the attribute message-digest is of another content",
            |cms, _| cms.message_digest = Some(Hash::Sha256.of(b"another content")),
        ),
        vector(
            "message-digest-cut",
            false,
            &["CMS-5.6-01"],
            "the attribute message-digest is the beginning of the digest",
            |cms, _| {
                let mut digest = Hash::Sha256.of(&cms.content);
                digest.truncate(16);
                cms.message_digest = Some(digest);
            },
        ),
        vector(
            "attributes-unsorted",
            false,
            &["CMS-5.3-04"],
            "signedAttrs are not sorted, and signed as they are",
            |cms, _| {
                let mut attributes = cms.usual_attributes(Hash::Sha256);
                attributes.sort();
                attributes.reverse();
                cms.attributes = Attributes::These {
                    attributes,
                    unsorted: true,
                };
            },
        ),
        vector(
            "signing-time-far",
            false,
            &["BRSKI-2.6.1-02"],
            "the signing time is a year ahead of the pledge's clock",
            |cms, _| cms.signing_time = Some(NOW + time::Duration::days(365)),
        ),
        vector(
            "signing-time-twice",
            false,
            rows,
            "the signing time is there twice",
            |cms, _| {
                these(cms, |attributes| {
                    attributes.push(attribute(
                        SIGNING_TIME,
                        &[der::time(NOW - time::Duration::hours(1))],
                    ));
                });
            },
        ),
    ]
}

fn signatures() -> Vec<Vector> {
    let rows = &["VOUCHER-5.4-03"];
    vec![
        vector(
            "no-signer",
            false,
            rows,
            "there is no SignerInfo",
            |cms, _| cms.signers.clear(),
        ),
        vector(
            "signature-empty",
            false,
            rows,
            "the signature is empty",
            |cms, _| cms.signature = Some(Vec::new()),
        ),
        vector(
            "signature-zero",
            false,
            rows,
            "r and s are zero",
            |cms, _| cms.signature = Some(der::seq(&[der::int(0), der::int(0)])),
        ),
        vector(
            "signature-raw",
            false,
            rows,
            "the signature is r and s side by side, as JWS has it",
            |cms, _| {
                let attributes = der::set(&cms.usual_attributes(Hash::Sha256));
                if let Some(signer) = cms.signers.first() {
                    cms.signature = Some(signer.key.sign_raw(&attributes));
                }
            },
        ),
        vector(
            "signature-of-another",
            false,
            rows,
            "another key signed in the signer's name",
            |cms, world| {
                if let Some(signer) = cms.signers.first_mut() {
                    signer.key = world.attacker_masa.key().clone();
                }
            },
        ),
        vector(
            "over-implicit-tag",
            false,
            &["CMS-5.4-01"],
            "the signature is over the attributes with the tag that they have in the message",
            |cms, _| cms.over = Over::ImplicitTag,
        ),
        vector(
            "over-content",
            false,
            &["CMS-5.4-01"],
            "the signature is over the content though there are attributes",
            |cms, _| cms.over = Over::Content,
        ),
        vector(
            "sha1",
            false,
            &["VOUCHER-5.4-03"],
            "digest and signature use SHA-1",
            |cms, _| cms.hash = Some(Hash::Sha1),
        ),
        vector(
            "algorithm-unknown",
            false,
            rows,
            "the signature algorithm is one that nobody knows",
            |cms, _| {
                cms.signature_algorithm = Some(der::seq(&[der::oid("1.3.6.1.4.1.32473.9")]));
            },
        ),
        vector(
            "algorithm-other-hash",
            false,
            rows,
            "the signature algorithm names another hash than was used",
            |cms, _| {
                cms.signature_algorithm = Some(der::seq(&[der::oid("1.2.840.10045.4.3.3")]));
            },
        ),
        vector(
            "two-signers-one-wrong",
            false,
            rows,
            "there are two signatures, the second by somebody else",
            |cms, world| {
                cms.signers.push(world.attacker_masa.signatory.clone());
                cms.certificates
                    .push(world.attacker_masa.certificate().to_vec());
            },
        ),
        vector(
            "signer-unknown",
            false,
            rows,
            "the signer is named by a serial number that no certificate has",
            |cms, world| {
                let name = world.manufacturer.name.clone();
                cms.signer_id = SignerId::Raw(der::seq(&[name, der::int(77)]));
            },
        ),
        octets(
            "content-and-attributes-swapped",
            false,
            &["CMS-5.6-03"],
            "signed attributes pose as the content of a signature without attributes",
            |world| {
                let right = right(world);
                let attributes = der::set(&right.usual_attributes(Hash::Sha256));
                let mut attack = right.clone();
                attack.content = attributes;
                attack.attributes = Attributes::Absent;
                attack.encode()
            },
        ),
        vector(
            "id-data",
            false,
            &["VOUCHERBIS-7.1-01", "VOUCHER-5.4-02"],
            "eContentType is id-data",
            |cms, _| {
                DATA.clone_into(&mut cms.content_type);
                DATA.clone_into(&mut cms.attribute_content_type);
                cms.version = 1;
            },
        ),
        vector(
            "content-type-sztp",
            false,
            &["VOUCHERBIS-7.1-01"],
            "eContentType is that of conveyed information",
            |cms, _| {
                SZTP_JSON.clone_into(&mut cms.content_type);
                SZTP_JSON.clone_into(&mut cms.attribute_content_type);
            },
        ),
        vector(
            "detached",
            false,
            &["CMS-5.2-01"],
            "the content is left out",
            |cms, _| cms.detached = true,
        ),
    ]
}

fn trust() -> Vec<Vector> {
    let rows = &["VOUCHER-5.4-06"];
    let mut vectors = vec![
        octets(
            "attacker",
            false,
            rows,
            "somebody with the MASA's name signed; their root comes along",
            |world| {
                Cms::new(
                    &world.voucher().encode(),
                    ANIMA_JSON_VOUCHER,
                    &world.attacker_masa.signatory,
                    NOW,
                )
                .with(|cms| cms.certificates.push(world.attacker.certificate().to_vec()))
                .encode()
            },
        ),
        octets(
            "signed-by-device",
            false,
            rows,
            "the device itself signed, whose certificate is under the same root",
            |world| {
                Cms::new(
                    &world.voucher().encode(),
                    ANIMA_JSON_VOUCHER,
                    &world.attacker_device.signatory,
                    NOW,
                )
                .encode()
            },
        ),
        octets(
            "signed-by-registrar",
            false,
            rows,
            "the registrar signed its own voucher",
            |world| {
                Cms::new(
                    &world.voucher().encode(),
                    ANIMA_JSON_VOUCHER,
                    &world.registrar.signatory,
                    NOW,
                )
                .encode()
            },
        ),
        vector(
            "no-certificates",
            false,
            rows,
            "no certificate comes along, and the verifier does not know the signer's",
            |cms, _| cms.certificates.clear(),
        ),
    ];
    type Alter = fn(Certificate) -> Certificate;
    let altered: [(&str, bool, &[&'static str], &str, Alter); 5] = [
        (
            "signer-expired",
            false,
            &["BRSKI-2.6.1-02"],
            "the signer's certificate expired yesterday",
            |certificate| certificate.with(|it| it.not_after = NOW - time::Duration::days(1)),
        ),
        (
            "signer-not-yet",
            false,
            &["BRSKI-2.6.1-02"],
            "the signer's certificate is valid from tomorrow",
            |certificate| certificate.with(|it| it.not_before = NOW + time::Duration::days(1)),
        ),
        (
            "signer-critical-extension",
            false,
            &["X509-4.2-01"],
            "the signer's certificate has a critical extension that nobody knows",
            |certificate| certificate.extension("1.3.6.1.4.1.32473.3", true, der::null()),
        ),
        (
            "signer-unknown-extension",
            true,
            &["X509-4.2-01"],
            "the signer's certificate has an extension that nobody has to know",
            |certificate| certificate.extension("1.3.6.1.4.1.32473.3", false, der::null()),
        ),
        (
            "signer-may-not-sign",
            false,
            &["X509-4.2.1.3-01"],
            "the signer's key may encipher keys and not sign",
            |certificate| {
                certificate.without("2.5.29.15").extension(
                    "2.5.29.15",
                    true,
                    der::tlv(0x03, &[5, 0b0010_0000]),
                )
            },
        ),
    ];
    for (name, valid, requirements, reason, alter) in altered {
        vectors.push(octets(name, valid, requirements, reason, move |world| {
            let subject = crate::forge::x509::name("Example Manufacturer", "MASA", None);
            let masa = world
                .manufacturer
                .issue(&subject, world.masa.key(), NOW, alter);
            Cms::new(
                &world.voucher().encode(),
                ANIMA_JSON_VOUCHER,
                &masa.signatory,
                NOW,
            )
            .encode()
        }));
    }
    vectors
}

fn encodings() -> Vec<Vector> {
    let rows = &["VOUCHER-5.4-01"];
    type Recode = fn(&Cms) -> Vec<u8>;
    let recoded: [(&str, bool, &str, Recode); 12] = [
        (
            "indefinite",
            false,
            "the outer length is indefinite: BER",
            |cms| {
                let whole = cms.encode();
                der::tlv_indefinite(0x30, der::inside(&whole).unwrap_or_default())
            },
        ),
        (
            "long-length",
            false,
            "the outer length is longer than it needs to be: BER",
            |cms| {
                let whole = cms.encode();
                der::tlv_long(0x30, der::inside(&whole).unwrap_or_default())
            },
        ),
        ("trailing", false, "an octet follows", |cms| {
            [cms.encode().as_slice(), &[0]].concat()
        }),
        (
            "twice",
            false,
            "it is there twice, one after the other",
            |cms| [cms.encode(), cms.encode()].concat(),
        ),
        ("cut", false, "the last octet is missing", |cms| {
            let whole = cms.encode();
            whole.get(..whole.len() - 1).unwrap_or_default().to_vec()
        }),
        ("half", false, "the second half is missing", |cms| {
            let whole = cms.encode();
            whole.get(..whole.len() / 2).unwrap_or_default().to_vec()
        }),
        (
            "no-content-info",
            false,
            "SignedData stands without its ContentInfo",
            Cms::signed_data,
        ),
        (
            "other-outer-type",
            false,
            "ContentInfo says envelopedData",
            |cms| {
                der::seq(&[
                    der::oid("1.2.840.113549.1.7.3"),
                    der::explicit(0, &cms.signed_data()),
                ])
            },
        ),
        (
            "nested",
            false,
            "SignedData holds a whole voucher as its content",
            |cms| {
                let inner = cms.encode();
                cms.clone().with(|cms| cms.content = inner).encode()
            },
        ),
        ("pem", false, "it is PEM", |cms| {
            pem("CMS", &cms.encode()).into_bytes()
        }),
        ("base64", false, "it is base64", |cms| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            STANDARD.encode(cms.encode()).into_bytes()
        }),
        ("empty", false, "it is empty", |_| Vec::new()),
    ];
    let mut vectors: Vec<Vector> = recoded
        .into_iter()
        .map(|(name, valid, reason, recode)| {
            octets(
                format!("encoding-{name}"),
                valid,
                if name == "nested" {
                    &["VOUCHERBIS-7.1-02"]
                } else if name == "pem" || name == "base64" {
                    &["BRSKI-6-01", "VOUCHER-5.4-01"]
                } else {
                    rows
                },
                reason,
                move |world| recode(&right(world)),
            )
        })
        .collect();
    vectors.push(octets(
        "encoding-no-signed-data",
        false,
        rows,
        "ContentInfo holds an empty sequence",
        |_| content_info(&der::seq(&[])),
    ));
    vectors
}

/// One bit of a right voucher is another, at places all over it.
fn flips() -> Vec<Vector> {
    /// In parts of a thousand of the length.
    const PLACES: [usize; 16] = [
        60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 660, 720, 780, 840, 900, 990,
    ];
    PLACES
        .into_iter()
        .map(|place| {
            octets(
                format!("flip-{place:03}"),
                false,
                &["VOUCHER-5.4-03", "CMS-5.6-01"],
                format!("a bit is turned after {place} thousandths of the octets"),
                move |world| flipped(&right(world).encode(), place),
            )
        })
        .collect()
}

/// One bit turned at so many thousandths of the length.
pub(super) fn flipped(octets: &[u8], place: usize) -> Vec<u8> {
    let mut octets = octets.to_vec();
    let at = octets.len() * place / 1000;
    if let Some(octet) = octets.get_mut(at) {
        *octet ^= 0x04;
    }
    octets
}
