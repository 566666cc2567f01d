//! How a device talks to the registrar: waiting, redirects, refusals, media types, trying again.

use std::{sync::Arc, time::Duration};

use super::{
    Pledge, Scene,
    scene::{asked, status_of},
};
use crate::{
    case::Case,
    evidence::Recorder,
    fake_masa::Reply,
    inspect::{self, Envelope, binary},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Action, Came, Handler, Tls},
};

/// Answers that are no voucher.
const NO_VOUCHER: &[(&str, u16, &[&str])] = &[
    ("400", 400, &["BRSKI-2.1-01"]),
    ("401", 401, &["BRSKI-2.1-01"]),
    ("403", 403, &["BRSKI-2.1-01"]),
    ("404", 404, &["BRSKI-2.1-01"]),
    ("406", 406, &["BRSKI-2.1-01"]),
    ("500", 500, &["BRSKI-2.1-01", "BRSKI-5.1-11"]),
    ("503", 503, &["BRSKI-2.1-01"]),
    ("204", 204, &["BRSKI-7.2-02", "BRSKI-5.1-11"]),
    ("200-without-body", 200, &["BRSKI-7.2-02", "BRSKI-5.1-11"]),
];

type Raw = fn() -> Vec<u8>;

/// Octets that are hardly HTTP.
const RAW: &[(&str, &str, Raw)] = &[
    ("raw-garbage", "garbage", || {
        b"\x00\xff\x17 garbage \r\n\r\n".to_vec()
    }),
    ("raw-no-status", "an answer without a status", || {
        b"HTTP/1.1 \r\n\r\n".to_vec()
    }),
    (
        "raw-chunk",
        "an answer with a chunk of negative size",
        || b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc".to_vec(),
    ),
    (
        "raw-endless-header",
        "an answer with a header of a megabyte",
        || {
            let mut octets = b"HTTP/1.1 200 OK\r\nX-Long: ".to_vec();
            octets.extend(std::iter::repeat_n(b'a', 1_000_000));
            octets.extend(b"\r\nContent-Length: 0\r\n\r\n");
            octets
        },
    ),
    (
        "raw-many-headers",
        "an answer with ten thousand headers",
        || {
            let mut octets = b"HTTP/1.1 200 OK\r\n".to_vec();
            for _ in 0..10_000 {
                octets.extend(b"X-Header: value\r\n");
            }
            octets.extend(b"Content-Length: 0\r\n\r\n");
            octets
        },
    ),
    (
        "raw-huge-length",
        "an answer that says that it is four thousand million octets long",
        || {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/voucher-cms+json\r\nContent-Length: 4000000000\r\n\r\n0".to_vec()
        },
    ),
    ("raw-cut", "an answer that ends in the middle", || {
        b"HTTP/1.1 200 OK\r\nContent-Type: application/voucher-cms+json\r\nContent-Length: 1000\r\n\r\n0\x80".to_vec()
    }),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(id, status, requirements) in NO_VOUCHER {
        cases.push(
            Case::new(
                format!("pledge/rfc8995-2.1/answer-{id}"),
                format!("after {status} instead of a voucher there is no enrolment"),
                requirements,
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let scene = Scene::new(&kit, Envelope::Cms)?
                        .voucher(move |_| Reply::bare(status).into());
                    let run = kit.play(&record, scene).await?;
                    run.refused(&format!("an answer {status}"))
                },
            )
            .tags(&["hostile"])
            .needs(&["cms"]),
        );
    }
    for &(id, title, make) in RAW {
        cases.push(
            Case::new(
                format!("pledge/rfc8995-5.1/{id}"),
                format!("after {title} there is no enrolment, and the device lives"),
                &["BRSKI-5.1-11", "BRSKI-11-02"],
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let scene =
                        Scene::new(&kit, Envelope::Cms)?.voucher(move |_| Action::Raw(make()));
                    kit.play(&record, scene).await?.refused(title)
                },
            )
            .tags(&["hostile"])
            .needs(&["cms"]),
        );
    }
    for (id, media_type, is_good, requirements) in [
        (
            "upper-case",
            "APPLICATION/Voucher-CMS+JSON",
            true,
            ["VOUCHER-8.3-01"],
        ),
        (
            "parameter",
            "application/voucher-cms+json; charset=utf-8",
            true,
            ["VOUCHER-8.3-01"],
        ),
        ("html", "text/html", false, ["BRSKI-5.1-11"]),
    ] {
        cases.push(
            Case::new(
                format!("pledge/rfc8366-8.3/media-type-{id}"),
                if is_good {
                    format!("a voucher of type {media_type} is taken")
                } else {
                    format!("a voucher of type {media_type} is refused")
                },
                &requirements,
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let scene = Scene::new(&kit, Envelope::Cms)?.voucher(move |asked| {
                        let body = asked.signed(&asked.leaves().encode());
                        Reply::new(200, media_type, body).into()
                    });
                    let run = kit.play(&record, scene).await?;
                    if is_good {
                        run.enrolled(media_type)
                    } else {
                        run.refused(media_type)
                    }
                },
            )
            .needs(&["cms"]),
        );
    }
    cases.extend([
        Case::new(
            "pledge/rfc8995-6/transfer-encoding-ignored",
            "Content-Transfer-Encoding, whatever it says, changes nothing",
            &["BRSKI-6-03"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let scene = Scene::new(&kit, Envelope::Cms)?.voucher(|asked| {
                    let body = asked.signed(&asked.leaves().encode());
                    Reply::new(200, asked.world.envelope.media_type(), body)
                        .header("Content-Transfer-Encoding", "base64")
                        .into()
                });
                kit.play(&record, scene)
                    .await?
                    .enrolled("Content-Transfer-Encoding: base64")
            },
        )
        .needs(&["cms"]),
        later(
            "same-request",
            "after 202 the same request comes again, octet by octet",
            &["BRSKI-5.6-11", "BRSKI-5.6-12"],
            "2",
            |first, second| {
                must(
                    first.body == second.body,
                    "the second request is another one",
                )
            },
        ),
        later(
            "waits",
            "after 202 the device waits as long as Retry-After says",
            &["BRSKI-5.6-08"],
            "3",
            |first, second| {
                let waited = second.at.duration_since(first.at);
                must(
                    waited >= Duration::from_millis(2900),
                    format!("it came again after {} ms", waited.as_millis()),
                )
            },
        ),
        later(
            "http-date",
            "a Retry-After that is a date hinders nothing",
            &["BRSKI-5.6-31"],
            "Wed, 21 Oct 2015 07:28:00 GMT",
            |_, _| Ok(()),
        )
        .tags(&["slow"]),
        later(
            "negative",
            "a negative Retry-After hinders nothing",
            &["BRSKI-5.6-31"],
            "-5",
            |_, _| Ok(()),
        )
        .tags(&["slow"]),
        later(
            "garbage",
            "a Retry-After that is garbage hinders nothing",
            &["BRSKI-5.6-31"],
            "soon",
            |_, _| Ok(()),
        )
        .tags(&["slow"]),
        later(
            "an-hour",
            "a Retry-After of an hour is cut to a minute",
            &["BRSKI-5.6-07"],
            "3600",
            |first, second| {
                let waited = second.at.duration_since(first.at);
                must(
                    waited <= Duration::from_secs(70),
                    format!("it came again after {} s", waited.as_secs()),
                )
            },
        )
        .tags(&["slow"]),
        Case::new(
            "pledge/rfc8995-5.6.2/nothing-before-voucher",
            "while the registrar says later there is no enrolment",
            &["BRSKI-5.6.2-07", "EST-4.1.1-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let scene = Scene::new(&kit, Envelope::Cms)?.voucher(|asked| {
                    if asked.count < 2 {
                        Reply::bare(202).header("Retry-After", "1").into()
                    } else {
                        asked.answer(asked.leaves())
                    }
                });
                let run = kit.play(&record, scene).await?;
                run.enrolled("a voucher at the third time")?;
                let last = run.seen.last("requestvoucher").map(|came| came.at);
                let early = run
                    .seen
                    .requests
                    .iter()
                    .find(|came| came.operation() != "requestvoucher" && Some(came.at) < last);
                must(
                    early.is_none(),
                    format!(
                        "{} came before the voucher",
                        early.map_or("", |came| came.operation())
                    ),
                )
            },
        )
        .needs(&["cms"]),
        Case::new(
            "pledge/rfc8995-5.6/redirect-once",
            "a redirect to another origin is followed, and the request there names that registrar",
            &["BRSKI-5.6-14", "BRSKI-4.1-09"],
            redirect_once,
        )
        .needs(&["cms", "redirects"]),
        Case::new(
            "pledge/rfc8995-5.6/redirect-twice",
            "a second redirect to another origin is not followed",
            &["BRSKI-5.6-13"],
            redirect_twice,
        )
        .tags(&["hostile"])
        .needs(&["cms"]),
        Case::new(
            "pledge/rfc8995-5.6/redirect-to-http",
            "a redirect to HTTP without TLS is not followed",
            &["BRSKI-5.6-13", "EST-3.3-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let plain =
                    std::net::TcpListener::bind("127.0.0.1:0").or_could_not_test("a port")?;
                let port = plain.local_addr().or_could_not_test("a port")?.port();
                plain.set_nonblocking(true).or_could_not_test("a port")?;
                let host = kit.launcher.host().to_owned();
                let scene = Scene::new(&kit, Envelope::Cms)?.voucher(move |_| {
                    Reply::bare(307)
                        .header(
                            "Location",
                            format!("http://{host}:{port}/.well-known/brski/requestvoucher"),
                        )
                        .into()
                });
                let run = kit.play(&record, scene).await?;
                must(plain.accept().is_err(), "the device connected without TLS")?;
                run.refused("a redirect to http:")
            },
        )
        .tags(&["hostile"])
        .needs(&["cms"]),
        Case::new(
            "pledge/rfc8995-5.2/nonce-fresh",
            "a device that is set back and started again uses another nonce and another key",
            &["BRSKI-5.2-09", "BRSKI-11.3-01", "BRSKI-5.2-08"],
            nonce_fresh,
        )
        .needs(&["cms"]),
        Case::new(
            "pledge/rfc8995-2.1/tries-again",
            "after a bad voucher the device tries again with another nonce, and takes a good one",
            &["BRSKI-2.1-01", "BRSKI-5.2-09", "BRSKI-5.6.2-05"],
            tries_again,
        )
        .needs(&["cms", "retries"])
        .tags(&["slow"]),
        Case::new(
            "pledge/rfc8995-5.6.1/old-voucher",
            "a voucher for the request before the last is refused",
            &["BRSKI-5.6.1-03", "BRSKI-2.6.1-03"],
            old_voucher,
        )
        .tags(&["hostile", "slow"])
        .needs(&["cms", "retries"]),
        Case::new(
            "pledge/rfc8995-5/no-second-time",
            "a device that is enrolled does not begin again",
            &["BRSKI-5-02"],
            no_second_time,
        )
        .needs(&["cms", "restart"]),
        Case::new(
            "pledge/rfc8995-5/begins",
            "a device in factory state begins by itself",
            &["BRSKI-5-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                kit.good(&record, Envelope::Cms)
                    .await?
                    .came("requestvoucher")
                    .map(|_| ())
            },
        ),
        Case::new(
            "pledge/rfc8995-5.6.1/voucher-is-no-anchor",
            "a voucher of the domain's CA is refused after one of the MASA was taken",
            &["BRSKI-5.6.1-06"],
            voucher_is_no_anchor,
        )
        .tags(&["hostile"])
        .needs(&["cms", "restart"]),
    ]);
    cases
}

