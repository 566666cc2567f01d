//! Devices that speak COSE over HTTPS, and what the registrar does with COSE towards MASAs.

use artifacts::{
    Assertion, Document, Envelope, IdevidIssuer, OLD_COSE_MEDIA_TYPE, RequestFields, SerialNumber,
    Tolerances, Voucher, VoucherFields, VoucherRequest, VoucherStatus, sign_voucher,
};
use daemon::Outcome;
use net::HttpVersion;
use pki::cose::Sign1;
use pki::issue::{CertificateBuilder, Profile, name};
use pki::{Certificate, Identity, KeyKind, Signer as _, SoftwareKey};
use testkit::NOW;

use crate::coap_vouchers::{constrained, voucher_of};
use crate::enrolment::ALLOW;
use crate::harness::{Device, Lab, Script, read};

const COSE: &str = "application/voucher+cose";

type Naming = fn(&mut RequestFields, &Certificate);

/// The three ways to name a registrar.
const NAMINGS: [Naming; 3] = [
    |fields, seen| fields.proximity_registrar_cert = Some(seen.clone()),
    |fields, seen| fields.proximity_registrar_pubk = Some(seen.public_key().clone()),
    |fields, seen| fields.proximity_registrar_pubk_sha256 = Some(seen.public_key().sha256()),
];

async fn request(device: &Device, naming: Naming, seen: Option<&Certificate>) -> Vec<u8> {
    let connection = device.connect().await;
    let server = &connection.peer_chain()[0];
    let mut fields = device.leaves(server);
    fields.proximity_registrar_cert = None;
    naming(&mut fields, seen.unwrap_or(server));
    device.sign(fields)
}

/// Requirements: CBR-035, CBR-083, CBR-084, CBR-089, CBR-090, CBR-091, CBR-094, CBR-096, CBR-098,
/// CBR-101, CBR-116, CBR-131, CBR-133, CBR-134, CBR-135, CBR-136, CBR-137, CBR-151, CBR-158, VCB-022
pub(crate) async fn a_device_that_speaks_cose_gets_its_voucher_over_every_http_version() {
    let lab = Lab::start(ALLOW).await;
    let mut number = 0;
    for http in [HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Http3] {
        for naming in NAMINGS {
            number += 1;
            let serial = format!("SN-{number}");
            let mut device = constrained(&lab, &serial);
            device.http = http;
            let body = request(&device, naming, None).await;
            let got = device.ask_with_accept(body.clone(), COSE).await;
            assert_eq!(got.status, 200, "{http} {number}: {}", got.text());
            assert_eq!(got.header("content-type"), Some(COSE));
            let voucher = voucher_of(&lab, &got.body);
            assert_eq!(voucher.serial_number.as_str(), serial);

            let seen = lab.masa.seen().pop().unwrap();
            assert_eq!(
                (seen.content_type.as_str(), seen.accept.as_str()),
                (COSE, COSE)
            );
            assert_eq!(seen.server_name.as_deref(), Some(crate::harness::MASA_HOST));
            assert!(seen.client.unwrap().has_cmc_ra());
            let signed = Sign1::parse(&body).unwrap();
            let strict = Tolerances::strict();
            let (inner, _) = VoucherRequest::from_cbor(signed.payload(), &strict).unwrap();
            let (outer, top, envelope) = read(&seen.body);
            assert_eq!(envelope, Envelope::Cose);
            assert_eq!(outer.prior_signed_voucher_request.as_ref(), Some(&body));
            assert_eq!(
                (&outer.nonce, outer.assertion),
                (&inner.nonce, inner.assertion)
            );
            assert_eq!(outer.proximity().count(), 0);
            assert!(outer.created_on.is_some() && top.is_ca());
            let chain = &device.identity.as_ref().unwrap().chain;
            let issuer = IdevidIssuer::of(&chain[0]);
            assert!(outer.idevid_issuer.as_ref().unwrap().matches(&issuer));
            let bag = Sign1::parse(&seen.body).unwrap();
            for certificate in chain {
                assert!(
                    bag.certificates().contains(certificate),
                    "{}",
                    certificate.subject()
                );
            }

            // The same request again: the same octets, and no word to the MASA.
            let calls = lab.masa.seen().len();
            let again = device.ask_with(body).await;
            assert_eq!((again.status, &again.body), (200, &got.body));
            assert_eq!(lab.masa.seen().len(), calls);

            // What came and what went on stand in the timeline, with the names of the leaves.
            let line = lab.line(&serial, "voucher-request").await;
            let content = &line["detail"]["content"]["ietf-voucher-request:voucher"];
            assert_eq!(content["serial-number"], serial.as_str());
            let shown = lab.shown(&serial).await;
            let lines = shown["timeline"].as_array().unwrap();
            let line = lines
                .iter()
                .find(|line| line["detail"]["handed_on_length"].is_u64())
                .unwrap();
            assert!(
                line["detail"]["length"].as_u64() > line["detail"]["handed_on_length"].as_u64()
            );
            assert_eq!(line["detail"]["handed_on_length"], got.body.len());
            assert_eq!(
                line["detail"]["content"]["ietf-voucher:voucher"]["serial-number"],
                serial
            );
            assert_eq!(line["outcome"], "ok", "{line:#}");

            // Telemetry in CBOR.
            let report = VoucherStatus::success().to_cbor();
            let mut connection = device.connect().await;
            let path = brski::paths::VOUCHER_STATUS;
            let reported = device
                .post(&mut connection, path, "application/cbor", report)
                .await;
            assert_eq!(reported.status, 200, "{}", reported.text());
            let line = lab.line(&serial, "audit-log").await;
            assert_eq!(line["outcome"], "ok", "{line:#}");
        }
    }
    lab.stop().await;
}

