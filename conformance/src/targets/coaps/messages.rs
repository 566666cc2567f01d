//! Messages of CoAP: malformed ones, empty ones, repeated ones.

use std::{sync::Arc, time::Duration};

use super::{Served, case, lives, open, readable};
use crate::{
    case::Case,
    coaps::{ACK, Ask, CON, Coaps, Code, Message, NON, RST},
    evidence::Recorder,
    outcome::{Finding, Told, must},
};

pub(super) fn cases<K: Served>() -> Vec<Case> {
    vec![
        case::<K, _, _>("rfc7252-3/version", "messages of another version are ignored", &["COA-001"], version).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-3/token-length", "a token length of 9 to 15 is reset", &["COA-002", "COA-006"], token_length).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-3/empty-payload", "a payload marker with nothing behind it is reset", &["COA-003", "COA-006"], |kit: Arc<K>, record: Recorder| async move {
            malformed(&kit, &record, |octets| octets.push(0xff), "a payload marker with nothing behind it").await
        }).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-3.1/nibble-15", "an option whose length or delta is 15 is reset", &["COA-004", "COA-006"], |kit: Arc<K>, record: Recorder| async move {
            malformed(&kit, &record, |octets| octets.push(0xf1), "an option with delta 15").await?;
            malformed(&kit, &record, |octets| octets.extend([0x1f, 0]), "an option with length 15").await
        }).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-3.1/option-too-long", "an option that is longer than its message is reset", &["COA-006"], |kit: Arc<K>, record: Recorder| async move {
            malformed(&kit, &record, |octets| octets.extend([0x1d, 0xff, 1, 2]), "an option that is longer than its message").await
        }).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-4.1/empty-with-more", "an empty message with a token or a payload is reset", &["COA-005"], empty_with_more).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-4.2/ping", "an empty confirmable message is reset", &["COA-007"], |kit: Arc<K>, record: Recorder| async move {
            open(&*kit, &record).await?.fence(Duration::ZERO).await?;
            Ok(())
        }).tags(&["coap"]),
        case::<K, _, _>("rfc7252-4.2/stray", "an acknowledgement or a reset of nothing is not answered", &["COA-008"], stray).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-4.3/non", "a non-confirmable request is answered non-confirmably and never acknowledged", &["COA-010", "COA-020"], non).tags(&["coap"]),
        case::<K, _, _>("rfc7252-4.5/duplicate", "a request that comes again is done once and answered alike", &["COA-012"], duplicate).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-4.5/duplicate-non", "a non-confirmable request that comes again is not answered again", &["COA-013"], duplicate_non).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-4.6/size", "no message has more than 1152 octets, no payload more than 1024", &["COA-014"], size).tags(&["coap"]),
        case::<K, _, _>("rfc7252-5.3.1/token", "tokens of 0, 1, 4 and 8 octets come back", &["COA-021"], token).tags(&["coap"]),
        case::<K, _, _>("rfc7252-5.8/method", "a method that a resource does not have gets 4.05", &["COA-029"], method).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-5.10.1/path", "paths are compared octet by octet; a segment more, an empty one and another case count", &["COA-031"], path).tags(&["coap", "hostile"]),
        case::<K, _, _>("rfc7252-5.5.2/diagnostic", "an error says something in UTF-8 without Content-Format, or nothing", &["COA-028"], diagnostic).tags(&["coap"]),
        case::<K, _, _>("rfc7252-5.2/response-to-server", "a response that nobody waits for is not acted on", &["COA-008"], response_to_server).tags(&["coap", "hostile"]),
    ]
}

async fn version<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut sent = Vec::new();
    for version in [0_u8, 2, 3] {
        for kind in [CON, NON] {
            let mut message = coaps.message(&readable(&*kit));
            message.kind = kind;
            let mut octets = message.encode();
            if let Some(first) = octets.first_mut() {
                *first = *first & 0x3f | version << 6;
            }
            sent.push(octets);
        }
    }
    let came = coaps.fenced(&sent).await?;
    must(
        came.is_empty(),
        format!("{} of them were answered", came.len()),
    )?;
    lives(&*kit, &mut coaps).await
}

