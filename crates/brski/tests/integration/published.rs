//! The messages of draft-ietf-anima-constrained-voucher-31 appendix C, as each side sees them.

use std::{fs, path::PathBuf, sync::Arc};

use artifacts::{Envelope, Tolerances};
use brski::{
    SerialRule,
    masa::{Devices, Inbound, Policy, open_request as open_at_masa},
    pledge::{Clock, Config, Expected, Procedure, ProximityForm, judge_voucher},
    registrar::{MasaUrlRule, Profiles, VendorProfile, identify, open_request},
};
use pki::{Certificate, Coded, Identity, KeyKind, SoftwareKey, path::Anchors};
use time::{OffsetDateTime, macros::datetime};

/// All certificates of the appendix are valid at this time.
const THEN: OffsetDateTime = datetime!(2025-06-01 12:00:00 UTC);

fn read(name: &str) -> Vec<u8> {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../artifacts/tests/data/cbrski-31");
    fs::read(folder.join(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    Certificate::from_der(&read(&format!("{name}.der"))).unwrap()
}

fn inbound(body: &[u8]) -> Inbound<'_> {
    Inbound {
        body,
        content_type: Some(Envelope::Cose.media_type()),
        accept: None,
    }
}

/// Requirements: CBR-001, CBR-034, CBR-124, CBR-131, CBR-154
#[test]
fn the_pledges_request_is_good_on_its_own_connection_only() {
    let profile = VendorProfile {
        name: "example".to_owned(),
        anchors: certificate("masa_ca").into(),
        intermediates: Vec::new(),
        masa_anchors: Anchors::new(),
        serial: SerialRule::default(),
        masa_url: MasaUrlRule::Extension,
        ignore_expiry: false,
        cose_name: brski::media::CoseName::Current,
        tolerances: Tolerances::strict(),
    };
    let profiles = Profiles::new(vec![profile.clone()]);
    let pledge = certificate("pledge");
    let device = identify(std::slice::from_ref(&pledge), &profiles, THEN).unwrap();
    let body = read("pvr.cbor");
    let own = [certificate("registrar")];
    let request = open_request(inbound(&body), &device, &own, &profile, None, THEN).unwrap();
    assert_eq!(request.bytes, body);
    assert_eq!(request.formats, [Envelope::Cose]);
    let key = request.content.proximity_registrar_pubk.as_ref().unwrap();
    assert_eq!(key.spki_der(), own[0].public_key().spki_der());
    // Another registrar answered.
    let other = [certificate("domain_ca")];
    let refused = open_request(inbound(&body), &device, &other, &profile, None, THEN).unwrap_err();
    assert_eq!(refused.code(), "registrar.proximity-mismatch");
    assert_eq!(refused.http_status(), 401);
    // Another device is connected.
    let mut thief = device;
    thief.certificate = certificate("registrar");
    let refused = open_request(inbound(&body), &thief, &own, &profile, None, THEN).unwrap_err();
    assert_eq!(refused.code(), "registrar.request-signature");
}

/// The registrar's request of the appendix lacks the device's certificates, which the same draft
/// demands: without them nobody can say who signed for the device.
///
/// Requirements: CBR-116, CBR-117
#[test]
fn the_registrars_request_lacks_the_devices_certificates() {
    let devices = |intermediates| Devices {
        anchors: certificate("masa_ca").into(),
        intermediates,
        serial: SerialRule::default(),
    };
    let policy = Policy {
        request_age_max: None,
        ..Policy::default()
    };
    let body = read("rvr.cbor");
    let refused = open_at_masa(inbound(&body), &devices(Vec::new()), &policy, THEN).unwrap_err();
    assert_eq!(refused.code(), "masa.prior-signature");
    // A MASA that has the device's certificate by itself needs no other.
    let known = devices(vec![certificate("pledge")]);
    let request = open_at_masa(inbound(&body), &known, &policy, THEN).unwrap();
    let prior = request.prior().unwrap();
    assert_eq!(prior.idevid, certificate("pledge"));
    assert!(prior.proximity && prior.seen_key.is_some());
}

/// The voucher of the appendix has another nonce than the request that it should answer.
///
/// Requirements: CBR-139, VCB-028
#[test]
fn the_voucher_answers_another_request() {
    let key = Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).unwrap());
    let config = Config {
        registrars: Vec::new(),
        // Judging signs nothing.
        idevid: Identity {
            chain: vec![certificate("pledge")],
            signer: key,
        },
        serial: SerialRule::default(),
        masa_anchors: certificate("masa_ca").into(),
        envelope: Envelope::Cose,
        proximity: ProximityForm::PublicKey,
        clock: Clock::Trusted,
        nonceless: false,
        assertions: vec![artifacts::Assertion::Proximity],
        tolerances: Tolerances::strict(),
        est_label: None,
        procedure: Procedure::Constrained,
        attempts_max: None,
        replay: None,
    };
    let request = read("pvr.cbor");
    let chain = [certificate("registrar"), certificate("domain_ca")];
    let expected = Expected {
        request: &request,
        registrar_chain: &chain,
        envelope: Envelope::Cose,
    };
    let refused = judge_voucher(&config, &read("voucher.cbor"), expected, THEN).unwrap_err();
    assert_eq!(refused.code(), "pledge.voucher-nonce");
}
