//! From the voucher to the certificate, and what stands in between.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use est::body::{self, BodyTolerances};
use est::client::{self, CaCertificates, DomainTrust, Facts, HttpAnswer, HttpRequest, Outcome};
use est::csrattrs::Requirements;
use http::{HeaderMap, HeaderValue, Method, header};
use net::HttpVersion;
use net::client::Connection;
use pki::{Certificate, Csr, Identity, KeyKind, SoftwareKey};

use crate::harness::{Device, Got, Lab};

pub(crate) const ALLOW: &str = "[policy]\ndefault = \"allow\"\n";
pub(crate) const STRICT: BodyTolerances = BodyTolerances {
    binary_der: false,
    pem: false,
};

/// Sends one EST request on an open connection.
pub(crate) async fn send(connection: &mut Connection, request: HttpRequest) -> Got {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static(request.accept));
    if let Some(content_type) = request.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let method = Method::from_bytes(request.method.as_bytes()).unwrap();
    let response = connection
        .request(method, &request.path, headers, Bytes::from(request.body))
        .await
        .unwrap();
    Got {
        status: response.status.as_u16(),
        headers: response.headers,
        body: response.body,
    }
}

pub(crate) fn answer(got: &Got) -> HttpAnswer<'_> {
    HttpAnswer {
        status: got.status,
        content_type: got.header("content-type"),
        retry_after: got.header("retry-after"),
        location: got.header("location"),
        body: &got.body,
    }
}

pub(crate) fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(done) => done,
        other => panic!("{other:?}"),
    }
}

/// Changes the configuration of a registrar that does not serve yet.
pub(crate) fn edit(lab: &Lab, change: impl FnOnce(String) -> String) {
    let file = lab.path("registrar.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, change(text)).unwrap();
}

/// A device that has its voucher and said so.
pub(crate) async fn vouchered(lab: &Lab, serial: &str) -> Device {
    let device = lab.device(serial);
    let got = device.ask().await;
    assert_eq!(got.status, 200, "{}", got.text());
    let report = "{\"version\":1,\"status\":true}";
    let got = device.report(brski::paths::VOUCHER_STATUS, report).await;
    assert_eq!(got.status, 200, "{}", got.text());
    device
}

pub(crate) async fn trust(lab: &Lab, device: &Device) -> DomainTrust {
    let mut connection = device.connect().await;
    let registrar = connection.peer_chain()[0].clone();
    let got = send(&mut connection, client::ca_certificates_request(None)).await;
    let bag: CaCertificates = done(client::ca_certificates(&answer(&got), &STRICT).unwrap());
    bag.judge(Some(&registrar), Some(lab.clock.now())).unwrap()
}

pub(crate) async fn attributes(device: &Device) -> Requirements {
    let mut connection = device.connect().await;
    let got = send(&mut connection, client::csr_attrs_request(None)).await;
    done(client::csr_attrs(&answer(&got), &STRICT).unwrap())
}

pub(crate) fn facts(device: &Device) -> Facts {
    let idevid = &device.identity.as_ref().unwrap().chain[0];
    Facts {
        subject_der: idevid.subject_der().to_vec(),
        serial_number: Some(device.serial.clone()),
        ..Facts::default()
    }
}

pub(crate) fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).unwrap())
}

pub(crate) async fn enroll(device: &Device, csr: &Csr) -> Got {
    let mut connection = device.connect().await;
    send(&mut connection, client::enroll_request(None, csr)).await
}

pub(crate) async fn reenroll(device: &Device, csr: &Csr) -> Got {
    let mut connection = device.connect().await;
    send(&mut connection, client::reenroll_request(None, csr)).await
}

/// Enrols a vouchered device and gives it the new identity.
async fn enrolled(lab: &Lab, serial: &str) -> (Device, Device) {
    let device = vouchered(lab, serial).await;
    let trust = trust(lab, &device).await;
    let key = key();
    let asked = attributes(&device).await;
    let csr = client::request(&asked, &facts(&device), None, key.as_ref()).unwrap();
    let got = enroll(&device, &csr).await;
    let now = lab.clock.now();
    let enrolled = client::enrolled(
        &answer(&got),
        csr.public_key(),
        &trust,
        Some(now),
        now,
        &STRICT,
    );
    let enrolled = done(enrolled.unwrap());
    let mut member = device.clone();
    member.identity = Some(Identity::new(enrolled.chain, key).unwrap());
    (device, member)
}

