//! The answer to an audit log request
//! ([RFC 8995 §5.8](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8)).

use std::collections::HashMap;

use artifacts::{AuditLog, DomainId, TRUNCATION_COUNT_MAX, Truncation};

use super::{AuditEvent, Refusal, Request};

/// How a device's log is abridged
/// ([RFC 8995 §5.8.1](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8.1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditTruncation {
    /// Whether repeated entries of one domain are collapsed to the most recent one.
    pub collapse: bool,
    /// At most this many entries are sent; the oldest go first and are counted as arbitrary.
    pub events_max: usize,
}

impl Default for AuditTruncation {
    fn default() -> Self {
        Self {
            collapse: true,
            events_max: 1024,
        }
    }
}

/// Answers an audit log request from the device's events, oldest first.
///
/// Past owners are recognised by the key that was pinned for them, not by the domainID, which
/// anybody can copy into a certificate of their own.
///
/// # Errors
/// [`Refusal::NeverOwner`] if there is no event, or none of the domain that asks.
pub fn answer_audit(
    request: &Request,
    events: &[AuditEvent],
    truncation: AuditTruncation,
) -> Result<AuditLog, Refusal> {
    // BRSKI-5.8-04: "A MASA that receives a request for a device that does not exist, or for which
    // the requesting owner was never an owner, returns an HTTP 404 code."
    let owned = events
        .iter()
        .any(|event| request.domain.contains(event.domain));
    if !owned && !defects::seeded!("masa-log-for-anybody") {
        return Err(Refusal::NeverOwner);
    }
    Ok(audit_log(events, truncation))
}

/// The log of a device's events, oldest first, as §5.8.1 wants it: newest first and abridged.
#[must_use]
pub fn audit_log(events: &[AuditEvent], truncation: AuditTruncation) -> AuditLog {
    let mut kept: Vec<artifacts::AuditEvent> = Vec::new();
    let mut position = HashMap::new();
    let mut counts = Truncation::default();
    for event in events.iter().rev() {
        let nonced = event.nonce.is_some();
        if truncation.collapse {
            // BRSKI-5.8.1-05: "nonced or nonceless entries for the same domainID MAY be abridged
            // from the log leaving only the single most recent nonced or nonceless entry".
            let index = *position.entry((event.domain, nonced)).or_insert(kept.len());
            if let Some(newest) = kept.get_mut(index) {
                count(newest.truncated.get_or_insert(0));
                count(if nonced {
                    &mut counts.nonced_duplicates
                } else {
                    &mut counts.nonceless_duplicates
                });
                continue;
            }
        }
        kept.push(artifacts::AuditEvent {
            date: event.date,
            domain_id: if defects::seeded!("masa-log-other-domain-id") {
                DomainId::from_bytes(event.domain.as_bytes().to_vec())
            } else {
                DomainId::from_bytes(event.domain_id.clone())
            },
            nonce: if defects::seeded!("masa-log-nonceless-as-text") {
                Some(event.nonce.clone().unwrap_or_default())
            } else {
                event.nonce.clone()
            },
            assertion: event.assertion,
            truncated: None,
        });
    }
    // BRSKI-5.8.1-06: what is removed beyond that is counted as arbitrary.
    while kept.len() > truncation.events_max.max(1) {
        kept.pop();
        count(&mut counts.arbitrary);
    }
    AuditLog::new(kept, counts)
}

/// BRSKI-5.8.1-07: "If the truncation count exceeds 1024, then the MASA MAY use this value without
/// further incrementing it."
fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1).min(TRUNCATION_COUNT_MAX);
}
