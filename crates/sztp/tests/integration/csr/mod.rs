//! RFC 9646 on the server's side: which CSR is asked for, and which is taken.

pub(crate) mod envelopes;

use pki::{Certificate, Csr, CsrBuilder, Identity, KeyKind, Signer, SoftwareKey};
use sztp::csr::{Asked, Device, KeyAlgorithm, Origin, Policy, Template, ask, check, choose};
use sztp::message::{CsrFormat, CsrInput, CsrRequest, CsrSupport};
use sztp::restconf::{ErrorReport, Fault};
use sztp::{Encoding, Leniency};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00 UTC);
const SERIAL: &str = "SN-1";

struct World {
    idevid: Identity,
    other: Identity,
}

impl World {
    fn new() -> Self {
        let pki = testkit::Pki::p256(NOW).unwrap();
        Self {
            idevid: pki.idevid(SERIAL).unwrap(),
            other: pki.idevid("SN-2").unwrap(),
        }
    }

    fn certificate(&self) -> &Certificate {
        self.idevid.certificate().unwrap()
    }

    fn device(&self) -> Device<'_> {
        Device {
            serial: SERIAL,
            identity: Some(self.certificate()),
        }
    }
}

/// A device that came with a password and no certificate.
const PASSWORD: Device<'static> = Device {
    serial: SERIAL,
    identity: None,
};

fn key() -> SoftwareKey {
    SoftwareKey::generate(KeyKind::EcdsaP256).unwrap()
}

/// A CSR with the subject of this device's identity certificate.
fn csr(subject_of: &Identity, key: &dyn Signer) -> Csr {
    let subject = subject_of.certificate().unwrap().subject_der();
    CsrBuilder::with_subject_der(subject)
        .unwrap()
        .sign(key)
        .unwrap()
}

fn asked(algorithm: Option<KeyAlgorithm>, format: CsrFormat) -> Asked {
    Asked {
        request: CsrRequest {
            algorithm: algorithm.map(|it| it.identifier().to_vec()),
            format,
            cert_req_info: None,
        },
        at: NOW - Duration::minutes(1),
    }
}

fn support(algorithms: Option<&[KeyAlgorithm]>, formats: &[CsrFormat]) -> CsrSupport {
    CsrSupport {
        algorithms: algorithms.map(|them| them.iter().map(|it| it.identifier().to_vec()).collect()),
        formats: formats.to_vec(),
    }
}

