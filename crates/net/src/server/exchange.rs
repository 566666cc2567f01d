//! One request and its answer, the same for all versions of HTTP: the body is read whole under its
//! limits, then the router runs, and whatever happens in there the peer gets an answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};
use tower::ServiceExt;
use tracing::Instrument;

use super::limits::{DISCARD_BYTES_MAX, DISCARD_TIME_MAX};
use super::{Asked, Counters, Limits, Observer};
use crate::{HttpVersion, Peer, RequestId};

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) router: axum::Router,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    /// Bytes of request bodies in memory now.
    bodies_bytes: AtomicUsize,
}

impl Shared {
    pub(super) fn new(
        router: axum::Router,
        limits: Limits,
        observer: Option<Arc<dyn Observer>>,
    ) -> Arc<Self> {
        // The listener's own limit is the one that counts; axum's would answer before it.
        let router = router.layer(axum::extract::DefaultBodyLimit::disable());
        let counters = Arc::new(Counters::default());
        Arc::new(Self {
            router,
            limits,
            counters,
            observer,
            bodies_bytes: AtomicUsize::new(0),
        })
    }

    /// Answers a request. Never fails: the worst that can come out is a 500.
    pub(super) async fn answer<B>(&self, peer: Peer, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let request_id = RequestId::next();
        let span = tracing::info_span!(
            "request",
            request_id = %request_id,
            peer = %peer.address,
            http = %peer.http_version,
            method = %request.method(),
            path = request.uri().path(),
        );
        self.answer_in_span(peer, request, request_id)
            .instrument(span)
            .await
    }

    async fn answer_in_span<B>(
        &self,
        peer: Peer,
        request: Request<B>,
        request_id: RequestId,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let started = Instant::now();
        let deadline = started + self.limits.request_time_max;
        let (mut parts, body) = request.into_parts();
        let asked = Asked {
            accept: parts.headers.get(header::ACCEPT).cloned(),
            content_type: parts.headers.get(header::CONTENT_TYPE).cloned(),
        };
        let held = Held {
            shared: self,
            bytes: 0,
        };
        // With HTTP/2 and HTTP/3 senders do not wait, whatever their header says.
        let expects_continue =
            peer.http_version == HttpVersion::Http1 && parts.headers.contains_key(header::EXPECT);
        let declared = declared_length(&parts.headers);
        let read = match head_fault(&parts) {
            Some(fault) => Err(Refusal::Head(fault)),
            None => {
                self.read(body, declared, expects_continue, held, deadline)
                    .await
            }
        };
        let (bytes, _held) = match read {
            Ok(read) => read,
            Err(refusal) => {
                Counters::add(&self.counters.requests_refused);
                self.tell(&peer, &parts.method, &parts.uri, &refusal);
                return self.refuse(&peer, &asked, &parts.uri, &refusal);
            }
        };
        Counters::add(&self.counters.requests);
        // The router gets a whole body; a length or coding of the wire does not describe it.
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.extensions.insert(peer.clone());
        parts.extensions.insert(request_id);
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let request = Request::from_parts(parts, Body::from(bytes));
        let handler = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        let refusal = match timeout_at(deadline, handler).await {
            Ok(Ok(Ok(response))) => {
                let status = response.status().as_u16();
                tracing::debug!(status, elapsed = ?started.elapsed(), "answered");
                return response;
            }
            // The router's error type has no values.
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(panic)) => {
                Counters::add(&self.counters.panics);
                Refusal::Panic(message_of(panic.as_ref()))
            }
            Err(_) => Refusal::HandlerTooSlow,
        };
        self.tell(&peer, &method, &uri, &refusal);
        self.refuse(&peer, &asked, &uri, &refusal)
    }

    /// The refusal in the service's own form, if it has one, with the fields that HTTP needs.
    fn refuse(&self, peer: &Peer, asked: &Asked, uri: &Uri, refusal: &Refusal) -> Response<Body> {
        let own = refusal.response(peer.http_version);
        let other = self
            .observer
            .as_ref()
            .and_then(|observer| observer.answer(asked, uri, refusal.status(), refusal.code()));
        let Some(mut other) = other else {
            return own;
        };
        for name in [header::RETRY_AFTER, header::CONNECTION] {
            if let Some(value) = own.headers().get(&name) {
                other.headers_mut().insert(name, value.clone());
            }
        }
        other
    }

    /// Reads the body. `Held` gives the bytes back to the common budget when the answer is ready.
    async fn read<'a, B>(
        &'a self,
        mut body: B,
        declared: Option<u64>,
        expects_continue: bool,
        mut held: Held<'a>,
        deadline: Instant,
    ) -> Result<(Bytes, Held<'a>), Refusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let limit = self.limits.request_body_bytes_max;
        if declared.is_some_and(|length| length > limit as u64) {
            // Who waits for "100 Continue" has sent nothing; all others are still sending.
            if !expects_continue {
                discard(&mut body).await;
            }
            return Err(Refusal::TooLarge { limit });
        }
        let started = Instant::now();
        let mut first: Option<Bytes> = None;
        let mut all = BytesMut::new();
        let mut length = 0_usize;
        loop {
            let slowest = started
                + self.limits.body_grace_time
                + std::time::Duration::from_secs(
                    (length / self.limits.body_bytes_per_second_min.max(1)) as u64,
                );
            let frame = match timeout_at(slowest.min(deadline), body.frame()).await {
                Err(_) => return Err(Refusal::TooSlow),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(Refusal::Broken(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers are of no use to anyone here.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            length += data.len();
            if length > limit {
                discard(&mut body).await;
                return Err(Refusal::TooLarge { limit });
            }
            if !held.take(data.len()) {
                discard(&mut body).await;
                return Err(Refusal::Busy);
            }
            // Nearly all bodies come in one piece, which then needs no copy.
            match first.take() {
                None if all.is_empty() => first = Some(data),
                None => all.extend_from_slice(&data),
                Some(before) => {
                    all.extend_from_slice(&before);
                    all.extend_from_slice(&data);
                }
            }
        }
        Ok((first.unwrap_or_else(|| all.freeze()), held))
    }

    fn tell(&self, peer: &Peer, method: &Method, uri: &Uri, refusal: &Refusal) {
        let code = refusal.code();
        let detail = refusal.to_string();
        if matches!(refusal, Refusal::Panic(_)) {
            tracing::error!(code, %detail, "handler panicked");
        } else {
            tracing::info!(code, %detail, "request refused");
        }
        if let Some(observer) = &self.observer {
            observer.refused(peer, method, uri, code, &detail);
        }
    }
}

/// What is wrong with the header of an HTTP/1.1 request, where two readers of it might disagree
/// on whom it is for. Where it ends is the parser's business, which closes the connection after a
/// request that says so in two ways.
fn head_fault(parts: &http::request::Parts) -> Option<&'static str> {
    // Later versions have frames, and say the host in a field of their own.
    if parts.version != http::Version::HTTP_11 {
        return None;
    }
    // RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any
    // HTTP/1.1 request message that lacks a Host header field and to any request message that
    // contains more than one Host header field line or a Host header field with an invalid field
    // value."
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some("one Host field belongs into the header");
    };
    let is_host = |host: &[u8]| {
        http::uri::Authority::try_from(host).is_ok_and(|host| !host.as_str().contains('@'))
    };
    // A host without a name is what a URI without an authority asks for.
    let good = host.is_empty() || is_host(host.as_bytes());
    (!good).then_some("the Host field is no host")
}

