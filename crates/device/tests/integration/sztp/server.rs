//! A bootstrap server behind a listener, as simple as it can be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use artifacts::{Encoding, bundle::BootstrappingData};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Extension, Request as HttpRequest, State},
    response::Response,
};
use http::{StatusCode, header};
use net::{
    CancellationToken, Peer,
    server::{Listener, ListenerConfig, ServerIdentities, serve},
};
use pki::{Certificate, Identity};
use sztp::{
    Leniency,
    agent::Server as Address,
    discovery,
    message::{
        GetBootstrappingDataInput, GetBootstrappingDataOutput, ProgressType, ReportProgressInput,
        ReportingLevel,
    },
    restconf::RestconfError,
};

pub(crate) enum Reply {
    Data(BootstrappingData, Option<ReportingLevel>),
    Error(RestconfError),
    Status(u16),
    /// 200 with this body.
    Raw(Vec<u8>),
}

type Answer = Box<dyn FnMut(&GetBootstrappingDataInput, &[Certificate]) -> Reply + Send>;

/// A file that can be fetched.
#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// The connection breaks after so many octets of an answer.
    pub(crate) breaks_after: Option<usize>,
    /// Ranges are not understood.
    pub(crate) no_ranges: bool,
}

pub(crate) struct Shared {
    answer: Answer,
    pub(crate) inputs: Vec<GetBootstrappingDataInput>,
    pub(crate) reports: Vec<ReportProgressInput>,
    pub(crate) chains: Vec<Vec<Certificate>>,
    pub(crate) report_status: u16,
    pub(crate) files: BTreeMap<String, File>,
    /// The `Range` fields of requests for files.
    pub(crate) ranges: Vec<Option<String>>,
    pub(crate) authorizations: Vec<Option<String>>,
}

pub(crate) struct Server {
    shared: Arc<Mutex<Shared>>,
    pub(crate) address: Address,
    shutdown: CancellationToken,
    listener: Listener,
}

impl Server {
    pub(crate) async fn start(
        identity: Identity,
        answer: impl FnMut(&GetBootstrappingDataInput, &[Certificate]) -> Reply + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            answer: Box::new(answer),
            inputs: Vec::new(),
            reports: Vec::new(),
            chains: Vec::new(),
            report_status: 204,
            files: BTreeMap::new(),
            ranges: Vec::new(),
            authorizations: Vec::new(),
        }));
        let router = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&shared));
        let shutdown = CancellationToken::new();
        let identities = ServerIdentities::new(&[identity]).unwrap();
        let mut config = ListenerConfig::new("127.0.0.1:0".parse().unwrap(), identities);
        if let Some(tls) = &mut config.tls {
            tls.http3 = true;
        }
        let listener = serve(config, router, shutdown.clone()).await.unwrap();
        let port = listener.address().port();
        Self {
            shared,
            address: Address::new("127.0.0.1", Some(port)),
            shutdown,
            listener,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port())
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Shared) -> T) -> T {
        look(&mut self.shared.lock().unwrap())
    }

    pub(crate) fn answers(
        &self,
        answer: impl FnMut(&GetBootstrappingDataInput, &[Certificate]) -> Reply + Send + 'static,
    ) {
        self.with(|shared| shared.answer = Box::new(answer));
    }

    pub(crate) fn reports(&self) -> Vec<ProgressType> {
        self.with(|shared| {
            shared
                .reports
                .iter()
                .map(|report| report.progress)
                .collect()
        })
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.listener.stopped().await;
    }
}

async fn handle(
    State(shared): State<Arc<Mutex<Shared>>>,
    Extension(peer): Extension<Peer>,
    request: HttpRequest,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let field = |name: &str| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let path = parts.uri.path();
    let mut shared = shared.lock().unwrap();
    if path == discovery::HOST_META_PATH {
        return Response::builder()
            .header(header::CONTENT_TYPE, discovery::HOST_META_TYPE)
            .body(Body::from(discovery::host_meta("/rc")))
            .unwrap();
    }
    if let Some(file) = shared.files.get(path).cloned() {
        shared.ranges.push(field("range"));
        return serve_file(file, field("range"));
    }
    if parts.method == http::Method::GET {
        return Response::builder().status(404).body(Body::empty()).unwrap();
    }
    let encoding = match field("content-type").as_deref() {
        Some("application/yang-data+json") => Encoding::Json,
        Some("application/yang-data+xml") => Encoding::Xml,
        other => panic!("{other:?} for {path}"),
    };
    shared.authorizations.push(field("authorization"));
    let strict = Leniency::strict();
    let (status, body) = match path.strip_prefix("/rc/operations/") {
        Some(discovery::GET_BOOTSTRAPPING_DATA) => {
            let (input, _) = GetBootstrappingDataInput::decode(&body, encoding, &strict).unwrap();
            let chain = peer.chain().unwrap_or_default().to_vec();
            shared.inputs.push(input.clone());
            shared.chains.push(chain.clone());
            match (shared.answer)(&input, &chain) {
                Reply::Data(data, reporting_level) => {
                    let output = GetBootstrappingDataOutput {
                        reporting_level,
                        conveyed_information: data.conveyed_information,
                        owner_certificate: data.owner_certificate,
                        ownership_voucher: data.ownership_voucher,
                    };
                    (200, output.encode(encoding))
                }
                Reply::Error(error) => (error.status, error.encode(encoding)),
                Reply::Status(status) => (status, Vec::new()),
                Reply::Raw(body) => (200, body),
            }
        }
        Some(discovery::REPORT_PROGRESS) => {
            let (report, _) = ReportProgressInput::decode(&body, encoding, &strict).unwrap();
            shared.reports.push(report);
            (shared.report_status, Vec::new())
        }
        _ => (404, Vec::new()),
    };
    let content_type = match encoding {
        Encoding::Json => "application/yang-data+json",
        Encoding::Xml => "application/yang-data+xml",
    };
    let mut response = Response::builder().status(status);
    if !body.is_empty() {
        response = response.header(header::CONTENT_TYPE, content_type);
    }
    response.body(Body::from(body)).unwrap()
}

fn serve_file(file: File, range: Option<String>) -> Response {
    let all = file.bytes.len();
    let from: usize = range
        .filter(|_| !file.no_ranges)
        .and_then(|range| {
            let range = range.strip_prefix("bytes=")?.strip_suffix('-')?.to_owned();
            range.parse().ok()
        })
        .unwrap_or(0);
    let mut response = Response::builder();
    if from >= all && from > 0 {
        return response
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .body(Body::empty())
            .unwrap();
    }
    if from > 0 {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", format!("bytes {from}-{}/{all}", all - 1));
    }
    let rest = file.bytes[from..].to_vec();
    let body = match file.breaks_after {
        Some(after) if after < rest.len() => {
            let pieces: Vec<Result<Bytes, std::io::Error>> = vec![
                Ok(Bytes::copy_from_slice(&rest[..after])),
                Err(std::io::Error::other("the line breaks")),
            ];
            Body::from_stream(Pieces(pieces.into_iter()))
        }
        _ => Body::from(rest),
    };
    response.body(body).unwrap()
}

/// Pieces one after the other, with a pause before the error, so that what came before it gets
/// through.
struct Pieces(std::vec::IntoIter<Result<Bytes, std::io::Error>>);

impl futures::Stream for Pieces {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}
