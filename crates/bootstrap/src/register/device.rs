//! Devices: finding them, listing them, and changing what the operator knows about them.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use serde::Serialize;
use serde_json::json;
use store::{AssertSqlSafe, Connection, Row, Store, params};
use time::OffsetDateTime;

use super::state::State;
use super::{operator, record, rows, subject, touch};
use crate::Error;

/// Rows that are read at once when a list has no other bound.
pub(crate) const PAGE: u32 = 500;

/// A device of the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// Its number in the register.
    #[serde(skip)]
    pub id: i64,
    /// The vendor, as in the vendors' profiles.
    pub vendor: String,
    /// Serial number, exactly as in the IDevID.
    pub serial: String,
    /// The device that this one is a part of.
    #[serde(skip)]
    pub alias_of: Option<i64>,
    /// The group; empty for none.
    pub group: String,
    /// The site; empty for none.
    pub site: String,
    /// The type, which is the name of a device profile; empty for the default.
    pub device_type: String,
    /// What it is.
    pub hw_model: Option<String>,
    /// Its operating system.
    pub os_name: Option<String>,
    /// The version of it.
    pub os_version: Option<String>,
    /// Variables for templates.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Where it is on its way.
    pub state: State,
    /// Whose it is, where the server works for several owners.
    pub owner: Option<String>,
    /// Whether it may use HTTP Basic, and what its password is checked against.
    #[serde(skip)]
    pub basic_hash: Option<String>,
    /// Why it gets nothing, if it was blocked.
    pub blocked: Option<String>,
    /// What the operator wrote about it.
    pub note: String,
    /// Counts the changes.
    #[serde(skip)]
    pub version: i64,
    /// When it came into the register.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When the operator changed it last.
    #[serde(with = "time::serde::rfc3339")]
    pub changed: OffsetDateTime,
    /// When it was seen first.
    #[serde(with = "time::serde::rfc3339::option")]
    pub first_seen: Option<OffsetDateTime>,
    /// When it was seen last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_seen: Option<OffsetDateTime>,
    /// The last type of progress that it reported.
    pub last_progress: Option<String>,
    /// When that was.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_progress_at: Option<OffsetDateTime>,
    /// Since when it is expected to report something.
    #[serde(with = "time::serde::rfc3339::option")]
    pub waiting_since: Option<OffsetDateTime>,
    /// When it was released.
    #[serde(with = "time::serde::rfc3339::option")]
    pub released: Option<OffsetDateTime>,
    /// The device that took its place.
    #[serde(skip)]
    pub replaced_by: Option<i64>,
}

/// The columns of [`DeviceRow`], for other queries.
pub const DEVICE_COLUMNS: &str = "id, vendor, serial, alias_of, group_name, site, device_type, \
     hw_model, os_name, os_version, variables, state, owner, basic_hash, blocked, note, version, \
     created_us, changed_us, first_seen_us, last_seen_us, last_progress, last_progress_us, \
     waiting_since_us, released_us, replaced_by";

/// Reads a row that has the [`DEVICE_COLUMNS`].
///
/// # Errors
/// A column is not what it should be.
pub fn device_of(row: &Row) -> Result<DeviceRow, Error> {
    let state = row.text("state")?;
    let variables = row.text("variables")?;
    let wrong = |column: &str, detail: String| {
        Error::Store(store::Error::Column {
            column: column.to_owned(),
            detail,
        })
    };
    Ok(DeviceRow {
        id: row.integer("id")?,
        vendor: row.text("vendor")?,
        serial: row.text("serial")?,
        alias_of: row.optional_integer("alias_of")?,
        group: row.text("group_name")?,
        site: row.text("site")?,
        device_type: row.text("device_type")?,
        hw_model: row.optional_text("hw_model")?,
        os_name: row.optional_text("os_name")?,
        os_version: row.optional_text("os_version")?,
        variables: serde_json::from_str(&variables)
            .map_err(|error| wrong("variables", error.to_string()))?,
        state: State::parse(&state)
            .ok_or_else(|| wrong("state", format!("{state:?} is not a state")))?,
        owner: row.optional_text("owner")?,
        basic_hash: row.optional_text("basic_hash")?,
        blocked: row.optional_text("blocked")?,
        note: row.text("note")?,
        version: row.integer("version")?,
        created: row.time("created_us")?,
        changed: row.time("changed_us")?,
        first_seen: row.optional_time("first_seen_us")?,
        last_seen: row.optional_time("last_seen_us")?,
        last_progress: row.optional_text("last_progress")?,
        last_progress_at: row.optional_time("last_progress_us")?,
        waiting_since: row.optional_time("waiting_since_us")?,
        released: row.optional_time("released_us")?,
        replaced_by: row.optional_integer("replaced_by")?,
    })
}

