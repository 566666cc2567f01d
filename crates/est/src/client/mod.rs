//! The client's side: requests to send, and what may be believed of the answers.
//!
//! The caller owns the connection and has authorised the server before any of this: by the pin
//! of a voucher, or by its explicit trust anchors. Nothing here follows a redirect or waits; each
//! [`Outcome`] says what to do next.

mod request;
mod trust;

pub use self::{
    request::{Facts, reenrol_request, request},
    trust::{CaCertificates, DomainTrust, Enrolled},
};

use std::time::Duration;

use pki::{Certificate, Csr, KeyKind, PublicKey};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::{
    CsrAttrs, Error, Operation,
    body::{self, BodyTolerances, MediaType},
    csrattrs::{KeyRequirement, Requirements, oids},
    multipart, path,
};

/// An HTTP request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// HTTP method.
    pub method: &'static str,
    /// Path on the server.
    pub path: String,
    /// Accept header.
    pub accept: &'static str,
    /// Content-Type header, if there is a body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
}

/// An HTTP answer as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpAnswer<'a> {
    /// HTTP status.
    pub status: u16,
    /// Content-Type header.
    pub content_type: Option<&'a str>,
    /// Retry-After header.
    pub retry_after: Option<&'a str>,
    /// Location header.
    pub location: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// What an answer means for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The exchange is complete.
    Done(T),
    /// The server redirects; [`redirect`] says whether that may be followed.
    Redirect {
        /// The Location header.
        location: String,
    },
    /// Not decided yet: repeat the same request, not before this time has passed.
    Wait {
        /// How long, at least.
        after: Duration,
    },
}

/// `GET cacerts`.
#[must_use]
pub fn ca_certificates_request(label: Option<&str>) -> HttpRequest {
    get(label, Operation::CaCerts, body::PKCS7_MIME)
}

/// `GET csrattrs`.
#[must_use]
pub fn csr_attrs_request(label: Option<&str>) -> HttpRequest {
    get(label, Operation::CsrAttrs, body::CSR_ATTRS)
}

/// `POST simpleenroll`.
#[must_use]
pub fn enroll_request(label: Option<&str>, csr: &Csr) -> HttpRequest {
    post(label, Operation::SimpleEnroll, body::PKCS7_MIME, csr)
}

/// `POST simplereenroll`.
#[must_use]
pub fn reenroll_request(label: Option<&str>, csr: &Csr) -> HttpRequest {
    post(label, Operation::SimpleReenroll, body::PKCS7_MIME, csr)
}

/// `POST serverkeygen`.
#[must_use]
pub fn server_keygen_request(label: Option<&str>, csr: &Csr) -> HttpRequest {
    post(label, Operation::ServerKeyGen, "multipart/mixed", csr)
}

fn get(label: Option<&str>, operation: Operation, accept: &'static str) -> HttpRequest {
    HttpRequest {
        method: operation.method(),
        path: path(label, operation),
        accept,
        content_type: None,
        body: Vec::new(),
    }
}

fn post(label: Option<&str>, operation: Operation, accept: &'static str, csr: &Csr) -> HttpRequest {
    HttpRequest {
        method: operation.method(),
        path: path(label, operation),
        accept,
        // EST-4.2.1-01: "The HTTP content-type of "application/pkcs10" is used here."
        content_type: Some(body::PKCS10),
        body: body::encode(csr.der()),
    }
}

/// Reads the answer to `GET cacerts`.
///
/// # Errors
/// Any answer but a readable 200: "Any other response code indicates an error and the client MUST
/// abort the protocol" (EST-4.1.3-02).
pub fn ca_certificates(
    answer: &HttpAnswer<'_>,
    tolerances: &BodyTolerances,
) -> Result<Outcome<CaCertificates>, Error> {
    if is_redirect(answer.status) {
        return redirected(answer);
    }
    if answer.status != 200 {
        return Err(refused(answer));
    }
    expect_type(answer, body::PKCS7_MIME)?;
    let (der, _) = body::decode(answer.body, body::ANSWER_SIZE_MAX_BYTES, tolerances)?;
    Ok(Outcome::Done(CaCertificates::new(
        pki::pkcs7::parse_certs_only(&der)?,
    )))
}

/// Reads the answer to `GET csrattrs`. EST-4.5.2-02: 204 and 404 mean that there are none, as
/// does an empty SEQUENCE (EST8951-4-02).
///
/// # Errors
/// Any other status than 200, or an unreadable body.
pub fn csr_attrs(
    answer: &HttpAnswer<'_>,
    tolerances: &BodyTolerances,
) -> Result<Outcome<Requirements>, Error> {
    match answer.status {
        204 | 404 => return Ok(Outcome::Done(Requirements::none())),
        200 => {}
        status if is_redirect(status) => return redirected(answer),
        _ => return Err(refused(answer)),
    }
    expect_type(answer, body::CSR_ATTRS)?;
    let (der, _) = body::decode(answer.body, body::ANSWER_SIZE_MAX_BYTES, tolerances)?;
    CsrAttrs::from_der(&der)?.requirements().map(Outcome::Done)
}

