//! One run of the device against a registrar that does what a case wants.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use time::OffsetDateTime;

use super::{MAKER, Pledge};
use crate::{
    clock,
    evidence::Recorder,
    fake_masa::Reply,
    forge::{
        cms::{ANIMA_JSON_VOUCHER, Cms, certs_only},
        jws::Jws,
        key::Key,
        voucher::{Leaves, REQUEST},
        x509::{Authority, CLIENT_AUTH, Certificate, Identity, pem},
    },
    inspect::{self, Envelope, Signed},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Action, Came, Handler, Ready, Seen, Server, Tls},
};

/// The operations of a device that believes the registrar.
const TRUSTING: &[&str] = &[
    "cacerts",
    "csrattrs",
    "simpleenroll",
    "simplereenroll",
    "serverkeygen",
    "fullcmc",
];

/// What the handlers of a run share.
pub(crate) struct World {
    pub(crate) at: OffsetDateTime,
    pub(crate) envelope: Envelope,
    /// The registrar.
    pub(crate) registrar: Identity,
    /// Signs vouchers.
    pub(crate) signer: Identity,
    pub(crate) domain: Authority,
    /// The certificate that a voucher pins.
    pub(crate) pin: Vec<u8>,
    /// The origins of the servers: the first is where the device is sent.
    pub(crate) origins: OnceLock<Vec<String>>,
}

impl World {
    /// The URL of an operation at a server.
    pub(crate) fn url(&self, server: usize, path: &str) -> String {
        let origin = self
            .origins
            .get()
            .and_then(|origins| origins.get(server))
            .cloned()
            .unwrap_or_default();
        format!("{origin}{path}")
    }

    /// A certificate for what a request asks for.
    pub(crate) fn issue(&self, request: &[u8]) -> Result<Vec<u8>, Finding> {
        let csr = csr_of(request)?;
        let text = |error: openssl::error::ErrorStack| Finding::could_not_test(error.to_string());
        let spki = csr
            .public_key()
            .and_then(|key| key.public_key_to_der())
            .map_err(text)?;
        let subject = csr.subject_name().to_der().map_err(text)?;
        Ok(certificate_for(&self.domain, &subject, &spki, self.at))
    }
}

/// A client's certificate of a CA.
pub(crate) fn certificate_for(
    ca: &Authority,
    subject: &[u8],
    spki: &[u8],
    at: OffsetDateTime,
) -> Vec<u8> {
    let serial = rand::random::<[u8; 12]>();
    Certificate::new(&ca.name, subject, spki, at)
        .with(|it| it.serial = [&[1], serial.as_slice()].concat())
        .end_entity(&serial)
        .issued_by(&ca.key_id())
        .purposes(&[CLIENT_AUTH])
        .sign(&ca.signatory.key)
}

/// The request in the body of an enrolment.
pub(crate) fn csr_of(body: &[u8]) -> Result<openssl::x509::X509Req, Finding> {
    let text: String = String::from_utf8_lossy(body)
        .split_ascii_whitespace()
        .collect();
    let der = STANDARD
        .decode(text)
        .map_err(|error| Finding::fail(format!("the body is no base64: {error}")))?;
    openssl::x509::X509Req::from_der(&der)
        .map_err(|error| Finding::fail(format!("the body is no PKCS#10: {error}")))
}

/// Base64 as EST wants it.
pub(crate) fn est_body(media_type: &str, der: &[u8]) -> Reply {
    Reply::new(200, media_type, STANDARD.encode(der)).header("Content-Transfer-Encoding", "base64")
}

/// A request for a voucher, with everything to answer it.
pub(crate) struct Asked<'a> {
    pub(crate) world: &'a World,
    pub(crate) came: &'a Came,
    pub(crate) serial: String,
    pub(crate) nonce: Vec<u8>,
    /// How many requests for vouchers came before.
    pub(crate) count: usize,
}

