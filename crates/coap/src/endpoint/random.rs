//! The caller's randomness.

/// Bits of a `f64`'s fraction.
const FRACTION_BITS: u32 = 53;

pub(super) struct Random(pub(super) Box<dyn FnMut() -> u64 + Send>);

impl Random {
    pub(super) fn number(&mut self) -> u64 {
        (self.0)()
    }

    pub(super) fn id(&mut self) -> u16 {
        let [high, low, ..] = self.number().to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    pub(super) fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        for part in key.chunks_exact_mut(8) {
            part.copy_from_slice(&self.number().to_be_bytes());
        }
        key
    }

    /// From 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a f64 holds")]
    pub(super) fn fraction(&mut self) -> f64 {
        let number = self.number() >> (u64::BITS - FRACTION_BITS);
        number as f64 / (1_u64 << FRACTION_BITS) as f64
    }
}
