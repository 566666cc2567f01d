//! Events over real sockets: receivers that are down, slow, broken, gone and back again.

mod forms;
mod receivers;
mod syslog;
mod webhooks;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daemon::events::{self, Delivery, Event, EventsConfig, Formats, Severity, Timing};
use daemon::{CancellationToken, Clock};
use futures::FutureExt as _;
use store::outbox::{self, Waiting};
use store::{Schema, Store};
use tempfile::TempDir;
use testkit::TempPostgres;
use time::OffsetDateTime;
use time::macros::datetime;

const SCHEMA: Schema = Schema {
    role: "test",
    migrations: &[],
};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Fast, so that tests are; the order of things is that of a server.
const FAST: Timing = Timing {
    poll: Duration::from_millis(5),
    pause_min: Duration::from_millis(10),
    pause_max: Duration::from_millis(100),
    event_pause_min: Duration::from_millis(10),
    lease: Duration::from_secs(1),
};

/// A database with an outbox, and a folder for keys.
pub(crate) struct House {
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
}

fn server() -> &'static TempPostgres {
    static SERVER: OnceLock<TempPostgres> = OnceLock::new();
    SERVER.get_or_init(|| TempPostgres::start().expect("Debian's postgresql starts"))
}

impl House {
    async fn at(url: &str, directory: TempDir) -> Self {
        let now = datetime!(2026-01-01 0:00 UTC);
        Store::migrate(url, &SCHEMA, now).await.expect("migrates");
        let store = Store::open(url, &SCHEMA).await.expect("opens");
        Self { store, directory }
    }

    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", directory.path().join("test.db").display());
        Self::at(&url, directory).await
    }

    async fn postgres() -> Self {
        let url = server().fresh_database().expect("a database");
        Self::at(&url, tempfile::tempdir().expect("a folder")).await
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Sinks by this text of a configuration; `DIR` in it stands for the folder.
    pub(crate) fn try_delivery(&self, toml: &str) -> Result<Delivery, daemon::Error> {
        let toml = toml.replace("DIR", &self.directory.path().display().to_string());
        let config: EventsConfig = daemon::config::parse(&toml)?;
        let delivery = Delivery::new(
            self.store.clone(),
            Clock::system(),
            &config,
            self.directory.path(),
            "usher-test",
            &Formats::new(),
        )?;
        Ok(delivery.with_timing(FAST))
    }

    pub(crate) fn delivery(&self, toml: &str) -> Delivery {
        self.try_delivery(toml).expect("usable sinks")
    }

    pub(crate) fn start(&self, toml: &str) -> Worker {
        let delivery = Arc::new(self.delivery(toml));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&delivery).run(shutdown.clone()));
        Worker {
            delivery,
            shutdown,
            task,
        }
    }

    pub(crate) async fn emit(&self, event: &Event) {
        let event = event.clone();
        self.store
            .transaction("emit", move |connection| {
                let event = event.clone();
                async move { events::emit(connection, &event).await }.boxed()
            })
            .await
            .expect("emitted");
    }

    /// Emits so many events and says their ids.
    pub(crate) async fn emit_some(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for number in 0..count {
            let event = event(number);
            self.emit(&event).await;
            ids.push(event.id);
        }
        ids
    }

    pub(crate) async fn outbox(&self) -> Vec<Waiting> {
        let mut snapshot = self.store.snapshot().await.expect("a snapshot");
        outbox::list(&mut snapshot, false, 0, 10_000)
            .await
            .expect("a list")
    }

    pub(crate) async fn until_empty(&self) {
        until("the outbox is empty", async || {
            self.outbox().await.is_empty()
        })
        .await;
    }
}

/// A delivery that works in the background.
pub(crate) struct Worker {
    pub(crate) delivery: Arc<Delivery>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("it ends");
    }

    /// As a crash does: no goodbye to anybody.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) fn event(number: usize) -> Event {
    Event::new(
        OffsetDateTime::from_unix_timestamp(1_750_000_000).expect("a time"),
        "device.bootstrap-complete",
        Severity::Notice,
        format!("SN-{number}"),
        format!("device {number} is up"),
    )
    .with("vendor", "acme")
    .with("number", number)
}

/// Waits for something that has to come true.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(waited.is_ok(), "waited in vain: {what}");
}
