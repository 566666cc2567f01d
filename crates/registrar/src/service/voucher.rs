//! A device asks for its voucher
//! ([RFC 8995 §5.2 to §5.6](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.2)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use brski::registrar::{
    Exchange, Facts, Inbound, PledgeRequest, Policy, Preloaded, Refusal, Step, Verdict,
};
use bytes::Bytes;
use http::StatusCode;
use pki::Coded as _;
use store::Connection;
use time::{Duration, OffsetDateTime};

use super::attempt::{Attempt, Presented, write};
use super::{Caller, Service, masa};
use crate::Error;
use crate::policy::{Action, OfflineUse, Subject};
use crate::records::{self, Decision, Entry, Outcome, State};

/// What a device gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
    /// Whether the connection is closed afterwards.
    pub close: bool,
    /// Body.
    pub body: Bytes,
    /// The code of a refusal or failure.
    pub code: Option<&'static str>,
}

impl Answer {
    /// 200 with that body.
    #[must_use]
    pub fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            retry_after: None,
            close: false,
            body: body.into(),
            code: None,
        }
    }

    /// 202: come back later.
    #[must_use]
    pub fn wait(retry_after: u32) -> Self {
        Self {
            status: StatusCode::ACCEPTED,
            content_type: "text/plain; charset=utf-8",
            // BRSKI-5.6-09: Retry-After accompanies each 202.
            retry_after: Some(retry_after),
            close: false,
            body: Bytes::from_static(b"registrar.pending: come back later with the same request\n"),
            code: Some("registrar.pending"),
        }
    }

    /// What an error says to a device. The correlation id ties it to the operator's timeline.
    #[must_use]
    pub fn error(error: &Error, correlation: &str, retry_after: u32) -> Self {
        let close = matches!(error, Error::Refused(refusal) if refusal.closes_connection());
        let mut text = error.device_text();
        text.push_str("correlation: ");
        text.push_str(correlation);
        text.push('\n');
        Self {
            status: error.status(),
            content_type: "text/plain; charset=utf-8",
            retry_after: error.is_transient().then_some(retry_after),
            close,
            body: text.into(),
            code: Some(error.code()),
        }
    }
}

/// What the policy says, with the rule that fired.
#[derive(Clone, Debug)]
struct Judged {
    verdict: Verdict,
    rule: String,
    /// A decision by a person may have changed since this was judged; it is read again.
    by_person: bool,
}

impl Service {
    /// Carries out a `requestvoucher`, writes down what happened, and says what the device gets.
    pub async fn request_voucher(&self, caller: &Caller, inbound: Inbound<'_>) -> (Answer, String) {
        let mut attempt = Attempt::new(caller, self.now());
        let answer = match self.try_voucher(&mut attempt, caller, inbound).await {
            Ok(answer) => answer,
            Err(error) => {
                self.refused("voucher-request", attempt.clone(), error)
                    .await
            }
        };
        (answer, attempt.correlation)
    }

    /// Writes down an attempt that an error ended, and says what the device gets.
    pub(crate) async fn refused(
        &self,
        step: &'static str,
        mut attempt: Attempt,
        error: Error,
    ) -> Answer {
        // A step that failed has noted its own error already.
        if attempt
            .entries
            .last()
            .and_then(|entry| entry.code.as_deref())
            != Some(error.code())
        {
            attempt.fail(step, &error, self.now());
        }
        self.record_failure(&attempt, &error).await;
        Answer::error(
            &error,
            &attempt.correlation,
            self.config().masa.retry_after_seconds,
        )
    }

