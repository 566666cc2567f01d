//! Which encoding a request has and which one its response gets
//! ([RFC 8040 §5.2](https://www.rfc-editor.org/rfc/rfc8040.html#section-5.2)).

use artifacts::{Encoding, Oddity};

use crate::leniency::Leniency;
use crate::restconf::{Fault, RestconfError};

/// `application/yang-data+json`.
pub const YANG_DATA_JSON: &str = "application/yang-data+json";
/// `application/yang-data+xml`.
pub const YANG_DATA_XML: &str = "application/yang-data+xml";
/// `application/xrd+xml`.
pub const XRD_XML: &str = "application/xrd+xml";
/// `application/json`, of host-meta.json.
pub const JRD_JSON: &str = "application/json";
/// The value of Cache-Control that every response carries.
///
/// Conveyed information belongs to one device, so nothing between may keep it.
pub const CACHE_CONTROL: &str = "no-store";

/// The media type of a response in this encoding.
#[must_use]
pub fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => YANG_DATA_JSON,
        Encoding::Xml => YANG_DATA_XML,
    }
}

/// The encoding of a request's body; `None` when there is no body.
///
/// # Errors
/// 415 for another media type.
pub fn request_encoding(
    content_type: Option<&str>,
    body: &[u8],
    leniency: &Leniency,
) -> Result<(Option<Encoding>, Vec<Oddity>), RestconfError> {
    if body.is_empty() {
        return Ok((None, Vec::new()));
    }
    let unsupported = |detail: String| RestconfError::new(Fault::UnsupportedMediaType, detail);
    let Some(content_type) = content_type else {
        // SZTP-8040-5.2-04: a body without Content-Type is the client's error.
        if !leniency.content_type_missing {
            return Err(unsupported("a body without Content-Type".to_owned()));
        }
        let encoding = match body.iter().find(|octet| !octet.is_ascii_whitespace()) {
            Some(b'<') => Encoding::Xml,
            _ => Encoding::Json,
        };
        let oddity = Oddity {
            name: "content-type-missing",
            detail: format!("taken for {encoding}"),
        };
        return Ok((Some(encoding), vec![oddity]));
    };
    // Parameters such as charset do not change the type.
    let essence = essence(content_type);
    let (encoding, is_legacy) = match essence.as_str() {
        YANG_DATA_JSON => (Encoding::Json, false),
        YANG_DATA_XML => (Encoding::Xml, false),
        "application/yang.data+json" | "application/json" => (Encoding::Json, true),
        "application/yang.data+xml" | "application/xml" | "text/xml" => (Encoding::Xml, true),
        _ => {
            return Err(unsupported(
                "the Content-Type is neither application/yang-data+json nor +xml".to_owned(),
            ));
        }
    };
    if !is_legacy {
        return Ok((Some(encoding), Vec::new()));
    }
    if !leniency.content_type_legacy {
        return Err(unsupported(format!(
            "the Content-Type {essence} stands where {} belongs",
            media_type(encoding)
        )));
    }
    let oddity = Oddity {
        name: "content-type-legacy",
        detail: essence,
    };
    Ok((Some(encoding), vec![oddity]))
}

/// The encoding of a response's body, as a device reads it.
///
/// # Errors
/// It is of another media type.
pub fn body_encoding(
    content_type: Option<&str>,
    body: &[u8],
    leniency: &Leniency,
) -> Result<(Encoding, Vec<Oddity>), RestconfError> {
    let (encoding, oddities) = request_encoding(content_type, body, leniency)?;
    match encoding {
        Some(encoding) => Ok((encoding, oddities)),
        None => Err(RestconfError::new(
            Fault::BodyMissing,
            "there is no body where one belongs",
        )),
    }
}

fn essence(value: &str) -> String {
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Most media ranges of one Accept that are looked at.
const RANGES_COUNT_MAX: usize = 64;

/// The encoding of a response: the one of the two that Accept likes best, the request's own
/// on equal terms, and JSON where nothing tells.
///
/// # Errors
/// 406 when Accept allows neither.
pub fn response_encoding(
    accept: Option<&str>,
    request: Option<Encoding>,
) -> Result<Encoding, RestconfError> {
    let preferred = request.unwrap_or(Encoding::Json);
    let other = match preferred {
        Encoding::Json => Encoding::Xml,
        Encoding::Xml => Encoding::Json,
    };
    let first = quality(accept, names(preferred));
    let second = quality(accept, names(other));
    match (first, second) {
        (0, 0) => Err(RestconfError::new(
            Fault::NotAcceptable,
            "Accept allows neither application/yang-data+json nor +xml",
        )),
        (first, second) if second > first => Ok(other),
        _ => Ok(preferred),
    }
}

/// The names by which a client may ask for an encoding, the registered one first.
fn names(encoding: Encoding) -> &'static [&'static str] {
    match encoding {
        Encoding::Json => &[
            YANG_DATA_JSON,
            "application/yang.data+json",
            "application/json",
        ],
        Encoding::Xml => &[
            YANG_DATA_XML,
            "application/yang.data+xml",
            "application/xml",
            "text/xml",
        ],
    }
}

/// Whether Accept allows one of these media types.
#[must_use]
pub fn accepts(accept: Option<&str>, media_types: &[&str]) -> bool {
    quality(accept, media_types) > 0
}

/// How much Accept likes a representation that goes by these names, in thousandths
/// ([RFC 9110 §12.5.1](https://www.rfc-editor.org/rfc/rfc9110.html#section-12.5.1)): the most
/// specific range decides.
fn quality(accept: Option<&str>, names: &[&str]) -> u16 {
    const WHOLE: u16 = 1000;
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return WHOLE;
    };
    let mut best: Option<(u8, u16)> = None;
    for range in accept.split(',').take(RANGES_COUNT_MAX) {
        let mut parts = range.split(';');
        let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let specificity = if let Some(at) = names.iter().position(|known| *known == name) {
            // A name that is registered for it says more than a legacy one.
            if at == 0 { 4 } else { 3 }
        } else if name == "*/*" || name == "*" {
            0
        } else if let Some(kind) = name.strip_suffix("/*") {
            if !names.iter().any(|known| {
                known
                    .split_once('/')
                    .is_some_and(|(known, _)| known == kind)
            }) {
                continue;
            }
            1
        } else {
            continue;
        };
        let weight = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(WHOLE, |(_, value)| weight(value.trim()));
        best = match best {
            Some((found, _)) if found > specificity => best,
            Some((found, before)) if found == specificity => Some((found, before.max(weight))),
            _ => Some((specificity, weight)),
        };
    }
    best.map_or(0, |(_, weight)| weight)
}

/// A qvalue in thousandths; what is none counts as nought, so that a client that writes
/// nonsense gets what it asked for elsewhere in its list.
fn weight(text: &str) -> u16 {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 3 || !rest.bytes().all(|digit| digit.is_ascii_digit()) {
        return 0;
    }
    let fraction = format!("{rest:0<3}").parse().unwrap_or(0);
    match whole {
        "0" => fraction,
        "1" if fraction == 0 => 1000,
        _ => 0,
    }
}
