//! A bootstrap server over a fresh database, a manufacturer, an owner, and devices.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use bootstrap::{Config, Running, SCHEMA};
use bytes::Bytes;
use daemon::{Clock, ManualClock};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use net::HttpVersion;
use net::client::{ClientConfig, Connection, Target};
use pki::issue::{AltName, CertificateBuilder, Profile, name};
use pki::{Certificate, Identity, KeyKind, Signer as _, SoftwareKey};
use serde_json::Value;
use store::{Store, params};
use testkit::{NOW, Pki, PkiOptions};

/// The operation that gives bootstrapping data.
pub(crate) const GET: &str =
    "/restconf/operations/ietf-sztp-bootstrap-server:get-bootstrapping-data";
/// The operation that takes reports.
pub(crate) const REPORT: &str = "/restconf/operations/ietf-sztp-bootstrap-server:report-progress";
/// JSON, as RESTCONF names it.
pub(crate) const JSON: &str = "application/yang-data+json";
/// XML, as RESTCONF names it.
pub(crate) const XML: &str = "application/yang-data+xml";

tokio::task_local! {
    static ENGINE: store::Engine;
}

/// Runs a test body on an engine.
pub(crate) async fn on(engine: store::Engine, body: impl Future<Output = ()>) {
    ENGINE.scope(engine, body).await;
}

/// The URL of an empty database on the engine that the test runs on, SQLite if it runs on none.
pub(crate) fn database() -> String {
    static POSTGRES: LazyLock<testkit::TempPostgres> =
        LazyLock::new(|| testkit::TempPostgres::start().unwrap());
    match ENGINE
        .try_with(|engine| *engine)
        .unwrap_or(store::Engine::Sqlite)
    {
        store::Engine::Sqlite => "sqlite:bootstrap.db".to_owned(),
        store::Engine::Postgres => POSTGRES.fresh_database().unwrap(),
    }
}

/// A certificate under a CA, with its key, in two PEM files that hold the chain up to the CA.
pub(crate) fn issue(
    folder: &std::path::Path,
    ca: &Identity,
    stem: &str,
    profile: Profile,
    change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
) -> Identity {
    issue_kind(folder, ca, stem, profile, KeyKind::EcdsaP256, change)
}

/// [`issue`] with a kind of key.
pub(crate) fn issue_kind(
    folder: &std::path::Path,
    ca: &Identity,
    stem: &str,
    profile: Profile,
    kind: KeyKind,
    change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
) -> Identity {
    let key = SoftwareKey::generate(kind).unwrap();
    let builder = CertificateBuilder::new(
        profile,
        name(&format!("CN={stem},O=Usher Test Owner")).unwrap(),
        key.public_key().clone(),
        testkit::serial().unwrap(),
        NOW - time::Duration::DAY,
        NOW + time::Duration::days(3650),
    );
    let certificate = change(builder)
        .issue(&ca.chain[0], ca.signer.as_ref())
        .unwrap();
    let mut chain = vec![certificate];
    chain.extend(ca.chain.iter().cloned());
    let pem: String = chain.iter().map(Certificate::to_pem).collect();
    std::fs::write(folder.join(format!("{stem}.pem")), pem).unwrap();
    std::fs::write(
        folder.join(format!("{stem}.key")),
        key.to_pkcs8_pem().unwrap().as_bytes(),
    )
    .unwrap();
    Identity::new(chain, Arc::new(key)).unwrap()
}

/// Everything that one test needs.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) pki: Arc<Pki>,
    pub(crate) clock: Clock,
    pub(crate) hand: ManualClock,
    /// The owner's CA.
    pub(crate) ca: Identity,
    /// The database beside the server.
    pub(crate) store: Store,
    running: Option<Running>,
}

impl Lab {
    /// A server with one manufacturer, `acme`. `more` is added to the configuration.
    pub(crate) async fn start(more: &str) -> Self {
        let mut lab = Self::prepare(more).await;
        lab.serve().await;
        lab
    }

