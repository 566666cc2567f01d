//! JSON as I-JSON wants it: UTF-8, no duplicate members, bounded.

pub(crate) use pki::json::type_name;
use pki::json::{self, Refusal};
use serde_json::Value;

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
    if defects::seeded!("json-accepts-duplicates") {
        return serde_json::from_str(text)
            .map_err(|error| fail(Fault::NotJson, format!("not JSON: {error}")));
    }
    json::parse(text.as_bytes(), &json::Limits::depth(JSON_DEPTH_MAX)).map_err(|refusal| {
        match refusal {
            Refusal::DuplicateMember(name) => fail(
                Fault::DuplicateMember,
                format!("the member \"{}\" stands twice", shown(&name)),
            ),
            Refusal::TooDeep => fail(Fault::TooDeep, format!("nested over {JSON_DEPTH_MAX} deep")),
            Refusal::NotJson(why) => fail(Fault::NotJson, format!("not JSON: {why}")),
            other => fail(Fault::TooLarge, format!("{other:?}")),
        }
    })
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
