//! What a device would be given, why, and what it would make of it.

use std::sync::Arc;

use artifacts::bundle::{BootstrappingData, DeviceContext, judge};
use artifacts::conveyed::ConveyedInformation;
use artifacts::verify::{CheckResult, ExpectedNonce};
use artifacts::{Encoding, Nonce, SerialNumber, Tolerances};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::path::Anchors;
use pki::{Certificate, Coded as _};
use serde::Serialize;
use store::Store;
use sztp::message::GetBootstrappingDataOutput;
use sztp::restconf::{Fault, RestconfError};
use time::OffsetDateTime;

use super::apply::{profile_of, surroundings_of, usual_encoding};
use super::{Engine, Facts, Prepared, revision};
use crate::Error;
use crate::config::Config;
use crate::register;
use crate::vendor::Vendor;

/// What a device would ask.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The manufacturer, where the serial number alone does not say.
    pub vendor: Option<String>,
    /// Its `hw-model`.
    pub hw_model: Option<String>,
    /// Its `os-name`.
    pub os_name: Option<String>,
    /// Its `os-version`.
    pub os_version: Option<String>,
    /// Whether it asks for signed data, as one that does not trust the server does.
    pub signed: bool,
    /// Its nonce.
    pub nonce: Option<Vec<u8>>,
    /// The encoding of its request.
    pub encoding: Option<Encoding>,
    /// Its IDevID, for what is encrypted.
    pub identity: Option<Certificate>,
}

/// The answer, with the way to it.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Whether the device is given something that it would accept.
    pub ok: bool,
    /// The manufacturer.
    pub vendor: String,
    /// The serial number.
    pub serial: String,
    /// The profile that it is served by.
    pub profile: String,
    /// The quirks that are on in it.
    pub quirks: Vec<&'static str>,
    /// The encoding of the reply.
    pub encoding: String,
    /// How the decision came about.
    pub trace: Vec<String>,
    /// What is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// Why nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// What the device would make of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What is given.
#[derive(Debug, Serialize)]
pub struct Given {
    /// The rule that chose it.
    pub rule: String,
    /// What it chose.
    pub target: String,
    /// The revision of the content.
    pub revision: i64,
    /// Whether it is redirect information.
    pub redirect: bool,
    /// Whether it is signed.
    pub signed: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The body of the reply, octet for octet.
    pub reply: String,
    /// The conveyed information inside, where it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The configuration in it, as the template made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// The artefacts, for files.
    #[serde(skip)]
    pub artefacts: BootstrappingData,
}

/// Why nothing is given.
#[derive(Debug, Serialize)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: &'static str,
    /// For the operator.
    pub detail: String,
    /// The body of the reply.
    pub reply: String,
}

