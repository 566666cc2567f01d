//! Every failure of the pledge: what causes it, its code, what is told to the registrar.

use artifacts::{
    Assertion, Document, Envelope, IdevidIssuer, Nonce, SerialNumber, Tolerances, Voucher,
    VoucherFields, VoucherStatus, open, sign_voucher,
};
use brski::{
    paths,
    pledge::{self, Clock, Failure, Input, Phase, Step, What},
};
use pki::{
    Certificate, Coded, Identity, SignOptions, Signer,
    issue::{CertificateBuilder, Profile, name},
};
use time::{Duration, OffsetDateTime};

use crate::{
    sim::{Device, Response, Sim},
    world::{Ca, Manufacturer, NOW, key, serial},
};

struct Scene {
    sim: Sim,
    manufacturer: Manufacturer,
    config: pledge::Config,
    /// The request whose answer is spoilt.
    at: What,
    /// Changes the voucher's leaves; it is signed again with `signer`.
    leaves: Option<fn(&mut VoucherFields)>,
    signer: Option<Identity>,
    signed_at: OffsetDateTime,
    /// Changes the answer as it is sent.
    answer: Option<fn(&mut Response)>,
}

fn payload(body: &[u8]) -> Vec<u8> {
    let signed = open(Document::Voucher, body, None, &Tolerances::lenient()).unwrap();
    signed.dangerous_peek().payload().unwrap().to_vec()
}

impl Scene {
    fn new() -> Self {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        let idevid = manufacturer.device("SN-1");
        let config = Device::config(&idevid, &manufacturer);
        Self {
            sim,
            manufacturer,
            config,
            at: What::RequestVoucher,
            leaves: None,
            signer: None,
            signed_at: NOW,
            answer: None,
        }
    }

    fn run(mut self) -> (Step, Device, Sim) {
        let mut device = Device::new(self.config);
        let (at, leaves, signer, spoil) = (self.at, self.leaves, self.signer, self.answer);
        let signed_at = self.signed_at;
        let masa = self.manufacturer.masa.clone();
        let mut hook = |request: &pledge::Request, mut response: Response, _: &Device| {
            if request.what != at {
                return response;
            }
            if leaves.is_some() || signer.is_some() {
                assert_eq!(response.status, 200);
                let strict = Tolerances::strict();
                let (voucher, _) = Voucher::from_json(&payload(&response.body), &strict).unwrap();
                let mut fields = voucher.into_fields();
                leaves.unwrap_or(|_| {})(&mut fields);
                let voucher = Voucher::new(fields).unwrap();
                let signer = signer.as_ref().unwrap_or(&masa);
                response.body = sign_voucher(&voucher, Envelope::Cms, signer, signed_at).unwrap();
            }
            spoil.unwrap_or(|_| {})(&mut response);
            response
        };
        let step = self.sim.run_with(&mut device, &mut hook);
        (step, device, self.sim)
    }
}

/// A voucher without a pin can only be made by hand.
fn without_pin(response: &mut Response) {
    let mut json: serde_json::Value = serde_json::from_slice(&payload(&response.body)).unwrap();
    let leaves = json["ietf-voucher:voucher"].as_object_mut().unwrap();
    leaves.remove("pinned-domain-cert");
    response.body = serde_json::to_vec(&json).unwrap();
}

type Row = (&'static str, &'static str, fn(&mut Scene));

