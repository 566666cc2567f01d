//! What to do with a pledge's request.

use artifacts::Envelope;
use time::{Duration, OffsetDateTime};

use super::{Device, Exchange, PledgeRequest, Refusal, Stage};
use crate::media::{self, Acceptable, CoseName};

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
        /// The signed voucher as the pledge gets it: byte for byte as it came, but for what
        /// [`masa_answered`](super::masa_answered) takes off COSE.
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
    match &facts.verdict {
        _ if defects::seeded!("registrar-asks-nobody") => {}
        // BRSKI-5.3-02: "If validation fails, the registrar SHOULD respond with the HTTP 404 error
        // code"; what an administrator could lift is a 403 (BRSKI-5.3-04).
        Verdict::DenyDevice(why) => return Step::Refuse(Refusal::DeviceDenied(why.clone())),
        Verdict::DenyVendor(why) => return Step::Refuse(Refusal::VendorDenied(why.clone())),
        Verdict::Allow | Verdict::Ask => {}
    }
    if facts
        .known_key
        .as_ref()
        .is_some_and(|known| *known != device.key_digest())
    {
        return Step::Refuse(Refusal::CloneSuspected);
    }
    let nonce = request.content.nonce.as_ref().map(artifacts::Nonce::as_str);
    let exchange = match &facts.exchange {
        // BRSKI-5.6-32: the same bytes are the same exchange, whose outcome they ask for.
        Some(exchange) if exchange.request_digest == request.digest => {
            if exchange.stage.is_over() {
                return Step::Refuse(Refusal::RequestReplayed);
            }
            // BRSKI-5.6-05: "if it has a cached response from the MASA for the corresponding
            // registrar voucher-request, that cached response can be used".
            if let (Some(voucher), Some(envelope)) = (&exchange.voucher, exchange.voucher_envelope)
            {
                return Step::Voucher {
                    voucher: voucher.clone(),
                    envelope,
                    exchange: exchange.clone(),
                };
            }
            exchange.clone()
        }
        // A pledge takes a new nonce for each attempt, so an old nonce in new bytes is a replay
        // too, or a device whose random numbers repeat.
        Some(exchange) if exchange.nonce.as_deref() == nonce => {
            return Step::Refuse(Refusal::RequestReplayed);
        }
        _ if facts.nonce_used => return Step::Refuse(Refusal::RequestReplayed),
        _ => Exchange {
            device: device.key.clone(),
            idevid_key: device.key_digest(),
            vendor: device.vendor.clone(),
            request_digest: request.digest.clone(),
            nonce: nonce.map(str::to_owned),
            envelope: request.envelope,
            accept: request.accept.clone(),
            begun_at: now,
            registrar_request: None,
            cose_name: CoseName::Current,
            masa: None,
            voucher: None,
            voucher_envelope: None,
            preloaded: false,
            pinned: None,
            stage: Stage::Waiting,
        },
    };
    if facts.verdict == Verdict::Ask {
        // BRSKI-5.6-09: Retry-After accompanies each 202.
        return Step::Wait {
            retry_after: policy.retry_after,
            exchange,
        };
    }
    if facts.prefer_preloaded
        && let Some(step) = facts
            .preloaded
            .as_ref()
            .and_then(|preloaded| use_preloaded(&exchange, preloaded, now))
    {
        return step;
    }
    Step::AskMasa {
        exchange: Exchange {
            stage: Stage::AskedMasa,
            ..exchange
        },
    }
}

/// Hands out a voucher that was loaded before, if the pledge accepts its format and it has not
/// expired: the offline plan, or the last resort when the MASA cannot be reached.
#[must_use]
pub fn use_preloaded(
    exchange: &Exchange,
    preloaded: &Preloaded,
    now: OffsetDateTime,
) -> Option<Step> {
    let accepted = match media::acceptable(exchange.accept.as_deref(), exchange.envelope) {
        Acceptable::These(formats) => formats.contains(&preloaded.envelope),
        Acceptable::NoneOfOurs | Acceptable::NotUnderstood => false,
    };
    if !accepted
        || preloaded
            .expires_on
            .is_some_and(|expires_on| expires_on <= now)
    {
        return None;
    }
    let voucher = super::masa_call::for_pledge(&preloaded.voucher, preloaded.envelope).ok()?;
    Some(Step::Voucher {
        voucher: voucher.clone(),
        envelope: preloaded.envelope,
        exchange: Exchange {
            voucher: Some(voucher),
            voucher_envelope: Some(preloaded.envelope),
            preloaded: true,
            pinned: super::masa_call::pinned_in(&preloaded.voucher, preloaded.envelope),
            stage: Stage::VoucherSent,
            ..exchange.clone()
        },
    })
}
