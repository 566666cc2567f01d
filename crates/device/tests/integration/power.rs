//! Power cuts: the state on disk is good at every moment.

use std::time::Duration;

use device::brski::{Config, Store, Verdict, run};
use pki::Coded;

use crate::server::Server;

fn granted(server: &Server) -> usize {
    server.with(|sim| {
        sim.masa
            .log
            .iter()
            .filter(|entry| *entry == "granted")
            .count()
    })
}

#[tokio::test]
async fn power_goes_before_each_step_and_the_next_run_goes_on() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let idevid = server.manufacturer.device("SN-1");
    let mut config = server.config(&idevid);
    config.state_folder = Some(folder.path().to_owned());
    let mut cuts = 0;
    let enrolment = loop {
        // Each run gets one step further than the run before could be sure of.
        config.power_cut_before = Some(cuts % 4 + 1);
        cuts += 1;
        assert!(cuts < 60, "no end");
        let outcome = run(&config, &mut |_| {}).await.unwrap();
        let store = Store::open(config.state_folder.clone(), None).unwrap();
        assert!(
            store.load(&idevid).unwrap().is_some(),
            "the state can be read after each cut"
        );
        match outcome.verdict {
            Verdict::Enrolled(enrolment) => break enrolment,
            Verdict::Unfinished { .. } => {}
            Verdict::Refused(failure) => panic!("after {cuts} cuts: {failure}"),
        }
    };
    assert!(cuts > 4, "{cuts}");
    assert!(enrolment.reported);
    assert_eq!(
        granted(&server),
        1,
        "one voucher, however often it was asked for"
    );
    assert!(folder.path().join("ldevid-1.key.pem").exists());
    assert!(folder.path().join("voucher.vcj").exists());
    server.stop().await;
}

/// The run is dropped in the middle of whatever it is doing: a handshake, a write, an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_goes_at_any_millisecond() {
    for pause_us in [300, 900, 2_000, 4_000, 7_000] {
        let server = Server::start().await;
        let folder = tempfile::tempdir().unwrap();
        let idevid = server.manufacturer.device("SN-1");
        let mut config = server.config(&idevid);
        config.state_folder = Some(folder.path().to_owned());
        let mut limit = Duration::from_micros(pause_us);
        let mut cuts = 0;
        loop {
            let mut observer = |_: &_| {};
            match tokio::time::timeout(limit, run(&config, &mut observer)).await {
                Ok(outcome) => {
                    let outcome = outcome.unwrap();
                    assert!(outcome.is_enrolled(), "{:?}", outcome.steps);
                    break;
                }
                Err(_) => cuts += 1,
            }
            // So slow a machine that nothing gets done in this time gets more of it.
            limit += limit / 8;
            assert!(cuts < 200, "no end");
        }
        assert_eq!(granted(&server), 1, "{pause_us} µs, {cuts} cuts");
        server.stop().await;
    }
}

/// One device, one process.
#[tokio::test]
async fn the_state_is_one_devices_and_one_processs() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let idevid = server.manufacturer.device("SN-1");
    let mut config = server.config(&idevid);
    config.state_folder = Some(folder.path().to_owned());
    let held = Store::open(config.state_folder.clone(), None).unwrap();
    let error = run(&config, &mut |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "pledge.state-in-use");
    drop(held);
    assert!(run(&config, &mut |_| {}).await.unwrap().is_enrolled());
    config.idevid = server.manufacturer.device("SN-1");
    let error = run(&config, &mut |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "pledge.state-of-another");
    server.stop().await;
}

/// A half-written file beside the state is ignored; a state that is not ours is said so.
#[tokio::test]
async fn leftovers_do_not_matter_and_nonsense_is_named() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let idevid = server.manufacturer.device("SN-1");
    let config = Config {
        state_folder: Some(folder.path().to_owned()),
        ..server.config(&idevid)
    };
    std::fs::write(folder.path().join("state.new"), b"{\"version\":").unwrap();
    std::fs::write(folder.path().join("ldevid-1.key.new"), b"-----BEGIN").unwrap();
    assert!(run(&config, &mut |_| {}).await.unwrap().is_enrolled());
    let state = folder.path().join("state.json");
    for nonsense in ["", "{}", "{\"version\":9}", "[]"] {
        std::fs::write(&state, nonsense).unwrap();
        let error = run(&config, &mut |_| {}).await.unwrap_err();
        assert_eq!(error.code(), "pledge.state-malformed", "{nonsense:?}");
    }
    server.stop().await;
}
