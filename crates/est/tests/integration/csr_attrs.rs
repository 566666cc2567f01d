//! CSR attributes: published examples, the template, what is demanded and how it is followed.

use der::{Encode, asn1::ObjectIdentifier};
use est::CsrAttrs;
use est::body::{self, BodyTolerances};
use est::client::{self, Facts};
use est::csrattrs::{
    AttrOrOid, Attribute, Demand, ExtensionTemplate, KeyRequirement, RdnTemplate, Source, Template,
    oids,
};
use est::server::Refusal;
use pki::{Coded as _, Csr, KeyKind, SoftwareKey};
use proptest::prelude::*;

use crate::support;

fn b64(text: &str) -> Vec<u8> {
    body::decode(text.as_bytes(), 8192, &BodyTolerances::default())
        .unwrap()
        .0
}

struct Published {
    name: &'static str,
    der: Vec<u8>,
    challenge_password: bool,
    key: Option<KeyRequirement>,
    signature: Option<ObjectIdentifier>,
    extensions: usize,
    unknown: &'static [&'static str],
}

fn published() -> Vec<Published> {
    let ec = |curve| Some(KeyRequirement::Ec { curve: Some(curve) });
    vec![
        Published {
            name: "RFC 7030 A.2",
            der: b64(include_str!("../data/rfc7030/A2-csrattrs-response.b64")),
            challenge_password: true,
            key: None,
            signature: None,
            extensions: 0,
            // And two attributes of 2.999.
            unknown: &[
                "1.3.6.1.1.1.1.22",
                "1.3.36.3.3.2.8.1.1.11",
                "2.16.840.1.101.3.4.2.2",
            ],
        },
        Published {
            name: "RFC 8951 section 4",
            der: b64(include_str!("../data/rfc8951/csrattrs.b64")),
            challenge_password: true,
            key: ec(oids::SECP384R1),
            signature: Some(oids::ECDSA_SHA384),
            extensions: 0,
            unknown: &["1.3.6.1.1.1.1.22"],
        },
        Published {
            name: "RFC 9908 section 5.1",
            der: b64(include_str!("../data/rfc9908/realistic-acp.csrattr.b64")),
            challenge_password: false,
            key: None,
            signature: None,
            extensions: 1,
            unknown: &[],
        },
        Published {
            name: "RFC 9908 section 5.2",
            der: b64(include_str!(
                "../data/rfc9908/rfc7030-example01.csrattr.b64"
            )),
            challenge_password: true,
            key: ec(oids::SECP384R1),
            signature: Some(oids::ECDSA_SHA384),
            extensions: 0,
            unknown: &["1.3.6.1.1.1.1.22"],
        },
        Published {
            name: "RFC 9908 section 5.4",
            der: b64(include_str!("../data/rfc9908/harkins01.csrattr.b64")),
            challenge_password: true,
            key: Some(KeyRequirement::Rsa { bits: Some(4096) }),
            signature: Some(oids::RSA_SHA256),
            extensions: 0,
            unknown: &[],
        },
        Published {
            name: "RFC 9908 section 5.5",
            der: b64(include_str!("../data/rfc9908/harkins02.csrattr.b64")),
            challenge_password: true,
            key: ec(oids::SECP384R1),
            signature: Some(oids::ECDSA_SHA384),
            extensions: 0,
            unknown: &["2.5.4.5"],
        },
        Published {
            name: "RFC 9908 section 5.6",
            der: b64(include_str!("../data/rfc9908/harkins03.csrattr.b64")),
            challenge_password: true,
            key: ec(oids::SECP521R1),
            signature: Some(oids::ECDSA_SHA512),
            extensions: 0,
            unknown: &[
                "1.2.840.113549.1.9.20",
                "0.9.2342.19200300.100.1.5",
                "2.5.4.5",
            ],
        },
    ]
}