pub(crate) fn certificate(got: &Got) -> Certificate {
    assert_eq!(got.status, 200, "{}", got.text());
    let (der, _) = body::decode(&got.body, 1 << 20, &STRICT).unwrap();
    let mut all = pki::pkcs7::parse_certs_only(&der).unwrap();
    // EST-4.2.3-02: only the certificate that was issued.
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// Requirements: BRSKI-5.9-01, BRSKI-5.9.1-01, BRSKI-5.9.4-08, EST-3.1-01, EST-3.2.2-01,
/// EST-3.2.2-02, EST-3.2.2-04, EST-3.7-02, EST-4.1.3-03, EST-4.1.3-04, EST-4.2.3-01,
/// EST-4.2.3-02, EST-4.2.3-07, EST-4.5.2-01, EST8951-3-01
pub(crate) async fn a_device_enrols_and_renews_over_every_http_version() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[est]\nlabels = [\"factory\"]\n");
    let lab = lab.serving().await;
    for (serial, http) in [
        ("SN-1", HttpVersion::Http1),
        ("SN-2", HttpVersion::Http2),
        ("SN-3", HttpVersion::Http3),
    ] {
        let mut device = vouchered(&lab, serial).await;
        device.http = http;
        let trust = trust(&lab, &device).await;
        // /csrattrs names the subject that the registrar chose.
        let asked = attributes(&device).await;
        assert_eq!(asked.subject.len(), 1, "{http}");
        let key = key();
        let csr = client::request(&asked, &facts(&device), None, key.as_ref()).unwrap();
        let got = enroll(&device, &csr).await;
        assert_eq!(
            got.header("content-type"),
            Some("application/pkcs7-mime; smime-type=certs-only")
        );
        let first = certificate(&got);
        assert_eq!(first.subject_serial_number().as_deref(), Some(serial));
        assert_eq!(
            first.subject(),
            format!("SERIALNUMBER={serial}"),
            "no name but the registrar's"
        );
        assert!(!first.is_ca());
        // 127 random bits: one in 128 begins with a zero octet, which DER leaves out.
        assert!((12..=16).contains(&first.serial_number().len()));
        let now = lab.clock.now();
        let taken = client::enrolled(
            &answer(&got),
            csr.public_key(),
            &trust,
            Some(now),
            now,
            &STRICT,
        );
        let chain = done(taken.unwrap()).chain;

        // The same request on another connection, and under a label: the same certificate.
        assert_eq!(certificate(&enroll(&device, &csr).await), first);
        let mut connection = device.connect().await;
        let labelled = client::enroll_request(Some("factory"), &csr);
        assert_eq!(certificate(&send(&mut connection, labelled).await), first);

        // Renewal with the same key, then with another one.
        let mut member = device.clone();
        member.identity = Some(Identity::new(chain, key.clone()).unwrap());
        let csr = client::reenrol_request(&first, &Requirements::none(), None, key.as_ref());
        let second = certificate(&reenroll(&member, &csr.unwrap()).await);
        assert_eq!(second.public_key(), first.public_key());
        assert_ne!(second.serial_number(), first.serial_number());
        assert_eq!(second.subject_der(), first.subject_der());
        let fresh = self::key();
        let csr = client::reenrol_request(&first, &Requirements::none(), None, fresh.as_ref());
        let csr = csr.unwrap();
        let third = certificate(&reenroll(&member, &csr).await);
        assert_ne!(third.public_key(), first.public_key());
        assert_eq!(certificate(&reenroll(&member, &csr).await), third);

        let shown = lab.shown(serial).await;
        assert_eq!(shown["state"], "enrolled");
        lab.line(serial, "enrol").await;
        lab.line(serial, "reenrol").await;
    }
    lab.stop().await;
}

/// What a device asks for beyond its key is not granted.
/// Requirements: EST-3.7-02
pub(crate) async fn names_are_the_registrars_choice() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text.replace(
            "[ca]\n",
            "[ca]\nsubject = \"CN={serial},O=Example,OU={product}\"\n\
             alt_names = [\"dns:{serial}.devices.example\"]\nlifetime_days = 30\n\
             crl_url = \"http://crl.example/crl\"\n",
        )
    });
    let lab = lab.serving().await;
    let device = vouchered(&lab, "SN-7").await;
    let key = key();
    let csr = pki::CsrBuilder::new("CN=admin,O=Elsewhere".parse().unwrap())
        .dns_names(&["bank.example"])
        .unwrap()
        .sign(key.as_ref())
        .unwrap();
    let issued = certificate(&enroll(&device, &csr).await);
    assert_eq!(issued.subject(), "O=Example,CN=SN-7");
    assert_eq!(issued.dns_names(), ["sn-7.devices.example"]);
    let lifetime = issued.not_after() - lab.clock.now();
    assert_eq!(lifetime.whole_days(), 30);
    assert!(issued.extension("2.5.29.31".parse().unwrap()).is_some());
    lab.stop().await;
}

