//! A device that enrols over CoAP and DTLS: constrained BRSKI
//! (draft-ietf-anima-constrained-voucher) and EST-coaps
//! ([RFC 9148](https://www.rfc-editor.org/rfc/rfc9148.html)).
//!
//! What is decided is [`::brski::pledge::Machine`]'s, as over HTTPS, and the state on disk is the
//! same: a power cut at any point costs at most one repeated request. Here are the names of the
//! resources, the numbers of the formats and the ways of a device with little memory.
//!
//! - [`run`] enrols by a voucher, [`renew`] renews the certificate, [`generate`] lets the registrar
//!   make the key.
//! - [`EstClient`] is EST alone, for a device that has its anchor from elsewhere.
//! - [`discover`] finds join proxies on the link.

pub mod cli;
mod discovery;
mod est;
mod link;
mod renew;
mod translate;
mod transport;

pub use discovery::{ALL_COAP_NODES, discover, discover_in, join_ports};
pub use est::EstClient;
pub use renew::{Generated, generate, renew, renew_with};
pub use transport::{NetTransport, Peer, Transport};

use std::{net::SocketAddr, time::Duration};

use ::brski::pledge::{Procedure, ProximityForm};
use artifacts::Envelope;
use coap::format;
use net::dtls;
use pki::{Identity, path::Anchors};
use time::OffsetDateTime;
use url::Url;

use self::link::CoapLink;
use crate::{
    Error,
    brski::{self, Event, Outcome},
};

/// Blocks of a device with little memory, as exponent: 256 bytes, which with CoAP's header and the
/// cipher's overhead fit into a record of 512.
pub const SMALL_BLOCK_EXPONENT: u8 = 4;
/// Largest answer that a device with little memory puts together.
pub const SMALL_BODY_MAX_BYTES: usize = 4 * 1024;
/// A mapping of a stateful join proxy lives for 30 seconds without traffic (draft-ietf-anima-constrained-join-proxy §4.3).
pub const SILENCE_MAX: Duration = Duration::from_secs(25);

/// A device and how it goes about enrolling.
#[derive(Clone)]
pub struct Config {
    /// What is not a matter of the transport. The origins of `registrars` are `coaps://host:port/`;
    /// `http` and `tls` say nothing here.
    pub device: brski::Config,
    /// Where the origins are that need an address with an interface, as link-local ones do.
    pub addresses: Vec<(Url, SocketAddr)>,
    /// Cipher suites, the best first.
    pub suites: Vec<dtls::Suite>,
    /// Little memory: records and fragments of 512 bytes, blocks of 256, one exchange at a time,
    /// no answer above [`SMALL_BODY_MAX_BYTES`].
    pub small: bool,
    /// Whether paths are sent as numbers (Uri-Path-Abbrev).
    pub abbreviated: bool,
    /// The format in which certificates are asked for: 287 for a bare one, 281 for a PKCS#7 bag.
    pub certificate_format: u16,
    /// The format in which CA certificates are asked for: 281, 287 or 62.
    pub ca_format: u16,
    /// Who was silent for longer than this makes a new association before anything else.
    pub silence_max: Duration,
    /// Retransmission and its limits.
    pub coap: coap::Config,
}

impl Config {
    /// A device with the defaults: COSE, the registrar named by its certificate, the procedure
    /// of the constrained draft, CCM_8 and GCM, blocks of up to 1024 bytes, certificates without a
    /// bag around them.
    #[must_use]
    pub fn new(
        registrars: &[SocketAddr],
        idevid: Identity,
        masa_anchors: Anchors,
        starts_at: OffsetDateTime,
    ) -> Self {
        let addresses: Vec<(Url, SocketAddr)> = registrars
            .iter()
            .filter_map(|address| Some((origin_of(*address)?, *address)))
            .collect();
        let origins = addresses.iter().map(|(origin, _)| origin.clone()).collect();
        let mut device = brski::Config::new(origins, idevid, masa_anchors, starts_at);
        device.envelope = Envelope::Cose;
        device.proximity = ProximityForm::Certificate;
        device.procedure = Procedure::Constrained;
        Self {
            device,
            addresses,
            suites: vec![
                dtls::Suite::EcdheEcdsaAes128Ccm8,
                dtls::Suite::EcdheEcdsaAes128Gcm,
            ],
            small: false,
            abbreviated: false,
            certificate_format: format::PKIX_CERT,
            ca_format: format::MULTIPART_CORE,
            silence_max: SILENCE_MAX,
            coap: coap::Config::default(),
        }
    }

    fn dtls(&self, identity: Identity) -> dtls::ClientConfig {
        let mut config = if self.small {
            dtls::ClientConfig::small(Some(identity))
        } else {
            dtls::ClientConfig::new(Some(identity))
        };
        // CBR-010: A DTLS 1.2 pledge offers TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8.
        config.suites.clone_from(&self.suites);
        // CBR-029: The pledge omits the SNI extension.
        config.server_name = None;
        config
    }

    fn coap(&self) -> coap::Config {
        let mut config = self.coap.clone();
        if self.small {
            config.block_exponent = config.block_exponent.min(SMALL_BLOCK_EXPONENT);
            config.body_max = config.body_max.min(SMALL_BODY_MAX_BYTES);
            config.held_max = config.held_max.min(2 * SMALL_BODY_MAX_BYTES);
            config.duplicates_per_peer = config.duplicates_per_peer.min(8);
            config.assemblies_per_peer = 1;
            config.bodies_per_peer = 1;
            config.nstart = 1;
        }
        config
    }

    /// Where an origin is.
    async fn address_of(&self, origin: &Url) -> Result<SocketAddr, Error> {
        if let Some(address) = self.device.address {
            return Ok(address);
        }
        if let Some((_, address)) = self.addresses.iter().find(|(known, _)| known == origin) {
            return Ok(*address);
        }
        let host = origin.host_str().unwrap_or_default();
        let port = origin.port().unwrap_or(net::coap::COAPS_PORT);
        let unknown = || Error::Config(format!("{origin} has no address"));
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        tokio::net::lookup_host((bare, port))
            .await
            .map_err(|_| unknown())?
            .next()
            .ok_or_else(unknown)
    }
}

/// The origin at this address; the interface of a link-local one does not stand in it.
#[must_use]
pub fn origin_of(address: SocketAddr) -> Option<Url> {
    let bare = SocketAddr::new(address.ip(), address.port());
    Url::parse(&format!("coaps://{bare}/")).ok()
}

/// Enrols the device, or goes on with an enrolment that was cut short, until it is enrolled, gives
/// up, or runs out of time. Whatever happens is told to `observer` as well.
///
/// # Errors
/// If the device's own surroundings fail: its disk, its random numbers, its configuration.
pub async fn run(
    config: &Config,
    observer: &mut (dyn FnMut(&Event) + Send),
) -> Result<Outcome, Error> {
    run_with(config, NetTransport::default(), observer).await
}

/// The same over a transport of the caller's.
///
/// # Errors
/// As [`run`].
pub async fn run_with<T: Transport>(
    config: &Config,
    transport: T,
    observer: &mut (dyn FnMut(&Event) + Send),
) -> Result<Outcome, Error> {
    brski::run_over(&config.device, CoapLink::new(config, transport), observer).await
}
