//! JPY: what goes to the registrar, and what of its answers reaches pledges.

use std::{future::Future, net::IpAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, time::Instant};

use super::{JoinProxy, ear::Arrival, pledge::Pledge, wire};
use crate::{
    case::Case,
    evidence::Recorder,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

/// How long is looked whether something comes that may not come.
const QUIET: Duration = Duration::from_millis(700);
/// The longest header, and what a message may be longer than its content.
const HEADER_MAX: usize = 32;
const OVERHEAD_MAX: usize = 38;
/// Pledges at once.
const MANY: usize = 30;

fn case<R>(
    id: &str,
    title: &str,
    requirements: &[&str],
    body: impl Fn(Arc<JoinProxy>, Recorder) -> R + Send + Sync + 'static,
) -> Case
where
    R: Future<Output = Told> + Send + 'static,
{
    Case::new(format!("join-proxy/{id}"), title, requirements, body).needs(&["stateless"])
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "jp-4.5.2/message",
            "what a pledge sends comes as one JPY message, directly in UDP",
            &["JPX-025", "JPX-022"],
            message,
        ),
        case(
            "jp-4.5.2/unchanged",
            "the content of JPY messages is what the pledge and the registrar said",
            &["JPX-009"],
            unchanged,
        ),
        case(
            "jp-4.5.2/header-length",
            "the header has no more than 32 octets",
            &["JPX-026"],
            header_length,
        ),
        case(
            "jp-4.4/one-port",
            "all pledges' messages come from one address and port",
            &["JPX-021"],
            one_port,
        ),
        case(
            "jp-4.4/headers-tell-apart",
            "each pledge has a header of its own, the same each time",
            &["JPX-019"],
            headers_tell_apart,
        ),
        case(
            "jp-4.4/crossed-answers",
            "answers go to the pledge of the header, in whatever order they come",
            &["JPX-019", "JPX-009"],
            crossed,
        ),
        case(
            "jp-4.4/many-pledges",
            "thirty pledges at once each get their own answer",
            &["JPX-019"],
            many,
        ),
        case(
            "jp-4.5.4/no-amplification",
            "one datagram of a pledge makes one message, at most 38 octets longer",
            &["JPX-026"],
            no_amplification,
        ),
        case(
            "jp-7/any-payload",
            "what is no DTLS is relayed as it is, and does not stop the proxy",
            &["JPX-009"],
            any_payload,
        )
        .tags(&["hostile"]),
        case(
            "jp-4.5.7/malformed",
            "what is no JPY message reaches no pledge",
            &["JPX-025"],
            malformed,
        )
        .tags(&["hostile"]),
        case(
            "jp-4.5.5/from-elsewhere",
            "a JPY message from another port than the registrar's reaches no pledge",
            &["JPX-031"],
            from_elsewhere,
        )
        .tags(&["hostile"]),
        case(
            "jp-4.5.5/forged",
            "a message with a changed header reaches no pledge, and nobody is told",
            &["JPX-029"],
            forged,
        )
        .needs(&["sealed-header"])
        .tags(&["hostile"]),
        case(
            "jp-4.5.5/made-up",
            "a message with a made-up header reaches no pledge",
            &["JPX-029"],
            made_up,
        )
        .needs(&["sealed-header"])
        .tags(&["hostile"]),
        case(
            "jp-4.5.5/hidden",
            "the header does not show the pledge's address and port",
            &["JPX-028"],
            hidden,
        )
        .needs(&["sealed-header"]),
    ]
}

async fn message(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    let said = pledge.content(300);
    let arrival = pledge.ask(&said).await?;
    let (header, content) = wire::read(&arrival.datagram)?;
    must(!header.is_empty(), "the header is empty")?;
    must(content == said, "the content is not what the pledge said")?;
    pledge
        .answer(&wire::jpy(&header, b"answer"), &arrival)
        .await?;
    pledge.must_hear(b"answer", "an answer").await
}

async fn unchanged(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    for length in [21, 23, 24, 200, 255, 256, 500, 1000, 1200] {
        let said = pledge.content(length);
        let arrival = pledge.ask(&said).await?;
        let (header, content) = wire::read(&arrival.datagram)?;
        must(
            content == said,
            format!("{length} octets of a pledge came as {}", content.len()),
        )?;
        let answer: Vec<u8> = said.iter().rev().copied().collect();
        pledge
            .answer(&wire::jpy(&header, &answer), &arrival)
            .await?;
        pledge
            .must_hear(&answer, &format!("an answer of {length} octets"))
            .await?;
    }
    Ok(())
}

