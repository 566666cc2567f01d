//! What a pledge reports: voucher status
//! ([RFC 8995 §5.7](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.7)) and enrolment
//! status ([§5.9.4](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.9.4)). Both have
//! the same members.

use serde_json::{Map, Value};

use crate::cbor::{self, Item};
use crate::error::{Document, Error, Fault};
use crate::json::{self, type_name};
use crate::read::{Leaf, Members, Reader};
use crate::tolerances::{Oddity, Tolerances};

/// Largest telemetry that is read.
pub const TELEMETRY_SIZE_MAX_BYTES: usize = 16 * 1024;
/// The version that is written.
pub const TELEMETRY_VERSION: u64 = 1;

/// The report on an enrolment; the members are those of [`VoucherStatus`].
pub type EnrollStatus = VoucherStatus;

/// A report on a voucher or on an enrolment.
#[derive(Clone, Debug, PartialEq)]
pub struct VoucherStatus {
    /// The version of the format; above 1 the known members are still read.
    pub version: u64,
    /// Whether it went well.
    pub status: bool,
    /// For a person.
    pub reason: Option<String>,
    /// For a program.
    pub reason_context: Option<Map<String, Value>>,
    /// Names of members that are not known; they are ignored.
    pub unknown: Vec<String>,
}

impl VoucherStatus {
    /// All went well.
    #[must_use]
    pub fn success() -> Self {
        Self {
            version: TELEMETRY_VERSION,
            status: true,
            reason: None,
            reason_context: None,
            unknown: Vec::new(),
        }
    }

    /// It did not.
    #[must_use]
    pub fn failure(reason: impl Into<String>, context: Option<Map<String, Value>>) -> Self {
        // BRSKI-5.7-04: reason is present when status is false.
        Self {
            status: false,
            reason: Some(reason.into()),
            reason_context: context,
            ..Self::success()
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_json(bytes: &[u8], tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let document = Document::Telemetry;
        let mut oddities = Vec::new();
        let limit = TELEMETRY_SIZE_MAX_BYTES;
        let mut members = match json::parse(document, bytes, limit, tolerances, &mut oddities)? {
            Value::Object(members) => members,
            other => {
                let detail = format!(
                    "the JSON text is {}, it must be an object",
                    type_name(&other)
                );
                return Err(Error::new(document, Fault::WrongType, detail));
            }
        };
        // BRSKI-5.7-03: all member names are lowercase. The text of RFC 8995 has capitals in
        // places, so stacks exist that send them.
        if tolerances.telemetry_case {
            members = lower_case(members, &mut oddities)?;
        }
        Self::read(members.into(), tolerances, oddities)
    }

    /// Reads a report in CBOR. Its keys are texts; the context's may be numbers.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_cbor(bytes: &[u8], tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let document = Document::Telemetry;
        let fail = |fault, detail: String| Err(Error::new(document, fault, detail));
        let (item, _) = cbor::parse(document, bytes, TELEMETRY_SIZE_MAX_BYTES)?;
        let Item::Map(entries) = item else {
            let detail = format!("the CBOR is {}, it must be a map", item.type_name());
            return fail(Fault::WrongType, detail);
        };
        let mut members = Members::default();
        for (key, value) in entries {
            match key {
                Item::Text(name) => members.push(name, Leaf::Cbor(value)),
                other => {
                    let detail = format!("a key is {}, it must be a text", other.type_name());
                    return fail(Fault::WrongType, detail);
                }
            }
        }
        Self::read(members, tolerances, Vec::new())
    }

    fn read(
        members: Members,
        tolerances: &Tolerances,
        oddities: Vec<Oddity>,
    ) -> Result<(Self, Vec<Oddity>), Error> {
        let document = Document::Telemetry;
        let mut reader = Reader {
            document,
            members,
            tolerances,
            oddities,
        };
        let reader = &mut reader;
        let version = reader
            .unsigned("version")?
            .ok_or_else(|| reader.missing("version"))?;
        // CBR-047: The telemetry map has text keys "version" (uint) and "status" (bool).
        let status = reader
            .boolean("status")?
            .ok_or_else(|| reader.missing("status"))?;
        let reason = reader.string("reason")?;
        let reason_context = match reader.take("reason-context") {
            None => None,
            Some(Leaf::Json(Value::Object(context))) => Some(context),
            Some(Leaf::Cbor(Item::Map(entries))) => Some(context_of(&entries)?),
            Some(Leaf::Json(Value::String(text)) | Leaf::Cbor(Item::Text(text)))
                if tolerances.reason_context_text =>
            {
                reader.odd("reason-context-text", "reason-context is a text");
                Some(Map::from_iter([("0".to_owned(), text.into())]))
            }
            Some(other) => {
                let found = other.type_name();
                let detail = format!("reason-context is {found}, it must be an object");
                return Err(reader.fail(Fault::WrongType, detail));
            }
        };
        let unknown = reader.unknown();
        let report = Self {
            version,
            status,
            reason,
            reason_context,
            unknown,
        };
        Ok((report, std::mem::take(&mut reader.oddities)))
    }

    /// Writes the report in CBOR.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        let text = |name: &str| Item::Text(name.to_owned());
        // The order of the draft's examples, which is not the deterministic one, would be as good.
        let mut entries = vec![
            (text("version"), Item::Unsigned(self.version)),
            (text("status"), Item::boolean(self.status)),
        ];
        if let Some(reason) = &self.reason {
            entries.push((text("reason"), text(reason)));
        }
        if let Some(context) = &self.reason_context {
            let context = Item::from_json(&Value::Object(context.clone()));
            entries.push((text("reason-context"), context));
        }
        Item::Map(entries).encode()
    }

