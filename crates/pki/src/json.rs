//! Strict JSON, on I-JSON ([RFC 7493](https://www.rfc-editor.org/rfc/rfc7493.html)): what a plain
//! parser lets through is refused while reading. Of two members of one name readers disagree on
//! which one counts, so an attacker could show one value to one of them and another to the next;
//! nesting and numbers of values are bounded.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What is read at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of arrays and objects.
    pub depth: usize,
    /// Most members of one object, and most elements of one array.
    pub members: usize,
    /// Most values in all.
    pub values: usize,
}

impl Limits {
    /// Nesting alone is bounded; the size of the text bounds the rest.
    #[must_use]
    pub fn depth(depth: usize) -> Self {
        Self {
            depth,
            members: usize::MAX,
            values: usize::MAX,
        }
    }
}

/// Why a text was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// This member stands twice in one object.
    DuplicateMember(String),
    /// It is not JSON.
    NotJson(String),
    /// It is nested too deeply.
    TooDeep,
    /// An array has too many elements.
    TooManyElements,
    /// An object has too many members.
    TooManyMembers,
    /// There are too many values.
    TooManyValues,
}

/// Reads one JSON text and nothing after it.
///
/// # Errors
/// The first reason to refuse it.
pub fn parse(text: &[u8], limits: &Limits) -> Result<Value, Refusal> {
    let (values, refusal) = (Cell::new(0), RefCell::new(None));
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let seed = Seed {
        depth: 0,
        limits,
        values: &values,
        refusal: &refusal,
    };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let reason = refusal.take();
        reason.unwrap_or_else(|| Refusal::NotJson(error.to_string()))
    })
}

/// What a value is, for a message.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[derive(Clone, Copy)]
struct Seed<'c> {
    depth: usize,
    limits: &'c Limits,
    values: &'c Cell<usize>,
    /// Why the reader stopped, if it was one of our reasons.
    refusal: &'c RefCell<Option<Refusal>>,
}

impl Seed<'_> {
    fn refuse<E: Error>(&self, reason: Refusal) -> E {
        self.refusal.replace(Some(reason));
        E::custom("refused")
    }

    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == self.limits.depth {
            return Err(self.refuse(Refusal::TooDeep));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    /// Counts a value that stands as number `index` in its array or object.
    fn count<E: Error>(&self, index: usize, too_many: Refusal) -> Result<(), E> {
        if index == self.limits.members {
            return Err(self.refuse(too_many));
        }
        self.values.set(self.values.get() + 1);
        if self.values.get() > self.limits.values {
            return Err(self.refuse(Refusal::TooManyValues));
        }
        Ok(())
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
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            self.count(items.len(), Refusal::TooManyElements)?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(self.refuse(Refusal::DuplicateMember(name)));
            }
            self.count(members.len(), Refusal::TooManyMembers)?;
            let value = access.next_value_seed(inner)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_where_it_is_set() {
        let limits = Limits {
            depth: 3,
            members: 2,
            values: 4,
        };
        for (text, want) in [
            ("1", None),
            (" [[[]]] ", None),
            (r#"[[{"a":1}]]"#, None),
            ("[[[[]]]]", Some(Refusal::TooDeep)),
            (r#"[[[{}]]]"#, Some(Refusal::TooDeep)),
            ("[1,2]", None),
            ("[1,2,3]", Some(Refusal::TooManyElements)),
            (r#"{"a":1,"b":2}"#, None),
            (r#"{"a":1,"b":2,"c":3}"#, Some(Refusal::TooManyMembers)),
            ("[[1],[2]]", None),
            ("[[1,2],[3,4]]", Some(Refusal::TooManyValues)),
            (
                r#"{"a":1,"\u0061":2}"#,
                Some(Refusal::DuplicateMember("a".to_owned())),
            ),
        ] {
            assert_eq!(parse(text.as_bytes(), &limits).err(), want, "{text}");
        }
        for text in [&b"[1,]"[..], b"{} 1", b"", b"\"\xff\"", b"1e999", b"nul"] {
            let found = parse(text, &limits);
            assert!(matches!(found, Err(Refusal::NotJson(_))), "{text:?}");
        }
    }
}