/// Requirements: EST-4.5.2-03, EST8951-4-03, CSRATTRS-3.2-04
#[test]
fn published_examples_are_read_and_written_again() {
    for case in published() {
        let list = CsrAttrs::from_der(&case.der).unwrap();
        assert_eq!(list.to_der().unwrap(), case.der, "{}", case.name);
        let asked = list.requirements().unwrap();
        assert_eq!(asked.source, Source::List, "{}", case.name);
        assert_eq!(
            asked.challenge_password, case.challenge_password,
            "{}",
            case.name
        );
        assert_eq!(asked.key, case.key, "{}", case.name);
        assert_eq!(asked.signature_algorithm, case.signature, "{}", case.name);
        assert_eq!(asked.extensions.len(), case.extensions, "{}", case.name);
        let unknown: Vec<String> = asked.unknown.iter().map(ToString::to_string).collect();
        assert_eq!(unknown, case.unknown, "{}", case.name);
    }
}

/// Requirements: CSRATTRS-3.2-05, CSRATTRS-3.2-06, CSRATTRS-3.2-07
#[test]
fn a_request_follows_each_published_example() {
    for case in published() {
        let asked = CsrAttrs::from_der(&case.der)
            .unwrap()
            .requirements()
            .unwrap();
        let kind = client::key_kind(&asked)
            .unwrap()
            .unwrap_or(KeyKind::EcdsaP256);
        let wanted_384 = asked.signature_algorithm == Some(oids::ECDSA_SHA384);
        assert_eq!(kind == KeyKind::EcdsaP384, wanted_384, "{}", case.name);
        let key = SoftwareKey::generate(kind).unwrap();
        let facts = Facts {
            subject_der: vec![0x30, 0],
            ..Facts::default()
        };
        let csr = client::request(&asked, &facts, Some(&[7; 32]), &key).unwrap();
        csr.verify().unwrap();
        assert_eq!(
            csr.challenge_password().unwrap().is_some(),
            case.challenge_password,
            "{}",
            case.name
        );
        let extensions = csr.extension_request().unwrap();
        assert_eq!(extensions.len(), case.extensions);
        for (given, wanted) in extensions.iter().zip(&asked.extensions) {
            assert_eq!(given.extn_id, wanted.oid);
            assert_eq!(given.critical, wanted.critical);
            assert_eq!(Some(given.extn_value.as_bytes()), wanted.value.as_deref());
        }
        // The server that asked is content with it.
        let demand = Demand {
            challenge_password: asked.challenge_password,
            key: asked.key.clone(),
            signature_algorithm: asked.signature_algorithm,
            extensions: asked.extensions.clone(),
            ..Demand::default()
        };
        demand.check(&csr).unwrap();
    }
}

fn value(oid: ObjectIdentifier) -> Vec<u8> {
    oid.to_der().unwrap()
}

fn utf8(text: &str) -> Vec<u8> {
    der::asn1::Utf8StringRef::new(text)
        .unwrap()
        .to_der()
        .unwrap()
}

fn acp() -> ExtensionTemplate {
    Demand::acp_node_name("rfc8994+fd739fc23c3440112233445500000000+@acp.example.com").unwrap()
}

/// Requirements: CSRATTRS-3.2-01, CSRATTRS-3.2-02
#[test]
fn an_acp_node_name_is_demanded_as_published() {
    let demand = Demand {
        extensions: vec![acp()],
        ..Demand::default()
    };
    assert_eq!(
        demand.to_csr_attrs().unwrap().to_der().unwrap(),
        b64(include_str!("../data/rfc9908/realistic-acp.csrattr.b64"))
    );
}

