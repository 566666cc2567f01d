//! Making the conveyed information of a device, and the digest of everything that goes into it.

use std::sync::Arc;

use artifacts::conveyed::{
    self, BootImage, BootstrapServer, ConfigurationHandling, ConveyedInformation, HashAlgorithm,
    ImageVerification, OnboardingInformation, RedirectInformation,
};
use artifacts::{Encoding, Tolerances};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Value;
use pki::{Certificate, Identity};
use serde_json::{Value as Json, json};

use super::check::well_formed;
use super::document::{Bundle, Digest, Document, Format, Handling, Image};
use super::images;
use super::rules::RuleSet;
use super::template::{Templates, Uses};
use super::{Facts, IssuedCertificate, Refusal};
use crate::profile::{Profile, Quirk};

/// Goes into every digest: artefacts of programs that build differently are not each other's.
const FORM: &str = "usher artefact 1";

/// A revision, ready to be served from.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) revision: i64,
    pub(crate) document: Document,
    pub(crate) rules: RuleSet,
    pub(crate) templates: Templates,
    /// Octets of scripts, by file.
    pub(crate) scripts: std::collections::BTreeMap<String, Arc<[u8]>>,
    /// Over the names and texts of all templates.
    pub(crate) templates_digest: Digest,
}

/// What a device is to be given.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) what: What,
    /// Who signs it, if it is signed.
    pub(crate) signer: Option<Arc<Identity>>,
    /// Whom it is encrypted to, if it is encrypted.
    pub(crate) recipient: Option<Certificate>,
    /// Its encoding.
    pub(crate) inner: Encoding,
    /// Whether the device has this image already, and could not find that out by itself.
    pub(crate) skip_image: bool,
}

/// Which kind of conveyed information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Redirect(String),
    Bundle { name: String, version: String },
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Redirect(name) => write!(f, "redirect {name}"),
            Self::Bundle { name, version } => write!(f, "bundle {name}@{version}"),
        }
    }
}

/// Everything that goes into an artefact, in the order in which it is digested.
pub(crate) struct Inputs {
    /// What the template sees.
    context: Json,
    /// Digest of all inputs.
    pub(crate) digest: Digest,
    /// Whether something of this one device is in it.
    pub(crate) of_device: bool,
}

struct Digester(aws_lc_rs::digest::Context);

impl Digester {
    fn new() -> Self {
        let mut digester = Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        digester.part(FORM.as_bytes());
        digester
    }

    /// Each part with its length, so that no two lists of parts are the same octets.
    fn part(&mut self, octets: &[u8]) {
        self.0.update(&(octets.len() as u64).to_be_bytes());
        self.0.update(octets);
    }

    fn finish(self) -> Digest {
        let digest = self.0.finish();
        Digest::from_slice(digest.as_ref()).unwrap_or(Digest([0; 32]))
    }
}

fn unusable(message: impl Into<String>) -> Refusal {
    Refusal::Unusable(message.into())
}

impl Content {
    pub(crate) fn bundle(&self, name: &str, version: &str) -> Option<&Bundle> {
        self.document.bundles.get(name)?.get(version)
    }

    /// Gathers what goes into the artefact.
    pub(crate) fn inputs(
        &self,
        plan: &Plan,
        facts: &Facts,
        base_url: Option<&str>,
    ) -> Result<Inputs, Refusal> {
        let mut digester = Digester::new();
        digester.part(plan.what.to_string().as_bytes());
        digester.part(plan.inner.name().as_bytes());
        // A profile changes what is written by its quirks only.
        for quirk in facts.profile.enabled() {
            digester.part(quirk.as_str().as_bytes());
        }
        digester.part(b"signer");
        if let Some(signer) = &plan.signer {
            for certificate in &signer.chain {
                digester.part(certificate.der());
            }
        }
        digester.part(b"recipient");
        if let Some(recipient) = &plan.recipient {
            digester.part(recipient.der());
        }
        let mut inputs = Inputs {
            context: Json::Null,
            digest: Digest([0; 32]),
            of_device: plan.recipient.is_some(),
        };
        match &plan.what {
            What::Redirect(name) => {
                let servers = self.document.redirects.get(name);
                digester.part(&serde_json::to_vec(&servers).map_err(|e| unusable(e.to_string()))?);
            }
            What::Bundle { name, version } => {
                let bundle = self
                    .bundle(name, version)
                    .ok_or_else(|| unusable(format!("there is no bundle {name}@{version}")))?;
                digester.part(&[u8::from(plan.skip_image)]);
                digester.part(base_url.unwrap_or_default().as_bytes());
                let image = bundle.image.as_ref();
                let image = image.and_then(|image| self.document.images.get(image));
                digester.part(&serde_json::to_vec(&image).map_err(|e| unusable(e.to_string()))?);
                digester.part(&serde_json::to_vec(bundle).map_err(|e| unusable(e.to_string()))?);
                for script in [&bundle.pre_script, &bundle.post_script] {
                    digester.part(b"script");
                    if let Some(script) = script {
                        digester.part(self.script(script)?);
                    }
                }
                if let Some(template) = &bundle.template {
                    let template =
                        self.document.templates.get(template).ok_or_else(|| {
                            unusable(format!("there is no template {template:?}"))
                        })?;
                    let uses = self.templates.uses(&template.file);
                    digester.part(template.file.as_bytes());
                    digester.part(format!("{:?}", template.format).as_bytes());
                    digester.part(&self.templates_digest.0);
                    inputs.context = self.context(&uses, facts)?;
                    inputs.of_device |= uses.device
                        || uses.certificate
                        || (uses.vars && !facts.device.variables.is_empty());
                    digester.part(inputs.context.to_string().as_bytes());
                }
            }
        }
        inputs.digest = digester.finish();
        Ok(inputs)
    }

