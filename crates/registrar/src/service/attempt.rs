//! One attempt of one device: what it presented, and what happened, until it is written down.

use brski::registrar::Device;
use pki::{Certificate, Coded as _};
use store::Connection;
use time::OffsetDateTime;

use super::{Caller, Service};
use crate::Error;
use crate::records::{self, Entry, Outcome, Sighting, State};
use crate::vendor::Vendor;

/// One request of one device.
///
/// It is born with the connection, gathers what happened, and is written to the timeline in one
/// transaction, whatever the outcome: the unknown and the refused are seen too.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Stands in the timeline, in the logs, and in the device's answer.
    pub correlation: String,
    /// What was presented.
    pub sighting: Sighting,
    /// What happened.
    pub entries: Vec<Entry>,
    /// When it began.
    pub begun: OffsetDateTime,
}

/// A device that a vendor profile vouches for.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Its identity.
    pub device: Device,
    /// The vendor.
    pub vendor: Vendor,
    /// The product, by the vendor's rule.
    pub product: Option<String>,
}

impl Attempt {
    /// A request from a caller, before anything is known about it.
    #[must_use]
    pub fn new(caller: &Caller, now: OffsetDateTime) -> Self {
        let correlation = hex::encode(rand::random::<[u8; 8]>());
        Self {
            correlation,
            sighting: stranger(caller),
            entries: Vec::new(),
            begun: now,
        }
    }

    /// Notes a step.
    pub fn note(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Notes the step that an error ended.
    pub fn fail(&mut self, step: &'static str, error: &Error, now: OffsetDateTime) {
        let outcome = if error.is_refusal() {
            Outcome::Refused
        } else {
            Outcome::Failed
        };
        self.note(
            Entry::new(now, step, error.to_string())
                .outcome(outcome)
                .code(error.code())
                .next_action(error.next_action()),
        );
    }
}

impl Service {
    /// Finds out who presents itself. The attempt then bears that identity.
    ///
    /// # Errors
    /// No certificate, no vendor that vouches for it, or no serial number in it.
    pub fn identify(&self, attempt: &mut Attempt, caller: &Caller) -> Result<Presented, Error> {
        let now = self.now();
        let chain = caller.chain().map_err(|cause| {
            Error::Refused(brski::registrar::Refusal::IdevidInvalid(cause.clone()))
        })?;
        let vendors = self.vendors();
        let device = brski::registrar::identify(chain, &vendors.profiles, now)?;
        let vendor = vendors
            .named(&device.vendor)
            .cloned()
            .ok_or_else(|| Error::Config {
                detail: format!("the vendor {} has no profile", device.vendor),
            })?;
        let product = vendor.profile.product.apply(&device.certificate);
        attempt.sighting = sighting(&device, product.clone());
        attempt.note(
            Entry::new(
                now,
                "identity",
                format!("IDevID of {}", vendor.profile.name),
            )
            .detail(serde_json::json!({
                "subject": device.certificate.subject(),
                "issuer": device.certificate.issuer(),
                "serial": device.key.serial,
                "vendor": vendor.profile.name,
                "product": product,
                "key": device.key_digest(),
                "address": caller.address.to_string(),
                "transport": caller.transport,
                "security": caller.security,
            })),
        );
        Ok(Presented {
            device,
            vendor,
            product,
        })
    }

    /// Writes a refused or failed attempt to the timeline.
    ///
    /// A database that fails here must not take the answer from the device, so it is logged only.
    pub async fn record_failure(&self, attempt: &Attempt, error: &Error) {
        let state = if !attempt.sighting.trusted {
            State::Untrusted
        } else if error.is_refusal() {
            State::Refused
        } else {
            State::Failed
        };
        let code = error.code();
        let next_action = error.next_action();
        if matches!(error, Error::Busy) && !attempt.sighting.trusted {
            // Turned away at the door: to look who it was and to write it down would be more of the
            // work that there is too much of, and says nothing of the device.
            self.counters().step("shed", Some(code));
            tracing::debug!(correlation = attempt.correlation, code, "shed");
            return;
        }
        self.log(attempt, error);
        if !attempt.sighting.trusted && !self.stranger_turn() {
            self.counters().step("unrecorded", Some(code));
            return;
        }
        let attempt = attempt.clone();
        let written: Result<(), Error> = self
            .store()
            .transaction("record-failure", move |connection| {
                let attempt = attempt.clone();
                Box::pin(async move {
                    write(
                        connection,
                        &attempt,
                        Some((state, Some(code), Some(next_action))),
                    )
                    .await
                })
            })
            .await;
        if let Err(error) = written {
            tracing::error!(code = error.code(), %error, "an attempt could not be written down");
        }
    }

