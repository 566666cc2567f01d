//! X.509, CSR, CMS and JWS signatures, path validation, and the `Signer` trait with file and PKCS#11 keys.
//!
//! Nothing here opens a socket or reads a clock. Parsing, signature mathematics and trust are
//! three steps: [`cms::SignedData::parse`] reads, [`cms::SignedData::verify`] proves who signed,
//! and [`path`] says whether that signer is believed. A certificate that travels inside a message
//! is material for a path and never a reason to trust.

mod algorithm;
mod certificate;
pub mod cms;
pub mod cose;
mod crl;
pub mod csr;
mod encrypted_key;
mod error;
mod fuzz_mock;
pub mod issue;
pub mod json;
pub mod jws;
mod key;
pub mod limits;
mod names;
mod oid;
pub mod path;
mod pem;
mod pkcs11;
pub mod pkcs7;
mod public_key;
mod signed;
mod times;
mod tlv;
mod unverified;

pub use crate::algorithm::{DigestAlgorithm, SignatureAlgorithm};
pub use crate::certificate::{Certificate, HardwareModuleName};
pub use crate::cms::Decryptor;
pub use crate::crl::Crl;
pub use crate::csr::{Csr, CsrBuilder};
pub use crate::error::{Blame, Coded, Document, Error};
pub use crate::key::{Identity, Signer, SoftwareKey};
pub use crate::pkcs11::Pkcs11Key;
pub use crate::public_key::{KeyKind, PublicKey};
pub use crate::signed::{IncludeCertificates, Oddity, SeveralSigners, SignOptions, VerifiedSigner};
pub use crate::unverified::Unverified;
pub use const_oid::ObjectIdentifier;
