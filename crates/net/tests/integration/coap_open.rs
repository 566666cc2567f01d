//! CoAP in the clear, as discovery uses it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use coap::{Code, Kind, Message, Request, Token, option};
use net::coap::discover_multicast;
use tokio::net::UdpSocket;

use crate::coap_support::{LARGE, LONG, Server, text};

async fn ask(server: &Server, datagram: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let sent = socket.send_to(datagram, server.open_address()).await;
    sent.expect("sent");
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(LONG, socket.recv(&mut buffer)).await;
    let length = received.ok()?.expect("received");
    buffer.truncate(length);
    Some(buffer)
}

fn get(kind: Kind, path: &str) -> Message {
    let token = Token::new(&[1, 2]).expect("a token");
    let mut message = Message::new(kind, Code::GET, 7, token);
    for segment in path.split('/') {
        message.add(option::URI_PATH, segment.as_bytes());
    }
    message
}

/// Requirements: COA-044
#[tokio::test]
async fn links_are_there_for_everybody() {
    let server = Server::start().await;
    let client = server.open_client().await;
    let response = client
        .request(Request::get(".well-known/core"))
        .await
        .expect("an answer");
    assert_eq!(response.code, Code::CONTENT);
    assert_eq!(response.content_format, Some(40));
    let seen = client
        .request(Request::get("peer"))
        .await
        .expect("an answer");
    assert_eq!(text(&seen), "Open none 0 [] 0");
    client.close().await;
    server.stop().await;
}

/// Requirements: COA-042, COA-070, COA-071, COA-072
#[tokio::test]
async fn a_large_answer_goes_to_those_who_are_there_only() {
    let server = Server::start().await;
    let request = get(Kind::Confirmable, "large").encode().expect("encoded");
    let answer = ask(&server, &request).await.expect("an answer");
    assert!(answer.len() <= 3 * request.len());
    let challenge = Message::decode(&answer).expect("a message");
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    assert_eq!(challenge.kind, Kind::Acknowledgement);
    let echo = challenge.value(option::ECHO).expect("an Echo").to_vec();

    let mut stolen = get(Kind::Confirmable, "large");
    stolen.add(option::ECHO, echo);
    let answer = ask(&server, &stolen.encode().expect("encoded")).await;
    let answer = Message::decode(&answer.expect("an answer")).expect("a message");
    assert_eq!(answer.code, Code::UNAUTHORIZED, "from another port");

    let client = server.open_client().await;
    let response = client.request(Request::get("large")).await;
    assert_eq!(response.expect("an answer").payload.len(), LARGE);
    server.stop().await;
}

/// Requirements: COA-001, COA-002, COA-006, COA-007, COA-008
#[tokio::test]
async fn malformed_messages_are_counted_and_harm_nobody() {
    let server = Server::start().await;
    let reset = ask(&server, &[0x49, 0x01, 0x12, 0x34]).await;
    assert_eq!(reset.as_deref(), Some(&[0x70, 0, 0x12, 0x34][..]));
    let pong = ask(&server, &[0x40, 0, 0x56, 0x78]).await;
    assert_eq!(pong.as_deref(), Some(&[0x70, 0, 0x56, 0x78][..]));

    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut sent = 0;
    for datagram in [
        &[][..],
        &[0x40],
        &[0x80, 1, 0, 1],
        &[0x70, 0, 0, 1],
        &[0x60, 0, 0, 1],
        &[0xff; 1_000],
        &[0x50; 60_000],
        &[0x50, 1, 0, 1, 0xff],
    ] {
        let to = server.open_address();
        socket.send_to(datagram, to).await.expect("sent");
        sent += 1;
    }
    let wanted = sent + 2;
    server
        .until("all of it was received", |s| s.datagrams_received == wanted)
        .await;
    let statistics = server.statistics();
    assert_eq!(statistics.datagrams_sent, 2, "{statistics:?}");
    assert_eq!(statistics.requests_taken, 0);
    assert!(statistics.messages_malformed >= 6, "{statistics:?}");
    let client = server.open_client().await;
    let response = client.request(Request::get("peer")).await;
    assert_eq!(response.expect("an answer").code, Code::CONTENT);
    server.stop().await;
}

