//! What an EST server decides about a request. Key generation ignores the signature of a request,
//! so everything behind the proof of possession is reached without a key.
#![no_main]
use est::Operation;
use est::body::BodyTolerances;
use est::server::{Answer, ChannelBinding, Policy, Request, Standing, Step, handle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, bool, &str, &[u8])| {
    let (operation, tolerant, content_type, body) = input;
    let operation = Operation::ALL[usize::from(operation) % Operation::ALL.len()];
    let request = Request {
        method: operation.method(),
        operation,
        content_type: Some(if content_type.is_empty() { "application/pkcs10" } else { content_type }),
        body,
        transport: Default::default(),
        channel_binding: Some(&[7; 32]),
    };
    let policy = Policy {
        server_keygen: true,
        channel_binding: if tolerant { ChannelBinding::Ignore } else { ChannelBinding::Verify },
        tolerances: if tolerant { BodyTolerances::all() } else { BodyTolerances::default() },
        ..Policy::default()
    };
    let step = handle(&request, &Standing::MayEnrol, &policy).expect("our own answers encode");
    if let Step::Refuse(refusal) = step {
        let status = Answer::refused(&refusal).status;
        // A peer's input never yields a 500.
        assert!((400..500).contains(&status) || status == 501, "{status}");
    }
});