/// Requirements: CBR-003, CBR-055, CBR-123, CBR-124, CBR-131, CBR-134, CBR-145
pub(crate) async fn cose_that_does_not_fit_its_device_or_its_registrar_is_refused() {
    let lab = Lab::start(ALLOW).await;
    let device = constrained(&lab, "SN-1");
    let other = lab.pki.other_domain("Other").unwrap();
    let other = other.registrar.chain[0].clone();
    let mut rows = Vec::new();
    for naming in NAMINGS {
        let body = request(&device, naming, Some(&other)).await;
        rows.push((body, COSE, 401, "registrar.proximity-mismatch"));
    }
    let good = request(&device, NAMINGS[2], None).await;
    let payload = Sign1::parse(&good).unwrap().payload().to_vec();
    rows.push((payload, COSE, 406, "registrar.request-malformed"));
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    rows.push((flipped, COSE, 403, "registrar.request-signature"));
    // Signed by a key with its own certificate along, on the connection of another device.
    let thief = constrained(&lab, "SN-2");
    let stolen = request(&thief, NAMINGS[2], None).await;
    rows.push((stolen, COSE, 403, "registrar.request-signature"));
    let mut fields = device.leaves(&device.connect().await.peer_chain()[0]);
    fields.serial_number = artifacts::SerialNumber::new("SN-3").unwrap();
    rows.push((device.sign(fields), COSE, 403, "registrar.serial-mismatch"));
    rows.push((
        good.clone(),
        "application/cbor",
        415,
        "registrar.media-type",
    ));
    rows.push((
        good.clone(),
        OLD_COSE_MEDIA_TYPE,
        415,
        "registrar.media-type",
    ));
    for (body, content_type, status, code) in rows {
        let mut connection = device.connect().await;
        let path = brski::paths::REQUEST_VOUCHER;
        let got = device.post(&mut connection, path, content_type, body).await;
        assert_eq!((got.status, got.code().as_str()), (status, code));
    }
    let got = device
        .ask_with_accept(good.clone(), "application/voucher-cms+json")
        .await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (406, "registrar.not-acceptable")
    );
    assert!(lab.masa.seen().is_empty());
    assert_eq!(device.ask_with(good).await.status, 200);
    lab.stop().await;
}

