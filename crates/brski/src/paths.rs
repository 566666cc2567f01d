//! The resources of BRSKI below an authority.

/// The root of the resources.
pub const BRSKI: &str = "/.well-known/brski";
/// Asks for a voucher, at the registrar and at the MASA.
pub const REQUEST_VOUCHER: &str = "/.well-known/brski/requestvoucher";
/// Reports what the pledge made of the voucher.
pub const VOUCHER_STATUS: &str = "/.well-known/brski/voucher_status";
/// Asks the MASA for the audit log.
pub const REQUEST_AUDIT_LOG: &str = "/.well-known/brski/requestauditlog";
/// Reports what became of the enrolment.
pub const ENROL_STATUS: &str = "/.well-known/brski/enrollstatus";
/// The root of the EST resources.
pub const EST: &str = "/.well-known/est";
