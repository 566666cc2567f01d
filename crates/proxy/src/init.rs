//! `usher proxy init`: a configuration to start from. A proxy has no keys and no database.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::{Config, Error};

/// What [`init`] writes.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The folder; it is made if it is not there.
    pub directory: PathBuf,
    /// Interfaces at which pledges are helped.
    pub interfaces: Vec<String>,
    /// Addresses at which pledges are helped.
    pub addresses: Vec<std::net::IpAddr>,
    /// Registrars' ports for JPY, for CoAP over DTLS and for HTTPS.
    pub jpy: Vec<String>,
    /// See `jpy`.
    pub coaps: Vec<String>,
    /// See `jpy`.
    pub https: Vec<String>,
    /// Where operators connect.
    pub admin: std::net::SocketAddr,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    /// The configuration.
    pub config: PathBuf,
}

/// Writes the configuration; one that is there stays as it is.
///
/// # Errors
/// What was asked for makes no sense, or the file is there or cannot be written.
pub fn init(options: &InitOptions) -> Result<Initialised, Error> {
    let text = text(options);
    // Nothing is written that would not be read.
    Config::parse(&text)?;
    let directory = &options.directory;
    std::fs::create_dir_all(directory).map_err(|source| Error::file(directory, source))?;
    let config = directory.join("proxy.toml");
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&config)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Error::file(&config, source))?;
    Ok(Initialised { config })
}

fn text(options: &InitOptions) -> String {
    let mut text = String::from("# Made by `usher proxy init`. All settings: docs/proxy.md\n");
    let list = |items: &[String]| {
        let items: Vec<String> = items
            .iter()
            .map(|item| serde_json::Value::from(item.as_str()).to_string())
            .collect();
        format!("[{}]", items.join(", "))
    };
    let addresses: Vec<String> = options.addresses.iter().map(ToString::to_string).collect();
    text.push_str("\n[pledges]\n");
    // Writing into a string does not fail.
    let _ = writeln!(text, "interfaces = {}", list(&options.interfaces));
    if !addresses.is_empty() {
        let _ = writeln!(text, "addresses = {}", list(&addresses));
    }
    text.push_str("\n[registrar]\n");
    for (name, places) in [
        ("jpy", &options.jpy),
        ("coaps", &options.coaps),
        ("https", &options.https),
    ] {
        if !places.is_empty() {
            let _ = writeln!(text, "{name} = {}", list(places));
        }
    }
    if options.jpy.is_empty() && options.coaps.is_empty() {
        text.push_str("# No port for CoAP is named, so registrars are asked for by multicast.\n");
        text.push_str("discover = [\"coap\"]\n");
    }
    let _ = writeln!(text, "\n[admin]\naddress = \"{}\"", options.admin);
    text
}