/// The example of RFC 9908 section 3.4, encoded from its dump (`CSR-template.dump`).
fn published_template() -> Vec<u8> {
    let text = concat!(
        "308193",
        "020100",
        "302c",
        "310730050603550403",
        "310f300d060355040b0c066d7944657074",
        "3110300e060355040b0c076d7947726f7570",
        "a015301306072a8648ce3d020106082a8648ce3d030107",
        "a1493047060b2a864886f70d010910023e31383036",
        "301d0603551d110416301482107777772e6d795365727665722e636f6d8700",
        "300e0603551d0f0101ff040403020388",
        "30050603551d25",
    );
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

/// Requirements: CSRATTRS-3.4-02, CSRATTRS-3.4-04, CSRATTRS-3.4-05, CSRATTRS-3.4-06
#[test]
fn the_published_template_is_read_written_and_filled_in() {
    let der = published_template();
    let template = Template::from_der(&der).unwrap();
    assert_eq!(template.to_der().unwrap(), der);
    let subject = template.subject.clone().unwrap();
    assert_eq!(subject.len(), 3);
    assert_eq!(
        subject[0],
        [RdnTemplate {
            oid: oids::COMMON_NAME,
            value: None
        }]
    );
    assert_eq!(
        template.key.as_ref().unwrap().algorithm,
        oids::EC_PUBLIC_KEY
    );

    let list = CsrAttrs::new(vec![AttrOrOid::Attribute(
        Attribute::new(oids::REQUEST_INFO_TEMPLATE, vec![der]).unwrap(),
    )]);
    let asked = list.requirements().unwrap();
    assert_eq!(asked.source, Source::Template);
    assert_eq!(
        asked.key,
        Some(KeyRequirement::Ec {
            curve: Some(oids::SECP256R1)
        })
    );
    let facts = Facts {
        subject_der: vec![0x30, 0],
        common_name: Some("device-7".to_owned()),
        addresses: vec!["192.0.2.7".parse().unwrap()],
        ..Facts::default()
    };
    let csr = client::request(&asked, &facts, None, support::key().as_ref()).unwrap();
    assert_eq!(csr.subject(), "OU=myGroup,OU=myDept,CN=device-7");
    let extensions = csr.extension_request().unwrap();
    assert_eq!(extensions.len(), 3);
    assert_eq!(
        extensions[0].extn_value.as_bytes(),
        [
            &b"\x30\x18\x82\x10www.myServer.com\x87\x04"[..],
            &[192, 0, 2, 7]
        ]
        .concat()
    );
    assert!(extensions[1].critical);
    assert_eq!(extensions[1].extn_value.as_bytes(), [3, 2, 3, 0x88]);
    assert_eq!(extensions[2].extn_id, oids::EXT_KEY_USAGE);
}

/// Requirements: CSRATTRS-3.4-01, CSRATTRS-4-01
#[test]
fn a_template_stands_above_the_list_beside_it() {
    let demand = Demand {
        key: Some(KeyRequirement::Ec {
            curve: Some(oids::SECP384R1),
        }),
        subject: vec![vec![RdnTemplate {
            oid: oids::COMMON_NAME,
            value: Some(utf8("given")),
        }]],
        template: true,
        ..Demand::default()
    };
    let mut items = vec![AttrOrOid::Attribute(
        Attribute::new(oids::EC_PUBLIC_KEY, vec![value(oids::SECP521R1)]).unwrap(),
    )];
    items.extend(demand.to_csr_attrs().unwrap().items().iter().cloned());
    let asked = CsrAttrs::new(items).requirements().unwrap();
    assert_eq!(
        asked.key,
        Some(KeyRequirement::Ec {
            curve: Some(oids::SECP384R1)
        })
    );
    assert_eq!(asked.subject, demand.subject);
}

/// Requirements: CSRATTRS-3.2-03, CSRATTRS-3.4-02, CSRATTRS-3.4-03, CSRATTRS-3.4-05
#[test]
fn templates_that_break_a_must_are_refused() {
    let good = published_template();
    let edit = |from: &[u8], to: &[u8]| -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let at = good
            .windows(from.len())
            .position(|part| part == from)
            .unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    let extension_request = [
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e,
    ];
    for (case, der) in [
        ("version 1", edit(&[2, 1, 0], &[2, 1, 1])),
        (
            "the same extension twice",
            edit(&[6, 3, 0x55, 0x1d, 0x25], &[6, 3, 0x55, 0x1d, 0x0f]),
        ),
        ("no attributes field", edit(&[0xa1, 0x49], &[0xa2, 0x49])),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
    ] {
        assert!(Template::from_der(&der).is_err(), "{case}");
    }
    // Both kinds of extension request at once.
    let both = Template {
        attributes: vec![
            Attribute::new(
                ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14"),
                vec![vec![0x30, 0x07, 0x30, 0x05, 0x06, 0x03, 0x55, 0x1d, 0x25]],
            )
            .unwrap(),
        ],
        extensions: vec![ExtensionTemplate {
            oid: oids::KEY_USAGE,
            critical: false,
            value: None,
        }],
        ..Template::default()
    };
    let der = both.to_der().unwrap();
    assert!(
        der.windows(extension_request.len())
            .any(|part| part == extension_request)
    );
    assert!(Template::from_der(&der).is_err());
}

/// Requirements: CSRATTRS-3.4-05
#[test]
fn an_rsa_size_travels_as_a_placeholder_key() {
    for bits in [2048, 3072, 4096] {
        let demand = Demand {
            key: Some(KeyRequirement::Rsa { bits: Some(bits) }),
            template: true,
            ..Demand::default()
        };
        let list = CsrAttrs::from_der(&demand.to_csr_attrs().unwrap().to_der().unwrap()).unwrap();
        assert_eq!(
            list.template().unwrap().unwrap().key.unwrap().rsa_bits,
            Some(bits)
        );
        assert_eq!(list.requirements().unwrap().key, demand.key);
    }
}

/// Requirements: EST-4.5.2-04, EST-4.5.2-05, EST8951-4-01
#[test]
fn a_demand_says_the_same_to_old_and_new_clients() {
    let demand = Demand {
        challenge_password: true,
        key: Some(KeyRequirement::Ec {
            curve: Some(oids::SECP384R1),
        }),
        signature_algorithm: Some(oids::ECDSA_SHA384),
        extensions: vec![acp()],
        subject: Vec::new(),
        template: false,
    };
    for template in [false, true] {
        let demand = Demand {
            template,
            ..demand.clone()
        };
        let list = demand.to_csr_attrs().unwrap();
        let asked = list.requirements().unwrap();
        assert!(asked.challenge_password, "{template}");
        assert_eq!(asked.key, demand.key, "{template}");
        assert_eq!(asked.extensions, demand.extensions, "{template}");
        assert!(
            list.items()
                .contains(&AttrOrOid::Oid(oids::CHALLENGE_PASSWORD))
        );
    }
    assert!(Demand::default().to_csr_attrs().unwrap().is_empty());
}

fn csr(kind: KeyKind, extensions: &[ExtensionTemplate], password: Option<&str>) -> Csr {
    let key = SoftwareKey::generate(kind).unwrap();
    let mut builder = pki::CsrBuilder::new(x509_cert::name::Name::default());
    for extension in extensions {
        builder = builder.extension(x509_cert::ext::Extension {
            extn_id: extension.oid,
            critical: extension.critical,
            extn_value: der::asn1::OctetString::new(extension.value.clone().unwrap()).unwrap(),
        });
    }
    if let Some(password) = password {
        builder = builder.challenge_password(password);
    }
    builder.sign(&key).unwrap()
}

/// Requirements: BRSKI-5.9-03, BRSKI-5.9.2-02
#[test]
fn requests_are_held_against_the_demand() {
    let ec = |curve| Demand {
        key: Some(KeyRequirement::Ec { curve: Some(curve) }),
        ..Demand::default()
    };
    let names = Demand {
        extensions: vec![acp()],
        ..Demand::default()
    };
    let mut other = acp();
    other.value = Some(
        [0x30, 0x06, 0x82, 0x04]
            .into_iter()
            .chain(*b"evil")
            .collect(),
    );
    let none = &[][..];
    let p256 = KeyKind::EcdsaP256;
    let cases = [
        (
            "right curve",
            ec(oids::SECP256R1),
            csr(p256, none, None),
            None,
        ),
        (
            "other curve",
            ec(oids::SECP384R1),
            csr(p256, none, None),
            Some("est.csr-key-kind"),
        ),
        (
            "other type",
            ec(oids::SECP256R1),
            csr(KeyKind::Ed25519, none, None),
            Some("est.csr-key-kind"),
        ),
        (
            "Ed25519",
            Demand {
                key: Some(KeyRequirement::Other(oids::ED25519)),
                ..Demand::default()
            },
            csr(KeyKind::Ed25519, none, None),
            None,
        ),
        (
            "RSA size",
            Demand {
                key: Some(KeyRequirement::Rsa { bits: Some(2048) }),
                ..Demand::default()
            },
            csr(KeyKind::Rsa2048, none, None),
            None,
        ),
        (
            "RSA too small",
            Demand {
                key: Some(KeyRequirement::Rsa { bits: Some(3072) }),
                ..Demand::default()
            },
            csr(KeyKind::Rsa2048, none, None),
            Some("est.csr-key-kind"),
        ),
        (
            "signature algorithm",
            Demand {
                signature_algorithm: Some(oids::ECDSA_SHA384),
                ..Demand::default()
            },
            csr(p256, none, None),
            Some("est.csr-signature-algorithm"),
        ),
        ("name", names.clone(), csr(p256, &[acp()], None), None),
        (
            "name missing",
            names.clone(),
            csr(p256, none, None),
            Some("est.csr-extension-missing"),
        ),
        (
            "another name",
            names,
            csr(p256, &[other], None),
            Some("est.csr-extension-missing"),
        ),
        (
            "password missing",
            Demand {
                challenge_password: true,
                ..Demand::default()
            },
            csr(p256, none, None),
            Some("est.channel-binding-missing"),
        ),
    ];
    for (case, demand, csr, expected) in cases {
        let result: Result<(), Refusal> = demand.check(&csr);
        assert_eq!(
            result.err().map(|refusal| refusal.code()),
            expected,
            "{case}"
        );
    }
}

#[test]
fn lists_that_break_the_syntax_are_refused() {
    for (case, der) in [
        ("nothing", &b""[..]),
        ("not a sequence", &[0x31, 0x00]),
        ("rest behind it", &[0x30, 0x00, 0x00]),
        ("an integer", &[0x30, 0x03, 0x02, 0x01, 0x00]),
        ("an empty attribute", &[0x30, 0x02, 0x30, 0x00]),
        (
            "an attribute without values",
            &[0x30, 0x07, 0x30, 0x05, 0x06, 0x03, 0x55, 0x1d, 0x25],
        ),
        ("a length beyond the end", &[0x30, 0x7f, 0x06]),
        ("an indefinite length", &[0x30, 0x80, 0x00, 0x00]),
    ] {
        let error = CsrAttrs::from_der(der).unwrap_err();
        assert_eq!(error.code(), "est.csrattrs-malformed", "{case}");
    }
    // EST8951-4-02: an empty SEQUENCE is a list.
    assert!(CsrAttrs::from_der(&[0x30, 0x00]).unwrap().is_empty());
}

fn any_oid() -> impl Strategy<Value = ObjectIdentifier> {
    (
        0..=1_u32,
        0..40_u32,
        prop::collection::vec(any::<u32>(), 0..4),
    )
        .prop_map(|(a, b, rest)| {
            let arcs = rest.iter().map(|arc| format!(".{arc}")).collect::<String>();
            ObjectIdentifier::new(&format!("{a}.{b}{arcs}.1")).unwrap()
        })
}

proptest! {
    #[test]
    fn no_octets_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(list) = CsrAttrs::from_der(&bytes) {
            let _ = list.requirements();
            let _ = list.to_der();
        }
        let _ = Template::from_der(&bytes);
    }

    #[test]
    fn one_flipped_octet_never_panics(
        which in 0..7_usize,
        position in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut der = published()[which].der.clone();
        let position = position.index(der.len());
        der[position] ^= 1 << bit;
        if let Ok(list) = CsrAttrs::from_der(&der) {
            let _ = list.requirements();
        }
        let mut der = published_template();
        let position = position % der.len();
        der[position] ^= 1 << bit;
        let _ = Template::from_der(&der);
    }

    #[test]
    fn lists_survive_the_way_there_and_back(
        oids in prop::collection::vec(any_oid(), 0..6),
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
    ) {
        let values: Vec<Vec<u8>> = values
            .iter()
            .map(|value| der::asn1::OctetStringRef::new(value).unwrap().to_der().unwrap())
            .collect();
        let mut items: Vec<AttrOrOid> = oids.iter().copied().map(AttrOrOid::Oid).collect();
        if let Some(oid) = oids.first() {
            items.push(AttrOrOid::Attribute(Attribute::new(*oid, values).unwrap()));
        }
        let der = CsrAttrs::new(items).to_der().unwrap();
        let read = CsrAttrs::from_der(&der).unwrap();
        prop_assert_eq!(read.to_der().unwrap(), der);
        prop_assert_eq!(read.items().len(), oids.len() + usize::from(!oids.is_empty()));
    }
}
