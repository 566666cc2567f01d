//! The running server: its listeners and what it does beside them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use daemon::{Admin, CancellationToken, Clock, Metrics};
use net::server::{Listener, ServerIdentities};
use pki::Coded as _;
use serde_json::json;
use store::{Options, Store};

use crate::alarms::Webhook;
use crate::facts::Shown;
use crate::revocation::Checker;
use crate::service::{Meters, Rules, Service, router};
use crate::timeline::{self, Recorder};
use crate::{Config, Error, SCHEMA};

/// How often old lines of the timeline are removed.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(60);
/// How often the outbox is looked at.
const DELIVERY_PERIOD: Duration = Duration::from_secs(1);

/// A MASA that serves.
pub struct Running {
    service: Arc<Service>,
    config: Arc<Config>,
    identities: ServerIdentities,
    shutdown: CancellationToken,
    devices: Listener,
    admin: Listener,
    device_address: SocketAddr,
    admin_address: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("device_address", &self.device_address)
            .field("admin_address", &self.admin_address)
            .finish_non_exhaustive()
    }
}

/// Starts a MASA. It is reachable when this returns.
///
/// # Errors
/// The configuration names something that cannot be used, the database has another schema, or an
/// address is taken.
pub async fn serve(config: Config, clock: Clock) -> Result<Running, Error> {
    let config = Arc::new(config);
    let metrics = Metrics::new("usher_masa");
    let options = Options {
        connections_max: config.database.connections_max,
        ..Options::default()
    };
    let store = Store::open_with(&config.database.url, &SCHEMA, &options).await?;
    let log = config.audit_log(&store)?;
    let service = Arc::new(Service {
        rules: ArcSwap::from_pointee(Rules::of(&config)?),
        recorder: Recorder::start(store.clone()),
        meters: Meters::new(&metrics),
        crls: Checker::default(),
        store,
        clock,
        log,
    });
    metrics.collector(Box::new(crate::meters::Transactions(service.store.clone())));
    let identities = ServerIdentities::new(&config.identities()?)?;
    let shutdown = CancellationToken::new();
    let mut listener = config.listen.listener(identities.clone());
    listener.observer = Some(Arc::new(Witness(Arc::clone(&service))));
    let devices =
        net::server::serve(listener, router(Arc::clone(&service)), shutdown.clone()).await?;
    metrics.listener("device", devices.counters());
    let ready = service.store.clone();
    let admin = Admin::new(metrics)
        .check("database", move || {
            let store = ready.clone();
            async move { store.ping().await.map_err(|error| error.to_string()) }
        })
        .serve(&config.admin, shutdown.clone())
        .await?;
    let mut tasks = vec![
        tokio::spawn(every(
            Duration::from_secs(config.audit.seal_seconds.max(1)),
            shutdown.clone(),
            Arc::clone(&service),
            async |service| seal(service).await,
        )),
        tokio::spawn(every(
            HOUSEKEEPING_PERIOD,
            shutdown.clone(),
            Arc::clone(&service),
            {
                let keep = config.events.clone();
                async move |service| {
                    let result = timeline::prune(&service.store, &keep, service.clock.now()).await;
                    if let Err(error) = result {
                        tracing::error!(code = error.code(), %error, "the timeline was not pruned");
                    }
                }
            },
        )),
    ];
    if let Some(webhook) = Webhook::of(&config)? {
        // Claims in the outbox are told apart by who made them.
        let worker = format!("{}-{}", std::process::id(), store_time(&service));
        tasks.push(tokio::spawn(every(
            DELIVERY_PERIOD,
            shutdown.clone(),
            Arc::clone(&service),
            async move |service| {
                let now = service.clock.now();
                if let Err(error) = webhook.deliver(&service.store, &worker, now).await {
                    tracing::error!(code = error.code(), %error, "the outbox cannot be worked on");
                }
            },
        )));
    }
    let (device_address, admin_address) = (devices.address(), admin.address());
    tracing::info!(%device_address, %admin_address, "the MASA serves");
    Ok(Running {
        service,
        config,
        identities,
        shutdown,
        devices,
        admin,
        device_address,
        admin_address,
        tasks,
    })
}

fn store_time(service: &Service) -> i64 {
    store::micros(service.clock.now())
}

async fn seal(service: &Service) {
    if let Err(error) = service.log.seal(service.clock.now()).await {
        tracing::error!(code = error.code(), %error, "the audit log got no checkpoint");
    }
}

/// Writes down what the transport refused: bodies that are too large, too slow or broken.
struct Witness(Arc<Service>);

impl net::server::Observer for Witness {
    fn refused(
        &self,
        peer: &net::Peer,
        method: &http::Method,
        uri: &http::Uri,
        code: &'static str,
        detail: &str,
    ) {
        let chain = peer.chain().map(<[_]>::to_vec).unwrap_or_default();
        let mut event = self.0.event(peer, "transport", &Shown { chain }, None);
        event.outcome = "refused".to_owned();
        event.code = code.to_owned();
        event.summary = json!({
            "method": method.as_str(), "path": uri.path(), "detail": detail,
        });
        self.0.recorder.record(event);
    }
}

/// Does something now and then until the server stops.
async fn every(
    period: Duration,
    shutdown: CancellationToken,
    service: Arc<Service>,
    work: impl AsyncFn(&Service),
) {
    let mut timer = tokio::time::interval(period);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = shutdown.cancelled() => return,
        }
        work(&service).await;
    }
}

impl Running {
    /// Where registrars connect. (The name is the same for every role: the side that is not the
    /// operators'.)
    #[must_use]
    pub const fn device_address(&self) -> SocketAddr {
        self.device_address
    }

    /// Where operators connect.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The register's database, for tests and tools in the same process.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.service.store
    }

    /// Waits until every line of the timeline so far is written.
    pub async fn flush(&self) {
        self.service.recorder.flush().await;
    }

    /// Cancelling it stops the server, as [`Running::stop`] does.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Reads certificates, keys, device anchors and policy again. What is wrong leaves the old
    /// ones in use.
    ///
    /// # Errors
    /// What is wrong with the new ones.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        let rules = Rules::of(config)?;
        self.identities.replace(&config.identities()?)?;
        self.service.rules.store(Arc::new(rules));
        Ok(())
    }

    /// A function that reloads from this configuration's own file, for SIGHUP.
    pub(crate) fn reloader(&self, file: std::path::PathBuf) -> impl FnMut() + Send + 'static {
        let (service, identities) = (Arc::clone(&self.service), self.identities.clone());
        let listen = self.config.listen.address;
        move || {
            let reload = || -> Result<(), Error> {
                let config = Config::load(&file, &daemon::config::Flags::new())?;
                let rules = Rules::of(&config)?;
                identities.replace(&config.identities()?)?;
                service.rules.store(Arc::new(rules));
                if config.listen.address != listen {
                    tracing::warn!("a new address takes effect at the next start");
                }
                Ok(())
            };
            match reload() {
                Ok(()) => tracing::info!("certificates, keys and policy were read again"),
                Err(error) => {
                    tracing::error!(code = error.code(), %error, "nothing was reloaded");
                }
            }
        }
    }

    /// Stops: requests in progress are answered, the timeline is written, the log is sealed.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.devices.stopped().await;
        self.admin.stopped().await;
        for task in self.tasks {
            // A task ends by itself when the token is cancelled.
            let _ = task.await;
        }
        self.service.recorder.flush().await;
        seal(&self.service).await;
        self.service.store.close().await;
    }
}
