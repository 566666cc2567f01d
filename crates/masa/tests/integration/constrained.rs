//! Vouchers in COSE over real HTTPS: what registrars of constrained devices get.

use std::sync::Arc;

use artifacts::verify::{Trust, VoucherContext, verify_voucher};
use artifacts::{
    Assertion, Document, Envelope, IdevidIssuer, Nonce, OLD_COSE_MEDIA_TYPE, RequestFields,
    SerialNumber, Tolerances, Voucher, VoucherRequest, open, sign_request, sign_request_with,
};
use brski::masa::KeyPin;
use masa::batch::{self, BatchOptions};
use masa::register::find_device;
use net::HttpVersion;
use net::client::Response;
use pki::cose::Sign1;
use pki::path::Anchors;
use pki::{Certificate, Identity, IncludeCertificates, KeyKind, SignOptions};
use testkit::{Domain, Pki, PkiOptions};
use time::Duration;

use crate::on_both;
use crate::support::{AUDIT_LOG, Masa, NOW, VOUCHER, assert_refused};

const COSE: &str = "application/voucher+cose";

/// How the pledge names the registrar that it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Certificate,
    Key,
    Hash,
}

/// A registrar's request in COSE around a pledge's, with the device's chain in the bag.
fn request(idevid: &Identity, domain: &Domain, serial: &str, seen: Seen, nonce: u8) -> Vec<u8> {
    let serial = SerialNumber::new(serial).unwrap();
    let server = &domain.registrar.chain[0];
    let mut fields = RequestFields::new(serial.clone());
    fields.assertion = Some(Assertion::Proximity);
    fields.nonce = Nonce::from_octets(&[nonce; 8]);
    match seen {
        Seen::Certificate => fields.proximity_registrar_cert = Some(server.clone()),
        Seen::Key => fields.proximity_registrar_pubk = Some(server.public_key().clone()),
        Seen::Hash => fields.proximity_registrar_pubk_sha256 = Some(server.public_key().sha256()),
    }
    let pledges = VoucherRequest::new(fields).unwrap();
    let pledges = sign_request(&pledges, Envelope::Cose, idevid, None).unwrap();
    let mut fields = RequestFields::new(serial);
    fields.created_on = Some(NOW);
    fields.assertion = Some(Assertion::Proximity);
    fields.nonce = Nonce::from_octets(&[nonce; 8]);
    fields.idevid_issuer = Some(IdevidIssuer::of(&idevid.chain[0]));
    fields.prior_signed_voucher_request = Some(pledges);
    let request = VoucherRequest::new(fields).unwrap();
    let options = SignOptions {
        include_certs: IncludeCertificates::Chain,
        extra_certs: [idevid.chain.as_slice(), &domain.ca.chain].concat(),
        ..SignOptions::default()
    };
    sign_request_with(&request, Envelope::Cose, &domain.registrar, &options).unwrap()
}

async fn ask(masa: &Masa, content_type: &str, accept: Option<&str>, body: &[u8]) -> Response {
    let registrar = Some(&masa.pki.domain.registrar);
    masa.post(VOUCHER, registrar, content_type, accept, body.to_vec())
        .await
}

/// The voucher, verified as a registrar would by the chain that is in it.
fn voucher(masa: &Masa, body: &[u8]) -> Voucher {
    let strict = Tolerances::strict();
    let signed = open(Document::Voucher, body, Some(Envelope::Cose), &strict).unwrap();
    let ca = Certificate::load(masa.config.resolve("masa-ca.pem".as_ref())).unwrap();
    let anchors: Anchors = std::iter::once(ca).collect();
    let context = VoucherContext::new(Trust::new(&anchors, Some(masa.now())));
    let verified = verify_voucher(&signed, &context, &strict).into_result();
    verified.unwrap().voucher
}

