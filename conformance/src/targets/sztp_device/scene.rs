//! One run of the device against bootstrap servers that do what a case wants.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{MAKER, SztpDevice};
use crate::{
    clock,
    evidence::{Item, Recorder},
    fake_masa::Reply,
    forge::{
        cms::{ANIMA_JSON_VOUCHER, Cms, SZTP_JSON, certs_only},
        key::Key,
        sztp::{
            NAMESPACE, YANG_JSON, YANG_XML, base64, element, errors, hash_value, onboarding,
            unsigned_json,
        },
        voucher::Leaves,
        x509::{Authority, Identity, pem},
    },
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Action, Came, Handler, Ready, Seen, Server, Tls},
};

/// Where the boot image of the suite's lies.
pub(crate) const IMAGE: &str = "/conformance-image.bin";

/// What the handlers of a run share.
pub(crate) struct World {
    pub(crate) at: OffsetDateTime,
    pub(crate) host: String,
    /// The owner's CA, which vouchers pin.
    pub(crate) owner_ca: Authority,
    /// The owner certificate.
    pub(crate) owner: Identity,
    /// Signs vouchers.
    pub(crate) signer: Identity,
    pub(crate) image: Vec<u8>,
    pub(crate) root: &'static str,
    pub(crate) ports: OnceLock<Vec<u16>>,
}

impl World {
    /// The port of a server.
    pub(crate) fn port(&self, server: usize) -> u16 {
        self.ports
            .get()
            .and_then(|ports| ports.get(server))
            .copied()
            .unwrap_or(9)
    }

    /// The URL of something at a server.
    pub(crate) fn url(&self, server: usize, path: &str) -> String {
        format!("https://{}:{}{path}", self.host, self.port(server))
    }
}

/// What get-bootstrapping-data is answered.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) conveyed: Vec<u8>,
    pub(crate) owner: Option<Vec<u8>>,
    pub(crate) voucher: Option<Vec<u8>>,
    pub(crate) level: Option<&'static str>,
}

impl Data {
    /// Without a signature.
    pub(crate) fn bare(conveyed: Vec<u8>) -> Self {
        Self {
            conveyed,
            owner: None,
            voucher: None,
            level: None,
        }
    }

    /// Changes it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A call of get-bootstrapping-data, with everything to answer it.
pub(crate) struct Asking<'a> {
    pub(crate) world: &'a World,
    pub(crate) came: &'a Came,
    /// Which server was called.
    pub(crate) server: usize,
    /// How many such calls it had before.
    pub(crate) count: usize,
    pub(crate) serial: String,
}

