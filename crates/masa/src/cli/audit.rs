//! `usher masa audit …`.

use daemon::Outcome;
use daemon::audit::{AuditCommand, Place};

use super::{Context, with_store};
use crate::Error;
use crate::register::{find_devices, subject};

pub(super) async fn run(context: &Context, command: &AuditCommand) -> Result<Outcome, Error> {
    if let Some(outcome) = command.offline(context.format) {
        return Ok(outcome);
    }
    with_store(context, async |config, store| {
        let subjects = match command.subject() {
            None => None,
            Some(whole) if whole.contains(':') => Some(vec![whole.to_owned()]),
            Some(serial) => Some(
                find_devices(store, serial)
                    .await?
                    .iter()
                    .map(|device| subject(&device.serial, &device.issuer))
                    .collect(),
            ),
        };
        let log = match command.key()? {
            Some(key) => config.audit_reader(store, key),
            None => config.audit_log(store)?,
        };
        let place = Place {
            program: "usher masa",
            format: context.format,
            store,
            log,
            now: context.clock.now(),
        };
        Ok(command.run(&place, subjects).await)
    })
    .await
}