/// A registrar that says "later" once.
fn later(
    id: &str,
    title: &str,
    requirements: &[&str],
    retry_after: &'static str,
    judge: fn(&Came, &Came) -> Told,
) -> Case {
    Case::new(
        format!("pledge/rfc8995-5.6/later-{id}"),
        title,
        requirements,
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let scene = Scene::new(&kit, Envelope::Cms)?
                .voucher(move |asked| {
                    if asked.count == 0 {
                        Reply::bare(202).header("Retry-After", retry_after).into()
                    } else {
                        asked.answer(asked.leaves())
                    }
                })
                .with(|scene| scene.is_patient = true);
            let run = kit.play(&record, scene).await?;
            let requests = run.seen.all("requestvoucher");
            match requests.as_slice() {
                [first, second, ..] => {
                    judge(first, second)?;
                    run.enrolled("a voucher at the second time")
                }
                [_] => Err(Finding::fail("the device did not come again")),
                [] => Err(Finding::could_not_test("the device did not come")),
            }
        },
    )
    .needs(&["cms"])
}

/// A further registrar with its own certificate that answers requests for vouchers.
fn other(kit: &Pledge) -> Result<Tls, Finding> {
    Ok(Tls::new(&kit.registrar_of(&kit.domain)?))
}

fn answers_well(world: &Arc<super::scene::World>) -> Handler {
    let world = Arc::clone(world);
    Arc::new(move |came, history| {
        if came.operation() != "requestvoucher" {
            return super::scene::usual(&world, came);
        }
        match inspect::open(&came.body) {
            Ok(request) => {
                let asked = asked(&world, came, history, &request);
                asked.answer(asked.leaves())
            }
            Err(finding) => Reply::new(400, "text/plain", finding.why).into(),
        }
    })
}