impl Asking<'_> {
    /// A leaf of the input, as text.
    pub(crate) fn input(&self, name: &str) -> Option<String> {
        input_of(self.came, name)
    }

    /// The nonce that came.
    pub(crate) fn nonce(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.input("nonce")?).ok()
    }

    /// Onboarding information with the suite's image.
    pub(crate) fn image(&self) -> Value {
        json!({
            "boot-image": {
                "os-name": "conformance-os",
                "os-version": "2.0",
                "download-uri": [self.world.url(self.server, IMAGE)],
                "image-verification": [{
                    "hash-algorithm": "ietf-sztp-conveyed-info:sha-256",
                    "hash-value": hash_value(&self.world.image),
                }],
            },
        })
    }

    /// Onboarding information with a configuration.
    pub(crate) fn configuration() -> Value {
        json!({
            "configuration-handling": "merge",
            "configuration": base64(b"{\"conformance\":\"configured\"}"),
        })
    }

    /// The leaves of a right voucher.
    pub(crate) fn leaves(&self) -> Leaves {
        let now = clock::now();
        let leaves = Leaves::voucher(
            &self.serial,
            &[],
            self.world.owner_ca.certificate(),
            now - Duration::minutes(5),
        )
        .set("assertion", "verified");
        match self.nonce() {
            Some(nonce) => leaves.binary("nonce", &nonce),
            None => leaves
                .unset("nonce")
                .set("expires-on", clock::text(now + Duration::days(30))),
        }
    }

    /// A CMS with a voucher, before it is encoded.
    pub(crate) fn voucher(&self, leaves: &Leaves) -> Cms {
        Cms::new(
            &leaves.encode(),
            ANIMA_JSON_VOUCHER,
            &self.world.signer.signatory,
            self.world.at,
        )
        .with(|cms| cms.certificates = self.world.signer.chain())
    }

    /// A CMS with conveyed information that the owner signs, before it is encoded.
    pub(crate) fn conveyed(&self, content: &[u8]) -> Cms {
        Cms::new(
            content,
            SZTP_JSON,
            &self.world.owner.signatory,
            self.world.at,
        )
        .with(|cms| cms.certificates.clear())
    }

    /// All three artefacts as they should be.
    pub(crate) fn signed(&self, content: &[u8]) -> Data {
        Data {
            conveyed: self.conveyed(content).encode(),
            owner: Some(certs_only(&self.world.owner.chain())),
            voucher: Some(self.voucher(&self.leaves()).encode()),
            level: None,
        }
    }

    /// The same with a voucher of these leaves.
    pub(crate) fn signed_with(&self, leaves: &Leaves) -> Data {
        self.signed(&onboarding(self.image()))
            .with(|data| data.voucher = Some(self.voucher(leaves).encode()))
    }

    /// Signed onboarding information with the suite's image.
    pub(crate) fn signed_image(&self) -> Action {
        self.reply(&self.signed(&onboarding(self.image())))
    }

    /// Unsigned onboarding information with the suite's image.
    pub(crate) fn unsigned_image(&self) -> Action {
        self.reply(&Data::bare(unsigned_json(&onboarding(self.image()))))
    }

    /// Unsigned onboarding information with a configuration.
    pub(crate) fn unsigned_configuration(&self) -> Action {
        self.reply(&Data::bare(unsigned_json(&onboarding(
            Self::configuration(),
        ))))
    }

    /// The answer in the encoding that the device speaks.
    pub(crate) fn reply(&self, data: &Data) -> Action {
        let mut leaves = Vec::new();
        if let Some(level) = data.level {
            leaves.push(("reporting-level", level.to_owned()));
        }
        leaves.push(("conveyed-information", base64(&data.conveyed)));
        if let Some(owner) = &data.owner {
            leaves.push(("owner-certificate", base64(owner)));
        }
        if let Some(voucher) = &data.voucher {
            leaves.push(("ownership-voucher", base64(voucher)));
        }
        if wants_xml(self.came) {
            let inside: String = leaves
                .iter()
                .map(|(name, value)| format!("<{name}>{value}</{name}>"))
                .collect();
            let body = format!("<output xmlns=\"{NAMESPACE}\">{inside}</output>");
            return Reply::new(200, YANG_XML, body).into();
        }
        let leaves: serde_json::Map<String, Value> = leaves
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let body = json!({ "ietf-sztp-bootstrap-server:output": leaves });
        Reply::new(200, YANG_JSON, body.to_string()).into()
    }

    /// An error of RESTCONF.
    pub(crate) fn error(&self, status: u16, tag: &str, info: Option<Value>) -> Action {
        if wants_xml(self.came) && info.is_none() {
            let body = format!(
                "<errors xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\"><error><error-type>protocol</error-type><error-tag>{tag}</error-tag></error></errors>"
            );
            return Reply::new(status, YANG_XML, body).into();
        }
        Reply::new(
            status,
            YANG_JSON,
            errors("application", tag, info).to_string(),
        )
        .into()
    }
}

/// Signed onboarding information with the suite's image.
pub(crate) fn signed_image(asking: &Asking<'_>) -> Action {
    asking.signed_image()
}

/// Unsigned onboarding information with the suite's image.
pub(crate) fn unsigned_image(asking: &Asking<'_>) -> Action {
    asking.unsigned_image()
}

/// Unsigned onboarding information with a configuration.
pub(crate) fn unsigned_configuration(asking: &Asking<'_>) -> Action {
    asking.unsigned_configuration()
}

fn wants_xml(came: &Came) -> bool {
    let said = came
        .header("content-type")
        .or_else(|| came.header("accept"))
        .unwrap_or_default();
    said.contains("xml") && !said.contains("json")
}

/// A leaf of the input of a call, as text; `[null]` of JSON is empty text.
pub(crate) fn input_of(came: &Came, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&came.body).into_owned();
    if text.trim_start().starts_with('<') {
        return element(&text, name);
    }
    let value: Value = serde_json::from_str(&text).ok()?;
    let input = value.get("ietf-sztp-bootstrap-server:input")?.as_object()?;
    let (_, value) = input
        .iter()
        .find(|(found, _)| found.rsplit(':').next() == Some(name))?;
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.len() == 1 && items.first() == Some(&Value::Null) => {
            String::new()
        }
        other => other.to_string(),
    })
}

