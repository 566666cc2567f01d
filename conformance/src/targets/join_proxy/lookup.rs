//! How pledges find the join ports.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::JoinProxy;
use crate::{
    case::Case,
    coaps_message::{CON, Code, Message, option},
    evidence::Recorder,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

/// application/link-format.
const LINK_FORMAT: u64 = 40;
/// How often a question is asked again.
const REPEAT: Duration = Duration::from_secs(2);

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        Case::new(
            "join-proxy/jp-5.2/join-ports",
            "brski-jp=* is answered with <>;brski-jp=PORT in link format",
            &["JPX-044", "JPX-051"],
            told,
        ),
        Case::new(
            "join-proxy/jp-5.2/each-leads-somewhere",
            "each port that is told leads to a registrar",
            &["JPX-044"],
            each_leads,
        ),
        Case::new(
            "join-proxy/jp-5.2/other-questions",
            "a question for something else is not answered with join ports",
            &["JPX-045"],
            other_questions,
        ),
        Case::new(
            "join-proxy/jp-5.2/malformed-questions",
            "what is no CoAP does not stop the answers",
            &["JPX-044"],
            malformed,
        )
        .tags(&["hostile"]),
    ];
    let needs = |case: Case| case.needs(&["discovery"]);
    cases.into_iter().map(needs).collect()
}

/// Asks what the proxy has that matches this.
async fn ask(
    kit: &JoinProxy,
    record: &Recorder,
    asked: SocketAddr,
    query: &str,
) -> Result<(SocketAddr, Message), Finding> {
    let any = match asked {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).await.or_could_not_test("a socket")?;
    let id = u16::try_from(record.seed % 0x8000).unwrap_or_default();
    let mut question = Message::new(CON, Code::GET, id)
        .option(option::URI_PATH, b".well-known".as_slice())
        .option(option::URI_PATH, b"core".as_slice())
        .option(option::URI_QUERY, query.as_bytes());
    question.token = vec![0x4a, 0x50];
    let octets = question.encode();
    let until = Instant::now() + kit.answer;
    let mut buffer = vec![0; 4096];
    while Instant::now() < until {
        record.sent(format!("pledge to {asked}"), &octets, question.shown());
        socket
            .send_to(&octets, asked)
            .await
            .or_could_not_test("sending")?;
        let again = (Instant::now() + REPEAT).min(until);
        while let Ok(Ok((length, from))) = timeout_at(again, socket.recv_from(&mut buffer)).await {
            let octets = buffer.get(..length).unwrap_or_default();
            let answer = Message::decode(octets);
            let shown = answer.as_ref().map(Message::shown).unwrap_or_default();
            record.received(format!("from {from}"), octets, shown);
            let answer =
                answer.map_err(|error| Finding::fail(format!("the answer is no CoAP: {error}")))?;
            // An empty acknowledgement says that the answer follows.
            if answer.code != Code::EMPTY && answer.token == question.token {
                return Ok((from, answer));
            }
        }
    }
    Err(Finding::fail(format!(
        "nobody answered {query} at {asked} within {} s",
        kit.answer.as_secs()
    )))
}

