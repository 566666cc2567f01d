//! Voucher exchanges: one row for each different request of a device.

use brski::registrar::Exchange;
use store::{Connection, Error, Row, params};
use time::OffsetDateTime;

/// An exchange with its place in the database.
#[derive(Clone, Debug)]
pub struct ExchangeRow {
    /// SHA-256 of the device's request: the same bytes are the same exchange.
    pub exchange_id: String,
    /// Whose it is.
    pub device_id: String,
    /// How far it got.
    pub exchange: Exchange,
    /// Whether the voucher was one that had been loaded beforehand.
    pub offline: bool,
    /// When it changed last.
    pub updated: OffsetDateTime,
}

fn read(row: &Row) -> Result<ExchangeRow, Error> {
    let body = row.text("body")?;
    Ok(ExchangeRow {
        exchange_id: row.text("exchange_id")?,
        device_id: row.text("device_id")?,
        exchange: serde_json::from_str(&body).map_err(|error| Error::Column {
            column: "body".to_owned(),
            detail: error.to_string(),
        })?,
        offline: row.boolean("offline")?,
        updated: row.time("updated_us")?,
    })
}

/// The exchange that began with those bytes.
///
/// # Errors
/// The database failed.
pub async fn exchange(
    connection: &mut Connection,
    exchange_id: &str,
) -> Result<Option<ExchangeRow>, Error> {
    let sql = "SELECT exchange_id, device_id, body, offline, updated_us FROM exchange \
               WHERE exchange_id = $1";
    connection
        .fetch_optional(sql, params![exchange_id])
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// Another exchange of a device in which the same nonce was used.
///
/// # Errors
/// The database failed.
pub async fn exchange_by_nonce(
    connection: &mut Connection,
    device_id: &str,
    nonce: &str,
) -> Result<Option<ExchangeRow>, Error> {
    let sql = "SELECT exchange_id, device_id, body, offline, updated_us FROM exchange \
               WHERE device_id = $1 AND nonce = $2 ORDER BY updated_us DESC LIMIT 1";
    connection
        .fetch_optional(sql, params![device_id, nonce])
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// The newest exchange of a device.
///
/// # Errors
/// The database failed.
pub async fn latest_exchange(
    connection: &mut Connection,
    device_id: &str,
) -> Result<Option<ExchangeRow>, Error> {
    Ok(exchanges(connection, device_id, 1).await?.pop())
}

/// The newest exchanges of a device, newest first.
///
/// # Errors
/// The database failed.
pub async fn exchanges(
    connection: &mut Connection,
    device_id: &str,
    limit: u32,
) -> Result<Vec<ExchangeRow>, Error> {
    let sql = "SELECT exchange_id, device_id, body, offline, updated_us FROM exchange \
               WHERE device_id = $1 ORDER BY created_us DESC, updated_us DESC LIMIT $2";
    connection
        .fetch_all(sql, params![device_id, limit])
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Writes an exchange, new or changed.
///
/// # Errors
/// The database failed.
pub async fn put_exchange(
    connection: &mut Connection,
    device_id: &str,
    exchange: &Exchange,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let body = serde_json::to_string(exchange).map_err(|error| Error::Column {
        column: "body".to_owned(),
        detail: error.to_string(),
    })?;
    connection
        .execute(
            "INSERT INTO exchange (exchange_id, device_id, nonce, body, offline, created_us, \
             updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (exchange_id) DO UPDATE \
             SET body = excluded.body, offline = excluded.offline, updated_us = excluded.updated_us",
            params![
                &exchange.request_digest,
                device_id,
                exchange.nonce.clone(),
                body,
                exchange.preloaded,
                exchange.begun_at,
                now
            ],
        )
        .await?;
    Ok(())
}
