//! `usher artifact verify`.

use std::io::Write;

use daemon::{Clock, Format, Outcome};
use serde_json::Value;

use super::batch;
use super::case::{Case, Names};
use super::judge;
use super::text;

/// Options of `usher artifact verify`. Wherever PEM is named, DER does as well.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The artefact; `-` is standard input.
    #[arg(value_name = "FILE", required_unless_present = "batch")]
    file: Option<String>,
    /// Certificates to trust: the MASA's or manufacturer's, for a registrar's request also the
    /// domain's.
    #[arg(long, value_name = "PEM", num_args = 1..)]
    anchors: Vec<String>,
    /// Certificates to build paths with; they add no trust.
    #[arg(long, value_name = "PEM", num_args = 1..)]
    intermediates: Vec<String>,
    /// Revocation lists.
    #[arg(long, value_name = "CRL", num_args = 1..)]
    crl: Vec<String>,
    /// The time at which to judge; now, if it is not given.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// Judge as a device without a clock: no date counts.
    #[arg(long, conflicts_with = "at")]
    no_clock: bool,
    /// Accept what known peers do differently from the standards; each use is listed.
    #[arg(long)]
    lenient: bool,
    /// Accept this one departure from the standards, as vendor profiles name it.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    tolerate: Vec<String>,
    /// What it must be: voucher, voucher-request, pvr, rvr, conveyed-information,
    /// owner-certificate, certificate, csr, crl, audit-log, telemetry, dhcp-option. Guessed, if
    /// it is not given.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The device's serial number.
    #[arg(long, value_name = "SN")]
    serial: Option<String>,
    /// The nonce that was sent.
    #[arg(long, value_name = "B64", allow_hyphen_values = true)]
    nonce: Option<String>,
    /// The device's IDevID.
    #[arg(long, value_name = "PEM")]
    idevid: Option<String>,
    /// A certificate of the domain: for a voucher the one that must be pinned (or lie on its
    /// chain), for a registrar's request the anchor.
    #[arg(long, value_name = "PEM", num_args = 1..)]
    domain: Vec<String>,
    /// The voucher request that this artefact answers or carries.
    #[arg(long, value_name = "FILE")]
    request: Option<String>,
    /// Certificate of the TLS or DTLS peer that sent it.
    #[arg(long, value_name = "PEM", num_args = 1..)]
    peer: Vec<String>,
    /// The server certificate that the pledge saw, and its chain.
    #[arg(long, value_name = "PEM", num_args = 1..)]
    registrar: Vec<String>,
    /// The owner certificate artefact that goes with conveyed information.
    #[arg(long, value_name = "FILE")]
    owner_certificate: Option<String>,
    /// The ownership voucher that goes with conveyed information.
    #[arg(long, value_name = "FILE")]
    voucher: Option<String>,
    /// The device's private key, to decrypt what is encrypted to it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The conveyed information came from a bootstrap server that the device trusts.
    #[arg(long)]
    trusted_source: bool,
    /// Read one JSON object a line from standard input (`id`, `file` and these options as
    /// members) and write one verdict a line. Options given here hold for every line. Exits 0
    /// only if all are valid.
    #[arg(long)]
    batch: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    fn case(&self) -> Case {
        Case {
            file: self.file.clone(),
            kind: self.kind.clone(),
            anchors: Names(self.anchors.clone()),
            intermediates: Names(self.intermediates.clone()),
            crl: Names(self.crl.clone()),
            at: self.at.clone(),
            no_clock: self.no_clock.then_some(true),
            lenient: self.lenient.then_some(true),
            tolerate: Names(self.tolerate.clone()),
            serial: self.serial.clone(),
            nonce: self.nonce.clone(),
            idevid: self.idevid.clone(),
            domain: Names(self.domain.clone()),
            request: self.request.clone(),
            peer: Names(self.peer.clone()),
            registrar: Names(self.registrar.clone()),
            owner_certificate: self.owner_certificate.clone(),
            voucher: self.voucher.clone(),
            key: self.key.clone(),
            trusted_source: self.trusted_source.then_some(true),
        }
    }
}

/// Prints the verdict as JSON on stdout; without `--json` also as a list on stderr.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let clock = Clock::system();
    let defaults = arguments.case();
    if arguments.batch {
        return batch::run(Case::MEMBERS, |case: Case| {
            let verdict = judge::judge(&case.or(&defaults), &clock)?;
            Ok((verdict.members, verdict.outcome))
        });
    }
    match judge::judge(&defaults, &clock) {
        Ok(verdict) => {
            print(arguments.format, &Value::Object(verdict.members));
            verdict.outcome
        }
        Err(problem) => arguments.format.error(&problem),
    }
}

/// A verdict: the JSON is the contract, so it is there with and without `--json`.
pub(super) fn print(format: Format, verdict: &Value) {
    if !format.json {
        // Nothing can be done if stderr is closed.
        let _ = write!(std::io::stderr(), "{}", text::verdict(verdict));
    }
    format.print(verdict, Value::to_string);
}
