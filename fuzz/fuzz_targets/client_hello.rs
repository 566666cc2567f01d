//! The first datagram of anybody: what is read of it, and that the answer is no longer.
#![no_main]
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use net::dtls::{ClientHello, Front, Hello, ServerConfig};

static FRONT: LazyLock<Front> = LazyLock::new(|| {
    let now = time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let pki = testkit::Pki::p256(now).expect("identities");
    Front::new(ServerConfig::new(vec![pki.domain.registrar]), [1; 32]).expect("front")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(hello) = ClientHello::parse(bytes) {
        assert!(ClientHello::begins(bytes));
        for extension in 0..64 {
            let _ = hello.extension(extension);
        }
        let _ = (hello.record_limit(), hello.has_dtls_1_3());
    }
    match FRONT.receive(Duration::from_secs(100), b"peer", bytes) {
        Hello::Answer(answer) => {
            assert!(answer.len() <= bytes.len(), "amplified");
            assert!(ClientHello::parse(bytes).is_ok());
        }
        Hello::Accept(_) => panic!("a cookie was guessed"),
        Hello::Dropped(_) => {}
    }
});