/// Requirements: CBR-002, CBR-041, CBR-092, CBR-105, CBR-117, CBR-125, CBR-126, CBR-132, CBR-138,
/// CBR-148, VCB-038
async fn a_constrained_device_gets_what_it_asked_for(masa: Masa) {
    masa.devices(&["SN-1", "SN-2", "SN-3"]).await;
    let domain = &masa.pki.domain;
    let server = domain.registrar.chain[0].clone();
    for (serial, seen) in [
        ("SN-1", Seen::Certificate),
        ("SN-2", Seen::Key),
        ("SN-3", Seen::Hash),
    ] {
        let idevid = masa.pki.idevid(serial).unwrap();
        let body = request(&idevid, domain, serial, seen, 1);
        let response = ask(&masa, COSE, Some(COSE), &body).await;
        assert_eq!(response.status, 200, "{seen:?}");
        assert_eq!(response.header("content-type"), Some(COSE));
        let signed = Sign1::parse(&response.body).unwrap();
        assert!(signed.key_id().is_none() && signed.is_tagged());
        // Every key is a number: the device that reads it knows no others.
        let content: ciborium::Value = ciborium::from_reader(signed.payload()).unwrap();
        let top = content.into_map().unwrap();
        let leaves = top[0].1.as_map().unwrap();
        assert!(top[0].0.is_integer() && leaves.iter().all(|(key, _)| key.is_integer()));
        let voucher = voucher(&masa, &response.body);
        assert_eq!(voucher.assertion, Some(Assertion::Proximity));
        assert_eq!(voucher.nonce, Nonce::from_octets(&[1; 8]));
        assert_eq!(voucher.pins().count(), 1, "{seen:?}");
        let size = signed.without_certificates().unwrap().len();
        match seen {
            Seen::Certificate => {
                let pinned = voucher.pinned_domain_cert.clone().unwrap();
                assert_eq!(pinned, domain.ca.chain[0]);
            }
            Seen::Key => {
                let pinned = voucher.pinned_domain_pubk.clone().unwrap();
                assert_eq!(pinned.spki_der(), server.public_key().spki_der());
            }
            Seen::Hash => {
                let hash = server.public_key().sha256();
                assert_eq!(voucher.pinned_domain_pubk_sha256, Some(hash));
                assert!(size < 200, "{size} octets");
            }
        }
        // The same request again, and the history of the device, by the same octets.
        let again = ask(&masa, COSE, Some(COSE), &body).await;
        assert_eq!(again.body, response.body);
        let registrar = Some(&domain.registrar);
        let log = masa
            .post(AUDIT_LOG, registrar, COSE, None, body.clone())
            .await;
        assert_eq!(log.status, 200);
        let device = find_device(masa.store(), serial, None).await.unwrap();
        assert!(device.holder_domain.is_some() && device.idevid_key.is_some());
        let events = masa.timeline(Some(serial)).await;
        assert!(
            events
                .iter()
                .any(|event| event.summary["envelope"] == "cose")
        );
    }
    masa.stop().await;
}

/// Requirements: CBR-092, CBR-093
async fn cose_goes_by_both_names_and_nothing_else_does(masa: Masa) {
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    let idevid = masa.pki.idevid("SN-1").unwrap();
    let body = request(&idevid, domain, "SN-1", Seen::Hash, 1);
    let mut bodies = Vec::new();
    for (content_type, accept, name) in [
        (COSE, Some(COSE), COSE),
        (COSE, None, COSE),
        (COSE, Some("*/*"), COSE),
        (OLD_COSE_MEDIA_TYPE, None, OLD_COSE_MEDIA_TYPE),
        (
            OLD_COSE_MEDIA_TYPE,
            Some(OLD_COSE_MEDIA_TYPE),
            OLD_COSE_MEDIA_TYPE,
        ),
        (OLD_COSE_MEDIA_TYPE, Some(COSE), COSE),
        ("application/voucher+cose; profile=x", Some(COSE), COSE),
    ] {
        let response = ask(&masa, content_type, accept, &body).await;
        assert_eq!(response.status, 200, "{content_type} {accept:?}");
        assert_eq!(response.header("content-type"), Some(name));
        bodies.push(response.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "one voucher under both names");
    // Who still knows the old name only is seen.
    let events = masa.timeline(Some("SN-1")).await;
    let old = |event: &&masa::timeline::Event| event.summary["media_type"] == OLD_COSE_MEDIA_TYPE;
    assert_eq!(events.iter().filter(old).count(), 2);
    for (content_type, accept, status, code) in [
        ("text/plain", Some(COSE), 415, "masa.media-type"),
        ("application/cose", Some(COSE), 415, "masa.media-type"),
        ("application/cbor", Some(COSE), 415, "masa.media-type"),
        (
            COSE,
            Some("application/foo"),
            415,
            "masa.accept-not-understood",
        ),
        (
            COSE,
            Some("application/voucher+cose;q=0"),
            406,
            "masa.not-acceptable",
        ),
        (
            "application/voucher-cms+json",
            Some(COSE),
            400,
            "masa.request-malformed",
        ),
    ] {
        let response = ask(&masa, content_type, accept, &body).await;
        assert_refused(&response, status, code);
    }
    masa.stop().await;
}

on_both!(
    a_constrained_device_gets_what_it_asked_for,
    cose_goes_by_both_names_and_nothing_else_does,
);

/// Requirements: CBR-092
#[tokio::test]
async fn cose_goes_over_each_http_version() {
    let masa = Masa::sqlite().await;
    let domain = &masa.pki.domain;
    for (http, serial) in [(HttpVersion::Http2, "SN-1"), (HttpVersion::Http3, "SN-2")] {
        masa.devices(&[serial]).await;
        let idevid = masa.pki.idevid(serial).unwrap();
        let body = request(&idevid, domain, serial, Seen::Key, 2);
        let registrar = Some(&domain.registrar);
        let response = masa
            .post_over(http, VOUCHER, registrar, COSE, Some(COSE), body)
            .await;
        assert_eq!(response.status, 200, "{http}");
        voucher(&masa, &response.body);
    }
    masa.stop().await;
}

/// Requirements: CBR-015, CBR-110, CBR-111, COS-010, COS-011
#[tokio::test]
async fn devices_and_registrars_sign_with_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP384,
        KeyKind::EcdsaP521,
        KeyKind::Ed25519,
        KeyKind::MlDsa44,
        KeyKind::MlDsa65,
    ];
    let factories: Vec<Pki> = kinds
        .into_iter()
        .map(|kind| {
            let mut options = PkiOptions::new(NOW);
            options.kind = kind;
            Pki::new(options).unwrap()
        })
        .collect();
    let masa = Masa::with(|config| {
        for (number, pki) in factories.iter().enumerate() {
            let file = folder.path().join(format!("{number}.pem"));
            std::fs::write(&file, pki.manufacturer_root.chain[0].to_pem()).unwrap();
            config.devices.anchors.push(file);
        }
    })
    .await;
    for (number, pki) in factories.iter().enumerate() {
        let serial = format!("KIND-{number}");
        masa.devices(&[&serial]).await;
        let idevid = pki.idevid(&serial).unwrap();
        let body = request(&idevid, &pki.domain, &serial, Seen::Hash, 4);
        // Which certificate the TLS client shows does not matter for a nonced voucher.
        let response = ask(&masa, COSE, Some(COSE), &body).await;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, 200, "{:?}: {text}", kinds[number]);
        let voucher = voucher(&masa, &response.body);
        let key = pki.domain.registrar.chain[0].public_key();
        assert_eq!(voucher.pinned_domain_pubk_sha256, Some(key.sha256()));
    }
    masa.stop().await;
}

