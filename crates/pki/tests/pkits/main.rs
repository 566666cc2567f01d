//! Path validation held against NIST's PKITS, against rules one by one, and issuing against OpenSSL.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod forge;
mod issuing;
mod legacy;
mod names;
mod pkits;
mod properties;
mod published;
mod revocation;
mod rules;
mod search;
