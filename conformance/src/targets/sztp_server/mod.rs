//! Target `sztp-server`: the suite is devices of RFC 8572, most of them hostile.

mod artefacts;
mod errors;
mod reads;

use std::sync::Arc;

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::Certificate;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::{
    case::{Case, Kit},
    clock,
    evidence::Recorder,
    forge::{
        cms::{ANIMA_JSON_VOUCHER, Cms},
        sztp::{NAMESPACE, YANG_JSON, YANG_XML, element},
        voucher::Leaves,
        x509::{Authority, Identity, name},
    },
    http::{Answer, Client, Request},
    outcome::{Finding, Told, must},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    workshop::Workshop,
};

/// The role.
pub static SZTP_SERVER: SztpServerRole = SztpServerRole;

/// A bootstrap server of RFC 8572.
pub struct SztpServerRole;

const MAKER: &str = "Conformance Manufacturer";
/// Devices that the server knows.
const DEVICES: usize = 6;

const FEATURES: &[Feature] = &[
    Feature {
        name: "json",
        means: "messages in JSON",
        usual: true,
    },
    Feature {
        name: "xml",
        means: "messages in XML",
        usual: true,
    },
    Feature {
        name: "onboarding",
        means: "it is an onboarding server: there is report-progress",
        usual: true,
    },
    Feature {
        name: "signed",
        means: "devices that prefer signed data get it; settings.owner_ca is what vouchers pin",
        usual: true,
    },
    Feature {
        name: "yang-library",
        means: "ietf-yang-library can be read",
        usual: true,
    },
    Feature {
        name: "csr",
        means: "certification requests of RFC 9646 are asked for",
        usual: false,
    },
];

