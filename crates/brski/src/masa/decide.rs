//! The decision about a voucher.

use artifacts::{Assertion, Envelope, IdevidIssuer, SerialNumber, Voucher, VoucherFields};
use pki::{
    Certificate,
    path::{self, Anchors, PathOptions, Purpose},
};
use time::OffsetDateTime;

use super::{
    Alarm, AuditEvent, Decision, DeviceRecord, Domain, Facts, Grant, Holder, KeyClass, KeyPin,
    OwnerRecord, Pin, Policy, Refusal, Request, Revocation,
};
use crate::{cause::Cause, domain::DomainKey};

/// Decides about a verified request with what the register says about the device and the owner.
///
/// The checks stand in the order in which an operator would want to hear of them: what is wrong
/// with the device, with the registrar, with the two together, with the format.
#[must_use]
pub fn decide(request: &Request, facts: &Facts, policy: &Policy, now: OffsetDateTime) -> Decision {
    match try_decide(request, facts, policy, now) {
        Ok(decision) => decision,
        Err(no) => Decision::Refuse {
            refusal: no.refusal,
            alarm: no.alarm,
        },
    }
}

/// A refusal, and what a human has to hear about it.
struct No {
    refusal: Refusal,
    alarm: Option<Alarm>,
}

impl From<Refusal> for Box<No> {
    fn from(refusal: Refusal) -> Self {
        Self::new(No {
            refusal,
            alarm: None,
        })
    }
}

fn alarmed(refusal: Refusal, alarm: Alarm) -> Box<No> {
    Box::new(No {
        refusal,
        alarm: Some(alarm),
    })
}

fn try_decide(
    request: &Request,
    facts: &Facts,
    policy: &Policy,
    now: OffsetDateTime,
) -> Result<Decision, Box<No>> {
    // BRSKI-5.6-16: "A 404 (Not Found) response is appropriate when the request is for a device
    // that is not known to the MASA."
    let made_up = DeviceRecord::default();
    let device = match &facts.device {
        Some(device) => device,
        None if defects::seeded!("masa-issues-for-unknown-devices") => &made_up,
        None => return Err(Refusal::SerialUnknown.into()),
    };
    if let Some(reason) = &device.blocked {
        return Err(Refusal::DeviceBlocked(reason.clone()).into());
    }
    check_clone(request, device)?;
    check_revocation(facts, policy)?;
    let owner = proven_owner(&request.domain, facts.owner.as_ref(), now);
    check_registrar(request, owner, facts, policy)?;
    let assertion = assertion(request, device, owner);
    // A stranger without the device's own word only knows a serial number. It is not told whose
    // the device is, and cannot raise alarms about it.
    let unproven = policy.prior_required
        && !defects::seeded!("masa-never-asserts-proximity")
        && request.nonce().is_some()
        && assertion == Assertion::Logged;
    if unproven && owner.is_none() {
        return Err(Refusal::PriorMissing.into());
    }
    check_ownership(request, device, owner, facts, policy)?;
    if let Some(issued) = &facts.issued {
        let current = issued.expires_on.is_none_or(|expires_on| now < expires_on);
        if defects::seeded!("masa-refuses-a-repetition") {
            return Err(Refusal::AlreadyOwned.into());
        }
        if issued.fingerprint == request.fingerprint() && current {
            return Ok(Decision::Again);
        }
    }
    // BRSKI-5.6-17: "A 406 (Not Acceptable) response is appropriate if a voucher of the desired
    // type cannot be issued as such because the MASA knows the pledge cannot process that type."
    let envelope = request
        .formats
        .iter()
        .copied()
        .find(|format| device.formats.is_empty() || device.formats.contains(format))
        .ok_or(Refusal::FormatNotForDevice)?;
    if unproven {
        return Err(Refusal::PriorMissing.into());
    }
    if let Some(wanted) = device.assertion_min
        && strength(assertion) < strength(wanted)
    {
        let proven = assertion;
        return Err(Refusal::AssertionTooWeak { wanted, proven }.into());
    }
    let domain_certificate = at_pin(&request.domain, owner, pin_of(owner, policy.pin));
    let key_pin = key_pin(request, policy);
    let pinned = pinned(request, owner, policy, envelope, key_pin);
    if pinned.not_after() <= now && !defects::seeded!("masa-accepts-expired-registrar") {
        let cause = Cause::new("path.expired", "it has expired");
        return Err(Refusal::PinUnusable(cause).into());
    }
    let pins = Pins {
        certificate: pinned,
        key: key_pin,
    };
    let voucher = voucher(request, device, &pins, assertion, facts, policy, now)?;
    let domain = DomainKey::of(domain_certificate);
    let holder = Holder {
        domain,
        owner: owner.map(|owner| owner.id.clone()),
    };
    let renewal = device
        .holder
        .as_ref()
        .is_some_and(|held| request.domain.contains(held.domain));
    Ok(Decision::Grant(Box::new(Grant {
        envelope,
        // BRSKI-11.6.2-01: nonceless vouchers live long and are signed under another key.
        key: if request.nonce().is_some() {
            KeyClass::Nonced
        } else {
            KeyClass::Nonceless
        },
        audit: AuditEvent {
            date: now,
            domain_id: artifacts::DomainId::of(pinned).as_bytes().to_vec(),
            domain,
            // BRSKI-5.5.6-02: "The MASA populates the audit-log with the nonce that was verified.
            // If a nonceless voucher is issued, then the audit-log is to be populated with the
            // JSON value null."
            nonce: request
                .nonce()
                .filter(|_| !defects::seeded!("masa-log-forgets-nonce"))
                .map(str::to_owned),
            assertion: if defects::seeded!("masa-log-forgets-assertion") {
                Assertion::Logged
            } else {
                assertion
            },
        },
        holder: (device.holder.as_ref() != Some(&holder)).then_some(holder),
        idevid_key: match (&request.prior, device.idevid_key) {
            (Some(prior), None) => Some(prior.idevid.public_key().sha256()),
            _ => None,
        },
        renewal,
        pinned: pinned.clone(),
        voucher,
    })))
}

