//! Path validation rule by rule, with certificates made to break one each.

use pki::path::{Anchors, PathOptions, Purpose, ValidPath, validate};
use pki::{Certificate, Coded as _, KeyKind};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::forge::{Authority, CLIENT_AUTH, CMC_RA, SERVER_AUTH, Spec, dns, name, oid, seq, tlv};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

pub(crate) fn options(purpose: Purpose) -> PathOptions {
    PathOptions::new(purpose, NOW)
}

fn strict() -> PathOptions {
    PathOptions {
        strict_profile: true,
        ..options(Purpose::Any)
    }
}

pub(crate) fn code(
    leaf: &Authority,
    others: &[&Authority],
    anchor: &Authority,
    options: &PathOptions,
) -> &'static str {
    match path(leaf, others, anchor, options) {
        Ok(_) => "valid",
        Err(error) => error.code(),
    }
}

fn path(
    leaf: &Authority,
    others: &[&Authority],
    anchor: &Authority,
    options: &PathOptions,
) -> Result<ValidPath, pki::path::PathError> {
    let others: Vec<Certificate> = others
        .iter()
        .map(|other| other.certificate.clone())
        .collect();
    validate(
        &leaf.certificate,
        &others,
        &Anchors::from(anchor.certificate.clone()),
        options,
    )
}

/// A leaf made by `spec` directly under a good root.
pub(crate) fn under_root(spec: Spec, options: &PathOptions) -> &'static str {
    let root = Spec::ca("Root").root();
    code(&spec.under(&root), &[], &root, options)
}

/// A good leaf under an intermediate made by `spec`.
fn under_intermediate(spec: Spec, options: &PathOptions) -> &'static str {
    let root = Spec::ca("Root").root();
    let intermediate = spec.under(&root);
    let leaf = Spec::leaf("Leaf")
        .dns_name("leaf.example")
        .under(&intermediate);
    code(&leaf, &[&intermediate], &root, options)
}

/// Requirements: X509-6.1-01
#[test]
fn names_and_signatures_chain() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let intermediate = Spec::ca("Intermediate").under(&root);
    let leaf = Spec::leaf("Leaf").under(&intermediate);
    assert_eq!(code(&leaf, &[&intermediate], &root, &any), "valid");
    assert_eq!(code(&leaf, &[], &root, &any), "path.unknown-issuer");
    let namesake = Spec::ca("Root").root();
    assert_eq!(
        code(&leaf, &[&intermediate], &namesake, &any),
        "path.signature"
    );
    let broken = Spec::leaf("Leaf")
        .with(|spec| spec.break_signature = true)
        .under(&intermediate);
    assert_eq!(
        code(&broken, &[&intermediate], &root, &any),
        "path.signature"
    );
    let misnamed = Spec::leaf("Leaf")
        .with(|spec| spec.issuer = Some(name("Other")))
        .under(&root);
    assert_eq!(code(&misnamed, &[], &root, &any), "path.unknown-issuer");
    let empty = Spec::leaf("Leaf")
        .with(|spec| spec.issuer = Some(name("")))
        .under(&root);
    assert_eq!(code(&empty, &[], &root, &any), "path.unknown-issuer");
    let nobody = validate(&leaf.certificate, &[], &Anchors::new(), &any);
    assert_eq!(nobody.unwrap_err().code(), "path.no-anchors");
}

#[test]
fn any_order_and_strangers_do_not_matter() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let first = Spec::ca("First").under(&root);
    let second = Spec::ca("Second").under(&first);
    let leaf = Spec::leaf("Leaf").under(&second);
    let stranger = Spec::ca("Stranger").root();
    let found = path(
        &leaf,
        &[&second, &root, &stranger, &leaf, &first, &second],
        &root,
        &any,
    )
    .unwrap();
    let subjects: Vec<String> = found
        .certificates()
        .iter()
        .map(Certificate::subject)
        .collect();
    assert_eq!(subjects, ["CN=Leaf", "CN=Second", "CN=First", "CN=Root"]);
    assert_eq!(found.anchor(), Some(&root.certificate));
}