const ROWS: &[Row] = &[
    ("pledge.refused", "BRSKI-5.6-04", |s| {
        s.sim.masa.devices.clear()
    }),
    ("pledge.refused", "", |s| {
        s.answer = Some(|r| r.status = 500)
    }),
    ("pledge.voucher-malformed", "BRSKI-5.1-11", |s| {
        s.answer = Some(|r| r.body.truncate(99))
    }),
    ("pledge.voucher-malformed", "BRSKI-5.1-11", |s| {
        s.answer = Some(|r| r.body.clear())
    }),
    ("pledge.voucher-malformed", "BRSKI-5.1-11", |s| {
        s.answer = Some(|r| r.body = vec![0x30; 4000]);
    }),
    ("pledge.answer-too-large", "BRSKI-5.1-11 BRSKI-11-02", |s| {
        s.answer = Some(|r| r.body = vec![0x30; 300 * 1024]);
    }),
    ("pledge.voucher-media-type", "", |s| {
        s.answer = Some(|r| r.headers = vec![("content-type".into(), "text/html".into())]);
    }),
    ("pledge.voucher-media-type", "", |s| {
        s.answer = Some(|r| r.headers.clear())
    }),
    ("pledge.voucher-media-type", "", |s| {
        s.answer = Some(|r| {
            r.headers = vec![("content-type".into(), "application/voucher-jws+json".into())];
        });
    }),
    ("pledge.voucher-signature", "BRSKI-5.6.1-01", |s| {
        s.answer = Some(|r| *r.body.last_mut().unwrap() ^= 1);
    }),
    // Signed by another manufacturer.
    (
        "pledge.voucher-untrusted",
        "BRSKI-5.6.1-01 VOUCHER-5.4-06",
        |s| {
            s.signer = Some(Manufacturer::new("Other").masa);
        },
    ),
    // Signed by the domain itself, with its CA in the message.
    (
        "pledge.voucher-untrusted",
        "BRSKI-5.6.1-01 BRSKI-5.6.1-06",
        |s| {
            s.signer = Some(s.sim.registrars[0].identity.clone());
        },
    ),
    // Signed by another device of the same manufacturer, whose CA the pledge trusts.
    ("pledge.voucher-untrusted", "BRSKI-5.6.1-01", |s| {
        s.signer = Some(s.manufacturer.device("SN-2"));
    }),
    (
        "pledge.voucher-serial",
        "BRSKI-5.6.1-02 VOUCHER-5.3-13",
        |s| {
            s.leaves = Some(|v| v.serial_number = SerialNumber::new("SN-2").unwrap());
        },
    ),
    ("pledge.voucher-serial", "VOUCHER-5.3-14", |s| {
        s.leaves = Some(|v| v.serial_number = SerialNumber::new("sn-1").unwrap());
    }),
    ("pledge.voucher-issuer", "VOUCHER-5.3-15", |s| {
        s.leaves = Some(|v| {
            let stranger = Manufacturer::new("Other").device("SN-1");
            v.idevid_issuer = Some(IdevidIssuer::of(stranger.certificate().unwrap()));
        });
    }),
    (
        "pledge.voucher-nonce",
        "BRSKI-2.6.1-03 BRSKI-5.6.1-03 VOUCHER-5.3-23",
        |s| {
            s.leaves = Some(|v| v.nonce = Nonce::from_octets(&[9; 32]));
        },
    ),
    ("pledge.voucher-nonceless", "BRSKI-5.6.1-03", |s| {
        s.config.nonceless = false;
        s.leaves = Some(|v| v.nonce = None);
    }),
    (
        "pledge.voucher-time",
        "BRSKI-2.6.1-02 VOUCHER-5.3-08",
        |s| {
            s.leaves = Some(|v| {
                v.nonce = None;
                v.expires_on = Some(NOW - Duration::hours(1));
            });
        },
    ),
    ("pledge.voucher-time", "BRSKI-2.6.1-02", |s| {
        s.leaves = Some(|v| v.created_on = Some(NOW + Duration::hours(1)));
    }),
    ("pledge.voucher-time", "BRSKI-2.6.1-02", |s| {
        s.leaves = Some(|_| {});
        s.signed_at = NOW + Duration::hours(1);
    }),
    // No clock, and an end that has to be judged.
    ("pledge.voucher-time", "VOUCHER-5.3-09", |s| {
        s.config.clock = Clock::Untrusted;
        s.leaves = Some(|v| {
            v.nonce = None;
            v.expires_on = Some(NOW + Duration::hours(1));
        });
    }),
    ("pledge.voucher-assertion", "VOUCHER-5.3-11", |s| {
        s.config.assertions = vec![Assertion::Verified];
    }),
    ("pledge.voucher-revocation", "VOUCHER-5.3-19", |s| {
        s.leaves = Some(|v| v.domain_cert_revocation_checks = Some(true));
    }),
    (
        "pledge.pin-mismatch",
        "BRSKI-5.1-09 BRSKI-5.6.2-01 VOUCHER-5.3-17",
        |s| {
            s.leaves = Some(|v| v.pinned_domain_cert = Some(Ca::root("Domain").certificate));
        },
    ),
    // The manufacturer's own CA is no domain.
    ("pledge.pin-mismatch", "BRSKI-5.6.2-01", |s| {
        s.leaves = Some(|v| v.pinned_domain_cert = Some(Manufacturer::new("Acme").ca.certificate));
    }),
    ("pledge.redirect", "", |s| {
        s.answer = Some(|r| r.status = 307)
    }),
    ("pledge.redirect", "", |s| {
        s.answer = Some(|r| {
            *r = Response::new(307, "text/plain", "")
                .with("location", "http://registrar-1.example/");
        });
    }),
    ("pledge.ca-certificates", "", |s| {
        s.at = What::CaCertificates;
        s.answer = Some(|r| r.body = b"bm90aGluZw==".to_vec());
    }),
    // Another PKI than the pinned one.
    ("pledge.ca-certificates", "", |s| {
        s.at = What::CaCertificates;
        s.answer = Some(|r| {
            let der = pki::pkcs7::certs_only(&[Ca::root("Domain").certificate]).unwrap();
            r.body = est::body::encode(&der);
        });
    }),
    ("pledge.refused", "", |s| {
        s.at = What::CaCertificates;
        s.answer = Some(|r| r.status = 500);
    }),
    ("pledge.csr-attributes", "", |s| {
        s.at = What::CsrAttributes;
        s.answer = Some(|r| *r = Response::new(200, "application/csrattrs", "MAAw"));
    }),
    ("pledge.refused", "BRSKI-5.9.4-03", |s| {
        s.at = What::Enrol;
        s.answer = Some(|r| *r = Response::new(400, "text/plain", "no"));
    }),
    ("pledge.certificate", "", |s| {
        s.at = What::Enrol;
        s.answer = Some(|r| {
            let certificate = Ca::root("Domain").registrar("x").chain;
            let der = pki::pkcs7::certs_only(&certificate).unwrap();
            r.body = est::body::encode(&der);
        });
    }),
];

