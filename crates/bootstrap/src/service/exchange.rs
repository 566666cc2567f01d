//! One request of a device and its answer.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, header};
use net::Peer;
use pki::Coded as _;
use serde_json::{Value, json};
use sztp::message::{CsrInput, GetBootstrappingDataInput, ReportProgressInput};
use sztp::negotiate;
use sztp::restconf::{Fault, RestconfError};
use sztp::server::{self, Phase, ProgressStep};
use sztp::{Encoding, Oddity};
use time::OffsetDateTime;

use super::identify::{Kind, Known, Stranger};
use super::{Door, Service};
use crate::Error;
use crate::content::{Facts, IssuedCertificate, Refusal};
use crate::events;
use crate::profile::Quirk;
use crate::register::State;
use crate::timeline::{DeviceKey, Entry, Line, Progress};

/// The operations of the module ietf-sztp-bootstrap-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    /// A device asks for its bootstrapping data.
    GetBootstrappingData,
    /// A device reports how far it is.
    ReportProgress,
}

impl Rpc {
    /// Its name, in the timeline and in metrics too.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::GetBootstrappingData => "get-bootstrapping-data",
            Self::ReportProgress => "report-progress",
        }
    }
}

/// A request whose path and method are those of an operation.
pub(crate) struct Call<'a> {
    pub(crate) door: Door,
    pub(crate) rpc: Rpc,
    pub(crate) peer: &'a Peer,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Bytes,
    /// For Allow.
    pub(crate) allow: Option<&'static str>,
    /// Whether HTTP Basic is offered.
    pub(crate) challenge: bool,
    /// For Retry-After.
    pub(crate) retry_after: Option<u32>,
}

impl Reply {
    /// An answer with a body.
    pub(crate) fn body(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some(content_type),
            body: body.into(),
            allow: None,
            challenge: false,
            retry_after: None,
        }
    }

    /// An answer without one.
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            body: Bytes::new(),
            allow: None,
            challenge: false,
            retry_after: None,
        }
    }

    /// A refusal in RESTCONF's form.
    pub(crate) fn refusal(error: &RestconfError, encoding: Encoding) -> Self {
        // SZTP-8040-7.1-02: the body of an error is yang-data too.
        Self::body(
            error.status,
            negotiate::media_type(encoding),
            error.encode(encoding),
        )
    }
}

/// How a request of a known device ended, for its line.
struct Outcome {
    reply: Reply,
    outcome: &'static str,
    code: &'static str,
    next: String,
    state: Option<State>,
    progress: Option<Progress>,
    event: Option<(events::Kind, Value)>,
    summary: Value,
}

/// All fields of a name as one list.
pub(crate) fn joined(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let mut all = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap_or("unreadable/field"));
    let first = all.next()?;
    Some(all.fold(first.to_owned(), |list, next| format!("{list}, {next}")))
}

/// The encoding of an error whose request could not be looked at any further: what Accept asks
/// for, else that of the request.
pub(crate) fn error_encoding(accept: Option<&str>, content_type: Option<&str>) -> Encoding {
    let request = content_type.and_then(|text| {
        let text = text.to_ascii_lowercase();
        if text.contains("xml") {
            Some(Encoding::Xml)
        } else {
            text.contains("json").then_some(Encoding::Json)
        }
    });
    negotiate::response_encoding(accept, request)
        .unwrap_or_else(|_| request.unwrap_or(Encoding::Json))
}

