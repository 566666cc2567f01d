//! Every refusal of the registrar towards a pledge: what causes it, its code and its HTTP status.

use artifacts::{
    Assertion, Envelope, Nonce, RequestFields, SerialNumber, Tolerances, VoucherRequest, open,
    sign_request,
};
use brski::{
    SerialRule,
    masa::Inbound,
    paths, pledge,
    registrar::{
        self, ChainToSend, MasaAnswer, MasaUrlRule, Preloaded, Profiles, Refusal, Stage, Step,
        VendorProfile, Verdict,
    },
};
use pki::{
    Certificate, Coded, Identity, Signer,
    issue::{AltName, CertificateBuilder, Profile, name},
};
use time::{Duration, OffsetDateTime};

use crate::{
    masa_refusals::nonce,
    sim::{Fault, Masa, Registrar, Response, Sim},
    world::{Ca, Manufacturer, NOW, key, leaf_only, serial},
};

struct Scene {
    sim: Sim,
    manufacturer: Manufacturer,
    idevid: Identity,
    /// What the TLS connection proved.
    client: Vec<Certificate>,
    fields: RequestFields,
    signer: Identity,
    content_type: String,
    accept: Option<String>,
    tamper: fn(&mut Vec<u8>),
    now: OffsetDateTime,
    /// The bytes of a request that was sent before, to be sent instead.
    bytes: Option<Vec<u8>>,
}

impl Scene {
    fn new() -> Self {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        let idevid = manufacturer.device("SN-1");
        let mut fields = RequestFields::new(SerialNumber::new("SN-1").unwrap());
        fields.created_on = Some(NOW);
        fields.assertion = Some(Assertion::Proximity);
        fields.nonce = nonce(1);
        fields.proximity_registrar_cert = sim.registrars[0].identity.certificate().cloned();
        Self {
            sim,
            client: idevid.chain[..1].to_vec(),
            signer: leaf_only(&idevid),
            manufacturer,
            idevid,
            fields,
            content_type: Envelope::Cms.media_type().to_owned(),
            accept: None,
            tamper: |_| {},
            now: NOW,
            bytes: None,
        }
    }

    fn registrar(&mut self) -> &mut Registrar {
        &mut self.sim.registrars[0]
    }

    fn masa(&mut self) -> &mut Masa {
        &mut self.sim.masa
    }

    fn profile(&mut self, change: impl FnOnce(&mut VendorProfile)) {
        let mut profile = self.registrar().profiles.named("acme").unwrap().clone();
        change(&mut profile);
        self.registrar().profiles = Profiles::new(vec![profile]);
    }

    fn body(&self) -> Vec<u8> {
        if let Some(bytes) = &self.bytes {
            return bytes.clone();
        }
        let request = VoucherRequest::new(self.fields.clone()).unwrap();
        let mut bytes = sign_request(&request, Envelope::Cms, &self.signer, Some(NOW)).unwrap();
        (self.tamper)(&mut bytes);
        bytes
    }

    fn send(&mut self) -> Response {
        let mut headers = vec![("content-type", self.content_type.clone())];
        headers.extend(self.accept.clone().map(|accept| ("accept", accept)));
        let request = pledge::Request {
            what: pledge::What::RequestVoucher,
            method: "POST",
            path: paths::REQUEST_VOUCHER.to_owned(),
            headers,
            body: self.body(),
        };
        let now = self.now;
        self.sim.registrars[0].handle(&self.client, &request, &mut self.sim.masa, now)
    }

    /// Another IDevID for this device.
    fn use_idevid(&mut self, idevid: Identity) {
        self.client = idevid.chain[..1].to_vec();
        self.signer = leaf_only(&idevid);
        self.idevid = idevid;
    }
}

/// An IDevID with what is unusual about it.
fn odd_idevid(
    ca: &Ca,
    subject: &str,
    change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
) -> Identity {
    let key = key();
    // The lint of our own profile for IDevIDs would not let an odd one pass.
    let proper = subject.contains("serialNumber");
    let profile = if proper {
        Profile::Idevid
    } else {
        Profile::TlsClient
    };
    let builder = CertificateBuilder::new(
        profile,
        name(subject).unwrap(),
        key.public_key().clone(),
        serial(),
        NOW - Duration::days(50),
        time::macros::datetime!(9999-12-31 23:59:59 UTC),
    );
    ca.identity(&change(builder), key)
}

