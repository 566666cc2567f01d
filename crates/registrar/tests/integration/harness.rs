//! A registrar made by its own `init`, a manufacturer whose MASA does what a test tells it to, and
//! devices.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use artifacts::{
    Assertion, AuditEvent, AuditLog, Document, DomainId, Envelope, Nonce, RequestFields,
    SerialNumber, Tolerances, Truncation, Voucher, VoucherFields, VoucherRequest,
};
use axum::body::Bytes;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use brski::media::CoseName;
use clap::Parser;
use daemon::{CancellationToken, Clock, ManualClock, Outcome};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use net::client::{ClientConfig, Connection, Target};
use net::server::{ListenerConfig, ServerIdentities};
use net::{HttpVersion, Peer};
use pki::cose::{CoseCertificates, CoseOptions};
use pki::{Certificate, Identity};
use registrar::{Config, Running};
use testkit::{NOW, Pki, PkiOptions};

/// The host of the scripted MASA.
pub(crate) const MASA_HOST: &str = "masa.acme.example";

/// Runs `usher registrar` with these arguments, as the binary would.
pub(crate) async fn command(clock: &Clock, arguments: &[&str]) -> Outcome {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        command: registrar::cli::Command,
    }
    let mut all = vec!["registrar"];
    all.extend_from_slice(arguments);
    match Cli::try_parse_from(all) {
        Ok(cli) => cli.command.run_async(clock.clone()).await,
        Err(error) => panic!("{error}"),
    }
}

tokio::task_local! {
    static ENGINE: store::Engine;
}

/// Runs a test body on an engine.
pub(crate) async fn on(engine: store::Engine, body: impl Future<Output = ()>) {
    ENGINE.scope(engine, body).await;
}

/// The URL of an empty database on the engine that the test runs on, SQLite if it runs on none.
fn database() -> String {
    static POSTGRES: LazyLock<testkit::TempPostgres> =
        LazyLock::new(|| testkit::TempPostgres::start().unwrap());
    match ENGINE
        .try_with(|engine| *engine)
        .unwrap_or(store::Engine::Sqlite)
    {
        store::Engine::Sqlite => "sqlite:registrar.sqlite".to_owned(),
        store::Engine::Postgres => POSTGRES.fresh_database().unwrap(),
    }
}

/// Everything that one test needs.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) pki: Arc<Pki>,
    pub(crate) clock: Clock,
    pub(crate) hand: ManualClock,
    pub(crate) masa: Masa,
    running: Option<Running>,
    made: Mutex<HashMap<String, Identity>>,
}

impl Lab {
    /// A registrar whose policy is `policy` (the `[policy]` section and what else is to be said).
    pub(crate) async fn start(policy: &str) -> Self {
        let lab = Self::prepare(policy).await;
        lab.serving().await
    }

    /// As [`Lab::start`], but the registrar is not started.
    pub(crate) async fn prepare(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = PkiOptions::new(NOW);
        options.masa_host = MASA_HOST.to_owned();
        options.masa_url = Some(MASA_HOST.to_owned());
        let pki = Arc::new(Pki::new(options).unwrap());
        let (clock, hand) = Clock::manual(NOW);
        let masa = Masa::start(Arc::clone(&pki), pki.masa_tls.clone(), clock.clone()).await;
        let mut lab = Self {
            folder,
            pki,
            clock,
            hand,
            masa,
            running: None,
            made: Mutex::default(),
        };
        let dir = lab.path("").display().to_string();
        let database = database();
        let made = lab
            .run(&[
                "init",
                "--dir",
                &dir,
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:1",
                "--database",
                &database,
            ])
            .await;
        assert_eq!(made, Outcome::Yes);
        lab.configure(policy);
        lab.trust("acme").await;
        lab
    }

    /// Starts what [`Lab::prepare`] made.
    pub(crate) async fn serving(mut self) -> Self {
        let running = registrar::serve(self.config(), self.clock.clone())
            .await
            .unwrap();
        self.running = Some(running);
        self
    }

