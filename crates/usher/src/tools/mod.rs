//! The artefact tools: look into any signed document of onboarding, judge it as a pledge, a
//! registrar or a MASA would, validate a certificate's path, say what identity a device has.
//!
//! They use the same code as the servers, so their verdict is the servers' verdict.

mod batch;
mod case;
mod cert;
mod constrained;
mod conveyed;
mod describe;
mod dhcp;
mod dns;
mod input;
mod inspect;
mod judge;
mod respond;
mod sniff;
mod text;
mod verify;
mod whois;

use clap::Subcommand;
use daemon::Outcome;

/// `usher artifact …`
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Decode any voucher, request, conveyed information, CSR, certificate, CRL, audit log or
    /// telemetry, in any encoding, and say what is odd about it. Nothing is verified.
    Inspect(inspect::Arguments),
    /// Judge a voucher or request (or CSR, certificate, audit log, telemetry) as the servers do,
    /// and bootstrapping data as a device does.
    Verify(Box<verify::Arguments>),
}

impl ArtifactCommand {
    /// Runs the command.
    pub(crate) fn run(&self) -> Outcome {
        match self {
            Self::Inspect(arguments) => inspect::run(arguments),
            Self::Verify(arguments) => verify::run(arguments),
        }
    }
}

/// `usher cert …`
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Validate the path from a certificate to an anchor, as the servers do.
    Verify(cert::Arguments),
}

impl CertCommand {
    /// Runs the command.
    pub(crate) fn run(&self) -> Outcome {
        match self {
            Self::Verify(arguments) => cert::run(arguments),
        }
    }
}

pub(crate) use self::dhcp::DhcpCommand;
pub(crate) use self::dns::DnsCommand;
pub(crate) use self::whois::{Arguments as WhoisArguments, run as whois};
