//! Multicast DNS: what anybody on the network may send to a device that asks.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sztp::dns::{Answer, Question, order};

fuzz_target!(|bytes: &[u8]| {
    for question in [
        Question::device("SN-1", "local"),
        Question::service("local"),
    ] {
        let question = question.expect("a good name");
        if let Ok(Answer::Services(services)) = question.read(0, bytes) {
            let count = services.len();
            assert!(services.iter().all(|service| service.port != 0));
            assert_eq!(order(services, |total| total / 2).len(), count);
        }
    }
});
