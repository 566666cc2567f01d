//! HTTP/3 over QUIC.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::Shared;
use super::guard::{Activity, Gate, Place, watch_interval};
use super::tcp::{Resolver, parse_chain};
use super::{Counters, Pkcs1, ServerIdentities};
use crate::peer::PeerTlsInner;
use crate::tls::CHANNEL_BINDING_LABEL;
use crate::{Error, HttpVersion, Peer, PeerTls, TlsVersion};

/// Unidirectional streams of a peer: control, and two for header compression; some for extensions.
const UNIDIRECTIONAL_STREAMS_MAX: u32 = 8;
/// Bytes in flight on one stream before the peer has to wait for us.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Bytes in flight on one connection before the peer has to wait for us.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// The QUIC side of a listener: one configuration, copied for each connection.
pub(super) struct Quic {
    pub(super) config: rustls::ServerConfig,
    pub(super) identities: ServerIdentities,
    pub(super) transport: Arc<quinn::TransportConfig>,
}

impl Quic {
    /// A configuration whose resolver remembers which identity this connection was shown.
    pub(super) fn server_config(
        &self,
        resolver: &Arc<Resolver>,
    ) -> Result<quinn::ServerConfig, Error> {
        let mut config = self.config.clone();
        config.cert_resolver = Arc::clone(resolver) as Arc<dyn ResolvesServerCert>;
        let crypto = QuicServerConfig::try_from(Arc::new(config))
            .map_err(|error| Error::Identity(format!("QUIC: {error}")))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.transport));
        Ok(config)
    }

    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::new(Resolver::new(self.identities.clone(), Pkcs1::Accepted))
    }
}

/// What the limits mean for QUIC.
pub(super) fn transport(limits: &super::Limits) -> Arc<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.streams_per_connection_max.into())
        .max_concurrent_uni_streams(UNIDIRECTIONAL_STREAMS_MAX.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None)
        // A peer that waits for its answer is silent too. Idleness between requests is watched by
        // `Activity`; this is for peers that are gone. A time beyond what QUIC can say means none.
        .max_idle_timeout(
            (limits.idle_time_max + limits.request_time_max)
                .try_into()
                .ok(),
        );
    Arc::new(transport)
}

/// Takes connections until told to stop, then waits for them and closes the endpoint.
pub(super) async fn accept(
    endpoint: quinn::Endpoint,
    quic: Quic,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
) {
    let quic = Arc::new(quic);
    loop {
        let incoming = tokio::select! {
            () = shutdown.cancelled() => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let address = incoming.remote_address();
        // When it gets crowded, a sender has to show first that its address is its own.
        if gate.is_crowded() && !incoming.remote_address_validated() && incoming.may_retry() {
            // Fails only for a validated address, which was just ruled out.
            let _ = incoming.retry();
            continue;
        }
        let Some(place) = gate.enter(address.ip()) else {
            incoming.refuse();
            continue;
        };
        let connection = Connection {
            quic: Arc::clone(&quic),
            shared: Arc::clone(&shared),
            address,
            shutdown: shutdown.clone(),
            _place: place,
        };
        tracker.spawn(connection.run(incoming));
    }
}

struct Connection {
    quic: Arc<Quic>,
    shared: Arc<Shared>,
    address: SocketAddr,
    shutdown: CancellationToken,
    _place: Place,
}

impl Connection {
    async fn run(self, incoming: quinn::Incoming) {
        let resolver = self.quic.resolver();
        let config = match self.quic.server_config(&resolver) {
            Ok(config) => config,
            Err(error) => return self.handshake_failed(&error.to_string()),
        };
        let connecting = match incoming.accept_with(Arc::new(config)) {
            Ok(connecting) => connecting,
            Err(error) => return self.handshake_failed(&error.to_string()),
        };
        let connection = tokio::select! {
            () = self.shutdown.cancelled() => return,
            result = timeout(self.shared.limits.handshake_time_max, connecting) => match result {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return self.handshake_failed(&error.to_string()),
                Err(_) => return self.handshake_failed("it took too long"),
            },
        };
        let tls = peer_of(&connection, &resolver);
        let peer = Peer {
            address: self.address,
            http_version: HttpVersion::Http3,
            tls: Some(tls),
        };
        Box::pin(self.serve(connection, peer)).await;
    }

    fn handshake_failed(&self, reason: &str) {
        Counters::add(&self.shared.counters.handshakes_failed);
        tracing::info!(peer = %self.address, code = "net.handshake", reason, "QUIC handshake failed");
        if let Some(observer) = &self.shared.observer {
            observer.handshake_failed(self.address, reason);
        }
    }

    async fn serve(&self, quic: quinn::Connection, peer: Peer) {
        let limits = &self.shared.limits;
        let mut builder = h3::server::builder();
        let built = builder
            .max_field_section_size(limits.request_header_bytes_max as u64)
            .build::<_, Bytes>(h3_quinn::Connection::new(quic.clone()));
        let mut connection = match timeout(limits.handshake_time_max, built).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return self.handshake_failed(&error.to_string()),
            Err(_) => return self.handshake_failed("HTTP/3 settings took too long"),
        };
        let activity = Activity::new();
        let requests = TaskTracker::new();
        let period = watch_interval(limits);
        let mut tick = tokio::time::interval_at(Instant::now() + period, period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopping = loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break true,
                _ = tick.tick() => {
                    if activity.is_overdue(limits, false) {
                        Counters::add(&self.shared.counters.connections_shed);
                        break false;
                    }
                    continue;
                }
                accepted = connection.accept() => accepted,
            };
            // An error here ends the connection, not the server; the peer left or broke HTTP/3.
            let Ok(Some(resolver)) = accepted else {
                break false;
            };
            let in_progress = activity.begin();
            let (shared, peer) = (Arc::clone(&self.shared), peer.clone());
            requests.spawn(async move {
                answer(resolver, &shared, peer).await;
                drop(in_progress);
            });
        };
        requests.close();
        if stopping {
            // GOAWAY; what is in progress is finished, as long as it does not take too long.
            let _ = connection.shutdown(0).await;
            let drain = async {
                tokio::select! {
                    () = requests.wait() => {}
                    () = async { while let Ok(Some(_)) = connection.accept().await {} } => {
                        requests.wait().await;
                    }
                }
            };
            let _ = timeout(limits.drain_time_max, drain).await;
            // The last answer has to leave before the connection closes under it.
            let _ = timeout(limits.drain_time_max, sent(&quic)).await;
        }
        quic.close(
            u32::try_from(Code::H3_NO_ERROR.value()).unwrap_or(0).into(),
            b"",
        );
    }
}

