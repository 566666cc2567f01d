//! The timeline: kept within its limits.

use masa::EventsConfig;
use masa::timeline::{self, Event, Recorder};
use time::Duration;

use crate::on_both;
use crate::support::{Masa, NOW};

fn event(number: i64) -> Event {
    Event {
        at: NOW - Duration::days(10) + Duration::minutes(number),
        serial: Some(format!("SN-{}\u{0}", number % 3)),
        issuer: Some("00ff".to_owned()),
        operation: "requestvoucher".to_owned(),
        outcome: "refused".to_owned(),
        code: "masa.serial-unknown".to_owned(),
        http: 404,
        peer: "192.0.2.1:1".to_owned(),
        identity: "x".repeat(5000),
        summary: serde_json::json!({ "number": number }),
        next: String::new(),
    }
}

async fn old_lines_go_first(masa: Masa) {
    let recorder = Recorder::start(masa.store().clone());
    for number in 0..50 {
        recorder.record(event(number));
    }
    recorder.flush().await;
    assert_eq!(recorder.dropped(), 0);
    let keep = EventsConfig {
        rows_max: 20,
        days_max: 400,
    };
    assert_eq!(timeline::prune(masa.store(), &keep, NOW).await.unwrap(), 30);
    let lines = timeline::list(masa.store(), None, 100).await.unwrap();
    assert_eq!(lines.len(), 20);
    assert_eq!(lines[0].summary["number"], 49);
    assert_eq!(lines[0].identity.len(), 1024);
    // What a peer sent is kept as text that every database takes.
    assert_eq!(
        timeline::list(masa.store(), Some("SN-1\u{fffd}"), 100)
            .await
            .unwrap()
            .len(),
        7
    );
    let keep = EventsConfig {
        rows_max: 1000,
        days_max: 9,
    };
    assert_eq!(timeline::prune(masa.store(), &keep, NOW).await.unwrap(), 20);
    masa.stop().await;
}

on_both!(old_lines_go_first);
