//! EST over CoAP and DTLS ([RFC 9148](https://www.rfc-editor.org/rfc/rfc9148.html)), with what
//! constrained BRSKI adds to it (draft-ietf-anima-constrained-voucher §6.7).
//!
//! What is decided is [`crate::server`]'s and the same as over HTTPS. Here are the names of the
//! resources, the bodies, which are DER without base64, and the codes. On the server's side,
//! [`accepted`] and [`request`] make of a CoAP request what [`crate::server::handle`] takes, and
//! [`response`] makes a CoAP response of its answer. [`client`] is the other end.

pub mod client;
pub mod multipart;

use coap::{Code, Response, format};

use crate::server::{self, Answer, Content};
use crate::{Error, body};

/// The root under which the resources always are, as segments of a path.
pub const ROOT: [&str; 2] = [".well-known", "est"];

/// The resource type of the root.
pub const ROOT_TYPE: &str = "ace.est";

/// CA certificates that are given to a device which did not ask for a PKCS#7 bag: more would be
/// hard for it to store (draft-ietf-anima-constrained-voucher §6.7.5).
pub const CA_CERTIFICATES_MAX: usize = 3;

/// One of the resources of RFC 9148.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `GET crts`
    CaCerts,
    /// `POST sen`
    SimpleEnroll,
    /// `POST sren`
    SimpleReenroll,
    /// `GET att`
    CsrAttrs,
    /// `POST skg`: the certificate comes in a PKCS#7 bag.
    ServerKeyGen,
    /// `POST skc`: the certificate comes bare.
    ServerKeyGenCertificate,
}

impl Operation {
    /// All of them; the last three are optional to have.
    pub const ALL: [Self; 6] = [
        Self::CaCerts,
        Self::SimpleEnroll,
        Self::SimpleReenroll,
        Self::CsrAttrs,
        Self::ServerKeyGen,
        Self::ServerKeyGenCertificate,
    ];

    /// The last segment of the path.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CaCerts => "crts",
            Self::SimpleEnroll => "sen",
            Self::SimpleReenroll => "sren",
            Self::CsrAttrs => "att",
            Self::ServerKeyGen => "skg",
            Self::ServerKeyGenCertificate => "skc",
        }
    }

    /// The resource of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The resource type in `/.well-known/core`.
    #[must_use]
    pub const fn resource_type(self) -> &'static str {
        // ESC-054: rt values ace.est.crts/.sen/.sren/.att/.skg/.skc.
        match self {
            Self::CaCerts => "ace.est.crts",
            Self::SimpleEnroll => "ace.est.sen",
            Self::SimpleReenroll => "ace.est.sren",
            Self::CsrAttrs => "ace.est.att",
            Self::ServerKeyGen => "ace.est.skg",
            Self::ServerKeyGenCertificate => "ace.est.skc",
        }
    }

    /// What it is over HTTPS.
    #[must_use]
    pub const fn est(self) -> crate::Operation {
        match self {
            Self::CaCerts => crate::Operation::CaCerts,
            Self::SimpleEnroll => crate::Operation::SimpleEnroll,
            Self::SimpleReenroll => crate::Operation::SimpleReenroll,
            Self::CsrAttrs => crate::Operation::CsrAttrs,
            Self::ServerKeyGen | Self::ServerKeyGenCertificate => crate::Operation::ServerKeyGen,
        }
    }

    /// The method that it is asked by.
    #[must_use]
    pub const fn method(self) -> Code {
        match self {
            Self::CaCerts | Self::CsrAttrs => Code::GET,
            _ => Code::POST,
        }
    }

    /// The formats of its answer; the first one where nothing is asked for.
    #[must_use]
    pub const fn formats(self) -> &'static [u16] {
        match self {
            // ESC-022: Without Accept the server answers 281.
            Self::CaCerts => &[
                format::PKCS7_CERTS_ONLY,
                format::PKIX_CERT,
                format::MULTIPART_CORE,
            ],
            Self::SimpleEnroll | Self::SimpleReenroll => {
                &[format::PKCS7_CERTS_ONLY, format::PKIX_CERT]
            }
            Self::CsrAttrs => &[format::CSR_ATTRS],
            Self::ServerKeyGen | Self::ServerKeyGenCertificate => &[format::MULTIPART_CORE],
        }
    }
}

/// The path of an operation, without a slash in front.
#[must_use]
pub fn path(label: Option<&str>, operation: Operation) -> String {
    let [first, second] = ROOT;
    match label {
        Some(label) => format!("{first}/{second}/{label}/{}", operation.name()),
        None => format!("{first}/{second}/{}", operation.name()),
    }
}