/// What the proxy writes into the header for a pledge.
async fn header_of(pledge: &mut Pledge<'_>) -> Result<Vec<u8>, Finding> {
    let said = pledge.content(100);
    let arrival = pledge.ask(&said).await?;
    Ok(wire::read(&arrival.datagram)?.0)
}

async fn header_length(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    for _ in 0..3 {
        let mut pledge = kit.stateless(&record).await?;
        let length = header_of(&mut pledge).await?.len();
        must(
            length <= HEADER_MAX,
            format!("the header has {length} octets"),
        )?;
    }
    Ok(())
}

async fn one_port(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut seen = Vec::new();
    for _ in 0..4 {
        let mut pledge = kit.stateless(&record).await?;
        let said = pledge.content(100);
        seen.push(pledge.ask(&said).await?.from);
    }
    must(
        seen.iter().all(|from| Some(from) == seen.first()),
        format!("messages came from {seen:?}"),
    )
}

async fn headers_tell_apart(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut one = kit.stateless(&record).await?;
    let mut two = kit.stateless(&record).await?;
    let (of_one, of_two) = (header_of(&mut one).await?, header_of(&mut two).await?);
    must(of_one != of_two, "two pledges have the same header")?;
    for _ in 0..5 {
        must(
            header_of(&mut one).await? == of_one,
            "the header of one pledge changes from message to message, so that each message is a \
             new pledge to the registrar",
        )?;
    }
    Ok(())
}

async fn crossed(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut one = kit.stateless(&record).await?;
    let mut two = kit.stateless(&record).await?;
    let (said_one, said_two) = (one.content(100), two.content(100));
    let at_one = one.ask(&said_one).await?;
    let at_two = two.ask(&said_two).await?;
    let (of_one, _) = wire::read(&at_one.datagram)?;
    let (of_two, _) = wire::read(&at_two.datagram)?;
    two.answer(&wire::jpy(&of_two, b"for two"), &at_two).await?;
    one.answer(&wire::jpy(&of_one, b"for one"), &at_one).await?;
    one.must_hear(b"for one", "the first pledge").await?;
    two.must_hear(b"for two", "the second pledge").await?;
    let extra = one.hears(QUIET).await.is_some() || two.hears(QUIET).await.is_some();
    must(!extra, "a pledge got an answer twice, or another's")
}

async fn many(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledges = Vec::new();
    for _ in 0..MANY {
        let pledge = kit.stateless(&record).await?;
        pledge.say(&pledge.content(60)).await?;
        pledges.push(pledge);
    }
    let mut answers = Vec::new();
    for (number, pledge) in pledges.iter_mut().enumerate() {
        let until = Instant::now() + kit.answer;
        let arrival = pledge.arrived(until).await.ok_or_else(|| {
            Finding::fail(format!(
                "what pledge {number} of {MANY} sent did not arrive"
            ))
        })?;
        answers.push((wire::read(&arrival.datagram)?.0, arrival));
    }
    for (number, (pledge, (header, arrival))) in pledges.iter().zip(&answers).enumerate().rev() {
        let answer = format!("answer {number}");
        pledge
            .answer(&wire::jpy(header, answer.as_bytes()), arrival)
            .await?;
    }
    for (number, pledge) in pledges.iter().enumerate() {
        let answer = format!("answer {number}");
        pledge.must_hear(answer.as_bytes(), &answer).await?;
    }
    Ok(())
}

async fn no_amplification(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    for length in [30, 1000] {
        let said = pledge.content(length);
        let arrival = pledge.ask(&said).await?;
        let longer = arrival.datagram.len().saturating_sub(said.len());
        must(
            longer <= OVERHEAD_MAX,
            format!("{length} octets of a pledge became {longer} more"),
        )?;
        let again = pledge.arrived(Instant::now() + QUIET).await;
        must(
            again.is_none(),
            "one datagram of a pledge was relayed twice",
        )?;
    }
    Ok(())
}

async fn any_payload(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    let mark = pledge.mark;
    let beginnings = [
        b"".as_slice(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 200],
        &[0; 200],
        &[0x82, 0x41, 0x00, 0x48],
    ];
    for beginning in beginnings {
        let payload = [beginning, &mark].concat();
        let arrival = pledge.ask(&payload).await?;
        let (_, content) = wire::read(&arrival.datagram)?;
        must(
            content == payload,
            "the content is not what the pledge said",
        )?;
    }
    Ok(())
}

