//! The MASA's audit log of one device
//! ([RFC 8995 §5.8.1](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8.1)).

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::date;
use crate::error::{Document, Error, Fault};
use crate::json::{self, shown, type_name};
use crate::leaf::{Assertion, DomainId, Nonce};
use crate::read::{Leaf, Reader};
use crate::tolerances::{Oddity, Tolerances};

/// Largest audit log that is read.
pub const AUDIT_LOG_SIZE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The version that is written.
pub const AUDIT_LOG_VERSION: u64 = 1;
/// Above this a counter of truncation need not be counted further.
pub const TRUNCATION_COUNT_MAX: u64 = 1024;

/// One issued voucher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// When it was issued.
    pub date: OffsetDateTime,
    /// To whom.
    pub domain_id: DomainId,
    /// The nonce as text; none when the voucher had none.
    pub nonce: Option<String>,
    /// How the owner was known.
    pub assertion: Assertion,
    /// How many earlier events of this domain were left out.
    pub truncated: Option<u64>,
}

/// How many events were left out of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncation {
    /// Repeated vouchers with a nonce.
    pub nonced_duplicates: u64,
    /// Repeated vouchers without one.
    pub nonceless_duplicates: u64,
    /// For other reasons; such a log is worth less.
    pub arbitrary: u64,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLog {
    /// The version of the format; above 1 the known members are still read.
    pub version: u64,
    /// The events as the MASA ordered them.
    pub events: Vec<AuditEvent>,
    /// What was left out.
    pub truncation: Truncation,
    /// Names of members that are not known; they are ignored.
    pub unknown: Vec<String>,
}

impl AuditLog {
    /// A log to be written.
    #[must_use]
    pub fn new(events: Vec<AuditEvent>, truncation: Truncation) -> Self {
        Self {
            version: AUDIT_LOG_VERSION,
            events,
            truncation,
            unknown: Vec::new(),
        }
    }

    /// Reads a log.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_json(bytes: &[u8], tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let document = Document::AuditLog;
        let mut oddities = Vec::new();
        let limit = AUDIT_LOG_SIZE_MAX_BYTES;
        let value = json::parse(document, bytes, limit, tolerances, &mut oddities)?;
        let members = object(value, "the JSON text")?;
        let mut reader = Reader {
            document,
            members: members.into(),
            tolerances,
            oddities,
        };
        let version = reader
            .unsigned("version")?
            .ok_or_else(|| reader.missing("version"))?;
        if version == 0 {
            return Err(reader.fail(Fault::WrongType, "version 0 does not exist"));
        }
        let items = match reader.take("events").map(Leaf::into_json) {
            Some(Value::Array(items)) => items,
            Some(other) => {
                let detail = format!("events is {}, it must be an array", type_name(&other));
                return Err(reader.fail(Fault::WrongType, detail));
            }
            None => return Err(reader.missing("events")),
        };
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            let members = object(item, "an event")?;
            let mut inner = Reader {
                document,
                members: members.into(),
                tolerances,
                oddities: Vec::new(),
            };
            events.push(event(&mut inner)?);
            reader.oddities.append(&mut inner.oddities);
        }
        // BRSKI-5.8.1-04: the truncation structure MAY be omitted if all values are zero; a
        // counter that is missing is zero.
        let truncation = match reader.take("truncation").map(Leaf::into_json) {
            None => Truncation::default(),
            Some(value) => {
                let members = object(value, "truncation")?;
                let mut inner = Reader {
                    document,
                    members: members.into(),
                    tolerances,
                    oddities: Vec::new(),
                };
                let truncation = Truncation {
                    nonced_duplicates: inner.unsigned("nonced duplicates")?.unwrap_or(0),
                    nonceless_duplicates: inner.unsigned("nonceless duplicates")?.unwrap_or(0),
                    arbitrary: inner.unsigned("arbitrary")?.unwrap_or(0),
                };
                reader.oddities.append(&mut inner.oddities);
                truncation
            }
        };
        let unknown = reader.unknown();
        Ok((
            Self {
                version,
                events,
                truncation,
                unknown,
            },
            reader.oddities,
        ))
    }

    /// Writes the log with the types of its CDDL.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let events = self.events.iter().map(|event| {
            let mut members = Map::new();
            members.insert("date".to_owned(), date::format(event.date).into());
            members.insert("domainID".to_owned(), event.domain_id.to_string().into());
            // BRSKI-5.8.1-03: null is written rather than omitted for nonceless events.
            members.insert("nonce".to_owned(), event.nonce.clone().into());
            members.insert("assertion".to_owned(), event.assertion.as_str().into());
            if let Some(truncated) = event.truncated {
                members.insert("truncated".to_owned(), truncated.into());
            }
            Value::Object(members)
        });
        json!({
            "version": self.version,
            "events": events.collect::<Vec<_>>(),
            "truncation": {
                "nonced duplicates": self.truncation.nonced_duplicates,
                "nonceless duplicates": self.truncation.nonceless_duplicates,
                "arbitrary": self.truncation.arbitrary,
            },
        })
        .to_string()
        .into_bytes()
    }

    /// The latest event of a domain with this nonce (none for a nonceless voucher).
    #[must_use]
    pub fn find(&self, domain: &DomainId, nonce: Option<&Nonce>) -> Option<&AuditEvent> {
        let nonce = nonce.map(Nonce::as_str);
        self.events
            .iter()
            .filter(|event| event.domain_id == *domain && event.nonce.as_deref() == nonce)
            .max_by_key(|event| event.date)
    }
}

