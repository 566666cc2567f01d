//! JSON as I-JSON wants it: UTF-8, no duplicate members, bounded.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{Document, Error, Fault};
use crate::tolerances::{Oddity, Tolerances};

/// Deepest nesting of arrays and objects.
pub const JSON_DEPTH_MAX: usize = 32;
/// Largest JSON document inside a signed artefact, and largest telemetry.
pub const JSON_SIZE_MAX_BYTES: usize = 512 * 1024;

/// Reads one JSON text.
pub(crate) fn parse(
    document: Document,
    bytes: &[u8],
    size_max_bytes: usize,
    tolerances: &Tolerances,
    oddities: &mut Vec<Oddity>,
) -> Result<Value, Error> {
    let fail = |fault, detail: String| Error::new(document, fault, detail);
    if bytes.len() > size_max_bytes {
        let detail = format!(
            "{} octets of JSON, the limit is {size_max_bytes}",
            bytes.len()
        );
        return Err(fail(Fault::TooLarge, detail));
    }
    let mut bytes = bytes;
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        if !tolerances.byte_order_mark {
            let detail = "the JSON text begins with a byte order mark";
            return Err(fail(Fault::ByteOrderMark, detail.to_owned()));
        }
        oddities.push(Oddity::new("byte-order-mark", "before the JSON text"));
        bytes = rest;
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        fail(
            Fault::NotUtf8,
            format!("the JSON text is not UTF-8: {error}"),
        )
    })?;
    let fault = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed {
        depth: 0,
        fault: &fault,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| match fault.take() {
        Some((fault, detail)) => fail(fault, detail),
        None => fail(Fault::NotJson, format!("not JSON: {error}")),
    })
}

/// Builds a [`Value`] and refuses on the way what a plain parser lets through: a second
/// member of one name (readers disagree on which one counts, so an attacker could show the
/// registrar one value and the device another) and nesting without end.
struct Seed<'c> {
    depth: usize,
    fault: &'c RefCell<Option<(Fault, String)>>,
}

impl Seed<'_> {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(self.refuse(Fault::TooDeep, format!("nested over {JSON_DEPTH_MAX} deep")));
        }
        Ok(Self {
            depth: self.depth + 1,
            fault: self.fault,
        })
    }

    fn refuse<E: serde::de::Error>(&self, fault: Fault, detail: String) -> E {
        let error = E::custom(&detail);
        self.fault.replace(Some((fault, detail)));
        error
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.inner()?)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                let detail = format!("the member \"{}\" stands twice", shown(&name));
                return Err(self.refuse(Fault::DuplicateMember, detail));
            }
            let value = access.next_value_seed(self.inner()?)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// A peer's text, short enough and without control characters, for a message.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_MAX_CHARS: usize = 80;
    let mut out: String = text
        .chars()
        .take(SHOWN_MAX_CHARS)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(SHOWN_MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

/// What a JSON value is, for a message.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(bytes: &[u8]) -> Result<Value, Option<Fault>> {
        parse(
            Document::Voucher,
            bytes,
            4096,
            &Tolerances::strict(),
            &mut Vec::new(),
        )
        .map_err(|error| error.fault())
    }

    #[test]
    fn bad_texts_have_their_own_faults() {
        let deep_array = format!("{}{}", "[".repeat(33), "]".repeat(33));
        let deep_object = format!("{}1{}", "{\"a\":".repeat(2000), "}".repeat(2000));
        let right_depth = format!("{}{}", "[".repeat(32), "]".repeat(32));
        for (text, want) in [
            (&b"{\"a\":1,\"a\":1}"[..], Fault::DuplicateMember),
            (b"{\"a\":{\"b\":1,\"\\u0062\":1}}", Fault::DuplicateMember),
            (deep_array.as_bytes(), Fault::TooDeep),
            (&deep_object.as_bytes()[..4096], Fault::TooDeep),
            (b"\xef\xbb\xbf{}", Fault::ByteOrderMark),
            (b"{\"a\":\"\xff\"}", Fault::NotUtf8),
            (b"{} x", Fault::NotJson),
            (b"{}{}", Fault::NotJson),
            (b"", Fault::NotJson),
            (b"{\"a\":1e999}", Fault::NotJson),
            (b"{\"a\":NaN}", Fault::NotJson),
            (b"{'a':1}", Fault::NotJson),
            (b"{\"a\":\"\\ud800\"}", Fault::NotJson),
            (b"{\"a\":\"\n\"}", Fault::NotJson),
            (&[b' '; 4097], Fault::TooLarge),
        ] {
            assert_eq!(
                outcome(text),
                Err(Some(want)),
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
        assert!(outcome(right_depth.as_bytes()).is_ok());
        assert!(outcome(b" {\"a\":[1,-1,1.5,true,null,\"\\/\"]}\r\n").is_ok());
    }
}
