//! The conformance suite: what a vendor, a lab or a buyer runs against anyone's implementation.
//!
//! The [`catalogue`] is data; a [`case::Case`] names the rows that it covers; a [`role::Role`] is
//! a kind of implementation under test with its cases; [`run`] carries cases out; [`report`] says
//! what came of them. Messages are made by [`forge`], which also makes what no correct encoder
//! would, and what an implementation sends is read twice: with our own codecs, and by
//! [`oracle`], whose parsers nobody here wrote.
//!
//! Codec crates alone are linked, never a service or a protocol's decisions: a mistake in those
//! must not pass itself.

pub mod case;
pub mod catalogue;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod coaps;
pub mod coaps_message;
pub mod coaps_voucher;
pub mod decode;
pub mod dtls;
mod dtls_handshake;
pub mod dtls_wire;
pub mod evidence;
pub mod expected;
pub mod fake_masa;
pub mod forge;
pub mod http;
pub mod inspect;
pub mod oracle;
pub mod outcome;
pub mod profile;
pub mod report;
pub mod role;
pub mod run;
pub mod select;
pub mod stage;
pub mod targets;
pub mod workshop;
