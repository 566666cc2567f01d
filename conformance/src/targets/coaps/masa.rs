//! What the registrar says to the MASA, and what it makes of the MASA's answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pki::Certificate;

use super::{
    Served, is_one_of,
    registrar::{Exchange, RegistrarCoaps, rv, signer_of},
};
use crate::{
    case::Case,
    coaps::{ACK, CON, Code, Message, RST, option},
    coaps_voucher::{self, REQUEST, Signed, leaf},
    evidence::Recorder,
    fake_masa::Reply,
    forge::x509::{CLIENT_AUTH, CMC_RA, SERVER_AUTH},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    workshop::issuer_leaf,
};

type Look = fn(&RegistrarCoaps, &Exchange, &Signed) -> Told;

/// What is looked at in the registrar's own request.
const LOOKS: &[(&str, &str, &[&str], Look)] = &[
    (
        "cbrski-7.1/resource",
        "the request is a POST to /.well-known/brski/requestvoucher over TLS",
        &["CBR-089"],
        |_, exchange, _| {
            must(
                exchange.asked.line == "POST /.well-known/brski/requestvoucher HTTP/1.1",
                format!("it was {}", exchange.asked.line),
            )
        },
    ),
    (
        "cbrski-7.1/content-type",
        "its Content-Type is application/voucher+cose",
        &["CBR-090", "CBR-162"],
        |_, exchange, _| {
            let found = exchange.asked.header("content-type").unwrap_or_default();
            must(
                found == "application/voucher+cose",
                format!("Content-Type is {found}"),
            )
        },
    ),
    (
        "cbrski-7.1/accept",
        "its Accept is application/voucher+cose",
        &["CBR-091"],
        |_, exchange, _| {
            let found = exchange.asked.header("accept").unwrap_or_default();
            must(
                found == "application/voucher+cose",
                format!("Accept is {found}"),
            )
        },
    ),
    (
        "cbrski-7.3/server-name",
        "the name of the MASA is in the ClientHello",
        &["CBR-096"],
        |kit, exchange, _| {
            let is_name = kit.masa_host.parse::<std::net::IpAddr>().is_err();
            must(
                !is_name || exchange.asked.server_name.as_deref() == Some(&kit.masa_host),
                format!("the server name is {:?}", exchange.asked.server_name),
            )
        },
    ),
    (
        "cbrski-9.2/sign1",
        "it is a tagged COSE_Sign1 with its algorithm protected and its payload within",
        &["CBR-112", "COS-020", "CBR-114", "COS-004", "COS-006"],
        |_, _, signed| {
            must(signed.is_tagged, "it has no tag 18")?;
            must(signed.protected(1).is_some(), "no algorithm is protected")?;
            must(
                signed.unprotected(1).is_none(),
                "an algorithm is unprotected",
            )
        },
    ),
    (
        "rfc9052-4.4/signature",
        "its signature holds for a certificate that comes along",
        &["COS-007", "CBR-110", "COS-009"],
        |_, _, signed| {
            let signer = signer_of(signed)
                .ok_or_else(|| Finding::fail("the signature holds for none of them"))?;
            coaps_voucher::is_signed_by(signed, &signer)
        },
    ),
    (
        "rfc8366bis/sids",
        "its leaves are under 2501 and numbered",
        &["VCB-002", "VCB-003", "VCB-004", "VCB-006"],
        |_, _, signed| {
            must(
                signed.top == REQUEST && signed.is_numbered,
                format!("the top level is {}", signed.top),
            )
        },
    ),
    (
        "cbrski-9.2.1/x5bag",
        "its certificates are in x5bag, from the signer to the domain's CA",
        &["CBR-115", "CBR-101", "COS-014"],
        |kit, _, signed| {
            let bag = signed
                .unprotected(32)
                .ok_or_else(|| Finding::fail("there is no x5bag"))?;
            must(
                bag.as_array().is_none_or(|many| many.len() > 1),
                "an array of one certificate",
            )?;
            let signer = Certificate::from_der(&signer_of(signed).unwrap_or_default())
                .or_could_not_test("the signer")?;
            let others: Vec<Certificate> = signed
                .certificates
                .iter()
                .filter_map(|der| Certificate::from_der(der).ok())
                .collect();
            let top = super::registrar::top_of(&signer, &others);
            must(
                top.subject_der() == top.issuer_der(),
                format!("the chain ends with {}, which is no root", top.subject()),
            )?;
            crate::inspect::trusted(
                &signer,
                &others,
                &[top],
                pki::path::Purpose::Any,
                kit.base().at,
            )
        },
    ),
    (
        "cbrski-9.2.1/device-chain",
        "the device's certificates are in x5bag",
        &["CBR-116"],
        |_, exchange, signed| {
            let missing = exchange
                .device
                .identity
                .chain()
                .iter()
                .filter(|one| !signed.certificates.contains(one))
                .count();
            must(missing == 0, format!("{missing} of them are missing"))
        },
    ),
    (
        "cbrski-9/prior",
        "the device's request is in it, octet for octet",
        &["CBR-133"],
        |_, exchange, signed| {
            must(
                signed.bytes(leaf::PRIOR) == Some(&exchange.request),
                "prior-signed-voucher-request is not what the device sent",
            )
        },
    ),
    (
        "cbrski-9/serial-number",
        "the serial number is that of the device's certificate",
        &["CBR-134"],
        |_, exchange, signed| {
            must(
                signed.text(leaf::SERIAL) == Some(&exchange.device.serial),
                format!("serial-number is {:?}", signed.text(leaf::SERIAL)),
            )
        },
    ),
    (
        "cbrski-9/nonce",
        "the nonce is the device's",
        &["CBR-135", "VCB-013"],
        |_, exchange, signed| {
            must(
                signed.bytes(leaf::NONCE) == Some(&exchange.device.nonce),
                format!("the nonce is {:?}", signed.leaves.get(&leaf::NONCE)),
            )
        },
    ),
    (
        "cbrski-7.2/assertion",
        "the assertion is proximity",
        &["CBR-094", "VCB-012"],
        |_, _, signed| {
            must(
                signed.number(leaf::ASSERTION) == Some(2),
                format!("assertion is {:?}", signed.leaves.get(&leaf::ASSERTION)),
            )
        },
    ),
    (
        "cbrski-9/no-proximity",
        "nothing of proximity-registrar is in it",
        &["CBR-136"],
        |_, _, signed| {
            let there = [
                leaf::PROXIMITY_CERT,
                leaf::PROXIMITY_HASH,
                leaf::PROXIMITY_KEY,
            ]
            .iter()
            .any(|delta| signed.leaves.contains_key(delta));
            must(!there, "it is there")
        },
    ),
    (
        "cbrski-9/created-on",
        "created-on is now, as text",
        &["CBR-137", "VCB-015"],
        |kit, _, signed| {
            let text = signed
                .text(leaf::CREATED_ON)
                .ok_or_else(|| Finding::fail("there is none"))?;
            let at =
                time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
                    .map_err(|error| Finding::fail(format!("created-on {text}: {error}")))?;
            must(
                (at - kit.base().at).whole_minutes().abs() < 30,
                format!("created-on is {text}"),
            )
        },
    ),
    (
        "rfc8366bis-6.1/idevid-issuer",
        "idevid-issuer is that of the device's certificate",
        &["VCB-022", "VCB-023", "VCB-024"],
        |kit, _, signed| {
            let found = signed
                .bytes(leaf::IDEVID_ISSUER)
                .ok_or_else(|| Finding::fail("there is none"))?;
            must(
                found == issuer_leaf(&kit.base().insiders),
                format!("idevid-issuer is {}", hex::encode(found)),
            )
        },
    ),
];