/// Two keys under one identity: the serial number was cloned, or the register is wrong. Either way
/// a human has to look before anybody owns the device.
fn check_clone(request: &Request, device: &DeviceRecord) -> Result<(), Box<No>> {
    let (Some(prior), Some(known)) = (&request.prior, device.idevid_key) else {
        return Ok(());
    };
    let seen = prior.idevid.public_key().sha256();
    if seen == known {
        return Ok(());
    }
    let alarm = Alarm::Clone {
        known: hex::encode(known),
        seen: hex::encode(seen),
    };
    Err(alarmed(Refusal::CloneSuspected, alarm))
}

fn check_revocation(facts: &Facts, policy: &Policy) -> Result<(), Refusal> {
    match facts.revocation {
        // VOUCHER-7.3-01: the revocation of domain certificates is checked before signing.
        Revocation::Revoked => Err(Refusal::RegistrarRevoked),
        Revocation::Unavailable if policy.revocation_required => {
            Err(Refusal::RevocationUnavailable)
        }
        Revocation::Unavailable | Revocation::NotChecked | Revocation::Good { .. } => Ok(()),
    }
}

/// The owner, if the registrar's chain really leads to one of the owner's certificates.
///
/// Every link of the chain was validated when the request was opened, so a certificate of the
/// owner inside the chain is enough; a CA certificate that the registrar did not send is tried as
/// the anchor of the chain.
fn proven_owner<'a>(
    domain: &Domain,
    owner: Option<&'a OwnerRecord>,
    now: OffsetDateTime,
) -> Option<&'a OwnerRecord> {
    let owner = owner?;
    let inside = owner
        .certificates
        .iter()
        .any(|certificate| domain.contains(DomainKey::of(certificate)));
    if inside {
        return Some(owner);
    }
    let (registrar, others) = domain.chain.split_first()?;
    let anchors: Anchors = owner.certificates.iter().cloned().collect();
    let options = PathOptions::new(Purpose::Registrar, now);
    path::validate(registrar, others, &anchors, &options)
        .is_ok()
        .then_some(owner)
}

fn check_registrar(
    request: &Request,
    owner: Option<&OwnerRecord>,
    facts: &Facts,
    policy: &Policy,
) -> Result<(), Refusal> {
    match owner {
        Some(owner) if owner.blocked => return Err(Refusal::OwnerBlocked),
        None if !policy.unknown_registrars => return Err(Refusal::RegistrarUnknown),
        Some(_) | None => {}
    }
    if request.nonce().is_none() && !defects::seeded!("masa-nonceless-for-anybody") {
        // BRSKI-5.5.4-02: "If a nonceless voucher-request is submitted, the MASA MUST authenticate
        // the registrar either as described in EST or by validating the registrar's certificate
        // used to sign the registrar voucher-request using a configured trust anchor."
        let authorised = match (owner, facts.owner.as_ref()) {
            (Some(owner), _) => owner.nonceless,
            (None, Some(owner)) if facts.authenticated => owner.nonceless && !owner.blocked,
            (None, _) => return Err(Refusal::NoncelessUnauthenticated),
        };
        // BRSKI-7.4.1-01: "Issuing such a thing is only accepted when the registrar is
        // authenticated by the MASA and the MASA is authorized to provide this functionality to
        // this customer."
        if !authorised {
            return Err(Refusal::NoncelessNotAuthorised);
        }
    }
    Ok(())
}