/// An intermediate and an end-entity certificate as anchors.
///
/// Requirements: X509-4.2.1.12-01
#[test]
fn pins_are_anchors_too() {
    let root = Spec::ca("Root").root();
    let intermediate = Spec::ca("Intermediate").under(&root);
    let leaf = Spec::leaf("Leaf")
        .digital_signature()
        .purposes(&[CMC_RA])
        .under(&intermediate);
    let registrar = options(Purpose::Registrar);
    let pinned = path(&leaf, &[&intermediate, &root], &intermediate, &registrar).unwrap();
    assert_eq!(pinned.certificates().len(), 2);
    let itself = path(&leaf, &[&intermediate, &root], &leaf, &registrar).unwrap();
    assert_eq!(itself.certificates().len(), 1);
    // Only cmcRA, so it is no TLS server by RFC 5280; a pledge that pinned it asks for a registrar.
    assert_eq!(
        code(&leaf, &[], &leaf, &options(Purpose::Server)),
        "path.eku"
    );
    // A pinned end entity vouches for nobody else.
    let below = Spec::leaf("Below").under(&leaf);
    assert_eq!(
        code(&below, &[&leaf], &leaf, &options(Purpose::Any)),
        "path.basic-constraints"
    );
    let other = Spec::leaf("Leaf").under(&intermediate);
    assert_eq!(
        code(&other, &[], &leaf, &options(Purpose::Any)),
        "path.unknown-issuer"
    );
}

#[test]
fn validity_of_a_pin_is_optional() {
    let root = Spec::ca("Root").until("20260101000000Z").root();
    let leaf = Spec::leaf("Leaf").under(&root);
    let any = options(Purpose::Any);
    assert_eq!(code(&leaf, &[], &root, &any), "path.expired");
    let tolerant = PathOptions {
        tolerate_anchor_validity: true,
        ..any.clone()
    };
    assert_eq!(code(&leaf, &[], &root, &tolerant), "valid");
    let pinned = Spec::leaf("Leaf").until("20260101000000Z").under(&root);
    assert_eq!(code(&pinned, &[], &pinned, &any), "path.expired");
    assert_eq!(code(&pinned, &[], &pinned, &tolerant), "valid");
    assert_eq!(code(&pinned, &[], &root, &tolerant), "path.expired");
}

/// Requirements: X509-4.1.2.5-01
#[test]
fn validity_periods() {
    let any = options(Purpose::Any);
    for not_after in ["99991231235959Z", "29991231000000Z", "491231235959Z"] {
        assert_eq!(
            under_root(Spec::leaf("Device").until(not_after), &any),
            "valid",
            "{not_after}"
        );
    }
    assert_eq!(
        under_root(Spec::leaf("Old").from("500101120000Z"), &any),
        "valid"
    );
    assert_eq!(
        under_root(Spec::leaf("Late").from("20260601120001Z"), &any),
        "path.not-yet-valid"
    );
    assert_eq!(
        under_root(Spec::leaf("Now").from("20260601120000Z"), &any),
        "valid"
    );
    assert_eq!(
        under_root(Spec::leaf("Now").until("20260601120000Z"), &any),
        "valid"
    );
    assert_eq!(
        under_root(Spec::leaf("Gone").until("20260601115959Z"), &any),
        "path.expired"
    );
    assert_eq!(
        under_intermediate(Spec::ca("I").until("20260101000000Z"), &any),
        "path.expired"
    );
    let timeless = PathOptions { at: None, ..any };
    assert_eq!(
        under_root(Spec::leaf("Gone").until("20260101000000Z"), &timeless),
        "valid"
    );
}

