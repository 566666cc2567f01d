//! To whom the registrar sends its password and the requests of its devices when another EST
//! server is its CA.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::Router;
use est::client::{self, Facts};
use est::csrattrs::Requirements;
use http::StatusCode;
use pki::issue::{CertificateBuilder, Profile, name};
use pki::{Certificate, Coded as _, Identity, KeyKind, Signer as _, SoftwareKey};
use registrar::ca::{CertificateAuthority as _, Config, Order, UpstreamCa};
use time::{Duration, OffsetDateTime};

#[derive(serde::Deserialize)]
struct File {
    ca: Config,
}

fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).unwrap())
}

fn builder(
    profile: Profile,
    subject: &str,
    key: &SoftwareKey,
    now: OffsetDateTime,
) -> CertificateBuilder {
    CertificateBuilder::new(
        profile,
        name(subject).unwrap(),
        key.public_key().clone(),
        rand::random(),
        now - Duration::hours(1),
        now + Duration::days(30),
    )
}

struct Root {
    certificate: Certificate,
    key: Arc<SoftwareKey>,
}

impl Root {
    fn new(subject: &str, now: OffsetDateTime) -> Self {
        let key = key();
        let certificate = builder(Profile::RootCa, subject, &key, now)
            .self_sign(key.as_ref())
            .unwrap();
        Self { certificate, key }
    }

    fn server(&self, profile: Profile, dns_name: &str, now: OffsetDateTime) -> Identity {
        let key = key();
        let leaf = builder(profile, "CN=EST", &key, now)
            .dns_name(dns_name)
            .issue(&self.certificate, self.key.as_ref())
            .unwrap();
        Identity::new(vec![leaf, self.certificate.clone()], key).unwrap()
    }
}

fn order() -> Order {
    let subject: x509_cert::name::Name = "CN=device".parse().unwrap();
    let facts = Facts {
        subject_der: der::Encode::to_der(&subject).unwrap(),
        ..Facts::default()
    };
    let csr = client::request(&Requirements::none(), &facts, None, key().as_ref()).unwrap();
    Order {
        public_key: csr.public_key().clone(),
        csr,
        subject,
        alt_names: Vec::new(),
        replaces: None,
    }
}

/// The anchors of the server's TLS certificate are the configured ones and no others: not those of
/// the CA behind it, not the system's. Under them the name has to be right, and cmcRA does not make
/// up for a wrong one. Before that is settled nothing is sent, the password least of all.
///
/// Requirements: EST-3.1-03, EST-3.2.3-03, EST-3.3.1-02, EST-3.6-01, EST-3.6.2-01, EST-4.1.1-02,
/// EST-4.2-01
#[tokio::test]
async fn only_the_configured_server_is_sent_anything() {
    let clock = daemon::Clock::system();
    let now = clock.now();
    let (tls, domain) = (Root::new("CN=TLS", now), Root::new("CN=Domain", now));
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    write("tls.pem", &tls.certificate.to_pem());
    write("domain.pem", &domain.certificate.to_pem());
    write("password", "correct horse battery\n");
    for (case, identity, believed) in [
        (
            "right name",
            tls.server(Profile::TlsServer, "localhost", now),
            true,
        ),
        (
            "another name",
            tls.server(Profile::TlsServer, "other.example", now),
            false,
        ),
        (
            "another name, with cmcRA",
            tls.server(Profile::Registrar, "other.example", now),
            false,
        ),
        (
            "under the CA that it stands for, with cmcRA",
            domain.server(Profile::Registrar, "localhost", now),
            false,
        ),
        (
            "under an anchor nobody configured",
            Root::new("CN=TLS", now).server(Profile::TlsServer, "localhost", now),
            false,
        ),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let router = Router::new().fallback(move |request: axum::extract::Request| async move {
            counter.fetch_add(1, Ordering::SeqCst);
            // Whoever is believed gets the password with the first request.
            match request.headers().get(http::header::AUTHORIZATION) {
                Some(_) => StatusCode::UNAUTHORIZED,
                None => StatusCode::INTERNAL_SERVER_ERROR,
            }
        });
        let identities = net::server::ServerIdentities::new(&[identity]).unwrap();
        let mut config =
            net::server::ListenerConfig::new("127.0.0.1:0".parse().unwrap(), identities);
        if let Some(tls) = &mut config.tls {
            tls.http3 = false;
        }
        let shutdown = daemon::CancellationToken::new();
        let server = net::server::serve(config, router, shutdown.clone())
            .await
            .unwrap();
        let dir = folder.path().display();
        let text = format!(
            "[ca]\nsubject = \"CN=device\"\n[ca.upstream]\nurl = \"https://localhost:{}\"\n\
             tls_anchors = \"{dir}/tls.pem\"\nca_certificates = \"{dir}/domain.pem\"\n\
             user = \"registrar\"\npassword_file = \"{dir}/password\"\ntimeout_seconds = 5\n",
            server.address().port()
        );
        // Without anchors there is no upstream: no set of the system's stands in for them.
        let without = text.replace("tls_anchors", "no_anchors");
        assert!(toml::from_str::<File>(&without).is_err());
        let file: File = toml::from_str(&text).unwrap();
        let ca = UpstreamCa::open(&file.ca.upstream.unwrap()).unwrap();
        let error = ca.issue(&order(), now).await.unwrap_err();
        shutdown.cancel();
        server.stopped().await;
        let asked = asked.load(Ordering::SeqCst);
        if believed {
            assert_eq!(error.code(), "registrar.ca-refused", "{case}: {error}");
            assert!(asked > 0, "{case}");
        } else {
            assert_eq!(error.code(), "registrar.ca-untrusted", "{case}: {error}");
            assert_eq!(asked, 0, "{case}");
        }
    }
}
