//! Echo values that show that a peer is where it says,
//! [RFC 9175 §2](https://www.rfc-editor.org/rfc/rfc9175.html#section-2).

use std::{fmt, time::Duration};

use aws_lc_rs::hmac;

/// Bytes of the code; 64 bits to be guessed within a value's lifetime.
const CODE_LENGTH: usize = 8;
/// Seconds since the clock's beginning.
const TIME_LENGTH: usize = 4;

/// Makes and checks Echo values without keeping anything: a time, and a code over it and the
/// address.
pub struct EchoKey(hmac::Key);

impl fmt::Debug for EchoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EchoKey")
    }
}

impl EchoKey {
    /// A key of these bytes, which nobody else may know.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }

    /// A value for this address, 12 bytes: with its message and the headers below it less than
    /// three times the smallest request.
    #[must_use]
    pub fn value(&self, now: Duration, address: &[u8]) -> Vec<u8> {
        let time = u32::try_from(now.as_secs())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let mut value = time.to_vec();
        value.extend(self.code(time, address));
        value
    }

    /// Whether the value was made for this address not longer than `lifetime` ago.
    #[must_use]
    pub fn holds(&self, now: Duration, lifetime: Duration, address: &[u8], value: &[u8]) -> bool {
        let Some((time, code)) = value.split_first_chunk::<TIME_LENGTH>() else {
            return false;
        };
        let made = Duration::from_secs(u64::from(u32::from_be_bytes(*time)));
        let fresh = made <= now && now.saturating_sub(made) <= lifetime;
        let equal =
            aws_lc_rs::constant_time::verify_slices_are_equal(&self.code(*time, address), code);
        fresh && equal.is_ok()
    }

    fn code(&self, time: [u8; TIME_LENGTH], address: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&time);
        context.update(address);
        let tag = context.sign();
        tag.as_ref().get(..CODE_LENGTH).unwrap_or_default().to_vec()
    }
}
