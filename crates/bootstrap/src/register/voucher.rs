//! Ownership vouchers: judged before they are stored, and found for a device.

use artifacts::verify::{ExpectedNonce, Trust, VoucherContext, verify_voucher};
use artifacts::{Document, Envelope, Nonce, PinnedDomainCert, SerialNumber};
use aws_lc_rs::digest;
use pki::{Certificate, Coded as _, Crl};
use serde::Serialize;
use serde_json::json;
use store::{AssertSqlSafe, Connection, Row, Store, params};
use time::{Duration, OffsetDateTime};

use super::archive::Refused;
use super::{operator, record, subject, touch};
use crate::Error;
use crate::vendor::Vendor;

/// Vouchers with a nonce that are kept of one device; each serves one attempt of it.
const NONCED_KEPT: i64 = 8;
/// How far the MASA's clock may be ahead of ours.
const SKEW_MAX: Duration = Duration::minutes(5);

/// A voucher of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherRow {
    /// Its number.
    pub id: i64,
    /// The device that it is for.
    pub device: i64,
    /// The voucher itself: CMS in DER.
    pub der: Vec<u8>,
    /// SHA-256 of it.
    pub sha256: Vec<u8>,
    /// When it was made.
    pub created: Option<OffsetDateTime>,
    /// When it ends.
    pub expires: Option<OffsetDateTime>,
    /// The nonce that it answers.
    pub nonce: Option<Vec<u8>>,
    /// SHA-256 of what it pins.
    pub pin_sha256: Vec<u8>,
    /// How the owner is known.
    pub assertion: String,
    /// Where it came from: a file, or the MASA.
    pub source: String,
    /// When it was stored.
    pub stored: OffsetDateTime,
}

const COLUMNS: &str = "voucher.id, voucher.device, voucher.der, voucher.sha256, \
     voucher.created_us AS voucher_created_us, voucher.expires_us, voucher.nonce, \
     voucher.pin_sha256, voucher.assertion, voucher.source, voucher.stored_us";

fn voucher_of(row: &Row) -> Result<VoucherRow, Error> {
    Ok(VoucherRow {
        id: row.integer("id")?,
        device: row.integer("device")?,
        der: row.bytes("der")?,
        sha256: row.bytes("sha256")?,
        created: row.optional_time("voucher_created_us")?,
        expires: row.optional_time("expires_us")?,
        nonce: row.optional_bytes("nonce")?,
        pin_sha256: row.bytes("pin_sha256")?,
        assertion: row.text("assertion")?,
        source: row.text("source")?,
        stored: row.time("stored_us")?,
    })
}

/// What a voucher is judged by.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The owner certificate with what is above it: a voucher has to pin one of these.
    pub owner_chain: Vec<Certificate>,
    /// CRLs of the owner's CA, for vouchers that demand revocation checks.
    pub crls: Vec<Crl>,
    /// The time.
    pub now: OffsetDateTime,
}

/// A voucher that was judged good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedVoucher {
    /// Whose anchors vouch for it.
    pub vendor: String,
    /// The serial number in it.
    pub serial: String,
    /// The voucher itself.
    pub der: Vec<u8>,
    /// SHA-256 of it.
    pub sha256: Vec<u8>,
    /// When it was made.
    pub created: Option<OffsetDateTime>,
    /// When it ends.
    pub expires: Option<OffsetDateTime>,
    /// The nonce that it answers.
    pub nonce: Option<Vec<u8>>,
    /// SHA-256 of what it pins.
    pub pin_sha256: Vec<u8>,
    /// How the owner is known.
    pub assertion: String,
}

impl Reader {
    /// Judges a voucher as a device will, as far as that can be done here: signed by a
    /// manufacturer whose voucher anchors are known, of the right form, not ended, and pinning a
    /// certificate that our owner certificate leads to.
    ///
    /// `nonce` is the one that a device sent; without it, only a voucher without one is good.
    ///
    /// # Errors
    /// The first check that failed, with its code. Of several manufacturers, that of one who
    /// signed it at all.
    pub fn judge(
        &self,
        der: &[u8],
        vendors: &[&Vendor],
        nonce: Option<&[u8]>,
    ) -> Result<CheckedVoucher, Refused> {
        let mut first: Option<Refused> = None;
        for vendor in vendors {
            if vendor.voucher_certificates.is_empty() {
                continue;
            }
            match self.judge_for(der, vendor, nonce) {
                Ok(checked) => return Ok(checked),
                Err((signed, refused)) => {
                    if first.is_none() || signed {
                        first = Some(refused);
                    }
                }
            }
        }
        Err(first.unwrap_or_else(|| {
            refused(
                "bootstrap.voucher-anchors",
                "no vendor has anchors for vouchers; `usher bootstrap trust import FILE --vendor \
                 NAME --use voucher`",
            )
        }))
    }

