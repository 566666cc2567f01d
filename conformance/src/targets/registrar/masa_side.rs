//! What the registrar sends to the MASA, and what it makes of the MASA's answers.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::Certificate;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Exchange, Registrar, refused};
use crate::{
    case::Case,
    evidence::Recorder,
    fake_masa::Reply,
    forge::voucher::REQUEST,
    inspect::{Envelope, Signed, binary},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    workshop::issuer_leaf,
};

type Look = fn(&Registrar, &Exchange, &Signed) -> Told;

const LOOKS: &[(&str, &str, &[&str], Look)] = &[
    (
        "rfc8995-5.5/signed",
        "the registrar signs its request",
        &["BRSKI-5.5-02", "BRSKI-3-02"],
        |_, _, _| Ok(()),
    ),
    (
        "rfc8995-5.5/path-and-type",
        "it is a POST to /.well-known/brski/requestvoucher with the media type of the pledge's request",
        &["BRSKI-5.5-01", "BRSKI-2.3.2-02", "BRSKI-2.3.2-01"],
        |_, exchange, signed| {
            must(
                exchange.asked.line == "POST /.well-known/brski/requestvoucher HTTP/1.1",
                format!("it was {}", exchange.asked.line),
            )?;
            let found = exchange.asked.header("content-type").unwrap_or_default();
            must(
                found == signed.envelope.media_type(),
                format!("Content-Type is {found}"),
            )
        },
    ),
    (
        "rfc8995-5.5/accept",
        "Accept says what the pledge takes",
        &["BRSKI-5.5-07"],
        |_, exchange, signed| {
            let found = exchange.asked.header("accept").unwrap_or_default();
            must(
                found.contains(signed.envelope.media_type()) || found.contains("*/*"),
                format!("Accept is {found:?}"),
            )
        },
    ),
    (
        "rfc8995-5.4/tls",
        "TLS 1.2 or newer is spoken to the MASA, with its name in the ClientHello",
        &["BRSKI-5.4-01", "BRSKI-5.4-07"],
        |kit, exchange, _| {
            must(
                matches!(exchange.asked.tls.as_str(), "TLSv1.2" | "TLSv1.3"),
                format!("it was {}", exchange.asked.tls),
            )?;
            let is_name = kit.masa_host.parse::<std::net::IpAddr>().is_err();
            must(
                !is_name || exchange.asked.server_name.as_deref() == Some(&kit.masa_host),
                format!("the server name is {:?}", exchange.asked.server_name),
            )
        },
    ),
    (
        "rfc8995-3/top-level-member",
        "the only top-level member is that of a request",
        &["BRSKI-3-03"],
        |_, _, signed| signed.leaves(REQUEST).map(|_| ()),
    ),
    (
        "rfc8995-5.5/prior",
        "the pledge's request is in it, octet for octet",
        &["BRSKI-5.5-13", "BRSKI-3.4-05", "JWS-8-01"],
        |_, exchange, signed| {
            let prior = binary(
                "prior-signed-voucher-request",
                needed(signed, "prior-signed-voucher-request")?,
            )?;
            must(
                prior == exchange.pledge_request,
                "prior-signed-voucher-request is not what the pledge sent",
            )
        },
    ),
    (
        "rfc8995-5.5/no-proximity",
        "proximity-registrar-cert is not in it",
        &["BRSKI-5.5-14"],
        |_, _, signed| {
            must(
                !signed
                    .leaves(REQUEST)?
                    .contains_key("proximity-registrar-cert"),
                "it is there",
            )
        },
    ),
    (
        "rfc8995-5.5/nonce",
        "the nonce is the pledge's, as the same text",
        &["BRSKI-5.5-09"],
        |_, exchange, signed| {
            let found = needed(signed, "nonce")?;
            must(
                Some(found) == exchange.leaves.leaves.get("nonce"),
                format!("the nonce is {found}"),
            )
        },
    ),
    (
        "rfc8995-5.5/serial-number",
        "the serial number is that of the device's certificate",
        &["BRSKI-5.5-10", "BRSKI-2.3.1-02"],
        |_, exchange, signed| {
            let found = needed(signed, "serial-number")?;
            must(
                found.as_str() == Some(&exchange.device.serial),
                format!("serial-number is {found}"),
            )
        },
    ),
    (
        "rfc8366bis-6.1/idevid-issuer",
        "idevid-issuer is that of the device's certificate",
        &["VOUCHERBIS-6.1-01", "BRSKI-5.5-12", "VOUCHERBIS-6.3-01"],
        |kit, _, signed| {
            let found = binary("idevid-issuer", needed(signed, "idevid-issuer")?)?;
            must(
                found == issuer_leaf(&kit.devices),
                format!("idevid-issuer is {}", hex::encode(found)),
            )
        },
    ),
    (
        "rfc8995-5.5/created-on",
        "created-on is now",
        &["BRSKI-5.5-08"],
        |kit, _, signed| {
            let text = needed(signed, "created-on")?
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let at = OffsetDateTime::parse(&text, &Rfc3339)
                .map_err(|error| Finding::fail(format!("created-on {text}: {error}")))?;
            must(
                (at - kit.at).whole_minutes().abs() < 30,
                format!("created-on is {text}"),
            )
        },
    ),
    (
        "rfc8995-5.5.4/cmcra",
        "the signer's certificate has cmcRA",
        &["BRSKI-5.5.4-01"],
        |_, _, signed| {
            must(
                signed.signer.has_cmc_ra(),
                format!("{} has not", signed.signer.subject()),
            )
        },
    ),
    (
        "rfc8995-5.8.2/key-identifier",
        "the registrar's certificate has a subject key identifier",
        &["BRSKI-5.8.2-03"],
        |_, _, signed| must(signed.signer.subject_key_id().is_some(), "it has none"),
    ),
    (
        "rfc8995-5.5/only-its-chain",
        "no certificate comes along that has nothing to do with the signer",
        &["BRSKI-5.5-04"],
        |_, _, signed| {
            for one in &signed.certificates {
                let used = one.der() == signed.signer.der()
                    || signed
                        .certificates
                        .iter()
                        .any(|below| below.issuer_der() == one.subject_der());
                must(used, format!("{} is there", one.subject()))?;
            }
            Ok(())
        },
    ),
    (
        "rfc8995-3.3/base64",
        "binary leaves are base64 of RFC 4648 section 4",
        &["BRSKI-3.3-01"],
        |_, _, signed| {
            for name in ["idevid-issuer", "nonce", "prior-signed-voucher-request"] {
                if let Some(value) = signed.leaves(REQUEST)?.get(name) {
                    binary(name, value)?;
                }
            }
            Ok(())
        },
    ),
    (
        "rfc8995-5.6/forwarded",
        "the voucher reaches the device octet for octet",
        &["BRSKI-5.6-02", "BRSKI-6-01"],
        |_, exchange, signed| {
            let voucher = crate::inspect::open(&exchange.answer.body)?;
            must(
                voucher.envelope == signed.envelope,
                "it is in another envelope",
            )?;
            must(
                exchange.answer.media_type() == signed.envelope.media_type(),
                format!("Content-Type is {}", exchange.answer.media_type()),
            )
        },
    ),
    (
        "rfc8995-5.6.2/pin",
        "the registrar's TLS certificate chains up to what the voucher pins",
        &["BRSKI-5.6.2-06"],
        |_, _, _| Ok(()),
    ),
];

