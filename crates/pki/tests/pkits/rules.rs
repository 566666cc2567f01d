//! Path validation rule by rule, with certificates made to break one each.

use pki::path::{
    Anchors, PathLimits, PathOptions, Purpose, Revocation, ServerName, ValidPath, validate,
};
use pki::{Certificate, Coded as _, KeyKind};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::forge::{
    Authority, CLIENT_AUTH, CMC_RA, CrlSpec, SERVER_AUTH, Spec, directory, dns, email,
    hardware_module, ip, name, oid, seq, tlv, uri,
};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn options(purpose: Purpose) -> PathOptions {
    PathOptions::new(purpose, NOW)
}

fn strict() -> PathOptions {
    PathOptions {
        strict_profile: true,
        ..options(Purpose::Any)
    }
}

fn code(
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
fn under_root(spec: Spec, options: &PathOptions) -> &'static str {
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
    assert_eq!(under_root(with(&[0xff]), &strict()), "valid");
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

/// Requirements: NAME-6.1-01, NAME-6.3-01, NAME-6.4-01
#[test]
fn server_names() {
    let wanted = |name: ServerName| PathOptions {
        name: Some(name),
        ..options(Purpose::Server)
    };
    let dns_name = |name: &str| wanted(ServerName::Dns(name.into()));
    let common_name = Spec::leaf("masa.example");
    assert_eq!(
        under_root(common_name, &dns_name("masa.example")),
        "path.name-mismatch"
    );
    let server = Spec::leaf("L").alt_names(&[
        dns("masa.example"),
        dns("*.lab.example"),
        ip(&[192, 0, 2, 1]),
    ]);
    let cases = [
        (dns_name("MASA.example"), "valid"),
        (dns_name("masa.example."), "valid"),
        (dns_name("a.lab.example"), "valid"),
        (dns_name("lab.example"), "path.name-mismatch"),
        (dns_name("a.b.lab.example"), "path.name-mismatch"),
        (dns_name("192.0.2.1"), "path.name-mismatch"),
        (wanted(ServerName::Ip([192, 0, 2, 1].into())), "valid"),
        (
            wanted(ServerName::Ip([192, 0, 2, 2].into())),
            "path.name-mismatch",
        ),
    ];
    for (options, expected) in cases {
        assert_eq!(
            under_root(server.clone(), &options),
            expected,
            "{:?}",
            options.name
        );
    }
    let text = Spec::leaf("L").dns_name("192.0.2.1");
    let address = wanted(ServerName::Ip([192, 0, 2, 1].into()));
    assert_eq!(under_root(text, &address), "path.name-mismatch");
}

#[test]
fn name_constraints_of_each_form() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let check = |permitted: &[Vec<u8>], excluded: &[Vec<u8>], leaf: Spec| {
        let ca = Spec::ca("I").constrained(permitted, excluded).under(&root);
        code(&leaf.under(&ca), &[&ca], &root, &any)
    };
    const OUT: &str = "path.name-constraint";
    let named = |name: Vec<u8>| Spec::leaf("").alt_names(&[name]);
    let net = |octets: [u8; 4], mask: [u8; 4]| ip(&[octets, mask].concat());
    let subnet = net([192, 0, 2, 0], [255, 255, 255, 0]);
    let cases = [
        (
            vec![dns("example")],
            vec![],
            named(dns("a.example")),
            "valid",
        ),
        (vec![dns("example")], vec![], named(dns("a.other")), OUT),
        (vec![dns("example")], vec![], named(dns("a_b.example")), OUT),
        (
            vec![],
            vec![dns("bad.example")],
            named(dns("x.bad.example")),
            OUT,
        ),
        (
            vec![],
            vec![dns("bad.example")],
            named(dns("*.example")),
            OUT,
        ),
        (
            vec![dns("example")],
            vec![],
            named(ip(&[10, 0, 0, 1])),
            "valid",
        ),
        (
            vec![subnet.clone()],
            vec![],
            named(ip(&[192, 0, 2, 7])),
            "valid",
        ),
        (
            vec![subnet.clone()],
            vec![],
            named(ip(&[192, 0, 3, 7])),
            OUT,
        ),
        (vec![], vec![subnet], named(ip(&[192, 0, 2, 7])), OUT),
        (
            vec![net([1, 2, 3, 4], [255, 0, 255, 0])],
            vec![],
            named(ip(&[1, 2, 3, 4])),
            OUT,
        ),
        (
            vec![email("example")],
            vec![],
            named(email("me@example")),
            "valid",
        ),
        (
            vec![email("example")],
            vec![],
            Spec::leaf("x/email=me@other"),
            OUT,
        ),
        (
            vec![email("example")],
            vec![],
            Spec::leaf("x/email=me@example"),
            "valid",
        ),
        (
            vec![uri(".example")],
            vec![],
            named(uri("https://a.example/x")),
            "valid",
        ),
        (vec![uri(".example")], vec![], named(uri("urn:uuid:1")), OUT),
        (
            vec![directory("Org")],
            vec![],
            Spec::leaf("Org/Device"),
            "valid",
        ),
        (
            vec![directory("Org")],
            vec![],
            Spec::leaf("Other/Device"),
            OUT,
        ),
        (
            vec![directory("Org")],
            vec![],
            named(directory("org/device")),
            "valid",
        ),
        (
            vec![],
            vec![directory("Org/Device")],
            Spec::leaf("ORG/device/7"),
            OUT,
        ),
        (vec![dns(".example")], vec![], named(dns("a.example")), OUT),
        (vec![dns("*.example")], vec![], named(dns("a.example")), OUT),
        // hardwareModuleName is a form of its own.
        (
            vec![dns("example"), email("example")],
            vec![],
            named(hardware_module(b"1")),
            "valid",
        ),
        (
            vec![directory("Org")],
            vec![],
            named(hardware_module(b"1")),
            "valid",
        ),
        (
            vec![],
            vec![hardware_module(b"2")],
            named(hardware_module(b"1")),
            OUT,
        ),
        (
            vec![hardware_module(b"1")],
            vec![],
            named(hardware_module(b"1")),
            "valid",
        ),
        (
            vec![hardware_module(b"2")],
            vec![],
            named(hardware_module(b"1")),
            OUT,
        ),
        (
            vec![],
            vec![tlv(0x88, &[0x2a, 3])],
            named(tlv(0x88, &[0x2a, 4])),
            OUT,
        ),
    ];
    for (index, (permitted, excluded, leaf, expected)) in cases.into_iter().enumerate() {
        assert_eq!(check(&permitted, &excluded, leaf), expected, "{index}");
    }
}