/// A confirmable message that is malformed is reset, a non-confirmable one is not answered.
async fn malformed<K: Served>(
    kit: &Arc<K>,
    record: &Recorder,
    change: fn(&mut Vec<u8>),
    what: &str,
) -> Told {
    let mut coaps = open(&**kit, record).await?;
    for kind in [CON, NON] {
        let mut message = coaps.message(&readable(&**kit));
        message.kind = kind;
        let mut octets = message.encode();
        change(&mut octets);
        let came = coaps.fenced(&[octets]).await?;
        judge(kind, message.id, &came, what)?;
    }
    lives(&**kit, &mut coaps).await
}

fn judge(kind: u8, id: u16, came: &[Message], what: &str) -> Told {
    if kind == NON {
        // A reset of a non-confirmable message is allowed (RFC 7252 section 4.3).
        return must(
            came.iter().all(|reply| reply.kind == RST),
            format!("{what} in a non-confirmable message was answered"),
        );
    }
    match came {
        [reply] if reply.kind == RST && reply.id == id => Ok(()),
        [] => Err(Finding::fail(format!("{what} was not reset"))),
        [reply, ..] => Err(Finding::fail(format!(
            "{what} was answered {} and not reset",
            reply.code
        ))),
    }
}

async fn token_length<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    for length in 9..=15_u8 {
        for kind in [CON, NON] {
            let mut message = coaps.message(&readable(&*kit));
            message.kind = kind;
            message.token = vec![0x11; usize::from(length)];
            let came = coaps.fenced(&[message.encode()]).await?;
            judge(kind, message.id, &came, &format!("token length {length}"))?;
        }
    }
    lives(&*kit, &mut coaps).await
}

async fn empty_with_more<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    for payload in [false, true] {
        let mut message = Message::new(CON, Code::EMPTY, coaps.next_id());
        if payload {
            message.payload = b"more".to_vec();
        } else {
            message.token = vec![1, 2, 3, 4];
        }
        let came = coaps.fenced(&[message.encode()]).await?;
        judge(CON, message.id, &came, "an empty message with more")?;
    }
    lives(&*kit, &mut coaps).await
}

async fn stray<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut sent = Vec::new();
    for kind in [ACK, RST] {
        sent.push(Message::new(kind, Code::EMPTY, coaps.next_id()).encode());
    }
    // Malformed ones, too.
    let mut odd = Message::new(ACK, Code::EMPTY, coaps.next_id()).encode();
    odd.push(0xff);
    sent.push(odd);
    let came = coaps.fenced(&sent).await?;
    must(came.is_empty(), "it was answered")?;
    lives(&*kit, &mut coaps).await
}

async fn non<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut message = coaps.message(&readable(&*kit));
    message.kind = NON;
    let came = coaps.fenced(&[message.encode()]).await?;
    must(
        came.iter().all(|reply| reply.kind != ACK),
        "it was acknowledged",
    )?;
    let answers: Vec<_> = came
        .iter()
        .filter(|reply| reply.token == message.token)
        .collect();
    must(!answers.is_empty(), "it was not answered")?;
    if answers.iter().any(|reply| reply.kind == CON) {
        return Err(Finding::warning(
            "it was answered confirmably; a non-confirmable response is what is asked for",
        ));
    }
    Ok(())
}

async fn duplicate<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (identity, deed) = kit.deed(&record).await?;
    let mut coaps = Coaps::open(&kit.base().client.with_identity(&identity), &record).await?;
    let mut message = coaps.message(&deed);
    message.payload.clone_from(&deed.payload);
    let first = coaps.exchange(&message).await?;
    must(
        first.message.code == Code::CHANGED,
        format!("a right request was answered {}", first.message.code),
    )?;
    let second = coaps.exchange(&message).await?;
    must(
        second.message.code == first.message.code
            && second.message.payload == first.message.payload,
        format!(
            "the second answer is {} with another body: it was done twice",
            second.message.code
        ),
    )
}

