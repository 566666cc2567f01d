//! CoAP without DTLS, which is for discovery alone.

use std::{sync::Arc, time::Duration};

use tokio::net::UdpSocket;

use super::{Served, case, format};
use crate::{
    case::Case,
    coaps::{Ask, CON, Code, Message, option, uint},
    evidence::Recorder,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

pub(super) fn cases<K: Served>() -> Vec<Case> {
    vec![
        case::<K, _, _>(
            "rfc7252-9/resources-in-the-clear",
            "no resource beside discovery is there without DTLS",
            &["COA-041"],
            resources,
        )
        .tags(&["coap", "hostile", "discovery"])
        .needs(&["open-discovery"]),
        case::<K, _, _>(
            "rfc7252-11.3/amplification",
            "whoever has not shown where it is gets at most three times what it sent",
            &["COA-042", "COA-070", "COA-071"],
            amplification,
        )
        .tags(&["coap", "hostile", "discovery"])
        .needs(&["open-discovery"]),
        case::<K, _, _>(
            "rfc9175-2.3/echo-of-another",
            "an Echo counts for the address that got it",
            &["COA-072", "COA-069"],
            echo_of_another,
        )
        .tags(&["coap", "hostile", "discovery"])
        .needs(&["open-discovery"]),
        case::<K, _, _>(
            "rfc6690-4/core-in-the-clear",
            "discovery in the clear names where the rest is",
            &["COA-044"],
            core,
        )
        .tags(&["coap", "discovery"])
        .needs(&["open-discovery"]),
    ]
}

/// A socket towards the port without DTLS.
async fn socket<K: Served>(kit: &K) -> Result<UdpSocket, Finding> {
    socket_from(kit, None).await
}

/// The same from an address of this machine.
async fn socket_from<K: Served>(kit: &K, from: Option<&str>) -> Result<UdpSocket, Finding> {
    let address = kit
        .base()
        .open
        .clone()
        .ok_or_else(|| Finding::could_not_test("the profile lacks settings.open"))?;
    let any = if address.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(from.unwrap_or(any))
        .await
        .or_could_not_test("a socket")?;
    socket.connect(&address).await.or_could_not_test(&address)?;
    Ok(socket)
}

fn message(ask: &Ask) -> Message {
    let mut message = Message::new(CON, ask.method, rand::random());
    message.token = rand::random::<[u8; 2]>().to_vec();
    message.options.clone_from(&ask.options);
    message.payload.clone_from(&ask.payload);
    message
}

async fn exchange(
    socket: &UdpSocket,
    record: &Recorder,
    message: &Message,
) -> Result<Option<(Message, usize)>, Finding> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let octets = message.encode();
    record.sent("CoAP in the clear", &octets, message.shown());
    socket.send(&octets).await.or_could_not_test("sending")?;
    let mut buffer = vec![0; 65_536];
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match tokio::time::timeout_at(until, socket.recv(&mut buffer)).await {
            Err(_) => return Ok(None),
            Ok(Err(error)) => return Err(Finding::could_not_test(error.to_string())),
            Ok(Ok(length)) => {
                let octets = buffer.get(..length).unwrap_or_default();
                let reply = Message::decode(octets).map_err(Finding::fail)?;
                record.received("CoAP in the clear", octets, reply.shown());
                if reply.token == message.token || reply.id == message.id {
                    return Ok(Some((reply, length)));
                }
            }
        }
    }
}

async fn resources<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let socket = socket(&*kit).await?;
    let est = &kit.base().est;
    for ask in [
        Ask::post("/.well-known/brski/rv", format::VOUCHER, b"x"),
        Ask::post("/.well-known/brski/vs", format::CBOR, &[0xa0]),
        Ask::get(&format!("{est}/crts")),
        Ask::get(&format!("{est}/att")),
        Ask::post(&format!("{est}/sen"), format::PKCS10, b"x"),
        Ask::post(&format!("{est}/sren"), format::PKCS10, b"x"),
    ] {
        if let Some((reply, _)) = exchange(&socket, &record, &message(&ask)).await? {
            must(
                matches!(
                    reply.code,
                    Code::UNAUTHORIZED
                        | Code::NOT_FOUND
                        | Code::FORBIDDEN
                        | Code::METHOD_NOT_ALLOWED
                        | Code::EMPTY
                ),
                format!("it was answered {}", reply.code),
            )?;
        }
    }
    Ok(())
}

async fn amplification<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let socket = socket(&*kit).await?;
    let question = message(&Ask::get("/.well-known/core"));
    let sent = question.encode().len();
    if let Some((reply, came)) = exchange(&socket, &record, &question).await? {
        must(
            came <= 3 * sent || came <= 136,
            format!("{sent} octets were answered with {came}"),
        )?;
        if reply.get(option::ECHO).is_some() {
            must(
                reply.code == Code::UNAUTHORIZED && reply.kind != CON,
                format!("a request for an Echo came as {}", reply.code),
            )?;
        }
    }
    Ok(())
}

/// An Echo that the server wants back.
async fn echo_from(socket: &UdpSocket, record: &Recorder) -> Result<Option<Vec<u8>>, Finding> {
    let reply = exchange(socket, record, &message(&Ask::get("/.well-known/core"))).await?;
    Ok(reply.and_then(|(reply, _)| reply.get(option::ECHO).map(<[u8]>::to_vec)))
}

async fn echo_of_another<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let one = socket(&*kit).await?;
    let Some(echo) = echo_from(&one, &record).await? else {
        return Err(Finding::not_applicable("the server asks for no Echo"));
    };
    let ask = Ask::get("/.well-known/core").option(option::ECHO, echo);
    // The address counts, the port need not: only a machine with two addresses can try it.
    let is_here = kit
        .base()
        .open
        .as_deref()
        .is_some_and(|open| open.starts_with("127."));
    if !is_here {
        return Err(Finding::not_applicable(
            "the suite has a second address only towards a server at 127.0.0.1",
        ));
    }
    let other = socket_from(&*kit, Some("127.0.0.2:0")).await?;
    let question = message(&ask);
    let sent = question.encode().len();
    if let Some((reply, came)) = exchange(&other, &record, &question).await? {
        // What is no more than three times the question needs no Echo at all.
        must(
            !reply.code.is_success() || came <= 3 * sent,
            "the Echo of one address was taken from another",
        )?;
    }
    let reply = exchange(&one, &record, &message(&ask)).await?;
    must(
        reply.is_some_and(|(reply, _)| reply.code.is_success()),
        "the Echo was not taken from the address that got it",
    )
}

async fn core<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let socket = socket(&*kit).await?;
    let mut ask = Ask::get("/.well-known/core");
    if let Some(echo) = echo_from(&socket, &record).await? {
        ask = ask.option(option::ECHO, echo);
    }
    let mut links = Vec::new();
    for number in 0..64 {
        let message = message(&ask).option(option::BLOCK2, crate::coaps::block(number, false, 6));
        let (reply, _) = exchange(&socket, &record, &message)
            .await?
            .ok_or_else(|| Finding::fail("it was not answered"))?;
        must(
            reply.code == Code::CONTENT
                && reply.get(option::CONTENT_FORMAT) == Some(&uint(u64::from(format::LINKS))),
            format!("it was answered {}", reply.code),
        )?;
        links.extend_from_slice(&reply.payload);
        if !reply.block(option::BLOCK2).is_some_and(|(_, more, _)| more) {
            break;
        }
    }
    let links = super::options::links(&links)?;
    must(
        links
            .iter()
            .any(|(target, _)| target.starts_with("coaps://")),
        "no link leads to coaps://",
    )
}
