//! What a device does with onboarding information, and what it reports: RFC 8572 section 5.6.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Asking, Data, Run, Scene, SztpDevice,
    scene::{IMAGE, progress},
    unsigned_configuration, unsigned_image,
};
use crate::{
    case::Case,
    evidence::Recorder,
    fake_masa::Reply,
    forge::sztp::{base64, hash_value, onboarding, unsigned_json},
    outcome::{Finding, Told, must},
    stage::Action,
};

/// Unsigned onboarding information.
fn give(asking: &Asking<'_>, value: Value) -> Action {
    asking.reply(&Data::bare(unsigned_json(&onboarding(value))))
}

/// The image with other URIs and another hash.
fn image_of(asking: &Asking<'_>, uris: &[String], hash: &str) -> Value {
    json!({
        "boot-image": {
            "os-name": "conformance-os",
            "os-version": "2.0",
            "download-uri": uris,
            "image-verification": [{ "hash-algorithm": "ietf-sztp-conveyed-info:sha-256", "hash-value": hash }],
        },
        "configuration-handling": "merge",
        "configuration": base64(format!("conformance {}", asking.serial).as_bytes()),
    })
}

type Give = fn(&Asking<'_>) -> Action;

/// Id, title, requirements, features, reports of which one has to come, and what is given.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
    Give,
);

/// Onboarding information that cannot be carried out, and the report on it.
const BAD: &[Row] = &[
    (
        "rfc8572-5.6/image-hash",
        "an image whose hash is another is not installed, and that is reported",
        &["SZTP-8572-5.6-15", "SZTP-8572-5.6-17"],
        &["boot-image"],
        &["boot-image-error"],
        |asking| {
            give(
                asking,
                image_of(
                    asking,
                    &[asking.world.url(0, IMAGE)],
                    &hash_value(b"another"),
                ),
            )
        },
    ),
    (
        "rfc8572-5.6/image-missing",
        "an image that is nowhere is reported",
        &["SZTP-8572-5.6-17", "SZTP-8572-5.6-14"],
        &["boot-image"],
        &["boot-image-error"],
        |asking| {
            give(
                asking,
                image_of(
                    asking,
                    &[
                        asking.world.url(0, "/nowhere"),
                        asking.world.url(0, "/nowhere-else"),
                    ],
                    &hash_value(&asking.world.image),
                ),
            )
        },
    ),
    (
        "rfc8572-6.3/hash-format",
        "a hash without colons is reported",
        &["SZTP-8572-6.3-12", "SZTP-8572-5.6-10"],
        &["boot-image"],
        &["parsing-error", "boot-image-error"],
        |asking| {
            give(
                asking,
                image_of(
                    asking,
                    &[asking.world.url(0, IMAGE)],
                    &hash_value(&asking.world.image).replace(':', ""),
                ),
            )
        },
    ),
    (
        "rfc8572-6.3/hash-short",
        "a hash of too few octets is reported",
        &["SZTP-8572-6.3-12", "SZTP-8572-5.6-15"],
        &["boot-image"],
        &["parsing-error", "boot-image-error"],
        |asking| {
            give(
                asking,
                image_of(asking, &[asking.world.url(0, IMAGE)], "ab:cd"),
            )
        },
    ),
    (
        "rfc8572-6.3/hash-algorithm",
        "a hash algorithm that nobody knows does not verify an image",
        &["SZTP-8572-5.6-15"],
        &["boot-image"],
        &["parsing-error", "boot-image-error"],
        |asking| {
            let mut value = image_of(
                asking,
                &[asking.world.url(0, IMAGE)],
                &hash_value(&asking.world.image),
            );
            value["boot-image"]["image-verification"][0]["hash-algorithm"] =
                "ietf-sztp-conveyed-info:crc-32".into();
            give(asking, value)
        },
    ),
    (
        "rfc8572-6.3/configuration-alone",
        "a configuration without configuration-handling is reported",
        &["SZTP-8572-6.3-13", "SZTP-8572-5.6-10"],
        &[],
        &["parsing-error", "config-error"],
        |asking| give(asking, json!({ "configuration": base64(b"conformance") })),
    ),
    (
        "rfc8572-6.3/handling-alone",
        "configuration-handling without a configuration is reported",
        &["SZTP-8572-6.3-13", "SZTP-8572-5.6-10"],
        &[],
        &["parsing-error", "config-error"],
        |asking| give(asking, json!({ "configuration-handling": "merge" })),
    ),
    (
        "rfc8572-6.3/handling-unknown",
        "a configuration-handling that does not exist is reported",
        &["SZTP-8572-6.3-14", "SZTP-8572-5.6-10"],
        &[],
        &["parsing-error", "config-error"],
        |asking| {
            give(
                asking,
                json!({ "configuration-handling": "guess", "configuration": base64(b"conformance") }),
            )
        },
    ),
    (
        "rfc8572-6.3/configuration-base64",
        "a configuration that is no base64 is reported",
        &["SZTP-8572-6.3-15", "SZTP-7951-6.6-01", "SZTP-8572-5.6-10"],
        &[],
        &["parsing-error", "config-error"],
        |asking| {
            give(
                asking,
                json!({ "configuration-handling": "merge", "configuration": "not base64!" }),
            )
        },
    ),
    (
        "rfc7951-5/uri-text",
        "a download-uri that is no list is reported",
        &["SZTP-7951-5-01", "SZTP-8572-5.6-10"],
        &["boot-image"],
        &["parsing-error", "boot-image-error"],
        |asking| {
            let mut value = asking.image();
            value["boot-image"]["download-uri"] = asking.world.url(0, IMAGE).into();
            give(asking, value)
        },
    ),
    (
        "rfc8572-5.6/garbage",
        "conveyed information that is garbage is reported",
        &["SZTP-8572-5.6-10"],
        &[],
        &["parsing-error"],
        |asking| asking.reply(&Data::bare(b"garbage".to_vec())),
    ),
    (
        "rfc8572-5.6/no-json",
        "onboarding information that is no JSON is reported",
        &["SZTP-8572-5.6-10"],
        &[],
        &["parsing-error"],
        |asking| {
            asking.reply(&Data::bare(unsigned_json(
                b"{\"ietf-sztp-conveyed-info:onboarding-information\":",
            )))
        },
    ),
];

