//! The running server: its listeners and what it does beside them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Admin, CancellationToken, Clock, Metrics};
use net::TlsVersions;
use net::server::{Listener, Pkcs1};
use pki::Coded as _;

use crate::Error;
use crate::config::Config;
use crate::routes::{self, Witness};
use crate::service::{Door, Service};

/// How often old lines are removed and devices counted.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(60);

/// How often a checkpoint of the audit log is signed, if there is something new.
const SEAL_PERIOD: Duration = Duration::from_secs(5);

/// A bootstrap server that serves.
pub struct Running {
    service: Service,
    log: Option<store::audit::Log>,
    shutdown: CancellationToken,
    devices: Listener,
    legacy: Option<Listener>,
    admin: Listener,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("device_address", &self.device_address())
            .field("legacy_address", &self.legacy_address())
            .field("admin_address", &self.admin_address())
            .finish_non_exhaustive()
    }
}

/// Starts a bootstrap server. It is reachable when this returns.
///
/// # Errors
/// The configuration names something that cannot be used, the database has another schema, or an
/// address is taken.
pub async fn serve(config: Config, clock: Clock) -> Result<Running, Error> {
    let metrics = Metrics::new("usher_bootstrap");
    let service = Service::open(config, clock, &metrics).await?;
    metrics.collector(Box::new(crate::content::Meters::new(
        service.engine().clone(),
    )));
    let config = service.config();
    let shutdown = CancellationToken::new();
    let mut listener = config.listen.listener(service.server_identities().clone());
    listener.observer = Some(Arc::new(Witness(service.clone())));
    if let Some(tls) = &mut listener.tls {
        // Who knows nothing better goes to the legacy listener, if there is one.
        tls.pkcs1 = Pkcs1::Refused;
    }
    let router = routes::router(&service, Door::Main);
    let devices = net::server::serve(listener, router, shutdown.clone()).await?;
    metrics.listener("device", devices.counters());
    let legacy = match (&config.legacy, service.legacy_identities()) {
        (Some(legacy), Some(identities)) => {
            let mut listener = legacy.listen.listener(identities.clone());
            listener.observer = Some(Arc::new(Witness(service.clone())));
            if let Some(tls) = &mut listener.tls {
                // It is there for those who know TLS 1.2 only, so nobody else should end up here.
                tls.versions = TlsVersions::Only12;
                tls.http3 = false;
            }
            let router = routes::router(&service, Door::Legacy);
            let legacy = net::server::serve(listener, router, shutdown.clone()).await?;
            metrics.listener("legacy", legacy.counters());
            Some(legacy)
        }
        _ => None,
    };
    let ready = service.store().clone();
    let admin = Admin::new(metrics)
        .check("database", move || {
            let store = ready.clone();
            async move { store.ping().await.map_err(|error| error.to_string()) }
        })
        .serve(&config.admin, shutdown.clone())
        .await?;
    let period = Duration::from_secs(config.watch.period_seconds.max(1));
    let log = config.audit_log(service.store())?;
    let sealed = log.clone();
    let tasks = vec![
        tokio::spawn(every(
            SEAL_PERIOD,
            shutdown.clone(),
            service.clone(),
            async move |service| seal(sealed.as_ref(), service).await,
        )),
        tokio::spawn(crate::content::prebuild::task(
            service.engine().clone(),
            config.clone(),
            service.clock().clone(),
            shutdown.clone(),
        )),
        crate::events::start(
            config,
            service.store().clone(),
            service.clock().clone(),
            shutdown.clone(),
        )?,
        tokio::spawn(every(
            period,
            shutdown.clone(),
            service.clone(),
            async |service| {
                if let Err(error) = service.find_stuck().await {
                    tracing::error!(code = error.code(), %error, "nobody looked for stuck devices");
                }
            },
        )),
        tokio::spawn(every(
            HOUSEKEEPING_PERIOD,
            shutdown.clone(),
            service.clone(),
            async |service| {
                if let Err(error) = service.housekeeping().await {
                    tracing::error!(code = error.code(), %error, "housekeeping failed");
                }
            },
        )),
    ];
    let running = Running {
        service,
        log,
        shutdown,
        devices,
        legacy,
        admin,
        tasks,
    };
    tracing::info!(
        device_address = %running.device_address(),
        admin_address = %running.admin_address(),
        "the bootstrap server serves"
    );
    Ok(running)
}

async fn seal(log: Option<&store::audit::Log>, service: &Service) {
    let Some(log) = log else { return };
    if let Err(error) = log.seal(service.now()).await {
        tracing::error!(code = error.code(), %error, "the audit log got no checkpoint");
    }
}

/// Does something now and then until the server stops.
async fn every(
    period: Duration,
    shutdown: CancellationToken,
    service: Service,
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
    /// Where devices connect.
    #[must_use]
    pub fn device_address(&self) -> SocketAddr {
        self.devices.address()
    }

    /// Where legacy devices connect, if there is such a listener.
    #[must_use]
    pub fn legacy_address(&self) -> Option<SocketAddr> {
        self.legacy.as_ref().map(Listener::address)
    }

    /// Where operators connect.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// What serves.
    #[must_use]
    pub const fn service(&self) -> &Service {
        &self.service
    }

    /// Cancelling it stops the server, as [`Running::stop`] does.
    #[must_use]
    pub const fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Stops: requests in progress are answered first.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.devices.stopped().await;
        if let Some(legacy) = self.legacy {
            legacy.stopped().await;
        }
        self.admin.stopped().await;
        for task in self.tasks {
            // A task ends by itself when the token is cancelled.
            let _ = task.await;
        }
        seal(self.log.as_ref(), &self.service).await;
        self.service.store().close().await;
    }
}
