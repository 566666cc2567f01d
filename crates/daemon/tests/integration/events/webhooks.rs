//! Webhooks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use serde_json::Value;
use store::outbox;

use super::receivers::{Behaviour, Receiver, Request, serve};
use super::{House, event, until};

/// Standard Webhooks' own example of a secret.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Keys of one sink, its name and where it sends.
fn hook(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[webhook]]\nname = \"{name}\"\nurl = \"{url}\"\nsecrets = [\"secret\"]\n\
         timeout_seconds = 1\n{more}\n"
    )
}

async fn house() -> House {
    let house = House::sqlite().await;
    house.file("secret", SECRET);
    house
}

fn http(receiver: &Receiver) -> String {
    format!("http://{}/hook?tenant=1", receiver.address)
}

/// What the receiver computes by itself, from what it was sent and the secret.
fn verify(request: &Request, secret: &str) -> bool {
    let key = STANDARD
        .decode(secret.trim_start_matches("whsec_"))
        .expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let mut signed = Vec::new();
    signed.extend_from_slice(request.headers["webhook-id"].as_bytes());
    signed.push(b'.');
    signed.extend_from_slice(request.headers["webhook-timestamp"].as_bytes());
    signed.push(b'.');
    signed.extend_from_slice(&request.body);
    request.headers["webhook-signature"].split(' ').any(|one| {
        let tag = one.strip_prefix("v1,").expect("a version");
        hmac::verify(&key, &signed, &STANDARD.decode(tag).expect("base64")).is_ok()
    })
}

/// The vector of the Standard Webhooks specification.
#[test]
fn the_signature_is_the_one_of_the_specification() {
    let secret = daemon::events::Secret::parse(SECRET).expect("a secret");
    let signature = daemon::events::signature(
        &[secret],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        br#"{"test": 2432232314}"#,
    );
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_signed_with_every_secret() {
    let house = house().await;
    house.file("new", NEW_SECRET);
    house.file("token", "t0ken\n");
    let receiver = Receiver::start(|_, _| Behaviour::ok()).await;
    let toml = hook("noc", &http(&receiver), "token_file = \"token\"")
        .replace("[\"secret\"]", "[\"secret\", \"new\"]");
    let worker = house.start(&toml);
    let event = event(7);
    house.emit(&event).await;
    house.until_empty().await;
    worker.stop().await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.id(), event.id);
    assert_eq!(request.path, "/hook?tenant=1");
    assert_eq!(request.headers["authorization"], "Bearer t0ken");
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(verify(request, SECRET) && verify(request, NEW_SECRET));
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body["type"], "device.bootstrap-complete");
    assert_eq!(body["timestamp"], "2025-06-15T15:06:40Z");
    assert_eq!(body["data"]["subject"], "SN-7");
    assert_eq!(body["data"]["details"]["vendor"], "acme");
}

/// A secret is replaced while the server runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_secret_counts_without_a_restart() {
    let house = house().await;
    let receiver = Receiver::start(|_, _| Behaviour::ok()).await;
    let worker = house.start(&hook("noc", &http(&receiver), ""));
    house.emit_some(1).await;
    house.until_empty().await;
    house.file("secret", NEW_SECRET);
    house.emit_some(1).await;
    house.until_empty().await;
    worker.stop().await;
    let requests = receiver.requests();
    assert!(verify(&requests[0], SECRET) && !verify(&requests[0], NEW_SECRET));
    assert!(verify(&requests[1], NEW_SECRET) && !verify(&requests[1], SECRET));
}