impl Service {
    /// Carries out an operation. Its lines are durable when this returns.
    pub(crate) async fn call(&self, call: Call<'_>) -> Reply {
        let started = Instant::now();
        let now = self.now();
        let accept = joined(call.headers, &header::ACCEPT);
        let content_type = joined(call.headers, &header::CONTENT_TYPE);
        let fallback = error_encoding(accept.as_deref(), content_type.as_deref());
        let who = match self.identify(call.door, call.peer, call.headers, now).await {
            Ok(Ok(known)) => known,
            Ok(Err(stranger)) => {
                let reply = self.turn_away(&call, *stranger, fallback, now).await;
                return self.counted(call.rpc, started, reply);
            }
            Err(error) => return self.failed(call.rpc, started, &error, fallback),
        };
        let asked = Asked {
            accept: accept.as_deref(),
            content_type: content_type.as_deref(),
            fallback,
        };
        let mut outcome = match call.rpc {
            Rpc::GetBootstrappingData => self.give_data(&call, &who, &asked, now).await,
            Rpc::ReportProgress => self.take_report(&call, &who, &asked),
        };
        let device = &who.found.device;
        // Such a device would be called stuck after an hour in which everything went well.
        // A device that does not trust this server reports nothing to it (RFC 8572 §5.6).
        let silent = outcome.outcome == "served"
            && (outcome.summary["signed_data_preferred"] == true
                || outcome.summary["signed"] == true && who.profile.has(Quirk::SilentProgress));
        let entry = Entry {
            line: Line {
                at: now,
                device: Some(device.id),
                vendor: Some(device.vendor.clone()),
                serial: Some(device.serial.clone()),
                operation: call.rpc.as_str().to_owned(),
                outcome: outcome.outcome.to_owned(),
                code: outcome.code.to_owned(),
                http: outcome.reply.status,
                peer: call.peer.address.to_string(),
                identity: who.shown.describe(),
                summary: outcome.summary.take(),
                next: outcome.next,
            },
            seen: true,
            silent,
            state: outcome.state,
            progress: outcome.progress,
            event: outcome
                .event
                .map(|(kind, detail)| events::Event {
                    at: now,
                    kind,
                    device: device.id,
                    vendor: device.vendor.clone(),
                    serial: device.serial.clone(),
                    detail,
                })
                .filter(|event| event.wanted(&self.config().events)),
        };
        // The lines are durable before the answer leaves; without them there is none.
        if let Err(error) = self.0.ledger.write(entry).await {
            return self.failed(call.rpc, started, &error, fallback);
        }
        self.counted(call.rpc, started, (outcome.reply, outcome.code))
    }

