//! How content changes: applied, checked, rolled back, rolled out.

use std::path::Path;

use bootstrap::content::apply::{Extent, Options, Report, apply, check_served};
use bootstrap::content::explain::{Question, explain};
use bootstrap::content::rollout::{self, Action, State};
use bootstrap::content::{Facts, prebuild, revision};
use daemon::CancellationToken;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use store::params;
use testkit::NOW;

use crate::content_world::{
    CONFIG, FOLDER, configuration, device, doubting, engine, facts, stage, voucher,
};
use crate::harness::Lab;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Writes a folder with the files of [`FOLDER`].
fn folder(lab: &Lab, content: &str, more: &[(&str, &str)]) -> std::path::PathBuf {
    let root = lab.path("folder");
    let anchor = lab.ca.chain[0].to_pem();
    write(
        &root,
        &[
            ("content.toml", content),
            ("pre.sh", "#!/bin/sh\n"),
            ("anchor.pem", &anchor),
            ("templates/config.xml", CONFIG),
            ("templates/static.json", "{\"a\": \"{{ vars.domain }}\"}"),
        ],
    );
    write(&root, more);
    root
}

async fn applied(lab: &Lab, root: &Path, options: Options) -> Report {
    apply(&lab.config(), &lab.store, root, &options, NOW)
        .await
        .unwrap()
}

fn codes(report: &Report) -> Vec<(&str, Option<usize>, &'static str)> {
    let findings = report.findings.iter();
    // Bundles without a device are not what these tests are about.
    let findings = findings.filter(|f| f.code != "content.not-tried");
    findings
        .map(|f| (f.file.as_str(), f.line, f.code))
        .collect()
}

pub(crate) async fn a_folder_is_applied_whole_or_not_at_all() {
    let lab = Lab::prepare("").await;
    device(&lab, "S-1", "", "bonn").await;
    device(&lab, "S-2", "alike", "").await;
    let root = folder(&lab, FOLDER, &[]);
    let dry = Options {
        dry_run: true,
        ..Options::default()
    };
    let report = applied(&lab, &root, dry.clone()).await;
    assert!(report.ok, "{:#?}", report.findings);
    assert_eq!((report.revision, report.devices_checked), (None, 2));
    assert_eq!(revision::epoch(&lab.store).await.unwrap().1, 0);
    let report = applied(&lab, &root, Options::default()).await;
    assert_eq!((report.revision, report.new), (Some(1), true));
    // The same again is nothing new.
    let epoch = revision::epoch(&lab.store).await.unwrap();
    let report = applied(&lab, &root, Options::default()).await;
    assert_eq!((report.revision, report.new), (Some(1), false));
    assert_eq!(revision::epoch(&lab.store).await.unwrap(), epoch);
    // Each of these breaks something that only shows with the devices of the register.
    let cases: &[(&str, &str, &str)] = &[
        (
            "templates/config.xml",
            "<c>\n{{ vars.nothing }}</c>",
            "content.template-undefined",
        ),
        ("templates/config.xml", "<c>", "content.xml-malformed"),
        ("templates/static.json", "{,}", "content.json-malformed"),
        ("pre.sh", "", ""),
        ("content.toml", "[[rule]]\n", "content.target"),
    ];
    for (file, text, code) in cases {
        let root = folder(&lab, FOLDER, &[(file, text)]);
        let report = applied(&lab, &root, Options::default()).await;
        if code.is_empty() {
            assert_eq!((report.ok, report.revision), (true, Some(2)));
            continue;
        }
        assert!(!report.ok, "{text}");
        let found = codes(&report);
        assert!(found.iter().any(|(_, _, c)| c == code), "{text}: {found:?}");
    }
    assert_eq!(revision::epoch(&lab.store).await.unwrap().1, 2);
    let text = "<c>\n{{ vars.nothing }}</c>";
    let root = folder(&lab, FOLDER, &[("templates/config.xml", text)]);
    let report = applied(&lab, &root, dry).await;
    let finding = &report.findings[0];
    assert_eq!(
        (finding.file.as_str(), finding.line),
        ("templates/config.xml", Some(2))
    );
    assert!(finding.message.contains("acme/S-1") && finding.message.contains("vars.nothing"));
    // Whoever asks for no check gets none; but a device is never given what is malformed.
    let unchecked = Options {
        extent: Extent::None,
        ..Options::default()
    };
    assert!(applied(&lab, &root, unchecked).await.ok);
    let report = check_served(&lab.config(), &lab.store, Extent::All, NOW)
        .await
        .unwrap();
    assert_eq!((report.ok, report.revision), (false, Some(3)));
    let root = folder(&lab, FOLDER, &[("templates/config.xml", "<c>")]);
    let unchecked = Options {
        extent: Extent::None,
        ..Options::default()
    };
    assert!(applied(&lab, &root, unchecked).await.ok);
    let refusal = engine(&lab).choose(&facts(&lab, "S-1").await).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(refusal.contains("configuration: "), "{refusal}");
    lab.stop().await;
}

