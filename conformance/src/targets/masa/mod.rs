//! Target `masa`: the suite is a manufacturer's factory and the registrars that ask.

mod answers;
mod audit;
mod hostile;
mod issued;
mod requests;

use std::sync::Arc;

use anyhow::Result;
use pki::Certificate;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::{
    case::{Case, Kit},
    clock,
    evidence::Recorder,
    forge::{
        cms::{ANIMA_JSON_VOUCHER, Cms},
        jws::Jws,
        voucher::Leaves,
        x509::{Authority, Identity},
    },
    http::{Answer, Client, HttpError, Request},
    inspect::{Envelope, Signed},
    outcome::{Finding, OrCouldNotTest as _},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    workshop::{Workshop, issuer_leaf},
};

/// The role.
pub static MASA: MasaRole = MasaRole;

/// A manufacturer's service.
pub struct MasaRole;

const FEATURES: &[Feature] = &[
    Feature {
        name: "cms",
        means: "vouchers in CMS (RFC 8366)",
        usual: true,
    },
    Feature {
        name: "jws",
        means: "vouchers in JWS",
        usual: true,
    },
    Feature {
        name: "audit-log",
        means: "requestauditlog (RFC 8995 section 5.8)",
        usual: true,
    },
    Feature {
        name: "unknown-registrars",
        means: "vouchers with a nonce also for domains that nobody registered",
        usual: true,
    },
    Feature {
        name: "nonceless",
        means: "vouchers without a nonce for the domain of domain-ca.pem",
        usual: true,
    },
    Feature {
        name: "pledge-identity",
        means: "the pledge's own signed request is verified",
        usual: true,
    },
];

/// The devices that the suite makes, one for each thing that a case does to a MASA's memory.
pub(crate) const DEVICES: &[&str] = &[
    "ACCEPT",
    "AUDIT",
    "AUDIT-NONCELESS",
    "AUDIT-OTHER",
    "BAG",
    "BODY",
    "CASE",
    "CMS",
    "CTE",
    "DOMAIN-ID",
    "FORM",
    "GARBAGE",
    "IGNORED",
    "JWS",
    "KEYID",
    "LOGGED",
    "NO-PRIOR",
    "NONCE",
    "NONCELESS",
    "NONCELESS-ANONYMOUS",
    "PRIOR",
    "PROXIMITY",
    "REPEAT",
    "SHORT",
    "TLS12",
    "TLS13",
];

/// Those with a clock that can be trusted, so that a voucher of theirs can have an end.
const CLOCK: &[&str] = &["NONCELESS", "SHORT"];

/// Those that the owner of `domain-ca.pem` has bought: nobody else gets vouchers without a nonce.
const SOLD: &[&str] = &["AUDIT-NONCELESS", "NONCELESS", "SHORT"];

/// The serial number of the device with this name.
pub(crate) fn serial(device: &str) -> String {
    format!("CONF-MASA-{device}")
}

impl Role for MasaRole {
    fn target(&self) -> Target {
        Target::Masa
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = answers::cases();
        cases.extend(issued::cases());
        cases.extend(requests::cases());
        cases.extend(hostile::cases());
        cases.extend(audit::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let now = clock::now();
        let workshop = Workshop::create(&plan.folder)?;
        workshop.make_root(
            "manufacturer-ca",
            "Conformance Manufacturer",
            "Device CA",
            now,
        )?;
        let domain = workshop.make_root("domain-ca", "Conformance Owner", "Domain CA", now)?;
        workshop.make_root("other-domain-ca", "Another Owner", "Domain CA", now)?;
        let registrar = domain.registrar(
            "Registrar",
            &["registrar"],
            &workshop.key("registrar")?,
            now,
        );
        workshop.export("registrar", &registrar)?;
        let mut devices = String::from("serial,sold-to,has-clock\n");
        for device in DEVICES {
            let sold_to = if SOLD.contains(device) {
                "conformance"
            } else {
                ""
            };
            let clock = CLOCK.contains(device);
            devices.push_str(&format!("{},{sold_to},{clock}\n", serial(device)));
        }
        workshop.write("devices.csv", devices.as_bytes())?;
        let mut profile = Profile::new(Target::Masa);
        profile.endpoint.url = Some(
            plan.endpoint
                .clone()
                .unwrap_or_else(|| "https://masa.example:9443".into()),
        );
        for (name, value) in [
            ("voucher_anchors", "voucher-anchors.pem"),
            ("path", "/.well-known/brski"),
        ] {
            profile.settings.insert(name.into(), value.into());
        }
        Ok(Prepared {
            instructions: INSTRUCTIONS.into(),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(Arc::new(Masa::new(setup)?))
    }
}

const INSTRUCTIONS: &str = "\
# Testing a MASA

The suite is the factory of a manufacturer and the registrars that ask for vouchers. Configure the
MASA under test like this, with a fresh database:

1. Trust `manufacturer-ca.pem` as the CA of IDevIDs; the serial number is the subject's serialNumber.
2. Register an owner `conformance` with the CA `domain-ca.pem`, who may have vouchers without a nonce
   (claim `nonceless`), and the devices of `devices.csv`. Those with `conformance` in the second column
   were sold to that owner; nobody has bought the others yet. Those with `true` in the third column
   have a clock that can be trusted, the others have none.
3. Do not register `other-domain-ca.pem`: it belongs to somebody whom the MASA does not know.
4. Vouchers with a nonce are given to whoever asks first (claim `unknown-registrars`), or drop the claim.
5. Put what devices trust for the signatures of vouchers into `voucher-anchors.pem` beside the profile.

Then set `implementation`, `claims` and `endpoint` in `profile.toml` and run

    usher-conformance run --target masa --profile profile.toml --out report

The MASA remembers which domain a device went to, and the suite expects that; a run with the same
folder asks for the same devices with the same domains, so it can be repeated.
";

/// What the cases share.
pub(crate) struct Masa {
    pub(crate) client: Client,
    pub(crate) path: String,
    pub(crate) manufacturer: Authority,
    pub(crate) domain: Authority,
    pub(crate) other_domain: Authority,
    pub(crate) registrar: Identity,
    pub(crate) other_registrar: Identity,
    pub(crate) anchors: Option<std::path::PathBuf>,
    workshop: Workshop,
    pub(crate) at: OffsetDateTime,
    issued_cms: OnceCell<Result<Issued, Finding>>,
    issued_jws: OnceCell<Result<Issued, Finding>>,
}

/// A voucher that was asked for once, for all the cases that only look at it.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) ask: Ask,
    pub(crate) answer: Answer,
    pub(crate) signed: Signed,
}

/// A request to a MASA in its parts, each of which a case can change.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) envelope: Envelope,
    pub(crate) device: Identity,
    pub(crate) serial: String,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) registrar: Identity,
    pub(crate) inner: Leaves,
    pub(crate) outer: Leaves,
    pub(crate) inner_signer: Identity,
    pub(crate) with_prior: bool,
    pub(crate) at: OffsetDateTime,
}

