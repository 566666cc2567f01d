//! The resources that devices reach over CoAP and DTLS: constrained BRSKI
//! (draft-ietf-anima-constrained-voucher) and EST-coaps
//! ([RFC 9148](https://www.rfc-editor.org/rfc/rfc9148.html)).
//!
//! Everything is decided and written down by the same [`Service`] that answers over HTTPS. Here a
//! path becomes a resource, a number a media type, and an answer a response. [`Resources`] knows
//! nothing of sockets; [`serve`] puts it behind them.

mod config;
mod links;
mod meter;
mod serve;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest;
use brski::registrar::{Inbound, ReportBody};
use coap::{Code, Request, Response, Via, format};
use est::coaps::{self, Operation};

pub use config::{Config, Discovery, Dtls, Limits};
pub(crate) use links::Ports;
pub(crate) use serve::{Serving, dtls_identities, serve};

use crate::Error;
use crate::service::{Answer, Caller, Service};

/// Bytes of an ETag.
const ETAG_LENGTH: usize = 8;

/// Who asks, and how.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The other end.
    pub caller: Caller,
    /// How its request came.
    pub via: Via,
    /// The address of ours to which it came.
    pub local: SocketAddr,
}

/// What devices reach over CoAP. Cheap to clone.
#[derive(Clone)]
pub struct Resources(Arc<Inner>);

struct Inner {
    service: Service,
    est: crate::est::Shared,
    ports: OnceLock<Ports>,
}

/// A status report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Voucher,
    Enrolment,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Voucher => "vs",
            Self::Enrolment => "es",
        }
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    Core,
    Voucher,
    Status(Status),
    Est {
        label: Option<String>,
        operation: Operation,
    },
}

impl Resource {
    /// What is at that path. The short paths are there only if they are served.
    fn at(path: &[String], short: bool) -> Option<Self> {
        let (first, rest) = path.split_first()?;
        let (root, below) = match (first.as_str(), rest.split_first()) {
            (".well-known", Some((second, below))) => (second.as_str(), below),
            // CBR-165: If short base paths exist, the well-known paths behave identically.
            (links::BRSKI_SHORT, _) if short => ("brski", rest),
            (links::EST_SHORT, _) if short => ("est", rest),
            _ => return None,
        };
        match (root, below) {
            ("core", []) => Some(Self::Core),
            ("brski", [name]) => match name.as_str() {
                "rv" => Some(Self::Voucher),
                "vs" => Some(Self::Status(Status::Voucher)),
                "es" => Some(Self::Status(Status::Enrolment)),
                _ => None,
            },
            ("est", below) => coaps::split_path(below).map(|(label, operation)| Self::Est {
                label: label.map(str::to_owned),
                operation,
            }),
            _ => None,
        }
    }

    const fn method(&self) -> Code {
        match self {
            Self::Core => Code::GET,
            Self::Voucher | Self::Status(_) => Code::POST,
            Self::Est { operation, .. } => operation.method(),
        }
    }
}

impl Resources {
    /// # Errors
    /// A file or a template of the configuration cannot be used.
    pub fn open(service: &Service) -> Result<Self, Error> {
        Ok(Self::new(service, crate::est::Shared::open(service)?))
    }

    pub(crate) fn new(service: &Service, est: crate::est::Shared) -> Self {
        Self(Arc::new(Inner {
            service: service.clone(),
            est,
            ports: OnceLock::new(),
        }))
    }

    /// Says which ports `/.well-known/core` may name.
    pub(crate) fn announce(&self, ports: Ports) {
        // Set once, by who listens.
        let _ = self.0.ports.set(ports);
    }

