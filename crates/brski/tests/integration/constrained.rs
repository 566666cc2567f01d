//! Vouchers in COSE: what constrained devices, their registrars and their MASAs do differently.

use artifacts::{
    Assertion, Envelope, IdevidIssuer, OLD_COSE_MEDIA_TYPE, RequestFields, SerialNumber,
    Tolerances, Voucher, VoucherRequest,
};
use brski::{
    media::CoseName,
    paths,
    pledge::{self, Phase, ProximityForm, Step, What},
    registrar::{self, Profiles, Stage},
};
use pki::{
    Certificate, Identity,
    cose::{self, CoseCertificates, CoseOptions, Sign1},
};

use crate::{
    constrained_pledge::{bag, sign_by_hand},
    masa_refusals::nonce,
    sim::{Device, Response, Sim, stage},
    world::{Ca, Manufacturer, NOW},
};

pub(crate) const COSE: &str = "application/voucher+cose";
pub(crate) const FORMS: [ProximityForm; 3] = [
    ProximityForm::Certificate,
    ProximityForm::PublicKey,
    ProximityForm::PublicKeySha256,
];

/// A device that speaks COSE. The certificate that signs its vouchers is built in: it does not
/// travel.
pub(crate) fn config(idevid: &Identity, manufacturer: &Manufacturer) -> pledge::Config {
    pledge::Config {
        envelope: Envelope::Cose,
        masa_anchors: manufacturer.masa.chain[0].clone().into(),
        ..Device::config(idevid, manufacturer)
    }
}

fn request_of(bytes: &[u8]) -> VoucherRequest {
    let signed = Sign1::parse(bytes).unwrap();
    let strict = Tolerances::strict();
    VoucherRequest::from_cbor(signed.payload(), &strict)
        .unwrap()
        .0
}

pub(crate) fn voucher_of(bytes: &[u8]) -> Voucher {
    let signed = Sign1::parse(bytes).unwrap();
    let strict = Tolerances::strict();
    Voucher::from_cbor(signed.payload(), &strict).unwrap().0
}

/// What the MASA of a simulation answered last.
fn masa_answer(sim: &Sim) -> Vec<u8> {
    sim.masa.issued.values().next().unwrap().2.clone()
}

/// A device with a domain of two levels, enrolled; the request that it sent and the voucher that
/// it got.
fn enrolled(form: ProximityForm) -> (Sim, Manufacturer, Identity, Vec<u8>, Vec<u8>) {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let domain = Ca::root("Domain").below("Site");
    sim.registrars[0] = crate::sim::Registrar::new(domain, &manufacturer);
    let idevid = manufacturer.device("SN-1");
    let mut config = config(&idevid, &manufacturer);
    config.proximity = form;
    // The device shows its whole chain on the connection.
    config.idevid = idevid.clone();
    let mut device = Device::new(config);
    assert_eq!(sim.run(&mut device), Step::Done, "{form:?}");
    let Phase::Enrolled(enrolled) = &device.machine.state().phase else {
        panic!("{form:?}");
    };
    let request = device.requests[0].body.clone();
    let voucher = enrolled.voucher.clone();
    (sim, manufacturer, idevid, request, voucher)
}