/// Requirements: SZTP-9646-3.2-03, SZTP-9646-3.2-04, SZTP-9646-3.2-05, SZTP-9646-3.2-06, SZTP-9646-2.2-02
#[test]
fn what_is_asked_for_is_one_of_what_was_offered() {
    use CsrFormat::{Cmc, Cmp, P10};
    use KeyAlgorithm::{EcP256, EcP384, Ed25519, Rsa};
    let world = World::new();
    let device = world.device();
    let policy = Policy::default();
    let every_format = Policy {
        formats: vec![P10, Cmc, Cmp],
        ..Policy::default()
    };
    let new_keys_only = Policy {
        allow_identity_key: false,
        ..Policy::default()
    };
    // (policy, device, offered, expected algorithm and format)
    type Wanted = Option<(Option<KeyAlgorithm>, CsrFormat)>;
    let table: Vec<(&Policy, &Device<'_>, CsrSupport, Wanted)> = vec![
        // The policy's order decides, not the device's.
        (
            &policy,
            &device,
            support(Some(&[Rsa, EcP384, EcP256]), &[Cmp, P10]),
            Some((Some(EcP256), P10)),
        ),
        (
            &policy,
            &device,
            support(Some(&[Rsa]), &[P10]),
            Some((Some(Rsa), P10)),
        ),
        (
            &policy,
            &device,
            support(Some(&[Ed25519]), &[P10]),
            Some((Some(Ed25519), P10)),
        ),
        // No key generation offered: the key of the identity certificate.
        (&policy, &device, support(None, &[P10]), Some((None, P10))),
        // Nothing that is acceptable offered: the same, or nothing.
        (
            &policy,
            &device,
            support(Some(&[KeyAlgorithm::MlDsa87]), &[P10]),
            Some((None, P10)),
        ),
        (
            &new_keys_only,
            &device,
            support(Some(&[KeyAlgorithm::MlDsa87]), &[P10]),
            None,
        ),
        (&new_keys_only, &device, support(None, &[P10]), None),
        (&policy, &PASSWORD, support(None, &[P10]), None),
        (
            &policy,
            &PASSWORD,
            support(Some(&[EcP256]), &[P10]),
            Some((Some(EcP256), P10)),
        ),
        // Formats.
        (
            &policy,
            &device,
            support(Some(&[EcP256]), &[Cmp, Cmc]),
            None,
        ),
        (
            &every_format,
            &device,
            support(Some(&[EcP256]), &[Cmp, Cmc]),
            Some((Some(EcP256), Cmc)),
        ),
        (
            &every_format,
            &device,
            support(Some(&[EcP256]), &[Cmp]),
            Some((Some(EcP256), Cmp)),
        ),
        (&policy, &device, support(Some(&[EcP256]), &[]), None),
    ];
    for (policy, device, offered, wanted) in table {
        let request = choose(&offered, policy, device).unwrap();
        let found = request.as_ref().map(|it| {
            let algorithm = it
                .algorithm
                .as_ref()
                .map(|der| KeyAlgorithm::from_identifier(der).unwrap());
            (algorithm, it.format)
        });
        assert_eq!(found, wanted, "{offered:?}");
        if let Some(request) = request {
            // Octet for octet one of the offered ones.
            let offered_algorithms = offered.algorithms.clone().unwrap_or_default();
            assert!(
                request
                    .algorithm
                    .is_none_or(|it| offered_algorithms.contains(&it))
            );
            assert!(offered.formats.contains(&request.format));
        }
        // The same, where the owner demands a certificate.
        let strict = Policy {
            required: true,
            ..policy.clone()
        };
        match (choose(&offered, &strict, device), wanted) {
            (Ok(Some(_)), Some(_)) => {}
            (Err(error), None) => assert_eq!(error.fault, Fault::CsrNoneAcceptable),
            (result, _) => panic!("{result:?}"),
        }
    }
    // RSA without its NULL is RSA, and goes back as it came.
    let bare = vec![
        0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1,
    ];
    let offered = CsrSupport {
        algorithms: Some(vec![vec![0x30, 0], b"junk".to_vec(), bare.clone()]),
        formats: vec![P10],
    };
    let request = choose(&offered, &policy, &device).unwrap().unwrap();
    assert_eq!(request.algorithm, Some(bare));
}

/// The identifiers are those in real keys.
#[test]
fn identifiers_of_key_algorithms() {
    for (kind, algorithm) in [
        (KeyKind::EcdsaP256, KeyAlgorithm::EcP256),
        (KeyKind::EcdsaP384, KeyAlgorithm::EcP384),
        (KeyKind::EcdsaP521, KeyAlgorithm::EcP521),
        (KeyKind::Ed25519, KeyAlgorithm::Ed25519),
        (KeyKind::Rsa2048, KeyAlgorithm::Rsa),
        (KeyKind::MlDsa44, KeyAlgorithm::MlDsa44),
        (KeyKind::MlDsa65, KeyAlgorithm::MlDsa65),
        (KeyKind::MlDsa87, KeyAlgorithm::MlDsa87),
    ] {
        let key = SoftwareKey::generate(kind).unwrap();
        assert_eq!(KeyAlgorithm::of(key.public_key()), Some(algorithm));
        assert_eq!(KeyAlgorithm::parse(algorithm.as_str()), Some(algorithm));
    }
    assert_eq!(KeyAlgorithm::parse("rot13"), None);
}