fn check_ownership(
    request: &Request,
    device: &DeviceRecord,
    owner: Option<&OwnerRecord>,
    facts: &Facts,
    policy: &Policy,
) -> Result<(), Box<No>> {
    // The key that is shown to humans is the top of the chain: the domain, not one registrar.
    let asked = DomainKey::of(request.domain.at_or_top(usize::MAX));
    match (&device.sold_to, owner) {
        (Some(buyer), Some(owner)) if owner.id == *buyer => return Ok(()),
        (Some(buyer), _) => {
            let alarm = Alarm::SoldToAnother {
                owner: buyer.clone(),
                asked,
            };
            return Err(alarmed(Refusal::NotTheOwner, alarm));
        }
        (None, _) => {}
    }
    match &device.holder {
        // BRSKI-5.5.1-01: "If the request is for a previous (expired) voucher using the same
        // registrar (that is, a registrar with the same domain CA), then the request for a renewed
        // voucher SHOULD be automatically authorized."
        Some(held) if request.domain.contains(held.domain) => Ok(()),
        Some(_) if defects::seeded!("masa-ignores-the-holder") => Ok(()),
        None if defects::seeded!("masa-nonceless-for-anybody") => Ok(()),
        Some(Holder {
            owner: Some(id), ..
        }) if owner.is_some_and(|owner| owner.id == *id) => Ok(()),
        // BRSKI-5.6-15: 403 "if the pledge has another outstanding voucher that cannot be
        // overridden".
        Some(held) => {
            let alarm = Alarm::SecondDomain {
                holder: held.domain,
                asked,
            };
            Err(alarmed(Refusal::AlreadyOwned, alarm))
        }
        // Whoever comes first has to have the device in front of it. A nonceless request says only
        // that somebody knows a serial number, and a nonce that had its voucher only that the
        // device was there once: a former domain could take a released device back with it.
        None if !policy.first_come || request.nonce().is_none() => Err(Refusal::NotSold.into()),
        None if facts.nonce_spent => Err(Refusal::NonceReplayed.into()),
        None => Ok(()),
    }
}

/// What was proven, never what was claimed.
///
/// BRSKI-3.4-04: an assertion in the registrar's request is ignored here.
fn assertion(request: &Request, device: &DeviceRecord, owner: Option<&OwnerRecord>) -> Assertion {
    match (&device.sold_to, owner) {
        (Some(buyer), Some(owner)) if owner.id == *buyer => Assertion::Verified,
        _ => request.proven_assertion(),
    }
}

fn strength(assertion: Assertion) -> u8 {
    match assertion {
        Assertion::Logged => 0,
        Assertion::AgentProximity => 1,
        Assertion::Proximity => 2,
        Assertion::Verified => 3,
    }
}

/// What a voucher is to pin.
struct Pins<'a> {
    /// A certificate of the validated chain.
    certificate: &'a Certificate,
    /// Its key instead, if the pledge wants that.
    key: Option<&'a KeyPin>,
}

/// The key to pin, if the pledge named its registrar by key and that was proven.
fn key_pin<'a>(request: &'a Request, policy: &Policy) -> Option<&'a KeyPin> {
    // VCB-033: of several pins the pledge uses the one that corresponds to the form in which it
    // named its registrar, so that one is all it needs.
    let prior = request.prior.as_ref().filter(|prior| prior.proximity)?;
    prior.seen_key.as_ref().filter(|_| policy.key_pins)
}

/// The certificate to pin, or whose key is pinned.
fn pinned<'a>(
    request: &'a Request,
    owner: Option<&OwnerRecord>,
    policy: &Policy,
    envelope: Envelope,
    key_pin: Option<&KeyPin>,
) -> &'a Certificate {
    let domain = &request.domain;
    if key_pin.is_some() {
        // CBR-105: A pinned raw public key is the public key of the registrar EE certificate. The
        // pledge saw that key, and it was found in the registrar's chain.
        return at_pin(domain, owner, Pin::EndEntity);
    }
    let by_policy = match envelope {
        Envelope::Cose if request.nonce().is_some() => policy.constrained_pin,
        // CBR-104: A nonceless voucher pins the highest CA allowed by policy.
        _ => policy.pin,
    };
    at_pin(domain, owner, pin_of(owner, by_policy))
}

fn pin_of(owner: Option<&OwnerRecord>, by_policy: Pin) -> Pin {
    owner.and_then(|owner| owner.pin).unwrap_or(by_policy)
}

