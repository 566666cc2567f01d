//! Target `registrar-coaps`: a registrar of constrained BRSKI. The suite is its devices, and the
//! MASA over HTTPS.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::Certificate;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{Base, Served, est_server::FEATURES as COMMON, format};
use crate::{
    case::{Case, Kit},
    clock,
    coaps::{Answer, Ask, Coaps, Code},
    coaps_voucher::{self, Leaves, VOUCHER, leaf},
    evidence::Recorder,
    fake_masa::{Behaviour, Came, FakeMasa, Reply},
    forge::{
        cbor,
        cose::{Cose, X5BAG},
        key::{Hash, Key},
        x509::{Authority, Identity, SERVER_AUTH, name},
    },
    outcome::{Finding, OrCouldNotTest as _, must},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    workshop::Workshop,
};

/// The role.
pub static REGISTRAR_COAPS: RegistrarCoapsRole = RegistrarCoapsRole;

/// A registrar over CoAP.
pub struct RegistrarCoapsRole;

const OWN: &[Feature] = &[
    Feature {
        name: "deny-list",
        means: "devices whose serial number begins with CONF-DENY- are refused",
        usual: true,
    },
    Feature {
        name: "json-telemetry",
        means: "vs and es take JSON, too",
        usual: false,
    },
    Feature {
        name: "slow-masa",
        means: "an answer that takes more than half a minute is 5.03 with Max-Age before that",
        usual: true,
    },
];

static FEATURES: std::sync::LazyLock<Vec<Feature>> =
    std::sync::LazyLock::new(|| COMMON.iter().chain(OWN).copied().collect());

impl Role for RegistrarCoapsRole {
    fn target(&self) -> Target {
        Target::RegistrarCoaps
    }

    fn features(&self) -> &'static [Feature] {
        &FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = super::common::<RegistrarCoaps>();
        cases.extend(super::est::cases::<RegistrarCoaps>());
        cases.extend(super::requests::cases());
        cases.extend(super::masa::cases());
        cases.extend(super::vouchers::cases());
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
        let key = workshop.key("sample")?;
        let device = devices.device(maker, "CONF-REG-SAMPLE", Some(&masa), &key, now);
        workshop.export("device", &device)?;
        let mut profile = Profile::new(Target::RegistrarCoaps);
        profile.endpoint.url = Some(
            plan.endpoint
                .clone()
                .unwrap_or_else(|| "coaps://registrar.example:5684".into()),
        );
        profile.suite.listen = format!("0.0.0.0:{}", plan.suite_port);
        for (name, value) in [
            ("masa_url", masa.as_str()),
            ("path", "/.well-known/est"),
            ("open", ""),
        ] {
            profile.settings.insert(name.into(), value.into());
        }
        // The cases that wait for a slow MASA take most of a minute.
        profile.timing.answer_seconds = 40;
        profile.timing.case_seconds = 150;
        Ok(Prepared {
            instructions: INSTRUCTIONS.replace("{masa}", &masa),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(Arc::new(RegistrarCoaps::new(setup)?))
    }
}

const INSTRUCTIONS: &str = "\
# Testing a registrar over CoAP

The suite is the constrained devices of a manufacturer and the manufacturer's MASA, which answers at
https://{masa} in application/voucher+cose. Configure the registrar under test like this:

1. Trust `device-ca.pem` for IDevIDs. Do not trust `unknown-ca.pem`, which has the same name.
2. Trust `masa-tls-ca.pem` for the TLS certificate of that manufacturer's MASA, and `voucher-ca.pem`
   for the signatures of its vouchers.
3. The address of the MASA is in the devices' certificates; the registrar has to reach it.
4. Accept devices whose serial number begins with `CONF-REG-` without asking anybody. Refuse those
   whose serial number begins with `CONF-DENY-` (claim `deny-list`).
5. If discovery is answered without DTLS, put its `address:port` into settings.open and claim
   `open-discovery`.
6. `device.pem` with `private/device.key` is a device to try it with.

Then set `implementation`, `claims`, `endpoint` and `suite.listen` in `profile.toml` and run

