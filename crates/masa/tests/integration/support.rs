//! A MASA that serves on loopback, a device PKI, and registrars that ask.

use std::sync::OnceLock;

use artifacts::{
    Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, VoucherRequest, sign_request,
};
use bytes::Bytes;
use daemon::{Clock, ManualClock};
use http::{HeaderMap, HeaderValue, Method, header};
use masa::register::{OwnerChange, add_owner};
use masa::timeline::{self, Event};
use masa::{Config, InitOptions, Running, init};
use net::HttpVersion;
use net::client::{ClientConfig, Connection, Response, Target};
use pki::Identity;
use store::{Store, params};
use tempfile::TempDir;
use testkit::{Domain, Pki, TempPostgres};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

pub(crate) const VOUCHER: &str = "/.well-known/brski/requestvoucher";
pub(crate) const AUDIT_LOG: &str = "/.well-known/brski/requestauditlog";
pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// Runs each body on both engines.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                $(#[$meta])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::support::Masa::sqlite().await).await;
                }
            )+
        }
        mod postgres {
            $(
                $(#[$meta])*
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::support::Masa::postgres().await).await;
                }
            )+
        }
    };
}

/// A running MASA and everybody around it.
pub(crate) struct Masa {
    pub(crate) running: Running,
    pub(crate) config: Config,
    pub(crate) pki: Pki,
    pub(crate) hand: ManualClock,
    pub(crate) directory: TempDir,
}

pub(crate) fn server() -> &'static TempPostgres {
    static SERVER: OnceLock<TempPostgres> = OnceLock::new();
    SERVER.get_or_init(|| TempPostgres::start().expect("Debian's postgresql starts"))
}

impl Masa {
    pub(crate) async fn sqlite() -> Self {
        Self::start("sqlite:masa.db".to_owned(), |_| {}).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::start(server().fresh_database().unwrap(), |_| {}).await
    }

    /// SQLite with a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start("sqlite:masa.db".to_owned(), change).await
    }

    async fn start(database: String, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::p256(NOW).unwrap();
        let anchor = directory.path().join("factory.pem");
        std::fs::write(&anchor, pki.manufacturer_root.chain[0].to_pem()).unwrap();
        let mut options = InitOptions::new(directory.path().join("masa"));
        options.database = database;
        options.device_anchors = vec![anchor];
        let made = init(&options, NOW).await.unwrap();
        let mut config = Config::load(&made.config, &daemon::config::Flags::new()).unwrap();
        change(&mut config);
        let (clock, hand) = Clock::manual(NOW);
        let running = masa::serve(config.clone(), clock).await.unwrap();
        Self {
            running,
            config,
            pki,
            hand,
            directory,
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.running.store()
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.hand.now()
    }

    /// Puts devices into the register without an owner.
    pub(crate) async fn devices(&self, serials: &[&str]) {
        self.device_rows(serials, None, "").await;
    }

    pub(crate) async fn device_rows(&self, serials: &[&str], owner: Option<&str>, extra: &str) {
        use masa::register::{Import, ImportOptions, ImportRow, Rows};
        let rows: Rows = serials
            .iter()
            .map(|serial| {
                let mut row: ImportRow = serde_json::from_str(if extra.is_empty() {
                    r#"{"serial":""}"#
                } else {
                    extra
                })
                .unwrap();
                row.serial = (*serial).to_owned();
                row.product = Some("Router".to_owned());
                row.sold_to = owner.map(str::to_owned);
                Ok(row)
            })
            .collect();
        let import = Import::prepare(&rows, ImportOptions::default(), "test");
        let report = import.run(self.store(), self.now(), |_| {}).await.unwrap();
        assert!(report.written, "{report:?} {:?}", report.outcomes);
    }

    pub(crate) async fn owner(&self, id: &str, domain: &Domain, nonceless: bool) {
        let change = OwnerChange {
            name: Some(id.to_owned()),
            nonceless: Some(nonceless),
            pin: None,
            certificates: vec![domain.ca.chain[0].clone()],
        };
        add_owner(self.store(), id, change, self.now())
            .await
            .unwrap();
    }

    /// One POST on a connection of its own, as this registrar.
    pub(crate) async fn post(
        &self,
        path: &str,
        client: Option<&Identity>,
        content_type: &str,
        accept: Option<&str>,
        body: Vec<u8>,
    ) -> Response {
        self.post_over(HttpVersion::Http1, path, client, content_type, accept, body)
            .await
    }

    pub(crate) async fn post_over(
        &self,
        http: HttpVersion,
        path: &str,
        client: Option<&Identity>,
        content_type: &str,
        accept: Option<&str>,
        body: Vec<u8>,
    ) -> Response {
        let config = ClientConfig {
            identity: client.cloned(),
            http,
            ..ClientConfig::default()
        };
        let target = Target::from_address(self.running.device_address());
        let mut connection = Connection::open(&target, &config).await.unwrap();
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_str(content_type).unwrap(),
            );
        }
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        }
        let answer = connection
            .request(Method::POST, path, headers, Bytes::from(body))
            .await
            .unwrap();
        connection.close().await;
        answer
    }

    /// The same request to another replica.
    pub(crate) async fn ask_at(&self, replica: &Running, domain: &Domain, ask: &Ask) -> Response {
        let media = HeaderValue::from_static(ask.envelope.media_type());
        let headers: HeaderMap = [
            (header::CONTENT_TYPE, media.clone()),
            (header::ACCEPT, media),
        ]
        .into_iter()
        .collect();
        let config = ClientConfig {
            identity: Some(domain.registrar.clone()),
            ..ClientConfig::default()
        };
        let target = Target::from_address(replica.device_address());
        let mut connection = Connection::open(&target, &config).await.unwrap();
        let body = Bytes::from(ask.sign(self.now()));
        let answer = connection
            .request(Method::POST, VOUCHER, headers, body)
            .await
            .unwrap();
        connection.close().await;
        answer
    }

    /// The request in its own media type, everything acceptable.
    pub(crate) async fn ask(&self, domain: &Domain, ask: &Ask) -> Response {
        let body = ask.sign(self.now());
        let media = ask.envelope.media_type();
        self.post(VOUCHER, Some(&domain.registrar), media, Some(media), body)
            .await
    }

    pub(crate) async fn timeline(&self, serial: Option<&str>) -> Vec<Event> {
        self.running.flush().await;
        timeline::list(self.store(), serial, 1000).await.unwrap()
    }

    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        let sql = store::AssertSqlSafe(format!("SELECT COUNT(*) AS n FROM {table}"));
        let row = self
            .store()
            .fetch_optional(sql, params![])
            .await
            .unwrap()
            .unwrap();
        row.integer("n").unwrap()
    }

    /// Stops it and checks that the audit log is whole.
    pub(crate) async fn stop(self) {
        let log = self.config.audit_log(self.store()).unwrap();
        log.seal(self.now()).await.unwrap();
        let verdict = log.verify(&[], |_| {}).await.unwrap();
        assert!(verdict.ok, "{verdict:?}");
        self.running.stop().await;
    }
}

