//! What may come within a session that no right client sends.

use std::{sync::Arc, time::Duration};

use super::{Served, case, handshakes::insider, is, lives, open, readable, serves};
use crate::{
    case::Case,
    coaps::{CoapError, Coaps, Code, Message},
    dtls::*,
    evidence::Recorder,
    outcome::{Finding, Told, must},
};

pub(super) fn cases<K: Served>() -> Vec<Case> {
    vec![
        case::<K, _, _>(
            "rfc6347-4.1.2.7/garbage",
            "records that are garbage are dropped without a word, and the session lives on",
            &["DTL-009"],
            garbage,
        )
        .tags(&["dtls", "hostile"]),
        case::<K, _, _>(
            "rfc6347-4.1.2.6/replay",
            "a record that comes again is dropped",
            &["DTL-010"],
            replay,
        )
        .tags(&["dtls", "hostile"]),
        case::<K, _, _>(
            "rfc9147-4.5.3/forgeries",
            "after 128 records that fail authentication a session with CCM_8 is over",
            &["CBR-017", "DTL-011", "DTL-012"],
            forgeries,
        )
        .tags(&["dtls", "hostile"])
        .needs(&["forgery-limit"]),
        case::<K, _, _>(
            "rfc6347-4.1/clear-data",
            "application data in the clear is dropped, and the session lives on",
            &["DTL-019"],
            clear_data,
        )
        .tags(&["dtls", "hostile"]),
        case::<K, _, _>(
            "rfc9325-3.5/renegotiation",
            "a ClientHello within a session leads to no new handshake",
            &["DTL-020"],
            renegotiation,
        )
        .tags(&["dtls", "hostile"]),
        case::<K, _, _>(
            "rfc6347-4.2.8/takeover",
            "a ClientHello from the address of a session does not end it",
            &["DTL-021"],
            takeover,
        )
        .tags(&["dtls", "hostile"]),
        case::<K, _, _>(
            "rfc6347-4.2.8/reboot",
            "a device that lost its memory gets a new session from the same port",
            &["DTL-049"],
            |kit: Arc<K>, record: Recorder| async move {
                let client = insider(&*kit, &record)?;
                let session = client.connect(&record).await?;
                let again = client.connect_again(session).await?;
                lives(&*kit, &mut Coaps::on(again, client.patience)).await
            },
        )
        .tags(&["dtls"]),
        case::<K, _, _>(
            "rfc6347-4.1.1/two-records",
            "two records in one datagram are both read",
            &["DTL-008"],
            two_records,
        )
        .tags(&["dtls"]),
        case::<K, _, _>(
            "rfc9148-3/several-transactions",
            "one session carries several exchanges",
            &["ESC-008", "CBR-032"],
            |kit: Arc<K>, record: Recorder| async move {
                let (identity, deed) = kit.deed(&record).await?;
                let mut coaps =
                    Coaps::open(&kit.base().client.with_identity(&identity), &record).await?;
                lives(&*kit, &mut coaps).await?;
                kit.was_done(&coaps.ask(&deed).await?)?;
                lives(&*kit, &mut coaps).await
            },
        ),
        case::<K, _, _>(
            "rfc5246-7.2.1/close-notify",
            "after close_notify nothing is answered any more",
            &["DTL-048"],
            closed,
        )
        .tags(&["dtls"]),
        case::<K, _, _>(
            "rfc8446-4.6.1/resumption",
            "a session that is resumed stands for the same client, or there is a new handshake",
            &["DTL-046"],
            resumption,
        )
        .tags(&["dtls"]),
        case::<K, _, _>(
            "rfc7252-9.1.1/message-ids",
            "the same message id in another session is another message",
            &["COA-039"],
            message_ids,
        ),
    ]
}

async fn garbage<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut wrong = coaps.session.seal(APPLICATION_DATA, b"garbage");
    if let Some(last) = wrong.body.last_mut() {
        *last ^= 1;
    }
    let mut old_epoch = coaps.session.seal(APPLICATION_DATA, b"garbage");
    old_epoch.epoch = 7;
    let mut cut = coaps.session.seal(APPLICATION_DATA, b"garbage").encode();
    cut.truncate(cut.len() / 2);
    let garbage: Vec<Vec<u8>> = vec![
        wrong.encode(),
        old_epoch.encode(),
        cut,
        vec![0xff; 100],
        vec![APPLICATION_DATA],
        vec![0],
        rand::random::<[u8; 32]>().to_vec(),
    ];
    for datagram in &garbage {
        record.sent("garbage", datagram, "");
        coaps.session.send_raw(datagram).await?;
    }
    let came = coaps.fence(Duration::from_millis(200)).await?;
    must(came.is_empty(), "it was answered")?;
    lives(&*kit, &mut coaps).await
}

async fn replay<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let message = coaps.message(&readable(&*kit));
    coaps.send(&message).await?;
    let datagram = coaps.session.last_datagram();
    let reply = coaps.next(Duration::from_secs(10)).await?;
    must(reply.is_some(), "a request was not answered")?;
    // What else belongs to the answer.
    coaps.fence(Duration::from_millis(200)).await?;
    record.sent("the same record again", &datagram, "");
    coaps.session.send_raw(&datagram).await?;
    let came = coaps.fence(Duration::from_millis(500)).await?;
    must(
        came.is_empty(),
        "the record was read again: its request was answered again",
    )?;
    lives(&*kit, &mut coaps).await
}

