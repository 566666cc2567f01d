//! Redirect information: RFC 8572 section 5.5, and what it does to trust.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Asking, Data, Scene, SztpDevice, scene::input_of, signed_image, unsigned_configuration,
    unsigned_image,
};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::sztp::{redirect, server, unsigned_json},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Action, Tls},
};

/// How redirect information comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Unsigned, by a server that the device trusts.
    Trusted,
    /// Unsigned, by a server that it does not trust.
    Untrusted,
    /// Signed, by a server that it does not trust.
    Signed,
}

/// Sends the device to the second server, with this anchor.
fn sent_on(asking: &Asking<'_>, by: By, anchor: Option<&[Vec<u8>]>) -> Action {
    to(
        asking,
        by,
        &[server(&asking.world.host, asking.world.port(1), anchor)],
    )
}

fn to(asking: &Asking<'_>, by: By, servers: &[Value]) -> Action {
    let content = redirect(servers);
    asking.reply(&match by {
        By::Signed => asking.signed(&content),
        By::Trusted | By::Untrusted => Data::bare(unsigned_json(&content)),
    })
}

fn first(kit: &SztpDevice, by: By) -> Result<Tls, Finding> {
    kit.server_of(if by == By::Trusted {
        &kit.web
    } else {
        &kit.stranger
    })
}

/// What the second server shows: a certificate of the owner's CA, which the manufacturer does not
/// know.
fn second(kit: &SztpDevice) -> Result<Tls, Finding> {
    kit.server_of(&kit.owner)
}