/// A voucher request in the making.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) envelope: Envelope,
    pub(crate) serial: String,
    /// Serial number in the pledge's own request, if another.
    pub(crate) inner_serial: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) inner_nonce: Option<String>,
    /// The device that signs the inner request; none for no inner request.
    pub(crate) idevid: Option<Identity>,
    /// The registrar that the device saw.
    pub(crate) seen: Option<Identity>,
    /// Who signs the outer request.
    pub(crate) signer: Identity,
    pub(crate) age: Duration,
    pub(crate) own_proximity: bool,
    pub(crate) issuer: Option<IdevidIssuer>,
    pub(crate) assertion: Option<artifacts::Assertion>,
}

impl Ask {
    /// A good request of this device in this domain.
    pub(crate) fn new(pki: &Pki, domain: &Domain, serial: &str, nonce: &str) -> Self {
        let idevid = pki.idevid(serial).unwrap();
        Self {
            nonce: Some(nonce.to_owned()),
            idevid: Some(idevid),
            seen: Some(domain.registrar.clone()),
            assertion: Some(artifacts::Assertion::Proximity),
            ..Self::nonceless(pki, domain, serial)
        }
    }

    /// Without nonce and without the pledge.
    pub(crate) fn nonceless(pki: &Pki, domain: &Domain, serial: &str) -> Self {
        let idevid = pki.idevid(serial).unwrap();
        Self {
            envelope: Envelope::Cms,
            serial: serial.to_owned(),
            inner_serial: None,
            nonce: None,
            inner_nonce: None,
            idevid: None,
            seen: None,
            signer: domain.registrar.clone(),
            age: Duration::ZERO,
            own_proximity: false,
            issuer: Some(IdevidIssuer::of(&idevid.chain[0])),
            assertion: None,
        }
    }

    pub(crate) fn jws(mut self) -> Self {
        self.envelope = Envelope::Jws;
        self
    }

    pub(crate) fn sign(&self, now: OffsetDateTime) -> Vec<u8> {
        let nonce = |text: &str| Nonce::from_text(text).unwrap();
        let prior = self.idevid.as_ref().map(|idevid| {
            let serial = self.inner_serial.as_ref().unwrap_or(&self.serial);
            let mut fields = RequestFields::new(SerialNumber::new(serial.clone()).unwrap());
            fields.created_on = Some(now - self.age);
            fields.assertion = Some(artifacts::Assertion::Proximity);
            fields.nonce = self
                .inner_nonce
                .as_ref()
                .or(self.nonce.as_ref())
                .map(|n| nonce(n));
            fields.proximity_registrar_cert = self.seen.as_ref().map(|seen| seen.chain[0].clone());
            let request = VoucherRequest::new(fields).unwrap();
            sign_request(&request, self.envelope, idevid, Some(now)).unwrap()
        });
        let mut fields = RequestFields::new(SerialNumber::new(self.serial.clone()).unwrap());
        fields.created_on = Some(now - self.age);
        fields.assertion = self.assertion;
        fields.idevid_issuer = self.issuer.clone();
        fields.nonce = self.nonce.as_ref().map(|n| nonce(n));
        fields.prior_signed_voucher_request = prior;
        if self.own_proximity {
            fields.proximity_registrar_cert = Some(self.signer.chain[0].clone());
        }
        let request = VoucherRequest::new(fields).unwrap();
        sign_request(&request, self.envelope, &self.signer, Some(now)).unwrap()
    }
}

/// The text of an answer.
pub(crate) fn text(response: &Response) -> String {
    String::from_utf8(response.body.to_vec()).expect("an explanation is UTF-8")
}

/// Refused with this status and code, in words.
#[track_caller]
pub(crate) fn assert_refused(response: &Response, status: u16, code: &str) {
    let body = text(response);
    assert_eq!(
        (response.status.as_u16(), body.split(':').next()),
        (status, Some(code)),
        "{body}"
    );
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        body.trim_end().len() > code.len() + 2,
        "an explanation in words: {body}"
    );
}
