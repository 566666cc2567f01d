//! What can be wrong with an artefact, each cause with a stable dotted code.

use std::fmt;

use pki::{Blame, Coded};

/// The document a fault was found in; it is the first half of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Document {
    /// The MASA's audit log of one device.
    AuditLog,
    /// Conveyed information, owner certificate and voucher together.
    BootstrappingData,
    /// Conveyed information of RFC 8572.
    ConveyedInformation,
    /// An owner certificate of RFC 8572.
    OwnerCertificate,
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
            Self::BootstrappingData => "bootstrapping data",
            Self::ConveyedInformation => "conveyed information",
            Self::OwnerCertificate => "owner certificate",
            Self::Request => "voucher request",
            Self::Telemetry => "telemetry",
            Self::Voucher => "voucher",
        })
    }
}

macro_rules! faults {
    ($( $(#[$doc:meta])* $variant:ident = $first:literal $(| $other:literal)* ),* $(,)?) => {
        /// One cause of refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Fault { $( $(#[$doc])* $variant ),* }

        impl Fault {
            /// Every cause, for documentation and tests.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The dotted codes of this cause, one for each document that can have it.
            #[must_use]
            pub fn codes(self) -> (&'static str, &'static [&'static str]) {
                match self { $( Self::$variant => ($first, &[$($other),*]) ),* }
            }
        }
    };
}

impl Fault {
    /// The dotted code of this cause in `document`.
    #[must_use]
    pub fn code(self, document: Document) -> &'static str {
        let area = match document {
            Document::AuditLog => "audit",
            Document::BootstrappingData => "bundle",
            Document::ConveyedInformation => "conveyed",
            Document::OwnerCertificate => "owner",
            Document::Request => "request",
            Document::Telemetry => "telemetry",
            Document::Voucher => "voucher",
        };
        let (first, others) = self.codes();
        let is_mine = |code: &&&str| code.split('.').next() == Some(area);
        others.iter().find(is_mine).copied().unwrap_or(first)
    }
}

faults! {
    /// Local policy does not accept this assertion.
    AssertionRefused = "voucher.assertion-refused",
    /// The pledge's request does not ask for the proximity assertion.
    AssertionNotProximity = "request.assertion-not-proximity",
    /// The assertion is none of the four that are defined.
    BadAssertion = "voucher.bad-assertion" | "request.bad-assertion" | "audit.bad-assertion",
    /// A binary leaf is not base64 as RFC 4648 §4 has it.
    BadBase64 = "voucher.bad-base64" | "request.bad-base64" | "audit.bad-base64" | "conveyed.bad-base64",
    /// A leaf that must be a DER certificate is not one.
    BadCertificate = "voucher.bad-certificate" | "request.bad-certificate",
    /// A date is not RFC 3339.
    BadDate = "voucher.bad-date" | "request.bad-date" | "audit.bad-date",
    /// The list of extensions is malformed.
    BadExtension = "voucher.bad-extension" | "request.bad-extension",
    /// idevid-issuer is not the value of an authority key identifier extension.
    BadIdevidIssuer = "voucher.bad-idevid-issuer" | "request.bad-idevid-issuer",
    /// The nonce is not base64 of 8 to 32 octets.
    BadNonce = "voucher.bad-nonce" | "request.bad-nonce",
    /// A leaf that must be a SubjectPublicKeyInfo or its SHA-256 is not one.
    BadPublicKey = "voucher.bad-public-key" | "request.bad-public-key",
    /// The serial number is empty, too long, or has control characters.
    BadSerialNumber = "voucher.bad-serial-number" | "request.bad-serial-number",
    /// A leaf that must be a URI is not one.
    BadUri = "voucher.bad-uri" | "conveyed.bad-uri",
    /// The text begins with a byte order mark.
    ByteOrderMark = "voucher.byte-order-mark" | "request.byte-order-mark" | "audit.byte-order-mark" | "telemetry.byte-order-mark" | "conveyed.byte-order-mark",
    /// expires-on has to be judged and there is no clock.
    ClockNeeded = "voucher.clock-needed",
    /// The voucher pins another domain than the expected one.
    DomainMismatch = "voucher.domain-mismatch",
    /// A member stands twice in one object; readers would not agree on which one counts.
    DuplicateMember = "voucher.duplicate-member" | "request.duplicate-member" | "audit.duplicate-member" | "telemetry.duplicate-member" | "conveyed.duplicate-member",
    /// expires-on has passed.
    Expired = "voucher.expired",
    /// expires-on lies beyond the end of the pinned certificate.
    ExpiresAfterPin = "voucher.expires-after-pin",
    /// idevid-issuer is not that of the device's IDevID.
    IdevidIssuerMismatch = "voucher.idevid-issuer-mismatch" | "request.idevid-issuer-mismatch",
    /// A registrar's request has no idevid-issuer.
    IdevidIssuerMissing = "request.idevid-issuer-missing",
    /// created-on lies in the future.
    InFuture = "request.in-future" | "voucher.in-future",
    /// A member that must be there is not.
    MissingMember = "voucher.missing-member" | "request.missing-member" | "audit.missing-member" | "telemetry.missing-member" | "conveyed.missing-member",
    /// The request has no nonce, or the voucher lacks the one that was sent.
    NonceMissing = "voucher.nonce-missing" | "request.nonce-missing",
    /// The nonce is another one: the artefact answers another request.
    NonceMismatch = "voucher.nonce-mismatch" | "request.nonce-mismatch",
    /// nonce and expires-on stand together.
    NonceAndExpiresOn = "voucher.nonce-and-expires-on" | "request.nonce-and-expires-on",
    /// The voucher pins nothing.
    NoPin = "voucher.no-pin",
    /// Base64 or PEM stands where binary belongs.
    NotBinary = "voucher.not-binary" | "request.not-binary",
    /// It is not CBOR, or octets come after it.
    NotCbor = "voucher.not-cbor" | "request.not-cbor" | "telemetry.not-cbor",
    /// The text is not JSON.
    NotJson = "voucher.not-json" | "request.not-json" | "audit.not-json" | "telemetry.not-json" | "conveyed.not-json",
    /// The signer's certificate does not have the registrar's key purpose cmcRA.
    NotRegistrar = "request.not-registrar",
    /// The text is not UTF-8.
    NotUtf8 = "voucher.not-utf8" | "request.not-utf8" | "audit.not-utf8" | "telemetry.not-utf8" | "conveyed.not-utf8",
    /// The registrar's certificate chain does not lead to the pinned certificate or key.
    PinMismatch = "voucher.pin-mismatch",
    /// The pledge's request inside does not verify.
    PriorInvalid = "request.prior-invalid",
    /// The nonce differs from the one of the pledge's request inside.
    PriorNonceMismatch = "request.prior-nonce-mismatch",
    /// The pledge's request inside is not the one that was named.
    PriorMismatch = "request.prior-mismatch",
    /// The serial number differs from the one in the pledge's request inside or in its signer's certificate.
    PriorSerialMismatch = "request.prior-serial-mismatch",
    /// The pledge's request names another registrar.
    ProximityMismatch = "request.proximity-mismatch",
    /// The pledge's request names no registrar.
    ProximityMissing = "request.proximity-missing",
    /// A registrar's request contains proximity evidence of its own.
    ProximityNotAllowed = "request.proximity-not-allowed",
    /// last-renewal-date stands without expires-on.
    RenewalWithoutExpiry = "voucher.last-renewal-without-expires-on",
    /// The voucher demands that revocation is checked, and no CRL is known.
    RevocationUnknown = "voucher.revocation-unknown",
    /// The serial number is another device's.
    SerialMismatch = "voucher.serial-mismatch" | "request.serial-mismatch",
    /// The signer is not the peer that sent it, not the one that was named, or not of the right kind (a device signed a voucher).
    SignerMismatch = "voucher.signer-mismatch" | "request.signer-mismatch",
    /// created-on is too long ago.
    Stale = "request.stale",
    /// The JSON is nested too deeply.
    TooDeep = "voucher.too-deep" | "request.too-deep" | "audit.too-deep" | "telemetry.too-deep" | "conveyed.too-deep",
    /// It is larger than the limit.
    TooLarge = "voucher.too-large" | "request.too-large" | "audit.too-large" | "telemetry.too-large" | "conveyed.too-large",
    /// The top-level member is not the one for this document.
    TopLevelName = "voucher.top-level-name" | "request.top-level-name" | "conveyed.top-level-name",
    /// It is none of CMS, JWS and COSE.
    Unrecognised = "voucher.unrecognised-format" | "request.unrecognised-format" | "conveyed.unrecognised-format",
    /// The format is known by name and not supported.
    Unsupported = "voucher.unsupported" | "request.unsupported",
    /// The media type is none of a voucher, or not that of the content.
    WrongMediaType = "voucher.wrong-media-type" | "request.wrong-media-type",
    /// A member has another JSON type than its schema says.
    WrongType = "voucher.wrong-type" | "request.wrong-type" | "audit.wrong-type" | "telemetry.wrong-type" | "conveyed.wrong-type",
    /// The address of a bootstrap server is neither a host name nor an IP address.
    BadAddress = "conveyed.bad-address",
    /// configuration-handling is neither merge nor replace.
    BadHandling = "conveyed.bad-configuration-handling",
    /// The hash of an image is not the hexadecimal octets, with colons, of its algorithm.
    BadHash = "conveyed.bad-hash",
    /// A port is not a number from 0 to 65535.
    BadPort = "conveyed.bad-port",
    /// A trust anchor is not a degenerate SignedData with one chain and its root.
    BadTrustAnchor = "conveyed.bad-trust-anchor",
    /// Redirect and onboarding information stand together.
    BothKinds = "conveyed.both-kinds",
    /// configuration stands without configuration-handling.
    ConfigurationWithoutHandling = "conveyed.configuration-without-handling",
    /// The CMS content type is none that can be there.
    ContentType = "conveyed.content-type" | "owner.content-type" | "voucher.content-type",
    /// The artefact is encrypted and there is no key to decrypt it.
    DecryptionKeyMissing = "bundle.decryption-key-missing",
    /// One hash algorithm stands twice.
    DuplicateHash = "conveyed.duplicate-hash-algorithm",
    /// One address stands twice in the list of bootstrap servers.
    DuplicateServer = "conveyed.duplicate-server",
    /// One URI stands twice.
    DuplicateUri = "conveyed.duplicate-uri",
    /// Onboarding information that says nothing.
    Empty = "conveyed.empty",
    /// The CMS content type says JSON and the content is XML, or the other way round.
    EncodingMismatch = "conveyed.encoding-mismatch",
    /// Unsigned information came with a voucher or an owner certificate.
    Grouping = "bundle.grouping",
    /// configuration-handling stands without configuration.
    HandlingWithoutConfiguration = "conveyed.handling-without-configuration",
    /// The key usage of the owner certificate does not allow signatures.
    KeyUsage = "owner.key-usage",
    /// There is no certificate in the owner certificate.
    NoCertificates = "owner.no-certificates",
    /// The SignedData has signers or content, the degenerate form has neither.
    NotDegenerate = "owner.not-degenerate",
    /// The CMS is BER, or octets come after it.
    NotDer = "conveyed.not-der" | "owner.not-der" | "voucher.not-der",
    /// The text is not XML.
    NotXml = "conveyed.not-xml" | "voucher.not-xml",
    /// Signed information came without an owner certificate.
    OwnerCertificateMissing = "bundle.owner-certificate-missing",
    /// The owner certificate does not lead to the voucher's pinned certificate.
    OwnerNotPinned = "owner.not-pinned",
    /// Which certificate of the artefact is the owner certificate cannot be told.
    SeveralLeaves = "owner.several-leaves",
    /// The information is not signed by a certificate of the owner certificate artefact.
    SignerNotOwner = "bundle.signer-not-owner",
    /// A hash algorithm is not known.
    UnknownHash = "conveyed.unknown-hash-algorithm",
    /// A node is not in the data model.
    UnknownMember = "conveyed.unknown-member",
    /// Onboarding information that nobody vouches for: unsigned and from an untrusted source.
    UntrustedOnboarding = "bundle.untrusted-onboarding",
    /// image-verification stands without download-uri.
    VerificationWithoutUri = "conveyed.verification-without-uri",
    /// Signed information came without an ownership voucher.
    VoucherMissing = "bundle.voucher-missing",
    /// An XML element is in another namespace than the module's.
    WrongNamespace = "conveyed.wrong-namespace",
    /// The XML has a document type declaration.
    XmlDoctype = "conveyed.xml-doctype" | "voucher.xml-doctype",
    /// The XML refers to an entity of its own.
    XmlEntity = "conveyed.xml-entity" | "voucher.xml-entity",
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
                Fault::ClockNeeded | Fault::DecryptionKeyMissing | Fault::RevocationUnknown => {
                    Blame::Ours
                }
                _ => Blame::PeerMisbehaved,
            },
            Self::Path(error) => error.blame(),
            Self::Pki(error) => error.blame(),
        }
    }
}