/// The names of COSE, towards devices by tolerance and towards the MASA by the vendor's profile.
///
/// Requirements: CBR-090, CBR-091, CBR-092
pub(crate) async fn each_masa_hears_the_name_that_it_knows() {
    for (masa, name) in [("current", COSE), ("old", OLD_COSE_MEDIA_TYPE)] {
        let lab = Lab::prepare(ALLOW).await;
        let profile = format!(
            "name = \"acme\"\ntolerances = [\"old-cose-media-type\"]\n[masa]\ncose_name = \"{masa}\"\n"
        );
        std::fs::write(lab.path("vendors.d").join("acme.toml"), profile).unwrap();
        let lab = lab.serving().await;
        for (serial, asked) in [("SN-1", COSE), ("SN-2", OLD_COSE_MEDIA_TYPE)] {
            let device = constrained(&lab, serial);
            let body = request(&device, NAMINGS[1], None).await;
            let mut connection = device.connect().await;
            let path = brski::paths::REQUEST_VOUCHER;
            let got = device.post(&mut connection, path, asked, body).await;
            assert_eq!(got.status, 200, "{}", got.text());
            assert_eq!(got.header("content-type"), Some(asked));
            voucher_of(&lab, &got.body);
            let seen = lab.masa.seen().pop().unwrap();
            assert_eq!(
                (seen.content_type.as_str(), seen.accept.as_str()),
                (name, name)
            );
        }
        lab.stop().await;
    }
}

/// The MASA signs, the registrar looks at the bag, and the device alone has to believe it.
///
/// Requirements: CBR-129
pub(crate) async fn the_bag_of_a_voucher_is_judged_where_it_can_be() {
    let lab = Lab::start(ALLOW).await;
    let unjudged = "registrar.voucher-signer-unjudged";
    for (serial, script, code) in [
        ("SN-1", Script::Honest, None),
        // One self-signed certificate whose key verifies: signed with a bare key.
        ("SN-2", Script::WrongSigner, Some(unjudged)),
        // None at all, as MASAs of older drafts have it.
        ("SN-3", Script::StrangersNoBag, Some(unjudged)),
        // The same where the signer is one of the anchors.
        ("SN-9", Script::NoBag, None),
        // A chain that leads elsewhere, and one that has nothing to do with the signature.
        (
            "SN-4",
            Script::StrangersChain,
            Some("registrar.voucher-unfit"),
        ),
        ("SN-5", Script::OtherBag, Some("registrar.voucher-unfit")),
        ("SN-6", Script::WrongNonce, Some("registrar.voucher-unfit")),
        ("SN-7", Script::WrongSerial, Some("registrar.voucher-unfit")),
        ("SN-8", Script::WrongPin, Some("registrar.voucher-unfit")),
    ] {
        lab.masa.plays(script.clone());
        let device = constrained(&lab, serial);
        let body = request(&device, NAMINGS[2], None).await;
        let got = device.ask_with(body).await;
        let refused = code.is_some_and(|code| code != unjudged);
        if refused {
            assert_eq!(
                (got.status, Some(got.code().as_str())),
                (502, code),
                "{script:?}"
            );
            continue;
        }
        assert_eq!(got.status, 200, "{script:?}: {}", got.text());
        let strict = Tolerances::strict();
        let signed = artifacts::open(Document::Voucher, &got.body, Some(Envelope::Cose), &strict);
        assert!(signed.unwrap().dangerous_peek().certificates().is_empty());
        let line = lab.line(serial, "voucher").await;
        assert_eq!(line["code"].as_str(), code, "{script:?}: {line:#}");
    }
    lab.stop().await;
}

/// Writes the registrar's certificate and key, signed by `issuer` or by itself.
fn exchange_certificate(lab: &Lab, profile: Profile, issuer: Option<&Identity>) {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let builder = CertificateBuilder::new(
        profile,
        name("CN=Changed").unwrap(),
        key.public_key().clone(),
        [0x5a; 16],
        NOW - time::Duration::days(1),
        NOW + time::Duration::days(90),
    )
    .dns_name("localhost");
    let certificate = match issuer {
        Some(issuer) => builder
            .issue(&issuer.chain[0], issuer.signer.as_ref())
            .unwrap(),
        None => builder.self_sign(&key).unwrap(),
    };
    std::fs::write(lab.path("registrar.pem"), certificate.to_pem()).unwrap();
    let pem = key.to_pkcs8_pem().unwrap();
    std::fs::write(lab.path("registrar.key"), pem.as_bytes()).unwrap();
}

