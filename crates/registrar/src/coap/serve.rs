//! The sockets in front of [`Resources`].

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::coap::{Request, Response};
use daemon::{CancellationToken, Metrics};
use net::coap::{CoapLimits, CoapListener, CoapPeer, CoapServer, Handler, OpenConfig};
use net::dtls::ServerConfig;
use pki::{Certificate, Identity, KeyKind};

use super::meter::Figures;
use super::{Asker, Config, Ports, Resources};
use crate::Error;
use crate::service::{Caller, Keys};

/// The listeners of a registrar for CoAP.
#[derive(Debug)]
pub(crate) struct Serving {
    server: CoapServer,
}

impl Serving {
    /// Where devices connect with DTLS.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Where stateless join proxies connect.
    pub(crate) fn jpy_address(&self) -> Option<SocketAddr> {
        self.server.jpy_address()
    }

    /// Where discovery is answered.
    pub(crate) fn open_addresses(&self) -> &[SocketAddr] {
        self.server.open_addresses()
    }

    pub(crate) async fn stopped(self) {
        self.server.stopped().await;
    }
}

/// Starts the listeners; none if the configuration has none.
///
/// # Errors
/// An address is taken, or no key can be used with DTLS.
pub(crate) async fn serve(
    resources: Resources,
    metrics: &Metrics,
    shutdown: CancellationToken,
) -> Result<Option<Serving>, Error> {
    let service = resources.service().clone();
    let config = &service.config().coap;
    if !config.is_on() {
        return Ok(None);
    }
    let identities = dtls_identities(&service.keys())?;
    let body_max = service.config().body_size_max_bytes;
    let listener = listener(config, identities, body_max);
    let server = net::coap::serve(listener, Arc::new(resources.clone()), shutdown).await?;
    let ports = Ports {
        coaps: server.addresses().first().map(SocketAddr::port),
        jpy: server.jpy_address().map(|address| address.port()),
    };
    resources.announce(ports);
    service.reload_too(server.identities());
    metrics.collector(Box::new(Figures(server.meter())));
    tracing::info!(
        coaps = ?server.addresses(),
        jpy = ?server.jpy_address(),
        discovery = ?server.open_addresses(),
        "the registrar serves CoAP"
    );
    Ok(Some(Serving { server }))
}

/// The identity that constrained devices see: the first whose key they know, and which is in memory
/// as DTLS wants it.
///
/// # Errors
/// There is none.
pub(crate) fn dtls_identities(keys: &Keys) -> Result<Vec<Identity>, Error> {
    let usable = keys.identities.iter().find(|identity| {
        let kind = identity.signer.public_key().kind();
        matches!(kind, Some(KeyKind::EcdsaP256 | KeyKind::EcdsaP384))
            && identity.signer.to_pkcs8().is_some()
    });
    match usable {
        Some(identity) => Ok(vec![identity.clone()]),
        None => Err(Error::Config {
            detail: "[coap] needs an [[identity.tls]] with a P-256 or P-384 key in a file"
                .to_owned(),
        }),
    }
}

fn listener(config: &Config, identities: Vec<Identity>, body_max: usize) -> CoapListener {
    let mut dtls = ServerConfig::new(identities);
    // CBR-004: By default the registrar completes handshakes with DTLS 1.3 clients and with DTLS 1.2
    // clients on the same UDP port. CBR-005: the operator may say otherwise.
    dtls.versions = config.dtls.iter().copied().map(Into::into).collect();
    let defaults = CoapLimits::default();
    let limits = &config.limits;
    CoapListener {
        listen: config.listen.clone(),
        jpy_listen: config.jpy_listen,
        open: config.discovery.as_ref().map(|discovery| OpenConfig {
            listen: discovery.listen.clone(),
            multicast: discovery.multicast.clone(),
            interfaces: discovery.interfaces.clone(),
        }),
        sockets: config.sockets,
        dtls: Some(dtls),
        coap: ::coap::Config {
            block_exponent: config.block_exponent().unwrap_or(::coap::SIZE_EXPONENT_MAX),
            body_max: body_max.min(::est::body::BODY_SIZE_MAX_BYTES),
            ..::coap::Config::default()
        },
        limits: CoapLimits {
            peers_max: limits.peers_max,
            peers_per_address_max: limits.peers_per_address_max,
            peers_per_proxy_max: limits.peers_per_proxy_max,
            handshakes_max: limits.handshakes_max,
            handshakes_per_second_max: limits.handshakes_per_second_max,
            idle_time_max: Duration::from_secs(limits.idle_seconds_max),
            ..defaults
        },
    }
}

impl Handler for Resources {
    fn handle(
        &self,
        peer: Arc<CoapPeer>,
        request: Request,
    ) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let asker = Asker::new(&peer, &this.service().keys());
            this.answer(asker, request).await
        })
    }
}

impl Asker {
    /// What the listener knows of a peer.
    #[must_use]
    pub fn new(peer: &CoapPeer, keys: &Keys) -> Self {
        let session = peer.session.as_ref();
        let own = session.and_then(|session| {
            let der = &session.server_certificate_der;
            keys.identities
                .iter()
                .filter_map(|identity| identity.chain.first())
                .find(|leaf| leaf.der() == der)
                .cloned()
                // After a change of keys an association still stands for the old ones.
                .or_else(|| Certificate::from_der(der).ok())
        });
        let transport = match (session, &peer.proxied) {
            (None, _) => "coap",
            (Some(_), None) => "coaps",
            (Some(_), Some(_)) => "coaps+jpy",
        };
        Self {
            caller: Caller {
                address: peer.address,
                transport: transport.to_owned(),
                security: session.map(|session| format!("{} {}", session.version, session.suite)),
                chain: Ok(peer.chain().to_vec()),
                raw_leaf: None,
                own_certificate: own,
                exporter: session.and_then(|session| session.exporter),
            },
            via: peer.via,
            local: peer.local,
        }
    }
}
