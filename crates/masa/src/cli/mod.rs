//! `usher masa …`.
//!
//! Commands that manage work on the database and the files of the configuration, so they work
//! with the server up or down.

mod audit;
mod device;
mod doctor;
mod owner;
mod setup;
mod voucher;

use std::path::PathBuf;

use clap::{Args, Subcommand};
pub(crate) use daemon::cli::table;
use daemon::config::Flags;
use daemon::{Clock, Format, Outcome};
use store::Store;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Config, Error, SCHEMA};

/// How long the transaction of a command may take: a big import is one.
const TRANSACTION_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(3600);

/// `usher masa`: the MASA of a manufacturer.
#[derive(Debug, Args)]
pub struct Command {
    /// The configuration; without it `masa.toml` here or in /etc/usher.
    #[arg(
        long,
        short,
        global = true,
        env = "USHER_MASA_CONFIG",
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a folder with a configuration, keys, certificates and a database.
    Init(setup::InitArguments),
    /// Serve registrars until told to stop.
    Serve(setup::ServeArguments),
    /// Bring the schema of the database up to date.
    Migrate,
    /// Look for what is wrong, and say what to do about it.
    Doctor,
    /// Devices: import, list, show, block, transfer, release.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Owners, who buy devices: add, list, show, block.
    #[command(subcommand)]
    Owner(owner::OwnerCommand),
    /// Vouchers: issue in batches, list, show, export.
    #[command(subcommand)]
    Voucher(voucher::VoucherCommand),
    /// The audit log: list, verify, prove, check, export.
    #[command(subcommand)]
    Audit(daemon::audit::AuditCommand),
    /// The timeline: every request and what came of it, newest first.
    Events(device::EventsArguments),
}

/// What a command works with.
pub(crate) struct Context {
    pub(crate) format: Format,
    config: Option<PathBuf>,
    pub(crate) clock: Clock,
}

impl Context {
    pub(crate) fn config(&self, flags: &Flags) -> Result<Config, Error> {
        Config::load(&self.config_file()?, flags)
    }

    pub(crate) fn config_file(&self) -> Result<PathBuf, Error> {
        Ok(daemon::cli::config_file(self.config.as_deref(), "masa")?)
    }

    /// Opens the configuration and its database.
    pub(crate) async fn open(&self) -> Result<(Config, Store), Error> {
        let config = self.config(&Flags::new())?;
        let options = store::Options {
            closure_time_max: TRANSACTION_TIME_MAX,
            connections_max: config.database.connections_max,
            ..store::Options::default()
        };
        let store = Store::open_with(&config.database.url, &SCHEMA, &options).await?;
        Ok((config, store))
    }
}

impl Command {
    /// Runs the command and says how it ended.
    #[must_use]
    pub fn run(&self) -> Outcome {
        daemon::cli::block_on(self.format, self.run_async(Clock::system()))
    }

    /// [`Command::run`] inside a runtime, with a clock of the caller's.
    pub async fn run_async(&self, clock: Clock) -> Outcome {
        let context = Context {
            format: self.format,
            config: self.config.clone(),
            clock,
        };
        match self.dispatch(&context).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let outcome = self.format.error(&error);
                match error {
                    // A clear no is another exit code than a command that could not run.
                    Error::Refused(_)
                    | Error::NotFound { .. }
                    | Error::Ambiguous { .. }
                    | Error::Exists { .. }
                    | Error::ImportRefused { .. } => Outcome::No,
                    _ => outcome,
                }
            }
        }
    }

    async fn dispatch(&self, context: &Context) -> Result<Outcome, Error> {
        match &self.action {
            Action::Init(arguments) => setup::init(context, arguments).await,
            Action::Serve(arguments) => setup::serve(context, arguments).await,
            Action::Migrate => setup::migrate(context).await,
            Action::Doctor => doctor::run(context).await,
            Action::Device(command) => device::run(context, command).await,
            Action::Owner(command) => owner::run(context, command).await,
            Action::Voucher(command) => voucher::run(context, command).await,
            Action::Audit(command) => audit::run(context, command).await,
            Action::Events(arguments) => device::events(context, arguments).await,
        }
    }
}

/// Runs work on the database and closes it in every case.
pub(crate) async fn with_store<T>(
    context: &Context,
    work: impl AsyncFnOnce(&Config, &Store) -> Result<T, Error>,
) -> Result<T, Error> {
    let (config, store) = context.open().await?;
    let result = work(&config, &store).await;
    store.close().await;
    result
}

/// An issuer key id on the command line.
pub(crate) fn issuer(text: Option<&String>) -> Result<Option<Vec<u8>>, Error> {
    text.map(|text| {
        hex::decode(text.replace(':', ""))
            .map_err(|_| Error::Usage(format!("the issuer {text:?} is not hexadecimal")))
    })
    .transpose()
}

/// A time for people.
pub(crate) fn show(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}