/// What the device would make of it.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Whether it would go on with it.
    pub accepted: bool,
    /// Whether the source was taken to be trusted.
    pub trusted_source: bool,
    /// Stable code of what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Each check in the device's order.
    pub checks: Vec<CheckLine>,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct CheckLine {
    /// Its name.
    pub name: &'static str,
    /// `passed`, `failed` or `not made`.
    pub result: &'static str,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Explains what a device would be given. Nothing is given to anybody, and nothing changes.
///
/// # Errors
/// There is no such device, or something behind us failed.
pub async fn explain(
    config: &Config,
    store: &Store,
    serial: &str,
    question: &Question,
    now: OffsetDateTime,
) -> Result<Explanation, Error> {
    let (profiles, vendors) = surroundings_of(config)?;
    let mut reader = store.reader().await?;
    let named = register::find_device(&mut reader, serial, question.vendor.as_deref()).await?;
    let device = match named.alias_of {
        Some(other) => register::device_by_id(&mut reader, other)
            .await?
            .ok_or_else(|| Error::NotFound {
                what: "device",
                name: serial.to_owned(),
            })?,
        None => named,
    };
    drop(reader);
    let (epoch, revision) = revision::epoch(store).await?;
    let profile = profile_of(config, &profiles, &vendors, &device);
    let asked = question
        .encoding
        .unwrap_or_else(|| usual_encoding(&profile));
    let outer = profile.outer(asked);
    let facts = Facts {
        device: Arc::new(device),
        epoch,
        revision,
        hw_model: question.hw_model.clone(),
        os_name: question.os_name.clone(),
        os_version: question.os_version.clone(),
        nonce: question.nonce.clone(),
        signed_data_preferred: question.signed,
        outer,
        profile: Arc::clone(&profile),
        certificate: None,
        identity: question.identity.clone(),
        now,
    };
    let engine = Engine::open(config, store)?;
    let (result, trace) = engine.look(&facts).await;
    let mut explanation = Explanation {
        ok: false,
        vendor: facts.device.vendor.clone(),
        serial: facts.device.serial.clone(),
        profile: profile.name.clone(),
        quirks: profile
            .enabled()
            .map(crate::profile::Quirk::as_str)
            .collect(),
        encoding: outer.name().to_owned(),
        trace,
        given: None,
        refused: None,
        verdict: None,
    };
    // Such a device is turned away before anything is chosen.
    let turned_away = if facts.device.blocked.is_some() {
        Some("bootstrap.device-blocked")
    } else {
        (!facts.device.state.is_ours()).then_some("bootstrap.device-released")
    };
    if let Some(code) = turned_away {
        let error = RestconfError::new(Fault::Forbidden, "this device gets nothing here");
        explanation.refused = Some(Refused {
            status: error.status,
            code,
            detail: "the register says that this device gets nothing".to_owned(),
            reply: String::from_utf8_lossy(&error.encode(outer)).into_owned(),
        });
        return Ok(explanation);
    }
    match result {
        Ok(prepared) => {
            let given = given(&prepared, &facts);
            let verdict = verdict(&given, &facts, vendors.named(&facts.device.vendor));
            explanation.ok = verdict.accepted;
            explanation.given = Some(given);
            explanation.verdict = Some(verdict);
        }
        Err(super::Refusal::Failed(error)) => return Err(error),
        Err(refusal) => {
            let error = refusal.restconf();
            explanation.refused = Some(Refused {
                status: error.status,
                code: error.code,
                detail: refusal.to_string(),
                reply: String::from_utf8_lossy(&error.encode(outer)).into_owned(),
            });
        }
    }
    Ok(explanation)
}

fn given(prepared: &Prepared, facts: &Facts) -> Given {
    let output = GetBootstrappingDataOutput {
        reporting_level: prepared.reporting_level,
        conveyed_information: prepared.conveyed_information.to_vec(),
        owner_certificate: prepared.owner_certificate.clone().map(Vec::from),
        ownership_voucher: prepared.ownership_voucher.clone().map(Vec::from),
    };
    let reply = facts.profile.render(&output, facts.outer);
    Given {
        rule: prepared.rule.clone(),
        target: prepared.target.clone(),
        revision: prepared.revision,
        redirect: prepared.redirect,
        signed: output.owner_certificate.is_some(),
        encrypted: artifacts::enveloped::is_enveloped(&output.conveyed_information),
        reply: String::from_utf8_lossy(&reply).into_owned(),
        configuration: configuration_of(&output.conveyed_information),
        content: content_of(&output.conveyed_information).map(|(text, _)| text),
        artefacts: BootstrappingData {
            conveyed_information: output.conveyed_information,
            owner_certificate: output.owner_certificate,
            ownership_voucher: output.ownership_voucher,
        },
    }
}

/// The text inside of conveyed information, and its encoding.
fn content_of(der: &[u8]) -> Option<(String, Encoding)> {
    use artifacts::conveyed::Parsed;
    match artifacts::conveyed::parse(der, &Tolerances::lenient()).ok()? {
        Parsed::Unsigned {
            content, encoding, ..
        } => Some((String::from_utf8_lossy(&content).into_owned(), encoding)),
        Parsed::Signed(signed) => {
            let text = String::from_utf8_lossy(signed.dangerous_peek()).into_owned();
            Some((text, signed.encoding()))
        }
        Parsed::Enveloped(_) => None,
    }
}

/// The configuration inside of onboarding information.
fn configuration_of(der: &[u8]) -> Option<String> {
    let (text, encoding) = content_of(der)?;
    let decoded =
        ConveyedInformation::decode(text.as_bytes(), encoding, &Tolerances::lenient()).ok()?;
    match decoded {
        ConveyedInformation::Onboarding(onboarding) => onboarding
            .configuration
            .map(|octets| String::from_utf8_lossy(&octets).into_owned()),
        ConveyedInformation::Redirect(_) => None,
    }
}

/// Judges as the device would: one that asks for signed data trusts nobody, another one trusts
/// this server.
fn verdict(given: &Given, facts: &Facts, vendor: Option<&Vendor>) -> Verdict {
    let trusted_source = !facts.signed_data_preferred;
    if given.encrypted {
        return Verdict {
            accepted: true,
            trusted_source,
            code: None,
            detail: Some("encrypted: only the device can read and judge it".to_owned()),
            checks: Vec::new(),
        };
    }
    let none = Anchors::default();
    let anchors = vendor.map_or(&none, |vendor| &vendor.voucher_anchors);
    // A manufacturer's devices take its own vouchers as they are.
    let mut tolerances = vendor.map_or_else(Tolerances::strict, |vendor| vendor.tolerances.clone());
    tolerances.id_data = true;
    let quirk = crate::profile::Quirk::PositionalImageVerification;
    tolerances.verification_per_uri = facts.profile.has(quirk);
    tolerances.conveyed_wrapper = facts
        .profile
        .has(crate::profile::Quirk::WrappedConveyedInformation);
    let serial = serial_of(facts);
    let nonce = facts.nonce.as_deref().and_then(Nonce::from_octets);
    let mut context = DeviceContext::new(anchors, &tolerances);
    context.serial = serial.as_ref();
    context.idevid = facts.identity.as_ref();
    context.at = Some(facts.now);
    context.nonce = match &nonce {
        Some(nonce) => ExpectedNonce::ExactlyOrNonceless(nonce),
        None => ExpectedNonce::Nonceless,
    };
    let judgement = judge(&given.artefacts, trusted_source, &context);
    let checks = judgement
        .checks
        .iter()
        .map(|check| match &check.result {
            CheckResult::Passed => CheckLine {
                name: check.name,
                result: "passed",
                detail: String::new(),
            },
            CheckResult::Failed { code, detail } => CheckLine {
                name: check.name,
                result: "failed",
                detail: format!("{detail} [{code}]"),
            },
            CheckResult::NotMade { why } => CheckLine {
                name: check.name,
                result: "not made",
                detail: (*why).to_owned(),
            },
        })
        .collect();
    let error = judgement.result.as_ref().err();
    Verdict {
        accepted: judgement.result.is_ok(),
        trusted_source,
        code: error.map(|error| error.code().to_owned()),
        detail: error.map(ToString::to_string),
        checks,
    }
}

/// The serial number that the device compares with; some compare with that of another part of
/// them, and then this check is not made here.
fn serial_of(facts: &Facts) -> Option<SerialNumber> {
    let elsewhere = facts.profile.has(crate::profile::Quirk::ModuleSerial);
    SerialNumber::new(facts.device.serial.clone()).filter(|_| !elsewhere)
}

impl Explanation {
    /// The artefacts as files: name and octets.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let Some(given) = &self.given else {
            return Vec::new();
        };
        let artefacts = &given.artefacts;
        let mut files = vec![(
            "conveyed-information.cms",
            artefacts.conveyed_information.clone(),
        )];
        if let Some(octets) = &artefacts.owner_certificate {
            files.push(("owner-certificate.cms", octets.clone()));
        }
        if let Some(octets) = &artefacts.ownership_voucher {
            files.push(("ownership-voucher.vcj", octets.clone()));
        }
        files.push(("reply", given.reply.clone().into_bytes()));
        if let Some(content) = &given.content {
            files.push(("content", content.clone().into_bytes()));
        }
        if let Some(configuration) = &given.configuration {
            files.push(("configuration", configuration.clone().into_bytes()));
        }
        files
    }

    /// The text for a person.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{}/{}, profile {}, {}",
            self.vendor, self.serial, self.profile, self.encoding
        )];
        if !self.quirks.is_empty() {
            lines.push(format!("quirks: {}", self.quirks.join(", ")));
        }
        lines.extend(self.trace.iter().map(|line| format!("  {line}")));
        if let Some(given) = &self.given {
            lines.push(format!(
                "given: {} by rule {:?} of revision {}{}{}",
                given.target,
                given.rule,
                given.revision,
                if given.signed {
                    ", signed"
                } else {
                    ", unsigned"
                },
                if given.encrypted { ", encrypted" } else { "" },
            ));
            if let Some(content) = &given.content {
                lines.push("conveyed information:".to_owned());
                lines.push(content.clone());
            }
            if let Some(configuration) = &given.configuration {
                lines.push("configuration:".to_owned());
                lines.push(configuration.trim_end().to_owned());
            }
            lines.push("reply:".to_owned());
            lines.push(given.reply.clone());
        }
        if let Some(refused) = &self.refused {
            lines.push(format!(
                "refused: {} {}: {}",
                refused.status, refused.code, refused.detail
            ));
            lines.push(refused.reply.clone());
        }
        if let Some(verdict) = &self.verdict {
            let source = if verdict.trusted_source {
                "that trusts this server"
            } else {
                "that trusts nobody"
            };
            let word = if verdict.accepted {
                "accepts"
            } else {
                "refuses"
            };
            lines.push(format!("verdict: a device {source} {word} it"));
            for check in &verdict.checks {
                lines.push(format!(
                    "  {:10} {} {}",
                    check.result, check.name, check.detail
                ));
            }
            if let (Some(code), Some(detail)) = (&verdict.code, &verdict.detail) {
                lines.push(format!("  {detail} [{code}]"));
            } else if let Some(detail) = &verdict.detail {
                lines.push(format!("  {detail}"));
            }
        }
        lines.join("\n")
    }
}

/// A nonce on the command line: base64, or hexadecimal.
///
/// # Errors
/// It is neither, or not of 16 to 32 octets.
pub fn parse_nonce(text: &str) -> Result<Vec<u8>, String> {
    let octets = hex::decode(text)
        .ok()
        .or_else(|| STANDARD.decode(text).ok())
        .ok_or_else(|| "neither base64 nor hexadecimal".to_owned())?;
    if (16..=32).contains(&octets.len()) {
        Ok(octets)
    } else {
        Err(format!("{} octets, and a nonce has 16 to 32", octets.len()))
    }
}