/// Requirements: BRSKI-2.1-01, BRSKI-2.6.1-02, BRSKI-2.6.1-03, BRSKI-5.1-09, BRSKI-5.1-11,
/// BRSKI-5.6.1-01, BRSKI-5.6.1-02, BRSKI-5.6.1-03, BRSKI-5.6.1-06, BRSKI-5.6.2-01,
/// BRSKI-5.6.2-03, BRSKI-5.6.2-04, BRSKI-5.6.2-07, BRSKI-5.7-02, BRSKI-5.7-03, BRSKI-5.7-04,
/// BRSKI-5.7-05,
/// BRSKI-5.9.4-03, BRSKI-5.9.4-04, BRSKI-5.9.4-07, BRSKI-7.2-02, BRSKI-11-02, VOUCHER-5.3-08,
/// VOUCHER-5.3-09, VOUCHER-5.3-11, VOUCHER-5.3-13, VOUCHER-5.3-14, VOUCHER-5.3-15,
/// VOUCHER-5.3-17, VOUCHER-5.3-19, VOUCHER-5.3-23, VOUCHER-5.4-06
#[test]
fn each_failure_has_its_cause_its_code_and_its_report() {
    for (index, (code, requirements, spoil)) in ROWS.iter().enumerate() {
        let mut scene = Scene::new();
        spoil(&mut scene);
        let row = format!("{index} {code} {requirements}");
        let at = scene.at;
        let (step, device, sim) = scene.run();
        let Step::GiveUp(failure) = &step else {
            panic!("{row}: {step:?}")
        };
        assert_eq!(failure.code(), *code, "{row}: {failure}");
        assert_eq!(device.machine.state().phase, Phase::GivenUp, "{row}");
        assert!(!device.is_enrolled(), "{row}");
        let paths: Vec<&str> = device
            .requests
            .iter()
            .map(|one| one.path.as_str())
            .collect();
        let reported = device.requests.last().unwrap();
        if at == What::RequestVoucher {
            assert!(
                !paths.iter().any(|path| path.starts_with(paths::EST)),
                "{row}: {paths:?}"
            );
        }
        let judged = code.starts_with("pledge.voucher-") || *code == "pledge.pin-mismatch";
        let expect = match at {
            What::RequestVoucher if judged => Some(paths::VOUCHER_STATUS),
            What::RequestVoucher => None,
            _ => Some(paths::ENROL_STATUS),
        };
        if let Some(path) = expect {
            assert_eq!(reported.path, path, "{row}");
            let strict = Tolerances::strict();
            let (status, _) = VoucherStatus::from_json(&reported.body, &strict).unwrap();
            assert_eq!((status.version, status.status), (1, false), "{row}");
            assert_eq!(status.reason.as_deref(), Some(*code), "{row}");
        } else {
            assert_eq!(reported.path, paths::REQUEST_VOUCHER, "{row}");
        }
        assert!(
            sim.registrars[0].issued.is_empty() || at == What::Enrol,
            "{row}"
        );
    }
}