fn sends_on(world: &Arc<super::scene::World>) -> Handler {
    let world = Arc::clone(world);
    Arc::new(move |_, _| {
        let there = world.url(2, "/.well-known/brski/requestvoucher");
        Reply::bare(307).header("Location", there).into()
    })
}

async fn redirect_once(kit: Arc<Pledge>, record: Recorder) -> Told {
    let tls = other(&kit)?;
    let there = tls.chain.first().cloned().unwrap_or_default();
    let scene = Scene::new(&kit, Envelope::Cms)?
        .voucher(|asked| {
            let there = asked.world.url(1, "/.well-known/brski/requestvoucher");
            Reply::bare(307).header("Location", there).into()
        })
        .with(|scene| scene.others.push((tls, answers_well)));
    let run = kit.play(&record, scene).await?;
    run.came("requestvoucher")?;
    let seen = run
        .others
        .first()
        .ok_or_else(|| Finding::could_not_test("there is no second registrar"))?;
    let came = seen
        .first("requestvoucher")
        .ok_or_else(|| Finding::fail("the redirect was not followed"))?;
    let request = inspect::open(&came.body)?;
    let leaves = request.leaves(crate::forge::voucher::REQUEST)?;
    let named = leaves
        .get("proximity-registrar-cert")
        .ok_or_else(|| Finding::fail("proximity-registrar-cert is missing"))?;
    must(
        binary("proximity-registrar-cert", named)? == there,
        "the request names another registrar than the one that it came to",
    )?;
    must(
        seen.first("simpleenroll").is_some(),
        "the device did not enrol at the registrar that it was sent to",
    )
}

