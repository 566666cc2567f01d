//! A registrar whose CA is another EST server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use est::client::{self, Facts, Outcome};
use est::csrattrs::Requirements;
use http::{HeaderMap, Method};
use pki::issue::{CertificateBuilder, Profile};
use pki::{Certificate, Identity, KeyKind, Signer as _, SoftwareKey};

use crate::enrolment::{
    ALLOW, STRICT, answer, attributes, certificate, edit, enroll, facts, key, reenroll, trust,
    vouchered,
};
use crate::est_tools::{PASSWORD, Plain};
use crate::harness::Lab;

fn upstream(plain: &Plain, password_file: &str) -> String {
    let folder = plain.folder.path().display();
    format!(
        "[ca]\nsubject = \"CN=alice\"\n[ca.upstream]\nurl = \"https://localhost:{}\"\n\
         tls_anchors = \"{folder}/domain-ca.pem\"\nca_certificates = \"{folder}/domain-ca.pem\"\n\
         user = \"alice\"\npassword_file = \"{password_file}\"\ntimeout_seconds = 5\n",
        plain.port()
    )
}

/// Requirements: EST-3.7-02, EST-4.5.2-04, BRSKI-5.9.2-02
#[tokio::test(flavor = "multi_thread")]
async fn certificates_come_from_an_upstream_est_server() {
    use pki::Coded as _;
    use registrar::ca::{CaError, CertificateAuthority as _, Config, Issued, Order, UpstreamCa};

    let plain =
        Plain::start("[est]\nkey = \"ec-p256\"\n[est.without_brski]\nusers_file = \"users\"\n")
            .await;
    let now = daemon::Clock::system().now();
    let folder = plain.folder.path();
    std::fs::write(folder.join("password"), format!("{PASSWORD}\n")).unwrap();
    std::fs::write(folder.join("wrong"), "wrong\n").unwrap();
    #[derive(serde::Deserialize)]
    struct File {
        ca: Config,
    }
    let open = |password: &str| {
        let text = upstream(&plain, &folder.join(password).display().to_string());
        let file: File = toml::from_str(&text).unwrap();
        UpstreamCa::open(&file.ca.upstream.unwrap()).unwrap()
    };
    let order = |kind, subject: &str| {
        let key = SoftwareKey::generate(kind).unwrap();
        let name: x509_cert::name::Name = subject.parse().unwrap();
        let facts = Facts {
            subject_der: der::Encode::to_der(&name).unwrap(),
            ..Facts::default()
        };
        let csr = client::request(&Requirements::none(), &facts, None, &key).unwrap();
        Order {
            public_key: csr.public_key().clone(),
            csr,
            subject: name,
            alt_names: Vec::new(),
            replaces: None,
        }
    };
    let ca = open("password");
    let good = order(KeyKind::EcdsaP256, "CN=alice");
    let Issued::Certificate(certificate) = ca.issue(&good, now).await.unwrap() else {
        panic!()
    };
    assert_eq!(certificate.subject(), "CN=alice");
    // What the upstream CA demands is known from then on, and handed to devices.
    assert_eq!(
        client::key_kind(&ca.demands().unwrap()).unwrap(),
        Some(KeyKind::EcdsaP256)
    );

    let refused = |error: CaError| (error.code(), error.status());
    // It refuses another kind of key; it gives another name than ordered; other credentials.
    let error = ca
        .issue(&order(KeyKind::EcdsaP384, "CN=alice"), now)
        .await
        .unwrap_err();
    assert_eq!(refused(error), ("registrar.ca-refused", 403));
    let error = ca
        .issue(&order(KeyKind::EcdsaP256, "CN=bob"), now)
        .await
        .unwrap_err();
    assert_eq!(refused(error), ("registrar.ca-answer-invalid", 503));
    let error = open("wrong").issue(&good, now).await.unwrap_err();
    assert_eq!(refused(error), ("registrar.ca-refused", 403));
    plain.stop().await;
    let error = ca.issue(&good, now).await.unwrap_err();
    assert_eq!(refused(error), ("registrar.ca-unreachable", 503));
}

/// A registrar whose certificate and whose devices' certificates come from another registrar.
async fn below(upper: &Lab) -> Lab {
    let lab = Lab::prepare(ALLOW).await;
    let ca = Certificate::load(upper.path("domain-ca.pem")).unwrap();
    let ca_key = SoftwareKey::load(upper.path("domain-ca.key"), None).unwrap();
    let key = SoftwareKey::load(lab.path("registrar.key"), None).unwrap();
    let now = lab.clock.now();
    let certificate = CertificateBuilder::new(
        Profile::Registrar,
        pki::issue::name("CN=lower").unwrap(),
        key.public_key().clone(),
        rand::random(),
        now - time::Duration::hours(1),
        now + time::Duration::days(30),
    )
    .dns_name("localhost")
    .issue(&ca, &ca_key)
    .unwrap();
    std::fs::write(lab.path("registrar.pem"), certificate.to_pem()).unwrap();
    std::fs::write(lab.path("domain-ca.pem"), ca.to_pem()).unwrap();
    lab
}

