//! What the manufacturer built into the device.

use std::sync::Arc;

use artifacts::{Assertion, Encoding, SerialNumber, Tolerances};
use pki::{Certificate, Decryptor, KeyKind, path::Anchors};
use serde::{Deserialize, Serialize};
use time::Duration;

use super::{REDIRECTS_MAX, Server};
use crate::{Leniency, message::SshHostKey};

/// Whether the device trusts its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Every date is judged.
    #[default]
    Trusted,
    /// SZTP-8572-9.1-02: "If it is not possible to ensure clock accuracy, it is RECOMMENDED that
    /// implementations disable the aspects of the solution having clock sensitivity."
    Untrusted,
}

/// When a nonce is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonceUse {
    /// To every bootstrap server. A voucher that came from it has to carry the nonce if it carries
    /// one; a voucher without a nonce is as good.
    Always,
    /// If the clock is not trusted: nothing else tells a fresh voucher from an old one.
    #[default]
    WithoutClock,
    /// Never.
    Never,
    /// To every bootstrap server, and a voucher without it is refused.
    Required,
}

/// That the device can make certification requests (RFC 9646).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrAbility {
    /// The kinds of key that it makes. With none, it offers its factory key only.
    pub keys: Vec<KeyKind>,
}

/// What the manufacturer built into the device
/// ([RFC 8572 §5.1](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.1)).
#[derive(Clone)]
pub struct Config {
    /// The serial number.
    pub serial_number: SerialNumber,
    /// The IDevID certificate.
    pub idevid: Certificate,
    /// The hardware model, for `get-bootstrapping-data`.
    pub hw_model: Option<String>,
    /// SZTP-8572-5.1-05: "a list of the well-known bootstrap servers". They are the last source.
    pub well_known: Vec<Server>,
    /// The anchors for bootstrap servers, well-known and others.
    pub server_anchors: Anchors,
    /// The anchors for ownership vouchers.
    pub voucher_anchors: Anchors,
    /// Whether the clock is trusted.
    pub clock: Clock,
    /// How far the manufacturer's clock may be ahead of the device's when a voucher is made.
    pub clock_skew: Duration,
    /// When a nonce is sent.
    pub nonce: NonceUse,
    /// The assertions that are accepted.
    pub assertions: Vec<Assertion>,
    /// What decrypts artefacts, if the device can.
    pub decryptor: Option<Arc<dyn Decryptor>>,
    /// The encoding that the device speaks over RESTCONF.
    pub encoding: Encoding,
    /// What is let pass in artefacts.
    pub tolerances: Tolerances,
    /// What is let pass in messages.
    pub leniency: Leniency,
    /// The password for HTTP Basic, with the serial number as user name. It is shown to trusted
    /// servers only.
    pub password: Option<String>,
    /// Whether the device can make certification requests.
    pub csr: Option<CsrAbility>,
    /// Redirects that are followed one below the other.
    pub redirects_max: u32,
    /// Give up after this many rounds; `None` for never.
    pub rounds_max: Option<u32>,
    /// Send every progress report, whatever the server asks for.
    pub verbose: bool,
    /// The device's SSH host keys.
    pub ssh_host_keys: Vec<SshHostKey>,
    /// The chains with which a management system can authenticate the device: each a CMS.
    pub trust_anchor_certs: Vec<Vec<u8>>,
}

impl Config {
    /// A device with the defaults: a trusted clock, every assertion of a voucher, JSON, nothing
    /// tolerated, no decryption, no certification request, ten redirects, no end of rounds.
    #[must_use]
    pub fn new(serial_number: SerialNumber, idevid: Certificate) -> Self {
        Self {
            serial_number,
            idevid,
            hw_model: None,
            well_known: Vec::new(),
            server_anchors: Anchors::new(),
            voucher_anchors: Anchors::new(),
            clock: Clock::Trusted,
            clock_skew: Duration::ZERO,
            nonce: NonceUse::WithoutClock,
            assertions: vec![Assertion::Verified, Assertion::Logged, Assertion::Proximity],
            decryptor: None,
            encoding: Encoding::Json,
            tolerances: Tolerances::strict(),
            leniency: Leniency::strict(),
            password: None,
            csr: None,
            redirects_max: REDIRECTS_MAX,
            rounds_max: None,
            verbose: false,
            ssh_host_keys: Vec::new(),
            trust_anchor_certs: Vec::new(),
        }
    }
}