const MODULE: &str = "module x { namespace \"urn:x\"; prefix x; container c { \
    leaf n { type string; } leaf t { type string { pattern \"[0-9.]+\"; } } } }";

pub(crate) async fn configurations_are_checked_against_yang_modules() {
    let lab = Lab::prepare("").await;
    device(&lab, "S-1", "", "bonn").await;
    device(&lab, "S-2", "", "bonn").await;
    let content = FOLDER.replace(
        "file = \"templates/config.xml\"",
        "file = \"templates/config.xml\"\nyang = \"set\"",
    ) + "[[yang]]\nname = \"set\"\nfolder = \"yang\"\nmodules = [\"x\"]\n";
    let root = folder(&lab, &content, &[("yang/x@2026-01-01.yang", MODULE)]);
    let report = applied(&lab, &root, Options::default()).await;
    assert!(report.ok, "{:#?}", report.findings);
    lab.change(
        "UPDATE device SET variables = $1 WHERE serial = 'S-2'",
        params!["{\"ntp\": \"ntp.example\"}"],
    )
    .await;
    let report = check_served(&lab.config(), &lab.store, Extent::All, NOW)
        .await
        .unwrap();
    assert_eq!(
        codes(&report),
        [("templates/config.xml", None, "content.yang-invalid")]
    );
    let flaw = report
        .findings
        .iter()
        .find(|f| f.code == "content.yang-invalid");
    let message = &flaw.unwrap().message;
    assert!(
        message.contains("acme/S-2") && !message.contains("ntp.example"),
        "{message}"
    );
    // Broken modules and a missing program are their own findings.
    let root = folder(&lab, &content, &[("yang/x@2026-01-01.yang", "module x {")]);
    let report = applied(&lab, &root, Options::default()).await;
    assert_eq!(
        codes(&report),
        [("content.toml", None, "content.yang-modules")]
    );
    let root = folder(&lab, &content, &[("yang/x@2026-01-01.yang", MODULE)]);
    for (missing, severity) in [("refuse", "error"), ("warn", "warning")] {
        let mut config = lab.config();
        config.content.yanglint = "no-such-yanglint".into();
        config.content.yanglint_missing = serde_json::from_value(json!(missing)).unwrap();
        let report = apply(&config, &lab.store, &root, &Options::default(), NOW)
            .await
            .unwrap();
        assert_eq!(
            codes(&report),
            [("content.toml", None, "content.yanglint-missing")]
        );
        let found = serde_json::to_value(&report.findings).unwrap();
        let found = found.as_array().unwrap().iter();
        let found = found.filter(|f| f["code"] == "content.yanglint-missing");
        let severities: Vec<_> = found.map(|f| f["severity"].clone()).collect();
        assert_eq!(
            (report.ok, severities),
            (missing == "warn", vec![json!(severity)])
        );
    }
    lab.stop().await;
}

