//! Voucher requests over CoAP, without sockets, before a scripted MASA.

use std::time::Duration;

use artifacts::{Document, Envelope, RequestFields, Tolerances, Voucher};
use coap::{Code, Request, Response, format};
use pki::Identity;

use crate::coap::{asker, cause, registrar, resources, said};
use crate::enrolment::{ALLOW, edit};
use crate::harness::{Device, Lab, Script, read};

/// A constrained device.
pub(crate) fn constrained(lab: &Lab, serial: &str) -> Device {
    let mut device = lab.device(serial);
    device.envelope = Envelope::Cose;
    device
}

/// The leaves of a request that names the registrar by the hash of its key.
pub(crate) fn small(lab: &Lab, device: &Device) -> RequestFields {
    let registrar = registrar(lab);
    let mut fields = device.leaves(&registrar);
    fields.proximity_registrar_cert = None;
    fields.proximity_registrar_pubk_sha256 = Some(registrar.public_key().sha256());
    fields
}

fn post(body: impl Into<Vec<u8>>) -> Request {
    Request::post(".well-known/brski/rv", format::VOUCHER_COSE, body)
}

async fn send(lab: &Lab, device: &Device, request: Request) -> Response {
    resources(lab)
        .answer(asker(lab, device.identity.as_ref()), request)
        .await
}

/// The voucher of an answer, if the device could believe it.
pub(crate) fn voucher(lab: &Lab, response: &Response) -> Voucher {
    assert_eq!(response.code, Code::CHANGED, "{}", said(response));
    voucher_of(lab, &response.payload)
}

pub(crate) fn voucher_of(lab: &Lab, bytes: &[u8]) -> Voucher {
    let tolerances = Tolerances::strict();
    let signed =
        artifacts::open(Document::Voucher, bytes, Some(Envelope::Cose), &tolerances).unwrap();
    let signed = signed.dangerous_peek();
    // CBR-083: the certificates of the MASA's signature are not for the device.
    assert!(signed.certificates().is_empty());
    let signer = &lab.pki.masa_signer.chain[0];
    signed
        .cose()
        .unwrap()
        .verify_with_key(signer.public_key())
        .unwrap();
    Voucher::from_cbor(signed.payload().unwrap(), &tolerances)
        .unwrap()
        .0
}

/// Requirements: CBR-034, CBR-035, CBR-036, CBR-037, CBR-038, CBR-083, CBR-085, CBR-089, CBR-090,
/// CBR-091, CBR-133, CBR-162, COA-033
pub(crate) async fn a_voucher_comes_in_the_format_that_is_asked_for() {
    let lab = Lab::start(ALLOW).await;
    let device = constrained(&lab, "SN-1");
    let body = device.sign(small(&lab, &device));
    let with = |content_format, accept| Request {
        content_format,
        accept,
        ..post(body.clone())
    };
    for (content_format, accept, code, reason) in [
        (
            Some(836),
            Some(65_000),
            "4.06",
            "registrar.accept-not-understood",
        ),
        (
            Some(836),
            Some(50),
            "4.06",
            "registrar.accept-not-understood",
        ),
        (
            Some(836),
            Some(18),
            "4.06",
            "registrar.accept-not-understood",
        ),
        (Some(0), None, "4.15", "registrar.media-type"),
        (Some(60), None, "4.15", "registrar.media-type"),
        (Some(65_000), None, "4.15", "registrar.media-type"),
        (None, None, "4.15", "registrar.media-type"),
        // Nobody said that this vendor's devices may.
        (Some(18), Some(18), "4.15", "registrar.media-type"),
        (Some(18), None, "4.15", "registrar.media-type"),
    ] {
        let response = send(&lab, &device, with(content_format, accept)).await;
        assert_eq!(
            (
                response.code.to_string().as_str(),
                cause(&response).as_str()
            ),
            (code, reason),
            "{content_format:?} {accept:?}"
        );
    }
    assert!(lab.masa.seen().is_empty());
    for accept in [None, Some(836)] {
        let response = send(&lab, &device, with(Some(836), accept)).await;
        assert_eq!(response.content_format, Some(836));
        let voucher = voucher(&lab, &response);
        assert_eq!(voucher.serial_number.as_str(), "SN-1");
    }
    let seen = lab.masa.seen();
    let asked: Vec<_> = seen
        .iter()
        .filter(|seen| seen.path == brski::paths::REQUEST_VOUCHER)
        .collect();
    assert_eq!(asked.len(), 1, "the second answer is the first");
    assert_eq!(asked[0].content_type, "application/voucher+cose");
    assert_eq!(asked[0].accept, "application/voucher+cose");
    let (sent, _, envelope) = read(&asked[0].body);
    assert_eq!(envelope, Envelope::Cose);
    assert_eq!(sent.prior_signed_voucher_request.as_ref(), Some(&body));
    let identity = lab.line("SN-1", "identity").await;
    assert_eq!(identity["detail"]["transport"], "coaps");
    let asked = lab.line("SN-1", "voucher-request").await;
    assert_eq!(asked["detail"]["format"], "cose");
    lab.stop().await;
}

