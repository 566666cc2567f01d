//! What deployed constrained stacks send, rebuilt octet by octet from descriptions of them.

use coap::{Code, Request, format};
use net::coap::CoapClient;
use net::dtls::{ClientConfig, Suite};
use pki::cose::CoseOptions;
use pki::{Certificate, Csr, CsrBuilder, Signer as _};

use crate::coap::{cause, registrar, said};
use crate::coap_vouchers::voucher;
use crate::enrolment::{ALLOW, edit, key};
use crate::harness::Lab;

/// A map of small unsigned keys in the order given.
fn map(entries: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xa0 | u8::try_from(entries.len()).unwrap()];
    for (key, value) in entries {
        out.push(*key);
        out.extend_from_slice(value);
    }
    out
}

fn octets(value: &[u8]) -> Vec<u8> {
    let mut out = match u8::try_from(value.len()).unwrap() {
        short @ 0..=23 => vec![0x40 | short],
        long => vec![0x58, long],
    };
    out.extend_from_slice(value);
    out
}

fn text(value: &str) -> Vec<u8> {
    let mut out = octets(value.as_bytes());
    out[0] |= 0x20;
    out
}

/// OpenThread's pledge for commercial commissioning (pull request 10805): CCM_8 only, records of
/// 768 octets, no block-wise transfer, keys of the request in another order than CBOR likes,
/// vouchers under the name of plain COSE, Accept 287, a reason-context that is a text, and room
/// for a voucher of 1,024 octets.
///
/// Requirements: CBR-009, CBR-036, CBR-049, CBR-086, CBR-087, CBR-131, CBR-160, DTL-039
pub(crate) async fn openthreads_pledge_enrols() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n");
    let tolerances = "[\"old-cose-media-type\", \"reason-context-text\"]";
    std::fs::write(
        lab.path("vendors.d/acme.toml"),
        format!("name = \"acme\"\ntolerances = {tolerances}\n"),
    )
    .unwrap();
    let lab = lab.serving().await;
    let device = lab.device("SN-1");
    let identity = device.identity.clone().unwrap();
    let mut config = ClientConfig::new(Some(identity.clone()));
    config.suites = vec![Suite::EcdheEcdsaAes128Ccm8];
    config.mtu = 768;
    let address = lab.running().coap_addresses()[0];
    let client = CoapClient::connect(address, &config, coap::Config::default())
        .await
        .unwrap();
    assert_eq!(
        client.peer().unwrap().suite,
        "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"
    );

    let spki = registrar(&lab).public_key().spki_der().to_vec();
    let leaves = map(&[
        (1, vec![2]),
        (7, octets(&[0x11; 8])),
        (13, text("SN-1")),
        (12, octets(&spki)),
    ]);
    let payload = [&[0xa1, 0x19, 0x09, 0xc5][..], &leaves].concat();
    let request = pki::cose::sign(&payload, &identity, &CoseOptions::default()).unwrap();
    assert_eq!(request[0], 0xd2, "with the tag of COSE_Sign1");
    let asked = Request {
        accept: Some(format::COSE_SIGN1),
        ..Request::post(".well-known/brski/rv", format::COSE_SIGN1, request)
    };
    let response = client.request(asked).await.unwrap();
    assert_eq!(
        response.content_format,
        Some(format::COSE_SIGN1),
        "{}",
        said(&response)
    );
    assert!(
        response.payload.len() <= 1_024,
        "{}",
        response.payload.len()
    );
    let voucher = voucher(&lab, &response);
    assert!(voucher.pinned_domain_cert.is_some());
    assert_eq!(voucher.serial_number.as_str(), "SN-1");
    assert_eq!(voucher.assertion, Some(artifacts::Assertion::Proximity));
    assert_eq!(voucher.nonce.as_ref().unwrap().octets(), [0x11; 8]);
    assert!(voucher.idevid_issuer.is_none());

    // {"version": 1, "status": true}
    let yes = b"\xa2\x67version\x01\x66status\xf5";
    let report = Request::post(".well-known/brski/vs", format::CBOR, yes);
    let response = client.request(report).await.unwrap();
    assert_eq!((response.code, response.payload.len()), (Code::CHANGED, 0));

    let get = Request {
        accept: Some(format::PKIX_CERT),
        ..Request::get(".well-known/est/crts")
    };
    let response = client.request(get).await.unwrap();
    let ca = Certificate::from_der(&response.payload).unwrap();
    let key = key();
    let csr: Csr = CsrBuilder::with_subject_der(identity.chain[0].subject_der())
        .unwrap()
        .sign(key.as_ref())
        .unwrap();
    assert!(csr.der().len() <= 512);
    let enrol = Request {
        accept: Some(format::PKIX_CERT),
        ..Request::post(".well-known/est/sen", format::PKCS10, csr.der())
    };
    let response = client.request(enrol).await.unwrap();
    assert_eq!(response.content_format, Some(format::PKIX_CERT));
    let certificate = Certificate::from_der(&response.payload).unwrap();
    assert_eq!(certificate.public_key(), key.public_key());
    certificate.verify_signature_by(ca.public_key()).unwrap();

    // {"version": 1, "status": false, "reason": "none", "reason-context": "text"}
    let no = [
        b"\xa4\x67version\x01\x66status\xf4\x66reason\x64none\x6ereason-context".as_slice(),
        b"\x64text",
    ]
    .concat();
    let report = Request::post(".well-known/brski/es", format::CBOR, no);
    let response = client.request(report).await.unwrap();
    assert_eq!(response.code, Code::CHANGED, "{}", said(&response));
    let line = lab.line("SN-1", "enrol-status").await;
    assert_eq!(line["code"], "registrar.enrolment-failed-at-device");
    client.close().await;
    lab.stop().await;
}