impl Role for SztpServerRole {
    fn target(&self) -> Target {
        Target::SztpServer
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = vec![
            Case::new(
                "sztp-server/vouchers",
                "the vouchers for the suite's devices are in the folder vouchers",
                &["SZTP-8366-6.2-01"],
                |kit: Arc<SztpServer>, record: Recorder| async move {
                    record.note(format!("{} vouchers", kit.vouchers));
                    if kit.vouchers == 0 {
                        return Err(Finding::could_not_test(
                            "settings.owner_ca names no file that can be read",
                        ));
                    }
                    Ok(())
                },
            )
            .needs(&["signed"]),
        ];
        cases.extend(reads::cases());
        cases.extend(artefacts::cases());
        cases.extend(errors::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let now = clock::now();
        let workshop = Workshop::create(&plan.folder)?;
        workshop.make_root("device-ca", MAKER, "Device CA", now)?;
        workshop.make_root("voucher-ca", MAKER, "Voucher CA", now)?;
        let serials: String = (1..=DEVICES).map(|number| serial(number) + "\n").collect();
        workshop.write("devices.csv", format!("serial\n{serials}").as_bytes())?;
        let mut profile = Profile::new(Target::SztpServer);
        profile.endpoint.url = Some(
            plan.endpoint
                .clone()
                .unwrap_or_else(|| "https://bootstrap.example:9543".into()),
        );
        profile
            .settings
            .insert("owner_ca".into(), "owner-ca.pem".into());
        Ok(Prepared {
            instructions: INSTRUCTIONS.into(),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(Arc::new(SztpServer::new(setup)?))
    }
}

const INSTRUCTIONS: &str = "\
# Testing a bootstrap server

The suite is devices of a manufacturer. Configure the server under test like this:

1. Trust `device-ca.pem` for IDevIDs and `voucher-ca.pem` for ownership vouchers.
2. Register the devices of `devices.csv`.
3. For signed data (claim `signed`): put the certificate that vouchers shall pin into
   `owner-ca.pem`, run

       usher-conformance run --target sztp-server --profile profile.toml --select sztp-server/vouchers

   and import what it writes into the folder `vouchers`.
4. Give the devices any onboarding information that needs nothing but the server itself.

Then set `implementation`, `claims` and `endpoint` in `profile.toml` and run

    usher-conformance run --target sztp-server --profile profile.toml --out report
";

fn serial(number: usize) -> String {
    format!("CONF-SRV-{number:04}")
}

/// What the cases share.
pub(crate) struct SztpServer {
    pub(crate) client: Client,
    pub(crate) devices: Vec<Identity>,
    pub(crate) maker: Authority,
    pub(crate) workshop: Workshop,
    pub(crate) voucher_anchors: Vec<Certificate>,
    pub(crate) at: OffsetDateTime,
    vouchers: usize,
    root: tokio::sync::OnceCell<Result<String, Finding>>,
}

impl SztpServer {
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
        let maker = workshop.root("device-ca")?;
        let mut devices = Vec::new();
        for number in 1..=DEVICES {
            devices.push(device(&workshop, &maker, &serial(number), at)?);
        }
        let masa = workshop.root("voucher-ca")?;
        let owner = profile
            .file(setup.folder, "owner_ca")
            .and_then(|path| Certificate::load(path).ok());
        let mut vouchers = 0;
        if let Some(owner) = owner {
            vouchers = write_vouchers(&workshop, &masa, &owner, at)?;
        }
        Ok(Self {
            client,
            devices,
            maker,
            voucher_anchors: vec![Certificate::from_der(masa.certificate())?],
            workshop,
            at,
            vouchers,
            root: tokio::sync::OnceCell::new(),
        })
    }

    /// One of the devices that the server knows.
    pub(crate) fn device(&self, number: usize) -> Result<&Identity, Finding> {
        self.devices
            .get(number)
            .ok_or_else(|| Finding::could_not_test("there is no such device"))
    }

    /// A device of this serial number, which the server need not know.
    pub(crate) fn any_device(&self, maker: &Authority, serial: &str) -> Result<Identity, Finding> {
        device(&self.workshop, maker, serial, self.at)
            .map_err(|error| Finding::could_not_test(error.to_string()))
    }

    /// The root of the API, from host-meta.
    pub(crate) async fn root(&self, record: &Recorder) -> Result<String, Finding> {
        self.root
            .get_or_init(|| async {
                let request =
                    Request::get("/.well-known/host-meta").header("Accept", "application/xrd+xml");
                let client = self.client.with_identity(self.device(0)?);
                let answer = client.send(record, request).await?;
                let text = answer.text();
                let href = text
                    .split("href=")
                    .nth(1)
                    .and_then(|rest| rest.get(1..)?.split(['\'', '"']).next())
                    .ok_or_else(|| Finding::fail(format!("host-meta names no root: {text}")))?;
                Ok(href.trim_end_matches('/').to_owned())
            })
            .await
            .clone()
    }

    /// Calls an RPC as the first device.
    pub(crate) async fn call(
        &self,
        record: &Recorder,
        rpc: &str,
        encoding: Encoding,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Finding> {
        let device = self.device(0)?;
        self.call_as(record, device, rpc, encoding, body).await
    }

    /// Calls an RPC as any device.
    pub(crate) async fn call_as(
        &self,
        record: &Recorder,
        device: &Identity,
        rpc: &str,
        encoding: Encoding,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Finding> {
        let path = self.rpc(record, rpc).await?;
        let mut request = Request::post(
            path,
            encoding.media_type(),
            body.clone().unwrap_or_default(),
        )
        .header("Accept", encoding.media_type());
        if body.is_none() {
            request.headers.retain(|(name, _)| name != "Content-Type");
        }
        let client = self.client.with_identity(device);
        Ok(client.send(record, request).await?)
    }

    /// The path of an RPC.
    pub(crate) async fn rpc(&self, record: &Recorder, rpc: &str) -> Result<String, Finding> {
        let root = self.root(record).await?;
        Ok(format!(
            "{root}/operations/ietf-sztp-bootstrap-server:{rpc}"
        ))
    }

    /// get-bootstrapping-data with this input, which has to be answered 200.
    pub(crate) async fn data(
        &self,
        record: &Recorder,
        device: &Identity,
        input: Value,
    ) -> Result<Output, Finding> {
        let body = json_input(&input);
        let answer = self
            .call_as(record, device, GET, Encoding::Json, Some(body))
            .await?;
        Output::of(&answer)
    }
}

/// get-bootstrapping-data.
pub(crate) const GET: &str = "get-bootstrapping-data";
/// report-progress.
pub(crate) const REPORT: &str = "report-progress";

/// How messages are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// RFC 7951.
    Json,
    /// RFC 7950.
    Xml,
}

impl Encoding {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => YANG_JSON,
            Self::Xml => YANG_XML,
        }
    }

    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Xml => "xml",
        }
    }
}

/// An input in JSON.
pub(crate) fn json_input(input: &Value) -> Vec<u8> {
    json!({ "ietf-sztp-bootstrap-server:input": input })
        .to_string()
        .into_bytes()
}

/// An input in XML.
pub(crate) fn xml_input(inside: &str) -> Vec<u8> {
    format!("<input xmlns=\"{NAMESPACE}\">{inside}</input>").into_bytes()
}

/// Finds a leaf of a message by its name.
pub(crate) type Leaf = Box<dyn Fn(&str) -> Option<String>>;