/// A vendor whose devices call a voucher plain COSE.
///
/// Requirements: CBR-036
pub(crate) async fn a_vendors_devices_may_use_the_old_names() {
    let lab = Lab::prepare(ALLOW).await;
    let profile = "name = \"acme\"\ntolerances = [\"old-cose-media-type\"]\n";
    let file = lab.path("vendors.d").join("acme.toml");
    std::fs::write(file, profile).unwrap();
    let lab = lab.serving().await;
    for (serial, accept, format) in [
        ("SN-1", Some(18), 18),
        ("SN-2", None, 18),
        ("SN-3", Some(836), 836),
    ] {
        let device = constrained(&lab, serial);
        let request = Request {
            content_format: Some(format::COSE_SIGN1),
            accept,
            ..post(device.sign(small(&lab, &device)))
        };
        let response = send(&lab, &device, request).await;
        assert_eq!(response.content_format, Some(format), "{}", said(&response));
        voucher(&lab, &response);
    }
    lab.stop().await;
}

/// Requirements: CBR-003, CBR-123, CBR-124, CBR-131, CBR-134
pub(crate) async fn requests_that_do_not_fit_are_refused() {
    let lab = Lab::start(ALLOW).await;
    let device = constrained(&lab, "SN-1");
    let other = constrained(&lab, "SN-2");
    let foreign = lab.pki.other_domain("Other").unwrap();
    let sign = |change: &dyn Fn(&mut RequestFields)| {
        let mut fields = small(&lab, &device);
        change(&mut fields);
        device.sign(fields)
    };
    let good = sign(&|_| {});
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let unsigned = {
        let request = artifacts::VoucherRequest::new(small(&lab, &device)).unwrap();
        request.to_cbor()
    };
    let wrong_key = foreign.registrar.chain[0].public_key();
    for (what, body, code, reason) in [
        ("unsigned", unsigned, "4.06", "registrar.request-malformed"),
        ("nothing", Vec::new(), "4.06", "registrar.request-malformed"),
        (
            "cut off",
            good[..good.len() - 3].to_vec(),
            "4.06",
            "registrar.request-malformed",
        ),
        ("flipped", flipped, "4.03", "registrar.request-signature"),
        (
            "signed by another",
            other.sign(small(&lab, &device)),
            "4.03",
            "registrar.request-signature",
        ),
        (
            "another's serial number",
            sign(&|fields| {
                fields.serial_number = artifacts::SerialNumber::new("SN-2").unwrap();
            }),
            "4.03",
            "registrar.serial-mismatch",
        ),
        (
            "another registrar by hash",
            sign(&|fields| {
                fields.proximity_registrar_pubk_sha256 = Some(wrong_key.sha256());
            }),
            "4.01",
            "registrar.proximity-mismatch",
        ),
        (
            "another registrar by key",
            sign(&|fields| {
                fields.proximity_registrar_pubk_sha256 = None;
                fields.proximity_registrar_pubk = Some(wrong_key.clone());
            }),
            "4.01",
            "registrar.proximity-mismatch",
        ),
    ] {
        let response = send(&lab, &device, post(body)).await;
        assert_eq!(
            (
                response.code.to_string().as_str(),
                cause(&response).as_str()
            ),
            (code, reason),
            "{what}"
        );
        assert_eq!(response.content_format, None);
        let line = lab.shown("SN-1").await;
        assert_eq!(line["code"], reason, "{what} has its line");
    }
    assert!(lab.masa.seen().is_empty(), "none of them reached the MASA");
    lab.stop().await;
}

