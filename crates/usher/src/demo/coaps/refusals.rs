//! Whoever pretends, over CoAPs.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use coap::{Code, Request, Response, format, jpy::Jpy};
use device::brski::Verdict;
use net::{
    CancellationToken,
    coap::{CoapListener, CoapPeer, serve},
    dtls::{ClientConfig, ServerConfig, Session},
};
use tokio::net::UdpSocket;

use super::paths::enrol;
use crate::demo::{
    Failure, Scene, Told,
    device::{enrolled, refused},
    world::{World, coded},
};

/// How long an answer over loopback is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Addresses that the flood pretends to come from.
const SPOOFED: u8 = 200;
/// Where the handshake type stands in a datagram of DTLS 1.2 without protection.
const HANDSHAKE_TYPE: usize = 13;
const HELLO_VERIFY_REQUEST: u8 = 3;

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new(
            "brski-cose-coaps-rogue",
            "refused: a device that signed its own identity",
            |world| Box::pin(rogue(world)),
        ),
        Scene::new(
            "brski-cose-coaps-replay",
            "refused: an old voucher request, sent once more",
            |world| Box::pin(replay(world)),
        ),
        Scene::new(
            "brski-cose-coaps-nonce",
            "refused by the device: a voucher that answers another request",
            |world| Box::pin(other_nonce(world)),
        ),
        Scene::new(
            "brski-cose-coaps-mixed-header",
            "refused: a handshake that goes on under another device's join proxy header",
            |world| Box::pin(mixed_header(world)),
        ),
        Scene::new(
            "brski-cose-coaps-spoofed",
            "refused: handshakes from addresses that nobody answers at",
            |world| Box::pin(spoofed(world)),
        ),
    ]
}

async fn rogue(world: &World) -> Told {
    let serial = "DEMO-COAPS-ROGUE";
    world.ship(serial, None).await?;
    let idevid = world.idevid(serial, &world.unknown_ca()?)?;
    let config = world.coaps_device_with(serial, idevid)?;
    refused(&enrol(&config).await?, "registrar.manufacturer-unknown")
}

async fn replay(world: &World) -> Told {
    let serial = "DEMO-COAPS-REPLAY";
    world.ship(serial, None).await?;
    let config = world.coaps_device(serial)?;
    let outcome = enrol(&config).await?;
    enrolled(&outcome)?;
    let mut again = config.clone();
    again.device.state_folder = None;
    // A genuine request in between, so that the old one is no repetition of the last.
    enrolled(&enrol(&again).await?)?;
    again.device.replay = outcome.voucher_request;
    refused(&enrol(&again).await?, "registrar.request-replayed")
}

/// Somebody has the registrar's very keys and an old voucher.
async fn other_nonce(world: &World) -> Told {
    let serial = "DEMO-COAPS-NONCE";
    world.ship(serial, None).await?;
    let config = world.coaps_device(serial)?;
    let outcome = enrol(&config).await?;
    enrolled(&outcome)?;
    let Verdict::Enrolled(enrolment) = outcome.verdict else {
        return Err(Failure::new("pledge.internal", &"it was not let in"));
    };
    let voucher = enrolment.voucher;
    let dtls = ServerConfig::new(vec![world.registrar_identity()?]);
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let shutdown = CancellationToken::new();
    let handler = move |_: Arc<CoapPeer>, request: Request| {
        let voucher = voucher.clone();
        async move {
            match request.path.last().map(String::as_str) {
                Some("rv") => Response::content(Code::CHANGED, format::VOUCHER_COSE, voucher),
                _ => Response::new(Code::CHANGED),
            }
        }
    };
    let server = serve(
        CoapListener::new(any, dtls),
        Arc::new(handler),
        shutdown.clone(),
    )
    .await
    .map_err(coded)?;
    let mut again = config;
    again.device.state_folder = None;
    again.device.address = server.addresses().first().copied();
    let told = refused(&enrol(&again).await?, "pledge.voucher-nonce");
    shutdown.cancel();
    told
}

/// The first half of a handshake: what a client sends first, and once it has a cookie.
struct Hello {
    session: Session,
    opening: Vec<u8>,
}

