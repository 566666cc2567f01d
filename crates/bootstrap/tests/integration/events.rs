//! What the server tells others about devices.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use daemon::Format;
use daemon::cli::Outcome;
use http::{HeaderMap, StatusCode};
use net::CancellationToken;
use net::server::ListenerConfig;
use serde_json::{Value, json};
use store::outbox;

use crate::core_data::{CONTENT, FILES};
use crate::harness::{Device, Lab};

type Heard = Arc<Mutex<Vec<Value>>>;

/// A receiver on this machine that takes everything, or nothing.
async fn receiver(status: StatusCode) -> (String, Heard) {
    let heard: Heard = Arc::default();
    let router = axum::Router::new()
        .route(
            "/hook",
            post(
                async move |State(heard): State<Heard>, headers: HeaderMap, body: Bytes| {
                    assert!(headers.contains_key("webhook-signature"));
                    heard
                        .lock()
                        .unwrap()
                        .push(serde_json::from_slice(&body).unwrap());
                    status
                },
            ),
        )
        .with_state(Arc::clone(&heard));
    let config = ListenerConfig::plain(([127, 0, 0, 1], 0).into());
    let listener = net::server::serve(config, router, CancellationToken::new())
        .await
        .unwrap();
    (format!("http://{}/hook", listener.address()), heard)
}

fn sink(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[events.webhook]]\nname = \"{name}\"\nurl = \"{url}\"\nsecrets = [\"secret\"]\n{more}\n"
    )
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(waited.is_ok(), "waited in vain: {what}");
}