fn with_upstream(lab: &Lab, port: u16) {
    let upstream = format!(
        "[ca]\nalt_names = [\"dns:{{serial}}.example\"]\n[ca.upstream]\n\
         url = \"https://localhost:{port}\"\ntls_anchors = \"domain-ca.pem\"\n\
         ca_certificates = \"domain-ca.pem\"\ncertificate = \"registrar.pem\"\n\
         key = \"registrar.key\"\ntimeout_seconds = 5\n"
    );
    let own = "[ca]\ncertificate = \"domain-ca.pem\"\nkey = \"domain-ca.key\"\n";
    edit(lab, |text| {
        assert!(text.contains(own), "{text}");
        text.replace(own, &upstream)
    });
}

/// Requirements: BRSKI-5.9-03, BRSKI-5.9.2-02, EST-3.7-01, ESC-047, ESC-049, ESC-050
#[tokio::test]
async fn a_device_gets_its_certificate_through_a_chain_of_registrars() {
    let upper = Lab::prepare(ALLOW).await;
    edit(&upper, |text| {
        text + "[est.without_brski]\nclient_cas = [\"domain-ca.pem\"]\n\
                registration_authorities = true\n"
    });
    let upper = upper.serving().await;
    let lower = below(&upper).await;
    with_upstream(&lower, upper.address().port());
    let lower = lower.serving().await;

    let device = vouchered(&lower, "SN-1").await;
    let trust = trust(&lower, &device).await;
    // A request that does not follow /csrattrs is not forwarded.
    let wish = client::request(&Requirements::none(), &facts(&device), None, key().as_ref());
    let got = enroll(&device, &wish.unwrap()).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (400, "est.csr-extension-missing"),
        "{}",
        got.text()
    );
    let asked = attributes(&device).await;
    let key = key();
    let other = Requirements {
        subject: Vec::new(),
        ..asked.clone()
    };
    let stranger = Facts {
        subject_der: vec![0x30, 0],
        ..facts(&device)
    };
    let wish = client::request(&other, &stranger, None, self::key().as_ref()).unwrap();
    let got = enroll(&device, &wish).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (400, "est.csr-names"),
        "{}",
        got.text()
    );

    let csr = client::request(&asked, &facts(&device), None, key.as_ref()).unwrap();
    let got = enroll(&device, &csr).await;
    let now = lower.clock.now();
    let enrolled = client::enrolled(
        &answer(&got),
        csr.public_key(),
        &trust,
        Some(now),
        now,
        &STRICT,
    )
    .unwrap();
    let Outcome::Done(enrolled) = enrolled else {
        panic!()
    };
    let first = enrolled.certificate.clone();
    assert_eq!(first.subject_serial_number().as_deref(), Some("SN-1"));
    assert_eq!(first.dns_names(), ["sn-1.example"]);
    assert_eq!(certificate(&enroll(&device, &csr).await), first);

    // Over CoAP: the body goes up in base64, once, and the certificate that comes is the same.
    let who = crate::coap::asker(&lower, device.identity.as_ref());
    let resources = crate::coap::resources(&lower);
    let request = coap::Request {
        accept: Some(coap::format::PKIX_CERT),
        ..coap::Request::post("e/sen", coap::format::PKCS10, csr.der())
    };
    let response = resources.answer(who, request.clone()).await;
    assert_eq!(response.code, coap::Code::CHANGED);
    assert_eq!(response.payload, first.der());
    let nobody = crate::coap::asker(&lower, None);
    let response = resources.answer(nobody, request).await;
    assert_eq!(response.code, coap::Code::UNAUTHORIZED);

    // Renewal by the same way.
    let mut member = device.clone();
    member.identity = Some(Identity::new(enrolled.chain, key).unwrap());
    let fresh = self::key();
    let csr = client::reenrol_request(&first, &Requirements::none(), None, fresh.as_ref());
    let second = certificate(&reenroll(&member, &csr.unwrap()).await);
    assert_eq!(second.dns_names(), first.dns_names());
    assert_ne!(second.public_key(), first.public_key());

    // The CRL is the upper one's to give.
    let mut connection = device.connect().await;
    let response = connection
        .request(Method::GET, "/crl", HeaderMap::new(), Bytes::new())
        .await
        .unwrap();
    assert_eq!(response.status, 404);
    upper.stop().await;
    let csr = client::reenrol_request(&first, &Requirements::none(), None, self::key().as_ref());
    let got = reenroll(&member, &csr.unwrap()).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (503, "registrar.ca-unreachable")
    );
    assert!(got.header("retry-after").is_some());
    lower.stop().await;
}