    async fn try_voucher(
        &self,
        attempt: &mut Attempt,
        caller: &Caller,
        inbound: Inbound<'_>,
    ) -> Result<Answer, Error> {
        let now = self.now();
        if defects::seeded!("registrar-answers-200-to-nothing") && inbound.body.is_empty() {
            return Ok(Answer::ok("text/plain; charset=utf-8", "\n"));
        }
        let presented = self.identify(attempt, caller)?;
        let own: Vec<_> = caller.own_certificate.iter().cloned().collect();
        let request = brski::registrar::open_request(
            inbound,
            &presented.device,
            &own,
            &presented.vendor.rules,
            self.config().policy.request_age_max(),
            now,
        )?;
        attempt.note(
            Entry::new(
                self.now(),
                "voucher-request",
                "the device asked for its voucher",
            )
            .detail(request_detail(&request)),
        );

        // The same request that is sent twice is worked on once.
        let lock = self.exchange_lock(&request.digest);
        let _working = lock.lock().await;

        let judged = self.judge(attempt, &presented).await?;
        let step = self.decide(attempt, &presented, &request, judged).await?;
        match step {
            Step::Wait { retry_after, .. } => Ok(Answer::wait(
                u32::try_from(retry_after.whole_seconds()).unwrap_or(60),
            )),
            Step::Voucher {
                voucher, envelope, ..
            } => Ok(Answer::ok(request.media_type_of(envelope), voucher)),
            Step::AskMasa { exchange } => {
                self.ask_masa(attempt, &presented, &request, exchange, &own)
                    .await
            }
            Step::Refuse(refusal) => Err(refusal.into()),
        }
    }

    /// Asks the operator's list, the rules and the webhook.
    async fn judge(&self, attempt: &mut Attempt, presented: &Presented) -> Result<Judged, Error> {
        let serial = &presented.device.key.serial;
        let vendor = &presented.vendor.profile.name;
        let mut snapshot = self.store().lookup().await?;
        let device = records::device(&mut snapshot, &attempt.sighting.device_id).await?;
        if let Some(judged) = device.as_ref().and_then(by_person) {
            return Ok(judged);
        }
        let listed = records::admission(&mut snapshot, vendor, serial).await?;
        drop(snapshot);
        let (action, rule) = match listed {
            Some(line) => (line.action, "list of devices".to_owned()),
            None => {
                let verdict = self.config().policy.decide(Subject {
                    manufacturer: vendor,
                    product: presented.product.as_deref(),
                    serial,
                });
                (verdict.action, verdict.rule)
            }
        };
        let (action, rule) = match action {
            Action::Webhook => self.ask_webhook(attempt, presented).await?,
            other => (other, rule),
        };
        let verdict = match action {
            Action::Allow => Verdict::Allow,
            Action::Ask | Action::Webhook => Verdict::Ask,
            Action::Deny if rule == "default" => {
                Verdict::DenyVendor("no rule admits it".to_owned())
            }
            Action::Deny => Verdict::DenyDevice(rule.clone()),
        };
        Ok(Judged {
            verdict,
            rule,
            by_person: false,
        })
    }

    /// Decides in one transaction, and writes down the decision with everything before it.
    async fn decide(
        &self,
        attempt: &mut Attempt,
        presented: &Presented,
        request: &PledgeRequest,
        judged: Judged,
    ) -> Result<Step, Error> {
        let now = self.now();
        let pending_max = self.config().policy.pending_max_hours;
        let policy = Policy {
            retry_after: Duration::seconds(i64::from(self.config().policy.retry_after_seconds)),
        };
        let offline = self.config().policy.offline;
        let (before, presented, request) = (attempt.clone(), presented.clone(), request.clone());
        let (step, after) = self
            .store()
            .transaction("voucher-request", move |connection| {
                let mut attempt = before.clone();
                let (presented, request) = (presented.clone(), request.clone());
                let (judged, policy) = (judged.clone(), policy.clone());
                Box::pin(async move {
                    let begun = attempt.begun;
                    records::touch(connection, &attempt.sighting, State::Approved, begun).await?;
                    note_again(connection, &mut attempt, &request, now).await?;
                    let (facts, rule) = facts(
                        connection, &attempt, &presented, &request, judged, offline, now,
                    )
                    .await?;
                    let step =
                        brski::registrar::decide(&presented.device, &request, &facts, &policy, now);
                    expire(&step, pending_max, now)?;
                    note_decision(&mut attempt, &step, &facts, &rule, now);
                    save_decision(connection, &attempt, &step, now).await?;
                    Ok::<_, Error>((step, attempt))
                })
            })
            .await?;
        if !matches!(step, Step::Refuse(_)) {
            self.count(&after);
            // What is written is not written again by what follows.
            attempt.entries.clear();
        } else {
            *attempt = after;
        }
        if let Step::AskMasa { .. } = &step
            && offline == OfflineUse::Only
        {
            return Err(Error::OfflineVoucherMissing {
                serial: attempt.sighting.serial.clone(),
            });
        }
        Ok(step)
    }