/// The device of this vendor with this serial number.
///
/// # Errors
/// What the database said.
pub async fn device_by_key(
    connection: &mut Connection,
    vendor: &str,
    serial: &str,
) -> Result<Option<DeviceRow>, Error> {
    let sql = format!("SELECT {DEVICE_COLUMNS} FROM device WHERE vendor = $1 AND serial = $2");
    let row = connection
        .fetch_optional(AssertSqlSafe(sql), params![vendor, serial])
        .await?;
    row.as_ref().map(device_of).transpose()
}

/// The device with this number.
///
/// # Errors
/// What the database said.
pub async fn device_by_id(
    connection: &mut Connection,
    id: i64,
) -> Result<Option<DeviceRow>, Error> {
    let sql = format!("SELECT {DEVICE_COLUMNS} FROM device WHERE id = $1");
    let row = connection
        .fetch_optional(AssertSqlSafe(sql), params![id])
        .await?;
    row.as_ref().map(device_of).transpose()
}

/// The one device that an operator means by a serial number: `SERIAL` or `VENDOR/SERIAL`.
///
/// # Errors
/// None or several have it.
pub async fn find_device(
    connection: &mut Connection,
    named: &str,
    vendor: Option<&str>,
) -> Result<DeviceRow, Error> {
    let mut found = find_devices(connection, named, vendor).await?;
    if found.is_empty()
        && vendor.is_none()
        && let Some((vendor, serial)) = named.split_once('/')
    {
        found = find_devices(connection, serial, Some(vendor)).await?;
    }
    let count = found.len();
    match (found.pop(), count) {
        (Some(device), 1) => Ok(device),
        (Some(_), count) => Err(Error::Ambiguous {
            serial: named.to_owned(),
            count,
        }),
        (None, _) => Err(Error::NotFound {
            what: "device",
            name: named.to_owned(),
        }),
    }
}

/// All devices with this serial number, of one vendor if it is given.
///
/// # Errors
/// What the database said.
pub async fn find_devices(
    connection: &mut Connection,
    serial: &str,
    vendor: Option<&str>,
) -> Result<Vec<DeviceRow>, Error> {
    let sql = format!(
        "SELECT {DEVICE_COLUMNS} FROM device WHERE serial = $1 ORDER BY vendor LIMIT {PAGE}"
    );
    let rows = connection
        .fetch_all(AssertSqlSafe(sql), params![serial])
        .await?;
    let mut devices = Vec::with_capacity(rows.len());
    for row in &rows {
        let device = device_of(row)?;
        if vendor.is_none_or(|vendor| vendor == device.vendor) {
            devices.push(device);
        }
    }
    Ok(devices)
}

/// Which devices a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Serial numbers that begin like this.
    pub serial_prefix: Option<String>,
    /// Of this vendor.
    pub vendor: Option<String>,
    /// Of this group.
    pub group: Option<String>,
    /// At this site.
    pub site: Option<String>,
    /// Of this type.
    pub device_type: Option<String>,
    /// In this state.
    pub state: Option<State>,
    /// Of this owner.
    pub owner: Option<String>,
    /// Blocked ones only.
    pub blocked: bool,
    /// Without any voucher that is valid at this time.
    pub without_voucher: Option<OffsetDateTime>,
    /// Released and replaced ones too.
    pub gone: bool,
    /// Numbers after this one (paging).
    pub after: i64,
    /// At most so many; 0 for [`PAGE`].
    pub limit: u32,
}