fn object(value: Value, what: &str) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Object(members) => Ok(members),
        other => {
            let detail = format!("{what} is {}, it must be an object", type_name(&other));
            Err(Error::new(Document::AuditLog, Fault::WrongType, detail))
        }
    }
}

fn event(reader: &mut Reader<'_>) -> Result<AuditEvent, Error> {
    let date = reader.date("date")?.ok_or_else(|| reader.missing("date"))?;
    let text = reader
        .string("domainID")?
        .ok_or_else(|| reader.missing("domainID"))?;
    let domain_id = DomainId::from_text(&text).ok_or_else(|| {
        reader.fail(
            Fault::BadBase64,
            format!("domainID \"{}\" is not base64", shown(&text)),
        )
    })?;
    // The nonce need not be base64 (RFC 8995 section 5.8.1), and null stands for none.
    let nonce = match reader.members.remove("nonce").map(Leaf::into_json) {
        Some(Value::String(nonce)) => Some(nonce),
        Some(Value::Null) | None => None,
        Some(other) => {
            let detail = format!(
                "nonce is {}, it must be a string or null",
                type_name(&other)
            );
            return Err(reader.fail(Fault::WrongType, detail));
        }
    };
    let assertion = reader
        .assertion("assertion")?
        .ok_or_else(|| reader.missing("assertion"))?;
    let truncated = reader.unsigned("truncated")?;
    Ok(AuditEvent {
        date,
        domain_id,
        nonce,
        assertion,
        truncated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURE_18: &[u8] = include_bytes!("../tests/data/rfc8995/fig18-audit-log-response.json");

    /// Requirements: BRSKI-5.8.1-10, BRSKI-5.8.1-01, BRSKI-5.8.1-02
    #[test]
    fn figure_18_is_read_leniently_and_written_as_its_cddl_says() {
        let error = AuditLog::from_json(FIGURE_18, &Tolerances::strict()).unwrap_err();
        assert_eq!(error.fault(), Some(Fault::WrongType));
        let (log, oddities) = AuditLog::from_json(FIGURE_18, &Tolerances::lenient()).unwrap();
        assert_eq!(oddities.len(), 5);
        assert_eq!(log.version, 1);
        assert_eq!(log.events.len(), 2);
        assert_eq!(log.truncation.arbitrary, 2);
        let (again, oddities) = AuditLog::from_json(&log.to_json(), &Tolerances::strict()).unwrap();
        assert_eq!((again, oddities), (log.clone(), Vec::new()));
        let domain = DomainId::from_text("BduJhdHPpfhQLyponf48JzXSGZ8=").unwrap();
        let nonce = Nonce::from_text("VOUFT-WwrEv0NuAQEHoV7Q").unwrap();
        assert_eq!(log.find(&domain, Some(&nonce)), Some(&log.events[0]));
        assert_eq!(log.find(&domain, None), None);
    }

    /// Requirements: BRSKI-5.8.1-04
    #[test]
    fn counters_that_are_missing_are_zero() {
        for (text, arbitrary) in [
            (r#"{"version":1,"events":[]}"#, 0),
            (r#"{"version":1,"events":[],"truncation":{}}"#, 0),
            (
                r#"{"version":1,"events":[],"truncation":{"arbitrary":3}}"#,
                3,
            ),
        ] {
            let (log, oddities) =
                AuditLog::from_json(text.as_bytes(), &Tolerances::strict()).unwrap();
            let want = Truncation {
                arbitrary,
                ..Truncation::default()
            };
            assert_eq!((log.truncation, oddities), (want, Vec::new()), "{text}");
        }
    }

    /// Requirements: BRSKI-5.8.1-02, BRSKI-5.8.1-08
    #[test]
    fn each_broken_log_has_its_fault() {
        let event = r#""date":"2019-05-15T17:25:55Z","domainID":"AAEC","nonce":null"#;
        for (text, want) in [
            (
                format!(r#"{{"version":1,"events":[{{{event},"assertion":"logged"}}]}}"#),
                None,
            ),
            (
                format!(
                    r#"{{"version":2,"x":1,"events":[{{{event},"assertion":"logged","y":2}}]}}"#
                ),
                None,
            ),
            (r#"{"version":1,"events":[]}"#.to_owned(), None),
            (
                format!(r#"{{"version":1,"events":[{{{event},"assertion":"foo"}}]}}"#),
                Some(Fault::BadAssertion),
            ),
            (
                format!(r#"{{"version":1,"events":[{{{event}}}]}}"#),
                Some(Fault::MissingMember),
            ),
            (r#"{"version":1}"#.to_owned(), Some(Fault::MissingMember)),
            (r#"{"events":[]}"#.to_owned(), Some(Fault::MissingMember)),
            (
                r#"{"version":0,"events":[]}"#.to_owned(),
                Some(Fault::WrongType),
            ),
            (
                r#"{"version":1,"events":[1]}"#.to_owned(),
                Some(Fault::WrongType),
            ),
            (
                r#"{"version":1,"events":{}}"#.to_owned(),
                Some(Fault::WrongType),
            ),
            (
                r#"{"version":1,"events":[],"truncation":[]}"#.to_owned(),
                Some(Fault::WrongType),
            ),
        ] {
            let found = AuditLog::from_json(text.as_bytes(), &Tolerances::strict());
            assert_eq!(found.err().and_then(|error| error.fault()), want, "{text}");
        }
    }
}
