//! `usher bootstrap …`.
//!
//! Commands that manage work on the database and the files of the configuration, so they work
//! with the server up or down.

mod apply;
mod audit;
mod devices;
mod doctor;
pub(crate) mod example;
mod explain;
mod export;
mod lifecycle;
mod owner;
mod preflight;
mod rollout;
mod serve;
mod setup;
mod show;
mod trust;
mod usb;
mod vouchers;

use std::path::PathBuf;

use clap::{Args, Subcommand};
pub(crate) use daemon::cli::text;
use daemon::config::Flags;
use daemon::{Clock, Format, Outcome};
use store::Store;

use crate::{Config, Error, SCHEMA};

/// How long the transaction of a command may take: a big import is one.
const TRANSACTION_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(3600);

/// `usher bootstrap`: the bootstrap server of a network, or the redirect server of a manufacturer.
#[derive(Debug, Args)]
pub struct Command {
    /// The configuration; without it `bootstrap.toml` here or in /etc/usher.
    #[arg(
        long,
        short,
        global = true,
        env = "USHER_BOOTSTRAP_CONFIG",
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
    /// Make a folder with a configuration, the owner's CA and certificate, server certificates, a
    /// database, and an example of content.
    Init(setup::InitArguments),
    /// Serve devices until told to stop.
    Serve(serve::ServeArguments),
    /// Bring the schema of the database up to date.
    Migrate,
    /// Look for what is wrong, and say what to do about it.
    Doctor,
    /// The owner certificate: show, install, csr, renew; and the list of owners.
    #[command(subcommand)]
    Owner(owner::OwnerCommand),
    /// Trust anchors of manufacturers.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Devices: import, list, show, set, export.
    #[command(subcommand)]
    Devices(devices::DevicesCommand),
    /// Ownership vouchers: the list for the manufacturer out, vouchers in.
    #[command(subcommand)]
    Vouchers(vouchers::VouchersCommand),
    /// Look at everything that a device needs before it is powered on.
    Preflight(preflight::PreflightArguments),
    /// Check a content folder whole and serve it as a new revision.
    Apply(apply::ApplyArguments),
    /// Check a content folder, or what is served, against the devices of the register.
    Check(apply::CheckArguments),
    /// The revisions of the content, newest first.
    History(apply::HistoryArguments),
    /// Serve what an old revision said again.
    Rollback(apply::RollbackArguments),
    /// What a revision says.
    Show(apply::ShowArguments),
    /// What a device would be given, by which rule, and what it would make of it.
    Explain(explain::ExplainArguments),
    /// Staged rollouts: start, status, pause, resume, abort, finish.
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Bootstrapping data on removable storage.
    #[command(subcommand)]
    Usb(usb::UsbCommand),
    /// Put a new device in the place of an old one.
    Replace(lifecycle::ReplaceArguments),
    /// Give a device up: it gets nothing any more.
    Release(lifecycle::ReleaseArguments),
    /// Give a device to another owner: it gets nothing here any more.
    Transfer(lifecycle::TransferArguments),
    /// The audit log: list, verify, prove, check, export.
    #[command(subcommand)]
    Audit(daemon::audit::AuditCommand),
    /// Device-type profiles: list, show, check.
    #[command(subcommand)]
    Profiles(crate::profile::cli::ProfilesCommand),
    /// Events and where they go: list, replay, discard, test.
    #[command(subcommand)]
    Events(crate::events::cli::EventsCommand),
    /// Hand devices that are up over to what manages them.
    #[command(subcommand)]
    Handover(crate::handover::cli::HandoverCommand),
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
        Ok(daemon::cli::config_file(
            self.config.as_deref(),
            "bootstrap",
        )?)
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
                    Error::NotFound { .. }
                    | Error::Ambiguous { .. }
                    | Error::Exists { .. }
                    | Error::Content(_)
                    | Error::Rollout(_)
                    | Error::ImportRefused { .. } => Outcome::No,
                    _ => outcome,
                }
            }
        }
    }

    async fn dispatch(&self, context: &Context) -> Result<Outcome, Error> {
        // Each on the heap: together they would be too much for a thread's stack.
        match &self.action {
            Action::Init(arguments) => Box::pin(setup::run(context, arguments)).await,
            Action::Serve(arguments) => Box::pin(serve::serve(context, arguments)).await,
            Action::Migrate => Box::pin(serve::migrate(context)).await,
            Action::Doctor => Box::pin(doctor::run(context)).await,
            Action::Owner(command) => Box::pin(owner::run(context, command)).await,
            Action::Trust(command) => Box::pin(trust::run(context, command)).await,
            Action::Devices(command) => Box::pin(devices::run(context, command)).await,
            Action::Vouchers(command) => Box::pin(vouchers::run(context, command)).await,
            Action::Preflight(arguments) => Box::pin(preflight::run(context, arguments)).await,
            Action::Apply(arguments) => Box::pin(apply::run_apply(context, arguments)).await,
            Action::Check(arguments) => Box::pin(apply::run_check(context, arguments)).await,
            Action::History(arguments) => Box::pin(apply::run_history(context, arguments)).await,
            Action::Rollback(arguments) => Box::pin(apply::run_rollback(context, arguments)).await,
            Action::Show(arguments) => Box::pin(apply::run_show(context, arguments)).await,
            Action::Explain(arguments) => Box::pin(explain::run(context, arguments)).await,
            Action::Rollout(command) => Box::pin(rollout::run(context, command)).await,
            Action::Usb(command) => Box::pin(usb::run(context, command)).await,
            Action::Replace(arguments) => {
                Box::pin(lifecycle::run_replace(context, arguments)).await
            }
            Action::Release(arguments) => {
                Box::pin(lifecycle::run_release(context, arguments)).await
            }
            Action::Transfer(arguments) => {
                Box::pin(lifecycle::run_transfer(context, arguments)).await
            }
            Action::Audit(command) => Box::pin(audit::run(context, command)).await,
            Action::Profiles(command) => {
                // Whoever only wants to read about them needs no configuration.
                let folder = match context.config_file() {
                    Ok(_) => {
                        let config = context.config(&Flags::new())?;
                        let folder = config.profiles.directory.as_deref();
                        folder.map(|folder| config.resolve(folder))
                    }
                    Err(_) => None,
                };
                Ok(command.run(context.format, folder.as_deref())?)
            }
            Action::Events(command) => {
                with_store(context, async |config, store| {
                    command
                        .run(context.format, config, store, &context.clock)
                        .await
                })
                .await
            }
            Action::Handover(command) => {
                let file = context.config_file()?;
                with_store(context, async |_, store| {
                    command
                        .run(context.format, &file, store, context.clock.now())
                        .await
                })
                .await
            }
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
