//! What the device says to whom, and what it keeps from servers that it does not believe yet.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Extension, Request},
    response::IntoResponse,
};
use brski::pledge::What;
use device::brski::{Config, renew, run};
use http::{HeaderMap, StatusCode, header};
use net::{
    CancellationToken, Peer,
    server::{Listener, ListenerConfig, ServerIdentities, serve},
};
use pki::{Certificate, Coded, Identity, issue::Profile};

use crate::{
    server::Server,
    world::{Ca, key},
};

/// What somebody was asked.
struct Asked {
    path: String,
    headers: HeaderMap,
    client: Option<Certificate>,
}

/// A server that writes down what it is asked and answers all of it with one status.
struct Recorder {
    asked: Arc<Mutex<Vec<Asked>>>,
    shutdown: CancellationToken,
    listener: Listener,
}

impl Recorder {
    async fn start(identity: &Identity, status: StatusCode) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&asked);
        let router = Router::new().fallback(
            move |Extension(peer): Extension<Peer>, request: Request| async move {
                let client = peer.chain().unwrap_or_default().first().cloned();
                written.lock().unwrap().push(Asked {
                    path: request.uri().path().to_owned(),
                    headers: request.headers().clone(),
                    client,
                });
                (status, [(header::WWW_AUTHENTICATE, "Basic realm=\"est\"")]).into_response()
            },
        );
        let identities = ServerIdentities::new(std::slice::from_ref(identity)).unwrap();
        let shutdown = CancellationToken::new();
        let config = ListenerConfig::new("127.0.0.1:0".parse().unwrap(), identities);
        let listener = serve(config, router, shutdown.clone()).await.unwrap();
        Self {
            asked,
            shutdown,
            listener,
        }
    }

    async fn stop(self) -> Vec<Asked> {
        self.shutdown.cancel();
        self.listener.stopped().await;
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn tls_server(ca: &Ca) -> Identity {
    let key = key();
    let builder = ca
        .builder(Profile::TlsServer, "www", &key)
        .dns_name("registrar.example");
    ca.identity(&builder, key)
}

/// Requirements: ACP-6.2.5-01, EST-3.3.1-02, EST-3.6-01, EST-3.6.1-01, EST-4.1.3-08, EST-4.2-01,
/// EST-4.1.3-07
#[tokio::test]
async fn only_a_registrar_of_the_domain_is_asked_to_renew() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let idevid = server.manufacturer.device("SN-1");
    let mut config = server.config(&idevid);
    config.state_folder = Some(folder.path().to_owned());
    assert!(run(&config, &mut |_| {}).await.unwrap().is_enrolled());
    let domain = server.with(|sim| sim.registrars[0].domain.clone());
    // The manufacturer's anchors are in the device from the factory, and count for nothing here.
    let manufacturer = &server.manufacturer.ca;
    for (identity, believed) in [
        (domain.registrar("second"), true),
        (tls_server(&domain), false),
        (manufacturer.registrar("registrar"), false),
        (Ca::root("Domain").registrar("registrar"), false),
    ] {
        let other = Recorder::start(&identity, StatusCode::NOT_FOUND).await;
        let config = Config {
            address: Some(other.listener.address()),
            ..config.clone()
        };
        let result = renew(&config).await;
        let name = identity.certificate().unwrap().subject();
        let asked = other.stop().await;
        if believed {
            assert_eq!(result.unwrap().refusal.unwrap().0, 404, "{name}");
            assert!(asked.iter().any(|one| one.path.ends_with("simplereenroll")));
        } else {
            let code = result.unwrap_err().code();
            assert_eq!(code, "pledge.registrar-chain", "{name}");
            assert!(asked.is_empty(), "{name}: nothing was asked");
        }
    }
    server.stop().await;
}

/// Requirements: EST-3.3.2-03
#[tokio::test]
async fn a_renewal_comes_under_the_certificate_that_it_renews() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let idevid = server.manufacturer.device("SN-1");
    let mut config = server.config(&idevid);
    config.state_folder = Some(folder.path().to_owned());
    assert!(run(&config, &mut |_| {}).await.unwrap().is_enrolled());
    let ldevid = Certificate::load(folder.path().join("ldevid.pem")).unwrap();
    let identity = server.with(|sim| sim.registrars[0].identity.clone());
    let registrar = Recorder::start(&identity, StatusCode::NOT_FOUND).await;
    config.address = Some(registrar.listener.address());
    assert_eq!(renew(&config).await.unwrap().previous, ldevid);
    let asked = registrar.stop().await;
    let last = asked.last().unwrap();
    assert_eq!(last.path, "/.well-known/est/simplereenroll");
    assert_eq!(last.client.as_ref(), Some(&ldevid));
    server.stop().await;
}

/// A registrar that wants a password gets none, least of all while nobody knows who it is.
///
/// Requirements: EST-3.2.3-03, EST-4.1.1-02
#[tokio::test]
async fn a_server_that_nobody_vouched_for_gets_no_password() {
    let server = Server::start().await;
    let idevid = server.manufacturer.device("SN-1");
    let identity = server.with(|sim| sim.registrars[0].identity.clone());
    let curious = Recorder::start(&identity, StatusCode::UNAUTHORIZED).await;
    let mut config = server.config(&idevid);
    config.address = Some(curious.listener.address());
    let outcome = run(&config, &mut |_| {}).await.unwrap();
    assert!(!outcome.is_enrolled());
    let asked = curious.stop().await;
    assert!(!asked.is_empty());
    for one in &asked {
        assert!(one.headers.get(header::AUTHORIZATION).is_none());
        assert!(!one.path.contains("/est/"), "{}", one.path);
    }
    server.stop().await;
}

/// Requirements: EST-4.1.1-01, EST-4.2-01, BRSKI-5.6.2-03
#[tokio::test]
async fn before_a_voucher_is_accepted_nothing_of_est_is_asked() {
    let server = Server::start().await;
    let idevid = server.manufacturer.device("SN-1");
    server.hook(|request, mut response| {
        if request.what == What::RequestVoucher {
            // The end of a CMS is the end of its signature.
            *response.body.last_mut().unwrap() ^= 1;
        }
        response
    });
    let outcome = run(&server.config(&idevid), &mut |_| {}).await.unwrap();
    assert_eq!(outcome.code(), Some("pledge.voucher-signature"));
    let paths = server.with(|sim| sim.registrars[0].paths.clone());
    assert_eq!(
        paths,
        [brski::paths::REQUEST_VOUCHER, brski::paths::VOUCHER_STATUS]
    );
    server.stop().await;
}
