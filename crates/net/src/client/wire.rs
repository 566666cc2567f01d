//! Making the connection, and the three ways to send a request over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pki::Certificate;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::trust::{Judge, rustls_config, unreadable};
use super::{ClientConfig, Host, Response, Sink, Target};
use crate::peer::PeerTlsInner;
use crate::tls::CHANNEL_BINDING_LABEL;
use crate::{Error, HttpVersion, PeerTls, TlsVersion};

/// Size of an answer's header.
const RESPONSE_HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Time that a connection gets to close in good form.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// Time for the last packet of a QUIC connection to leave.
const QUIC_GOODBYE_TIME: Duration = Duration::from_millis(50);

type QuicSender = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

/// The open connection below [`super::Connection`].
pub(super) struct Wire {
    sender: Sender,
    driver: JoinHandle<()>,
    pub(super) tls: Option<PeerTls>,
    pub(super) remote_address: SocketAddr,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
    Http3 {
        sender: QuicSender,
        connection: quinn::Connection,
        endpoint: quinn::Endpoint,
    },
}

impl Wire {
    pub(super) async fn open(target: &Target, config: &ClientConfig) -> Result<Self, Error> {
        let deadline = Instant::now() + config.limits.connect_time_max;
        let addresses = resolve(target, config, deadline).await?;
        match config.http {
            HttpVersion::Http3 => open_quic(target, config, &addresses).await,
            HttpVersion::Http1 | HttpVersion::Http2 => {
                let stream = connect(target, config, &addresses, deadline).await?;
                open_tcp(target, config, stream).await
            }
        }
    }

    /// Sends one request and reads its answer, without a time limit of its own.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Bytes>,
        response_bytes_max: usize,
    ) -> Result<Response, Error> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(hyper_error)?;
                let response = sender.send_request(request.map(Full::new)).await;
                collect(response.map_err(hyper_error)?, response_bytes_max).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(hyper_error)?;
                let response = sender.send_request(request.map(Full::new)).await;
                collect(response.map_err(hyper_error)?, response_bytes_max).await
            }
            Sender::Http3 { sender, .. } => exchange_h3(sender, request, response_bytes_max).await,
        }
    }

    /// Sends one request and gives its answer away piece by piece. `idle_max` is the time from one
    /// piece to the next.
    pub(super) async fn exchange_into(
        &mut self,
        request: Request<Bytes>,
        idle_max: Duration,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let late = |_| Error::ResponseTimeout(idle_max);
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(hyper_error)?;
                timeout(idle_max, sender.send_request(request.map(Full::new))).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(hyper_error)?;
                timeout(idle_max, sender.send_request(request.map(Full::new))).await
            }
            Sender::Http3 { .. } => return Err(Error::Protocol("HTTP/3 piece by piece")),
        };
        let response = response.map_err(late)?.map_err(hyper_error)?;
        sink.head(response.status(), response.headers())?;
        let mut body = response.into_body();
        while let Some(frame) = timeout(idle_max, body.frame()).await.map_err(late)? {
            if let Ok(data) = frame.map_err(hyper_error)?.into_data() {
                sink.data(&data)?;
            }
        }
        Ok(())
    }

    /// Lets the peer know that this was all.
    pub(super) async fn close(self) {
        let Self { sender, driver, .. } = self;
        let quic = match &sender {
            Sender::Http1(_) | Sender::Http2(_) => None,
            Sender::Http3 {
                connection,
                endpoint,
                ..
            } => Some((connection.clone(), endpoint.clone())),
        };
        // Without a sender the driver finishes by itself.
        drop(sender);
        // If the peer does not play along, the socket is simply closed.
        let _ = timeout(GOODBYE_TIME, driver).await;
        if let Some((connection, endpoint)) = quic {
            connection.close(0x100_u32.into(), b"");
            // The packet that says so has left long before QUIC's own draining time is over.
            let _ = timeout(QUIC_GOODBYE_TIME, endpoint.wait_idle()).await;
        }
    }
}

pub(super) async fn resolve(
    target: &Target,
    config: &ClientConfig,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, Error> {
    if let Some(address) = config.address {
        return Ok(vec![address]);
    }
    let name = match &target.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, target.port)]),
        Host::Name(name) => name,
    };
    let refuse = |reason: String| Error::Name {
        name: name.clone(),
        reason,
    };
    let found = timeout_at(
        deadline,
        tokio::net::lookup_host((name.as_str(), target.port)),
    )
    .await
    .map_err(|_| refuse("no answer in time".to_owned()))?
    .map_err(|error| refuse(error.to_string()))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(refuse("it has no address".to_owned()));
    }
    Ok(addresses)
}