/// Requirements: SZTP-9646-2.1-04, SZTP-9646-2.3-01
#[test]
fn the_request_for_a_csr_is_an_error_with_exactly_this_body() {
    let request = CsrRequest {
        algorithm: Some(vec![1]),
        format: CsrFormat::P10,
        cert_req_info: Some(vec![2]),
    };
    let error = ask(&request);
    assert_eq!(error.status, 400);
    let body = String::from_utf8(error.encode(Encoding::Json)).unwrap();
    assert_eq!(
        body,
        "{\"ietf-restconf:errors\":{\"error\":[{\"error-type\":\"application\",\
         \"error-tag\":\"missing-attribute\",\"error-app-tag\":\"sztp.csr-wanted\",\
         \"error-message\":\"send the certificate request that error-info describes\",\
         \"error-info\":{\"ietf-sztp-csr:csr-request\":{\
         \"key-generation\":{\"selected-algorithm\":{\"algorithm-identifier\":\"AQ==\"}},\
         \"csr-generation\":{\"selected-format\":{\"format-identifier\":\"ietf-ztp-types:p10-csr\"}},\
         \"cert-req-info\":\"Ag==\"}}}]}}"
    );
    let body = String::from_utf8(error.encode(Encoding::Xml)).unwrap();
    assert_eq!(
        body,
        "<errors xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\"><error>\
         <error-type>application</error-type><error-tag>missing-attribute</error-tag>\
         <error-app-tag>sztp.csr-wanted</error-app-tag>\
         <error-message>send the certificate request that error-info describes</error-message>\
         <error-info><csr-request xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-csr\">\
         <key-generation><selected-algorithm><algorithm-identifier>AQ==</algorithm-identifier>\
         </selected-algorithm></key-generation><csr-generation><selected-format>\
         <format-identifier xmlns:zt=\"urn:ietf:params:xml:ns:yang:ietf-ztp-types\">zt:p10-csr\
         </format-identifier></selected-format></csr-generation>\
         <cert-req-info>Ag==</cert-req-info></csr-request></error-info></error></errors>"
    );
}

/// Requirements: SZTP-9646-2.2-01, SZTP-9646-4.2.1-01, SZTP-9646-4.2.2-01, SZTP-9646-4.2.2-02
#[test]
fn good_p10_requests() {
    let world = World::new();
    let policy = Policy::default();
    let new = key();
    let fresh = CsrInput::P10(csr(&world.idevid, &new).der().to_vec());
    let asked_new = asked(Some(KeyAlgorithm::EcP256), CsrFormat::P10);
    let checked = check(&fresh, Some(&asked_new), &policy, &world.device(), NOW).unwrap();
    assert!(checked.is_new_key);
    assert_eq!(checked.origin, Origin::Transport);
    assert_eq!(checked.csr.public_key(), new.public_key());

    let own = CsrInput::P10(
        csr(&world.idevid, world.idevid.signer.as_ref())
            .der()
            .to_vec(),
    );
    let asked_own = asked(None, CsrFormat::P10);
    let checked = check(&own, Some(&asked_own), &policy, &world.device(), NOW).unwrap();
    assert!(!checked.is_new_key);
    assert_eq!(checked.origin, Origin::IdentityKey);

    // A device that came with a password can only have made a new key.
    let named = CsrBuilder::new(pki::issue::name("CN=SN-1").unwrap());
    let fresh = CsrInput::P10(named.sign(&new).unwrap().der().to_vec());
    let checked = check(&fresh, Some(&asked_new), &policy, &PASSWORD, NOW).unwrap();
    assert_eq!(checked.origin, Origin::Transport);
}