    async fn ask_masa(
        &self,
        attempt: &mut Attempt,
        presented: &Presented,
        request: &PledgeRequest,
        mut exchange: Exchange,
        own: &[pki::Certificate],
    ) -> Result<Answer, Error> {
        let keys = self.keys();
        let vendor = &presented.vendor;
        let call = brski::registrar::masa_call(
            &mut exchange,
            &presented.device,
            request,
            keys.seen(own)?,
            self.chain_to_send(),
            &vendor.rules,
            self.now(),
        )?;
        let began = self.now();
        let outcome = self.call_masa(vendor, &call).await;
        let own_chain = own_chain(&keys, own);
        let received = outcome.as_ref().ok().map(masa::Answered::body);
        let (step, detail) = match outcome {
            Ok(answer) => {
                let step = brski::registrar::masa_answered(
                    &exchange,
                    &answer.as_protocol(),
                    &own_chain,
                    &vendor.rules,
                    self.now(),
                );
                (step, answer.detail(&call))
            }
            Err(Error::Refused(refusal)) => (Step::Refuse(refusal), masa::call_detail(&call)),
            Err(error) => {
                attempt.fail("masa-request", &error, self.now());
                self.keep_exchange(attempt, &exchange).await?;
                return Err(error);
            }
        };
        let kept = exchange.clone();
        let took = (self.now() - began).whole_milliseconds();
        let mut entry = Entry::new(self.now(), "masa-request", format!("MASA {}", call.url))
            .detail(serde_json::json!({ "call": detail, "milliseconds": took.to_string() }));
        match step {
            Step::Voucher {
                voucher,
                envelope,
                exchange,
            } => {
                // The certificates that the MASA sends along with COSE are for this very check.
                let received = received.as_deref().unwrap_or(&voucher);
                let signer = masa::voucher_signer(received, envelope, vendor, self.now());
                match signer {
                    Ok(checked) => {
                        attempt.note(entry);
                        let note = checked.entry(received, voucher.len(), envelope, self.now());
                        attempt.note(note);
                    }
                    Err(error) => {
                        attempt.note(entry);
                        attempt.fail("voucher", &error, self.now());
                        self.keep_exchange(attempt, &kept).await?;
                        return Err(error);
                    }
                }
                let voucher = self.save_voucher(attempt, exchange, false).await?;
                let mut media_type = request.media_type_of(envelope);
                if defects::seeded!("registrar-answers-as-json") {
                    media_type = "application/json";
                }
                Ok(Answer::ok(media_type, voucher))
            }
            Step::Refuse(refusal) => {
                let error = Error::from(refusal);
                if matches!(error, Error::Refused(Refusal::MasaUnreachable(_)))
                    && let Some(answer) = self
                        .fall_back(attempt, presented, request, &exchange, &error)
                        .await?
                {
                    return Ok(answer);
                }
                entry = entry
                    .outcome(if error.is_refusal() {
                        Outcome::Refused
                    } else {
                        Outcome::Failed
                    })
                    .code(error.code())
                    .next_action(error.next_action());
                entry.summary = error.to_string();
                attempt.note(entry);
                self.keep_exchange(attempt, &exchange).await?;
                Err(error)
            }
            // masa_answered yields a voucher or a refusal; anything else means: come back.
            Step::Wait { .. } | Step::AskMasa { .. } => {
                Ok(Answer::wait(self.config().masa.retry_after_seconds))
            }
        }
    }

    /// The exchange stays as it is, so that the device may send the same request again.
    async fn keep_exchange(&self, attempt: &Attempt, exchange: &Exchange) -> Result<(), Error> {
        let device_id = attempt.sighting.device_id.clone();
        let (exchange, now) = (exchange.clone(), self.now());
        self.store()
            .transaction("exchange", move |connection| {
                let (device_id, exchange) = (device_id.clone(), exchange.clone());
                Box::pin(async move {
                    records::put_exchange(connection, &device_id, &exchange, now).await?;
                    Ok(())
                })
            })
            .await
    }

