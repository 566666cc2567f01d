//! Target `registrar`: the suite is the devices, most of them hostile, and the MASA.

mod device_side;
mod enrolment;
mod masa_side;

use std::sync::Arc;

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::Certificate;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::{
    case::{Case, Kit},
    clock,
    evidence::Recorder,
    fake_masa::{Behaviour, Came, FakeMasa, Reply},
    forge::{
        cms::{ANIMA_JSON_VOUCHER, Cms},
        jws::Jws,
        key::{Hash, Key},
        voucher::{Leaves, REQUEST},
        x509::{Authority, Identity, SERVER_AUTH, name},
    },
    http::{Answer, Client, Request},
    inspect::Envelope,
    outcome::{Finding, OrCouldNotTest as _, Told},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    workshop::Workshop,
};

/// The role.
pub static REGISTRAR: RegistrarRole = RegistrarRole;

/// A registrar over HTTPS.
pub struct RegistrarRole;

const FEATURES: &[Feature] = &[
    Feature {
        name: "cms",
        means: "voucher requests in CMS (RFC 8995)",
        usual: true,
    },
    Feature {
        name: "jws",
        means: "voucher requests in JWS",
        usual: true,
    },
    Feature {
        name: "est",
        means: "it is the EST server as well",
        usual: true,
    },
    Feature {
        name: "deny-list",
        means: "devices whose serial number begins with CONF-DENY- are refused",
        usual: true,
    },
    Feature {
        name: "audit-log",
        means: "it asks the MASA for the audit log",
        usual: true,
    },
];