    /// Writes down a request that the transport answered by itself.
    pub(crate) async fn record_transport(
        &self,
        caller: &Caller,
        code: &'static str,
        detail: String,
    ) {
        let mut attempt = Attempt::new(caller, self.now());
        // Who it was is noted if it can be known; the transport's code is what counts.
        let _ = self.identify(&mut attempt, caller);
        let next_action = "report the code to the manufacturer of the device";
        attempt.note(
            Entry::new(self.now(), "transport", detail)
                .outcome(Outcome::Refused)
                .code(code)
                .next_action(next_action),
        );
        if !attempt.sighting.trusted && !self.stranger_turn() {
            self.counters().step("unrecorded", Some(code));
            return;
        }
        let state = if attempt.sighting.trusted {
            State::Refused
        } else {
            State::Untrusted
        };
        let kept = attempt.clone();
        let written: Result<(), Error> = self
            .store()
            .transaction("record-transport", move |connection| {
                let attempt = kept.clone();
                Box::pin(async move {
                    write(
                        connection,
                        &attempt,
                        Some((state, Some(code), Some(next_action))),
                    )
                    .await
                })
            })
            .await;
        match written {
            Ok(()) => self.count(&attempt),
            Err(error) => {
                tracing::error!(code = error.code(), %error, "a refusal could not be written down");
            }
        }
    }

    fn log(&self, attempt: &Attempt, error: &Error) {
        for entry in &attempt.entries {
            self.counters().step(entry.step, entry.code.as_deref());
        }
        tracing::warn!(
            correlation = attempt.correlation,
            device = attempt.sighting.device_id,
            serial = attempt.sighting.serial,
            vendor = attempt.sighting.vendor,
            code = error.code(),
            blame = ?error.blame(),
            %error,
            "attempt ended"
        );
    }
}

/// Writes an attempt: the device, its timeline, and its state if that changes.
///
/// # Errors
/// The database failed.
pub(crate) async fn write(
    connection: &mut Connection,
    attempt: &Attempt,
    state: Option<(State, Option<&str>, Option<&str>)>,
) -> Result<(), Error> {
    let device_id = &attempt.sighting.device_id;
    let first = if attempt.sighting.trusted {
        State::Approved
    } else {
        State::Untrusted
    };
    records::touch(connection, &attempt.sighting, first, attempt.begun).await?;
    records::append(
        connection,
        device_id,
        &attempt.correlation,
        &attempt.entries,
    )
    .await?;
    if let Some((state, code, next_action)) = state {
        // A device that is enrolled, or that a person denied, is not shown otherwise because of
        // one bad request; the timeline has it, and the code stands beside the state.
        let known = records::device(connection, device_id).await?;
        let kept = known.as_ref().and_then(|device| {
            let denied = device.decision == Some(records::Decision::Denied);
            let refused = matches!(state, State::Refused | State::Failed | State::Untrusted);
            // Nothing that a device reports lifts a denial.
            if denied {
                Some(State::Denied)
            } else {
                (refused && matches!(device.state, State::Enrolled | State::Denied))
                    .then_some(device.state)
            }
        });
        records::set_state(
            connection,
            device_id,
            kept.unwrap_or(state),
            code,
            next_action,
        )
        .await?;
    }
    Ok(())
}

/// The row of a device that a vendor vouches for.
fn sighting(device: &Device, product: Option<String>) -> Sighting {
    // Identity is issuer key and serial number: two factories may count from one.
    let issuer = device.path.get(1).unwrap_or(&device.certificate);
    let issuer_key = hex::encode(issuer.public_key().sha256());
    let device_id = digest(&[
        b"device",
        issuer_key.as_bytes(),
        device.key.serial.as_bytes(),
    ]);
    Sighting {
        device_id,
        trusted: true,
        vendor: device.vendor.clone(),
        serial: device.key.serial.clone(),
        issuer_key,
        product,
        subject: device.certificate.subject(),
        idevid: Some(device.certificate.der().to_vec()),
        key: Some(device.key_digest()),
    }
}

/// The row of somebody whom no vendor vouches for, told apart by key, or by address without one.
fn stranger(caller: &Caller) -> Sighting {
    let leaf = caller.chain().ok().and_then(<[Certificate]>::first);
    let mut sighting = Sighting {
        device_id: String::new(),
        trusted: false,
        vendor: String::new(),
        serial: String::new(),
        issuer_key: String::new(),
        product: None,
        subject: String::new(),
        idevid: None,
        key: None,
    };
    if let Some(leaf) = leaf {
        let key = hex::encode(leaf.public_key().sha256());
        sighting.device_id = digest(&[b"stranger", key.as_bytes()]);
        sighting.serial = claimed(&leaf.subject_serial_number().unwrap_or_default());
        sighting.subject = claimed(&leaf.subject());
        sighting.idevid = Some(leaf.der().to_vec());
        sighting.issuer_key.clone_from(&key);
        sighting.key = Some(key);
    } else if let Some(raw) = &caller.raw_leaf {
        sighting.device_id = digest(&[b"unreadable", raw]);
        sighting.subject = "(a certificate that cannot be read)".to_owned();
    } else {
        let address = caller.address.ip().to_string();
        sighting.device_id = digest(&[b"anonymous", address.as_bytes()]);
        sighting.subject = format!("(no certificate, from {address})");
    }
    sighting
}

/// What a stranger says about itself, short enough to be shown.
fn claimed(text: &str) -> String {
    crate::records::storable(&text.chars().take(200).collect::<String>())
}

/// A short name for a row: the first half of SHA-256 over the parts and their lengths.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let whole = context.finish();
    hex::encode(whole.as_ref().get(..16).unwrap_or_else(|| whole.as_ref()))
}
