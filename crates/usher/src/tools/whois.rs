//! `usher whois`: what identity a registrar or MASA would take from an IDevID.

use artifacts::{IdevidIssuer, SerialNumber};
use daemon::{Format, Outcome};
use pki::Certificate;
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
    #[command(flatten)]
    format: Format,
}

/// Prints the identity; "no" if the certificate has none.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let certificate = match load(&arguments.certificate) {
        Ok(certificate) => certificate,
        Err(problem) => return arguments.format.error(&problem),
    };
    let (value, found) = identity(&certificate);
    arguments.format.print(&value, text::tree);
    Outcome::of(found)
}

fn load(name: &str) -> Result<Certificate, Problem> {
    input::certificate(name)
}

fn identity(certificate: &Certificate) -> (Value, bool) {
    let issuer = IdevidIssuer::of(certificate);
    let standard = certificate.subject_serial_number();
    let hardware = certificate.hardware_module_name().map(|name| {
        let serial = name.serial_number;
        String::from_utf8(serial.clone()).unwrap_or_else(|_| hex::encode(&serial))
    });
    let serial = standard.clone().and_then(SerialNumber::new);
    let mut notes = Vec::new();
    if standard.is_some() && serial.is_none() {
        notes.push("the subject's serialNumber is empty, too long or has control characters");
    }
    if standard.is_none() && hardware.is_some() {
        notes.push("only hardwareModuleName has a serial number: the vendor profile must say so");
    }
    if certificate.authority_key_id().is_none() {
        notes.push("no authority key identifier: idevid-issuer is made of the device's own key");
    }
    if certificate.masa_url().is_none() {
        notes.push("no MASA URL: the vendor profile must name the MASA");
    }
    let found = serial.is_some();
    let value = json!({
        "serial_number": serial.as_ref().map(SerialNumber::as_str),
        "rule": "subject-serial-number",
        "issuer_key_id": issuer.key_id().map(hex::encode),
        "idevid_issuer": base64(issuer.as_bytes()),
        "masa_url": certificate.masa_url(),
        "masa_authority": certificate.masa_url().map(|url| authority(&url).to_owned()),
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
