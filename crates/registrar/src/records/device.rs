//! Devices: one row for each identity that was ever presented.

use serde::Serialize;
use store::{AssertSqlSafe, Connection, Error, Row, Value, params};
use time::OffsetDateTime;

use super::{History, State, rfc3339};

/// An identity as it was presented.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The key of the row.
    pub device_id: String,
    /// Whether a vendor profile vouches for it.
    pub trusted: bool,
    /// The vendor profile, or nothing.
    pub vendor: String,
    /// The serial number; only claimed if the identity is not trusted.
    pub serial: String,
    /// Key of the issuer, in hexadecimal; the device's own key if the identity is not trusted.
    pub issuer_key: String,
    /// The product.
    pub product: Option<String>,
    /// Subject of the IDevID.
    pub subject: String,
    /// The IDevID.
    pub idevid: Option<Vec<u8>>,
    /// SHA-256 of the IDevID's key, in hexadecimal.
    pub key: Option<String>,
}

/// A decision by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It may join.
    Approved,
    /// It may not.
    Denied,
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

/// A device as it stands in the database.
#[derive(Clone, Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the columns are documented at the Sighting and the State"
)]
pub struct Device {
    pub device_id: String,
    pub serial: String,
    pub vendor: String,
    pub product: Option<String>,
    pub state: State,
    pub trusted: bool,
    pub code: Option<String>,
    pub next_action: Option<String>,
    pub subject: String,
    pub issuer_key: String,
    #[serde(skip)]
    pub idevid: Option<Vec<u8>>,
    /// SHA-256 of the key that this identity is bound to since its first voucher.
    pub bound_key: Option<String>,
    /// SHA-256 of the key that was presented last.
    pub presented_key: Option<String>,
    pub decision: Option<Decision>,
    pub decided_by: Option<String>,
    #[serde(serialize_with = "optional_time")]
    pub decided_at: Option<OffsetDateTime>,
    pub decision_note: Option<String>,
    /// Whether a person said that the history at the MASA does not matter.
    pub ignore_history: bool,
    pub history: History,
    #[serde(serialize_with = "json_time")]
    pub first_seen: OffsetDateTime,
    #[serde(serialize_with = "json_time")]
    pub last_seen: OffsetDateTime,
}

fn json_time<S: serde::Serializer>(time: &OffsetDateTime, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&rfc3339(*time))
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

impl Device {
    /// The identity of this row, for an attempt that was recognised in another way.
    #[must_use]
    pub fn sighting(&self) -> Sighting {
        Sighting {
            device_id: self.device_id.clone(),
            trusted: self.trusted,
            vendor: self.vendor.clone(),
            serial: self.serial.clone(),
            issuer_key: self.issuer_key.clone(),
            product: self.product.clone(),
            subject: self.subject.clone(),
            idevid: self.idevid.clone(),
            key: self.presented_key.clone(),
        }
    }
}

/// Which devices are wanted.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    /// In this state.
    pub state: Option<State>,
    /// Of this vendor.
    pub vendor: Option<String>,
    /// With this code.
    pub code: Option<String>,
    /// With this text in the serial number.
    pub serial_contains: Option<String>,
    /// Seen at or after this time.
    pub seen_since: Option<OffsetDateTime>,
    /// After the row with this key, in the order of keys; for paging.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

const COLUMNS: &str = "device_id, trusted, vendor, serial, issuer_key, product, subject, idevid, \
    bound_key, presented_key, state, code, next_action, decision, decided_by, decided_us, \
    decision_note, ignore_history, history, first_seen_us, last_seen_us";

