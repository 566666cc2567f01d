//! The MASA's side of [RFC 8995 §5.5 to §5.8](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5).
//!
//! A service calls, in this order:
//! 1. [`open_request`], outside of any transaction: everything that needs only the bytes, the
//!    anchors and the time. It proves the signatures and yields a [`Request`].
//! 2. its database, for the [`Facts`] about the device ([`Request::device_key`]) and about the
//!    owner ([`Request::domain`]).
//! 3. [`decide`], inside the transaction that also writes what it says: a [`Grant`] holds the
//!    voucher's content, the class of key to sign it with, the audit event, the change of holder.
//! 4. [`open_audit_request`] and [`answer_audit`] for the audit log.

mod audit;
mod decide;
mod refusal;
mod request;

pub use audit::{AuditTruncation, answer_audit, audit_log};
pub use decide::decide;
pub use refusal::Refusal;
pub use request::{Devices, Inbound, KeyPin, Prior, Request, open_audit_request, open_request};

use artifacts::{Assertion, Envelope, Tolerances, Voucher};
use pki::Certificate;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{domain::DomainKey, stored};

/// How a MASA decides. Everything here comes from its configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which certificate of the registrar's chain a voucher pins, unless the owner says otherwise.
    /// It is also the one by which a holder is known, whatever a voucher in COSE pins.
    pub pin: Pin,
    /// The same for vouchers in COSE with a nonce, which a constrained device checks against this
    /// very connection: the closer to the registrar, the less it has to fetch and to verify.
    pub constrained_pin: Pin,
    /// Whether a pledge that names its registrar by key, or by the hash of it, gets just that
    /// pinned, which makes the smallest voucher.
    pub key_pins: bool,
    /// Oldest `created-on` of a voucher request that is still served; `None` ignores the leaf.
    pub request_age_max: Option<Duration>,
    /// Whether registrars that no owner registered get nonced vouchers (audit only).
    pub unknown_registrars: bool,
    /// Whether a nonced request has to carry the pledge's own request, unless the register of
    /// owners proves whose device it is. Without that, anybody could claim any serial number.
    pub prior_required: bool,
    /// Whether a device that nobody bought is given to the first domain that asks.
    pub first_come: bool,
    /// Lifetime of a nonceless voucher for a device with a clock.
    pub voucher_lifetime: Duration,
    /// What to do if the chain names revocation servers and no status could be had.
    pub revocation_required: bool,
    /// Known quirks of registrars that are let pass.
    pub tolerances: Tolerances,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            pin: Pin::TopOfChain,
            // CBR-103: A nonced voucher pins the lowest CA of the registrar chain.
            constrained_pin: Pin::Issuer,
            key_pins: true,
            request_age_max: Some(Duration::minutes(15)),
            unknown_registrars: true,
            prior_required: true,
            first_come: true,
            voucher_lifetime: Duration::minutes(20),
            revocation_required: false,
            tolerances: Tolerances::default(),
        }
    }
}

/// Which certificate of the registrar's verified chain is pinned
/// ([RFC 8995 §5.5.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// The registrar's own certificate: the tightest binding, broken by a key change.
    EndEntity,
    /// The certificate that issued the registrar's, or the registrar's own if it came alone.
    Issuer,
    /// The certificate farthest from the registrar that it sent along.
    TopOfChain,
}

/// What identifies a device: who issued its IDevID, and its serial number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceKey {
    /// Key identifier of the issuer of the IDevID, where one is known.
    pub issuer_key_id: Option<Vec<u8>>,
    /// The serial number, exactly as in the IDevID.
    pub serial: String,
}

/// What the register says about a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceRecord {
    /// The owner (its identifier in the register of owners) that bought the device.
    pub sold_to: Option<String>,
    /// The domain that was given the device and has not released it.
    pub holder: Option<Holder>,
    /// Set if no voucher may be issued: the reason.
    pub blocked: Option<String>,
    /// SHA-256 of the public key in the device's IDevID, imported or seen first.
    pub idevid_key: Option<[u8; 32]>,
    /// Whether the device has a clock that it can trust from the factory on.
    pub has_clock: bool,
    /// Whether another device of this MASA has the same serial number.
    pub serial_ambiguous: bool,
    /// The formats that the device can process; empty for all.
    pub formats: Vec<Envelope>,
    /// The least assertion under which this product is handed over.
    pub assertion_min: Option<Assertion>,
}

/// The domain that holds a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The key of the domain, as [`Policy::pin`] says which one that is.
    pub domain: DomainKey,
    /// The owner behind it, if it is a registered one.
    pub owner: Option<String>,
}

/// A registered owner whose certificates fit the request.
///
/// The service finds it by [`Domain::keys`] and [`Domain::issuer_key_id`]; [`decide`] proves that
/// the registrar's chain really ends there.
#[derive(Clone, Debug)]
pub struct OwnerRecord {
    /// The identifier in the register of owners.
    pub id: String,
    /// Certificates of the owner's domain: CA, intermediate or registrar.
    pub certificates: Vec<Certificate>,
    /// Whether this owner may have nonceless vouchers.
    pub nonceless: bool,
    /// Whether the owner is blocked.
    pub blocked: bool,
    /// Which certificate is pinned for this owner; `None` for the MASA's policy.
    pub pin: Option<Pin>,
}

