//! The messages of RFC 8572 section 7 and RFC 9646, and how they are read and written.

use artifacts::{Encoding, Oddity};

use crate::leniency::Leniency;
use crate::restconf::{Fault, RestconfError, names};
use crate::schema::{self, Element, Value};

names! {
    /// How much a device is asked to report.
    pub enum ReportingLevel {
        /// What RFC 8572 demands; also the meaning of no level at all.
        Minimal = "minimal",
        /// More, for finding out what goes wrong.
        Verbose = "verbose",
    }

    /// The 27 kinds of progress report.
    pub enum ProgressType {
        /// The device just asked for bootstrapping data.
        BootstrapInitiated = "bootstrap-initiated",
        /// It is about to parse the onboarding information.
        ParsingInitiated = "parsing-initiated",
        /// A non-fatal error while parsing.
        ParsingWarning = "parsing-warning",
        /// A fatal error while parsing; this server is given up.
        ParsingError = "parsing-error",
        /// Parsing is done.
        ParsingComplete = "parsing-complete",
        /// It is about to process the boot image.
        BootImageInitiated = "boot-image-initiated",
        /// A non-fatal error with the boot image.
        BootImageWarning = "boot-image-warning",
        /// A fatal error with the boot image; this server is given up.
        BootImageError = "boot-image-error",
        /// It runs another image than the right one.
        BootImageMismatch = "boot-image-mismatch",
        /// A new image is installed and the device reboots.
        BootImageInstalledRebooting = "boot-image-installed-rebooting",
        /// It runs the right image.
        BootImageComplete = "boot-image-complete",
        /// It is about to run the pre-configuration script.
        PreScriptInitiated = "pre-script-initiated",
        /// The pre-configuration script warned.
        PreScriptWarning = "pre-script-warning",
        /// The pre-configuration script failed; this server is given up.
        PreScriptError = "pre-script-error",
        /// The pre-configuration script is done.
        PreScriptComplete = "pre-script-complete",
        /// It is about to commit the configuration.
        ConfigInitiated = "config-initiated",
        /// The commit warned.
        ConfigWarning = "config-warning",
        /// The commit failed; this server is given up.
        ConfigError = "config-error",
        /// The configuration is committed.
        ConfigComplete = "config-complete",
        /// It is about to run the post-configuration script.
        PostScriptInitiated = "post-script-initiated",
        /// The post-configuration script warned.
        PostScriptWarning = "post-script-warning",
        /// The post-configuration script failed; this server is given up.
        PostScriptError = "post-script-error",
        /// The post-configuration script is done.
        PostScriptComplete = "post-script-complete",
        /// Another warning.
        BootstrapWarning = "bootstrap-warning",
        /// Another fatal error; this server is given up.
        BootstrapError = "bootstrap-error",
        /// All onboarding information is processed; the device is ready to be managed.
        BootstrapComplete = "bootstrap-complete",
        /// Anything else.
        Informational = "informational",
    }

    /// The formats of a certificate request, identities of ietf-ztp-types.
    pub enum CsrFormat {
        /// PKCS#10 (RFC 2986).
        P10 = "p10-csr",
        /// A profile of PKIMessage (RFC 4210).
        Cmp = "cmp-csr",
        /// A profile of Full PKI Request (RFC 5272).
        Cmc = "cmc-csr",
    }
}

pub(crate) const REPORTING_NAMES: &[&str] = &["minimal", "verbose"];
pub(crate) const PROGRESS_NAMES: &[&str] = &{
    let mut names = [""; ProgressType::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ProgressType::ALL[at].as_str();
        at += 1;
    }
    names
};

impl ProgressType {
    /// Whether the device gave this server up for this attempt: every `*-error`.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.as_str().ends_with("-error")
    }

    /// Whether it is one of the warnings.
    #[must_use]
    pub fn is_warning(self) -> bool {
        self.as_str().ends_with("-warning")
    }

    /// Whether the device is not expected to come again in this attempt.
    #[must_use]
    pub fn is_last(self) -> bool {
        self.is_error()
            || matches!(
                self,
                Self::BootstrapComplete | Self::BootImageInstalledRebooting
            )
    }
}

/// The input of get-bootstrapping-data. Every part of it is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetBootstrappingDataInput {
    /// The device wants signed data, for example since it does not trust the server.
    pub signed_data_preferred: bool,
    /// The vendor's name of the model.
    pub hw_model: Option<String>,
    /// The name of the operating system that runs.
    pub os_name: Option<String>,
    /// Its version.
    pub os_version: Option<String>,
    /// 16 to 32 random octets that the voucher shall repeat.
    pub nonce: Option<Vec<u8>>,
    /// What RFC 9646 adds.
    pub csr: Option<CsrInput>,
}

