//! Every limit that a listener puts on a peer.

use std::time::Duration;

/// Time from the accepted connection to the finished TLS handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Time from the first byte of an HTTP/1.1 request to the end of its header.
pub const HEADER_READ_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for a whole request, its body included, until the answer is ready.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Time without any request in progress after which a connection is closed.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Time for which an answer may make no progress because the peer does not read.
pub const WRITE_STALL_TIME_MAX: Duration = Duration::from_secs(20);
/// Time that requests in progress have to finish when the server stops.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Size of a request's body.
pub const REQUEST_BODY_BYTES_MAX: usize = 256 * 1024;
/// Size of all request bodies that are held in memory at once.
pub const REQUEST_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Size of a request's header, all fields together.
pub const REQUEST_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Number of header fields in a request.
pub const REQUEST_HEADER_FIELDS_MAX: usize = 64;
/// Slowest average at which a body may come, after [`BODY_GRACE_TIME`].
pub const BODY_BYTES_PER_SECOND_MIN: usize = 512;
/// Time before the average speed of a body counts.
pub const BODY_GRACE_TIME: Duration = Duration::from_secs(5);
/// Connections at once, all peers together.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections at once from one IPv4 address or one IPv6 /64 network.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 512;
/// Requests at once on one HTTP/2 or HTTP/3 connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 32;
/// Bytes of a refused body that are read and thrown away so that the refusal reaches the sender.
pub(crate) const DISCARD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Time for throwing away the rest of a refused body.
pub(crate) const DISCARD_TIME_MAX: Duration = Duration::from_secs(3);

/// The limits of one listener; [`Limits::default`] has the constants of this module.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is documented at its constant")]
pub struct Limits {
    pub handshake_time_max: Duration,
    pub header_read_time_max: Duration,
    pub request_time_max: Duration,
    pub idle_time_max: Duration,
    pub write_stall_time_max: Duration,
    pub drain_time_max: Duration,
    pub request_body_bytes_max: usize,
    pub request_bodies_bytes_max: usize,
    pub request_header_bytes_max: usize,
    pub request_header_fields_max: usize,
    pub body_bytes_per_second_min: usize,
    pub body_grace_time: Duration,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub streams_per_connection_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_time_max: HANDSHAKE_TIME_MAX,
            header_read_time_max: HEADER_READ_TIME_MAX,
            request_time_max: REQUEST_TIME_MAX,
            idle_time_max: IDLE_TIME_MAX,
            write_stall_time_max: WRITE_STALL_TIME_MAX,
            drain_time_max: DRAIN_TIME_MAX,
            request_body_bytes_max: REQUEST_BODY_BYTES_MAX,
            request_bodies_bytes_max: REQUEST_BODIES_BYTES_MAX,
            request_header_bytes_max: REQUEST_HEADER_BYTES_MAX,
            request_header_fields_max: REQUEST_HEADER_FIELDS_MAX,
            body_bytes_per_second_min: BODY_BYTES_PER_SECOND_MIN,
            body_grace_time: BODY_GRACE_TIME,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            streams_per_connection_max: STREAMS_PER_CONNECTION_MAX,
        }
    }
}