    /// As [`Lab::start`], but the server is not started.
    pub(crate) async fn prepare(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = PkiOptions::new(NOW);
        let pki = Arc::new(Pki::new(options.clone()).unwrap());
        let ca = testkit::root(&options, "CN=Owner CA,O=Usher Test Owner").unwrap();
        let dir = folder.path();
        std::fs::write(dir.join("owner-ca.pem"), ca.chain[0].to_pem()).unwrap();
        issue(dir, &ca, "tls", Profile::TlsServer, |server| {
            server
                .dns_name("localhost")
                .alt_name(AltName::Ip([127, 0, 0, 1].into()))
        });
        issue(dir, &ca, "owner", Profile::MasaSigner, |owner| owner);
        std::fs::create_dir(dir.join("vendors.d")).unwrap();
        let anchor = pki.manufacturer_root.chain[0].to_pem();
        std::fs::write(dir.join("vendors.d/root.pem"), anchor).unwrap();
        let voucher_anchor = pki.masa_signer.chain.last().unwrap().to_pem();
        std::fs::write(dir.join("vendors.d/voucher.pem"), voucher_anchor).unwrap();
        std::fs::write(
            dir.join("vendors.d/acme.toml"),
            "name = \"acme\"\nidevid_anchors = [\"root.pem\"]\nvoucher_anchors = [\"voucher.pem\"]\n",
        )
        .unwrap();
        let text = format!(
            "{more}\n[database]\nurl = \"{}\"\n[[identity]]\ncertificate = \"tls.pem\"\n\
             key = \"tls.key\"\n[owner]\ncertificate = \"owner.pem\"\nkey = \"owner.key\"\n\
             ca = [\"owner-ca.pem\"]\n",
            database()
        );
        std::fs::write(dir.join("bootstrap.toml"), text).unwrap();
        let (clock, hand) = Clock::manual(NOW);
        let config = config_in(dir);
        Store::migrate(&config.database.url, &SCHEMA, NOW)
            .await
            .unwrap();
        let store = Store::open(&config.database.url, &SCHEMA).await.unwrap();
        Self {
            folder,
            pki,
            clock,
            hand,
            ca,
            store,
            running: None,
        }
    }

    /// Starts what [`Lab::prepare`] made.
    pub(crate) async fn serve(&mut self) {
        let running = bootstrap::serve(self.config(), self.clock.clone())
            .await
            .unwrap();
        self.running = Some(running);
    }

    pub(crate) fn config(&self) -> Config {
        config_in(self.folder.path())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().device_address()
    }

    /// Puts a device of the manufacturer into the register.
    pub(crate) async fn register(&self, serial: &str) -> i64 {
        self.register_as("acme", serial, "").await
    }

    /// Puts a device into the register.
    pub(crate) async fn register_as(&self, vendor: &str, serial: &str, device_type: &str) -> i64 {
        let values = params![vendor, serial, device_type, NOW];
        self.change(
            "INSERT INTO device (vendor, serial, device_type, state, created_us, changed_us) \
             VALUES ($1, $2, $3, 'registered', $4, $4)",
            values,
        )
        .await;
        self.device_row(serial).await.integer("id").unwrap()
    }

    /// Changes the register as an operator's command does.
    pub(crate) async fn change(&self, sql: &'static str, values: Vec<store::Value>) {
        self.store
            .transaction("test", move |connection| {
                let values = values.clone();
                async move {
                    let rows = connection.execute(sql, values).await?;
                    assert!(rows > 0, "{sql} changes nothing");
                    bootstrap::register::touch(connection).await
                }
                .boxed()
            })
            .await
            .unwrap();
    }

    pub(crate) async fn device_row(&self, serial: &str) -> store::Row {
        self.row("SELECT * FROM device WHERE serial = $1", params![serial])
            .await
    }

    /// The first row of a query.
    pub(crate) async fn row(&self, sql: &'static str, values: Vec<store::Value>) -> store::Row {
        self.store.fetch_all(sql, values).await.unwrap().remove(0)
    }

    /// The state of a device.
    pub(crate) async fn state(&self, serial: &str) -> String {
        self.device_row(serial).await.text("state").unwrap()
    }

