//! The register: devices, their vouchers and their owners, and how they come in.
//!
//! Everything here works on the database and on files, so the commands work with the server up or
//! down. What changes what a device gets adds one to the epoch ([`touch`]), by which a running
//! server knows that what it keeps in memory is old.

pub mod archive;
mod device;
mod import;
mod lifecycle;
pub mod live;
mod request_list;
pub mod rows;
mod state;
mod voucher;
mod voucher_import;

pub use device::{
    DEVICE_COLUMNS, DeviceChange, DeviceFilter, DeviceRow, count_devices, device_by_id,
    device_by_key, device_of, find_device, find_devices, list_devices, list_groups, set_device,
};
pub use import::{Heard, ImportOptions, ImportReport, Listener, RowOutcome, RowResult, import};
pub use lifecycle::{Left, Released, Replaced, Transferred, release, replace, transfer};
pub use request_list::{PinForm, RequestList, Wanted, request_list};
pub use state::State;
pub use voucher::{
    CheckedVoucher, ListedVoucher, Reader, VoucherFilter, VoucherRow, check_voucher, list_vouchers,
    prune_vouchers, store_voucher, voucher_for, vouchers_of,
};
pub use voucher_import::{
    VoucherListener, VoucherOptions, VoucherOutcome, VoucherReport, VoucherResult, file_name,
    import_vouchers,
};

use serde_json::Value;
use store::Connection;
use store::audit::{self, Entry};
use time::OffsetDateTime;

use crate::Error;

/// How an audit entry names a device.
pub(crate) fn subject(vendor: &str, serial: &str) -> String {
    format!("device:{vendor}/{serial}")
}

/// Says that devices, vouchers or content changed; see the schema.
///
/// # Errors
/// What the database said.
pub async fn touch(transaction: &mut Connection) -> Result<(), Error> {
    let sql = "UPDATE epoch SET value = value + 1 WHERE id = 1";
    transaction.execute(sql, Vec::new()).await?;
    Ok(())
}

/// Writes an entry of the audit log inside the caller's transaction.
///
/// # Errors
/// What the database said.
pub async fn record(
    transaction: &mut Connection,
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
