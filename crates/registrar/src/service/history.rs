//! The history of a device at its MASA, and whether it may enrol
//! ([RFC 8995 §5.8](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use brski::registrar::{AuditFinding, AuditPolicy, AuditVerdict, Exchange, MasaAnswer, Refusal};
use pki::Coded as _;
use store::Connection;

use super::attempt::{Attempt, Presented, write};
use super::{Caller, Service};
use crate::Error;
use crate::ca::records as certificates;
use crate::config::{AuditMode, AuditUnavailable};
use crate::policy::{Action, Subject};
use crate::records::{self, Entry, History, Outcome, Sighting, State};
use crate::vendor::Vendor;

impl Service {
    /// Fetches the history in the background: the device does not wait for it here, only when it
    /// wants to enrol.
    pub(super) fn fetch_history_later(&self, sighting: Sighting, correlation: String) {
        if self.config().audit.mode == AuditMode::Off {
            return;
        }
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(error) = service.history(&sighting, &correlation).await {
                tracing::warn!(
                    correlation,
                    serial = sighting.serial,
                    code = error.code(),
                    %error,
                    "the history of the device is not settled"
                );
            }
        });
    }

    /// Asks for the history of a device once more, whatever is known about it.
    ///
    /// BRSKI-5.8-09: "A registrar MAY request logs at future times."
    ///
    /// # Errors
    /// It breaks the policy, or cannot be had.
    pub async fn refresh_history(&self, device: &records::Device) -> Result<History, Error> {
        let id = device.device_id.clone();
        self.store()
            .transaction("history", move |connection| {
                let id = id.clone();
                Box::pin(async move {
                    records::set_history(connection, &id, History::Unknown).await?;
                    Ok::<_, Error>(())
                })
            })
            .await?;
        let correlation = hex::encode(rand::random::<[u8; 8]>());
        self.history(&device.sighting(), &correlation).await
    }

    /// Whether a device may use EST now: it has a valid voucher of ours, and its history is fine.
    ///
    /// If the history was not looked at yet, it is now: BRSKI-5.8-02, BRSKI-11-01.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn may_enrol(
        &self,
        attempt: &mut Attempt,
        caller: &Caller,
    ) -> Result<Presented, Error> {
        let presented = self.identify(attempt, caller)?;
        if defects::seeded!("registrar-enrols-without-voucher") {
            return Ok(presented);
        }
        let id = attempt.sighting.device_id.clone();
        let mut snapshot = self.store().lookup().await?;
        let device = records::device(&mut snapshot, &id).await?;
        let row = records::latest_exchange(&mut snapshot, &id).await?;
        let (Some(device), Some(row)) = (device, row) else {
            return Err(Refusal::NotBootstrapped.into());
        };
        let denied = self.denied(&mut snapshot, &device).await?;
        // A revocation ends what the voucher exchange before it allowed.
        let begun = row.exchange.begun_at;
        let revoked = certificates::revoked_since(&mut snapshot, &id, begun).await?;
        drop(snapshot);
        if let Some(why) = denied {
            return Err(Refusal::DeviceDenied(why).into());
        }
        if revoked {
            return Err(Refusal::NotBootstrapped.into());
        }
        // The voucher was given to this key: another one with the same serial number is a clone.
        let is_clone = row.exchange.idevid_key != presented.device.key_digest()
            || device
                .bound_key
                .as_ref()
                .is_some_and(|key| *key != presented.device.key_digest());
        if is_clone && !defects::seeded!("registrar-enrols-clones") {
            return Err(Refusal::CloneSuspected.into());
        }
        let policy = self.audit_policy(device.ignore_history, Some(&presented.vendor))?;
        // A device without a voucher is refused without asking anybody.
        brski::registrar::may_enrol(Some(&row.exchange), Some(&clean()), &policy)?;
        let history = match device.history {
            History::Accepted => History::Accepted,
            _ if policy.ignore => History::Accepted,
            _ => {
                self.history(&attempt.sighting, &attempt.correlation)
                    .await?
            }
        };
        if history == History::Accepted {
            return Ok(presented);
        }
        Err(Refusal::AuditUnavailable(brski::Cause::new(
            "registrar.audit-unavailable",
            "the history of the device is not known",
        ))
        .into())
    }

    /// Why a device that has its voucher may not have a certificate, if a person, the list or a rule
    /// says no by now. Nobody is asked anew: a default or a webhook decides about vouchers only.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn denied(
        &self,
        connection: &mut Connection,
        device: &records::Device,
    ) -> Result<Option<String>, Error> {
        match device.decision {
            Some(records::Decision::Denied) => {
                let by = device.decided_by.as_deref().unwrap_or_default();
                return Ok(Some(format!("denied by {by}")));
            }
            Some(records::Decision::Approved) => return Ok(None),
            None => {}
        }
        let (vendor, serial) = (&device.vendor, &device.serial);
        if let Some(line) = records::admission(connection, vendor, serial).await? {
            let denied = line.action == Action::Deny;
            return Ok(denied.then(|| "list of devices".to_owned()));
        }
        let policy = &self.config().policy;
        Ok(policy.denied_by_rule(Subject {
            manufacturer: vendor,
            product: device.product.as_deref(),
            serial,
        }))
    }

    /// Fetches and judges the history of a device, and writes down the outcome.
    async fn history(&self, sighting: &Sighting, correlation: &str) -> Result<History, Error> {
        let lock = self.exchange_lock(&format!("history {}", sighting.device_id));
        let _working = lock.lock().await;
        let mut snapshot = self.store().lookup().await?;
        let device = records::device(&mut snapshot, &sighting.device_id).await?;
        let row = records::latest_exchange(&mut snapshot, &sighting.device_id).await?;
        drop(snapshot);
        let (Some(device), Some(row)) = (device, row) else {
            return Err(Refusal::NotBootstrapped.into());
        };
        if device.history == History::Accepted {
            return Ok(History::Accepted);
        }
        let vendors = self.vendors();
        let vendor = vendors
            .named(&sighting.vendor)
            .ok_or_else(|| Error::Config {
                detail: format!("the vendor {} has no profile", sighting.vendor),
            })?;
        let policy = self.audit_policy(device.ignore_history, Some(vendor))?;
        let outcome = if row.exchange.preloaded {
            // There was no request that a MASA could be shown.
            Err(Error::Refused(Refusal::AuditUnavailable(
                brski::Cause::new(
                    "registrar.audit-offline",
                    "the voucher was loaded beforehand, so no MASA was asked",
                ),
            )))
        } else {
            self.ask_history(vendor, &row.exchange, &policy).await
        };
        self.settle(sighting, correlation, row.exchange.preloaded, outcome)
            .await
    }

    async fn ask_history(
        &self,
        vendor: &Vendor,
        exchange: &Exchange,
        policy: &AuditPolicy,
    ) -> Result<(AuditVerdict, serde_json::Value), Error> {
        let call = brski::registrar::audit_call(exchange)?;
        let answered = self.call_masa(vendor, &call).await;
        let answer = match &answered {
            Ok(answered) => answered.as_protocol(),
            Err(Error::Refused(Refusal::MasaUnreachable(why))) => MasaAnswer::Unreachable(why),
            Err(error) => {
                return Err(Refusal::AuditUnavailable(brski::Cause::of(error)).into());
            }
        };
        let log = match &answer {
            MasaAnswer::Http { body, .. } => serde_json::from_slice(body).unwrap_or_default(),
            MasaAnswer::Unreachable(_) => serde_json::Value::Null,
        };
        let verdict = brski::registrar::audit_answered(exchange, &answer, policy)?;
        Ok((verdict, log))
    }

    async fn settle(
        &self,
        sighting: &Sighting,
        correlation: &str,
        offline: bool,
        outcome: Result<(AuditVerdict, serde_json::Value), Error>,
    ) -> Result<History, Error> {
        let now = self.now();
        let settings = &self.config().audit;
        let report_only = settings.mode != AuditMode::Enforce;
        let mut refusal = None;
        let (history, entry) = match outcome {
            Ok((verdict, log)) => {
                let detail = serde_json::json!({
                    "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
                    "log": log,
                });
                match verdict.violation {
                    None => (
                        History::Accepted,
                        Entry::new(now, "audit-log", "the history of the device is in order")
                            .detail(detail),
                    ),
                    Some(why) => {
                        let error = Error::Refused(Refusal::AuditViolation(why));
                        let entry = Entry::new(now, "audit-log", error.to_string())
                            .code(error.code())
                            .next_action(error.next_action())
                            .detail(detail);
                        if report_only {
                            (History::Accepted, entry.outcome(Outcome::Notice))
                        } else {
                            // BRSKI-5.8.3-02: the registrar MUST then refuse any EST actions and
                            // SHOULD inform a human via a log.
                            tracing::error!(
                                correlation, serial = sighting.serial, code = error.code(), %error,
                                "ALARM: the history of a device breaks the policy"
                            );
                            let entry = entry.outcome(Outcome::Refused);
                            refusal = Some(error);
                            (History::Violated, entry)
                        }
                    }
                }
            }
            Err(error) => {
                let accept = report_only
                    || settings.if_unavailable == AuditUnavailable::Accept
                    // The offline plan has no history by design; the operator chose it.
                    || offline;
                let entry = Entry::new(now, "audit-log", error.to_string())
                    .code(error.code())
                    .next_action(error.next_action());
                if accept {
                    (History::Accepted, entry.outcome(Outcome::Notice))
                } else {
                    refusal = Some(error);
                    (History::Unavailable, entry.outcome(Outcome::Failed))
                }
            }
        };
        let state = refusal.as_ref().map(|error: &Error| {
            let state = if history == History::Violated {
                State::Refused
            } else {
                State::Failed
            };
            (state, error.code(), error.next_action())
        });
        let attempt = Attempt {
            correlation: correlation.to_owned(),
            sighting: sighting.clone(),
            entries: vec![entry],
            begun: now,
        };
        let kept = attempt.clone();
        self.store()
            .transaction("history", move |connection| {
                let attempt = kept.clone();
                Box::pin(async move {
                    let id = &attempt.sighting.device_id;
                    records::set_history(connection, id, history).await?;
                    let state = state.map(|(state, code, next)| (state, Some(code), Some(next)));
                    write(connection, &attempt, state).await
                })
            })
            .await?;
        self.count(&attempt);
        match refusal {
            Some(error) => Err(error),
            None => Ok(history),
        }
    }

    /// The policy of the configuration, in the protocol's words.
    fn audit_policy(
        &self,
        ignore_history: bool,
        vendor: Option<&Vendor>,
    ) -> Result<AuditPolicy, Error> {
        let settings = &self.config().audit;
        let mut known_domains = Vec::new();
        for text in &settings.known_domain_ids {
            known_domains.push(BASE64.decode(text).map_err(|error| Error::Config {
                detail: format!("[audit] known_domain_ids: {text}: {error}"),
            })?);
        }
        Ok(AuditPolicy {
            ignore: ignore_history || settings.mode == AuditMode::Off,
            required: settings.mode == AuditMode::Enforce
                && settings.if_unavailable == AuditUnavailable::Refuse,
            known_domains,
            unknown_domains: settings.allow_foreign_domains,
            nonceless: settings.allow_nonceless,
            arbitrary_truncation: settings.allow_arbitrary_truncation,
            since: self.config().audit_ignore_before()?,
            tolerances: vendor
                .map(|vendor| vendor.rules.tolerances.clone())
                .unwrap_or_default(),
        })
    }
}

/// A history without anything in it.
const fn clean() -> AuditVerdict {
    AuditVerdict {
        findings: Vec::new(),
        violation: None,
    }
}

fn finding(finding: &AuditFinding) -> serde_json::Value {
    match finding {
        AuditFinding::OwnEventMissing => serde_json::json!({ "finding": "own-event-missing" }),
        AuditFinding::UnknownDomain { domain, date } => {
            serde_json::json!({ "finding": "unknown-domain", "domain": domain, "date": date })
        }
        AuditFinding::Nonceless { domain, date } => {
            serde_json::json!({ "finding": "nonceless", "domain": domain, "date": date })
        }
        AuditFinding::Truncated { arbitrary } => {
            serde_json::json!({ "finding": "truncated", "arbitrary": arbitrary })
        }
        AuditFinding::NewerVersion { version } => {
            serde_json::json!({ "finding": "newer-version", "version": version })
        }
        AuditFinding::NoLog => serde_json::json!({ "finding": "no-log" }),
    }
}