    /// The MASA cannot be reached: is there a voucher that was loaded beforehand?
    async fn fall_back(
        &self,
        attempt: &mut Attempt,
        presented: &Presented,
        request: &PledgeRequest,
        exchange: &Exchange,
        error: &Error,
    ) -> Result<Option<Answer>, Error> {
        if self.config().policy.offline == OfflineUse::Never {
            return Ok(None);
        }
        let now = self.now();
        let mut snapshot = self.store().lookup().await?;
        let vouchers = records::offline_voucher(
            &mut snapshot,
            &presented.vendor.profile.name,
            &presented.device.key.serial,
            now,
        )
        .await?;
        drop(snapshot);
        for candidate in vouchers.iter().filter_map(preloaded) {
            let step = brski::registrar::use_preloaded(exchange, &candidate, now);
            if let Some(Step::Voucher {
                envelope, exchange, ..
            }) = step
            {
                attempt.note(
                    Entry::new(now, "masa-request", error.to_string())
                        .outcome(Outcome::Notice)
                        .code(error.code()),
                );
                attempt.note(
                    Entry::new(
                        now,
                        "voucher",
                        "a voucher that was loaded beforehand is used",
                    )
                    .detail(masa::voucher_detail(&candidate.voucher, envelope)),
                );
                let voucher = self.save_voucher(attempt, exchange, true).await?;
                return Ok(Some(Answer::ok(request.media_type_of(envelope), voucher)));
            }
        }
        Ok(None)
    }

    /// Writes a voucher down with its audit entry; from then on the same request gets it again.
    async fn save_voucher(
        &self,
        attempt: &mut Attempt,
        exchange: Exchange,
        offline: bool,
    ) -> Result<Vec<u8>, Error> {
        let now = self.now();
        let before = attempt.clone();
        let voucher = self
            .store()
            .transaction("voucher", move |connection| {
                let (attempt, mut exchange) = (before.clone(), exchange.clone());
                Box::pin(async move {
                    let id = &attempt.sighting.device_id;
                    // Another replica may have been faster; then its voucher stands.
                    if let Some(other) =
                        records::exchange(connection, &exchange.request_digest).await?
                        && other.exchange.voucher.is_some()
                    {
                        exchange = other.exchange;
                    } else {
                        audit_voucher(connection, &attempt, &exchange, offline, now).await?;
                        records::put_exchange(connection, id, &exchange, now).await?;
                        records::set_history(connection, id, records::History::Unknown).await?;
                    }
                    write(connection, &attempt, Some((State::Vouchered, None, None))).await?;
                    Ok::<_, Error>(exchange.voucher.unwrap_or_default())
                })
            })
            .await?;
        self.count(attempt);
        attempt.entries.clear();
        Ok(voucher)
    }

    /// Counts the steps of an attempt that is written down.
    pub(crate) fn count(&self, attempt: &Attempt) {
        for entry in &attempt.entries {
            self.counters().step(entry.step, entry.code.as_deref());
            tracing::info!(
                correlation = attempt.correlation,
                device = attempt.sighting.device_id,
                serial = attempt.sighting.serial,
                vendor = attempt.sighting.vendor,
                step = entry.step,
                code = entry.code,
                "{}",
                entry.summary
            );
        }
    }
}

/// A person's decision stands above every rule.
fn by_person(device: &records::Device) -> Option<Judged> {
    let by = device.decided_by.as_deref().unwrap_or("an operator");
    device.decision.map(|decision| match decision {
        Decision::Approved => Judged {
            verdict: Verdict::Allow,
            rule: format!("approved by {by}"),
            by_person: true,
        },
        Decision::Denied => Judged {
            verdict: Verdict::DenyDevice(format!("denied by {by}")),
            rule: format!("denied by {by}"),
            by_person: true,
        },
    })
}

