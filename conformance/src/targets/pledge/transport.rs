//! TLS, and what a voucher pins.

use std::sync::Arc;

use openssl::ssl::SslVersion;
use time::Duration;

use super::{Asked, Pledge, Scene};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        cms::Signatory,
        der,
        key::Key,
        x509::{Authority, CLIENT_AUTH, CMC_RA, Certificate, FOREVER, Identity, SERVER_AUTH, name},
    },
    inspect::Envelope,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Action, Tls, mismatched},
};

/// A registrar and the certificate that the voucher pins.
type Pinned = fn(&Pledge) -> Result<(Identity, Vec<u8>), Finding>;

/// Pins that lead to the registrar.
const GOOD_PINS: &[(&str, &str, &[&str], Pinned)] = &[
    (
        "rfc8995-5.6.2/pin-end-entity",
        "a voucher that pins the registrar's own certificate is taken",
        &["BRSKI-5.6.2-02", "VOUCHER-5.3-17"],
        |kit| {
            let registrar = kit.registrar_of(&kit.domain)?;
            let pin = registrar.certificate().to_vec();
            Ok((registrar, pin))
        },
    ),
    (
        "rfc8995-5.1/self-signed",
        "a registrar that signed its own certificate, which the voucher pins, is taken",
        &["BRSKI-5.1-10", "BRSKI-5.6.2-02"],
        |kit| {
            let registrar = self_signed(kit)?;
            let pin = registrar.certificate().to_vec();
            Ok((registrar, pin))
        },
    ),
    (
        "rfc8366-5.3/pin-root-through-intermediate",
        "a voucher that pins the root above the registrar's CA is taken",
        &["VOUCHER-5.3-17", "BRSKI-5.6.2-01"],
        |kit| {
            let ca = intermediate(kit, |it| it)?;
            Ok((kit.registrar_of(&ca)?, kit.domain.certificate().to_vec()))
        },
    ),
    (
        "rfc8366-5.3/pin-intermediate",
        "a voucher that pins the CA between the root and the registrar is taken",
        &["VOUCHER-5.3-17", "BRSKI-5.6.2-01"],
        |kit| {
            let ca = intermediate(kit, |it| it)?;
            let pin = ca.certificate().to_vec();
            Ok((kit.registrar_of(&ca)?, pin))
        },
    ),
    (
        "rfc5280-4.1.2.2/long-serial",
        "a registrar whose certificate has a number of twenty octets is taken",
        &["X509-4.1.2.2-01"],
        |kit| {
            let registrar = registrar(kit, &kit.domain, |it| {
                it.with(|it| it.serial = [&[0x7f], [0xa5; 19].as_slice()].concat())
            })?;
            Ok((registrar, kit.domain.certificate().to_vec()))
        },
    ),
    (
        "rfc5280-4.1.2.5/year-9999",
        "a registrar whose certificate ends in the year 9999 is taken",
        &["X509-4.1.2.5-01"],
        |kit| {
            let registrar = registrar(kit, &kit.domain, |it| it.with(|it| it.not_after = FOREVER))?;
            Ok((registrar, kit.domain.certificate().to_vec()))
        },
    ),
];

