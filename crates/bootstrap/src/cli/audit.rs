//! `usher bootstrap audit …`.

use daemon::Outcome;
use daemon::audit::{AuditCommand, Place};
use store::Store;
use store::audit::{Log, NoteKey};

use super::{Context, with_store};
use crate::register::{find_devices, subject};
use crate::{Config, Error};

pub(super) async fn run(context: &Context, command: &AuditCommand) -> Result<Outcome, Error> {
    if let Some(outcome) = command.offline(context.format) {
        return Ok(outcome);
    }
    with_store(context, async |config, store| {
        let subjects = match command.subject() {
            None => None,
            Some(whole) if whole.contains(':') || whole == "register" => {
                Some(vec![whole.to_owned()])
            }
            Some(serial) => {
                let mut snapshot = store.snapshot().await?;
                let devices = find_devices(&mut snapshot, serial, None).await?;
                let subjects = devices
                    .iter()
                    .map(|device| subject(&device.vendor, &device.serial));
                Some(subjects.collect())
            }
        };
        let log = match command.key()? {
            Some(key) => reader(config, store, key),
            None => config.audit_log(store)?.ok_or_else(|| {
                Error::Usage("the configuration has no [audit]: nothing is signed".to_owned())
            })?,
        };
        let place = Place {
            program: "usher bootstrap",
            format: context.format,
            store,
            log,
            now: context.clock.now(),
        };
        Ok(command.run(&place, subjects).await)
    })
    .await
}

/// The log for reading, with a public key of the caller's.
fn reader(config: &Config, store: &Store, key: NoteKey) -> Log {
    let log = Log::reader(store.clone(), key);
    match &config.audit {
        Some(audit) => log.with_anchor(config.resolve(&audit.anchor)),
        None => log,
    }
}
