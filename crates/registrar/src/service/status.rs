//! What devices report: voucher status and enrolment status
//! ([RFC 8995 §5.7](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.7),
//! [§5.9.4](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.9.4)).

use brski::registrar::{Refusal, ReportBody, Reported, Stage};
use pki::Certificate;

use super::attempt::{Attempt, write};
use super::{Answer, Caller, Service};
use crate::Error;
use crate::records::{self, Entry, ExchangeRow, Outcome, State};

/// Which report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Voucher,
    Enrolment,
}

impl Kind {
    const fn step(self) -> &'static str {
        match self {
            Self::Voucher => "voucher-status",
            Self::Enrolment => "enrol-status",
        }
    }
}

impl Service {
    /// Carries out a `voucher_status`.
    pub async fn voucher_status(&self, caller: &Caller, body: ReportBody<'_>) -> (Answer, String) {
        self.status(caller, body, Kind::Voucher).await
    }

    /// Carries out an `enrollstatus`.
    pub async fn enrol_status(&self, caller: &Caller, body: ReportBody<'_>) -> (Answer, String) {
        self.status(caller, body, Kind::Enrolment).await
    }

    async fn status(&self, caller: &Caller, body: ReportBody<'_>, kind: Kind) -> (Answer, String) {
        let mut attempt = Attempt::new(caller, self.now());
        let answer = match self.try_status(&mut attempt, caller, body, kind).await {
            Ok(answer) => answer,
            Err(_) if defects::seeded!("registrar-takes-malformed-reports") => {
                Answer::ok("text/plain; charset=utf-8", "recorded\n")
            }
            Err(error) => self.refused(kind.step(), attempt.clone(), error).await,
        };
        (answer, attempt.correlation)
    }

    async fn try_status(
        &self,
        attempt: &mut Attempt,
        caller: &Caller,
        body: ReportBody<'_>,
        kind: Kind,
    ) -> Result<Answer, Error> {
        let now = self.now();
        // BRSKI-5.9.4-08: after its enrolment a device may come with its IDevID or its LDevID.
        let (matching, tolerances) = self.who_reports(attempt, caller, kind).await?;
        let mut snapshot = self.store().lookup().await?;
        let row = records::latest_exchange(&mut snapshot, &attempt.sighting.device_id).await?;
        drop(snapshot);
        let Some(row) = row else {
            return Err(Refusal::ExchangeUnknown.into());
        };
        let reported = match kind {
            Kind::Voucher => {
                brski::registrar::voucher_status(body, Some(&row.exchange), &tolerances)?
            }
            Kind::Enrolment => {
                brski::registrar::enrol_status(body, Some(&row.exchange), matching, &tolerances)?
            }
        };
        attempt.note(entry(kind, &reported, now));
        if let Some(version) = reported.report.newer_version {
            tracing::warn!(
                correlation = attempt.correlation,
                serial = attempt.sighting.serial,
                version,
                "a status report of a later version than 1: have a look at it"
            );
        }
        self.save_report(attempt, row, &reported).await?;
        if !reported.report.status && defects::seeded!("registrar-fails-on-bad-news") {
            return Err(Error::Busy);
        }
        if kind == Kind::Voucher
            && reported.report.status
            && !defects::seeded!("registrar-skips-history")
        {
            self.fetch_history_later(attempt.sighting.clone(), attempt.correlation.clone());
        }
        Ok(Answer::ok("text/plain; charset=utf-8", "recorded\n"))
    }

    /// Whose report it is: an IDevID's, or after enrolment an LDevID's.
    async fn who_reports(
        &self,
        attempt: &mut Attempt,
        caller: &Caller,
        kind: Kind,
    ) -> Result<(bool, artifacts::Tolerances), Error> {
        if kind == Kind::Enrolment
            && !defects::seeded!("registrar-knows-idevids-only")
            && let Some(sighting) = self.ldevid_holder(caller).await?
        {
            let vendor = sighting.vendor.clone();
            attempt.sighting = sighting;
            let tolerances = self
                .vendors()
                .named(&vendor)
                .map(|vendor| vendor.rules.tolerances.clone())
                .unwrap_or_default();
            return Ok((true, tolerances));
        }
        let presented = self.identify(attempt, caller)?;
        Ok((false, presented.vendor.rules.tolerances))
    }

