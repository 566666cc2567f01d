//! Audit log.
pub(crate) const SCHEMA: &str = "";