/// Requirements: CBR-001, CBR-002, CBR-090, CBR-091, CBR-092, CBR-094, CBR-101, CBR-103, CBR-105,
/// CBR-107, CBR-108, CBR-115, CBR-116, CBR-117, CBR-122, CBR-126, CBR-131, CBR-132, CBR-133,
/// CBR-134, CBR-135, CBR-136, CBR-137, CBR-138, CBR-154, CBR-158, VCB-022, VCB-033, VCB-038
#[test]
fn a_device_enrols_over_cose_whichever_way_it_names_its_registrar() {
    for form in FORMS {
        let (sim, manufacturer, idevid, request, voucher) = enrolled(form);
        let registrar = &sim.registrars[0];
        assert_eq!(stage(registrar, "SN-1"), Some(&Stage::Enrolled));
        let own = registrar.identity.chain[0].clone();

        // The pledge's request.
        let signed = Sign1::parse(&request).unwrap();
        assert!(signed.certificates().is_empty() && signed.key_id().is_none());
        signed
            .verify_with_key(idevid.chain[0].public_key())
            .unwrap();
        let pledges = request_of(&request);
        assert_eq!(pledges.assertion, Some(Assertion::Proximity));
        let key = pledges.proximity_registrar_pubk.as_ref();
        let named = (
            pledges.proximity_registrar_cert.as_ref(),
            key.map(pki::PublicKey::spki_der),
            pledges.proximity_registrar_pubk_sha256,
        );
        let expect = match form {
            ProximityForm::Certificate => (Some(&own), None, None),
            ProximityForm::PublicKey => (None, Some(own.public_key().spki_der()), None),
            ProximityForm::PublicKeySha256 => (None, None, Some(own.public_key().sha256())),
        };
        assert_eq!(named, expect);

        // The registrar's.
        let call = &registrar.masa_calls[0];
        assert_eq!((call.content_type, call.accept.as_str()), (COSE, COSE));
        let signed = Sign1::parse(&call.body).unwrap();
        let bag = signed.certificates();
        for certificate in registrar.identity.chain.iter().chain(&idevid.chain) {
            assert!(bag.contains(certificate), "{}", certificate.subject());
        }
        let registrars = request_of(&call.body);
        assert_eq!(
            registrars.prior_signed_voucher_request.as_deref(),
            Some(request.as_slice())
        );
        assert_eq!(registrars.serial_number.as_str(), "SN-1");
        assert_eq!(registrars.nonce, pledges.nonce);
        assert_eq!(registrars.assertion, Some(Assertion::Proximity));
        assert_eq!(registrars.created_on, Some(NOW));
        assert_eq!(registrars.proximity().count(), 0);
        let issuer = IdevidIssuer::of(&idevid.chain[0]);
        assert!(registrars.idevid_issuer.clone().unwrap().matches(&issuer));

        // The MASA's voucher, and what the pledge got of it.
        let answered = masa_answer(&sim);
        let signed = Sign1::parse(&answered).unwrap();
        for certificate in &manufacturer.masa.chain {
            assert!(signed.certificates().contains(certificate));
        }
        let pinned = voucher_of(&voucher);
        assert_eq!(pinned.nonce, pledges.nonce);
        assert_eq!(pinned.serial_number.as_str(), "SN-1");
        assert_eq!(pinned.assertion, Some(Assertion::Proximity));
        assert!(pinned.unknown.is_empty() && pinned.expires_on.is_none());
        assert_eq!(pinned.pins().count(), 1);
        match form {
            // The lowest CA, not the root above it.
            ProximityForm::Certificate => {
                let site = &registrar.domain.certificate;
                assert_eq!(pinned.pinned_domain_cert.as_ref(), Some(site));
            }
            ProximityForm::PublicKey => {
                let pin = pinned.pinned_domain_pubk.as_ref().unwrap();
                assert_eq!(pin.spki_der(), own.public_key().spki_der());
            }
            ProximityForm::PublicKeySha256 => {
                let hash = own.public_key().sha256();
                assert_eq!(pinned.pinned_domain_pubk_sha256, Some(hash));
                assert!(voucher.len() < 200, "{} octets", voucher.len());
            }
        }
    }
}

/// Whatever a voucher in COSE pins, the domain is known by what policy says: another registrar of
/// it may have the device again, and the audit log shows whose it is.
///
/// Requirements: BRSKI-5.5.1-01, BRSKI-5.8.2-01
#[test]
fn the_holder_is_the_domain_and_not_the_key_that_was_pinned() {
    for form in FORMS {
        let (mut sim, manufacturer, idevid, ..) = enrolled(form);
        let domain = sim.registrars[0].domain.clone();
        let root = domain.above[0].clone();
        let holder = sim.masa.devices["SN-1"].holder.clone().unwrap();
        assert_eq!(holder.domain, brski::DomainKey::of(&root), "{form:?}");
        let second = crate::sim::Registrar::new(domain, &manufacturer);
        sim.registrars[0] = second;
        let mut config = config(&idevid, &manufacturer);
        config.proximity = form;
        let mut device = Device::new(config);
        device.entropy = 8;
        assert_eq!(sim.run(&mut device), Step::Done, "{form:?}");
        assert_eq!(sim.masa.events["SN-1"].len(), 2);
    }
}

