//! TLS of bootstrap servers, and which of them are trusted.

use std::sync::Arc;

use openssl::ssl::SslVersion;
use time::Duration;

use super::{Scene, SztpDevice, scene::input_of, unsigned_configuration, unsigned_image};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        der,
        key::Key,
        x509::{Authority, CLIENT_AUTH, Identity, SERVER_AUTH, name},
    },
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Tls, mismatched},
};

type Make = fn(&SztpDevice) -> Result<Tls, Finding>;

/// Id, title, requirements, features and what the server shows.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Make,
);

fn server(
    kit: &SztpDevice,
    ca: &Authority,
    change: impl FnOnce(crate::forge::x509::Certificate) -> crate::forge::x509::Certificate,
) -> Result<Identity, Finding> {
    let key = Key::generate().or_could_not_test("a key")?;
    let host = kit.launcher.host().to_owned();
    Ok(ca.issue(&name("", "Server", None), &key, kit.at, |it| {
        change(it.purposes(&[SERVER_AUTH]).hosts(&[&host]))
    }))
}

/// Certificates that make no server trusted.
const UNTRUSTED: &[Row] = &[
    (
        "rfc8572-5.3/other-name",
        "a server of the right CA with another name",
        &["SZTP-8572-5.3-02", "SZTP-8040-2.4-01"],
        &[],
        |kit| kit.server_named(&kit.web, &["other.invalid"]),
    ),
    (
        "rfc8572-5.3/other-ca",
        "a server of another CA",
        &["SZTP-8572-5.1-06", "SZTP-8040-2.3-01"],
        &[],
        |kit| kit.server_of(&kit.stranger),
    ),
    (
        "rfc8572-5.3/voucher-ca",
        "a server of the CA for vouchers",
        &["SZTP-8572-5.1-06"],
        &[],
        |kit| kit.server_of(&kit.masa),
    ),
    (
        "rfc8572-5.3/same-name-ca",
        "a server of a CA with the right one's name and another key",
        &["SZTP-8572-5.3-02"],
        &[],
        |kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let double = Authority::root(super::MAKER, "Server CA", key, kit.at);
            kit.server_of(&double)
        },
    ),
    (
        "rfc9525-6.1/common-name",
        "a server whose name stands in the subject alone",
        &["NAME-6.1-01", "SZTP-8040-2.4-01"],
        &[],
        |kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let identity =
                kit.web
                    .issue(&name("", kit.launcher.host(), None), &key, kit.at, |it| {
                        it.purposes(&[SERVER_AUTH])
                    });
            Ok(Tls::new(&identity))
        },
    ),
    (
        "rfc5280-6/client-only",
        "a server whose certificate is for clients",
        &["SZTP-5280-6-01"],
        &[],
        |kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let host = kit.launcher.host().to_owned();
            let identity = kit
                .web
                .issue(&name("", "Server", None), &key, kit.at, |it| {
                    it.purposes(&[CLIENT_AUTH]).hosts(&[&host])
                });
            Ok(Tls::new(&identity))
        },
    ),
    (
        "rfc5280-6/critical-extension",
        "a server whose certificate has a critical extension that nobody knows",
        &["SZTP-5280-6-01", "X509-4.2-01"],
        &[],
        |kit| {
            Ok(Tls::new(&server(kit, &kit.web, |it| {
                it.extension("1.3.6.1.4.1.32473.1", true, der::null())
            })?))
        },
    ),
    (
        "rfc5280-6/below-end-entity",
        "a server whose certificate an end entity issued",
        &["SZTP-5280-6-01", "X509-4.2.1.9-01"],
        &[],
        |kit| {
            let middle = kit.signer_of(&kit.web, "Server")?;
            let ca = Authority {
                name: name("", "Server", None),
                above: middle.chain(),
                signatory: middle.signatory,
            };
            kit.server_of(&ca)
        },
    ),
    (
        "rfc5280-6/expired",
        "a server whose certificate has expired",
        &["SZTP-5280-6-01"],
        &["clock"],
        |kit| {
            let identity = server(kit, &kit.web, |it| {
                it.with(|it| {
                    it.not_before = kit.at - Duration::days(400);
                    it.not_after = kit.at - Duration::days(30);
                })
            })?;
            Ok(Tls::new(&identity))
        },
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (&(id, title, requirements, needs, make), is_discovered) in
        UNTRUSTED.iter().flat_map(|it| [(it, false), (it, true)])
    {
        cases.push(
            Case::new(
                format!(
                    "sztp-device/{id}{}",
                    if is_discovered { "-dhcp" } else { "" }
                ),
                format!(
                    "{title} is not trusted: its unsigned data is refused, and it is told nothing"
                ),
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    let scene = Scene::new(&kit, make(&kit)?, unsigned_image)?
                        .with(|scene| scene.is_discovered = is_discovered);
                    let run = kit.play(&record, scene).await?;
                    if run.servers.iter().all(|seen| seen.connections == 0) {
                        return Err(Finding::could_not_test("the device did not connect"));
                    }
                    // A device may also leave such a server altogether.
                    if let Some(came) = run.server(0)?.first("get-bootstrapping-data") {
                        must(
                            input_of(came, "os-name").is_none()
                                && input_of(came, "hw-model").is_none(),
                            "the device told it what it is",
                        )?;
                        run.refused(title)?;
                    }
                    Ok(())
                },
            )
            .tags(&["hostile", "tls"])
            .needs(needs),
        );
    }
    for (id, version) in [
        ("tls-1.2", SslVersion::TLS1_2),
        ("tls-1.3", SslVersion::TLS1_3),
    ] {
        cases.push(
            Case::new(
                format!("sztp-device/rfc8572-9.16/{id}"),
                format!(
                    "a server with {} alone is talked to",
                    id.to_uppercase().replace('-', " ")
                ),
                &["SZTP-8572-9.16-01"],
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    let scene = Scene::trusted(&kit, unsigned_configuration)?.with(|scene| {
                        for server in &mut scene.servers {
                            server.tls = server.tls.clone().versions(version, version);
                        }
                    });
                    let run = kit.play(&record, scene).await?;
                    if version == SslVersion::TLS1_2 && run.server(0)?.requests.is_empty() {
                        return Err(Finding::warning("TLS 1.2 is not spoken"));
                    }
                    run.call().map(|_| ())
                },
            )
            .tags(&["tls"]),
        );
    }
    cases.extend([
        Case::new(
            "sztp-device/rfc8572-9.16/tls-1.1-refused",
            "a server with TLS 1.1 alone is not talked to",
            &["SZTP-8572-9.16-01"],
            |kit: Arc<SztpDevice>, record: Recorder| async move {
                let scene = Scene::trusted(&kit, unsigned_image)?.with(|scene| {
                    for server in &mut scene.servers {
                        server.tls = server
                            .tls
                            .clone()
                            .versions(SslVersion::TLS1, SslVersion::TLS1_1);
                    }
                });
                silent(&kit, &record, scene).await
            },
        )
        .tags(&["tls", "hostile"]),
        Case::new(
            "sztp-device/rfc8572-5.3/possession",
            "a server that shows a certificate whose key it has not is not talked to",
            &["SZTP-8040-2.3-01"],
            |kit: Arc<SztpDevice>, record: Recorder| async move {
                let identity = server(&kit, &kit.web, |it| it)?;
                let mut tls = Tls::new(&identity);
                tls.key = mismatched(identity.key()).or_could_not_test("a wrong key")?;
                let scene = Scene::new(&kit, tls, unsigned_image)?;
                silent(&kit, &record, scene).await
            },
        )
        .tags(&["tls", "hostile"]),
        Case::new(
            "sztp-device/rfc8572-5.3/intermediate",
            "a server with the CA between it and the anchor is trusted",
            &["SZTP-8572-5.3-02"],
            |kit: Arc<SztpDevice>, record: Recorder| async move {
                let key = Key::generate().or_could_not_test("a key")?;
                let ca = kit.web.below(super::MAKER, "Server Sub CA", key, kit.at);
                let scene = Scene::new(&kit, kit.server_of(&ca)?, unsigned_image)?;
                kit.play(&record, scene)
                    .await?
                    .believed("a server below an intermediate CA")
            },
        )
        .tags(&["tls"])
        .needs(&["boot-image"]),
        Case::new(
            "sztp-device/rfc8572-5.3/one-identity",
            "every connection shows the same device",
            &["SZTP-8572-5.3-04", "SZTP-8572-5.3-03"],
            |kit: Arc<SztpDevice>, record: Recorder| async move {
                let run = kit.trusted(&record).await?;
                let first = run.call()?.client.first().cloned();
                let other = run
                    .server(0)?
                    .handshakes
                    .iter()
                    .any(|one| one.ok && one.client.first() != first.as_ref());
                must(
                    first.is_some() && !other,
                    "a connection showed another certificate, or none",
                )
            },
        )
        .tags(&["tls"]),
    ]);
    cases
}

/// The device may say nothing in this scene.
async fn silent(kit: &SztpDevice, record: &Recorder, scene: Scene) -> Told {
    let scene = scene.enough(|servers| {
        servers.iter().any(|seen| {
            seen.connections > 3 || seen.latest().is_some_and(|at| at.elapsed().as_secs() >= 3)
        })
    });
    let run = kit.play(record, scene).await?;
    if run.servers.iter().all(|seen| seen.connections == 0) {
        return Err(Finding::could_not_test("the device did not connect"));
    }
    must(
        run.servers.iter().all(|seen| seen.requests.is_empty()),
        "the device sent a request",
    )
}
