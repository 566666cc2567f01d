//! DTLS over a network that does what the input says: nobody amplifies, nobody takes another for
//! its peer, and nothing arrives that was not sent.
#![no_main]
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../dtls.rs"]
mod dtls;

static WORLD: LazyLock<dtls::World> = LazyLock::new(dtls::World::new);

fuzz_target!(|bytes: &[u8]| {
    WORLD.run(bytes);
});
