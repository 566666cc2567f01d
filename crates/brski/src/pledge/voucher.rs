//! The checks of a voucher
//! ([RFC 8995 §5.6.1](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6.1),
//! [§5.6.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6.2)).

use artifacts::{Envelope, Voucher};
use pki::Certificate;
use time::OffsetDateTime;

use super::{Config, Failure};

/// What the pledge knows about the voucher that it waits for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The nonce that it sent.
    pub nonce: &'a str,
    /// The registrar's chain as shown on the provisional connection, the leaf first.
    pub registrar_chain: &'a [Certificate],
    /// The envelope that was asked for.
    pub envelope: Envelope,
}

/// Judges a voucher and, by it, the registrar.
///
/// # Errors
/// The first check that fails.
pub fn judge_voucher(
    config: &Config,
    body: &[u8],
    expected: Expected<'_>,
    now: OffsetDateTime,
) -> Result<Voucher, Failure> {
    let _ = (config, body, expected, now);
    todo!()
}
