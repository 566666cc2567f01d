//! `usher bootstrap replace`, `release` and `transfer`.

use clap::Args;
use daemon::Outcome;
use daemon::cli::plain;

use super::{Context, with_store};
use crate::Error;
use crate::register::{Left, release, replace, transfer};

#[derive(Debug, Args)]
pub(super) struct ReplaceArguments {
    /// Serial number of the device that goes.
    old: String,
    /// Serial number of the device that comes; it is put into the register if it is not there.
    new: String,
    /// Their vendor, if several use the same numbers.
    #[arg(long)]
    vendor: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArguments {
    /// Serial number.
    serial: String,
    /// Its vendor, if several use the same number.
    #[arg(long)]
    vendor: Option<String>,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct TransferArguments {
    /// Serial number.
    serial: String,
    /// Whose it is from now on.
    #[arg(long, value_name = "OWNER")]
    to: String,
    /// Its vendor, if several use the same number.
    #[arg(long)]
    vendor: Option<String>,
}

pub(super) async fn run_replace(
    context: &Context,
    arguments: &ReplaceArguments,
) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let vendor = arguments.vendor.as_deref();
    let done = with_store(context, async |_, store| {
        replace(store, &arguments.old, &arguments.new, vendor, now).await
    })
    .await?;
    context.format.print(&done, |done| {
        let (old, new) = (plain(&done.old), plain(&done.new));
        if !done.changed {
            return format!("{new} took the place of {old} before; nothing was changed");
        }
        let mut lines = vec![format!("{new} takes the place of {old}")];
        if done.added {
            lines.push(format!("  {new} was put into the register"));
        }
        lines.push(format!(
            "  it took over {}",
            if done.taken_over.is_empty() {
                "nothing: there was nothing to take over".to_owned()
            } else {
                done.taken_over.join(", ")
            }
        ));
        left_text(&mut lines, &old, &done.left);
        lines.push(format!(
            "next: a voucher for {new} (`usher bootstrap vouchers request-list --serial {new}`), \
             then `usher bootstrap preflight {new}`"
        ));
        lines.join("\n")
    });
    Ok(Outcome::Yes)
}

pub(super) async fn run_release(
    context: &Context,
    arguments: &ReleaseArguments,
) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let vendor = arguments.vendor.as_deref();
    let done = with_store(context, async |_, store| {
        release(store, &arguments.serial, vendor, &arguments.reason, now).await
    })
    .await?;
    context.format.print(&done, |done| {
        let serial = plain(&done.serial);
        if !done.changed {
            return format!("{serial} was released before; nothing was changed");
        }
        let mut lines = vec![format!("{serial} is released: it gets nothing any more")];
        left_text(&mut lines, &serial, &done.left);
        lines.join("\n")
    });
    Ok(Outcome::Yes)
}

pub(super) async fn run_transfer(
    context: &Context,
    arguments: &TransferArguments,
) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let vendor = arguments.vendor.as_deref();
    let done = with_store(context, async |_, store| {
        transfer(store, &arguments.serial, vendor, &arguments.to, now).await
    })
    .await?;
    context.format.print(&done, |done| {
        let serial = plain(&done.released.serial);
        let to = plain(&done.to);
        if !done.released.changed {
            return format!("{serial} is {to}'s already; nothing was changed");
        }
        let mut lines = vec![format!(
            "{serial} is {to}'s from now on and gets nothing here"
        )];
        left_text(&mut lines, &serial, &done.released.left);
        lines.push(
            "next: tell the manufacturer, so that the new owner can get vouchers for it".to_owned(),
        );
        lines.join("\n")
    });
    Ok(Outcome::Yes)
}

fn left_text(lines: &mut Vec<String>, serial: &str, left: &Left) {
    lines.push(format!(
        "  {} of its vouchers were deleted here; copies of them stay good until they end",
        left.vouchers_deleted
    ));
    if left.variables_removed > 0 {
        lines.push(format!(
            "  {} variables were removed from {serial}",
            left.variables_removed
        ));
    }
    if left.rollouts_left > 0 {
        lines.push(format!(
            "  it was taken out of {} rollouts",
            left.rollouts_left
        ));
    }
    for certificate in &left.certificates_valid {
        lines.push(format!(
            "  its certificate {} is still valid: revoke it at the CA (`usher registrar cert \
             revoke`)",
            plain(certificate)
        ));
    }
    for part in &left.parts {
        lines.push(format!(
            "  {} is registered as a part of it and stays in the register",
            plain(part)
        ));
    }
}
