//! Finding join proxies on the link, draft-ietf-anima-constrained-voucher §10.1.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use coap::{Request, format, link};
use net::coap::{COAP_PORT, discover_multicast};

use crate::Error;

/// All CoAP nodes on the link.
pub const ALL_COAP_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfd);

/// Asks on this interface who offers join proxies, and collects answers for `wait`. The addresses
/// are in the order of the answers.
///
/// # Errors
/// The question cannot be sent.
pub async fn discover(interface: &str, wait: Duration) -> Result<Vec<SocketAddr>, Error> {
    let group = SocketAddr::new(ALL_COAP_NODES.into(), COAP_PORT);
    discover_in(group, Some(interface), wait).await
}

/// The same in another group.
///
/// # Errors
/// The question cannot be sent.
pub async fn discover_in(
    group: SocketAddr,
    interface: Option<&str>,
    wait: Duration,
) -> Result<Vec<SocketAddr>, Error> {
    // CBR-141: Join-proxy discovery is a GET /.well-known/core with query brski-jp=* to ff02::fd,
    // NON.
    let request = Request {
        query: vec!["brski-jp=*".to_owned()],
        non_confirmable: true,
        ..Request::get(".well-known/core")
    };
    let answers = discover_multicast(group, interface, request, wait).await?;
    let mut found: Vec<SocketAddr> = Vec::new();
    for (from, response) in answers {
        if !response.code.is_success() || response.content_format != Some(format::LINK_FORMAT) {
            continue;
        }
        for port in join_ports(&response.payload) {
            // CBR-142: The destination of the onboarding attempt is the link-local source address
            // of the discovery response (never an address from the payload).
            let mut proxy = from;
            proxy.set_port(port);
            if !found.contains(&proxy) {
                found.push(proxy);
            }
        }
    }
    Ok(found)
}

/// The ports that a link-format document offers for joining. Attributes that say more of an offer
/// are not looked at.
#[must_use]
pub fn join_ports(document: &[u8]) -> Vec<u16> {
    let Some(links) = std::str::from_utf8(document)
        .ok()
        .and_then(|text| link::decode(text).ok())
    else {
        return Vec::new();
    };
    // CBR-143: Both <>;brski-jp=8485 and <>;brski-jp="8485" are understood.
    // CBR-144: Unknown link attributes (for example var="c509 v2") are ignored.
    links
        .iter()
        .filter_map(|link| link.attribute("brski-jp")?.parse().ok())
        .filter(|port| *port != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: CBR-143, CBR-144
    #[test]
    fn ports_are_read_in_both_forms_and_the_rest_is_ignored() {
        for (document, ports) in [
            ("<>;brski-jp=8485", vec![8485]),
            ("<>;brski-jp=\"63245\"", vec![63245]),
            (
                "<>;brski-jp=61616,\n  <>;brski-jp=61617;var=\"c509 v2\"",
                vec![61616, 61617],
            ),
            ("<coaps://[2001:db8::1]:1>;brski-jp=2", vec![2]),
            ("<>;brski-jp", vec![]),
            ("<>;brski-jp=65536,<>;brski-jp=-1,<>;brski-jp=0", vec![]),
            ("<coaps://[fe80::1]:8485>;rt=brski.jp", vec![]),
            ("not a link", vec![]),
        ] {
            assert_eq!(join_ports(document.as_bytes()), ports, "{document}");
        }
        assert_eq!(join_ports(&[0xff, 0xfe]), Vec::<u16>::new());
    }
}