/// Waits a few round trips for the last packets to arrive; QUIC has no flush for a connection.
async fn sent(quic: &quinn::Connection) {
    tokio::time::sleep(3 * quic.rtt()).await;
}

/// Reads one request and sends its answer.
async fn answer(
    resolver: RequestResolver<h3_quinn::Connection, Bytes>,
    shared: &Shared,
    peer: Peer,
) {
    let limits = &shared.limits;
    let resolved = timeout(limits.header_read_time_max, resolver.resolve_request()).await;
    let Ok(Ok((request, stream))) = resolved else {
        return;
    };
    if request.headers().len() > limits.request_header_fields_max {
        return;
    }
    let (mut sender, receiver) = stream.split();
    let (parts, ()) = request.into_parts();
    let request = Request::from_parts(
        parts,
        Received {
            stream: receiver,
            done: false,
        },
    );
    let response = shared.answer(peer, request).await;
    if let Err(reason) = send(&mut sender, response, limits.write_stall_time_max).await {
        tracing::debug!(reason, "answer not sent");
        sender.stop_stream(Code::H3_INTERNAL_ERROR);
    }
}

async fn send(
    stream: &mut RequestStream<h3_quinn::SendStream<Bytes>, Bytes>,
    response: Response<axum::body::Body>,
    stall_time_max: std::time::Duration,
) -> Result<(), &'static str> {
    const STALLED: &str = "the peer does not read";
    const BROKEN: &str = "the stream or its body broke";
    let (parts, mut body) = response.into_parts();
    timeout(
        stall_time_max,
        stream.send_response(Response::from_parts(parts, ())),
    )
    .await
    .map_err(|_| STALLED)?
    .map_err(|_| BROKEN)?;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BROKEN)?.into_data() else {
            continue;
        };
        timeout(stall_time_max, stream.send_data(data))
            .await
            .map_err(|_| STALLED)?
            .map_err(|_| BROKEN)?;
    }
    timeout(stall_time_max, stream.finish())
        .await
        .map_err(|_| STALLED)?
        .map_err(|_| BROKEN)
}

/// The body of an HTTP/3 request.
struct Received {
    stream: RequestStream<h3_quinn::RecvStream, Bytes>,
    done: bool,
}

impl Body for Received {
    type Data = Bytes;
    type Error = h3::error::StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let result = ready!(self.stream.poll_recv_data(cx));
        Poll::Ready(match result {
            Ok(Some(mut data)) => {
                let length = data.remaining();
                Some(Ok(Frame::data(data.copy_to_bytes(length))))
            }
            Ok(None) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        })
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.done {
            // Tells a sender whose body is refused that nobody listens any more.
            self.stream.stop_sending(Code::H3_NO_ERROR);
        }
    }
}

fn peer_of(connection: &quinn::Connection, resolver: &Resolver) -> PeerTls {
    let raw_chain: Vec<Vec<u8>> = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map(|chain| {
            chain
                .iter()
                .map(|certificate| certificate.as_ref().to_vec())
                .collect()
        })
        .unwrap_or_default();
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .map(|data| *data);
    let mut exporter = [0; 32];
    let exported = connection
        .export_keying_material(&mut exporter, CHANNEL_BINDING_LABEL, &[])
        .is_ok();
    let (alpn, server_name) = match data {
        Some(data) => (data.protocol, data.server_name),
        None => (None, None),
    };
    PeerTls(Arc::new(PeerTlsInner {
        chain: parse_chain(&raw_chain),
        raw_chain,
        version: TlsVersion::Tls13,
        alpn,
        own_certificate: resolver.chosen(),
        exporter: exported.then_some(exporter),
        server_name,
        resumed: false,
    }))
}