/// Requirements: X509-4.2.1.9-01, SZTP-5280-6-01
#[test]
fn only_a_ca_issues() {
    let any = options(Purpose::Any);
    let cases = [
        (Spec::ca("I").without("2.5.29.19"), "path.basic-constraints"),
        (
            Spec::ca("I").basic_constraints(Some(false), None),
            "path.basic-constraints",
        ),
        (
            Spec::ca("I").basic_constraints(None, None),
            "path.basic-constraints",
        ),
        (Spec::leaf("I"), "path.basic-constraints"),
        (
            Spec::ca("I").basic_constraints(Some(true), Some(&[0])),
            "valid",
        ),
        (
            Spec::ca("I").basic_constraints(Some(true), Some(&[0x01, 0x00, 0x00])),
            "valid",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(under_intermediate(spec, &any), expected);
    }
    // Version 1 has no basicConstraints, so an intermediate of version 1 is no CA.
    let v1 = Spec::leaf("I").with(|spec| {
        spec.version = None;
        spec.authority_key_id = false;
        spec.subject_key_id = false;
    });
    assert_eq!(
        under_intermediate(v1.clone(), &any),
        "path.basic-constraints"
    );
    // As an anchor somebody decided to trust it.
    let old_root = v1.with(|spec| spec.subject = name("Old Root")).root();
    let leaf = Spec::leaf("Leaf").under(&old_root);
    assert_eq!(code(&leaf, &[], &old_root, &any), "valid");
    assert_eq!(
        code(&leaf, &[], &old_root, &strict()),
        "path.basic-constraints"
    );
}

/// Requirements: X509-4.2.1.9-01
#[test]
fn path_length_counts_below_each_ca() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root")
        .basic_constraints(Some(true), Some(&[1]))
        .root();
    let first = Spec::ca("First").under(&root);
    let second = Spec::ca("Second").under(&first);
    let self_issued = Spec::ca("First").under(&first);
    let leaf = |issuer: &Authority| Spec::leaf("Leaf").under(issuer);
    assert_eq!(code(&leaf(&first), &[&first], &root, &any), "valid");
    assert_eq!(
        code(&leaf(&second), &[&first, &second], &root, &any),
        "path.path-length"
    );
    assert_eq!(
        code(&leaf(&self_issued), &[&first, &self_issued], &root, &any),
        "valid"
    );
    // The leaf is not counted, even if it is a CA.
    assert_eq!(code(&second, &[&first], &root, &any), "valid");
}

/// Requirements: X509-4.2.1.3-01
#[test]
fn key_usage_of_issuers() {
    let any = options(Purpose::Any);
    let cases = [
        (Spec::ca("I").key_usage(0x02, 1), "path.key-usage"),
        (Spec::ca("I").key_usage(0x80, 7), "path.key-usage"),
        (Spec::ca("I").key_usage(0x04, 2), "valid"),
        (Spec::ca("I").without("2.5.29.15"), "valid"),
    ];
    for (spec, expected) in cases {
        assert_eq!(under_intermediate(spec, &any), expected);
    }
    let root = Spec::ca("Root").key_usage(0x02, 1).root();
    assert_eq!(
        code(&Spec::leaf("Leaf").under(&root), &[], &root, &any),
        "path.key-usage"
    );
}

/// Requirements: X509-4.2-01, DTL-037
#[test]
fn unknown_extensions() {
    let any = options(Purpose::Any);
    let unknown = "1.3.6.1.4.1.99999.42";
    let extended = |spec: Spec, critical: bool| spec.extension(unknown, critical, tlv(0x05, &[]));
    assert_eq!(
        under_root(extended(Spec::leaf("L"), true), &any),
        "path.critical-extension"
    );
    assert_eq!(under_root(extended(Spec::leaf("L"), false), &any), "valid");
    assert_eq!(
        under_intermediate(extended(Spec::ca("I"), true), &any),
        "path.critical-extension"
    );
    assert_eq!(
        under_intermediate(extended(Spec::ca("I"), false), &any),
        "valid"
    );
    let qualifier = seq(&[seq(&[oid("1.3.6.1.4.1.99999.8"), tlv(0x05, &[])])]);
    let policy = seq(&[seq(&[oid("1.2.3"), qualifier])]);
    let qualified = |critical| Spec::leaf("L").extension("2.5.29.32", critical, policy.clone());
    assert_eq!(under_root(qualified(true), &any), "path.critical-extension");
    assert_eq!(under_root(qualified(false), &any), "valid");
    // A trusted key stays one whatever its certificate says, but not where RFC 5280 is asked for whole.
    let root = extended(Spec::ca("Root"), true).root();
    let leaf = Spec::leaf("Leaf").under(&root);
    assert_eq!(code(&leaf, &[], &root, &any), "valid");
    assert_eq!(
        code(&leaf, &[], &root, &strict()),
        "path.critical-extension"
    );
}