impl Role for RegistrarRole {
    fn target(&self) -> Target {
        Target::Registrar
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = masa_side::cases();
        cases.extend(device_side::cases());
        cases.extend(enrolment::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let now = clock::now();
        let workshop = Workshop::create(&plan.folder)?;
        let maker = "Conformance Manufacturer";
        let devices = workshop.make_root("device-ca", maker, "Device CA", now)?;
        workshop.make_root("masa-tls-ca", maker, "Web CA", now)?;
        workshop.make_root("voucher-ca", maker, "Voucher CA", now)?;
        workshop.make_root("unknown-ca", maker, "Device CA", now)?;
        let masa = format!("{}:{}", plan.suite_host, plan.suite_port);
        let device = devices.device(
            maker,
            "CONF-REG-SAMPLE",
            Some(&masa),
            &workshop.key("sample")?,
            now,
        );
        workshop.export("device", &device)?;
        let mut profile = Profile::new(Target::Registrar);
        profile.endpoint.url = Some(
            plan.endpoint
                .clone()
                .unwrap_or_else(|| "https://registrar.example:8443".into()),
        );
        profile.suite.listen = format!("0.0.0.0:{}", plan.suite_port);
        profile
            .settings
            .insert("masa_url".into(), masa.clone().into());
        Ok(Prepared {
            instructions: INSTRUCTIONS.replace("{masa}", &masa),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(Arc::new(Registrar::new(setup)?))
    }
}

const INSTRUCTIONS: &str = "\
# Testing a registrar

The suite is the devices of a manufacturer and the manufacturer's MASA, which answers at
https://{masa}. Configure the registrar under test like this:

1. Trust `device-ca.pem` for IDevIDs. Do not trust `unknown-ca.pem`, which has the same name.
2. Trust `masa-tls-ca.pem` for the TLS certificate of that manufacturer's MASA, and `voucher-ca.pem`
   for the signatures of its vouchers.
3. The address of the MASA is in the devices' certificates; the registrar has to reach it.
4. Accept devices whose serial number begins with `CONF-REG-` without asking anybody. Refuse those
   whose serial number begins with `CONF-DENY-` (claim `deny-list`).
5. `device.pem` with `private/device.key` is a device to try it with.

Then set `implementation`, `claims`, `endpoint` and `suite.listen` in `profile.toml` and run

    usher-conformance run --target registrar --profile profile.toml --out report

Each case is a device that the registrar has never seen.
";

/// What the cases share.
pub(crate) struct Registrar {
    pub(crate) client: Client,
    pub(crate) masa: FakeMasa,
    /// A MASA whose certificate a stranger issued.
    pub(crate) masa_of_stranger: FakeMasa,
    /// A MASA whose certificate is for another name.
    pub(crate) masa_of_other_name: FakeMasa,
    pub(crate) masa_url: String,
    pub(crate) masa_host: String,
    pub(crate) devices: Authority,
    pub(crate) unknown: Authority,
    pub(crate) at: OffsetDateTime,
    server: OnceCell<Result<Vec<Vec<u8>>, Finding>>,
}

/// The MASA's side: signs vouchers and keeps the log.
#[derive(Clone)]
pub(crate) struct Signing {
    signer: Identity,
}

impl Registrar {
    fn new(setup: &Setup<'_>) -> Result<Self> {
        let profile = setup.profile;
        let url = profile
            .endpoint
            .url
            .as_deref()
            .ok_or_else(|| anyhow::anyhow!("the profile lacks endpoint.url"))?;
        let client = Client::new(
            url,
            profile.endpoint.address.as_deref(),
            profile.timing.answer(),
        )?;
        let workshop = Workshop::open(setup.folder)?;
        let at = clock::now();
        let masa_url = profile.needed("masa_url")?.to_owned();
        let masa_host = masa_url
            .rsplit_once(':')
            .map_or(masa_url.as_str(), |(host, _)| host)
            .to_owned();
        let web = workshop.root("masa-tls-ca")?;
        let vouchers = workshop.root("voucher-ca")?;
        let unknown = workshop.root("unknown-ca")?;
        let server = |ca: &Authority, host: &str| -> Result<Identity> {
            Ok(ca.issue(
                &name("", "MASA", None),
                &workshop.key("masa-tls")?,
                at,
                |it| it.purposes(&[SERVER_AUTH]).hosts(&[host]),
            ))
        };
        let signing = Signing {
            signer: vouchers.issue(&name("", "MASA", None), &workshop.key("masa")?, at, |it| it),
        };
        let usual = signing.behaviour();
        let address: std::net::SocketAddr = profile.suite.listen.parse()?;
        let beside = std::net::SocketAddr::new(address.ip(), 0).to_string();
        Ok(Self {
            masa: FakeMasa::start(
                &profile.suite.listen,
                &server(&web, &masa_host)?,
                Arc::clone(&usual),
            )?,
            masa_of_stranger: FakeMasa::start(
                &beside,
                &server(&unknown, &masa_host)?,
                Arc::clone(&usual),
            )?,
            masa_of_other_name: FakeMasa::start(&beside, &server(&web, "other.invalid")?, usual)?,
            client,
            masa_url,
            masa_host,
            devices: workshop.root("device-ca")?,
            unknown,
            at,
            server: OnceCell::new(),
        })
    }

    /// A device that nobody has seen before.
    pub(crate) fn device(&self, record: &Recorder) -> Result<Device, Finding> {
        let serial = format!(
            "CONF-REG-{:016x}-{:04x}",
            record.seed,
            rand::random::<u16>()
        );
        self.device_of(&self.devices, &serial, Some(&self.masa_url))
    }

    /// A device of any maker with any serial number and MASA.
    pub(crate) fn device_of(
        &self,
        maker: &Authority,
        serial: &str,
        masa_url: Option<&str>,
    ) -> Result<Device, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        Ok(Device {
            identity: maker.device(
                "Conformance Manufacturer",
                serial,
                masa_url,
                &key,
                self.at - time::Duration::days(1),
            ),
            serial: serial.to_owned(),
            nonce: rand::random::<[u8; 16]>().to_vec(),
        })
    }

    /// The registrar's chain, as a device sees it.
    pub(crate) async fn server_chain(&self, record: &Recorder) -> Result<Vec<Vec<u8>>, Finding> {
        self.server
            .get_or_init(|| async {
                let device = self.device(record)?;
                let client = self.client.with_identity(&device.identity);
                let chain = client.connect(record).await?.server_chain();
                if chain.is_empty() {
                    return Err(Finding::fail("the registrar showed no certificate"));
                }
                Ok(chain)
            })
            .await
            .clone()
    }

    /// The leaves of a right request of a device.
    pub(crate) async fn leaves(
        &self,
        record: &Recorder,
        device: &Device,
    ) -> Result<Leaves, Finding> {
        let chain = self.server_chain(record).await?;
        let server = chain.first().cloned().unwrap_or_default();
        Ok(Leaves::pledge_request(
            &device.serial,
            &device.nonce,
            &server,
            Some(self.at),
        ))
    }

    /// Sends a device's request and waits for the verdict while the registrar asks it to.
    pub(crate) async fn ask(
        &self,
        record: &Recorder,
        device: &Device,
        envelope: Envelope,
        body: Vec<u8>,
    ) -> Result<Answer, Finding> {
        const TRIES_MAX: usize = 15;
        const WAIT_MAX_SECONDS: u64 = 5;
        let client = self.client.with_identity(&device.identity);
        let request = request("requestvoucher", envelope, body);
        for _ in 0..TRIES_MAX {
            let answer = client.send(record, request.clone()).await?;
            if answer.status != 202 {
                return Ok(answer);
            }
            let wait: u64 = answer
                .header("retry-after")
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| Finding::fail("202 without a Retry-After that can be read"))?;
            tokio::time::sleep(std::time::Duration::from_secs(wait.min(WAIT_MAX_SECONDS))).await;
        }
        Err(Finding::could_not_test("it stayed at 202"))
    }

    /// A voucher for a device, all the way.
    pub(crate) async fn voucher(
        &self,
        record: &Recorder,
        envelope: Envelope,
    ) -> Result<Exchange, Finding> {
        let device = self.device(record)?;
        let leaves = self.leaves(record, &device).await?;
        self.voucher_with(record, envelope, device, leaves).await
    }

    /// The same with other leaves.
    pub(crate) async fn voucher_with(
        &self,
        record: &Recorder,
        envelope: Envelope,
        device: Device,
        leaves: Leaves,
    ) -> Result<Exchange, Finding> {
        let pledge_request = device.sign(envelope, &leaves, self.at);
        let answer = self
            .ask(record, &device, envelope, pledge_request.clone())
            .await?;
        if answer.status != 200 {
            return Err(Finding::fail(format!(
                "a right request was answered {}: {}",
                answer.status,
                answer.text()
            )));
        }
        let came = self.masa.came(&device.serial);
        for came in &came {
            record.received(
                format!("at the MASA: {}", came.line),
                &came.body,
                crate::decode::describe(&came.body),
            );
        }
        let asked = came
            .iter()
            .find(|came| came.operation() == "requestvoucher")
            .cloned()
            .ok_or_else(|| Finding::could_not_test("no request reached the suite's MASA"))?;
        Ok(Exchange {
            device,
            leaves,
            pledge_request,
            answer,
            asked,
        })
    }
}

/// A device of the suite's.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) identity: Identity,
    pub(crate) serial: String,
    pub(crate) nonce: Vec<u8>,
}

