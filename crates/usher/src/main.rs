//! The one binary: every role, the artefact tools, and the demo.

mod demo;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// An environment variable that switches checks off has no place in here, whatever else is built
// together with this program.
const _: () = assert!(
    !defects::CAN_BE_ON,
    "usher must not be built with `defects/on`, as `--workspace --all-features` would do"
);

/// Zero-touch provisioning: new devices get onto their owner's network without anybody touching
/// them.
#[derive(Debug, Parser)]
#[command(name = "usher", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look into and judge signed artefacts: vouchers, requests, CSRs, certificates, logs.
    #[command(subcommand)]
    Artifact(tools::ArtifactCommand),
    /// The bootstrap server of a network, or the redirect server of a manufacturer.
    Bootstrap(bootstrap::cli::Command),
    /// Validate certificates.
    #[command(subcommand)]
    Cert(tools::CertCommand),
    /// Run the whole thing on loopback: real servers, a fresh PKI, devices that enrol, and
    /// attackers that do not.
    Demo(demo::Arguments),
    /// The reference device.
    #[command(subcommand)]
    Device(device::cli::Command),
    /// The DHCP options that lead devices to a bootstrap server.
    #[command(subcommand)]
    Dhcp(tools::DhcpCommand),
    /// The DNS records that lead devices to their bootstrapping data.
    #[command(subcommand)]
    Dns(tools::DnsCommand),
    /// The MASA of a manufacturer.
    Masa(masa::cli::Command),
    /// The join proxy: helps devices that have no address yet to their registrar.
    Proxy(proxy::cli::Command),
    /// The registrar of a network.
    Registrar(registrar::cli::Command),
    /// Say what device identity would be taken from a certificate, and by which rule.
    Whois(tools::WhoisArguments),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Artifact(command) => command.run(),
        Command::Bootstrap(command) => command.run(),
        Command::Cert(command) => command.run(),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Device(command) => command.run(),
        Command::Dhcp(command) => command.run(),
        Command::Dns(command) => command.run(),
        Command::Masa(command) => command.run(),
        Command::Proxy(command) => command.run(),
        Command::Registrar(command) => command.run(),
        Command::Whois(arguments) => tools::whois(&arguments),
    };
    outcome.into()
}