type Row = (&'static str, u16, &'static str, fn(&mut Scene));

const ROWS: &[Row] = &[
    ("registrar.media-type", 415, "BRSKI-5.2-04", |s| {
        s.content_type = "application/foo".to_owned();
    }),
    (
        "registrar.accept-not-understood",
        415,
        "BRSKI-5.6-19",
        |s| {
            s.accept = Some("text/html".to_owned());
        },
    ),
    ("registrar.not-acceptable", 406, "BRSKI-5.6-17", |s| {
        s.accept = Some("application/voucher-cms+json;q=0".to_owned());
    }),
    (
        "registrar.no-client-certificate",
        403,
        "BRSKI-5.1-06 BRSKI-7.3-02",
        |s| s.client.clear(),
    ),
    (
        "registrar.manufacturer-unknown",
        403,
        "BRSKI-5.1-07 BRSKI-11.5-01",
        |s| {
            let rogue = Manufacturer::new("Rogue").device("SN-1");
            s.use_idevid(rogue);
        },
    ),
    // Signed by itself, under the name of the manufacturer's device.
    ("registrar.manufacturer-unknown", 403, "BRSKI-5.1-07", |s| {
        let rogue = Ca::root("serialNumber=SN-1").certificate;
        s.client = vec![rogue];
    }),
    // Under the manufacturer's name, by a key that is not the manufacturer's.
    ("registrar.idevid-invalid", 403, "BRSKI-5.1-07", |s| {
        let forger = Ca::root("Acme");
        s.use_idevid(odd_idevid(&forger, "serialNumber=SN-1", |b| b));
    }),
    ("registrar.idevid-invalid", 403, "BRSKI-2.6.2-02", |s| {
        s.now = NOW - Duration::days(60)
    }),
    ("registrar.serial-missing", 403, "BRSKI-2.3.1-02", |s| {
        let ca = s.manufacturer.ca.clone();
        s.use_idevid(odd_idevid(&ca, "CN=SN-1", |b| b));
    }),
    ("registrar.request-malformed", 406, "BRSKI-5.3-03", |s| {
        s.tamper = |b| b.truncate(30)
    }),
    (
        "registrar.request-malformed",
        406,
        "BRSKI-5.3-03 BRSKI-6-01",
        |s| {
            s.tamper = |bytes| *bytes = est::body::encode(bytes);
        },
    ),
    ("registrar.request-signature", 403, "BRSKI-5.2-13", |s| {
        s.tamper = |bytes| *bytes.last_mut().unwrap() ^= 1;
    }),
    ("registrar.signer-mismatch", 403, "BRSKI-5.2-14", |s| {
        s.signer = leaf_only(&s.manufacturer.device("SN-1"));
    }),
    (
        "registrar.serial-mismatch",
        403,
        "BRSKI-2.3.1-04 BRSKI-5.2-15 BRSKI-5.5-10",
        |s| {
            s.fields.serial_number = SerialNumber::new("SN-2").unwrap();
        },
    ),
    (
        "registrar.assertion-not-proximity",
        401,
        "BRSKI-5.2-11",
        |s| {
            s.fields.assertion = Some(Assertion::Logged);
        },
    ),
    (
        "registrar.assertion-not-proximity",
        401,
        "BRSKI-5.2-11",
        |s| s.fields.assertion = None,
    ),
    ("registrar.proximity-missing", 401, "BRSKI-5.2-11", |s| {
        s.fields.proximity_registrar_cert = None;
    }),
    ("registrar.proximity-mismatch", 401, "BRSKI-5.2-12", |s| {
        let other = Ca::root("Other").registrar("other");
        s.fields.proximity_registrar_cert = other.certificate().cloned();
    }),
    ("registrar.nonce-missing", 400, "", |s| {
        s.fields.nonce = None
    }),
    ("registrar.request-stale", 403, "", |s| {
        s.now = NOW + Duration::hours(1)
    }),
    ("registrar.request-from-future", 403, "", |s| {
        s.fields.created_on = Some(NOW + Duration::hours(1));
    }),
    // The exchange of this request is over: whoever sends it again has recorded it.
    ("registrar.request-replayed", 403, "", |s| {
        let bytes = s.body();
        s.bytes = Some(bytes);
        assert_eq!(s.send().status, 200);
        s.registrar().exchanges.get_mut("SN-1").unwrap().stage = Stage::Enrolled;
    }),
    // The same nonce in new bytes.
    ("registrar.request-replayed", 403, "", |s| {
        assert_eq!(s.send().status, 200);
        s.fields.created_on = Some(NOW + Duration::SECOND);
    }),
    // The nonce of an attempt before the last one.
    ("registrar.request-replayed", 403, "", |s| {
        assert_eq!(s.send().status, 200);
        s.fields.nonce = nonce(2);
        assert_eq!(s.send().status, 200);
        s.fields.nonce = nonce(1);
    }),
    (
        "registrar.vendor-denied",
        403,
        "BRSKI-5.3-04 BRSKI-9.1.2-01",
        |s| {
            s.registrar().verdict = Verdict::DenyVendor("not bought".to_owned());
        },
    ),
    (
        "registrar.device-denied",
        404,
        "BRSKI-5.3-01 BRSKI-5.3-02 BRSKI-7.3-01",
        |s| {
            s.registrar().verdict = Verdict::DenyDevice("not on the list".to_owned());
        },
    ),
    ("registrar.clone-suspected", 403, "", |s| {
        assert_eq!(s.send().status, 200);
        let clone = s.manufacturer.device("SN-1");
        s.use_idevid(clone);
        s.fields.nonce = nonce(2);
    }),
    ("registrar.masa-url-missing", 403, "", |s| {
        let ca = s.manufacturer.ca.clone();
        s.use_idevid(odd_idevid(&ca, "serialNumber=SN-1", |b| b));
    }),
    ("registrar.masa-url-invalid", 403, "BRSKI-2.3.2-04", |s| {
        s.profile(|profile| {
            profile.masa_url = MasaUrlRule::Pinned("http://masa.example/".to_owned());
        });
    }),
    ("registrar.masa-unreachable", 504, "BRSKI-5.6-04", |s| {
        s.registrar().masa_fault = Fault::RequestLost;
    }),
    ("registrar.masa-refused", 404, "BRSKI-5.6-04", |s| {
        s.masa().devices.clear()
    }),
    ("registrar.masa-refused", 403, "BRSKI-5.6-04", |s| {
        s.masa().devices.get_mut("SN-1").unwrap().sold_to = Some("somebody".to_owned());
    }),
];

