//! The running server: its listeners and what it does beside them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Admin, CancellationToken, Clock, Metrics};
use net::server::Listener;
use pki::Coded as _;

use crate::Error;
use crate::config::Config;
use crate::service::{Caller, Service};

/// How often the audit log gets a signed checkpoint, if it grew.
const SEAL_PERIOD: Duration = Duration::from_secs(5);
/// How often old rows are removed and devices counted.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(60);
/// How often files are looked at for a reload.
const RELOAD_PERIOD: Duration = Duration::from_secs(5);

/// A registrar that serves.
pub struct Running {
    service: Service,
    shutdown: CancellationToken,
    devices: Listener,
    constrained: Option<crate::coap::Serving>,
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

/// Starts a registrar. It is reachable when this returns.
///
/// # Errors
/// The configuration names something that cannot be used, or an address is taken.
pub async fn serve(config: Config, clock: Clock) -> Result<Running, Error> {
    let metrics = Metrics::new("usher_registrar");
    let service = Service::open(config, clock, &metrics).await?;
    let shutdown = CancellationToken::new();
    let est = crate::est::Shared::open(&service)?;
    let resources = crate::coap::Resources::new(&service, est.clone());
    let router = crate::routes::brski(&service)
        .merge(est.routes())
        .fallback(crate::routes::nothing_here)
        .method_not_allowed_fallback(crate::routes::other_method);
    let mut listener = service
        .config()
        .listen
        .listener(service.server_identities().clone());
    // One limit for all, a little above the resources' own: these answer 413 with a code and write
    // it down; what is larger still is cut off below them.
    let body_limit = service
        .config()
        .body_size_max_bytes
        .saturating_add(64 * 1024);
    listener.limits.request_body_bytes_max = listener.limits.request_body_bytes_max.max(body_limit);
    listener.observer = Some(Arc::new(Witness(service.clone())));
    let devices = net::server::serve(listener, router, shutdown.clone()).await?;
    let constrained = crate::coap::serve(resources, &metrics, shutdown.clone()).await?;
    metrics.listener("device", devices.counters());
    let (ready, valid) = (service.clone(), service.clone());
    let admin = Admin::new(metrics)
        .check("database", move || {
            let service = ready.clone();
            async move {
                service
                    .store()
                    .ping()
                    .await
                    .map_err(|error| error.to_string())
            }
        })
        .check("certificate", move || {
            let service = valid.clone();
            async move { service.certificates_hold() }
        })
        .routes(crate::admin::routes(service.clone()))
        .serve(&service.config().admin, shutdown.clone())
        .await?;
    let tasks = vec![
        tokio::spawn(every(
            SEAL_PERIOD,
            shutdown.clone(),
            service.clone(),
            async |service| {
                if let Err(error) = service.audit().seal(service.now()).await {
                    tracing::error!(code = error.code(), %error, "the audit log got no checkpoint");
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
        tokio::spawn(every(
            RELOAD_PERIOD,
            shutdown.clone(),
            service.clone(),
            async |service| {
                service.reload_if_changed();
            },
        )),
    ];
    let (device_address, admin_address) = (devices.address(), admin.address());
    tracing::info!(%device_address, %admin_address, "the registrar serves");
    Ok(Running {
        service,
        shutdown,
        devices,
        constrained,
        admin,
        device_address,
        admin_address,
        tasks,
    })
}

/// Writes down what the transport refused: bodies that are too large, too slow or broken.
struct Witness(Service);

impl net::server::Observer for Witness {
    fn refused(
        &self,
        peer: &net::Peer,
        method: &http::Method,
        uri: &http::Uri,
        code: &'static str,
        detail: &str,
    ) {
        let service = self.0.clone();
        let (caller, detail) = (
            Caller::from(peer),
            format!("{method} {}: {detail}", uri.path()),
        );
        tokio::spawn(async move { service.record_transport(&caller, code, detail).await });
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
    pub const fn device_address(&self) -> SocketAddr {
        self.device_address
    }

    /// Where devices connect that speak CoAP over DTLS.
    #[must_use]
    pub fn coap_addresses(&self) -> &[SocketAddr] {
        self.constrained
            .as_ref()
            .map_or(&[], |serving| serving.addresses())
    }

    /// Where stateless join proxies connect.
    #[must_use]
    pub fn jpy_address(&self) -> Option<SocketAddr> {
        self.constrained.as_ref()?.jpy_address()
    }

    /// Where CoAP in the clear says what there is.
    #[must_use]
    pub fn discovery_addresses(&self) -> &[SocketAddr] {
        self.constrained
            .as_ref()
            .map_or(&[], |serving| serving.open_addresses())
    }

    /// Where operators connect.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
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

    /// Stops: requests in progress are answered first, and the audit log is sealed last.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.devices.stopped().await;
        if let Some(constrained) = self.constrained {
            constrained.stopped().await;
        }
        self.admin.stopped().await;
        for task in self.tasks {
            // A task that ended early has said why in the log.
            let _ = task.await;
        }
        if let Err(error) = self.service.audit().seal(self.service.now()).await {
            tracing::error!(code = error.code(), %error, "the audit log got no last checkpoint");
        }
        self.service.store().close().await;
    }
}
