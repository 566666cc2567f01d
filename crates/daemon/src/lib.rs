//! What every server shares: clock, config, logs, metrics, health, graceful stop, the admin listener.
//!
//! A server's `serve` command reads its configuration with [`config::load`], calls [`logging::init`]
//! once, makes one [`Metrics`], starts its listeners from `net`, puts an [`Admin`] beside them and
//! then waits in [`signals::until_stopped`].

pub mod admin;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
mod error;
pub mod events;
pub mod folder;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod signals;

pub use admin::Admin;
pub use cli::{Format, Outcome};
pub use clock::{Clock, ManualClock};
pub use error::Error;
pub use metrics::Metrics;
pub use net::CancellationToken;