/// Pins that do not lead to the registrar.
const BAD_PINS: &[(&str, &str, &[&str], Pinned)] = &[
    (
        "rfc8995-5.6.2/pin-stranger",
        "a voucher that pins another CA than the registrar's is refused",
        &[
            "BRSKI-5.6.2-01",
            "BRSKI-5.1-09",
            "BRSKI-5.6.2-03",
            "VOUCHER-5.3-17",
        ],
        |kit| {
            Ok((
                kit.registrar_of(&kit.domain)?,
                kit.stranger.certificate().to_vec(),
            ))
        },
    ),
    (
        "rfc8995-5.6.2/pin-same-name",
        "a voucher that pins a CA with the same name and another key is refused",
        &["BRSKI-5.6.2-01", "X509-6.1-01"],
        |kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let double = Authority::root("Conformance Domain", "Domain CA", key, kit.at);
            Ok((
                kit.registrar_of(&kit.domain)?,
                double.certificate().to_vec(),
            ))
        },
    ),
    (
        "rfc8995-5.6.2/pin-other-end-entity",
        "a voucher that pins another registrar of the same domain is refused",
        &["BRSKI-5.6.2-01"],
        |kit| {
            let other = kit.registrar_of(&kit.domain)?;
            Ok((kit.registrar_of(&kit.domain)?, other.certificate().to_vec()))
        },
    ),
    (
        "rfc8995-5.6.2/pin-manufacturer",
        "a registrar below the manufacturer's CA that the voucher does not pin is refused",
        &["BRSKI-5.6.2-01"],
        |kit| {
            Ok((
                kit.registrar_of(&kit.masa)?,
                kit.domain.certificate().to_vec(),
            ))
        },
    ),
    (
        "rfc5280-4.2.1.9/end-entity-as-issuer",
        "a registrar whose certificate an end entity below the pin issued is refused",
        &["X509-4.2.1.9-01", "VOUCHER-5.3-17"],
        |kit| {
            let middle = kit.registrar_of(&kit.domain)?;
            let ca = Authority {
                name: name("", "Registrar", None),
                above: middle.chain(),
                signatory: middle.signatory,
            };
            Ok((kit.registrar_of(&ca)?, kit.domain.certificate().to_vec()))
        },
    ),
    (
        "rfc5280-4.2.1.9/path-length",
        "a registrar below one CA more than the path length allows is refused",
        &["X509-4.2.1.9-01"],
        |kit| {
            let first = intermediate(kit, |it| it)?;
            let key = Key::generate().or_could_not_test("a key")?;
            let second = first.below("Conformance Domain", "Deeper CA", key, kit.at);
            Ok((
                kit.registrar_of(&second)?,
                kit.domain.certificate().to_vec(),
            ))
        },
    ),
    (
        "rfc5280-4.2.1.3/no-key-cert-sign",
        "a registrar below a CA that may sign no certificates is refused",
        &["X509-4.2.1.3-01"],
        |kit| {
            let ca = intermediate(kit, |it| {
                it.without("2.5.29.15").extension(
                    "2.5.29.15",
                    true,
                    der::tlv(0x03, &[7, 0b1000_0000]),
                )
            })?;
            Ok((kit.registrar_of(&ca)?, kit.domain.certificate().to_vec()))
        },
    ),
    (
        "rfc5280-4.2/critical-extension",
        "a registrar whose certificate has a critical extension that nobody knows is refused",
        &["X509-4.2-01"],
        |kit| {
            let registrar = registrar(kit, &kit.domain, |it| {
                it.extension("1.3.6.1.4.1.32473.1", true, der::null())
            })?;
            Ok((registrar, kit.domain.certificate().to_vec()))
        },
    ),
    (
        "rfc8366-5.3/pin-device-ca",
        "a voucher that pins the CA of devices is refused",
        &["BRSKI-5.6.2-01"],
        |kit| {
            Ok((
                kit.registrar_of(&kit.domain)?,
                kit.devices.certificate().to_vec(),
            ))
        },
    ),
];

/// A registrar's certificate that `change` makes special.
fn registrar(
    kit: &Pledge,
    ca: &Authority,
    change: impl FnOnce(Certificate) -> Certificate,
) -> Result<Identity, Finding> {
    let key = Key::generate().or_could_not_test("a key")?;
    let host = kit.launcher.host().to_owned();
    Ok(ca.issue(&name("", "Registrar", None), &key, kit.at, |it| {
        change(
            it.purposes(&[SERVER_AUTH, CLIENT_AUTH, CMC_RA])
                .hosts(&[&host, "localhost"]),
        )
    }))
}

fn self_signed(kit: &Pledge) -> Result<Identity, Finding> {
    let key = Key::generate().or_could_not_test("a key")?;
    let subject = name("", "Registrar", None);
    let certificate = Certificate::new(&subject, &subject, key.spki(), kit.at)
        .end_entity(&key.key_id())
        .purposes(&[SERVER_AUTH, CLIENT_AUTH, CMC_RA])
        .hosts(&[kit.launcher.host(), "localhost"])
        .sign(&key);
    Ok(Identity {
        signatory: Signatory { certificate, key },
        above: Vec::new(),
    })
}

/// A CA below the domain's, with path length 0.
fn intermediate(
    kit: &Pledge,
    change: impl FnOnce(Certificate) -> Certificate,
) -> Result<Authority, Finding> {
    let key = Key::generate().or_could_not_test("a key")?;
    let subject = name("Conformance Domain", "Middle CA", None);
    let certificate = Certificate::new(&kit.domain.name, &subject, key.spki(), kit.at)
        .ca(&key.key_id(), Some(0))
        .issued_by(&kit.domain.key_id());
    let certificate = change(certificate).sign(&kit.domain.signatory.key);
    Ok(Authority {
        above: vec![certificate.clone()],
        signatory: Signatory { certificate, key },
        name: subject,
    })
}

