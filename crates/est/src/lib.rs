//! EST (RFC 7030, 8951, 9148, 9908): what to ask and what to answer, whatever the transport.
//!
//! Nothing here opens a socket, reads a clock or draws a random number. A server hands a request
//! and what it knows about the peer to [`server::handle`] and carries out the [`server::Step`]
//! that comes back; a client builds its requests and judges the answers with [`client`].
//!
//! | module | what it knows |
//! |---|---|
//! | [`body`] | base64 bodies and media types |
//! | [`coaps`] | the same over CoAP and DTLS: resources, formats, codes (RFC 9148) |
//! | [`csrattrs`] | CSR attributes: codec, template, demand, requirements |
//! | [`multipart`] | the two-part answer of server-side key generation |
//! | [`server`] | which request is answered how |
//! | [`client`] | requests of a pledge and what may be believed of the answers |
//!
//! Citations are to RFC 7030, RFC 8951, RFC 9908 (text of draft-ietf-lamps-rfc7030-csrattrs-23)
//! and RFC 8995.

pub mod body;
pub mod client;
pub mod coaps;
pub mod csrattrs;
mod error;
pub mod multipart;
mod operation;
pub mod server;
mod tlv;

pub use self::{
    csrattrs::CsrAttrs,
    error::Error,
    operation::{Operation, path, split_path},
};