/// What the database says, read in the transaction that decides.
async fn facts(
    connection: &mut Connection,
    attempt: &Attempt,
    presented: &Presented,
    request: &PledgeRequest,
    judged: Judged,
    offline: OfflineUse,
    now: OffsetDateTime,
) -> Result<(Facts, String), Error> {
    let id = &attempt.sighting.device_id;
    let device = records::device(connection, id).await?;
    // The webhook took its time: a person who decided meanwhile goes first.
    let judged = match device.as_ref().and_then(by_person) {
        Some(newer) if !judged.by_person => newer,
        _ => judged,
    };
    let nonce = request
        .content
        .nonce
        .as_ref()
        .map(|nonce| nonce.as_str().to_owned());
    let same = records::exchange(connection, &request.digest)
        .await?
        // Nobody else can have signed these bytes, but a row of another device decides nothing.
        .filter(|row| row.device_id == *id);
    let nonce_used = match (&same, &nonce) {
        (None, Some(nonce)) => records::exchange_by_nonce(connection, id, nonce)
            .await?
            .is_some(),
        _ => false,
    };
    let exchange = match same {
        Some(row) => Some(row.exchange),
        None => records::latest_exchange(connection, id)
            .await?
            .map(|row| row.exchange),
    };
    let preloaded = if offline == OfflineUse::Never {
        None
    } else {
        records::offline_voucher(
            connection,
            &presented.vendor.profile.name,
            &presented.device.key.serial,
            now,
        )
        .await?
        .iter()
        .find_map(preloaded)
    };
    let facts = Facts {
        verdict: judged.verdict,
        exchange,
        nonce_used,
        known_key: device.and_then(|device| device.bound_key),
        preloaded,
        prefer_preloaded: matches!(offline, OfflineUse::Prefer | OfflineUse::Only),
    };
    Ok((facts, judged.rule))
}

fn preloaded(row: &records::OfflineVoucher) -> Option<Preloaded> {
    Some(Preloaded {
        voucher: row.voucher.clone(),
        envelope: brski::media::envelope_of(&row.media_type)?,
        expires_on: row.expires,
    })
}

/// A device that is enrolled and starts anew was reset, sold, or is in wrong hands.
async fn note_again(
    connection: &mut Connection,
    attempt: &mut Attempt,
    request: &PledgeRequest,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let id = &attempt.sighting.device_id;
    let enrolled = records::device(connection, id)
        .await?
        .is_some_and(|device| device.state == State::Enrolled);
    if enrolled
        && records::exchange(connection, &request.digest)
            .await?
            .is_none()
    {
        // BRSKI-11.4-01: unexpected bootstrapping attempts by known devices raise monitoring
        // events; the new voucher makes the audit log be looked at again.
        attempt.note(
            Entry::new(
                now,
                "bootstrap-again",
                "a device that is enrolled starts anew",
            )
            .outcome(Outcome::Notice)
            .code("registrar.bootstrap-again")
            .next_action("find out why, if nobody reset it"),
        );
    }
    Ok(())
}

/// A request that waited too long for a human is refused.
fn expire(step: &Step, hours: u32, now: OffsetDateTime) -> Result<(), Error> {
    match step {
        Step::Wait { exchange, .. }
            if now - exchange.begun_at > Duration::hours(i64::from(hours)) =>
        {
            Err(Error::PendingExpired { hours })
        }
        _ => Ok(()),
    }
}

fn note_decision(
    attempt: &mut Attempt,
    step: &Step,
    facts: &Facts,
    rule: &str,
    now: OffsetDateTime,
) {
    let detail = serde_json::json!({ "rule": rule, "verdict": format!("{:?}", facts.verdict) });
    match step {
        Step::Wait { retry_after, .. } => attempt.note(
            Entry::new(now, "policy", "the device waits for a decision")
                .outcome(Outcome::Pending)
                .code("registrar.pending")
                .next_action("decide with `usher registrar device approve` or `device deny`")
                .detail(serde_json::json!({
                    "rule": rule, "retry_after_seconds": retry_after.whole_seconds(),
                })),
        ),
        Step::AskMasa { .. } => attempt.note(
            Entry::new(now, "policy", format!("the device may join ({rule})")).detail(detail),
        ),
        Step::Voucher {
            exchange,
            voucher,
            envelope,
        } => {
            let summary = if exchange.preloaded {
                "a voucher that was loaded beforehand is used"
            } else {
                "the same request again: it gets the same voucher"
            };
            attempt.note(
                Entry::new(now, "policy", format!("the device may join ({rule})")).detail(detail),
            );
            attempt.note(
                Entry::new(now, "voucher", summary)
                    .detail(masa::voucher_detail(voucher, *envelope)),
            );
        }
        Step::Refuse(refusal) => {
            let error = Error::from(refusal.clone());
            attempt.fail("policy", &error, now);
            if let Some(entry) = attempt.entries.last_mut() {
                entry.detail = detail;
            }
        }
    }
}