/// Requirements: BRSKI-2.3.1-02, BRSKI-2.3.1-04, BRSKI-2.3.2-04, BRSKI-5.1-06, BRSKI-5.1-07,
/// BRSKI-5.2-04, BRSKI-5.2-11, BRSKI-5.2-12, BRSKI-5.2-13, BRSKI-5.2-14, BRSKI-5.2-15,
/// BRSKI-5.3-01, BRSKI-5.3-02, BRSKI-5.3-03, BRSKI-5.3-04, BRSKI-5.5-10, BRSKI-5.6-04,
/// BRSKI-6-01, BRSKI-7.3-02, BRSKI-11.5-01
#[test]
fn each_refusal_has_its_cause_its_code_and_its_status() {
    for (index, (code, status, requirements, spoil)) in ROWS.iter().enumerate() {
        let mut scene = Scene::new();
        spoil(&mut scene);
        let asked_before = scene.registrar().masa_calls.len();
        let response = scene.send();
        let row = format!("{index} {code} {requirements}");
        assert_eq!(
            scene.registrar().log.last().map(String::as_str),
            Some(*code),
            "{row}"
        );
        assert_eq!(response.status, *status, "{row}");
        let body = String::from_utf8(response.body).unwrap();
        assert!(body.starts_with(code), "{row}: {body}");
        // The MASA hears only of requests that were found good.
        if !code.starts_with("registrar.masa-re") && !code.starts_with("registrar.masa-un") {
            assert_eq!(scene.registrar().masa_calls.len(), asked_before, "{row}");
        }
    }
}

