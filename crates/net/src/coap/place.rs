//! Associations, and where their datagrams come from and go to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use ::coap::Moment;
use ::coap::jpy::Jpy;
use bytes::Bytes;

use super::CoapPeer;
use super::origins::Origin;
use super::peer::Name;
use crate::dtls::Session;

/// Bytes that a CoAP message has besides its block: header, token, options.
const MESSAGE_OVERHEAD: usize = 96;

/// Where the datagrams of an association come from and go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    // JPX-018: The DTLS association is keyed by (proxy IP:port, registrar IP:JPY port, header):
    // equal header from other proxy address = other association.
    pub(super) header: Option<Bytes>,
}

impl Place {
    /// What a cookie is bound to.
    pub(super) fn key(&self) -> Vec<u8> {
        let name = Name::address(self.address);
        let mut key = name.as_ref().to_vec();
        if let Some(header) = &self.header {
            // DTL-005: Cookie is bound to the claimed address, and behind JPY also to the header.
            key.push(1);
            key.extend_from_slice(header);
        }
        key
    }
}

/// Who talks at a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenants {
    pub(super) current: u64,
    /// A handshake beside an association that stands.
    pub(super) rival: Option<u64>,
}

pub(super) struct Association {
    pub(super) place: Place,
    pub(super) origin: Origin,
    pub(super) session: Box<Session>,
    /// The random number of its ClientHello.
    pub(super) hello: [u8; 32],
    pub(super) begun: Moment,
    /// When something authentic came.
    pub(super) heard: Moment,
    /// When it is to be looked at.
    pub(super) timer: Option<Moment>,
    /// Once the handshake is done.
    pub(super) peer: Option<Arc<CoapPeer>>,
    /// Requests being answered.
    pub(super) open: usize,
}

/// A datagram on its way out, in JPY if it came so.
pub(super) fn push(out: &mut VecDeque<(SocketAddr, Vec<u8>)>, place: &Place, datagram: Vec<u8>) {
    // JPX-016: The JPY header bytes of a request are returned unchanged in every reply for that
    // pledge connection.
    let datagram = match &place.header {
        Some(header) => Jpy {
            header,
            content: &datagram,
        }
        .encode(),
        None => datagram,
    };
    out.push_back((place.address, datagram));
}

/// The largest block whose message fits into a record of so many bytes; `None` if all do.
pub(super) fn block_exponent(payload_max: usize) -> Option<u8> {
    let fits = |exponent: &u8| (16_usize << exponent) + MESSAGE_OVERHEAD <= payload_max;
    let all = fits(&::coap::SIZE_EXPONENT_MAX);
    (!all).then(|| {
        (0..=::coap::SIZE_EXPONENT_MAX)
            .rev()
            .find(fits)
            .unwrap_or_default()
    })
}