fn needed<'a>(signed: &'a Signed, name: &str) -> Result<&'a Value, Finding> {
    signed
        .leaves(REQUEST)?
        .get(name)
        .ok_or_else(|| Finding::fail(format!("there is no {name}")))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (envelope, feature) in [(Envelope::Cms, "cms"), (Envelope::Jws, "jws")] {
        for (id, title, requirements, look) in LOOKS {
            let about_pin = id.ends_with("/pin");
            cases.push(
                Case::new(
                    format!("registrar/{id}-{feature}"),
                    *title,
                    requirements,
                    move |kit: Arc<Registrar>, record: Recorder| async move {
                        let exchange = kit.voucher(&record, envelope).await?;
                        if about_pin {
                            return pin(&kit, &record, &exchange).await;
                        }
                        let signed = exchange.asked.request()?;
                        look(&kit, &exchange, &signed)
                    },
                )
                .tags(&["masa-side", feature])
                .needs(&[feature]),
            );
        }
    }
    cases.extend([
        Case::new(
            "registrar/rfc8366bis-6.1/idevid-issuer-of-request",
            "idevid-issuer is not copied from the pledge's request",
            &["VOUCHERBIS-6.1-02"],
            issuer_of_request,
        )
        .tags(&["hostile"]),
        Case::new(
            "registrar/rfc8995-2.5.3/masa-of-stranger",
            "a MASA whose certificate a stranger issued gets no request",
            &["BRSKI-2.5.3-01"],
            masa_of_stranger,
        )
        .tags(&["hostile", "tls"]),
        Case::new(
            "registrar/rfc8995-5.4/masa-of-other-name",
            "a MASA whose certificate is for another name gets no request",
            &["BRSKI-5.4-02", "NAME-6.1-01"],
            masa_of_other_name,
        )
        .tags(&["hostile", "tls"]),
        Case::new(
            "registrar/rfc8995-2.3.2/masa-without-tls",
            "a MASA whose address begins with http:// is asked over TLS or not at all",
            &["BRSKI-2.3.2-04"],
            masa_without_tls,
        )
        .tags(&["hostile", "tls"]),
        Case::new(
            "registrar/rfc8995-5.6/repeat",
            "the same request again gets a voucher again",
            &["BRSKI-5.6-32"],
            repeat,
        )
        .needs(&["cms"]),
    ]);
    type Odd = (
        &'static str,
        &'static str,
        &'static [&'static str],
        fn() -> Reply,
    );
    const ODD: &[Odd] = &[
        (
            "rfc8995-5.6/masa-403",
            "a refusal of the MASA reaches the device as an error",
            &["BRSKI-5.6-04"],
            || Reply::new(403, "text/plain", "no"),
        ),
        (
            "rfc8995-5.6/masa-404",
            "that the MASA does not know the device reaches the device as an error",
            &["BRSKI-5.6-04"],
            || Reply::new(404, "text/plain", "unknown"),
        ),
        (
            "rfc8995-5.6/masa-500",
            "a failure of the MASA reaches the device as an error",
            &["BRSKI-5.6-04"],
            || Reply::new(500, "text/plain", "broken"),
        ),
        (
            "rfc8995-5.4/masa-401",
            "a 401 of the MASA reaches the device as an error",
            &["BRSKI-5.4-06", "BRSKI-5.6-04"],
            || Reply::new(401, "text/plain", "who are you"),
        ),
        (
            "rfc8995-5.6/masa-redirect",
            "a redirect of the MASA to somewhere else yields no voucher",
            &["BRSKI-5.6-04"],
            || Reply {
                status: 302,
                headers: vec![("Location".into(), "http://127.0.0.1:9/".into())],
                body: Vec::new(),
            },
        ),
        (
            "rfc8995-5.6/masa-garbage",
            "a voucher that is garbage is no success",
            &["BRSKI-5.6-04"],
            || Reply::new(200, "application/voucher-cms+json", "garbage"),
        ),
        (
            "rfc8995-5.6/masa-empty",
            "an empty answer of the MASA is no success",
            &["BRSKI-5.6-04"],
            || Reply::new(200, "application/voucher-cms+json", ""),
        ),
        (
            "rfc8995-5.6/masa-media-type",
            "an answer of the MASA that is a web page is no success",
            &["BRSKI-5.6-04"],
            || Reply::new(200, "text/html", "<p>hello</p>"),
        ),
    ];
    for (id, title, requirements, reply) in ODD {
        cases.push(
            Case::new(
                format!("registrar/{id}"),
                *title,
                requirements,
                move |kit: Arc<Registrar>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let reply = reply();
                    kit.masa
                        .behave(&device.serial, Arc::new(move |_| reply.clone()));
                    let leaves = kit.leaves(&record, &device).await?;
                    let body = device.sign(Envelope::Cms, &leaves, kit.at);
                    let answer = kit.ask(&record, &device, Envelope::Cms, body).await?;
                    must(
                        (400..600).contains(&answer.status),
                        format!("the device was answered {}", answer.status),
                    )
                },
            )
            .tags(&["masa-side", "hostile"])
            .needs(&["cms"]),
        );
    }
    cases
}