/// The certificate at that place: always a member of the validated chain.
///
/// BRSKI-5.5.2-03: certificates that came along in the message and are not part of the chain are
/// never considered, so nobody gets a foreign CA pinned by adding it.
fn at_pin<'a>(domain: &'a Domain, owner: Option<&OwnerRecord>, pin: Pin) -> &'a Certificate {
    // Invariant: a Domain's chain is never empty, see `chain_of` where it is built.
    let top = match pin {
        _ if defects::seeded!("masa-pins-from-the-bag") => usize::MAX,
        Pin::EndEntity => 0,
        Pin::Issuer => 1,
        // A registered owner is pinned at the certificate that it registered, not at whatever
        // stands above it: that could be a public CA.
        Pin::TopOfChain => owner
            .and_then(|owner| {
                domain.chain.iter().rposition(|certificate| {
                    let key = DomainKey::of(certificate);
                    owner
                        .certificates
                        .iter()
                        .any(|known| DomainKey::of(known) == key)
                })
            })
            .unwrap_or(usize::MAX),
    };
    domain.at_or_top(top)
}

fn voucher(
    request: &Request,
    device: &DeviceRecord,
    pins: &Pins<'_>,
    assertion: Assertion,
    facts: &Facts,
    policy: &Policy,
    now: OffsetDateTime,
) -> Result<Voucher, Refusal> {
    let serial = SerialNumber::new(request.device.serial.clone()).ok_or_else(|| {
        Refusal::Internal(Cause::new("voucher.bad-serial-number", "the serial number"))
    })?;
    let mut fields = VoucherFields::new(serial);
    fields.created_on = (!defects::seeded!("masa-no-created-on")).then_some(now);
    fields.assertion = (!defects::seeded!("masa-no-assertion")).then_some(assertion);
    if defects::seeded!("masa-writes-other-serial") {
        fields.serial_number = SerialNumber::new("CONF-0").unwrap_or(fields.serial_number);
    }
    match pins.key {
        Some(KeyPin::Sha256(hash)) => fields.pinned_domain_pubk_sha256 = Some(*hash),
        Some(KeyPin::PublicKey(key)) => fields.pinned_domain_pubk = Some(key.clone()),
        None => {
            fields.pinned_domain_cert = Some(pins.certificate.clone());
            // A key has no revocation that anybody could be told to check.
            fields.domain_cert_revocation_checks = Some(false);
            if defects::seeded!("masa-pins-device") {
                fields.pinned_domain_cert =
                    request.prior.as_ref().map(|prior| prior.idevid.clone());
            }
        }
    }
    // BRSKI-5.6-21: "nonce: The nonce from the pledge if available", the same string.
    fields.nonce = request.content.nonce.clone();
    if defects::seeded!("masa-forgets-nonce") {
        fields.nonce = None;
    }
    if defects::seeded!("masa-writes-other-nonce") {
        fields.nonce = artifacts::Nonce::from_octets(&[7; 16]);
    }
    if defects::seeded!("masa-reencodes-nonce") {
        use base64::Engine as _;
        let octets = request.content.nonce.as_ref().map(artifacts::Nonce::octets);
        let text =
            octets.map(|octets| base64::engine::general_purpose::STANDARD_NO_PAD.encode(octets));
        fields.nonce = text.map(artifacts::Nonce::to_compare);
    }
    if defects::seeded!("masa-expiry-beside-nonce") && fields.nonce.is_some() {
        fields.expires_on = Some(now + policy.voucher_lifetime);
    }
    // VOUCHERBIS-6.2-01, VOUCHERBIS-6.2-02: idevid-issuer is included if the serial number is
    // known not to be unique, and otherwise left out.
    if device.serial_ambiguous || defects::seeded!("masa-always-names-issuer") {
        fields.idevid_issuer = match &request.prior {
            Some(prior) => Some(IdevidIssuer::of(&prior.idevid)),
            None => request.content.idevid_issuer.clone(),
        };
    }
    // BRSKI-5.6-25: expires-on "is set for nonceless vouchers".
    // VOUCHER-7.1-01: only for devices that can judge it.
    if request.nonce().is_none()
        && device.has_clock
        && !defects::seeded!("masa-no-expiry-without-nonce")
    {
        // BRSKI-5.6-26: "The expires-on field SHOULD be before the earliest of these three
        // values": voucher lifetime, registrar's certificate, CRL lifetime.
        let mut limits = vec![now + policy.voucher_lifetime, pins.certificate.not_after()];
        limits.extend(request.domain.chain.first().map(Certificate::not_after));
        if defects::seeded!("masa-expiry-ignores-registrar") {
            limits.truncate(1);
        }
        if let Revocation::Good { until: Some(until) } = facts.revocation {
            limits.push(until);
        }
        fields.expires_on = limits.into_iter().min();
    }
    Voucher::new(fields).map_err(|error| Refusal::Internal(Cause::of(&error)))
}
