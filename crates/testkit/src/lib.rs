//! PKI factory, virtual devices, fake time, temporary databases, and real peers started for a test.

mod lossy;
mod namespace;
mod pki_factory;
mod postgres;
mod time_source;

pub use lossy::{Fates, Impairment, LossyRelay, RelayStatistics};
pub use namespace::{Daemon, NamespaceError, NetworkLink};
pub use pki_factory::{Ca, Domain, FOREVER, Pki, PkiOptions, issue_under, root, serial};
pub use postgres::{PostgresError, TempPostgres};
pub use time_source::{ManualTime, NOW};