    fn script(&self, name: &str) -> Result<&[u8], Refusal> {
        self.document
            .scripts
            .get(name)
            .and_then(|file| self.scripts.get(file))
            .map(|octets| &**octets)
            .ok_or_else(|| unusable(format!("there is no script {name:?}")))
    }

    /// What the template sees: only what it uses, so that devices which differ in nothing that
    /// matters share an artefact.
    fn context(&self, uses: &Uses, facts: &Facts) -> Result<Json, Refusal> {
        let device = &facts.device;
        let group = Some(device.group.as_str()).filter(|group| !group.is_empty());
        let site = Some(device.site.as_str()).filter(|site| !site.is_empty());
        let mut context = serde_json::Map::new();
        if uses.device {
            let mut facts = serde_json::Map::new();
            for (name, value) in [
                ("serial", Some(device.serial.as_str())),
                ("vendor", Some(device.vendor.as_str())),
                (
                    "type",
                    Some(device.device_type.as_str()).filter(|t| !t.is_empty()),
                ),
                ("group", group),
                ("site", site),
                ("hw_model", device.hw_model.as_deref()),
                ("os_name", device.os_name.as_deref()),
                ("os_version", device.os_version.as_deref()),
            ] {
                // What is not known is not defined, and a template that needs it says so.
                if let Some(value) = value {
                    facts.insert(name.to_owned(), Json::from(value));
                }
            }
            context.insert("device".to_owned(), Json::Object(facts));
        }
        if uses.vars {
            let own = device
                .variables
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let variables = self.document.variables_of(group, site, &own);
            context.insert("vars".to_owned(), Json::Object(variables));
        }
        // Without one it is not defined: a template that needs it fails, and one that asks
        // `certificate is defined` also serves devices that make no requests.
        if let Some(certificate) = facts.certificate.as_ref().filter(|_| uses.certificate) {
            context.insert(
                "certificate".to_owned(),
                certificate_variables(certificate)?,
            );
        }
        Ok(Json::Object(context))
    }

    /// The configuration of a device, as it would be given.
    pub(crate) fn configuration(
        &self,
        bundle: &Bundle,
        inputs: &Inputs,
    ) -> Result<Option<(Vec<u8>, Format)>, super::template::TemplateError> {
        let Some(name) = &bundle.template else {
            return Ok(None);
        };
        let Some(template) = self.document.templates.get(name) else {
            return Ok(None);
        };
        let context = Value::from_serialize(&inputs.context);
        self.templates
            .render(&template.file, template.format, &context)
            .map(|octets| Some((octets, template.format)))
    }

    /// The conveyed information of a device, not yet encoded.
    pub(crate) fn information(
        &self,
        plan: &Plan,
        inputs: &Inputs,
        base_url: Option<&str>,
    ) -> Result<ConveyedInformation, Refusal> {
        let (name, version) = match &plan.what {
            What::Redirect(name) => return self.redirect(name),
            What::Bundle { name, version } => (name, version),
        };
        let bundle = self
            .bundle(name, version)
            .ok_or_else(|| unusable(format!("there is no bundle {name}@{version}")))?;
        let script = |name: &Option<String>| -> Result<Option<Vec<u8>>, Refusal> {
            let name = name.as_ref();
            name.map(|name| self.script(name).map(<[u8]>::to_vec))
                .transpose()
        };
        let configuration = self.configuration(bundle, inputs).map_err(|error| {
            let undefined = inputs.context.get("certificate").is_none();
            let hint = if undefined && error.to_string().contains("certificate") {
                "the configuration needs a certificate, and none was issued: "
            } else {
                ""
            };
            unusable(format!("{hint}template: {error} [{}]", error.code))
        })?;
        // A device that came into the register after the content was checked is no exception.
        if let Some((octets, format)) = &configuration {
            well_formed(octets, *format)
                .map_err(|flaw| unusable(format!("configuration: {}", flaw.message)))?;
        }
        let image = match &bundle.image {
            Some(name) if !plan.skip_image => {
                let image = self
                    .document
                    .images
                    .get(name)
                    .ok_or_else(|| unusable(format!("there is no image {name:?}")))?;
                Some(boot_image(image, base_url)?)
            }
            _ => None,
        };
        Ok(ConveyedInformation::Onboarding(OnboardingInformation {
            boot_image: image,
            pre_configuration_script: script(&bundle.pre_script)?,
            configuration_handling: bundle.handling.map(|handling| match handling {
                Handling::Merge => ConfigurationHandling::Merge,
                Handling::Replace => ConfigurationHandling::Replace,
            }),
            configuration: configuration.map(|(octets, _)| octets),
            post_configuration_script: script(&bundle.post_script)?,
        }))
    }