fn read(row: &Row) -> Result<Device, Error> {
    Ok(Device {
        device_id: row.text("device_id")?,
        trusted: row.boolean("trusted")?,
        vendor: row.text("vendor")?,
        serial: row.text("serial")?,
        issuer_key: row.text("issuer_key")?,
        product: row.optional_text("product")?,
        subject: row.text("subject")?,
        idevid: row.optional_bytes("idevid")?,
        bound_key: row.optional_text("bound_key")?,
        presented_key: row.optional_text("presented_key")?,
        state: State::parse(&row.text("state")?),
        code: row.optional_text("code")?,
        next_action: row.optional_text("next_action")?,
        decision: match row.optional_text("decision")?.as_deref() {
            Some("approved") => Some(Decision::Approved),
            // Anything else than a clear yes is a no.
            Some(_) => Some(Decision::Denied),
            None => None,
        },
        decided_by: row.optional_text("decided_by")?,
        decided_at: row.optional_time("decided_us")?,
        decision_note: row.optional_text("decision_note")?,
        ignore_history: row.boolean("ignore_history")?,
        history: History::parse(&row.text("history")?),
        first_seen: row.time("first_seen_us")?,
        last_seen: row.time("last_seen_us")?,
    })
}

fn select(rest: &str) -> AssertSqlSafe<String> {
    // Only texts of this module go in; what comes from a peer is a parameter.
    AssertSqlSafe(format!("SELECT {COLUMNS} FROM device {rest}"))
}

/// Notes that a device was seen. A new identity gets a row in the state `first`.
///
/// # Errors
/// The database failed.
pub async fn touch(
    connection: &mut Connection,
    sighting: &Sighting,
    first: State,
    now: OffsetDateTime,
) -> Result<(), Error> {
    connection
        .execute(
            "INSERT INTO device (device_id, trusted, vendor, serial, issuer_key, product, subject, \
             idevid, presented_key, state, ignore_history, history, first_seen_us, last_seen_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 'unknown', $11, $12) \
             ON CONFLICT (device_id) DO UPDATE SET trusted = excluded.trusted, \
             vendor = excluded.vendor, product = excluded.product, subject = excluded.subject, \
             idevid = excluded.idevid, presented_key = excluded.presented_key, \
             last_seen_us = excluded.last_seen_us",
            params![
                &sighting.device_id,
                sighting.trusted,
                &sighting.vendor,
                &sighting.serial,
                &sighting.issuer_key,
                sighting.product.clone(),
                &sighting.subject,
                sighting.idevid.clone(),
                sighting.key.clone(),
                first.as_str(),
                now,
                now
            ],
        )
        .await?;
    Ok(())
}

/// One device by its key.
///
/// # Errors
/// The database failed.
pub async fn device(connection: &mut Connection, device_id: &str) -> Result<Option<Device>, Error> {
    connection
        .fetch_optional(select("WHERE device_id = $1"), params![device_id])
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// Devices that bear a serial number, trusted ones first; of one vendor if it is named.
///
/// # Errors
/// The database failed.
pub async fn find_devices(
    connection: &mut Connection,
    serial: &str,
    vendor: Option<&str>,
) -> Result<Vec<Device>, Error> {
    let rows = match vendor {
        Some(vendor) => {
            connection
                .fetch_all(
                    select("WHERE serial = $1 AND vendor = $2 ORDER BY trusted DESC, last_seen_us DESC LIMIT 100"),
                    params![serial, vendor],
                )
                .await?
        }
        None => {
            connection
                .fetch_all(
                    select("WHERE serial = $1 OR device_id = $1 ORDER BY trusted DESC, last_seen_us DESC LIMIT 100"),
                    params![serial],
                )
                .await?
        }
    };
    rows.iter().map(read).collect()
}

/// A page of devices in the order of their keys.
///
/// # Errors
/// The database failed.
pub async fn devices(
    connection: &mut Connection,
    filter: &DeviceFilter,
) -> Result<Vec<Device>, Error> {
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut condition = |text: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{text} ${}", values.len()));
    };
    if let Some(after) = &filter.after {
        condition("device_id >", after.into());
    }
    if let Some(state) = filter.state {
        condition("state =", state.as_str().into());
    }
    if let Some(vendor) = &filter.vendor {
        condition("vendor =", vendor.into());
    }
    if let Some(code) = &filter.code {
        condition("code =", code.into());
    }
    if let Some(text) = &filter.serial_contains {
        let escaped = text
            .replace('!', "!!")
            .replace('%', "!%")
            .replace('_', "!_");
        values.push(format!("%{escaped}%").into());
        conditions.push(format!("serial LIKE ${} ESCAPE '!'", values.len()));
    }
    let mut condition = |text: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{text} ${}", values.len()));
    };
    if let Some(since) = filter.seen_since {
        condition("last_seen_us >=", since.into());
    }
    let filtered = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    values.push(filter.limit.max(1).into());
    let rest = format!("{filtered} ORDER BY device_id LIMIT ${}", values.len());
    connection
        .fetch_all(select(&rest), values)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// How many devices are in each state.
