//! Devices: finding them and changing whose they are.

use std::sync::Arc;

use artifacts::{Assertion, Envelope};
use futures::FutureExt as _;
use serde::Serialize;
use serde_json::json;
use store::{AssertSqlSafe, Connection, Row, Store, params};
use time::OffsetDateTime;

use super::{TEXT_LENGTH_MAX_BYTES, find_owner, record, subject};
use crate::Error;

/// A device of the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Serial number, exactly as in the IDevID.
    pub serial: String,
    /// Key identifier of the issuer of its IDevID; empty if it was not known at import.
    #[serde(serialize_with = "as_hex")]
    pub issuer: Vec<u8>,
    /// What it is.
    pub product: String,
    /// The owner who bought it.
    pub sold_to: Option<String>,
    /// Ship date, `YYYY-MM-DD`.
    pub shipped: Option<String>,
    /// SHA-256 of the key that was pinned for the domain that holds it, in hex.
    pub holder_domain: Option<String>,
    /// The registered owner behind that domain.
    pub holder_owner: Option<String>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339::option")]
    pub holder_since: Option<OffsetDateTime>,
    /// Why no voucher is issued for it.
    pub blocked: Option<String>,
    /// SHA-256 of the public key of its IDevID, in hex.
    pub idevid_key: Option<String>,
    /// Whether it can judge `expires-on`.
    pub has_clock: bool,
    /// Voucher formats it can process; empty for all.
    pub formats: Vec<&'static str>,
    /// The least assertion under which it is handed over.
    pub assertion_min: Option<&'static str>,
    /// When it came into the register.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When its row changed last.
    #[serde(with = "time::serde::rfc3339")]
    pub changed: OffsetDateTime,
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

const COLUMNS: &str = "serial, issuer, product, sold_to, shipped, holder_domain, \
     holder_owner, holder_since_us, blocked, idevid_key, has_clock, formats, assertion_min, \
     created_us, changed_us";

fn device_of(row: &Row) -> Result<Device, Error> {
    let formats = row.text("formats")?;
    let named = |name: &str| Envelope::ALL.into_iter().find(|e| e.name() == name);
    Ok(Device {
        serial: row.text("serial")?,
        issuer: row.bytes("issuer")?,
        product: row.text("product")?,
        sold_to: row.optional_text("sold_to")?,
        shipped: row.optional_text("shipped")?,
        holder_domain: row.optional_bytes("holder_domain")?.map(hex::encode),
        holder_owner: row.optional_text("holder_owner")?,
        holder_since: row.optional_time("holder_since_us")?,
        blocked: row.optional_text("blocked")?,
        idevid_key: row.optional_bytes("idevid_key")?.map(hex::encode),
        has_clock: row.boolean("has_clock")?,
        formats: formats
            .split_whitespace()
            .filter_map(named)
            .map(Envelope::name)
            .collect(),
        assertion_min: row
            .optional_text("assertion_min")?
            .and_then(|name| Assertion::from_name(&name))
            .map(Assertion::as_str),
        created: row.time("created_us")?,
        changed: row.time("changed_us")?,
    })
}

/// Which devices [`list_devices`] gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Serial numbers that begin like this.
    pub serial_prefix: Option<String>,
    /// Of this product.
    pub product: Option<String>,
    /// Sold to this owner.
    pub owner: Option<String>,
    /// Blocked ones only.
    pub blocked: bool,
    /// Held by some domain only.
    pub held: bool,
    /// Serial numbers after this one (paging).
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// Devices in the order of their serial numbers.
///
/// # Errors
/// What the database said.
pub async fn list_devices(store: &Store, filter: &DeviceFilter) -> Result<Vec<Device>, Error> {
    let mut sql = format!("SELECT {COLUMNS} FROM device WHERE serial > $1");
    let mut values = params![filter.after.clone().unwrap_or_default()];
    let mut clause = |sql: &mut String, text: &str, value: store::Value| {
        values.push(value);
        sql.push_str(&text.replace("$n", &format!("${}", values.len())));
    };
    if let Some(prefix) = &filter.serial_prefix {
        // A range instead of LIKE: it uses the key and needs no escaping.
        clause(&mut sql, " AND serial >= $n", prefix.into());
        clause(
            &mut sql,
            " AND serial < $n",
            format!("{prefix}\u{10ffff}").into(),
        );
    }
    if let Some(product) = &filter.product {
        clause(&mut sql, " AND product = $n", product.into());
    }
    if let Some(owner) = &filter.owner {
        clause(&mut sql, " AND sold_to = $n", owner.into());
    }
    if filter.blocked {
        sql.push_str(" AND blocked IS NOT NULL");
    }
    if filter.held {
        sql.push_str(" AND holder_domain IS NOT NULL");
    }
    clause(
        &mut sql,
        " ORDER BY serial, issuer LIMIT $n",
        filter.limit.into(),
    );
    let rows = store.fetch_all(AssertSqlSafe(sql), values).await?;
    rows.iter().map(device_of).collect()
}

