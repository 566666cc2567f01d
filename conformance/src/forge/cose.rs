//! COSE_Sign1 by hand.

use super::{cbor, cms::Signatory};

/// Header label of the algorithm.
pub const ALG: i64 = 1;
/// Header label of the labels that have to be understood.
pub const CRIT: i64 = 2;
/// Header label of the key identifier.
pub const KID: i64 = 4;
/// Header label of certificates in no order.
pub const X5BAG: i64 = 32;
/// Header label of certificates in order.
pub const X5CHAIN: i64 = 33;

/// A header: labels and encoded values, in the order given.
pub type Header = Vec<(Vec<u8>, Vec<u8>)>;

/// A COSE_Sign1 before it is encoded.
#[derive(Clone)]
pub struct Cose {
    /// The payload.
    pub payload: Vec<u8>,
    /// The protected header.
    pub protected: Header,
    /// Octets instead of the encoded protected header.
    pub protected_octets: Option<Vec<u8>>,
    /// The unprotected header.
    pub unprotected: Header,
    /// Who signs.
    pub signer: Signatory,
    /// The word in Sig_structure.
    pub context: &'static str,
    /// Octets instead of the signature.
    pub signature: Option<Vec<u8>>,
    /// Tag 18, another tag, or none.
    pub tag: Option<u64>,
    /// nil in place of the payload.
    pub detached: bool,
}

impl Cose {
    /// A right one with the algorithm protected.
    #[must_use]
    pub fn new(payload: &[u8], signer: &Signatory) -> Self {
        Self {
            payload: payload.to_vec(),
            protected: vec![(cbor::int(ALG), cbor::int(signer.key.cose_number()))],
            protected_octets: None,
            unprotected: Vec::new(),
            signer: signer.clone(),
            context: "Signature1",
            signature: None,
            tag: Some(18),
            detached: false,
        }
    }

    /// Changes it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Certificates under a label: one is a byte string, more are an array.
    #[must_use]
    pub fn certificates(certificates: &[Vec<u8>]) -> Vec<u8> {
        match certificates {
            [one] => cbor::bytes(one),
            many => {
                let items: Vec<_> = many.iter().map(|der| cbor::bytes(der)).collect();
                cbor::array(&items)
            }
        }
    }

    /// The protected header as it is signed.
    #[must_use]
    pub fn protected_bytes(&self) -> Vec<u8> {
        self.protected_octets.clone().unwrap_or_else(|| {
            if self.protected.is_empty() {
                Vec::new()
            } else {
                cbor::map(&self.protected)
            }
        })
    }

    /// The signature.
    #[must_use]
    pub fn signature_octets(&self) -> Vec<u8> {
        self.signature.clone().unwrap_or_else(|| {
            let structure = cbor::array(&[
                cbor::text(self.context),
                cbor::bytes(&self.protected_bytes()),
                cbor::bytes(&[]),
                cbor::bytes(&self.payload),
            ]);
            self.signer.key.sign_raw(&structure)
        })
    }

    /// The four parts, encoded.
    #[must_use]
    pub fn parts(&self) -> Vec<Vec<u8>> {
        vec![
            cbor::bytes(&self.protected_bytes()),
            cbor::map(&self.unprotected),
            if self.detached {
                cbor::null()
            } else {
                cbor::bytes(&self.payload)
            },
            cbor::bytes(&self.signature_octets()),
        ]
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let array = cbor::array(&self.parts());
        match self.tag {
            Some(tag) => cbor::tag(tag, &array),
            None => array,
        }
    }
}