/// Tries the addresses one after the other.
pub(super) async fn connect(
    target: &Target,
    config: &ClientConfig,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<TcpStream, Error> {
    let timed_out = || Error::ConnectTimeout {
        target: target.to_string(),
        limit: config.limits.connect_time_max,
    };
    let mut failure = Error::Connect {
        target: target.to_string(),
        reason: "no address".to_owned(),
    };
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        // One address that swallows everything must not eat up the time of the others.
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(left).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small and whole; waiting for more to send only adds delay.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => {
                failure = Error::Connect {
                    target: target.to_string(),
                    reason: error.to_string(),
                };
            }
            Err(_) => failure = timed_out(),
        }
    }
    Err(failure)
}

async fn open_tcp(
    target: &Target,
    config: &ClientConfig,
    stream: TcpStream,
) -> Result<Wire, Error> {
    let remote_address = stream
        .peer_addr()
        .map_err(|error| Error::Closed(error.to_string()))?;
    if !target.secure {
        return handshake_http(stream, config, None, remote_address).await;
    }
    let (rustls, judge) = rustls_config(&target.host, config)?;
    let connector = TlsConnector::from(Arc::new(rustls));
    let connecting = Box::pin(connector.connect(server_name(&target.host)?, stream));
    let limit = config.limits.handshake_time_max;
    let stream = timeout(limit, connecting)
        .await
        .map_err(|_| Error::HandshakeTimeout(limit))?
        .map_err(|error| handshake_error(&judge, &error))?;
    let tls = peer_of(stream.get_ref().1)?;
    if config.http == HttpVersion::Http2 && tls.alpn() != Some(HttpVersion::Http2.alpn()) {
        return Err(Error::Protocol("HTTP/2"));
    }
    handshake_http(stream, config, Some(tls), remote_address).await
}

async fn handshake_http<T>(
    stream: T,
    config: &ClientConfig,
    tls: Option<PeerTls>,
    remote_address: SocketAddr,
) -> Result<Wire, Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (sender, driver) = if config.http == HttpVersion::Http2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(RESPONSE_HEADER_BYTES_MAX)
            .handshake(io)
            .await
            .map_err(hyper_error)?;
        (Sender::Http2(sender), tokio::spawn(drive(connection)))
    } else {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEADER_BYTES_MAX as usize)
            .handshake(io)
            .await
            .map_err(hyper_error)?;
        (Sender::Http1(sender), tokio::spawn(drive(connection)))
    };
    Ok(Wire {
        sender,
        driver,
        tls,
        remote_address,
    })
}

/// Errors of the connection show at the request that they hit.
async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "client connection ended");
    }
}

async fn open_quic(
    target: &Target,
    config: &ClientConfig,
    addresses: &[SocketAddr],
) -> Result<Wire, Error> {
    if !target.secure {
        return Err(Error::Protocol("HTTP/3 without TLS"));
    }
    let mut last = Error::Connect {
        target: target.to_string(),
        reason: "no address".to_owned(),
    };
    for address in addresses {
        match open_quic_at(target, config, *address).await {
            // Another address of the same name may work where this one did not answer.
            Err(error @ (Error::HandshakeTimeout(_) | Error::Connect { .. })) => last = error,
            other => return other,
        }
    }
    Err(last)
}

async fn open_quic_at(
    target: &Target,
    config: &ClientConfig,
    address: SocketAddr,
) -> Result<Wire, Error> {
    let failed = |reason: String| Error::Connect {
        target: target.to_string(),
        reason,
    };
    let (rustls, judge) = rustls_config(&target.host, config)?;
    let crypto = QuicClientConfig::try_from(Arc::new(rustls))
        .map_err(|error| Error::Handshake(error.to_string()))?;
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let endpoint = quinn::Endpoint::client(any).map_err(|error| failed(error.to_string()))?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    // The own time limit says how long an answer may take; the server says what idle means.
    transport
        .max_concurrent_bidi_streams(0_u32.into())
        .max_idle_timeout(None);
    client.transport_config(Arc::new(transport));
    let name = match &target.host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
    };
    let connecting = endpoint
        .connect_with(client, address, &name)
        .map_err(|error| failed(error.to_string()))?;
    let limit = config.limits.handshake_time_max;
    let connection = timeout(limit, connecting)
        .await
        .map_err(|_| Error::HandshakeTimeout(limit))?
        .map_err(|error| handshake_error(&judge, &error))?;
    let tls = peer_of_quic(&connection)?;
    // HTTP/3 opens streams of its own first, and when it may is the server's to say.
    let mut builder = h3::client::builder();
    builder.max_field_section_size(RESPONSE_HEADER_BYTES_MAX.into());
    let building = builder.build::<_, _, Bytes>(h3_quinn::Connection::new(connection.clone()));
    let (mut driver, sender) = timeout(limit, building)
        .await
        .map_err(|_| Error::HandshakeTimeout(limit))?
        .map_err(|error| Error::Http(error.to_string()))?;
    let driver = tokio::spawn(async move {
        let error = driver.wait_idle().await;
        tracing::debug!(%error, "client connection ended");
    });
    let sender = Sender::Http3 {
        sender,
        connection,
        endpoint,
    };
    Ok(Wire {
        sender,
        driver,
        tls: Some(tls),
        remote_address: address,
    })
}

