//! A CoAP endpoint without I/O.
//!
//! Datagrams and a time go in; datagrams, requests and responses come out. There is no socket, no
//! clock and no task here, so both ends can be run against each other on simulated time over a
//! link that loses, reorders, duplicates and corrupts.
//!
//! - [`Message`]: the format of [RFC 7252 §3](https://www.rfc-editor.org/rfc/rfc7252.html#section-3).
//! - [`Endpoint`]: reliability, deduplication and block-wise transfer, with quotas for each peer.
//! - [`mod@format`]: numbers of media types.
//! - [`link`]: the link format of [RFC 6690](https://www.rfc-editor.org/rfc/rfc6690.html).
//! - [`jpy`]: what a stateless join proxy and a registrar exchange.

mod block;
mod code;
mod echo;
mod endpoint;
mod error;
pub mod format;
pub mod jpy;
pub mod link;
mod message;
pub mod option;
mod request;

pub use block::{Block, SIZE_EXPONENT_MAX};
pub use code::Code;
pub use echo::EchoKey;
pub use endpoint::{
    Config, Endpoint, Event, Exchange, Failure, Handle, Moment, Statistics, Transmit, Via,
};
pub use error::Error;
pub use message::{Kind, Message, OPTION_LENGTH_MAX, OPTIONS_MAX, TOKEN_LENGTH_MAX, Token};
pub use request::{Abbreviations, Request, Response};
