//! Option numbers and what the standards say of each.

use crate::Message;

/// If-Match, [RFC 7252 §5.10.8](https://www.rfc-editor.org/rfc/rfc7252.html#section-5.10.8).
pub const IF_MATCH: u16 = 1;
/// Uri-Host, [RFC 7252 §5.10.1](https://www.rfc-editor.org/rfc/rfc7252.html#section-5.10.1).
pub const URI_HOST: u16 = 3;
/// ETag, [RFC 7252 §5.10.6](https://www.rfc-editor.org/rfc/rfc7252.html#section-5.10.6).
pub const ETAG: u16 = 4;
/// If-None-Match.
pub const IF_NONE_MATCH: u16 = 5;
/// Observe, [RFC 7641](https://www.rfc-editor.org/rfc/rfc7641.html); elective, not acted on.
pub const OBSERVE: u16 = 6;
/// Uri-Port.
pub const URI_PORT: u16 = 7;
/// Location-Path.
pub const LOCATION_PATH: u16 = 8;
/// Uri-Path.
pub const URI_PATH: u16 = 11;
/// Content-Format.
pub const CONTENT_FORMAT: u16 = 12;
/// Uri-Path-Abbrev (draft-ietf-core-uri-path-abbrev, provisional number).
pub const URI_PATH_ABBREV: u16 = 13;
/// Max-Age in seconds.
pub const MAX_AGE: u16 = 14;
/// Uri-Query.
pub const URI_QUERY: u16 = 15;
/// Accept.
pub const ACCEPT: u16 = 17;
/// Location-Query.
pub const LOCATION_QUERY: u16 = 20;
/// Block2, [RFC 7959 §2.1](https://www.rfc-editor.org/rfc/rfc7959.html#section-2.1).
pub const BLOCK2: u16 = 23;
/// Block1.
pub const BLOCK1: u16 = 27;
/// Size2, [RFC 7959 §4](https://www.rfc-editor.org/rfc/rfc7959.html#section-4).
pub const SIZE2: u16 = 28;
/// Proxy-Uri.
pub const PROXY_URI: u16 = 35;
/// Proxy-Scheme.
pub const PROXY_SCHEME: u16 = 39;
/// Size1.
pub const SIZE1: u16 = 60;
/// Echo, [RFC 9175 §2](https://www.rfc-editor.org/rfc/rfc9175.html#section-2).
pub const ECHO: u16 = 252;
/// Request-Tag, [RFC 9175 §3](https://www.rfc-editor.org/rfc/rfc9175.html#section-3).
pub const REQUEST_TAG: u16 = 292;

/// Whether a message with this option must not be processed by who does not know it,
/// [RFC 7252 §5.4.6](https://www.rfc-editor.org/rfc/rfc7252.html#section-5.4.6).
#[must_use]
pub const fn is_critical(number: u16) -> bool {
    number & 1 == 1
}

/// Whether two requests that differ in this option only count as the same for a cache, and for
/// putting blocks together.
#[must_use]
pub const fn is_no_cache_key(number: u16) -> bool {
    number & 0x1e == 0x1c
}

struct Definition {
    number: u16,
    lengths: (usize, usize),
    repeatable: bool,
}

const fn defined(number: u16, shortest: usize, longest: usize, repeatable: bool) -> Definition {
    Definition {
        number,
        lengths: (shortest, longest),
        repeatable,
    }
}

/// What we know, in the order of numbers. If-Match and If-None-Match are not among them: no
/// resource of ours has conditional requests, so they are refused as critical options should be.
const DEFINED: &[Definition] = &[
    defined(URI_HOST, 1, 255, false),
    defined(ETAG, 1, 8, true),
    defined(OBSERVE, 0, 3, false),
    defined(URI_PORT, 0, 2, false),
    defined(LOCATION_PATH, 0, 255, true),
    defined(URI_PATH, 0, 255, true),
    defined(CONTENT_FORMAT, 0, 2, false),
    defined(URI_PATH_ABBREV, 0, 4, false),
    defined(MAX_AGE, 0, 4, false),
    defined(URI_QUERY, 0, 255, true),
    defined(ACCEPT, 0, 2, false),
    defined(LOCATION_QUERY, 0, 255, true),
    defined(BLOCK2, 0, 3, false),
    defined(BLOCK1, 0, 3, false),
    defined(SIZE2, 0, 4, false),
    defined(PROXY_URI, 1, 1034, false),
    defined(PROXY_SCHEME, 1, 255, false),
    defined(SIZE1, 0, 4, false),
    defined(ECHO, 1, 40, false),
    defined(REQUEST_TAG, 0, 8, true),
];

/// Takes out the elective options that are not understood, and names the first critical one: that
/// message must not be processed.
///
/// An option of a length outside its definition, and the second of one that may come only once,
/// count as not understood
/// ([RFC 7252 §5.4.3, §5.4.5](https://www.rfc-editor.org/rfc/rfc7252.html#section-5.4.3)).
pub(crate) fn understand(message: &mut Message) -> Result<(), u16> {
    let mut kept = Message::new(message.kind, message.code, message.id, message.token);
    let mut last = None;
    for (number, value) in message.options() {
        let known = DEFINED
            .binary_search_by_key(&number, |definition| definition.number)
            .ok()
            .and_then(|at| DEFINED.get(at));
        // COA-026: Option length outside the definition is treated like an unrecognized option.
        // COA-027: A repeated non-repeatable critical option is treated as unrecognized critical
        // (4.02); elective extras ignored.
        let understood = known.is_some_and(|definition| {
            let (shortest, longest) = definition.lengths;
            ((shortest..=longest).contains(&value.len())
                || defects::seeded!("coap-takes-any-option-length"))
                && (definition.repeatable
                    || last != Some(number)
                    || defects::seeded!("coap-takes-options-twice"))
        });
        last = Some(number);
        if understood {
            kept.add(number, value);
        } else if is_critical(number) && !defects::seeded!("coap-ignores-critical-options") {
            return Err(number);
        }
    }
    kept.payload = std::mem::take(&mut message.payload);
    *message = kept;
    Ok(())
}

/// An unsigned integer of at most four bytes, leading zeros allowed.
#[must_use]
pub fn uint(value: &[u8]) -> Option<u32> {
    let mut bytes = [0; 4];
    let start = bytes.len().checked_sub(value.len())?;
    bytes.get_mut(start..)?.copy_from_slice(value);
    Some(u32::from_be_bytes(bytes))
}

/// The shortest form of an unsigned integer: no byte for 0.
#[must_use]
pub fn uint_bytes(value: u32) -> Vec<u8> {
    value
        .to_be_bytes()
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect()
}