    fn counted(&self, rpc: Rpc, started: Instant, answer: (Reply, &'static str)) -> Reply {
        let seconds = started.elapsed().as_secs_f64();
        self.0.counters.answer(rpc.as_str(), answer.1, seconds);
        answer.0
    }

    /// Something behind us failed: the device is told to come again.
    fn failed(&self, rpc: Rpc, started: Instant, error: &Error, encoding: Encoding) -> Reply {
        tracing::error!(code = error.code(), %error, "a request could not be answered");
        let refusal = RestconfError::new(Fault::Busy, "the server cannot answer now");
        let mut reply = Reply::refusal(&refusal, encoding);
        reply.retry_after = Some(10);
        self.counted(rpc, started, (reply, error.code()))
    }

    /// Refuses a peer that is none of our devices, and writes that down as long as there are not
    /// too many of them.
    async fn turn_away(
        &self,
        call: &Call<'_>,
        stranger: Stranger,
        encoding: Encoding,
        now: OffsetDateTime,
    ) -> (Reply, &'static str) {
        let (fault, text) = match stranger.kind {
            // Nobody learns here whether a serial number is in the register.
            Kind::Unauthenticated => (
                Fault::Unauthenticated,
                "no identity that is known here was proven",
            ),
            Kind::Forbidden => (Fault::Forbidden, "this device gets nothing here"),
            Kind::TooManyFailures => (Fault::Busy, "too many failed attempts, wait a minute"),
        };
        let mut reply = Reply::refusal(&RestconfError::new(fault, text), encoding);
        match stranger.kind {
            Kind::Unauthenticated => reply.challenge = self.offers_basic(),
            Kind::TooManyFailures => reply.retry_after = Some(60),
            Kind::Forbidden => {}
        }
        // Who only says that it is a device of ours is a stranger still.
        let proven = stranger.kind == Kind::Forbidden;
        if !proven && !self.stranger_turn(call.peer) {
            return (reply, stranger.code);
        }
        // Others hear of what became of a device, and of nobody who only says that it is one.
        let event = match (stranger.device, &stranger.vendor, &stranger.serial) {
            (Some(device), Some(vendor), Some(serial)) if proven => Some(events::Event {
                at: now,
                kind: events::Kind::Refused,
                device,
                vendor: vendor.clone(),
                serial: serial.clone(),
                detail: json!({ "code": stranger.code }),
            }),
            _ => None,
        };
        let entry = Entry {
            line: Line {
                at: now,
                device: stranger.device,
                vendor: stranger.vendor,
                serial: stranger.serial,
                operation: call.rpc.as_str().to_owned(),
                outcome: "refused".to_owned(),
                code: stranger.code.to_owned(),
                http: reply.status,
                peer: call.peer.address.to_string(),
                identity: stranger.shown.describe(),
                summary: json!({
                    "detail": stranger.detail,
                    "transport": transport(call.peer),
                    "size": call.body.len(),
                }),
                next: next_after(stranger.code).to_owned(),
            },
            seen: false,
            silent: false,
            state: None,
            progress: None,
            event: event.filter(|event| event.wanted(&self.config().events)),
        };
        // The refusal stands whether it can be written down or not.
        if let Err(error) = self.0.ledger.write(entry).await {
            tracing::error!(code = error.code(), %error, "a refusal was not written down");
        }
        (reply, stranger.code)
    }

    /// Writes down what was refused below the operations: stray paths, bodies that are too large.
    pub(crate) async fn note_stray(
        &self,
        peer: &Peer,
        operation: &'static str,
        code: &'static str,
        status: u16,
        detail: Value,
    ) {
        self.0.counters.answer(operation, code, 0.0);
        if !self.stranger_turn(peer) {
            return;
        }
        let entry = Entry {
            line: Line {
                at: self.now(),
                device: None,
                vendor: None,
                serial: None,
                operation: operation.to_owned(),
                outcome: "refused".to_owned(),
                code: code.to_owned(),
                http: status,
                peer: peer.address.to_string(),
                identity: String::new(),
                summary: detail,
                next: String::new(),
            },
            seen: false,
            silent: false,
            state: None,
            progress: None,
            event: None,
        };
        if let Err(error) = self.0.ledger.write(entry).await {
            tracing::error!(code = error.code(), %error, "a refusal was not written down");
        }
    }

    /// Whether a stranger may be written down now. Each line costs the disk a write, and
    /// strangers are free to come as fast as they like; beyond the limit they are only counted.
    fn stranger_turn(&self, peer: &Peer) -> bool {
        let limits = &self.0.config.timeline;
        let of_this = self.0.strangers.add(peer.address.ip());
        let everybody = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let allowed = of_this <= limits.strangers_per_second_and_address_max
            && self.0.all_strangers.add(everybody) <= limits.strangers_per_second_max;
        if !allowed {
            self.0.counters.unrecorded.inc();
        }
        allowed
    }

    fn offers_basic(&self) -> bool {
        self.0
            .rules
            .load()
            .profiles
            .iter()
            .any(|profile| profile.basic())
    }

    async fn give_data(
        &self,
        call: &Call<'_>,
        who: &Known,
        asked: &Asked<'_>,
        now: OffsetDateTime,
    ) -> Outcome {
        let leniency = who.profile.leniency();
        let (request, mut oddities) =
            match negotiate::request_encoding(asked.content_type, &call.body, &leniency) {
                Ok(found) => found,
                Err(error) => return unreadable(call, &error, asked.fallback),
            };
        let encoding = match negotiate::response_encoding(asked.accept, request) {
            Ok(encoding) => who.profile.outer(encoding),
            Err(error) => return unreadable(call, &error, asked.fallback),
        };
        let decoded = GetBootstrappingDataInput::decode(
            &call.body,
            request.unwrap_or(Encoding::Json),
            &leniency,
        );
        let mut input = match decoded {
            Ok((input, more)) => {
                oddities.extend(more);
                input
            }
            Err(_) if who.profile.has(Quirk::IgnoreRequestBody) => {
                GetBootstrappingDataInput::default()
            }
            Err(error) => return unreadable(call, &error, encoding),
        };
        let mut summary = describe_input(&input, request, encoding, &oddities, call);
        let device = &who.found.device;
        let csr = input.csr.take();
        let mut facts = Facts {
            device: Arc::clone(device),
            epoch: who.found.epoch,
            revision: who.found.revision,
            hw_model: input.hw_model,
            os_name: input.os_name,
            os_version: input.os_version,
            nonce: input.nonce,
            signed_data_preferred: input.signed_data_preferred,
            outer: encoding,
            profile: Arc::clone(&who.profile),
            certificate: None,
            identity: who.certificate().cloned(),
            now,
        };
        if let Some(csr) = csr {
            match self.certificate_for(who, &facts, &csr, now).await {
                Ok(certificate) => facts.certificate = certificate,
                Err(Step::Refused(error)) => return csr_refused(&error, encoding, summary),
                Err(Step::Failed(error)) => return failed_step(&error, encoding, summary),
            }
        }
        let no_live = self.live_voucher(&facts).await.err();
        if let Some(error) = &no_live {
            put(&mut summary, "masa", format!("{error} [{}]", error.code()));
        }
        let chosen = self.0.engine.choose(&facts).await;
        match chosen.map_err(|refusal| super::live::explained(refusal, no_live.as_ref())) {
            Ok(prepared) => {
                let redirect = prepared.redirect;
                put(&mut summary, "rule", prepared.rule.clone());
                put(&mut summary, "target", prepared.target.clone());
                put(&mut summary, "revision", prepared.revision);
                let signed = prepared.owner_certificate.is_some();
                put(&mut summary, "signed", signed);
                let body = self.0.rendered.body(&prepared, &who.profile, encoding);
                put(&mut summary, "size", body.len());
                let detail = json!({
                    "target": prepared.target, "rule": prepared.rule,
                    "revision": prepared.revision, "redirect": redirect, "signed": signed,
                });
                Outcome {
                    // SZTP-8040-4.4.2-01.
                    reply: Reply::body(200, negotiate::media_type(encoding), body),
                    outcome: if redirect { "redirected" } else { "served" },
                    code: "ok",
                    next: if redirect {
                        "the device goes to the other server".to_owned()
                    } else {
                        "the device reports its progress".to_owned()
                    },
                    state: Some(if redirect {
                        State::Redirected
                    } else {
                        State::Started
                    }),
                    progress: None,
                    event: Some((events::Kind::Served, detail)),
                    summary,
                }
            }
            Err(Refusal::Failed(error)) => failed_step(&error, encoding, summary),
            Err(refusal) => {
                let error = refusal.restconf();
                let reply = Reply::refusal(&error, encoding);
                put(&mut summary, "detail", refusal.to_string());
                Outcome {
                    reply,
                    outcome: "refused",
                    code: error.code,
                    next: format!(
                        "{refusal}: `usher bootstrap explain {}` says more",
                        device.serial
                    ),
                    state: Some(State::Waiting),
                    progress: None,
                    event: Some((
                        events::Kind::Refused,
                        json!({ "code": error.code, "detail": refusal.to_string() }),
                    )),
                    summary,
                }
            }
        }
    }

    fn take_report(&self, call: &Call<'_>, who: &Known, asked: &Asked<'_>) -> Outcome {
        let leniency = who.profile.leniency();
        let (request, mut oddities) =
            match negotiate::request_encoding(asked.content_type, &call.body, &leniency) {
                Ok(found) => found,
                Err(error) => return unreadable(call, &error, asked.fallback),
            };
        let encoding = match negotiate::response_encoding(asked.accept, request) {
            Ok(encoding) => encoding,
            // The answer has no body, so there is nothing that could not be accepted.
            Err(_) => asked.fallback,
        };
        let decoded =
            ReportProgressInput::decode(&call.body, request.unwrap_or(encoding), &leniency);
        let report = match decoded {
            Ok((report, more)) => {
                oddities.extend(more);
                report
            }
            Err(error) => return unreadable(call, &error, encoding),
        };
        let kind = report.progress;
        self.0.counters.progress(kind.as_str());
        let summary = json!({
            "progress": kind.as_str(),
            "message": report.message.as_deref().map(crate::timeline::clean),
            "ssh_host_keys": report.ssh_host_keys.len(),
            "trust_anchor_certs": report.trust_anchor_certs.len(),
            "oddities": names(&oddities),
            "transport": transport(call.peer),
        });
        let phase = match server::decide_progress(&report, self.config().role.roles()) {
            ProgressStep::Record { phase, .. } => phase,
            ProgressStep::Refuse(error) => return unreadable(call, &error, encoding),
        };
        let (state, event) = match phase {
            Some(Phase::Complete) => (Some(State::Complete), events::Kind::Complete),
            Some(Phase::Failed) => (Some(State::Failed), events::Kind::Failed),
            Some(Phase::Working | Phase::Rebooting) => {
                (Some(State::InProgress), events::Kind::Progress)
            }
            None => (None, events::Kind::Progress),
        };
        let detail = json!({
            "progress": kind.as_str(),
            "message": report.message.as_deref().map(crate::timeline::clean),
        });
        Outcome {
            // SZTP-8572-5.6-23, SZTP-8040-3.6-02: 204 and no body.
            reply: Reply::empty(204),
            outcome: "recorded",
            code: "ok",
            next: match phase {
                Some(Phase::Complete) => "the device is ready to be managed".to_owned(),
                Some(Phase::Failed) => "look at the message of the device".to_owned(),
                Some(Phase::Rebooting) => "the device comes again".to_owned(),
                _ => String::new(),
            },
            state,
            progress: Some(Progress {
                kind: kind.as_str(),
                message: report.message.clone(),
                keys: keys(&report),
            }),
            event: Some((event, detail)),
            summary,
        }
    }

    /// The certificate for a request that came along, or what the device has to do first.
    async fn certificate_for(
        &self,
        who: &Known,
        facts: &Facts,
        csr: &CsrInput,
        now: OffsetDateTime,
    ) -> Result<Option<Arc<IssuedCertificate>>, Step> {
        let support = matches!(csr, CsrInput::Support(_));
        let rules = self.0.rules.load_full();
        let Some(authority) = &rules.authority else {
            // SZTP-9646-2.2-02: a server without a CA ignores csr-support.
            return if support {
                Ok(None)
            } else {
                Err(Step::Refused(RestconfError::new(
                    Fault::CsrNotSupported,
                    "no certificates are issued here",
                )))
            };
        };
        // SZTP-9646-4.1.4-01: the error that asks for a request cannot be signed, so a device that
        // does not trust this server gets none.
        if facts.signed_data_preferred {
            return Ok(None);
        }
        // Nobody makes a request for data that there is not, or to be sent on to another server.
        match self.0.engine.look(facts).await.0 {
            Ok(prepared) if prepared.redirect => return Ok(None),
            // A template can need the certificate that is about to be made.
            Ok(_) | Err(Refusal::Unusable(_)) => {}
            Err(Refusal::Failed(error)) => return Err(Step::Failed(error)),
            Err(refusal) => return Err(Step::Refused(refusal.restconf())),
        }
        authority
            .serve(self, &who.found.device, who.certificate(), csr, now)
            .await
    }
}

/// How the part about certificates ended early.
pub(crate) enum Step {
    /// The device is told why.
    Refused(RestconfError),
    /// Something behind us failed.
    Failed(Error),
}

/// What a request says about the form of its answer.
struct Asked<'a> {
    accept: Option<&'a str>,
    content_type: Option<&'a str>,
    fallback: Encoding,
}

