//! Who offers join proxies on the link.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use ::coap::{Code, Kind, Message, Token, format, option};
use device::coaps::{ALL_COAP_NODES, discover_in};
use tokio::net::UdpSocket;

/// Two neighbours that answer: one as it should, in both notations and with an address that is not
/// its own, and one with what is no offer.
///
/// Requirements: CBR-141, CBR-142, COA-043, JPX-047
#[tokio::test]
async fn proxies_are_where_their_answers_come_from() {
    assert_eq!(ALL_COAP_NODES.to_string(), "ff02::fd");
    assert_eq!(net::coap::COAP_PORT, 5683);
    assert_eq!(net::coap::COAPS_PORT, 5684);
    let everybody = Ipv4Addr::new(224, 0, 1, 187);
    let listening = std::net::UdpSocket::bind((everybody, 0)).unwrap();
    listening
        .join_multicast_v4(&everybody, &Ipv4Addr::LOCALHOST)
        .unwrap();
    listening.set_nonblocking(true).unwrap();
    let listening = UdpSocket::from_std(listening).unwrap();
    let group = listening.local_addr().unwrap();
    let neighbour = tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        let (length, asker) = listening.recv_from(&mut buffer).await.unwrap();
        let question = Message::decode(&buffer[..length]).unwrap();
        let values = |number| -> Vec<&[u8]> { question.values(number).collect() };
        assert_eq!(question.kind, Kind::NonConfirmable);
        assert_eq!(question.code, Code::GET);
        assert_eq!(values(option::URI_PATH), [&b".well-known"[..], b"core"]);
        assert_eq!(values(option::URI_QUERY), [&b"brski-jp=*"[..]]);
        for (port, content_format, document) in [
            (
                0,
                40,
                &b"<>;brski-jp=8485,<>;brski-jp=\"8486\";var=\"c509 v2\""[..],
            ),
            (0, 40, b"<coaps://[2001:db8::1]:4711>;brski-jp=8487"),
            (0, 0, b"<>;brski-jp=1"),
            (0, 40, b"<coaps://[fe80::1]:8485>;rt=brski.jp"),
        ] {
            let from: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
            let socket = UdpSocket::bind(from).await.unwrap();
            let token = Token::new(question.token.as_bytes()).unwrap();
            let id = socket.local_addr().unwrap().port();
            let mut answer = Message::new(Kind::NonConfirmable, Code::CONTENT, id, token);
            answer.add_uint(option::CONTENT_FORMAT, content_format);
            answer.payload = document.to_vec();
            let datagram = answer.encode().unwrap();
            socket.send_to(&datagram, asker).await.unwrap();
        }
    });
    let mut found = discover_in(group, Some("lo"), Duration::from_secs(1))
        .await
        .unwrap();
    neighbour.await.unwrap();
    found.sort();
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(found, [at(8485), at(8486), at(8487)]);
    assert_eq!(format::LINK_FORMAT, 40);
}
