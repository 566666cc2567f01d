//! CRLs that a registrar's certificate names.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use masa::RevocationCheck;
use net::CancellationToken;
use net::server::{ListenerConfig, serve};
use pki::issue::{CrlBuilder, Profile, RevocationReason};
use testkit::Domain;
use time::Duration;

use crate::support::{Ask, Masa, NOW, assert_refused};

/// Serves whatever octets are in the slot.
async fn publish(slot: Arc<Mutex<Vec<u8>>>) -> (String, CancellationToken) {
    let router = Router::new().route(
        "/domain.crl",
        get(move || {
            let slot = Arc::clone(&slot);
            async move { slot.lock().unwrap().clone() }
        }),
    );
    let stop = CancellationToken::new();
    let config = ListenerConfig::plain(([127, 0, 0, 1], 0).into());
    let listener = serve(config, router, stop.clone()).await.unwrap();
    (format!("http://{}/domain.crl", listener.address()), stop)
}

/// Requirements: BRSKI-5.5.3-02, BRSKI-5.6-26, VCB-045, VOUCHER-7.3-01, VOUCHERBIS-11.3-01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_registrars_are_refused() {
    let slot = Arc::new(Mutex::new(Vec::new()));
    let (url, stop) = publish(Arc::clone(&slot)).await;
    let masa = Masa::with(|config| {
        config.policy.revocation_required = true;
        config.policy.revocation = RevocationCheck::Owners;
    })
    .await;
    let ca = &masa.pki.domain.ca;
    let make = |name: &str| {
        let registrar = masa
            .pki
            .domain_certificate(Profile::Registrar, name, |one| {
                one.dns_name("localhost").crl_url(&url)
            })
            .unwrap();
        Domain {
            ca: masa.pki.domain.ca.clone(),
            registrar,
        }
    };
    let (good, revoked) = (make("CN=Good Registrar"), make("CN=Revoked Registrar"));
    masa.owner("acme", &good, true).await;
    let extra = r#"{"serial":"","has-clock":true}"#;
    masa.device_rows(&["SN-1", "SN-2", "SN-3"], Some("acme"), extra)
        .await;
    let next_update = NOW + Duration::minutes(10);
    let crl = |number: u64| {
        CrlBuilder::new(number, NOW - Duration::hours(1), next_update)
            .revoke(
                revoked.registrar.chain[0].serial_number(),
                NOW - Duration::hours(2),
                RevocationReason::KeyCompromise,
            )
            .issue(&ca.chain[0], ca.signer.as_ref())
            .unwrap()
    };
    // Nothing is published yet: required, so refused, and not for good.
    let nonce = "bm9uY2Utbm9uY2UtMQ==";
    let ask = Ask::new(&masa.pki, &good, "SN-1", nonce);
    assert_refused(
        &masa.ask(&good, &ask).await,
        503,
        "masa.revocation-unavailable",
    );
    // A CRL of somebody else does not count.
    let stranger = masa.pki.other_domain("Stranger").unwrap();
    let foreign = CrlBuilder::new(1, NOW - Duration::hours(1), next_update)
        .issue(&stranger.ca.chain[0], stranger.ca.signer.as_ref())
        .unwrap();
    *slot.lock().unwrap() = foreign.der().to_vec();
    masa.hand.advance(std::time::Duration::from_secs(61));
    assert_refused(
        &masa.ask(&good, &ask).await,
        503,
        "masa.revocation-unavailable",
    );
    // The right one, after the wrong one was forgotten.
    *slot.lock().unwrap() = crl(2).der().to_vec();
    masa.hand.advance(std::time::Duration::from_secs(540));
    let late = masa.ask(&good, &ask).await;
    assert_refused(&late, 503, "masa.revocation-unavailable");
    masa.hand.set(NOW + Duration::minutes(11));
    let fresh = CrlBuilder::new(3, NOW, NOW + Duration::minutes(25))
        .revoke(
            revoked.registrar.chain[0].serial_number(),
            NOW - Duration::hours(2),
            RevocationReason::KeyCompromise,
        )
        .issue(&ca.chain[0], ca.signer.as_ref())
        .unwrap();
    *slot.lock().unwrap() = fresh.der().to_vec();
    assert_eq!(masa.ask(&good, &ask).await.status, 200);
    let ask = Ask::new(&masa.pki, &revoked, "SN-2", nonce);
    assert_refused(
        &masa.ask(&revoked, &ask).await,
        403,
        "masa.registrar-revoked",
    );
    // A nonceless voucher does not outlive the CRL.
    let response = masa
        .ask(&good, &Ask::nonceless(&masa.pki, &good, "SN-3"))
        .await;
    assert_eq!(response.status, 200);
    let row = masa
        .store()
        .fetch_optional(
            "SELECT expires_us FROM voucher WHERE serial = 'SN-3'",
            vec![],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.time("expires_us").unwrap(), NOW + Duration::minutes(25));
    stop.cancel();
    masa.stop().await;
}

