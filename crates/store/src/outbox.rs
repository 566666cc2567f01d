//! Outbox.
pub(crate) const SCHEMA: &str = "";