/// A scene whose first server sends the device on like this.
fn begin(
    kit: &SztpDevice,
    by: By,
    answer: impl Fn(&Asking<'_>) -> Action + Send + Sync + 'static,
) -> Result<Scene, Finding> {
    let scene = Scene::new(kit, first(kit, by)?, answer)?;
    Ok(scene.with(|scene| scene.is_discovered = by != By::Trusted))
}

type Make = fn(&SztpDevice) -> Result<Scene, Finding>;

/// Scenes in which the second server's image has to be fetched.
const GOOD: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc8572-5.5/trusted-with-anchor",
        "a trusted redirect with an anchor makes the server below it trusted",
        &[
            "SZTP-8572-5.5-04",
            "SZTP-8572-2.1-02",
            "SZTP-8572-3.1-09",
            "SZTP-8572-5.3-10",
        ],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Trusted, move |asking| {
                sent_on(asking, By::Trusted, Some(&anchor))
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc8572-5.5/signed-with-anchor",
        "a signed redirect of an untrusted server with an anchor makes the server below it trusted",
        &["SZTP-8572-5.5-04", "SZTP-8572-2.1-02", "SZTP-8572-5.3-08"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Signed, move |asking| {
                sent_on(asking, By::Signed, Some(&anchor))
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc8572-5.3/untrusted-then-signed",
        "an untrusted redirect to a server with signed data is of use",
        &["SZTP-8572-5.3-16", "SZTP-8572-5.3-10"],
        |kit| {
            Ok(begin(kit, By::Untrusted, |asking| {
                sent_on(asking, By::Untrusted, None)
            })?
            .and(second(kit)?, signed_image))
        },
    ),
    (
        "rfc8572-5.5/next-entry",
        "the second server of a list is asked where nobody answers at the first",
        &["SZTP-8572-5.5-01"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Trusted, move |asking| {
                let host = &asking.world.host;
                // Nobody listens at the discard port.
                to(
                    asking,
                    By::Trusted,
                    &[
                        server("127.0.0.1", 9, Some(&anchor)),
                        server("nobody.invalid", 443, None),
                        server(host, asking.world.port(1), Some(&anchor)),
                    ],
                )
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc8572-5.6/next-entry-after-failure",
        "the second server of a list is asked where the first has nothing of use",
        &["SZTP-8572-5.6-06", "SZTP-8572-5.5-01"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Trusted, move |asking| {
                let host = &asking.world.host;
                to(
                    asking,
                    By::Trusted,
                    &[
                        server("127.0.0.1", asking.world.port(2), None),
                        server(host, asking.world.port(1), Some(&anchor)),
                    ],
                )
            })?
            .and(second(kit)?, unsigned_image)
            .and(kit.server_of(&kit.stranger)?, |asking| {
                asking.error(500, "operation-failed", None)
            }))
        },
    ),
    (
        "rfc8572-6.3/anchor-chain",
        "an anchor that is a chain of an intermediate CA and its root is understood",
        &["SZTP-8572-6.3-05", "SZTP-8572-6.3-06"],
        |kit| {
            let key = crate::forge::key::Key::generate().or_could_not_test("a key")?;
            let ca = kit
                .owner
                .below("Conformance Owner", "Server CA", key, kit.at);
            let anchor = vec![ca.certificate().to_vec(), kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Trusted, move |asking| {
                sent_on(asking, By::Trusted, Some(&anchor))
            })?
            .and(kit.server_of(&ca)?, unsigned_image))
        },
    ),
    (
        "rfc8572-B/promotion",
        "a signed redirect back to the same server, with its anchor, makes it a trusted one",
        &["SZTP-8572-B-01", "SZTP-8572-9.6-04"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(Scene::new(kit, second(kit)?, move |asking| {
                if asking.input("signed-data-preferred").is_some() {
                    let here = server(&asking.world.host, asking.world.port(0), Some(&anchor));
                    to(asking, By::Signed, &[here])
                } else {
                    asking.unsigned_image()
                }
            })?
            .discovered())
        },
    ),
];

/// Scenes in which no image may be fetched.
const BAD: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc8572-2.1/untrusted-with-anchor",
        "the anchor of an untrusted redirect is worth nothing",
        &[
            "SZTP-8572-2.1-01",
            "SZTP-8572-5.5-06",
            "SZTP-8572-2.1-02",
            "SZTP-8572-5.3-16",
        ],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Untrusted, move |asking| {
                sent_on(asking, By::Untrusted, Some(&anchor))
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc8572-5.5/trusted-without-anchor",
        "a server that a trusted redirect names without an anchor is not trusted",
        &["SZTP-8572-5.5-05"],
        |kit| {
            Ok(begin(kit, By::Trusted, |asking| {
                sent_on(asking, By::Trusted, None)
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc8572-5.5/signed-without-anchor",
        "a server that a signed redirect names without an anchor is not trusted",
        &["SZTP-8572-5.5-05"],
        |kit| {
            Ok(
                begin(kit, By::Signed, |asking| sent_on(asking, By::Signed, None))?
                    .and(second(kit)?, unsigned_image),
            )
        },
    ),
    (
        "rfc8572-5.5/other-anchor",
        "a server whose certificate is not below the redirect's anchor is not trusted",
        &["SZTP-8572-5.5-04"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Trusted, move |asking| {
                sent_on(asking, By::Trusted, Some(&anchor))
            })?
            .and(kit.server_of(&kit.stranger)?, unsigned_image))
        },
    ),
    (
        "rfc8572-5.5/other-name",
        "a server below the redirect's anchor whose certificate is for another name is not trusted",
        &["SZTP-8572-5.5-04", "SZTP-8040-2.4-01"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            let tls = kit.server_named(&kit.owner, &["other.invalid"])?;
            Ok(begin(kit, By::Trusted, move |asking| {
                sent_on(asking, By::Trusted, Some(&anchor))
            })?
            .and(tls, unsigned_image))
        },
    ),
    (
        "rfc8572-9.12/anchor-of-another-entry",
        "the anchor of one server of a list is worth nothing for the next",
        &["SZTP-8572-9.12-01"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Trusted, move |asking| {
                let host = &asking.world.host;
                to(
                    asking,
                    By::Trusted,
                    &[
                        server("127.0.0.1", 9, Some(&anchor)),
                        server(host, asking.world.port(1), None),
                    ],
                )
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc8572-5.5/bad-signature",
        "a redirect whose signature does not hold is not followed as a trusted one",
        &["SZTP-8572-5.4-12", "SZTP-8572-5.5-06", "SZTP-8572-5.3-09"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Signed, move |asking| {
                let content = redirect(&[server(
                    &asking.world.host,
                    asking.world.port(1),
                    Some(&anchor),
                )]);
                let mut data = asking.signed(&content);
                if let Some(last) = data.conveyed.last_mut() {
                    *last ^= 1;
                }
                asking.reply(&data)
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc8572-6.3/anchor-bare",
        "an anchor that is a certificate and no CMS makes no server trusted",
        &["SZTP-8572-6.3-05"],
        |kit| {
            let anchor = crate::forge::sztp::base64(kit.owner.certificate());
            Ok(begin(kit, By::Trusted, move |asking| {
                let mut entry = server(&asking.world.host, asking.world.port(1), None);
                entry["trust-anchor"] = anchor.clone().into();
                to(asking, By::Trusted, &[entry])
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
    (
        "rfc7951-6.1/port-text",
        "a redirect whose port is text is not followed as a right one",
        &["SZTP-7951-6.1-01"],
        |kit| {
            let anchor = vec![kit.owner.certificate().to_vec()];
            Ok(begin(kit, By::Trusted, move |asking| {
                let mut entry = server(&asking.world.host, 1, Some(&anchor));
                entry["port"] = asking.world.port(1).to_string().into();
                to(asking, By::Trusted, &[entry])
            })?
            .and(second(kit)?, unsigned_image))
        },
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(id, title, requirements, make) in GOOD {
        cases.push(
            Case::new(
                format!("sztp-device/{id}"),
                title,
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    kit.play(&record, make(&kit)?).await?.believed(title)
                },
            )
            .needs(&["boot-image"]),
        );
    }
    for &(id, title, requirements, make) in BAD {
        cases.push(
            Case::new(
                format!("sztp-device/{id}"),
                title,
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    kit.play(&record, make(&kit)?)
                        .await?
                        .refused("this redirect")
                },
            )
            .tags(&["hostile"]),
        );
    }
    cases.extend([
        Case::new("sztp-device/rfc8572-7.3/no-report-of-redirect", "redirect information is not reported on", &["SZTP-8572-7.3-12"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let anchor = vec![kit.owner.certificate().to_vec()];
            let scene = begin(&kit, By::Trusted, move |asking| sent_on(asking, By::Trusted, Some(&anchor)))?.and(second(&kit)?, unsigned_configuration);
            let run = kit.play(&record, scene).await?;
            run.call_of(1)?;
            let reports = run.reports(0)?;
            must(reports.is_empty(), format!("the device reported {reports:?}"))
        }),
        Case::new("sztp-device/rfc8572-5.6/reports-go-there", "reports go to the server that gave the onboarding information", &["SZTP-8572-5.6-02"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let anchor = vec![kit.owner.certificate().to_vec()];
            let scene = begin(&kit, By::Trusted, move |asking| sent_on(asking, By::Trusted, Some(&anchor)))?.and(second(&kit)?, unsigned_configuration);
            let run = kit.play(&record, scene).await?;
            run.call_of(1)?;
            let reports = run.reports(1)?;
            must(reports.iter().any(|kind| kind == "bootstrap-complete"), format!("the second server got {reports:?}"))
        }),
        Case::new("sztp-device/rfc8572-5.3/said-to-each", "the device says that it prefers signed data to a server that an untrusted redirect named", &["SZTP-8572-7.3-01", "SZTP-8572-9.6-02", "SZTP-8572-5.3-03"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = begin(&kit, By::Untrusted, |asking| sent_on(asking, By::Untrusted, None))?.and(second(&kit)?, signed_image);
            let run = kit.play(&record, scene).await?;
            let came = run.call_of(1)?;
            must(input_of(came, "signed-data-preferred").is_some(), "it did not say so")?;
            must(input_of(came, "os-name").is_none() && input_of(came, "hw-model").is_none(), "it said what it is")?;
            must(!came.client.is_empty(), "it showed no certificate")
        }),
        Case::new("sztp-device/rfc8572-5.3/circle", "two servers that name each other are left after at most ten redirects", &["SZTP-8572-5.3-11", "SZTP-8572-5.3-12"], circle).tags(&["hostile"]),
        Case::new("sztp-device/rfc8572-5.3/endless", "a chain of redirects without an end is left after at most ten", &["SZTP-8572-5.3-11", "SZTP-8572-5.3-12"], endless).tags(&["hostile"]),
        Case::new("sztp-device/rfc8572-5.2/rounds", "a device that nobody helps tries again", &["SZTP-8572-5.2-01", "SZTP-8572-5.3-15"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| if asking.count == 0 { asking.error(500, "operation-failed", None) } else { asking.unsigned_configuration() })?
                .with(|scene| scene.rounds = 3)
                .enough(|servers| servers.iter().any(|seen| seen.all("report-progress").len() > 1));
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let calls = run.server(0)?.all("get-bootstrapping-data").len();
            must(calls > 1, "the device did not come again")
        }).needs(&["rounds"]).tags(&["slow"]),
        Case::new("sztp-device/rfc8572-5.3/trust-does-not-stay", "trust in one server is not trust in the next", &["SZTP-8572-5.3-01", "SZTP-8572-5.5-05"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            // The first server is trusted and useless; the list then names one that is not.
            let scene = begin(&kit, By::Trusted, |asking| {
                if asking.count == 0 { sent_on(asking, By::Trusted, None) } else { asking.error(500, "operation-failed", None) }
            })?.and(kit.server_of(&kit.stranger)?, unsigned_image);
            let run = kit.play(&record, scene).await?;
            run.call_of(1)?;
            run.refused("unsigned onboarding information of an untrusted server")
        }).tags(&["hostile"]),
    ]);
    cases
}

/// Calls of all servers.
fn calls(run: &super::Run) -> usize {
    run.servers
        .iter()
        .map(|seen| seen.all("get-bootstrapping-data").len())
        .sum()
}

async fn circle(kit: Arc<SztpDevice>, record: Recorder) -> Told {
    let scene = begin(&kit, By::Untrusted, |asking| {
        to(
            asking,
            By::Untrusted,
            &[server(&asking.world.host, asking.world.port(1), None)],
        )
    })?
    .and(second(&kit)?, |asking| {
        to(
            asking,
            By::Untrusted,
            &[server(&asking.world.host, asking.world.port(0), None)],
        )
    })
    .enough(|servers| {
        let calls: usize = servers
            .iter()
            .map(|seen| seen.all("get-bootstrapping-data").len())
            .sum();
        calls > 40
    });
    let run = kit.play(&record, scene).await?;
    run.call_of(1)?;
    let calls = calls(&run);
    must(calls <= 11, format!("the device called {calls} times"))
}

async fn endless(kit: Arc<SztpDevice>, record: Recorder) -> Told {
    const SERVERS: usize = 14;
    let mut scene = begin(&kit, By::Untrusted, |asking| {
        to(
            asking,
            By::Untrusted,
            &[server(&asking.world.host, asking.world.port(1), None)],
        )
    })?;
    for _ in 1..SERVERS {
        scene = scene.and(second(&kit)?, |asking| {
            let next = asking.server + 1;
            to(
                asking,
                By::Untrusted,
                &[server(&asking.world.host, asking.world.port(next), None)],
            )
        });
    }
    let run = kit.play(&record, scene).await?;
    run.call_of(1)?;
    let calls = calls(&run);
    must(
        calls <= 11,
        format!("the device followed {} redirects", calls.saturating_sub(1)),
    )
}