    /// The service behind them.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.0.service
    }

    /// Answers a request.
    pub async fn answer(&self, asker: Asker, request: Request) -> Response {
        let config = &self.0.service.config().coap;
        let Some(resource) = Resource::at(&request.path, config.short_paths) else {
            return stray(Code::NOT_FOUND, "registrar.no-such-resource");
        };
        if asker.via != Via::Secured && resource != Resource::Core {
            // COA-041: BRSKI/EST resources are not reachable in NoSec mode; only discovery may be.
            return stray(Code::UNAUTHORIZED, "registrar.no-client-certificate");
        }
        // COA-029: Unsupported method gives 4.05.
        if request.code() != resource.method() {
            return stray(Code::METHOD_NOT_ALLOWED, "registrar.method");
        }
        if resource == Resource::Core {
            return self.core(&asker, &request);
        }
        // What was begun is brought to its end, whether or not the device still waits: it finds the
        // result when it comes back with the same request.
        let this = self.clone();
        let work = tokio::spawn(async move { this.carry_out(resource, asker, request).await });
        // ESC-039: Short delay: empty ACK then separate CON response; that is the endpoint's doing.
        // CBR-056: When the voucher is delayed the registrar answers 5.03 with Max-Age, or an empty
        // ACK followed by a separate response.
        match tokio::time::timeout(Duration::from_secs(config.answer_within_seconds), work).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::error!(%error, "an answer was not finished");
                stray(Code::INTERNAL_SERVER_ERROR, "registrar.internal")
            }
            Err(_) => Response {
                max_age: (!defects::seeded!("registrar-coaps-says-no-time"))
                    .then_some(config.retry_after_seconds),
                ..stray(Code::SERVICE_UNAVAILABLE, "registrar.pending")
            },
        }
    }

    /// `GET /.well-known/core`
    fn core(&self, asker: &Asker, request: &Request) -> Response {
        let config = self.0.service.config();
        let links = match (asker.via, &config.coap.discovery) {
            (Via::Secured, _) => links::secured(&config.coap, config.est.server_keygen),
            (Via::Open | Via::Multicast, Some(discovery)) => {
                let ports = self.0.ports.get().copied().unwrap_or_default();
                links::open(&config.coap, discovery, ports, asker.local)
            }
            (Via::Open | Via::Multicast, None) => Vec::new(),
        };
        if request
            .accept
            .is_some_and(|accept| accept != format::LINK_FORMAT)
        {
            return Response::new(Code::NOT_ACCEPTABLE);
        }
        // COA-044: Link-format answers use content-format 40.
        // COA-047: Multicast query whose filter does not match is not answered: the endpoint sends
        // no answer to multicast that is empty.
        let document = links::document(&links, &request.query);
        let number = if defects::seeded!("registrar-coaps-mislabels-links") {
            0
        } else {
            format::LINK_FORMAT
        };
        Response::content(Code::CONTENT, number, document)
    }

    async fn carry_out(&self, resource: Resource, asker: Asker, request: Request) -> Response {
        let caller = &asker.caller;
        match resource {
            Resource::Core => self.core(&asker, &request),
            Resource::Voucher => self.voucher(caller, &request).await,
            Resource::Status(status) => self.status(caller, status, &request).await,
            Resource::Est { label, operation } => {
                self.est(caller, label.as_deref(), operation, &request)
                    .await
            }
        }
    }

    /// `POST rv`
    async fn voucher(&self, caller: &Caller, request: &Request) -> Response {
        let content_type = match request.content_format {
            _ if defects::seeded!("registrar-coaps-ignores-content-format") => {
                Some(media_type(format::VOUCHER_COSE))
            }
            content_format => content_format.map(media_type),
        };
        // CBR-035: POST /rv without Accept returns the voucher in the format of the request. No
        // other format than COSE has a number in CoAP, so that one is asked for by name.
        // A device that calls what it sends plain COSE, and is let do so by its vendor's profile, may
        // call its voucher so too.
        let accept = match request.accept {
            None => format::VOUCHER_COSE,
            accept if accept == request.content_format => format::VOUCHER_COSE,
            Some(_) if defects::seeded!("registrar-coaps-ignores-accept") => format::VOUCHER_COSE,
            Some(accept) => accept,
        };
        let accept = media_type(accept);
        let inbound = Inbound {
            body: &request.payload,
            content_type: content_type.as_deref(),
            accept: Some(&accept),
        };
        let service = &self.0.service;
        let (answer, correlation) = match service.turn().await {
            Ok(_turn) => service.request_voucher(caller, inbound).await,
            Err(error) => crate::routes::failed(service, caller, "voucher-request", error).await,
        };
        if answer.status != http::StatusCode::OK {
            return refused(&answer, &correlation);
        }
        let asked = request.accept.or(request.content_format);
        let format = match asked {
            Some(format::COSE_SIGN1) => format::COSE_SIGN1,
            _ => format::VOUCHER_COSE,
        };
        Response::content(Code::CHANGED, format, answer.body)
    }

    /// `POST vs` and `POST es`
    async fn status(&self, caller: &Caller, status: Status, request: &Request) -> Response {
        let service = &self.0.service;
        // CBR-042: /vs and /es accept content-format 60 (CBOR).
        // CBR-043: /vs and /es accept content-format 50 (JSON).
        let report = match request.content_format {
            Some(format::CBOR) => ReportBody::Cbor(&request.payload),
            Some(format::JSON) => ReportBody::Json(&request.payload),
            // COA-032: A request payload without Content-Format is not guessed.
            _ if defects::seeded!("registrar-coaps-guesses-reports") => {
                ReportBody::Cbor(&request.payload)
            }
            _ => ReportBody::Other,
        };
        let (answer, correlation) = match (service.turn().await, status) {
            (Ok(_turn), Status::Voucher) => service.voucher_status(caller, report).await,
            (Ok(_turn), Status::Enrolment) => service.enrol_status(caller, report).await,
            (Err(error), Status::Voucher) => {
                crate::routes::failed(service, caller, "voucher-status", error).await
            }
            (Err(error), Status::Enrolment) => {
                crate::routes::failed(service, caller, "enrol-status", error).await
            }
        };
        if answer.status != http::StatusCode::OK {
            return refused(&answer, &correlation);
        }
        // CBR-149: A successful POST to /vs or /es returns 2.04 with empty payload.
        if defects::seeded!("registrar-coaps-answers-reports") {
            return Response::content(Code::CHANGED, format::CBOR, vec![0xF5]);
        }
        Response::new(Code::CHANGED)
    }

    async fn est(
        &self,
        caller: &Caller,
        label: Option<&str>,
        operation: Operation,
        request: &Request,
    ) -> Response {
        let format = coaps::accepted(operation, request.accept).filter(|format| {
            // CBR-088: If several trust anchors are exclusively configured, GET /crts with Accept
            // 287 returns 4.06.
            operation != Operation::CaCerts
                || *format != format::PKIX_CERT
                || self.0.service.config().coap.single_ca_certificate
        });
        let binding = caller.exporter.as_ref().map(<[u8; 32]>::as_slice);
        let wanted = coaps::request(operation, request, format, binding);
        let (answer, correlation) = self.0.est.coaps(caller, label, wanted).await;
        let mut response = match coaps::response(operation, format, &answer) {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(correlation, %error, "an answer could not be written");
                return stray(Code::INTERNAL_SERVER_ERROR, "registrar.internal");
            }
        };
        if answer.code.is_some() {
            correlate(&mut response, &correlation);
        } else if operation == Operation::CaCerts
            && !defects::seeded!("registrar-coaps-forgets-etags")
        {
            // CBR-066: Every /crts response carries an ETag.
            let hash = digest::digest(&digest::SHA256, &response.payload);
            response.etag = hash.as_ref().get(..ETAG_LENGTH).map(<[u8]>::to_vec);
        }
        response
    }
}