/// Takes apart what follows the root: the label, if there is one, and the resource.
#[must_use]
pub fn split_path(segments: &[String]) -> Option<(Option<&str>, Operation)> {
    match segments {
        [name] => Some((None, Operation::from_name(name)?)),
        // ESC-016: ArbitraryLabel path segment /.well-known/est/<label>/<short>. As over HTTPS a
        // label is never the name of a resource.
        [label, name] if !label.is_empty() && Operation::from_name(label).is_none() => {
            Some((Some(label), Operation::from_name(name)?))
        }
        _ => None,
    }
}

/// The format of the answer to a request with that Accept option; `None` if there is none that
/// both sides have.
#[must_use]
pub fn accepted(operation: Operation, accept: Option<u16>) -> Option<u16> {
    let formats = operation.formats();
    match accept {
        None => formats.first().copied(),
        Some(accept) => formats.contains(&accept).then_some(accept),
    }
}

/// What [`server::handle`] takes, of a CoAP request. `format` is what [`accepted`] said.
#[must_use]
pub fn request<'a>(
    operation: Operation,
    request: &'a coap::Request,
    format: Option<u16>,
    channel_binding: Option<&'a [u8]>,
) -> server::Request<'a> {
    server::Request {
        method: match request.code() {
            Code::GET => "GET",
            Code::POST => "POST",
            _ => "another",
        },
        operation: operation.est(),
        content_type: match request.content_format {
            Some(format::PKCS10) => Some(body::PKCS10),
            // ESC-024: sen/sren/skg/skc requests must have Content-Format 286; other gives 4.15.
            Some(_) | None => None,
        },
        body: &request.payload,
        transport: server::Transport::Coaps {
            acceptable: format.is_some(),
        },
        channel_binding,
    }
}

/// What is sent back, of the answer that was decided on. `format` is what [`accepted`] said.
///
/// # Errors
/// A bag of certificates cannot be encoded.
pub fn response(
    operation: Operation,
    format: Option<u16>,
    answer: &Answer,
) -> Result<Response, Error> {
    let (code, format, payload) = match (&answer.content, format) {
        (Content::None, _) | (_, None) => return Ok(refused(answer)),
        (Content::CaCertificates(certificates), Some(format)) => (
            Code::CONTENT,
            format,
            ca_certificates(certificates, format)?,
        ),
        (Content::CsrAttrs(der), Some(format)) => (Code::CONTENT, format, der.clone()),
        (Content::Certificate(certificate), Some(format)) => {
            let code = if defects::seeded!("est-coaps-answers-posts-with-content") {
                Code::CONTENT
            } else {
                Code::CHANGED
            };
            (code, format, bag(certificate, format)?)
        }
        (
            Content::KeyAndCertificate {
                private_key_pkcs8,
                certificate,
            },
            Some(format),
        ) => {
            // ESC-026: /skg response is multipart-core (62) with parts 284 (or 280) and 281.
            // ESC-027: /skc response is multipart-core (62) with parts 284 (or 280 if encrypted)
            // and 287.
            let of_certificate = match operation {
                Operation::ServerKeyGenCertificate
                    if !defects::seeded!("est-coaps-answers-skc-as-skg") =>
                {
                    format::PKIX_CERT
                }
                _ => format::PKCS7_CERTS_ONLY,
            };
            let certificate = bag(certificate, of_certificate)?;
            let parts = [
                (
                    if defects::seeded!("est-coaps-mislabels-keys") {
                        format::PKCS10
                    } else {
                        format::PKCS8
                    },
                    Some(private_key_pkcs8.as_slice()),
                ),
                (of_certificate, Some(certificate.as_slice())),
            ];
            (Code::CHANGED, format, multipart::write(&parts))
        }
    };
    // ESC-031: Success codes: GET crts/att 2.05; POST sen/sren/skg/skc 2.04.
    Ok(Response::content(code, format, payload))
}

/// CA certificates, the issuer of the device's own certificate first.
fn ca_certificates(certificates: &[pki::Certificate], format: u16) -> Result<Vec<u8>, Error> {
    match format {
        // CBR-087: GET /crts with Accept 287 returns only the single CA certificate that issues
        // for the requesting client.
        format::PKIX_CERT => certificates
            .first()
            .map(|certificate| certificate.der().to_vec())
            .ok_or(Error::CaCertificates("there are none")),
        format::MULTIPART_CORE => {
            // CBR-078: The multipart array alternates content-format number 287 and a DER
            // certificate byte string.
            let parts: Vec<(u16, Option<&[u8]>)> = certificates
                .iter()
                .map(|certificate| {
                    let number = if defects::seeded!("est-coaps-mislabels-certificates") {
                        format::PKCS7_CERTS_ONLY
                    } else {
                        format::PKIX_CERT
                    };
                    (number, Some(certificate.der()))
                })
                .collect();
            Ok(multipart::write(&parts))
        }
        _ => Ok(pki::pkcs7::certs_only(certificates)?),
    }
}