/// Requirements: SZTP-9646-4.1.5-01, SZTP-9646-4.2.1-01, SZTP-9646-4.2.2-01, SZTP-9646-3.2-13, SZTP-9646-4.1.3-01, SZTP-9646-3.2-05, SZTP-9646-3.2-06
#[test]
fn bad_p10_requests() {
    let world = World::new();
    let policy = Policy::default();
    let good = csr(&world.idevid, &key());
    let p10 = |csr: &Csr| CsrInput::P10(csr.der().to_vec());
    let asked_new = asked(Some(KeyAlgorithm::EcP256), CsrFormat::P10);
    let asked_own = asked(None, CsrFormat::P10);
    let mut forged = good.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut longer = good.der().to_vec();
    longer.push(0);
    let p384 = SoftwareKey::generate(KeyKind::EcdsaP384).unwrap();
    let late = Asked {
        at: NOW - Duration::minutes(11),
        ..asked_new.clone()
    };
    let cmp = asked(Some(KeyAlgorithm::EcP256), CsrFormat::Cmp);
    // (case, input, what was asked, fault, whether the request for a CSR is repeated)
    for (case, input, asked, fault, is_repeated) in [
        (
            "nothing was asked",
            p10(&good),
            None,
            Fault::CsrNotRequested,
            false,
        ),
        (
            "too late",
            p10(&good),
            Some(&late),
            Fault::CsrNotRequested,
            false,
        ),
        (
            "bad proof of possession",
            CsrInput::P10(forged),
            Some(&asked_new),
            Fault::CsrPossession,
            false,
        ),
        (
            "PEM",
            CsrInput::P10(good.to_pem().into_bytes()),
            Some(&asked_new),
            Fault::CsrMalformed,
            false,
        ),
        (
            "trailing octet",
            CsrInput::P10(longer),
            Some(&asked_new),
            Fault::CsrMalformed,
            false,
        ),
        (
            "empty",
            CsrInput::P10(Vec::new()),
            Some(&asked_new),
            Fault::CsrMalformed,
            false,
        ),
        (
            "a certificate",
            CsrInput::P10(world.certificate().der().to_vec()),
            Some(&asked_new),
            Fault::CsrMalformed,
            false,
        ),
        (
            "another format",
            p10(&good),
            Some(&cmp),
            Fault::CsrMismatch,
            true,
        ),
        (
            "another algorithm",
            p10(&csr(&world.idevid, &p384)),
            Some(&asked_new),
            Fault::CsrMismatch,
            true,
        ),
        (
            "the old key",
            p10(&csr(&world.idevid, world.idevid.signer.as_ref())),
            Some(&asked_new),
            Fault::CsrMismatch,
            true,
        ),
        (
            "a new key",
            p10(&good),
            Some(&asked_own),
            Fault::CsrOrigin,
            false,
        ),
        (
            "another device's",
            p10(&csr(&world.other, &key())),
            Some(&asked_new),
            Fault::CsrOrigin,
            false,
        ),
        (
            "another device's key",
            p10(&csr(&world.other, world.other.signer.as_ref())),
            Some(&asked_own),
            Fault::CsrOrigin,
            false,
        ),
        (
            "csr-support",
            CsrInput::Support(CsrSupport::default()),
            Some(&asked_new),
            Fault::CsrMalformed,
            false,
        ),
    ] {
        let error = check(&input, asked, &policy, &world.device(), NOW).expect_err(case);
        assert_eq!(error.fault, fault, "{case}: {error}");
        assert_eq!(error.status, 400, "{case}");
        assert_eq!(error.info.is_some(), is_repeated, "{case}");
        // What is repeated is read by a device as a request for a CSR.
        let (report, _) = ErrorReport::decode(
            &error.encode(Encoding::Xml),
            Encoding::Xml,
            &Leniency::strict(),
        )
        .unwrap();
        let request = report.csr_request(error.status);
        assert_eq!(
            request,
            asked.filter(|_| is_repeated).map(|it| &it.request),
            "{case}"
        );
    }
    // A password shows no key, so a CSR with a key that exists already cannot be judged.
    let own = csr(&world.idevid, world.idevid.signer.as_ref());
    let error = check(&p10(&own), Some(&asked_own), &policy, &PASSWORD, NOW).unwrap_err();
    assert_eq!(error.fault, Fault::CsrOrigin);
}

/// The server answers for the names towards the CA, which believes a registration authority. A
/// device that was not told which to ask for asks for its own.
///
/// Requirements: SZTP-9646-3.2-11, SZTP-9646-4.1.5-01
#[test]
fn a_device_gives_itself_no_name_but_its_own() {
    let world = World::new();
    let policy = Policy::default();
    let asked = asked(Some(KeyAlgorithm::EcP256), CsrFormat::P10);
    let own = || CsrBuilder::with_subject_der(world.certificate().subject_der()).unwrap();
    let named = |text: &str| CsrBuilder::new(pki::issue::name(text).unwrap());
    let nobody = CsrBuilder::with_subject_der(&[0x30, 0]).unwrap();
    // (request, whether a device with a certificate may, whether one with a password may)
    for (builder, certificate, password) in [
        (own(), true, false),
        (nobody, true, true),
        (named("CN=SN-1"), true, true),
        (named("serialNumber=SN-1,CN=SN-1"), true, true),
        (named("CN=SN-1,O=Usher Test Manufacturer"), true, false),
        (named("CN=SN-2"), false, false),
        (named("CN=registrar.example"), false, false),
        (named("CN=SN-1,CN=SN-2"), false, false),
        (named("CN=SN-1+CN=SN-2"), false, false),
        (named("CN=SN-1,O=Plant"), false, false),
        (named("CN=SN-1,OU=Administrators"), false, false),
        (named("OU=SN-1"), false, false),
        (
            own().dns_names(&["registrar.example"]).unwrap(),
            false,
            false,
        ),
    ] {
        let csr = builder.sign(&key()).unwrap();
        let input = CsrInput::P10(csr.der().to_vec());
        for (device, may) in [(&world.device(), certificate), (&PASSWORD, password)] {
            let result = check(&input, Some(&asked), &policy, device, NOW);
            let fault = result.err().map(|error| error.fault);
            assert_eq!(fault.is_none(), may, "{}", csr.subject());
            assert!(matches!(fault, None | Some(Fault::CsrOrigin)), "{fault:?}");
        }
    }
}

