//! YANG data in CBOR ([RFC 9254](https://www.rfc-editor.org/rfc/rfc9254.html)) with the SIDs of
//! draft-ietf-anima-rfc8366bis, as constrained vouchers and voucher requests are written.

mod item;
mod schema;

pub use self::item::{CBOR_DEPTH_MAX, CBOR_ITEMS_MAX, Form, Item};
pub use self::schema::{Named, SidLeaf, leaves_by_sid};
pub(crate) use self::schema::{REQUEST, Schema, VOUCHER, absolute, document, sid_name, top_level};

use crate::error::{Document, Error, Fault};
use crate::json::{JSON_SIZE_MAX_BYTES, shown};

/// Why octets are not CBOR that is read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// It is not well-formed.
    #[error("{what}, at octet {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// How far the reader came.
        at: usize,
    },
    /// Octets follow.
    #[error("{0} octets come after it")]
    Trailing(usize),
    /// One key stands twice in one map.
    #[error("the key {key} stands twice", key = shown(.0))]
    DuplicateKey(String),
    /// Nested too deeply.
    #[error("nested over {CBOR_DEPTH_MAX} deep")]
    TooDeep,
    /// Too many items.
    #[error("over {CBOR_ITEMS_MAX} items")]
    TooManyItems,
}

/// Reads the CBOR of a document.
pub(crate) fn parse(
    document: Document,
    bytes: &[u8],
    size_max_bytes: usize,
) -> Result<(Item, Form), Error> {
    if bytes.len() > size_max_bytes {
        let detail = format!(
            "{} octets of CBOR, the limit is {size_max_bytes}",
            bytes.len()
        );
        return Err(Error::new(document, Fault::TooLarge, detail));
    }
    Item::parse(bytes).map_err(|error| {
        let fault = match &error {
            CborError::Malformed { .. } | CborError::Trailing(_) => Fault::NotCbor,
            CborError::DuplicateKey(_) => Fault::DuplicateMember,
            CborError::TooDeep => Fault::TooDeep,
            CborError::TooManyItems => Fault::TooLarge,
        };
        Error::new(document, fault, format!("not CBOR as it must be: {error}"))
    })
}

/// Largest CBOR document inside a signed artefact.
pub(crate) const CBOR_SIZE_MAX_BYTES: usize = JSON_SIZE_MAX_BYTES;