impl Hello {
    fn new() -> Result<Self, Failure> {
        let mut session =
            Session::client(&ClientConfig::new(None), Duration::ZERO).map_err(coded)?;
        let opening = first(&mut session)?;
        Ok(Self { session, opening })
    }

    /// With the cookie of this answer.
    fn with_cookie(mut self, answer: &[u8]) -> Result<Vec<u8>, Failure> {
        self.session
            .receive(Duration::ZERO, answer)
            .map_err(coded)?;
        first(&mut self.session)
    }
}

fn first(session: &mut Session) -> Result<Vec<u8>, Failure> {
    session
        .transmit()
        .ok_or_else(|| Failure::new("dtls.library", &"nothing to send"))
}

/// What comes back for a datagram.
async fn exchange(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) -> Result<Vec<u8>, Failure> {
    let ours = |error: std::io::Error| Failure::new("config.usage", &error);
    let mut buffer = vec![0; 65_535];
    socket.send_to(datagram, to).await.map_err(ours)?;
    let received = tokio::time::timeout(ANSWER_TIME_MAX, socket.recv_from(&mut buffer)).await;
    let (length, _) = received
        .map_err(|_| Failure::new("dtls.closed", &"no answer"))?
        .map_err(ours)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn asks_for_a_cookie(answer: &[u8]) -> bool {
    answer.get(HANDSHAKE_TYPE) == Some(&HELLO_VERIFY_REQUEST)
}

/// A cookie is good for the header under which it was given.
async fn mixed_header(world: &World) -> Told {
    let jpy = world.jpy_address()?;
    let socket = UdpSocket::bind("127.0.0.1:0")
        .await
        .map_err(|error| Failure::new("config.usage", &error))?;
    let through = async |header: &[u8], content: &[u8]| {
        let wrapped = Jpy { header, content }.encode();
        let answer = exchange(&socket, jpy, &wrapped).await?;
        let answer = Jpy::decode(&answer).map_err(coded)?;
        if answer.header != header {
            return Err(Failure::new("proxy.header", &"another header came back"));
        }
        Ok(answer.content.to_vec())
    };
    let (mine, others) = (
        b"header of one device".as_slice(),
        b"and of another".as_slice(),
    );
    let hello = Hello::new()?;
    let answer = through(mine, &hello.opening).await?;
    let second = hello.with_cookie(&answer)?;
    let mixed_up = through(others, &second).await?;
    if !asks_for_a_cookie(&mixed_up) {
        return Err(Failure::new("dtls.closed", &"the handshake went on"));
    }
    let own = through(mine, &second).await?;
    if asks_for_a_cookie(&own) {
        return Err(Failure::new("dtls.closed", &"the cookie did not count"));
    }
    Ok("under the other header a new cookie was asked for; under its own it went on".to_owned())
}

/// Nobody who does not receive the answer gets beyond a cookie, and no answer is larger than what
/// asked for it.
async fn spoofed(world: &World) -> Told {
    let to = world.coaps_address()?;
    let ours = |error: std::io::Error| Failure::new("config.usage", &error);
    let receiver = UdpSocket::bind("127.0.0.1:0").await.map_err(ours)?;
    let hello = Hello::new()?;
    let answer = exchange(&receiver, to, &hello.opening).await?;
    let asked = hello.opening.len();
    let second = hello.with_cookie(&answer)?;
    let (mut sent, mut received) = (0, 0);
    for host in 1..=SPOOFED {
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 7, 7, host)), 0);
        let socket = UdpSocket::bind(from).await.map_err(ours)?;
        let answer = exchange(&socket, to, &second).await?;
        if !asks_for_a_cookie(&answer) {
            return Err(Failure::new("dtls.closed", &"a stolen cookie counted"));
        }
        sent += second.len();
        received += answer.len();
    }
    if received > sent || answer.len() > asked {
        let detail = format!("{received} bytes came back for {sent}");
        return Err(Failure::new("dtls.closed", &detail));
    }
    Ok(format!(
        "{SPOOFED} addresses with a stolen cookie: {received} bytes back for {sent}, no handshake"
    ))
}