/// Requirements: SZTP-9646-3.2-09, SZTP-9646-3.2-10, SZTP-9646-2.3-03, SZTP-9640-2-01
#[test]
fn what_cert_req_info_gives_has_to_come_back() {
    let world = World::new();
    let extension = |name: &str| {
        let builder = CsrBuilder::with_subject_der(world.certificate().subject_der()).unwrap();
        builder.dns_names(&[name]).unwrap()
    };
    // The attributes of a template, taken from a CSR that openssl could have made as well.
    let model = extension("device.example").sign(&key()).unwrap();
    let attributes = attributes_of(model.der());
    let policy = Policy {
        template: Some(Template {
            subject: world.certificate().subject_der().to_vec(),
            attributes,
        }),
        ..Policy::default()
    };
    for algorithms in [Some(&[KeyAlgorithm::EcP256][..]), None] {
        let offered = support(algorithms, &[CsrFormat::P10]);
        let request = choose(&offered, &policy, &world.device()).unwrap().unwrap();
        let info = request.cert_req_info.clone().unwrap();
        // SubjectPublicKeyInfo of the identity's key, or of the selected type and no key.
        let spki = match algorithms {
            Some(_) => [
                &[0x30, 0x18][..],
                KeyAlgorithm::EcP256.identifier(),
                &[3, 1, 0],
            ]
            .concat(),
            None => world.certificate().public_key().spki_der().to_vec(),
        };
        assert!(info.windows(spki.len()).any(|part| part == spki));
        let asked = Asked { request, at: NOW };
        let new = key();
        let signer: &dyn Signer = match algorithms {
            Some(_) => &new,
            None => world.idevid.signer.as_ref(),
        };
        let judge = |csr: Csr| {
            check(
                &CsrInput::P10(csr.der().to_vec()),
                Some(&asked),
                &policy,
                &world.device(),
                NOW,
            )
        };
        judge(extension("device.example").sign(signer).unwrap()).unwrap();
        for csr in [
            extension("other.example").sign(signer).unwrap(),
            csr(&world.idevid, signer),
            extension("device.example")
                .challenge_password("x")
                .sign(signer)
                .unwrap(),
        ] {
            let error = judge(csr).unwrap_err();
            assert_eq!(error.fault, Fault::CsrMismatch);
            assert_eq!(error.info.as_deref(), Some(&asked.request));
        }
    }
    // Another subject than the given one.
    let asked = Asked {
        request: choose(&support(None, &[CsrFormat::P10]), &policy, &world.device())
            .unwrap()
            .unwrap(),
        at: NOW,
    };
    let csr = CsrBuilder::new(pki::issue::name("CN=other").unwrap())
        .sign(world.idevid.signer.as_ref())
        .unwrap();
    let error = check(
        &CsrInput::P10(csr.der().to_vec()),
        Some(&asked),
        &policy,
        &world.device(),
        NOW,
    )
    .unwrap_err();
    assert_eq!(error.fault, Fault::CsrMismatch);
}

/// The attributes of a CSR, each as DER; the test's CSRs are short enough for one-octet lengths.
fn attributes_of(csr: &[u8]) -> Vec<Vec<u8>> {
    let at = csr
        .windows(4)
        .position(|four| four[0] == 0xa0 && four[2] == 0x30 && four[1] == four[3] + 2)
        .unwrap();
    let length = usize::from(csr[at + 1]);
    vec![csr[at + 2..at + 2 + length].to_vec()]
}
