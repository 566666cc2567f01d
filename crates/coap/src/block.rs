//! The value of the Block1 and Block2 options,
//! [RFC 7959 §2.2](https://www.rfc-editor.org/rfc/rfc7959.html#section-2.2).

use crate::option;

/// The largest exponent over UDP: blocks of 1024 bytes.
pub const SIZE_EXPONENT_MAX: u8 = 6;
/// Blocks are numbered with 20 bits.
const NUMBER_MAX: u32 = (1 << 20) - 1;

/// A block's number, whether more follow, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    number: u32,
    more: bool,
    exponent: u8,
}

impl Block {
    /// A block; `None` for an exponent above 6 or a number above 1,048,575.
    #[must_use]
    pub fn new(number: u32, more: bool, exponent: u8) -> Option<Self> {
        (exponent <= SIZE_EXPONENT_MAX && number <= NUMBER_MAX).then_some(Self {
            number,
            more,
            exponent,
        })
    }

    /// Reads an option's value; `None` for the reserved exponent 7 and for more than three bytes.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        if value.len() > 3 {
            return None;
        }
        let value = option::uint(value)?;
        // COA-049: SZX 7 in Block1/Block2 over UDP is reserved: a request with it gets 4.00.
        Self::new(
            value >> 4,
            value & 0x08 != 0,
            (value & 0x07)
                .min(if defects::seeded!("coap-takes-size-7") {
                    6
                } else {
                    7
                })
                .to_le_bytes()[0],
        )
    }

    /// The option's value.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let more = if self.more { 0x08 } else { 0 };
        option::uint_bytes((self.number << 4) | more | u32::from(self.exponent))
    }

    /// Its number, from 0.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Whether more blocks follow.
    #[must_use]
    pub const fn more(self) -> bool {
        self.more
    }

    /// The exponent of its size: 0 for 16 bytes to 6 for 1024.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.exponent
    }

    /// Bytes in a full block.
    #[must_use]
    pub const fn size(self) -> usize {
        16 << self.exponent
    }

    /// Where it begins in the body.
    #[must_use]
    pub const fn offset(self) -> usize {
        // At most 2^20 times 1024: in an usize of 32 bits and more.
        self.number as usize * self.size()
    }

    /// The block of this body, and its bytes; `None` when it begins behind the end. Block 0 of an
    /// empty body is empty.
    #[must_use]
    pub fn of(body: &[u8], number: u32, exponent: u8) -> Option<(Self, &[u8])> {
        let block = Self::new(number, false, exponent)?;
        let rest = body.get(block.offset()..)?;
        if rest.is_empty() && number > 0 {
            return None;
        }
        let more = rest.len() > block.size();
        let bytes = rest.get(..block.size()).unwrap_or(rest);
        Some((Self { more, ..block }, bytes))
    }
}