/// What the header says of the length.
fn declared_length(headers: &http::HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Reads on for a while without keeping anything: closing a socket with unread bytes in it resets
/// the connection, and the sender would never see why it was refused.
async fn discard<B>(body: &mut B)
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let reading = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // When the time is up the answer is sent all the same.
    let _ = timeout(DISCARD_TIME_MAX, reading).await;
}

/// Bytes taken out of the common budget for bodies.
struct Held<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Held<'_> {
    fn take(&mut self, bytes: usize) -> bool {
        let before = self.shared.bodies_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= self.shared.limits.request_bodies_bytes_max
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared
            .bodies_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why the transport answers instead of the router.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the body broke off: {0}")]
    Broken(String),
    #[error("too many request bodies at once")]
    Busy,
    #[error("the request took too long")]
    HandlerTooSlow,
    #[error("{0}")]
    Head(&'static str),
    #[error("the handler failed: {0}")]
    Panic(String),
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body came too slowly")]
    TooSlow,
}

impl Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Broken(_) => "net.body-broken",
            Self::Busy => "net.busy",
            Self::HandlerTooSlow => "net.request-timeout",
            Self::Head(_) => "net.header",
            Self::Panic(_) => "net.panic",
            Self::TooLarge { .. } => "net.body-too-large",
            Self::TooSlow => "net.body-too-slow",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Broken(_) | Self::Head(_) => StatusCode::BAD_REQUEST,
            Self::Busy | Self::HandlerTooSlow => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panic(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }

    fn response(&self, version: HttpVersion) -> Response<Body> {
        let status = self.status();
        // What a panic said is for the log only.
        let detail = match self {
            Self::Panic(_) => "internal error".to_owned(),
            other => other.to_string(),
        };
        let title = status.canonical_reason().unwrap_or_default();
        let text = format!(
            "{{\"title\":\"{title}\",\"status\":{},\"detail\":\"{}\",\"code\":\"{}\"}}\n",
            status.as_u16(),
            plain(&detail),
            self.code()
        );
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        if matches!(self, Self::Busy | Self::HandlerTooSlow) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        // The rest of the body is still on the wire; with HTTP/1.1 the connection is of no more use.
        let body_open = matches!(
            self,
            Self::TooLarge { .. } | Self::TooSlow | Self::Busy | Self::Head(_)
        );
        if version == HttpVersion::Http1 && body_open {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What a peer may have had a hand in, fit for a JSON string.
fn plain(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '"' | '\\' => '\'',
            ' '..='~' => char,
            _ => '?',
        })
        .collect()
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| "no message".to_owned())
}