    /// `Err` says whether the vendor's anchors fitted the signer at all.
    fn judge_for(
        &self,
        der: &[u8],
        vendor: &Vendor,
        nonce: Option<&[u8]>,
    ) -> Result<CheckedVoucher, (bool, Refused)> {
        let say = |signed: bool| {
            move |error: artifacts::Error| (signed, refused(error.code(), error.to_string()))
        };
        let tolerances = &vendor.tolerances;
        // SZTP-8572-3.3-01: the ownership voucher is CMS SignedData.
        let envelope = Some(Envelope::Cms);
        let signed =
            artifacts::open(Document::Voucher, der, envelope, tolerances).map_err(say(false))?;
        let sent = nonce.and_then(Nonce::from_octets);
        let context = VoucherContext {
            nonce: match &sent {
                Some(sent) => ExpectedNonce::Exactly(sent),
                None => ExpectedNonce::Unknown,
            },
            ..VoucherContext::new(Trust::new(&vendor.voucher_anchors, Some(self.now)))
        };
        let verified = verify_voucher(&signed, &context, tolerances);
        let trusted = verified.checks().iter().any(|check| {
            check.name == "trust" && check.result == artifacts::verify::CheckResult::Passed
        });
        let verified = verified.into_result().map_err(say(trusted))?;
        let voucher = &verified.voucher;
        // SZTP-8572-5.4-05: with a clock, a device rejects a voucher from the future.
        if let Some(created) = voucher.created_on.filter(|at| *at > self.now + SKEW_MAX) {
            let text = format!("it was made at {created}, which is in the future; set the clock");
            return Err((true, refused("bootstrap.voucher-from-future", text)));
        }
        // A voucher with a nonce answers one request; in a file it is a mistake.
        if voucher.nonce.is_some() && sent.is_none() {
            return Err((
                true,
                refused(
                    "bootstrap.voucher-nonced",
                    "it has a nonce: it answers one request of the device and no later one",
                ),
            ));
        }
        if self.owner_chain.is_empty() {
            return Err((
                true,
                refused(
                    "bootstrap.owner-missing",
                    "there is no owner certificate that it could be for; `usher bootstrap owner \
                     install`",
                ),
            ));
        }
        // SZTP-8572-5.4-10, SZTP-8572-5.4-11: the device validates the path of the owner certificate
        // to the pinned certificate, with revocation checks if the voucher demands them.
        let context = VoucherContext {
            registrar_chain: Some(&self.owner_chain),
            domain_crls: Some(&self.crls),
            ..context
        };
        verify_voucher(&signed, &context, tolerances)
            .into_result()
            .map_err(say(true))?;
        Ok(CheckedVoucher {
            vendor: vendor.file.name.clone(),
            serial: voucher.serial_number.as_str().to_owned(),
            der: der.to_vec(),
            sha256: sha256(der),
            created: voucher.created_on,
            expires: voucher.expires_on,
            nonce: voucher.nonce.as_ref().map(Nonce::octets),
            pin_sha256: voucher.pins().next().map(pin_of).unwrap_or_default(),
            assertion: voucher.assertion.map(|a| a.to_string()).unwrap_or_default(),
        })
    }
}

/// Judges the voucher of one device: [`Reader::judge`], and that it is this device's.
///
/// # Errors
/// The first check that failed.
pub fn check_voucher(
    reader: &Reader,
    der: &[u8],
    vendor: &Vendor,
    serial: &str,
    nonce: Option<&[u8]>,
) -> Result<CheckedVoucher, Refused> {
    let checked = reader.judge(der, &[vendor], nonce)?;
    let wanted = SerialNumber::new(serial);
    if wanted.as_ref().map(SerialNumber::as_str) != Some(checked.serial.as_str()) {
        return Err(refused(
            "voucher.serial-mismatch",
            format!("it is for {}", checked.serial),
        ));
    }
    Ok(checked)
}

