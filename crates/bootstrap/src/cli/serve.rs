//! `serve` and `migrate`.

use clap::Args;
use daemon::Outcome;
use daemon::config::Flags;
use store::Store;

use super::Context;
use crate::{Error, SCHEMA};

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Listen for devices here instead of what the configuration says.
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
    let service = running.service().clone();
    let file = context.config_file()?;
    daemon::signals::until_stopped(running.shutdown().clone(), move || {
        let reload =
            crate::Config::load(&file, &Flags::new()).and_then(|config| service.reload(&config));
        match reload {
            Ok(()) => tracing::info!("keys, manufacturers and profiles were read again"),
            Err(error) => {
                tracing::error!(code = pki::Coded::code(&error), %error, "nothing was reloaded");
            }
        }
    })
    .await?;
    running.stop().await;
    Ok(Outcome::Yes)
}

pub(super) async fn migrate(context: &Context) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let applied = Store::migrate(&config.database.url, &SCHEMA, context.clock.now()).await?;
    Ok(daemon::cli::migrated(context.format, &applied))
}