    pub(crate) fn config(&self) -> Config {
        let flags = daemon::config::Flags::new();
        Config::load(&self.path("registrar.toml"), &flags).unwrap()
    }

    /// Replaces the policy that `init` wrote, and finds the MASA without DNS.
    pub(crate) fn configure(&mut self, policy: &str) {
        let file = self.path("registrar.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let (kept, _) = text.split_once("# Who may join").unwrap();
        let kept = kept.replace("127.0.0.1:1\"", "127.0.0.1:0\"");
        let text = format!(
            "{kept}{policy}\n[masa]\ntimeout_seconds = 3\nconnect_timeout_seconds = 2\n\
             [masa.addresses]\n\"{MASA_HOST}\" = \"{}\"\n",
            self.masa.address
        );
        std::fs::write(&file, text).unwrap();
    }

    pub(crate) async fn trust(&self, vendor: &str) {
        for (purpose, certificate) in [
            ("idevid", &self.pki.manufacturer_root.chain[0]),
            ("masa-tls", self.pki.masa_tls.chain.last().unwrap()),
            ("voucher", self.pki.masa_signer.chain.last().unwrap()),
        ] {
            let file = self.path("anchor.pem");
            std::fs::write(&file, certificate.to_pem()).unwrap();
            let file = file.display().to_string();
            let imported = self
                .run(&[
                    "trust", "import", &file, "--vendor", vendor, "--use", purpose,
                ])
                .await;
            assert_eq!(imported, Outcome::Yes);
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on this registrar's configuration.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Outcome {
        let config = self.path("registrar.toml").display().to_string();
        let mut all = arguments.to_vec();
        all.extend_from_slice(&["--config", &config, "--json"]);
        command(&self.clock, &all).await
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().device_address()
    }

    /// A device of the manufacturer; the same serial number is the same device.
    pub(crate) fn device(&self, serial: &str) -> Device {
        let mut made = self.made.lock().unwrap();
        let identity = made
            .entry(serial.to_owned())
            .or_insert_with(|| self.pki.idevid(serial).unwrap())
            .clone();
        Device::new(identity, serial, self.address())
    }

    /// Another device with the same serial number under the same CA.
    pub(crate) fn clone_of(&self, serial: &str) -> Device {
        Device::new(
            self.pki.cloned_idevid(serial).unwrap(),
            serial,
            self.address(),
        )
    }

    /// `GET` on the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> (StatusCode, String) {
        let address = self.running().admin_address();
        let url = url::Url::parse(&format!("http://{address}{path}")).unwrap();
        let config = ClientConfig::default();
        let response =
            net::client::fetch(&url, Method::GET, HeaderMap::new(), Bytes::new(), &config)
                .await
                .unwrap();
        (
            response.status,
            String::from_utf8(response.body.to_vec()).unwrap(),
        )
    }

    /// What the API says about a serial number: the first device that bears it.
    pub(crate) async fn shown(&self, serial: &str) -> serde_json::Value {
        let (status, body) = self.admin(&format!("/api/devices/{serial}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        value["devices"][0].clone()
    }

    /// Waits until the newest line of that step is there, and gives it.
    pub(crate) async fn line(&self, serial: &str, step: &str) -> serde_json::Value {
        for _ in 0..200 {
            let shown = self.shown(serial).await;
            let lines = shown["timeline"].as_array().cloned().unwrap_or_default();
            if let Some(line) = lines.iter().rev().find(|line| line["step"] == step) {
                return line.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "no line {step} for {serial}: {:#}",
            self.shown(serial).await
        );
    }

    pub(crate) async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

/// What a device got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code at the beginning of a refusal.
    pub(crate) fn code(&self) -> String {
        self.text()
            .split([':', '\n'])
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A device with its IDevID.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) identity: Option<Identity>,
    pub(crate) serial: String,
    pub(crate) address: SocketAddr,
    pub(crate) http: HttpVersion,
    pub(crate) envelope: Envelope,
}

impl Device {
    pub(crate) fn new(identity: Identity, serial: &str, address: SocketAddr) -> Self {
        Self {
            identity: Some(identity),
            serial: serial.to_owned(),
            address,
            http: HttpVersion::Http1,
            envelope: Envelope::Cms,
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        let config = ClientConfig {
            identity: self.identity.clone(),
            http: self.http,
            ..ClientConfig::default()
        };
        Connection::open(&Target::from_address(self.address), &config)
            .await
            .unwrap()
    }

    /// The leaves of a proper request to the registrar that is seen on a connection.
    pub(crate) fn leaves(&self, registrar: &Certificate) -> RequestFields {
        let mut fields = RequestFields::new(SerialNumber::new(self.serial.clone()).unwrap());
        fields.assertion = Some(Assertion::Proximity);
        fields.nonce = Nonce::from_octets(&rand::random::<[u8; 16]>());
        fields.proximity_registrar_cert = Some(registrar.clone());
        fields
    }

    pub(crate) fn sign(&self, fields: RequestFields) -> Vec<u8> {
        let request = VoucherRequest::new(fields).unwrap();
        artifacts::sign_request(
            &request,
            self.envelope,
            self.identity.as_ref().unwrap(),
            None,
        )
        .unwrap()
    }

    pub(crate) async fn post(
        &self,
        connection: &mut Connection,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Got {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_str(content_type).unwrap(),
        );
        let response = connection
            .request(Method::POST, path, headers, body.into())
            .await
            .unwrap();
        Got {
            status: response.status.as_u16(),
            headers: response.headers,
            body: response.body,
        }
    }

    /// Asks for a voucher with these bytes on a connection of its own.
    pub(crate) async fn ask_with(&self, body: Vec<u8>) -> Got {
        let mut connection = self.connect().await;
        let content_type = self.envelope.media_type();
        self.post(
            &mut connection,
            brski::paths::REQUEST_VOUCHER,
            content_type,
            body,
        )
        .await
    }

    /// As [`Device::ask_with`], with an `Accept` header.
    pub(crate) async fn ask_with_accept(&self, body: Vec<u8>, accept: &str) -> Got {
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_static(self.envelope.media_type());
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        let path = brski::paths::REQUEST_VOUCHER;
        let mut connection = self.connect().await;
        let response = connection
            .request(Method::POST, path, headers, body.into())
            .await
            .unwrap();
        Got {
            status: response.status.as_u16(),
            headers: response.headers,
            body: response.body,
        }
    }

    /// A proper request, signed for the registrar that answers.
    pub(crate) async fn request(&self) -> Vec<u8> {
        let connection = self.connect().await;
        self.sign(self.leaves(&connection.peer_chain()[0]))
    }

    /// Asks for a voucher as it should be.
    pub(crate) async fn ask(&self) -> Got {
        let body = self.request().await;
        self.ask_with(body).await
    }

    pub(crate) async fn report(&self, path: &str, body: &str) -> Got {
        let mut connection = self.connect().await;
        self.post(&mut connection, path, "application/json", body.to_owned())
            .await
    }
}

/// What the MASA does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Script {
    /// What it should.
    Honest,
    /// A status and a text.
    Status(u16, &'static str),
    /// These bytes as a voucher.
    Bytes(Vec<u8>),
    /// A body of so many octets.
    Huge(usize),
    /// Nothing for so long.
    Slow(Duration),
    /// What it should, after so long.
    Late(Duration),
    /// A voucher for another device.
    WrongSerial,
    /// A voucher with another nonce.
    WrongNonce,
    /// A voucher that pins another domain.
    WrongPin,
    /// A voucher that a stranger signed.
    WrongSigner,
    /// A voucher whose content was changed after signing.
    Tampered,
    /// A COSE voucher without certificates.
    NoBag,
    /// A voucher that another manufacturer's MASA signed.
    StrangersChain,
    /// The same without certificates.
    StrangersNoBag,
    /// A COSE voucher with certificates that have nothing to do with it.
    OtherBag,
}

/// What the MASA says about the history of a device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum History {
    /// Our own voucher only.
    Clean,
    /// The same, by 201 and Location.
    Elsewhere(String),
    /// Another domain had it before.
    Foreign,
    /// Our own voucher is not in it.
    Empty,
    /// 404.
    None,
    /// This text.
    Text(String),
}

/// A request that the MASA got.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) content_type: String,
    pub(crate) accept: String,
    pub(crate) authorization: String,
    pub(crate) server_name: Option<String>,
    pub(crate) client: Option<Certificate>,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Masa {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    shutdown: CancellationToken,
}

struct Inner {
    pki: Arc<Pki>,
    clock: Clock,
    script: Mutex<Script>,
    history: Mutex<History>,
    seen: Mutex<Vec<Seen>>,
}

impl Masa {
    pub(crate) async fn start(pki: Arc<Pki>, tls: Identity, clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            pki,
            clock,
            script: Mutex::new(Script::Honest),
            history: Mutex::new(History::Clean),
            seen: Mutex::new(Vec::new()),
        });
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&inner));
        let identities = ServerIdentities::new(&[tls]).unwrap();
        let mut config = ListenerConfig::new("127.0.0.1:0".parse().unwrap(), identities);
        if let Some(tls) = &mut config.tls {
            tls.http3 = false;
        }
        let shutdown = CancellationToken::new();
        let listener = net::server::serve(config, router, shutdown.clone())
            .await
            .unwrap();
        Self {
            address: listener.address(),
            inner,
            shutdown,
        }
    }