/// Requirements: BRSKI-5.6.1-04
#[test]
fn a_voucher_that_pins_nothing_is_a_failure_like_any_other() {
    let mut scene = Scene::new();
    let masa = scene.manufacturer.masa.clone();
    let mut device = Device::new(scene.config);
    let mut hook = |request: &pledge::Request, mut response: Response, _: &Device| {
        if request.what == What::RequestVoucher {
            without_pin(&mut response);
            let options = SignOptions {
                signing_time: Some(NOW),
                ..SignOptions::default()
            };
            let kind = pki::cms::ID_CT_ANIMA_JSON_VOUCHER;
            response.body = pki::cms::sign(&response.body, kind, &masa, &options).unwrap();
        }
        response
    };
    let step = scene.sim.run_with(&mut device, &mut hook);
    let Step::GiveUp(failure) = step else {
        panic!("{step:?}")
    };
    assert_eq!(failure.code(), "pledge.voucher-no-pin");
}

/// Requirements: BRSKI-5.6.1-05, VOUCHERBIS-8.6-02, BRSKI-5.7-08, BRSKI-7.2-01, BRSKI-5.6.2-02,
/// VOUCHER-5.3-18
#[test]
fn what_may_be_is_accepted() {
    // Nonceless, and an end that has not come.
    let mut scene = Scene::new();
    scene.leaves = Some(|v| {
        v.nonce = None;
        v.expires_on = Some(NOW + Duration::hours(1));
    });
    scene.sim.registrars[0].audit_policy.ignore = true;
    assert_eq!(scene.run().0, Step::Done);
    // The registrar's own certificate is pinned.
    let mut scene = Scene::new();
    scene.sim.masa.policy.pin = brski::masa::Pin::EndEntity;
    assert_eq!(scene.run().0, Step::Done);
    // Whatever is answered to the status reports.
    for at in [What::VoucherStatus, What::EnrolStatus] {
        let answers: [fn(&mut Response); 2] = [
            |r| *r = Response::new(500, "text/html", "<h1>oops</h1>"),
            |r| r.body = vec![0; 1 << 20],
        ];
        for answer in answers {
            let mut scene = Scene::new();
            scene.at = at;
            scene.answer = Some(answer);
            let (step, device, _) = scene.run();
            assert_eq!(step, Step::Done, "{at:?}");
            assert!(device.is_enrolled());
        }
    }
}

/// Somebody stands between the device and its registrar when it comes back to report success.
#[test]
fn nobody_takes_the_certificate_of_an_enrolled_device_away() {
    let scene = Scene::new();
    let mut sim = scene.sim;
    let mut device = Device::new(scene.config);
    let mut step = device.give(&Input::Begin, NOW);
    while !device.is_enrolled() {
        step = sim.carry_out(&mut device, step);
    }
    assert!(matches!(step, Step::Connect { .. }));
    let config = device.machine.config().clone();
    let state = device.machine.state().clone();
    let stranger = Ca::root("Domain").registrar("registrar").chain;
    let own = sim.registrars[0].identity.chain.clone();
    for chain in [Vec::new(), vec![own[0].clone(); 11], stranger] {
        let mut other = Device::new(config.clone());
        other.machine = pledge::Machine::resume(config.clone(), state.clone());
        assert!(matches!(
            other.give(&Input::Begin, NOW),
            Step::Connect { .. }
        ));
        assert_eq!(
            other.give(&Input::Connected { chain: &chain }, NOW),
            Step::Done
        );
        let Phase::Enrolled(enrolled) = &other.machine.state().phase else {
            panic!()
        };
        assert!(!enrolled.reported, "{} certificates", chain.len());
        assert!(other.requests.is_empty(), "the stranger is told nothing");
        // It tries again when it is started again.
        assert!(matches!(
            other.give(&Input::Begin, NOW),
            Step::Connect { .. }
        ));
    }
    // Nor does a line that breaks for good.
    for _ in 0..10 {
        step = match device.give(&Input::Disconnected { reason: "cut" }, NOW) {
            Step::Wait { .. } => device.give(&Input::Begin, NOW),
            other => other,
        };
    }
    let _ = step;
    assert!(device.is_enrolled());
}

