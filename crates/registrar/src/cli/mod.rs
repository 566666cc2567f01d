//! `usher registrar …`.
//!
//! Commands that manage work on the database and the files of the configuration, so they work
//! with the server up or down.

mod audit;
mod device;
mod doctor;
mod import;
mod init;
mod trust;
mod voucher;

use std::path::PathBuf;

use clap::{Args, Subcommand};
pub(crate) use daemon::cli::{plain, table};
use daemon::config::Flags;
use daemon::{Clock, Format, Outcome};
use store::Store;

use crate::{Config, Error};

/// How long the transaction of a command may take.
const IMPORT_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(3600);

/// `usher registrar`: the registrar of a network.
#[derive(Debug, Args)]
pub struct Command {
    /// The configuration; without it `registrar.toml` here or in /etc/usher.
    #[arg(
        long,
        short,
        global = true,
        env = "USHER_REGISTRAR_CONFIG",
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
    /// Make a folder with a configuration, a domain CA, the registrar's keys and a database.
    Init(init::Arguments),
    /// Serve devices until told to stop.
    Serve(ServeArguments),
    /// Bring the schema of the database up to date.
    Migrate,
    /// Look for what is wrong, and say what to do about it.
    Doctor,
    /// Devices: list, show, approve, deny, import.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Vouchers that are loaded beforehand, for networks without a way to the MASA.
    #[command(subcommand)]
    Voucher(voucher::VoucherCommand),
    /// Trust anchors of manufacturers.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Certificates that were issued to devices.
    #[command(subcommand)]
    Cert(crate::ca::CertCommand),
    /// Users that may enrol over EST without BRSKI; the password is read from standard input.
    EstUser(crate::est::UserCommand),
    /// The audit log: list, verify, prove, check, export.
    #[command(subcommand)]
    Audit(daemon::audit::AuditCommand),
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// Listen for devices here instead of what the configuration says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Listen for operators here instead of what the configuration says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

/// What a command works with.
pub(crate) struct Context {
    format: Format,
    config: Option<PathBuf>,
    clock: Clock,
}

impl Context {
    /// Reads the configuration.
    fn config(&self, flags: &Flags) -> Result<Config, Error> {
        Config::load(&self.config_file()?, flags)
    }

    fn config_file(&self) -> Result<PathBuf, Error> {
        Ok(daemon::cli::config_file(
            self.config.as_deref(),
            "registrar",
        )?)
    }

    /// Opens the configuration and its database.
    async fn open(&self) -> Result<(Config, Store), Error> {
        let config = self.config(&Flags::new())?;
        // A big import is one transaction, however long it takes.
        let options = store::Options {
            closure_time_max: IMPORT_TIME_MAX,
            ..Default::default()
        };
        let store =
            Store::open_with(&config.database.url, &crate::schema::SCHEMA, &options).await?;
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
        let result = self.dispatch(&context).await;
        // The command ran, and the answer is no.
        if let Err(
            error @ (Error::DeviceUnknown { .. }
            | Error::DeviceAmbiguous { .. }
            | Error::Import { .. }
            | Error::Untrusted { .. }),
        ) = &result
        {
            self.format.error(error);
            return Outcome::No;
        }
        daemon::cli::finish(self.format, result)
    }

    async fn dispatch(&self, context: &Context) -> Result<Outcome, Error> {
        match &self.action {
            Action::Init(arguments) => init::run(context, arguments).await,
            Action::Serve(arguments) => serve(context, arguments).await,
            Action::Migrate => migrate(context).await,
            Action::Doctor => doctor::run(context).await,
            Action::Device(command) => device::run(context, command).await,
            Action::Voucher(command) => voucher::run(context, command).await,
            Action::Trust(command) => trust::run(context, command).await,
            Action::Cert(command) => {
                let (config, store) = context.open().await?;
                command
                    .run(&config, &store, context.clock.now(), context.format)
                    .await
            }
            Action::EstUser(command) => {
                let config = context.config(&Flags::new())?;
                command.run(&config, &mut std::io::stdin().lock(), context.format)
            }
            Action::Audit(command) => audit::run(context, command).await,
        }
    }
}

async fn serve(context: &Context, arguments: &ServeArguments) -> Result<Outcome, Error> {
    let flags = Flags::new()
        .set("listen.address", arguments.listen.as_ref())?
        .set("admin.address", arguments.admin.as_ref())?;
    let config = context.config(&flags)?;
    daemon::logging::init(&config.log)?;
    let running = crate::serve(config, context.clock.clone()).await?;
    let service = running.service().clone();
    daemon::signals::until_stopped(running.shutdown().clone(), move || {
        if let Err(error) = service.reload() {
            tracing::error!(%error, "reload failed; the old state stays");
        }
    })
    .await?;
    running.stop().await;
    Ok(Outcome::Yes)
}

async fn migrate(context: &Context) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let (schema, now) = (&crate::schema::SCHEMA, context.clock.now());
    let applied = Store::migrate(&config.database.url, schema, now).await?;
    Ok(daemon::cli::migrated(context.format, &applied))
}
