//! The register: which devices were made, whose they are, and who the owners are.

mod device;
mod import;
mod owner;

pub(crate) use device::counts;
pub use device::{
    Device, DeviceFilter, block, find_device, find_devices, list_devices, release, transfer,
};
pub use import::{
    Flag, Import, ImportOptions, ImportReport, ImportRow, ImportSource, ROWS_MAX, RowOutcome, Rows,
    read_rows,
};
pub use owner::{
    Owner, OwnerCertificate, OwnerChange, add_owner, block_owner, find_owner, list_owners,
};
pub(crate) use owner::{certificates_of, pin_from};

use serde_json::Value;
use store::audit::{self, Entry};
use time::OffsetDateTime;

use crate::Error;

/// Longest name, product or reason that is kept.
pub const TEXT_LENGTH_MAX_BYTES: usize = 256;

/// How an audit entry names a device.
pub(crate) fn subject(serial: &str, issuer: &[u8]) -> String {
    if issuer.is_empty() {
        format!("device:{serial}")
    } else {
        format!("device:{serial}@{}", hex::encode(issuer))
    }
}

/// Says that owners changed or devices were added; see the schema.
pub(crate) async fn next_epoch(transaction: &mut store::Connection) -> Result<(), Error> {
    let sql = "UPDATE register_epoch SET value = value + 1 WHERE id = 1";
    transaction.execute(sql, Vec::new()).await?;
    Ok(())
}

pub(crate) async fn record(
    transaction: &mut store::Connection,
    kind: &str,
    actor: &str,
    subject: &str,
    data: Value,
    now: OffsetDateTime,
) -> Result<i64, Error> {
    let entry = Entry {
        at: now,
        kind: kind.to_owned(),
        actor: actor.to_owned(),
        subject: subject.to_owned(),
        data,
    };
    Ok(audit::append(transaction, &entry).await?)
}

/// Who is at the keyboard, for the audit log: the login name, which is a hint and not a proof.
#[must_use]
pub fn operator() -> String {
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let name: String = name
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect();
    if name.is_empty() {
        "operator".to_owned()
    } else {
        format!("operator:{name}")
    }
}