pub(crate) async fn an_old_revision_comes_back_as_a_new_one() {
    let lab = Lab::prepare("").await;
    device(&lab, "S-1", "", "bonn").await;
    let engine = engine(&lab);
    stage(&lab, FOLDER).await;
    stage(&lab, &FOLDER.replace("192.0.2.1", "192.0.2.2")).await;
    let changed = engine.choose(&facts(&lab, "S-1").await).await.unwrap();
    assert!(configuration(&changed).contains("192.0.2.2"));
    let stored = revision::rollback(&lab.store, 1, "test", "back", NOW)
        .await
        .unwrap();
    assert_eq!((stored.revision, stored.new), (3, true));
    let back = engine.choose(&facts(&lab, "S-1").await).await.unwrap();
    assert!(configuration(&back).contains("192.0.2.1"));
    assert_eq!(back.revision, 3);
    let again = revision::rollback(&lab.store, 1, "test", "back", NOW)
        .await
        .unwrap();
    assert_eq!((again.revision, again.new), (3, false));
    assert!(
        revision::rollback(&lab.store, 9, "test", "", NOW)
            .await
            .is_err()
    );
    let history = revision::history(&lab.store, 10).await.unwrap();
    let shown: Vec<_> = history
        .iter()
        .map(|r| (r.id, r.served, r.note.as_str()))
        .collect();
    assert_eq!(shown, [(3, true, "back"), (2, false, ""), (1, false, "")]);
    assert_eq!(history[0].digest, history[2].digest);
    lab.stop().await;
}

const ROLLOUT: &str = r#"
[[template]]
name = "config"
file = "templates/config.xml"
[[template]]
name = "static"
file = "templates/static.json"
[[bundle]]
name = "access"
version = "1"
template = "config"
handling = "merge"
[[bundle]]
name = "access"
version = "2"
template = "static"
handling = "replace"
[[rule]]
name = "all"
bundle = "access"
[[rollout]]
name = "spring"
bundle = "access"
from = "1"
to = "2"
failures-percent-max = 25
reports-min = 4
  [[rollout.stage]]
  sites = ["bonn"]
  [[rollout.stage]]
  percent = 100
[variables]
domain = "d"
ntp = "n"
"#;

async fn target(lab: &Lab, engine: &bootstrap::content::Engine, serial: &str) -> String {
    engine
        .choose(&facts(lab, serial).await)
        .await
        .unwrap()
        .target
}

async fn report(lab: &Lab, serial: &str, failed: bool) {
    let id = lab.device_row(serial).await.integer("id").unwrap();
    lab.store
        .transaction("test", move |connection| {
            Box::pin(async move { rollout::note_report(connection, id, failed, NOW).await })
        })
        .await
        .unwrap();
}

async fn act(lab: &Lab, action: Action) -> Result<rollout::Rollout, bootstrap::Error> {
    let (_, served) = revision::epoch(&lab.store).await.unwrap();
    let document = revision::document(&lab.store, served).await.unwrap();
    rollout::act(&lab.store, &document, "spring", action, "test", NOW).await
}