impl Asked<'_> {
    /// The leaves of a right voucher.
    pub(crate) fn leaves(&self) -> Leaves {
        Leaves::voucher(&self.serial, &self.nonce, &self.world.pin, clock::now())
    }

    /// A CMS over leaves, before it is encoded.
    pub(crate) fn cms(&self, leaves: &Leaves) -> Cms {
        Cms::new(
            &leaves.encode(),
            ANIMA_JSON_VOUCHER,
            &self.world.signer.signatory,
            self.world.at,
        )
        .with(|cms| cms.certificates = self.world.signer.chain())
    }

    /// A CMS that somebody signs.
    pub(crate) fn cms_by(&self, signer: &Identity) -> Cms {
        self.cms(&self.leaves()).with(|cms| {
            cms.signers = vec![signer.signatory.clone()];
            cms.certificates = signer.chain();
        })
    }

    /// A JWS over leaves, before it is encoded.
    pub(crate) fn jws(&self, leaves: &Leaves) -> Jws {
        let signer = &self.world.signer;
        Jws::new(&leaves.encode(), &signer.signatory, &signer.chain())
    }

    /// Content that is signed as it should be.
    pub(crate) fn signed(&self, content: &[u8]) -> Vec<u8> {
        super::super::registrar::sign(
            self.world.envelope,
            content,
            &self.world.signer,
            self.world.at,
        )
    }

    /// A reply with a voucher in it, whatever it is.
    pub(crate) fn reply(&self, body: Vec<u8>) -> Action {
        Reply::new(200, self.world.envelope.media_type(), body).into()
    }

    /// A reply with a voucher of these leaves.
    pub(crate) fn answer(&self, leaves: Leaves) -> Action {
        self.reply(self.signed(&leaves.encode()))
    }
}

type Voucher = Arc<dyn Fn(&Asked<'_>) -> Action + Send + Sync>;
type Operation = Arc<dyn Fn(&World, &Came, &[Came]) -> Action + Send + Sync>;

/// A further server of a scene.
type Other = (Tls, fn(&Arc<World>) -> Handler);

/// What happens in a run.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) tls: Tls,
    voucher: Voucher,
    operations: HashMap<&'static str, Operation>,
    pub(crate) others: Vec<Other>,
    pub(crate) attempts: u32,
    enough: Option<fn(&Seen) -> bool>,
    /// Shown in the handshakes after the first request.
    pub(crate) later_tls: Option<Tls>,
    /// The device may be silent for long, because it was told to wait.
    pub(crate) is_patient: bool,
}

impl Scene {
    /// A scene in which nothing is wrong.
    pub(crate) fn new(kit: &Pledge, envelope: Envelope) -> Result<Self, Finding> {
        let registrar = kit.registrar_of(&kit.domain)?;
        let signer = kit.signer_of(&kit.masa)?;
        Ok(Self::of(kit, envelope, registrar, signer))
    }

    /// A scene with another registrar and MASA.
    pub(crate) fn of(
        kit: &Pledge,
        envelope: Envelope,
        registrar: Identity,
        signer: Identity,
    ) -> Self {
        Self {
            tls: Tls::new(&registrar),
            world: World {
                at: kit.at,
                envelope,
                registrar,
                signer,
                domain: kit.domain.clone(),
                pin: kit.domain.certificate().to_vec(),
                origins: OnceLock::new(),
            },
            voucher: Arc::new(|asked| asked.answer(asked.leaves())),
            operations: HashMap::new(),
            others: Vec::new(),
            attempts: 1,
            enough: None,
            later_tls: None,
            is_patient: false,
        }
    }

