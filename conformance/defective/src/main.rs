//! The roles of `usher` with the same command line, and with the one defect that the environment
//! variable `USHER_DEFECT` names; without it they are as they should be.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// Linked for its feature.
use defects as _;

#[derive(Debug, Parser)]
#[command(name = "usher-defective", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The bootstrap server.
    Bootstrap(bootstrap::cli::Command),
    /// The reference device.
    #[command(subcommand)]
    Device(device::cli::Command),
    /// The MASA.
    Masa(masa::cli::Command),
    /// The join proxy.
    Proxy(proxy::cli::Command),
    /// The registrar.
    Registrar(registrar::cli::Command),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Bootstrap(command) => command.run(),
        Command::Device(command) => command.run(),
        Command::Masa(command) => command.run(),
        Command::Proxy(command) => command.run(),
        Command::Registrar(command) => command.run(),
    };
    outcome.into()
}
