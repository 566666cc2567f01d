//! What can go wrong, on either side.

use pki::{Blame, Coded};

use crate::{body::BodyError, server::Refusal};

/// An error of EST's codecs or of its client side. What a server answers is a [`Refusal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The body of an answer cannot be read. The server's fault.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The answer to `/cacerts` holds no self-signed CA certificate that the pin leads to. The
    /// server's fault, or someone between.
    #[error("CA certificates: {0}")]
    CaCertificates(&'static str),
    /// The issued certificate is not for the key of the request. The server's fault.
    #[error("no certificate in the answer is for the requested key")]
    CertificateKey,
    /// The issued certificate does not lead to the domain's CA. The server's fault.
    #[error("the issued certificate does not lead to the CA: {0}")]
    CertificateUntrusted(String),
    /// Over CoAP, the server refuses or fails.
    #[error("the server answered {code}: {detail}")]
    Code {
        /// Its response code.
        code: coap::Code,
        /// What it said, cut to a safe length.
        detail: String,
    },
    /// CSR attributes break their syntax. The server's fault when read, the caller's when written.
    #[error("CSR attributes: {0}")]
    CsrAttrs(&'static str),
    /// CSR attributes are not DER. The server's fault.
    #[error("CSR attributes: {0}")]
    CsrAttrsDer(der::Error),
    /// The server demands HTTP authentication that we do not have or would not send.
    #[error("the server demands HTTP authentication")]
    HttpAuthentication,
    /// The key at hand is not of the kind that the server asks for.
    #[error("the server asks for another kind of key")]
    KeyKind,
    /// The answer has another media type than the operation's.
    #[error("the answer's media type is {0:?}")]
    MediaType(String),
    /// A multipart answer breaks its syntax. The server's fault.
    #[error("multipart answer: {0}")]
    Multipart(&'static str),
    /// Certificates or keys; the inner error says whose fault it is.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The server sends us to another place, which policy forbids.
    #[error("redirect to {0:?} is not followed")]
    Redirect(String),
    /// We, as a server, refuse.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server refuses or fails.
    #[error("the server answered {status}: {detail}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What it said, cut to a safe length.
        detail: String,
    },
}

impl Error {
    pub(crate) fn csr_attrs(error: der::Error) -> Self {
        Self::CsrAttrsDer(error)
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Body(error) => error.code(),
            Self::CaCertificates(_) => "est.cacerts-unusable",
            Self::CertificateKey => "est.certificate-key-mismatch",
            Self::CertificateUntrusted(_) => "est.certificate-untrusted",
            Self::CsrAttrs(_) | Self::CsrAttrsDer(_) => "est.csrattrs-malformed",
            Self::HttpAuthentication => "est.http-authentication-demanded",
            Self::KeyKind => "est.key-kind-unavailable",
            Self::MediaType(_) => "est.answer-media-type",
            Self::Multipart(_) => "est.multipart-malformed",
            Self::Pki(error) => error.code(),
            Self::Redirect(_) => "est.redirect-refused",
            Self::Refused(refusal) => refusal.code(),
            Self::Code { .. } | Self::Status { .. } => "est.answer-status",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Body(error) => error.blame(),
            Self::Pki(error) => error.blame(),
            Self::Refused(refusal) => refusal.blame(),
            Self::CaCertificates(_)
            | Self::CertificateKey
            | Self::CertificateUntrusted(_)
            | Self::Code { .. }
            | Self::CsrAttrs(_)
            | Self::CsrAttrsDer(_)
            | Self::MediaType(_)
            | Self::Multipart(_)
            | Self::Redirect(_)
            | Self::Status { .. } => Blame::PeerMisbehaved,
            Self::HttpAuthentication | Self::KeyKind => Blame::PeerIncompatible,
        }
    }
}