type Answer = Arc<dyn Fn(&Asking<'_>) -> Action + Send + Sync>;
type Operation = Arc<dyn Fn(&World, &Came, &[Came]) -> Action + Send + Sync>;

/// One server of a scene.
pub(crate) struct Plan {
    pub(crate) tls: Tls,
    answer: Answer,
    operations: HashMap<&'static str, Operation>,
}

/// What happens in a run. The device is sent to the first server.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) servers: Vec<Plan>,
    pub(crate) rounds: u32,
    /// The device learns of the first server by DHCP and not from its manufacturer.
    pub(crate) is_discovered: bool,
    enough: Option<fn(&[Seen]) -> bool>,
}

impl Scene {
    /// A scene with one server.
    pub(crate) fn new(
        kit: &SztpDevice,
        tls: Tls,
        answer: impl Fn(&Asking<'_>) -> Action + Send + Sync + 'static,
    ) -> Result<Self, Finding> {
        let world = World {
            at: kit.at,
            host: kit.launcher.host().to_owned(),
            owner_ca: kit.owner.clone(),
            owner: kit.signer_of(&kit.owner, "Owner")?,
            signer: kit.signer_of(&kit.masa, "MASA")?,
            image: b"an image of the conformance suite's\n".repeat(40),
            root: "/restconf",
            ports: OnceLock::new(),
        };
        let scene = Self {
            world,
            servers: Vec::new(),
            rounds: 1,
            is_discovered: false,
            enough: None,
        };
        Ok(scene.and(tls, answer))
    }

    /// One server that the device trusts.
    pub(crate) fn trusted(
        kit: &SztpDevice,
        answer: impl Fn(&Asking<'_>) -> Action + Send + Sync + 'static,
    ) -> Result<Self, Finding> {
        Self::new(kit, kit.server_of(&kit.web)?, answer)
    }

    /// One server that the device does not trust.
    pub(crate) fn untrusted(
        kit: &SztpDevice,
        answer: impl Fn(&Asking<'_>) -> Action + Send + Sync + 'static,
    ) -> Result<Self, Finding> {
        Ok(Self::new(kit, kit.server_of(&kit.stranger)?, answer)?.discovered())
    }

    /// The same for a device that learns of the first server by DHCP.
    pub(crate) fn discovered(mut self) -> Self {
        self.is_discovered = true;
        self
    }

    /// One more server.
    pub(crate) fn and(
        mut self,
        tls: Tls,
        answer: impl Fn(&Asking<'_>) -> Action + Send + Sync + 'static,
    ) -> Self {
        self.servers.push(Plan {
            tls,
            answer: Arc::new(answer),
            operations: HashMap::new(),
        });
        self
    }

    /// The server that was added last answers an operation like this.
    pub(crate) fn on(
        mut self,
        operation: &'static str,
        answer: impl Fn(&World, &Came, &[Came]) -> Action + Send + Sync + 'static,
    ) -> Self {
        if let Some(server) = self.servers.last_mut() {
            server.operations.insert(operation, Arc::new(answer));
        }
        self
    }

    /// Changes it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Ends the run as soon as this holds.
    pub(crate) fn enough(mut self, enough: fn(&[Seen]) -> bool) -> Self {
        self.enough = Some(enough);
        self
    }
}

/// What came of a run.
#[derive(Clone)]
pub(crate) struct Run {
    /// What each server saw.
    pub(crate) servers: Vec<Seen>,
    items: Vec<Item>,
}

impl SztpDevice {
    /// Starts servers and device and waits until it is over.
    pub(crate) async fn play(&self, record: &Recorder, scene: Scene) -> Result<Run, Finding> {
        let mut ready = self.launcher.ready().await?;
        self.play_in(record, scene, &mut ready).await
    }

    /// The same in a place that stays, for a device that is started again.
    pub(crate) async fn play_in(
        &self,
        record: &Recorder,
        scene: Scene,
        ready: &mut Ready,
    ) -> Result<Run, Finding> {
        if scene.is_discovered && !self.has_dhcp {
            return Err(Finding::not_applicable("the profile does not claim dhcp"));
        }
        let world = Arc::new(scene.world);
        let mut servers: Vec<Server> = Vec::new();
        for (place, plan) in scene.servers.into_iter().enumerate() {
            let listen = if place == 0 {
                ready.listen
            } else {
                ready.beside
            };
            let handler = handler(&world, place, plan.answer, plan.operations);
            let label = format!("server {place}");
            let server = Server::start(listen, &label, plan.tls, record, handler)
                .or_could_not_test("a bootstrap server")?;
            if place == 0 {
                ready.listen = server.address();
            }
            servers.push(server);
        }
        let ports = servers.iter().map(|server| server.address().port());
        // It is set here and nowhere else.
        let _ = world.ports.set(ports.collect());
        let fill = self.fill(ready, &world, scene.rounds, scene.is_discovered)?;
        let mut device = self.launcher.start(record, ready, &fill).await?;
        let is_command = self.launcher.is_command();
        let seen = || -> Vec<Seen> { servers.iter().map(Server::seen).collect() };
        let over = || match scene.enough {
            Some(enough) => enough(&seen()),
            None => !is_command && seen().iter().any(ended),
        };
        let latest = || seen().iter().filter_map(Seen::latest).max();
        device.wait(self.patience, over, latest).await;
        Ok(Run {
            servers: seen(),
            items: record.items(),
        })
    }

    fn fill(
        &self,
        ready: &Ready,
        world: &World,
        rounds: u32,
        is_discovered: bool,
    ) -> Result<Vec<(&'static str, String)>, Finding> {
        let path = |name: &str| ready.folder.join(name);
        let shown = |name: &str| path(name).display().to_string();
        let write = |name: &str, text: String| {
            std::fs::write(path(name), text).or_could_not_test("a file for the device")
        };
        let serial = match std::fs::read_to_string(path("serial")) {
            Ok(serial) => serial,
            Err(_) => {
                let serial = format!("CONF-{:08x}-Ab", rand::random::<u32>());
                let key = Key::generate().or_could_not_test("a key")?;
                let below = Key::generate().or_could_not_test("a key")?;
                let made = self.at - Duration::days(1);
                // Below an intermediate CA, so that it shows whether that is sent along.
                let ca = self.devices.below(MAKER, "Device Sub CA", below, made);
                let device = ca.device(MAKER, &serial, None, &key, made);
                let chain: String = device
                    .chain()
                    .iter()
                    .map(|der| pem("CERTIFICATE", der))
                    .collect();
                write("idevid.pem", chain)?;
                write("idevid.key", key.to_pem().or_could_not_test("a key")?)?;
                write("serial", serial.clone())?;
                std::fs::create_dir_all(path("state")).or_could_not_test("a folder")?;
                serial
            }
        };
        for (file, authority) in [("vouchers.pem", &self.masa), ("servers.pem", &self.web)] {
            write(file, pem("CERTIFICATE", authority.certificate()))?;
        }
        let listen: SocketAddr = ready.listen;
        let url = world.url(0, "");
        let (url, dhcp) = if is_discovered {
            (String::new(), dhcp_option(&url))
        } else {
            (url, String::new())
        };
        Ok(vec![
            ("url", url),
            ("dhcp", dhcp),
            ("host", world.host.clone()),
            ("port", listen.port().to_string()),
            ("dir", ready.folder.display().to_string()),
            ("state", shown("state")),
            ("idevid", shown("idevid.pem")),
            ("key", shown("idevid.key")),
            ("voucher_anchors", shown("vouchers.pem")),
            ("server_anchors", shown("servers.pem")),
            ("serial", serial),
            ("rounds", rounds.to_string()),
        ])
    }
}

/// The data of DHCP option 143 or 136 with one server, in hexadecimal.
fn dhcp_option(url: &str) -> String {
    let length = u16::try_from(url.len()).unwrap_or(u16::MAX);
    hex::encode([&length.to_be_bytes(), url.as_bytes()].concat())
}

/// Whether a device has come to the end of what it does.
fn ended(seen: &Seen) -> bool {
    seen.all("report-progress").iter().any(|came| {
        progress(came).is_some_and(|kind| {
            kind == "bootstrap-complete"
                || (kind.ends_with("-error") && came.at.elapsed().as_secs() > 3)
        })
    })
}

/// progress-type of a report.
pub(crate) fn progress(came: &Came) -> Option<String> {
    input_of(came, "progress-type")
}

fn handler(
    world: &Arc<World>,
    place: usize,
    answer: Answer,
    operations: HashMap<&'static str, Operation>,
) -> Handler {
    let world = Arc::clone(world);
    Arc::new(move |came, history| {
        let path = came.path.split('?').next().unwrap_or_default();
        let operation = if path == IMAGE {
            "image"
        } else {
            came.operation()
        };
        if let Some(operation) = operations.get(operation) {
            return operation(&world, came, history);
        }
        let rpc = format!(
            "{}/operations/ietf-sztp-bootstrap-server:{operation}",
            world.root
        );
        match operation {
            "image" => Reply::new(200, "application/octet-stream", world.image.clone()).into(),
            "host-meta" => {
                let body = format!(
                    "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'><Link rel='restconf' href='{}'/></XRD>",
                    world.root
                );
                Reply::new(200, "application/xrd+xml", body).into()
            }
            "get-bootstrapping-data" if path == rpc && came.method == "POST" => {
                let count = history
                    .iter()
                    .filter(|came| came.operation() == operation)
                    .count()
                    .saturating_sub(1);
                answer(&Asking {
                    world: &world,
                    came,
                    server: place,
                    count,
                    serial: serial_of(came).unwrap_or_default(),
                })
            }
            "report-progress" if path == rpc && came.method == "POST" => Reply::bare(204).into(),
            _ => Reply::new(
                404,
                YANG_JSON,
                errors("protocol", "invalid-value", None).to_string(),
            )
            .into(),
        }
    })
}

/// The serial number of the certificate that a device shows.
pub(crate) fn serial_of(came: &Came) -> Option<String> {
    pki::Certificate::from_der(came.client.first()?)
        .ok()?
        .subject_serial_number()
}

impl Run {
    /// Puts what happened into the record of another case.
    pub(crate) fn show(&self, record: &Recorder) {
        record.adopt(&self.items);
    }

    /// What a server saw.
    pub(crate) fn server(&self, place: usize) -> Result<&Seen, Finding> {
        self.servers
            .get(place)
            .ok_or_else(|| Finding::could_not_test("there is no such server"))
    }

    /// The first call of the first server.
    pub(crate) fn call(&self) -> Result<&Came, Finding> {
        self.call_of(0)
    }

    /// The first call of a server.
    pub(crate) fn call_of(&self, place: usize) -> Result<&Came, Finding> {
        if self.servers.iter().all(|seen| seen.connections == 0) {
            return Err(Finding::could_not_test(
                "the device did not connect; see what it printed",
            ));
        }
        self.server(place)?
            .first("get-bootstrapping-data")
            .ok_or_else(|| {
                Finding::fail(format!(
                    "the device did not ask server {place} for bootstrapping data"
                ))
            })
    }

    /// The reports that came to a server, by type.
    pub(crate) fn reports(&self, place: usize) -> Result<Vec<String>, Finding> {
        Ok(self
            .server(place)?
            .all("report-progress")
            .into_iter()
            .map(|came| progress(came).unwrap_or_else(|| "(none)".into()))
            .collect())
    }

    /// Whether anybody's image was fetched.
    pub(crate) fn fetched(&self) -> bool {
        self.servers
            .iter()
            .flat_map(|seen| &seen.requests)
            .any(|came| came.path == IMAGE)
    }

    /// The device has to have believed what it was given: the image was fetched.
    pub(crate) fn believed(&self, what: &str) -> Told {
        self.call()?;
        must(
            self.fetched(),
            format!("{what}: the device did not fetch the image that it was told of"),
        )
    }

    /// The device may not have believed it.
    pub(crate) fn refused(&self, what: &str) -> Told {
        self.call()
            .map_err(|finding| Finding::could_not_test(finding.why))?;
        must(
            !self.fetched(),
            format!("after {what} the device fetched the image that it was told of"),
        )?;
        for place in 0..self.servers.len() {
            let reports = self.reports(place)?;
            let good = reports.iter().find(|kind| {
                [
                    "bootstrap-complete",
                    "config-complete",
                    "boot-image-complete",
                ]
                .contains(&kind.as_str())
            });
            must(
                good.is_none(),
                format!(
                    "after {what} the device reported {}",
                    good.map_or("", String::as_str)
                ),
            )?;
        }
        Ok(())
    }
}
