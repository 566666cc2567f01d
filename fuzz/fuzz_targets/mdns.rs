//! Multicast DNS: what anybody on the network may send to a device that asks, and to a responder.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sztp::dhcp::BootstrapUri;
use sztp::dns::{Answer, Artefacts, MDNS_MESSAGE_MAX_BYTES, Question, Responder, order};

fn responder() -> Responder {
    let mut responder = Responder::new();
    let server = BootstrapUri::parse("https://192.0.2.1:9543").expect("a good URI");
    responder.announce(&server, &[]).expect("a good server");
    let artefacts = Artefacts {
        conveyed_information: Some(vec![0x30; 1000]),
        ..Artefacts::default()
    };
    responder.serve("SN-1", &artefacts).expect("good artefacts");
    responder
}

fuzz_target!(|bytes: &[u8]| {
    for port in [5353, 40_000] {
        if let Some(answer) = responder().answer(bytes, port) {
            assert!(answer.message.len() <= MDNS_MESSAGE_MAX_BYTES);
            assert_eq!(responder().answer(&answer.message, port), None);
        }
    }
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