/// Reads the answer to `POST simpleenroll` and `POST simplereenroll`: the certificate must be for
/// `key` and lead to the domain's CA. `at` is the time to judge validity by, or `None` for a
/// device without a clock.
///
/// # Errors
/// The server refused, or its certificate is not one that may be used.
pub fn enrolled(
    answer: &HttpAnswer<'_>,
    key: &PublicKey,
    trust: &DomainTrust,
    at: Option<OffsetDateTime>,
    now: OffsetDateTime,
    tolerances: &BodyTolerances,
) -> Result<Outcome<Enrolled>, Error> {
    if let Some(outcome) = not_yet(answer, now)? {
        return Ok(outcome);
    }
    expect_type(answer, body::PKCS7_MIME)?;
    let (der, _) = body::decode(answer.body, body::ANSWER_SIZE_MAX_BYTES, tolerances)?;
    trust
        .accept(&pki::pkcs7::parse_certs_only(&der)?, key, at)
        .map(Outcome::Done)
}

/// A generated key with its certificate.
pub struct Generated {
    /// The key.
    pub key: pki::SoftwareKey,
    /// Its certificate.
    pub enrolled: Enrolled,
}

/// Shows the certificate only.
impl std::fmt::Debug for Generated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generated")
            .field("enrolled", &self.enrolled)
            .finish_non_exhaustive()
    }
}