    /// Changes it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Answers requests for vouchers like this.
    pub(crate) fn voucher(
        mut self,
        voucher: impl Fn(&Asked<'_>) -> Action + Send + Sync + 'static,
    ) -> Self {
        self.voucher = Arc::new(voucher);
        self
    }

    /// Answers an operation like this.
    pub(crate) fn on(
        mut self,
        operation: &'static str,
        answer: impl Fn(&World, &Came, &[Came]) -> Action + Send + Sync + 'static,
    ) -> Self {
        self.operations.insert(operation, Arc::new(answer));
        self
    }

    /// Ends the run as soon as this holds.
    pub(crate) fn enough(mut self, enough: fn(&Seen) -> bool) -> Self {
        self.enough = Some(enough);
        self
    }
}

/// What came of a run.
#[derive(Clone)]
pub(crate) struct Run {
    /// What the first server saw.
    pub(crate) seen: Seen,
    /// What the others saw.
    pub(crate) others: Vec<Seen>,
    pub(crate) world: Arc<World>,
    items: Vec<crate::evidence::Item>,
}

impl Pledge {
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
        let Scene {
            world,
            tls,
            voucher,
            operations,
            others,
            attempts,
            enough,
            later_tls,
            is_patient,
        } = scene;
        let world = Arc::new(world);
        let handler: Handler = {
            let world = Arc::clone(&world);
            Arc::new(move |came, history| respond(&world, &voucher, &operations, came, history))
        };
        let server = Server::start(ready.listen, "registrar", tls, record, handler)
            .or_could_not_test("a registrar")?;
        // A device that is started again finds the registrar where it was.
        ready.listen = server.address();
        let mut beside = Vec::new();
        for (tls, handler) in others {
            let other = Server::start(
                ready.beside,
                "another registrar",
                tls,
                record,
                handler(&world),
            );
            beside.push(other.or_could_not_test("another registrar")?);
        }
        let origin =
            |address: SocketAddr| format!("https://{}:{}", self.launcher.host(), address.port());
        let mut origins = vec![origin(server.address())];
        origins.extend(beside.iter().map(|server| origin(server.address())));
        // It is set here and nowhere else.
        let _ = world.origins.set(origins);
        let fill = self.fill(ready, &world, server.address(), attempts)?;
        let fill: Vec<(&str, String)> = fill
            .iter()
            .map(|(name, value)| (*name, value.clone()))
            .collect();
        let mut device = self.launcher.start(record, ready, &fill).await?;
        if is_patient {
            device.be_patient();
        }
        let is_command = self.launcher.is_command();
        let over = || {
            let seen = server.seen();
            if let Some(tls) = &later_tls
                && !seen.requests.is_empty()
            {
                server.show(tls.clone());
            }
            match enough {
                Some(enough) => enough(&seen),
                // A program ends by itself; a box goes on.
                None => !is_command && ended(&seen),
            }
        };
        let latest = || {
            let mut latest = server.seen().latest();
            for other in &beside {
                latest = latest.max(other.seen().latest());
            }
            latest
        };
        device.wait(self.patience, over, latest).await;
        Ok(Run {
            seen: server.seen(),
            others: beside.iter().map(Server::seen).collect(),
            world,
            items: record.items(),
        })
    }