///
/// # Errors
/// The database failed.
pub async fn state_counts(connection: &mut Connection) -> Result<Vec<(State, i64)>, Error> {
    let rows = connection
        .fetch_all(
            "SELECT state, COUNT(*) AS number FROM device GROUP BY state",
            params![],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((State::parse(&row.text("state")?), row.integer("number")?)))
        .collect()
}

/// Sets what an operator sees.
///
/// # Errors
/// The database failed.
pub async fn set_state(
    connection: &mut Connection,
    device_id: &str,
    state: State,
    code: Option<&str>,
    next_action: Option<&str>,
) -> Result<(), Error> {
    connection
        .execute(
            "UPDATE device SET state = $1, code = $2, next_action = $3 WHERE device_id = $4",
            params![state.as_str(), code, next_action, device_id],
        )
        .await?;
    Ok(())
}

/// Sets what is known about the history.
///
/// # Errors
/// The database failed.
pub async fn set_history(
    connection: &mut Connection,
    device_id: &str,
    history: History,
) -> Result<(), Error> {
    connection
        .execute(
            "UPDATE device SET history = $1 WHERE device_id = $2",
            params![history.as_str(), device_id],
        )
        .await?;
    Ok(())
}

/// Outcome of [`bind_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// This key is the one that the identity is bound to, now or since long.
    Same,
    /// The identity is bound to another key.
    Other,
}

/// Binds an identity to the key of its IDevID, once.
///
/// # Errors
/// The database failed.
pub async fn bind_key(
    connection: &mut Connection,
    device_id: &str,
    key: &str,
) -> Result<Bound, Error> {
    connection
        .execute(
            "UPDATE device SET bound_key = $1 WHERE device_id = $2 AND bound_key IS NULL",
            params![key, device_id],
        )
        .await?;
    let bound = connection
        .fetch_optional(
            "SELECT bound_key FROM device WHERE device_id = $1",
            params![device_id],
        )
        .await?
        .map(|row| row.optional_text("bound_key"))
        .transpose()?
        .flatten();
    Ok(if bound.as_deref() == Some(key) {
        Bound::Same
    } else {
        Bound::Other
    })
}

/// Records the decision of a person. `rebind` forgets the key that the identity was bound to.
///
/// # Errors
/// The database failed.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a column of the one row that is written"
)]
pub async fn decide(
    connection: &mut Connection,
    device_id: &str,
    decision: Decision,
    by: &str,
    note: Option<&str>,
    rebind: bool,
    ignore_history: bool,
    now: OffsetDateTime,
) -> Result<(), Error> {
    connection
        .execute(
            "UPDATE device SET decision = $1, decided_by = $2, decision_note = $3, \
             decided_us = $4, ignore_history = $5 WHERE device_id = $6",
            params![decision.as_str(), by, note, now, ignore_history, device_id],
        )
        .await?;
    if rebind {
        connection
            .execute(
                "UPDATE device SET bound_key = presented_key WHERE device_id = $1",
                params![device_id],
            )
            .await?;
    }
    Ok(())
}
