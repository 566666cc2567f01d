//! The certificates by which the seeds of the request handlers are judged. They and the seeds come
//! from `USHER_WRITE_SEEDS=1 cargo test -p brski --test integration fuzz_seeds`.
#![allow(dead_code)]

use std::sync::OnceLock;

use artifacts::Envelope;
use brski::masa::Inbound;
use pki::Certificate;
use time::OffsetDateTime;
use time::macros::datetime;

/// When the seeds were made, as their tests count time.
pub const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00 UTC);

pub struct World {
    pub manufacturer: Certificate,
    pub domain: Certificate,
    pub registrar: Certificate,
    pub voucher_signer: Certificate,
    cms: Device,
    jws: Device,
    cose: Device,
}

pub struct Device {
    pub idevid: Certificate,
    /// The voucher request that it sent.
    pub request: &'static [u8],
}

impl World {
    /// The device that speaks this envelope.
    pub fn device(&self, message: &[u8]) -> &Device {
        match envelope(message) {
            Envelope::Jws => &self.jws,
            Envelope::Cose => &self.cose,
            Envelope::Cms => &self.cms,
        }
    }
}

pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    let read = |der: &[u8]| Certificate::from_der(der).expect("a certificate of the world");
    WORLD.get_or_init(|| World {
        manufacturer: read(include_bytes!("world/manufacturer.der")),
        domain: read(include_bytes!("world/domain.der")),
        registrar: read(include_bytes!("world/registrar.der")),
        voucher_signer: read(include_bytes!("world/voucher-signer.der")),
        cms: Device {
            idevid: read(include_bytes!("world/idevid-cms.der")),
            request: include_bytes!("world/request-cms"),
        },
        jws: Device {
            idevid: read(include_bytes!("world/idevid-jws.der")),
            request: include_bytes!("world/request-jws"),
        },
        cose: Device {
            idevid: read(include_bytes!("world/idevid-cose.der")),
            request: include_bytes!("world/request-cose"),
        },
    })
}

/// The envelope, by the first octet.
pub fn envelope(message: &[u8]) -> Envelope {
    match message.first() {
        Some(b'{') => Envelope::Jws,
        // A COSE_Sign1, tagged or not.
        Some(0x84 | 0xd2) => Envelope::Cose,
        _ => Envelope::Cms,
    }
}

pub fn inbound(body: &[u8]) -> Inbound<'_> {
    Inbound { body, content_type: Some(envelope(body).media_type()), accept: None }
}