    /// Writes the report with lower-case members.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut members = Map::new();
        members.insert("version".to_owned(), self.version.into());
        members.insert("status".to_owned(), self.status.into());
        if let Some(reason) = &self.reason {
            members.insert("reason".to_owned(), reason.as_str().into());
        }
        if let Some(context) = &self.reason_context {
            members.insert("reason-context".to_owned(), Value::Object(context.clone()));
        }
        Value::Object(members).to_string().into_bytes()
    }
}

/// The context as JSON has it: keys that are numbers become texts.
fn context_of(entries: &[(Item, Item)]) -> Result<Map<String, Value>, Error> {
    let mut context = Map::new();
    for (key, value) in entries {
        if context.insert(key.to_name(), value.to_json()).is_some() {
            let detail = "a key of reason-context stands twice, as a text and as a number";
            return Err(Error::new(
                Document::Telemetry,
                Fault::DuplicateMember,
                detail,
            ));
        }
    }
    Ok(context)
}

fn lower_case(
    members: Map<String, Value>,
    oddities: &mut Vec<Oddity>,
) -> Result<Map<String, Value>, Error> {
    let mut lowered = Map::new();
    for (name, value) in members {
        let mut low = name.to_ascii_lowercase();
        if !["version", "status", "reason", "reason-context"].contains(&low.as_str()) {
            low = name;
        } else if low != name {
            oddities.push(Oddity::new("telemetry-case", name));
        }
        if lowered.insert(low.clone(), value).is_some() {
            let detail = format!("the member \"{low}\" stands twice, in two spellings");
            return Err(Error::new(
                Document::Telemetry,
                Fault::DuplicateMember,
                detail,
            ));
        }
    }
    Ok(lowered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: BRSKI-5.7-02, BRSKI-5.7-03, BRSKI-5.7-06, BRSKI-5.7-12, BRSKI-5.7-13
    #[test]
    fn reports_are_read_strictly_and_old_spellings_by_name() {
        let strict = Tolerances::strict();
        for (text, want) in [
            (r#"{"version":1,"status":true}"#, Ok(true)),
            (
                r#"{"version":1,"status":false,"reason":"x","reason-context":{"a":[1]}}"#,
                Ok(false),
            ),
            (r#"{"version":7,"status":true,"new":1}"#, Ok(true)),
            (r#"{"version":"1","status":true}"#, Err(Fault::WrongType)),
            (r#"{"version":-1,"status":true}"#, Err(Fault::WrongType)),
            (r#"{"version":1.5,"status":true}"#, Err(Fault::WrongType)),
            (r#"{"version":1,"status":"true"}"#, Err(Fault::WrongType)),
            (r#"{"version":1}"#, Err(Fault::MissingMember)),
            (r#"{"status":true}"#, Err(Fault::MissingMember)),
            (r#"{"Version":1,"Status":true}"#, Err(Fault::MissingMember)),
            (
                r#"{"version":1,"status":true,"reason":null}"#,
                Err(Fault::WrongType),
            ),
            (
                r#"{"version":1,"status":true,"reason-context":[]}"#,
                Err(Fault::WrongType),
            ),
            (
                r#"{"version":1,"status":true,"status":false}"#,
                Err(Fault::DuplicateMember),
            ),
            ("[1]", Err(Fault::WrongType)),
            (r#"{"version":1,"#, Err(Fault::NotJson)),
        ] {
            let found = VoucherStatus::from_json(text.as_bytes(), &strict);
            let found = found
                .map(|(report, _)| report.status)
                .map_err(|e| e.fault().unwrap());
            assert_eq!(found, want, "{text}");
        }
        let lenient = Tolerances::lenient();
        let old = br#"{"version":"1","Status":"false","Reason":"x","Reason-Context":{}}"#;
        let (report, oddities) = VoucherStatus::from_json(old, &lenient).unwrap();
        assert_eq!(report, VoucherStatus::failure("x", Some(Map::new())));
        assert_eq!(oddities.len(), 5);
        let twice = br#"{"version":1,"Status":true,"status":false}"#;
        let error = VoucherStatus::from_json(twice, &lenient).unwrap_err();
        assert_eq!(error.fault(), Some(Fault::DuplicateMember));
        assert_eq!(
            report.to_json(),
            br#"{"version":1,"status":false,"reason":"x","reason-context":{}}"#
        );
    }
}