/// Links as target and attributes. Our own reader, so that no other has to be right.
fn links(text: &str) -> Vec<(String, Vec<String>)> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut in_target) = (false, false);
    for character in text.chars() {
        match character {
            '"' if !in_target => quoted = !quoted,
            '<' if !quoted => in_target = true,
            '>' if !quoted => in_target = false,
            ',' if !quoted && !in_target => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts
        .iter()
        .filter_map(|part| {
            let (target, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
            let attributes = rest.split(';').skip(1).map(str::to_owned).collect();
            Some((target.to_owned(), attributes))
        })
        .collect()
}

/// The values of brski-jp, with the target of their link.
fn offers(answer: &Message) -> Result<Vec<(String, String)>, Finding> {
    let text = std::str::from_utf8(&answer.payload)
        .map_err(|_| Finding::fail("the answer is no link format: it is no UTF-8"))?;
    let mut offers = Vec::new();
    for (target, attributes) in links(text) {
        for attribute in attributes {
            if let Some(value) = attribute.strip_prefix("brski-jp=") {
                offers.push((target.clone(), value.trim_matches('"').to_owned()));
            }
        }
    }
    Ok(offers)
}

/// The join ports that the proxy tells; none where it says that it has none.
pub(super) async fn join_ports(
    kit: &JoinProxy,
    record: &Recorder,
    asked: SocketAddr,
) -> Result<Vec<SocketAddr>, Finding> {
    let (from, answer) = ask(kit, record, asked, "brski-jp=*").await?;
    if !answer.code.is_success() {
        return Ok(Vec::new());
    }
    let ports = offers(&answer)?.into_iter().filter_map(|(_, value)| {
        let mut port = from;
        port.set_port(value.parse().ok()?);
        Some(port)
    });
    Ok(ports.collect())
}

fn asked(kit: &JoinProxy) -> Result<SocketAddr, Finding> {
    kit.asked
        .ok_or_else(|| Finding::could_not_test("the profile lacks endpoint.url"))
}

async fn told(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    // The proxy may still be looking for its registrar.
    kit.ports(&record).await?;
    let (_, answer) = ask(&kit, &record, asked(&kit)?, "brski-jp=*").await?;
    must(
        answer.code == Code::CONTENT,
        format!("the answer is {} and not 2.05", answer.code),
    )?;
    let format = answer.uint(option::CONTENT_FORMAT);
    must(
        format == Some(LINK_FORMAT),
        format!("the Content-Format is {format:?} and not 40"),
    )?;
    let offers = offers(&answer)?;
    must(!offers.is_empty(), "there is no link with brski-jp")?;
    for (target, value) in offers {
        must(
            target.is_empty(),
            format!("the link with brski-jp has the target {target:?} and not an empty one"),
        )?;
        let is_decimal = value.bytes().all(|octet| octet.is_ascii_digit());
        let port = value.parse::<u16>().unwrap_or_default();
        must(
            is_decimal && port > 0,
            format!("brski-jp is {value:?}, which is no port"),
        )?;
    }
    Ok(())
}

async fn each_leads(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let ports = kit.ports(&record).await?;
    must(!ports.all.is_empty(), "no join port is told")?;
    must(
        ports.deaf.is_empty(),
        format!("what goes to {:?} reaches no registrar", ports.deaf),
    )
}

async fn other_questions(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    for query in ["rt=foo", "brski-jp=1", "if=sensor"] {
        let (_, answer) = ask(&kit, &record, asked(&kit)?, query).await?;
        let offers = match answer.code.is_success() {
            true => offers(&answer)?,
            false => Vec::new(),
        };
        must(
            offers.is_empty(),
            format!("{query} is answered with join ports"),
        )?;
    }
    Ok(())
}

async fn malformed(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    // The proxy may still be looking for its registrar.
    kit.ports(&record).await?;
    let asked = asked(&kit)?;
    let any = match asked {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).await.or_could_not_test("a socket")?;
    let bad = [
        b"".as_slice(),
        b"\x40",
        b"\x40\x01\x00\x01\xff",
        b"\x4f\x01\x00\x01",
        b"\x41\x01\x00\x01",
        b"\x40\x01\x00\x01\xbf",
        b"\x40\x01\x00\x01\xe0\xff\xff",
        b"\x80\x01\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 0xfe, 0xfd, 0, 0, 0, 0],
        &[0xff; 1200],
    ];
    for octets in bad {
        record.sent(format!("pledge to {asked}"), octets, "");
        socket
            .send_to(octets, asked)
            .await
            .or_could_not_test("sending")?;
    }
    let ports = join_ports(&kit, &record, asked).await?;
    must(!ports.is_empty(), "no join port is told any more")
}