/// A request of a known device that cannot be read.
fn unreadable(call: &Call<'_>, error: &RestconfError, encoding: Encoding) -> Outcome {
    let head = call.body.get(..32.min(call.body.len())).unwrap_or_default();
    Outcome {
        reply: Reply::refusal(error, encoding),
        outcome: "refused",
        code: error.code,
        next: error.message.clone(),
        // What it had reached it keeps: a message that cannot be read says nothing about that.
        state: None,
        progress: None,
        event: None,
        summary: json!({
            "detail": error.message,
            "path": error.path.as_ref().map(ToString::to_string),
            "size": call.body.len(),
            "begins": String::from_utf8_lossy(head).replace('\0', "\u{fffd}"),
            "transport": transport(call.peer),
        }),
    }
}

/// The part about certificates ended the request: it is asked for one, or was refused.
fn csr_refused(error: &RestconfError, encoding: Encoding, summary: Value) -> Outcome {
    let wanted = error.fault == Fault::CsrWanted;
    Outcome {
        reply: Reply::refusal(error, encoding),
        outcome: if wanted { "asked" } else { "refused" },
        code: error.code,
        next: if wanted {
            "the device makes a certificate request and asks again".to_owned()
        } else {
            error.message.clone()
        },
        // Being asked for a request is a step on the way and no stop.
        state: Some(if wanted {
            State::Started
        } else {
            State::Waiting
        }),
        progress: None,
        event: (!wanted).then(|| (events::Kind::Refused, json!({ "code": error.code }))),
        summary,
    }
}