#[tokio::test]
async fn a_datagram_of_64_kilobytes_is_read_and_refused() {
    let server = Server::with(|config| config.coap.body_max = 4_096).await;
    let mut message = get(Kind::Confirmable, "echo");
    message.code = Code::POST;
    message.payload = vec![b'x'; 65_000];
    let answer = ask(&server, &message.encode().expect("encoded")).await;
    let answer = Message::decode(&answer.expect("an answer")).expect("a message");
    assert_eq!(answer.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(answer.uint(option::SIZE1), Some(4_096));
    server.stop().await;
}

#[tokio::test]
async fn a_handler_that_panics_or_hangs_costs_one_answer() {
    let server = Server::with(|config| {
        config.limits.request_time_max = Duration::from_millis(50);
        config.limits.open_requests_max = 1;
    })
    .await;
    let client = server.open_client().await;
    let response = client.request(Request::get("panic")).await;
    let code = response.expect("an answer").code;
    assert_eq!(code, Code::INTERNAL_SERVER_ERROR);
    let response = client.request(Request::get("never")).await;
    assert_eq!(response.expect("an answer").code, Code::SERVICE_UNAVAILABLE);
    let response = client.request(Request::get("peer")).await;
    assert_eq!(response.expect("an answer").code, Code::CONTENT);
    let statistics = server.statistics();
    assert_eq!(statistics.panics, 1);
    assert_eq!(statistics.requests_late, 1);
    assert_eq!(statistics.open_requests_now, 0);
    server.stop().await;
}

#[tokio::test]
async fn requests_in_the_clear_have_a_limit_of_their_own() {
    let server = Server::with(|config| {
        config.limits.open_requests_max = 3;
        config.limits.drain_time_max = Duration::from_millis(50);
    })
    .await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let to = server.open_address();
    let request = get(Kind::NonConfirmable, "never");
    let request = request.encode().expect("encoded");
    for _ in 0..20 {
        socket.send_to(&request, to).await.expect("sent");
    }
    server
        .until("the rest is refused", |s| s.requests_refused == 17)
        .await;
    assert_eq!(server.statistics().open_requests_now, 3);
    // It does not wait for those for ever.
    server.stop().await;
}

/// Requirements: COA-036, COA-038
#[tokio::test]
async fn who_is_asked_with_everybody_answers_from_his_own_address() {
    let group = Ipv4Addr::new(224, 0, 1, 187);
    let server = Server::with(|config| {
        // The system lets several tests have the same group; the port tells them apart.
        let open = config.open.get_or_insert_default();
        open.multicast = vec![group.into()];
        open.interfaces = vec!["lo".to_owned()];
        config.coap.leisure = Duration::from_millis(50);
    })
    .await;
    let to = SocketAddr::new(group.into(), server.open_address().port());
    let ask = |request| discover_multicast(to, Some("lo"), request, Duration::from_secs(1));
    let links = Request::get(".well-known/core");
    let found = ask(links).await.expect("asked");
    let [(from, response)] = found.as_slice() else {
        panic!("one answers: {found:?}");
    };
    assert_eq!(from.port(), server.open_address().port());
    assert_eq!(response.code, Code::CONTENT);
    let nothing = ask(Request::get("nothing")).await.expect("asked");
    assert!(nothing.is_empty(), "errors are left out: {nothing:?}");
    assert!(
        discover_multicast(to, Some("none0"), Request::get("x"), LONG)
            .await
            .is_err()
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_it_stops() {
    let server = Server::start().await;
    let client = server.open_client().await;
    let slow = async { client.request(Request::get("slow")).await };
    let stop = async {
        server
            .until("it is asked", |s| s.open_requests_now == 1)
            .await;
        server.tell_to_stop();
    };
    let (response, ()) = tokio::join!(slow, stop);
    assert_eq!(text(&response.expect("an answer")), "late");
    server.stop().await;
}

/// Requirements: COA-014, COA-061
#[test]
fn libcoap_reads_and_writes_in_the_clear() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(Server::start());
    let url = |path: &str| format!("coap://{}/{path}", server.open_address());
    let run = |arguments: &[&str]| {
        let output = Command::new("coap-client-openssl")
            .args(["-B", "10"])
            .args(arguments)
            .output()
            .expect("coap-client runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let links = run(&[&url(".well-known/core")]);
    assert_eq!(links, "</peer>,</large>;sz=5000");
    // It answers the Echo challenge by itself.
    assert_eq!(run(&[&url("large")]).len(), LARGE);
    assert_eq!(run(&["-m", "post", "-e", "hello", &url("echo")]), "hello");
    runtime.block_on(server.stop());
}