/// A genuine CRL of the right CA that speaks of CA certificates only. Whoever stands between the
/// MASA and the server of CRLs could exchange one for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crl_of_another_scope_clears_nobody() {
    let slot = Arc::new(Mutex::new(Vec::new()));
    let (url, stop) = publish(Arc::clone(&slot)).await;
    let masa = Masa::with(|config| {
        config.policy.revocation_required = true;
        config.policy.revocation = RevocationCheck::Owners;
    })
    .await;
    let domain = Domain {
        registrar: masa
            .pki
            .domain_certificate(Profile::Registrar, "CN=Registrar", |one| {
                one.dns_name("localhost").crl_url(&url)
            })
            .unwrap(),
        ca: masa.pki.domain.ca.clone(),
    };
    masa.owner("acme", &domain, false).await;
    masa.device_rows(&["SN-1"], Some("acme"), "").await;
    *slot.lock().unwrap() = crl_for_authorities_only(&domain.ca);
    let ask = Ask::new(&masa.pki, &domain, "SN-1", "bm9uY2Utbm9uY2UtMQ==");
    assert_refused(
        &masa.ask(&domain, &ask).await,
        503,
        "masa.revocation-unavailable",
    );
    stop.cancel();
    masa.stop().await;
}

/// An empty CRL with the critical issuingDistributionPoint onlyContainsCACerts.
fn crl_for_authorities_only(ca: &pki::Identity) -> Vec<u8> {
    let element = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let mut all = vec![tag];
        match content.len() {
            0..=127 => all.push(length[1]),
            128..=255 => all.extend([0x81, length[1]]),
            _ => all.extend([0x82, length[0], length[1]]),
        }
        all.extend(content);
        all
    };
    let algorithm = ca.signer.algorithm().identifier();
    let scope = element(0x30, &[&[0x82, 1, 0xff]]);
    let scope = element(
        0x30,
        &[
            &[0x06, 3, 0x55, 0x1d, 28, 0x01, 1, 0xff],
            &element(0x04, &[&scope]),
        ],
    );
    let tbs = element(
        0x30,
        &[
            &[0x02, 1, 1],
            &algorithm,
            ca.chain[0].subject_der(),
            &element(0x17, &[b"261123110000Z"]),
            &element(0x17, &[b"261123130000Z"]),
            &element(0xa0, &[&element(0x30, &[&scope])]),
        ],
    );
    let signature = ca.signer.sign(&tbs).unwrap();
    let der = element(
        0x30,
        &[&tbs, &algorithm, &element(0x03, &[&[0], &signature])],
    );
    // It is well formed and genuine, or the test would show nothing.
    let crl = pki::Crl::from_der(&der).unwrap();
    crl.verify_signature_by(ca.chain[0].public_key()).unwrap();
    der
}

/// A stranger's certificate does not make the MASA connect anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_crls_are_not_fetched() {
    let slot = Arc::new(Mutex::new(b"never read".to_vec()));
    let (url, stop) = publish(slot).await;
    let masa = Masa::with(|config| config.policy.revocation_required = true).await;
    masa.devices(&["SN-1"]).await;
    let registrar = masa
        .pki
        .domain_certificate(Profile::Registrar, "CN=Stranger", |one| {
            one.dns_name("localhost").crl_url(&url)
        })
        .unwrap();
    let domain = Domain {
        ca: masa.pki.domain.ca.clone(),
        registrar,
    };
    let ask = Ask::new(&masa.pki, &domain, "SN-1", "bm9uY2Utbm9uY2UtMQ==");
    assert_eq!(masa.ask(&domain, &ask).await.status, 200);
    stop.cancel();
    masa.stop().await;
}