async fn a_receiver_that_is_down_loses_nothing(house: House) {
    house.file("secret", SECRET);
    let receiver = Receiver::start(|_, _| Behaviour::ok()).await;
    let url = http(&receiver);
    let address = receiver.stop().await;
    let worker = house.start(&hook("noc", &url, "attempts_max = 2"));
    let ids = house.emit_some(100).await;
    // Many more failures than an event has attempts: an absent receiver costs an event none.
    until("the sink has failed often", async || {
        worker.delivery.status()["noc"].failures_in_a_row > 10
    })
    .await;
    let waiting = house.outbox().await;
    assert_eq!(waiting.len(), 100);
    assert!(waiting.iter().all(|one| one.dead.is_none()));
    let receiver = Receiver::start_at(address, |_, _| Behaviour::ok()).await;
    house.until_empty().await;
    worker.stop().await;
    assert_eq!(receiver.ids(), ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_down_loses_nothing_on_sqlite() {
    a_receiver_that_is_down_loses_nothing(House::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_down_loses_nothing_on_postgres() {
    a_receiver_that_is_down_loses_nothing(House::postgres().await).await;
}

/// One hangs, one is down, one is slow, one says 500: a fifth gets everything at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_receiver_holds_up_nobody_else() {
    let house = house().await;
    let hanging = Receiver::start(|_, _| Behaviour::Hang).await;
    let slow = Receiver::start(|_, _| Behaviour::Slow(Duration::from_millis(40))).await;
    let broken = Receiver::start(|_, _| Behaviour::status(500)).await;
    let down = Receiver::start(|_, _| Behaviour::ok()).await;
    let down_url = http(&down);
    down.stop().await;
    let good = Receiver::start(|_, _| Behaviour::ok()).await;
    let toml = [
        hook("hanging", &http(&hanging), ""),
        hook("slow", &http(&slow), ""),
        hook("broken", &http(&broken), ""),
        hook("down", &down_url, ""),
        hook("good", &http(&good), ""),
    ]
    .concat();
    let worker = house.start(&toml);
    let ids = house.emit_some(50).await;
    until("the good receiver has everything", async || {
        good.ids().len() == 50
    })
    .await;
    assert_eq!(good.ids(), ids);
    let status = worker.delivery.status();
    assert!(status["slow"].delivered < 50, "the slow one is still at it");
    assert_eq!(status["hanging"].delivered, 0);
    // Nothing of what the others did not take is gone.
    for name in ["hanging", "broken", "down"] {
        let topic = format!("event/{name}");
        let waiting = house.outbox().await;
        assert_eq!(waiting.iter().filter(|one| one.topic == topic).count(), 50);
    }
    worker.stop().await;
}

/// 500, a connection that is cut, and silence are repeated with the same id and the same body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_is_repeated_unchanged() {
    let house = house().await;
    let receiver = Receiver::start(|_, before| match before {
        0 => Behaviour::status(500),
        1 => Behaviour::Drop,
        2 => Behaviour::Hang,
        3 => Behaviour::status(404),
        4 => Behaviour::status(301),
        _ => Behaviour::ok(),
    })
    .await;
    let worker = house.start(&hook("noc", &http(&receiver), ""));
    let ids = house.emit_some(1).await;
    house.until_empty().await;
    worker.stop().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 6);
    for request in &requests {
        assert_eq!(request.id(), ids[0]);
        assert_eq!(request.body, requests[0].body);
        assert!(verify(request, SECRET));
    }
}

/// One event that the receiver cannot stand does not keep the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisonous_event_is_given_up_and_can_be_replayed() {
    let house = house().await;
    let healed: Arc<Mutex<bool>> = Arc::default();
    let rule = Arc::clone(&healed);
    let receiver = Receiver::start(move |request, _| {
        let poison = String::from_utf8_lossy(&request.body).contains("SN-3\"");
        if poison && !*rule.lock().expect("no panic") {
            Behaviour::status(500)
        } else {
            Behaviour::ok()
        }
    })
    .await;
    let worker = house.start(&hook("noc", &http(&receiver), "attempts_max = 3"));
    let ids = house.emit_some(10).await;
    until("one is dead and the rest is gone", async || {
        let left = house.outbox().await;
        left.len() == 1 && left[0].dead.is_some()
    })
    .await;
    let dead = house.outbox().await.remove(0);
    assert_eq!(dead.attempts, 3);
    assert_eq!(dead.last_error.as_deref(), Some("status 500"));
    let delivered: BTreeSet<String> = receiver.ids().into_iter().collect();
    assert_eq!(delivered, ids.iter().cloned().collect());
    assert_eq!(receiver.ids().iter().filter(|id| **id == ids[3]).count(), 3);

    *healed.lock().expect("no panic") = true;
    let number = dead.id;
    let replayed = house
        .store
        .transaction("replay", move |connection| {
            let now = time::macros::datetime!(2026-01-01 0:00 UTC);
            async move { outbox::replay(connection, number, now).await }.boxed()
        })
        .await
        .expect("replayed");
    assert!(replayed);
    house.until_empty().await;
    worker.stop().await;
    assert_eq!(receiver.ids().last(), Some(&ids[3]));
}

/// `Retry-After` is kept to: the pauses of this test's timing are a thousand times shorter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_says_when_to_come_again() {
    let house = house().await;
    let receiver = Receiver::start(|_, before| {
        if before == 0 {
            Behaviour::Answer(429, "Retry-After: 1\r\n".to_owned())
        } else {
            Behaviour::ok()
        }
    })
    .await;
    let worker = house.start(&hook("noc", &http(&receiver), ""));
    let started = std::time::Instant::now();
    house.emit_some(3).await;
    house.until_empty().await;
    worker.stop().await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(receiver.ids().len(), 4);
}

/// A server that dies between sending and noting it sends again, under the same id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_repeats_and_loses_nothing() {
    let house = house().await;
    let receiver = Receiver::start(|_, before| {
        if before == 3 {
            Behaviour::Hang
        } else {
            Behaviour::ok()
        }
    })
    .await;
    let toml = hook("noc", &http(&receiver), "").replace("= 1\n", "= 60\n");
    let worker = house.start(&toml);
    let ids = house.emit_some(8).await;
    until("the fourth is under way", async || {
        receiver.ids().len() == 4
    })
    .await;
    worker.kill().await;
    let worker = house.start(&toml);
    house.until_empty().await;
    worker.stop().await;
    let got = receiver.ids();
    let distinct: BTreeSet<&String> = got.iter().collect();
    assert_eq!(distinct, ids.iter().collect());
    assert!(got.len() > ids.len(), "what was under way came twice");
}

