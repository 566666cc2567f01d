//! `usher bootstrap init`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use daemon::Outcome;
use daemon::config::KeyConfig;
use pki::KeyKind;

use super::Context;
use crate::Error;
use crate::init::{InitOptions, Initialised, init};

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The folder to make.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The same, as the other services' `init` has it.
    #[arg(
        long = "dir",
        id = "dir-option",
        value_name = "DIR",
        conflicts_with = "dir"
    )]
    dir_option: Option<PathBuf>,
    /// The owner, in the subjects of the certificates.
    #[arg(long, default_value = "Usher Owner")]
    owner: String,
    /// DNS names and addresses of this server.
    #[arg(long = "name", value_name = "HOST", default_value = "localhost")]
    names: Vec<String>,
    /// Where devices connect.
    #[arg(long, default_value = "[::]:9543")]
    listen: SocketAddr,
    /// Where operators connect.
    #[arg(long, default_value = "127.0.0.1:9544")]
    admin: SocketAddr,
    /// The database: `sqlite:FILE` or `postgres://…`.
    #[arg(long, value_name = "URL", default_value = "sqlite:bootstrap.db")]
    database: String,
    /// The kind of the keys.
    #[arg(long, value_enum, default_value = "p256")]
    key: Kind,
    /// Make no RSA certificate for the server beside the other.
    #[arg(long)]
    no_rsa: bool,
    /// The owner's CA is elsewhere: write owner.csr and ra.csr for it, to be installed with
    /// `owner install`.
    #[arg(long)]
    owner_csr: bool,
    /// The owner's key is an object in a token: an RFC 7512 URI.
    #[arg(long, value_name = "pkcs11:URI")]
    owner_key: Option<String>,
    /// The PKCS#11 module, unless the URI names it.
    #[arg(long, value_name = "FILE", requires = "owner_key")]
    module: Option<PathBuf>,
    /// File whose first line is the token's PIN.
    #[arg(long, value_name = "FILE", requires = "owner_key")]
    pin_file: Option<PathBuf>,
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
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::EcdsaP256,
            Kind::P384 => Self::EcdsaP384,
            Kind::P521 => Self::EcdsaP521,
            Kind::Ed25519 => Self::Ed25519,
            Kind::Rsa3072 => Self::Rsa3072,
        }
    }
}

pub(super) async fn run(context: &Context, arguments: &InitArguments) -> Result<Outcome, Error> {
    let absolute = |file: &Option<PathBuf>| {
        file.as_ref()
            .map(|file| std::path::absolute(file).map_err(|error| Error::file(file, error)))
            .transpose()
    };
    let owner_key = match &arguments.owner_key {
        Some(key) => Some(KeyConfig {
            key: key.clone(),
            passphrase_file: absolute(&arguments.pin_file)?,
            passphrase_env: None,
            module: absolute(&arguments.module)?,
        }),
        None => None,
    };
    let options = InitOptions {
        directory: arguments
            .dir_option
            .as_ref()
            .unwrap_or(&arguments.dir)
            .clone(),
        owner: arguments.owner.clone(),
        names: arguments.names.clone(),
        listen: arguments.listen,
        admin: arguments.admin,
        database: arguments.database.clone(),
        key: arguments.key.into(),
        rsa: !arguments.no_rsa,
        owner_csr: arguments.owner_csr,
        owner_key,
        passphrase_file: arguments.passphrase_file.clone(),
        audit_origin: arguments.audit_origin.clone(),
    };
    let made = init(&options, context.clock.now()).await?;
    context.format.print(&made, text);
    Ok(Outcome::Yes)
}

fn text(made: &Initialised) -> String {
    let folder = made.config.parent().unwrap_or(&made.config);
    let mut lines = vec![format!("made {}\n", folder.display())];
    if let (Some(ca), Some(hash)) = (&made.owner_ca, &made.owner_ca_sha256) {
        lines.push(format!(
            "owner CA   {}\n           sha256 {hash}\n           vouchers have to pin it: give it \
             to your manufacturers",
            ca.display()
        ));
    }
    for request in &made.requests {
        lines.push(format!(
            "request    {} for the owner's CA",
            request.display()
        ));
    }
    lines.push(format!(
        "server CA  {}\n           sha256 {}",
        made.server_ca.display(),
        made.server_ca_sha256
    ));
    lines.push(format!(
        "audit key  {}\n           give it to whoever shall verify the audit log\n\nnext:",
        made.audit_key
    ));
    let config = made.config.display();
    let mut steps = Vec::new();
    if made.owner_ca.is_none() {
        steps.push("owner install CHAIN.pem --ra RA-CHAIN.pem".to_owned());
    }
    steps.extend([
        "trust import ANCHORS.pem --vendor NAME".to_owned(),
        "devices import devices.csv --dry-run".to_owned(),
        "vouchers request-list --out wanted.csv".to_owned(),
        "vouchers import VOUCHERS".to_owned(),
        format!("apply {} --dry-run", made.content.display()),
        "doctor".to_owned(),
        "preflight SERIAL".to_owned(),
        "serve".to_owned(),
    ]);
    lines.extend(
        steps
            .iter()
            .map(|step| format!("  usher bootstrap --config {config} {step}")),
    );
    lines.join("\n")
}
