//! What registrars reach: `requestvoucher` and `requestauditlog`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use brski::masa::{
    AuditTruncation, Devices, Inbound, Policy, Refusal, Request, Revocation, answer_audit,
    open_audit_request, open_request,
};
use daemon::Clock;
use http::{HeaderMap, StatusCode, header};
use net::Peer;
use pki::{Certificate, Coded as _};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use serde_json::{Value, json};
use store::Store;
use store::audit::Log;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{ClientCertificate, RevocationCheck};
use crate::facts::{self, Shown};
use crate::issue::{self, Answer, Job};
use crate::revocation::{Checker, names_crls};
use crate::timeline::{Event, Recorder};
use crate::{Config, Error, Keys};

/// Path of voucher requests.
const REQUEST_VOUCHER: &str = brski::paths::REQUEST_VOUCHER;
/// Path of audit log requests.
const REQUEST_AUDIT_LOG: &str = brski::paths::REQUEST_AUDIT_LOG;

/// What can change while the server runs.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) policy: Arc<Policy>,
    pub(crate) truncation: AuditTruncation,
    pub(crate) client_certificate: ClientCertificate,
    pub(crate) revocation: RevocationCheck,
    pub(crate) devices: Arc<Devices>,
    pub(crate) keys: Keys,
}

impl Rules {
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            policy: Arc::new(config.policy.policy()?),
            truncation: config.policy.truncation(),
            client_certificate: config.policy.client_certificate,
            revocation: config.policy.revocation,
            devices: Arc::new(config.device_pki()?),
            keys: config.keys()?,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    operation: &'static str,
    code: String,
}

/// Counters of the service.
#[derive(Clone)]
pub(crate) struct Meters {
    answers: Family<Labels, Counter>,
    time: Histogram,
}

impl Meters {
    pub(crate) fn new(metrics: &daemon::Metrics) -> Self {
        let buckets = [
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
        ];
        Self {
            answers: metrics.register(
                "answers",
                "Requests by operation and code",
                Family::default(),
            ),
            time: metrics.register(
                "voucher_seconds",
                "Time to a voucher, durable",
                Histogram::new(buckets),
            ),
        }
    }
}

/// What all requests share.
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) recorder: Recorder,
    pub(crate) log: Log,
    pub(crate) meters: Meters,
    pub(crate) crls: Checker,
}

/// What the registrar is told.
struct Reply {
    status: StatusCode,
    code: &'static str,
    outcome: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Reply {
    fn refusal(refusal: &Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.http_status());
        Self {
            // Every status of a refusal is one that exists.
            status: status.unwrap_or(StatusCode::FORBIDDEN),
            code: refusal.code(),
            outcome: "refused",
            // BRSKI-5.6-03: "a human-readable explanation ... in plain text, UTF-8".
            content_type: if defects::seeded!("masa-errors-as-html") {
                "text/html"
            } else {
                "text/plain; charset=utf-8"
            },
            body: if defects::seeded!("masa-errors-without-text") {
                Vec::new()
            } else {
                refusal.body().into_bytes()
            },
        }
    }

    fn failure(code: &'static str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code,
            outcome: "failed",
            content_type: "text/plain; charset=utf-8",
            body: format!("{code}: the MASA cannot answer now, try again later\n").into_bytes(),
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static(self.content_type),
        );
        // A voucher is for one pledge, and an error for one moment.
        headers.insert(
            header::CACHE_CONTROL,
            http::HeaderValue::from_static("no-store"),
        );
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static("10"));
        }
        response
    }
}

pub(crate) fn router(service: Arc<Service>) -> Router {
    // BRSKI-5-04, BRSKI-5.5-01: POST to /.well-known/brski/requestvoucher.
    Router::new()
        .route(REQUEST_VOUCHER, post(request_voucher))
        .route(REQUEST_AUDIT_LOG, post(request_audit_log))
        .fallback(elsewhere)
        .method_not_allowed_fallback(elsewhere)
        .with_state(service)
}

