//! `usher bootstrap …`.
//!
//! Commands that manage work on the database and the files of the configuration, so they work
//! with the server up or down.

mod serve;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
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
    /// Serve devices until told to stop.
    Serve(serve::ServeArguments),
    /// Bring the schema of the database up to date.
    Migrate,
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
        if let Some(file) = &self.config {
            return Ok(file.clone());
        }
        ["bootstrap.toml", "/etc/usher/bootstrap.toml"]
            .into_iter()
            .map(Path::new)
            .find(|path| path.is_file())
            .map(Path::to_path_buf)
            .ok_or_else(|| {
                Error::Usage(
                    "there is no bootstrap.toml here or in /etc/usher; name one with --config, or \
                     make one with `usher bootstrap init`"
                        .to_owned(),
                )
            })
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
        let runtime = match tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return self.format.problem("config.runtime", &error.to_string()),
        };
        runtime.block_on(self.run_async(Clock::system()))
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
                    | Error::ImportRefused { .. } => Outcome::No,
                    _ => outcome,
                }
            }
        }
    }

    async fn dispatch(&self, context: &Context) -> Result<Outcome, Error> {
        match &self.action {
            Action::Serve(arguments) => serve::serve(context, arguments).await,
            Action::Migrate => serve::migrate(context).await,
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