/// Requirements: BRSKI-2.6.1-01, BRSKI-2.6.1-02, BRSKI-5.2-06
#[test]
fn a_device_that_believes_it_is_1970_enrols_if_it_knows_that_it_does_not_know() {
    for (clock, expect) in [
        (Clock::Untrusted, None),
        (Clock::Trusted, Some("pledge.voucher-untrusted")),
    ] {
        let mut scene = Scene::new();
        scene.config.clock = clock;
        // The request of a device with a wrong clock is old by more than any age.
        scene.sim.registrars[0].request_age_max = None;
        let mut device = Device::new(scene.config);
        device.clock_offset = OffsetDateTime::UNIX_EPOCH - NOW;
        let step = scene.sim.run(&mut device);
        match (step, expect) {
            (Step::Done, None) => assert!(device.is_enrolled()),
            (Step::GiveUp(failure), Some(code)) => assert_eq!(failure.code(), code),
            (step, _) => panic!("{clock:?}: {step:?}"),
        }
    }
}

/// The registrar's certificate ends in an hour; the device is two hours ahead, and sure of it.
///
/// Requirements: BRSKI-2.6.1-01, BRSKI-2.6.1-02
#[test]
fn a_trusted_clock_judges_the_registrars_certificate() {
    for clock in [Clock::Trusted, Clock::Untrusted] {
        let mut scene = Scene::new();
        let registrar = &mut scene.sim.registrars[0];
        let key = key();
        let short = CertificateBuilder::new(
            Profile::Registrar,
            name("CN=short").unwrap(),
            key.public_key().clone(),
            serial(),
            NOW - Duration::days(1),
            NOW + Duration::hours(1),
        )
        .dns_name("short.example");
        registrar.identity = registrar.domain.identity(&short, key);
        registrar.request_age_max = None;
        scene.config.clock = clock;
        let mut device = Device::new(scene.config);
        device.clock_offset = Duration::hours(2);
        match (scene.sim.run(&mut device), clock) {
            (Step::GiveUp(Failure::PinMismatch(cause)), Clock::Trusted) => {
                assert!(cause.text.contains("path.expired"), "{cause}");
            }
            (Step::Done, Clock::Untrusted) => {}
            (step, _) => panic!("{clock:?}: {step:?}"),
        }
    }
}

/// Requirements: BRSKI-5.1-09, BRSKI-5-06
#[test]
fn the_chain_that_was_shown_is_limited_and_kept() {
    let scene = Scene::new();
    let mut device = Device::new(scene.config.clone());
    let begin = |device: &mut Device| device.give(&Input::Begin, NOW);
    let connect =
        |device: &mut Device, chain: &[Certificate]| device.give(&Input::Connected { chain }, NOW);
    begin(&mut device);
    let Step::GiveUp(failure) = connect(&mut device, &[]) else {
        panic!()
    };
    assert_eq!(failure.code(), "pledge.registrar-chain");
    let chain = scene.sim.registrars[0].identity.chain.clone();
    let mut device = Device::new(scene.config.clone());
    begin(&mut device);
    let Step::GiveUp(failure) = connect(&mut device, &vec![chain[0].clone(); 11]) else {
        panic!()
    };
    assert_eq!(failure.code(), "pledge.registrar-chain");
    // After a power cut another server answers under the same address.
    let mut device = Device::new(scene.config.clone());
    begin(&mut device);
    assert!(matches!(connect(&mut device, &chain), Step::Send(_)));
    device.power_cut();
    assert!(matches!(begin(&mut device), Step::Connect { .. }));
    let stranger = Ca::root("Domain").registrar("registrar").chain;
    let Step::GiveUp(failure) = connect(&mut device, &stranger) else {
        panic!()
    };
    assert_eq!(failure, Failure::RegistrarChanged);
}

/// A request that was recorded is worth nothing on another connection or for another device.
#[test]
fn a_replayed_request_is_refused() {
    let scene = Scene::new();
    let mut sim = scene.sim;
    let mut first = Device::new(scene.config.clone());
    assert_eq!(sim.run(&mut first), Step::Done);
    let recorded = first.requests[0].body.clone();
    for idevid in [first.idevid.clone(), scene.manufacturer.device("SN-2")] {
        let mut config = Device::config(&idevid, &scene.manufacturer);
        config.replay = Some(recorded.clone());
        let mut replayer = Device::new(config);
        let step = sim.run(&mut replayer);
        let Step::GiveUp(Failure::Refused { status: 403, .. }) = step else {
            panic!("{step:?}")
        };
    }
    let codes = ["registrar.request-replayed", "registrar.signer-mismatch"];
    assert!(
        sim.registrars[0].log.ends_with(&codes.map(str::to_owned)),
        "{:?}",
        sim.registrars[0].log
    );
}
