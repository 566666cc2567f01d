//! Peers that are slow, large, silent or broken, and the others that must not notice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use net::HttpVersion;
use net::client::{Connection, Target, fetch};
use net::server::{Limits, ListenerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, VERSIONS, client, get_json, post};

const SHORT: Duration = Duration::from_millis(300);

/// A plain HTTP/1.1 server: the limits are the same and the bytes are in plain sight.
async fn plain(limits: Limits) -> Server {
    Server::with(
        &[crate::support::Subject::default().self_signed()],
        |config: &mut ListenerConfig| {
            config.tls = None;
            config.limits = limits;
        },
    )
    .await
}

async fn secure(limits: Limits) -> Server {
    Server::with(
        &[crate::support::Subject::default().self_signed()],
        |config| {
            config.limits = limits;
        },
    )
    .await
}

/// Waits for a counter to get there; how long that takes does not matter to the test.
async fn reaches(counter: &AtomicU64, value: u64) {
    let waiting = async {
        while counter.load(Ordering::Relaxed) != value {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(15), waiting).await;
    seen.unwrap_or_else(|_| panic!("{} instead of {value}", counter.load(Ordering::Relaxed)));
}

/// Sends bytes and reads until the server closes.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer));
    // A reset after the answer is as good an end as any.
    let _ = reading.await.expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_are_shed_while_others_are_served() {
    let limits = Limits {
        header_read_time_max: SHORT,
        ..Limits::default()
    };
    let server = plain(limits).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        stream
            .write_all(b"GET /peer HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            .await
            .expect("sent");
        slow.push(stream);
    }
    let mut plain_target = server.target();
    plain_target.secure = false;
    let mut good = Connection::open(&plain_target, &client(HttpVersion::Http1))
        .await
        .expect("connected");
    get_json(&mut good, "/peer").await;
    reaches(&server.counters.connections_shed, 50).await;
    for mut stream in slow {
        let mut rest = Vec::new();
        // Closed in good form or by reset: closed it is.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    // Idle, and not slow: the good one was left alone.
    get_json(&mut good, "/peer").await;
    drop(good);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_answered_with_408() {
    let limits = Limits {
        body_grace_time: SHORT,
        body_bytes_per_second_min: 1_000_000,
        ..Limits::default()
    };
    let server = plain(limits).await;
    let answer = raw(
        &server,
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("net.body-too-slow"), "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_answered_with_413() {
    let limits = Limits {
        request_body_bytes_max: 1000,
        ..Limits::default()
    };
    let server = secure(limits.clone()).await;
    for http in VERSIONS {
        let mut connection = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        let response = post(&mut connection, "/echo", vec![0; 1000])
            .await
            .expect("an answer");
        assert_eq!(
            (response.status.as_u16(), response.body.len()),
            (200, 1000),
            "{http}"
        );
        let response = post(&mut connection, "/echo", vec![0; 1001])
            .await
            .expect("an answer");
        assert_eq!(response.status, 413, "{http}");
        assert_eq!(
            response.header("content-type"),
            Some("application/problem+json")
        );
        let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(problem["code"], "net.body-too-large");
        let mut large = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        let response = post(&mut large, "/echo", vec![0; 3_000_000])
            .await
            .expect("an answer");
        assert_eq!(response.status, 413, "{http}");
    }
    assert_eq!(server.counters.requests_refused.load(Ordering::Relaxed), 6);
    server.stop().await;

    // Without a declared length it shows only on the way.
    let server = plain(limits).await;
    let mut chunked =
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend_from_slice(b"64\r\n");
        chunked.extend_from_slice(&[b'x'; 100]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(&server, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_held_at_once_have_a_limit() {
    let limits = Limits {
        request_bodies_bytes_max: 2000,
        ..Limits::default()
    };
    let server = secure(limits).await;
    let mut connection = Connection::open(&server.target(), &client(HttpVersion::Http2))
        .await
        .expect("connected");
    let response = post(&mut connection, "/echo", vec![0; 2001])
        .await
        .expect("an answer");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("5"));
    // What was held is given back.
    let response = post(&mut connection, "/echo", vec![0; 2000])
        .await
        .expect("an answer");
    assert_eq!(response.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_headers_are_refused() {
    let server = plain(Limits::default()).await;
    let value = "x".repeat(40_000);
    let request = format!("GET /peer HTTP/1.1\r\nHost: x\r\nX-Large: {value}\r\n\r\n");
    let answer = raw(&server, request.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many: String = (0..200).map(|index| format!("X-{index}: y\r\n")).collect();
    let answer = raw(
        &server,
        format!("GET /peer HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    server.stop().await;

    let server = secure(Limits::default()).await;
    for http in VERSIONS {
        let mut connection = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        let mut headers = HeaderMap::new();
        headers.insert("x-large", "x".repeat(40_000).parse().expect("a value"));
        let answer = connection
            .request(Method::GET, "/peer", headers, Bytes::new())
            .await;
        assert!(
            answer.is_err() || answer.is_ok_and(|answer| answer.status == 431),
            "{http}"
        );
        let mut again = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        get_json(&mut again, "/peer").await;
    }
    assert_eq!(server.counters.requests.load(Ordering::Relaxed), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_two_readers_could_take_for_two_things_is_refused() {
    let server = plain(Limits::default()).await;
    let both = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let cases = [
        ("GET /peer HTTP/1.1\r\n\r\n", "400", "one Host field"),
        (
            "GET /peer HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "400",
            "one Host field",
        ),
        ("GET /peer HTTP/1.1\r\nHost: a b\r\n\r\n", "400", "no host"),
        ("GET /peer HTTP/1.1\r\nHost: me@a\r\n\r\n", "400", "no host"),
        (
            "GET /peer HTTP/1.1\r\nHost: \"><x>\r\n\r\n",
            "400",
            "no host",
        ),
        // The chunks count, and nothing that follows on this connection.
        (both, "200", "connection: close"),
        (
            "GET /peer HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nConnection: close\r\n\r\n",
            "200",
            "",
        ),
        (
            "GET /peer HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
            "200",
            "",
        ),
        // HTTP/1.0 has no Host field.
        ("GET /peer HTTP/1.0\r\n\r\n", "200", ""),
    ];
    for (request, status, detail) in cases {
        let answer = raw(&server, request.as_bytes()).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.contains(status), "{request:?}: {answer}");
        assert!(answer.contains(detail), "{request:?}: {answer}");
        let refused = answer.contains("net.header");
        assert_eq!(status == "400", refused, "{request:?}: {answer}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_do_not_keep_others_waiting() {
    let limits = Limits {
        handshake_time_max: SHORT,
        ..Limits::default()
    };
    let server = secure(limits).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3],
        &[0; 64],
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        stream.write_all(garbage).await.expect("sent");
        silent.push(stream);
    }
    let mut short = TcpStream::connect(server.address).await.expect("connected");
    short.write_all(&[0x16, 3, 1]).await.expect("sent");
    drop(short);
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("bound");
    for length in [1, 20, 1200] {
        udp.send_to(&vec![0xc0; length], server.address)
            .await
            .expect("sent");
    }
    for http in VERSIONS {
        server.ask(&client(http)).await;
    }
    reaches(&server.counters.handshakes_failed, 24).await;
    reaches(&server.counters.connections_open, 0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_peer_have_a_limit() {
    let limits = Limits {
        connections_per_address_max: 2,
        ..Limits::default()
    };
    let server = secure(limits).await;
    let config = client(HttpVersion::Http1);
    let first = Connection::open(&server.target(), &config)
        .await
        .expect("connected");
    let _second = Connection::open(&server.target(), &config)
        .await
        .expect("connected");
    Connection::open(&server.target(), &config)
        .await
        .expect_err("one too many");
    let quic = net::client::ClientConfig {
        http: HttpVersion::Http3,
        ..config.clone()
    };
    Connection::open(&server.target(), &quic)
        .await
        .expect_err("QUIC counts too");
    first.close().await;
    reaches(&server.counters.connections_open, 1).await;
    Connection::open(&server.target(), &quic)
        .await
        .expect("a place is free");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed() {
    let limits = Limits {
        idle_time_max: SHORT,
        ..Limits::default()
    };
    let server = secure(limits).await;
    let mut idle = Vec::new();
    for http in VERSIONS {
        let mut connection = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        get_json(&mut connection, "/peer").await;
        // Longer than the idle time, but not idle.
        let answer = connection
            .request(Method::GET, "/slow", HeaderMap::new(), Bytes::new())
            .await
            .expect("an answer");
        assert_eq!(answer.status, 200);
        idle.push(connection);
    }
    reaches(&server.counters.connections_open, 0).await;
    for connection in &mut idle {
        let answer = connection
            .request(Method::GET, "/peer", HeaderMap::new(), Bytes::new())
            .await;
        answer.expect_err("the connection is closed");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_shed() {
    let limits = Limits {
        write_stall_time_max: SHORT,
        ..Limits::default()
    };
    let server = plain(limits).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        // More answers than the buffers of two sockets hold.
        for _ in 0..4 {
            stream
                .write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .expect("sent");
        }
        streams.push(stream);
    }
    reaches(&server.counters.connections_accepted, 3).await;
    reaches(&server.counters.connections_open, 0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_500_for_one_request_only() {
    let server = Server::start().await;
    for http in VERSIONS {
        let mut connection = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        let answer = connection
            .request(Method::GET, "/panic", HeaderMap::new(), Bytes::new())
            .await
            .expect("an answer");
        assert_eq!(answer.status, 500);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            text.contains("net.panic") && !text.contains("secret"),
            "{text}"
        );
        get_json(&mut connection, "/peer").await;
    }
    assert_eq!(server.counters.panics.load(Ordering::Relaxed), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_too_long_is_answered_with_503() {
    let limits = Limits {
        request_time_max: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = secure(limits).await;
    for http in VERSIONS {
        let mut connection = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        let answer = connection
            .request(Method::GET, "/slow", HeaderMap::new(), Bytes::new())
            .await
            .expect("an answer");
        assert_eq!(answer.status, 503);
        assert!(String::from_utf8_lossy(&answer.body).contains("net.request-timeout"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_finishes_what_is_in_progress() {
    for http in VERSIONS {
        let server = Server::start().await;
        let mut connection = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        get_json(&mut connection, "/peer").await;
        let counters = std::sync::Arc::clone(&server.counters);
        let asking = tokio::spawn(async move {
            connection
                .request(Method::GET, "/slow", HeaderMap::new(), Bytes::new())
                .await
        });
        reaches(&counters.requests, 2).await;
        let address = server.address;
        server.tell_to_stop();
        let answer = asking.await.expect("no panic").expect("an answer");
        assert_eq!(&answer.body[..], b"done", "{http}");
        server.stop().await;
        let target = Target::from_address(address);
        let mut config = client(http);
        config.limits.handshake_time_max = SHORT;
        Connection::open(&target, &config)
            .await
            .expect_err("nobody listens any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_listener_serves_the_administrator() {
    let server = plain(Limits::default()).await;
    let url = url::Url::parse(&format!("http://{}/peer?x=1", server.address)).expect("a URL");
    let config = client(HttpVersion::Http1);
    let answer = fetch(&url, Method::GET, HeaderMap::new(), Bytes::new(), &config)
        .await
        .expect("an answer");
    let seen: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(seen["tls"], serde_json::Value::Null);
    assert_eq!(seen["http"], "http/1.1");
    server.stop().await;
}