/// Bad COSE is refused in words, and no voucher is written for it.
///
/// Requirements: CBR-003, CBR-112, CBR-132, COS-020, COS-025, VCB-046
#[tokio::test]
async fn bad_requests_get_no_voucher() {
    let masa = Masa::sqlite().await;
    masa.devices(&["SN-1", "SN-2"]).await;
    let domain = &masa.pki.domain;
    let idevid = masa.pki.idevid("SN-1").unwrap();
    let good = request(&idevid, domain, "SN-1", Seen::Hash, 3);
    let payload = Sign1::parse(&good).unwrap().payload().to_vec();
    let mut mac = good.clone();
    mac[0] = 0xd1;
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut trailing = good.clone();
    trailing.push(0);
    let other_device = masa.pki.idevid("SN-2").unwrap();
    let elsewhere = masa.pki.other_domain("Elsewhere").unwrap();
    // A request that names another registrar's key, carried by this one.
    let mut stolen = RequestFields::new(SerialNumber::new("SN-1").unwrap());
    stolen.assertion = Some(Assertion::Proximity);
    stolen.nonce = Nonce::from_octets(&[3; 8]);
    stolen.proximity_registrar_pubk_sha256 =
        Some(elsewhere.registrar.chain[0].public_key().sha256());
    let stolen = VoucherRequest::new(stolen).unwrap();
    let stolen = sign_request(&stolen, Envelope::Cose, &idevid, None).unwrap();
    let mut fields = RequestFields::new(SerialNumber::new("SN-1").unwrap());
    fields.created_on = Some(NOW);
    fields.nonce = Nonce::from_octets(&[3; 8]);
    fields.idevid_issuer = Some(IdevidIssuer::of(&idevid.chain[0]));
    fields.prior_signed_voucher_request = Some(stolen);
    let fields = VoucherRequest::new(fields).unwrap();
    let options = SignOptions {
        extra_certs: idevid.chain.clone(),
        ..SignOptions::default()
    };
    let stolen = sign_request_with(&fields, Envelope::Cose, &domain.registrar, &options).unwrap();
    for (row, body, status, code) in [
        ("unsigned", payload, 400, "masa.request-malformed"),
        ("a MAC", mac, 400, "masa.request-malformed"),
        ("a flipped bit", flipped, 403, "masa.request-signature"),
        (
            "cut",
            good[..good.len() / 2].to_vec(),
            400,
            "masa.request-malformed",
        ),
        ("trailing", trailing, 400, "masa.request-malformed"),
        ("empty", Vec::new(), 400, "masa.request-malformed"),
        (
            "nested arrays",
            vec![0x81; 5000],
            400,
            "masa.request-malformed",
        ),
        (
            "a bomb",
            vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            400,
            "masa.request-malformed",
        ),
        (
            "another device's bag",
            request(&other_device, domain, "SN-1", Seen::Hash, 3),
            403,
            "masa.prior-serial-mismatch",
        ),
        (
            "another registrar's pledge",
            stolen,
            403,
            "masa.proximity-mismatch",
        ),
    ] {
        let response = ask(&masa, COSE, Some(COSE), &body).await;
        let text = String::from_utf8_lossy(&response.body);
        assert!(text.starts_with(code), "{row}: {text}");
        assert_eq!(response.status, status, "{row}");
    }
    assert_eq!(masa.count("voucher").await, 0);
    // After all that the good one is still served.
    assert_eq!(ask(&masa, COSE, Some(COSE), &good).await.status, 200);
    masa.stop().await;
}