    /// The device that holds the LDevID which was presented, if it is one of this domain.
    async fn ldevid_holder(&self, caller: &Caller) -> Result<Option<records::Sighting>, Error> {
        let chain = caller.chain().unwrap_or_default();
        let Some((leaf, others)) = chain.split_first() else {
            return Ok(None);
        };
        let options = pki::path::PathOptions::new(pki::path::Purpose::Client, self.now());
        let keys = self.keys();
        if pki::path::validate(leaf, others, &keys.anchors, &options).is_err() {
            return Ok(None);
        }
        let Some(device_id) = self.device_of_ldevid(leaf).await? else {
            return Ok(None);
        };
        let mut snapshot = self.store().lookup().await?;
        let device = records::device(&mut snapshot, &device_id).await?;
        Ok(device.map(|device| device.sighting()))
    }

    /// The row of the device to which this domain issued that certificate.
    ///
    /// # Errors
    /// The database failed.
    pub async fn device_of_ldevid(&self, leaf: &Certificate) -> Result<Option<String>, Error> {
        let id = hex::encode(leaf.sha256());
        let mut snapshot = self.store().lookup().await?;
        let issued = crate::ca::records::by_id(&mut snapshot, &id).await?;
        // BRSKI-5.9.4-06: a certificate that was revoked vouches for nobody.
        Ok(issued
            .filter(|issued| issued.revoked.is_none())
            .map(|issued| issued.holder))
    }

    async fn save_report(
        &self,
        attempt: &Attempt,
        row: ExchangeRow,
        reported: &Reported,
    ) -> Result<(), Error> {
        let now = self.now();
        let (before, stage) = (attempt.clone(), reported.stage.clone());
        self.store()
            .transaction("status", move |connection| {
                let (attempt, mut row, stage) = (before.clone(), row.clone(), stage.clone());
                Box::pin(async move {
                    let state = match &stage {
                        Some(Stage::VoucherRefused { .. }) => Some((
                            State::Failed,
                            Some("registrar.voucher-refused-by-device"),
                            Some("read the device's reason in its timeline"),
                        )),
                        Some(Stage::EnrolmentFailed { .. }) => Some((
                            State::Failed,
                            Some("registrar.enrolment-failed-at-device"),
                            Some("read the device's reason in its timeline"),
                        )),
                        Some(Stage::Enrolled) => Some((State::Enrolled, None, None)),
                        Some(_) => Some((State::Vouchered, None, None)),
                        None => None,
                    };
                    if let Some(stage) = stage {
                        row.exchange.stage = stage;
                        let id = &attempt.sighting.device_id;
                        records::put_exchange(connection, id, &row.exchange, now).await?;
                    }
                    write(connection, &attempt, state).await
                })
            })
            .await?;
        self.count(attempt);
        Ok(())
    }
}

fn entry(kind: Kind, reported: &Reported, now: time::OffsetDateTime) -> Entry {
    let report = &reported.report;
    let what = match kind {
        Kind::Voucher => "the voucher",
        Kind::Enrolment => "its enrolment",
    };
    let detail = serde_json::json!({
        "status": report.status,
        "reason": report.reason,
        "reason_context": report.context,
        "unknown_members": report.unknown_members,
        "newer_version": report.newer_version,
        // BRSKI-5.9.4-06: the log says whether the message came with the matching certificate.
        "matching_certificate": reported.matching_certificate,
    });
    let reason = report.reason.as_deref().unwrap_or("without a reason");
    if report.status {
        let entry = Entry::new(
            now,
            kind.step(),
            format!("the device is content with {what}"),
        );
        let entry = if report.newer_version.is_some() || !report.unknown_members.is_empty() {
            entry.outcome(Outcome::Notice)
        } else {
            entry
        };
        entry.detail(detail)
    } else {
        let code = match kind {
            Kind::Voucher => "registrar.voucher-refused-by-device",
            Kind::Enrolment => "registrar.enrolment-failed-at-device",
        };
        Entry::new(
            now,
            kind.step(),
            format!("the device refuses {what}: {reason}"),
        )
        .outcome(Outcome::Failed)
        .code(code)
        .next_action("look at the device; the reason is its own")
        .detail(detail)
    }
}
