//! PKI factory, virtual devices, fake time, temporary databases, and real peers started for a test.

mod postgres;

pub use postgres::{PostgresError, TempPostgres};