/// Requirements: CBR-083, CBR-084
#[test]
fn the_registrar_takes_off_the_certificates_and_nothing_else() {
    let (sim, _, _, _, voucher) = enrolled(ProximityForm::Certificate);
    let parts = |bytes: &[u8]| {
        let value: ciborium::Value = ciborium::from_reader(bytes).unwrap();
        let (tag, value) = value.into_tag().unwrap();
        assert_eq!(tag, 18);
        value.into_array().unwrap()
    };
    let (answered, handed_on) = (parts(&masa_answer(&sim)), parts(&voucher));
    for unchanged in [0, 2, 3] {
        assert_eq!(answered[unchanged], handed_on[unchanged]);
    }
    assert_eq!(answered[1].as_map().unwrap().len(), 1);
    assert!(handed_on[1].as_map().unwrap().is_empty());
    let exchange = &sim.registrars[0].exchanges["SN-1"];
    assert_eq!(
        exchange.voucher.as_ref(),
        Some(&voucher),
        "also when asked again"
    );

    // Other headers stay, and what has nothing to take off stays as it is.
    let mut rest = answered.clone();
    let map = rest[1].as_map_mut().unwrap();
    let claims = ciborium::Value::Map(vec![(6.into(), 1_700_000_000.into())]);
    map.push((15.into(), claims.clone()));
    map.push((4.into(), ciborium::Value::Bytes(vec![1, 2, 3])));
    let write = |parts: Vec<ciborium::Value>| {
        let mut bytes = Vec::new();
        let value = ciborium::Value::Tag(18, Box::new(ciborium::Value::Array(parts)));
        ciborium::into_writer(&value, &mut bytes).unwrap();
        bytes
    };
    let odd = write(rest);
    let preloaded = registrar::Preloaded {
        voucher: odd,
        envelope: Envelope::Cose,
        expires_on: None,
    };
    let Some(registrar::Step::Voucher { voucher, .. }) =
        registrar::use_preloaded(exchange, &preloaded, NOW)
    else {
        panic!("it is in the format of the pledge");
    };
    let stripped = parts(&voucher);
    let left = stripped[1].as_map().unwrap();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&(15.into(), claims)));
    let again = registrar::Preloaded {
        voucher: voucher.clone(),
        ..preloaded
    };
    let Some(registrar::Step::Voucher { voucher: same, .. }) =
        registrar::use_preloaded(exchange, &again, NOW)
    else {
        panic!("it is in the format of the pledge");
    };
    assert_eq!(same, voucher);
}

/// What the MASA put under the signature is for the pledge.
///
/// Requirements: CBR-083, CBR-084, CBR-128
#[test]
fn certificates_under_the_signature_stay() {
    let (sim, manufacturer, _, _, voucher) = enrolled(ProximityForm::PublicKey);
    let exchange = &sim.registrars[0].exchanges["SN-1"];
    let payload = Sign1::parse(&voucher).unwrap().payload().to_vec();
    let masa = &manufacturer.masa;
    let signed = sign_by_hand(&payload, masa, vec![bag(&masa.chain)], Vec::new());
    let preloaded = registrar::Preloaded {
        voucher: signed.clone(),
        envelope: Envelope::Cose,
        expires_on: None,
    };
    let Some(registrar::Step::Voucher { voucher, .. }) =
        registrar::use_preloaded(exchange, &preloaded, NOW)
    else {
        panic!("it is in the format of the pledge");
    };
    assert_eq!(voucher, signed);
}

/// A pledge's request to a registrar, with what is changed about it.
struct Asking {
    sim: Sim,
    idevid: Identity,
    fields: RequestFields,
    signer: Identity,
    options: CoseOptions,
    body: Option<Vec<u8>>,
    accept: Option<&'static str>,
    content_type: &'static str,
}

impl Asking {
    fn new() -> Self {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        let idevid = manufacturer.device("SN-1");
        let mut fields = RequestFields::new(SerialNumber::new("SN-1").unwrap());
        fields.assertion = Some(Assertion::Proximity);
        fields.nonce = nonce(1);
        Self {
            sim,
            signer: idevid.clone(),
            idevid,
            fields,
            options: CoseOptions::default(),
            body: None,
            accept: None,
            content_type: COSE,
        }
    }

    fn own(&self) -> Certificate {
        self.sim.registrars[0].identity.chain[0].clone()
    }