async fn redirect_twice(kit: Arc<Pledge>, record: Recorder) -> Told {
    let (second, third) = (other(&kit)?, other(&kit)?);
    let scene = Scene::new(&kit, Envelope::Cms)?
        .voucher(|asked| {
            let there = asked.world.url(1, "/.well-known/brski/requestvoucher");
            Reply::bare(307).header("Location", there).into()
        })
        .with(|scene| {
            scene.others.push((second, sends_on));
            scene.others.push((third, answers_well));
        });
    let run = kit.play(&record, scene).await?;
    run.came("requestvoucher")?;
    let third = run
        .others
        .get(1)
        .ok_or_else(|| Finding::could_not_test("there is no third registrar"))?;
    must(
        third.requests.is_empty(),
        "the second redirect to another origin was followed",
    )
}

/// The nonce of a request.
fn nonce_of(came: &Came) -> Result<Vec<u8>, Finding> {
    let request = inspect::open(&came.body)?;
    let leaves = request.leaves(crate::forge::voucher::REQUEST)?;
    let nonce = leaves
        .get("nonce")
        .ok_or_else(|| Finding::fail("there is no nonce"))?;
    binary("nonce", nonce)
}

async fn nonce_fresh(kit: Arc<Pledge>, record: Recorder) -> Told {
    let mut nonces = Vec::new();
    let mut keys = Vec::new();
    for _ in 0..3 {
        let run = kit.play(&record, Scene::new(&kit, Envelope::Cms)?).await?;
        nonces.push(nonce_of(run.came("requestvoucher")?)?);
        let csr = super::scene::csr_of(&run.came("simpleenroll")?.body)?;
        keys.push(
            csr.public_key()
                .and_then(|key| key.public_key_to_der())
                .or_could_not_test("a key")?,
        );
    }
    let count = nonces.len();
    nonces.sort();
    nonces.dedup();
    must(nonces.len() == count, "a nonce came twice")?;
    keys.sort();
    keys.dedup();
    must(keys.len() == count, "a key came twice")
}