/// A right voucher that pins what the case wants.
fn right(asked: &Asked<'_>) -> Action {
    asked.answer(asked.leaves())
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (pins, is_good) in [(GOOD_PINS, true), (BAD_PINS, false)] {
        for &(id, title, requirements, make) in pins {
            let case = Case::new(
                format!("pledge/{id}"),
                title,
                requirements,
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let (registrar, pin) = make(&kit)?;
                    let signer = kit.signer_of(&kit.masa)?;
                    let scene = Scene::of(&kit, Envelope::Cms, registrar, signer)
                        .with(|scene| scene.world.pin = pin)
                        .voucher(right);
                    let run = kit.play(&record, scene).await?;
                    if is_good {
                        run.enrolled("the pin")
                    } else {
                        run.refused("a registrar that the voucher does not pin")
                    }
                },
            )
            .tags(&["tls"])
            .needs(&["cms"]);
            cases.push(if is_good {
                case
            } else {
                case.tags(&["hostile"])
            });
        }
    }
    for (id, version, title) in [
        (
            "tls-1.2",
            SslVersion::TLS1_2,
            "a registrar with TLS 1.2 alone is talked to",
        ),
        (
            "tls-1.3",
            SslVersion::TLS1_3,
            "a registrar with TLS 1.3 alone is talked to",
        ),
    ] {
        cases.push(
            Case::new(
                format!("pledge/rfc8995-5.1/{id}"),
                title,
                &["BRSKI-5.1-02"],
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let scene = Scene::new(&kit, Envelope::Cms)?
                        .with(|scene| scene.tls = scene.tls.clone().versions(version, version));
                    let run = kit.play(&record, scene).await?;
                    if version == SslVersion::TLS1_3 && run.seen.requests.is_empty() {
                        return Err(Finding::warning("TLS 1.3 is not spoken"));
                    }
                    run.enrolled(title)
                },
            )
            .tags(&["tls"])
            .needs(&["cms"]),
        );
    }
    cases.extend([
        Case::new(
            "pledge/rfc8995-5.1/tls-1.1-refused",
            "a registrar with TLS 1.1 alone is not talked to",
            &["BRSKI-5.1-02", "EST-3.3-02"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let scene = Scene::new(&kit, Envelope::Cms)?.with(|scene| {
                    scene.tls = scene
                        .tls
                        .clone()
                        .versions(SslVersion::TLS1, SslVersion::TLS1_1)
                });
                silent(&kit, &record, scene, "over TLS 1.1").await
            },
        )
        .tags(&["tls", "hostile"]),
        Case::new(
            "pledge/rfc8995-5.1/possession",
            "a registrar that shows a certificate whose key it has not is not talked to",
            &["BRSKI-5.1-08"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let scene = Scene::new(&kit, Envelope::Cms)?;
                let key =
                    mismatched(scene.world.registrar.key()).or_could_not_test("a wrong key")?;
                silent(
                    &kit,
                    &record,
                    scene.with(|scene| scene.tls.key = key),
                    "to a server that does not have the key",
                )
                .await
            },
        )
        .tags(&["tls", "hostile"]),
        Case::new(
            "pledge/rfc8995-5.1/possession-tls-1.2",
            "the same in TLS 1.2",
            &["BRSKI-5.1-08"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let scene = Scene::new(&kit, Envelope::Cms)?;
                let key =
                    mismatched(scene.world.registrar.key()).or_could_not_test("a wrong key")?;
                let scene = scene.with(|scene| {
                    scene.tls.key = key;
                    scene.tls = scene
                        .tls
                        .clone()
                        .versions(SslVersion::TLS1_2, SslVersion::TLS1_2);
                });
                silent(
                    &kit,
                    &record,
                    scene,
                    "to a server that does not have the key",
                )
                .await
            },
        )
        .tags(&["tls", "hostile"]),
        Case::new(
            "pledge/rfc8995-5/registrar-changes",
            "a registrar that shows a stranger's certificate on the next connection is left",
            &["BRSKI-5-06", "BRSKI-5.1-09"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let stranger = Tls::new(&kit.registrar_of(&kit.stranger)?);
                changes(&kit, &record, stranger).await
            },
        )
        .tags(&["tls", "hostile"])
        .needs(&["cms"]),
        Case::new(
            "pledge/rfc8995-5/registrar-changes-within",
            "a server of the domain without cmcRA that appears on the next connection is left",
            &["BRSKI-5-06", "BRSKI-5.6.2-08", "EST-3.6.1-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let key = Key::generate().or_could_not_test("a key")?;
                let other = kit
                    .domain
                    .issue(&name("", "Printer", None), &key, kit.at, |it| {
                        it.purposes(&[SERVER_AUTH]).hosts(&["printer.invalid"])
                    });
                changes(&kit, &record, Tls::new(&other)).await
            },
        )
        .tags(&["tls", "hostile"])
        .needs(&["cms"]),
        Case::new(
            "pledge/rfc8995-2.6.1/registrar-expired",
            "a registrar whose certificate has expired is refused by a device with a clock",
            &["BRSKI-2.6.1-02", "EST-3.3.1-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let run = kit.play(&record, dated(&kit, -400, -30)?).await?;
                no_enrolment(&run, "a registrar whose certificate has expired")
            },
        )
        .tags(&["tls", "hostile"])
        .needs(&["cms", "clock"]),
        Case::new(
            "pledge/rfc8995-2.6.1/registrar-not-yet",
            "a registrar whose certificate is not yet valid is refused by a device with a clock",
            &["BRSKI-2.6.1-02", "EST-3.3.1-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let run = kit.play(&record, dated(&kit, 30, 400)?).await?;
                no_enrolment(&run, "a registrar whose certificate is not yet valid")
            },
        )
        .tags(&["tls", "hostile"])
        .needs(&["cms", "clock"]),
        Case::new(
            "pledge/rfc8995-2.6.1/no-clock-expired",
            "a device without a clock takes a registrar whose certificate has expired",
            &["BRSKI-2.6.1-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                kit.play(&record, dated(&kit, -400, -30)?)
                    .await?
                    .enrolled("a registrar whose certificate has expired")
            },
        )
        .needs(&["cms", "no-clock"]),
        Case::new(
            "pledge/rfc8995-2.6.1/no-clock-created",
            "a device without a clock takes a voucher that was made next year",
            &["BRSKI-2.6.1-01"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let scene = Scene::new(&kit, Envelope::Cms)?.voucher(|asked| {
                    let at = crate::clock::now() + Duration::days(400);
                    asked.answer(asked.leaves().set("created-on", crate::clock::text(at)))
                });
                kit.play(&record, scene)
                    .await?
                    .enrolled("a voucher that was made next year")
            },
        )
        .needs(&["cms", "no-clock"]),
    ]);
    cases
}

