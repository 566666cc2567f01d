//! What to do with a pledge's request.

use artifacts::Envelope;
use time::{Duration, OffsetDateTime};

use super::{Device, Exchange, PledgeRequest, Refusal};

/// What policy (an allow list, a human, a webhook) says about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may join.
    Allow,
    /// Nobody decided yet; a human is asked.
    Ask,
    /// It may not join.
    DenyDevice(String),
    /// Its vendor or product is not admitted; an administrator could change that.
    DenyVendor(String),
}

/// Numbers of the registrar's policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What `Retry-After` says while a human decides.
    pub retry_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retry_after: Duration::seconds(30),
        }
    }
}

/// What the service knows when it decides.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What policy says.
    pub verdict: Verdict,
    /// The latest exchange with this device, if there is one.
    pub exchange: Option<Exchange>,
    /// Whether the nonce of this request belongs to an older exchange with this device.
    pub nonce_used: bool,
    /// The key that this device had when it was seen first, in hexadecimal.
    pub known_key: Option<String>,
    /// A nonceless voucher that was loaded before, for this device.
    pub preloaded: Option<Preloaded>,
    /// Whether a preloaded voucher is used even if the MASA may be reachable.
    pub prefer_preloaded: bool,
}

/// A nonceless voucher that was loaded before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preloaded {
    /// The signed voucher.
    pub voucher: Vec<u8>,
    /// Its format.
    pub envelope: Envelope,
    /// Its `expires-on`.
    pub expires_on: Option<OffsetDateTime>,
}

/// What the service has to do next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Answer 202 with this `Retry-After`, and keep the exchange.
    Wait {
        /// The time to come back after.
        retry_after: Duration,
        /// What to keep.
        exchange: Exchange,
    },
    /// Keep the exchange, build the registrar's request and ask the MASA.
    AskMasa {
        /// What to keep.
        exchange: Exchange,
    },
    /// Keep the exchange and answer 200 with the voucher.
    Voucher {
        /// The signed voucher, byte for byte as it came.
        voucher: Vec<u8>,
        /// Its format, for `Content-Type`.
        envelope: Envelope,
        /// What to keep.
        exchange: Exchange,
    },
    /// Answer with the refusal's status and text.
    Refuse(Refusal),
}

/// Decides about a pledge's request.
#[must_use]
pub fn decide(
    device: &Device,
    request: &PledgeRequest,
    facts: &Facts,
    policy: &Policy,
    now: OffsetDateTime,
) -> Step {
    let _ = (device, request, facts, policy, now);
    todo!()
}
