//! The client's side of EST over CoAP: requests to send, and what may be believed of the answers.

use std::time::Duration;

use coap::{Code, Request, Response, format};
use pki::{Certificate, Csr, PublicKey};
use time::OffsetDateTime;

use super::{Operation, multipart, path};
use crate::client::{CaCertificates, DomainTrust, Enrolled, Generated, RETRY_AFTER_MAX};
use crate::csrattrs::Requirements;
use crate::{CsrAttrs, Error};

/// What an answer means for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The exchange is complete.
    Done(T),
    /// Not decided yet: repeat the same request, not before this time has passed.
    Wait {
        /// How long, at least.
        after: Duration,
    },
}

/// The wait that a 5.03 without Max-Age stands for
/// ([RFC 7252 §5.10.5](https://www.rfc-editor.org/rfc/rfc7252.html#section-5.10.5)).
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(60);

/// `GET crts`; `format` is 281, 287 or 62.
#[must_use]
pub fn ca_certificates_request(label: Option<&str>, format: u16) -> Request {
    Request {
        accept: Some(format),
        ..Request::get(&path(label, Operation::CaCerts))
    }
}

/// `GET att`.
#[must_use]
pub fn csr_attrs_request(label: Option<&str>) -> Request {
    Request::get(&path(label, Operation::CsrAttrs))
}

/// `POST` of a certification request to `sen`, `sren`, `skg` or `skc`; `format` is that of the
/// certificate which is wanted from the first two, 281 or 287.
#[must_use]
pub fn enrol_request(label: Option<&str>, operation: Operation, csr: &Csr, format: u16) -> Request {
    let enrols = matches!(
        operation,
        Operation::SimpleEnroll | Operation::SimpleReenroll
    );
    Request {
        accept: enrols.then_some(format),
        // ESC-024: sen/sren/skg/skc requests must have Content-Format 286.
        ..Request::post(&path(label, operation), format::PKCS10, csr.der())
    }
}

/// Reads the answer to `GET crts`.
///
/// # Errors
/// Anything but CA certificates.
pub fn ca_certificates(response: &Response) -> Result<CaCertificates, Error> {
    if response.code != Code::CONTENT {
        return Err(refused(response));
    }
    Ok(CaCertificates::new(certificates(response)?))
}

/// Reads the answer to `GET att`; 4.04 means that there are none.
///
/// # Errors
/// Another code, or a body that cannot be read.
pub fn csr_attrs(response: &Response) -> Result<Requirements, Error> {
    match response.code {
        Code::NOT_FOUND => return Ok(Requirements::none()),
        Code::CONTENT => {}
        _ => return Err(refused(response)),
    }
    if response.content_format != Some(format::CSR_ATTRS) {
        return Err(wrong_format(response));
    }
    CsrAttrs::from_der(&response.payload)?.requirements()
}

/// Reads the answer to `POST sen` and `POST sren`: the certificate must be for `key` and lead to
/// the domain's CA. `at` is the time to judge validity by, or `None` for a device without a clock.
///
/// # Errors
/// The server refused, or its certificate is not one that may be used.
pub fn enrolled(
    response: &Response,
    key: &PublicKey,
    trust: &DomainTrust,
    at: Option<OffsetDateTime>,
) -> Result<Outcome<Enrolled>, Error> {
    if let Some(after) = not_yet(response)? {
        return Ok(Outcome::Wait { after });
    }
    trust
        .accept(&certificates(response)?, key, at)
        .map(Outcome::Done)
}

/// Reads the answer to `POST skg` and `POST skc`.
///
/// # Errors
/// The server refused, a part is missing, or key and certificate do not belong together.
pub fn generated(
    response: &Response,
    trust: &DomainTrust,
    at: Option<OffsetDateTime>,
) -> Result<Outcome<Generated>, Error> {
    if let Some(after) = not_yet(response)? {
        return Ok(Outcome::Wait { after });
    }
    if response.content_format != Some(format::MULTIPART_CORE) {
        return Err(wrong_format(response));
    }
    let (key, certificates) = multipart::key_and_certificates(&response.payload)?;
    let key = pki::SoftwareKey::from_pkcs8_der(&key)?;
    let enrolled = trust.accept(&certificates, pki::Signer::public_key(&key), at)?;
    Ok(Outcome::Done(Generated { key, enrolled }))
}

/// The time to wait, if the answer says so.
fn not_yet(response: &Response) -> Result<Option<Duration>, Error> {
    match response.code {
        Code::CHANGED => Ok(None),
        Code::SERVICE_UNAVAILABLE => {
            let wait = response.max_age.map_or(MAX_AGE_DEFAULT, |seconds| {
                Duration::from_secs(u64::from(seconds))
            });
            Ok(Some(wait.min(RETRY_AFTER_MAX)))
        }
        _ => Err(refused(response)),
    }
}

/// The certificates of a body in any of the formats for them.
fn certificates(response: &Response) -> Result<Vec<Certificate>, Error> {
    match response.content_format {
        Some(format::PKCS7_CERTS_ONLY) => Ok(pki::pkcs7::parse_certs_only(&response.payload)?),
        Some(format::PKIX_CERT) => Ok(vec![Certificate::from_der(&response.payload)?]),
        Some(format::MULTIPART_CORE) => multipart::read(&response.payload)?
            .into_iter()
            .filter_map(|(format, content)| content.filter(|_| format == format::PKIX_CERT))
            .map(|der| Ok(Certificate::from_der(der)?))
            .collect(),
        _ => Err(wrong_format(response)),
    }
}

fn wrong_format(response: &Response) -> Error {
    Error::MediaType(match response.content_format {
        Some(format) => format!("content-format {format}"),
        None => "no content-format".to_owned(),
    })
}

/// Longest part of a refusal's text that is kept.
const DETAIL_SIZE_MAX_CHARS: usize = 200;

fn refused(response: &Response) -> Error {
    Error::Code {
        code: response.code,
        detail: String::from_utf8_lossy(&response.payload)
            .chars()
            .filter(|character| !character.is_control())
            .take(DETAIL_SIZE_MAX_CHARS)
            .collect(),
    }
}