#[test]
fn name_constraints_only_narrow() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").constrained(&[dns("example")], &[]).root();
    let wider = Spec::ca("I").constrained(&[dns("other")], &[]).under(&root);
    let leaf = |name: &str, ca: &Authority| Spec::leaf("").dns_name(name).under(ca);
    assert_eq!(
        code(&leaf("a.other", &wider), &[&wider], &root, &any),
        "path.name-constraint"
    );
    assert_eq!(
        code(&leaf("a.example", &wider), &[&wider], &root, &any),
        "path.name-constraint"
    );
    let narrower = Spec::ca("I")
        .constrained(&[dns("a.example")], &[])
        .under(&root);
    assert_eq!(
        code(&leaf("x.a.example", &narrower), &[&narrower], &root, &any),
        "valid"
    );
    assert_eq!(
        code(&leaf("b.example", &narrower), &[&narrower], &root, &any),
        "path.name-constraint"
    );
    let empty = Spec::ca("I")
        .extension("2.5.29.30", true, seq(&[]))
        .under(&root);
    // A CA that cannot be read does not exist.
    assert_eq!(
        code(&leaf("a.example", &empty), &[&empty], &root, &any),
        "path.unknown-issuer"
    );
    let minimum = seq(&[seq(&[dns("example"), tlv(0x80, &[1])])]);
    let minimum = Spec::ca("I").extension("2.5.29.30", true, tlv(0x30, &tlv(0xa0, &minimum[2..])));
    let minimum = minimum.under(&root);
    assert_eq!(
        code(&leaf("a.example", &minimum), &[&minimum], &root, &any),
        "path.unknown-issuer"
    );
}

