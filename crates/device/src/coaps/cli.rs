//! `usher device coaps`.

use std::{net::SocketAddr, time::Duration};

use ::brski::pledge::Procedure;
use artifacts::Envelope;
use clap::{Args, ValueEnum};
use coap::format;
use daemon::Outcome;
use net::dtls::Suite;
use pki::Certificate;
use serde_json::json;
use url::Url;

use super::{Config, SILENCE_MAX, discover, generate, origin_of, renew, run};
use crate::{Error, cli::DeviceArguments};

/// Arguments of `usher device coaps`.
#[derive(Debug, Args)]
pub struct CoapsArguments {
    /// A registrar, coaps://host:port; several are tried in turn.
    #[arg(long, value_name = "URL", required_unless_present_any = ["proxy", "discover"])]
    registrar: Vec<Url>,
    /// The join port of a join proxy, tried before the registrars. A link-local address names its
    /// interface: [fe80::1%eth0]:8485.
    #[arg(long, value_name = "ADDRESS:PORT")]
    proxy: Vec<SocketAddr>,
    /// Ask on this interface who offers join proxies.
    #[arg(long, value_name = "INTERFACE")]
    discover: Option<String>,
    /// How long to collect answers to that. They may take 5 seconds, over which CoAP spreads them.
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    discover_seconds: u64,
    /// Little memory: records of 512 bytes, blocks of 256, one exchange at a time.
    #[arg(long)]
    small: bool,
    /// Cipher suites to offer, the best first.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [SuiteName::Ccm8, SuiteName::Gcm])]
    suite: Vec<SuiteName>,
    /// Send paths as numbers (Uri-Path-Abbrev).
    #[arg(long)]
    abbreviated: bool,
    /// Ask for certificates in a PKCS#7 bag instead of bare.
    #[arg(long)]
    bags: bool,
    /// In the steps of RFC 8995, with CSR attributes and CA certificates in any case.
    #[arg(long)]
    full: bool,
    /// Let the registrar make a key for an enrolled device, and take it with its certificate.
    #[arg(long, requires = "state", conflicts_with = "renew")]
    generate: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SuiteName {
    Ccm8,
    Ccm,
    Gcm,
}

impl CoapsArguments {
    pub(crate) fn run(&self) -> Outcome {
        self.device.run(|| self.command())
    }

    async fn command(&self) -> Result<Outcome, Error> {
        let config = self.config().await?;
        let device = &self.device;
        if self.generate {
            let made = generate(&config, !self.bags).await?;
            let certificate = made.identity.certificate();
            let document = json!({
                "ok": true,
                "state": "generated",
                "certificate": certificate.map(Certificate::subject),
                "steps": made.steps,
            });
            device.output.print(&document, |_| {
                let subject = certificate.map(Certificate::subject).unwrap_or_default();
                format!("the registrar made a key for {subject}")
            });
            return Ok(Outcome::Yes);
        }
        if device.renew {
            if device.not_due(&config.device)? {
                return Ok(Outcome::Yes);
            }
            return Ok(device.renewed(&renew(&config).await?));
        }
        let mut trace = Vec::new();
        let outcome = run(&config, &mut |event| device.watch(event, &mut trace)).await?;
        device.ran(&outcome, trace)
    }

    async fn config(&self) -> Result<Config, Error> {
        let mut proxies = self.proxy.clone();
        if let Some(interface) = &self.discover {
            let wait = Duration::from_secs(self.discover_seconds);
            let found = discover(interface, wait).await?;
            if found.is_empty() && proxies.is_empty() && self.registrar.is_empty() {
                return Err(Error::NoAnswer {
                    what: format!("the question for join proxies on {interface}"),
                    reason: "nobody offers one".to_owned(),
                });
            }
            proxies.extend(found);
        }
        let mut addresses = Vec::new();
        for address in proxies {
            let origin = origin_of(address)
                .ok_or_else(|| Error::Config(format!("{address} cannot be an origin")))?;
            addresses.push((origin, address));
        }
        let mut origins: Vec<Url> = addresses.iter().map(|(origin, _)| origin.clone()).collect();
        for url in &self.registrar {
            if url.scheme() != "coaps" || url.host().is_none() {
                return Err(Error::Config(format!("{url} is not a coaps address")));
            }
            // What stands below the origin is said by the standard.
            let mut origin = url.clone();
            origin.set_path("/");
            origin.set_query(None);
            origin.set_fragment(None);
            origins.push(origin);
        }
        let mut device = self.device.config(origins)?;
        device.envelope = Envelope::Cose;
        device.procedure = if self.full {
            Procedure::Full
        } else {
            Procedure::Constrained
        };
        let suite = |name: &SuiteName| match name {
            SuiteName::Ccm8 => Suite::EcdheEcdsaAes128Ccm8,
            SuiteName::Ccm => Suite::EcdheEcdsaAes128Ccm,
            SuiteName::Gcm => Suite::EcdheEcdsaAes128Gcm,
        };
        let (certificate_format, ca_format) = if self.bags {
            (format::PKCS7_CERTS_ONLY, format::PKCS7_CERTS_ONLY)
        } else {
            (format::PKIX_CERT, format::MULTIPART_CORE)
        };
        Ok(Config {
            device,
            addresses,
            suites: self.suite.iter().map(suite).collect(),
            small: self.small,
            abbreviated: self.abbreviated,
            certificate_format,
            ca_format,
            silence_max: SILENCE_MAX,
            coap: coap::Config::default(),
        })
    }
}