/// What RFC 9646 adds to the input; one of them at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsrInput {
    /// The device can make a CSR.
    Support(CsrSupport),
    /// A PKCS#10 request, DER.
    P10(Vec<u8>),
    /// A CMC request, DER.
    Cmc(Vec<u8>),
    /// A CMP request, DER.
    Cmp(Vec<u8>),
}

/// csr-support: which CSRs the device can make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrSupport {
    /// The algorithms of a key that the device would generate, each a DER
    /// AlgorithmIdentifier; `None` when it generates no keys.
    pub algorithms: Option<Vec<Vec<u8>>>,
    /// The formats it can write.
    pub formats: Vec<CsrFormat>,
}

/// csr-request: which CSR the server wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsrRequest {
    /// The algorithm of the key to generate; `None` for the key of the identity certificate.
    pub algorithm: Option<Vec<u8>>,
    /// The format to write.
    pub format: CsrFormat,
    /// A DER CertificationRequestInfo to use.
    pub cert_req_info: Option<Vec<u8>>,
}

/// The output of get-bootstrapping-data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetBootstrappingDataOutput {
    /// How much to report.
    pub reporting_level: Option<ReportingLevel>,
    /// The conveyed information artefact, DER.
    pub conveyed_information: Vec<u8>,
    /// The owner certificate artefact, DER.
    pub owner_certificate: Option<Vec<u8>>,
    /// The ownership voucher artefact, DER.
    pub ownership_voucher: Option<Vec<u8>>,
}

/// The input of report-progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportProgressInput {
    /// Which progress.
    pub progress: ProgressType,
    /// More about it.
    pub message: Option<String>,
    /// The device's host keys; with bootstrap-complete only.
    pub ssh_host_keys: Vec<SshHostKey>,
    /// Degenerate CMS, each the chain above the device's certificate; with bootstrap-complete only.
    pub trust_anchor_certs: Vec<Vec<u8>>,
}

/// One SSH host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshHostKey {
    /// Its public key algorithm name.
    pub algorithm: String,
    /// The blob of RFC 4253 section 6.6.
    pub key_data: Vec<u8>,
}

impl GetBootstrappingDataInput {
    /// The body of the request.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let mut input = Vec::new();
        if self.signed_data_preferred {
            input.push(Element::empty("signed-data-preferred"));
        }
        for (name, text) in [
            ("hw-model", &self.hw_model),
            ("os-name", &self.os_name),
            ("os-version", &self.os_version),
        ] {
            input.extend(text.as_ref().map(|text| Element::text(name, text)));
        }
        input.extend(self.nonce.as_ref().map(|it| Element::bytes("nonce", it)));
        match &self.csr {
            None => {}
            Some(CsrInput::Support(support)) => input.push(support.element()),
            Some(CsrInput::P10(der)) => input.push(Element::bytes("p10-csr", der)),
            Some(CsrInput::Cmc(der)) => input.push(Element::bytes("cmc-csr", der)),
            Some(CsrInput::Cmp(der)) => input.push(Element::bytes("cmp-csr", der)),
        }
        schema::encode(
            &schema::GET_INPUT,
            &Element::children("input", input),
            encoding,
        )
    }

    /// Reads a request's body; an absent one is an empty input.
    ///
    /// # Errors
    /// What a server answers with status 400 or 413.
    pub fn decode(
        body: &[u8],
        encoding: Encoding,
        leniency: &Leniency,
    ) -> Result<(Self, Vec<Oddity>), RestconfError> {
        let mut oddities = Vec::new();
        if body.is_empty() {
            // SZTP-8040-3.6.1-03: nothing in the input is mandatory, so the body may be absent.
            return Ok((Self::default(), oddities));
        }
        let input = schema::decode(&schema::GET_INPUT, body, encoding, leniency, &mut oddities)?;
        let text = |name| input.get(name).map(Element::string);
        // SZTP-9646-2.1-02, SZTP-9646-2.1-03: one of the four at most.
        let mut csr = None;
        for child in input.nodes() {
            let form = match child.name {
                "csr-support" => CsrInput::Support(CsrSupport::from_element(child)),
                "p10-csr" => CsrInput::P10(child.octets()),
                "cmc-csr" => CsrInput::Cmc(child.octets()),
                "cmp-csr" => CsrInput::Cmp(child.octets()),
                _ => continue,
            };
            if csr.replace(form).is_some() {
                return Err(RestconfError::new(
                    Fault::NotTogether,
                    "csr-support, p10-csr, cmc-csr and cmp-csr exclude each other",
                ));
            }
        }
        let message = Self {
            signed_data_preferred: input.get("signed-data-preferred").is_some(),
            hw_model: text("hw-model"),
            os_name: text("os-name"),
            os_version: text("os-version"),
            nonce: input
                .get("nonce")
                .map(Element::octets)
                .filter(|nonce| !nonce.is_empty()),
            csr,
        };
        Ok((message, oddities))
    }
}

