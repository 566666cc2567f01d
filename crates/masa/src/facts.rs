//! What the register says about a request: the facts for [`brski::masa::decide`].

use artifacts::{Assertion, Envelope, Nonce};
use brski::DomainKey;
use brski::masa::{
    AuditEvent, DeviceRecord, Domain, Facts, Holder, IssuedVoucher, OwnerRecord, Request,
    Revocation,
};
use pki::Certificate;
use pki::path::{self, Anchors, PathOptions, Purpose};
use store::{AssertSqlSafe, Connection, Row, params};
use time::OffsetDateTime;

use crate::Error;
use crate::register::{certificates_of, pin_from};

/// Owners whose certificates are tried for one request.
const OWNERS_TRIED_MAX: i64 = 8;
/// Entries of a device's voucher history that are read; older ones are not in the answer.
const HISTORY_MAX: i64 = 10_000;

/// The row of the device that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRow {
    pub(crate) serial: String,
    pub(crate) issuer: Vec<u8>,
    pub(crate) stamp: Stamp,
}

/// As long as both numbers are the same, a decision about the device rests on the same facts: each
/// change of its row and each voucher for it counts the first one up, each change of an owner and
/// each import the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) version: i64,
    pub(crate) epoch: i64,
}

/// Facts, and where they were found.
pub(crate) struct Found {
    pub(crate) facts: Facts,
    pub(crate) row: Option<DeviceRow>,
}

/// What the transport proved about the registrar.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Its TLS client certificates, leaf first; possession of the leaf's key is proven.
    pub(crate) chain: Vec<Certificate>,
}

const DEVICE: &str = "SELECT serial, issuer, sold_to, holder_domain, holder_owner, blocked, \
     idevid_key, has_clock, formats, assertion_min, version, \
     (SELECT value FROM register_epoch) AS epoch FROM device WHERE serial = $1 \
     ORDER BY issuer LIMIT 64";

/// Locks the rows of a serial number, so that later reads in the same transaction see what the
/// previous holder of the lock committed.
pub(crate) async fn lock_device(
    connection: &mut Connection,
    serial: &str,
) -> Result<(), store::Error> {
    connection
        .execute(
            "UPDATE device SET version = version + 1 WHERE serial = $1",
            params![serial],
        )
        .await?;
    Ok(())
}

/// Reads everything that a decision needs. The device with its stamp is read first, so that any
/// change after that shows when the stamp is checked.
pub(crate) async fn read(
    connection: &mut Connection,
    request: &Request,
    shown: &Shown,
    revocation: Revocation,
    now: OffsetDateTime,
) -> Result<Found, Error> {
    let key = request.device_key();
    let rows = connection.fetch_all(DEVICE, params![&key.serial]).await?;
    let (row, device) = match device(&rows, key.issuer_key_id.as_deref())? {
        Some((row, device)) => (Some(row), Some(device)),
        None => (None, None),
    };
    let owner = owner(connection, request.domain()).await?;
    let authenticated = owner
        .as_ref()
        .is_some_and(|owner| authenticated(owner, request.domain(), shown, now));
    let issued = issued(connection, &request.fingerprint()).await?;
    let nonce_spent = match (&row, &device) {
        // It is asked only where it decides, so that renewals do not pay for it.
        (Some(row), Some(device)) if device.holder.is_none() && device.sold_to.is_none() => {
            nonce_spent(connection, row, request).await?
        }
        _ => false,
    };
    let facts = Facts {
        device,
        owner,
        issued,
        nonce_spent,
        revocation,
        authenticated,
    };
    Ok(Found { facts, row })
}