    fn send(&mut self) -> Response {
        let body = self.body.clone().unwrap_or_else(|| {
            let request = VoucherRequest::new(self.fields.clone()).unwrap();
            cose::sign(&request.to_cbor(), &self.signer, &self.options).unwrap()
        });
        let mut headers = vec![("content-type", self.content_type.to_owned())];
        headers.extend(self.accept.map(|accept| ("accept", accept.to_owned())));
        let request = pledge::Request {
            what: What::RequestVoucher,
            method: "POST",
            path: paths::REQUEST_VOUCHER.to_owned(),
            headers,
            body,
        };
        let client = self.idevid.chain.clone();
        self.sim.registrars[0].handle(&client, &request, &mut self.sim.masa, NOW)
    }
}

/// Three good and three bad, and which one counts of several.
///
/// Requirements: CBR-131, VCB-035, BRSKI-5.2-12
#[test]
fn the_registrar_is_recognised_by_certificate_key_and_hash() {
    type Row = (
        &'static str,
        Option<&'static str>,
        fn(&mut RequestFields, &Certificate, &Certificate),
    );
    let rows: &[Row] = &[
        ("certificate", None, |f, own, _| {
            f.proximity_registrar_cert = Some(own.clone());
        }),
        ("key", None, |f, own, _| {
            f.proximity_registrar_pubk = Some(own.public_key().clone());
        }),
        ("hash", None, |f, own, _| {
            f.proximity_registrar_pubk_sha256 = Some(own.public_key().sha256());
        }),
        (
            "other certificate",
            Some("registrar.proximity-mismatch"),
            |f, _, other| {
                f.proximity_registrar_cert = Some(other.clone());
            },
        ),
        (
            "other key",
            Some("registrar.proximity-mismatch"),
            |f, _, other| {
                f.proximity_registrar_pubk = Some(other.public_key().clone());
            },
        ),
        (
            "other hash",
            Some("registrar.proximity-mismatch"),
            |f, _, other| {
                f.proximity_registrar_pubk_sha256 = Some(other.public_key().sha256());
            },
        ),
        ("none", Some("registrar.proximity-missing"), |_, _, _| {}),
        ("the hash before the key", None, |f, own, other| {
            f.proximity_registrar_pubk_sha256 = Some(own.public_key().sha256());
            f.proximity_registrar_pubk = Some(other.public_key().clone());
        }),
        ("the key before the certificate", None, |f, own, other| {
            f.proximity_registrar_pubk = Some(own.public_key().clone());
            f.proximity_registrar_cert = Some(other.clone());
        }),
        (
            "a wrong hash before a right key",
            Some("registrar.proximity-mismatch"),
            |f, own, other| {
                f.proximity_registrar_pubk_sha256 = Some(other.public_key().sha256());
                f.proximity_registrar_pubk = Some(own.public_key().clone());
            },
        ),
    ];
    for (row, code, change) in rows {
        let mut asking = Asking::new();
        let other = Ca::root("Other").registrar("registrar").chain[0].clone();
        let own = asking.own();
        change(&mut asking.fields, &own, &other);
        let response = asking.send();
        let registrar = &asking.sim.registrars[0];
        match code {
            Some(code) => {
                assert_eq!(
                    registrar.log.last().map(String::as_str),
                    Some(*code),
                    "{row}"
                );
                assert_eq!(response.status, 401, "{row}");
                assert!(registrar.masa_calls.is_empty(), "{row}");
            }
            None => assert_eq!(response.status, 200, "{row}: {:?}", registrar.log),
        }
    }
}