impl Masa {
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
        let domain = workshop.root("domain-ca")?;
        let other_domain = workshop.root("other-domain-ca")?;
        // The certificates are the same in each run, or a MASA could not know the domain again.
        let begun = pki::Certificate::load(workshop.path("domain-ca.pem"))?.not_before()
            + time::Duration::days(1);
        let registrar = domain.registrar(
            "Registrar",
            &["registrar"],
            &workshop.key("registrar")?,
            begun,
        );
        let other_registrar = other_domain.registrar(
            "Registrar",
            &["registrar"],
            &workshop.key("other-registrar")?,
            begun,
        );
        let path = profile.text("path").unwrap_or("/.well-known/brski");
        Ok(Self {
            client: client.with_identity(&registrar),
            path: path.trim_end_matches('/').to_owned(),
            manufacturer: workshop.root("manufacturer-ca")?,
            domain,
            other_domain,
            registrar,
            other_registrar,
            anchors: profile.file(setup.folder, "voucher_anchors"),
            workshop,
            at,
            issued_cms: OnceCell::new(),
            issued_jws: OnceCell::new(),
        })
    }

    /// A device of the manufacturer's.
    pub(crate) fn device(&self, name: &str) -> Result<Identity, Finding> {
        let serial = serial(name);
        let key = self.workshop.key(&serial).or_could_not_test("a key")?;
        Ok(self.manufacturer.device(
            "Conformance Manufacturer",
            &serial,
            Some("masa.example"),
            &key,
            self.at - time::Duration::days(1),
        ))
    }

    /// A right request for a device, with a nonce that is this case's own.
    pub(crate) fn ask(
        &self,
        record: &Recorder,
        envelope: Envelope,
        name: &str,
    ) -> Result<Ask, Finding> {
        let device = self.device(name)?;
        let mut nonce = record.seed.to_be_bytes().to_vec();
        nonce.extend(rand::random::<[u8; 8]>());
        Ok(self.ask_with(envelope, device, &serial(name), Some(nonce)))
    }

    /// The same for any device and nonce.
    pub(crate) fn ask_with(
        &self,
        envelope: Envelope,
        device: Identity,
        serial: &str,
        nonce: Option<Vec<u8>>,
    ) -> Ask {
        let octets = nonce.clone().unwrap_or_default();
        let inner =
            Leaves::pledge_request(serial, &octets, self.registrar.certificate(), Some(self.at));
        let outer = Leaves::registrar_request(
            serial,
            &octets,
            &issuer_leaf(&self.manufacturer),
            &[],
            self.at,
        );
        let mut ask = Ask {
            envelope,
            inner_signer: device.clone(),
            device,
            serial: serial.to_owned(),
            registrar: self.registrar.clone(),
            inner,
            outer,
            with_prior: true,
            nonce,
            at: self.at,
        };
        if ask.nonce.is_none() {
            ask.inner = ask.inner.unset("nonce");
            ask.outer = ask.outer.unset("nonce").unset("assertion");
            ask.with_prior = false;
        }
        ask
    }

    /// Sends a request for a voucher.
    pub(crate) async fn post(
        &self,
        record: &Recorder,
        envelope: Envelope,
        body: Vec<u8>,
    ) -> Result<Answer, HttpError> {
        let request = self.request("requestvoucher", envelope, body);
        self.client.send(record, request).await
    }

    /// A request with the usual headers.
    pub(crate) fn request(&self, operation: &str, envelope: Envelope, body: Vec<u8>) -> Request {
        Request::post(
            format!("{}/{operation}", self.path),
            envelope.media_type(),
            body,
        )
        .header("Accept", envelope.media_type())
    }

    /// Sends a request that has to be answered with a voucher.
    pub(crate) async fn voucher(&self, record: &Recorder, ask: &Ask) -> Result<Issued, Finding> {
        let answer = self.granted(record, ask).await?;
        self.read(ask, answer)
    }

    /// Sends a request that has to be granted.
    async fn granted(&self, record: &Recorder, ask: &Ask) -> Result<Answer, Finding> {
        let answer = self.post(record, ask.envelope, ask.encode()).await?;
        if answer.status != 200 {
            return Err(Finding::fail(format!(
                "a right request was answered {}: {}",
                answer.status,
                answer.text()
            )));
        }
        Ok(answer)
    }

    /// Reads what came for a voucher.
    fn read(&self, ask: &Ask, answer: Answer) -> Result<Issued, Finding> {
        let signed = crate::inspect::open_with(&answer.body, &self.trusted())?;
        Ok(Issued {
            ask: ask.clone(),
            answer,
            signed,
        })
    }

    /// The certificates that devices trust, as far as they were given.
    pub(crate) fn trusted(&self) -> Vec<Certificate> {
        self.anchors
            .as_ref()
            .and_then(|path| Certificate::load_all(path).ok())
            .unwrap_or_default()
    }

    /// The voucher that all cases look at which only look.
    pub(crate) async fn issued(
        &self,
        record: &Recorder,
        envelope: Envelope,
    ) -> Result<Issued, Finding> {
        // That no voucher came, or none that holds, is the finding of the cases about that.
        self.opened(record, envelope).await.map_err(|finding| {
            Finding::could_not_test(format!("no voucher to look at: {}", finding.why))
        })
    }

    /// The same for cases about whether it can be read at all.
    pub(crate) async fn opened(
        &self,
        record: &Recorder,
        envelope: Envelope,
    ) -> Result<Issued, Finding> {
        let (cell, device) = match envelope {
            Envelope::Cms => (&self.issued_cms, "CMS"),
            Envelope::Jws => (&self.issued_jws, "JWS"),
        };
        let issued = cell
            .get_or_init(|| async {
                let ask = self.ask(record, envelope, device)?;
                let answer = self
                    .granted(record, &ask)
                    .await
                    .map_err(|finding| Finding::could_not_test(finding.why))?;
                self.read(&ask, answer)
            })
            .await
            .clone()?;
        record.received(
            "the voucher",
            &issued.answer.body,
            crate::decode::describe(&issued.answer.body),
        );
        Ok(issued)
    }
}