    usher-conformance run --target registrar-coaps --profile profile.toml --out report

Each case is a device that the registrar has never seen. A run opens some hundred sessions from one
address: limits for each address have to allow it.
";

/// What the cases share.
pub(super) struct RegistrarCoaps {
    base: Base,
    pub(super) masa: FakeMasa,
    /// A MASA whose certificate a stranger issued.
    pub(super) masa_of_stranger: FakeMasa,
    /// A MASA whose certificate is for another name.
    pub(super) masa_of_other_name: FakeMasa,
    pub(super) masa_url: String,
    pub(super) masa_host: String,
    pub(super) signing: Signing,
    server: OnceCell<Vec<Vec<u8>>>,
}

/// A device of the suite's.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) identity: Identity,
    pub(super) serial: String,
    pub(super) nonce: Vec<u8>,
}

/// The MASA's side: signs vouchers and keeps them.
#[derive(Clone)]
pub(super) struct Signing {
    pub(super) signer: Identity,
    issued: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl RegistrarCoaps {
    fn new(setup: &Setup<'_>) -> Result<Self> {
        let profile = setup.profile;
        let workshop = Workshop::open(setup.folder)?;
        let base = Base::new(
            setup,
            workshop.root("device-ca")?,
            workshop.root("unknown-ca")?,
        )?;
        let masa_url = profile.needed("masa_url")?.to_owned();
        let masa_host = masa_url
            .rsplit_once(':')
            .map_or(masa_url.as_str(), |(host, _)| host)
            .to_owned();
        let web = workshop.root("masa-tls-ca")?;
        let vouchers = workshop.root("voucher-ca")?;
        let server = |ca: &Authority, host: &str| -> Result<Identity> {
            let key = workshop.key("masa-tls")?;
            Ok(ca.issue(&name("", "MASA", None), &key, base.at, |it| {
                it.purposes(&[SERVER_AUTH]).hosts(&[host])
            }))
        };
        let key = workshop.key("masa")?;
        let signing = Signing {
            signer: vouchers.issue(&name("", "MASA", None), &key, base.at, |it| it),
            issued: Arc::default(),
        };
        let usual = signing.behaviour();
        let address: std::net::SocketAddr = profile.suite.listen.parse()?;
        let beside = std::net::SocketAddr::new(address.ip(), 0).to_string();
        let start = |listen: &str, identity: &Identity| {
            FakeMasa::start(listen, identity, Arc::clone(&usual))
        };
        Ok(Self {
            masa: start(&profile.suite.listen, &server(&web, &masa_host)?)?,
            masa_of_stranger: start(&beside, &server(&base.strangers, &masa_host)?)?,
            masa_of_other_name: start(&beside, &server(&web, "other.invalid")?)?,
            base,
            masa_url,
            masa_host,
            signing,
            server: OnceCell::new(),
        })
    }

    /// A device that nobody has seen before.
    pub(super) fn device(&self, record: &Recorder) -> Result<Device, Finding> {
        self.device_called("CONF-REG", &self.base.insiders, &self.masa_url, record)
    }

    /// A device with any beginning of its serial number, any maker and any MASA.
    pub(super) fn device_called(
        &self,
        beginning: &str,
        maker: &Authority,
        masa_url: &str,
        record: &Recorder,
    ) -> Result<Device, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        self.device_with(beginning, maker, masa_url, record, key)
    }

    /// The same with any key.
    pub(super) fn device_with(
        &self,
        beginning: &str,
        maker: &Authority,
        masa_url: &str,
        record: &Recorder,
        key: Key,
    ) -> Result<Device, Finding> {
        let serial = format!(
            "{beginning}-{:08x}-{:08x}",
            record.seed,
            rand::random::<u32>()
        );
        Ok(Device {
            identity: maker.device(
                "Conformance Manufacturer",
                &serial,
                Some(masa_url),
                &key,
                self.base.at - time::Duration::days(1),
            ),
            serial,
            nonce: rand::random::<[u8; 16]>().to_vec(),
        })
    }