/// Requirements: ACP-6.2.2-01, BRSKI-5.9-03, BRSKI-5.9.2-01, BRSKI-5.9.2-02
pub(crate) async fn an_acp_node_name_is_demanded_and_given() {
    const NAME: &str = "rfc8994+fd739fc23c3440112233445500000000+@acp.example.com";
    let lab = Lab::prepare(ALLOW).await;
    std::fs::write(lab.path("acp"), format!("# serial,name\nSN-1,{NAME}\n")).unwrap();
    edit(&lab, |text| {
        text.replace(
            "[ca]\n",
            "[ca]\nacp_names = \"acp\"\nalt_names = [\"acp:{acp}\", \"dns:{serial}.example\"]\n",
        )
    });
    let lab = lab.serving().await;
    let device = vouchered(&lab, "SN-1").await;
    let ignorant = client::request(&Requirements::none(), &facts(&device), None, key().as_ref());
    let got = enroll(&device, &ignorant.unwrap()).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (400, "est.csr-extension-missing")
    );

    let asked = attributes(&device).await;
    let san = &asked.extensions[0];
    assert!(san.critical);
    // id-on-AcpNodeName with an IA5String.
    let length = u8::try_from(NAME.len()).unwrap();
    let mut wanted = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x08\x0a\xa0".to_vec();
    wanted.extend([length + 2, 0x16, length]);
    wanted.extend_from_slice(NAME.as_bytes());
    let holds = |der: &[u8]| der.windows(wanted.len()).any(|part| part == wanted);
    assert!(holds(san.value.as_ref().unwrap()));
    let key = key();
    let csr = client::request(&asked, &facts(&device), None, key.as_ref()).unwrap();
    let first = certificate(&enroll(&device, &csr).await);
    let names = first.extension("2.5.29.17".parse().unwrap()).unwrap();
    assert!(holds(names));
    assert_eq!(first.dns_names(), ["sn-1.example"]);

    // A renewal has the same names, and is asked for them.
    let mut member = device.clone();
    member.identity = Some(Identity::new(vec![first.clone()], key).unwrap());
    let asked = attributes(&member).await;
    let csr = client::reenrol_request(&first, &asked, None, self::key().as_ref()).unwrap();
    let second = certificate(&reenroll(&member, &csr).await);
    assert_eq!(second.extension("2.5.29.17".parse().unwrap()), Some(names));

    // A device that the file does not name gets what is left.
    let other = vouchered(&lab, "SN-2").await;
    let asked = attributes(&other).await;
    let csr = client::request(&asked, &facts(&other), None, self::key().as_ref()).unwrap();
    let issued = certificate(&enroll(&other, &csr).await);
    assert_eq!(issued.dns_names(), ["sn-2.example"]);
    assert!(!holds(issued.der()));
    lab.stop().await;
}

/// Requirements: EST-4.2-02
pub(crate) async fn nobody_enrols_without_a_voucher() {
    let lab = Lab::start(ALLOW).await;
    let key = key();
    let csr = client::request(&Requirements::none(), &Facts::default(), None, key.as_ref());
    let csr = csr.unwrap();

    let known = lab.device("SN-1");
    let got = enroll(&known, &csr).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.not-bootstrapped")
    );
    // A voucher that the device has not accepted is none.
    assert_eq!(known.ask().await.status, 200);
    let refused = "{\"version\":1,\"status\":false,\"reason\":\"no\"}";
    known.report(brski::paths::VOUCHER_STATUS, refused).await;
    assert_eq!(enroll(&known, &csr).await.status, 403);

    let mut stranger = lab.device("SN-2");
    stranger.identity = Some(lab.pki.self_signed_device("SN-2").unwrap());
    let got = enroll(&stranger, &csr).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.manufacturer-unknown")
    );

    let mut anonymous = lab.device("SN-3");
    anonymous.identity = None;
    let got = enroll(&anonymous, &csr).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "est.client-certificate-required")
    );

    // A clone of a device that has a voucher.
    vouchered(&lab, "SN-4").await;
    let mut clone = lab.device("SN-4");
    clone.identity = Some(lab.pki.cloned_idevid("SN-4").unwrap());
    let got = enroll(&clone, &csr).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.clone-suspected")
    );

    let line = lab.line("SN-1", "enrol").await;
    assert_eq!(line["code"], "registrar.not-bootstrapped");
    lab.stop().await;
}