/// Requirements: BRSKI-5.2-12
#[test]
fn somebody_in_between_is_answered_with_401_and_the_end_of_the_connection() {
    for refusal in [
        Refusal::ProximityMismatch,
        Refusal::ProximityMissing,
        Refusal::AssertionNotProximity,
    ] {
        assert_eq!(refusal.http_status(), 401);
        assert!(refusal.closes_connection());
    }
    assert!(!Refusal::SerialMismatch.closes_connection());
}

/// Requirements: BRSKI-5.5-04, BRSKI-5.5-07, BRSKI-5.5-08, BRSKI-5.5-09, BRSKI-5.5-11,
/// BRSKI-5.5-12, BRSKI-5.5-13, BRSKI-5.5-14, BRSKI-3.4-05, VOUCHERBIS-6.1-01, BRSKI-3-02,
/// BRSKI-5.5-02, JWS-8-01
#[test]
fn the_registrars_request_is_built_from_what_is_certified() {
    let mut scene = Scene::new();
    // A nonce in an unusual spelling is handed on as it is.
    scene.fields.nonce = Nonce::from_text("-_XE9zK9q8Ll1qylMtLKeg");
    scene.profile(|profile| {
        profile.tolerances = Tolerances::from_names(["binary-base64url"]).unwrap();
    });
    scene.accept = Some("application/voucher-cms+json, */*;q=0.1".to_owned());
    let pledge_bytes = scene.body();
    scene.bytes = Some(pledge_bytes.clone());
    scene.send();
    let call = scene.registrar().masa_calls[0].clone();
    assert_eq!(call.accept, "application/voucher-cms+json, */*;q=0.1");
    let signed = open(
        artifacts::Document::Request,
        &call.body,
        None,
        &Tolerances::strict(),
    )
    .unwrap();
    let signed = signed.dangerous_peek();
    assert_eq!(signed.certificates().len(), 2, "registrar and domain CA");
    let lenient = Tolerances::lenient();
    let (request, _) = VoucherRequest::from_json(signed.payload().unwrap(), &lenient).unwrap();
    assert_eq!(
        request.nonce.as_ref().unwrap().as_str(),
        "-_XE9zK9q8Ll1qylMtLKeg"
    );
    assert_eq!(request.serial_number.as_str(), "SN-1");
    assert_eq!(request.created_on, Some(NOW));
    assert_eq!(
        request.prior_signed_voucher_request.as_deref(),
        Some(pledge_bytes.as_slice())
    );
    assert!(request.proximity_registrar_cert.is_none());
    let idevid = scene.idevid.certificate().unwrap();
    let issuer = request.idevid_issuer.as_ref().unwrap();
    assert_eq!(issuer.key_id(), idevid.authority_key_id().as_deref());
}

/// Requirements: BRSKI-5.2-07, BRSKI-5.2-16
#[test]
fn a_minimal_request_of_a_device_without_a_clock_is_served() {
    let mut scene = Scene::new();
    scene.fields.created_on = None;
    assert_eq!(scene.send().status, 200);
}

