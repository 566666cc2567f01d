//! A manufacturer, an owner and their devices, in memory and in files for the servers.

use anyhow::Context;
use artifacts::{
    Assertion, Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, Voucher, VoucherFields,
    VoucherRequest,
};
use pki::{Certificate, Identity};
use testkit::Pki;
use time::OffsetDateTime;

/// A serial number of the register.
#[must_use]
pub fn serial(number: usize) -> String {
    format!("SN-{number:08}")
}

/// The request of one device as its registrar sends it to the MASA.
///
/// # Errors
/// If signing fails.
pub fn request(pki: &Pki, serial: &str, now: OffsetDateTime) -> anyhow::Result<Vec<u8>> {
    request_of(pki, &pki.idevid(serial)?, serial, now)
}

/// The same for a device that was made before: a MASA rightly takes a second key for a clone.
///
/// # Errors
/// If signing fails.
pub fn request_of(
    pki: &Pki,
    device: &Identity,
    serial: &str,
    now: OffsetDateTime,
) -> anyhow::Result<Vec<u8>> {
    let registrar = &pki.domain.registrar;
    let nonce = fresh_nonce()?;
    let serial_number = SerialNumber::new(serial).context("a serial number")?;

    let mut inner = RequestFields::new(serial_number.clone());
    inner.created_on = Some(now);
    inner.assertion = Some(Assertion::Proximity);
    inner.nonce = Some(nonce.clone());
    inner.proximity_registrar_cert = registrar.chain.first().cloned();
    let inner = artifacts::sign_request(
        &VoucherRequest::new(inner)?,
        Envelope::Cms,
        device,
        Some(now),
    )?;

    let mut outer = RequestFields::new(serial_number);
    outer.created_on = Some(now);
    outer.nonce = Some(nonce);
    outer.idevid_issuer = device.chain.first().map(IdevidIssuer::of);
    outer.prior_signed_voucher_request = Some(inner);
    let outer = VoucherRequest::new(outer)?;
    let with_ca = registrar_chain(pki);
    Ok(artifacts::sign_request(
        &outer,
        Envelope::Cms,
        &with_ca,
        Some(now),
    )?)
}

/// The request that a device itself sends.
///
/// # Errors
/// If signing fails.
pub fn pledge_request(
    device: &Identity,
    serial: &str,
    registrar: &Certificate,
    envelope: Envelope,
    now: OffsetDateTime,
) -> anyhow::Result<Vec<u8>> {
    let mut fields = RequestFields::new(SerialNumber::new(serial).context("a serial number")?);
    fields.created_on = Some(now);
    fields.assertion = Some(Assertion::Proximity);
    fields.nonce = Some(fresh_nonce()?);
    fields.proximity_registrar_cert = Some(registrar.clone());
    let request = VoucherRequest::new(fields)?;
    Ok(artifacts::sign_request(
        &request,
        envelope,
        device,
        Some(now),
    )?)
}

fn fresh_nonce() -> anyhow::Result<Nonce> {
    Nonce::from_octets(&testkit::serial()?).context("a nonce")
}

/// The registrar's identity with its CA in the chain, so that the MASA can pin the CA.
fn registrar_chain(pki: &Pki) -> Identity {
    let mut identity = pki.domain.registrar.clone();
    identity.chain.extend(pki.domain.ca.chain.last().cloned());
    identity
}

/// A voucher as the MASA issues it.
///
/// # Errors
/// If a leaf is refused.
pub fn voucher(pki: &Pki, serial: &str, now: OffsetDateTime) -> anyhow::Result<Voucher> {
    let mut fields = VoucherFields::new(SerialNumber::new(serial).context("a serial number")?);
    fields.created_on = Some(now);
    fields.assertion = Some(Assertion::Proximity);
    fields.nonce = Some(fresh_nonce()?);
    fields.pinned_domain_cert = pki.domain.ca.chain.last().cloned();
    Ok(Voucher::new(fields)?)
}
