//! Reports of progress and what becomes of a device.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use store::params;
use sztp::message::ProgressType;

use crate::harness::{JSON, Lab, REPORT, XML};

/// Every type is taken, answered with nothing, and recorded under the device that reports.
///
/// Requirements: SZTP-8572-7.3-15, SZTP-8572-5.6-23, SZTP-8040-3.6-02, SZTP-8040-4.4.2-01,
/// SZTP-8572-4.4-05, SZTP-8572-9.16-02
pub(crate) async fn every_type_is_recorded_under_its_device() {
    let lab = Lab::start("").await;
    let own = lab.register("RP-1").await;
    let other = lab.register("RP-2").await;
    let device = lab.device("RP-1");
    for (index, kind) in ProgressType::ALL.iter().enumerate() {
        let got = if index % 2 == 0 {
            device
                .report(json!({ "progress-type": kind.as_str(), "message": "RP-2 says so" }))
                .await
        } else {
            let body = format!(
                "<input xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\">\
                 <progress-type>{kind}</progress-type></input>"
            );
            device.send("POST", REPORT, Some(XML), body).await
        };
        assert_eq!(
            (got.status, got.body.len()),
            (204, 0),
            "{kind}: {}",
            got.text()
        );
        assert!(got.header("cache-control").is_some());
        let line = lab.line().await;
        assert_eq!(
            (line.device, line.outcome.as_str()),
            (Some(own), "recorded")
        );
        let state = lab.state("RP-1").await;
        match kind {
            ProgressType::BootstrapComplete => assert_eq!(state, "complete"),
            // It may come at any time and changes nothing.
            ProgressType::Informational => assert_eq!(state, "complete"),
            kind if kind.is_error() => assert_eq!(state, "failed", "{kind}"),
            _ => assert_eq!(state, "in-progress", "{kind}"),
        }
    }
    let sql = "SELECT COUNT(*) AS n FROM progress WHERE device = $1";
    let own = lab.row(sql, params![own]).await.integer("n").unwrap();
    let other = lab.row(sql, params![other]).await.integer("n").unwrap();
    assert_eq!((own, other), (27, 0));
    lab.stop().await;
}

/// Requirements: SZTP-8572-7.3-17
pub(crate) async fn host_keys_and_anchors_are_kept() {
    let lab = Lab::start("").await;
    let device = lab.register("KEY-1").await;
    let bag = pki::pkcs7::certs_only(&lab.ca.chain).unwrap();
    let input = json!({
        "progress-type": "bootstrap-complete",
        "message": "up",
        "ssh-host-keys": { "ssh-host-key": [
            { "algorithm": "ssh-ed25519", "key-data": "AAAAC3NzaC1lZDI1NTE5" },
            { "algorithm": "ssh-rsa", "key-data": "AAAAB3NzaC1yc2E=" },
        ]},
        "trust-anchor-certs": { "trust-anchor-cert": [STANDARD.encode(&bag)] },
    });
    // What a device says twice is kept once.
    for _ in 0..2 {
        let got = lab.device("KEY-1").report(input.clone()).await;
        assert_eq!(got.status, 204, "{}", got.text());
    }
    let rows = lab
        .store
        .fetch_all(
            "SELECT kind, algorithm, value FROM device_key WHERE device = $1 ORDER BY kind, algorithm",
            params![device],
        )
        .await
        .unwrap();
    let kept: Vec<(String, String)> = rows
        .iter()
        .map(|row| (row.text("kind").unwrap(), row.text("algorithm").unwrap()))
        .collect();
    let expected = [
        ("ssh-host-key", "ssh-ed25519"),
        ("ssh-host-key", "ssh-rsa"),
        ("trust-anchor", ""),
    ];
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(kind, algorithm)| ((*kind).to_owned(), (*algorithm).to_owned()))
        .collect();
    assert_eq!(kept, expected);
    assert!(rows.iter().any(|row| row.bytes("value").unwrap() == bag));
    lab.stop().await;
}