/// Requirements: BRSKI-2.3.1-03, BRSKI-2.6.2-02, BRSKI-2.8-02, BRSKI-5.4-03, BRSKI-2.3-03
#[test]
fn vendor_profiles_say_how_a_device_is_recognised() {
    let (_, manufacturer) = Sim::new();
    let ca = &manufacturer.ca;
    let module = AltName::HardwareModule(pki::HardwareModuleName {
        hardware_type: pki::ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1"),
        serial_number: b"HW-7".to_vec(),
    });
    let template = |text: &str| brski::Template::try_from(text.to_owned()).unwrap();
    for (rule, idevid, expect) in [
        (
            SerialRule::SubjectSerialNumber,
            odd_idevid(ca, "serialNumber=SN-1", |b| b),
            "SN-1",
        ),
        (
            SerialRule::CommonName,
            odd_idevid(ca, "CN=box-1", |b| b),
            "box-1",
        ),
        (
            SerialRule::HardwareModuleName,
            odd_idevid(ca, "CN=x", |b| b.alt_name(module.clone())),
            "HW-7",
        ),
        (
            SerialRule::SubjectSerialNumberTemplate(template("PID:* SN:{serial}")),
            odd_idevid(ca, "serialNumber=PID:C9300 SN:FCW2129", |b| b),
            "FCW2129",
        ),
    ] {
        let other = Manufacturer::new("Other");
        let profile = |name: &str, anchors| VendorProfile {
            name: name.to_owned(),
            anchors,
            intermediates: Vec::new(),
            masa_anchors: pki::path::Anchors::new(),
            serial: rule.clone(),
            masa_url: MasaUrlRule::Fallback("masa.fallback.example".to_owned()),
            ignore_expiry: false,
            cose_name: brski::media::CoseName::Current,
            tolerances: Tolerances::strict(),
        };
        let profiles = Profiles::new(vec![
            profile("other", other.ca.anchors()),
            profile("acme", ca.anchors()),
        ]);
        let device = registrar::identify(&idevid.chain[..1], &profiles, NOW).unwrap();
        assert_eq!(
            (device.vendor.as_str(), device.key.serial.as_str()),
            ("acme", expect)
        );
        let acme = profiles.named("acme").unwrap();
        let url = registrar::masa_of(&device.certificate, acme).unwrap();
        assert_eq!(
            url.as_str(),
            "https://masa.fallback.example/.well-known/brski"
        );
    }
    // An IDevID whose time is over, and a vendor whose devices are taken all the same.
    let key = key();
    let short = ca.builder(Profile::Ldevid, "serialNumber=SN-1", &key);
    let short = ca.identity(&short, key);
    let later = NOW + Duration::days(500);
    let mut profile = Registrar::new(Ca::root("D"), &manufacturer)
        .profiles
        .named("acme")
        .unwrap()
        .clone();
    let identify = |profile: &VendorProfile| {
        registrar::identify(
            &short.chain[..1],
            &Profiles::new(vec![profile.clone()]),
            later,
        )
    };
    assert_eq!(
        identify(&profile).unwrap_err().code(),
        "registrar.idevid-invalid"
    );
    profile.ignore_expiry = true;
    assert!(identify(&profile).is_ok());
    profile.masa_url = MasaUrlRule::Pinned("https://pinned.example/masa".to_owned());
    let device = manufacturer.device("SN-1");
    let url = registrar::masa_of(device.certificate().unwrap(), &profile).unwrap();
    assert_eq!(
        url.as_str(),
        "https://pinned.example/masa",
        "whatever the extension says"
    );
}

/// Requirements: BRSKI-5.6-05, BRSKI-5.6-06, BRSKI-5.6-09, BRSKI-5.6-32, BRSKI-5-07
#[test]
fn a_human_is_asked_and_the_same_request_gets_the_outcome() {
    let mut scene = Scene::new();
    let bytes = scene.body();
    scene.bytes = Some(bytes);
    scene.registrar().verdict = Verdict::Ask;
    for _ in 0..2 {
        let response = scene.send();
        assert_eq!(response.status, 202);
        assert_eq!(response.header("retry-after"), Some("30"));
    }
    assert!(scene.registrar().masa_calls.is_empty());
    // Another device of the same manufacturer cannot pick up what is being prepared.
    let own = scene.client.clone();
    scene.client = scene.manufacturer.device("SN-2").chain[..1].to_vec();
    assert_eq!(scene.send().status, 403);
    scene.client = own;
    scene.registrar().verdict = Verdict::Allow;
    let first = scene.send();
    assert_eq!(first.status, 200);
    // The pledge did not get it: the same again, without a second question to the MASA.
    let second = scene.send();
    assert_eq!(first.body, second.body);
    assert_eq!(scene.registrar().masa_calls.len(), 1);
}