async fn forgeries<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    const FORGED: usize = 140;
    let mut coaps = open(&*kit, &record).await?;
    lives(&*kit, &mut coaps).await?;
    for _ in 0..FORGED {
        let mut forged = coaps.session.seal(APPLICATION_DATA, b"forged");
        if let Some(last) = forged.body.last_mut() {
            *last ^= 1;
        }
        coaps.session.send_raw(&forged.encode()).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    record.note(format!("{FORGED} records with a wrong tag were sent"));
    let message = coaps.message(&readable(&*kit));
    coaps.send(&message).await?;
    match coaps.next(Duration::from_secs(3)).await {
        Ok(None) | Err(CoapError::Alert(..)) => serves(&*kit, &record).await,
        Ok(Some(reply)) => Err(Finding::fail(format!(
            "a request was answered {} all the same",
            reply.code
        ))),
        Err(error) => Err(error.into()),
    }
}

async fn clear_data<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let message = coaps.message(&readable(&*kit));
    let clear = Record {
        kind: APPLICATION_DATA,
        version: DTLS_1_2,
        epoch: 0,
        number: 1000,
        body: message.encode(),
    };
    record.sent("a request in the clear", &clear.encode(), message.shown());
    coaps.session.send_raw(&clear.encode()).await?;
    let came = coaps.fence(Duration::from_millis(300)).await?;
    must(
        came.iter().all(|reply| reply.token != message.token),
        "a request in the clear was answered",
    )?;
    lives(&*kit, &mut coaps).await
}

fn hello_again() -> Handshake {
    Handshake {
        kind: CLIENT_HELLO,
        number: 0,
        body: Hello::usual().encode(&rand::random::<[u8; 32]>(), &[]),
    }
}

async fn renegotiation<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut hello = hello_again();
    hello.number = 5;
    let sealed = coaps.session.seal(HANDSHAKE, &hello.encode());
    record.sent("ClientHello within the session", &hello.encode(), "");
    coaps.session.send_raw(&sealed.encode()).await?;
    let until = std::time::Instant::now() + Duration::from_secs(2);
    while let Some(incoming) = coaps
        .session
        .receive(until.saturating_duration_since(std::time::Instant::now()))
        .await?
    {
        if let Incoming::Handshake(message) = incoming
            && matches!(
                message.first(),
                Some(&(SERVER_HELLO | HELLO_VERIFY_REQUEST))
            )
        {
            return Err(Finding::fail("a new handshake was begun"));
        }
    }
    serves(&*kit, &record).await
}

async fn takeover<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    for number in [0, 1] {
        let hello = Record {
            kind: HANDSHAKE,
            version: DTLS_1_2,
            epoch: 0,
            number,
            body: hello_again().encode(),
        };
        record.sent("ClientHello of somebody else", &hello.encode(), "");
        coaps.session.send_raw(&hello.encode()).await?;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    lives(&*kit, &mut coaps).await
}

async fn two_records<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut datagram = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let ping = Message::new(0, Code::EMPTY, coaps.next_id());
        ids.push(ping.id);
        datagram.extend(
            coaps
                .session
                .seal(APPLICATION_DATA, &ping.encode())
                .encode(),
        );
    }
    record.sent("two pings in two records", &datagram, "");
    coaps.session.send_raw(&datagram).await?;
    let mut seen = Vec::new();
    while seen.len() < 2
        && let Some(reply) = coaps.next(Duration::from_secs(4)).await?
    {
        seen.push(reply.id);
    }
    ids.retain(|id| !seen.contains(id));
    must(
        ids.is_empty(),
        format!("{} of two records were not answered", ids.len()),
    )
}

async fn closed<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    lives(&*kit, &mut coaps).await?;
    let close = coaps.session.seal(ALERT, &[1, 0]);
    record.sent("close_notify", &close.encode(), "");
    coaps.session.send_raw(&close.encode()).await?;
    let message = coaps.message(&readable(&*kit));
    coaps.send(&message).await?;
    match coaps.next(Duration::from_secs(2)).await {
        Ok(None) | Err(CoapError::Alert(..)) => serves(&*kit, &record).await,
        Ok(Some(reply)) => Err(Finding::fail(format!(
            "a request was answered {}",
            reply.code
        ))),
        Err(error) => Err(error.into()),
    }
}

async fn resumption<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let client = insider(&*kit, &record)?.with_hello(|hello| hello.set(SESSION_TICKET, Vec::new()));
    let session = client.connect(&record).await?;
    let resumption = session.resumption.clone();
    // Without a certificate of its own: what it may do has to come from the session before.
    let nobody = {
        let mut client = client.with_tricks(|tricks| tricks.resume = Some(resumption));
        client.identity = None;
        client
    };
    match nobody.connect(&record).await {
        Ok(session) if session.is_resumed => {
            record.note("the session was resumed");
            lives(&*kit, &mut Coaps::on(session, client.patience)).await
        }
        Ok(session) => {
            record.note("there was a new handshake");
            let mut coaps = Coaps::on(session, client.patience);
            let answer = coaps.ask(&readable(&*kit)).await?;
            is(
                &answer,
                Code::UNAUTHORIZED,
                "somebody without a certificate",
            )
        }
        Err(DtlsError::Alert(..) | DtlsError::Silence(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn message_ids<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut one = open(&*kit, &record).await?;
    let mut other = open(&*kit, &record).await?;
    let message = one.message(&readable(&*kit));
    let first = one.exchange(&message).await?;
    // The same id for something else.
    let mut different = other.message(&crate::coaps::Ask::get("/no-such-resource"));
    different.id = message.id;
    different.kind = crate::coaps::CON;
    let second = other.exchange(&different).await?;
    must(
        first.message.code == Code::CONTENT && second.message.code == Code::NOT_FOUND,
        format!(
            "they were answered {} and {}",
            first.message.code, second.message.code
        ),
    )
}
