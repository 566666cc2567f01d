//! The circuit proxy: TCP connections, octet for octet.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::JoinProxy;
use crate::{
    case::Case,
    evidence::Recorder,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

type Make = fn() -> Vec<u8>;

/// The beginning of a connection, which no proxy may look at.
const BEGINNINGS: &[(&str, &str, Make)] = &[
    ("tls12", "a ClientHello of TLS 1.2", || hello([3, 3])),
    (
        "tls-unknown",
        "a ClientHello of a TLS that nobody knows",
        || hello([9, 9]),
    ),
    ("no-tls", "what is no TLS", || {
        (0_u8..=255).rev().cycle().take(5000).collect()
    }),
];

fn hello(version: [u8; 2]) -> Vec<u8> {
    let body = [version.as_slice(), &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    let mut octets = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    octets.extend(body);
    octets
}

pub(super) fn cases() -> Vec<Case> {
    BEGINNINGS
        .iter()
        .map(|(id, title, make)| {
            Case::new(
                format!("join-proxy/rfc8995-4/{id}"),
                format!("{title} goes through a circuit unchanged, and so does the answer"),
                &["BRSKI-4-01", "BRSKI-4-02"],
                move |kit: Arc<JoinProxy>, record: Recorder| {
                    let said = make();
                    async move { through(&kit, &record, &said).await }
                },
            )
            .needs(&["circuit"])
        })
        .collect()
}

async fn through(kit: &JoinProxy, record: &Recorder, said: &[u8]) -> Told {
    let (Some(listener), Some(circuit)) = (&kit.https, kit.circuit) else {
        return Err(Finding::could_not_test(
            "the profile lacks settings.circuit",
        ));
    };
    // Connections have no mark, so there is one at a time.
    let _turn = kit.circuit_turn.lock().await;
    let mut pledge = TcpStream::connect(circuit)
        .await
        .or_could_not_test("connecting to the circuit proxy")?;
    let (mut registrar, from) = timeout(kit.answer, listener.accept())
        .await
        .map_err(|_| Finding::fail("no connection came to the registrar"))?
        .or_could_not_test("accepting")?;
    record.note(format!("the registrar has a connection from {from}"));
    let up = "to the registrar";
    relayed(kit, record, (&mut pledge, &mut registrar), said, up).await?;
    let answer: Vec<u8> = said.iter().map(|octet| octet ^ 0x5a).collect();
    let down = "to the pledge";
    relayed(kit, record, (&mut registrar, &mut pledge), &answer, down).await?;
    // One side is done; the other is told, and could still speak.
    pledge.shutdown().await.or_could_not_test("closing")?;
    let mut rest = Vec::new();
    let ended = timeout(kit.answer, registrar.read_to_end(&mut rest)).await;
    must(
        ended.is_ok() && rest.is_empty(),
        "the registrar is not told that the pledge has no more to say",
    )
}

async fn relayed(
    kit: &JoinProxy,
    record: &Recorder,
    (sender, receiver): (&mut TcpStream, &mut TcpStream),
    octets: &[u8],
    direction: &str,
) -> Told {
    record.sent(direction, octets, "");
    sender
        .write_all(octets)
        .await
        .or_could_not_test("sending")?;
    let mut got = vec![0; octets.len()];
    let read = timeout(kit.answer, receiver.read_exact(&mut got)).await;
    must(
        matches!(read, Ok(Ok(_))),
        format!("{direction}: not all octets came"),
    )?;
    record.received(direction, &got, "");
    must(got == octets, format!("{direction}: other octets came"))
}
