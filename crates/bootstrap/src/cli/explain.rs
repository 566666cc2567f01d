//! `usher bootstrap explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use daemon::Outcome;
use pki::Certificate;

use super::{Context, with_store};
use crate::Error;
use crate::content::explain::{Question, explain, parse_nonce};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EncodingName {
    Json,
    Xml,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// Serial number, or VENDOR/SERIAL.
    serial: String,
    /// The manufacturer.
    #[arg(long)]
    vendor: Option<String>,
    /// hw-model, as the device would send it.
    #[arg(long)]
    hw_model: Option<String>,
    /// os-name, as the device would send it.
    #[arg(long)]
    os_name: Option<String>,
    /// os-version, as the device would send it.
    #[arg(long)]
    os_version: Option<String>,
    /// As if the device asked for signed data, because it does not trust this server.
    #[arg(long)]
    signed: bool,
    /// The nonce of the device, in base64 or hexadecimal.
    #[arg(long, value_name = "NONCE", value_parser = parse_nonce_argument)]
    nonce: Option<Octets>,
    /// The encoding of the request.
    #[arg(long, value_enum)]
    encoding: Option<EncodingName>,
    /// The device's certificate, for rules that encrypt.
    #[arg(long, value_name = "FILE")]
    idevid: Option<PathBuf>,
    /// Write the artefacts and the reply into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A list of octets that clap does not take for a list of arguments.
#[derive(Clone, Debug)]
struct Octets(Vec<u8>);

fn parse_nonce_argument(text: &str) -> Result<Octets, String> {
    parse_nonce(text).map(Octets)
}

pub(super) async fn run(context: &Context, arguments: &ExplainArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let identity = match &arguments.idevid {
        Some(path) => Some(Certificate::load(path).map_err(|error| Error::malformed(path, error))?),
        None => None,
    };
    let question = Question {
        vendor: arguments.vendor.clone(),
        hw_model: arguments.hw_model.clone(),
        os_name: arguments.os_name.clone(),
        os_version: arguments.os_version.clone(),
        signed: arguments.signed,
        nonce: arguments.nonce.as_ref().map(|nonce| nonce.0.clone()),
        encoding: arguments.encoding.map(|name| match name {
            EncodingName::Json => artifacts::Encoding::Json,
            EncodingName::Xml => artifacts::Encoding::Xml,
        }),
        identity,
    };
    with_store(context, async |config, store| {
        let explanation = explain(config, store, &arguments.serial, &question, now).await?;
        if let Some(folder) = &arguments.out {
            std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
            for (name, octets) in explanation.files() {
                let path = folder.join(name);
                std::fs::write(&path, octets).map_err(|error| Error::file(&path, error))?;
            }
        }
        context.format.print(&explanation, |e| e.text());
        Ok(Outcome::of(explanation.ok))
    })
    .await
}
