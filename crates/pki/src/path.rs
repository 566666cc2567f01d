//! Path validation: whether a certificate is believed, by [RFC 5280 §6] and explicit anchors.
//!
//! [`validate`] takes everything that matters as an argument: the certificate, whatever other
//! certificates came along in any order, the [`Anchors`], and [`PathOptions`] with the time, the
//! purpose, the expected name, CRLs and policies. It opens no socket and reads no clock.
//!
//! An anchor is a certificate whose *key* is trusted. It may be a root, an intermediate CA or an
//! end-entity certificate; the last one is a pin and vouches for itself only.
//!
//! [RFC 5280 §6]: https://www.rfc-editor.org/rfc/rfc5280.html#section-6

mod anchors;
mod constraints;
pub(crate) mod der;
mod error;
pub(crate) mod identity;
pub(crate) mod name;
mod policy;
mod purpose;
mod revocation;
mod search;
pub(crate) mod view;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use time::OffsetDateTime;

pub use self::anchors::Anchors;
pub use self::error::{PathError, Reason};
use self::revocation::CrlView;
use self::search::{Goal, Search};
use self::view::View;
use crate::{Certificate, Crl};

/// What the certificate at the end of the path is to be used for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Purpose {
    /// No demand on keyUsage or extendedKeyUsage.
    #[default]
    Any,
    /// A TLS server: no extendedKeyUsage, or serverAuth in it.
    Server,
    /// A TLS client: no extendedKeyUsage, or clientAuth in it.
    Client,
    /// A signer of vouchers: may make digital signatures. RFC 8995 names no extendedKeyUsage for it.
    Masa,
    /// A registrar: id-kp-cmcRA must be in its extendedKeyUsage (RFC 8995 §5.3 and §5.5.4).
    Registrar,
    /// An IDevID: no extendedKeyUsage, or clientAuth in it.
    Idevid,
}

/// The name that a TLS server has to prove, by RFC 9525: a DNS-ID or an IP-ID, never a common name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerName {
    /// A DNS name without wildcard.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "{name:?}"),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// What is done about revocation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Revocation {
    /// The CRLs are used where they fit; no CRL, or a stale one, is no reason to refuse.
    #[default]
    BestEffort,
    /// Each certificate below the anchor needs a current CRL that covers it for all reasons.
    Required,
}

/// The user's side of certificate policies, RFC 5280 §6.1.1 (c), (e), (f) and (g).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyOptions {
    /// The policies that are acceptable; empty means any.
    pub initial: Vec<ObjectIdentifier>,
    /// The path must be valid for at least one acceptable policy.
    pub require_explicit: bool,
    /// Policy mappings are not allowed.
    pub inhibit_mapping: bool,
    /// anyPolicy in a certificate counts for nothing.
    pub inhibit_any: bool,
}

/// Bounds on the work that a peer's certificates can cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathLimits {
    /// Intermediate certificates in a path, the self-issued ones not counted.
    pub intermediates_max: usize,
    /// Other certificates that a peer may send along.
    pub certificates_max: usize,
    /// Signature verifications, those of CRLs included.
    pub signatures_max: usize,
    /// Comparisons of a name with a name constraint.
    pub name_comparisons_max: usize,
    /// Certificates whose issuers are looked for, again in each path that is tried.
    pub steps_max: usize,
}

impl Default for PathLimits {
    fn default() -> Self {
        Self {
            intermediates_max: 8,
            certificates_max: 200,
            signatures_max: 64,
            name_comparisons_max: 50_000,
            steps_max: 500,
        }
    }
}

/// How a path is judged. The default ignores time, wants no purpose and no name.
#[derive(Clone, Debug, Default)]
pub struct PathOptions {
    /// The time at which the path has to be valid; `None` ignores validity periods.
    pub at: Option<OffsetDateTime>,
    /// What the certificate is to be used for.
    pub purpose: Purpose,
    /// The name that it has to prove.
    pub name: Option<ServerName>,
    /// CRLs, in any order.
    pub crls: Vec<Crl>,
    /// What is done when they do not say enough.
    pub revocation: Revocation,
    /// Certificate policies.
    pub policies: PolicyOptions,
    /// SHA-1 signatures and RSA keys under 2048 bits are good enough. Only for a manufacturer's old devices.
    pub tolerate_legacy_algorithms: bool,
    /// An anchor is trusted whatever its validity period says.
    pub tolerate_anchor_validity: bool,
    /// The rules that RFC 5280 §4 lays on issuers are enforced too: key identifiers present and
    /// matching, extensions critical where they must be, serial numbers positive. Off, they are
    /// not asked for, because factories do not all keep them and they are no part of §6.
    pub strict_profile: bool,
    /// Bounds on the work.
    pub limits: PathLimits,
}

