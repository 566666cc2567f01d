//! Stateful mode. Its limits are small and its states live for half a minute, so everything is
//! done once, in one order, and each case looks at its part.

use std::{collections::BTreeMap, io::ErrorKind, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{JoinProxy, ear::Side, pledge::Pledge};
use crate::{
    case::Case,
    evidence::{Item, Recorder},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

/// How long a state lives after the last datagram.
const LIFE: Duration = Duration::from_secs(30);
/// How much earlier and later than that it is looked at.
const MARGIN: Duration = Duration::from_secs(3);
/// How long is looked whether something arrives that should not.
const QUIET: Duration = Duration::from_secs(2);
/// States of one pledge, and of one interface.
const OF_PLEDGE_MAX: usize = 2;
const OF_INTERFACE_MAX: usize = 10;

/// What each case looks at: its id's end, title, requirements, whether ICMP is needed.
const CASES: &[(&str, &str, &[&str], bool)] = &[
    (
        "own-port",
        "each pledge has a port of its own towards the registrar, the same each time",
        &["JPX-008"],
        false,
    ),
    (
        "unchanged",
        "datagrams are relayed unchanged in both directions",
        &["JPX-009"],
        false,
    ),
    (
        "answers-to-the-right-one",
        "what the registrar sends to a pledge's port goes to that pledge alone",
        &["JPX-008", "JPX-009"],
        false,
    ),
    (
        "kept",
        "a state is kept for 27 seconds of silence",
        &["JPX-010"],
        false,
    ),
    (
        "forgotten",
        "a state is forgotten after 33 seconds of silence",
        &["JPX-010"],
        false,
    ),
    (
        "two-of-a-pledge",
        "one address has at most two states at once",
        &["JPX-013"],
        false,
    ),
    (
        "ten-of-an-interface",
        "an interface has at most ten states at once",
        &["JPX-014"],
        false,
    ),
    (
        "refusal-is-told",
        "a pledge that gets no state is told that it is prohibited",
        &["JPX-015"],
        true,
    ),
    (
        "error-is-told",
        "a pledge is told that the registrar's port is closed",
        &["JPX-012"],
        true,
    ),
];

pub(super) fn cases() -> Vec<Case> {
    CASES
        .iter()
        .map(|(name, title, requirements, icmp)| {
            let needs: &[&'static str] = match icmp {
                true => &["stateful", "icmp"],
                false => &["stateful"],
            };
            Case::new(
                format!("join-proxy/jp-4.3/{name}"),
                *title,
                requirements,
                move |kit: Arc<JoinProxy>, record: Recorder| async move {
                    let scene = kit.scene(&record).await;
                    record.adopt(&scene.evidence);
                    match scene.told.get(name) {
                        Some(told) => told.clone(),
                        None => Err(scene.stopped.clone().unwrap_or_else(|| {
                            Finding::could_not_test("the suite did not come to this")
                        })),
                    }
                },
            )
            .needs(needs)
            .tags(&["slow"])
        })
        .collect()
}

/// What was seen, for each case.
pub(crate) struct Scene {
    told: BTreeMap<&'static str, Told>,
    stopped: Option<Finding>,
    evidence: Vec<Item>,
}

impl JoinProxy {
    async fn scene(&self, record: &Recorder) -> &Scene {
        self.scene
            .get_or_init(|| async {
                let record = Recorder::new(record.seed);
                let mut told = BTreeMap::new();
                let stopped = play(self, &record, &mut told).await.err();
                Scene {
                    told,
                    stopped,
                    evidence: record.items(),
                }
            })
            .await
    }
}

async fn play(kit: &JoinProxy, record: &Recorder, told: &mut BTreeMap<&'static str, Told>) -> Told {
    let port = kit.port(record, Side::Coaps).await?;
    let second = usize::from(kit.sources.len() > 1);
    let mut one = Pledge::new(kit, record, port, 0).await?;
    let mut two = Pledge::new(kit, record, port, second).await?;
    told.insert("own-port", own_ports(&mut one, &mut two).await);
    told.insert("unchanged", unchanged(&mut one).await);
    told.insert(
        "answers-to-the-right-one",
        right_ones(&mut one, &mut two).await,
    );
    if kit.told_of_icmp {
        told.insert("error-is-told", closed_port(kit, &mut one).await);
    }
    let [first, second] = [&mut one, &mut two].map(|pledge| pledge.content(80));
    let of_one = one.ask(&first).await?.from;
    let of_two = two.ask(&second).await?.from;
    let silence = Instant::now();
    let limit = of_pledge(kit, record, port).await;
    let (limit, refusal) = match limit {
        Ok(refusal) => (Ok(()), refusal),
        Err(finding) => (Err(finding), None),
    };
    told.insert("two-of-a-pledge", limit);
    told.insert("refusal-is-told", prohibited(refusal));
    sleep_until(silence + LIFE - MARGIN).await;
    let kept = one.ask(&first).await?.from == of_one;
    told.insert(
        "kept",
        must(kept, "after 27 seconds it comes from another port"),
    );
    sleep_until(silence + LIFE + MARGIN).await;
    let forgotten = two.ask(&second).await?.from != of_two;
    told.insert(
        "forgotten",
        must(
            forgotten,
            "after 33 seconds it still comes from the same port",
        ),
    );
    told.insert("ten-of-an-interface", of_interface(kit, record, port).await);
    Ok(())
}

async fn own_ports(one: &mut Pledge<'_>, two: &mut Pledge<'_>) -> Told {
    let (first, second) = (one.content(100), two.content(100));
    let of_one = one.ask(&first).await?.from;
    let of_two = two.ask(&second).await?.from;
    must(
        of_one != of_two,
        format!("two pledges have the same port {of_one}"),
    )?;
    for _ in 0..3 {
        let from = one.ask(&first).await?.from;
        must(
            from == of_one,
            format!("a pledge's datagrams come from {of_one} and then from {from}"),
        )?;
    }
    Ok(())
}

async fn unchanged(pledge: &mut Pledge<'_>) -> Told {
    let mark = pledge.mark;
    let mut payloads: Vec<Vec<u8>> = [21, 100, 300, 700, 1200]
        .iter()
        .map(|length| pledge.content(*length))
        .collect();
    payloads.push([b"no DTLS at all ".as_slice(), &mark].concat());
    for payload in payloads {
        let arrival = pledge.ask(&payload).await?;
        must(
            arrival.datagram == payload,
            format!(
                "{} octets of a pledge came as {}",
                payload.len(),
                arrival.datagram.len()
            ),
        )?;
        let answer: Vec<u8> = payload.iter().rev().copied().collect();
        pledge.answer(&answer, &arrival).await?;
        pledge.must_hear(&answer, "an answer").await?;
    }
    Ok(())
}

async fn right_ones(one: &mut Pledge<'_>, two: &mut Pledge<'_>) -> Told {
    let (first, second) = (one.content(100), two.content(100));
    let at_one = one.ask(&first).await?;
    let at_two = two.ask(&second).await?;
    two.answer(b"for two", &at_two).await?;
    one.answer(b"for one", &at_one).await?;
    one.must_hear(b"for one", "the first pledge").await?;
    two.must_hear(b"for two", "the second pledge").await
}

/// The registrar's port is closed for a moment.
async fn closed_port(kit: &JoinProxy, pledge: &mut Pledge<'_>) -> Told {
    let said = pledge.content(100);
    kit.coaps.close().await;
    let sent = pledge.say(&said).await;
    let heard = pledge.hears(kit.answer).await;
    kit.coaps.reopen().or_could_not_test("listening again")?;
    sent?;
    match heard {
        Some(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Some(Err(error)) => Err(Finding::fail(format!("the pledge is told {error}"))),
        Some(Ok(_)) => Err(Finding::fail("the pledge got an answer")),
        None => Err(Finding::fail("the pledge is told nothing")),
    }
}

/// Opens more states of one address than it may have. Gives what the refused one heard.
async fn of_pledge(
    kit: &JoinProxy,
    record: &Recorder,
    port: std::net::SocketAddr,
) -> Result<Option<std::io::Result<Vec<u8>>>, Finding> {
    // An address of its own if there is one, so that nothing else counts; else there is one state.
    let (source, before) = match kit.sources.len() {
        0..4 => (0, 1),
        _ => (2, 0),
    };
    let mut states = before;
    for _ in 0..=OF_PLEDGE_MAX {
        let mut pledge = Pledge::new(kit, record, port, source).await?;
        pledge.say(&pledge.content(80)).await?;
        if pledge.arrived(Instant::now() + QUIET).await.is_some() {
            states += 1;
        } else if states <= OF_PLEDGE_MAX {
            return Ok(pledge.hears(QUIET).await);
        }
    }
    must(
        states <= OF_PLEDGE_MAX,
        format!("one address has {states} states at once"),
    )?;
    Ok(None)
}

fn prohibited(heard: Option<std::io::Result<Vec<u8>>>) -> Told {
    match heard {
        Some(Err(error)) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Some(Err(error)) => Err(Finding::fail(format!("the pledge is told {error}"))),
        Some(Ok(_)) => Err(Finding::fail("the pledge got an answer")),
        None => Err(Finding::fail("the pledge is told nothing")),
    }
}

/// Opens states of different addresses until there is no more.
async fn of_interface(kit: &JoinProxy, record: &Recorder, port: std::net::SocketAddr) -> Told {
    // The pledges that were kept and forgotten have one each by now.
    let mut states = 2;
    let last = kit.sources.len() - 1;
    for source in 3..last {
        let mut pledge = Pledge::new(kit, record, port, source).await?;
        pledge.say(&pledge.content(80)).await?;
        if pledge.arrived(Instant::now() + QUIET).await.is_none() {
            return Ok(());
        }
        states += 1;
        must(
            states <= OF_INTERFACE_MAX,
            format!("an interface has {states} states at once"),
        )?;
    }
    Err(Finding::not_applicable(format!(
        "settings.sources are too few: {states} states could be made"
    )))
}