/// Orders CA certificates as a device wants them: the issuer of its own certificate (`current`, or
/// the first of the list for one that has none yet), what leads up from there, and then the
/// others; no more than `limit`, as far as the way up allows that.
#[must_use]
pub fn hierarchy(
    certificates: &[pki::Certificate],
    current: Option<&pki::Certificate>,
    limit: usize,
) -> Vec<pki::Certificate> {
    let issuer_of = |issued: &pki::Certificate| {
        certificates.iter().find(|candidate| {
            candidate.subject_der() == issued.issuer_der()
                && issued.verify_signature_by(candidate.public_key()).is_ok()
        })
    };
    let mut ordered: Vec<pki::Certificate> = Vec::new();
    let mut next = current.and_then(issuer_of).or_else(|| certificates.first());
    // CBR-079: CA certificates are ordered from the issuer of the client's LDevID up to the highest
    // domain CA, then any others.
    while let Some(certificate) = next.filter(|next| !ordered.contains(next)) {
        ordered.push(certificate.clone());
        next = issuer_of(certificate);
    }
    for other in certificates {
        // CBR-080: At most 3 CA certificates are returned unless configured otherwise.
        if ordered.len() < limit && !ordered.contains(other) {
            ordered.push(other.clone());
        }
    }
    ordered
}

fn bag(certificate: &pki::Certificate, format: u16) -> Result<Vec<u8>, Error> {
    // ESC-019: Payloads are raw DER, never base64.
    match format {
        format::PKIX_CERT if !defects::seeded!("est-coaps-sends-bags-only") => {
            Ok(certificate.der().to_vec())
        }
        _ => Ok(pki::pkcs7::certs_only(std::slice::from_ref(certificate))?),
    }
}

/// An answer that brings nothing: a refusal, a failure, or the wish that the client come back.
fn refused(answer: &Answer) -> Response {
    let mut response = Response::new(match answer.retry_after_seconds {
        Some(_) => Code::SERVICE_UNAVAILABLE,
        None => code_of(answer.status),
    });
    // ESC-040: Long delay: 5.03 in the ACK with Max-Age.
    response.max_age = answer
        .retry_after_seconds
        .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    if let Some(code) = answer.code {
        response.code = exception(code).unwrap_or(response.code);
        response.payload = code.as_bytes().to_vec();
    }
    response
}

/// Conditions for which CoAP has a better code than the one that HTTP's status leads to.
#[must_use]
pub fn exception(code: &str) -> Option<Code> {
    match code {
        // ESC-010: All EST-coaps functions require an authenticated client: 4.01.
        "est.client-certificate-required" | "registrar.no-client-certificate" => {
            Some(Code::UNAUTHORIZED)
        }
        // HTTP calls an Accept header that says nothing to us an unsupported media type.
        "registrar.accept-not-understood" => Some(Code::NOT_ACCEPTABLE),
        _ => None,
    }
}

/// The code for an HTTP status
/// ([RFC 9148 §4.5](https://www.rfc-editor.org/rfc/rfc9148.html#section-4.5), RFC 8075 §7,
/// draft-ietf-anima-constrained-voucher §6.6).
#[must_use]
pub const fn code_of(status: u16) -> Code {
    // ESC-033: HTTP 400/401/403/404/503 conditions map to 4.00/4.01/4.03/4.04/5.03.
    // CBR-055: HTTP 401/403/404/406/415 conditions are returned as 4.01/4.03/4.04/4.06/4.15.
    match status {
        200 | 201 => Code::CHANGED,
        202 | 503 => Code::SERVICE_UNAVAILABLE,
        401 => Code::UNAUTHORIZED,
        403 => Code::FORBIDDEN,
        // ESC-032: Resource not available for this client: 4.04 as mapped from HTTP 204/404.
        204 | 404 => Code::NOT_FOUND,
        405 => Code::METHOD_NOT_ALLOWED,
        406 => Code::NOT_ACCEPTABLE,
        408 => Code::REQUEST_ENTITY_INCOMPLETE,
        413 => Code::REQUEST_ENTITY_TOO_LARGE,
        415 => Code::UNSUPPORTED_CONTENT_FORMAT,
        429 => Code::TOO_MANY_REQUESTS,
        501 => Code::NOT_IMPLEMENTED,
        502 => Code::BAD_GATEWAY,
        504 => Code::GATEWAY_TIMEOUT,
        400..=499 => Code::BAD_REQUEST,
        _ => Code::INTERNAL_SERVER_ERROR,
    }
}
