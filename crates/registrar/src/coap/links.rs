//! `/.well-known/core`: what there is, and where
//! ([RFC 6690](https://www.rfc-editor.org/rfc/rfc6690.html)).

use std::net::{IpAddr, SocketAddr};

use coap::format;
use coap::link::{self, Link};
use est::coaps::{Operation, ROOT_TYPE};

use super::Status;
use super::config::{Config, Discovery};

/// Root of the BRSKI resources.
pub(super) const BRSKI: &str = ".well-known/brski";
/// Root of the EST resources.
pub(super) const EST: &str = ".well-known/est";
/// Short for [`BRSKI`].
pub(super) const BRSKI_SHORT: &str = "b";
/// Short for [`EST`].
pub(super) const EST_SHORT: &str = "e";

/// The default port of `coaps:`, which is left out of links.
const COAPS_PORT: u16 = 5684;

/// The links for who is connected with DTLS: references within this server.
pub(super) fn secured(config: &Config, server_keygen: bool) -> Vec<Link> {
    let (brski, est) = if config.short_paths {
        (BRSKI_SHORT, EST_SHORT)
    } else {
        (BRSKI, EST)
    };
    // CBR-159: Discovery uses rt values brski, brski.rv, brski.vs, brski.es and ace.est exactly.
    let mut links = vec![
        Link::new(&format!("/{brski}")).with("rt", "brski"),
        Link::new(&format!("/{brski}/rv"))
            .with("rt", "brski.rv")
            .with("ct", &format::VOUCHER_COSE.to_string()),
    ];
    for status in [Status::Voucher, Status::Enrolment] {
        let name = status.name();
        links.push(
            Link::new(&format!("/{brski}/{name}"))
                .with("rt", &format!("brski.{name}"))
                .with("ct", &format!("{} {}", format::JSON, format::CBOR)),
        );
    }
    links.push(Link::new(&format!("/{est}")).with("rt", ROOT_TYPE));
    for operation in Operation::ALL {
        // ESC-014: att, skg, skc links are listed only when implemented.
        let generates = matches!(
            operation,
            Operation::ServerKeyGen | Operation::ServerKeyGenCertificate
        );
        if generates && !server_keygen {
            continue;
        }
        let mut formats: Vec<u16> = operation.formats().to_vec();
        formats.sort_unstable();
        let formats: Vec<String> = formats.iter().map(u16::to_string).collect();
        links.push(
            Link::new(&format!("/{est}/{}", operation.name()))
                .with("rt", operation.resource_type())
                .with("ct", &formats.join(" ")),
        );
    }
    links
}

/// The ports of this registrar, once they are known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ports {
    /// CoAP over DTLS.
    pub(crate) coaps: Option<u16>,
    /// Stateless join proxies.
    pub(crate) jpy: Option<u16>,
}

/// The links for who asks in the clear, at the address `local`: where the rest is.
pub(super) fn open(
    config: &Config,
    discovery: &Discovery,
    ports: Ports,
    local: SocketAddr,
) -> Vec<Link> {
    let mut links = Vec::new();
    let asked = Some(local.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
    if let Some(address) = discovery.announce.or(asked) {
        let host = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        if let Some(port) = ports.coaps {
            let authority = match port {
                COAPS_PORT => host.clone(),
                port => format!("{host}:{port}"),
            };
            let (brski, est) = if config.short_paths {
                (BRSKI_SHORT, EST_SHORT)
            } else {
                (BRSKI, EST)
            };
            // JPX-040: GET coap multicast /.well-known/core?rt=brski is answered with a coaps:// URI
            // of the cBRSKI base.
            links.push(Link::new(&format!("coaps://{authority}/{brski}")).with("rt", "brski"));
            links.push(Link::new(&format!("coaps://{authority}/{est}")).with("rt", ROOT_TYPE));
        }
        if let Some(port) = ports.jpy {
            // JPX-038: ?rt=brski.rjp is answered with a jpy:// URI containing the JPY port.
            // JPX-039: The jpy link has root path (empty or /).
            links.push(Link::new(&format!("jpy://{host}:{port}")).with("rt", "brski.rjp"));
        }
    }
    if let Some(port) = ports.coaps.filter(|_| discovery.as_join_proxy) {
        // CBR-140: A registrar one hop away announces itself as if it were a join proxy, with its
        // real CoAPS port.
        links.push(Link::new("").with("brski-jp", &port.to_string()));
    }
    links
}

/// The document with the links that pass every argument of the query.
pub(super) fn document(links: &[Link], query: &[String]) -> String {
    // COA-045: Query filtering by exact and prefix value (trailing *) on rt, href, ct, any
    // attribute.
    let passing: Vec<Link> = links
        .iter()
        .filter(|link| {
            query.iter().all(|argument| link.matches(argument))
                || defects::seeded!("registrar-coaps-filters-nothing")
        })
        .cloned()
        .collect();
    link::encode(&passing)
}