async fn duplicate_non<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut message = coaps.message(&readable(&*kit));
    message.kind = NON;
    let octets = message.encode();
    let came = coaps.fenced(&[octets.clone(), octets]).await?;
    let answers = came
        .iter()
        .filter(|reply| reply.token == message.token)
        .count();
    must(
        answers == 1,
        format!("two copies were answered {answers} times"),
    )
}

async fn size<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let answer = coaps.ask(&readable(&*kit)).await?;
    for reply in &answer.replies {
        let (all, payload) = (reply.message.encode().len(), reply.message.payload.len());
        must(
            all <= 1152 && payload <= 1024,
            format!("a message has {all} octets, its payload {payload}"),
        )?;
    }
    Ok(())
}

async fn token<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    for length in [0, 1, 4, 8] {
        let mut message = coaps.message(&readable(&*kit));
        message.token = rand::random::<[u8; 8]>().into_iter().take(length).collect();
        // `exchange` takes an answer for this token alone.
        let reply = coaps.exchange(&message).await?;
        must(
            reply.message.code == Code::CONTENT,
            format!(
                "with {length} octets it was answered {}",
                reply.message.code
            ),
        )?;
    }
    Ok(())
}

async fn method<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let path = format!("/{}/crts", kit.base().est.trim_start_matches('/'));
    for number in [2, 3, 4, 5, 6, 7, 31] {
        let mut ask = Ask::new(Code(number), &path);
        if number != 4 {
            ask = ask.option(crate::coaps::option::CONTENT_FORMAT, vec![60]);
            ask.payload = vec![0xf6];
        }
        let answer = coaps.ask(&ask).await?;
        super::is(
            &answer,
            Code::METHOD_NOT_ALLOWED,
            &format!("0.{number:02} of crts"),
        )?;
    }
    let answer = coaps
        .ask(&Ask::get(&format!("{}/sen", kit.base().est)))
        .await?;
    super::is(&answer, Code::METHOD_NOT_ALLOWED, "GET of sen")
}

async fn path<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let root = &kit.base().est;
    for wrong in [
        format!("{root}/crts/"),
        format!("{root}/CRTS"),
        format!("{root}/%63rts"),
        format!("{root}//crts"),
        format!("{root}/x/../crts"),
        format!("{root}/./crts"),
        format!("{root}/crts\0"),
        "no-such-resource".to_owned(),
    ] {
        let answer = coaps.ask(&Ask::get(&wrong)).await?;
        super::is_one_of(
            &answer,
            &[Code::NOT_FOUND, Code::BAD_OPTION, Code::BAD_REQUEST],
            &format!("/{wrong:?}"),
        )?;
    }
    Ok(())
}

async fn diagnostic<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    for ask in [
        Ask::get("/no-such-resource"),
        readable(&*kit).accept(9999),
        Ask::post(&format!("{}/sen", kit.base().est), 0, b"x"),
    ] {
        let answer = coaps.ask(&ask).await?;
        super::refused(&answer, "it")?;
        must(
            answer.payload.is_empty()
                || answer.format().is_some()
                || std::str::from_utf8(&answer.payload).is_ok(),
            format!("what it says is no UTF-8: {}", hex::encode(&answer.payload)),
        )?;
    }
    Ok(())
}

async fn response_to_server<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut message = Message::new(CON, Code::CONTENT, coaps.next_id()).payload(b"hello");
    message.token = coaps.next_token();
    let came = coaps.fenced(&[message.encode()]).await?;
    must(
        came.iter()
            .all(|reply| reply.kind == RST && reply.id == message.id),
        "it was answered with something else than a reset",
    )?;
    lives(&*kit, &mut coaps).await
}
