//! Who asks, whatever the transport.

use std::net::SocketAddr;

use brski::Cause;
use net::Peer;
use pki::Certificate;

/// The other end of a connection as decisions see it: HTTPS and CoAP over DTLS alike.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Address and port of the sender: the join proxy's, if there is one in between.
    pub address: SocketAddr,
    /// The transport, for timelines: `HTTP/1.1`, `CoAP`.
    pub transport: String,
    /// The version of TLS or DTLS; `None` without either.
    pub security: Option<String>,
    /// The client's certificates, its own first, or why they cannot be read. Empty without a
    /// client certificate. Possession of the key is proven, trust is not.
    pub chain: Result<Vec<Certificate>, Cause>,
    /// The first certificate as it was sent, which names a client whose chain cannot be read.
    pub raw_leaf: Option<Vec<u8>>,
    /// The certificate that this side showed.
    pub own_certificate: Option<Certificate>,
    /// The channel binding `tls-exporter`, where the transport has one.
    pub exporter: Option<[u8; 32]>,
}

impl Caller {
    /// The client's certificates, its own first; empty without a client certificate.
    ///
    /// # Errors
    /// Why the chain cannot be read.
    pub fn chain(&self) -> Result<&[Certificate], &Cause> {
        self.chain.as_deref()
    }
}

impl From<&Peer> for Caller {
    fn from(peer: &Peer) -> Self {
        let tls = peer.tls.as_ref();
        Self {
            address: peer.address,
            transport: peer.http_version.to_string(),
            security: tls.map(|tls| tls.version().to_string()),
            chain: peer.chain().map(<[_]>::to_vec).map_err(Cause::of),
            raw_leaf: tls.and_then(|tls| tls.raw_chain().first().cloned()),
            own_certificate: tls.and_then(|tls| tls.own_certificate().cloned()),
            exporter: tls.and_then(net::PeerTls::exporter),
        }
    }
}