/// Requirements: BRSKI-5.5.3-02
#[test]
fn revocation() {
    let root = Spec::ca("Root").root();
    let intermediate = Spec::ca("I")
        .with(|spec| spec.serial = vec![7])
        .under(&root);
    let leaf = Spec::leaf("L").under(&intermediate);
    let with = |crls: Vec<pki::Crl>, revocation| PathOptions {
        crls,
        revocation,
        ..options(Purpose::Any)
    };
    let check = |crls, revocation| code(&leaf, &[&intermediate], &root, &with(crls, revocation));
    let clean = || {
        vec![
            CrlSpec::new().sign(&root),
            CrlSpec::new().sign(&intermediate),
        ]
    };
    let one = |crl: pki::Crl| vec![CrlSpec::new().sign(&root), crl];
    use Revocation::{BestEffort, Required};
    assert_eq!(check(clean(), Required), "valid");
    assert_eq!(check(vec![], Required), "path.crl-missing");
    assert_eq!(check(vec![], BestEffort), "valid");
    assert_eq!(
        check(vec![CrlSpec::new().sign(&root)], Required),
        "path.crl-missing"
    );
    assert_eq!(check(vec![CrlSpec::new().sign(&root)], BestEffort), "valid");
    let revoked = || CrlSpec::new().revoke(&leaf.certificate);
    for mode in [Required, BestEffort] {
        assert_eq!(
            check(one(revoked().sign(&intermediate)), mode),
            "path.revoked"
        );
        let ca = CrlSpec::new().revoke(&intermediate.certificate).sign(&root);
        assert_eq!(
            check(vec![ca, CrlSpec::new().sign(&intermediate)], mode),
            "path.revoked"
        );
        // What a stale CRL lists stays revoked.
        let stale = revoked().until("20260201000000Z").sign(&intermediate);
        assert_eq!(check(one(stale), mode), "path.revoked");
    }
    let stale = || CrlSpec::new().until("20260201000000Z").sign(&intermediate);
    assert_eq!(check(one(stale()), Required), "path.crl-expired");
    assert_eq!(check(one(stale()), BestEffort), "valid");
    let namesake = Spec::ca("I").root();
    assert_eq!(check(one(revoked().sign(&namesake)), BestEffort), "valid");
    assert_eq!(
        check(one(CrlSpec::new().sign(&namesake)), Required),
        "path.crl-invalid"
    );
    let unknown = CrlSpec::new()
        .extension("1.3.6.1.4.1.99999.1", true, &[5, 0])
        .sign(&intermediate);
    assert_eq!(check(one(unknown), Required), "path.crl-invalid");
    for number in [None, Some((true, 1))] {
        let crl = || {
            let mut spec = CrlSpec::new();
            spec.number = number;
            one(spec.sign(&intermediate))
        };
        assert_eq!(check(crl(), Required), "valid");
        let strict = PathOptions {
            strict_profile: true,
            ..with(crl(), Required)
        };
        assert_eq!(
            code(&leaf, &[&intermediate], &root, &strict),
            "path.crl-invalid"
        );
    }
    let version_1 = |spec: CrlSpec| one(spec.with_version(None).sign(&intermediate));
    let bare = || {
        let mut spec = CrlSpec::new();
        spec.number = None;
        spec
    };
    assert_eq!(check(version_1(bare()), Required), "valid");
    assert_eq!(
        check(version_1(bare().revoke(&leaf.certificate)), Required),
        "path.revoked"
    );
    assert_eq!(
        check(version_1(CrlSpec::new()), Required),
        "path.crl-missing"
    );
    let point = |content: Vec<u8>| {
        one(CrlSpec::new()
            .extension("2.5.29.28", true, &content)
            .sign(&intermediate))
    };
    assert_eq!(check(point(seq(&[tlv(0x81, &[0xff])])), Required), "valid");
    assert_eq!(
        check(point(seq(&[tlv(0x82, &[0xff])])), Required),
        "path.crl-missing"
    );
    assert_eq!(check(point(seq(&[])), Required), "path.crl-missing");
    // The later issue counts, in whatever order they are given; without numbers each entry does.
    let earlier = || CrlSpec::new().with_number(4);
    let later = || CrlSpec::new().with_number(5);
    let (first, second) = (
        earlier().sign(&intermediate),
        later().revoke(&leaf.certificate).sign(&intermediate),
    );
    let held = (
        earlier().revoke(&leaf.certificate).sign(&intermediate),
        later().sign(&intermediate),
    );
    let clean_root = || CrlSpec::new().sign(&root);
    for mode in [Required, BestEffort] {
        assert_eq!(
            check(vec![clean_root(), first.clone(), second.clone()], mode),
            "path.revoked"
        );
        assert_eq!(
            check(vec![clean_root(), second.clone(), first.clone()], mode),
            "path.revoked"
        );
        assert_eq!(
            check(vec![clean_root(), held.0.clone(), held.1.clone()], mode),
            "valid"
        );
        assert_eq!(
            check(vec![clean_root(), held.1.clone(), held.0.clone()], mode),
            "valid"
        );
    }
    // A number alone supersedes nothing: the signature must be the issuer's.
    let forged = CrlSpec::new().with_number(9).sign(&namesake);
    let crls = || vec![clean_root(), revoked().sign(&intermediate), forged.clone()];
    assert_eq!(check(crls(), Required), "path.revoked");
    // Another certificate's serial number.
    let other = CrlSpec::new()
        .revoke(&intermediate.certificate)
        .sign(&intermediate);
    assert_eq!(check(one(other), Required), "valid");
}