type Odd = (
    &'static str,
    &'static str,
    &'static [&'static str],
    fn() -> Reply,
);

const ODD: &[Odd] = &[
    (
        "cbrski-6.6/masa-403",
        "a refusal of the MASA reaches the device as an error",
        &["CBR-055"],
        || Reply::new(403, "text/plain", "no"),
    ),
    (
        "cbrski-6.6/masa-404",
        "that the MASA does not know the device reaches the device as an error",
        &["CBR-055"],
        || Reply::new(404, "text/plain", "unknown"),
    ),
    (
        "cbrski-6.6/masa-garbage",
        "a voucher that is garbage is no success",
        &["CBR-055"],
        || Reply::new(200, "application/voucher+cose", "garbage"),
    ),
    (
        "cbrski-6.6/masa-empty",
        "an empty answer of the MASA is no success",
        &["CBR-055"],
        || Reply::new(200, "application/voucher+cose", ""),
    ),
    (
        "cbrski-6.6/masa-media-type",
        "an answer of the MASA that is a web page is no success",
        &["CBR-055"],
        || Reply::new(200, "text/html", "<p>hello</p>"),
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let id = |rest: &str| format!("{}/{rest}", RegistrarCoaps::TARGET);
    let mut cases: Vec<Case> = LOOKS
        .iter()
        .map(|(rest, title, requirements, look)| {
            Case::new(
                id(rest),
                *title,
                requirements,
                move |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let leaves = kit.leaves(&record, &device).await?;
                    let exchange = kit.voucher(&record, device, &leaves).await?;
                    let signed = coaps_voucher::open(&exchange.asked.body)?;
                    look(&kit, &exchange, &signed)
                },
            )
            .tags(&["masa-side"])
        })
        .collect();
    for (rest, title, requirements, reply) in ODD {
        cases.push(
            Case::new(
                id(rest),
                *title,
                requirements,
                move |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let reply = reply();
                    kit.masa
                        .behave(&device.serial, Arc::new(move |_| reply.clone()));
                    let leaves = kit.leaves(&record, &device).await?;
                    let body = leaves.signed(&device.identity.signatory);
                    let mut coaps = kit.session(&record, &device).await?;
                    let answer = coaps.ask(&rv(&body)).await?;
                    must(
                        !answer.code.is_success(),
                        format!("the device was answered {}", answer.said()),
                    )
                },
            )
            .tags(&["masa-side", "hostile"]),
        );
    }
    cases.extend([
        Case::new(id("cbrski-7.3/masa-of-stranger"), "a MASA whose certificate a stranger issued gets no request", &["CBR-095"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let port = kit.masa_of_stranger.address().port();
            let serial = no_voucher_from(&kit, &record, port).await?;
            must(kit.masa_of_stranger.came(&serial).is_empty(), "the request was sent to it")
        }).tags(&["masa-side", "hostile"]),
        Case::new(id("cbrski-7.3/masa-of-other-name"), "a MASA whose certificate is for another name gets no request", &["CBR-095"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let port = kit.masa_of_other_name.address().port();
            let serial = no_voucher_from(&kit, &record, port).await?;
            must(kit.masa_of_other_name.came(&serial).is_empty(), "the request was sent to it")
        }).tags(&["masa-side", "hostile"]),
        Case::new(id("cbrski-6.2/purposes"), "the registrar's certificate is for a registration authority, a server and a client", &["CBR-026", "CBR-027", "CBR-099", "CBR-100"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let certificate = super::certificate(&kit.server(&record).await?)?;
            let found: Vec<String> = certificate.extended_key_usages().iter().map(ToString::to_string).collect();
            for (purpose, title) in [(CMC_RA, "cmcRA"), (SERVER_AUTH, "serverAuth"), (CLIENT_AUTH, "clientAuth")] {
                must(found.iter().any(|one| one == purpose), format!("it lacks {title}"))?;
            }
            Ok(())
        }).tags(&["dtls"]),
        Case::new(id("cbrski-6.6/retried"), "a request that comes again while the MASA is asked leads to no second request to the MASA", &["CBR-058", "COA-012"], retried).tags(&["masa-side", "slow"]),
        Case::new(id("rfc7252-5.2.2/separate"), "where the MASA takes seconds the request is acknowledged within two, and answered later", &["COA-016", "COA-018", "CBR-056", "ESC-039"], separate).tags(&["masa-side", "slow"]),
        Case::new(id("rfc7252-4.2/answer-again"), "an answer of its own that is not acknowledged comes again, and a reset ends that", &["COA-009", "COA-019"], answer_again).tags(&["masa-side", "slow"]),
        Case::new(id("cbrski-6.6/later"), "where the MASA takes longer than devices wait the answer is 5.03 with Max-Age, and the voucher is there when the device comes back", &["CBR-056", "ESC-040", "CBR-058"], later).tags(&["masa-side", "slow"]).needs(&["slow-masa"]),
        Case::new(id("cbrski-6.6/masa-202"), "202 of the MASA is 5.03 with Max-Age for the device", &["CBR-056"], masa_202).tags(&["masa-side"]),
    ]);
    cases
}