/// A voucher that was issued earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedVoucher {
    /// The [`Request::fingerprint`] of the request that it answered.
    pub fingerprint: [u8; 32],
    /// When it was issued.
    pub issued_at: OffsetDateTime,
    /// Its `expires-on`, if any.
    pub expires_on: Option<OffsetDateTime>,
}

/// What is known about the revocation of the registrar's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The chain names no revocation service, or none was asked.
    NotChecked,
    /// Checked and not revoked; the status is good until then.
    Good {
        /// `nextUpdate` of the CRL or OCSP answer.
        until: Option<OffsetDateTime>,
    },
    /// Checked and revoked.
    Revoked,
    /// Should have been checked and could not be.
    Unavailable,
}

/// What the service knows when a decision is made, read in the same transaction.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The device, if the register knows it.
    pub device: Option<DeviceRecord>,
    /// The owner whose certificates fit the registrar's chain, if any.
    pub owner: Option<OwnerRecord>,
    /// The voucher that was issued for the same [`Request::fingerprint`], if any.
    pub issued: Option<IssuedVoucher>,
    /// Whether a voucher was issued before for this nonce of this device, to anybody. It matters
    /// while nobody holds the device, and need not be looked up otherwise.
    pub nonce_spent: bool,
    /// Revocation of the registrar's certificate.
    pub revocation: Revocation,
    /// Whether TLS client authentication or HTTP authentication proved the registrar to be the
    /// owner above.
    pub authenticated: bool,
}

/// The domain that asks: the verified chain from the signer of the request upwards.
#[derive(Clone, Debug)]
pub struct Domain {
    pub(crate) chain: Vec<Certificate>,
}

impl Domain {
    /// The registrar's certificate and what stands above it.
    pub(crate) fn new(
        registrar: Certificate,
        above: impl IntoIterator<Item = Certificate>,
    ) -> Self {
        let mut chain = vec![registrar];
        chain.extend(above);
        Self { chain }
    }

    /// The chain, the registrar's certificate first. Never empty, every link verified.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The keys of the chain, the registrar's first.
    pub fn keys(&self) -> impl Iterator<Item = DomainKey> + '_ {
        self.chain.iter().map(DomainKey::of)
    }

    /// Key identifier of the issuer of the topmost certificate, for owners whose CA certificate
    /// the registrar did not send along.
    #[must_use]
    pub fn issuer_key_id(&self) -> Option<Vec<u8>> {
        self.chain.last().and_then(Certificate::authority_key_id)
    }

    /// The certificate at this place, or the topmost one if the chain is shorter.
    pub(crate) fn at_or_top(&self, index: usize) -> &Certificate {
        let index = index.min(self.chain.len().saturating_sub(1));
        // Invariant: the chain is never empty, `Domain::new` takes the leaf by itself.
        &self.chain[index]
    }

    /// Whether the registrar stands under this key.
    #[must_use]
    pub fn contains(&self, key: DomainKey) -> bool {
        self.keys().any(|own| own == key)
    }
}

/// Which signing key a voucher needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyClass {
    /// The key for short-lived, nonced vouchers.
    Nonced,
    /// The key for long-lived, nonceless ones
    /// ([RFC 8995 §11.6.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-11.6.2)).
    Nonceless,
}

/// What the MASA decided.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Issue a voucher and write everything that the grant says.
    Grant(Box<Grant>),
    /// The same request was answered before: send the same bytes again, write nothing.
    Again,
    /// Refuse; if there is an alarm, write it.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// What a human has to hear about.
        alarm: Option<Alarm>,
    },
}

/// A voucher to be signed, with all that has to be written in the same transaction.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The content to be signed.
    pub voucher: Voucher,
    /// The envelope to sign it in.
    pub envelope: Envelope,
    /// The class of key to sign it with.
    pub key: KeyClass,
    /// The entry of the device's audit log.
    pub audit: AuditEvent,
    /// The new holder, if the grant changes it.
    pub holder: Option<Holder>,
    /// The IDevID key to remember, if it was proven and is not known yet.
    pub idevid_key: Option<[u8; 32]>,
    /// Whether this renews an earlier voucher of the same domain.
    pub renewal: bool,
    /// The certificate that the voucher pins, or whose key it pins.
    pub pinned: Certificate,
}

/// An entry of a device's audit log, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When the voucher was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub date: OffsetDateTime,
    /// The domainID that the log shows: of what was pinned.
    #[serde(with = "stored::bytes")]
    pub domain_id: Vec<u8>,
    /// The key of the domain, by which past owners are recognised.
    pub domain: DomainKey,
    /// The nonce, as the opaque string that it was; `None` for a nonceless voucher.
    pub nonce: Option<String>,
    /// What was asserted.
    #[serde(with = "stored::assertion")]
    pub assertion: Assertion,
}

/// Something that a human has to hear about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "alarm")]
pub enum Alarm {
    /// A domain asked for a device that another domain holds.
    SecondDomain {
        /// Who holds it.
        holder: DomainKey,
        /// Who asked.
        asked: DomainKey,
    },
    /// A domain asked for a device that was sold to somebody else.
    SoldToAnother {
        /// The owner in the register.
        owner: String,
        /// Who asked.
        asked: DomainKey,
    },
    /// Two keys claim to be one device.
    Clone {
        /// SHA-256 of the key that is known, in hexadecimal.
        known: String,
        /// SHA-256 of the key that came, in hexadecimal.
        seen: String,
    },
    /// The pledge saw another registrar than the one that asks: somebody is in between.
    Proximity {
        /// Who asked.
        asked: DomainKey,
    },
}