/// The row that fits the issuer: its own, or the one that was imported without an issuer. A
/// request that names no issuer fits only a serial number that is unique.
fn device(rows: &[Row], issuer: Option<&[u8]>) -> Result<Option<(DeviceRow, DeviceRecord)>, Error> {
    let mut exact = None;
    let mut wild = None;
    for row in rows {
        let of = row.bytes("issuer")?;
        if issuer.is_some_and(|issuer| issuer == of) {
            exact = Some(row);
        } else if of.is_empty() {
            wild = Some(row);
        }
    }
    let row = match (issuer, rows) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(_), _) => exact.or(wild),
    };
    let Some(row) = row else { return Ok(None) };
    let domain = row
        .optional_bytes("holder_domain")?
        .and_then(|key| key.try_into().ok());
    let formats = row.text("formats")?;
    let record = DeviceRecord {
        sold_to: row.optional_text("sold_to")?,
        holder: match domain {
            Some(domain) => Some(Holder {
                domain: DomainKey::from_bytes(domain),
                owner: row.optional_text("holder_owner")?,
            }),
            None => None,
        },
        blocked: row.optional_text("blocked")?,
        idevid_key: row
            .optional_bytes("idevid_key")?
            .and_then(|key| key.try_into().ok()),
        has_clock: row.boolean("has_clock")?,
        serial_ambiguous: rows.len() > 1,
        formats: formats
            .split_whitespace()
            .filter_map(|name| Envelope::ALL.into_iter().find(|e| e.name() == name))
            .collect(),
        assertion_min: row
            .optional_text("assertion_min")?
            .and_then(|name| Assertion::from_name(&name)),
    };
    let place = DeviceRow {
        serial: row.text("serial")?,
        issuer: row.bytes("issuer")?,
        stamp: Stamp {
            version: row.integer("version")?,
            epoch: row.integer("epoch")?,
        },
    };
    Ok(Some((place, record)))
}

/// The owner whose certificates fit the registrar's chain: one of them is in it, or issued its
/// topmost certificate. [`brski::masa::decide`] proves it again.
pub(crate) async fn owner(
    connection: &mut Connection,
    domain: &Domain,
) -> Result<Option<OwnerRecord>, Error> {
    let keys: Vec<DomainKey> = domain.keys().collect();
    let places: Vec<String> = (1..=keys.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT spki_sha256, owner FROM owner_certificate WHERE spki_sha256 IN ({}) LIMIT 64",
        places.join(", ")
    );
    let values = keys.iter().map(|key| key.as_bytes().into()).collect();
    let rows = connection.fetch_all(AssertSqlSafe(sql), values).await?;
    let mut found = None;
    for key in &keys {
        // Nearest to the registrar wins: it says most exactly who asks.
        for row in &rows {
            if found.is_none() && row.bytes("spki_sha256")? == key.as_bytes() {
                found = Some(row.text("owner")?);
            }
        }
    }
    if found.is_none() {
        found = issuing_owner(connection, domain).await?;
    }
    let Some(id) = found else { return Ok(None) };
    let Some(row) = connection
        .fetch_optional(
            "SELECT nonceless, blocked, pin FROM owner WHERE id = $1",
            params![&id],
        )
        .await?
    else {
        return Ok(None);
    };
    Ok(Some(OwnerRecord {
        certificates: certificates_of(connection, &id).await?,
        nonceless: row.boolean("nonceless")?,
        blocked: row.boolean("blocked")?,
        pin: row.optional_text("pin")?.and_then(|name| pin_from(&name)),
        id,
    }))
}

async fn issuing_owner(
    connection: &mut Connection,
    domain: &Domain,
) -> Result<Option<String>, Error> {
    let (Some(key_id), Some(top)) = (domain.issuer_key_id(), domain.chain().last()) else {
        return Ok(None);
    };
    let rows = connection
        .fetch_all(
            "SELECT owner, certificate FROM owner_certificate WHERE subject_key_id = $1 \
             ORDER BY spki_sha256 LIMIT $2",
            params![key_id, OWNERS_TRIED_MAX],
        )
        .await?;
    for row in &rows {
        // A key identifier is a hint that anybody can copy; the signature is not.
        let certificate = Certificate::from_der(&row.bytes("certificate")?)?;
        if top.verify_signature_by(certificate.public_key()).is_ok() {
            return Ok(Some(row.text("owner")?));
        }
    }
    Ok(None)
}