/// Requirements: CBR-056, CBR-058, CBR-145, ESC-040, COA-012
pub(crate) async fn a_slow_masa_is_waited_for_and_asked_once() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text + "[coap]\nanswer_within_seconds = 1\nretry_after_seconds = 7\n"
    });
    let lab = lab.serving().await;
    lab.masa.plays(Script::Late(Duration::from_millis(1_800)));
    let device = constrained(&lab, "SN-1");
    let body = device.sign(small(&lab, &device));
    let first = send(&lab, &device, post(body.clone())).await;
    assert_eq!(
        (first.code, first.max_age),
        (Code::SERVICE_UNAVAILABLE, Some(7))
    );
    // The device comes back twice at once; the work of the first time goes on for both.
    let (one, two) = tokio::join!(
        send(&lab, &device, post(body.clone())),
        send(&lab, &device, post(body)),
    );
    voucher(&lab, &one);
    assert_eq!(one, two);
    let asked = lab
        .masa
        .seen()
        .into_iter()
        .filter(|seen| seen.path == brski::paths::REQUEST_VOUCHER)
        .count();
    assert_eq!(asked, 1);
    lab.stop().await;
}

/// Requirements: CBR-055, CBR-056, ESC-033, ESC-040
pub(crate) async fn whoever_waits_for_a_person_or_a_masa_is_told_when_to_come_back() {
    let lab = Lab::start("[policy]\ndefault = \"ask\"\nretry_after_seconds = 45\n").await;
    let device = constrained(&lab, "SN-1");
    let body = device.sign(small(&lab, &device));
    let response = send(&lab, &device, post(body.clone())).await;
    assert_eq!(
        (response.code, response.max_age, cause(&response).as_str()),
        (Code::SERVICE_UNAVAILABLE, Some(45), "registrar.pending")
    );
    let approved = lab.run(&["device", "approve", "SN-1"]).await;
    assert_eq!(approved, daemon::Outcome::Yes);
    lab.masa.plays(Script::Status(404, "no such device"));
    let response = send(&lab, &device, post(body.clone())).await;
    assert_eq!(
        (response.code, cause(&response).as_str()),
        (Code::NOT_FOUND, "registrar.masa-refused")
    );
    lab.masa.goes_away();
    let response = send(&lab, &device, post(body)).await;
    assert_eq!(
        response.code,
        Code::SERVICE_UNAVAILABLE,
        "{}",
        said(&response)
    );
    assert!(response.max_age.is_some());
    assert_eq!(cause(&response), "registrar.masa-unreachable");
    lab.stop().await;
}

/// A certificate that no vendor issued.
///
/// Requirements: CBR-019, CBR-124, DTL-035
pub(crate) async fn strangers_get_no_voucher() {
    let lab = Lab::start(ALLOW).await;
    let identity: Identity = lab.pki.self_signed_device("SN-9").unwrap();
    let mut stranger = Device::new(identity, "SN-9", lab.address());
    stranger.envelope = Envelope::Cose;
    let body = stranger.sign(small(&lab, &stranger));
    let response = send(&lab, &stranger, post(body.clone())).await;
    assert_eq!(
        (response.code, cause(&response).as_str()),
        (Code::FORBIDDEN, "registrar.manufacturer-unknown")
    );
    let nobody = asker(&lab, None);
    let response = resources(&lab).answer(nobody, post(body)).await;
    assert_eq!(
        (response.code, cause(&response).as_str()),
        (Code::UNAUTHORIZED, "registrar.no-client-certificate")
    );
    assert!(lab.masa.seen().is_empty());
    lab.stop().await;
}
