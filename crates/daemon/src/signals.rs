//! Stop and reload as the operating system asks for them.

use net::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;

/// Watches the signals of the process in the background: SIGTERM and SIGINT cancel `shutdown`,
/// SIGHUP calls `reload`. A second SIGINT or SIGTERM ends the process at once.
///
/// # Errors
/// [`Error::Signals`] if the handlers cannot be installed.
pub fn watch(
    shutdown: CancellationToken,
    mut reload: impl FnMut() + Send + 'static,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: reloading");
                    reload();
                    continue;
                }
            }
            if shutdown.is_cancelled() {
                tracing::warn!("told to stop twice: leaving at once");
                std::process::exit(2);
            }
            tracing::info!("stopping: requests in progress are finished first");
            crate::notify::stopping();
            shutdown.cancel();
        }
    });
    Ok(())
}

/// [`watch`], and then waits until the server is told to stop.
///
/// # Errors
/// As [`watch`].
pub async fn until_stopped(
    shutdown: CancellationToken,
    reload: impl FnMut() + Send + 'static,
) -> Result<(), Error> {
    watch(shutdown.clone(), reload)?;
    crate::notify::ready();
    shutdown.cancelled().await;
    Ok(())
}