/// Whether TLS proved that the registrar belongs to the owner.
fn authenticated(owner: &OwnerRecord, domain: &Domain, shown: &Shown, now: OffsetDateTime) -> bool {
    let Some((leaf, others)) = shown.chain.split_first() else {
        return false;
    };
    // The signer of the request itself is at the other end.
    let same = domain
        .chain()
        .first()
        .is_some_and(|registrar| registrar.public_key() == leaf.public_key());
    let known = owner
        .certificates
        .iter()
        .any(|one| one.public_key() == leaf.public_key());
    if known {
        return true;
    }
    let anchors: Anchors = owner.certificates.iter().cloned().collect();
    let options = PathOptions::new(Purpose::Any, now);
    let chained = path::validate(leaf, others, &anchors, &options).is_ok();
    // With the request's own chain as material too, for clients that send the leaf only.
    chained || (same && path::validate(leaf, domain.chain(), &anchors, &options).is_ok())
}

async fn issued(
    connection: &mut Connection,
    fingerprint: &[u8; 32],
) -> Result<Option<IssuedVoucher>, Error> {
    let row = connection
        .fetch_optional(
            "SELECT issued_us, expires_us FROM voucher WHERE fingerprint = $1 \
             ORDER BY generation DESC LIMIT 1",
            params![fingerprint],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(IssuedVoucher {
        fingerprint: *fingerprint,
        issued_at: row.time("issued_us")?,
        expires_on: row.optional_time("expires_us")?,
    }))
}

/// Whether this nonce of the device already got a voucher. The octets are compared, because a
/// registrar that is let write the nonce in its own way could otherwise make a new one of it.
async fn nonce_spent(
    connection: &mut Connection,
    row: &DeviceRow,
    request: &Request,
) -> Result<bool, Error> {
    let Some(nonce) = &request.content().nonce else {
        return Ok(false);
    };
    // One statement sees one state: a device that was claimed since its row was read has another
    // version by now, and then nothing is spent but by the very request that runs beside this one.
    let rows = connection
        .fetch_all(
            "SELECT nonce FROM voucher WHERE serial = $1 AND issuer = $2 AND nonce IS NOT NULL \
             AND EXISTS (SELECT 1 FROM device WHERE serial = $1 AND issuer = $2 AND version = $3)",
            params![&row.serial, &row.issuer, row.stamp.version],
        )
        .await?;
    for row in &rows {
        let spent = row.text("nonce")?;
        if spent == nonce.as_str() || Nonce::to_compare(spent).octets() == nonce.octets() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The device's vouchers as audit events, oldest first.
pub(crate) async fn history(
    connection: &mut Connection,
    request: &Request,
) -> Result<(Option<DeviceRow>, Vec<AuditEvent>), Error> {
    let key = request.device_key();
    let rows = connection.fetch_all(DEVICE, params![&key.serial]).await?;
    let Some((place, _)) = device(&rows, key.issuer_key_id.as_deref())? else {
        return Ok((None, Vec::new()));
    };
    let rows = connection
        .fetch_all(
            "SELECT issued_us, domain, domain_id, nonce, assertion FROM voucher \
             WHERE serial = $1 AND issuer = $2 ORDER BY id DESC LIMIT $3",
            params![&place.serial, &place.issuer, HISTORY_MAX],
        )
        .await?;
    let mut events = rows
        .iter()
        .map(audit_event)
        .collect::<Result<Vec<_>, _>>()?;
    events.reverse();
    Ok((Some(place), events))
}

fn audit_event(row: &Row) -> Result<AuditEvent, Error> {
    let broken = |what: &str| {
        Error::Store(store::Error::Column {
            column: what.to_owned(),
            detail: "cannot be read".to_owned(),
        })
    };
    let domain: [u8; 32] = row
        .bytes("domain")?
        .try_into()
        .map_err(|_| broken("domain"))?;
    Ok(AuditEvent {
        date: row.time("issued_us")?,
        domain_id: row.bytes("domain_id")?,
        domain: DomainKey::from_bytes(domain),
        nonce: row.optional_text("nonce")?,
        assertion: Assertion::from_name(&row.text("assertion")?)
            .ok_or_else(|| broken("assertion"))?,
    })
}
