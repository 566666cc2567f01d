//! CoAP over UDP and DTLS: listeners and the client.
//!
//! [`serve`] puts a [`Handler`] behind CoAP over DTLS, behind the port for stateless join proxies
//! (JPY) and behind a port in the clear that is for discovery. A request comes with the
//! [`CoapPeer`] that sent it. [`CoapClient`] is the other end.
//!
//! As with TLS, the transport proves that the peer holds the key of the certificate that it shows,
//! and nothing else; all other judgement is that of the services.

mod client;
mod config;
mod counters;
mod fair;
mod origins;
mod peer;
mod place;
mod records;
mod server;
mod shard;
mod socket;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ::coap::{Request, Response};

pub use self::client::{CoapClient, discover_multicast};
pub use self::config::*;
pub use self::counters::CoapStatistics;
pub use self::peer::{CoapPeer, DtlsPeer};
pub use self::server::{ALL_COAP_NODES, CoapIdentities, CoapMeter, CoapServer, serve};

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request. An answer that takes longer than a second goes out as a separate
    /// response; the acknowledgement before it is the listener's.
    fn handle(
        &self,
        peer: Arc<CoapPeer>,
        request: Request,
    ) -> Pin<Box<dyn Future<Output = Response> + Send>>;
}

impl<F, R> Handler for F
where
    F: Fn(Arc<CoapPeer>, Request) -> R + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    fn handle(
        &self,
        peer: Arc<CoapPeer>,
        request: Request,
    ) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        Box::pin(self(peer, request))
    }
}
