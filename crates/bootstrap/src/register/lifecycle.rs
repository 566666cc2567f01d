//! What happens to a device that is swapped, given back or given on. Each verb says what became of
//! everything that hung on the device, and a second time changes nothing.

use futures::FutureExt as _;
use serde::Serialize;
use serde_json::json;
use store::{Connection, Store, params};
use time::OffsetDateTime;

use super::device::{DeviceRow, device_by_id, find_device, write};
use super::import::{blank, insert};
use super::state::State;
use super::{operator, record, rows, subject, touch};
use crate::Error;

/// What hung on a device and was taken away or could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Vouchers that were deleted here. Copies of them stay good until they end.
    pub vouchers_deleted: u64,
    /// Variables that were removed from the device.
    pub variables_removed: usize,
    /// Rollouts that it was taken out of.
    pub rollouts_left: u64,
    /// Serial numbers of certificates that were issued to it and are still valid; the CA has to
    /// revoke them.
    pub certificates_valid: Vec<String>,
    /// Serial numbers of devices that are registered as parts of it.
    pub parts: Vec<String>,
}

/// What `release` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The device.
    pub vendor: String,
    /// Its serial number.
    pub serial: String,
    /// Whether anything changed.
    pub changed: bool,
    /// What became of what hung on it.
    #[serde(flatten)]
    pub left: Left,
}

/// What `transfer` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transferred {
    /// Whose it is now.
    pub to: String,
    /// The rest is as with `release`.
    #[serde(flatten)]
    pub released: Released,
}

/// What `replace` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The vendor of the new device.
    pub vendor: String,
    /// The old device.
    pub old: String,
    /// The new device.
    pub new: String,
    /// Whether anything changed.
    pub changed: bool,
    /// Whether the new device was put into the register.
    pub added: bool,
    /// The names of what the new device took over.
    pub taken_over: Vec<String>,
    /// What became of what hung on the old one.
    #[serde(flatten)]
    pub left: Left,
}

/// Gives a device up: it gets nothing any more.
///
/// # Errors
/// There is no such device, or the database.
pub async fn release(
    store: &Store,
    serial: &str,
    vendor: Option<&str>,
    reason: &str,
    now: OffsetDateTime,
) -> Result<Released, Error> {
    part(store, serial, vendor, None, reason, now).await
}

/// Gives a device to somebody else: it gets nothing any more, and the register says who has it.
///
/// # Errors
/// There is no such device, the new owner cannot be named so, or the database.
pub async fn transfer(
    store: &Store,
    serial: &str,
    vendor: Option<&str>,
    to: &str,
    now: OffsetDateTime,
) -> Result<Transferred, Error> {
    if to.is_empty() || !rows::is_value(to) {
        return Err(Error::Usage("the new owner needs a name".to_owned()));
    }
    Ok(Transferred {
        to: to.to_owned(),
        released: part(store, serial, vendor, Some(to), "", now).await?,
    })
}

async fn part(
    store: &Store,
    serial: &str,
    vendor: Option<&str>,
    to: Option<&str>,
    reason: &str,
    now: OffsetDateTime,
) -> Result<Released, Error> {
    let (serial, vendor) = (serial.to_owned(), vendor.map(str::to_owned));
    let (to, reason) = (to.map(str::to_owned), reason.to_owned());
    store
        .transaction("device-release", move |connection| {
            let (serial, vendor) = (serial.clone(), vendor.clone());
            let (to, reason) = (to.clone(), reason.clone());
            async move {
                let mut device = find_device(connection, &serial, vendor.as_deref()).await?;
                let same = device.state == State::Released
                    && to
                        .as_ref()
                        .is_none_or(|to| device.owner.as_ref() == Some(to));
                let mut released = Released {
                    vendor: device.vendor.clone(),
                    serial: device.serial.clone(),
                    changed: !same,
                    left: Left::default(),
                };
                if same {
                    released.left = standing(connection, device.id, now).await?;
                    return Ok(released);
                }
                released.left = strip(connection, &mut device, now).await?;
                device.state = State::Released;
                device.released = Some(device.released.unwrap_or(now));
                device.owner.clone_from(&to);
                write(connection, &device, now).await?;
                touch(connection).await?;
                let kind = match &to {
                    Some(_) => "device-transferred",
                    None => "device-released",
                };
                let data = json!({ "to": to, "reason": reason, "left": released.left });
                let subject = subject(&device.vendor, &device.serial);
                record(connection, kind, &operator(), &subject, data, now).await?;
                Ok(released)
            }
            .boxed()
        })
        .await
}

/// Puts a new device in the place of an old one: it takes over group, site, type, variables, note
/// and owner; the old one gets nothing any more.
///
/// # Errors
/// There is no such device, the new one has been onboarded itself, or the database.
pub async fn replace(
    store: &Store,
    old: &str,
    new: &str,
    vendor: Option<&str>,
    now: OffsetDateTime,
) -> Result<Replaced, Error> {
    if !rows::is_serial(new) {
        return Err(Error::Usage(format!("{new:?} is not a serial number")));
    }
    let (old, new) = (old.to_owned(), new.to_owned());
    let vendor = vendor.map(str::to_owned);
    store
        .transaction("device-replace", move |connection| {
            let (old, new, vendor) = (old.clone(), new.clone(), vendor.clone());
            async move { swap(connection, &old, &new, vendor.as_deref(), now).await }.boxed()
        })
        .await
}