#[test]
fn malformed_extensions() {
    let any = options(Purpose::Any);
    let cases: [(&str, Vec<u8>); 14] = [
        ("2.5.29.14", tlv(0x03, &[0])),
        ("2.5.29.15", tlv(0x03, &[7, 0x00])),
        ("2.5.29.17", seq(&[])),
        ("2.5.29.17", seq(&[tlv(0x82, "bücher.example".as_bytes())])),
        ("2.5.29.17", tlv(0x04, b"not a sequence")),
        ("2.5.29.19", seq(&[tlv(0x01, &[0x01])])),
        ("2.5.29.19", seq(&[tlv(0x01, &[0xff]), tlv(0x02, &[0xff])])),
        (
            "2.5.29.32",
            seq(&[seq(&[oid("1.2.3")]), seq(&[oid("1.2.3")])]),
        ),
        ("2.5.29.33", seq(&[])),
        ("2.5.29.35", seq(&[tlv(0x82, &[1])])),
        ("2.5.29.36", seq(&[])),
        ("2.5.29.37", seq(&[])),
        ("2.5.29.31", seq(&[seq(&[tlv(0x81, &[1, 0x80])])])),
        ("1.3.6.1.5.5.7.1.1", seq(&[])),
    ];
    for (id, value) in cases {
        let spec = Spec::leaf("L")
            .with(|spec| {
                spec.authority_key_id = false;
                spec.subject_key_id = false;
            })
            .extension(id, false, value);
        assert_eq!(under_root(spec, &any), "path.malformed", "{id}");
    }
    let constrained = Spec::leaf("L").constrained(&[dns("example")], &[]);
    assert_eq!(under_root(constrained, &any), "path.malformed");
    let twice = Spec::leaf("L").dns_name("a.example").another_extension(
        "2.5.29.17",
        false,
        seq(&[dns("b.example")]),
    );
    let (der, _) = twice.encode(None);
    assert_eq!(
        Certificate::from_der(&der).unwrap_err().code(),
        "pki.certificate-malformed"
    );
}

/// Requirements: X509-4.1.2.2-01
#[test]
fn certificate_serial_numbers() {
    let with = |serial: &[u8]| Spec::leaf("L").with(|spec| spec.serial = serial.to_vec());
    let mut long = vec![0x7f; 20];
    assert_eq!(under_root(with(&long), &strict()), "valid");
    assert_eq!(under_root(with(&[0xff]), &strict()), "path.profile");
    assert_eq!(under_root(with(&[0xff]), &options(Purpose::Any)), "valid");
    assert_eq!(under_root(with(&[0]), &strict()), "path.profile");
    assert_eq!(under_root(with(&[0]), &options(Purpose::Any)), "valid");
    long.push(0x7f);
    assert_eq!(under_root(with(&long), &strict()), "path.profile");
    let root = Spec::ca("Root").root();
    long.push(0x7f);
    let (der, _) = with(&long).encode(Some(&root));
    assert!(Certificate::from_der(&der).is_err());
}

#[test]
fn the_strict_profile_wants_what_issuers_must_do() {
    let lenient = options(Purpose::Any);
    let no_key_ids = |spec: Spec, authority: bool| {
        spec.with(|spec| {
            spec.authority_key_id &= !authority;
            spec.subject_key_id &= authority;
        })
    };
    let critical_key_id = Spec::leaf("L")
        .with(|spec| spec.subject_key_id = false)
        .extension("2.5.29.14", true, tlv(0x04, b"id"));
    let empty_subject = Spec::leaf("").dns_name("leaf.example");
    let leaves = [
        (no_key_ids(Spec::leaf("L"), true), "path.key-identifier"),
        (no_key_ids(Spec::leaf("L"), false), "valid"),
        (critical_key_id, "path.key-identifier"),
        (Spec::leaf("L").key_usage(0x84, 2), "path.profile"),
        (empty_subject, "path.profile"),
    ];
    for (spec, expected) in leaves {
        assert_eq!(under_root(spec.clone(), &lenient), "valid");
        assert_eq!(under_root(spec, &strict()), expected);
    }
    let named = seq(&[dns("leaf.example")]);
    assert_eq!(
        under_root(
            Spec::leaf("").extension("2.5.29.17", true, named),
            &strict()
        ),
        "valid"
    );
    let not_critical = Spec::ca("I").extension("2.5.29.19", false, seq(&[tlv(0x01, &[0xff])]));
    let intermediates = [
        (no_key_ids(Spec::ca("I"), false), "path.key-identifier"),
        (no_key_ids(Spec::ca("I"), true), "path.key-identifier"),
        (not_critical, "path.profile"),
    ];
    for (spec, expected) in intermediates {
        assert_eq!(under_intermediate(spec.clone(), &lenient), "valid");
        assert_eq!(under_intermediate(spec, &strict()), expected);
    }
}

