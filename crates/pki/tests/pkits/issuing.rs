//! What is issued holds before OpenSSL and before our own path validation, and what should not be signed
//! is not.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pki::issue::{AltName, CertificateBuilder, CrlBuilder, Profile, RevocationReason, lint, name};
use pki::path::{Anchors, PathOptions, Purpose, Revocation, validate};
use pki::{
    Certificate, Coded as _, Csr, CsrBuilder, HardwareModuleName, KeyKind, ObjectIdentifier,
    Signer, SoftwareKey,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::forge::Spec;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const FOREVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

struct Entity {
    certificate: Certificate,
    signer: Arc<dyn Signer>,
}

fn builder(profile: Profile, subject: &str, signer: &dyn Signer, serial: u8) -> CertificateBuilder {
    let not_after = if profile == Profile::Idevid {
        FOREVER
    } else {
        NOW + Duration::days(700)
    };
    let key = signer.public_key().clone();
    CertificateBuilder::new(
        profile,
        name(subject).unwrap(),
        key,
        [serial; 16],
        NOW,
        not_after,
    )
}

fn key(kind: KeyKind) -> Arc<dyn Signer> {
    Arc::new(SoftwareKey::generate(kind).unwrap())
}

fn root(kind: KeyKind) -> Entity {
    let signer = key(kind);
    let certificate =
        builder(Profile::RootCa, "CN=Root,O=Test", signer.as_ref(), 1).self_sign(signer.as_ref());
    Entity {
        certificate: certificate.unwrap(),
        signer,
    }
}

fn issue(
    issuer: &Entity,
    kind: KeyKind,
    profile: Profile,
    subject: &str,
    change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
) -> Result<Entity, pki::Error> {
    let signer = key(kind);
    let certificate = change(builder(profile, subject, signer.as_ref(), 0x42))
        .issue(&issuer.certificate, issuer.signer.as_ref())?;
    Ok(Entity {
        certificate,
        signer,
    })
}

fn openssl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// One certificate of each profile, the root first.
fn world(kind: KeyKind) -> Vec<(&'static str, Entity)> {
    let root = root(kind);
    let sub_ca = Profile::SubCa {
        path_length: Some(0),
    };
    let sub_ca = issue(&root, kind, sub_ca, "CN=Sub CA,O=Test", |ca| ca).unwrap();
    let under = |profile, subject: &str, change: fn(CertificateBuilder) -> CertificateBuilder| {
        issue(&sub_ca, kind, profile, subject, change).unwrap()
    };
    let registrar = under(Profile::Registrar, "CN=Registrar", |it| {
        it.dns_name("registrar.example")
    });
    let server = under(Profile::TlsServer, "CN=Server", |it| {
        it.dns_name("masa.example")
            .alt_name(AltName::Ip([192, 0, 2, 1].into()))
    });
    let client = under(Profile::TlsClient, "CN=Client", |it| {
        it.alt_name(AltName::Email("client@example.com".into()))
    });
    let masa = under(Profile::MasaSigner, "CN=Voucher Signer", |it| it);
    let idevid = under(Profile::Idevid, "serialNumber=JADA123,CN=Device", |it| {
        it.masa_url("masa.example")
            .alt_name(AltName::HardwareModule(HardwareModuleName {
                hardware_type: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.1"),
                serial_number: b"JADA123".to_vec(),
            }))
    });
    let ldevid = under(Profile::Ldevid, "serialNumber=JADA123,O=Owner", |it| {
        it.dns_name("jada123.owner.example")
            .alt_name(AltName::Uri("urn:dev:jada123".into()))
            .crl_url("http://crl.example/owner.crl")
    });
    vec![
        ("root", root),
        ("sub", sub_ca),
        ("registrar", registrar),
        ("server", server),
        ("client", client),
        ("masa", masa),
        ("idevid", idevid),
        ("ldevid", ldevid),
    ]
}

/// Requirements: CBR-099, CBR-100, BRSKI-5.8.2-03, BRSKI-2.3-02, BRSKI-2.3.2-06, X509-4.2.1.2-01,
/// BRSKI-2.6.2-01, BRSKI-2.8-01
#[test]
fn openssl_reads_and_verifies_each_profile() {
    for kind in [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP384,
        KeyKind::Ed25519,
        KeyKind::Rsa2048,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let world = world(kind);
        for (file, entity) in &world {
            std::fs::write(folder.path().join(file), entity.certificate.to_pem()).unwrap();
        }
        let purposes = [
            ("registrar", "sslserver"),
            ("registrar", "sslclient"),
            ("server", "sslserver"),
            ("client", "sslclient"),
            ("masa", "any"),
            ("idevid", "any"),
            ("ldevid", "sslclient"),
        ];
        for (file, purpose) in purposes {
            let (good, text) = openssl(
                folder.path(),
                &[
                    "verify",
                    "-x509_strict",
                    "-attime",
                    "1790000000",
                    "-purpose",
                    purpose,
                    "-CAfile",
                    "root",
                    "-untrusted",
                    "sub",
                    file,
                ],
            );
            assert!(good, "{kind:?} {file}: {text}");
        }
        let show = |file: &str| openssl(folder.path(), &["x509", "-in", file, "-noout", "-text"]).1;
        let registrar = show("registrar");
        for expected in [
            "CMC Registration Authority",
            "Subject Key Identifier",
            "DNS:registrar.example",
        ] {
            assert!(registrar.contains(expected), "{expected} in {registrar}");
        }
        let idevid = show("idevid");
        assert!(
            idevid.contains("Not After : Dec 31 23:59:59 9999 GMT"),
            "{idevid}"
        );
        assert!(
            idevid.contains("1.3.6.1.5.5.7.1.32: \n"),
            "the MASA URL is not critical: {idevid}"
        );
        assert!(!idevid.contains("Key Usage"), "{idevid}");
        let sub = show("sub");
        assert!(
            sub.contains("CA:TRUE, pathlen:0") && sub.contains("Certificate Sign, CRL Sign"),
            "{sub}"
        );
        let ldevid = show("ldevid");
        assert!(
            ldevid.contains("URI:http://crl.example/owner.crl"),
            "{ldevid}"
        );
    }
}

#[test]
fn own_path_validation_takes_each_profile_strictly() {
    for kind in [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP521,
        KeyKind::MlDsa44,
        KeyKind::MlDsa87,
    ] {
        let world = world(kind);
        let find = |wanted: &str| {
            let found = world.iter().find(|(file, _)| *file == wanted);
            found.map(|(_, entity)| entity.certificate.clone()).unwrap()
        };
        let anchors = Anchors::from(find("root"));
        let purposes = [
            ("registrar", Purpose::Registrar),
            ("registrar", Purpose::Server),
            ("registrar", Purpose::Client),
            ("server", Purpose::Server),
            ("client", Purpose::Client),
            ("masa", Purpose::Masa),
            ("idevid", Purpose::Idevid),
            ("ldevid", Purpose::Client),
        ];
        for (file, purpose) in purposes {
            let options = PathOptions {
                strict_profile: true,
                ..PathOptions::new(purpose, NOW)
            };
            let path = validate(&find(file), &[find("sub")], &anchors, &options);
            assert_eq!(
                path.map(|path| path.certificates().len()),
                Ok(3),
                "{kind:?} {file}"
            );
        }
        let idevid = find("idevid");
        assert_eq!(idevid.masa_url().as_deref(), Some("masa.example"));
        assert_eq!(idevid.subject_serial_number().as_deref(), Some("JADA123"));
        assert_eq!(
            idevid.hardware_module_name().unwrap().serial_number,
            b"JADA123"
        );
    }
}

/// Requirements: X509-4.1.2.2-01
#[test]
fn serial_numbers_are_positive_with_127_bits() {
    let signer = key(KeyKind::EcdsaP256);
    let issue = |serial: [u8; 16]| {
        CertificateBuilder::new(
            Profile::RootCa,
            name("CN=Root").unwrap(),
            signer.public_key().clone(),
            serial,
            NOW,
            FOREVER,
        )
        .self_sign(signer.as_ref())
    };
    let mut expected = [0xff; 16];
    expected[0] = 0x7f;
    assert_eq!(issue([0xff; 16]).unwrap().serial_number(), expected);
    let mut small = [0x91; 16];
    small[0] = 0x80;
    let mut padded = vec![0];
    padded.extend([0x91; 15]);
    assert_eq!(issue(small).unwrap().serial_number(), padded);
    // Sixteen zeros were not drawn by a working generator.
    let error = issue([0; 16]).unwrap_err();
    assert_eq!(error.code(), "pki.profile-lint");
    assert!(error.to_string().contains("serial-entropy"), "{error}");
}

/// The registrar takes the key from a request and chooses everything else itself.
#[test]
fn an_ldevid_from_a_request() {
    let root = root(KeyKind::EcdsaP256);
    let device = key(KeyKind::EcdsaP256);
    let request = CsrBuilder::new(name("CN=Whatever the device wishes").unwrap())
        .sign(device.as_ref())
        .unwrap();
    let request = Csr::from_der(request.der()).unwrap();
    request.verify().unwrap();
    let ldevid = CertificateBuilder::new(
        Profile::Ldevid,
        name("serialNumber=JADA123,O=Owner").unwrap(),
        request.public_key().clone(),
        [0x33; 16],
        NOW,
        NOW + Duration::days(365),
    )
    .dns_name("jada123.owner.example")
    .issue(&root.certificate, root.signer.as_ref())
    .unwrap();
    assert_eq!(ldevid.public_key(), device.public_key());
    assert_eq!(ldevid.subject(), "SERIALNUMBER=JADA123,O=Owner");
    assert_eq!(ldevid.subject_serial_number().as_deref(), Some("JADA123"));
    assert_eq!(ldevid.dns_names(), ["jada123.owner.example"]);
}

/// Requirements: BRSKI-5-08
#[test]
fn the_lint_stops_what_breaks_a_profile() {
    let root = root(KeyKind::EcdsaP256);
    let try_with =
        |profile, subject: &str, change: fn(CertificateBuilder) -> CertificateBuilder| {
            issue(&root, KeyKind::EcdsaP256, profile, subject, change)
                .err()
                .map(|error| error.to_string())
        };
    let cmc_ra =
        |it: CertificateBuilder| it.purposes([ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.28")]);
    let bad: [(&str, Option<String>); 12] = [
        ("server-name", try_with(Profile::TlsServer, "CN=S", |it| it)),
        (
            "dns-name",
            try_with(Profile::TlsServer, "CN=S", |it| {
                it.dns_name("bad_name.example")
            }),
        ),
        (
            "dns-name",
            try_with(Profile::Ldevid, "CN=S", |it| it.dns_name("192.0.2.1")),
        ),
        ("cmc-ra", try_with(Profile::Ldevid, "CN=L", cmc_ra)),
        (
            "cmc-ra",
            try_with(Profile::Registrar, "CN=R", |it| it.purposes([])),
        ),
        (
            "extended-key-usage",
            try_with(Profile::Registrar, "CN=R", cmc_ra),
        ),
        (
            "extended-key-usage",
            try_with(Profile::MasaSigner, "CN=M", |it| {
                it.purposes([ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1")])
            }),
        ),
        (
            "idevid-serial-number",
            try_with(Profile::Idevid, "CN=No number", |it| it),
        ),
        (
            "masa-url",
            try_with(Profile::Ldevid, "CN=L", |it| it.masa_url("masa.example")),
        ),
        (
            "masa-url",
            try_with(Profile::Idevid, "serialNumber=1", |it| {
                it.masa_url("http://masa.example")
            }),
        ),
        ("empty-subject", try_with(Profile::MasaSigner, "", |it| it)),
        (
            "critical-extensions",
            try_with(Profile::Ldevid, "CN=L", |it| {
                it.extension(
                    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.9"),
                    true,
                    vec![5, 0],
                )
            }),
        ),
    ];
    for (rule, error) in bad {
        let error = error.unwrap_or_else(|| panic!("{rule} found nothing"));
        assert!(error.contains(&format!("{rule}: ")), "{rule}: {error}");
    }
    assert_eq!(
        try_with(Profile::Ldevid, "", |it| it.dns_name("only.san.example")),
        None
    );
}

/// Each rule finds its own fault in certificates that others made.
#[test]
fn the_lint_judges_finished_certificates() {
    let root = Spec::ca("Root")
        .with(|spec| spec.serial = vec![0x11; 16])
        .root();
    let rules = |certificate: &Certificate, profile| {
        lint(certificate, profile)
            .iter()
            .map(|finding| finding.rule)
            .collect::<Vec<_>>()
    };
    assert_eq!(rules(&root.certificate, Profile::RootCa), [""; 0]);
    let leaf = || {
        Spec::leaf("Leaf")
            .digital_signature()
            .with(|spec| spec.serial = vec![0x11; 16])
    };
    let signer = |spec: Spec| rules(&spec.under(&root).certificate, Profile::MasaSigner);
    assert_eq!(signer(leaf()), [""; 0]);
    assert_eq!(
        signer(leaf().with(|spec| spec.serial = vec![1])),
        ["serial-entropy"]
    );
    assert_eq!(
        signer(leaf().with(|spec| spec.serial = vec![0x91; 16])),
        ["serial-entropy"]
    );
    assert_eq!(
        signer(leaf().with(|spec| spec.authority_key_id = false)),
        ["key-identifiers"]
    );
    assert_eq!(signer(leaf().without("2.5.29.15")), ["key-usage"]);
    assert_eq!(signer(leaf().key_usage(0x84, 2)), ["key-usage"]);
    assert_eq!(
        signer(leaf().basic_constraints(Some(true), None)),
        ["basic-constraints"]
    );
    assert_eq!(signer(leaf().until("20250101000000Z")), ["validity"]);
    let sub = |spec: Spec| {
        rules(
            &spec.under(&root).certificate,
            Profile::SubCa { path_length: None },
        )
    };
    let ca = || Spec::ca("Sub").with(|spec| spec.serial = vec![0x11; 16]);
    assert_eq!(sub(ca()), [""; 0]);
    assert_eq!(
        sub(ca().with(|spec| spec.subject_key_id = false)),
        ["key-identifiers"]
    );
    assert_eq!(sub(ca().without("2.5.29.19")), ["basic-constraints"]);
    assert_eq!(sub(ca().key_usage(0x04, 2)), ["key-usage"]);
    let same = Spec::ca("Root").with(|spec| spec.serial = vec![0x11; 16]);
    assert_eq!(sub(same), ["root-is-self-issued"]);
}

#[test]
fn only_the_issuers_own_key_signs() {
    let root = root(KeyKind::EcdsaP256);
    let other = key(KeyKind::EcdsaP256);
    let leaf = builder(Profile::MasaSigner, "CN=M", other.as_ref(), 9);
    let error = leaf.issue(&root.certificate, other.as_ref()).unwrap_err();
    assert_eq!(error.code(), "pki.identity-mismatch");
    let no_ca = issue(
        &root,
        KeyKind::EcdsaP256,
        Profile::MasaSigner,
        "CN=M",
        |it| it,
    )
    .unwrap();
    let error = leaf
        .issue(&no_ca.certificate, no_ca.signer.as_ref())
        .unwrap_err();
    assert!(error.to_string().contains("issuer-is-ca"), "{error}");
}

#[test]
fn crls_hold_before_openssl_and_path_validation() {
    for kind in [KeyKind::EcdsaP256, KeyKind::Rsa2048, KeyKind::Ed25519] {
        let root = root(kind);
        let leaf = |serial: u8| {
            let signer = key(KeyKind::EcdsaP256);
            builder(Profile::Ldevid, "CN=Device", signer.as_ref(), serial)
                .issue(&root.certificate, root.signer.as_ref())
                .unwrap()
        };
        let (good, bad) = (leaf(0x21), leaf(0x22));
        let crl = CrlBuilder::new(300, NOW, NOW + Duration::days(7))
            .revoke(bad.serial_number(), NOW, RevocationReason::KeyCompromise)
            .revoke(bad.serial_number(), NOW, RevocationReason::KeyCompromise)
            .revoke(&[0x05], NOW, RevocationReason::Unspecified)
            .issue(&root.certificate, root.signer.as_ref())
            .unwrap();
        let empty = CrlBuilder::new(301, NOW, NOW + Duration::days(7))
            .issue(&root.certificate, root.signer.as_ref())
            .unwrap();
        assert_eq!(crl.revocation(bad.serial_number()), Some(NOW));
        assert_eq!(crl.revocation(good.serial_number()), None);

        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("root", root.certificate.to_pem()),
            ("crl", crl.to_pem()),
            ("good", good.to_pem()),
            ("bad", bad.to_pem()),
            ("empty", empty.to_pem()),
        ];
        for (file, pem) in files {
            std::fs::write(folder.path().join(file), pem).unwrap();
        }
        let (_, text) = openssl(
            folder.path(),
            &["crl", "-in", "crl", "-noout", "-text", "-CAfile", "root"],
        );
        for expected in [
            "verify OK",
            "Version 2",
            "Key Compromise",
            "X509v3 CRL Number",
            "300",
        ] {
            assert!(text.contains(expected), "{kind:?} {expected}: {text}");
        }
        assert_eq!(text.matches("Serial Number:").count(), 2, "{text}");
        let at = (NOW + Duration::days(1)).unix_timestamp().to_string();
        let verify = |crl: &str, file: &str| {
            openssl(
                folder.path(),
                &[
                    "verify",
                    "-x509_strict",
                    "-attime",
                    &at,
                    "-crl_check",
                    "-CAfile",
                    "root",
                    "-CRLfile",
                    crl,
                    file,
                ],
            )
        };
        assert!(verify("crl", "good").0, "{:?}", verify("crl", "good"));
        assert!(verify("empty", "bad").0, "{:?}", verify("empty", "bad"));
        assert!(verify("crl", "bad").1.contains("certificate revoked"));

        let anchors = Anchors::from(root.certificate.clone());
        let options = PathOptions {
            crls: vec![crl],
            revocation: Revocation::Required,
            strict_profile: true,
            ..PathOptions::new(Purpose::Client, NOW)
        };
        assert!(validate(&good, &[], &anchors, &options).is_ok());
        assert_eq!(
            validate(&bad, &[], &anchors, &options).unwrap_err().code(),
            "path.revoked"
        );
    }
}