/// Requirements: CBR-163, VCB-031, VCB-032
#[tokio::test]
async fn batches_pin_a_key_or_its_hash() {
    let masa = Masa::sqlite().await;
    masa.owner("acme", &masa.pki.domain, true).await;
    masa.device_rows(&["SN-1"], Some("acme"), "").await;
    let key = masa.pki.domain.registrar.chain[0].public_key().clone();
    let identity = masa.config.keys().unwrap().nonceless.unwrap();
    let out = masa.directory.path().join("out");
    let mut digests = Vec::new();
    for pin in [KeyPin::PublicKey(key.clone()), KeyPin::Sha256(key.sha256())] {
        let options = BatchOptions {
            owner: "acme".to_owned(),
            envelope: Envelope::Cose,
            expires_on: NOW + Duration::days(30),
            pin: None,
            key: Some(pin),
            claim_unsold: false,
            renew: false,
            dry_run: false,
        };
        for outcome in ["issued", "again"] {
            let serials = vec![("SN-1".to_owned(), None)];
            let manifest = batch::run(
                masa.store(),
                Arc::clone(&identity),
                options.clone(),
                serials,
                &out,
                NOW,
                |_| {},
            )
            .await
            .unwrap();
            assert_eq!(manifest.vouchers[0].outcome, outcome);
            assert_eq!(manifest.vouchers[0].file.as_deref(), Some("SN-1.vch"));
        }
        let body = std::fs::read(out.join("SN-1.vch")).unwrap();
        let voucher = voucher(&masa, &body);
        assert!(voucher.nonce.is_none() && voucher.expires_on.is_some());
        assert_eq!(voucher.pins().count(), 1);
        let pinned = (
            voucher.pinned_domain_pubk.is_some(),
            voucher.pinned_domain_pubk_sha256,
        );
        digests.push(pinned);
    }
    assert_eq!(digests, [(true, None), (false, Some(key.sha256()))]);
    masa.stop().await;
}

/// The key that signs vouchers sits in a PKCS#11 token and nowhere else. SoftHSM reads the token's
/// place from the environment, so the test runs itself again with it.
///
/// Requirements: VCB-044
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vouchers_are_signed_by_a_key_in_a_token() {
    const TEST: &str = "constrained::vouchers_are_signed_by_a_key_in_a_token";
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let config = folder.path().join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\n", tokens.display());
        std::fs::write(&config, text).unwrap();
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .env("SOFTHSM2_CONF", &config)
            .args(["--exact", TEST, "--nocapture"])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    }
    let masa = Masa::with(|config| {
        let file = config.resolve("voucher.key".as_ref());
        let script = format!(
            "set -e
             softhsm2-util --init-token --free --label usher --so-pin 5678 --pin 1234 >&2
             softhsm2-util --import {file} --token usher --label voucher --id 01 --pin 1234 >&2
             rm {file}
             ls /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so 2>/dev/null | head -1",
            file = file.display()
        );
        let made = std::process::Command::new("bash")
            .args(["-c", &script])
            .output()
            .unwrap();
        let module = String::from_utf8(made.stdout).unwrap();
        assert!(module.contains("libsofthsm2"), "{module}");
        let pin = config.resolve("pin".as_ref());
        std::fs::write(&pin, "1234\n").unwrap();
        let key = &mut config.signing.nonced;
        key.key = "pkcs11:token=usher;object=voucher".to_owned();
        key.module = Some(module.trim().into());
        key.passphrase_file = Some(pin);
        key.passphrase_env = None;
    })
    .await;
    masa.devices(&["SN-1"]).await;
    let idevid = masa.pki.idevid("SN-1").unwrap();
    let body = request(&idevid, &masa.pki.domain, "SN-1", Seen::Hash, 1);
    let response = ask(&masa, COSE, Some(COSE), &body).await;
    assert_eq!(response.status, 200);
    assert_eq!(
        voucher(&masa, &response.body).serial_number.as_str(),
        "SN-1"
    );
    masa.stop().await;
}