pub(crate) async fn a_rollout_stops_when_devices_fail() {
    let lab = Lab::prepare("").await;
    for n in 1..=6 {
        device(&lab, &format!("B-{n}"), "", "bonn").await;
    }
    device(&lab, "X-1", "", "berlin").await;
    stage(&lab, ROLLOUT).await;
    let (engine, other) = (engine(&lab), engine(&lab));
    let (old, new) = ("bundle access@1", "bundle access@2");
    assert_eq!(target(&lab, &engine, "B-1").await, old);
    assert_eq!(
        act(&lab, Action::Start).await.unwrap().state,
        State::Running
    );
    for n in 1..=5 {
        assert_eq!(target(&lab, &engine, &format!("B-{n}")).await, new);
        assert_eq!(target(&lab, &other, &format!("B-{n}")).await, new);
    }
    assert_eq!(target(&lab, &engine, "X-1").await, old);
    // Each device counts once, whichever server it comes to and however often.
    let spring = &rollout::list(&lab.store).await.unwrap()[0];
    assert_eq!((spring.served, spring.succeeded, spring.failed), (5, 0, 0));
    // In a pause those who have it keep it.
    act(&lab, Action::Pause).await.unwrap();
    assert_eq!(target(&lab, &engine, "B-1").await, new);
    assert_eq!(target(&lab, &engine, "B-6").await, old);
    act(&lab, Action::Resume).await.unwrap();
    // One failure among three reports is above the share, but too few have reported.
    report(&lab, "B-1", true).await;
    report(&lab, "B-1", true).await;
    report(&lab, "B-2", false).await;
    report(&lab, "X-1", true).await;
    report(&lab, "B-3", false).await;
    let spring = &rollout::list(&lab.store).await.unwrap()[0];
    assert_eq!((spring.succeeded, spring.failed), (2, 1));
    assert_eq!(spring.state, State::Running);
    // The fourth report is another failure: half of all.
    report(&lab, "B-4", true).await;
    let spring = &rollout::list(&lab.store).await.unwrap()[0];
    assert_eq!((spring.state, spring.failed), (State::Stopped, 2));
    for serial in ["B-1", "B-5", "X-1"] {
        assert_eq!(target(&lab, &engine, serial).await, old);
        assert_eq!(target(&lab, &other, serial).await, old);
    }
    assert!(act(&lab, Action::Start).await.is_err());
    // After it was mended it goes on, to the end.
    let resumed = act(&lab, Action::Resume).await.unwrap();
    assert_eq!((resumed.state, resumed.failed), (State::Running, 0));
    assert_eq!(target(&lab, &engine, "B-1").await, new);
    assert_eq!(target(&lab, &engine, "X-1").await, old);
    assert_eq!(act(&lab, Action::Start).await.unwrap().stage, 1);
    assert_eq!(target(&lab, &engine, "X-1").await, new);
    act(&lab, Action::Finish).await.unwrap();
    assert_eq!(target(&lab, &engine, "B-6").await, new);
    // And back to the last good version.
    act(&lab, Action::Abort).await.unwrap();
    assert_eq!(target(&lab, &other, "B-6").await, old);
    lab.stop().await;
}

/// Over the wire, from the first request to the stop.
pub(crate) async fn reports_of_devices_stop_a_rollout() {
    let lab = Lab::start("").await;
    for n in 1..=4 {
        device(&lab, &format!("B-{n}"), "", "bonn").await;
    }
    stage(&lab, ROLLOUT).await;
    act(&lab, Action::Start).await.unwrap();
    for n in 1..=4 {
        let device = lab.device(&format!("B-{n}"));
        assert_eq!(device.ask(json!({})).await.status, 200);
        assert_eq!(lab.line().await.summary["target"], "bundle access@2");
        let report = json!({ "progress-type": "config-error", "message": "no" });
        assert_eq!(device.report(report).await.status, 204);
    }
    let spring = &rollout::list(&lab.store).await.unwrap()[0];
    assert_eq!(
        (spring.state, spring.served, spring.failed),
        (State::Stopped, 4, 4)
    );
    assert_eq!(lab.device("B-1").ask(json!({})).await.status, 200);
    assert_eq!(lab.line().await.summary["target"], "bundle access@1");
    lab.stop().await;
}

