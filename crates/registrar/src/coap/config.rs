//! The `[coap]` part of the configuration.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Devices that speak CoAP over DTLS: constrained BRSKI and EST-coaps.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// UDP addresses for CoAP over DTLS, such as `[::]:5684`. Off while there is none.
    pub listen: Vec<SocketAddr>,
    /// UDP address for stateless join proxies (JPY). There is no usual port. Off if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jpy_listen: Option<SocketAddr>,
    /// The versions of DTLS; the device's ClientHello chooses.
    pub dtls: Vec<Dtls>,
    /// Sockets for each address, each with a task of its own.
    pub sockets: usize,
    /// Bytes of one block: 16, 32, 64, 128, 256, 512 or 1024. A device may ask for smaller ones.
    pub block_size: usize,
    /// Also serve `/b` and `/e` for `/.well-known/brski` and `/.well-known/est`, and announce those.
    pub short_paths: bool,
    /// CA certificates that `crts` gives at most; constrained devices have little room for them.
    pub ca_certificates_max: usize,
    /// Whether a device may have the one CA that issues for it alone (Accept 287). Not so where
    /// devices need several anchors: 4.06 then tells them to ask for another format.
    pub single_ca_certificate: bool,
    /// An answer that takes longer than this is 5.03: come back with the same request. A stateful
    /// join proxy forgets its device after 30 s of silence.
    pub answer_within_seconds: u64,
    /// When a device shall come back that was told so because its answer took too long.
    pub retry_after_seconds: u32,
    /// CoAP in the clear, which says where the rest is. Off if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// What devices may take up.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            jpy_listen: None,
            dtls: vec![Dtls::V1_2, Dtls::V1_3],
            sockets: 1,
            block_size: 1024,
            short_paths: true,
            ca_certificates_max: ::est::coaps::CA_CERTIFICATES_MAX,
            single_ca_certificate: true,
            answer_within_seconds: 15,
            retry_after_seconds: 10,
            discovery: None,
            limits: Limits::default(),
        }
    }
}

/// A version of DTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Dtls {
    /// RFC 6347.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 9147.
    #[serde(rename = "1.3")]
    V1_3,
}

impl From<Dtls> for net::dtls::Version {
    fn from(version: Dtls) -> Self {
        match version {
            Dtls::V1_2 => Self::Dtls12,
            Dtls::V1_3 => Self::Dtls13,
        }
    }
}

/// CoAP in the clear. Nothing but `/.well-known/core` is there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Discovery {
    /// UDP addresses; 5683 is the port of CoAP.
    pub listen: Vec<SocketAddr>,
    /// Multicast groups: `ff02::fd` for devices one hop away, `ff05::fd` for join proxies.
    pub multicast: Vec<IpAddr>,
    /// Interfaces on which the groups are joined; all if there is none.
    pub interfaces: Vec<String>,
    /// The address in the links; the one at which the question came if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce: Option<IpAddr>,
    /// Answer devices on the same link as a join proxy does, with the port of this registrar.
    pub as_join_proxy: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            multicast: Vec::new(),
            interfaces: Vec::new(),
            announce: None,
            as_join_proxy: true,
        }
    }
}

/// What devices may take up.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// DTLS associations at once; the one that is idle longest gives way.
    pub peers_max: usize,
    /// DTLS associations at once with one address.
    pub peers_per_address_max: usize,
    /// DTLS associations at once behind one stateless join proxy.
    pub peers_per_proxy_max: usize,
    /// Handshakes at once.
    pub handshakes_max: usize,
    /// Handshakes begun in a second from one address, on average.
    pub handshakes_per_second_max: u32,
    /// Seconds without a datagram after which an association is ended.
    pub idle_seconds_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers_max: 10_000,
            peers_per_address_max: 1_024,
            peers_per_proxy_max: 4_096,
            handshakes_max: 1_024,
            handshakes_per_second_max: 200,
            idle_seconds_max: 600,
        }
    }
}

impl Config {
    /// Whether anything of it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.listen.is_empty() || self.jpy_listen.is_some()
    }

    /// The size of a block as the exponent that CoAP has for it.
    #[must_use]
    pub fn block_exponent(&self) -> Option<u8> {
        (0..=coap::SIZE_EXPONENT_MAX).find(|exponent| 16_usize << exponent == self.block_size)
    }

    /// # Errors
    /// A value that cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |detail: &str| {
            Err(Error::Config {
                detail: format!("[coap] {detail}"),
            })
        };
        if self.block_exponent().is_none() {
            return wrong("block_size is 16, 32, 64, 128, 256, 512 or 1024");
        }
        if self.dtls.is_empty() {
            return wrong("dtls names no version");
        }
        if self.ca_certificates_max == 0 {
            return wrong("ca_certificates_max is at least 1");
        }
        if !(1..=28).contains(&self.answer_within_seconds) {
            return wrong("answer_within_seconds is 1 to 28: a join proxy waits for 30 s");
        }
        if self.discovery.is_some() && !self.is_on() {
            return wrong("discovery has nothing to point at: set listen or jpy_listen");
        }
        Ok(())
    }
}