async fn no_voucher_from(
    kit: &RegistrarCoaps,
    record: &Recorder,
    port: u16,
) -> Result<String, Finding> {
    let url = format!("{}:{port}", kit.masa_host);
    let device = kit.device_called("CONF-REG", &kit.base().insiders, &url, record)?;
    let leaves = kit.leaves(record, &device).await?;
    let mut coaps = kit.session(record, &device).await?;
    let answer = coaps
        .ask(&rv(&leaves.signed(&device.identity.signatory)))
        .await?;
    must(
        !answer.code.is_success(),
        format!("the device was answered {}", answer.said()),
    )?;
    Ok(device.serial)
}

/// A MASA that takes its time.
#[expect(
    clippy::disallowed_methods,
    reason = "each connection of the suite's MASA has a thread of its own"
)]
fn slow(kit: &RegistrarCoaps, serial: &str, delay: Duration) {
    let usual = kit.signing.behaviour();
    kit.masa.behave(
        serial,
        Arc::new(move |came| {
            if came.operation() == "requestvoucher" {
                std::thread::sleep(delay);
            }
            usual(came)
        }),
    );
}

async fn retried(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    slow(&kit, &device.serial, Duration::from_secs(3));
    let leaves = kit.leaves(&record, &device).await?;
    let ask = rv(&leaves.signed(&device.identity.signatory));
    let mut coaps = kit.session(&record, &device).await?;
    let mut one = coaps.message(&ask);
    one.payload.clone_from(&ask.payload);
    let mut two = coaps.message(&ask);
    two.payload.clone_from(&ask.payload);
    coaps.send(&one).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The same octets again, and the same request under another id.
    coaps.send(&one).await?;
    let reply = coaps.exchange(&two).await?;
    must(
        matches!(reply.message.code, Code::CHANGED | Code::UNAVAILABLE),
        format!("it was answered {}", reply.message.code),
    )?;
    let answer = kit.ask(&record, &device, &ask).await?;
    is_one_of(&answer, &[Code::CHANGED], "at last it")?;
    let asked = kit.asked(&device);
    must(asked == 1, format!("the MASA was asked {asked} times"))
}