/// The output of get-bootstrapping-data.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) conveyed: Vec<u8>,
    pub(crate) owner: Option<Vec<u8>>,
    pub(crate) voucher: Option<Vec<u8>>,
    pub(crate) level: Option<String>,
}

impl Output {
    /// Reads an answer, which has to be 200 with the right envelope.
    pub(crate) fn of(answer: &Answer) -> Result<Self, Finding> {
        must(
            answer.status == 200,
            format!("it was answered {}: {}", answer.status, answer.text()),
        )?;
        let text = String::from_utf8(answer.body.clone())
            .map_err(|_| Finding::fail("the answer is no UTF-8"))?;
        let leaf: Leaf = if answer.media_type() == YANG_XML {
            must(
                element(&text, "output").is_some() && text.contains(NAMESPACE),
                "there is no output in the namespace of the module",
            )?;
            Box::new(move |name| element(&text, name))
        } else {
            must(
                answer.media_type() == YANG_JSON,
                format!("Content-Type is {}", answer.media_type()),
            )?;
            let value: Value = serde_json::from_str(&text)
                .map_err(|error| Finding::fail(format!("the answer is no JSON: {error}")))?;
            let members = value.as_object().map_or(0, serde_json::Map::len);
            let output = value
                .get("ietf-sztp-bootstrap-server:output")
                .cloned()
                .filter(|_| members == 1)
                .ok_or_else(|| {
                    Finding::fail("ietf-sztp-bootstrap-server:output is not the only member")
                })?;
            Box::new(move |name| output.get(name)?.as_str().map(str::to_owned))
        };
        let binary = |name: &str| -> Result<Option<Vec<u8>>, Finding> {
            leaf(name)
                .map(|text| {
                    STANDARD
                        .decode(text.split_ascii_whitespace().collect::<String>())
                        .map_err(|error| Finding::fail(format!("{name} is no base64: {error}")))
                })
                .transpose()
        };
        Ok(Self {
            conveyed: binary("conveyed-information")?
                .ok_or_else(|| Finding::fail("conveyed-information is missing"))?,
            owner: binary("owner-certificate")?,
            voucher: binary("ownership-voucher")?,
            level: leaf("reporting-level"),
        })
    }
}

/// The answer has to be a refusal: 4xx.
pub(crate) fn refused(answer: &Answer, what: &str) -> Told {
    must(
        answer.is_refusal(),
        format!("{what} was answered {}: {}", answer.status, answer.text()),
    )
}

fn device(
    workshop: &Workshop,
    maker: &Authority,
    serial: &str,
    at: OffsetDateTime,
) -> Result<Identity> {
    let key = workshop.key(serial)?;
    Ok(maker.device(MAKER, serial, None, &key, at - Duration::days(1)))
}

fn write_vouchers(
    workshop: &Workshop,
    masa: &Authority,
    owner: &Certificate,
    at: OffsetDateTime,
) -> Result<usize> {
    let signer = masa.issue(
        &name(MAKER, "MASA", None),
        &workshop.key("masa")?,
        at,
        |it| it,
    );
    std::fs::create_dir_all(workshop.path("vouchers"))?;
    for number in 1..=DEVICES {
        let serial = serial(number);
        let file = format!("vouchers/{serial}.vcj");
        if workshop.path(&file).exists() {
            continue;
        }
        let leaves = Leaves::voucher(&serial, &[], owner.der(), at - Duration::minutes(5))
            .unset("nonce")
            .set("assertion", "verified")
            .set("expires-on", clock::text(at + Duration::days(60)));
        let voucher = Cms::new(&leaves.encode(), ANIMA_JSON_VOUCHER, &signer.signatory, at)
            .with(|cms| cms.certificates = signer.chain());
        workshop.write(&file, &voucher.encode())?;
    }
    Ok(DEVICES)
}

/// The types of progress that there are.
pub(crate) const PROGRESS_TYPES: &[&str] = &[
    "bootstrap-initiated",
    "parsing-initiated",
    "parsing-warning",
    "parsing-error",
    "parsing-complete",
    "boot-image-initiated",
    "boot-image-warning",
    "boot-image-error",
    "boot-image-mismatch",
    "boot-image-installed-rebooting",
    "boot-image-complete",
    "pre-script-initiated",
    "pre-script-warning",
    "pre-script-error",
    "pre-script-complete",
    "config-initiated",
    "config-warning",
    "config-error",
    "config-complete",
    "post-script-initiated",
    "post-script-warning",
    "post-script-error",
    "post-script-complete",
    "bootstrap-warning",
    "bootstrap-error",
    "bootstrap-complete",
    "informational",
];