pub(crate) async fn explain_shows_the_reply_the_rule_and_the_verdict() {
    let lab = Lab::prepare("").await;
    let id = device(&lab, "S-1", "", "bonn").await;
    voucher(&lab, id, "S-1").await;
    device(&lab, "S-2", "", "bonn").await;
    stage(&lab, FOLDER).await;
    let config = lab.config();
    let signed = Question {
        signed: true,
        ..Question::default()
    };
    let found = explain(&config, &lab.store, "S-1", &signed, NOW)
        .await
        .unwrap();
    assert!(found.ok, "{}", found.text());
    let given = found.given.as_ref().unwrap();
    assert_eq!((given.rule.as_str(), given.signed), ("bonn", true));
    assert!(
        given
            .content
            .as_ref()
            .unwrap()
            .contains("onboarding-information")
    );
    let verdict = found.verdict.as_ref().unwrap();
    assert!(!verdict.trusted_source);
    assert!(
        verdict
            .checks
            .iter()
            .any(|c| c.name == "voucher-serial-number" && c.result == "passed")
    );
    assert_eq!(found.files().len(), 6);
    let made = given.configuration.as_deref().unwrap();
    assert!(made.contains("<n>S-1.example.net</n>"), "{made}");
    // The reply is what the server sends, octet for octet.
    let engine = engine(&lab);
    let prepared = engine.choose(&doubting(&lab, "S-1").await).await.unwrap();
    let again = explain(&config, &lab.store, "S-1", &signed, NOW)
        .await
        .unwrap();
    let artefacts = &again.given.as_ref().unwrap().artefacts;
    assert_eq!(
        artefacts.conveyed_information,
        prepared.conveyed_information
    );
    let text = found.text();
    for part in [
        "rule \"held\" does not match: group is not known, not spare",
        "rule \"moved\" does not match: hw-model is not known, not old-*",
        "rule \"bonn\" matches: bundle access",
        "verdict: a device that trusts nobody accepts it",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A refusal has the body that the device would get.
    let found = explain(&config, &lab.store, "acme/S-2", &signed, NOW)
        .await
        .unwrap();
    assert!(!found.ok && found.given.is_none());
    let refused = found.refused.as_ref().unwrap();
    assert!(
        refused.reply.contains("ietf-restconf:errors"),
        "{}",
        refused.reply
    );
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["refused"]["status"], refused.status);
    // Without a doubt there is unsigned data.
    let plain = Question::default();
    let found = explain(&config, &lab.store, "S-2", &plain, NOW)
        .await
        .unwrap();
    assert!(
        found.ok && !found.given.as_ref().unwrap().signed,
        "{}",
        found.text()
    );
    assert!(
        explain(&config, &lab.store, "S-9", &plain, NOW)
            .await
            .is_err()
    );
    lab.stop().await;
}

pub(crate) async fn hosted_images_are_copied_and_served() {
    let lab = Lab::start("[content]\nbase_url = \"https://localhost:8443/\"").await;
    device(&lab, "S-1", "", "").await;
    let content = "[[image]]\nname = \"os\"\nos-version = \"3\"\nfile = \"os 3.bin\"\nhost = true\n\
                   [[bundle]]\nname = \"b\"\nimage = \"os\"\n[[rule]]\nbundle = \"b\"\n";
    let image = "0123456789".repeat(10_000);
    let root = lab.path("images-folder");
    write(&root, &[("content.toml", content), ("os 3.bin", &image)]);
    let report = applied(&lab, &root, Options::default()).await;
    assert!(report.ok, "{:#?}", report.findings);
    assert_eq!((report.images_copied, report.new), (1, true));
    let found = explain(&lab.config(), &lab.store, "S-1", &Question::default(), NOW)
        .await
        .unwrap();
    let content = found.given.unwrap().content.unwrap();
    let content: serde_json::Value = serde_json::from_str(&content).unwrap();
    let image_node = &content["ietf-sztp-conveyed-info:onboarding-information"]["boot-image"];
    let uri = image_node["download-uri"][0].as_str().unwrap();
    let path = uri.strip_prefix("https://localhost:8443").unwrap();
    assert!(path.ends_with("/os_3.bin"), "{path}");
    let anyone = lab.anonymous();
    let got = anyone.send("GET", path, None, "").await;
    assert_eq!((got.status, got.text()), (200, image.clone()));
    assert!(got.header("cache-control").is_some());
    let got = anyone
        .clone()
        .with("range", "bytes=99990-")
        .send("GET", path, None, "")
        .await;
    assert_eq!((got.status, got.text().as_str()), (206, "0123456789"));
    assert_eq!(
        got.header("content-range"),
        Some("bytes 99990-99999/100000")
    );
    let got = anyone.send("HEAD", path, None, "").await;
    assert_eq!(
        (got.status, got.header("content-length")),
        (200, Some("100000"))
    );
    for stray in ["/images/../bootstrap.toml", "/images/00/x", "/images/"] {
        let got = anyone.send("GET", stray, None, "").await;
        assert!(
            got.status == 404 || got.status == 400,
            "{stray}: {}",
            got.status
        );
    }
    // A file that was changed behind our back is found.
    let engine = lab.running().service().engine();
    let digest = path.split('/').nth(2).unwrap();
    let digest = bootstrap::content::document::Digest::parse(digest).unwrap();
    let file = engine.images().file(&digest);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "x".repeat(100_000)).unwrap();
    let report = check_served(&lab.config(), &lab.store, Extent::None, NOW)
        .await
        .unwrap();
    assert_eq!(
        codes(&report),
        [("content.toml", None, "content.image-broken")]
    );
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        applied(&lab, &root, Options::default()).await.images_copied,
        1
    );
    let mut headers = HeaderMap::new();
    headers.insert("range", HeaderValue::from_static("bytes=0-0"));
    let response = engine.hosted(&Method::GET, path, &headers).await.unwrap();
    assert_eq!(response.status(), 206);
    lab.stop().await;
}