/// Requirements: EST-4.2.3-05, EST-4.2.3-07
#[tokio::test]
async fn a_ca_that_takes_its_time_is_waited_for() {
    let upper = Lab::prepare(ALLOW).await;
    let lower = below(&upper).await;
    let identity = Identity::new(
        Certificate::load_all(lower.path("registrar.pem")).unwrap(),
        Arc::new(SoftwareKey::load(lower.path("registrar.key"), None).unwrap()),
    )
    .unwrap();
    // It has no CSR attributes, and never decides.
    let router = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        if request.method() == Method::GET {
            return (http::StatusCode::NOT_FOUND, [("retry-after", "")]);
        }
        (http::StatusCode::ACCEPTED, [("retry-after", "77")])
    });
    let mut config = net::server::ListenerConfig::new(
        "127.0.0.1:0".parse().unwrap(),
        net::server::ServerIdentities::new(&[identity]).unwrap(),
    );
    if let Some(tls) = &mut config.tls {
        tls.http3 = false;
    }
    let shutdown = daemon::CancellationToken::new();
    let slow = net::server::serve(config, router, shutdown.clone())
        .await
        .unwrap();
    with_upstream(&lower, slow.address().port());
    let lower = lower.serving().await;
    let device = vouchered(&lower, "SN-1").await;
    let asked = attributes(&device).await;
    let csr = client::request(&asked, &facts(&device), None, key().as_ref()).unwrap();
    for _ in 0..2 {
        let got = enroll(&device, &csr).await;
        assert_eq!(got.status, 202, "{}", got.text());
        assert_eq!(got.header("retry-after"), Some("77"));
    }
    assert_eq!(lower.line("SN-1", "enrol").await["outcome"], "pending");
    lower.stop().await;
    shutdown.cancel();
    slow.stopped().await;
}

/// A request that comes over CoAP in blocks of 64 bytes goes up whole and once.
///
/// Requirements: ESC-048
#[tokio::test]
async fn blocks_are_put_together_before_the_ca_hears_of_them() {
    let upper = Lab::prepare(ALLOW).await;
    let lower = below(&upper).await;
    let identity = Identity::new(
        Certificate::load_all(lower.path("registrar.pem")).unwrap(),
        Arc::new(SoftwareKey::load(lower.path("registrar.key"), None).unwrap()),
    )
    .unwrap();
    let posts = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&posts);
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let seen = Arc::clone(&seen);
        async move {
            if request.method() == Method::GET {
                return (http::StatusCode::NOT_FOUND, [("retry-after", "")]);
            }
            let body = axum::body::to_bytes(request.into_body(), 65_536).await;
            seen.lock().unwrap().push(body.unwrap());
            (http::StatusCode::ACCEPTED, [("retry-after", "77")])
        }
    });
    let mut config = net::server::ListenerConfig::new(
        "127.0.0.1:0".parse().unwrap(),
        net::server::ServerIdentities::new(&[identity]).unwrap(),
    );
    if let Some(tls) = &mut config.tls {
        tls.http3 = false;
    }
    let shutdown = daemon::CancellationToken::new();
    let ca = net::server::serve(config, router, shutdown.clone())
        .await
        .unwrap();
    with_upstream(&lower, ca.address().port());
    edit(&lower, |text| text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n");
    let lower = lower.serving().await;
    let device = vouchered(&lower, "SN-1").await;
    let asked = attributes(&device).await;
    let csr = client::request(&asked, &facts(&device), None, key().as_ref()).unwrap();
    let dtls = net::dtls::ClientConfig::small(device.identity.clone());
    let address = lower.running().coap_addresses()[0];
    let coap = net::coap::CoapClient::connect(address, &dtls, coap::Config::default())
        .await
        .unwrap();
    let request = coap::Request {
        block_exponent: Some(2),
        ..coap::Request::post("e/sen", coap::format::PKCS10, csr.der())
    };
    assert!(csr.der().len() > 3 * 64);
    let response = coap.request(request).await.unwrap();
    assert_eq!(
        (response.code, response.max_age),
        (coap::Code::SERVICE_UNAVAILABLE, Some(77))
    );
    coap.close().await;
    let bodies = posts.lock().unwrap().clone();
    let [body] = bodies.as_slice() else {
        panic!("{} requests went up", bodies.len());
    };
    let strict = est::body::BodyTolerances::default();
    let (der, _) = est::body::decode(body, 65_536, &strict).unwrap();
    assert_eq!(der, csr.der());
    lower.stop().await;
    shutdown.cancel();
    ca.stopped().await;
}