async fn swap(
    connection: &mut Connection,
    old: &str,
    new: &str,
    vendor: Option<&str>,
    now: OffsetDateTime,
) -> Result<Replaced, Error> {
    let mut old = find_device(connection, old, vendor).await?;
    if old.state == State::Replaced {
        return before(connection, &old, new, now).await;
    }
    if !old.state.is_ours() {
        return Err(Error::Usage(format!(
            "{} is {} and has nothing to hand over",
            old.serial, old.state
        )));
    }
    let found = find_device(connection, new, vendor.or(Some(&old.vendor))).await;
    let (mut successor, added) = match found {
        Ok(device) => (device, false),
        Err(Error::NotFound { .. }) => {
            insert(connection, &[blank(&old.vendor, new, now)]).await?;
            let vendor = Some(old.vendor.as_str());
            (find_device(connection, new, vendor).await?, true)
        }
        Err(error) => return Err(error),
    };
    if old.id == successor.id {
        return Err(Error::Usage("a device cannot replace itself".to_owned()));
    }
    let mut replaced = Replaced {
        vendor: successor.vendor.clone(),
        old: old.serial.clone(),
        new: successor.serial.clone(),
        changed: false,
        added,
        taken_over: Vec::new(),
        left: Left::default(),
    };
    if !matches!(successor.state, State::Registered | State::Waiting) {
        return Err(Error::Usage(format!(
            "{} is {}: only a device that was not onboarded can take a place; `devices set {} \
             --reset` if it is to begin anew",
            successor.serial, successor.state, successor.serial
        )));
    }
    let untouched = successor.clone();
    take_over(&mut successor, &old);
    replaced.taken_over = super::device::differences(&untouched, &successor);
    replaced.changed = true;
    write(connection, &successor, now).await?;
    replaced.left = strip(connection, &mut old, now).await?;
    old.state = State::Replaced;
    old.released = Some(now);
    old.replaced_by = Some(successor.id);
    write(connection, &old, now).await?;
    touch(connection).await?;
    let data = json!({
        "by": replaced.new, "taken_over": replaced.taken_over, "left": replaced.left,
    });
    let subject = subject(&old.vendor, &old.serial);
    record(
        connection,
        "device-replaced",
        &operator(),
        &subject,
        data,
        now,
    )
    .await?;
    Ok(replaced)
}

/// The answer for a device that was replaced before: by this one, and then nothing changes.
async fn before(
    connection: &mut Connection,
    old: &DeviceRow,
    new: &str,
    now: OffsetDateTime,
) -> Result<Replaced, Error> {
    let successor = match old.replaced_by {
        Some(id) => device_by_id(connection, id).await?,
        None => None,
    };
    let Some(successor) = successor.filter(|device| device.serial == new) else {
        let text = format!("{} was replaced by another device before", old.serial);
        return Err(Error::Usage(text));
    };
    Ok(Replaced {
        vendor: successor.vendor,
        old: old.serial.clone(),
        new: successor.serial,
        changed: false,
        added: false,
        taken_over: Vec::new(),
        left: standing(connection, old.id, now).await?,
    })
}

fn take_over(new: &mut DeviceRow, old: &DeviceRow) {
    new.group.clone_from(&old.group);
    new.site.clone_from(&old.site);
    new.device_type.clone_from(&old.device_type);
    new.variables.extend(old.variables.clone());
    new.owner.clone_from(&old.owner);
    if new.note.is_empty() {
        new.note.clone_from(&old.note);
    }
    // What the new one is, it says itself; where nothing is known, it is thought to be the same.
    for (value, into) in [
        (&old.hw_model, &mut new.hw_model),
        (&old.os_name, &mut new.os_name),
    ] {
        if into.is_none() {
            into.clone_from(value);
        }
    }
}

/// Takes everything away by which a device could be onboarded, or by which it knows secrets.
async fn strip(
    connection: &mut Connection,
    device: &mut DeviceRow,
    now: OffsetDateTime,
) -> Result<Left, Error> {
    let mut left = standing(connection, device.id, now).await?;
    left.variables_removed = device.variables.len();
    device.variables.clear();
    device.basic_hash = None;
    device.waiting_since = None;
    let id = params![device.id];
    left.vouchers_deleted = connection
        .execute("DELETE FROM voucher WHERE device = $1", id.clone())
        .await?;
    left.rollouts_left = connection
        .execute("DELETE FROM rollout_device WHERE device = $1", id.clone())
        .await?;
    connection
        .execute("DELETE FROM artefact WHERE device = $1", id.clone())
        .await?;
    connection
        .execute("DELETE FROM csr_demand WHERE device = $1", id)
        .await?;
    Ok(left)
}

/// What still stands of a device elsewhere.
async fn standing(
    connection: &mut Connection,
    device: i64,
    now: OffsetDateTime,
) -> Result<Left, Error> {
    let rows = connection
        .fetch_all(
            "SELECT serial FROM certificate WHERE device = $1 AND not_after_us > $2 ORDER BY id \
             LIMIT 100",
            params![device, now],
        )
        .await?;
    let certificates: Result<Vec<String>, store::Error> =
        rows.iter().map(|row| row.text("serial")).collect();
    let rows = connection
        .fetch_all(
            "SELECT serial FROM device WHERE alias_of = $1 ORDER BY id LIMIT 100",
            params![device],
        )
        .await?;
    let parts: Result<Vec<String>, store::Error> =
        rows.iter().map(|row| row.text("serial")).collect();
    Ok(Left {
        certificates_valid: certificates?,
        parts: parts?,
        ..Left::default()
    })
}