pub(crate) async fn what_is_signed_is_ready_before_it_is_asked_for() {
    let lab = Lab::prepare("").await;
    for n in 0..40 {
        let serial = format!("S-{n}");
        let id = device(&lab, &serial, "", "bonn").await;
        // One in four has no voucher, so there is nothing to sign for it.
        if n % 4 != 0 {
            voucher(&lab, id, &serial).await;
        }
    }
    stage(&lab, FOLDER).await;
    let engine = engine(&lab);
    let until = CancellationToken::new();
    let run = prebuild::run(&engine, &lab.config(), &lab.clock, &until)
        .await
        .unwrap();
    assert_eq!((run.devices, run.without), (30, 0));
    assert_eq!(engine.work().signed, 30);
    // A replica that starts now signs nothing.
    let other = crate::content_world::engine(&lab);
    for n in (0..40).filter(|n| n % 4 != 0) {
        let facts = doubting(&lab, &format!("S-{n}")).await;
        other.choose(&facts).await.unwrap();
    }
    assert_eq!((other.work().stored, other.work().signed), (30, 0));
    // Neither does a second run.
    let run = prebuild::run(&other, &lab.config(), &lab.clock, &until)
        .await
        .unwrap();
    assert_eq!((run.devices, other.work().signed), (30, 0));
    lab.stop().await;
}

/// RFC 9646: the certificate that was issued is in the configuration.
///
/// Requirements: SZTP-9646-2.2-03
pub(crate) async fn a_certificate_is_a_variable() {
    let lab = Lab::prepare("").await;
    device(&lab, "S-1", "", "bonn").await;
    let content = "[[template]]\nname = \"c\"\nfile = \"templates/static.json\"\n\
                   [[bundle]]\nname = \"b\"\ntemplate = \"c\"\nhandling = \"merge\"\n\
                   [[rule]]\nbundle = \"b\"\n";
    let text = "{\"cms\": \"{{ certificate.cms }}\", \"pem\": \"{{ certificate.pem }}\"}";
    lab.stage(content, &[("templates/static.json", text)]).await;
    let engine = engine(&lab);
    let refusal = engine.choose(&facts(&lab, "S-1").await).await.unwrap_err();
    assert!(
        refusal.to_string().contains("needs a certificate"),
        "{refusal}"
    );
    let with = Facts {
        certificate: Some(std::sync::Arc::new(bootstrap::content::IssuedCertificate {
            chain: vec![lab.ca.chain[0].der().to_vec()],
            csr_sha256: [0; 32],
        })),
        ..facts(&lab, "S-1").await
    };
    let prepared = engine.choose(&with).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&configuration(&prepared)).unwrap();
    assert_eq!(json["pem"], lab.ca.chain[0].to_pem());
    lab.stop().await;
}
