//! Strict JSON: duplicate members, depth and size are refused while reading.

use std::cell::RefCell;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::limits::{JSON_DEPTH_MAX, JSON_MEMBERS_MAX};
use crate::{Document, Error};

/// Reads one JSON object and nothing after it.
///
/// RFC 7515 §4: the header parameter names within the JOSE header MUST be unique. A reader that
/// takes the last of two and one that takes the first would see different documents, so the same
/// is demanded of every object here.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let refused = RefCell::new(None);
    let seed = Seed {
        depth: 0,
        refused: &refused,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = seed.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::malformed(Document::Jws, "not a JSON object")),
        Err(error) => Err(refused
            .take()
            .unwrap_or_else(|| Error::malformed(Document::Jws, format!("JSON: {error}")))),
    }
}

#[derive(Clone, Copy)]
struct Seed<'r> {
    depth: usize,
    /// Why the reader stopped, if it was one of our reasons.
    refused: &'r RefCell<Option<Error>>,
}

impl Seed<'_> {
    fn refuse<E: de::Error>(&self, error: Error) -> E {
        let message = error.to_string();
        *self.refused.borrow_mut() = Some(error);
        E::custom(message)
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= JSON_DEPTH_MAX {
            return Err(self.refuse(Error::LimitExceeded {
                document: Document::Jws,
                what: "JSON nesting",
                limit: JSON_DEPTH_MAX,
            }));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
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

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            if values.len() == JSON_MEMBERS_MAX {
                return Err(self.refuse(Error::LimitExceeded {
                    document: Document::Jws,
                    what: "JSON array elements",
                    limit: JSON_MEMBERS_MAX,
                }));
            }
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(self.refuse(Error::JwsDuplicateMember(name)));
            }
            if members.len() == JSON_MEMBERS_MAX {
                return Err(self.refuse(Error::LimitExceeded {
                    document: Document::Jws,
                    what: "JSON members",
                    limit: JSON_MEMBERS_MAX,
                }));
            }
            let value = access.next_value_seed(inner)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}
