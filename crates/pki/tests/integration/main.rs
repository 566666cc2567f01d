//! Tests of the crate's borders.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod algorithms;
mod certificates;
mod cms_bad;
mod cms_openssl;
mod cose;
mod csr;
mod enveloped;
mod jws;
mod keys;
mod pkcs11;
mod properties;
mod published;
mod support;