/// Requirements: BRSKI-5.5.4-01, EST-3.3.1-01, EST-3.3.2-02
#[test]
fn purposes() {
    use Purpose::{Any, Client, Idevid, Masa, Registrar, Server};
    let signing = || Spec::leaf("L").digital_signature();
    let critical = |purposes: &[&str]| {
        let list: Vec<Vec<u8>> = purposes.iter().map(|purpose| oid(purpose)).collect();
        signing().extension("2.5.29.37", true, seq(&list))
    };
    let encryption = || Spec::leaf("L").key_usage(0x20, 5);
    let any_purpose = "2.5.29.37.0";
    let cases = [
        (
            Spec::leaf("L"),
            [Any, Server, Client, Masa, Idevid].as_slice(),
        ),
        (signing(), &[Any, Server, Client, Masa, Idevid]),
        (encryption(), &[Any, Server]),
        (signing().purposes(&[SERVER_AUTH]), &[Any, Server, Masa]),
        (
            signing().purposes(&[CLIENT_AUTH]),
            &[Any, Client, Masa, Idevid],
        ),
        (critical(&[CMC_RA]), &[Any, Masa, Registrar]),
        (
            signing().purposes(&[any_purpose]),
            &[Any, Server, Client, Masa, Idevid],
        ),
        (
            signing().purposes(&[CMC_RA, SERVER_AUTH, CLIENT_AUTH]),
            &[Any, Server, Client, Masa, Registrar, Idevid],
        ),
        (encryption().purposes(&[CMC_RA]), &[Any]),
    ];
    for (index, (spec, allowed)) in cases.into_iter().enumerate() {
        for purpose in [Any, Server, Client, Masa, Registrar, Idevid] {
            let answer = under_root(spec.clone(), &options(purpose));
            assert_eq!(
                answer == "valid",
                allowed.contains(&purpose),
                "{index} {purpose:?}: {answer}"
            );
        }
    }
    // An extendedKeyUsage in a CA limits what is below it for TLS.
    let limited = Spec::ca("I").purposes(&[CLIENT_AUTH]);
    assert_eq!(
        under_intermediate(limited.clone(), &options(Server)),
        "path.eku"
    );
    assert_eq!(under_intermediate(limited, &options(Client)), "valid");
}

#[test]
fn policies() {
    let (gold, silver) = ("1.3.6.1.4.1.99999.7.1", "1.3.6.1.4.1.99999.7.2");
    let root = Spec::ca("Root").root();
    let ca = Spec::ca("I").policies(&[gold]).under(&root);
    let leaf = |policy| Spec::leaf("L").policies(&[policy]).under(&ca);
    let asking = |policy: &str, require_explicit| {
        let mut options = options(Purpose::Any);
        options.policies.initial = vec![pki::ObjectIdentifier::new(policy).unwrap()];
        options.policies.require_explicit = require_explicit;
        options
    };
    let found = path(&leaf(gold), &[&ca], &root, &asking(gold, true)).unwrap();
    assert_eq!(
        found.policies(),
        [pki::ObjectIdentifier::new(gold).unwrap()]
    );
    assert_eq!(
        code(&leaf(gold), &[&ca], &root, &asking(silver, true)),
        "path.policy"
    );
    assert_eq!(
        code(&leaf(silver), &[&ca], &root, &asking(gold, true)),
        "path.policy"
    );
    assert_eq!(
        code(&leaf(silver), &[&ca], &root, &asking(gold, false)),
        "valid"
    );
}

#[test]
fn algorithms_and_keys() {
    let any = options(Purpose::Any);
    for kind in [
        KeyKind::EcdsaP384,
        KeyKind::EcdsaP521,
        KeyKind::Ed25519,
        KeyKind::Rsa2048,
        KeyKind::MlDsa65,
    ] {
        let root = Spec::ca("Root").with(|spec| spec.kind = kind).root();
        let leaf = Spec::leaf("L").with(|spec| spec.kind = kind).under(&root);
        assert_eq!(code(&leaf, &[], &root, &any), "valid", "{kind:?}");
    }
}