/// The media type of a content-format, as HTTP has it.
fn media_type(format: u16) -> String {
    match format {
        format::VOUCHER_COSE => artifacts::Envelope::Cose.media_type().to_owned(),
        format::COSE_SIGN1 => "application/cose".to_owned(),
        format::CBOR => "application/cbor".to_owned(),
        other => format!("content-format {other}"),
    }
}

/// An answer to something that is not there; it leaves no line.
fn stray(code: Code, cause: &str) -> Response {
    Response::diagnostic(code, cause)
}

/// A BRSKI answer other than 200.
fn refused(answer: &Answer, correlation: &str) -> Response {
    let code = answer.code.unwrap_or_default();
    let mut response = Response::diagnostic(
        match answer.retry_after {
            // ESC-040: Long delay: 5.03 with Max-Age. Whatever may be asked again later is told so
            // in the one way that devices know.
            Some(_) => Code::SERVICE_UNAVAILABLE,
            None => {
                coaps::exception(code).unwrap_or_else(|| coaps::code_of(answer.status.as_u16()))
            }
        },
        code,
    );
    response.max_age = answer.retry_after;
    correlate(&mut response, correlation);
    response
}

/// Adds the id that ties what the device logs to the operator's timeline.
fn correlate(response: &mut Response, correlation: &str) {
    // COA-028: Error responses may carry a diagnostic payload; it is kept short, since every byte
    // of it goes over the radio.
    response.payload.push(b' ');
    response.payload.extend_from_slice(correlation.as_bytes());
}