impl Ask {
    /// Changes it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Changes the leaves of the pledge's request.
    pub(crate) fn inner(mut self, change: impl FnOnce(Leaves) -> Leaves) -> Self {
        self.inner = change(self.inner);
        self
    }

    /// Changes the leaves of the registrar's request.
    pub(crate) fn outer(mut self, change: impl FnOnce(Leaves) -> Leaves) -> Self {
        self.outer = change(self.outer);
        self
    }

    /// The pledge's request, signed.
    pub(crate) fn prior(&self) -> Vec<u8> {
        signed(
            self.envelope,
            &self.inner.encode(),
            &self.inner_signer,
            self.at,
        )
    }

    /// The leaves of the registrar's request.
    pub(crate) fn leaves(&self) -> Leaves {
        if self.with_prior {
            self.outer
                .clone()
                .binary("prior-signed-voucher-request", &self.prior())
        } else {
            self.outer.clone().unset("prior-signed-voucher-request")
        }
    }

    /// The registrar's request, signed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        signed(
            self.envelope,
            &self.leaves().encode(),
            &self.registrar,
            self.at,
        )
    }

    /// The registrar's request in CMS before it is encoded.
    pub(crate) fn cms(&self) -> Cms {
        Cms::new(
            &self.leaves().encode(),
            ANIMA_JSON_VOUCHER,
            &self.registrar.signatory,
            self.at,
        )
        .with(|cms| cms.certificates = self.registrar.chain())
    }

    /// The registrar's request in JWS before it is encoded.
    pub(crate) fn jws(&self) -> Jws {
        Jws::new(
            &self.leaves().encode(),
            &self.registrar.signatory,
            &self.registrar.chain(),
        )
    }
}

/// Signs any content.
pub(crate) fn signed(
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

/// The answer has to be a refusal: 4xx.
pub(crate) fn refused(answer: &Answer, what: &str) -> crate::outcome::Told {
    if answer.is_refusal() {
        Ok(())
    } else if answer.is_success() {
        Err(Finding::fail(format!(
            "{what} was answered {}",
            answer.status
        )))
    } else {
        Err(Finding::fail(format!(
            "{what} was answered {}, and it is the client's mistake: {}",
            answer.status,
            answer.text()
        )))
    }
}