pub(super) fn refused(code: &'static str, detail: impl Into<String>) -> Refused {
    Refused {
        code,
        detail: detail.into(),
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn pin_of(pin: PinnedDomainCert<'_>) -> Vec<u8> {
    match pin {
        PinnedDomainCert::Certificate(certificate) => certificate.sha256().to_vec(),
        PinnedDomainCert::PublicKey(key) => key.sha256().to_vec(),
        PinnedDomainCert::PublicKeySha256(hash) => hash.to_vec(),
        _ => Vec::new(),
    }
}

/// Stores a voucher that was judged good, for this device; says whether it is new.
///
/// One with a nonce does not change what anybody else gets, and so does not touch the epoch.
///
/// # Errors
/// What the database said.
pub async fn store_voucher(
    connection: &mut Connection,
    voucher: &CheckedVoucher,
    device: i64,
    source: &str,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let count = connection
        .execute(
            "INSERT INTO voucher (device, der, sha256, created_us, expires_us, nonce, pin_sha256, \
             assertion, source, stored_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (device, sha256) DO NOTHING",
            params![
                device,
                &voucher.der,
                &voucher.sha256,
                voucher.created,
                voucher.expires,
                voucher.nonce.clone(),
                &voucher.pin_sha256,
                &voucher.assertion,
                source,
                now
            ],
        )
        .await?;
    if count == 0 {
        return Ok(false);
    }
    if voucher.nonce.is_some() {
        connection
            .execute(
                "DELETE FROM voucher WHERE device = $1 AND nonce IS NOT NULL AND id NOT IN \
                 (SELECT id FROM voucher WHERE device = $1 AND nonce IS NOT NULL \
                 ORDER BY id DESC LIMIT $2)",
                params![device, NONCED_KEPT],
            )
            .await?;
    } else {
        touch(connection).await?;
    }
    let data = json!({
        "voucher_sha256": hex::encode(&voucher.sha256), "source": source,
        "pin_sha256": hex::encode(&voucher.pin_sha256), "nonced": voucher.nonce.is_some(),
    });
    let subject = subject(&voucher.vendor, &voucher.serial);
    let actor = if voucher.nonce.is_some() {
        "server".to_owned()
    } else {
        operator()
    };
    record(connection, "voucher-stored", &actor, &subject, data, now).await?;
    Ok(true)
}

/// The voucher for a device at this time: the one for its nonce, otherwise the one without a
/// nonce that ends last.
///
/// # Errors
/// What the database said.
pub async fn voucher_for(
    connection: &mut Connection,
    device: i64,
    nonce: Option<&[u8]>,
    now: OffsetDateTime,
) -> Result<Option<VoucherRow>, Error> {
    if let Some(nonce) = nonce {
        // SZTP-8572-7.3-07: the nonce in the voucher equals that of the request.
        let sql = format!(
            "SELECT {COLUMNS} FROM voucher WHERE device = $1 AND nonce = $2 AND \
             (expires_us IS NULL OR expires_us > $3) ORDER BY id DESC LIMIT 1"
        );
        let row = connection
            .fetch_optional(AssertSqlSafe(sql), params![device, nonce, now])
            .await?;
        if let Some(row) = row {
            return voucher_of(&row).map(Some);
        }
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM voucher WHERE device = $1 AND nonce IS NULL AND \
         (expires_us IS NULL OR expires_us > $2) \
         ORDER BY CASE WHEN expires_us IS NULL THEN 0 ELSE 1 END, expires_us DESC, id DESC LIMIT 1"
    );
    let row = connection
        .fetch_optional(AssertSqlSafe(sql), params![device, now])
        .await?;
    row.as_ref().map(voucher_of).transpose()
}

/// All vouchers of a device, newest first.
///
/// # Errors
/// What the database said.
pub async fn vouchers_of(
    connection: &mut Connection,
    device: i64,
) -> Result<Vec<VoucherRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM voucher WHERE device = $1 ORDER BY id DESC LIMIT 500");
    let rows = connection
        .fetch_all(AssertSqlSafe(sql), params![device])
        .await?;
    rows.iter().map(voucher_of).collect()
}

/// Which vouchers a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoucherFilter {
    /// Of this vendor.
    pub vendor: Option<String>,
    /// Of the device with this serial number.
    pub serial: Option<String>,
    /// Of devices of this group.
    pub group: Option<String>,
    /// That end before this time.
    pub ends_before: Option<OffsetDateTime>,
    /// Those with a nonce too.
    pub nonced: bool,
    /// Numbers after this one (paging).
    pub after: i64,
    /// At most so many.
    pub limit: u32,
}