async fn separate(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    slow(&kit, &device.serial, Duration::from_secs(4));
    let leaves = kit.leaves(&record, &device).await?;
    let ask = rv(&leaves.signed(&device.identity.signatory));
    let mut coaps = kit.session(&record, &device).await?;
    let mut message = coaps.message(&ask);
    message.payload.clone_from(&ask.payload);
    let reply = coaps.exchange(&message).await?;
    must(
        reply.message.code == Code::CHANGED,
        format!("it was answered {}", reply.message.code),
    )?;
    let after = reply
        .acknowledged_after
        .ok_or_else(|| Finding::fail("it was not acknowledged before it was answered"))?;
    must(
        after < Duration::from_millis(2000),
        format!("it was acknowledged after {} ms", after.as_millis()),
    )?;
    must(
        reply.message.kind != ACK,
        "the answer came as a second acknowledgement",
    )
}

async fn answer_again(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    slow(&kit, &device.serial, Duration::from_secs(2));
    let leaves = kit.leaves(&record, &device).await?;
    let ask = rv(&leaves.signed(&device.identity.signatory));
    let mut coaps = kit.session(&record, &device).await?;
    let mut message = coaps.message(&ask);
    message.payload.clone_from(&ask.payload);
    coaps.send(&message).await?;
    let mut times = Vec::new();
    let mut id = 0;
    while times.len() < 2 {
        match coaps.next(Duration::from_secs(10)).await? {
            Some(reply) if reply.kind == CON && reply.token == message.token => {
                times.push(Instant::now());
                id = reply.id;
            }
            Some(reply) if reply.kind == ACK && reply.code != Code::EMPTY => {
                return Err(Finding::could_not_test(
                    "the answer came with the acknowledgement",
                ));
            }
            Some(_) => {}
            None => {
                return Err(Finding::fail(format!(
                    "an answer that was not acknowledged came {} times",
                    times.len()
                )));
            }
        }
    }
    if let [first, second] = times.as_slice() {
        let apart = second.duration_since(*first);
        must(
            (1900..=3600).contains(&apart.as_millis()),
            format!("it came again after {} ms", apart.as_millis()),
        )?;
    }
    coaps.send(&Message::new(RST, Code::EMPTY, id)).await?;
    // The next would come within six seconds.
    while let Some(reply) = coaps.next(Duration::from_secs(7)).await? {
        must(
            reply.id != id || reply.kind != CON,
            "it came again after it was reset",
        )?;
    }
    Ok(())
}

async fn later(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    slow(&kit, &device.serial, Duration::from_secs(18));
    let leaves = kit.leaves(&record, &device).await?;
    let ask = rv(&leaves.signed(&device.identity.signatory));
    let mut coaps = kit.session(&record, &device).await?;
    let answer = coaps.ask(&ask).await?;
    is_one_of(&answer, &[Code::UNAVAILABLE], "it")?;
    must(
        answer.uint(option::MAX_AGE).is_some(),
        "5.03 has no Max-Age",
    )?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let answer = kit.ask(&record, &device, &ask).await?;
    is_one_of(&answer, &[Code::CHANGED], "the same request later")?;
    let asked = kit.asked(&device);
    must(asked == 1, format!("the MASA was asked {asked} times"))
}

async fn masa_202(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    kit.masa.behave(
        &device.serial,
        Arc::new(|_| Reply {
            status: 202,
            headers: vec![("Retry-After".into(), "7".into())],
            body: Vec::new(),
        }),
    );
    let leaves = kit.leaves(&record, &device).await?;
    let mut coaps = kit.session(&record, &device).await?;
    let answer = coaps
        .ask(&rv(&leaves.signed(&device.identity.signatory)))
        .await?;
    is_one_of(&answer, &[Code::UNAVAILABLE], "it")?;
    must(
        answer.uint(option::MAX_AGE).is_some(),
        "5.03 has no Max-Age",
    )
}