    fn redirect(&self, name: &str) -> Result<ConveyedInformation, Refusal> {
        let servers = self
            .document
            .redirects
            .get(name)
            .ok_or_else(|| unusable(format!("there is no redirect {name:?}")))?;
        let servers = servers.iter().map(|server| BootstrapServer {
            address: server.address.clone(),
            port: server.port,
            trust_anchor: server.trust_anchor.as_ref().map(|cms| cms.0.clone()),
        });
        Ok(ConveyedInformation::Redirect(RedirectInformation {
            bootstrap_servers: servers.collect(),
        }))
    }

    /// The artefact: shaped for the device type, encoded, signed and encrypted as planned.
    pub(crate) fn artefact(
        &self,
        plan: &Plan,
        inputs: &Inputs,
        profile: &Profile,
        base_url: Option<&str>,
    ) -> Result<Vec<u8>, Refusal> {
        let information = self.information(plan, inputs, base_url)?;
        let content = encode(information, plan.inner, profile)?;
        let failed = |error: artifacts::Error| Refusal::Failed(error.into());
        let artefact = match &plan.signer {
            // SZTP-8572-3.1-05, SZTP-8572-3.4-02: signed first, and then encrypted.
            Some(signer) => conveyed::sign(&content, plan.inner, profile.content_type(), signer)
                .map_err(failed)?,
            // SZTP-8572-3.1-03.
            None => conveyed::unsigned(&content, plan.inner),
        };
        match &plan.recipient {
            // SZTP-8572-3.4-03: to the key of the device's identity certificate.
            Some(recipient) => conveyed::encrypt(&artefact, recipient).map_err(|error| {
                unusable(format!("it cannot be encrypted to this device: {error}"))
            }),
            None => Ok(artefact),
        }
    }
}

/// The text of conveyed information, as this kind of device reads it.
pub(crate) fn encode(
    information: ConveyedInformation,
    inner: Encoding,
    profile: &Profile,
) -> Result<Vec<u8>, Refusal> {
    let shaped = profile
        .shape(information)
        .map_err(|unfit| unusable(unfit.to_string()))?;
    let mut tolerances = Tolerances::strict();
    tolerances.verification_per_uri = profile.has(Quirk::PositionalImageVerification);
    let content = shaped
        .encode_with(inner, &tolerances)
        .map_err(|error| unusable(error.to_string()))?;
    Ok(profile.finish_content(content, inner))
}

fn boot_image(image: &Image, base_url: Option<&str>) -> Result<BootImage, Refusal> {
    let mut uris = Vec::with_capacity(image.uris.len() + 1);
    if let (Some(hosted), Some(digest)) = (&image.hosted, &image.sha256) {
        let base = base_url.ok_or_else(|| {
            unusable("the image is hosted here, and content.base_url is not configured")
        })?;
        let path = images::path_of(digest, &hosted.file_name);
        uris.push(format!("{}{path}", base.trim_end_matches('/')));
    }
    uris.extend(image.uris.iter().cloned());
    // SZTP-8572-6.3-11: image-verification requires a download-uri.
    let verification = image.sha256.filter(|_| !uris.is_empty());
    let verification = verification.map(|digest| ImageVerification {
        algorithm: HashAlgorithm::Sha256,
        value: digest.0.to_vec(),
    });
    Ok(BootImage {
        os_name: image.os_name.clone(),
        os_version: image.os_version.clone(),
        download_uris: uris,
        image_verifications: verification.into_iter().collect(),
    })
}

/// What a template sees of a certificate that was issued by RFC 9646.
fn certificate_variables(issued: &IssuedCertificate) -> Result<Json, Refusal> {
    let chain: Vec<Certificate> = issued
        .chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::Failed(error.into()))?;
    let own = chain
        .first()
        .ok_or_else(|| unusable("the certificate that was issued is not there"))?;
    let cms = pki::pkcs7::certs_only(&chain).map_err(|error| Refusal::Failed(error.into()))?;
    let pem: Vec<String> = chain.iter().map(Certificate::to_pem).collect();
    let not_after = own
        .not_after()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default();
    Ok(json!({
        "pem": own.to_pem(),
        "chain_pem": pem.concat(),
        // ietf-crypto-types: end-entity-cert-cms is a degenerate SignedData.
        "cms": STANDARD.encode(cms),
        "der": STANDARD.encode(own.der()),
        "subject": own.subject(),
        "issuer": own.issuer(),
        "serial": hex::encode(own.serial_number()),
        "sha256": hex::encode(own.sha256()),
        "not_after": not_after,
    }))
}