impl PathOptions {
    /// Options for a purpose at a time.
    #[must_use]
    pub fn new(purpose: Purpose, at: OffsetDateTime) -> Self {
        Self {
            at: Some(at),
            purpose,
            ..Self::default()
        }
    }

    /// Demands a DNS name as well.
    #[must_use]
    pub fn with_dns_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(ServerName::Dns(name.into()));
        self
    }
}

/// A path that holds.
#[derive(Clone, Debug)]
pub struct ValidPath {
    certificates: Vec<Certificate>,
    policies: Vec<ObjectIdentifier>,
}

impl ValidPath {
    /// The certificates, leaf first, up to and including the anchor.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The certificate that was judged.
    #[must_use]
    pub fn leaf(&self) -> Option<&Certificate> {
        self.certificates.first()
    }

    /// The anchor that the path ends in.
    #[must_use]
    pub fn anchor(&self) -> Option<&Certificate> {
        self.certificates.last()
    }

    /// The policies that hold for the whole path: RFC 5280's user-constrained-policy-set.
    #[must_use]
    pub fn policies(&self) -> &[ObjectIdentifier] {
        &self.policies
    }
}

/// Builds a path from `leaf` through `others` to one of the `anchors` and validates it.
///
/// # Errors
/// The reason why the best path that was found does not hold, with its `path.*` code.
pub fn validate(
    leaf: &Certificate,
    others: &[Certificate],
    anchors: &Anchors,
    options: &PathOptions,
) -> Result<ValidPath, PathError> {
    let refuse = |reason, detail: String| PathError {
        reason,
        certificate: leaf.subject(),
        detail,
    };
    if anchors.is_empty() {
        return Err(refuse(
            Reason::NoAnchors,
            "there are no trust anchors".into(),
        ));
    }
    let limit = options.limits.certificates_max;
    if others.len() > limit || options.crls.len() > limit {
        return Err(refuse(
            Reason::TooComplex,
            format!("more than {limit} certificates or CRLs"),
        ));
    }
    let malformed =
        |error: der::Malformed| refuse(Reason::Malformed, format!("it has {}", error.0));
    let mut pool = vec![View::of(leaf).map_err(malformed)?];
    // What came along unasked and cannot be read cannot be part of a path either.
    for other in others {
        if other != leaf && !pool.iter().any(|view| view.certificate == other) {
            pool.extend(View::of(other).ok());
        }
    }
    let anchor_views = anchors.relevant_to(&pool);
    // An unreadable CRL is as good as none: with required revocation it will be missed.
    let crls: Vec<CrlView<'_>> = options
        .crls
        .iter()
        .filter_map(|crl| CrlView::of(crl).ok())
        .collect();
    let search = Search {
        options,
        pool: &pool,
        anchors: &anchor_views,
        crls: &crls,
        signatures_left: Cell::new(options.limits.signatures_max),
        name_comparisons_left: Cell::new(options.limits.name_comparisons_max),
        steps_left: Cell::new(options.limits.steps_max),
        edges: RefCell::new(HashMap::new()),
        crl_signers: RefCell::new(HashMap::new()),
        crl_signatures: RefCell::new(HashMap::new()),
        signers_in_progress: RefCell::new(Vec::new()),
    };
    let found = search.run(0, Goal::Target)?;
    let below = found.below.iter().filter_map(|&index| pool.get(index));
    let anchor = anchor_views.get(found.anchor);
    Ok(ValidPath {
        certificates: below
            .chain(anchor)
            .map(|view| view.certificate.clone())
            .collect(),
        policies: found
            .policies
            .iter()
            .filter_map(|oid| ObjectIdentifier::from_bytes(oid).ok())
            .collect(),
    })
}