/// All devices with this serial number; more than one if several issuers use it.
///
/// # Errors
/// What the database said.
pub async fn find_devices(store: &Store, serial: &str) -> Result<Vec<Device>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM device WHERE serial = $1 ORDER BY issuer");
    let rows = store.fetch_all(AssertSqlSafe(sql), params![serial]).await?;
    rows.iter().map(device_of).collect()
}

/// The one device with this serial number, and issuer if it is given.
///
/// # Errors
/// When there is none, or several and no issuer was named.
pub async fn find_device(
    store: &Store,
    serial: &str,
    issuer: Option<&[u8]>,
) -> Result<Device, Error> {
    let mut found = find_devices(store, serial).await?;
    found.retain(|device| issuer.is_none_or(|issuer| issuer == device.issuer));
    let count = found.len();
    match (found.pop(), count) {
        (Some(device), 1) => Ok(device),
        (Some(_), count) => Err(Error::Ambiguous {
            serial: serial.to_owned(),
            count,
        }),
        (None, _) => Err(Error::NotFound {
            what: "device",
            name: serial.to_owned(),
        }),
    }
}

/// A change of one device's row with its audit entry, in one transaction.
async fn change(
    store: &Store,
    name: &'static str,
    device: &Device,
    sql: &'static str,
    values: Vec<store::Value>,
    data: serde_json::Value,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let device = Arc::new(device.clone());
    store
        .transaction(name, move |connection| {
            let (device, mut values, data) = (Arc::clone(&device), values.clone(), data.clone());
            async move {
                values.extend(params![&device.serial, &device.issuer, now]);
                if connection.execute(sql, values).await? != 1 {
                    let name = device.serial.clone();
                    return Err(Error::NotFound {
                        what: "device",
                        name,
                    });
                }
                let subject = subject(&device.serial, &device.issuer);
                record(connection, name, &super::operator(), &subject, data, now).await?;
                Ok(())
            }
            .boxed()
        })
        .await
}

/// Gives a device to another owner, who can claim it from now on. The domain that held it loses it
/// unless it is the new owner's.
///
/// # Errors
/// When there is no such owner or the database fails.
pub async fn transfer(
    store: &Store,
    device: &Device,
    owner: &str,
    now: OffsetDateTime,
) -> Result<(), Error> {
    find_owner(store, owner).await?;
    let data = json!({
        "from": device.sold_to, "to": owner, "held_by": device.holder_domain,
    });
    let sql = "UPDATE device SET sold_to = $1, changed_us = $4, version = version + 1, \
         holder_domain = CASE WHEN holder_owner = $1 THEN holder_domain ELSE NULL END, \
         holder_since_us = CASE WHEN holder_owner = $1 THEN holder_since_us ELSE NULL END, \
         holder_owner = CASE WHEN holder_owner = $1 THEN holder_owner ELSE NULL END \
         WHERE serial = $2 AND issuer = $3";
    change(
        store,
        "device-transferred",
        device,
        sql,
        params![owner],
        data,
        now,
    )
    .await
}

/// Takes a device from the domain that holds it, so that another one can claim it. With `unsold`,
/// the register also forgets who bought it.
///
/// # Errors
/// What the database said.
pub async fn release(
    store: &Store,
    device: &Device,
    unsold: bool,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let data = json!({
        "held_by": device.holder_domain, "sold_to": device.sold_to, "unsold": unsold,
    });
    let sql = "UPDATE device SET holder_domain = NULL, holder_owner = NULL, \
         holder_since_us = NULL, changed_us = $4, version = version + 1, \
         sold_to = CASE WHEN $1 = 1 THEN NULL ELSE sold_to END \
         WHERE serial = $2 AND issuer = $3";
    change(
        store,
        "device-released",
        device,
        sql,
        params![unsold],
        data,
        now,
    )
    .await
}

/// Blocks a device (`Some(reason)`) or lifts the block.
///
/// # Errors
/// What the database said.
pub async fn block(
    store: &Store,
    device: &Device,
    reason: Option<&str>,
    now: OffsetDateTime,
) -> Result<(), Error> {
    if reason.is_some_and(|reason| reason.is_empty() || reason.len() > TEXT_LENGTH_MAX_BYTES) {
        let text = format!("a reason has 1 to {TEXT_LENGTH_MAX_BYTES} octets");
        return Err(Error::Usage(text));
    }
    let name = if reason.is_some() {
        "device-blocked"
    } else {
        "device-unblocked"
    };
    let data = json!({ "reason": reason, "before": device.blocked });
    let sql = "UPDATE device SET blocked = $1, changed_us = $4, version = version + 1 \
         WHERE serial = $2 AND issuer = $3";
    change(store, name, device, sql, params![reason], data, now).await
}

/// How many devices there are, how many are held and how many blocked.
pub(crate) async fn counts(connection: &mut Connection) -> Result<(i64, i64, i64), Error> {
    let row = connection
        .fetch_one(
            "SELECT COUNT(*) AS devices, COUNT(holder_domain) AS held, COUNT(blocked) AS blocked \
             FROM device",
            params![],
        )
        .await?;
    Ok((
        row.integer("devices")?,
        row.integer("held")?,
        row.integer("blocked")?,
    ))
}
