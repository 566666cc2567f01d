//! Certificates with their paths, and requests for certificates.

use time::Duration;

use super::{
    super::vectors::{Context, Encoding, Kind, Vector},
    NOW, SERIAL, World,
};
use crate::forge::{
    cms::attribute,
    der,
    key::{Hash, Key, Kind as KeyKind},
    x509::{Authority, CLIENT_AUTH, CMC_RA, Certificate, FOREVER, Request, SERVER_AUTH, name},
};

type Issue = fn(&World) -> Vec<u8>;

fn path(
    id: &str,
    valid: bool,
    requirements: &[&'static str],
    reason: &str,
    purpose: &'static str,
    make: Issue,
) -> Vector {
    let domain = matches!(purpose, "registrar" | "server" | "client");
    Vector::new(
        format!("certificate/{id}"),
        (Kind::Certificate, Encoding::Der),
        valid,
        requirements,
        reason,
        make,
    )
    .context(Context {
        anchors: vec![if domain {
            "pki/domain.pem"
        } else {
            "pki/manufacturer.pem"
        }],
        intermediates: if domain {
            vec![]
        } else {
            vec!["pki/device-ca.pem"]
        },
        purpose: Some(purpose),
        ..Context::default()
    })
}

fn device(world: &World, change: impl FnOnce(Certificate) -> Certificate) -> Vec<u8> {
    let subject = name("Example Manufacturer", "Device", Some(SERIAL));
    world
        .device_ca
        .issue(&subject, world.device.key(), NOW, change)
        .signatory
        .certificate
}

fn registrar(world: &World, change: impl FnOnce(Certificate) -> Certificate) -> Vec<u8> {
    world
        .domain
        .issue(
            &name("", "Registrar", None),
            world.registrar.key(),
            NOW,
            change,
        )
        .signatory
        .certificate
}

/// A device below a CA that is made for it, as the certificate's own intermediate is not known to
/// the verifier: the device CA's name and key with other rules.
fn under(world: &World, change: fn(Certificate) -> Certificate) -> (Vec<u8>, Vec<u8>) {
    let ca = Certificate::new(
        &world.manufacturer.name,
        &name("Example Manufacturer", "Special CA", None),
        world.device_ca.signatory.key.spki(),
        NOW,
    );
    let ca = change(ca).sign(&world.manufacturer.signatory.key);
    let authority = Authority {
        signatory: crate::forge::cms::Signatory {
            certificate: ca.clone(),
            key: world.device_ca.signatory.key.clone(),
        },
        name: name("Example Manufacturer", "Special CA", None),
        above: Vec::new(),
    };
    let leaf = authority.device(
        "Example Manufacturer",
        SERIAL,
        None,
        world.device.key(),
        NOW,
    );
    (leaf.signatory.certificate, ca)
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = devices();
    vectors.extend(registrars());
    vectors.extend(issuers());
    vectors.extend(requests());
    vectors
}

fn devices() -> Vec<Vector> {
    let idevid = "idevid";
    vec![
        path(
            "idevid-good",
            true,
            &["X509-6.1-01"],
            "a device's certificate",
            idevid,
            |world| world.device.certificate().to_vec(),
        ),
        path(
            "idevid-forever",
            true,
            &["X509-4.1.2.5-01"],
            "it is valid until 99991231235959Z",
            idevid,
            |world| device(world, |it| it.with(|it| it.not_after = FOREVER)),
        ),
        path(
            "idevid-year-2999",
            true,
            &["X509-4.1.2.5-01"],
            "it is valid until the year 2999",
            idevid,
            |world| {
                device(world, |it| {
                    it.with(|it| it.not_after = time::macros::datetime!(2999-12-31 00:00:00 UTC))
                })
            },
        ),
        path(
            "idevid-serial-20-octets",
            true,
            &["X509-4.1.2.2-01"],
            "its serial number has 20 octets",
            idevid,
            |world| device(world, |it| it.with(|it| it.serial = vec![0x7f; 20])),
        ),
        path(
            "idevid-serial-1",
            true,
            &["X509-4.1.2.2-01"],
            "its serial number is 1",
            idevid,
            |world| device(world, |it| it.with(|it| it.serial = vec![1])),
        ),
        path(
            "idevid-no-key-usage",
            true,
            &["X509-4.2.1.3-01"],
            "it has no key usage, which then is not limited",
            idevid,
            |world| device(world, |it| it.without("2.5.29.15")),
        ),
        path(
            "idevid-no-issuer-key-id",
            true,
            &["X509-4.2.1.2-01"],
            "it has no authority key identifier; the path is built without",
            idevid,
            |world| device(world, |it| it.without("2.5.29.35")),
        ),
        path(
            "idevid-unknown-extension",
            true,
            &["X509-4.2-01"],
            "it has an extension that nobody has to know",
            idevid,
            |world| {
                device(world, |it| {
                    it.extension("1.3.6.1.4.1.32473.1", false, der::null())
                })
            },
        ),
        path(
            "idevid-critical-extension",
            false,
            &["X509-4.2-01"],
            "it has a critical extension that nobody knows",
            idevid,
            |world| {
                device(world, |it| {
                    it.extension("1.3.6.1.4.1.32473.1", true, der::null())
                })
            },
        ),
        path(
            "idevid-extension-twice",
            false,
            &["X509-4.2-01"],
            "it has an extension twice",
            idevid,
            |world| device(world, |it| it.end_entity(&world.device.key().key_id())),
        ),
        path(
            "idevid-expired",
            false,
            &["X509-6.1-01"],
            "it has expired",
            idevid,
            |world| {
                device(world, |it| {
                    it.with(|it| it.not_after = NOW - Duration::seconds(1))
                })
            },
        ),
        path(
            "idevid-not-yet",
            false,
            &["X509-6.1-01"],
            "it is not valid yet",
            idevid,
            |world| {
                device(world, |it| {
                    it.with(|it| it.not_before = NOW + Duration::seconds(1))
                })
            },
        ),
        path(
            "idevid-last-second",
            true,
            &["X509-6.1-01"],
            "it is valid for this second and no longer",
            idevid,
            |world| device(world, |it| it.with(|it| it.not_after = NOW)),
        ),
        path(
            "idevid-self-signed",
            false,
            &["X509-6.1-01", "BRSKI-5.1-07"],
            "it is signed by its own key",
            idevid,
            |world| {
                let subject = name("Example Manufacturer", "Device", Some(SERIAL));
                Certificate::new(&subject, &subject, world.device.key().spki(), NOW)
                    .end_entity(&world.device.key().key_id())
                    .sign(world.device.key())
            },
        ),
        path(
            "idevid-attacker",
            false,
            &["X509-6.1-01", "BRSKI-5.1-07"],
            "a CA with the manufacturer's name issued it",
            idevid,
            |world| world.attacker_device.certificate().to_vec(),
        ),
        path(
            "idevid-signature-flipped",
            false,
            &["X509-6.1-01"],
            "a bit of its signature is another",
            idevid,
            |world| {
                let mut octets = world.device.certificate().to_vec();
                if let Some(last) = octets.last_mut() {
                    *last ^= 1;
                }
                octets
            },
        ),
        path(
            "idevid-content-flipped",
            false,
            &["X509-6.1-01"],
            "a bit of its subject is another",
            idevid,
            |world| super::cms::replaced(world.device.certificate(), b"JADA-1", b"JADA-3"),
        ),
        path(
            "idevid-algorithms-differ",
            false,
            &["X509-6.1-01"],
            "the algorithm inside is not the one outside",
            idevid,
            |world| {
                device(world, |it| {
                    it.with(|it| {
                        it.inner_algorithm = Some(der::seq(&[der::oid("1.2.840.10045.4.3.3")]));
                    })
                })
            },
        ),
        path(
            "idevid-sha1",
            false,
            &["X509-6.1-01"],
            "it is signed over SHA-1",
            idevid,
            |world| device(world, |it| it.with(|it| it.hash = Some(Hash::Sha1))),
        ),
        path(
            "idevid-trailing",
            false,
            &["X509-6.1-01"],
            "an octet follows it",
            idevid,
            |world| [world.device.certificate(), &[0]].concat(),
        ),
        path(
            "idevid-cut",
            false,
            &["X509-6.1-01"],
            "its last octet is missing",
            idevid,
            |world| {
                let whole = world.device.certificate();
                whole.get(..whole.len() - 1).unwrap_or_default().to_vec()
            },
        ),
        path(
            "idevid-indefinite",
            false,
            &["X509-6.1-01"],
            "its length is indefinite: BER",
            idevid,
            |world| {
                der::tlv_indefinite(
                    0x30,
                    der::inside(world.device.certificate()).unwrap_or_default(),
                )
            },
        ),
        path(
            "idevid-long-length",
            false,
            &["X509-6.1-01"],
            "its length is longer than it needs to be: BER",
            idevid,
            |world| {
                der::tlv_long(
                    0x30,
                    der::inside(world.device.certificate()).unwrap_or_default(),
                )
            },
        ),
        path(
            "idevid-version-1-extensions",
            false,
            &["X509-4.2-01"],
            "it is of version 1 and has extensions",
            idevid,
            |world| device(world, |it| it.with(|it| it.version = 0)),
        ),
        path(
            "idevid-empty",
            false,
            &["X509-6.1-01"],
            "it is empty",
            idevid,
            |_| Vec::new(),
        ),
        path(
            "idevid-key-wrong",
            false,
            &["X509-6.1-01"],
            "it is signed by another key than its issuer's",
            idevid,
            |world| {
                let subject = name("Example Manufacturer", "Device", Some(SERIAL));
                Certificate::new(
                    &world.device_ca.name,
                    &subject,
                    world.device.key().spki(),
                    NOW,
                )
                .end_entity(&world.device.key().key_id())
                .issued_by(&world.device_ca.key_id())
                .sign(&world.attacker.signatory.key)
            },
        ),
        path(
            "idevid-of-owner",
            false,
            &["X509-6.1-01", "BRSKI-2.5.3-01"],
            "the owner's CA issued it",
            idevid,
            |world| {
                world
                    .domain
                    .device(
                        "Example Manufacturer",
                        SERIAL,
                        None,
                        world.device.key(),
                        NOW,
                    )
                    .signatory
                    .certificate
            },
        ),
    ]
}

fn registrars() -> Vec<Vector> {
    vec![
        path(
            "registrar-good",
            true,
            &["BRSKI-5.5.4-01"],
            "a registrar's certificate",
            "registrar",
            |world| world.registrar.certificate().to_vec(),
        ),
        path(
            "registrar-only-cmcra",
            true,
            &["X509-4.2.1.12-01", "BRSKI-5.5.4-01"],
            "its only purpose is cmcRA",
            "registrar",
            |world| registrar(world, |it| it.purposes(&[CMC_RA])),
        ),
        path(
            "registrar-without-cmcra",
            false,
            &["BRSKI-5.5.4-01"],
            "its purposes lack cmcRA",
            "registrar",
            |world| registrar(world, |it| it.purposes(&[SERVER_AUTH, CLIENT_AUTH])),
        ),
        path(
            "registrar-without-purposes",
            false,
            &["BRSKI-5.5.4-01"],
            "it names no purposes",
            "registrar",
            |world| registrar(world, |it| it),
        ),
        path(
            "registrar-any-purpose",
            false,
            &["BRSKI-5.5.4-01"],
            "its purpose is any, which is not cmcRA",
            "registrar",
            |world| registrar(world, |it| it.purposes(&["2.5.29.37.0"])),
        ),
        path(
            "registrar-of-another-owner",
            false,
            &["X509-6.1-01"],
            "another owner's CA issued it",
            "registrar",
            |world| world.other_registrar.certificate().to_vec(),
        ),
        path(
            "registrar-expired",
            false,
            &["X509-6.1-01"],
            "it has expired",
            "registrar",
            |world| {
                registrar(world, |it| {
                    it.purposes(&[CMC_RA])
                        .with(|it| it.not_after = NOW - Duration::days(1))
                })
            },
        ),
        path(
            "server-good",
            true,
            &["NAME-6.1-01"],
            "a server's certificate",
            "server",
            |world| {
                registrar(world, |it| {
                    it.purposes(&[SERVER_AUTH])
                        .hosts(&["registrar.example.net"])
                })
            },
        ),
        path(
            "server-client-purpose",
            false,
            &["NAME-6.1-01"],
            "a client's certificate where a server's belongs",
            "server",
            |world| {
                registrar(world, |it| {
                    it.purposes(&[CLIENT_AUTH])
                        .hosts(&["registrar.example.net"])
                })
            },
        ),
        path(
            "client-good",
            true,
            &["EST-3.3.2-02"],
            "a client's certificate",
            "client",
            |world| registrar(world, |it| it.purposes(&[CLIENT_AUTH])),
        ),
        path(
            "client-server-purpose",
            false,
            &["EST-3.3.2-02"],
            "a server's certificate where a client's belongs",
            "client",
            |world| registrar(world, |it| it.purposes(&[SERVER_AUTH])),
        ),
        path(
            "client-expired",
            false,
            &["EST-3.3.2-02"],
            "a client's certificate that has expired",
            "client",
            |world| {
                registrar(world, |it| {
                    it.purposes(&[CLIENT_AUTH])
                        .with(|it| it.not_after = NOW - Duration::days(1))
                })
            },
        ),
    ]
}

/// The file holds two certificates in PEM: the device's and that of the CA that issued it.
fn issuers() -> Vec<Vector> {
    let rule = |id: &str,
                valid: bool,
                row: &'static str,
                reason: &str,
                change: fn(Certificate) -> Certificate| {
        Vector::new(
            format!("certificate/issuer-{id}"),
            (Kind::Certificate, Encoding::Der),
            valid,
            &[row],
            reason,
            move |world| {
                let (leaf, ca) = under(world, change);
                let pem = crate::forge::x509::pem;
                [pem("CERTIFICATE", &leaf), pem("CERTIFICATE", &ca)]
                    .concat()
                    .into_bytes()
            },
        )
        .context(Context {
            anchors: vec!["pki/manufacturer.pem"],
            purpose: Some("idevid"),
            ..Context::default()
        })
    };
    const KEY_ID: [u8; 20] = [7; 20];
    vec![
        rule(
            "good",
            true,
            "X509-4.2.1.9-01",
            "the issuer is a CA",
            |ca| {
                ca.ca(&KEY_ID, Some(0))
                    .issued_by(&[9; 20])
                    .without("2.5.29.35")
            },
        ),
        rule(
            "no-path-limit",
            true,
            "X509-4.2.1.9-01",
            "the issuer is a CA without a limit",
            |ca| ca.ca(&KEY_ID, None),
        ),
        rule(
            "no-constraints",
            false,
            "X509-4.2.1.9-01",
            "the issuer's certificate has no basic constraints",
            |ca| ca.end_entity(&KEY_ID),
        ),
        rule(
            "not-a-ca",
            false,
            "X509-4.2.1.9-01",
            "the issuer is marked as no CA",
            |ca| {
                ca.end_entity(&KEY_ID)
                    .extension("2.5.29.19", true, der::seq(&[]))
            },
        ),
        rule(
            "may-not-sign",
            false,
            "X509-4.2.1.3-01",
            "the issuer's key may not sign certificates",
            |ca| {
                ca.ca(&KEY_ID, None).without("2.5.29.15").extension(
                    "2.5.29.15",
                    true,
                    der::tlv(0x03, &[7, 0b1000_0000]),
                )
            },
        ),
        rule(
            "expired",
            false,
            "X509-6.1-01",
            "the issuer's certificate has expired",
            |ca| {
                ca.ca(&KEY_ID, None)
                    .with(|ca| ca.not_after = NOW - Duration::days(1))
            },
        ),
        rule(
            "critical-extension",
            false,
            "X509-4.2-01",
            "the issuer has a critical extension that nobody knows",
            |ca| {
                ca.ca(&KEY_ID, None)
                    .extension("1.3.6.1.4.1.32473.2", true, der::null())
            },
        ),
    ]
}

fn requests() -> Vec<Vector> {
    let csr = |id: &str, valid: bool, row: &'static str, reason: &str, make: Issue| {
        Vector::new(
            format!("csr/{id}"),
            (Kind::Csr, Encoding::Der),
            valid,
            &[row],
            reason,
            make,
        )
    };
    fn plain(world: &World) -> Request {
        Request::new(&name("", "device", None), world.device.key())
    }
    fn by(kind: KeyKind) -> Option<Request> {
        let key = Key::derive(kind, "request").ok()?;
        Some(Request::new(&name("", "device", None), &key))
    }
    vec![
        csr(
            "good",
            true,
            "EST-4.2.1-02",
            "a request with proof of possession",
            |world| plain(world).encode(),
        ),
        csr(
            "good-p384",
            true,
            "EST-4.2.1-02",
            "a request with a P-384 key",
            |_| by(KeyKind::P384).map(|it| it.encode()).unwrap_or_default(),
        ),
        csr(
            "good-rsa",
            true,
            "EST-4.2.1-02",
            "a request with an RSA key",
            |_| {
                by(KeyKind::Rsa2048)
                    .map(|it| it.encode())
                    .unwrap_or_default()
            },
        ),
        csr(
            "good-ed25519",
            true,
            "EST-4.2.1-02",
            "a request with an Ed25519 key",
            |_| {
                by(KeyKind::Ed25519)
                    .map(|it| it.encode())
                    .unwrap_or_default()
            },
        ),
        csr(
            "good-names",
            true,
            "EST-4.2.1-02",
            "a request for host names",
            |world| {
                plain(world)
                    .hosts(&["a.example.net", "b.example.net"])
                    .encode()
            },
        ),
        csr(
            "good-password",
            true,
            "EST-3.5-02",
            "a request with a challenge password",
            |world| plain(world).challenge_password("channel binding").encode(),
        ),
        csr(
            "good-empty-subject",
            true,
            "EST-4.2.1-02",
            "a request with an empty subject",
            |world| plain(world).with(|it| it.subject = der::seq(&[])).encode(),
        ),
        csr(
            "good-unknown-attribute",
            true,
            "EST-4.2.1-02",
            "a request with an attribute that nobody has to know",
            |world| {
                plain(world)
                    .with(|it| {
                        it.attributes
                            .push(attribute("1.3.6.1.4.1.32473.4", &[der::null()]))
                    })
                    .encode()
            },
        ),
        csr(
            "signed-by-another",
            false,
            "EST-4.2.1-02",
            "another key signed: no proof of possession",
            |world| {
                plain(world)
                    .with(|it| it.signer = Some(world.registrar.key().clone()))
                    .encode()
            },
        ),
        csr(
            "signature-flipped",
            false,
            "EST-4.2.1-02",
            "a bit of the signature is another",
            |world| {
                let mut octets = plain(world).encode();
                if let Some(last) = octets.last_mut() {
                    *last ^= 1;
                }
                octets
            },
        ),
        csr(
            "subject-changed",
            false,
            "EST-4.2.1-02",
            "the subject was changed after it was signed",
            |world| super::cms::replaced(&plain(world).encode(), b"device", b"devicf"),
        ),
        csr(
            "trailing",
            false,
            "EST-4.2.1-02",
            "an octet follows",
            |world| [plain(world).encode().as_slice(), &[0]].concat(),
        ),
        csr(
            "cut",
            false,
            "EST-4.2.1-02",
            "the last octet is missing",
            |world| {
                let whole = plain(world).encode();
                whole.get(..whole.len() - 1).unwrap_or_default().to_vec()
            },
        ),
        csr(
            "indefinite",
            false,
            "EST-4.2.1-02",
            "the length is indefinite: BER",
            |world| {
                der::tlv_indefinite(
                    0x30,
                    der::inside(&plain(world).encode()).unwrap_or_default(),
                )
            },
        ),
        csr(
            "sha1",
            false,
            "EST-4.2.1-02",
            "it is signed over SHA-1",
            |world| plain(world).with(|it| it.hash = Some(Hash::Sha1)).encode(),
        ),
        csr("empty", false, "EST-4.2.1-02", "it is empty", |_| {
            Vec::new()
        }),
    ]
}