/// The device may say nothing in this scene.
async fn silent(kit: &Pledge, record: &Recorder, scene: Scene, what: &str) -> Told {
    let scene = scene.enough(|seen| {
        seen.connections > 2 || seen.latest().is_some_and(|at| at.elapsed().as_secs() >= 3)
    });
    let run = kit.play(record, scene).await?;
    if run.seen.connections == 0 {
        return Err(Finding::could_not_test("the device did not connect"));
    }
    must(
        run.seen.requests.is_empty(),
        format!("the device sent a request {what}"),
    )
}

/// The registrar closes the connection after the voucher and shows another certificate then.
async fn changes(kit: &Pledge, record: &Recorder, then: Tls) -> Told {
    let scene = Scene::new(kit, Envelope::Cms)?
        .voucher(|asked| match asked.answer(asked.leaves()) {
            Action::Reply(reply) => Action::Last(reply),
            other => other,
        })
        .with(|scene| scene.later_tls = Some(then));
    let run = kit.play(record, scene).await?;
    run.came("requestvoucher")?;
    let enrolled = run.seen.first("simpleenroll").is_some();
    must(
        !enrolled,
        "the device enrolled over a connection with another registrar than the voucher was for",
    )
}

/// A registrar whose certificate is valid between these days from now.
fn dated(kit: &Pledge, from: i64, to: i64) -> Result<Scene, Finding> {
    let registrar = registrar(kit, &kit.domain, |it| {
        it.with(|it| {
            it.not_before = kit.at + Duration::days(from);
            it.not_after = kit.at + Duration::days(to);
        })
    })?;
    let signer = kit.signer_of(&kit.masa)?;
    Ok(Scene::of(kit, Envelope::Cms, registrar, signer))
}

/// A device may leave before it asks for a voucher, or refuse the voucher.
fn no_enrolment(run: &super::Run, what: &str) -> Told {
    if run.seen.connections == 0 {
        return Err(Finding::could_not_test("the device did not connect"));
    }
    if run.seen.first("requestvoucher").is_none() {
        return Ok(());
    }
    run.refused(what)
}