    /// The newest lines of the timeline.
    pub(crate) async fn lines(&self, limit: u32) -> Vec<bootstrap::timeline::Line> {
        bootstrap::timeline::list(&self.store, None, None, limit)
            .await
            .unwrap()
    }

    /// The newest line.
    pub(crate) async fn line(&self) -> bootstrap::timeline::Line {
        self.lines(1).await.remove(0)
    }

    /// A device of the manufacturer with its own certificate.
    pub(crate) fn device(&self, serial: &str) -> Device {
        Device::new(self.address(), Some(self.pki.idevid(serial).unwrap()))
    }

    /// A peer that shows no certificate.
    pub(crate) fn anonymous(&self) -> Device {
        Device::new(self.address(), None)
    }

    /// Writes a content folder and serves it, as `usher bootstrap apply` does.
    pub(crate) async fn stage(&self, content: &str, files: &[(&str, &str)]) {
        use bootstrap::content::{load, revision};
        let root = self.path("content");
        std::fs::create_dir_all(root.join("templates")).unwrap();
        std::fs::write(root.join("content.toml"), content).unwrap();
        for (name, text) in files {
            std::fs::write(root.join(name), text).unwrap();
        }
        let folder = load::load(&root);
        assert!(folder.passes(), "{:?}", folder.findings);
        revision::store_revision(
            &self.store,
            &folder.document,
            &folder.bodies,
            "test",
            "",
            self.clock.now(),
        )
        .await
        .unwrap();
    }

    pub(crate) async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        self.store.close().await;
    }
}

fn config_in(folder: &std::path::Path) -> Config {
    let flags = daemon::config::Flags::new();
    Config::load(&folder.join("bootstrap.toml"), &flags).unwrap()
}

/// What a peer got.
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

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status, error-tag and our code of a refusal in JSON.
    pub(crate) fn refusal(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), Some(JSON), "{}", self.text());
        assert!(self.header("cache-control").is_some());
        let body = self.json();
        let error = &body["ietf-restconf:errors"]["error"][0];
        let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
        assert!(!text("error-type").is_empty(), "{body}");
        (self.status, text("error-tag"), text("error-app-tag"))
    }

    /// A leaf of the output, decoded.
    pub(crate) fn output(&self, leaf: &str) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let body = self.json();
        let text = body["ietf-sztp-bootstrap-server:output"][leaf]
            .as_str()?
            .to_owned();
        Some(
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap(),
        )
    }
}

/// A device, or what says it is one.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) identity: Option<Identity>,
    pub(crate) address: SocketAddr,
    pub(crate) http: HttpVersion,
    /// Header fields of every request.
    pub(crate) headers: HeaderMap,
}

impl Device {
    pub(crate) fn new(address: SocketAddr, identity: Option<Identity>) -> Self {
        Self {
            identity,
            address,
            http: HttpVersion::Http1,
            headers: HeaderMap::new(),
        }
    }

    /// The same with HTTP Basic.
    pub(crate) fn with_basic(self, user: &str, password: &str) -> Self {
        use base64::Engine as _;
        let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.with("authorization", &format!("Basic {token}"))
    }

    /// The same with a header field.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
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

    /// One request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Got {
        let mut connection = self.connect().await;
        let mut headers = self.headers.clone();
        if let Some(content_type) = content_type {
            headers.insert("content-type", content_type.parse().unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let response = connection
            .request(method, path, headers, body.into())
            .await
            .unwrap();
        Got {
            status: response.status.as_u16(),
            headers: response.headers,
            body: response.body,
        }
    }

    /// Asks for bootstrapping data with this JSON input.
    pub(crate) async fn ask(&self, input: Value) -> Got {
        let body = serde_json::json!({ "ietf-sztp-bootstrap-server:input": input });
        self.send("POST", GET, Some(JSON), body.to_string()).await
    }

    /// Reports progress with this JSON input.
    pub(crate) async fn report(&self, input: Value) -> Got {
        let body = serde_json::json!({ "ietf-sztp-bootstrap-server:input": input });
        self.send("POST", REPORT, Some(JSON), body.to_string())
            .await
    }
}