pub(super) fn server_name(host: &Host) -> Result<ServerName<'static>, Error> {
    match host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| Error::Name {
            name: name.clone(),
            reason: error.to_string(),
        }),
    }
}

pub(super) fn handshake_error(judge: &Judge, error: &(impl std::error::Error + ?Sized)) -> Error {
    judge
        .refusal()
        .unwrap_or_else(|| Error::Handshake(error.to_string()))
}

fn hyper_error(error: hyper::Error) -> Error {
    use std::error::Error as _;

    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text = format!("{text}: {source}");
    }
    let gone = error.is_closed() || error.is_incomplete_message() || error.is_canceled();
    if gone {
        Error::Closed(text)
    } else {
        Error::Http(text)
    }
}

async fn collect(
    response: http::Response<hyper::body::Incoming>,
    limit_bytes: usize,
) -> Result<Response, Error> {
    let (parts, mut body) = response.into_parts();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(hyper_error)?.into_data() else {
            continue;
        };
        if all.len() + data.len() > limit_bytes {
            return Err(Error::ResponseTooLarge { limit_bytes });
        }
        all.extend_from_slice(&data);
    }
    Ok(Response {
        status: parts.status,
        headers: parts.headers,
        body: all.freeze(),
    })
}

async fn exchange_h3(
    sender: &mut QuicSender,
    request: Request<Bytes>,
    limit_bytes: usize,
) -> Result<Response, Error> {
    let broken = |error: h3::error::StreamError| Error::Http(error.to_string());
    let (mut parts, body) = request.into_parts();
    if !body.is_empty() {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, body.len().into());
    }
    let mut stream = sender
        .send_request(Request::from_parts(parts, ()))
        .await
        .map_err(broken)?;
    if !body.is_empty() {
        // A server that refuses stops reading, and its answer says why; so read it all the same.
        if let Err(error) = stream.send_data(body).await {
            tracing::debug!(%error, "request body not sent whole");
        }
    }
    if let Err(error) = stream.finish().await {
        tracing::debug!(%error, "request stream not finished");
    }
    let head = stream.recv_response().await.map_err(broken)?;
    if head.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::Http("HTTP/3 has no status 101".to_owned()));
    }
    let mut all = BytesMut::new();
    while let Some(mut data) = stream.recv_data().await.map_err(broken)? {
        if all.len() + data.remaining() > limit_bytes {
            return Err(Error::ResponseTooLarge { limit_bytes });
        }
        all.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    let (parts, ()) = head.into_parts();
    Ok(Response {
        status: parts.status,
        headers: parts.headers,
        body: all.freeze(),
    })
}

fn parse_chain(raw: &[Vec<u8>]) -> Result<Vec<Certificate>, Error> {
    raw.iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<_, _>>()
        .map_err(unreadable)
}

fn peer_of(connection: &rustls::ClientConnection) -> Result<PeerTls, Error> {
    let raw_chain: Vec<Vec<u8>> = connection
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.as_ref().to_vec())
        .collect();
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
        _ => TlsVersion::Tls12,
    };
    // RFC 9266 section 4.2 wants extended master secret with TLS 1.2, and rustls does not say
    // whether the peer had it.
    let exporter = (version == TlsVersion::Tls13)
        .then(|| {
            connection
                .export_keying_material([0; 32], CHANNEL_BINDING_LABEL, Some(&[]))
                .ok()
        })
        .flatten();
    Ok(PeerTls(Arc::new(PeerTlsInner {
        chain: Ok(parse_chain(&raw_chain)?),
        raw_chain,
        version,
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        own_certificate: None,
        exporter,
        server_name: None,
        resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    })))
}

fn peer_of_quic(connection: &quinn::Connection) -> Result<PeerTls, Error> {
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
    let alpn = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    let mut exporter = [0; 32];
    let exported = connection
        .export_keying_material(&mut exporter, CHANNEL_BINDING_LABEL, &[])
        .is_ok();
    Ok(PeerTls(Arc::new(PeerTlsInner {
        chain: Ok(parse_chain(&raw_chain)?),
        raw_chain,
        version: TlsVersion::Tls13,
        alpn,
        own_certificate: None,
        exporter: exported.then_some(exporter),
        server_name: None,
        resumed: false,
    })))
}
