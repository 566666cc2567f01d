//! Why a server says no, and what the peer sees of it.

use der::asn1::ObjectIdentifier;
use pki::{Blame, Coded};

use crate::{Operation, body::BodyError};

/// A refusal. Each cause has its own code, and [`Refusal::status`] gives each its HTTP status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A holder of one of our certificates asks for a further one, and policy has one each.
    #[error("a device with a certificate of this domain re-enrols, it does not enrol anew")]
    AlreadyEnrolled,
    /// The body cannot be read. The peer's fault.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// No client certificate and no credentials, and this server takes certificates only.
    #[error("a client certificate is needed")]
    CertificateRequired,
    /// The request asks for another subject, which this server does not grant.
    #[error("ChangeSubjectName is not granted")]
    ChangeSubjectName,
    /// challengePassword is not the channel binding of this connection. The request may have been
    /// made for another connection.
    #[error("challengePassword is not the channel binding of this connection")]
    ChannelBindingMismatch,
    /// Policy demands the channel binding and there is none.
    #[error("the request must carry the channel binding in challengePassword")]
    ChannelBindingMissing,
    /// challengePassword is there and this connection has no binding to compare it with.
    #[error("this connection has no channel binding that challengePassword could be held against")]
    ChannelBindingUnavailable,
    /// No credentials, and this server takes a name and a password.
    #[error("credentials are needed")]
    CredentialsRequired,
    /// The request is malformed, or its proof of possession does not verify. The peer's fault.
    #[error(transparent)]
    Csr(#[from] pki::Error),
    /// The key that is to encrypt the private key is unknown here.
    #[error("the key that should encrypt the generated key is not known here ({0})")]
    DecryptKeyUnknown(&'static str),
    /// An extension that csrattrs demands is missing or has another value.
    #[error("the request lacks the extension {0} as /csrattrs demands it")]
    ExtensionMissing(ObjectIdentifier),
    /// Full CMC, which RFC 7030 leaves optional.
    #[error("full CMC is not supported")]
    FullCmcUnsupported,
    /// The key of the request is not of the kind that csrattrs demands.
    #[error("the key is not of the kind that /csrattrs demands")]
    KeyKind,
    /// The path names a label that is not configured.
    #[error("there is no CA with this label")]
    LabelUnknown,
    /// The body has another media type.
    #[error("the media type must be {}", crate::body::PKCS10)]
    MediaType,
    /// The operation is asked by another method.
    #[error("this operation is asked by {}", .0.method())]
    MethodNotAllowed(Operation),
    /// The Accept option leaves no format that this answer has.
    #[error("the answer has no format that the request accepts")]
    NotAcceptable,
    /// The peer is known and may not, by a decision outside of this crate.
    #[error("{reason}")]
    NotAuthorised {
        /// The stable code of that decision.
        code: &'static str,
        /// What may be told.
        reason: String,
    },
    /// The path names no operation.
    #[error("there is no such EST operation")]
    OperationUnknown,
    /// Re-enrolment by someone who holds no certificate of ours.
    #[error("re-enrolment needs the certificate that is to be renewed as the client certificate")]
    ReenrolCertificateMissing,
    /// Server-side key generation, which this server's policy leaves off.
    #[error("server-side key generation is not offered")]
    ServerKeyGenDisabled,
    /// The request is signed by another algorithm than csrattrs demands.
    #[error("the request is not signed by the algorithm that /csrattrs demands")]
    SignatureAlgorithm,
    /// Re-enrolment with another subject alternative name.
    #[error("the subjectAltName differs from that of the certificate to be renewed")]
    SubjectAltNameChanged,
    /// Re-enrolment with another subject.
    #[error("the subject differs from that of the certificate to be renewed")]
    SubjectChanged,
}

impl Refusal {
    /// The HTTP status that says this refusal. Total: a new cause must choose its own.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Body(BodyError::TooLarge { .. }) => 413,
            Self::Body(
                BodyError::BinaryDer | BodyError::Empty | BodyError::NotBase64 | BodyError::Pem,
            )
            | Self::ChannelBindingMissing
            | Self::ChannelBindingUnavailable
            | Self::Csr(_)
            | Self::DecryptKeyUnknown(_)
            | Self::ExtensionMissing(_)
            | Self::KeyKind
            | Self::SignatureAlgorithm
            | Self::SubjectAltNameChanged
            | Self::SubjectChanged => 400,
            Self::CredentialsRequired => 401,
            Self::AlreadyEnrolled
            | Self::CertificateRequired
            | Self::ChangeSubjectName
            | Self::ChannelBindingMismatch
            | Self::NotAuthorised { .. }
            | Self::ReenrolCertificateMissing => 403,
            Self::LabelUnknown | Self::OperationUnknown | Self::ServerKeyGenDisabled => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::NotAcceptable => 406,
            Self::MediaType => 415,
            Self::FullCmcUnsupported => 501,
        }
    }
}

impl Coded for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::AlreadyEnrolled => "est.already-enrolled",
            Self::Body(error) => error.code(),
            Self::CertificateRequired => "est.client-certificate-required",
            Self::ChangeSubjectName => "est.change-subject-name-refused",
            Self::ChannelBindingMismatch => "est.channel-binding-mismatch",
            Self::ChannelBindingMissing => "est.channel-binding-missing",
            Self::ChannelBindingUnavailable => "est.channel-binding-unavailable",
            Self::CredentialsRequired => "est.credentials-required",
            Self::Csr(error) => error.code(),
            Self::DecryptKeyUnknown(_) => "est.decrypt-key-unknown",
            Self::ExtensionMissing(_) => "est.csr-extension-missing",
            Self::FullCmcUnsupported => "est.full-cmc-unsupported",
            Self::KeyKind => "est.csr-key-kind",
            Self::LabelUnknown => "est.label-unknown",
            Self::MediaType => "est.media-type-unsupported",
            Self::MethodNotAllowed(_) => "est.method-not-allowed",
            Self::NotAcceptable => "est.not-acceptable",
            Self::NotAuthorised { code, .. } => code,
            Self::OperationUnknown => "est.operation-unknown",
            Self::ReenrolCertificateMissing => "est.reenrol-certificate-missing",
            Self::ServerKeyGenDisabled => "est.server-keygen-disabled",
            Self::SignatureAlgorithm => "est.csr-signature-algorithm",
            Self::SubjectAltNameChanged => "est.reenrol-san-changed",
            Self::SubjectChanged => "est.reenrol-subject-changed",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Body(error) => error.blame(),
            Self::Csr(error) => error.blame(),
            Self::AlreadyEnrolled
            | Self::CertificateRequired
            | Self::ChannelBindingMismatch
            | Self::ChannelBindingMissing
            | Self::CredentialsRequired
            | Self::DecryptKeyUnknown(_)
            | Self::ExtensionMissing(_)
            | Self::KeyKind
            | Self::LabelUnknown
            | Self::MediaType
            | Self::MethodNotAllowed(_)
            | Self::NotAuthorised { .. }
            | Self::OperationUnknown
            | Self::ReenrolCertificateMissing
            | Self::SignatureAlgorithm
            | Self::SubjectAltNameChanged
            | Self::SubjectChanged => Blame::PeerMisbehaved,
            Self::ChangeSubjectName
            | Self::ChannelBindingUnavailable
            | Self::FullCmcUnsupported
            | Self::NotAcceptable
            | Self::ServerKeyGenDisabled => Blame::PeerIncompatible,
        }
    }
}