#[test]
fn a_crl_signer_needs_the_right_and_a_path() {
    let root = Spec::ca("Root").root();
    let no_right = Spec::ca("I").key_usage(0x04, 2).under(&root);
    let leaf = Spec::leaf("L").under(&no_right);
    let crls = vec![CrlSpec::new().sign(&root), CrlSpec::new().sign(&no_right)];
    let required = PathOptions {
        crls,
        revocation: Revocation::Required,
        ..options(Purpose::Any)
    };
    assert_eq!(
        code(&leaf, &[&no_right], &root, &required),
        "path.crl-invalid"
    );
    // The same CA name with a key for CRLs, below the same root.
    let signer = Spec::leaf("I")
        .with(|spec| spec.serial = vec![5])
        .key_usage(0x02, 1)
        .under(&root);
    let crls = vec![CrlSpec::new().sign(&root), CrlSpec::new().sign(&signer)];
    let required = PathOptions {
        crls: crls.clone(),
        ..required
    };
    assert_eq!(
        code(&leaf, &[&no_right, &signer], &root, &required),
        "valid"
    );
    assert_eq!(
        code(&leaf, &[&no_right], &root, &required),
        "path.crl-invalid"
    );
    // Once the signer itself is revoked, what it signs counts for nothing.
    let revoked = CrlSpec::new()
        .with_number(2)
        .revoke(&signer.certificate)
        .sign(&root);
    let mut spec = required.clone();
    spec.crls = vec![revoked, CrlSpec::new().sign(&signer)];
    assert_eq!(
        code(&leaf, &[&no_right, &signer], &root, &spec),
        "path.crl-invalid"
    );
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

/// Many CAs of one name and many keys: every one could be the issuer, none is.
#[test]
fn hostile_heaps_end() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let mut heap: Vec<Authority> = Vec::new();
    for _ in 0..60 {
        let maker = heap
            .last()
            .cloned()
            .unwrap_or_else(|| Spec::ca("Same").root());
        heap.push(
            Spec::ca("Same")
                .with(|spec| spec.authority_key_id = false)
                .under(&maker),
        );
    }
    let leaf = Spec::leaf("L")
        .with(|spec| spec.authority_key_id = false)
        .under(&heap[59]);
    let others: Vec<&Authority> = heap.iter().collect();
    assert_eq!(code(&leaf, &others, &root, &any), "path.too-complex");
    let few = PathOptions {
        limits: PathLimits {
            certificates_max: 10,
            ..PathLimits::default()
        },
        ..any.clone()
    };
    assert_eq!(code(&leaf, &others, &root, &few), "path.too-complex");

    let names: Vec<Vec<u8>> = (0..400).map(|n| dns(&format!("n{n}.example"))).collect();
    let bases: Vec<Vec<u8>> = (0..400).map(|n| dns(&format!("x{n}.example"))).collect();
    let ca = Spec::ca("I").constrained(&[], &bases).under(&root);
    let leaf = Spec::leaf("L").alt_names(&names).under(&ca);
    assert_eq!(code(&leaf, &[&ca], &root, &any), "path.too-complex");
}