/// The registrar's own certificate has to be below what the MASA pins, for a device to believe it.
async fn pin(kit: &Registrar, record: &Recorder, exchange: &Exchange) -> Told {
    let voucher = crate::inspect::open(&exchange.answer.body)?;
    let pinned = crate::checks::voucher::pinned(&voucher)?;
    let chain: Vec<Certificate> = kit
        .server_chain(record)
        .await?
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect();
    let (leaf, others) = chain
        .split_first()
        .ok_or_else(|| Finding::fail("the registrar showed no certificate"))?;
    crate::inspect::trusted(leaf, others, &[pinned], pki::path::Purpose::Any, kit.at)
}

async fn issuer_of_request(kit: Arc<Registrar>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    let wrong = issuer_leaf(&kit.unknown);
    let leaves = kit
        .leaves(&record, &device)
        .await?
        .set("idevid-issuer", STANDARD.encode(&wrong));
    let serial = device.serial.clone();
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    let answer = kit.ask(&record, &device, Envelope::Cms, body).await?;
    if answer.is_refusal() {
        return Ok(());
    }
    for came in kit.masa.came(&serial) {
        let signed = came.request()?;
        let found = signed.leaves(REQUEST)?.get("idevid-issuer").cloned();
        must(
            found != Some(STANDARD.encode(&wrong).into()),
            "the registrar sent what the pledge said",
        )?;
    }
    Ok(())
}

