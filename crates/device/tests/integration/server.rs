//! A registrar behind a listener for HTTP/1.1, HTTP/2 and HTTP/3.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::{Extension, Request as HttpRequest, State},
    response::IntoResponse,
};
use brski::pledge::{Request, What};
use device::brski::Config;
use http::{HeaderName, HeaderValue, StatusCode};
use net::{
    CancellationToken, Peer,
    server::{Listener, ListenerConfig, ServerIdentities, serve},
};
use pki::Identity;
use url::Url;

use crate::{
    sim::{Response, Sim},
    world::{Manufacturer, NOW, leaf_only},
};

/// Largest body that the registrar takes.
const BODY_SIZE_MAX_BYTES: usize = 1 << 20;

type Hook = Box<dyn FnMut(&Request, Response) -> Response + Send>;

pub(crate) struct Shared {
    pub(crate) sim: Sim,
    pub(crate) hook: Option<Hook>,
}

pub(crate) struct Server {
    pub(crate) manufacturer: Manufacturer,
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) origin: Url,
    shutdown: CancellationToken,
    listener: Listener,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        let identities = ServerIdentities::new(&[sim.registrars[0].identity.clone()]).unwrap();
        let shared = Arc::new(Mutex::new(Shared { sim, hook: None }));
        let router = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&shared));
        let shutdown = CancellationToken::new();
        let address = "127.0.0.1:0".parse().unwrap();
        let mut config = ListenerConfig::new(address, identities);
        if let Some(tls) = &mut config.tls {
            tls.http3 = true;
        }
        let listener = serve(config, router, shutdown.clone()).await.unwrap();
        let origin = Url::parse(&format!("https://{}/", listener.address())).unwrap();
        Self {
            manufacturer,
            shared,
            origin,
            shutdown,
            listener,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.listener.stopped().await;
    }

    pub(crate) fn config(&self, idevid: &Identity) -> Config {
        let anchors = self.manufacturer.ca.anchors();
        let mut config = Config::new(vec![self.origin.clone()], leaf_only(idevid), anchors, NOW);
        config.attempts_max = Some(1);
        config
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Sim) -> T) -> T {
        look(&mut self.shared.lock().unwrap().sim)
    }

    pub(crate) fn hook(&self, hook: impl FnMut(&Request, Response) -> Response + Send + 'static) {
        self.shared.lock().unwrap().hook = Some(Box::new(hook));
    }
}

async fn handle(
    State(shared): State<Arc<Mutex<Shared>>>,
    Extension(peer): Extension<Peer>,
    request: HttpRequest,
) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, BODY_SIZE_MAX_BYTES)
        .await
        .unwrap();
    let names = ["content-type", "accept"];
    let headers = names.into_iter().filter_map(|name| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name, value.to_owned()))
    });
    let request = Request {
        what: what(parts.uri.path()),
        method: if parts.method == http::Method::GET {
            "GET"
        } else {
            "POST"
        },
        path: parts.uri.path().to_owned(),
        headers: headers.collect(),
        body: body.to_vec(),
    };
    let chain = peer.chain().unwrap_or_default().to_vec();
    let mut shared = shared.lock().unwrap();
    let Shared { sim, hook } = &mut *shared;
    let Sim {
        masa,
        registrars,
        now,
    } = sim;
    let mut response = registrars[0].handle(&chain, &request, masa, *now);
    if let Some(hook) = hook {
        response = hook(&request, response);
    }
    let mut answer = (
        StatusCode::from_u16(response.status).unwrap(),
        response.body,
    )
        .into_response();
    answer.headers_mut().clear();
    for (name, value) in &response.headers {
        answer.headers_mut().insert(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    answer
}

fn what(path: &str) -> What {
    let all = [
        What::RequestVoucher,
        What::VoucherStatus,
        What::CaCertificates,
        What::CsrAttributes,
        What::Enrol,
        What::EnrolStatus,
    ];
    all.into_iter()
        .find(|what| path.ends_with(what.name()))
        .unwrap_or(What::Enrol)
}