/// Requirements: EST-3.3.2-02, EST-4.2.2-02
pub(crate) async fn a_certificate_that_is_revoked_or_expired_renews_nothing() {
    let lab = Lab::start(ALLOW).await;
    let (_, member) = enrolled(&lab, "SN-1").await;
    let current = member.identity.as_ref().unwrap().chain[0].clone();
    let fresh = key();
    let csr = client::reenrol_request(&current, &Requirements::none(), None, fresh.as_ref());
    let csr = csr.unwrap();
    let revoke = ["cert", "revoke", "SN-1", "--reason", "key-compromise"];
    assert_eq!(lab.run(&revoke).await, daemon::Outcome::Yes);
    let got = reenroll(&member, &csr).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "est.certificate-revoked")
    );
    assert_eq!(lab.line("SN-1", "revoke").await["outcome"], "ok");

    let (_, member) = enrolled(&lab, "SN-2").await;
    let current = member.identity.as_ref().unwrap().chain[0].clone();
    let csr = client::reenrol_request(&current, &Requirements::none(), None, key().as_ref());
    lab.hand.advance(Duration::from_secs(366 * 24 * 3600));
    let got = reenroll(&member, &csr.unwrap()).await;
    assert_eq!((got.status, got.code().as_str()), (403, "path.expired"));
    lab.stop().await;
}

pub(crate) async fn the_crl_follows_a_revocation_at_once() {
    let lab = Lab::start(ALLOW).await;
    let (device, member) = enrolled(&lab, "SN-1").await;
    let current = member.identity.as_ref().unwrap().chain[0].clone();
    let issuer = trust(&lab, &device).await.anchor;
    let fetch = async || {
        let mut anonymous = device.clone();
        anonymous.identity = None;
        let mut connection = anonymous.connect().await;
        let response = connection
            .request(Method::GET, "/crl", HeaderMap::new(), Bytes::new())
            .await
            .unwrap();
        assert_eq!(
            response.header("content-type"),
            Some("application/pkix-crl")
        );
        pki::Crl::from_der(&response.body).unwrap()
    };
    let before = fetch().await;
    before.verify_signature_by(issuer.public_key()).unwrap();
    assert!(before.revocation(current.serial_number()).is_none());
    assert_eq!(fetch().await.der(), before.der());

    let id = hex::encode(current.serial_number());
    assert_eq!(
        lab.run(&["cert", "revoke", &id]).await,
        daemon::Outcome::Yes
    );
    let after = fetch().await;
    assert!(after.revocation(current.serial_number()).is_some());
    after.verify_signature_by(issuer.public_key()).unwrap();
    // It is renewed by itself before it runs out.
    lab.hand.advance(Duration::from_secs(25 * 3600));
    let later = fetch().await;
    assert!(later.this_update() > after.this_update());
    assert!(later.revocation(current.serial_number()).is_some());
    for command in [
        &["cert", "list", "--revoked"][..],
        &["cert", "show", &id],
        &["cert", "export", "SN-1"],
        &["cert", "crl"],
    ] {
        assert_eq!(lab.run(command).await, daemon::Outcome::Yes, "{command:?}");
    }
    assert_eq!(
        lab.run(&["cert", "show", "ffffffff"]).await,
        daemon::Outcome::No
    );
    lab.stop().await;
}

/// Requirements: EST-4.2.1-02
pub(crate) async fn a_request_that_somebody_else_sends_is_refused() {
    let lab = Lab::start(ALLOW).await;
    let victim = vouchered(&lab, "SN-1").await;
    let thief = vouchered(&lab, "SN-2").await;
    let key = key();
    let csr = client::request(&Requirements::none(), &facts(&victim), None, key.as_ref()).unwrap();
    let first = certificate(&enroll(&victim, &csr).await);
    let got = enroll(&thief, &csr).await;
    assert_eq!((got.status, got.code().as_str()), (403, "est.key-in-use"));
    // The IDevID key of another device neither.
    let idevid = victim.identity.as_ref().unwrap();
    let csr = client::request(
        &Requirements::none(),
        &facts(&thief),
        None,
        idevid.signer.as_ref(),
    );
    let got = enroll(&thief, &csr.unwrap()).await;
    assert_eq!((got.status, got.code().as_str()), (403, "est.key-in-use"));
    // And renewal needs the certificate that is renewed, not that of another device.
    let csr = client::reenrol_request(&first, &Requirements::none(), None, self::key().as_ref());
    let got = reenroll(&thief, &csr.unwrap()).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "est.reenrol-certificate-missing")
    );
    let (_, other) = enrolled(&lab, "SN-3").await;
    let csr = client::reenrol_request(&first, &Requirements::none(), None, self::key().as_ref());
    let got = reenroll(&other, &csr.unwrap()).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (400, "est.reenrol-subject-changed")
    );
    lab.stop().await;
}