async fn masa_of_stranger(kit: Arc<Registrar>, record: Recorder) -> Told {
    let port = kit.masa_of_stranger.address().port();
    let device = no_voucher_from(&kit, &record, port).await?;
    must(
        kit.masa_of_stranger.came(&device).is_empty(),
        "the request was sent to it",
    )
}

async fn repeat(kit: Arc<Registrar>, record: Recorder) -> Told {
    let exchange = kit.voucher(&record, Envelope::Cms).await?;
    let again = exchange.pledge_request.clone();
    let answer = kit
        .ask(&record, &exchange.device, Envelope::Cms, again)
        .await?;
    must(
        answer.status == 200,
        format!("it was answered {}: {}", answer.status, answer.text()),
    )?;
    crate::inspect::open(&answer.body).map(|_| ())
}

/// Listens where the device says that its MASA speaks HTTP.
async fn masa_without_tls(kit: Arc<Registrar>, record: Recorder) -> Told {
    const CLIENT_HELLO: u8 = 0x16;
    let address = std::net::SocketAddr::new(kit.masa.address().ip(), 0);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .or_could_not_test("a port")?;
    let port = listener
        .local_addr()
        .or_could_not_test("the address of a port")?
        .port();
    let heard = tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let (mut stream, _) = listener.accept().await.ok()?;
        stream.read_u8().await.ok()
    });
    let serial = format!("CONF-REG-{:016x}-{port}", record.seed);
    let url = format!("http://{}:{port}", kit.masa_host);
    let device = kit.device_of(&kit.devices, &serial, Some(&url))?;
    let leaves = kit.leaves(&record, &device).await?;
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    let answer = kit.ask(&record, &device, Envelope::Cms, body).await?;
    must(
        answer.status != 200,
        "the device was answered 200, and nobody gave it a voucher",
    )?;
    if !heard.is_finished() {
        heard.abort();
        return Ok(());
    }
    let first = heard.await.ok().flatten();
    must(
        first.is_none_or(|first| first == CLIENT_HELLO),
        "the MASA was asked without TLS",
    )
}

async fn masa_of_other_name(kit: Arc<Registrar>, record: Recorder) -> Told {
    let port = kit.masa_of_other_name.address().port();
    let device = no_voucher_from(&kit, &record, port).await?;
    must(
        kit.masa_of_other_name.came(&device).is_empty(),
        "the request was sent to it",
    )
}

/// A device whose MASA is one that must not be believed; its serial number.
async fn no_voucher_from(kit: &Registrar, record: &Recorder, port: u16) -> Result<String, Finding> {
    let serial = format!("CONF-REG-{:016x}-{port}", record.seed);
    let url = format!("{}:{port}", kit.masa_host);
    let device = kit.device_of(&kit.devices, &serial, Some(&url))?;
    let leaves = kit.leaves(record, &device).await?;
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    let answer = kit.ask(record, &device, Envelope::Cms, body).await?;
    must(
        (400..600).contains(&answer.status),
        format!("the device was answered {}", answer.status),
    )?;
    Ok(serial)
}

/// What is refused before anybody is asked.
pub(super) fn nothing_asked(kit: &Registrar, serial: &str) -> Told {
    must(
        kit.masa.came(serial).is_empty(),
        "the MASA was asked all the same",
    )
}

/// The answer is a refusal, and the MASA was not asked.
pub(super) fn refused_alone(kit: &Registrar, answer: &crate::http::Answer, serial: &str) -> Told {
    refused(answer, "it")?;
    nothing_asked(kit, serial)
}