/// Requirements: CBR-026, CBR-027, CBR-099, CBR-100, CBR-157
pub(crate) async fn a_registrars_certificate_has_every_purpose_and_any_issuer() {
    let lab = Lab::prepare(ALLOW).await;
    let issuer = lab.pki.domain.ca.clone();
    for (profile, lacks) in [
        (Profile::TlsServer, "cmcRA, clientAuth"),
        (Profile::TlsClient, "cmcRA, serverAuth"),
    ] {
        exchange_certificate(&lab, profile, Some(&issuer));
        let started = registrar::serve(lab.config(), lab.clock.clone()).await;
        let error = started.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(lacks), "{error}");
    }
    // Signed by itself, and known to nobody but the device that sees it.
    exchange_certificate(&lab, Profile::Registrar, None);
    let lab = lab.serving().await;
    for (serial, naming) in ["SN-1", "SN-2", "SN-3"].into_iter().zip(NAMINGS) {
        let device = constrained(&lab, serial);
        let got = device.ask_with(request(&device, naming, None).await).await;
        assert_eq!(got.status, 200, "{}", got.text());
        voucher_of(&lab, &got.body);
    }
    lab.stop().await;
}

/// A voucher that was loaded beforehand goes to the device without the certificates that came
/// with it.
///
/// Requirements: CBR-083, CBR-163
pub(crate) async fn a_voucher_from_a_file_is_handed_on_as_any_other() {
    let lab = Lab::prepare("[policy]\ndefault = \"allow\"\noffline = \"only\"\n").await;
    let own = Certificate::load(lab.path("registrar.pem")).unwrap();
    let domain = Certificate::load(lab.path("domain-ca.pem")).unwrap();
    let pins: [fn(&mut VoucherFields, &Certificate, &Certificate); 3] = [
        |fields, _, domain| fields.pinned_domain_cert = Some(domain.clone()),
        |fields, own, _| fields.pinned_domain_pubk = Some(own.public_key().clone()),
        |fields, own, _| fields.pinned_domain_pubk_sha256 = Some(own.public_key().sha256()),
    ];
    for (number, pin) in pins.into_iter().enumerate() {
        let serial = format!("SN-{number}");
        let mut fields = VoucherFields::new(SerialNumber::new(serial).unwrap());
        fields.created_on = Some(NOW);
        fields.assertion = Some(Assertion::Verified);
        fields.expires_on = Some(NOW + time::Duration::days(30));
        pin(&mut fields, &own, &domain);
        let voucher = Voucher::new(fields).unwrap();
        let signer = &lab.pki.masa_signer;
        let bytes = sign_voucher(&voucher, Envelope::Cose, signer, NOW).unwrap();
        let file = lab.path(&format!("{number}.vch"));
        std::fs::write(&file, bytes).unwrap();
        let file = file.display().to_string();
        let arguments = ["voucher", "import", "--vendor", "acme", &file];
        assert_eq!(lab.run(&arguments).await, Outcome::Yes, "{number}");
    }
    // One that pins somebody else is not taken.
    let mut fields = VoucherFields::new(SerialNumber::new("SN-9").unwrap());
    fields.created_on = Some(NOW);
    fields.assertion = Some(Assertion::Verified);
    fields.pinned_domain_pubk_sha256 = Some([7; 32]);
    let voucher = Voucher::new(fields).unwrap();
    let bytes = sign_voucher(&voucher, Envelope::Cose, &lab.pki.masa_signer, NOW).unwrap();
    std::fs::write(lab.path("9.vch"), bytes).unwrap();
    let file = lab.path("9.vch").display().to_string();
    let arguments = ["voucher", "import", "--vendor", "acme", &file];
    assert_eq!(lab.run(&arguments).await, Outcome::No);
    let lab = lab.serving().await;
    for (number, naming) in NAMINGS.into_iter().enumerate() {
        let device = constrained(&lab, &format!("SN-{number}"));
        let got = device.ask_with(request(&device, naming, None).await).await;
        assert_eq!(got.status, 200, "{number}: {}", got.text());
        let voucher = voucher_of(&lab, &got.body);
        assert!(voucher.nonce.is_none() && voucher.expires_on.is_some());
    }
    assert!(lab.masa.seen().is_empty());
    lab.stop().await;
}