impl Device {
    /// Its request, signed.
    pub(crate) fn sign(&self, envelope: Envelope, leaves: &Leaves, at: OffsetDateTime) -> Vec<u8> {
        sign(envelope, &leaves.encode(), &self.identity, at)
    }
}

/// Signs any content.
pub(crate) fn sign(
    envelope: Envelope,
    content: &[u8],
    identity: &Identity,
    at: OffsetDateTime,
) -> Vec<u8> {
    match envelope {
        Envelope::Cms => Cms::new(content, ANIMA_JSON_VOUCHER, &identity.signatory, at)
            .with(|cms| cms.certificates = identity.chain())
            .encode(),
        Envelope::Jws => Jws::new(content, &identity.signatory, &identity.chain()).encode(),
    }
}

/// A POST below the BRSKI resources.
pub(crate) fn request(operation: &str, envelope: Envelope, body: Vec<u8>) -> Request {
    Request::post(
        format!("/.well-known/brski/{operation}"),
        envelope.media_type(),
        body,
    )
    .header("Accept", envelope.media_type())
}

/// Everything of one exchange that went well.
pub(crate) struct Exchange {
    pub(crate) device: Device,
    pub(crate) leaves: Leaves,
    pub(crate) pledge_request: Vec<u8>,
    pub(crate) answer: Answer,
    pub(crate) asked: Came,
}

impl Signing {
    /// Vouchers and logs as they should be.
    fn behaviour(self) -> Behaviour {
        Arc::new(move |came| {
            let Ok(signed) = came.request() else {
                return Reply::new(403, "text/plain", "no voucher request");
            };
            let Ok(leaves) = signed.leaves(REQUEST) else {
                return Reply::new(403, "text/plain", "no voucher request");
            };
            let text = |name: &str| {
                leaves
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let pin = top_of(&signed.signer, &signed.certificates);
            let now = clock::now();
            if came.operation() == "requestauditlog" {
                let id = pin
                    .subject_key_id()
                    .unwrap_or_else(|| Hash::Sha256.of(pin.public_key().spki_der()));
                let log = json!({
                    "version": 1,
                    "events": [{
                        "date": clock::text(now),
                        "domainID": STANDARD.encode(id),
                        "nonce": leaves.get("nonce").cloned().unwrap_or_default(),
                        "assertion": "proximity",
                    }],
                    "truncation": { "nonced duplicates": 0, "nonceless duplicates": 0, "arbitrary": 0 },
                });
                return Reply::new(200, "application/json", log.to_string());
            }
            let nonce = STANDARD.decode(text("nonce")).unwrap_or_default();
            let voucher = Leaves::voucher(&text("serial-number"), &nonce, pin.der(), now);
            let envelope = crate::inspect::guess(&came.body).unwrap_or(Envelope::Cms);
            let body = sign(envelope, &voucher.encode(), &self.signer, now);
            Reply::new(200, envelope.media_type(), body)
        })
    }
}

/// The highest certificate that a chain leads to.
fn top_of(leaf: &Certificate, others: &[Certificate]) -> Certificate {
    const CHAIN_MAX: usize = 8;
    let mut top = leaf.clone();
    for _ in 0..CHAIN_MAX {
        let above = others.iter().find(|one| {
            one.subject_der() == top.issuer_der()
                && one.der() != top.der()
                && top.verify_signature_by(one.public_key()).is_ok()
        });
        match above {
            Some(above) => top = above.clone(),
            None => break,
        }
    }
    top
}

/// The answer has to be a refusal: 4xx.
pub(crate) fn refused(answer: &Answer, what: &str) -> Told {
    if answer.is_refusal() {
        return Ok(());
    }
    Err(Finding::fail(format!(
        "{what} was answered {}: {}",
        answer.status,
        answer.text()
    )))
}
