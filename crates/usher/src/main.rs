//! The one binary: every role, the artefact tools, and the demo.

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Run the whole thing on loopback: real servers, a fresh PKI, devices that enrol, and
    /// attackers that do not.
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
    };
    outcome.into()
}
