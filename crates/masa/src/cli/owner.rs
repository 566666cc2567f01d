//! `usher masa owner …`.

use std::path::PathBuf;

use brski::masa::Pin;
use clap::{Args, Subcommand, ValueEnum};
use daemon::Outcome;
use pki::Certificate;
use serde_json::json;

use super::{Context, show, table, with_store};
use crate::Error;
use crate::register::{Owner, OwnerChange, add_owner, block_owner, find_owner, list_owners};

#[derive(Debug, Subcommand)]
pub(super) enum OwnerCommand {
    /// Register an owner, or change one and add certificates to it.
    Add(AddArguments),
    /// List owners.
    List(ListArguments),
    /// Show an owner with its certificates.
    Show(ShowArguments),
    /// Issue no more vouchers to an owner.
    Block(BlockArguments),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PinName {
    EndEntity,
    Issuer,
    TopOfChain,
}

#[derive(Debug, Args)]
pub(super) struct AddArguments {
    /// Identifier, as in the column sold-to of imports.
    id: String,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// PEM file with certificates of the owner's domain (its CA); repeat it.
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Whether the owner may have nonceless vouchers.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    nonceless: Option<bool>,
    /// Which certificate of the registrar's chain is pinned for this owner.
    #[arg(long, value_enum)]
    pin: Option<PinName>,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Identifiers after this one.
    #[arg(long, default_value = "")]
    after: String,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// Identifier.
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct BlockArguments {
    /// Identifier.
    id: String,
    /// Lift the block.
    #[arg(long)]
    lift: bool,
}

pub(super) async fn run(context: &Context, command: &OwnerCommand) -> Result<Outcome, Error> {
    let now = context.clock.now();
    with_store(context, async |_, store| match command {
        OwnerCommand::Add(arguments) => {
            let mut certificates = Vec::new();
            for path in &arguments.certificate {
                certificates
                    .extend(Certificate::load_all(path).map_err(|e| Error::malformed(path, e))?);
            }
            let change = OwnerChange {
                name: arguments.name.clone(),
                nonceless: arguments.nonceless,
                pin: arguments.pin.map(|pin| match pin {
                    PinName::EndEntity => Pin::EndEntity,
                    PinName::Issuer => Pin::Issuer,
                    PinName::TopOfChain => Pin::TopOfChain,
                }),
                certificates,
            };
            let created = add_owner(store, &arguments.id, change, now).await?;
            let owner = find_owner(store, &arguments.id).await?;
            let answer = json!({ "ok": true, "created": created, "owner": owner });
            context.format.print(&answer, |_| text(&owner));
            Ok(Outcome::Yes)
        }
        OwnerCommand::List(arguments) => {
            let limit = arguments.limit.clamp(1, 10_000);
            let owners = list_owners(store, &arguments.after, limit).await?;
            let answer = json!({ "ok": true, "owners": owners });
            context.format.print(&answer, |_| {
                let rows: Vec<Vec<String>> = owners.iter().map(row).collect();
                table(
                    &[
                        "id",
                        "name",
                        "nonceless",
                        "blocked",
                        "certificates",
                        "since",
                    ],
                    &rows,
                )
            });
            Ok(Outcome::Yes)
        }
        OwnerCommand::Show(arguments) => {
            let owner = find_owner(store, &arguments.id).await?;
            let answer = json!({ "ok": true, "owner": owner });
            context.format.print(&answer, |_| text(&owner));
            Ok(Outcome::Yes)
        }
        OwnerCommand::Block(arguments) => {
            block_owner(store, &arguments.id, !arguments.lift, now).await?;
            let owner = find_owner(store, &arguments.id).await?;
            let answer = json!({ "ok": true, "owner": owner });
            context.format.print(&answer, |_| text(&owner));
            Ok(Outcome::Yes)
        }
    })
    .await
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn row(owner: &Owner) -> Vec<String> {
    vec![
        owner.id.clone(),
        owner.name.clone(),
        yes(owner.nonceless),
        yes(owner.blocked),
        owner.certificates.len().to_string(),
        show(owner.created),
    ]
}

fn text(owner: &Owner) -> String {
    let mut text = format!(
        "{}  {}\nnonceless vouchers: {}\nblocked: {}",
        owner.id,
        owner.name,
        yes(owner.nonceless),
        yes(owner.blocked)
    );
    for certificate in &owner.certificates {
        text.push_str(&format!(
            "\ncertificate: {}{}\n  key sha256 {}\n  until {}",
            certificate.subject,
            if certificate.ca { " (CA)" } else { "" },
            certificate.key_sha256,
            show(certificate.not_after)
        ));
    }
    text
}