/// A server in the place of the CA, and how many requests came through to it.
struct Impostor {
    listener: net::server::Listener,
    shutdown: daemon::CancellationToken,
    seen: Arc<AtomicUsize>,
}

impl Impostor {
    async fn start(identity: Identity, status: u16, location: &'static str) -> Self {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let router = axum::Router::new().fallback(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                (
                    http::StatusCode::from_u16(status).unwrap(),
                    [("location", location)],
                )
            }
        });
        let identities = net::server::ServerIdentities::new(&[identity]).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let mut config = net::server::ListenerConfig::new(address, identities);
        if let Some(tls) = &mut config.tls {
            tls.http3 = false;
        }
        let shutdown = daemon::CancellationToken::new();
        let listener = net::server::serve(config, router, shutdown.clone())
            .await
            .unwrap();
        Self {
            listener,
            shutdown,
            seen,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.listener.stopped().await;
    }
}

/// Requirements: EST-3.2.1-02, EST-3.2.3-02, EST-3.2.3-03, EST-3.3.1-01, EST-3.6-01, EST-3.6.1-01,
/// EST-4.1.1-02, EST-4.2-01
#[tokio::test]
async fn a_ca_that_is_not_the_right_one_gets_nothing() {
    use pki::Coded as _;
    use registrar::ca::{CertificateAuthority as _, Config, Order, UpstreamCa};

    let lab = Lab::prepare(ALLOW).await;
    let other = Lab::prepare(ALLOW).await;
    let now = lab.clock.now();
    let folder = lab.path("");
    std::fs::write(lab.path("password"), "secret\n").unwrap();
    let identity = |from: &Lab, name: &str, days: i64| {
        let ca = Certificate::load(from.path("domain-ca.pem")).unwrap();
        let ca_key = SoftwareKey::load(from.path("domain-ca.key"), None).unwrap();
        let key = key();
        let begin = now - time::Duration::days(2);
        let end = now + time::Duration::days(days);
        let subject = pki::issue::name("CN=ca").unwrap();
        let public = key.public_key().clone();
        let builder = CertificateBuilder::new(
            Profile::Registrar,
            subject,
            public,
            rand::random(),
            begin,
            end,
        );
        let leaf = builder.dns_name(name).issue(&ca, &ca_key).unwrap();
        Identity::new(vec![leaf, ca], key).unwrap()
    };
    let subject: x509_cert::name::Name = "CN=alice".parse().unwrap();
    let key = key();
    let csr = pki::CsrBuilder::new(subject.clone())
        .sign(key.as_ref())
        .unwrap();
    let order = Order {
        public_key: csr.public_key().clone(),
        csr,
        subject,
        alt_names: Vec::new(),
        replaces: None,
    };
    let elsewhere = "https://elsewhere.example/";
    let table = [
        (
            "another CA",
            identity(&other, "localhost", 9),
            200,
            0,
            "registrar.ca-untrusted",
        ),
        (
            "another name",
            identity(&lab, "elsewhere", 9),
            200,
            0,
            "registrar.ca-untrusted",
        ),
        (
            "expired",
            identity(&lab, "localhost", -1),
            200,
            0,
            "registrar.ca-untrusted",
        ),
        (
            "redirect",
            identity(&lab, "localhost", 9),
            307,
            2,
            "registrar.ca-answer-invalid",
        ),
        (
            "a challenge",
            identity(&lab, "localhost", 9),
            401,
            2,
            "registrar.ca-refused",
        ),
        (
            "an empty 200",
            identity(&lab, "localhost", 9),
            200,
            2,
            "registrar.ca-answer-invalid",
        ),
        (
            "a failure",
            identity(&lab, "localhost", 9),
            500,
            2,
            "registrar.ca-unreachable",
        ),
    ];
    for (case, identity, status, requests, code) in table {
        let impostor = Impostor::start(identity, status, elsewhere).await;
        let text = format!(
            "[upstream]\nurl = \"https://localhost:{}\"\ntls_anchors = \"{dir}/domain-ca.pem\"\n\
             ca_certificates = \"{dir}/domain-ca.pem\"\nuser = \"alice\"\n\
             password_file = \"{dir}/password\"\ntimeout_seconds = 5\n",
            impostor.listener.address().port(),
            dir = folder.display()
        );
        let config: Config = toml::from_str(&text).unwrap();
        let ca = UpstreamCa::open(&config.upstream.unwrap()).unwrap();
        let error = ca.issue(&order, now).await.unwrap_err();
        assert_eq!(error.code(), code, "{case}: {error}");
        assert_eq!(impostor.seen.load(Ordering::SeqCst), requests, "{case}");
        impostor.stop().await;
    }
}
