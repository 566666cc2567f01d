//! Listeners and clients: TLS, HTTP/1.1, HTTP/2 and HTTP/3, DTLS and CoAP, with every limit on a
//! peer.
//!
//! [`server::serve`] puts an `axum::Router` behind TCP with TLS (HTTP/1.1 and HTTP/2) and QUIC
//! (HTTP/3) on one port number. Each request carries a [`Peer`] extension. [`client::Connection`]
//! is the other end: one connection whose server is trusted provisionally, by anchors or by pin.
//! [`coap::serve`] and [`coap::CoapClient`] are the same for constrained devices, over [`dtls`].
//!
//! Client certificates are asked for and never required, and the transport checks one thing only:
//! that the peer holds the key. Everything else about a certificate is a decision of the services.

pub mod client;
pub mod coap;
pub mod dtls;
mod error;
mod peer;
pub mod server;
mod tls;

pub use error::Error;
pub use peer::{HttpVersion, Peer, PeerTls, RequestId, TlsVersion};
pub use tls::TlsVersions;
pub use tokio_util::sync::CancellationToken;
