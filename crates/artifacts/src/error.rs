//! What can be wrong with an artefact, each cause with a stable dotted code.

use std::fmt;

use pki::{Blame, Coded};

/// The document a fault was found in; it is the first half of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Document {
    /// The MASA's audit log of one device.
    AuditLog,
    /// A voucher request of a pledge or of a registrar.
    Request,
    /// Voucher status or enrolment status telemetry.
    Telemetry,
    /// A voucher.
    Voucher,
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuditLog => "audit log",
            Self::Request => "voucher request",
            Self::Telemetry => "telemetry",
            Self::Voucher => "voucher",
        })
    }
}

macro_rules! faults {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal ),* $(,)?) => {
        /// One cause of refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Fault { $( $(#[$doc])* $variant ),* }

        impl Fault {
            /// Every cause, for documentation and tests.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The dotted code of this cause in `document`.
            #[must_use]
            pub fn code(self, document: Document) -> &'static str {
                match document {
                    Document::AuditLog => match self { $( Self::$variant => concat!("audit.", $code) ),* },
                    Document::Request => match self { $( Self::$variant => concat!("request.", $code) ),* },
                    Document::Telemetry => match self { $( Self::$variant => concat!("telemetry.", $code) ),* },
                    Document::Voucher => match self { $( Self::$variant => concat!("voucher.", $code) ),* },
                }
            }
        }
    };
}

faults! {
    /// Local policy does not accept this assertion.
    AssertionRefused = "assertion-refused",
    /// The pledge's request does not ask for the proximity assertion.
    AssertionNotProximity = "assertion-not-proximity",
    /// The assertion is none of the four that are defined.
    BadAssertion = "bad-assertion",
    /// A binary leaf is not base64.
    BadBase64 = "bad-base64",
    /// A leaf that must be a DER certificate is not one.
    BadCertificate = "bad-certificate",
    /// A date is not RFC 3339.
    BadDate = "bad-date",
    /// The list of extensions is malformed.
    BadExtension = "bad-extension",
    /// idevid-issuer is not an authority key identifier.
    BadIdevidIssuer = "bad-idevid-issuer",
    /// The nonce is not base64 of 8 to 32 octets.
    BadNonce = "bad-nonce",
    /// A leaf that must be a SubjectPublicKeyInfo or its hash is not one.
    BadPublicKey = "bad-public-key",
    /// The serial number is empty, too long, or has control characters.
    BadSerialNumber = "bad-serial-number",
    /// A leaf that must be a URI is not one.
    BadUri = "bad-uri",
    /// The text begins with a byte order mark.
    ByteOrderMark = "byte-order-mark",
    /// expires-on has to be judged and there is no clock.
    ClockNeeded = "clock-needed",
    /// The voucher pins another domain than the expected one.
    DomainMismatch = "domain-mismatch",
    /// A member stands twice in one object.
    DuplicateMember = "duplicate-member",
    /// expires-on has passed.
    Expired = "expired",
    /// expires-on lies beyond the end of the pinned certificate.
    ExpiresAfterPin = "expires-after-pin",
    /// idevid-issuer is not that of the pledge's IDevID.
    IdevidIssuerMismatch = "idevid-issuer-mismatch",
    /// A registrar's request has no idevid-issuer.
    IdevidIssuerMissing = "idevid-issuer-missing",
    /// created-on lies in the future.
    InFuture = "in-future",
    /// A member that must be there is not.
    MissingMember = "missing-member",
    /// The request has no nonce, or the voucher lacks the one that was sent.
    NonceMissing = "nonce-missing",
    /// The nonce is another one.
    NonceMismatch = "nonce-mismatch",
    /// nonce and expires-on stand together.
    NonceAndExpiresOn = "nonce-and-expires-on",
    /// There is no nonce, and policy wants one.
    NoncelessRefused = "nonceless-refused",
    /// The voucher pins nothing.
    NoPin = "no-pin",
    /// Text armour (base64 or PEM) stands where binary belongs.
    NotBinary = "not-binary",
    /// The text is not JSON.
    NotJson = "not-json",
    /// The signer's certificate does not have the registrar's purpose cmcRA.
    NotRegistrar = "not-registrar",
    /// The text is not UTF-8.
    NotUtf8 = "not-utf8",
    /// The registrar's certificate chain does not lead to the pinned certificate or key.
    PinMismatch = "pin-mismatch",
    /// The pledge's request inside does not verify.
    PriorInvalid = "prior-invalid",
    /// The nonce differs from the one of the pledge's request inside.
    PriorNonceMismatch = "prior-nonce-mismatch",
    /// The pledge's request inside is not the one that it should be.
    PriorMismatch = "prior-mismatch",
    /// The serial number differs from the one of the pledge's request inside or its signer.
    PriorSerialMismatch = "prior-serial-mismatch",
    /// The pledge's request names another registrar.
    ProximityMismatch = "proximity-mismatch",
    /// The pledge's request names no registrar.
    ProximityMissing = "proximity-missing",
    /// A registrar's request contains proximity evidence of its own.
    ProximityNotAllowed = "proximity-not-allowed",
    /// last-renewal-date stands without expires-on.
    RenewalWithoutExpiry = "last-renewal-without-expires-on",
    /// The status of the pinned certificate has to be checked and is not known.
    RevocationUnknown = "revocation-unknown",
    /// The serial number is another device's.
    SerialMismatch = "serial-mismatch",
    /// The signer is not the peer that sent it, or not the one that was named.
    SignerMismatch = "signer-mismatch",
    /// created-on is too long ago.
    Stale = "stale",
    /// Nested too deeply.
    TooDeep = "too-deep",
    /// Larger than the limit.
    TooLarge = "too-large",
    /// The top-level member is not the one for this document.
    TopLevelName = "top-level-name",
    /// No known encoding.
    Unrecognised = "unrecognised-format",
    /// Known, and not supported here.
    Unsupported = "unsupported",
    /// A document of another kind than the one that was asked for.
    WrongKind = "wrong-kind",
    /// The envelope's payload or media type is not the one for this document.
    WrongMediaType = "wrong-media-type",
    /// A member has another JSON type than its schema says.
    WrongType = "wrong-type",
}

/// Why an artefact was refused, or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The document is at fault; usually the peer that made it.
    #[error("{document}: {detail}")]
    Document {
        /// Which document.
        document: Document,
        /// Which cause.
        fault: Fault,
        /// What exactly, for a person.
        detail: String,
    },
    /// The path from the signer to an anchor; usually the peer.
    #[error(transparent)]
    Path(#[from] pki::path::PathError),
    /// The envelope, a certificate, or a key.
    #[error(transparent)]
    Pki(#[from] pki::Error),
}

impl Error {
    pub(crate) fn new(document: Document, fault: Fault, detail: impl Into<String>) -> Self {
        Self::Document {
            document,
            fault,
            detail: detail.into(),
        }
    }

    /// The cause, when the document itself is at fault.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Document { fault, .. } => Some(*fault),
            Self::Path(_) | Self::Pki(_) => None,
        }
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Document {
                document, fault, ..
            } => fault.code(*document),
            Self::Path(error) => error.code(),
            Self::Pki(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Document { fault, .. } => match fault {
                Fault::Unrecognised | Fault::Unsupported | Fault::WrongMediaType => {
                    Blame::PeerIncompatible
                }
                Fault::ClockNeeded | Fault::RevocationUnknown => Blame::Ours,
                _ => Blame::PeerMisbehaved,
            },
            Self::Path(error) => error.blame(),
            Self::Pki(error) => error.blame(),
        }
    }
}