async fn tries_again(kit: Arc<Pledge>, record: Recorder) -> Told {
    let scene = Scene::new(&kit, Envelope::Cms)?
        .voucher(|asked| {
            if asked.count == 0 {
                asked.answer(asked.leaves().binary("nonce", &[0x55; 16]))
            } else {
                asked.answer(asked.leaves())
            }
        })
        .with(|scene| {
            scene.attempts = 3;
            scene.is_patient = true;
        })
        .enough(|seen| seen.first("enrollstatus").is_some());
    let run = kit.play(&record, scene).await?;
    let requests = run.seen.all("requestvoucher");
    let [first, second, ..] = requests.as_slice() else {
        return Err(Finding::fail("the device did not try again"));
    };
    must(
        nonce_of(first)? != nonce_of(second)?,
        "the second attempt has the nonce of the first",
    )?;
    must(
        run.seen.first("simpleenroll").is_some(),
        "the device did not take the good voucher",
    )
}

async fn old_voucher(kit: Arc<Pledge>, record: Recorder) -> Told {
    let first = Arc::new(std::sync::Mutex::new(None));
    let scene = Scene::new(&kit, Envelope::Cms)?
        .voucher(move |asked| {
            let mut first = first
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            match &*first {
                None => {
                    *first = Some(asked.signed(&asked.leaves().encode()));
                    Reply::bare(500).into()
                }
                Some(voucher) => asked.reply(voucher.clone()),
            }
        })
        .with(|scene| {
            scene.attempts = 2;
            scene.is_patient = true;
        })
        .enough(|seen| {
            seen.all("requestvoucher").len() > 1
                && seen
                    .latest()
                    .is_some_and(|at| at.elapsed() > Duration::from_secs(2))
        });
    let run = kit.play(&record, scene).await?;
    let requests = run.seen.all("requestvoucher");
    let [first, second, ..] = requests.as_slice() else {
        return Err(Finding::could_not_test("the device did not try again"));
    };
    must(
        nonce_of(first)? != nonce_of(second)?,
        "the second attempt has the nonce of the first",
    )?;
    run.refused("the voucher for the request before")
}

async fn no_second_time(kit: Arc<Pledge>, record: Recorder) -> Told {
    if !kit.launcher.is_command() {
        return Err(Finding::manual(
            "switch the enrolled device off and on without setting it back: it must not ask for a voucher",
        ));
    }
    let mut ready = kit.launcher.ready().await?;
    let first = kit
        .play_in(&record, Scene::new(&kit, Envelope::Cms)?, &mut ready)
        .await?;
    first.enrolled("a right voucher")?;
    let second = kit
        .play_in(&record, Scene::new(&kit, Envelope::Cms)?, &mut ready)
        .await?;
    must(
        second.seen.first("requestvoucher").is_none(),
        "the enrolled device asked for a voucher",
    )
}

async fn voucher_is_no_anchor(kit: Arc<Pledge>, record: Recorder) -> Told {
    if !kit.launcher.is_command() {
        return Err(Finding::manual(
            "a box is set back between two runs, which is not what this is about",
        ));
    }
    let mut ready = kit.launcher.ready().await?;
    // The first attempt ends after a good voucher, before there is a certificate.
    let scene = Scene::new(&kit, Envelope::Cms)?.on("simpleenroll", |_, _, _| {
        Reply::new(403, "text/plain", "not now").into()
    });
    let first = kit.play_in(&record, scene, &mut ready).await?;
    must(
        first
            .seen
            .first("voucher_status")
            .is_some_and(|came| status_of(came) == Some(true)),
        "the right voucher was not taken",
    )?;
    let signer = kit.signer_of(&kit.domain)?;
    let scene = Scene::new(&kit, Envelope::Cms)?
        .voucher(move |asked| asked.reply(asked.cms_by(&signer).encode()))
        .on("simpleenroll", |_, _, _| {
            Reply::new(403, "text/plain", "not now").into()
        });
    let second = kit.play_in(&record, scene, &mut ready).await?;
    if second.seen.first("requestvoucher").is_none() {
        return Err(Finding::could_not_test(
            "the device asked for no second voucher",
        ));
    }
    must(
        !second
            .seen
            .all("voucher_status")
            .iter()
            .any(|came| status_of(came) == Some(true)),
        "the voucher that the domain signed was taken",
    )
}
