//! `usher registrar audit …`.

use daemon::Outcome;
use daemon::audit::{AuditCommand, Place};
use store::audit::Log;

use super::Context;
use crate::{Error, records};

pub(super) async fn run(context: &Context, command: &AuditCommand) -> Result<Outcome, Error> {
    if let Some(outcome) = command.offline(context.format) {
        return Ok(outcome);
    }
    let (config, store) = context.open().await?;
    let log = match command.key()? {
        Some(key) => {
            let anchor = config.identity.audit_anchor.clone();
            Log::reader(store.clone(), key).with_anchor(anchor)
        }
        None => crate::service::open_audit(&config, &store)?,
    };
    let place = Place {
        program: "usher registrar",
        format: context.format,
        store: &store,
        log,
        now: context.clock.now(),
    };
    let subjects = match command.subject() {
        None => None,
        Some(whole) if whole.contains('/') => Some(vec![whole.to_owned()]),
        Some(serial) => {
            let mut snapshot = store.snapshot().await?;
            let devices = records::find_devices(&mut snapshot, serial, None).await?;
            let subjects = devices.into_iter().flat_map(|device| {
                let named = format!("{}/{}", device.vendor, device.serial);
                [named, device.device_id]
            });
            Some(subjects.collect())
        }
    };
    let outcome = command.run(&place, subjects).await;
    store.close().await;
    Ok(outcome)
}