impl DeviceFilter {
    fn sql(&self, what: &str, tail: bool) -> (String, Vec<store::Value>) {
        let mut sql = format!("SELECT {what} FROM device WHERE id > $1");
        let mut values = params![self.after];
        let mut clause = |sql: &mut String, text: &str, value: store::Value| {
            values.push(value);
            sql.push_str(&text.replace("$n", &format!("${}", values.len())));
        };
        if let Some(prefix) = &self.serial_prefix {
            // Not LIKE, which folds case in SQLite, and not a range, which PostgreSQL orders by
            // the language of the database.
            let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
            clause(
                &mut sql,
                " AND substr(serial, 1, CAST($n AS INTEGER))",
                length.into(),
            );
            clause(&mut sql, " = $n", prefix.into());
        }
        for (column, value) in [
            ("vendor", &self.vendor),
            ("group_name", &self.group),
            ("site", &self.site),
            ("device_type", &self.device_type),
            ("owner", &self.owner),
        ] {
            if let Some(value) = value {
                clause(&mut sql, &format!(" AND {column} = $n"), value.into());
            }
        }
        match self.state {
            Some(state) => clause(&mut sql, " AND state = $n", state.as_str().into()),
            None if !self.gone => sql.push_str(" AND state NOT IN ('released', 'replaced')"),
            None => {}
        }
        if self.blocked {
            sql.push_str(" AND blocked IS NOT NULL");
        }
        if let Some(now) = self.without_voucher {
            clause(
                &mut sql,
                " AND NOT EXISTS (SELECT 1 FROM voucher v WHERE v.device = device.id AND v.nonce \
                 IS NULL AND (v.expires_us IS NULL OR v.expires_us > $n))",
                now.into(),
            );
        }
        if tail {
            let limit = if self.limit == 0 { PAGE } else { self.limit };
            clause(&mut sql, " ORDER BY id LIMIT $n", limit.into());
        }
        (sql, values)
    }
}

/// Devices in the order in which they came into the register.
///
/// # Errors
/// What the database said.
pub async fn list_devices(
    connection: &mut Connection,
    filter: &DeviceFilter,
) -> Result<Vec<DeviceRow>, Error> {
    let (sql, values) = filter.sql(DEVICE_COLUMNS, true);
    let rows = connection.fetch_all(AssertSqlSafe(sql), values).await?;
    rows.iter().map(device_of).collect()
}

/// How many devices there are in each state, of those that the filter lets through.
///
/// # Errors
/// What the database said.
pub async fn count_devices(
    connection: &mut Connection,
    filter: &DeviceFilter,
) -> Result<Vec<(State, i64)>, Error> {
    let (sql, values) = filter.sql("state, COUNT(*) AS number", false);
    let rows = connection
        .fetch_all(AssertSqlSafe(format!("{sql} GROUP BY state")), values)
        .await?;
    let mut counts = Vec::new();
    for row in &rows {
        if let Some(state) = State::parse(&row.text("state")?) {
            counts.push((state, row.integer("number")?));
        }
    }
    counts.sort_by_key(|(state, _)| *state as usize);
    Ok(counts)
}

/// Groups, with how many devices each has.
///
/// # Errors
/// What the database said.
pub async fn list_groups(store: &Store) -> Result<Vec<(String, i64)>, Error> {
    let rows = store
        .fetch_all(
            "SELECT group_name, COUNT(*) AS number FROM device \
             WHERE state NOT IN ('released', 'replaced') GROUP BY group_name ORDER BY group_name",
            params![],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.text("group_name")?, row.integer("number")?)))
        .collect()
}

/// What `devices set` changes. `None` leaves what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    /// The group; empty for none.
    pub group: Option<String>,
    /// The site.
    pub site: Option<String>,
    /// The type.
    pub device_type: Option<String>,
    /// The owner; empty for none.
    pub owner: Option<String>,
    /// The note.
    pub note: Option<String>,
    /// Variables to set.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Variables to take away.
    pub unset: Vec<String>,
    /// Why it gets nothing from now on.
    pub block: Option<String>,
    /// Lift the block.
    pub unblock: bool,
    /// What a Basic password is checked against; `Some(None)` takes it away.
    pub basic_hash: Option<Option<String>>,
    /// Begin anew: the device is registered and has not asked yet.
    pub reset: bool,
}

/// Changes a device; says whether anything was different.
///
/// # Errors
/// A value cannot be kept, or the database.
pub async fn set_device(
    store: &Store,
    id: i64,
    change: DeviceChange,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    store
        .transaction("device-set", move |connection| {
            let change = change.clone();
            async move {
                let Some(before) = device_by_id(connection, id).await? else {
                    return Err(Error::NotFound {
                        what: "device",
                        name: id.to_string(),
                    });
                };
                let mut after = before.clone();
                apply(&mut after, &change)?;
                if after == before {
                    return Ok(false);
                }
                write(connection, &after, now).await?;
                touch(connection).await?;
                let data = json!({ "changed": differences(&before, &after) });
                let subject = subject(&after.vendor, &after.serial);
                record(connection, "device-set", &operator(), &subject, data, now).await?;
                Ok(true)
            }
            .boxed()
        })
        .await
}