#[test]
fn long_paths_end() {
    let root = Spec::ca("Root").root();
    let mut chain = vec![Spec::ca("CA 0").under(&root)];
    for n in 1..9 {
        let next = Spec::ca(&format!("CA {n}")).under(chain.last().unwrap());
        chain.push(next);
    }
    let any = options(Purpose::Any);
    let at = |depth: usize| {
        let leaf = Spec::leaf("L").under(&chain[depth]);
        let others: Vec<&Authority> = chain.iter().collect();
        code(&leaf, &others, &root, &any)
    };
    assert_eq!(at(7), "valid");
    assert_eq!(at(8), "path.path-length");
}

/// Two CAs that certify each other, and a leaf below them.
#[test]
fn cycles_end() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let a = Spec::ca("A").root();
    let b = Spec::ca("B").under(&a);
    let a_by_b = Spec::ca("A")
        .with(|spec| spec.key = Some(a.key.clone()))
        .under(&b);
    let leaf = Spec::leaf("L").under(&a);
    assert_eq!(
        code(&leaf, &[&a, &b, &a_by_b], &root, &any),
        "path.unknown-issuer"
    );
    // With one of them under the root there is a way out.
    let a_by_root = Spec::ca("A")
        .with(|spec| spec.key = Some(a.key.clone()))
        .under(&root);
    assert_eq!(
        code(&leaf, &[&a, &b, &a_by_b, &a_by_root], &root, &any),
        "valid"
    );
}

/// Layers of CAs, each certified by all of the layer above: many paths from few certificates.
#[test]
fn meshes_end() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let expired = Spec::ca("Top").until("20260101000000Z").under(&root);
    let mut layer = vec![expired];
    let mut all = layer.clone();
    for depth in 0..7 {
        let mut next: Vec<Authority> = Vec::new();
        for twin in 0..2 {
            let name = format!("CA {depth}");
            let key = Some(Spec::ca("key").root().key);
            for above in &layer {
                let spec = Spec::ca(&name).with(|spec| {
                    spec.key = key.clone();
                    spec.serial = vec![1, depth, twin];
                });
                next.push(spec.under(above));
            }
        }
        next.truncate(4);
        all.extend(next.iter().cloned());
        layer = next;
    }
    let leaf = Spec::leaf("L").under(&layer[0]);
    let others: Vec<&Authority> = all.iter().collect();
    let started = std::time::Instant::now();
    let answer = code(&leaf, &others, &root, &any);
    assert!(
        ["path.expired", "path.too-complex"].contains(&answer),
        "{answer}"
    );
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

/// The first path that is found is not the only one.
#[test]
fn another_path_is_tried_when_one_fails() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let expired = Spec::ca("I").until("20260101000000Z").under(&root);
    let renewed = Spec::ca("I")
        .with(|spec| spec.key = Some(expired.key.clone()))
        .under(&root);
    let leaf = Spec::leaf("L").under(&expired);
    assert_eq!(code(&leaf, &[&expired, &renewed], &root, &any), "valid");
    assert_eq!(code(&leaf, &[&expired], &root, &any), "path.expired");
}
