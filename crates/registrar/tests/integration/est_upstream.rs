//! A registrar whose CA is another EST server.

use est::client::{self, Facts};
use est::csrattrs::Requirements;
use pki::{KeyKind, SoftwareKey};

use crate::est_tools::{PASSWORD, Plain};

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