async fn save_decision(
    connection: &mut Connection,
    attempt: &Attempt,
    step: &Step,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let id = &attempt.sighting.device_id;
    let pending = "decide with `usher registrar device approve` or `device deny`";
    let (state, exchange) = match step {
        Step::Wait { exchange, .. } => (
            (State::Pending, Some("registrar.pending"), Some(pending)),
            exchange,
        ),
        Step::AskMasa { exchange } => ((State::Approved, None, None), exchange),
        Step::Voucher { exchange, .. } => ((State::Vouchered, None, None), exchange),
        // The refusal is written by whoever answers with it.
        Step::Refuse(_) => return Ok(()),
    };
    if let Some(key) = &attempt.sighting.key {
        // From the first time that it was not refused, this serial number belongs to this key: a
        // person who approves it later means the device that waited, and nobody that came since.
        records::bind_key(connection, id, key).await?;
    }
    if let Step::Voucher { exchange, .. } = step
        && exchange.preloaded
    {
        let known = records::exchange(connection, &exchange.request_digest).await?;
        if known.is_none_or(|row| row.exchange.voucher.is_none()) {
            audit_voucher(connection, attempt, exchange, true, now).await?;
            records::set_history(connection, id, records::History::Unknown).await?;
        }
    }
    records::put_exchange(connection, id, exchange, now).await?;
    write(connection, attempt, Some(state)).await
}

async fn audit_voucher(
    connection: &mut Connection,
    attempt: &Attempt,
    exchange: &Exchange,
    offline: bool,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let voucher = exchange.voucher.as_deref().unwrap_or_default();
    let entry = store::audit::Entry {
        at: now,
        kind: if offline {
            "voucher-used"
        } else {
            "voucher-obtained"
        }
        .to_owned(),
        actor: exchange
            .masa
            .clone()
            .unwrap_or_else(|| "loaded beforehand".to_owned()),
        subject: format!("{}/{}", attempt.sighting.vendor, attempt.sighting.serial),
        data: serde_json::json!({
            "device": attempt.sighting.device_id,
            "key": attempt.sighting.key,
            "voucher_sha256": hex::encode(
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, voucher)),
            "nonce": exchange.nonce,
            "correlation": attempt.correlation,
        }),
    };
    store::audit::append(connection, &entry).await?;
    Ok(())
}

/// The chain of the identity that the device saw.
fn own_chain(keys: &super::Keys, own: &[pki::Certificate]) -> Vec<pki::Certificate> {
    own.first()
        .and_then(|seen| {
            keys.identities
                .iter()
                .find(|identity| identity.chain.first() == Some(seen))
        })
        .map_or_else(|| own.to_vec(), |identity| identity.chain.clone())
}

/// The device's request, decoded for the timeline.
fn request_detail(request: &PledgeRequest) -> serde_json::Value {
    // The leaves are shown by name, also where they came by number.
    let content: serde_json::Value =
        serde_json::from_slice(&request.content.to_json()).unwrap_or_default();
    serde_json::json!({
        "format": request.envelope.name(),
        "sha256": request.digest,
        "accept": request.accept,
        // Each tolerance of the profile that this device needed.
        "oddities": request.oddities.iter()
            .map(|oddity| format!("{}: {}", oddity.name, oddity.detail)).collect::<Vec<_>>(),
        "content": content,
        "bytes": BASE64.encode(&request.bytes),
    })
}
