//! The admin listener: health, readiness and metrics, and whatever routes a role adds.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use net::CancellationToken;
use net::server::{Listener, ListenerConfig};
use serde::{Deserialize, Serialize};

use crate::{Error, Metrics};

/// Time that one readiness check may take.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(5);

/// The `[admin]` section of a configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where to listen, in plain HTTP: keep it on loopback, or behind something that signs in.
    pub address: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

type CheckFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

struct Check {
    name: &'static str,
    run: Box<dyn Fn() -> CheckFuture + Send + Sync>,
}

/// The admin listener of one server, before it is started.
pub struct Admin {
    metrics: Metrics,
    checks: Vec<Check>,
    routes: Router,
}

impl Admin {
    /// `GET /health`, `GET /ready` without checks, and `GET /metrics`.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            checks: Vec::new(),
            routes: Router::new(),
        }
    }

    /// Adds a readiness check, which says what is wrong if something is.
    #[must_use]
    pub fn check<F, Fut>(mut self, name: &'static str, run: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push(Check {
            name,
            run: Box::new(move || Box::pin(run())),
        });
        self
    }

    /// Adds the role's own routes.
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// The router, as for tests without a socket.
    pub fn into_router(self) -> Router {
        let state = Arc::new((self.metrics, self.checks));
        Router::new()
            .route("/health", get(|| async { "ok\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(state)
            .merge(self.routes)
    }

    /// Starts listening.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn serve(
        self,
        config: &AdminConfig,
        shutdown: CancellationToken,
    ) -> Result<Listener, Error> {
        if !config.address.ip().is_loopback() {
            tracing::warn!(address = %config.address, "the admin listener is not on loopback");
        }
        let listener = ListenerConfig::plain(config.address);
        let mut router = self.into_router();
        if config.address.ip().is_loopback() {
            router = router.layer(axum::middleware::from_fn(only_local_names));
        }
        Ok(net::server::serve(listener, router, shutdown).await?)
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.checks.iter().map(|check| check.name).collect();
        f.debug_struct("Admin")
            .field("checks", &names)
            .finish_non_exhaustive()
    }
}

/// A web page can make a browser on this machine call loopback under a name of the page's own
/// (DNS rebinding). Nobody else calls it by anything but its address or `localhost`.
async fn only_local_names(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let local = match name {
        Some("localhost") | None => true,
        Some(name) => name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
    };
    if local {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "call this listener by its address\n").into_response()
}

type Shared = Arc<(Metrics, Vec<Check>)>;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

async fn ready(State(state): State<Shared>) -> impl IntoResponse {
    let mut checks = Vec::with_capacity(state.1.len());
    for check in &state.1 {
        let result = match tokio::time::timeout(CHECK_TIME_MAX, (check.run)()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {CHECK_TIME_MAX:?}")),
        };
        checks.push(Checked {
            name: check.name,
            ok: result.is_ok(),
            detail: result.err(),
        });
    }
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(Readiness { ready, checks }))
}

async fn metrics(State(state): State<Shared>) -> impl IntoResponse {
    let text = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], state.0.encode())
}
