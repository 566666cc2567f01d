//! The built-in CA with each kind of key, its own and the devices'.

use std::sync::Arc;

use pki::issue::{CertificateBuilder, Profile, lint};
use pki::path::{Anchors, PathOptions, Purpose};
use pki::{Certificate, Coded as _, CsrBuilder, KeyKind, Signer as _, SoftwareKey};
use registrar::ca::{BuiltinCa, CertificateAuthority as _, Config, Issued, Order};
use testkit::NOW;

const KINDS: [KeyKind; 8] = [
    KeyKind::EcdsaP256,
    KeyKind::EcdsaP384,
    KeyKind::EcdsaP521,
    KeyKind::Ed25519,
    KeyKind::Rsa3072,
    KeyKind::MlDsa44,
    KeyKind::MlDsa65,
    KeyKind::MlDsa87,
];

fn order(kind: KeyKind) -> Order {
    let key = SoftwareKey::generate(kind).unwrap();
    let wish = CsrBuilder::new("CN=wish".parse().unwrap())
        .sign(&key)
        .unwrap();
    wish.verify().unwrap();
    Order {
        public_key: wish.public_key().clone(),
        csr: wish,
        subject: pki::issue::name("CN=device").unwrap(),
        alt_names: Vec::new(),
        replaces: None,
    }
}

/// A root, and below it the CA that issues.
fn chain(kind: KeyKind) -> (Vec<Certificate>, Arc<SoftwareKey>) {
    let (from, to) = (
        NOW - time::Duration::hours(1),
        NOW + time::Duration::days(100),
    );
    let root_key = SoftwareKey::generate(kind).unwrap();
    let name = pki::issue::name("CN=Root").unwrap();
    let public = root_key.public_key().clone();
    let root = CertificateBuilder::new(Profile::RootCa, name, public, rand::random(), from, to)
        .self_sign(&root_key)
        .unwrap();
    let key = SoftwareKey::generate(kind).unwrap();
    let name = pki::issue::name("CN=Devices").unwrap();
    let public = key.public_key().clone();
    let profile = Profile::SubCa {
        path_length: Some(0),
    };
    let sub = CertificateBuilder::new(profile, name, public, rand::random(), from, to)
        .issue(&root, &root_key)
        .unwrap();
    (vec![sub, root], Arc::new(key))
}

/// Requirements: EST-4.1.3-04
#[tokio::test]
async fn each_kind_of_key_can_sign_and_be_certified() {
    for kind in KINDS {
        let (chain, key) = chain(kind);
        let root = chain[1].clone();
        let ca = BuiltinCa::new(&Config::default(), chain.clone(), key, Vec::new()).unwrap();
        assert_eq!(ca.ca_certificates(), chain);
        let order = order(kind);
        let Issued::Certificate(issued) = ca.issue(&order, NOW).await.unwrap() else {
            panic!()
        };
        assert!(lint(&issued, Profile::Ldevid).is_empty(), "{kind:?}");
        assert_eq!(issued.public_key(), &order.public_key);
        assert_eq!(issued.subject(), "CN=device");
        // It does not outlive its issuer.
        assert!(issued.not_after() <= chain[0].not_after());
        let options = PathOptions::new(Purpose::Client, NOW);
        let path = pki::path::validate(
            &issued,
            &ca.ca_certificates(),
            &Anchors::from(root),
            &options,
        );
        assert_eq!(path.unwrap().certificates().len(), 3, "{kind:?}");
        let crl = ca.sign_crl(1, &[], NOW).unwrap().unwrap();
        crl.verify_signature_by(chain[0].public_key()).unwrap();
    }
}

#[tokio::test]
async fn a_ca_that_cannot_be_one_is_refused_when_it_is_opened() {
    let (chain, key) = chain(KeyKind::EcdsaP256);
    let open = |chain: Vec<Certificate>, key: Arc<SoftwareKey>| {
        BuiltinCa::new(&Config::default(), chain, key, Vec::new())
    };
    let other = Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).unwrap());
    // A device is no CA.
    let ca = open(chain.clone(), Arc::clone(&key)).unwrap();
    let Issued::Certificate(leaf) = ca.issue(&order(KeyKind::EcdsaP256), NOW).await.unwrap() else {
        panic!()
    };
    for (case, chain, key) in [
        ("empty", vec![], Arc::clone(&key)),
        ("another key", chain.clone(), other),
        ("no root", vec![chain[0].clone()], Arc::clone(&key)),
        ("not a CA", vec![leaf, chain[1].clone()], Arc::clone(&key)),
    ] {
        let error = open(chain, key).unwrap_err();
        assert_eq!(error.code(), "config.ca", "{case}");
    }
    // One that has expired says so instead of signing what nobody could use.
    let later = NOW + time::Duration::days(101);
    let error = ca
        .issue(&order(KeyKind::EcdsaP256), later)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "config.ca");
}
