//! Why a path is refused.

use crate::{Blame, Coded};

/// The rule that a path breaks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The signature or key algorithm is not one that we verify.
    AlgorithmUnsupported,
    /// An issuer is not a CA by its basicConstraints.
    BasicConstraints,
    /// A CRL that is needed is past its nextUpdate.
    CrlExpired,
    /// A CRL that is needed is malformed, wrongly signed or has an unknown critical extension.
    CrlInvalid,
    /// No CRL covers a certificate, and CRLs are required.
    CrlMissing,
    /// A critical extension is not understood.
    CriticalExtension,
    /// The extendedKeyUsage does not allow the purpose.
    ExtendedKeyUsage,
    /// A certificate's validity is over.
    Expired,
    /// Key identifiers are absent or do not match (strict profile only).
    KeyIdentifier,
    /// The keyUsage does not allow what the key is used for.
    KeyUsage,
    /// A certificate or one of its extensions is malformed.
    Malformed,
    /// A name is outside the name constraints of a CA above.
    NameConstraint,
    /// The certificate does not carry the expected name.
    NameMismatch,
    /// There are no anchors at all.
    NoAnchors,
    /// A certificate's validity has not begun.
    NotYetValid,
    /// There are more CA certificates than allowed.
    PathLength,
    /// No acceptable certificate policy holds for the whole path.
    Policy,
    /// A rule of the strict certificate profile is broken.
    Profile,
    /// A certificate is revoked.
    Revoked,
    /// A signature does not verify.
    Signature,
    /// The search was given up because a limit was reached.
    TooComplex,
    /// No path leads to an anchor.
    UnknownIssuer,
    /// A public key is too short.
    WeakKey,
    /// A signature uses SHA-1.
    WeakSignature,
}

impl Reason {
    /// The stable dotted code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::AlgorithmUnsupported => "path.algorithm-unsupported",
            Self::BasicConstraints => "path.basic-constraints",
            Self::CrlExpired => "path.crl-expired",
            Self::CrlInvalid => "path.crl-invalid",
            Self::CrlMissing => "path.crl-missing",
            Self::CriticalExtension => "path.critical-extension",
            Self::ExtendedKeyUsage => "path.eku",
            Self::Expired => "path.expired",
            Self::KeyIdentifier => "path.key-identifier",
            Self::KeyUsage => "path.key-usage",
            Self::Malformed => "path.malformed",
            Self::NameConstraint => "path.name-constraint",
            Self::NameMismatch => "path.name-mismatch",
            Self::NoAnchors => "path.no-anchors",
            Self::NotYetValid => "path.not-yet-valid",
            Self::PathLength => "path.path-length",
            Self::Policy => "path.policy",
            Self::Profile => "path.profile",
            Self::Revoked => "path.revoked",
            Self::Signature => "path.signature",
            Self::TooComplex => "path.too-complex",
            Self::UnknownIssuer => "path.unknown-issuer",
            Self::WeakKey => "path.weak-key",
            Self::WeakSignature => "path.weak-signature",
        }
    }
}

/// A refused path: which rule, at which certificate, and the particulars.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {detail} (at certificate {certificate:?})", reason.code())]
pub struct PathError {
    /// The rule.
    pub reason: Reason,
    /// The subject of the certificate that breaks it.
    pub certificate: String,
    /// The particulars, for a person.
    pub detail: String,
}

impl Coded for PathError {
    fn code(&self) -> &'static str {
        self.reason.code()
    }

    fn blame(&self) -> Blame {
        match self.reason {
            Reason::NoAnchors => Blame::Caller,
            Reason::AlgorithmUnsupported
            | Reason::CriticalExtension
            | Reason::CrlExpired
            | Reason::CrlMissing
            | Reason::TooComplex
            | Reason::UnknownIssuer
            | Reason::WeakKey
            | Reason::WeakSignature => Blame::PeerIncompatible,
            Reason::BasicConstraints
            | Reason::CrlInvalid
            | Reason::ExtendedKeyUsage
            | Reason::Expired
            | Reason::KeyIdentifier
            | Reason::KeyUsage
            | Reason::Malformed
            | Reason::NameConstraint
            | Reason::NameMismatch
            | Reason::NotYetValid
            | Reason::PathLength
            | Reason::Policy
            | Reason::Profile
            | Reason::Revoked
            | Reason::Signature => Blame::PeerMisbehaved,
        }
    }
}
