//! The resources that devices reach.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::post;
use brski::paths;
use brski::registrar::{Inbound, ReportBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use net::Peer;

use crate::Error;
use crate::service::{Answer, Attempt, Caller, Service};

/// The BRSKI resources.
pub(crate) fn brski(service: &Service) -> Router {
    let state = Shared {
        service: service.clone(),
    };
    let mut router = Router::new()
        .route(paths::REQUEST_VOUCHER, post(request_voucher))
        .route(paths::VOUCHER_STATUS, post(voucher_status))
        .route(paths::ENROL_STATUS, post(enrol_status));
    if defects::seeded!("registrar-serves-get") {
        let get = axum::routing::get(async || "use POST\n");
        router = router.route(paths::REQUEST_VOUCHER, get);
    }
    if service.config().compatibility.legacy_est_paths {
        // Drafts before RFC 8995 had these resources under the EST tree.
        router = router
            .route("/.well-known/est/requestvoucher", post(request_voucher))
            .route("/.well-known/est/voucher_status", post(voucher_status))
            .route("/.well-known/est/enrollstatus", post(enrol_status));
    }
    router.with_state(state)
}

/// A path that names nothing.
pub(crate) async fn nothing_here() -> Response {
    stray(
        StatusCode::NOT_FOUND,
        "registrar.no-such-resource: BRSKI is under /.well-known/brski, EST under /.well-known/est\n",
    )
}

/// A resource that takes another method; the router adds `Allow`.
pub(crate) async fn other_method() -> Response {
    stray(
        StatusCode::METHOD_NOT_ALLOWED,
        "registrar.method: the resource takes another method\n",
    )
}

fn stray(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[derive(Clone)]
struct Shared {
    service: Service,
}

async fn request_voucher(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let caller = Caller::from(&peer);
    handle(
        &shared,
        &caller,
        "voucher-request",
        request,
        async |headers, body| {
            let inbound = Inbound {
                body: &body,
                content_type: text(&headers, &header::CONTENT_TYPE),
                accept: text(&headers, &header::ACCEPT),
            };
            shared.service.request_voucher(&caller, inbound).await
        },
    )
    .await
}

async fn voucher_status(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let caller = Caller::from(&peer);
    handle(
        &shared,
        &caller,
        "voucher-status",
        request,
        async |headers, body| {
            let report = report(&headers, &body);
            shared.service.voucher_status(&caller, report).await
        },
    )
    .await
}

async fn enrol_status(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let caller = Caller::from(&peer);
    handle(
        &shared,
        &caller,
        "enrol-status",
        request,
        async |headers, body| {
            let report = report(&headers, &body);
            shared.service.enrol_status(&caller, report).await
        },
    )
    .await
}

/// A report by its media type. Whatever does not say CBOR is JSON, as it is before there was CBOR.
fn report<'b>(headers: &HeaderMap, body: &'b [u8]) -> ReportBody<'b> {
    match text(headers, &header::CONTENT_TYPE).map(brski::media::essence) {
        // CBR-151: Over HTTPS the long names are used; telemetry stays CBOR capable.
        Some(essence) if essence == "application/cbor" => ReportBody::Cbor(body),
        _ => ReportBody::Json(body),
    }
}

/// Reads the body within its limits and lets the step work on it.
async fn handle(
    shared: &Shared,
    caller: &Caller,
    step: &'static str,
    request: Request,
    work: impl AsyncFnOnce(HeaderMap, Bytes) -> (Answer, String),
) -> Response {
    let service = &shared.service;
    let (parts, body) = request.into_parts();
    let (answer, correlation) = match service.turn().await {
        Ok(_turn) => match read(service, body).await {
            Ok(body) => work(parts.headers, body).await,
            Err(error) => failed(service, caller, step, error).await,
        },
        Err(error) => failed(service, caller, step, error).await,
    };
    respond(answer, &correlation)
}

pub(crate) async fn failed(
    service: &Service,
    caller: &Caller,
    step: &'static str,
    error: Error,
) -> (Answer, String) {
    let mut attempt = Attempt::new(caller, service.now());
    let correlation = attempt.correlation.clone();
    if !matches!(error, Error::Busy) {
        // Whose oversized body it was is worth knowing, if it can be known.
        let _ = service.identify(&mut attempt, caller);
    }
    (service.refused(step, attempt, error).await, correlation)
}

/// Reads a body within the limit.
async fn read(service: &Service, body: Body) -> Result<Bytes, Error> {
    let limit_bytes = service.config().body_size_max_bytes;
    match Limited::new(body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::BodyTooLarge { limit_bytes }),
        Err(error) => Err(Error::BodyUnreadable {
            detail: error.to_string(),
        }),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Turns an answer into HTTP.
pub(crate) fn respond(answer: Answer, correlation: &str) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(answer.content_type),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if answer.close {
        // BRSKI-5.2-12: the connection is closed after the 401.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(value) = HeaderValue::from_str(correlation) {
        headers.insert("x-correlation-id", value);
    }
    response
}
