//! Where to listen, and every limit that a CoAP listener puts on a peer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::dtls;

/// Port of CoAP in the clear, [RFC 7252 §12.6](https://www.rfc-editor.org/rfc/rfc7252.html#section-12.6).
// COA-043: Default ports: coap 5683/udp, coaps 5684/udp.
pub const COAP_PORT: u16 = 5683;
/// Port of CoAP over DTLS.
pub const COAPS_PORT: u16 = 5684;
/// Associations at once, all peers together. An idle one takes about 20 KB with DTLS 1.2 and 30 KB
/// with DTLS 1.3.
pub const PEERS_MAX: usize = 10_000;
/// Associations at once with one IPv4 address or one IPv6 /64 network.
pub const PEERS_PER_ADDRESS_MAX: usize = 1_024;
/// Associations at once behind one stateless join proxy.
pub const PEERS_PER_PROXY_MAX: usize = 4_096;
/// Handshakes at once, all peers together; a quarter of them with one IPv4 address, one IPv6 /64
/// network or one proxy. When there are too many, the oldest gives way to a new one, but not before
/// [`HANDSHAKE_TIME_MIN`].
pub const HANDSHAKES_MAX: usize = 1_024;
/// Handshakes begun in a second from one IPv4 address, one IPv6 /64 network or one proxy, on
/// average.
pub const HANDSHAKES_PER_SECOND_MAX: u32 = 200;
/// A handshake that is not done after this time gives way to a new one when there are too many. A
/// flight is repeated after 1, 2, 4 and 8 seconds, so one that was lost three times in a row still
/// has its chance.
pub const HANDSHAKE_TIME_MIN: Duration = Duration::from_secs(15);
/// Time for a handshake, lost datagrams included.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(60);
/// Time without an authentic datagram after which an association is ended.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(600);
/// When there are too many associations, the one that is idle longest gives way to a new one, but
/// not before it was idle for this time.
pub const IDLE_TIME_MIN: Duration = Duration::from_secs(5);
/// Datagrams of one peer that wait for their turn.
pub const QUEUE_PER_PEER_MAX: usize = 32;
/// Bytes of datagrams that wait for their turn, all peers of one socket together.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Requests of one association that are being answered at once.
pub const REQUESTS_PER_PEER_MAX: usize = 4;
/// Requests over DTLS that are being answered at once, all peers together.
pub const REQUESTS_MAX: usize = 20_000;
/// While so many requests over DTLS are being answered, no handshake is begun: who is here is served
/// first, and who comes is not let in only to be told to come back. A ClientHello that is not answered
/// is sent again.
pub const REQUESTS_BUSY: usize = 512;
/// Requests in the clear that are being answered at once.
pub const OPEN_REQUESTS_MAX: usize = 64;
/// Time for an answer.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(120);
/// Time that requests in progress have to finish when the listener stops.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of bodies that are put together or fetched block by block, all peers together.
pub const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct CoapListener {
    /// Addresses for CoAP over DTLS; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Address for stateless join proxies.
    pub jpy_listen: Option<SocketAddr>,
    /// CoAP in the clear.
    pub open: Option<OpenConfig>,
    /// Sockets for each address, each with a task of its own.
    pub sockets: usize,
    /// Identities, suites and sizes; nothing listens with DTLS without it.
    pub dtls: Option<dtls::ServerConfig>,
    /// Blocks, retransmission, deduplication.
    pub coap: ::coap::Config,
    /// What a peer may take up.
    pub limits: CoapLimits,
}

/// CoAP in the clear: meant for discovery, whose answers everybody may have.
#[derive(Clone, Debug, Default)]
pub struct OpenConfig {
    /// Addresses.
    pub listen: Vec<SocketAddr>,
    /// Multicast groups that are joined, with the port of the first address in `listen` of their
    /// kind.
    pub multicast: Vec<IpAddr>,
    /// Names of the interfaces on which they are joined; on the one that the system chooses when
    /// there is none.
    pub interfaces: Vec<String>,
}

/// The limits of one listener; [`CoapLimits::default`] has the constants of this module.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is documented at its constant")]
pub struct CoapLimits {
    pub peers_max: usize,
    pub peers_per_address_max: usize,
    pub peers_per_proxy_max: usize,
    pub handshakes_max: usize,
    pub handshakes_per_second_max: u32,
    pub handshake_time_min: Duration,
    pub handshake_time_max: Duration,
    pub idle_time_max: Duration,
    pub idle_time_min: Duration,
    pub queue_per_peer_max: usize,
    pub queue_bytes_max: usize,
    pub requests_per_peer_max: usize,
    pub requests_busy: usize,
    pub requests_max: usize,
    pub open_requests_max: usize,
    pub request_time_max: Duration,
    pub drain_time_max: Duration,
    pub bodies_bytes_max: usize,
}

impl Default for CoapLimits {
    fn default() -> Self {
        Self {
            peers_max: PEERS_MAX,
            peers_per_address_max: PEERS_PER_ADDRESS_MAX,
            peers_per_proxy_max: PEERS_PER_PROXY_MAX,
            handshakes_max: HANDSHAKES_MAX,
            handshakes_per_second_max: HANDSHAKES_PER_SECOND_MAX,
            handshake_time_min: HANDSHAKE_TIME_MIN,
            handshake_time_max: HANDSHAKE_TIME_MAX,
            idle_time_max: IDLE_TIME_MAX,
            idle_time_min: IDLE_TIME_MIN,
            queue_per_peer_max: QUEUE_PER_PEER_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            requests_per_peer_max: REQUESTS_PER_PEER_MAX,
            requests_busy: REQUESTS_BUSY,
            requests_max: REQUESTS_MAX,
            open_requests_max: OPEN_REQUESTS_MAX,
            request_time_max: REQUEST_TIME_MAX,
            drain_time_max: DRAIN_TIME_MAX,
            bodies_bytes_max: BODIES_BYTES_MAX,
        }
    }
}

impl CoapListener {
    /// A listener at one address for CoAP over DTLS, with one socket and the usual limits.
    #[must_use]
    pub fn new(listen: SocketAddr, dtls: dtls::ServerConfig) -> Self {
        Self {
            listen: vec![listen],
            dtls: Some(dtls),
            ..Self::in_the_clear(OpenConfig::default())
        }
    }

    /// A listener in the clear alone.
    #[must_use]
    pub fn in_the_clear(open: OpenConfig) -> Self {
        Self {
            listen: Vec::new(),
            jpy_listen: None,
            open: (!open.listen.is_empty()).then_some(open),
            sockets: 1,
            dtls: None,
            coap: ::coap::Config::default(),
            limits: CoapLimits::default(),
        }
    }
}