fn failed_step(error: &Error, encoding: Encoding, mut summary: Value) -> Outcome {
    tracing::error!(code = error.code(), %error, "bootstrapping data could not be made");
    put(&mut summary, "detail", error.to_string());
    let refusal = RestconfError::new(Fault::Busy, "the server cannot answer now");
    let mut reply = Reply::refusal(&refusal, encoding);
    reply.retry_after = Some(30);
    Outcome {
        reply,
        outcome: "failed",
        code: error.code(),
        next: "look into the server's log".to_owned(),
        state: Some(State::Waiting),
        progress: None,
        event: Some((events::Kind::Refused, json!({ "code": error.code() }))),
        summary,
    }
}

fn put(summary: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(members) = summary {
        members.insert(name.to_owned(), value.into());
    }
}

fn names(oddities: &[Oddity]) -> Vec<&'static str> {
    oddities.iter().map(|oddity| oddity.name).collect()
}

fn transport(peer: &Peer) -> String {
    match &peer.tls {
        Some(tls) => format!("{}, {}", tls.version(), peer.http_version),
        None => peer.http_version.to_string(),
    }
}

/// The decoded request, abridged.
fn describe_input(
    input: &GetBootstrappingDataInput,
    request: Option<Encoding>,
    reply: Encoding,
    oddities: &[Oddity],
    call: &Call<'_>,
) -> Value {
    let csr = input.csr.as_ref().map(|csr| match csr {
        CsrInput::Support(_) => "csr-support",
        CsrInput::P10(_) => "p10-csr",
        CsrInput::Cmc(_) => "cmc-csr",
        CsrInput::Cmp(_) => "cmp-csr",
    });
    json!({
        "signed_data_preferred": input.signed_data_preferred,
        "hw_model": input.hw_model.as_deref().map(crate::timeline::clean),
        "os_name": input.os_name.as_deref().map(crate::timeline::clean),
        "os_version": input.os_version.as_deref().map(crate::timeline::clean),
        "nonce": input.nonce.as_ref().map(hex::encode),
        "csr": csr,
        "request": request.map(|encoding| encoding.to_string()),
        "reply": reply.to_string(),
        "oddities": names(oddities),
        "transport": transport(call.peer),
    })
}