    pub(crate) fn plays(&self, script: Script) {
        *self.inner.script.lock().unwrap() = script;
    }

    pub(crate) fn tells(&self, history: History) {
        *self.inner.history.lock().unwrap() = history;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// Forgets what it got.
    pub(crate) fn forget(&self) {
        self.inner.seen.lock().unwrap().clear();
    }

    /// From now on nobody answers.
    pub(crate) fn goes_away(&self) {
        self.shutdown.cancel();
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let text = |name: header::HeaderName| {
        let value = parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    inner.seen.lock().unwrap().push(Seen {
        path: parts.uri.path().to_owned(),
        content_type: text(header::CONTENT_TYPE),
        accept: text(header::ACCEPT),
        authorization: text(header::AUTHORIZATION),
        server_name: peer
            .tls
            .as_ref()
            .and_then(|tls| tls.server_name())
            .map(str::to_owned),
        client: peer.chain().ok().and_then(|chain| chain.first()).cloned(),
        body: body.clone(),
    });
    match parts.uri.path() {
        brski::paths::REQUEST_VOUCHER => {
            let asked = text(header::CONTENT_TYPE);
            let name = CoseName::asked_for(Some(&asked), None);
            voucher(&inner, &body, name).await
        }
        brski::paths::REQUEST_AUDIT_LOG => history(&inner, Some(&body)),
        "/logs/secret" => history_log(&inner, &inner.seen.lock().unwrap()[0].body.clone()),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn voucher(inner: &Inner, body: &[u8], name: CoseName) -> Response {
    let script = inner.script.lock().unwrap().clone();
    let media_type = Envelope::Cms.media_type();
    match &script {
        Script::Status(status, text) => {
            return (StatusCode::from_u16(*status).unwrap(), *text).into_response();
        }
        Script::Bytes(bytes) => {
            return ([(header::CONTENT_TYPE, media_type)], bytes.clone()).into_response();
        }
        Script::Huge(size) => {
            return ([(header::CONTENT_TYPE, media_type)], vec![0x30; *size]).into_response();
        }
        Script::Slow(time) => {
            tokio::time::sleep(*time).await;
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        Script::Late(time) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let (request, pin, envelope) = read(body);
    let mut fields = VoucherFields::new(request.serial_number.clone());
    fields.created_on = Some(inner.clock.now());
    fields.assertion = Some(Assertion::Proximity);
    fields.nonce = request.nonce.clone();
    fields.pinned_domain_cert = Some(pin);
    let mut signer = inner.pki.masa_signer.clone();
    match script {
        Script::WrongSerial => fields.serial_number = SerialNumber::new("ANOTHER").unwrap(),
        Script::WrongNonce => fields.nonce = Nonce::from_octets(&[7; 16]),
        Script::WrongPin => {
            let other = inner.pki.other_domain("Other").unwrap();
            fields.pinned_domain_cert = Some(other.ca.chain[0].clone());
        }
        Script::WrongSigner => signer = inner.pki.self_signed_device("SIGNER").unwrap(),
        Script::StrangersChain | Script::StrangersNoBag => {
            signer = Pki::new(PkiOptions::new(NOW)).unwrap().masa_signer.clone();
        }
        _ => {}
    }
    let voucher = Voucher::new(fields).unwrap();
    let mut bytes =
        artifacts::sign_voucher(&voucher, envelope, &signer, inner.clock.now()).unwrap();
    if script == Script::Tampered {
        let at = find(&bytes, b"proximity").unwrap();
        bytes[at] = b'q';
    }
    let bare = [Script::NoBag, Script::StrangersNoBag, Script::OtherBag];
    if bare.contains(&script) {
        let others = Pki::new(PkiOptions::new(NOW)).unwrap().masa_signer.chain;
        let unsigned = Identity {
            chain: others.clone(),
            signer: Arc::clone(&signer.signer),
        };
        let certificates = match script {
            Script::OtherBag => CoseCertificates::Bag(others),
            _ => CoseCertificates::None,
        };
        let options = CoseOptions {
            certificates,
            key_id: None,
        };
        bytes = pki::cose::sign(&voucher.to_cbor(), &unsigned, &options).unwrap();
    }
    ([(header::CONTENT_TYPE, name.of(envelope))], bytes).into_response()
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The registrar's request as it stands, the topmost certificate that came along, the format.
pub(crate) fn read(body: &[u8]) -> (VoucherRequest, Certificate, Envelope) {
    let tolerances = Tolerances::strict();
    let signed = artifacts::open(Document::Request, body, None, &tolerances).unwrap();
    let signed = signed.dangerous_peek();
    let (payload, envelope) = (signed.payload().unwrap(), signed.envelope());
    let (request, _) = VoucherRequest::from_payload(payload, envelope, &tolerances).unwrap();
    // A bag of COSE has no order, and holds the device's certificates too.
    let certificates = signed.certificates();
    let registrar = certificates
        .iter()
        .find(|certificate| certificate.has_cmc_ra())
        .or_else(|| certificates.first())
        .unwrap();
    let top = certificates
        .iter()
        .find(|certificate| certificate.subject_der() == registrar.issuer_der())
        .unwrap_or(registrar);
    (request, top.clone(), envelope)
}

fn history(inner: &Inner, body: Option<&[u8]>) -> Response {
    let history = inner.history.lock().unwrap().clone();
    match history {
        History::None => (StatusCode::NOT_FOUND, "never yours").into_response(),
        History::Elsewhere(location) => {
            (StatusCode::CREATED, [(header::LOCATION, location)]).into_response()
        }
        _ => history_log(inner, body.unwrap_or_default()),
    }
}

fn history_log(inner: &Inner, body: &[u8]) -> Response {
    let (request, pin, _) = read(body);
    let own = AuditEvent {
        date: inner.clock.now(),
        domain_id: DomainId::of(&pin),
        nonce: request
            .nonce
            .as_ref()
            .map(|nonce| nonce.as_str().to_owned()),
        assertion: Assertion::Proximity,
        truncated: None,
    };
    let foreign = AuditEvent {
        date: inner.clock.now() - time::Duration::days(100),
        domain_id: DomainId::from_bytes(*b"somebody else's name"),
        nonce: Some("bm90aGluZyBzcGVjaWFs".to_owned()),
        assertion: Assertion::Logged,
        truncated: None,
    };
    let history = inner.history.lock().unwrap().clone();
    let events = match history {
        History::Foreign => vec![own, foreign.clone()],
        History::Empty => vec![],
        History::Text(text) => {
            return ([(header::CONTENT_TYPE, "application/json")], text).into_response();
        }
        _ => vec![own],
    };
    let log = AuditLog::new(events, Truncation::default());
    ([(header::CONTENT_TYPE, "application/json")], log.to_json()).into_response()
}