pub(crate) async fn the_same_request_many_times_at_once_is_one_certificate() {
    let lab = Lab::start(ALLOW).await;
    let device = vouchered(&lab, "SN-1").await;
    let csr = client::request(&Requirements::none(), &facts(&device), None, key().as_ref());
    let csr = Arc::new(csr.unwrap());
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (device, csr) = (device.clone(), Arc::clone(&csr));
            tokio::spawn(async move { certificate(&enroll(&device, &csr).await) })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all.dedup();
    assert_eq!(all.len(), 1);
    lab.stop().await;
}

/// A new voucher exchange is a new scope: the device lost everything and starts again.
pub(crate) async fn a_device_that_starts_anew_gets_a_new_certificate() {
    let lab = Lab::start(ALLOW).await;
    let device = vouchered(&lab, "SN-1").await;
    let csr = client::request(&Requirements::none(), &facts(&device), None, key().as_ref());
    let csr = csr.unwrap();
    let first = certificate(&enroll(&device, &csr).await);
    vouchered(&lab, "SN-1").await;
    let second = certificate(&enroll(&device, &csr).await);
    assert_ne!(first, second);
    // A revocation ends what the exchange allowed; after another one there is a new certificate.
    assert_eq!(
        lab.run(&["cert", "revoke", "SN-1"]).await,
        daemon::Outcome::Yes
    );
    let got = enroll(&device, &csr).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.not-bootstrapped")
    );
    lab.hand.advance(Duration::from_secs(1));
    vouchered(&lab, "SN-1").await;
    let third = certificate(&enroll(&device, &csr).await);
    assert_ne!(second, third);
    lab.stop().await;
}

/// Requirements: EST-3.5-02, EST-3.5-03, EST-3.5-04, EST-4.5.2-05
pub(crate) async fn a_channel_binding_is_verified_and_can_be_demanded() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[est]\nchannel_binding = \"require\"\n");
    let lab = lab.serving().await;
    let device = vouchered(&lab, "SN-1").await;
    let asked = attributes(&device).await;
    assert!(asked.challenge_password);
    let key = key();
    let mut connection = device.connect().await;
    let binding = connection.exporter().unwrap();
    let csr = client::request(&asked, &facts(&device), Some(&binding), key.as_ref()).unwrap();
    // On another connection it is the binding of somebody else.
    let got = enroll(&device, &csr).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "est.channel-binding-mismatch")
    );
    certificate(&send(&mut connection, client::enroll_request(None, &csr)).await);
    let csr = client::request(&Requirements::none(), &facts(&device), None, key.as_ref()).unwrap();
    let got = send(&mut connection, client::enroll_request(None, &csr)).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (400, "est.channel-binding-missing")
    );
    lab.stop().await;
}

/// Requirements: EST-4.4-01, EST-4.4.1-01, EST-4.4.2-01, EST-4.4.2-02
pub(crate) async fn keys_are_generated_where_that_is_offered() {
    let lab = Lab::start(ALLOW).await;
    let device = vouchered(&lab, "SN-1").await;
    let csr = client::request(&Requirements::none(), &facts(&device), None, key().as_ref());
    let csr = csr.unwrap();
    let mut connection = device.connect().await;
    let got = send(&mut connection, client::server_keygen_request(None, &csr)).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (404, "est.server-keygen-disabled")
    );
    lab.stop().await;

    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text + "[est]\nserver_keygen = true\nserver_keygen_key = \"ec-p384\"\n"
    });
    let lab = lab.serving().await;
    let device = vouchered(&lab, "SN-1").await;
    let trust = trust(&lab, &device).await;
    let mut connection = device.connect().await;
    let got = send(&mut connection, client::server_keygen_request(None, &csr)).await;
    let now = lab.clock.now();
    let generated = done(client::generated(&answer(&got), &trust, Some(now), now).unwrap());
    assert_eq!(
        pki::Signer::algorithm(&generated.key),
        pki::SignatureAlgorithm::EcdsaP384Sha384
    );
    let leaf = &generated.enrolled.certificate;
    assert_eq!(leaf.subject_serial_number().as_deref(), Some("SN-1"));
    assert_ne!(leaf.public_key(), csr.public_key());
    lab.stop().await;
}