async fn elsewhere(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    method: http::Method,
    uri: http::Uri,
) -> Response {
    let known = [REQUEST_VOUCHER, REQUEST_AUDIT_LOG].contains(&uri.path());
    let (status, code) = if known && defects::seeded!("masa-serves-get") {
        (StatusCode::OK, "ok")
    } else if known {
        (StatusCode::METHOD_NOT_ALLOWED, "masa.method")
    } else {
        (StatusCode::NOT_FOUND, "masa.no-such-resource")
    };
    let reply = Reply {
        status,
        code,
        outcome: "refused",
        content_type: "text/plain; charset=utf-8",
        body: format!("{code}: POST {REQUEST_VOUCHER} or {REQUEST_AUDIT_LOG}\n").into_bytes(),
    };
    let shown = shown(&peer);
    let mut event = service.event(&peer, "other", &shown, None);
    event.summary = json!({ "method": method.as_str(), "path": uri.path() });
    let mut response = service.finish(event, reply);
    if known {
        let allow = http::HeaderValue::from_static("POST");
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// All `Accept` fields of a request as one list.
fn accept(headers: &HeaderMap) -> Option<String> {
    let all: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .map(|value| value.to_str().unwrap_or("unreadable/accept"))
        .collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn shown(peer: &Peer) -> Shown {
    Shown {
        chain: peer
            .chain()
            .map(<[Certificate]>::to_vec)
            .unwrap_or_default(),
    }
}

async fn request_voucher(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let started = std::time::Instant::now();
    let rules = service.rules.load_full();
    let now = service.clock.now();
    let shown = shown(&peer);
    if let Some(reply) = demand_certificate(&rules, &shown) {
        let event = service.event(&peer, "requestvoucher", &shown, None);
        return service.finish(event, reply);
    }
    let accept = accept(&headers);
    let encoding = headers.get("content-transfer-encoding");
    if encoding.is_some() && defects::seeded!("masa-minds-transfer-encoding") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let inbound = Inbound {
        body: &body,
        content_type: text(&headers, &header::CONTENT_TYPE),
        accept: accept
            .as_deref()
            .filter(|list| !(list.contains(',') && defects::seeded!("masa-reads-one-accept")))
            .or_else(|| defects::seeded!("masa-reads-one-accept").then_some("text/plain")),
    };
    let request = match open_request(inbound, &rules.devices, &rules.policy, now) {
        Ok(request) => request,
        Err(refusal) => {
            let mut event = service.event(&peer, "requestvoucher", &shown, None);
            event.summary = unread(&body, inbound.content_type);
            return service.finish(event, Reply::refusal(&refusal));
        }
    };
    let mut event = service.event(&peer, "requestvoucher", &shown, Some(&request));
    event.outcome = "granted".to_owned();
    event.code = "ok".to_owned();
    event.http = StatusCode::OK.as_u16();
    let revocation = match service.revocation(&rules, &request, now).await {
        Ok(revocation) => revocation,
        Err(error) => {
            tracing::error!(code = error.code(), %error, "no voucher could be issued");
            return service.finish(event, Reply::failure(error.code()));
        }
    };
    let job = Arc::new(Job {
        revocation,
        request,
        shown,
        policy: Arc::clone(&rules.policy),
        now,
        event: event.clone(),
    });
    let answer = issue::issue(&service.store, &rules.keys, Arc::clone(&job)).await;
    let reply = match answer {
        Ok(answer) => {
            let code = issue::code_of(&answer);
            match answer {
                Answer::Voucher {
                    body,
                    envelope,
                    again,
                } => {
                    service.meters.time.observe(started.elapsed().as_secs_f64());
                    // BRSKI-5.6-01, BRSKI-5.6-20.
                    let reply = Reply {
                        status: StatusCode::OK,
                        code,
                        outcome: if again { "again" } else { "granted" },
                        content_type: job.request.media_type_of(envelope),
                        body,
                    };
                    let reply = misread(reply);
                    if !again {
                        // Its timeline entry is written, with the voucher.
                        service.count("requestvoucher", code);
                        return reply.into_response();
                    }
                    reply
                }
                Answer::Refused { refusal, alarm } => Reply {
                    outcome: if alarm { "alarm" } else { "refused" },
                    ..Reply::refusal(&refusal)
                },
            }
        }
        Err(error) => {
            tracing::error!(code = error.code(), %error, "no voucher could be issued");
            Reply::failure(error.code())
        }
    };
    service.finish(event, reply)
}

async fn request_audit_log(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let rules = service.rules.load_full();
    let now = service.clock.now();
    let shown = shown(&peer);
    if let Some(reply) = demand_certificate(&rules, &shown) {
        let event = service.event(&peer, "requestauditlog", &shown, None);
        return service.finish(event, reply);
    }
    let accept = accept(&headers);
    let inbound = Inbound {
        body: &body,
        content_type: text(&headers, &header::CONTENT_TYPE),
        accept: accept.as_deref(),
    };
    // BRSKI-5.8-03: the request is verified again, like a voucher request.
    let request = match open_audit_request(inbound, &rules.devices, &rules.policy, now) {
        Ok(request) => request,
        Err(refusal) => {
            let mut event = service.event(&peer, "requestauditlog", &shown, None);
            event.summary = unread(&body, inbound.content_type);
            return service.finish(event, Reply::refusal(&refusal));
        }
    };
    let event = service.event(&peer, "requestauditlog", &shown, Some(&request));
    let history = async {
        let mut snapshot = service.store.lookup().await?;
        facts::history(&mut snapshot, &request).await
    };
    let reply = match history.await {
        Ok((_, events)) => match answer_audit(&request, &events, rules.truncation) {
            Ok(log) => Reply {
                status: StatusCode::OK,
                code: "ok",
                outcome: "answered",
                // BRSKI-5.8.1-01: "the audit log is returned as application/json".
                content_type: if defects::seeded!("masa-log-as-text") {
                    "text/plain"
                } else {
                    "application/json"
                },
                body: log.to_json(),
            },
            Err(refusal) => Reply::refusal(&refusal),
        },
        Err(error) => {
            tracing::error!(code = error.code(), %error, "no audit log could be read");
            Reply::failure(error.code())
        }
    };
    service.finish(event, reply)
}

/// What a test build does to an answer that is right.
fn misread(mut reply: Reply) -> Reply {
    if defects::seeded!("masa-answers-201") {
        reply.status = StatusCode::CREATED;
    }
    if defects::seeded!("masa-answers-as-json") {
        reply.content_type = "application/json";
    }
    if defects::seeded!("masa-answers-in-base64") {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&reply.body);
        reply.body = text.into_bytes();
    }
    if defects::seeded!("masa-adds-an-octet") {
        reply.body.push(0);
    }
    if defects::seeded!("masa-spoils-signature")
        && let Some(last) = reply.body.last_mut()
    {
        *last ^= 1;
    }
    reply
}

fn demand_certificate(rules: &Rules, shown: &Shown) -> Option<Reply> {
    let missing = rules.client_certificate == ClientCertificate::Required && shown.chain.is_empty();
    let code = "masa.client-certificate-missing";
    missing.then(|| Reply {
        status: StatusCode::FORBIDDEN,
        code,
        outcome: "refused",
        content_type: "text/plain; charset=utf-8",
        body: format!("{code}: this MASA wants a TLS client certificate\n").into_bytes(),
    })
}

/// What can be said of a body that was not accepted.
fn unread(body: &[u8], content_type: Option<&str>) -> Value {
    let head: String = hex::encode(body.get(..16.min(body.len())).unwrap_or_default());
    json!({ "size": body.len(), "content_type": content_type, "begins": head })
}

/// The decoded request, abridged.
fn summary(request: &Request) -> Value {
    let content = request.content();
    let chain: Vec<String> = request
        .domain()
        .chain()
        .iter()
        .map(Certificate::subject)
        .collect();
    let oddities: Vec<String> = request
        .oddities()
        .iter()
        .map(|odd| format!("{odd:?}"))
        .collect();
    json!({
        "envelope": request.envelope().name(),
        // COSE has two names, and the old one shows an old registrar.
        "media_type": request.media_type_of(request.envelope()),
        "nonce": request.nonce(),
        "created_on": content.created_on.and_then(|time| time.format(&Rfc3339).ok()),
        "registrar_chain": chain,
        "prior": request.prior().map(|prior| json!({
            "idevid": prior.idevid.subject(),
            "idevid_key_sha256": hex::encode(prior.idevid.public_key().sha256()),
            "proximity": prior.proximity,
        })),
        "accept": request.formats().iter().map(|format| format.name()).collect::<Vec<_>>(),
        "oddities": oddities,
    })
}

impl Service {
    /// The line of the timeline for a request, without its outcome.
    pub(crate) fn event(
        &self,
        peer: &Peer,
        operation: &'static str,
        shown: &Shown,
        request: Option<&Request>,
    ) -> Event {
        let tls = shown
            .chain
            .first()
            .map(|leaf| format!("tls: {}", leaf.subject()));
        let signer = request.and_then(|request| {
            let registrar = request.domain().chain().first()?;
            let top = request.domain().keys().last()?;
            Some(format!(
                "signer: {}; domain key: {top}",
                registrar.subject()
            ))
        });
        let identity: Vec<String> = tls.into_iter().chain(signer).collect();
        let device = request.map(Request::device_key);
        Event {
            at: self.clock.now(),
            serial: device.map(|device| device.serial.clone()),
            issuer: device.and_then(|device| device.issuer_key_id.as_ref().map(hex::encode)),
            operation: operation.to_owned(),
            outcome: String::new(),
            code: String::new(),
            http: 0,
            peer: peer.address.to_string(),
            identity: identity.join("; "),
            summary: request.map_or(Value::Null, summary),
            next: String::new(),
        }
    }

    /// What the CRLs say that the registrar's certificates name.
    async fn revocation(
        &self,
        rules: &Rules,
        request: &Request,
        now: OffsetDateTime,
    ) -> Result<Revocation, Error> {
        let domain = request.domain();
        if rules.revocation == RevocationCheck::Off || !names_crls(domain) {
            return Ok(Revocation::NotChecked);
        }
        let owner = facts::owner(&mut *self.store.snapshot().await?, domain).await?;
        match (owner, rules.revocation) {
            (Some(owner), _) => Ok(self.crls.check(domain, &owner.certificates, now).await),
            (None, RevocationCheck::All) => Ok(self.crls.check(domain, &[], now).await),
            (None, RevocationCheck::Owners | RevocationCheck::Off) => Ok(Revocation::NotChecked),
        }
    }

    fn count(&self, operation: &'static str, code: &str) {
        let labels = Labels {
            operation,
            code: code.to_owned(),
        };
        self.meters.answers.get_or_create(&labels).inc();
    }

    fn finish(&self, mut event: Event, reply: Reply) -> Response {
        let operation = match event.operation.as_str() {
            "requestvoucher" => "requestvoucher",
            "requestauditlog" => "requestauditlog",
            _ => "other",
        };
        self.count(operation, reply.code);
        event.outcome = reply.outcome.to_owned();
        event.code = reply.code.to_owned();
        event.http = reply.status.as_u16();
        event.next = next_action(reply.code).to_owned();
        if reply.outcome == "alarm" {
            tracing::warn!(
                code = reply.code,
                serial = event.serial.as_deref(),
                peer = event.peer,
                identity = event.identity,
                "{operation}: alarm"
            );
        } else if reply.outcome != "answered" && reply.outcome != "again" {
            tracing::info!(
                code = reply.code,
                serial = event.serial.as_deref(),
                peer = event.peer,
                "{operation} {}",
                reply.outcome
            );
        }
        self.recorder.record(event);
        reply.into_response()
    }
}

/// What a human could do about a code; empty if there is nothing to do.
fn next_action(code: &str) -> &'static str {
    match code {
        "masa.serial-unknown" => "import the device, if it is one of ours",
        "masa.already-owned" => {
            "ask both domains; `device release` or `device transfer` if the device was resold"
        }
        "masa.not-the-owner" => "`device transfer` if it was resold, otherwise it may be stolen",
        "masa.nonce-replayed" => {
            "the device has to ask again; a former domain that repeats itself should be told"
        }
        "masa.not-sold" => "`device transfer` to its buyer",
        "masa.clone-suspected" => "compare the keys; `device block` until it is clear",
        "masa.device-blocked" => "`device block --lift` if the block is over",
        "masa.owner-blocked" => "`owner block --lift` if the block is over",
        "masa.registrar-unknown" => "`owner add` with the domain's CA certificate",
        "masa.nonceless-not-authorised" => "`owner add ID --nonceless` if the customer bought that",
        "masa.nonceless-unauthenticated" => "`owner add` with the domain's CA certificate",
        "masa.prior-not-our-device" => "add the CA of the device to [devices] if it is ours",
        "masa.proximity-mismatch" => "somebody may stand between pledge and registrar",
        "masa.request-stale" | "masa.request-from-future" => "compare the registrar's clock",
        "masa.registrar-revoked" => "tell the owner",
        _ => "",
    }
}