/// Reads the answer to `POST serverkeygen`.
///
/// # Errors
/// The server refused, a part is missing, or key and certificate do not belong together.
pub fn generated(
    answer: &HttpAnswer<'_>,
    trust: &DomainTrust,
    at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<Outcome<Generated>, Error> {
    match not_yet(answer, now)? {
        Some(Outcome::Wait { after }) => return Ok(Outcome::Wait { after }),
        Some(Outcome::Redirect { location }) => return Ok(Outcome::Redirect { location }),
        Some(Outcome::Done(())) | None => {}
    }
    let parts = multipart::read(answer.content_type.unwrap_or_default(), answer.body)?;
    let key = pki::SoftwareKey::from_pkcs8_der(&parts.private_key_pkcs8)?;
    let certificates: Vec<Certificate> = pki::pkcs7::parse_certs_only(&parts.certificates_pkcs7)?;
    let enrolled = trust.accept(&certificates, pki::Signer::public_key(&key), at)?;
    Ok(Outcome::Done(Generated { key, enrolled }))
}

/// The kind of key that the server asks for; `None` if any will do.
///
/// # Errors
/// It asks for a kind that `pki` does not make.
pub fn key_kind(requirements: &Requirements) -> Result<Option<KeyKind>, Error> {
    let Some(key) = &requirements.key else {
        // A signature algorithm alone says as much about the key.
        return Ok(match requirements.signature_algorithm {
            Some(oids::ECDSA_SHA256) => Some(KeyKind::EcdsaP256),
            Some(oids::ECDSA_SHA384) => Some(KeyKind::EcdsaP384),
            Some(oids::ECDSA_SHA512) => Some(KeyKind::EcdsaP521),
            Some(oids::RSA_SHA256 | oids::RSA_SHA384 | oids::RSA_SHA512 | oids::RSA_PSS) => {
                Some(KeyKind::Rsa3072)
            }
            _ => None,
        });
    };
    match key {
        KeyRequirement::Ec {
            curve: None | Some(oids::SECP256R1),
        } => Ok(Some(KeyKind::EcdsaP256)),
        KeyRequirement::Ec {
            curve: Some(oids::SECP384R1),
        } => Ok(Some(KeyKind::EcdsaP384)),
        KeyRequirement::Ec {
            curve: Some(oids::SECP521R1),
        } => Ok(Some(KeyKind::EcdsaP521)),
        KeyRequirement::Rsa { bits: Some(2048) } => Ok(Some(KeyKind::Rsa2048)),
        KeyRequirement::Rsa {
            bits: None | Some(3072),
        } => Ok(Some(KeyKind::Rsa3072)),
        KeyRequirement::Rsa { bits: Some(4096) } => Ok(Some(KeyKind::Rsa4096)),
        KeyRequirement::Other(oids::ED25519) => Ok(Some(KeyKind::Ed25519)),
        KeyRequirement::Other(oids::ML_DSA_44) => Ok(Some(KeyKind::MlDsa44)),
        KeyRequirement::Other(oids::ML_DSA_65) => Ok(Some(KeyKind::MlDsa65)),
        KeyRequirement::Other(oids::ML_DSA_87) => Ok(Some(KeyKind::MlDsa87)),
        KeyRequirement::Ec { .. } | KeyRequirement::Rsa { .. } | KeyRequirement::Other(_) => {
            Err(Error::KeyKind)
        }
    }
}

/// Takes the answers that are no result yet.
fn not_yet<T>(answer: &HttpAnswer<'_>, now: OffsetDateTime) -> Result<Option<Outcome<T>>, Error> {
    match answer.status {
        200 => Ok(None),
        202 => Ok(Some(Outcome::Wait {
            after: retry_after(answer.retry_after, now),
        })),
        status if is_redirect(status) => redirected(answer).map(Some),
        // EST-3.2.3-02: a client that cannot answer the challenge ends here, and a certificate is
        // all that this client has.
        401 => Err(Error::HttpAuthentication),
        _ => Err(refused(answer)),
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn redirected<T>(answer: &HttpAnswer<'_>) -> Result<Outcome<T>, Error> {
    match answer.location {
        Some(location) => Ok(Outcome::Redirect {
            location: location.to_owned(),
        }),
        None => Err(refused(answer)),
    }
}

/// Longest part of a refusal's text that is kept.
const DETAIL_SIZE_MAX_CHARS: usize = 500;

fn refused(answer: &HttpAnswer<'_>) -> Error {
    // EST8951-5-01: a refusal may carry a text; whatever its type, it is only shown.
    let detail = String::from_utf8_lossy(answer.body)
        .chars()
        .filter(|character| !character.is_control())
        .take(DETAIL_SIZE_MAX_CHARS)
        .collect();
    Error::Status {
        status: answer.status,
        detail,
    }
}

fn expect_type(answer: &HttpAnswer<'_>, wanted: &str) -> Result<(), Error> {
    let found = answer.content_type.unwrap_or_default();
    // Parameters, above all smime-type, come and go between implementations.
    match MediaType::parse(found) {
        Some(media_type) if media_type.essence() == wanted => Ok(()),
        _ => Err(Error::MediaType(found.to_owned())),
    }
}

/// The wait when a 202 comes without a usable Retry-After, against RFC 7030.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(60);

/// The longest wait that a server may ask for; a longer one is cut to it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(4 * 24 * 60 * 60);

/// Reads a Retry-After header: seconds or an HTTP date.
#[must_use]
pub fn retry_after(value: Option<&str>, now: OffsetDateTime) -> Duration {
    let Some(value) = value.map(str::trim) else {
        return RETRY_AFTER_DEFAULT;
    };
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
            RETRY_AFTER_MAX
        }
        Err(_) => match time::PrimitiveDateTime::parse(value, HTTP_DATE) {
            Ok(date) => (date.assume_utc() - now)
                .try_into()
                .unwrap_or(Duration::ZERO),
            Err(_) => RETRY_AFTER_DEFAULT,
        },
    };
    wait.min(RETRY_AFTER_MAX)
}

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// Where a redirect may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// The same server, on the connection at hand or a new one: ask this path.
    SameOrigin {
        /// Path and query.
        path: String,
    },
    /// Another server, which must be authenticated and authorised anew (EST-3.2.1-03).
    OtherOrigin {
        /// The absolute URL.
        url: String,
    },
}

/// Whether a redirect may be followed, by
/// [RFC 7030 §3.2.1](https://www.rfc-editor.org/rfc/rfc7030.html#section-3.2.1). `requested` is
/// the URL of the request that was answered.
///
/// # Errors
/// The new place is not HTTPS, or another origin while the request was a POST and the operator
/// did not allow that.
pub fn redirect(
    requested: &str,
    method: &str,
    location: &str,
    other_origin_allowed: bool,
) -> Result<Redirect, Error> {
    let refuse = || Error::Redirect(location.chars().take(DETAIL_SIZE_MAX_CHARS).collect());
    let base = url::Url::parse(requested).map_err(|_| refuse())?;
    let target = base.join(location).map_err(|_| refuse())?;
    if target.scheme() != "https" || !target.username().is_empty() || target.password().is_some() {
        return Err(refuse());
    }
    if target.origin() == base.origin() {
        let mut path = target.path().to_owned();
        if let Some(query) = target.query() {
            path.push('?');
            path.push_str(query);
        }
        return Ok(Redirect::SameOrigin { path });
    }
    // EST-3.2.1-02: "Redirections to other web origins require the EST client to obtain user
    // input for non-GET or HEAD requests".
    if method != "GET" && !other_origin_allowed {
        return Err(refuse());
    }
    Ok(Redirect::OtherOrigin { url: target.into() })
}