impl CsrSupport {
    fn element(&self) -> Element {
        let mut children = Vec::new();
        if let Some(algorithms) = &self.algorithms {
            let algorithms = algorithms
                .iter()
                .map(|der| Element::bytes("algorithm-identifier", der))
                .collect();
            children.push(Element::children(
                "key-generation",
                vec![Element::children("supported-algorithms", algorithms)],
            ));
        }
        let formats = self
            .formats
            .iter()
            .map(|format| Element::new("format-identifier", Value::Identity(format.as_str())))
            .collect();
        children.push(Element::children(
            "csr-generation",
            vec![Element::children("supported-formats", formats)],
        ));
        Element::children("csr-support", children)
    }

    fn from_element(support: &Element) -> Self {
        let algorithms = support
            .find(&["key-generation", "supported-algorithms"])
            .map(|list| {
                list.all("algorithm-identifier")
                    .map(Element::octets)
                    .collect()
            });
        let formats = support
            .find(&["csr-generation", "supported-formats"])
            .map(|list| {
                list.all("format-identifier")
                    .filter_map(CsrFormat::from_element)
                    .collect()
            })
            .unwrap_or_default();
        Self {
            algorithms,
            formats,
        }
    }
}

impl CsrFormat {
    fn from_element(element: &Element) -> Option<Self> {
        match element.value {
            Value::Identity(name) => Self::parse(name),
            _ => None,
        }
    }
}

impl CsrRequest {
    pub(crate) fn element(&self) -> Element {
        let mut children = Vec::new();
        if let Some(algorithm) = &self.algorithm {
            children.push(Element::children(
                "key-generation",
                vec![Element::children(
                    "selected-algorithm",
                    vec![Element::bytes("algorithm-identifier", algorithm)],
                )],
            ));
        }
        children.push(Element::children(
            "csr-generation",
            vec![Element::children(
                "selected-format",
                vec![Element::new(
                    "format-identifier",
                    Value::Identity(self.format.as_str()),
                )],
            )],
        ));
        children.extend(
            self.cert_req_info
                .as_ref()
                .map(|der| Element::bytes("cert-req-info", der)),
        );
        Element::children("csr-request", children)
    }

    /// `None` for a format that is not known, which a device refuses.
    pub(crate) fn from_element(request: &Element) -> Option<Self> {
        let format = request.find(&["csr-generation", "selected-format", "format-identifier"])?;
        Some(Self {
            algorithm: request
                .find(&[
                    "key-generation",
                    "selected-algorithm",
                    "algorithm-identifier",
                ])
                .map(Element::octets),
            format: CsrFormat::from_element(format)?,
            cert_req_info: request.get("cert-req-info").map(Element::octets),
        })
    }
}

impl GetBootstrappingDataOutput {
    /// The body of the response.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let mut output = Vec::new();
        output.extend(
            self.reporting_level
                .map(|level| Element::text("reporting-level", level.as_str())),
        );
        output.push(Element::bytes(
            "conveyed-information",
            &self.conveyed_information,
        ));
        for (name, artefact) in [
            ("owner-certificate", &self.owner_certificate),
            ("ownership-voucher", &self.ownership_voucher),
        ] {
            output.extend(artefact.as_ref().map(|der| Element::bytes(name, der)));
        }
        schema::encode(
            &schema::GET_OUTPUT,
            &Element::children("output", output),
            encoding,
        )
    }

    /// Reads a response's body.
    ///
    /// # Errors
    /// It is not the output of this RPC.
    pub fn decode(
        body: &[u8],
        encoding: Encoding,
        leniency: &Leniency,
    ) -> Result<(Self, Vec<Oddity>), RestconfError> {
        let mut oddities = Vec::new();
        let output = schema::decode(&schema::GET_OUTPUT, body, encoding, leniency, &mut oddities)?;
        let octets = |name| output.get(name).map(Element::octets);
        let message = Self {
            reporting_level: output
                .get("reporting-level")
                .and_then(|level| ReportingLevel::parse(&level.string())),
            conveyed_information: octets("conveyed-information").unwrap_or_default(),
            owner_certificate: octets("owner-certificate"),
            ownership_voucher: octets("ownership-voucher"),
        };
        // SZTP-8572-7.3-09: owner certificate and voucher stand together or not at all.
        if message.owner_certificate.is_some() != message.ownership_voucher.is_some() {
            return Err(RestconfError::new(
                Fault::NotTogether,
                "owner-certificate and ownership-voucher stand together or not at all",
            ));
        }
        Ok((message, oddities))
    }
}

