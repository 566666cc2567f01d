//! Vouchers that were loaded beforehand, for networks without a way to the MASA.

use serde::Serialize;
use store::{Connection, Error, Row, params};
use time::OffsetDateTime;

use super::rfc3339;

/// One voucher.
#[derive(Clone, Debug, Serialize)]
pub struct OfflineVoucher {
    /// SHA-256 of its bytes, in hexadecimal.
    pub voucher_id: String,
    /// The vendor profile whose anchors its signer leads to.
    pub vendor: String,
    /// The serial number in it.
    pub serial: String,
    /// Its bytes.
    #[serde(skip)]
    pub voucher: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// Its assertion.
    pub assertion: String,
    /// When it expires.
    #[serde(serialize_with = "optional_time")]
    pub expires: Option<OffsetDateTime>,
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn optional_time<S: serde::Serializer>(
    time: &Option<OffsetDateTime>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => out.serialize_some(&rfc3339(*time)),
        None => out.serialize_none(),
    }
}

fn read(row: &Row) -> Result<OfflineVoucher, Error> {
    Ok(OfflineVoucher {
        voucher_id: row.text("voucher_id")?,
        vendor: row.text("vendor")?,
        serial: row.text("serial")?,
        voucher: row.bytes("voucher")?,
        media_type: row.text("voucher_type")?,
        assertion: row.text("assertion")?,
        expires: row.optional_time("expires_us")?,
    })
}

/// The vouchers of a device that are still good, the longest-lived first.
///
/// # Errors
/// The database failed.
pub async fn offline_voucher(
    connection: &mut Connection,
    vendor: &str,
    serial: &str,
    now: OffsetDateTime,
) -> Result<Vec<OfflineVoucher>, Error> {
    connection
        .fetch_all(
            "SELECT voucher_id, vendor, serial, voucher, voucher_type, assertion, expires_us \
             FROM offline_voucher WHERE serial = $1 AND vendor = $2 \
             AND (expires_us IS NULL OR expires_us > $3) \
             ORDER BY COALESCE(expires_us, 9223372036854775807) DESC, loaded_us DESC LIMIT 8",
            params![serial, vendor, now],
        )
        .await?
        .iter()
        .map(read)
        .collect()
}

/// A page of all vouchers, after the given serial number and id.
///
/// # Errors
/// The database failed.
pub async fn offline_vouchers(
    connection: &mut Connection,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<Vec<OfflineVoucher>, Error> {
    let (serial, id) = after.unwrap_or_default();
    connection
        .fetch_all(
            "SELECT voucher_id, vendor, serial, voucher, voucher_type, assertion, expires_us \
             FROM offline_voucher WHERE serial > $1 OR (serial = $1 AND voucher_id > $2) \
             ORDER BY serial, voucher_id LIMIT $3",
            params![serial, id, limit],
        )
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Stores a voucher; says whether it was new.
///
/// # Errors
/// The database failed.
pub async fn put_offline_voucher(
    connection: &mut Connection,
    voucher: &OfflineVoucher,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let added = connection
        .execute(
            "INSERT INTO offline_voucher (voucher_id, vendor, serial, voucher, voucher_type, \
             assertion, expires_us, loaded_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (voucher_id) DO NOTHING",
            params![
                &voucher.voucher_id,
                &voucher.vendor,
                &voucher.serial,
                &voucher.voucher,
                &voucher.media_type,
                &voucher.assertion,
                voucher.expires,
                now
            ],
        )
        .await?;
    Ok(added > 0)
}

/// Whether a voucher is there already.
///
/// # Errors
/// The database failed.
pub async fn has_offline_voucher(
    connection: &mut Connection,
    voucher_id: &str,
) -> Result<bool, Error> {
    let row = connection
        .fetch_optional(
            "SELECT voucher_id FROM offline_voucher WHERE voucher_id = $1",
            params![voucher_id],
        )
        .await?;
    Ok(row.is_some())
}