/// Keys and anchors that came with a report.
fn keys(report: &ReportProgressInput) -> Vec<DeviceKey> {
    let hash = |value: &[u8]| {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, value).as_ref());
        sha256
    };
    let ssh = report.ssh_host_keys.iter().map(|key| DeviceKey {
        kind: "ssh-host-key",
        algorithm: key.algorithm.clone(),
        sha256: hash(&key.key_data),
        value: key.key_data.clone(),
    });
    let anchors = report.trust_anchor_certs.iter().map(|cms| DeviceKey {
        kind: "trust-anchor",
        algorithm: String::new(),
        sha256: hash(cms),
        value: cms.clone(),
    });
    ssh.chain(anchors).collect()
}

/// What a person could do about a peer that was turned away.
fn next_after(code: &str) -> &'static str {
    match code {
        "bootstrap.serial-unknown" => "if it is yours: usher bootstrap devices import",
        "bootstrap.credentials-missing" => "the device has to show its IDevID or credentials",
        "bootstrap.credentials-wrong" | "bootstrap.basic-not-allowed" => {
            "set a password for the device, and a profile that allows basic-authentication"
        }
        "bootstrap.identities-differ" => "somebody uses another device's name",
        "bootstrap.device-blocked" => "the operator blocked it",
        "bootstrap.device-released" => "the device is no longer ours",
        "bootstrap.too-many-failures" => "look who tries passwords from this address",
        "bootstrap.authorization-unsupported" => {
            "the device has to show its IDevID, or HTTP Basic and nothing else"
        }
        "bootstrap.client-cert-header" => "look at the proxy: what it hands on cannot be read",
        "registrar.manufacturer-unknown" => {
            "if its manufacturer is yours: usher bootstrap trust import ANCHORS.pem --vendor NAME \
             --use idevid"
        }
        "registrar.idevid-invalid" => {
            "a manufacturer of yours made it, and it does not hold: read the reason; \
             accept_expired_idevid in the vendor's file lets pass one that has ended"
        }
        "registrar.serial-missing" => {
            "`serial` in the vendor's file says where the serial number is; usher whois IDEVID.pem"
        }
        _ => "what it showed is no certificate that can be judged: read the reason",
    }
}