fn apply(device: &mut DeviceRow, change: &DeviceChange) -> Result<(), Error> {
    let name = |what: &str, value: &str| {
        if value.is_empty() || rows::is_name(value) {
            Ok(value.to_owned())
        } else {
            Err(Error::Usage(format!(
                "{what} has to be letters, digits, dots, dashes and underscores"
            )))
        }
    };
    if let Some(group) = &change.group {
        device.group = name("group", group)?;
    }
    if let Some(kind) = &change.device_type {
        device.device_type = name("type", kind)?;
    }
    if let Some(owner) = &change.owner {
        device.owner = Some(name("owner", owner)?).filter(|owner| !owner.is_empty());
    }
    for (value, into) in [
        (&change.site, &mut device.site),
        (&change.note, &mut device.note),
    ] {
        if let Some(value) = value {
            if !rows::is_value(value) {
                return Err(Error::Usage(
                    "a value is too long or has control characters".to_owned(),
                ));
            }
            into.clone_from(value);
        }
    }
    for name in &change.unset {
        device.variables.remove(name);
    }
    device.variables.extend(change.variables.clone());
    rows::check_variables(&device.variables).map_err(|refused| Error::Usage(refused.detail))?;
    if change.unblock {
        device.blocked = None;
    }
    if let Some(reason) = &change.block {
        if !rows::is_value(reason) {
            return Err(Error::Usage("the reason is too long".to_owned()));
        }
        device.blocked = Some(reason.clone());
    }
    if let Some(hash) = &change.basic_hash {
        device.basic_hash.clone_from(hash);
    }
    if change.reset {
        if !device.state.is_ours() {
            return Err(Error::Usage(format!(
                "the device is {}; import it again",
                device.state
            )));
        }
        device.state = State::Registered;
        device.waiting_since = None;
        device.last_progress = None;
        device.last_progress_at = None;
    }
    Ok(())
}

/// The names of what differs; values may be secrets and stay out of the audit log.
pub(super) fn differences(before: &DeviceRow, after: &DeviceRow) -> Vec<String> {
    let mut names = Vec::new();
    let mut differ = |name: &str, differs: bool| {
        if differs {
            names.push(name.to_owned());
        }
    };
    differ("group", before.group != after.group);
    differ("site", before.site != after.site);
    differ("device-type", before.device_type != after.device_type);
    differ("hw-model", before.hw_model != after.hw_model);
    differ("os-name", before.os_name != after.os_name);
    differ("os-version", before.os_version != after.os_version);
    differ("owner", before.owner != after.owner);
    differ("note", before.note != after.note);
    differ("blocked", before.blocked != after.blocked);
    differ("basic", before.basic_hash != after.basic_hash);
    differ("state", before.state != after.state);
    differ("alias-of", before.alias_of != after.alias_of);
    for (name, value) in &after.variables {
        differ(
            &format!("var.{name}"),
            before.variables.get(name) != Some(value),
        );
    }
    for name in before.variables.keys() {
        differ(&format!("var.{name}"), !after.variables.contains_key(name));
    }
    names
}

/// Writes everything that an operator can change. What the device itself causes stays, except
/// that its state can be set.
pub(super) async fn write(
    connection: &mut Connection,
    device: &DeviceRow,
    now: OffsetDateTime,
) -> Result<(), Error> {
    connection
        .execute(
            "UPDATE device SET alias_of = $1, group_name = $2, site = $3, device_type = $4, \
             hw_model = $5, os_name = $6, os_version = $7, variables = $8, state = $9, owner = \
             $10, basic_hash = $11, blocked = $12, note = $13, waiting_since_us = $14, \
             last_progress = $15, last_progress_us = $16, released_us = $17, replaced_by = $18, \
             changed_us = $19, version = version + 1 WHERE id = $20",
            params![
                device.alias_of,
                &device.group,
                &device.site,
                &device.device_type,
                device.hw_model.clone(),
                device.os_name.clone(),
                device.os_version.clone(),
                variables_text(&device.variables)?,
                device.state.as_str(),
                device.owner.clone(),
                device.basic_hash.clone(),
                device.blocked.clone(),
                &device.note,
                device.waiting_since,
                device.last_progress.clone(),
                device.last_progress_at,
                device.released,
                device.replaced_by,
                now,
                device.id
            ],
        )
        .await?;
    Ok(())
}

pub(super) fn variables_text(
    variables: &BTreeMap<String, serde_json::Value>,
) -> Result<String, Error> {
    serde_json::to_string(variables).map_err(|error| Error::Usage(error.to_string()))
}