/// Requirements: BRSKI-5.5-16, BRSKI-3.1-01, BRSKI-7.2-01, BRSKI-9-01
#[test]
fn a_voucher_that_was_loaded_before_serves_without_a_masa() {
    let mut scene = Scene::new();
    let domain = scene.registrar().domain.clone();
    scene.masa().owners.push(brski::masa::OwnerRecord {
        id: "o".to_owned(),
        certificates: vec![domain.certificate],
        nonceless: true,
        blocked: false,
        pin: None,
    });
    scene.masa().devices.get_mut("SN-1").unwrap().sold_to = Some("o".to_owned());
    let wanted = registrar::Nonceless {
        device: brski::masa::DeviceKey {
            issuer_key_id: scene.manufacturer.ca.certificate.subject_key_id(),
            serial: "SN-1".to_owned(),
        },
        masa: registrar::masa_base_url("masa.example:9443").unwrap(),
        envelope: Envelope::Cms,
        cose_name: brski::media::CoseName::Current,
    };
    let identity = scene.registrar().identity.clone();
    let call = registrar::nonceless_call(&wanted, &identity, NOW).unwrap();
    let inbound = Inbound {
        body: &call.body,
        content_type: Some(call.content_type),
        accept: Some(&call.accept),
    };
    let response = scene.masa().voucher(inbound, NOW);
    assert_eq!(
        response.status,
        200,
        "{:?}",
        String::from_utf8_lossy(&response.body)
    );
    let preloaded = Preloaded {
        voucher: response.body.clone(),
        envelope: Envelope::Cms,
        expires_on: None,
    };
    scene
        .registrar()
        .preloaded
        .insert("SN-1".to_owned(), preloaded);
    scene.registrar().masa_fault = Fault::RequestLost;
    let served = scene.send();
    assert_eq!((served.status, &served.body), (200, &response.body));
    let exchange = &scene.registrar().exchanges["SN-1"];
    assert!(exchange.preloaded);
    assert!(exchange.pinned.is_some());
    // One that has expired does not.
    let mut late = scene.registrar().preloaded["SN-1"].clone();
    late.expires_on = Some(NOW);
    let exchange = scene.registrar().exchanges["SN-1"].clone();
    assert!(registrar::use_preloaded(&exchange, &late, NOW).is_none());
}

/// Requirements: BRSKI-5.4-06, BRSKI-5.6-02, BRSKI-5.6.2-06, BRSKI-5.6-04
#[test]
fn the_masas_answer_is_looked_at_before_it_is_handed_on() {
    let mut scene = Scene::new();
    assert_eq!(scene.send().status, 200);
    let mut exchange = scene.registrar().exchanges["SN-1"].clone();
    let good = exchange.voucher.clone().unwrap();
    let profile = scene.registrar().profiles.named("acme").unwrap().clone();
    let chain = scene.registrar().identity.chain.clone();
    let judge = |exchange: &registrar::Exchange, status, content_type, body: &[u8], chain: &[_]| {
        let answer = MasaAnswer::Http {
            status,
            content_type,
            body,
        };
        match registrar::masa_answered(exchange, &answer, chain, &profile, NOW) {
            Step::Voucher { voucher, .. } => {
                assert_eq!(voucher, good, "byte for byte");
                "voucher".to_owned()
            }
            Step::Refuse(refusal) => format!("{} {}", refusal.code(), refusal.http_status()),
            other => panic!("{other:?}"),
        }
    };
    let cms = Some(Envelope::Cms.media_type());
    assert_eq!(judge(&exchange, 200, cms, &good, &chain), "voucher");
    assert_eq!(
        judge(&exchange, 401, None, b"", &chain),
        "registrar.masa-unauthorised 502"
    );
    assert_eq!(
        judge(&exchange, 403, None, b"no", &chain),
        "registrar.masa-refused 403"
    );
    assert_eq!(
        judge(&exchange, 404, None, b"no", &chain),
        "registrar.masa-refused 404"
    );
    assert_eq!(
        judge(&exchange, 500, None, b"", &chain),
        "registrar.masa-refused 502"
    );
    assert_eq!(
        judge(&exchange, 302, None, b"", &chain),
        "registrar.masa-refused 502"
    );
    assert_eq!(
        judge(&exchange, 200, None, &good, &chain),
        "registrar.masa-answer 502"
    );
    assert_eq!(
        judge(&exchange, 200, cms, b"", &chain),
        "registrar.masa-answer 502"
    );
    assert_eq!(
        judge(&exchange, 200, cms, &good[..60], &chain),
        "registrar.masa-answer 502"
    );
    let stranger = Ca::root("Stranger").registrar("stranger").chain;
    assert_eq!(
        judge(&exchange, 200, cms, &good, &stranger),
        "registrar.voucher-unfit 502"
    );
    // A format that the pledge did not ask for.
    let mut only_jws = exchange.clone();
    only_jws.accept = Some(Envelope::Jws.media_type().to_owned());
    assert_eq!(
        judge(&only_jws, 200, cms, &good, &chain),
        "registrar.masa-answer 502"
    );
    exchange.nonce = Some("another".to_owned());
    assert_eq!(
        judge(&exchange, 200, cms, &good, &chain),
        "registrar.voucher-unfit 502"
    );
    exchange.device.serial = "SN-2".to_owned();
    assert_eq!(
        judge(&exchange, 200, cms, &good, &chain),
        "registrar.voucher-unfit 502"
    );
}