/// Sends what may not arrive and then something good, which has to be the first that arrives.
async fn only_the_last(
    record: &Recorder,
    pledge: &Pledge<'_>,
    bad: &[(String, Vec<u8>)],
    arrival: &Arrival,
    header: &[u8],
) -> Told {
    for (name, octets) in bad {
        record.note(name);
        pledge.answer(octets, arrival).await?;
    }
    pledge.answer(&wire::jpy(header, b"good"), arrival).await?;
    pledge
        .must_hear(b"good", "after what had to be dropped")
        .await?;
    let late = pledge.hears(QUIET).await;
    must(
        late.is_none(),
        "a message that had to be dropped reached the pledge",
    )
}

async fn malformed(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    let said = pledge.content(200);
    let arrival = pledge.ask(&said).await?;
    let (header, _) = wire::read(&arrival.datagram)?;
    let bad: Vec<(String, Vec<u8>)> = wire::malformed(&header)
        .into_iter()
        .map(|(name, octets)| (name.to_owned(), octets))
        .collect();
    only_the_last(&record, &pledge, &bad, &arrival, &header).await
}

async fn from_elsewhere(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    let said = pledge.content(200);
    let arrival = pledge.ask(&said).await?;
    let (header, _) = wire::read(&arrival.datagram)?;
    let any = match arrival.from.is_ipv4() {
        true => "0.0.0.0:0",
        false => "[::]:0",
    };
    let stranger = UdpSocket::bind(any).await.or_could_not_test("a socket")?;
    let message = wire::jpy(&header, b"from elsewhere");
    record.sent("another port of the registrar's host", &message, "");
    stranger
        .send_to(&message, arrival.from)
        .await
        .or_could_not_test("sending")?;
    only_the_last(&record, &pledge, &[], &arrival, &header).await
}

async fn forged(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    let said = pledge.content(400);
    let arrival = pledge.ask(&said).await?;
    let (header, _) = wire::read(&arrival.datagram)?;
    let mut bad: Vec<(String, Vec<u8>)> = (0..header.len())
        .map(|place| {
            let mut changed = header.clone();
            if let Some(octet) = changed.get_mut(place) {
                let turns = u32::try_from(place).unwrap_or_default();
                *octet ^= 1 << (record.seed.rotate_right(turns) % 8);
            }
            let name = format!("octet {place} of the header is changed");
            (name, wire::jpy(&changed, b"forged"))
        })
        .collect();
    let shorter = header.get(1..).unwrap_or_default();
    bad.push(("a shorter header".into(), wire::jpy(shorter, b"forged")));
    let longer = [header.as_slice(), &[0]].concat();
    bad.push(("a longer header".into(), wire::jpy(&longer, b"forged")));
    only_the_last(&record, &pledge, &bad, &arrival, &header).await?;
    let told = pledge.arrived(Instant::now() + QUIET).await;
    must(told.is_none(), "the registrar was told")
}

/// The address as the header may hold it: the last eight octets of an IPv6 address.
fn address_octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[8..].to_vec(),
    }
}

async fn made_up(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    let said = pledge.content(400);
    let arrival = pledge.ask(&said).await?;
    let (header, _) = wire::read(&arrival.datagram)?;
    let port = pledge.own.port().to_be_bytes();
    let address = address_octets(pledge.own.ip());
    let bad: Vec<(String, Vec<u8>)> = [
        // The structure that the draft shows, unsealed.
        [&[1, 0], port.as_slice(), &address, &[0; 4]].concat(),
        Vec::new(),
        vec![0; 16],
        vec![0; header.len()],
        vec![0xff; header.len()],
        [address.as_slice(), &port].concat(),
    ]
    .into_iter()
    .map(|header| {
        let name = format!("a header of {} octets that is made up", header.len());
        (name, wire::jpy(&header, b"made up"))
    })
    .collect();
    only_the_last(&record, &pledge, &bad, &arrival, &header).await
}

async fn hidden(kit: Arc<JoinProxy>, record: Recorder) -> Told {
    let mut pledge = kit.stateless(&record).await?;
    let header = header_of(&mut pledge).await?;
    let address = address_octets(pledge.own.ip());
    let shows = header
        .windows(address.len())
        .any(|part| part == address.as_slice());
    must(!shows, "the pledge's address can be read in the header")?;
    // Were the header not sealed, those of two pledges would differ in a few octets.
    let mut other = kit.stateless(&record).await?;
    let theirs = header_of(&mut other).await?;
    let same = header
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours == theirs)
        .count();
    must(
        header.len() != theirs.len() || same + 8 <= header.len(),
        format!(
            "the headers of two pledges have {same} of {} octets in common",
            header.len()
        ),
    )
}