    /// The registrar's certificate, as a device sees it.
    pub(super) async fn server(&self, record: &Recorder) -> Result<Vec<u8>, Finding> {
        let chain = self.chain(record).await?;
        chain
            .into_iter()
            .next()
            .ok_or_else(|| Finding::fail("the registrar showed no certificate"))
    }

    /// The registrar's chain, as a device sees it.
    pub(super) async fn chain(&self, record: &Recorder) -> Result<Vec<Vec<u8>>, Finding> {
        self.server
            .get_or_try_init(|| async {
                let device = self.device(record)?;
                let client = self.base.client.with_identity(&device.identity);
                Ok(client.connect(record).await?.chain)
            })
            .await
            .cloned()
    }

    /// The leaves of a right request, which names the registrar by the hash of its key.
    pub(super) async fn leaves(
        &self,
        record: &Recorder,
        device: &Device,
    ) -> Result<Leaves, Finding> {
        let server = self.server(record).await?;
        let spki = Certificate::from_der(&server)
            .or_could_not_test("the registrar's certificate")?
            .public_key()
            .spki_der()
            .to_vec();
        let hash = Hash::Sha256.of(&spki);
        Ok(Leaves::request(
            &device.serial,
            &device.nonce,
            (leaf::PROXIMITY_HASH, &hash),
        ))
    }

    /// A session as a device.
    pub(super) async fn session(
        &self,
        record: &Recorder,
        device: &Device,
    ) -> Result<Coaps, Finding> {
        let client = self.base.client.with_identity(&device.identity);
        Ok(Coaps::open(&client, record).await?)
    }

    /// Sends a request to rv and comes back while the registrar says so.
    pub(super) async fn ask(
        &self,
        record: &Recorder,
        device: &Device,
        ask: &Ask,
    ) -> Result<Answer, Finding> {
        const TRIES_MAX: usize = 15;
        const WAIT_MAX_SECONDS: u64 = 5;
        let mut coaps = self.session(record, device).await?;
        for _ in 0..TRIES_MAX {
            let answer = coaps.ask(ask).await?;
            if answer.code != Code::UNAVAILABLE {
                return Ok(answer);
            }
            let wait = answer
                .uint(crate::coaps::option::MAX_AGE)
                .ok_or_else(|| Finding::fail("5.03 without Max-Age"))?;
            tokio::time::sleep(std::time::Duration::from_secs(wait.min(WAIT_MAX_SECONDS))).await;
        }
        Err(Finding::could_not_test("it stayed at 5.03"))
    }

    /// A voucher for a device, all the way.
    pub(super) async fn voucher(
        &self,
        record: &Recorder,
        device: Device,
        leaves: &Leaves,
    ) -> Result<Exchange, Finding> {
        let request = leaves.signed(&device.identity.signatory);
        let answer = self.ask(record, &device, &rv(&request)).await?;
        must(
            answer.code == Code::CHANGED,
            format!("a right request was answered {}", answer.said()),
        )?;
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
            request,
            answer,
            asked,
        })
    }

    /// How often the MASA was asked for a voucher for this device.
    pub(super) fn asked(&self, device: &Device) -> usize {
        self.masa
            .came(&device.serial)
            .iter()
            .filter(|came| came.operation() == "requestvoucher")
            .count()
    }
}

/// A POST of a signed request to rv.
pub(super) fn rv(request: &[u8]) -> Ask {
    Ask::post("/.well-known/brski/rv", format::VOUCHER, request)
}

/// Everything of one exchange that went well.
pub(super) struct Exchange {
    pub(super) device: Device,
    pub(super) request: Vec<u8>,
    pub(super) answer: Answer,
    pub(super) asked: Came,
}

impl Served for RegistrarCoaps {
    const TARGET: &'static str = "registrar-coaps";

    fn base(&self) -> &Base {
        &self.base
    }

    fn insider(&self, record: &Recorder) -> Result<Identity, Finding> {
        Ok(self.device(record)?.identity)
    }

    fn made_by(&self, ca: &Authority, record: &Recorder) -> Result<Identity, Finding> {
        Ok(self
            .device_called("CONF-REG", ca, &self.masa_url, record)?
            .identity)
    }

