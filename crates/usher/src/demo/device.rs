//! The devices of the demo: what one run came to, in a line.

use device::brski::{Config, Outcome, Verdict, run};
use pki::Coded as _;

use super::Failure;

/// Runs a device and keeps what it did.
pub(crate) async fn enrol(config: &Config) -> Result<Outcome, Failure> {
    run(config, &mut |_| {})
        .await
        .map_err(|error| Failure::new(error.code(), &error))
}

/// The device has to be enrolled; the steps in a line.
pub(crate) fn enrolled(outcome: &Outcome) -> Result<String, Failure> {
    match &outcome.verdict {
        Verdict::Enrolled(enrolment) if enrolment.reported => Ok(steps(outcome)),
        Verdict::Enrolled(_) => Err(Failure::new(
            "pledge.internal",
            &"enrolled, and success was not reported",
        )),
        Verdict::Refused(failure) => Err(Failure::new(failure.code(), failure)),
        Verdict::Unfinished { .. } => Err(Failure::new(
            "pledge.internal",
            &format!("unfinished after {}", steps(outcome)),
        )),
    }
}

/// The device has to be refused, and the text of the refusal has to name this code.
pub(crate) fn refused(outcome: &Outcome, code: &str) -> Result<String, Failure> {
    let Verdict::Refused(failure) = &outcome.verdict else {
        return Err(Failure::new("pledge.internal", &"it was let in"));
    };
    let said = outcome
        .steps
        .iter()
        .rev()
        .find(|step| !step.ok && step.detail.contains(code));
    match said {
        Some(step) => Ok(format!(
            "{}{}: {}",
            step.what,
            step.status
                .map(|status| format!(" {status}"))
                .unwrap_or_default(),
            one_line(&step.detail)
        )),
        None if failure.code() == code => Ok(one_line(&failure.to_string())),
        None => Err(Failure::new(
            failure.code(),
            &format!("refused, but not for {code}: {failure}; {}", steps(outcome)),
        )),
    }
}

/// What a device did: `connect, requestvoucher 200, voucher_status 200 …`.
pub(crate) fn steps(outcome: &Outcome) -> String {
    outcome
        .steps
        .iter()
        .map(|step| match step.status {
            Some(status) => format!("{} {status}", step.what),
            None => step.what.clone(),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// A peer's text without line breaks or anything else that could move a cursor.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