/// The type of the last report, which has to be one of these, and no success before.
fn failed_as(run: &Run, kinds: &[&str]) -> Told {
    run.call()?;
    let reports = run.reports(0)?;
    must(
        !reports
            .iter()
            .any(|kind| kind == "bootstrap-complete" || kind == "boot-image-installed-rebooting"),
        format!("the device reported {reports:?}"),
    )?;
    must(
        reports.iter().any(|kind| kinds.contains(&kind.as_str())),
        format!("the device reported {reports:?} and none of {kinds:?}"),
    )
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(id, title, requirements, needs, kinds, answer) in BAD {
        cases.push(
            Case::new(
                format!("sztp-device/{id}"),
                title,
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    let scene = Scene::trusted(&kit, answer)?;
                    failed_as(&kit.play(&record, scene).await?, kinds)
                },
            )
            .tags(&["hostile"])
            .needs(needs),
        );
    }
    cases.extend([
        Case::new("sztp-device/rfc8572-5.6/image", "an image is fetched, verified and installed, and that is reported before the device goes down", &["SZTP-8572-5.6-12", "SZTP-8572-5.6-16", "SZTP-8572-5.6-15"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, unsigned_image)?;
            let run = kit.play(&record, scene).await?;
            run.believed("an image")?;
            let reports = run.reports(0)?;
            must(reports.iter().any(|kind| kind == "boot-image-installed-rebooting"), format!("the device reported {reports:?}"))
        }).needs(&["boot-image"]),
        Case::new("sztp-device/rfc8572-6.3/uris-in-order", "the locations of an image are tried in order", &["SZTP-8572-6.3-09", "SZTP-8572-5.6-14"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| {
                let uris = [asking.world.url(0, "/nowhere"), asking.world.url(0, IMAGE), asking.world.url(0, "/never")];
                give(asking, image_of(asking, &uris, &hash_value(&asking.world.image)))
            })?;
            let run = kit.play(&record, scene).await?;
            run.believed("the second location")?;
            let paths: Vec<&str> = run.server(0)?.requests.iter().map(|came| came.path.as_str()).collect();
            let place = |wanted: &str| paths.iter().position(|path| *path == wanted);
            must(place("/nowhere") < place(IMAGE) && place("/nowhere").is_some(), "the first location was not tried first")?;
            must(place("/never").is_none(), "the third location was tried after the second was good")
        }).needs(&["boot-image"]),
        Case::new("sztp-device/rfc8572-6.3/self-signed-files", "a file server whose certificate nobody knows does for an image with a hash", &["SZTP-8572-6.3-10"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let files = kit.server_named(&kit.stranger, &["files.invalid"])?;
            let scene = Scene::trusted(&kit, |asking| give(asking, image_of(asking, &[asking.world.url(1, IMAGE)], &hash_value(&asking.world.image))))?
                .and(files, unsigned_configuration);
            kit.play(&record, scene).await?.believed("a file server that nobody knows")
        }).needs(&["boot-image"]),
        Case::new("sztp-device/rfc8572-5.6/image-runs-already", "an image that runs already is not fetched", &["SZTP-8572-5.6-11", "SZTP-8572-6.3-08"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let (name, version) = kit.os.clone();
            let scene = Scene::trusted(&kit, move |asking| {
                let mut value = image_of(asking, &[asking.world.url(0, IMAGE)], &hash_value(&asking.world.image));
                value["boot-image"]["os-name"] = name.clone().into();
                value["boot-image"]["os-version"] = version.clone().into();
                give(asking, value)
            })?;
            let run = kit.play(&record, scene).await?;
            run.call()?;
            must(!run.fetched(), "the device fetched an image that it runs")?;
            let reports = run.reports(0)?;
            must(reports.iter().any(|kind| kind == "bootstrap-complete"), format!("the device reported {reports:?}"))
        }).needs(&["boot-image", "os-version"]),
        Case::new("sztp-device/rfc8572-7.3/says-what-it-is", "a trusted server is told what the device runs", &["SZTP-8572-7.3-05"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let run = kit.trusted(&record).await?;
            let said = super::scene::input_of(run.call()?, "os-version");
            must(said.as_deref() == Some(kit.os.1.as_str()), format!("os-version is {said:?}"))
        }).needs(&["os-version"]),
        Case::new("sztp-device/rfc8572-5.6/verbose", "reporting-level verbose brings reports on each step", &["SZTP-8572-5.6-03"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| asking.reply(&Data::bare(unsigned_json(&onboarding(Asking::configuration()))).with(|data| data.level = Some("verbose"))))?;
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let reports = run.reports(0)?;
            for kind in ["parsing-initiated", "parsing-complete", "config-initiated", "config-complete"] {
                must(reports.iter().any(|found| found == kind), format!("{kind} is missing; the device reported {reports:?}"))?;
            }
            Ok(())
        }),
        initiated("rfc8572-5.6/initiated-500", 500),
        initiated("rfc8572-5.6/initiated-200", 200),
        Case::new("sztp-device/rfc8572-5.6/complete-500", "bootstrap-complete that is answered 500 is an error, which is reported", &["SZTP-8572-5.6-22"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, unsigned_configuration)?.on("report-progress", |_, came, _| {
                Reply::bare(if progress(came).as_deref() == Some("bootstrap-complete") { 500 } else { 204 }).into()
            });
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let reports = run.reports(0)?;
            must(reports.iter().any(|kind| kind == "bootstrap-error"), format!("the device reported {reports:?}"))
        }),
        Case::new("sztp-device/rfc8572-5.6/pre-script", "a script before the configuration that fails ends the onboarding, and is reported", &["SZTP-8572-5.6-18", "SZTP-8572-6.3-17", "SZTP-8572-5.6-01"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let script = base64(kit.failing_script.as_bytes());
            let scene = Scene::trusted(&kit, move |asking| give(asking, json!({ "pre-configuration-script": script, "configuration-handling": "merge", "configuration": base64(b"conformance") })))?;
            failed_as(&kit.play(&record, scene).await?, &["pre-script-error"])
        }).needs(&["scripts"]),
        Case::new("sztp-device/rfc8572-5.6/post-script", "a script after the configuration that fails ends the onboarding, and is reported", &["SZTP-8572-5.6-20", "SZTP-8572-6.3-17"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let script = base64(kit.failing_script.as_bytes());
            let scene = Scene::trusted(&kit, move |asking| give(asking, json!({ "configuration-handling": "merge", "configuration": base64(b"conformance"), "post-configuration-script": script })))?;
            failed_as(&kit.play(&record, scene).await?, &["post-script-error"])
        }).needs(&["scripts"]),
        Case::new("sztp-device/rfc8572-5.6/order", "image, first script, configuration and second script come in this order", &["SZTP-8572-5.6-01"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| {
                let value = json!({
                    "pre-configuration-script": base64(b"#!/bin/sh\nexit 0\n"),
                    "configuration-handling": "merge",
                    "configuration": base64(b"conformance"),
                    "post-configuration-script": base64(b"#!/bin/sh\nexit 0\n"),
                });
                asking.reply(&Data::bare(unsigned_json(&onboarding(value))).with(|data| data.level = Some("verbose")))
            })?;
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let reports = run.reports(0)?;
            let place = |wanted: &str| reports.iter().position(|kind| kind == wanted).ok_or_else(|| Finding::fail(format!("{wanted} is missing; the device reported {reports:?}")));
            must(place("pre-script-initiated")? < place("config-initiated")? && place("config-initiated")? < place("post-script-initiated")?, format!("the device reported {reports:?}"))
        }).needs(&["scripts"]),
        Case::new("sztp-device/rfc8572-5.6/after-error-next", "after an onboarding that failed the device is as before and takes the next one", &["SZTP-8572-5.6-08", "SZTP-8572-5.6-06"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| {
                if asking.count == 0 { give(asking, json!({ "configuration-handling": "guess", "configuration": base64(b"x") })) } else { asking.unsigned_configuration() }
            })?
            .with(|scene| scene.rounds = 3)
            .enough(|servers| servers.iter().any(|seen| seen.last("report-progress").is_some_and(|came| progress(came).as_deref() == Some("bootstrap-complete"))));
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let reports = run.reports(0)?;
            must(reports.last().is_some_and(|kind| kind == "bootstrap-complete"), format!("the device reported {reports:?}"))
        }).needs(&["rounds"]).tags(&["slow"]),
    ]);
    cases
}

/// bootstrap-initiated that is answered with anything but 204.
fn initiated(id: &str, status: u16) -> Case {
    Case::new(
        format!("sztp-device/{id}"),
        format!(
            "bootstrap-initiated that is answered {status} ends the onboarding with bootstrap-error"
        ),
        &["SZTP-8572-5.6-09"],
        move |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, unsigned_configuration)?.on(
                "report-progress",
                move |_, came, _| {
                    let is_first = progress(came).as_deref() == Some("bootstrap-initiated");
                    Reply::bare(if is_first { status } else { 204 }).into()
                },
            );
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let reports = run.reports(0)?;
            must(
                !reports.iter().any(|kind| kind == "bootstrap-complete"),
                format!("the device reported {reports:?}"),
            )?;
            must(
                reports.iter().any(|kind| kind == "bootstrap-error"),
                format!("the device reported {reports:?}"),
            )
        },
    )
}