    async fn enroller(&self, record: &Recorder) -> Result<Identity, Finding> {
        let device = self.device(record)?;
        let leaves = self.leaves(record, &device).await?;
        let exchange = self.voucher(record, device, &leaves).await?;
        Ok(exchange.device.identity)
    }

    async fn deed(&self, record: &Recorder) -> Result<(Identity, Ask), Finding> {
        let device = self.device(record)?;
        let leaves = self.leaves(record, &device).await?;
        let request = leaves.signed(&device.identity.signatory);
        Ok((device.identity, rv(&request)))
    }
}

/// Whose key signed a request, among the certificates that came along.
pub(super) fn signer_of(signed: &coaps_voucher::Signed) -> Option<Vec<u8>> {
    signed
        .certificates
        .iter()
        .find(|one| signed.verify_by_openssl(one).is_ok())
        .cloned()
}

/// The highest certificate that a chain leads to.
pub(super) fn top_of(leaf: &Certificate, others: &[Certificate]) -> Certificate {
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

impl Signing {
    /// The voucher that was made for a device.
    pub(super) fn issued(&self, serial: &str) -> Option<Vec<u8>> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.get(serial).cloned()
    }

    /// The voucher for a request, with the MASA's chain unprotected.
    pub(super) fn voucher(&self, came: &Came) -> Option<Vec<u8>> {
        let request = coaps_voucher::parts(&came.body).ok()?;
        let serial = request.text(leaf::SERIAL)?.to_owned();
        let pin = pin_of(&request)?;
        let mut leaves = Leaves {
            top: cbor::int(VOUCHER),
            leaves: Vec::new(),
        }
        .set(leaf::ASSERTION, cbor::int(2))
        .set(leaf::CREATED_ON, cbor::text(&clock::now_text()))
        .set(leaf::REVOCATION_CHECKS, cbor::boolean(false))
        .set(leaf::PINNED_CERT, cbor::bytes(pin.der()))
        .set(leaf::VOUCHER_SERIAL, cbor::text(&serial));
        if let Some(nonce) = request.bytes(leaf::NONCE) {
            leaves = leaves.set(leaf::NONCE, cbor::bytes(nonce));
        }
        let voucher = Cose::new(&leaves.encode(), &self.signer.signatory)
            .with(|cose| {
                cose.unprotected
                    .push((cbor::int(X5BAG), Cose::certificates(&self.signer.chain())));
            })
            .encode();
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.insert(serial, voucher.clone());
        Some(voucher)
    }

    /// Vouchers and logs as they should be.
    pub(super) fn behaviour(&self) -> Behaviour {
        let this = self.clone();
        Arc::new(move |came| {
            let none = || Reply::new(403, "text/plain", "no voucher request");
            if came.operation() == "requestauditlog" {
                let Some(request) = coaps_voucher::parts(&came.body).ok() else {
                    return none();
                };
                let Some(pin) = pin_of(&request) else {
                    return none();
                };
                let id = pin
                    .subject_key_id()
                    .unwrap_or_else(|| Hash::Sha256.of(pin.public_key().spki_der()));
                let nonce = request.bytes(leaf::NONCE).unwrap_or_default();
                let log = json!({
                    "version": 1,
                    "events": [{
                        "date": clock::now_text(),
                        "domainID": STANDARD.encode(id),
                        "nonce": STANDARD.encode(nonce),
                        "assertion": "proximity",
                    }],
                    "truncation": { "nonced duplicates": 0, "nonceless duplicates": 0, "arbitrary": 0 },
                });
                return Reply::new(200, "application/json", log.to_string());
            }
            match this.voucher(came) {
                Some(voucher) => Reply::new(200, "application/voucher+cose", voucher),
                None => none(),
            }
        })
    }
}

/// What a voucher for this request pins.
fn pin_of(request: &coaps_voucher::Signed) -> Option<Certificate> {
    let signer = Certificate::from_der(&signer_of(request)?).ok()?;
    let others: Vec<Certificate> = request
        .certificates
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect();
    Some(top_of(&signer, &others))
}