async fn lab(more: &str) -> Lab {
    let mut lab = Lab::prepare(more).await;
    std::fs::write(lab.path("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    lab.register("SN-1").await;
    lab.stage(CONTENT, FILES).await;
    lab.serve().await;
    lab
}

fn kinds(heard: &Heard) -> Vec<String> {
    let heard = heard.lock().unwrap();
    heard
        .iter()
        .map(|one| one["type"].as_str().unwrap().to_owned())
        .collect()
}

/// The way of a device, told step by step, with what is needed to take it over at the end.
///
/// Requirements: SZTP-8572-C.3-02
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_device_is_told() {
    let (url, heard) = receiver(StatusCode::NO_CONTENT).await;
    let (netbox_url, netbox) = receiver(StatusCode::OK).await;
    let more = sink("noc", &url, "") + &sink("netbox", &netbox_url, "format = \"netbox\"");
    let lab = lab(&more).await;
    let device = lab.device("SN-1");
    assert_eq!(device.ask(json!({})).await.status, 200);
    for kind in ["bootstrap-initiated", "pre-script-warning", "config-error"] {
        let got = device
            .report(json!({ "progress-type": kind, "message": "m" }))
            .await;
        assert_eq!(got.status, 204);
    }
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIMwO5kC15ZFDjI8uEPw3GiIaUyWgJ/WooFge+G6Fnphi";
    let got = device
        .report(json!({
            "progress-type": "bootstrap-complete",
            "ssh-host-keys": { "ssh-host-key": [
                { "algorithm": "ssh-ed25519", "key-data": key },
            ] },
        }))
        .await;
    assert_eq!(got.status, 204);
    until("all five", async || kinds(&heard).len() == 5).await;
    assert_eq!(
        kinds(&heard),
        [
            "device.served",
            "device.bootstrap-initiated",
            "device.pre-script-warning",
            "device.failed",
            "device.bootstrap-complete"
        ]
    );
    let severities: Vec<Value> = {
        let heard = heard.lock().unwrap();
        heard
            .iter()
            .map(|one| one["data"]["severity"].clone())
            .collect()
    };
    assert_eq!(severities, ["info", "info", "warning", "error", "notice"]);
    let last = heard.lock().unwrap().last().unwrap().clone();
    let details = &last["data"]["details"];
    assert_eq!(details["vendor"], "acme");
    assert_eq!(details["handover"]["ssh_host_keys"][0]["key"], key);
    until("NetBox's", async || netbox.lock().unwrap().len() == 1).await;
    let payload = netbox.lock().unwrap()[0].clone();
    assert_eq!(payload["model"], "device");
    assert_eq!(
        payload["data"]["custom_fields"]["ssh_host_keys"][0]["key"],
        key
    );
    lab.stop().await;
}

/// Refused and stuck devices are told of; strangers are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_and_stuck_devices_are_told_of() {
    let (url, heard) = receiver(StatusCode::OK).await;
    let lab = lab(&sink("noc", &url, "severity_min = \"warning\"")).await;
    let device = lab.device("SN-1");
    // There is no voucher for it, so it cannot be given signed data.
    let got = device.ask(json!({ "signed-data-preferred": [null] })).await;
    assert!((400..500).contains(&got.status));
    assert_eq!(lab.device("STRANGER").ask(json!({})).await.status, 401);
    assert_eq!(device.ask(json!({})).await.status, 200);
    lab.hand.advance(Duration::from_secs(2 * 3600));
    assert_eq!(lab.running().service().find_stuck().await.unwrap(), 1);
    until("both", async || kinds(&heard).len() == 2).await;
    assert_eq!(kinds(&heard), ["device.refused", "device.stuck"]);
    // One that is blocked is told of; somebody who only says that it is that device is not.
    lab.change(
        "UPDATE device SET blocked = 'stolen' WHERE serial = $1",
        store::params!["SN-1"],
    )
    .await;
    let forged = Device::new(lab.address(), Some(lab.pki.forged_idevid("SN-1").unwrap()));
    assert_eq!(forged.ask(json!({})).await.status, 401);
    assert_eq!(device.ask(json!({})).await.status, 403);
    until("the third", async || kinds(&heard).len() == 3).await;
    assert_eq!(kinds(&heard)[2], "device.refused");
    lab.stop().await;
}

/// Without a sink that wants them, no events are written at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_wants_them_nobody_writes_them() {
    let lab = lab(&sink(
        "noc",
        "http://127.0.0.1:1/",
        "kinds = [\"device.failed\"]",
    ))
    .await;
    assert_eq!(lab.device("SN-1").ask(json!({})).await.status, 200);
    let mut snapshot = lab.store.snapshot().await.unwrap();
    assert!(
        outbox::list(&mut snapshot, false, 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
    drop(snapshot);
    lab.stop().await;
}

/// A sink that is down neither stops nor slows the server, and hears everything later, over a
/// restart too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_a_sink_that_is_down_loses_nothing() {
    let mut lab = lab(&sink("noc", "http://127.0.0.1:1/hook", "")).await;
    for _ in 0..5 {
        assert_eq!(lab.device("SN-1").ask(json!({})).await.status, 200);
    }
    until("each is in the queue of the sink", async || {
        let mut snapshot = lab.store.snapshot().await.unwrap();
        let depths = outbox::depths(&mut snapshot).await.unwrap();
        depths == [("event/noc".to_owned(), 5, 0)]
    })
    .await;
    let (url, heard) = receiver(StatusCode::OK).await;
    let file = lab.path("bootstrap.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("http://127.0.0.1:1/hook", &url)).unwrap();
    // What the old server had claimed is free again when its claim ends.
    lab.hand.advance(Duration::from_secs(600));
    lab.serve().await;
    until("all five", async || kinds(&heard).len() >= 5).await;
    lab.stop().await;
}

/// The commands: what was given up is listed, replayed and discarded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_is_in_the_operators_hands() {
    use bootstrap::events::cli::EventsCommand;
    use clap::{FromArgMatches as _, Subcommand as _};

    let (url, heard) = receiver(StatusCode::BAD_REQUEST).await;
    let lab = lab(&sink("noc", &url, "attempts_max = 1")).await;
    assert_eq!(lab.device("SN-1").ask(json!({})).await.status, 200);
    let dead = async || {
        let mut snapshot = lab.store.snapshot().await.unwrap();
        outbox::list(&mut snapshot, true, 0, 10).await.unwrap()
    };
    until("it is given up", async || dead().await.len() == 1).await;
    let run = async |arguments: &[&str]| {
        let command = EventsCommand::augment_subcommands(clap::Command::new("events"));
        let mut line = vec!["events"];
        line.extend_from_slice(arguments);
        let matches = command.try_get_matches_from(line).unwrap();
        let command = EventsCommand::from_arg_matches(&matches).unwrap();
        let format = Format { json: true };
        command
            .run(format, &lab.config(), &lab.store, &lab.clock)
            .await
    };
    assert_eq!(run(&["list"]).await.unwrap(), Outcome::Yes);
    let number = dead().await[0].id.to_string();
    assert_eq!(run(&["replay", &number]).await.unwrap(), Outcome::Yes);
    until("it was tried again", async || {
        heard.lock().unwrap().len() == 2
    })
    .await;
    until("it is given up again", async || dead().await.len() == 1).await;
    assert_eq!(run(&["test", "noc"]).await.unwrap(), Outcome::No);
    assert!(run(&["test", "nobody"]).await.is_err());
    assert_eq!(run(&["discard", "--all"]).await.unwrap(), Outcome::Yes);
    assert!(dead().await.is_empty());
    assert_eq!(run(&["discard", &number]).await.unwrap(), Outcome::No);
    // What waits for a sink that is gone would wait for ever; what waits for another does not go.
    lab.change(
        "INSERT INTO outbox (topic, payload, created_us, due_us, attempts, claimed_until_us) \
         VALUES ('event/gone', $1, 0, 0, 0, 0)",
        store::params![b"{}".to_vec()],
    )
    .await;
    let waiting = async || {
        let mut snapshot = lab.store.snapshot().await.unwrap();
        outbox::list_topic(&mut snapshot, "event/gone", 10)
            .await
            .unwrap()
            .len()
    };
    assert_eq!(waiting().await, 1);
    assert!(run(&["forget", "noc"]).await.is_err());
    assert_eq!(run(&["forget", "gone"]).await.unwrap(), Outcome::Yes);
    assert_eq!(waiting().await, 0);
    lab.stop().await;
}
