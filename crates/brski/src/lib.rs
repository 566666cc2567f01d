//! Pledge, registrar and MASA side of BRSKI (RFC 8995, rfc8366bis, JWS vouchers) without I/O.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: bytes, the peer's
//! certificates, facts from a database and the time are arguments, and the answer is a value that
//! says what to do next. Whatever has to be kept while an exchange waits can be stored.
//!
//! Each side has its own closed list of refusals with stable codes and one total function from a
//! refusal to an HTTP status. The checks of single artefacts live in [`artifacts`]; what follows
//! from them is decided here.

mod cause;
mod digest;
mod domain;
mod identity;
pub mod masa;
pub mod media;
pub mod paths;
pub mod pledge;
pub mod registrar;
mod stored;
mod text;

pub use cause::Cause;
pub use domain::DomainKey;
pub use identity::{SERIAL_LENGTH_MAX_BYTES, SerialRule, Template, issuer_key_id};
