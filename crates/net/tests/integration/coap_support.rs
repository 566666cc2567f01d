//! A CoAP server that tells what it sees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coap::{Code, Request, Response};
use net::CancellationToken;
use net::coap::{
    CoapClient, CoapListener, CoapPeer, CoapServer, CoapStatistics, OpenConfig, serve,
};
use net::dtls::{ClientConfig, ServerConfig};
use pki::Identity;

use crate::support::Subject;

/// Longer than anything takes that goes well.
pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const TEXT: u16 = 0;
pub(crate) const LINKS: u16 = 40;
/// Several blocks long.
pub(crate) const LARGE: usize = 5_000;

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) struct Server {
    pub(crate) running: CoapServer,
    pub(crate) identity: Identity,
    /// How often `/count` was carried out.
    pub(crate) counted: Arc<AtomicUsize>,
    shutdown: CancellationToken,
}

impl Server {
    /// With DTLS at one address and in the clear at another.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut CoapListener)) -> Self {
        let identity = Subject::default().issued();
        let mut config = CoapListener::new(LOOPBACK, ServerConfig::new(vec![identity.clone()]));
        config.jpy_listen = Some(LOOPBACK);
        config.open = Some(OpenConfig {
            listen: vec![LOOPBACK],
            ..OpenConfig::default()
        });
        change(&mut config);
        let shutdown = CancellationToken::new();
        let counted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&counted);
        let handler = move |peer, request| answer(Arc::clone(&counter), peer, request);
        let running = serve(config, Arc::new(handler), shutdown.clone())
            .await
            .expect("it listens");
        Self {
            running,
            identity,
            counted,
            shutdown,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    pub(crate) fn open_address(&self) -> SocketAddr {
        self.running.open_addresses()[0]
    }

    pub(crate) fn statistics(&self) -> CoapStatistics {
        self.running.statistics()
    }

    /// Waits until the counters are as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&CoapStatistics) -> bool) {
        let all = async {
            while !wanted(&self.statistics()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let done = tokio::time::timeout(LONG, all).await;
        assert!(done.is_ok(), "{what}: {:?}", self.statistics());
    }

    pub(crate) fn tell_to_stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let stopped = tokio::time::timeout(LONG, self.running.stopped());
        stopped.await.expect("it stops in time");
    }

    pub(crate) async fn open_client(&self) -> CoapClient {
        CoapClient::open(self.open_address(), coap::Config::default())
            .await
            .expect("a socket")
    }

    pub(crate) async fn client(&self) -> CoapClient {
        self.client_with(&ClientConfig::new(Some(device()))).await
    }

    pub(crate) async fn client_with(&self, config: &ClientConfig) -> CoapClient {
        CoapClient::connect(self.address(), config, coap::Config::default())
            .await
            .expect("a handshake")
    }
}

/// A device's certificate under its manufacturer's.
pub(crate) fn device() -> Identity {
    Subject {
        name: "device",
        names: &[],
        ca: "manufacturer",
        ..Subject::default()
    }
    .issued()
}

pub(crate) fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.payload).into_owned()
}

pub(crate) fn large() -> Vec<u8> {
    (b'a'..=b'z').cycle().take(LARGE).collect()
}

async fn answer(counter: Arc<AtomicUsize>, peer: Arc<CoapPeer>, request: Request) -> Response {
    match (request.code(), request.path().as_str()) {
        (Code::GET, ".well-known/core") => {
            Response::content(Code::CONTENT, LINKS, "</peer>,</large>;sz=5000")
        }
        (Code::GET, "peer") => Response::content(Code::CONTENT, TEXT, describe(&peer)),
        (Code::GET, "from") => Response::content(Code::CONTENT, TEXT, peer.address.to_string()),
        (Code::GET, "large") => Response::content(Code::CONTENT, TEXT, large()),
        (Code::GET, "slow") => {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            Response::content(Code::CONTENT, TEXT, "late")
        }
        (Code::GET, "never") => std::future::pending().await,
        (Code::GET, "panic") => panic!("on purpose"),
        (Code::POST, "count") => {
            let before = counter.fetch_add(1, Ordering::Relaxed);
            Response::content(Code::CHANGED, TEXT, (before + 1).to_string())
        }
        (Code::POST, "echo") => {
            counter.fetch_add(1, Ordering::Relaxed);
            Response::content(Code::CHANGED, TEXT, request.payload)
        }
        _ => Response::diagnostic(Code::NOT_FOUND, "nothing here"),
    }
}

fn describe(peer: &CoapPeer) -> String {
    let chain: Vec<String> = peer.chain().iter().map(|one| one.subject()).collect();
    let (suite, session) = match &peer.session {
        Some(session) => (session.suite, session.session_id),
        None => ("none", 0),
    };
    format!(
        "{:?} {suite} {session} [{}] {}",
        peer.via,
        chain.join(" | "),
        peer.proxied.as_ref().map_or(0, bytes::Bytes::len)
    )
}
