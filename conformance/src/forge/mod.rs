//! Makes messages, the right ones and those that no correct encoder makes.
//!
//! Nothing here shares code with the codecs that read: lengths, tags, orders and numbers are
//! written by hand, and each can be written wrongly on purpose.

pub mod cbor;
pub mod cms;
pub mod cose;
pub mod der;
pub mod jws;
pub mod key;
pub mod sztp;
pub mod voucher;
pub mod x509;