    /// The values of placeholders; identity and anchors are written into the case's folder.
    fn fill(
        &self,
        ready: &Ready,
        world: &World,
        address: SocketAddr,
        attempts: u32,
    ) -> Result<Vec<(&'static str, String)>, Finding> {
        let path = |name: &str| ready.folder.join(name);
        let shown = |name: &str| path(name).display().to_string();
        let write = |name: &str, text: String| {
            std::fs::write(path(name), text).or_could_not_test("a file for the device")
        };
        let serial_path = path("serial");
        let serial = match std::fs::read_to_string(&serial_path) {
            Ok(serial) => serial,
            Err(_) => {
                let serial = format!("CONF-{:08x}-Ab", rand::random::<u32>());
                let key = Key::generate().or_could_not_test("a key")?;
                let made = self.at - time::Duration::days(1);
                let device = self
                    .devices
                    .device(MAKER, &serial, Some("masa.invalid"), &key, made);
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
        write("anchors.pem", pem("CERTIFICATE", self.masa.certificate()))?;
        let format = match world.envelope {
            Envelope::Cms => "cms",
            Envelope::Jws => "jws",
        };
        Ok(vec![
            ("url", world.url(0, "")),
            ("host", self.launcher.host().to_owned()),
            ("port", address.port().to_string()),
            ("address", address.to_string()),
            ("dir", ready.folder.display().to_string()),
            ("state", shown("state")),
            ("idevid", shown("idevid.pem")),
            ("key", shown("idevid.key")),
            ("anchors", shown("anchors.pem")),
            ("serial", serial),
            ("format", format.to_owned()),
            ("attempts", attempts.to_string()),
        ])
    }
}

/// Whether a device has come to the end of what it does.
fn ended(seen: &Seen) -> bool {
    let refused = seen
        .last("voucher_status")
        .is_some_and(|came| status_of(came) == Some(false) && came.at.elapsed().as_secs() > 3);
    refused || seen.first("enrollstatus").is_some()
}

/// `status` of a telemetry message.
pub(crate) fn status_of(came: &Came) -> Option<bool> {
    serde_json::from_slice::<Value>(&came.body)
        .ok()?
        .get("status")?
        .as_bool()
}

fn respond(
    world: &World,
    voucher: &Voucher,
    operations: &HashMap<&'static str, Operation>,
    came: &Came,
    history: &[Came],
) -> Action {
    if let Some(operation) = operations.get(came.operation()) {
        return operation(world, came, history);
    }
    match came.operation() {
        "requestvoucher" => {
            let Ok(request) = inspect::open(&came.body) else {
                return Reply::new(400, "text/plain", "no voucher request").into();
            };
            voucher(&asked(world, came, history, &request))
        }
        _ => usual(world, came),
    }
}

/// What a registrar answers to everything but requests for vouchers.
pub(crate) fn usual(world: &World, came: &Came) -> Action {
    match came.operation() {
        "cacerts" => cacerts(world).into(),
        "csrattrs" => csrattrs(&[]).into(),
        "simpleenroll" | "simplereenroll" => match world.issue(&came.body) {
            Ok(certificate) => enrolled_with(&[certificate]).into(),
            Err(finding) => Reply::new(400, "text/plain", finding.why).into(),
        },
        "voucher_status" | "enrollstatus" => Reply::bare(200).into(),
        _ => Reply::new(404, "text/plain", "there is no such resource").into(),
    }
}

/// A request for a voucher, as handlers get it.
pub(crate) fn asked<'a>(
    world: &'a World,
    came: &'a Came,
    history: &[Came],
    request: &Signed,
) -> Asked<'a> {
    let text = |name: &str| {
        request
            .leaves(REQUEST)
            .ok()
            .and_then(|leaves| leaves.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Asked {
        world,
        came,
        serial: text("serial-number"),
        nonce: STANDARD.decode(text("nonce")).unwrap_or_default(),
        count: history
            .iter()
            .filter(|came| came.operation() == "requestvoucher")
            .count()
            .saturating_sub(1),
    }
}

/// The CA certificates of the domain.
pub(crate) fn cacerts(world: &World) -> Reply {
    est_body(
        "application/pkcs7-mime",
        &certs_only(&[world.domain.certificate().to_vec()]),
    )
}

/// CSR attributes.
pub(crate) fn csrattrs(attributes: &[Vec<u8>]) -> Reply {
    est_body("application/csrattrs", &crate::forge::der::seq(attributes))
}

/// The answer to an enrolment.
pub(crate) fn enrolled_with(certificates: &[Vec<u8>]) -> Reply {
    est_body(
        "application/pkcs7-mime; smime-type=certs-only",
        &certs_only(certificates),
    )
}

impl Run {
    /// Puts what happened into the record of another case.
    pub(crate) fn show(&self, record: &Recorder) {
        record.adopt(&self.items);
    }

    /// The request for a voucher.
    pub(crate) fn request(&self) -> Result<(&Came, Signed), Finding> {
        let came = self.came("requestvoucher")?;
        Ok((came, inspect::open(&came.body)?))
    }

    /// The first request of an operation, without which a case says nothing.
    pub(crate) fn came(&self, operation: &str) -> Result<&Came, Finding> {
        if self.seen.connections == 0 {
            return Err(Finding::could_not_test(
                "the device did not connect; see what it printed",
            ));
        }
        self.seen
            .first(operation)
            .ok_or_else(|| Finding::fail(format!("the device did not ask for {operation}")))
    }

    /// The device has to have asked for a voucher, and nothing that it does afterwards may show
    /// that it believed it.
    pub(crate) fn refused(&self, what: &str) -> Told {
        let came = self.came("requestvoucher").map_err(|finding| {
            Finding::could_not_test(format!("it came to no voucher: {}", finding.why))
        })?;
        for seen in std::iter::once(&self.seen).chain(&self.others) {
            for operation in TRUSTING {
                must(
                    !seen
                        .all(operation)
                        .iter()
                        .any(|trusting| trusting.at >= came.at),
                    format!("after {what} the device went on to {operation}"),
                )?;
            }
            for telemetry in seen.all("voucher_status") {
                must(
                    status_of(telemetry) != Some(true),
                    format!("the device reported {what} as good"),
                )?;
            }
        }
        Ok(())
    }

    /// The device has to have enrolled.
    pub(crate) fn enrolled(&self, what: &str) -> Told {
        self.came("requestvoucher")?;
        let said = |came: &Came| String::from_utf8_lossy(&came.body).into_owned();
        if let Some(telemetry) = self
            .seen
            .all("voucher_status")
            .into_iter()
            .find(|came| status_of(came) == Some(false))
            && self.seen.first("simpleenroll").is_none()
        {
            return Err(Finding::fail(format!(
                "{what}: the device refused the voucher: {}",
                said(telemetry)
            )));
        }
        must(
            self.seen.first("simpleenroll").is_some(),
            format!("{what}: the device did not go on to simpleenroll"),
        )?;
        let status = self
            .seen
            .last("enrollstatus")
            .ok_or_else(|| Finding::fail(format!("{what}: the device reported no enrolment")))?;
        must(
            status_of(status) == Some(true),
            format!("{what}: the device reported {}", said(status)),
        )
    }
}
