//! The MASA: register of devices and owners, vouchers online and in batches, audit log.
//!
//! The checks of RFC 8995 §5.5 live in [`brski::masa`]; here they meet the database. A voucher's
//! decision, its audit entry, its timeline entry and its signed bytes are one transaction, durable
//! before the bytes leave. The register ([`register`]) is managed by commands which work on the
//! database directly, with the server up or down.

mod alarms;
pub mod batch;
pub mod cli;
mod config;
mod error;
mod facts;
mod init;
mod issue;
mod meters;
pub mod register;
mod revocation;
mod schema;
mod server;
mod service;
pub mod timeline;

pub use config::{
    AlarmsConfig, AuditConfig, ClientCertificate, Config, DatabaseConfig, DevicesConfig,
    EventsConfig, Keys, PolicyConfig, RevocationCheck, SigningConfig,
};
pub use error::Error;
pub use init::{InitOptions, Initialised, TrialDevice, init, trial_device};
pub use schema::SCHEMA;
pub use server::{Running, serve};
