//! `usher whois`: what identity a registrar or MASA would take from an IDevID.

use std::path::{Path, PathBuf};

use artifacts::{IdevidIssuer, SerialNumber};
use brski::SerialRule;
use daemon::{Format, Outcome};
use pki::Certificate;
use registrar::vendor::{Profile, read_profile};
use serde_json::{Value, json};

use super::describe;
use super::input::{self, Problem};
use super::text;

/// Options of `usher whois`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The certificate, PEM or DER; `-` is standard input.
    #[arg(value_name = "CERT")]
    certificate: String,
    /// The vendor profile whose rule applies; without one it is the standard's rule.
    #[arg(long, value_name = "TOML")]
    profile: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// Prints the identity; "no" if the certificate has none.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let loaded = input::certificate(&arguments.certificate).and_then(|certificate| {
        let profile = arguments.profile.as_deref().map(profile).transpose()?;
        Ok((certificate, profile))
    });
    let (certificate, profile) = match loaded {
        Ok(loaded) => loaded,
        Err(problem) => return arguments.format.error(&problem),
    };
    let (value, found) = identity(&certificate, profile.as_ref());
    arguments.format.print(&value, text::tree);
    Outcome::of(found)
}

fn profile(file: &Path) -> Result<Profile, Problem> {
    read_profile(file).map_err(|error| Problem::usage(format!("{}: {error}", file.display())))
}

fn identity(certificate: &Certificate, profile: Option<&Profile>) -> (Value, bool) {
    let issuer = IdevidIssuer::of(certificate);
    let standard = certificate.subject_serial_number();
    let hardware = certificate.hardware_module_name().map(|name| {
        let serial = name.serial_number;
        String::from_utf8(serial.clone()).unwrap_or_else(|_| hex::encode(&serial))
    });
    let rule = profile.map_or_else(SerialRule::default, |profile| profile.serial.clone());
    let serial = rule.serial_of(certificate).and_then(SerialNumber::new);
    let mut notes = Vec::new();
    if standard.is_some() && serial.is_none() && profile.is_none() {
        notes.push("the subject's serialNumber is empty, too long or has control characters");
    }
    if standard.is_none() && hardware.is_some() && profile.is_none() {
        notes.push("only hardwareModuleName has a serial number: the vendor profile must say so");
    }
    if certificate.authority_key_id().is_none() {
        notes.push("no authority key identifier: idevid-issuer is made of the device's own key");
    }
    let masa_url = masa_url(certificate, profile);
    if masa_url.is_none() {
        notes.push("no MASA URL: the vendor profile must name the MASA");
    }
    let found = serial.is_some();
    let value = json!({
        "serial_number": serial.as_ref().map(SerialNumber::as_str),
        "rule": serde_json::to_value(&rule).unwrap_or_default(),
        "profile": profile.map(|profile| profile.name.as_str()),
        "product": profile.and_then(|profile| profile.product.apply(certificate)),
        "issuer_key_id": issuer.key_id().map(hex::encode),
        "idevid_issuer": base64(issuer.as_bytes()),
        "masa_url": masa_url,
        "masa_authority": masa_url.as_deref().map(authority),
        "other_serial_numbers": { "hardware_module_name": hardware },
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "not_after": describe::date(certificate.not_after()),
        "key": certificate.public_key().describe(),
        "certificate_sha256": hex::encode(certificate.sha256()),
        "notes": notes,
    });
    (value, found)
}

/// Where the MASA is: pinned by the profile, else as the IDevID says, else the profile's fallback.
fn masa_url(certificate: &Certificate, profile: Option<&Profile>) -> Option<String> {
    let rule = profile.map(|profile| &profile.masa);
    rule.and_then(|rule| rule.url.clone())
        .or_else(|| certificate.masa_url())
        .or_else(|| rule.and_then(|rule| rule.fallback_url.clone()))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Host and port of a MASA URL, which is an authority alone or a URL
/// ([RFC 8995 §2.3.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-2.3.2)).
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}