/// Requirements: CBR-003, CBR-112, CBR-121, CBR-123, CBR-124, CBR-134, COS-008, COS-020
#[test]
fn the_connection_says_whose_request_it_is_and_nothing_else_does() {
    type Row = (&'static str, Option<&'static str>, fn(&mut Asking));
    let rows: &[Row] = &[
        ("a kid that names nobody", None, |s| {
            s.options.key_id = Some(vec![9; 5]);
        }),
        ("a bag of somebody else's certificates", None, |s| {
            let other = Manufacturer::new("Other").device("SN-9");
            s.options.certificates = CoseCertificates::Bag(other.chain);
        }),
        (
            "another key, and the chain that goes with it",
            Some("registrar.request-signature"),
            |s| {
                s.signer = Manufacturer::new("Acme").device("SN-1");
                s.options.certificates = CoseCertificates::Chain;
            },
        ),
        ("another key", Some("registrar.request-signature"), |s| {
            s.signer = Manufacturer::new("Acme").device("SN-1");
        }),
        (
            "a bit of the signature",
            Some("registrar.request-signature"),
            |s| {
                let request = VoucherRequest::new(s.fields.clone()).unwrap();
                let mut body = cose::sign(&request.to_cbor(), &s.signer, &s.options).unwrap();
                *body.last_mut().unwrap() ^= 1;
                s.body = Some(body);
            },
        ),
        (
            "no signature at all",
            Some("registrar.request-malformed"),
            |s| {
                let request = VoucherRequest::new(s.fields.clone()).unwrap();
                s.body = Some(request.to_cbor());
            },
        ),
        (
            "another COSE type",
            Some("registrar.request-malformed"),
            |s| {
                let request = VoucherRequest::new(s.fields.clone()).unwrap();
                let mut body = cose::sign(&request.to_cbor(), &s.signer, &s.options).unwrap();
                body[0] = 0xd1;
                s.body = Some(body);
            },
        ),
        (
            "another serial number",
            Some("registrar.serial-mismatch"),
            |s| {
                s.fields.serial_number = SerialNumber::new("SN-2").unwrap();
            },
        ),
        ("no nonce", Some("registrar.nonce-missing"), |s| {
            s.fields.nonce = None
        }),
        (
            "a format of another kind",
            Some("registrar.not-acceptable"),
            |s| {
                s.accept = Some("application/voucher-cms+json");
            },
        ),
        (
            "the old name without the tolerance",
            Some("registrar.media-type"),
            |s| {
                s.content_type = OLD_COSE_MEDIA_TYPE;
            },
        ),
    ];
    for (row, code, change) in rows {
        let mut asking = Asking::new();
        asking.fields.proximity_registrar_cert = Some(asking.own());
        change(&mut asking);
        let response = asking.send();
        let registrar = &asking.sim.registrars[0];
        match code {
            Some(code) => {
                assert_eq!(
                    registrar.log.last().map(String::as_str),
                    Some(*code),
                    "{row}"
                );
                assert!((400..500).contains(&response.status), "{row}");
                assert!(registrar.masa_calls.is_empty(), "{row}");
            }
            None => {
                assert_eq!(response.status, 200, "{row}: {:?}", registrar.log);
                let prior = request_of(&registrar.masa_calls[0].body);
                assert!(prior.prior_signed_voucher_request.is_some(), "{row}");
            }
        }
    }
}

/// Requirements: CBR-035, CBR-090, CBR-091, CBR-092, CBR-093
#[test]
fn cose_has_two_names_and_each_peer_hears_its_own() {
    // A device of an old stack, and a MASA of an old stack: each by its profile.
    for (device, masa) in [
        (COSE, CoseName::Current),
        (COSE, CoseName::Old),
        (OLD_COSE_MEDIA_TYPE, CoseName::Current),
        (OLD_COSE_MEDIA_TYPE, CoseName::Old),
    ] {
        let mut asking = Asking::new();
        asking.fields.proximity_registrar_cert = Some(asking.own());
        asking.content_type = device;
        let mut profile = asking.sim.registrars[0]
            .profiles
            .named("acme")
            .unwrap()
            .clone();
        profile.tolerances = Tolerances::from_names(["old-cose-media-type"]).unwrap();
        profile.cose_name = masa;
        asking.sim.registrars[0].profiles = Profiles::new(vec![profile]);
        let response = asking.send();
        assert_eq!(response.status, 200, "{:?}", asking.sim.registrars[0].log);
        assert_eq!(response.header("content-type"), Some(device));
        let call = &asking.sim.registrars[0].masa_calls[0];
        let name = masa.of(Envelope::Cose);
        assert_eq!((call.content_type, call.accept.as_str()), (name, name));
        // The audit log is asked for with the same words.
        let exchange = &asking.sim.registrars[0].exchanges["SN-1"];
        assert_eq!(registrar::audit_call(exchange).unwrap().content_type, name);
        assert_eq!(registrar::repeat_call(exchange).unwrap(), *call);
    }
}