/// Requirements: BRSKI-5.7-09, BRSKI-5.7-10, BRSKI-5.7-11, BRSKI-5.7-12, BRSKI-5.7-13,
/// BRSKI-5.9.4-06
#[test]
fn telemetry_moves_the_exchange_forward_only() {
    let mut scene = Scene::new();
    assert_eq!(scene.send().status, 200);
    let mut exchange = scene.registrar().exchanges["SN-1"].clone();
    let strict = Tolerances::strict();
    let status = |exchange: &registrar::Exchange, body: &str| {
        registrar::voucher_status(body.as_bytes(), Some(exchange), &strict)
    };
    let good = status(&exchange, r#"{"version":1,"status":true}"#).unwrap();
    assert_eq!(good.stage, Some(Stage::VoucherAccepted));
    let bad = status(
        &exchange,
        r#"{"version":1,"status":false,"reason":"no\u0007"}"#,
    )
    .unwrap();
    assert_eq!(
        bad.stage,
        Some(Stage::VoucherRefused {
            reason: Some("no".to_owned())
        })
    );
    let new = status(&exchange, r#"{"version":7,"status":true,"x":1}"#).unwrap();
    assert_eq!(new.report.newer_version, Some(7));
    assert_eq!(new.report.unknown_members, ["x"]);
    for malformed in [
        "",
        "{",
        r#"{"status":true}"#,
        r#"{"version":"1","status":"true"}"#,
    ] {
        let refusal = status(&exchange, malformed).unwrap_err();
        let expect = ("registrar.telemetry-malformed", 400);
        assert_eq!(
            (refusal.code(), refusal.http_status()),
            expect,
            "{malformed}"
        );
    }
    // A late failure report does not undo an enrolment.
    exchange.stage = Stage::Enrolled;
    assert_eq!(
        status(&exchange, r#"{"version":1,"status":false}"#)
            .unwrap()
            .stage,
        None
    );
    let body = br#"{"version":1,"status":true}"#;
    exchange.stage = Stage::VoucherAccepted;
    for matching in [true, false] {
        let reported = registrar::enrol_status(body, Some(&exchange), matching, &strict).unwrap();
        assert_eq!(reported.stage, Some(Stage::Enrolled));
        assert_eq!(reported.matching_certificate, matching);
    }
    assert_eq!(
        registrar::enrol_status(body, None, false, &strict)
            .unwrap()
            .stage,
        None
    );
}

/// Requirements: BRSKI-5.5-06
#[test]
fn the_registrar_chooses_what_may_be_pinned() {
    let mut scene = Scene::new();
    scene.registrar().chain = ChainToSend::EndEntity;
    assert_eq!(scene.send().status, 200);
    let leaf = scene.registrar().identity.certificate().cloned().unwrap();
    let pinned = scene.registrar().exchanges["SN-1"].pinned.clone().unwrap();
    assert_eq!(pinned.key, brski::DomainKey::of(&leaf));
}
