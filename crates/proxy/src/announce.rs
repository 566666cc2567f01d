//! How pledges find this proxy: by CoAP,
//! [draft-ietf-anima-constrained-join-proxy §5.2](https://datatracker.ietf.org/doc/html/draft-ietf-anima-constrained-join-proxy-21#section-5.2).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coap::link::{self, Link as CoreLink};
use coap::{Code, Request, Response, format};
use daemon::CancellationToken;
use net::coap::{CoapListener, CoapPeer, CoapServer, OpenConfig};

use crate::Error;
use crate::link::Link;
use crate::server::Shared;

/// All CoAP nodes of a link.
const ALL_COAP_NODES: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfd));

/// Answers of several proxies are spread over this time. It is a fifth of what CoAP takes where
/// nothing is known of the group: the proxies of one link are few and their answers short, and a
/// pledge should not have to listen for long.
const LEISURE: Duration = Duration::from_secs(1);

/// Answers questions on one link until `stop`.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    link: &Link,
    stop: CancellationToken,
) -> Result<CoapServer, Error> {
    let open = OpenConfig {
        listen: vec![link.at(shared.config.discovery.coap_port)],
        multicast: match link.interface() {
            Some(_) => vec![ALL_COAP_NODES],
            None => Vec::new(),
        },
        interfaces: link.interface().map(str::to_owned).into_iter().collect(),
    };
    let (shared, link) = (Arc::clone(shared), link.clone());
    let handler = move |peer: Arc<CoapPeer>, request: Request| {
        let ports = shared.join_ports_at(&link);
        let response = answer(
            &ports,
            shared.config.discovery.legacy,
            link.check(peer.address.ip()),
            &request,
        );
        async move { response }
    };
    let mut listener = CoapListener::in_the_clear(open);
    listener.coap.leisure = LEISURE;
    Ok(net::coap::serve(listener, Arc::new(handler), stop).await?)
}

fn answer(ports: &[SocketAddr], legacy: bool, local: bool, request: &Request) -> Response {
    if request.path() != ".well-known/core" || !local {
        return Response::new(Code::NOT_FOUND);
    }
    if request.code() != Code::GET {
        return Response::new(Code::METHOD_NOT_ALLOWED);
    }
    if request
        .accept
        .is_some_and(|wanted| wanted != format::LINK_FORMAT)
    {
        return Response::new(Code::NOT_ACCEPTABLE);
    }
    // JPX-051: Target attribute name is exactly brski-jp, value decimal port.
    let mut links: Vec<CoreLink> = ports
        .iter()
        .map(|address| {
            let port = match defects::seeded!("join-proxy-hexadecimal-port") {
                true => format!("{:x}", address.port()),
                false => address.port().to_string(),
            };
            CoreLink::new("").with("brski-jp", &port)
        })
        .collect();
    // JPX-046: The query rt=brski.jp of older drafts may be answered in their form.
    if legacy {
        links.extend(ports.iter().map(|address| {
            let host = match address.ip() {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            CoreLink::new(&format!("coaps://{host}:{}", address.port())).with("rt", "brski.jp")
        }));
    }
    // JPX-045: A non-matching filter on the multicast query gets no answer: the endpoint does not
    // answer multicast with an empty document.
    let passing: Vec<CoreLink> = links
        .into_iter()
        .filter(|link| {
            defects::seeded!("join-proxy-answers-everything")
                || request.query.iter().all(|argument| link.matches(argument))
        })
        .collect();
    // JPX-044: The proxy answers GET ff02::fd /.well-known/core?brski-jp=* with <>;brski-jp=PORT,
    // CF 40.
    Response::content(Code::CONTENT, format::LINK_FORMAT, link::encode(&passing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(legacy: bool, query: &str) -> String {
        let ports = ["[fe80::1]:8485", "[fe80::1]:8486"].map(|text| text.parse().unwrap());
        let request = Request {
            query: vec![query.to_owned()],
            ..Request::get(".well-known/core")
        };
        let response = answer(&ports, legacy, true, &request);
        assert_eq!(response.content_format, Some(40));
        String::from_utf8(response.payload).unwrap()
    }

    /// Requirements: JPX-044, JPX-046, JPX-051
    #[test]
    fn join_ports_are_told() {
        let both = "<>;brski-jp=8485,<>;brski-jp=8486";
        assert_eq!(ask(false, "brski-jp=*"), both);
        assert_eq!(ask(false, "brski-jp=8486"), "<>;brski-jp=8486");
        assert_eq!(ask(false, "rt=brski.jp"), "");
        assert_eq!(ask(false, "rt=foo"), "");
        assert_eq!(
            ask(true, "rt=brski.jp"),
            "<coaps://[fe80::1]:8485>;rt=\"brski.jp\",<coaps://[fe80::1]:8486>;rt=\"brski.jp\""
        );
    }

    #[test]
    fn nothing_else_is_served() {
        let code = |request: &Request, local| answer(&[], false, local, request).code;
        let other = Request::get("x");
        assert_eq!(code(&other, true), Code::NOT_FOUND);
        let core = Request::get(".well-known/core");
        assert_eq!(code(&core, false), Code::NOT_FOUND);
        let post = Request::post(".well-known/core", 0, "x");
        assert_eq!(code(&post, true), Code::METHOD_NOT_ALLOWED);
        let accept = Request {
            accept: Some(50),
            ..core
        };
        assert_eq!(code(&accept, true), Code::NOT_ACCEPTABLE);
    }
}
