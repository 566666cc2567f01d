//! `usher dns`: the records by which devices find their data or their server, and what is wrong
//! with some.

use clap::Subcommand;
use daemon::{Format, Outcome};
use pki::Coded;
use serde_json::{Value, json};
use sztp::dhcp::BootstrapUri;
use sztp::dns::{self, Artefacts};

use super::input::{self, Problem};
use super::{respond, text};

/// `usher dns …`
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Write records for a zone file: TXT records with the artefacts of a device, or SRV records
    /// with bootstrap servers.
    Encode(EncodeArguments),
    /// Say what TXT and SRV records hold (lines of a zone file or `dig`'s answer) and what a
    /// device would not take. Exits 1 if there is nothing that it would use.
    Decode(DecodeArguments),
    /// Answer by multicast DNS, for a network without a DNS server: with bootstrap servers, and
    /// with the artefacts of devices.
    Respond(respond::Arguments),
}

impl DnsCommand {
    /// Runs the command.
    pub(crate) fn run(&self) -> Outcome {
        match self {
            Self::Encode(arguments) => arguments.run(),
            Self::Decode(arguments) => arguments.run(),
            Self::Respond(arguments) => respond::run(arguments),
        }
    }
}

/// Options of `usher dns encode`.
#[derive(Debug, clap::Args)]
pub(crate) struct EncodeArguments {
    /// The domain of the records; `local` for multicast DNS.
    #[arg(long, value_name = "DOMAIN")]
    domain: String,
    /// A bootstrap server, https://host[:port], in the order in which devices try them.
    #[arg(long, value_name = "URI", conflicts_with = "serial")]
    server: Vec<BootstrapUri>,
    /// The device's serial number as its certificate has it.
    #[arg(long, value_name = "SN", requires = "conveyed_information")]
    serial: Option<String>,
    /// The conveyed information, DER.
    #[arg(long, value_name = "FILE", requires = "serial")]
    conveyed_information: Option<String>,
    /// The owner certificate, DER.
    #[arg(long, value_name = "FILE", requires = "ownership_voucher")]
    owner_certificate: Option<String>,
    /// The ownership voucher, DER.
    #[arg(long, value_name = "FILE", requires = "owner_certificate")]
    ownership_voucher: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// Options of `usher dns decode`.
#[derive(Debug, clap::Args)]
pub(crate) struct DecodeArguments {
    /// The file; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    format: Format,
}

impl EncodeArguments {
    fn run(&self) -> Outcome {
        let zone = match self.zone() {
            Ok(zone) => zone,
            Err(problem) => return self.format.error(&problem),
        };
        match zone {
            Ok(zone) => {
                let document = json!({ "ok": true, "zone": zone });
                self.format.print(&document, |_| zone.clone());
                Outcome::Yes
            }
            Err(error) => {
                self.format.error(&error);
                Outcome::No
            }
        }
    }

    fn zone(&self) -> Result<Result<String, dns::Error>, Problem> {
        let read = |name: &Option<String>| name.as_deref().map(input::read).transpose();
        let Some(serial) = &self.serial else {
            if self.server.is_empty() {
                return Err(Problem::usage(
                    "name servers, or a device with its artefacts",
                ));
            }
            let servers: Vec<_> = self
                .server
                .iter()
                .map(|uri| (uri.address(), uri.port().unwrap_or(443)))
                .collect();
            return Ok(dns::service_zone(&self.domain, &servers));
        };
        let artefacts = Artefacts {
            conveyed_information: read(&self.conveyed_information)?,
            owner_certificate: read(&self.owner_certificate)?,
            ownership_voucher: read(&self.ownership_voucher)?,
        };
        Ok(dns::txt_zone(serial, &self.domain, &artefacts))
    }
}

impl DecodeArguments {
    fn run(&self) -> Outcome {
        let bytes = match input::read(&self.file) {
            Ok(bytes) => bytes,
            Err(problem) => return self.format.error(&problem),
        };
        let (document, usable) = describe(&String::from_utf8_lossy(&bytes));
        self.format.print(&document, text::tree);
        Outcome::of(usable)
    }
}

/// What the records hold, and whether a device would use any.
fn describe(zone: &str) -> (Value, bool) {
    let found = dns::inspect_zone(zone);
    let mut artefacts: std::collections::BTreeMap<String, Artefacts> =
        std::collections::BTreeMap::new();
    for record in &found {
        if let (Some((key, value)), []) = (&record.value, record.mistakes.as_slice()) {
            let of_device = artefacts.entry(record.name.to_lowercase()).or_default();
            of_device.take(&[key.as_bytes(), b"=", value].concat());
        }
    }
    let sets: Vec<Value> = artefacts
        .iter()
        .map(|(name, set)| match set.check() {
            Ok(()) => json!({ "name": name, "complete": true }),
            Err(error) => json!({
                "name": name,
                "complete": false,
                "code": error.code(),
                "detail": error.to_string(),
            }),
        })
        .collect();
    let servers = found
        .iter()
        .any(|record| record.record_type == "SRV" && record.mistakes.is_empty());
    let usable = servers || artefacts.values().any(|set| set.check().is_ok());
    let records: Vec<Value> = found
        .iter()
        .map(|record| {
            let mistakes: Vec<Value> = record
                .mistakes
                .iter()
                .map(|(code, detail)| json!({ "code": code, "detail": detail }))
                .collect();
            json!({
                "name": record.name,
                "type": record.record_type,
                "content": record.content,
                "mistakes": mistakes,
            })
        })
        .collect();
    let mut document = json!({
        "ok": usable,
        "kind": "dns-records",
        "records": records,
        "devices": sets,
    });
    if found.is_empty() {
        document["detail"] = "there is no TXT and no SRV record in it".into();
    }
    (document, usable)
}