/// A voucher in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ListedVoucher {
    /// Its number.
    pub id: i64,
    /// Vendor of the device.
    pub vendor: String,
    /// Serial number of the device.
    pub serial: String,
    /// How the owner is known.
    pub assertion: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339::option")]
    pub created: Option<OffsetDateTime>,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// Whether it answers one nonce only.
    pub nonced: bool,
    /// SHA-256 of it, in hex.
    pub sha256: String,
    /// SHA-256 of what it pins, in hex.
    pub pin_sha256: String,
    /// Where it came from.
    pub source: String,
    /// The voucher itself.
    #[serde(skip)]
    pub der: Vec<u8>,
}

/// Vouchers in the order in which they were stored.
///
/// # Errors
/// What the database said.
pub async fn list_vouchers(
    connection: &mut Connection,
    filter: &VoucherFilter,
) -> Result<Vec<ListedVoucher>, Error> {
    let mut sql = format!(
        "SELECT {COLUMNS}, device.vendor, device.serial FROM voucher \
         JOIN device ON device.id = voucher.device WHERE voucher.id > $1"
    );
    let mut values = params![filter.after];
    for (column, value) in [
        ("vendor", &filter.vendor),
        ("serial", &filter.serial),
        ("group_name", &filter.group),
    ] {
        if let Some(value) = value {
            values.push(value.into());
            sql.push_str(&format!(" AND device.{column} = ${}", values.len()));
        }
    }
    if let Some(before) = filter.ends_before {
        values.push(before.into());
        sql.push_str(&format!(" AND voucher.expires_us < ${}", values.len()));
    }
    if !filter.nonced {
        sql.push_str(" AND voucher.nonce IS NULL");
    }
    values.push(filter.limit.into());
    sql.push_str(&format!(" ORDER BY voucher.id LIMIT ${}", values.len()));
    let rows = connection.fetch_all(AssertSqlSafe(sql), values).await?;
    rows.iter()
        .map(|row| {
            let voucher = voucher_of(row)?;
            Ok(ListedVoucher {
                id: voucher.id,
                vendor: row.text("vendor")?,
                serial: row.text("serial")?,
                assertion: voucher.assertion,
                created: voucher.created,
                expires: voucher.expires,
                nonced: voucher.nonce.is_some(),
                sha256: hex::encode(&voucher.sha256),
                pin_sha256: hex::encode(&voucher.pin_sha256),
                source: voucher.source,
                der: voucher.der,
            })
        })
        .collect()
}

/// Takes away vouchers that ended before a time, those with a nonce that were stored before it,
/// and those of devices that are no longer ours. Says how many.
///
/// # Errors
/// What the database said.
pub async fn prune_vouchers(
    store: &Store,
    before: OffsetDateTime,
    dry_run: bool,
    now: OffsetDateTime,
) -> Result<i64, Error> {
    const WHICH: &str = "FROM voucher WHERE expires_us < $1 OR (nonce IS NOT NULL AND stored_us < \
         $1) OR device IN (SELECT id FROM device WHERE state IN ('released', 'replaced'))";
    if dry_run {
        let rows = store
            .fetch_all(
                AssertSqlSafe(format!("SELECT COUNT(*) AS number {WHICH}")),
                params![before],
            )
            .await?;
        let count = rows.first().map(|row| row.integer("number")).transpose()?;
        return Ok(count.unwrap_or_default());
    }
    store
        .transaction("voucher-prune", move |connection| {
            Box::pin(async move {
                let count = connection
                    .execute(AssertSqlSafe(format!("DELETE {WHICH}")), params![before])
                    .await?;
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                if count > 0 {
                    touch(connection).await?;
                    let data = json!({ "count": count });
                    let kind = "vouchers-pruned";
                    record(connection, kind, &operator(), "register", data, now).await?;
                }
                Ok(count)
            })
        })
        .await
}