/// A device that began and is silent is stuck, once; its next word takes it out.
pub(crate) async fn silence_is_noticed() {
    let lab = Lab::start("[watch]\nstuck_minutes = 30\nperiod_seconds = 3600\n").await;
    lab.register("SLOW-1").await;
    lab.register("DONE-1").await;
    lab.register("NEVER-1").await;
    let report = |kind: &str| json!({ "progress-type": kind });
    lab.device("SLOW-1")
        .report(report("bootstrap-initiated"))
        .await;
    lab.device("DONE-1")
        .report(report("bootstrap-complete"))
        .await;
    let service = lab.running().service();
    assert_eq!(service.find_stuck().await.unwrap(), 0);
    lab.hand.advance(std::time::Duration::from_secs(31 * 60));
    assert_eq!(service.find_stuck().await.unwrap(), 1);
    assert_eq!(service.find_stuck().await.unwrap(), 0);
    assert_eq!(lab.state("SLOW-1").await, "stuck");
    assert_eq!(lab.state("DONE-1").await, "complete");
    assert_eq!(lab.state("NEVER-1").await, "registered");
    lab.device("SLOW-1")
        .report(report("config-initiated"))
        .await;
    assert_eq!(lab.state("SLOW-1").await, "in-progress");
    lab.stop().await;
}

/// Many reports at once share commits, and every one has its line.
pub(crate) async fn many_at_once_all_leave_their_lines() {
    let lab = Lab::start("").await;
    let mut devices = Vec::new();
    for number in 0..8 {
        let serial = format!("MANY-{number}");
        lab.register(&serial).await;
        devices.push(lab.device(&serial));
    }
    let work = devices.iter().map(|device| async move {
        let mut connection = device.connect().await;
        for _ in 0..10 {
            let mut headers = http::HeaderMap::new();
            headers.insert("content-type", JSON.parse().unwrap());
            let body =
                "{\"ietf-sztp-bootstrap-server:input\":{\"progress-type\":\"informational\"}}";
            let response = connection
                .request(http::Method::POST, REPORT, headers, body.into())
                .await
                .unwrap();
            assert_eq!(response.status.as_u16(), 204);
        }
    });
    futures::future::join_all(work).await;
    let sql = "SELECT COUNT(*) AS n FROM event WHERE outcome = 'recorded'";
    let row = lab.row(sql, params![]).await;
    assert_eq!(row.integer("n").unwrap(), 80);
    lab.stop().await;
}

/// A device may report other keys as often as it likes; the newest are kept.
pub(crate) async fn keys_of_a_device_do_not_pile_up() {
    let lab = Lab::start("").await;
    let id = lab.register("KEY-2").await;
    let device = lab.device("KEY-2");
    for report in 0..20 {
        let keys: Vec<_> = (0..20)
            .map(|key| {
                let data = STANDARD.encode(format!("key {key} of report {report}"));
                json!({ "algorithm": "ssh-ed25519", "key-data": data })
            })
            .collect();
        let input = json!({
            "progress-type": "bootstrap-complete",
            "ssh-host-keys": { "ssh-host-key": keys },
        });
        assert_eq!(device.report(input).await.status, 204);
        lab.hand.advance(std::time::Duration::from_secs(1));
    }
    let sql = "SELECT COUNT(*) AS n FROM device_key WHERE device = $1";
    let kept = lab.row(sql, params![id]).await.integer("n").unwrap();
    assert!((128..=148).contains(&kept), "{kept}");
    let newest = STANDARD.encode("key 0 of report 19");
    let sql = "SELECT COUNT(*) AS n FROM device_key WHERE device = $1 AND value = $2";
    let value = STANDARD.decode(newest).unwrap();
    let found = lab.row(sql, params![id, value]).await.integer("n").unwrap();
    assert_eq!(found, 1);
    lab.stop().await;
}

/// Strangers are bounded: those beyond the limit are refused all the same and only counted.
pub(crate) async fn a_flood_of_strangers_does_not_fill_the_disk() {
    let lab = Lab::start("[timeline]\nstrangers_per_second_and_address_max = 2\n").await;
    let stranger = lab.anonymous();
    let mut connection = stranger.connect().await;
    for _ in 0..50 {
        let response = connection
            .request(
                http::Method::POST,
                REPORT,
                http::HeaderMap::new(),
                "".into(),
            )
            .await
            .unwrap();
        assert_eq!(response.status.as_u16(), 401);
    }
    assert!(lab.lines(100).await.len() < 50);
    let metrics =
        url::Url::parse(&format!("http://{}/metrics", lab.running().admin_address())).unwrap();
    let response = net::client::fetch(
        &metrics,
        http::Method::GET,
        http::HeaderMap::new(),
        "".into(),
        &net::client::ClientConfig::default(),
    )
    .await
    .unwrap();
    let text = String::from_utf8(response.body.to_vec()).unwrap();
    assert!(text.contains("usher_bootstrap_unrecorded_total"), "{text}");
    assert!(
        text.contains("code=\"bootstrap.credentials-missing\""),
        "{text}"
    );
    lab.stop().await;
}
