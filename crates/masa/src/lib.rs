//! The MASA: register of devices and owners, vouchers online and in batches, audit log.
//!
//! The checks of RFC 8995 §5.5 live in [`brski::masa`]; here they meet the database. A voucher's
//! decision, its audit entry, its timeline entry and its signed bytes are one transaction, durable
//! before the bytes leave. The register ([`register`]) is managed by commands which work on the
//! database directly, with the server up or down.

mod error;
pub mod register;
mod schema;

pub use error::Error;
pub use schema::SCHEMA;