impl ReportProgressInput {
    /// A report without host keys and trust anchors.
    #[must_use]
    pub fn new(progress: ProgressType, message: Option<String>) -> Self {
        Self {
            progress,
            message,
            ssh_host_keys: Vec::new(),
            trust_anchor_certs: Vec::new(),
        }
    }

    /// The body of the request. Host keys and trust anchors are written with
    /// bootstrap-complete only.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let mut input = vec![Element::text("progress-type", self.progress.as_str())];
        input.extend(
            self.message
                .as_ref()
                .map(|text| Element::text("message", text)),
        );
        // SZTP-8572-7.3-18: both are sent in bootstrap-complete only.
        if self.progress == ProgressType::BootstrapComplete {
            if !self.ssh_host_keys.is_empty() {
                let keys = self.ssh_host_keys.iter().map(|key| {
                    Element::children(
                        "ssh-host-key",
                        vec![
                            Element::text("algorithm", &key.algorithm),
                            Element::bytes("key-data", &key.key_data),
                        ],
                    )
                });
                input.push(Element::children("ssh-host-keys", keys.collect()));
            }
            if !self.trust_anchor_certs.is_empty() {
                let certs = self
                    .trust_anchor_certs
                    .iter()
                    .map(|der| Element::bytes("trust-anchor-cert", der));
                input.push(Element::children("trust-anchor-certs", certs.collect()));
            }
        }
        schema::encode(
            &schema::REPORT_INPUT,
            &Element::children("input", input),
            encoding,
        )
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// What a server answers with status 400 or 413.
    pub fn decode(
        body: &[u8],
        encoding: Encoding,
        leniency: &Leniency,
    ) -> Result<(Self, Vec<Oddity>), RestconfError> {
        if body.is_empty() {
            // SZTP-8040-3.6.1-02: progress-type is mandatory, so there must be a body.
            return Err(RestconfError::new(
                Fault::BodyMissing,
                "report-progress needs a body: progress-type is mandatory",
            ));
        }
        let mut oddities = Vec::new();
        let input = schema::decode(
            &schema::REPORT_INPUT,
            body,
            encoding,
            leniency,
            &mut oddities,
        )?;
        let Some(progress) = input
            .get("progress-type")
            .and_then(|it| ProgressType::parse(&it.string()))
        else {
            return Err(RestconfError::new(
                Fault::MissingElement,
                "progress-type is missing",
            ));
        };
        // SZTP-8572-7.3-17: both stand with bootstrap-complete only.
        if progress != ProgressType::BootstrapComplete {
            for name in ["ssh-host-keys", "trust-anchor-certs"] {
                let Some(container) = input.get(name) else {
                    continue;
                };
                let detail = format!("{name} stands with {progress}, not with bootstrap-complete");
                if !container.nodes().is_empty() || !leniency.empty_containers {
                    return Err(RestconfError::new(Fault::NotTogether, detail));
                }
                oddities.push(Oddity {
                    name: "empty-containers",
                    detail,
                });
            }
        }
        let keys = input.get("ssh-host-keys").map_or(&[][..], Element::nodes);
        let ssh_host_keys = keys
            .iter()
            .map(|key| SshHostKey {
                algorithm: key
                    .get("algorithm")
                    .map(Element::string)
                    .unwrap_or_default(),
                key_data: key.get("key-data").map(Element::octets).unwrap_or_default(),
            })
            .collect();
        let mut trust_anchor_certs = Vec::new();
        let certs = input
            .get("trust-anchor-certs")
            .map_or(&[][..], Element::nodes);
        for cert in certs {
            let der = cert.octets();
            // SZTP-8572-7.3-21: each is a degenerate SignedData.
            if let Err(error) = pki::pkcs7::parse_certs_only(&der) {
                let detail = format!("a trust-anchor-cert is no CMS with certificates: {error}");
                if !leniency.trust_anchor_not_cms {
                    return Err(RestconfError::new(Fault::BadValue, detail));
                }
                oddities.push(Oddity {
                    name: "trust-anchor-not-cms",
                    detail,
                });
            }
            trust_anchor_certs.push(der);
        }
        let message = Self {
            progress,
            message: input.get("message").map(Element::string),
            ssh_host_keys,
            trust_anchor_certs,
        };
        Ok((message, oddities))
    }
}