/// The channel binding of RFC 9148 §3 over DTLS 1.2.
///
/// Requirements: ESC-006, ESC-007
pub(crate) async fn a_request_can_be_bound_to_its_association() {
    use crate::coap::{asker, resources};
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[est]\nchannel_binding = \"require\"\n");
    let lab = lab.serving().await;
    let device = crate::enrolment::vouchered(&lab, "SN-1").await;
    let identity = device.identity.as_ref().unwrap();
    let mut who = asker(&lab, Some(identity));
    who.caller.exporter = Some([7; 32]);
    let key = key();
    let csr = |binding: Option<[u8; 32]>| {
        let mut builder = CsrBuilder::with_subject_der(identity.chain[0].subject_der()).unwrap();
        if let Some(binding) = binding {
            builder = builder.challenge_password(est::server::challenge_password(&binding));
        }
        builder.sign(key.as_ref()).unwrap()
    };
    for (binding, code, reason) in [
        (None, "4.00", "est.channel-binding-missing"),
        (Some([8; 32]), "4.03", "est.channel-binding-mismatch"),
    ] {
        let request = Request::post("e/sen", format::PKCS10, csr(binding).der());
        let response = resources(&lab).answer(who.clone(), request).await;
        assert_eq!(
            (
                response.code.to_string().as_str(),
                cause(&response).as_str()
            ),
            (code, reason)
        );
    }
    let request = Request::post("e/sen", format::PKCS10, csr(Some([7; 32])).der());
    let response = resources(&lab).answer(who, request).await;
    assert_eq!(response.code, Code::CHANGED, "{}", said(&response));
    lab.stop().await;
}

/// Requirements: CBR-004, CBR-005, CBR-008
pub(crate) async fn the_operator_chooses_the_versions_of_dtls() {
    use net::dtls::Version;
    for (configured, takes_1_2, takes_1_3) in [
        ("", true, true),
        ("dtls = [\"1.3\"]\n", false, true),
        ("dtls = [\"1.2\"]\n", true, false),
    ] {
        let lab = Lab::prepare(ALLOW).await;
        edit(&lab, |text| {
            text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n" + configured
        });
        // With DTLS 1.3 the library shows no certificate but the device's own.
        crate::coap_clients::profile(&lab);
        let lab = lab.serving().await;
        let address = lab.running().coap_addresses()[0];
        for (version, takes) in [(Version::Dtls12, takes_1_2), (Version::Dtls13, takes_1_3)] {
            let mut config = ClientConfig::new(lab.device("SN-1").identity.clone());
            config.version = version;
            let client = CoapClient::connect(address, &config, coap::Config::default()).await;
            assert_eq!(
                client.is_ok(),
                takes,
                "{configured:?} {version:?} {client:?}"
            );
            if let Ok(client) = client {
                let get = Request::get(".well-known/est/crts");
                let response = client.request(get).await.unwrap();
                assert_eq!(response.code, Code::CONTENT, "{}", said(&response));
                client.close().await;
            }
        }
        lab.stop().await;
    }
}

/// Devices whose keys are of another kind than the registrar's, with records of 512 octets.
///
/// Requirements: CBR-015, CBR-024, CBR-066, CBR-067, CBR-111
pub(crate) async fn devices_with_other_keys_and_small_records_get_their_vouchers() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n");
    let mut makers = Vec::new();
    for (vendor, kind) in [
        ("edward", pki::KeyKind::Ed25519),
        ("wide", pki::KeyKind::EcdsaP384),
    ] {
        let mut options = testkit::PkiOptions::new(testkit::NOW).with_kind(kind);
        options.masa_url = Some(crate::harness::MASA_HOST.to_owned());
        let maker = testkit::Pki::new(options).unwrap();
        let root = maker.manufacturer_root.chain[0].clone();
        let masa = lab.pki.masa_tls.chain.last().unwrap().clone();
        let signer = lab.pki.masa_signer.chain.last().unwrap().clone();
        for (purpose, anchor) in [("idevid", root), ("masa-tls", masa), ("voucher", signer)] {
            let file = lab.path("anchor.pem");
            std::fs::write(&file, anchor.to_pem()).unwrap();
            let file = file.display().to_string();
            let import = [
                "trust", "import", &file, "--vendor", vendor, "--use", purpose,
            ];
            assert_eq!(lab.run(&import).await, daemon::Outcome::Yes);
        }
        makers.push((vendor, maker));
    }
    let lab = lab.serving().await;
    let address = lab.running().coap_addresses()[0];
    for (vendor, maker) in makers {
        let identity = maker.idevid(vendor).unwrap();
        let mut device =
            crate::harness::Device::new(identity.clone(), vendor, lab.running().device_address());
        device.envelope = artifacts::Envelope::Cose;
        let mut config = ClientConfig::small(Some(identity));
        config.suites = Suite::ALL.to_vec();
        let client = CoapClient::connect(address, &config, coap::Config::default())
            .await
            .unwrap();
        let body = device.sign(crate::coap_vouchers::small(&lab, &device));
        let request = Request::post("b/rv", format::VOUCHER_COSE, body);
        let response = client.request(request).await.unwrap();
        assert_eq!(
            voucher(&lab, &response).serial_number.as_str(),
            vendor,
            "{}",
            said(&response)
        );
        let get = Request::get("e/crts");
        let first = client.request(get.clone()).await.unwrap();
        let again = Request {
            etags: first.etag.clone().into_iter().collect(),
            ..get
        };
        let response = client.request(again).await.unwrap();
        assert_eq!(
            (response.code, response.payload.len(), response.etag),
            (Code::VALID, 0, first.etag)
        );
        client.close().await;
    }
    lab.stop().await;
}
