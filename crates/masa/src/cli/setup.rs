//! `init`, `serve`, `migrate`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use daemon::Outcome;
use daemon::config::Flags;
use pki::KeyKind;
use store::Store;

use super::Context;
use crate::{Error, InitOptions, SCHEMA};

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The folder to make.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The manufacturer, in the subjects of the certificates.
    #[arg(long, default_value = "Usher Manufacturer")]
    manufacturer: String,
    /// DNS names and addresses of this MASA; the first one is in the IDevIDs.
    #[arg(long = "name", value_name = "HOST", default_value = "localhost")]
    names: Vec<String>,
    /// Where registrars connect.
    #[arg(long, default_value = "[::]:9443")]
    listen: SocketAddr,
    /// Where operators connect.
    #[arg(long, default_value = "127.0.0.1:9444")]
    admin: SocketAddr,
    /// The database: `sqlite:FILE` or `postgres://…`.
    #[arg(long, value_name = "URL", default_value = "sqlite:masa.db")]
    database: String,
    /// The kind of the voucher keys.
    #[arg(long, value_enum, default_value = "p256")]
    key: Kind,
    /// The kind of the TLS server's key.
    #[arg(long, value_enum, default_value = "p256")]
    tls_key: Kind,
    /// PEM file with a CA of the devices; repeat it. Without it a device CA is made for trials.
    #[arg(long = "device-ca", value_name = "FILE")]
    device_anchors: Vec<PathBuf>,
    /// Encrypt the keys with the passphrase in this file. Without it they are readable by their
    /// owner only.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Name of the audit log, like a URL without a scheme.
    #[arg(long, value_name = "NAME")]
    audit_origin: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa3072,
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::EcdsaP256,
            Kind::P384 => Self::EcdsaP384,
            Kind::P521 => Self::EcdsaP521,
            Kind::Ed25519 => Self::Ed25519,
            Kind::Rsa3072 => Self::Rsa3072,
            Kind::MlDsa44 => Self::MlDsa44,
            Kind::MlDsa65 => Self::MlDsa65,
            Kind::MlDsa87 => Self::MlDsa87,
        }
    }
}

pub(super) async fn init(context: &Context, arguments: &InitArguments) -> Result<Outcome, Error> {
    let options = InitOptions {
        directory: arguments.dir.clone(),
        manufacturer: arguments.manufacturer.clone(),
        names: arguments.names.clone(),
        listen: arguments.listen,
        admin: arguments.admin,
        database: arguments.database.clone(),
        key: arguments.key.into(),
        tls_key: arguments.tls_key.into(),
        device_anchors: arguments.device_anchors.clone(),
        passphrase_file: arguments.passphrase_file.clone(),
        audit_origin: arguments.audit_origin.clone(),
    };
    let made = crate::init(&options, context.clock.now()).await?;
    context.format.print(&made, |made| {
        format!(
            "made {folder}\n\n\
             MASA CA    {ca}\n           sha256 {hash}\n           \
             goes into the firmware of each device\n\
             audit key  {audit}\n           give it to whoever shall verify the audit log\n\n\
             next:\n  usher masa --config {config} owner add ID --certificate CA.pem\n  \
             usher masa --config {config} device import devices.csv\n  \
             usher masa --config {config} doctor\n  \
             usher masa --config {config} serve",
            folder = made.config.parent().unwrap_or(&made.config).display(),
            ca = made.masa_ca.display(),
            hash = made.masa_ca_sha256,
            audit = made.audit_key,
            config = made.config.display(),
        )
    });
    Ok(Outcome::Yes)
}

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Listen for registrars here instead of what the configuration says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Listen for operators here instead of what the configuration says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

pub(super) async fn serve(context: &Context, arguments: &ServeArguments) -> Result<Outcome, Error> {
    let flags = Flags::new()
        .set("listen.address", arguments.listen.as_ref())?
        .set("admin.address", arguments.admin.as_ref())?;
    let config = context.config(&flags)?;
    daemon::logging::init(&config.log)?;
    let running = crate::serve(config, context.clock.clone()).await?;
    let reload = running.reloader(context.config_file()?);
    daemon::signals::until_stopped(running.shutdown(), reload).await?;
    running.stop().await;
    Ok(Outcome::Yes)
}

pub(super) async fn migrate(context: &Context) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let applied = Store::migrate(&config.database.url, &SCHEMA, context.clock.now()).await?;
    Ok(daemon::cli::migrated(context.format, &applied))
}