/// Two servers over one database share the work and send nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_the_queue() {
    let house = House::postgres().await;
    house.file("secret", SECRET);
    let receiver = Receiver::start(|_, _| Behaviour::ok()).await;
    let toml = hook("noc", &http(&receiver), "");
    let workers = [house.start(&toml), house.start(&toml)];
    let ids = house.emit_some(200).await;
    house.until_empty().await;
    for worker in workers {
        worker.stop().await;
    }
    let mut got = receiver.ids();
    got.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(got, ids);
}

/// The choice of a sink: kinds and severity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_gets_what_it_asked_for() {
    let house = house().await;
    let all = Receiver::start(|_, _| Behaviour::ok()).await;
    let few = Receiver::start(|_, _| Behaviour::ok()).await;
    let toml = [
        hook("all", &http(&all), ""),
        hook(
            "few",
            &http(&few),
            "kinds = [\"device.boot*\", \"other\"]\nseverity_min = \"warning\"",
        ),
    ]
    .concat();
    let worker = house.start(&toml);
    let mut wanted = Vec::new();
    for (kind, severity, few_too) in [
        (
            "device.bootstrap-complete",
            daemon::events::Severity::Notice,
            false,
        ),
        (
            "device.boot-image-error",
            daemon::events::Severity::Error,
            true,
        ),
        ("other", daemon::events::Severity::Warning, true),
        ("others", daemon::events::Severity::Error, false),
    ] {
        let mut event = event(0);
        event.kind = kind.to_owned();
        event.severity = severity;
        house.emit(&event).await;
        if few_too {
            wanted.push(event.id);
        }
    }
    house.until_empty().await;
    worker.stop().await;
    assert_eq!(all.ids().len(), 4);
    assert_eq!(few.ids(), wanted);
}

/// Without any sink the outbox does not grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sinks_nothing_piles_up() {
    let house = house().await;
    let worker = house.start("");
    house.emit_some(600).await;
    house.until_empty().await;
    worker.stop().await;
}

/// An HTTPS receiver is believed by its CA and its name; to another nothing is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_https_receiver_hears_anything() {
    let house = house().await;
    let (ours, other) = (super::syslog::authority(), super::syslog::authority());
    house.file("ca.pem", &ours.ca);
    let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
    let seen = Arc::clone(&requests);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let address = listener.local_addr().expect("an address");
    let impostor_first: Arc<Mutex<usize>> = Arc::default();
    let turns = Arc::clone(&impostor_first);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            let turn = {
                let mut turns = turns.lock().expect("no panic");
                *turns += 1;
                *turns
            };
            let acceptor = if turn <= 3 {
                &other.acceptor
            } else {
                &ours.acceptor
            };
            if let Ok(stream) = acceptor.accept(stream).await {
                assert!(turn > 3, "an impostor was believed");
                let seen = Arc::clone(&seen);
                let _ = serve(
                    stream,
                    &seen,
                    &(Arc::new(|_: &Request, _| Behaviour::ok()) as _),
                )
                .await;
            }
        }
    });
    let url = format!("https://localhost:{}/hook", address.port());
    let worker = house.start(&hook("noc", &url, "anchors = \"ca.pem\""));
    let ids = house.emit_some(5).await;
    house.until_empty().await;
    worker.stop().await;
    let got: Vec<String> = requests
        .lock()
        .expect("no panic")
        .iter()
        .map(Request::id)
        .collect();
    assert_eq!(got, ids);
}

#[tokio::test]
async fn sinks_that_cannot_be_used_are_refused_at_the_start() {
    let house = house().await;
    house.file("short", "whsec_c2hvcnQ=");
    house.file("plain", "secret");
    let good = hook("noc", "http://127.0.0.1:1/", "");
    let cases = [
        (good.replace("127.0.0.1", "192.0.2.1"), "use https"),
        (good.replace("http:", "https:"), "anchors"),
        (good.replace("http:", "ftp:"), "only https and http"),
        (good.replace("[\"secret\"]", "[]"), "names no file"),
        (good.replace("\"secret\"", "\"none\""), "No such file"),
        (good.replace("\"secret\"", "\"short\""), "24 to 64"),
        (good.replace("\"secret\"", "\"plain\""), "whsec_"),
        (format!("{good}{good}"), "two sinks are named noc"),
        (good.replace("\"noc\"", "\"No C\""), "lower-case"),
        (
            format!("{good}format = \"netbox\"\n"),
            "there is no format netbox",
        ),
    ];
    for (toml, reason) in cases {
        let error = house.try_delivery(&toml).expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(!error.contains("MfKQ9r8"), "a secret is in it: {error}");
    }
    house.delivery(&good.replace("127.0.0.1", "[::1]"));
    house.delivery(&good.replace("127.0.0.1", "localhost"));
}
