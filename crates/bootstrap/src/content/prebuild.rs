//! Making what is signed before it is asked for.
//!
//! When the content changes, a task goes through the register and makes what each device with a
//! voucher would be given, a little at a time, so that devices that come all at once after a power
//! cut find it ready. Several replicas may do this at once: whoever is first keeps it, the others
//! find it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Clock;
use futures::{FutureExt as _, StreamExt as _};
use pki::Coded as _;
use store::{AssertSqlSafe, Store, params};
use time::OffsetDateTime;

use super::apply::{profile_of, surroundings_of, usual_encoding};
use super::document::Digest;
use super::{Engine, Facts, revision};
use crate::Error;
use crate::config::Config;
use crate::profile::Signing;
use crate::register::{DEVICE_COLUMNS, device_of};

/// How often it is looked for a new revision.
const PERIOD: Duration = Duration::from_secs(2);
/// Devices that are read at once.
const PAGE: i64 = 200;
/// Devices for which something is made at once; their writes share a commit.
const AT_ONCE: usize = 16;
/// Revisions whose artefacts are kept beside those of the one that is served: a rollback finds
/// them.
const REVISIONS_KEPT: i64 = 3;
/// Artefacts that are younger are kept in any case: several revisions may need them.
const KEPT: time::Duration = time::Duration::days(30);

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Devices that it went through.
    pub devices: u64,
    /// Devices for which there is nothing signed.
    pub without: u64,
    /// Old artefacts that were removed.
    pub removed: u64,
}

/// Makes what is signed for all devices of the register, and removes what no revision of late
/// needs.
///
/// # Errors
/// The database failed.
pub async fn run(
    engine: &Engine,
    config: &Config,
    clock: &Clock,
    until: &daemon::CancellationToken,
) -> Result<Run, Error> {
    let store = engine.store().clone();
    let (_, revision) = revision::epoch(&store).await?;
    let mut run = Run::default();
    if revision == 0 || config.owner.is_none() {
        return Ok(run);
    }
    let (profiles, vendors) = surroundings_of(config)?;
    let mut after = 0;
    loop {
        let sql = format!(
            "SELECT {DEVICE_COLUMNS} FROM device WHERE id > $1 AND alias_of IS NULL \
             AND state NOT IN ('released', 'replaced', 'complete') AND blocked IS NULL \
             AND EXISTS (SELECT 1 FROM voucher WHERE voucher.device = device.id) \
             ORDER BY id LIMIT $2"
        );
        let rows = store
            .fetch_all(AssertSqlSafe(sql), params![after, PAGE])
            .await?;
        if rows.is_empty() || until.is_cancelled() {
            break;
        }
        let (epoch, served) = revision::epoch(&store).await?;
        if served != revision {
            // The next run is for the newer one.
            return Ok(run);
        }
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let device = device_of(row)?;
            after = device.id;
            run.devices += 1;
            let profile = profile_of(config, &profiles, &vendors, &device);
            if profile.signing() == Signing::Never {
                run.without += 1;
                continue;
            }
            let always = profile.signing() == Signing::Always;
            let asking = Facts {
                epoch,
                revision,
                hw_model: None,
                os_name: None,
                os_version: None,
                nonce: None,
                signed_data_preferred: true,
                outer: usual_encoding(&profile),
                profile,
                device: Arc::new(device),
                certificate: None,
                identity: None,
                now: clock.now(),
            };
            // After it was promoted such a device comes again and trusts this server.
            if always {
                all.push(Facts {
                    signed_data_preferred: false,
                    ..asking.clone()
                });
            }
            all.push(asking);
        }
        let begun = Instant::now();
        let without = futures::stream::iter(all)
            .map(|facts| async move { engine.prebuild(&facts).await.is_err() })
            .buffer_unordered(AT_ONCE)
            // What cannot be made now is told to the device that asks for it.
            .filter(|failed| std::future::ready(*failed))
            .count()
            .await;
        run.without += without as u64;
        // At most half of the time is for this, so that devices which ask are not kept waiting.
        tokio::select! {
            () = tokio::time::sleep(begun.elapsed()) => {}
            () = until.cancelled() => return Ok(run),
        }
    }
    if !until.is_cancelled() {
        mark(&store, revision, clock.now()).await?;
    }
    run.removed = forget(&store, revision - REVISIONS_KEPT, clock.now() - KEPT).await?;
    Ok(run)
}

/// Notes that everything was made for a revision, for servers that start later.
async fn mark(store: &Store, revision: i64, now: OffsetDateTime) -> Result<(), Error> {
    store
        .locking_transaction("prebuilt", move |connection| {
            async move {
                let sql = "UPDATE revision SET prebuilt_us = $1 WHERE id = $2";
                connection.execute(sql, params![now, revision]).await?;
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await
}

/// Whether everything was made for a revision before.
async fn is_marked(store: &Store, revision: i64) -> Result<bool, Error> {
    let sql = "SELECT id FROM revision WHERE id = $1 AND prebuilt_us IS NOT NULL";
    let row = store.fetch_optional(sql, params![revision]).await?;
    Ok(row.is_some())
}

/// Removes artefacts that were made for old revisions.
async fn forget(store: &Store, before: i64, older: OffsetDateTime) -> Result<u64, Error> {
    store
        .transaction("artefact-forget", move |connection| {
            async move {
                let sql = "DELETE FROM artefact WHERE revision < $1 AND created_us < $2";
                Ok::<_, Error>(connection.execute(sql, params![before, older]).await?)
            }
            .boxed()
        })
        .await
}

/// Runs whenever the revision changes, until the server stops.
pub(crate) async fn task(
    engine: Engine,
    config: Config,
    clock: Clock,
    until: daemon::CancellationToken,
) {
    let mut done = 0;
    let mut whole = HashSet::new();
    let mut timer = tokio::time::interval(PERIOD);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = until.cancelled() => return,
        }
        // Whoever needs the database says so louder.
        let Ok((_, revision)) = revision::epoch(engine.store()).await else {
            continue;
        };
        if revision == done {
            continue;
        }
        check_images(&engine, &mut whole).await;
        let marked = is_marked(engine.store(), revision).await;
        if !config.content.prebuild || matches!(marked, Ok(true)) {
            done = revision;
            continue;
        }
        match run(&engine, &config, &clock, &until).await {
            Ok(run) => {
                tracing::info!(revision, devices = run.devices, "signed data is ready");
                done = revision;
            }
            Err(error) => {
                tracing::error!(code = error.code(), %error, "signed data was not made ready");
            }
        }
    }
}

/// Reads the images that are hosted, each once, and says which are not what they should be.
async fn check_images(engine: &Engine, whole: &mut HashSet<Digest>) {
    let content = match engine.content().await {
        Ok(content) => content,
        Err(error) => {
            tracing::error!(code = error.code(), %error, "content cannot be read");
            return;
        }
    };
    for (name, image) in &content.document.images {
        let (Some(_), Some(digest)) = (&image.hosted, image.sha256) else {
            continue;
        };
        if whole.contains(&digest) {
            continue;
        }
        let images = engine.images().clone();
        let sound = tokio::task::spawn_blocking(move || images.is_sound(&digest)).await;
        if matches!(sound, Ok(Ok(true))) {
            whole.insert(digest);
        } else {
            tracing::error!(
                code = "content.image-broken",
                image = name,
                "the file of an image is not there or not what it was; apply the content again"
            );
        }
    }
}
